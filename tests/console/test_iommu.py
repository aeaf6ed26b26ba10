"""Translation hardware: devices reach what they were given, and nothing else."""

import os
import re
import struct

import pytest

from images import sha256
from machine import Machine, wait_until
from test_dma import map_costs

UNIT = ["-device", "intel-iommu,intremap=on"]
EDU = ["-device", "edu,dma_mask=0xffffffff"]
FAULT = re.compile(r"DMAR: \[DMA (Read|Write)\] Request device \[([0-9a-f:.]+)\] fault addr "
                   r"([0-9a-f]+) \[fault reason 0x([0-9a-f]{2})\] (.+)")
# intel-iommu must stand before the devices that it serves.
OPTIONS = {"strict": "intel_iommu=on", "lazy": "intel_iommu=on iommu.strict=0",
           "pass": "intel_iommu=on iommu=pt", "off": ""}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("iommu") / "disk.img"
    path.write_bytes(os.urandom(2 << 20))
    return str(path)


def boot(options, image=None, cpus=2, extra=(), **more):
    return Machine(cpus=cpus, name="iommu", append=options, disks=[image] if image else [],
                   first=UNIT, extra=[*EDU, *extra], **more)


def landed(said):
    """What the lab says of each write: {name: True when it landed}."""
    rows = re.findall(r"^([a-z' -]+?) +0x[0-9a-f]+ +(YES|no) +(\d+) ", said, re.M)
    return {name: (word == "YES", int(faults)) for name, word, faults in rows}


def test_without_it_everything_lands():
    with boot(OPTIONS["off"]) as machine:
        said = landed(machine.ok("lab rogue-dma"))
        assert len(said) == 5 and all(came for came, _ in said.values()), said
        assert "boot with intel_iommu=on" in machine.ok("iommu")
        output, status = machine.run("iommu deny edu")
        assert status == 1 and "intel_iommu=on" in output


@pytest.mark.parametrize("base", [0xfed00000, 0xe0000000, 0x1000, 1 << 60])
def test_a_table_that_lies(base, tmp_path):
    """It names a unit where something else is, memory, or nothing: said, and the boot goes on."""
    unit = struct.pack("<HHBBHQ", 0, 16, 1, 0, 0, base)
    (tmp_path / "dmar").write_bytes(bytes([38, 1]) + bytes(10) + unit)
    with Machine(name="iommu-lies", append=OPTIONS["strict"],
                 extra=["-acpitable", f"sig=DMAR,data={tmp_path}/dmar"]) as machine:
        log = machine.ok("dmesg")
        assert "DMAR: intel_iommu=on, but there is no unit that can be used" in log
        assert not re.search("BUG|WARN|panic", log)


def test_what_was_not_given_is_stopped():
    with boot(OPTIONS["strict"]) as machine:
        said = landed(machine.ok("lab rogue-dma"))
        assert said["given to it"] == (True, 0)
        assert said["beside the buffer"] == (True, 0)
        assert said["taken back"] == (False, 1)
        assert said["not given"] == (False, 1)
        assert not said["nobody's interrupt"][0]
        faults = FAULT.findall(machine.ok("dmesg"))
        assert faults and faults[0][0] == "Write" and faults[0][3] == "05", faults
        assert faults[0][4].strip() == "PTE Write access is not set"
        assert re.search(r"^ *\d+: .* DMAR-MSI +0-edge +dmar0", machine.ok("cat /proc/interrupts"),
                         re.M)


@pytest.mark.parametrize("mode", ["strict", "lazy", "pass"])
def test_drivers_work_behind_it(mode, image):
    """Disks and card move data, wires and messages arrive, and the checker has nothing to say."""
    nvme = ["-drive", f"if=none,id=n0,format=raw,snapshot=on,file.locking=off,file={image}",
            "-device", "nvme,drive=n0,serial=a"]
    with boot(OPTIONS[mode], image, nics=["user"], extra=nvme) as machine:
        with open(image, "rb") as file:
            data = file.read()
        machine.ok("dd if=/dev/sda of=/dev/sda bs=65536 skip=0 seek=16 count=16 oflag=direct")
        half = len(data) // 2
        data = data[:half] + data[:half]
        assert sha256(data) in machine.ok("sha256sum /dev/sda")
        machine.ok("dd if=/dev/sda of=/dev/nvme0n1 bs=256K oflag=direct")
        assert sha256(data) in machine.ok("sha256sum /dev/nvme0n1")
        machine.wait_for_address()
        assert " 0% packet loss" in machine.ok("ping -c 20 -i 0.01 10.0.2.2")
        machine.ok("echo raise 20 > /proc/driver/edu")
        machine.ok("echo copy 4000 > /proc/driver/edu")
        said = machine.ok("cat /proc/interrupts")
        assert re.search(r" IR-IO-APIC +\d+-fasteoi +edu", said), said
        assert re.search(r" IR-PCI-MSI-\S+ +0-edge +ahci", said), said
        assert "errors 0" in machine.ok("cat /proc/dma-map")
        units = machine.ok("iommu")
        assert ("passes" if mode == "pass" else "own") in units, units
        map_costs(machine, "pass-through" if mode == "pass" else mode)
        assert "faults 0," in units, units


def test_those_behind_a_bridge_arrive_under_its_name(image):
    """Conventional PCI names no requester: the bridge does, and all behind it share one domain."""
    bridge = ["-device", "pci-bridge,id=two,chassis_nr=2,addr=6",
              "-device", "ich9-ahci,id=x,bus=two,addr=5", "-device", "edu,bus=two,addr=7",
              "-drive", f"if=none,id=d,format=raw,snapshot=on,file={image}",
              "-device", "ide-hd,drive=d,bus=x.0"]
    with Machine(name="iommu", append=OPTIONS["strict"], first=UNIT, extra=bridge) as machine:
        with open(image, "rb") as file:
            data = file.read()
        assert sha256(data) in machine.ok("sha256sum /dev/sda")
        machine.ok("echo copy 4000 > /proc/driver/edu")
        machine.ok("echo raise 20 > /proc/driver/edu")
        said = machine.ok("iommu")
        assert len(re.findall(r"^ *\d+  0000:", said, re.M)) == 1 and "faults 0," in said, said
        for device in ("0000:01:05.0", "0000:01:07.0"):
            assert machine.ok(f"iommu map {device}").count("0x") >= 4


def test_deny_and_allow():
    with boot(OPTIONS["strict"], nics=["user"]) as machine:
        machine.wait_for_address()
        machine.ok("iommu deny eth0")
        output, status = machine.run("ping -c 1 -W 1 10.0.2.2")
        assert status == 1 and "100% packet loss" in output
        machine.ok("iommu allow eth0")
        faults = FAULT.findall(machine.ok("dmesg"))
        assert faults and faults[0][3] == "02", faults
        wait_until(lambda: machine.run("ping -c 1 -W 1 10.0.2.2")[1] == 0,
                   "the card's watchdog, which finds out and resets it")


@pytest.mark.parametrize("cpus", [1, 4])
def test_the_kernels_own_tests(cpus, image):
    """What the kernel tests of its interrupts and its DMA holds behind translation as well."""
    nothing = ["-blockdev", "driver=null-co,node-name=nothing,size=16777216,read-zeroes=on",
               "-device", "nvme,drive=nothing,serial=ktest"]
    with boot(OPTIONS["strict"], image, cpus=cpus, extra=nothing, dma_misuse=True) as machine:
        for suite in ("dma.", "msi.", "msix.", "ioapic.", "block.", "blkmq.", "ahci.", "nvme.",
                      "pci."):
            output, status = machine.run(f"ktest {suite}", timeout=120)
            assert status == 0, output
        assert "0 differences" in machine.ok("idt check")


def test_a_machine_without_a_unit():
    with Machine(name="no-iommu", append="intel_iommu=on") as machine:
        assert "there is no unit that can be used" in machine.ok("dmesg")
        assert "no unit was found" in machine.ok("iommu")
