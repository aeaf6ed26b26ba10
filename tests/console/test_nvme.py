"""NVMe: what the console reads is what the host has; errors, hangs and lies of the device cost
exactly who asked, and every kind of interrupt does."""

import hashlib
import json
import random
import re
import time

import pytest
from machine import Machine

MIB = 1 << 20
SECTORS = 16 * MIB // 512
ECAM = 0xb0000000  # QEMU's q35
HANG = 60  # seconds: a hang detector


def nvme(path, **options):
    """QEMU arguments for a controller with one namespace on a raw image."""
    more = "".join(f",{name}={value}" for name, value in options.items())
    return ["-drive", f"if=none,id=n0,format=raw,file={path}", "-device",
            f"nvme,drive=n0,serial=tophalf{more}"]


def image(path, size=16 * MIB, seed=1):
    data = random.Random(seed).randbytes(size)
    path.write_bytes(data)
    return data


def sha(data):
    return hashlib.sha256(data).hexdigest()


def digest(machine, command):
    return machine.ok(f"{command} | sha256sum").split()[0]


def counter(machine, name):
    """The sum of a counter of /proc/driver/nvme over all queues."""
    found = re.findall(rf"\b{name} (\d+)", machine.ok("cat /proc/driver/nvme"))
    assert found, name
    return sum(int(number) for number in found)


def settled(machine, log="dmesg"):
    """Nothing is under way, and the kernel found no mistake of its own."""
    assert counter(machine, "out") == 1  # the request for events
    assert not re.search(r"BUG|WARNING|DMA-API", machine.ok(log))


@pytest.fixture(scope="module")
def shared_disk(tmp_path_factory):
    """A machine with four CPUs and a disk that nobody writes to; the disk's bytes."""
    path = tmp_path_factory.mktemp("nvme") / "disk.img"
    data = image(path)
    with Machine(name="test_nvme", cpus=4, extra=nvme(path)) as m:
        yield m, data


# ---- what is there ----------------------------------------------------------------------------


def test_a_queue_for_each_cpu(shared_disk):
    m, _ = shared_disk
    said = m.ok("cat /proc/driver/nvme")
    assert re.match(r"nvme0: 0000:00:\w\w\.\d, QEMU NVMe Ctrl, live, .*CSTS 0x1<RDY>\n"
                    r"  5 vectors, 4 queues, depth 1024, ", said)
    rows = re.findall(r"queue (\d): depth \d+, vector (\d), irq (\d+), CPUs (\S+),", said)
    assert [(row[0], row[1]) for row in rows] == [(str(i), str(i)) for i in range(5)]
    interrupts = m.ok("cat /proc/interrupts")
    for number, index, irq, cpus in rows:
        assert re.search(rf"^ *{irq}:.* PCI-MSIX-0000:00:\S+ +{index}-edge +nvme0q{number}$",
                         interrupts, re.M)
        if number != "0":
            assert cpus == str(int(number) - 1)
            for file in ("affinity_hint", "smp_affinity", "effective_affinity"):
                assert m.ok(f"cat /proc/irq/{irq}/{file}").strip() == f"{1 << int(cpus):x}"


def test_disk_is_listed(shared_disk):
    m, _ = shared_disk
    assert re.search(r"^nvme0n1 .* 16M  0 disk", m.ok("lsblk"), re.M)
    assert "tophalf" in m.ok("lsblk -o NAME,MODEL,SERIAL")
    assert "nvme0n1" in m.ok("cat /proc/partitions") and "nvme0n1" in m.ok("cat /proc/diskstats")
    assert "driver in use: nvme" in m.ok("lspci -v")


@pytest.mark.parametrize("size", [512, 4096, 8192, 256 << 10])
def test_read_matrix(shared_disk, size):
    """First, second and last block of each size; by commands of one page, of two, of a list."""
    m, data = shared_disk
    for block in (0, 1, len(data) // size - 1):
        at = block * size
        assert digest(m, f"dd if=/dev/nvme0n1 bs={size} skip={block} count=1 status=none") == \
            sha(data[at:at + size]), (size, block)


def test_many_readers(shared_disk):
    """Thirty-two at once, at random places."""
    m, data = shared_disk
    source = random.Random(7)
    places = [source.randrange(len(data) // 4096 - 16) for _ in range(32)]
    for i, place in enumerate(places):
        m.output_of(f"dd if=/dev/nvme0n1 bs=4K skip={place} count=16 status=none | "
                    f"sha256sum > /tmp/{i} &")
    m.output_of("wait")
    m.output_of("")
    for i, place in enumerate(places):
        assert m.ok(f"cat /tmp/{i}").split()[0] == sha(data[place * 4096:(place + 16) * 4096])
    settled(m)


def test_lab_shows_the_seven_steps(shared_disk):
    m, _ = shared_disk
    said = m.ok("lab nvme-read")
    assert [row for row in re.findall(r"^ {3}(\d) ", said, re.M)] == list("1234567")
    cycles = [int(number) for number in re.findall(r"^ {3}\d .* (\d+)$", said, re.M)]
    assert len(cycles) == 6 and cycles == sorted(cycles)  # step 3 is the device's secret


def test_lab_queue_depth(shared_disk):
    m, _ = shared_disk
    said = m.ok("lab queue-depth nvme0n1")
    assert re.findall(r"^nvme0n1 +(\d+) ", said, re.M)[:4] == ["1", "2", "4", "8"]


# ---- written ------------------------------------------------------------------------------------


def test_what_is_written_is_in_the_image(boot, tmp_path):
    path = tmp_path / "n.img"
    data = bytearray(image(path, 4 * MIB, seed=2))
    m = boot(cpus=2, extra=nvme(path))
    for size in (512, 4096, 8192, 256 << 10):
        for block in (0, 1, len(data) // size - 1):
            source = 2 * MIB // size
            m.ok(f"dd if=/dev/nvme0n1 of=/dev/nvme0n1 bs={size} skip={source} seek={block} "
                 "count=1 conv=notrunc status=none")
            data[block * size:(block + 1) * size] = data[2 * MIB:2 * MIB + size]
    m.ok("dd if=/dev/zero of=/dev/nvme0n1 bs=1 seek=5000 count=700 status=none")
    data[5000:5700] = bytes(700)
    m.ok("sync")
    m.send("poweroff\r")
    m.wait_end()
    assert path.read_bytes() == data


def test_blocks_of_four_kibibytes(boot, tmp_path):
    """A medium whose blocks are larger than a sector: pieces are read, changed and written."""
    path = tmp_path / "n.img"
    data = bytearray(image(path, MIB, seed=3))
    m = boot(extra=nvme(path, logical_block_size=4096, physical_block_size=4096))
    assert "256 blocks of 4096 bytes" in m.ok("cat /proc/driver/nvme")
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha(data)
    assert digest(m, "dd if=/dev/nvme0n1 bs=777 skip=3 count=20 status=none") == \
        sha(data[777 * 3:777 * 23])
    m.ok("dd if=/dev/zero of=/dev/nvme0n1 bs=1000 seek=5 count=9 status=none")
    data[5000:14000] = bytes(9000)
    m.ok("sync")
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha(data)
    m.send("poweroff\r")
    m.wait_end()
    assert path.read_bytes() == data


def test_several_namespaces(boot, tmp_path):
    """Three disks behind one controller, one of them read-only, share its queues."""
    data, extra = [], ["-device", "nvme,id=c,serial=x"]
    for i, nsid in enumerate((1, 3, 7)):
        path = tmp_path / f"{i}.img"
        data.append(image(path, (i + 1) * MIB, seed=20 + i))
        read_only = ",readonly=on" if nsid == 7 else ""
        extra += ["-drive", f"if=none,id=d{i},format=raw,file={path}{read_only}",
                  "-device", f"nvme-ns,drive=d{i},bus=c,nsid={nsid}"]
    m = boot(cpus=1, extra=extra)  # one queue for all three
    for i, nsid in enumerate((1, 3, 7)):
        m.output_of(f"sha256sum /dev/nvme0n{nsid} > /tmp/{i} &")
    m.output_of("wait")
    m.output_of("")
    for i in range(3):
        assert m.ok(f"cat /tmp/{i}").split()[0] == sha(data[i])
    assert m.run("dd if=/dev/zero of=/dev/nvme0n7 count=1")[1] == 1
    assert m.run("dd if=/dev/zero of=/dev/nvme0n3 count=1 conv=fsync")[1] == 0
    m.ok("driver unbind nvme0")
    assert "nvme" not in m.ok("lsblk")
    assert not re.search(r"BUG|WARNING|DMA-API", m.ok("dmesg"))


def test_namespaces_share_a_queue(boot):
    """Commands of three disks are under way in one queue at a time: each answer finds its own."""
    extra = ["-device", "nvme,id=c,serial=x"]
    for nsid in (1, 2, 3):
        extra += ["-blockdev", f"driver=null-co,node-name=s{nsid},size=67108864,"
                  "latency-ns=20000000,read-zeroes=on",
                  "-device", f"nvme-ns,drive=s{nsid},bus=c,nsid={nsid}"]
    m = boot(cpus=1, append="nvme.timeout=5000", extra=extra)
    for nsid in (1, 2, 3):
        m.output_of(f"dd if=/dev/nvme0n{nsid} of=/dev/null bs=4K count=10 status=none &")
    m.output_of("wait")
    assert counter(m, "strange answers") == 0 and counter(m, "timeouts") == 0
    settled(m)


# ---- interrupts ---------------------------------------------------------------------------------


def test_fewer_queues_than_cpus(boot, tmp_path):
    path = tmp_path / "n.img"
    data = image(path, MIB, seed=4)
    m = boot(cpus=4, extra=nvme(path, max_ioqpairs=2, msix_qsize=3))
    said = m.ok("cat /proc/driver/nvme")
    assert re.findall(r"queue [12]: .*CPUs (\S+),", said) == ["0,2", "1,3"]
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha(data)


def test_every_kind_of_interrupt(boot, tmp_path):
    """The same bytes by messages of its own for each queue, by one wire for all, and by a clock."""
    path = tmp_path / "n.img"
    data = image(path, 256 << 10, seed=5)
    m = boot(cpus=2, extra=nvme(path))
    for mode, name, vectors, chip in (("intx", "INTx", 1, "IO-APIC"), ("poll", "POLL", 1, "POLL"),
                                      ("msix", "MSI-X", 3, "MSIX"), ("auto", "MSI-X", 3, "MSIX")):
        assert f"-> {name} irq" in m.ok(f"irq mode nvme0 {mode}")
        assert f"\n  {vectors} vectors" in m.ok("cat /proc/driver/nvme")
        assert digest(m, "dd if=/dev/nvme0n1 bs=64K status=none") == sha(data)
        row = next(line for line in m.ok("cat /proc/interrupts").splitlines() if "nvme0q1" in line)
        assert chip in row
        settled(m)
    output, status = m.run("irq mode nvme0 msi")
    assert status == 1 and "cannot use msi" in output and "MSI-X" in output
    assert digest(m, "dd if=/dev/nvme0n1 bs=64K status=none") == sha(data)


@pytest.mark.parametrize("option,kind", [("pci=nomsi", "IO-APIC"), ("pci=noirq", "PCI-POLL"),
                                         ("nvme.completion=hardirq", "MSIX"),
                                         ("nvme.completion=irq_poll", "MSIX"),
                                         ("nvme.depth=2 nvme.queues=1", "MSIX")])
def test_boot_options(boot, tmp_path, option, kind):
    path = tmp_path / "n.img"
    data = image(path, 512 << 10, seed=6)
    m = boot(cpus=2, append=option, extra=nvme(path))
    m.output_of("sha256sum /dev/nvme0n1 > /tmp/a &")
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha(data)
    m.output_of("wait")
    m.output_of("")
    assert m.ok("cat /tmp/a").split()[0] == sha(data)
    row = next(line for line in m.ok("cat /proc/interrupts").splitlines() if "nvme0q1" in line)
    assert kind in row
    settled(m)


def rebind(m, data, times):
    """Taken away and given back while readers read: each sees its bytes, or an end."""
    address = re.search(r"nvme0: 0000:(\S+),", m.ok("cat /proc/driver/nvme"))[1]
    for _ in range(times):
        m.output_of("dd if=/dev/nvme0n1 of=/dev/null bs=64K status=none &")
        m.output_of("dd if=/dev/nvme0n1 of=/dev/null bs=4K status=none &")
        m.ok("driver unbind nvme0")
        m.output_of("wait")
        m.ok(f"driver bind {address}")
    m.output_of("")
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha(data)
    settled(m)


def test_rebound_under_load(boot, tmp_path):
    path = tmp_path / "n.img"
    data = image(path, MIB, seed=8)
    m = boot(cpus=4, extra=nvme(path))
    rebind(m, data, 5)
    before = m.ok("grep MemFree /proc/meminfo")
    rebind(m, data, 5)
    free = [int(line.split()[1]) for line in (before, m.ok("grep MemFree /proc/meminfo"))]
    assert abs(free[1] - free[0]) < 512, free


@pytest.mark.long
def test_rebound_a_hundred_times(boot, tmp_path):
    path = tmp_path / "n.img"
    data = image(path, MIB, seed=8)
    m = boot(cpus=4, extra=nvme(path))
    rebind(m, data, 10)
    before = m.ok("grep MemFree /proc/meminfo")
    rebind(m, data, 100)
    free = [int(line.split()[1]) for line in (before, m.ok("grep MemFree /proc/meminfo"))]
    assert abs(free[1] - free[0]) < 512, free


# ---- errors -------------------------------------------------------------------------------------


def test_error_hits_exactly_its_sector(boot, tmp_path):
    path = tmp_path / "n.img"
    data = bytearray(image(path, MIB, seed=9))
    rules = [{"event": "none", "iotype": "read", "sector": 104, "errno": 5, "once": False},
             {"event": "none", "iotype": "write", "sector": 16, "errno": 5, "once": False}]
    node = {"driver": "blkdebug", "node-name": "bad", "inject-error": rules,
            "image": {"driver": "file", "filename": str(path)}}
    m = boot(cpus=2, extra=["-blockdev", json.dumps(node), "-device", "nvme,drive=bad,serial=a"])
    output, status = m.run("dd if=/dev/nvme0n1 of=/dev/null skip=104 count=1")
    assert status == 1 and "error reading '/dev/nvme0n1': Input/output error" in output
    assert "read of 1 sectors at 104 failed: unrecovered read error (status 0x281)" in m.ok("dmesg")
    for sector in (103, 105, 0):
        assert digest(m, f"dd if=/dev/nvme0n1 skip={sector} count=1 status=none") == \
            sha(data[sector * 512:(sector + 1) * 512])
    output, status = m.run("dd if=/dev/zero of=/dev/nvme0n1 seek=16 count=1")
    assert status == 1 and "error writing" in output
    m.ok("dd if=/dev/zero of=/dev/nvme0n1 seek=17 count=1 conv=fsync status=none")
    data[17 * 512:18 * 512] = bytes(512)
    assert counter(m, "failed") == 2 and counter(m, "timeouts") == 0
    settled(m)
    m.send("poweroff\r")
    m.wait_end()
    assert path.read_bytes() == data


# ---- commands that do not end -------------------------------------------------------------------


def held_disk(path):
    """A disk whose requests can be held: qemu-io held "break read_aio TAG", "resume TAG"."""
    node = {"driver": "raw", "node-name": "held",
            "file": {"driver": "blkdebug", "image": {"driver": "file", "filename": str(path)}}}
    return ["-blockdev", json.dumps(node), "-device", "nvme,drive=held,serial=a"]


def test_late_command_is_aborted_and_ends_late(boot, tmp_path):
    """Held until it was aborted (QEMU's controller says that it could not): its data is right."""
    path = tmp_path / "n.img"
    data = image(path, MIB, seed=10)
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=500", extra=held_disk(path))
    m.hmp('qemu-io held "break read_aio A"')
    m.send("dd if=/dev/nvme0n1 bs=4K count=1 status=none | sha256sum\r")
    m.expect(r"nvme0n1: I/O timeout, aborting \(queue \d, id 0x\w+, read of 8 sectors at 0\)")
    m.hmp('qemu-io held "resume A"')
    assert m.expect(r"\n(\w{64})  -")[1] == sha(data[:4096])
    m.wait_prompt()
    assert counter(m, "aborts") == 1 and counter(m, "resets") == 0 and counter(m, "failed") == 0
    settled(m)


def throttled_disk(path):
    """A disk that can be made to hold everything, until it is let go or its controller is reset."""
    file = {"driver": "raw", "file": {"driver": "file", "filename": str(path)}}
    node = {"driver": "throttle", "throttle-group": "tg", "node-name": "slow", "file": file}
    return ["-object", "throttle-group,id=tg", "-blockdev", json.dumps(node),
            "-device", "nvme,drive=slow,serial=a"]


def hold(m, on):
    m.qmp("qom-set", path="/objects/tg", property="limits", value={"bps-read": 1 if on else 0})


def hang_once(m, data, block):
    """Two reads, of which what is allowed comes and the next one hangs: aborted, the controller
    reset, the read done again."""
    resets = counter(m, "resets")
    hold(m, True)
    m.send(f"dd if=/dev/nvme0n1 bs=4K skip={block} count=2 status=none | sha256sum\r")
    m.expect("I/O timeout, aborting")
    m.expect("I/O timeout, reset controller")
    hold(m, False)
    assert m.expect(r"\n(\w{64})  -")[1] == sha(data[block * 4096:(block + 2) * 4096])
    m.wait_prompt()
    assert counter(m, "resets") > resets


def test_hung_command_is_reset_and_done_again(boot, tmp_path):
    path = tmp_path / "n.img"
    data = image(path, MIB, seed=11)
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=400", extra=throttled_disk(path))
    hang_once(m, data, 5)
    assert re.search(r"nvme0: reset in \d+ ms, 1 requests started again, 0 failed",
                     m.ok("dmesg"))
    assert counter(m, "failed") == 0
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha(data)
    settled(m)


@pytest.mark.long
def test_hung_command_a_hundred_times(boot, tmp_path):
    path = tmp_path / "n.img"
    data = image(path, MIB, seed=11)
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=200", extra=throttled_disk(path))
    for i in range(100):
        hang_once(m, data, i)
    assert counter(m, "failed") == 0
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha(data)
    settled(m)


def test_command_that_never_ends_fails(boot, tmp_path):
    """Twice through abort and reset is enough: its reader is told; everybody else is served."""
    path = tmp_path / "n.img"
    data = image(path, MIB, seed=12)
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=200", extra=throttled_disk(path))
    hold(m, True)
    output, status = m.run("dd if=/dev/nvme0n1 of=/dev/null bs=4K count=3")
    assert status == 1 and "Input/output error" in output
    assert counter(m, "resets") == 2 and counter(m, "failed") == 1
    hold(m, False)
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha(data)
    settled(m)


def test_slow_disk_is_left_in_peace(boot):
    """Slower than usual, faster than the time-out, and many at once: nothing is aborted."""
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=2000", extra=[
        "-blockdev", "driver=null-co,node-name=slow,size=67108864,latency-ns=100000000,"
        "read-zeroes=on", "-device", "nvme,drive=slow,serial=a"])
    for _ in range(4):
        m.output_of("dd if=/dev/nvme0n1 of=/dev/null bs=4K count=5 status=none &")
    m.output_of("wait")
    assert counter(m, "timeouts") == 0 and counter(m, "aborts") == 0
    settled(m)


# ---- a controller that dies, or lies ------------------------------------------------------------


def command_register(m):
    slot = re.search(r"nvme0: 0000:00:(\w\w)\.0", m.ok("cat /proc/driver/nvme"))[1]
    return ECAM + (int(slot, 16) << 15) + 4


def test_fatal_error_is_reset(boot, tmp_path):
    """It cannot reach memory for a moment, and says that it is dead (CSTS.CFS)."""
    path = tmp_path / "n.img"
    data = image(path, MIB, seed=13)
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=5000", hostile=True, extra=nvme(path))
    register = command_register(m)
    command = m.bus_read32(register) & 0xffff
    m.bus_write32(register, command & ~4)
    m.send("dd if=/dev/nvme0n1 bs=4K count=1 status=none | sha256sum\r")
    m.expect("resetting controller: fatal error, CSTS 0x2")
    m.bus_write32(register, command)
    assert m.expect(r"\n(\w{64})  -")[1] == sha(data[:4096])
    m.wait_prompt()
    assert counter(m, "resets") == 1 and counter(m, "aborts") == 0
    settled(m)


def test_controller_that_stays_dead(boot, tmp_path):
    """The same for good: every request gets an error, the console lives, the driver can go."""
    path = tmp_path / "n.img"
    image(path, MIB, seed=13)
    m = boot(cpus=2, hostile=True, extra=nvme(path))
    register = command_register(m)
    m.bus_write32(register, m.bus_read32(register) & 0xffff & ~4)
    output, status = m.run("dd if=/dev/nvme0n1 of=/dev/null bs=4K count=1")
    assert status == 1 and "Input/output error" in output
    assert "given up" in m.ok("dmesg") and ", dead, " in m.ok("cat /proc/driver/nvme")
    assert m.run("dd if=/dev/nvme0n1 of=/dev/null count=1")[1] == 1
    m.ok("driver unbind nvme0")
    assert not re.search(r"BUG|WARNING|DMA-API", m.ok("dmesg"))


def forge(m, queue, words):
    """Write an answer where the driver looks next, as the device would; True phase."""
    row = re.search(rf"queue {queue}: .*CQ 0x(\w+), tail \d+, head (\d+), phase (\d)",
                    m.ok("cat /proc/driver/nvme"))
    base, head, phase = int(row[1], 16), int(row[2]), int(row[3])
    at = base + (head + 1) * 16  # the next read's own answer comes before it
    sq_id, cid, status = words
    m.bus_write32(at, 0)
    m.bus_write32(at + 8, sq_id << 16)
    m.bus_write32(at + 12, (status << 1 | phase) << 16 | cid)


@pytest.mark.parametrize("what,words", [("stale", (1, 0x0000, 0)), ("wild", (1, 0x03ff, 0)),
                                        ("wrong queue", (2, 0x0400, 0))])
def test_forged_answer_is_not_obeyed(boot, tmp_path, what, words):
    """Counted and said. It cost the device its place in the queue, so the next answer is missed:
    that is found by the time-out, and mended by a reset."""
    path = tmp_path / "n.img"
    data = image(path, MIB, seed=14)
    m = boot(cpus=1, append="loglevel=6 nvme.timeout=200", hostile=True, extra=nvme(path))
    forge(m, 1, words)
    for block in range(3):
        assert digest(m, f"dd if=/dev/nvme0n1 bs=4K skip={block} count=1 status=none") == \
            sha(data[block * 4096:(block + 1) * 4096])
    assert counter(m, what) == 1 and counter(m, "strange answers") == 1
    assert counter(m, "failed") == 0 and counter(m, "resets") == 1
    assert "queue 1: an answer " in m.ok("dmesg")
    settled(m)


def test_impossible_doorbell_is_told_as_an_event(boot, tmp_path):
    """A doorbell that points outside of its queue: the controller refuses it, and says so."""
    path = tmp_path / "n.img"
    data = image(path, MIB, seed=15)
    m = boot(cpus=1, hostile=True, extra=nvme(path))
    bar = int(re.search(r"Memory at (\w+) ", m.ok("lspci -v -s " + re.search(
        r"0000:(\S+),", m.ok("cat /proc/driver/nvme"))[1]))[1], 16)
    m.bus_write32(bar + 0x1008, 0xffff)  # the tail of queue 1
    deadline = time.monotonic() + HANG
    while counter(m, "events") == 0:
        assert time.monotonic() < deadline
    assert re.search(r"nvme0: event 0x\w+: error", m.ok("dmesg"))
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha(data)
    settled(m)


def test_health_is_told_as_an_event(boot, tmp_path):
    path = tmp_path / "n.img"
    image(path, MIB, seed=16)
    m = boot(cpus=1, extra=["-drive", f"if=none,id=n0,format=raw,file={path}",
                            "-device", "nvme,id=c,drive=n0,serial=a"])
    m.qmp("qom-set", path="/machine/peripheral/c", property="smart_critical_warning", value=1)
    deadline = time.monotonic() + HANG
    while counter(m, "events") == 0:
        assert time.monotonic() < deadline
    assert "its spare blocks run out" in m.ok("dmesg")
    settled(m)
