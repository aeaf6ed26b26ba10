"""Every shape of a disk command against the host's image: sizes, places, addresses, protocols."""

import hashlib
import random

import pytest

MIB = 1 << 20
MODES = {"ncq": "NCQ", "dma48": "LBA48 DMA", "dma28": "LBA28 DMA", "pio48": "LBA48 PIO",
         "pio28": "LBA28 PIO"}
SIZES = (512, 4096, 8192, 256 * 1024)
SIZE = 2 * MIB + 512 * 7


def places(size):
    """The first byte, the second sector, the last that such a command can reach."""
    return (0, 512, SIZE - size)


@pytest.mark.parametrize("mode", MODES)
def test_sizes_and_places(boot, tmp_path, mode):
    """{512, 4 KiB, 8 KiB, 256 KiB} x {first, second, last} are read and written in this mode."""
    path = tmp_path / "d.img"
    data = bytearray(random.Random(mode).randbytes(SIZE))
    path.write_bytes(data)
    m = boot(append=f"ahci.mode={mode} loglevel=6", disks=[str(path)])
    assert f", {MODES[mode]} depth 32" in m.ok("dmesg")
    digests, commands = [], []
    for size in SIZES:
        for place in places(size):
            commands.append(f"dd if=/dev/sda bs={size} count=1 skip={place} iflag=skip_bytes "
                            "status=none | sha256sum")
            digests.append(hashlib.sha256(data[place:place + size]).hexdigest())
    output = m.ok("; ".join(commands[:6])) + m.ok("; ".join(commands[6:]))
    assert [line.split()[0] for line in output.splitlines()] == digests
    # Writes: a piece of the disk itself, from the middle, where nothing is written.
    for size in SIZES:
        line = "; ".join(f"dd if=/dev/sda of=/dev/sda bs={size} count=1 skip={MIB} "
                         f"iflag=skip_bytes seek={place} oflag=seek_bytes status=none"
                         for place in places(size))
        assert m.ok(line) == ""
        for place in places(size):
            data[place:place + size] = data[MIB:MIB + size]
    log = m.ok("cat /proc/driver/ahci")
    queued = int(log.split("(NCQ ")[1].split(")")[0])
    assert (queued > 0) == (mode == "ncq")
    assert "errors 0, timeouts 0, lost interrupts 0" in log
    m.send("poweroff\r")
    m.wait_end()
    assert path.read_bytes() == data


def test_most_sectors_and_random_depth(boot, tmp_path):
    """65,535 sectors in one command, pieces of 32 bytes, random commands at depth 32; the image is
    afterwards what it was."""
    path = tmp_path / "d.img"
    data = random.Random(65535).randbytes(33 * MIB)
    path.write_bytes(data)
    m = boot(mem="256M", cpus=2, disks=[str(path)])
    output = m.ok("ktest ahci.most_sectors; ktest ahci.pieces_of_32; ktest ahci.random_at_full")
    assert output.count("\nok 1 ") == 3 and "SKIP" not in output
    assert "errors 0, timeouts 0, lost interrupts 0" in m.ok("cat /proc/driver/ahci")
    m.send("poweroff\r")
    m.wait_end()
    assert path.read_bytes() == data


@pytest.mark.parametrize("completion,context", [("softirq", "BLOCK"), ("hardirq", None),
                                                ("irq_poll", "IRQ_POLL")])
def test_who_finds_out(boot, tmp_path, completion, context):
    """Completion by softirq, by the interrupt itself, by polling: the same data."""
    path = tmp_path / "d.img"
    data = random.Random(3).randbytes(MIB)
    path.write_bytes(data)
    m = boot(cpus=2, append=f"ahci.completion={completion}", disks=[str(path)])

    def runs(name):
        row = next(line.split() for line in m.ok("cat /proc/softirqs").splitlines()
                   if line.split()[0] == f"{name}:")
        return sum(map(int, row[1:]))

    before = {name: runs(name) for name in ("BLOCK", "IRQ_POLL")}
    assert m.ok("dd if=/dev/sda bs=4K status=none | sha256sum").split()[0] == \
        hashlib.sha256(data).hexdigest()
    for name in before:
        assert runs(name) - before[name] >= (200 if name == context else 0)
        assert name == context or runs(name) - before[name] < 20
    assert "errors 0, timeouts 0, lost interrupts 0" in m.ok("cat /proc/driver/ahci")
