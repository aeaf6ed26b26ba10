"""The page cache from outside: what is in the image and when, how often the disk was asked, and
what happens when memory is short, the disk fails or goes."""

import json
import re

import pytest

from images import MIB, digest, random_image, sha256
from test_disk import blkdebug, diskstats
from test_partition import mbr

MACHINE = dict(cpus=2, disk=True)
READS, READ_SECTORS, WRITES, WRITTEN_SECTORS, FLUSHES = 0, 2, 4, 6, 15  # of diskstats


def cache_of(machine, disk="sda"):
    """The disk's line of /proc/page_cache as a dictionary."""
    names, *lines = [line.split() for line in machine.ok("cat /proc/page_cache").splitlines()]
    row = next(line for line in lines if line[0] == disk)
    return dict(zip(names[1:], map(int, row[1:])))


def meminfo(machine, name):
    return int(re.search(rf"^{name}: +(\d+) kB", machine.ok("cat /proc/meminfo"), re.M)[1])


def by_hand(machine):
    """Nothing is written before somebody says so."""
    machine.ok("echo 1000000 > /proc/sys/vm/dirty_expire_centisecs")
    return machine


def drop(machine):
    machine.ok("echo 3 > /proc/sys/vm/drop_caches")


# ---- reading ------------------------------------------------------------------------------------


def test_sequential_reads_are_few_requests(machine):
    """A page at a time: the disk is asked for 128 KiB at a time. Again: it is not asked at all."""
    drop(machine)
    before = diskstats(machine)
    machine.ok("dd if=/dev/sda of=/dev/null bs=4K status=none")
    cold = diskstats(machine)
    assert cold[READ_SECTORS] - before[READ_SECTORS] == 16 * MIB // 512
    assert cold[READS] - before[READS] <= 16 * MIB // (128 * 1024) + 4
    machine.ok("dd if=/dev/sda of=/dev/null bs=4K status=none")
    assert diskstats(machine)[READS] == cold[READS]
    assert cache_of(machine)["cached"] == 16 * 1024
    drop(machine)
    assert cache_of(machine)["cached"] == 0
    machine.ok("dd if=/dev/sda of=/dev/null bs=1M status=none")
    assert diskstats(machine)[READ_SECTORS] - cold[READ_SECTORS] == 16 * MIB // 512


def test_random_reads_read_what_they_need(machine):
    drop(machine)
    before = diskstats(machine)
    for page in (900, 17, 3000, 1234, 5):
        machine.ok(f"dd if=/dev/sda of=/dev/null bs=4K count=1 skip={page} status=none")
    after = diskstats(machine)
    assert after[READS] - before[READS] == 5
    assert after[READ_SECTORS] - before[READ_SECTORS] == 5 * 8


def test_read_ahead_is_set_by_hand(machine):
    drop(machine)
    machine.ok("echo 'sda read_ahead_kb 1024' > /proc/page_cache")
    before = diskstats(machine)[READS]
    machine.ok("dd if=/dev/sda of=/dev/null bs=4K status=none")
    assert diskstats(machine)[READS] - before <= 16 + 8
    drop(machine)
    machine.ok("echo sda read_ahead_kb 0 > /proc/page_cache")
    before = diskstats(machine)[READS]
    machine.ok("dd if=/dev/sda of=/dev/null bs=4K count=100 status=none")
    assert diskstats(machine)[READS] - before == 100
    machine.ok("echo sda read_ahead_kb 128 > /proc/page_cache")
    for wrong in ("sda read_ahead_kb", "sda read_ahead_kb -1", "sda read_ahead_kb 9999999", "sda",
                  "sda readahead 5", "sdz read_ahead_kb 5", "", "x" * 200):
        assert machine.run(f"echo '{wrong}' > /proc/page_cache")[1] == 1, wrong


def test_numbers_belong_together(machine):
    drop(machine)
    before = cache_of(machine)
    machine.ok("dd if=/dev/sda of=/dev/null bs=4K count=1000 status=none")
    after = cache_of(machine)
    more = {name: after[name] - before[name] for name in after}
    assert more["hits"] + more["misses"] == 1000 and more["misses"] == 1
    assert more["bytes_to_readers"] == 4096 * 1000
    assert more["used"] == 999 and more["ahead"] >= 999
    assert more["filled"] == more["ahead"] + 1 and more["cached"] == 4 * more["filled"]
    assert more["evicted"] == more["lost"] == more["written"] == 0
    assert after["used"] <= after["ahead"]


def test_where_the_memory_is(machine):
    drop(machine)
    empty = meminfo(machine, "Buffers")
    assert empty == 0
    free = meminfo(machine, "MemFree")
    machine.ok("dd if=/dev/sda of=/dev/null bs=64K status=none")
    assert meminfo(machine, "Buffers") == 16 * 1024
    assert free - meminfo(machine, "MemFree") >= 16 * 1024
    assert meminfo(machine, "MemAvailable") - meminfo(machine, "MemFree") == 16 * 1024
    total, used, free, shared, cache, available = map(
        int, machine.ok("free").splitlines()[1].split()[1:])
    assert cache == 16 * 1024 and used + free + cache == total and shared == 0
    assert available == free + cache
    for wrong in ("0", "4", "-1", "x", ""):
        assert machine.run(f"echo '{wrong}' > /proc/sys/vm/drop_caches")[1] == 1, wrong
    assert meminfo(machine, "Buffers") == 16 * 1024
    drop(machine)
    assert meminfo(machine, "Buffers") == 0


def test_the_flight_recorder_sees_it(machine):
    drop(machine)
    # In one line: what is typed and printed is recorded as well, and the ring is short.
    trace = machine.ok("dd if=/dev/sda of=/dev/null bs=4K count=1 skip=70 status=none; "
                       "cat /proc/trace")
    miss = re.search(r"page_cache_miss: dev=8388608 page=0x46\n", trace)
    fill = re.search(r"page_cache_fill: pages=1 first=0x46\n", trace)
    assert miss and fill and miss.start() < fill.start()
    assert "block_rq_issue: dev=8388608 sector=0x230" in trace[miss.start():fill.start()]


def test_lab_counts_the_copies(machine):
    for line, piece in (("lab copies", 65536), ("lab copies sda 4K", 4096)):
        said = machine.ok(line)
        rows = {row[0]: list(map(int, row[1:])) for row in re.findall(
            r"^(buffered, cold|buffered, warm|direct|direct, vmalloc) +(\d+) +(\d+) +(\d+) +(\d+) "
            r"+(\d+) ", said, re.M)}
        size = 4 * MIB
        assert all(row[0] == size for row in rows.values()) and len(rows) == 4
        assert [rows[way][1] for way in rows] == [size, size, 0, size]  # copied by the CPU
        assert rows["buffered, cold"][2] >= size and rows["buffered, warm"][2:] == [0, 0, 0]
        assert rows["direct"][2:4] == [size, size // piece] == rows["direct, vmalloc"][2:4]
        assert rows["buffered, cold"][3] <= size // (128 * 1024) + 5
        assert "true from the disk into memory, and no further" in said
    for wrong, status in (("nodisk", 1), ("sda 3K", 2), ("sda 2M", 2), ("sda 4K x", 2)):
        assert machine.run(f"lab copies {wrong}")[1] == status


# ---- dd's flags ---------------------------------------------------------------------------------


def test_direct_is_for_whole_blocks(machine):
    for line in ("dd if=/dev/sda of=/dev/null bs=1000 count=1 iflag=direct",
                 "dd if=/dev/sda of=/dev/null bs=512 count=1 skip=100 iflag=direct,skip_bytes",
                 "dd if=/dev/zero of=/dev/sda bs=512 count=1 seek=7 oflag=direct,seek_bytes"):
        output, status = machine.run(line)
        assert status == 1 and "Invalid argument" in output, line
        assert "0+0 records out" in output
    for line in ("dd if=/dev/zero of=/dev/null iflag=direct count=1",
                 "dd if=/proc/meminfo of=/dev/null iflag=direct",
                 "dd if=/dev/zero of=/tmp/x oflag=direct count=1",
                 "echo a | dd of=/dev/null iflag=direct", "dd if=/dev/sda count=1 oflag=direct"):
        output, status = machine.run(line)
        assert status == 1 and "failed to open" in output and "Invalid argument" in output, line


def test_what_each_flag_asks_of_the_disk(boot, tmp_path):
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, MIB, seed=21))
    m = by_hand(boot(disks=[str(path)]))

    def asked(line):
        before = diskstats(m)
        m.ok(line)
        after = diskstats(m)
        return [after[i] - before[i] for i in (READS, WRITES, WRITTEN_SECTORS, FLUSHES)]

    assert asked("dd if=/dev/zero of=/dev/sda bs=4K count=10 status=none") == [0, 0, 0, 0]
    assert asked("sync") == [0, 1, 80, 1]
    assert asked("dd if=/dev/zero of=/dev/sda bs=4K count=10 seek=20 conv=fsync status=none") == \
        [0, 1, 80, 1]
    assert asked("dd if=/dev/zero of=/dev/sda bs=4K count=10 seek=40 oflag=sync status=none") == \
        [0, 10, 80, 10]
    assert asked("dd if=/dev/zero of=/dev/sda bs=4K count=10 seek=60 oflag=direct status=none") == \
        [0, 10, 80, 0]
    assert asked("dd if=/dev/zero of=/dev/sda bs=4K count=10 seek=80 oflag=direct,dsync "
                 "status=none") == [0, 10, 80, 10]
    # The last piece is no block: it goes through the cache, is read for that, and synced.
    m.ok("dd if=/dev/zero of=/tmp/odd bs=1 count=8292 status=none")  # 2 pages and 100 bytes
    assert asked("dd if=/tmp/odd of=/dev/sda bs=4K seek=100 oflag=direct status=none") == \
        [1, 3, 24, 1]
    for start, size in ((0, 40960), (81920, 40960), (163840, 40960), (245760, 40960),
                        (327680, 40960), (409600, 8292)):
        data[start:start + size] = bytes(size)
    assert path.read_bytes() == data
    assert asked("sync") == [0, 0, 0, 1]


# ---- writing ------------------------------------------------------------------------------------


def test_what_is_written_is_here_first_and_there_after_fsync(boot, tmp_path):
    """The image is looked at while the machine runs: old before fsync, new after it."""
    path = tmp_path / "d.img"
    old = random_image(path, 4 * MIB + 512 * 3, seed=22)
    m = by_hand(boot(cpus=2, disks=[str(path)]))
    new = bytearray(old)
    m.ok("dd if=/dev/sda of=/dev/sda bs=64K skip=0 seek=20 count=8 status=none")
    new[20 << 16:28 << 16] = new[0:8 << 16]
    for seek, size in ((5000, 700), (1111 * 900, 3333), (len(new) - 700, 700)):
        m.ok(f"dd if=/dev/zero of=/dev/sda bs={size} seek={seek} oflag=seek_bytes count=1 "
             "status=none")
        new[seek:seek + size] = bytes(size)
    dirty = cache_of(m)["dirty"]
    assert dirty == meminfo(m, "Dirty") == 512 + 4 + 4 + 4  # pages that are touched, in KiB
    assert path.read_bytes() == old
    assert m.ok("sha256sum /dev/sda").split()[0] == sha256(new)
    assert digest(m, "dd if=/dev/sda bs=512 iflag=direct status=none") == sha256(new)
    assert path.read_bytes() == new  # a direct read needs it on the disk
    m.ok("dd if=/dev/zero of=/dev/sda bs=4K seek=9 count=2 conv=fsync status=none")
    new[9 * 4096:11 * 4096] = bytes(8192)
    assert path.read_bytes() == new
    assert cache_of(m)["dirty"] == 0 and meminfo(m, "Dirty") == 0
    m.ok("dd if=/dev/zero of=/dev/sda bs=4K seek=50 count=3 oflag=direct status=none")
    new[50 * 4096:53 * 4096] = bytes(3 * 4096)
    assert m.ok("sha256sum /dev/sda").split()[0] == sha256(new)
    assert "BUG" not in m.ok("dmesg") and "WARN" not in m.ok("dmesg")


def test_the_flusher_needs_nobody(boot, tmp_path):
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, MIB, seed=23))
    m = boot(disks=[str(path)])
    m.ok("echo 10 > /proc/sys/vm/dirty_expire_centisecs")
    m.ok("echo 10 > /proc/sys/vm/dirty_writeback_centisecs")
    m.ok("dd if=/dev/zero of=/dev/sda bs=1 seek=70000 count=10 status=none")
    data[70000:70010] = bytes(10)
    while cache_of(m)["written"] == 0:  # the machine's time-out is the bound
        m.ok("sleep 0.1")
    assert path.read_bytes() == data and cache_of(m)["dirty"] == 0
    for name, value in (("dirty_ratio", "101"), ("dirty_background_ratio", "x"),
                        ("dirty_expire_centisecs", "0"), ("dirty_writeback_centisecs", "-1")):
        assert m.run(f"echo {value} > /proc/sys/vm/{name}")[1] == 1


@pytest.mark.parametrize("end", ["poweroff", "exit 0", "reboot"])
def test_the_end_writes_what_is_dirty(boot, tmp_path, end):
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, MIB, seed=24))
    m = by_hand(boot(disks=[str(path)], extra=["-no-reboot"]))
    m.ok("dd if=/dev/zero of=/dev/sda bs=1000 seek=3 count=200 status=none")
    data[3000:203000] = bytes(200000)
    assert path.read_bytes() != data
    m.send(f"{end}\r")
    m.wait_end()
    assert path.read_bytes() == data


def test_partition_and_disk_are_one(boot, tmp_path):
    """A partition that begins in the middle of a page shares it with what lies before."""
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, MIB, seed=25))
    data[:512] = mbr([(0x83, 63, 1000), (0x83, 1063, 500)])
    path.write_bytes(data)
    m = by_hand(boot(cpus=2, disks=[str(path)]))
    for name in ("sda1", "sda2", "sda"):  # all of it is cached
        m.ok(f"sha256sum /dev/{name}")
    m.ok("dd if=/dev/zero of=/dev/sda1 bs=600 count=1 status=none")
    data[63 * 512:63 * 512 + 600] = bytes(600)
    m.ok("dd if=/dev/zero of=/dev/sda bs=512 seek=1060 count=6 status=none")  # across both
    data[1060 * 512:1066 * 512] = bytes(6 * 512)
    for name, start, count in (("sda", 0, 2048), ("sda1", 63, 1000), ("sda2", 1063, 500)):
        assert m.ok(f"sha256sum /dev/{name}").split()[0] == \
            sha256(data[start * 512:(start + count) * 512]), name
    # Read through a partition: charged to it.
    drop(m)
    m.ok("sync")
    drop(m)
    before = diskstats(m, "sda2")[READS]
    m.ok("dd if=/dev/sda2 of=/dev/null bs=4K skip=10 count=4 status=none")
    assert diskstats(m, "sda2")[READS] > before and diskstats(m, "sda1")[8] == 0
    assert path.read_bytes() == data


# ---- errors -------------------------------------------------------------------------------------


def rule(iotype, sector):
    return {"event": "none", "iotype": iotype, "sector": sector, "errno": 5, "once": False}


def test_read_error_is_of_its_page(boot, tmp_path):
    path = tmp_path / "d.img"
    data = random_image(path, MIB, seed=26)
    m = boot(extra=blkdebug(path, [rule("read", 8 * 50 + 3)]))
    output, status = m.run("dd if=/dev/sda of=/dev/null bs=4K")
    assert status == 1 and "Input/output error" in output
    assert "50+0 records in\n50+0 records out" in output
    for page in (49, 51):
        assert m.ok(f"dd if=/dev/sda bs=4K skip={page} count=1 status=none | sha256sum"
                    ).split()[0] == sha256(data[page * 4096:(page + 1) * 4096])
    # Of the page itself, direct reads get what can be had.
    assert m.ok("dd if=/dev/sda skip=402 count=1 iflag=direct status=none | sha256sum"
                ).split()[0] == sha256(data[402 * 512:403 * 512])


def test_write_error_is_told_by_fsync(boot, tmp_path):
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, MIB, seed=27))
    m = by_hand(boot(extra=blkdebug(path, [rule("write", 8 * 20 + 1)])))
    output, status = m.run("dd if=/dev/zero of=/dev/sda bs=4K seek=16 count=10 conv=fsync")
    assert status == 1 and "dd: error flushing '/dev/sda': Input/output error" in output
    assert "10+0 records out" in output
    assert "Buffer I/O error on dev sda, logical block 20, lost async page write" in m.ok("dmesg")
    data[16 * 4096:20 * 4096] = bytes(4 * 4096)
    data[21 * 4096:26 * 4096] = bytes(5 * 4096)
    assert path.read_bytes() == data  # its neighbours, of the same request, are there
    assert cache_of(m)["lost"] == 1 and cache_of(m)["dirty"] == 0
    # Who opens it now has nothing to do with that.
    assert m.run("dd if=/dev/zero of=/dev/sda bs=4K seek=30 count=1 conv=fsync status=none")[1] == 0
    # A direct read that finds it lost is told so; the next one gets what the disk has.
    m.ok("dd if=/dev/zero of=/dev/sda bs=4K seek=20 count=1 status=none")
    output, status = m.run("dd if=/dev/sda of=/dev/null bs=4K skip=20 count=1 iflag=direct")
    assert status == 1 and "dd: error reading '/dev/sda': Input/output error" in output
    assert m.ok("dd if=/dev/sda bs=4K skip=20 count=1 iflag=direct status=none | sha256sum"
                ).split()[0] == sha256(data[20 * 4096:21 * 4096])
    # sync says so as well, once, and the machine can be switched off.
    m.ok("dd if=/dev/zero of=/dev/sda bs=4K seek=20 count=1 status=none")
    output, status = m.run("sync")
    assert status == 1 and output == "sync: sda: Input/output error\n"
    assert m.run("sync")[1] == 0
    m.power_off()


def test_disk_that_goes_while_dirty(boot, tmp_path):
    """Unbound: what is dirty is written. What cannot be is counted and said."""
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, MIB, seed=28))
    m = by_hand(boot(cpus=2, extra=blkdebug(path, [rule("write", 8 * 100)])))
    m.ok("dd if=/dev/zero of=/dev/sda bs=4K seek=10 count=5 status=none")
    data[10 * 4096:15 * 4096] = bytes(5 * 4096)
    m.ok("driver unbind 0000:00:1f.2")
    assert path.read_bytes() == data
    assert "never written" not in m.ok("dmesg")
    m.ok("driver bind 0000:00:1f.2")
    assert cache_of(m)["cached"] <= 4  # a new disk, as far as anybody knows
    m.ok("dd if=/dev/zero of=/dev/sda bs=4K seek=99 count=3 status=none")
    data[99 * 4096:100 * 4096] = data[101 * 4096:102 * 4096] = bytes(4096)
    m.ok("driver unbind 0000:00:1f.2")
    assert "sda: gone with 4 KiB in the page cache that were never written" in m.ok("dmesg")
    assert path.read_bytes() == data
    assert meminfo(m, "Dirty") == meminfo(m, "Writeback") == 0
    m.ok("driver bind 0000:00:1f.2")
    assert m.ok("sha256sum /dev/sda").split()[0] == sha256(data)
    log = m.ok("dmesg")
    assert "BUG" not in log and "WARN" not in log


@pytest.mark.long
def test_a_hanging_disk_does_not_keep_the_machine_on(boot, tmp_path):
    """A write a second, two hundred of them: after half a minute it is said how much is lost."""
    path = tmp_path / "d.img"
    random_image(path, 2 * MIB, seed=30)
    m = by_hand(boot(append="ahci.timeout=60000", extra=[
        "-object", "throttle-group,id=limit,x-iops-total=1",
        "-blockdev", json.dumps({"driver": "throttle", "node-name": "slow",
                                 "throttle-group": "limit",
                                 "file": {"driver": "file", "filename": str(path)}}),
        "-device", "ide-hd,drive=slow,bus=ide.0"]))
    for page in range(0, 400, 2):
        m.ok(f"dd if=/dev/zero of=/dev/sda bs=4K count=1 seek={page} status=none")
    assert cache_of(m)["dirty"] == 800
    m.send("poweroff\r")
    lost = int(m.expect(r"poweroff: sda: (\d+) KiB are not written: Timed out",
                        timeout=90)[1])
    assert 0 < lost < 800
    m.wait_end()


# ---- when memory is short -----------------------------------------------------------------------


@pytest.mark.parametrize("options", ["", "intel_iommu=on dma_debug=strict"])
def test_crowd_in_little_memory(boot, tmp_path, options):
    """A disk larger than memory, readers and writers on four CPUs, buffered and direct: each reader
    gets its bytes, and the image is what was written."""
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, 96 * MIB, seed=29))
    first = ["-device", "intel-iommu,intremap=on"] if options else []
    m = boot(cpus=4, mem="64M", append=options, disks=[str(path)], first=first)
    part = 12 * MIB
    for i in range(3):  # copies: 0 -> 3, 1 -> 4, 2 -> 5; meanwhile 6 and 7 are read
        m.output_of(f"dd if=/dev/sda of=/dev/sda bs=64K skip={192 * i} seek={192 * (i + 3)} "
                    f"count=192 {'oflag=direct' if i == 2 else ''} status=none &")
        data[part * (i + 3):part * (i + 4)] = data[part * i:part * (i + 1)]
    for i in (6, 7):
        m.output_of(f"dd if=/dev/sda bs=4K skip={3072 * i} count=3072 status=none | sha256sum "
                    f"> /tmp/{i} &")
    m.output_of("wait", timeout=240)
    m.output_of("")
    for i in (6, 7):
        assert m.ok(f"cat /tmp/{i}").split()[0] == sha256(data[part * i:part * (i + 1)])
    assert m.ok("sha256sum /dev/sda", timeout=240).split()[0] == sha256(data)
    counts = cache_of(m)
    assert counts["evicted"] > 10000 and counts["lost"] == 0
    assert counts["cached"] < 60 * 1024
    m.ok("sync")
    assert path.read_bytes() == data
    log = m.ok("dmesg")
    assert "BUG" not in log and "WARN" not in log and "DMA-API" not in log
    assert "out of memory" not in log.lower()


def test_no_write_is_lost_for_want_of_memory(boot, disk):
    """Devices work on copies, and each allocation fails once, that of the copy too: what is written
    gets there all the same."""
    path = disk()
    m = boot(disks=[path], append="swiotlb=force")
    refused = 0
    for number in list(range(1, 40)) * 5:  # again: whose allocation it is, others decide as well
        if number == 1 and refused > 0:
            break
        line = f"dd if=/dev/zero of=/dev/sda bs=4096 count=1 seek={number} conv=fsync status=none"
        before = bounce_refused(m)
        output = m.output_of(f"echo {number} > /proc/fail-alloc; {line}")
        m.output_of("echo 0 > /proc/fail-alloc; echo 0 > /proc/fail-alloc")
        refused += bounce_refused(m) - before
        if "memory" in output:
            continue  # dd itself had none
        assert output == ""
        m.ok(f"dd if=/dev/sda bs=4096 count=1 skip={number} iflag=direct status=none > /tmp/page")
        assert sha256(bytes(4096)) in m.ok("sha256sum /tmp/page")
    assert refused > 0
    assert "lost async page write" not in m.ok("dmesg") and cache_of(m)["lost"] == 0


def bounce_refused(machine):
    return int(re.search(r"want of memory (\d+)", machine.ok("cat /proc/dma-bounce"))[1])
