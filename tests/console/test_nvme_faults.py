"""NVMe: errors, hangs and lies of the device cost exactly who asked."""

import json
import re

import pytest
from machine import wait_until
from images import MIB, digest, limited_disk, random_image, sha256
from nvme_disk import clean, counter, nvme, nvme_bar, settled

ECAM = 0xb0000000  # QEMU's q35
CC, CSTS, CSTS_CFS = 0x14, 0x1c, 2


# ---- errors -------------------------------------------------------------------------------------


def test_error_hits_exactly_its_sector(boot, tmp_path):
    path = tmp_path / "n.img"
    data = bytearray(random_image(path, MIB, seed=9))
    rules = [{"event": "none", "iotype": "read", "sector": 104, "errno": 5, "once": False},
             {"event": "none", "iotype": "write", "sector": 16, "errno": 5, "once": False}]
    node = {"driver": "blkdebug", "node-name": "bad", "inject-error": rules,
            "image": {"driver": "file", "filename": str(path)}}
    m = boot(cpus=2, extra=["-blockdev", json.dumps(node), "-device", "nvme,drive=bad,serial=a"])
    output, status = m.run("dd if=/dev/nvme0n1 of=/dev/null skip=104 count=1 iflag=direct")
    assert status == 1 and "error reading '/dev/nvme0n1': Input/output error" in output
    assert "read of 1 sectors at 104 failed: unrecovered read error (status 0x281)" in m.ok("dmesg")
    for sector in (103, 105, 0):
        assert digest(m, f"dd if=/dev/nvme0n1 skip={sector} count=1 iflag=direct status=none") == \
            sha256(data[sector * 512:(sector + 1) * 512])
    output, status = m.run("dd if=/dev/zero of=/dev/nvme0n1 seek=16 count=1 oflag=direct")
    assert status == 1 and "error writing" in output
    m.ok("dd if=/dev/zero of=/dev/nvme0n1 seek=17 count=1 oflag=direct conv=fsync status=none")
    data[17 * 512:18 * 512] = bytes(512)
    assert counter(m, "failed") == 2 and counter(m, "timeouts") == 0
    settled(m)
    m.power_off()
    assert path.read_bytes() == data


# ---- commands that do not end -------------------------------------------------------------------


def held_disk(path):
    """A disk whose requests can be held: qemu-io held "break read_aio TAG", "resume TAG"."""
    node = {"driver": "raw", "node-name": "held",
            "file": {"driver": "blkdebug", "image": {"driver": "file", "filename": str(path)}}}
    return ["-blockdev", json.dumps(node), "-device", "nvme,drive=held,serial=a"]


def test_late_command_is_aborted_and_ends_late(boot, tmp_path):
    """Held until it was aborted (QEMU's controller says that it could not): its data is right. We
    have the time-out's five seconds to let it go."""
    path = tmp_path / "n.img"
    data = random_image(path, MIB, seed=10)
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=5000", extra=held_disk(path))
    m.hmp('qemu-io held "break read_aio A"')
    m.send("dd if=/dev/nvme0n1 bs=4K count=1 iflag=direct status=none | sha256sum\r")
    m.expect(r"nvme0n1: I/O timeout, aborting \(queue \d, id 0x\w+, read of 8 sectors at 0\)")
    m.hmp('qemu-io held "resume A"')
    assert m.expect(r"\n(\w{64})  -")[1] == sha256(data[:4096])
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
    reset, the read done again. True: its data came. False: the disk was let go too late, as this
    host had other things to do, and the reader was told of an error."""
    resets, failed = counter(m, "resets"), counter(m, "failed")
    hold(m, True)
    m.send(f"dd if=/dev/nvme0n1 bs=4K skip={block} count=2 iflag=direct status=none | "
           "sha256sum\r")
    m.expect("I/O timeout, aborting")
    m.expect("I/O timeout, reset controller")
    hold(m, False)
    said = m.expect(r"\n(\w{64})  -")[1]
    m.wait_prompt()
    served = counter(m, "failed") == failed
    assert counter(m, "resets") > resets
    if served:
        assert said == sha256(data[block * 4096:(block + 2) * 4096])
    else:
        assert said in (sha256(data[block * 4096:(block + 1) * 4096]), sha256(b""))
    return served


def test_hung_command_is_reset_and_done_again(boot, tmp_path):
    path = tmp_path / "n.img"
    data = random_image(path, MIB, seed=11)
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=400", extra=throttled_disk(path))
    # Too late, where the host had other things to do, it is another one's turn.
    assert any(hang_once(m, data, block) for block in range(5, 25))
    assert re.search(r"nvme0: reset in \d+ ms, 1 requests started again, 0 failed",
                     m.ok("dmesg"))
    assert digest(m, "dd if=/dev/nvme0n1 bs=64K iflag=direct status=none") == sha256(data)
    settled(m)


@pytest.mark.long
def test_hung_command_a_hundred_times(boot, tmp_path):
    path = tmp_path / "n.img"
    data = random_image(path, MIB, seed=11)
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=400", extra=throttled_disk(path))
    served = sum(hang_once(m, data, i) for i in range(100))
    assert served > 0 and counter(m, "failed") == 100 - served
    assert digest(m, "dd if=/dev/nvme0n1 bs=64K iflag=direct status=none") == sha256(data)
    settled(m)


def test_command_that_never_ends_fails(boot, tmp_path):
    """Twice through abort and reset is enough: its reader is told; everybody else is served."""
    path = tmp_path / "n.img"
    data = random_image(path, MIB, seed=12)
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=200", extra=throttled_disk(path))
    hold(m, True)
    output, status = m.run("dd if=/dev/nvme0n1 of=/dev/null bs=4K count=3 iflag=direct")
    assert status == 1 and "Input/output error" in output
    assert counter(m, "resets") >= 2 and counter(m, "failed") == 1
    hold(m, False)
    assert digest(m, "dd if=/dev/nvme0n1 bs=64K iflag=direct status=none") == sha256(data)
    settled(m)


def test_slow_disk_is_left_in_peace(boot):
    """Slower than usual, faster than the time-out, and many at once: nothing is aborted."""
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=2000", extra=[
        "-blockdev", "driver=null-co,node-name=slow,size=67108864,latency-ns=100000000,"
        "read-zeroes=on", "-device", "nvme,drive=slow,serial=a"])

    def in_peace():  # unless the host stops us for as long as the time-out
        before = counter(m, "timeouts"), counter(m, "aborts")
        for _ in range(4):
            m.output_of("dd if=/dev/nvme0n1 of=/dev/null bs=4K count=5 status=none iflag=direct &")
        m.output_of("wait")
        return (counter(m, "timeouts"), counter(m, "aborts")) == before

    wait_until(in_peace, "twenty reads in peace")
    settled(m)


# ---- a controller that dies, or lies ------------------------------------------------------------


def command_register(m):
    slot = re.search(r"nvme0: 0000:00:(\w\w)\.0", m.ok("cat /proc/driver/nvme"))[1]
    return ECAM + (int(slot, 16) << 15) + 4


def test_fatal_error_is_reset(boot, tmp_path):
    """It cannot reach memory for a moment, and says that it is dead (CSTS.CFS)."""
    path = tmp_path / "n.img"
    data = random_image(path, MIB, seed=13)
    m = boot(cpus=2, append="loglevel=6 nvme.timeout=5000", hostile=True, extra=nvme(path))
    register = command_register(m)
    command = m.bus_read32(register) & 0xffff
    m.bus_write32(register, command & ~4)
    csts = nvme_bar(m) + CSTS
    m.send("dd if=/dev/nvme0n1 bs=4K count=1 iflag=direct status=none | sha256sum\r")
    wait_until(lambda: m.bus_read32(csts) & CSTS_CFS, "a fatal error", pause=0)
    m.bus_write32(register, command)
    m.expect("resetting controller: fatal error, CSTS 0x2")
    assert m.expect(r"\n(\w{64})  -")[1] == sha256(data[:4096])
    m.wait_prompt()
    assert counter(m, "resets") == 1 and counter(m, "aborts") == 0
    settled(m)


def test_controller_that_was_disabled(boot, tmp_path):
    """By somebody else, with a read under way: nobody waits for that one's time to be over."""
    path = tmp_path / "n.img"
    data = random_image(path, MIB, seed=13)
    m = boot(cpus=2, append="nvme.timeout=60000", hostile=True,
             extra=limited_disk(path, 2, "nvme,serial=a"))
    controller = nvme_bar(m)
    for block in range(1, 4):
        m.output_of(f"dd if=/dev/nvme0n1 bs=4K count=3 skip={block} iflag=direct status=none "
                    "| sha256sum > /tmp/sum &")
        m.bus_write32(controller + CC, m.bus_read32(controller + CC) & ~1)
        wait_until(lambda: counter(m, "resets") == block, "the reset")
        m.output_of("wait")
        assert m.ok("cat /tmp/sum").split()[0] == \
            sha256(data[block * 4096:block * 4096 + 3 * 4096])
    assert counter(m, "aborts") == 0
    assert "resetting controller: it was disabled, CSTS 0x0" in m.ok("dmesg")
    settled(m)


def test_controller_that_stays_dead(boot, tmp_path):
    """The same for good: every request gets an error, the console lives, the driver can go."""
    path = tmp_path / "n.img"
    random_image(path, MIB, seed=13)
    m = boot(cpus=2, hostile=True, extra=nvme(path))
    register = command_register(m)
    m.bus_write32(register, m.bus_read32(register) & 0xffff & ~4)
    output, status = m.run("dd if=/dev/nvme0n1 of=/dev/null bs=4K count=1 iflag=direct")
    assert status == 1 and "Input/output error" in output
    assert "given up" in m.ok("dmesg") and ", dead, " in m.ok("cat /proc/driver/nvme")
    assert m.run("dd if=/dev/nvme0n1 of=/dev/null count=1 iflag=direct")[1] == 1
    m.ok("driver unbind nvme0")
    clean(m)


def forge(m, queue, words):
    """Write an answer where the driver looks next, as the device would; True phase."""
    row = re.search(rf"queue {queue}: .*CQ 0x(\w+), tail \d+, head (\d+), phase (\d)",
                    m.ok("cat /proc/driver/nvme"))
    base, head, phase = m.memory_of("nvme0", int(row[1], 16)), int(row[2]), int(row[3])
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
    data = random_image(path, MIB, seed=14)
    m = boot(cpus=1, append="loglevel=6 nvme.timeout=1500", hostile=True, extra=nvme(path))
    forge(m, 1, words)
    for block in range(3):
        assert digest(m, f"dd if=/dev/nvme0n1 bs=4K skip={block} count=1 iflag=direct "
                      "status=none") == \
            sha256(data[block * 4096:(block + 1) * 4096])
    assert counter(m, what) == 1 and counter(m, "strange answers") == 1
    assert counter(m, "failed") == 0 and counter(m, "resets") >= 1
    assert "queue 1: an answer " in m.ok("dmesg")
    settled(m)


@pytest.mark.long
def test_late_answers_a_hundred_times(boot, tmp_path):
    """The answer to a command that was given up long ago, each time where the next one is looked
    for: it is told from the real ones, which all arrive, if need be after a reset."""
    path = tmp_path / "n.img"
    data = random_image(path, MIB, seed=14)
    m = boot(cpus=1, append="nvme.timeout=200", hostile=True, extra=nvme(path))
    for i in range(100):
        forge(m, 1, (1, 0x0000, 0))
        for block in (i, i + 1, i + 2):
            assert digest(m, f"dd if=/dev/nvme0n1 bs=4K skip={block} count=1 iflag=direct "
                          "status=none") == sha256(data[block * 4096:(block + 1) * 4096])
        assert counter(m, "stale") == i + 1 and counter(m, "failed") == 0
    assert counter(m, "strange answers") == 100 and counter(m, "resets") == 100
    settled(m)


def test_impossible_doorbell_is_told_as_an_event(boot, tmp_path):
    """A doorbell that points outside of its queue: the controller refuses it, and says so."""
    path = tmp_path / "n.img"
    data = random_image(path, MIB, seed=15)
    m = boot(cpus=1, hostile=True, extra=nvme(path))
    bar = int(re.search(r"Memory at (\w+) ", m.ok("lspci -v -s " + re.search(
        r"0000:(\S+),", m.ok("cat /proc/driver/nvme"))[1]))[1], 16)
    m.bus_write32(bar + 0x1008, 0xffff)  # the tail of queue 1
    wait_until(lambda: counter(m, "events") != 0, "the event")
    assert re.search(r"nvme0: event 0x\w+: error", m.ok("dmesg"))
    assert digest(m, "dd if=/dev/nvme0n1 bs=64K iflag=direct status=none") == sha256(data)
    settled(m)


def test_health_is_told_as_an_event(boot, tmp_path):
    path = tmp_path / "n.img"
    random_image(path, MIB, seed=16)
    m = boot(cpus=1, extra=["-drive", f"if=none,id=n0,format=raw,file={path}",
                            "-device", "nvme,id=c,drive=n0,serial=a"])
    m.qmp("qom-set", path="/machine/peripheral/c", property="smart_critical_warning", value=1)
    wait_until(lambda: counter(m, "events") != 0, "the event")
    assert "its spare blocks run out" in m.ok("dmesg")
    settled(m)
