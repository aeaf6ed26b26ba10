"""Disks in trouble: interrupts that are lost, commands that hang or are answered too late, flushes
that fail, throttled disks, a driver that goes."""

import json
import random
import re

import pytest

from images import MIB, digest, limited_disk, random_image, sha256
import linux_formats as linux
from machine import TIMEOUT, wait_until
from test_disk import ahci_counter, diskstats, scanned
from test_nvme import mix
from test_partition import mbr

GHC, GHC_AE, GHC_HR = 0x04, 1 << 31, 1
# Of port 0, from the controller's BAR.
PXCLB, PXCLBU, PXIE, PXCMD, PXSACT, PXCI = 0x100, 0x104, 0x114, 0x118, 0x134, 0x138


def ahci_bar(machine):
    row = next(line.split("\t") for line in machine.ok("cat /proc/bus/pci/devices").splitlines()
               if line.startswith("00fa"))
    return int(row[3 + 5], 16)


def test_lost_interrupt_is_found(boot, disk):
    """The port's interrupts are switched off behind the driver's back: the watchdog notices."""
    m = boot(hostile=True, disks=[disk()], append="ahci.timeout=200")
    pxie = ahci_bar(m) + PXIE
    eight = "dd if=/dev/sda bs=64K count=8 iflag=direct status=none | sha256sum"
    good = m.ok(eight)

    def noticed():  # and nothing else, unless the host stops us before the read is done
        m.bus_write32(pxie, 0)
        lost, timeouts = ahci_counter(m, "lost interrupts"), ahci_counter(m, "timeouts")
        assert m.ok("dd if=/dev/sda of=/dev/null count=1 status=noxfer iflag=direct") == \
            "1+0 records in\n1+0 records out\n"
        return (ahci_counter(m, "lost interrupts"), ahci_counter(m, "timeouts")) == \
            (lost + 1, timeouts)

    wait_until(noticed, "a lost interrupt")
    assert ahci_counter(m, "errors") == 0
    m.bus_write32(pxie, 0x7d40000b)

    def by_interrupt():  # unless the host stops us for those 200 ms
        lost = ahci_counter(m, "lost interrupts")
        assert m.ok(eight) == good
        return ahci_counter(m, "lost interrupts") == lost

    wait_until(by_interrupt, "eight reads by interrupt")


SLOW = ["-blockdev", "driver=null-co,node-name=slow,size=67108864,latency-ns={},read-zeroes=on",
        "-device", "ide-hd,drive=slow,bus=ide.0"]


def slow_disk(latency_ns):
    return [argument.format(latency_ns) for argument in SLOW]


def test_idle_for_a_disk_is_iowait(boot):
    """/proc/stat, ps, iostat and top tell the time in which a CPU idled because a disk was slow."""
    m = boot(cpus=2, extra=slow_disk(100000000))
    scanned(m)

    def stat():
        return linux.parse_stat(m.ok("cat /proc/stat"))

    before = stat()
    m.ok("dd if=/dev/sda of=/dev/null bs=512 count=10 iflag=direct status=none")
    after = stat()
    assert after["cpu"][4] - before["cpu"][4] >= 50  # hundredths; ten reads are 100 at least
    assert after["procs_blocked"] == 0
    m.output_of("dd if=/dev/sda of=/dev/null bs=512 count=10000 iflag=direct status=none &")
    wait_until(lambda: stat()["procs_blocked"] == 1, "the reader, blocked")
    m.ok("stop %1")
    m.run("wait")
    assert stat()["procs_blocked"] == 0
    iowait = m.ok("iostat -c").splitlines()[1].split()[3]
    assert float(iowait) > 0
    assert not re.search(r" 0\.0 wa,", m.ok("top -b -n 1"))


def test_engine_stopped_behind_our_back(boot):
    """PxCMD.ST cleared while a command is under way: the controller forgets it, and a bit that went
    away in PxCI must not pass for data that came."""
    m = boot(hostile=True, append="ahci.timeout=1500", extra=slow_disk(700000000))
    scanned(m)
    bar = ahci_bar(m)
    m.send("dd if=/dev/sda of=/dev/null count=1 status=noxfer iflag=direct; echo status $?\r")
    wait_until(lambda: m.bus_read32(bar + PXSACT) != 0, "the command", pause=0.01)
    m.bus_write32(bar + PXCMD, m.bus_read32(bar + PXCMD) & ~1)
    m.expect(r"status (\d)")
    m.wait_prompt()
    # Whatever the reader was told, the disk works afterwards, and nothing is stuck.
    assert m.ok("dd if=/dev/sda of=/dev/null count=2 status=noxfer iflag=direct") == \
        "2+0 records in\n2+0 records out\n"
    assert diskstats(m)[8] == 0
    assert "issued 0x00000000" in m.ok("cat /proc/driver/ahci")
    assert "BUG" not in m.ok("dmesg")


def test_wrong_byte_count_is_an_error(boot):
    """The device claims to have moved more than was asked for: that data is not believed."""
    m = boot(hostile=True, append="ahci.mode=dma48", extra=slow_disk(700000000))
    scanned(m)
    bar = ahci_bar(m)
    headers = m.memory_of("0000:00:1f.2",
                          m.bus_read32(bar + PXCLB) + (m.bus_read32(bar + PXCLBU) << 32))
    m.send("dd if=/dev/sda of=/dev/null count=1 iflag=direct; echo status $?\r")
    wait_until(lambda: m.bus_read32(bar + PXCI) != 0, "the command", pause=0.01)
    header = headers + 32 * (m.bus_read32(bar + PXCI).bit_length() - 1)
    m.bus_write32(header + 4, 0x1000)  # PRDBC, to which QEMU adds what it moves
    m.expect(r"error reading '/dev/sda': Input/output error")
    m.expect(r"status 1")
    m.wait_prompt()
    assert f"{0x1000 + 512} bytes moved instead of 512 at sector 0" in m.ok("dmesg")
    assert m.run("dd if=/dev/sda of=/dev/null count=1 iflag=direct")[1] == 0


def answer_too_late(m, times):
    """So many commands are given up. A busy host may stop the machine for so long that an answer
    comes in time all the same: then there is one try more."""
    scanned(m)
    timeouts, failed = ahci_counter(m, "timeouts"), ahci_counter(m, "failed")  # of the boot
    statuses = []

    def given_up():
        statuses.append(
            m.run("dd if=/dev/sda of=/dev/null bs=64K count=1 status=none iflag=direct")[1])
        return statuses.count(1) == times

    wait_until(given_up, lambda: f"{times} errors: {statuses}", seconds=times * TIMEOUT)
    m.ok("sleep 1")
    assert set(statuses) <= {0, 1}
    assert times <= ahci_counter(m, "timeouts") - timeouts <= len(statuses)
    assert ahci_counter(m, "failed") == failed + times
    assert diskstats(m)[8] == 0
    log = m.ok("dmesg")
    assert "BUG" not in log and "WARN" not in log
    assert "running" in m.ok("cat /proc/driver/ahci")


def test_late_completion_is_ignored(boot):
    """A command that is aborted by a reset and would have completed later: its buffer is not
    touched again, which dma-debug and the poison of freed memory would show."""
    m = boot(append="ahci.timeout=200", extra=slow_disk(500000000))
    answer_too_late(m, 3)


def hang_and_recover(boot, tmp_path, count):
    """The engine is stopped behind the driver's back: the next command never comes to the disk. Its
    time runs out, the port is reset, the disk asked who it is, and the command done again."""
    path = tmp_path / "d.img"
    data = random_image(path, 4 * MIB, seed=44)
    m = boot(hostile=True, append="ahci.timeout=400", disks=[str(path)])
    command = ahci_bar(m) + PXCMD
    failed = 0
    for i in range(count):
        m.bus_write32(command, m.bus_read32(command) & ~1)
        sector = i * 61 % 8000
        said = m.ok(f"dd if=/dev/sda bs=4K count=1 skip={sector * 512} iflag=direct,skip_bytes "
                    "status=none | sha256sum").split()[-2]
        failed += said == sha256(b"")  # the host stopped us for the second try's time as well
        assert said in (sha256(data[sector * 512:sector * 512 + 4096]), sha256(b""))
    assert count <= ahci_counter(m, "timeouts") <= ahci_counter(m, "resets")
    assert ahci_counter(m, "failed") == failed < count
    assert diskstats(m)[8] == 0
    log = m.ok("dmesg")
    assert "BUG" not in log and "WARN" not in log and "no answer: PxIS" in log
    assert digest(m, "dd if=/dev/sda bs=1M count=4 status=none") == sha256(data)


def test_hung_command_is_recovered(boot, tmp_path):
    hang_and_recover(boot, tmp_path, 5)


@pytest.mark.long
def test_hung_command_is_recovered_100_times(boot, tmp_path):
    hang_and_recover(boot, tmp_path, 100)


@pytest.mark.long
def test_late_completion_is_ignored_100_times(boot):
    """A disk that answers after the time-out, each time: reset, tried once more, EIO, and nothing
    of the late answer reaches anybody."""
    answer_too_late(boot(append="ahci.timeout=100", extra=slow_disk(250000000)), 100)


def read_block(m, block):
    return m.ok(f"dd if=/dev/sda bs=4K count=1 skip={block} iflag=direct status=none | sha256sum",
                timeout=60).split()[0]


def test_controller_that_forgets(boot, tmp_path):
    """A reset that is not the driver's, while a read is under way: the registers say then that all
    is done. Nothing of that is believed, and the controller gets its settings back."""
    path = tmp_path / "d.img"
    data = random_image(path, MIB, seed=51)
    m = boot(hostile=True, append="ahci.timeout=4000",  # half a second each, and the host's pauses
             extra=limited_disk(path, 2, "ide-hd,bus=ide.0"))
    scanned(m)
    bar = ahci_bar(m)
    for block in range(1, 4):
        m.send(f"dd if=/dev/sda bs=4K count=3 skip={block} iflag=direct status=none | sha256sum\r")
        wait_until(lambda: m.bus_read32(bar + PXSACT) != 0, "a command under way")
        m.bus_write32(bar + GHC, GHC_AE | GHC_HR)
        whole = sha256(data[block * 4096:block * 4096 + 3 * 4096])
        m.expect(rf"^{whole}  -\r?\n", timeout=60)
        m.wait_prompt()
    assert ahci_counter(m, "failed") == 0 and ahci_counter(m, "resets") >= 3
    assert "GHC was 0x80000000, and is 0x80000002 again" in m.ok("dmesg")
    lost = ahci_counter(m, "lost interrupts")
    assert read_block(m, 9) == sha256(data[9 * 4096:10 * 4096])
    assert ahci_counter(m, "lost interrupts") == lost


@pytest.mark.parametrize("register,value", [("GHC", 0x80000000), ("PxIE", 0)])
def test_interrupts_that_were_turned_off(boot, tmp_path, register, value):
    """The first request is found done when its time is over, and the others by interrupt again."""
    path = tmp_path / "d.img"
    data = random_image(path, MIB, seed=52)
    m = boot(hostile=True, append="ahci.timeout=200", disks=[str(path)])
    scanned(m)
    place = ahci_bar(m) + {"GHC": GHC, "PxIE": PXIE}[register]

    def lost_in(blocks):
        """How many were found done, without a time-out (unless the host's pause was one)."""
        before = ahci_counter(m, "lost interrupts"), ahci_counter(m, "timeouts")
        for block in range(blocks):
            assert read_block(m, block) == sha256(data[block * 4096:block * 4096 + 4096])
        if ahci_counter(m, "timeouts") == before[1]:
            return ahci_counter(m, "lost interrupts") - before[0]
        return None

    def found():
        m.bus_write32(place, value)
        return lost_in(1) == 1

    wait_until(found, "a request that is found done")
    wait_until(lambda: lost_in(20) == 0, "twenty requests by interrupt")
    assert f"{register} was 0x{value:x}, and is 0x" in m.ok("dmesg")


def test_throttled_disk_times_nothing_out(boot, tmp_path):
    """100 commands a second, a queue that is always full: everybody waits, nobody too long."""
    path = tmp_path / "d.img"
    data = random_image(path, MIB, seed=45)
    m = boot(cpus=2, append="ahci.timeout=1500", extra=limited_disk(path, 100, "ide-hd,bus=ide.0"))

    def in_time():  # unless the host stops us for as long as that
        before = ahci_counter(m, "timeouts")
        for part in range(4):
            m.output_of(f"dd if=/dev/sda bs=4K skip={part * 64} count=64 iflag=direct "
                        "status=none | "
                        f"sha256sum > /tmp/{part} &")
        m.output_of("wait")
        m.output_of("")
        for part in range(4):
            assert m.ok(f"cat /tmp/{part}").split()[0] == \
                sha256(data[part * 256 * 1024:(part + 1) * 256 * 1024])
        return ahci_counter(m, "timeouts") == before

    wait_until(in_time, "256 reads without a time-out")
    assert ahci_counter(m, "errors") == 0


def bad_disk(kind, path, rules):
    """QEMU arguments for a disk of this kind whose requests fail by rule, and its name here."""
    node = {"driver": "blkdebug", "node-name": "bad", "inject-error": rules,
            "image": {"driver": "file", "filename": str(path)}}
    device, name = {
        "ahci": ("ide-hd,drive=bad,bus=ide.0,rerror=report,werror=report", "sda"),
        "nvme": ("nvme,drive=bad,serial=a", "nvme0n1")}[kind]
    return ["-blockdev", json.dumps(node), "-device", device], name


def failed(m, kind):
    """How many requests the driver gave an error to."""
    return sum(int(n) for n in re.findall(r"failed (\d+)", m.ok(f"cat /proc/driver/{kind}")))


@pytest.mark.parametrize("kind", ["ahci", "nvme"])
def test_flush_error(boot, tmp_path, kind):
    """A flush that fails is told to who asked for it; the data before it, and the disk, are not
    touched by that."""
    path = tmp_path / "d.img"
    random_image(path, MIB, seed=47)
    extra, disk = bad_disk(kind, path, [{"event": "none", "iotype": "flush", "errno": 5,
                                         "once": False}])
    m = boot(extra=extra)
    output, status = m.run(f"dd if=/dev/zero of=/dev/{disk} bs=4K count=4 oflag=direct conv=fsync")
    assert status == 1 and f"error flushing '/dev/{disk}': Input/output error" in output
    assert "4+0 records out" in output
    assert m.run(f"dd if=/dev/{disk} of=/dev/null bs=4K count=4 iflag=direct")[1] == 0
    assert m.run(f"dd if=/dev/zero of=/dev/{disk} bs=4K count=4 seek=8 oflag=direct")[1] == 0
    assert failed(m, kind) == 1
    assert "flush of 0 sectors at 0 failed" in m.ok("dmesg")
    m.power_off()
    data = path.read_bytes()
    assert data[:16384] == bytes(16384) and data[32768:49152] == bytes(16384)


@pytest.mark.parametrize("kind", ["ahci", "nvme"])
def test_errors_of_a_partition(boot, tmp_path, kind):
    """Sectors that cannot be read, or written, in the middle of two partitions: an error at exactly
    that place of that partition, the others and the neighbours are served."""
    path = tmp_path / "d.img"
    data = bytearray(random.Random(48).randbytes(MIB))
    data[:512] = mbr([(0x83, 64, 512), (0x83, 1024, 512)])
    path.write_bytes(data)
    extra, disk = bad_disk(kind, path, [
        {"event": "none", "iotype": "read", "sector": 64 + 100, "errno": 5, "once": False},
        {"event": "none", "iotype": "write", "sector": 1024 + 7, "errno": 5, "once": False}])
    m = boot(cpus=2, extra=extra)
    first, second = (f"{disk}{'p' if kind == 'nvme' else ''}{number}" for number in (1, 2))
    for name, sector, bad in ((first, 100, True), (first, 99, False), (first, 101, False),
                              (second, 100, False), (disk, 164, True), (disk, 163, False)):
        output, status = m.run(f"dd if=/dev/{name} of=/dev/null count=1 skip={sector} iflag=direct")
        assert (status == 1 and f"error reading '/dev/{name}': Input/output error" in output) == bad
    for name, sector, bad in ((second, 7, True), (second, 6, False), (second, 8, False),
                              (first, 7, False)):
        output, status = m.run(f"dd if=/dev/zero of=/dev/{name} count=1 seek={sector} oflag=direct")
        assert (status == 1 and f"error writing '/dev/{name}': Input/output error" in output) == bad
        if not bad:
            at = (1024 if name == second else 64) + sector
            data[at * 512:(at + 1) * 512] = bytes(512)
    assert failed(m, kind) == 3
    m.power_off()
    assert path.read_bytes() == data


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


def test_mixed_load_is_verified(boot, tmp_path):
    """Threads that read, write and compare, 32 at a time, while the driver goes and comes back."""
    path = tmp_path / "d.img"
    random_image(path, 4 * MIB, seed=49)
    mix(boot(cpus=4, disks=[str(path)]), 2, 3, "sda", "0000:00:1f.2")


@pytest.mark.long
def test_mixed_load_for_minutes(boot, tmp_path):
    path = tmp_path / "d.img"
    random_image(path, 4 * MIB, seed=49)
    m = boot(cpus=4, disks=[str(path)])
    mix(m, 10, 10, "sda", "0000:00:1f.2")
    before = m.ok("grep MemFree /proc/meminfo")
    mix(m, 600, 600, "sda", "0000:00:1f.2")
    free = [int(line.split()[1]) for line in (before, m.ok("grep MemFree /proc/meminfo"))]
    assert abs(free[1] - free[0]) < 1024, free


def mixed_load(boot, tmp_path, rounds):
    """Readers and a writer while the driver is taken away and brought back: who reads gets the data
    or an error, never something else; afterwards the image is what was written, and no memory is
    lost."""
    path = tmp_path / "d.img"
    data = random_image(path, 4 * MIB, seed=46)
    m = boot(cpus=4, disks=[str(path)])
    for _ in range(rounds):
        m.output_of("dd if=/dev/sda bs=64K of=/dev/null status=none & "
                    "dd if=/dev/sda bs=4K of=/dev/null count=300 status=none & "
                    "dd if=/dev/sda of=/dev/sda bs=32K count=32 status=none &")
        m.ok("driver unbind 0000:00:1f.2")
        m.output_of("wait")
        m.output_of("")
        m.ok("driver bind 0000:00:1f.2")
        assert digest(m, "dd if=/dev/sda bs=1M count=1 status=none") == sha256(data[:MIB])
    log = m.ok("dmesg")
    assert "BUG" not in log and "WARN" not in log and "DMA-API" not in log
    m.power_off()
    assert path.read_bytes() == data


def test_driver_goes_under_load(boot, tmp_path):
    mixed_load(boot, tmp_path, 3)


@pytest.mark.long
def test_driver_goes_under_load_100_times(boot, tmp_path):
    mixed_load(boot, tmp_path, 100)


def throttled(number, per_second, file):
    """QEMU arguments for the disk of this port, whose file does so many commands a second."""
    node = {"driver": "throttle", "node-name": f"slow{number}", "throttle-group": f"limit{number}",
            "file": file}
    return ["-object", f"throttle-group,id=limit{number},x-iops-total={per_second}",
            "-blockdev", json.dumps(node), "-device",
            f"ide-hd,bus=ide.{number},drive=slow{number},rerror=report,werror=report"]


def logical_partitions(path, count):
    """An image whose partition table is a chain: each link is a read of its own."""
    step = 1024
    data = bytearray(count * step * 512 + MIB)
    data[:512] = mbr([(5, step, count * step)])
    for link in range(count):
        at = (link + 1) * step * 512
        more = [(5, (link + 1) * step, step)] if link + 1 < count else []
        data[at:at + 512] = mbr([(0x83, 1, 8)] + more)
    path.write_bytes(data)


def test_driver_goes_while_a_port_recovers(boot, tmp_path):
    """The driver is taken away while the scan is still at one disk's long partition table (for some
    four seconds), and a write of the other, which failed, is tried again. Who looks for disks may
    give up; whoever has one waits for each try. A command that is given up while the disk does it
    would be told as failed, and its memory reused under the disk's hands (QEMU dies of the list it
    finds then)."""
    bad, chain = tmp_path / "bad.img", tmp_path / "chain.img"
    random_image(bad, MIB, seed=53)
    logical_partitions(chain, 10)
    fails = {"driver": "blkdebug", "image": {"driver": "file", "filename": str(bad)},
             "inject-error": [{"event": "none", "iotype": "write", "sector": 12, "errno": 5,
                               "once": False}]}
    m = boot(cpus=2, extra=throttled(0, 5, fails) +
             throttled(1, 3, {"driver": "file", "filename": str(chain)}))
    wait_until(lambda: "sda" in m.ok("lsblk"), "the first disk")

    def recovers():  # for as long as it tries again; a slow host looks too late, and once more
        if "running" not in m.ok("jobs"):
            m.output_of("dd if=/dev/zero of=/dev/sda bs=4K seek=1 count=1 oflag=direct &")
        return "sda, recovering" in m.ok("cat /proc/driver/ahci")

    wait_until(recovers, "a recovery")
    m.ok("driver unbind 0000:00:1f.2")
    m.output_of("wait")
    log = m.ok("dmesg")
    assert set(re.findall(r"(\w+ of .* failed)", log)) == {"write of 8 sectors at 8 failed"}
    assert "BUG" not in log and "WARN" not in log and "DMA-API" not in log
    m.ok("driver bind 0000:00:1f.2")
    scanned(m)
    assert m.run("dd if=/dev/zero of=/dev/sda bs=4K seek=2 count=1 oflag=direct")[1] == 0
