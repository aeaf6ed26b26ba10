"""CD drives: the boot CD, an empty tray, media that come and go, errors, and disks beside them."""

import json
import re

import pytest

from images import MIB, limited_disk, random_image, sha256
from machine import ISO, wait_until
from test_disk import ahci_counter
from test_disk_trouble import ahci_bar

BLOCK = 2048
UNIT = ["-device", "intel-iommu,intremap=on"]


def disc(path, size=4 * MIB, seed=7):
    return random_image(path, size, seed)


def drive(path=None, bus="ide.1"):
    """QEMU arguments for a CD drive on q35's AHCI; without a path its tray is empty."""
    medium = f",media=cdrom,format=raw,file={path}" if path else ""
    return ["-drive", f"if=none,id=cd{medium}", "-device", f"ide-cd,id=cd0,drive=cd,bus={bus}"] \
        if path else ["-device", f"ide-cd,id=cd0,bus={bus}"]


def insert(machine, path):
    machine.qmp("blockdev-change-medium", id="cd0", filename=str(path), format="raw")


def eject(machine):
    machine.qmp("eject", id="cd0", force=True)


def digest(machine, line):
    return machine.ok(line, timeout=120).split()[0]


def hold_open(machine, path):
    """Job 1 has the file open from here on: it reads, and sleeps as soon as the pipe is full. What
    is read ahead for it has come then, so that the drive's next news is for whoever asks next."""
    machine.output_of(f"cat {path} | sleep 1000 &")
    wait_until(lambda: re.search(r"pipe +cat$", machine.ok("ps -o stat,wchan,comm"), re.M),
               "a full pipe")
    wait_until(lambda: re.search(r" sr0( \d+){8} 0 ", machine.ok("cat /proc/diskstats")),
               "the end of reading ahead")


def no_harm(machine):
    log = machine.ok("dmesg")
    assert "BUG" not in log and "WARN" not in log


@pytest.mark.parametrize("options", [
    {}, {"append": "pci=nomsi", "cpus": 4}, {"append": "intel_iommu=on", "first": UNIT},
    {"mem": "6G"}, {"append": "ahci.completion=hardirq"}, {"append": "ahci.completion=irq_poll"}])
def test_boot_cd_is_the_file(boot, options):
    with open(ISO, "rb") as file:
        iso = file.read()
    m = boot(boot="iso", **options)
    assert m.ok("lsblk -b").splitlines()[1].split() == [
        "sr0", "11:0", "1", str(len(iso)), "1", "rom"]
    assert m.ok("lsblk -n -o MODEL,TRAN sr0").strip() == "QEMU DVD-ROM sata"
    assert m.ok("cat /proc/partitions").splitlines()[2].split() == [
        "11", "0", str(len(iso) // 1024), "sr0"]
    assert digest(m, "sha256sum /dev/sr0") == sha256(iso)
    assert "CD001" in m.ok("dd if=/dev/sr0 bs=2048 skip=16 count=1 status=none | hexdump -C")
    assert ahci_counter(m, "failed") == 0 and ahci_counter(m, "timeouts") == 0
    no_harm(m)


@pytest.mark.parametrize("size", [512, 2048, 4096, 8192, 262144, 1 << 20])
def test_sizes_and_places(boot, tmp_path, size):
    """Single blocks and many, whole and not, at the start, one on, and at the end."""
    data = disc(tmp_path / "cd.img")
    m = boot(extra=drive(tmp_path / "cd.img"))
    for offset in (0, 1, len(data) // size - 1):
        assert digest(m, f"dd if=/dev/sr0 bs={size} skip={offset} count=1 status=none | "
                      "sha256sum") == sha256(data[offset * size:(offset + 1) * size])
    assert digest(m, f"dd if=/dev/sr0 bs={size} skip=777 iflag=skip_bytes count=2 status=none | "
                  "sha256sum") == sha256(data[777:777 + 2 * size])
    assert digest(m, "sha256sum /dev/sr0") == sha256(data)
    assert ahci_counter(m, "errors") == 0


def test_is_read_only(boot, tmp_path):
    disc(tmp_path / "cd.img")
    m = boot(extra=drive(tmp_path / "cd.img"))
    output, status = m.run("dd if=/dev/zero of=/dev/sr0 count=4")
    assert status == 1 and "Read-only file system" in output
    assert m.ok("ls -l /dev/sr0").startswith("br--r--r--")
    m.ok("sync")


def test_empty_tray(boot):
    """The drive is there, the boot does not wait for it, and opening it says why not."""
    m = boot(extra=drive())
    assert m.ok("lsblk -n").split() == ["sr0", "11:0", "1", "0B", "1", "rom"]
    assert "sr0" not in m.ok("cat /proc/partitions")
    for command in ("cat /dev/sr0", "dd if=/dev/sr0 count=4", "sha256sum /dev/sr0"):
        output, status = m.run(command)
        assert status == 1 and "No medium found" in output
    assert ahci_counter(m, "timeouts") == 0
    log = m.ok("dmesg")
    assert "sr0: no medium" in log and "error: PxIS" not in log


def test_medium_comes_and_goes(boot, tmp_path):
    """What was put in is what is read, with its own size; an error between says that it is gone."""
    first = disc(tmp_path / "first.img", 2 * MIB, seed=1)
    second = disc(tmp_path / "second.img", 5 * MIB, seed=2)
    m = boot(extra=drive())
    for path, data in [("first.img", first), ("second.img", second), ("first.img", first)] * 3:
        insert(m, tmp_path / path)
        assert digest(m, "sha256sum /dev/sr0") == sha256(data)
        assert m.ok("lsblk -b -n -o SIZE sr0").strip() == str(len(data))
        eject(m)
        assert "No medium found" in m.run("cat /dev/sr0")[0]
        assert m.ok("lsblk -b -n -o SIZE sr0").strip() == "0"
    insert(m, tmp_path / "first.img")
    assert digest(m, "sha256sum /dev/sr0") == sha256(first)
    insert(m, tmp_path / "second.img")  # without a look at the empty tray between
    assert digest(m, "sha256sum /dev/sr0") == sha256(second)
    no_harm(m)


def slow_drive(path, reads_per_second):
    return limited_disk(path, reads_per_second, "ide-cd,id=cd0,bus=ide.1", read_only=True)


@pytest.mark.parametrize("then", ["empty", "another"])
def test_exchanged_under_a_reader(boot, tmp_path, then):
    """A reader of the old disc gets an error, never a byte of the new one. When it has gone, the
    new one is read."""
    old = disc(tmp_path / "old.img", seed=3)
    new = disc(tmp_path / "new.img", 3 * MIB, seed=4)
    m = boot(extra=slow_drive(tmp_path / "old.img", 50))
    m.output_of("dd if=/dev/sr0 of=/tmp/part bs=2048 iflag=direct &")
    wait_until(lambda: int((re.findall(r"^\d+", m.output_of("wc -c /tmp/part")) or [0])[0]) >=
               20 * BLOCK, "the first blocks")
    if then == "another":
        insert(m, tmp_path / "new.img")
    else:
        eject(m)
    m.expect(r"dd: error reading '/dev/sr0': (No medium found|Input/output error)")
    m.output_of("wait")
    m.output_of("")
    size = int(m.ok("wc -c /tmp/part").split()[0])
    assert 20 * BLOCK <= size < len(old) and size % BLOCK == 0
    assert digest(m, "sha256sum /tmp/part") == sha256(old[:size])
    if then == "empty":
        assert "No medium found" in m.run("cat /dev/sr0")[0]
        insert(m, tmp_path / "new.img")
    assert digest(m, "sha256sum /dev/sr0") == sha256(new)
    assert ahci_counter(m, "timeouts") == 0
    no_harm(m)


def test_kept_open_over_an_exchange(boot, tmp_path):
    """Who has it open keeps it: until he is done nobody gets the new disc, and that is said."""
    disc(tmp_path / "old.img", seed=3)
    new = disc(tmp_path / "new.img", 3 * MIB, seed=4)
    m = boot(extra=drive(tmp_path / "old.img"))
    hold_open(m, "/dev/sr0")
    insert(m, tmp_path / "new.img")
    output, status = m.run("cat /dev/sr0 > /dev/null")
    assert status == 1 and "No medium found" in output
    output, status = m.run("sha256sum /dev/sr0")
    assert status == 1 and "Device or resource busy" in output
    m.ok("stop %1")
    m.output_of("")
    assert digest(m, "sha256sum /dev/sr0") == sha256(new)
    no_harm(m)


def test_hung_command_is_recovered(boot, tmp_path):
    """The port's engine is stopped behind the driver's back: the time runs out, the port is reset,
    the drive asked who it is, and the command done again."""
    data = disc(tmp_path / "cd.img")
    m = boot(hostile=True, append="ahci.timeout=1500", extra=drive(tmp_path / "cd.img"))
    command = ahci_bar(m) + 0x198  # PxCMD of port 1
    for i in range(3):
        m.bus_write32(command, m.bus_read32(command) & ~1)
        assert digest(m, f"dd if=/dev/sr0 bs=2048 skip={i * 99} count=1 status=none | sha256sum") \
            == sha256(data[i * 99 * BLOCK:(i * 99 + 1) * BLOCK])
    assert 3 <= ahci_counter(m, "timeouts") <= ahci_counter(m, "resets")
    assert "no answer: PxIS" in m.ok("dmesg")
    no_harm(m)


def bad_disc(path, sector):
    node = {"driver": "blkdebug", "node-name": "bad", "read-only": True,
            "image": {"driver": "file", "filename": str(path), "read-only": True},
            "inject-error": [{"event": "none", "iotype": "read", "sector": sector, "errno": 5,
                              "once": False}]}
    return ["-blockdev", json.dumps(node), "-device", "ide-cd,drive=bad,bus=ide.1,rerror=report"]


def test_read_error_hits_exactly_its_block(boot, tmp_path):
    data = disc(tmp_path / "cd.img", MIB)
    m = boot(extra=bad_disc(tmp_path / "cd.img", 25 * 4))
    output, status = m.run("dd if=/dev/sr0 of=/dev/null bs=2048 skip=25 count=1 iflag=direct")
    assert status == 1 and "dd: error reading '/dev/sr0': Input/output error" in output
    log = m.ok("dmesg")
    assert re.search(r"port 1: error: ILLEGAL REQUEST: the block is out of range \(5/21/00\): PxIS "
                     r"0x4\w+<.*TFES.*> status .*ERR.* error", log)
    assert "read of 4 sectors at 100 failed: Input/output error" in log
    for block in (24, 26, 0):
        assert digest(m, f"dd if=/dev/sr0 bs=2048 skip={block} count=1 iflag=direct status=none | "
                      "sha256sum") == \
            sha256(data[block * BLOCK:(block + 1) * BLOCK])
    assert ahci_counter(m, "failed") == 1
    assert m.run("dd if=/dev/sr0 of=/dev/null bs=2048 skip=25 count=1 iflag=direct")[1] == 1
    assert ahci_counter(m, "failed") == 2
    no_harm(m)


def test_beside_disks_under_load(boot, tmp_path, disk):
    """A CD, an empty drive and two disks on one controller, all at work: everybody gets his own."""
    data = disc(tmp_path / "cd.img", 8 * MIB)
    disks = [disc(tmp_path / f"{i}.img", 4 * MIB, seed=10 + i) for i in range(2)]
    m = boot(cpus=4, disks=[str(tmp_path / "0.img")], extra=[
        *drive(tmp_path / "cd.img", bus="ide.2"),
        "-device", "ide-cd,bus=ide.3",
        "-drive", f"if=none,id=second,format=raw,file={tmp_path / '1.img'}",
        "-device", "ide-hd,drive=second,bus=ide.4"])
    assert m.ok("lsblk -n -o NAME").split() == ["sda", "sdb", "sr0", "sr1"]
    for name in ("sda", "sdb", "sr0", "sr0", "sda"):
        m.output_of(f"sha256sum /dev/{name} >> /tmp/sums &")
    for _ in range(5):
        assert "No medium found" in m.run("cat /dev/sr1")[0]
    m.output_of("wait")
    m.output_of("")
    sums = sorted(line.split()[0] for line in m.ok("cat /tmp/sums").splitlines())
    assert sums == sorted([sha256(disks[0])] * 2 + [sha256(disks[1])] + [sha256(data)] * 2)
    no_harm(m)


def test_driver_goes_and_comes(boot, tmp_path):
    data = disc(tmp_path / "cd.img")
    m = boot(extra=drive(tmp_path / "cd.img"))
    for _ in range(5):
        m.ok("driver unbind 0000:00:1f.2")
        assert m.ok("lsblk") == ""
        m.ok("driver bind 0000:00:1f.2")
        assert digest(m, "sha256sum /dev/sr0") == sha256(data)
    no_harm(m)


# ---- on an IDE channel ------------------------------------------------------------------------


def ide_counter(machine, name):
    return sum(map(int, re.findall(rf"{name} (\d+)", machine.ok("cat /proc/driver/ide"))))


@pytest.mark.parametrize("options", [{}, {"cpus": 4}, {"mem": "6G"}, {"append": "ide=pio"}])
def test_ide_boot_cd_is_the_file(boot, options):
    with open(ISO, "rb") as file:
        iso = file.read()
    m = boot(boot="iso", machine="pc", **options)
    assert m.ok("lsblk -b -n").split() == ["sr0", "11:0", "1", str(len(iso)), "1", "rom"]
    assert m.ok("lsblk -n -o MODEL,TRAN sr0").strip() == "QEMU DVD-ROM ata"
    assert digest(m, "sha256sum /dev/sr0") == sha256(iso)
    m.ok("mount /dev/sr0 /mnt")
    assert "menuentry" in m.ok("cat /mnt/boot/grub/grub.cfg")
    assert ide_counter(m, "errors") == 0 and ide_counter(m, "time-outs") == 0
    no_harm(m)


def test_ide_medium_comes_and_goes(boot, tmp_path):
    first = disc(tmp_path / "first.img", MIB, seed=1)
    second = disc(tmp_path / "second.img", 2 * MIB, seed=2)
    m = boot(machine="pc", extra=drive())
    assert m.ok("lsblk -n").split() == ["sr0", "11:0", "1", "0B", "1", "rom"]
    for path, data in [("first.img", first), ("second.img", second)] * 2:
        insert(m, tmp_path / path)
        assert digest(m, "sha256sum /dev/sr0") == sha256(data)
        assert m.ok("lsblk -b -n -o SIZE sr0").strip() == str(len(data))
        eject(m)
        assert "No medium found" in m.run("cat /dev/sr0")[0]
    insert(m, tmp_path / "first.img")
    hold_open(m, "/dev/sr0")
    insert(m, tmp_path / "second.img")
    output, status = m.run("dd if=/dev/sr0 iflag=direct of=/dev/null bs=2048 count=1")
    assert status == 1 and "No medium found" in output
    assert "Device or resource busy" in m.run("cat /dev/sr0")[0]
    m.ok("stop %1")
    m.output_of("")
    assert digest(m, "sha256sum /dev/sr0") == sha256(second)
    no_harm(m)


def test_ide_read_error_hits_exactly_its_block(boot, tmp_path):
    data = disc(tmp_path / "cd.img", MIB)
    m = boot(machine="pc", extra=bad_disc(tmp_path / "cd.img", 25 * 4))
    output, status = m.run("dd if=/dev/sr0 of=/dev/null bs=2048 skip=25 count=1 iflag=direct")
    assert status == 1 and "dd: error reading '/dev/sr0': Input/output error" in output
    assert "sr0: read of 4 sectors at 100: ILLEGAL REQUEST: the block is out of range (5/21/00)" \
        in m.ok("dmesg")
    for block in (24, 26, 0):
        assert digest(m, f"dd if=/dev/sr0 bs=2048 skip={block} count=1 iflag=direct status=none | "
                      "sha256sum") == sha256(data[block * BLOCK:(block + 1) * BLOCK])
    no_harm(m)


def test_ide_beside_a_disk_on_its_cable(boot, tmp_path):
    """Two devices take turns on one channel, a command at a time."""
    data = disc(tmp_path / "cd.img", 2 * MIB)
    other = disc(tmp_path / "d.img", 2 * MIB, seed=5)
    m = boot(machine="pc", cpus=4, extra=[
        "-drive", f"if=none,id=d,format=raw,file={tmp_path / 'd.img'}",
        "-device", "ide-hd,drive=d,bus=ide.0,unit=0",
        "-drive", f"if=none,id=cd,media=cdrom,format=raw,file={tmp_path / 'cd.img'}",
        "-device", "ide-cd,drive=cd,bus=ide.0,unit=1"])
    assert m.ok("lsblk -n -o NAME").split() == ["hda", "sr0"]
    for name in ("hda", "sr0"):
        m.output_of(f"dd if=/dev/{name} bs=8K iflag=direct status=none | sha256sum >> /tmp/sums &")
    m.output_of("wait")
    m.output_of("")
    assert sorted(line.split()[0] for line in m.ok("cat /tmp/sums").splitlines()) == \
        sorted([sha256(data), sha256(other)])
    assert ide_counter(m, "time-outs") == 0
    m.ok("driver unbind 0000:00:01.1")
    assert m.ok("lsblk") == ""
    m.ok("driver bind 0000:00:01.1")
    assert digest(m, "sha256sum /dev/sr0") == sha256(data)
    no_harm(m)


IDE_SECOND = 0x170  # the ports of the secondary channel, on which the drive is


def drive_packet(machine, *packet):
    """The host sends the drive a packet of its own, past the driver, and leaves the answer."""
    for port, value in ((6, 0xa0), (1, 0), (4, 0xfe), (5, 0xff), (7, 0xa0)):
        machine.bus_command(f"outb {IDE_SECOND + port:#x} {value:#x}")
    for low, high in zip(packet[::2], packet[1::2]):
        machine.bus_command(f"outw {IDE_SECOND:#x} {low | high << 8:#x}")


def test_ide_drive_that_takes_no_packet(boot, tmp_path):
    """It is in the middle of something else, and stays there: the time runs out, the channel is
    reset, and the command done again."""
    data = disc(tmp_path / "cd.img", MIB)
    m = boot(machine="pc", hostile=True, append="ide.timeout=1000",
             extra=drive(tmp_path / "cd.img"))
    resets = 0
    for i in range(3):
        drive_packet(m, 0x12, 0, 0, 0, 36, *[0] * 7)  # INQUIRY
        assert digest(m, f"dd if=/dev/sr0 bs=2048 skip={i} count=1 iflag=direct status=none | "
                      "sha256sum") == sha256(data[i * BLOCK:(i + 1) * BLOCK])
        assert ide_counter(m, "resets") > resets  # once, or the host's pause cost another
        resets = ide_counter(m, "resets")
    no_harm(m)


def test_ide_drive_that_asks_late(boot, tmp_path):
    """It is at something else when the packet is offered, and asks for it in the end: it is looked
    at in each tick meanwhile, and no time runs out."""
    data = disc(tmp_path / "cd.img", MIB)
    m = boot(machine="pc", hostile=True, append="ide.timeout=50000",
             extra=drive(tmp_path / "cd.img"))
    for i in range(3):
        looks = ide_counter(m, "looked again")
        drive_packet(m, 0x12, 0, 0, 0, 36, *[0] * 7)  # INQUIRY
        m.output_of(f"dd if=/dev/sr0 bs=2048 skip={i} count=1 iflag=direct status=none > /tmp/d &")
        wait_until(lambda: ide_counter(m, "looked again") >= looks + 3, "three looks")
        for port, value in ((7, 0x08), (6, 0xa0), (1, 0), (4, 0), (5, 8), (7, 0xa0)):
            m.bus_command(f"outb {IDE_SECOND + port:#x} {value:#x}")  # DEVICE RESET; PACKET
        m.output_of("wait")
        m.output_of("")
        assert digest(m, "sha256sum /tmp/d") == sha256(data[i * BLOCK:(i + 1) * BLOCK])
    assert ide_counter(m, "resets") == ide_counter(m, "time-outs") == 0
    no_harm(m)


def test_ide_error_without_a_reason(boot, tmp_path):
    """A read that ends early, and no sense with it, is tried again: what the drive said of an older
    command, another medium, is not taken for the reason."""
    data = disc(tmp_path / "cd.img", MIB)
    m = boot(machine="pc", hostile=True, extra=slow_drive(tmp_path / "cd.img", 1))
    eject(m)
    assert "No medium found" in m.run("cat /dev/sr0")[0]
    m.qmp("blockdev-insert-medium", id="cd0", **{"node-name": "slow"})
    m.qmp("blockdev-close-tray", id="cd0")
    m.output_of("dd if=/dev/sr0 bs=2048 count=2 skip=9 iflag=direct status=none > /tmp/read &")
    wait_until(lambda: re.search(r"sr0( \d+){8} 1 ", m.ok("cat /proc/diskstats")),
               "the read is under way")
    for command in (0x08, 0xe0):  # DEVICE RESET ends it; STANDBY IMMEDIATE interrupts, and is good
        m.bus_command(f"outb {IDE_SECOND + 7:#x} {command:#x}")
    m.output_of("wait")
    m.output_of("")
    assert digest(m, "sha256sum /tmp/read") == sha256(data[9 * BLOCK:11 * BLOCK])
    assert ide_counter(m, "time-outs") == 0
    no_harm(m)
