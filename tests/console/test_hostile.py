"""Devices that lie: registers change behind the drivers' backs, answers come that are none, while
disks are read and pings go out. Nobody is told what to expect; the kernel has to stay up, and the
devices have to work again after it.

Written to is what leads no device to memory that is not its driver's: a forged address would be
obeyed by the device, and no kernel without an IOMMU survives that.
"""

import random
import re

import pytest

from images import MIB, sha256

WORDS = (0, 1, 2, 0x04000000, 0x80000000, 0x80000002, 0xffffffff)
AHCI_PORT = 0x100
AHCI_PXFB, AHCI_PXCMD = AHCI_PORT + 0x08, AHCI_PORT + 0x18
AHCI_REGISTERS = {"GHC": 0x04, "IS": 0x08, "PxIS": AHCI_PORT + 0x10, "PxIE": AHCI_PORT + 0x14,
                  "PxCMD": AHCI_PXCMD, "PxSCTL": AHCI_PORT + 0x2c, "PxSERR": AHCI_PORT + 0x30}
AHCI_ICC = 0xf0000000  # power states of the link: QEMU has none
NVME_REGISTERS = {"INTMS": 0x0c, "INTMC": 0x10, "CC": 0x14, "CSTS": 0x1c}
NVME_CQ_DOORBELL = 0x1004  # of queue 0; the next ones 8 bytes apart
E1000_REGISTERS = {"CTRL": 0x0000, "ITR": 0x00c4, "ICS": 0x00c8, "IMS": 0x00d0, "IMC": 0x00d8,
                   "TCTL": 0x0400, "RDTR": 0x2820, "RADV": 0x282c}


class Liar:
    """Writes at random, always the same from the same seed."""

    def __init__(self, machine, seed):
        self.m, self.random = machine, random.Random(seed)
        bars = {}
        for line in machine.ok("cat /proc/bus/pci/devices").splitlines():
            fields = line.split("\t")
            bars[fields[1]] = [int(field, 16) & ~0xf for field in fields[3:9]]
        self.e1000, self.nvme = bars["8086100e"][0], bars["1b360010"][0]
        self.ahci = bars["80862922"][5]
        self.queues = [int(base, 16) for base in
                       re.findall(r"queue \d+: .*CQ 0x(\w+)", machine.ok("cat /proc/driver/nvme"))]
        self.lies = (self.ahci_register, self.ahci_fis, self.nvme_register, self.nvme_doorbell,
                     self.nvme_answer, self.e1000_register)

    def word(self):
        return self.random.choice((*WORDS, self.random.getrandbits(32)))

    def ahci_register(self):
        name = self.random.choice(sorted(AHCI_REGISTERS))
        value = self.word() & (~AHCI_ICC if name == "PxCMD" else ~0)
        self.m.bus_write32(self.ahci + AHCI_REGISTERS[name], value)

    def ahci_fis(self):
        """What the disk is said to have sent: 256 bytes at PxFB."""
        received = self.m.bus_read32(self.ahci + AHCI_PXFB)
        self.m.bus_write32(self.m.memory_of("00:1f.2", received) + self.random.randrange(64) * 4,
                           self.word())

    def nvme_register(self):
        name = self.random.choice(sorted(NVME_REGISTERS))
        self.m.bus_write32(self.nvme + NVME_REGISTERS[name], self.word())

    def nvme_doorbell(self):
        queue = self.random.randrange(len(self.queues))
        self.m.bus_write32(self.nvme + NVME_CQ_DOORBELL + 8 * queue,
                           self.random.choice((0, 1, 5, 1023, 70000)))

    def nvme_answer(self):
        queue = self.m.memory_of("nvme0", self.random.choice(self.queues))
        place = self.random.choice((0, 1, 2, self.random.randrange(16)))
        self.m.bus_write32(queue + 16 * place + self.random.choice((0, 8, 12)), self.word())

    def e1000_register(self):
        name = self.random.choice(sorted(E1000_REGISTERS))
        self.m.bus_write32(self.e1000 + E1000_REGISTERS[name], self.word())

    def lie(self):
        self.random.choice(self.lies)()


def works_again(m, disk, data):
    return m.run(f"dd if=/dev/{disk} bs=64K iflag=direct status=none | sha256sum",
                 timeout=60)[0].split()[:1] == [sha256(data)]


def lies_and_after(boot, tmp_path, seed, rounds):
    source, data, extra = random.Random(seed), {}, []
    for disk in ("sda", "nvme0n1"):
        data[disk] = source.randbytes(8 * MIB)
        (tmp_path / disk).write_bytes(data[disk])
    extra = ["-drive", f"if=none,id=n,format=raw,file={tmp_path}/nvme0n1",
             "-device", "nvme,serial=x,drive=n"]
    m = boot(cpus=2, hostile=True, nics=["user"], disks=[str(tmp_path / "sda")], extra=extra,
             append="loglevel=0 ahci.timeout=200 nvme.timeout=200")
    liar = Liar(m, seed)
    for _ in range(rounds):
        for command in ("dd if=/dev/sda of=/dev/null bs=4K iflag=direct status=none",
                        "dd if=/dev/nvme0n1 of=/dev/null bs=4K iflag=direct status=none",
                        "ping -c 20 -i 0.01 -W 1 10.0.2.2 > /dev/null"):
            m.output_of(f"{command} &")
        for _ in range(60):
            liar.lie()
        m.output_of("wait", timeout=240)
    for place in ("00:01.0", "00:02.0", "00:1f.2"):  # whatever state they were left in
        m.run(f"driver unbind {place}", timeout=60)
        m.run(f"driver bind {place}", timeout=60)
    m.wait_for_address()
    assert "0% packet loss" in m.ok("ping -c 3 10.0.2.2")
    for disk, was in data.items():
        assert works_again(m, disk, was), disk
    log = m.ok("dmesg", timeout=60)
    assert not re.search("BUG|WARN|panic", log)


def test_a_few_lies(boot, tmp_path):
    lies_and_after(boot, tmp_path, seed=1, rounds=3)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 5))
def test_many_lies(boot, tmp_path, seed):
    lies_and_after(boot, tmp_path, seed, rounds=25)
