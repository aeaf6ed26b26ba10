"""Disks in trouble: commands that hang, flushes that fail, throttled disks, a driver that goes."""

import hashlib
import json
import random

import pytest

from test_disk import ahci_counter, diskstats, scanned, slow_disk

MIB = 1 << 20
PXCMD = 0x118  # of port 0, from the controller's BAR


def ahci_bar(machine):
    row = next(line.split("\t") for line in machine.ok("cat /proc/bus/pci/devices").splitlines()
               if line.startswith("00fa"))
    return int(row[3 + 5], 16)


def hang_and_recover(boot, tmp_path, count):
    """The engine is stopped behind the driver's back: the next command never comes to the disk. Its
    time runs out, the port is reset, the disk asked who it is, and the command done again."""
    path = tmp_path / "d.img"
    data = random.Random(44).randbytes(4 * MIB)
    path.write_bytes(data)
    m = boot(hostile=True, append="ahci.timeout=100", disks=[str(path)])
    command = ahci_bar(m) + PXCMD
    for i in range(count):
        m.bus_write32(command, m.bus_read32(command) & ~1)
        sector = i * 61 % 8000
        assert m.ok(f"dd if=/dev/sda bs=4K count=1 skip={sector * 512} iflag=direct,skip_bytes "
                    "status=none | sha256sum", timeout=30).split()[0] == \
            hashlib.sha256(data[sector * 512:sector * 512 + 4096]).hexdigest()
    assert ahci_counter(m, "timeouts") == count
    assert ahci_counter(m, "resets") == count
    assert ahci_counter(m, "failed") == 0
    assert diskstats(m)[8] == 0
    log = m.ok("dmesg")
    assert "BUG" not in log and "WARN" not in log and "no answer: PxIS" in log
    assert m.ok("dd if=/dev/sda bs=1M count=4 status=none | sha256sum").split()[0] == \
        hashlib.sha256(data).hexdigest()


def test_hung_command_is_recovered(boot, tmp_path):
    hang_and_recover(boot, tmp_path, 5)


@pytest.mark.long
def test_hung_command_is_recovered_100_times(boot, tmp_path):
    hang_and_recover(boot, tmp_path, 100)


@pytest.mark.long
def test_late_completion_is_ignored_100_times(boot):
    """A disk that answers after the time-out, each time: reset, tried once more, EIO, and nothing
    of the late answer reaches anybody."""
    m = boot(append="ahci.timeout=100", extra=slow_disk(250000000))
    scanned(m)
    timeouts, failed = ahci_counter(m, "timeouts"), ahci_counter(m, "failed")  # of the boot
    for _ in range(100):
        assert m.run("dd if=/dev/sda of=/dev/null bs=64K count=1 status=none iflag=direct")[1] == 1
    assert ahci_counter(m, "timeouts") == timeouts + 100
    assert ahci_counter(m, "failed") == failed + 100
    assert diskstats(m)[8] == 0
    log = m.ok("dmesg")
    assert "BUG" not in log and "WARN" not in log
    assert "running" in m.ok("cat /proc/driver/ahci")


def test_throttled_disk_times_nothing_out(boot, tmp_path):
    """100 commands a second, a queue that is always full: everybody waits, nobody too long."""
    path = tmp_path / "d.img"
    data = random.Random(45).randbytes(MIB)
    path.write_bytes(data)
    m = boot(cpus=2, append="ahci.timeout=1500", extra=[
        "-object", "throttle-group,id=limit,x-iops-total=100",
        "-blockdev", json.dumps({"driver": "throttle", "node-name": "slow",
                                 "throttle-group": "limit",
                                 "file": {"driver": "file", "filename": str(path)}}),
        "-device", "ide-hd,drive=slow,bus=ide.0"])
    for part in range(4):
        m.output_of(f"dd if=/dev/sda bs=4K skip={part * 64} count=64 iflag=direct "
                    "status=none | "
                    f"sha256sum > /tmp/{part} &")
    m.output_of("wait")
    m.output_of("")
    for part in range(4):
        assert m.ok(f"cat /tmp/{part}").split()[0] == \
            hashlib.sha256(data[part * 256 * 1024:(part + 1) * 256 * 1024]).hexdigest()
    assert ahci_counter(m, "timeouts") == 0
    assert ahci_counter(m, "errors") == 0


def test_flush_error(boot, tmp_path):
    """A flush that fails is told to who asked for it; the data before it, and the disk, are not
    touched by that."""
    path = tmp_path / "d.img"
    path.write_bytes(bytes(MIB))
    node = {"driver": "blkdebug", "node-name": "bad",
            "image": {"driver": "file", "filename": str(path)},
            "inject-error": [{"event": "none", "iotype": "flush", "errno": 5, "once": False}]}
    m = boot(extra=["-blockdev", json.dumps(node), "-device",
                    "ide-hd,drive=bad,bus=ide.0,rerror=report,werror=report"])
    output, status = m.run("dd if=/dev/zero of=/dev/sda bs=4K count=4 conv=fsync")
    assert status == 1 and "error flushing '/dev/sda': Input/output error" in output
    assert "4+0 records out" in output
    assert m.run("dd if=/dev/sda of=/dev/null bs=4K count=4 iflag=direct")[1] == 0
    assert m.run("dd if=/dev/zero of=/dev/sda bs=4K count=4")[1] == 0
    assert ahci_counter(m, "failed") == 1
    assert "flush of 0 sectors at 0 failed" in m.ok("dmesg")


def test_iostat_columns(boot, tmp_path):
    """Linux's columns, and figures that belong together: rates times sizes, averages of counts."""
    path = tmp_path / "d.img"
    path.write_bytes(bytes(MIB))
    m = boot(disks=[str(path)])
    m.ok("dd if=/dev/sda of=/dev/null bs=4K count=200 status=none iflag=direct")
    m.ok("dd if=/dev/zero of=/dev/sda bs=8K count=50 oflag=direct conv=fsync status=none")
    lines = m.ok("iostat -x").splitlines()
    assert lines[0] == "avg-cpu:  %user   %nice %system %iowait  %steal   %idle"
    assert abs(sum(float(word) for word in lines[1].split()) - 100) < 0.1
    assert lines[3] == (
        "Device            r/s     rkB/s   rrqm/s  %rrqm r_await rareq-sz     w/s     wkB/s   "
        "wrqm/s  %wrqm w_await wareq-sz     d/s     dkB/s   drqm/s  %drqm d_await dareq-sz     "
        "f/s f_await  aqu-sz  %util")
    names, words = lines[3].split(), lines[4].split()
    row = dict(zip(names[1:], map(float, words[1:])))
    assert words[0] == "sda" and len(words) == len(names) == 23
    assert len(lines[4]) == len(lines[3])  # the columns stand under each other
    # One read more, of a sector, when partitions were looked for.
    assert row["rareq-sz"] == pytest.approx(4, abs=0.03) and row["wareq-sz"] == 8
    assert row["rkB/s"] == pytest.approx(4 * row["r/s"], rel=0.02, abs=0.1)
    assert row["wkB/s"] == pytest.approx(8 * row["w/s"], rel=0.02, abs=0.1)
    assert row["r/s"] == pytest.approx(4 * row["w/s"], rel=0.02, abs=0.1)
    assert 0 < row["%util"] <= 100 and row["f/s"] > 0
    old = m.ok("iostat -d -o old").splitlines()
    assert old[0].split()[-2:] == ["svctm", "%util"] and len(old[0]) == len(old[1])
    assert m.ok("iostat -d").splitlines()[0].startswith("Device             tps    kB_read/s")
    assert m.run("iostat -d nodisk")[1] == 1
    assert m.run("iostat -q")[1] == 2


def mixed_load(boot, tmp_path, rounds):
    """Readers and a writer while the driver is taken away and brought back: who reads gets the data
    or an error, never something else; afterwards the image is what was written, and no memory is
    lost."""
    path = tmp_path / "d.img"
    data = random.Random(46).randbytes(4 * MIB)
    path.write_bytes(data)
    m = boot(cpus=4, disks=[str(path)])
    for _ in range(rounds):
        m.output_of("dd if=/dev/sda bs=64K of=/dev/null status=none & "
                    "dd if=/dev/sda bs=4K of=/dev/null count=300 status=none & "
                    "dd if=/dev/sda of=/dev/sda bs=32K count=32 status=none &")
        m.ok("driver unbind 0000:00:1f.2")
        m.output_of("wait")
        m.output_of("")
        m.ok("driver bind 0000:00:1f.2")
        assert m.ok("dd if=/dev/sda bs=1M count=1 status=none | sha256sum").split()[0] == \
            hashlib.sha256(data[:MIB]).hexdigest()
    log = m.ok("dmesg")
    assert "BUG" not in log and "WARN" not in log and "DMA-API" not in log
    m.send("poweroff\r")
    m.wait_end()
    assert path.read_bytes() == data


def test_driver_goes_under_load(boot, tmp_path):
    mixed_load(boot, tmp_path, 3)


@pytest.mark.long
def test_driver_goes_under_load_100_times(boot, tmp_path):
    mixed_load(boot, tmp_path, 100)
