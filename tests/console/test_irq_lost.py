"""A disk's interrupt that is lost for good: its vector stays in service (an EOI was forgotten), so
the CPU takes it no more. Every request is found done when it is overdue, none fails and nothing is
reset; the log says where to look, and `irq why` what it is and how it is mended."""

import re

import pytest

from images import MIB, random_image, sha256
from machine import Machine, wait_until


def nvme(path):
    return dict(append="nvme.queues=1", extra=["-drive", f"if=none,id=n,format=raw,file={path}",
                                               "-device", "nvme,drive=n,serial=a"])


def ide(path):
    return dict(machine="pc", extra=["-drive", f"if=ide,format=raw,file={path},snapshot=on"])


def ide_cd(path):
    return dict(machine="pc", extra=["-drive", f"if=none,id=cd,media=cdrom,format=raw,file={path}",
                                     "-device", "ide-cd,drive=cd,bus=ide.1,unit=0"])


# disk, what its handler is called, what `irq why` may call it (a wire of ISA is no PCI device's),
# how many blocks are read, and how many interrupts each has. (A CD drive's: it is ready; its
# capacity, and that this was all; the block, and that this was all.)
DISKS = {
    "ahci": (lambda path: dict(disks=[str(path)]), "sda", "ahci[0000:00:1f.2]", "ahci", 2, 1),
    "nvme": (nvme, "nvme0n1", "nvme0q1", "nvme0", 2, 1),
    "ide": (ide, "hda", "ide0", None, 2, 1),
    "ide-cd": (ide_cd, "sr0", "ide1", None, 1, 5),
}


def lost(machine, driver):
    said = machine.ok(f"cat /proc/driver/{driver.split('-')[0]}")
    assert not re.search(r"(resets|aborts|timeouts|time-outs|errors) [1-9]", said), said
    return sum(map(int, re.findall(r"lost interrupts (\d+)", said)))


def read(machine, disk, data, block):
    said = machine.ok(f"dd if=/dev/{disk} bs=2K skip={block} count=1 iflag=direct status=none | "
                      "sha256sum")
    assert said.split()[0] == sha256(data[block * 2048:(block + 1) * 2048])


@pytest.mark.parametrize("driver", DISKS)
def test_every_request_is_found(driver, tmp_path):
    make, disk, handler, name, reads, interrupts = DISKS[driver]
    path = tmp_path / "disk.img"
    data = random_image(path, MIB)
    options = make(path)
    options["append"] = options.get("append", "") + f" {driver.split('-')[0]}.timeout=2000"
    with Machine(cpus=2, name=f"lost-{driver}", **options) as machine:
        read(machine, disk, data, 0)  # a CD's first packets are over
        irq = int(re.search(rf"^ *(\d+):.* {re.escape(handler)}$",
                            machine.ok("cat /proc/interrupts"), re.M).group(1))
        machine.ok(f"echo 1 > /proc/irq/{irq}/smp_affinity_list")  # the console's line is CPU 0's
        machine.ok(f"break lost-eoi {irq}")
        read(machine, disk, data, 1)  # its interrupt comes, and is the last
        before = lost(machine, driver)
        for block in range(2, 2 + reads):
            read(machine, disk, data, block)
        assert lost(machine, driver) - before == reads * interrupts
        assert f"an interrupt was lost (irq why {irq})" in machine.ok("dmesg")
        for what in filter(None, (str(irq), name)):
            said, status = machine.run(f"irq why {what}")
            assert status == 1, said
            assert "is in service and was never ended (EOI)" in said
            assert said.endswith(f"to mend it: irq reset {irq}\n"), said
        machine.ok(f"irq reset {irq}")
        wait_until(lambda: machine.run(f"irq why {name or irq}")[1] == 0, "a whole chain")
        before = lost(machine, driver)
        for block in range(10, 20):
            read(machine, disk, data, block)
        assert lost(machine, driver) - before < 10  # one that was slow is no proof
