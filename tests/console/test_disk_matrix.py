"""Every shape of a disk command against the host's image: sizes, places, addresses, protocols."""

import re

import pytest
from images import MIB, digest, random_image, sha256
from nvme_disk import nvme, settled

MODES = {"ncq": "NCQ", "dma48": "LBA48 DMA", "dma28": "LBA28 DMA", "pio48": "LBA48 PIO",
         "pio28": "LBA28 PIO"}
SIZES = (512, 4096, 8192, 256 * 1024)
SIZE = 2 * MIB + 512 * 7


def places(size):
    """The first sector, the second, the last that such a command can reach."""
    return (0, 512, SIZE - size)


def cells(m, disk, data):
    """{512, 4 KiB, 8 KiB, 256 KiB} x {first, second, last}: each is read and compared, then
    written, here and in `data`, which is what the image must hold afterwards."""
    digests, commands = [], []
    for size in SIZES:
        for place in places(size):
            commands.append(f"dd if=/dev/{disk} bs={size} count=1 skip={place} "
                            "iflag=skip_bytes,direct status=none | sha256sum")
            digests.append(sha256(data[place:place + size]))
    output = m.ok("; ".join(commands[:6])) + m.ok("; ".join(commands[6:]))
    assert [line.split()[0] for line in output.splitlines()] == digests
    # Writes: a piece of the disk itself, from the middle, where nothing is written.
    for size in SIZES:
        line = "; ".join(f"dd if=/dev/{disk} of=/dev/{disk} bs={size} count=1 skip={MIB} "
                         f"iflag=skip_bytes,direct seek={place} oflag=seek_bytes,direct status=none"
                         for place in places(size))
        assert m.ok(line) == ""
        for place in places(size):
            data[place:place + size] = data[MIB:MIB + size]


def power_off_and_compare(m, path, data):
    m.power_off()
    assert path.read_bytes() == data


@pytest.mark.parametrize("mode", MODES)
def test_ahci(boot, tmp_path, mode):
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, SIZE, seed=mode))
    m = boot(append=f"ahci.mode={mode} loglevel=6", disks=[str(path)])
    assert f", {MODES[mode]} depth 32" in m.ok("dmesg")
    cells(m, "sda", data)
    log = m.ok("cat /proc/driver/ahci")
    queued = int(log.split("(NCQ ")[1].split(")")[0])
    assert (queued > 0) == (mode == "ncq")
    assert "errors 0, timeouts 0, lost interrupts 0" in log
    power_off_and_compare(m, path, data)


def test_ide(boot, tmp_path):
    """The 48 cells one after the other: {PIO, DMA} x {LBA28, LBA48}."""
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, SIZE, seed=48))
    m = boot(machine="pc", extra=["-drive", f"if=ide,format=raw,file={path}"])
    for mode in ("pio28", "pio", "dma28", "dma"):
        def moved():
            return [int(n) for n in re.search(r"by PIO (\d+), by DMA (\d+)",
                                              m.ok("cat /proc/driver/ide")).groups()]

        m.ok(f"echo {mode} > /proc/driver/ide")
        assert f"mode: {mode}\n" in m.ok("cat /proc/driver/ide")
        before = moved()
        cells(m, "hda", data)
        by_pio, by_dma = (now - then for now, then in zip(moved(), before))
        used, unused = (by_pio, by_dma) if mode.startswith("pio") else (by_dma, by_pio)
        assert used >= 3 * 3 * sum(SIZES) // 512 and unused == 0
    assert m.run("echo pio27 > /proc/driver/ide")[1] == 1
    assert "errors 0, time-outs 0, resets 0" in m.ok("cat /proc/driver/ide")
    power_off_and_compare(m, path, data)


def test_nvme(boot, tmp_path):
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, SIZE, seed=49))
    m = boot(cpus=2, extra=nvme(path))
    cells(m, "nvme0n1", data)
    settled(m)
    power_off_and_compare(m, path, data)


@pytest.mark.parametrize("suite", ["ahci", "nvme", "ide"])
def test_most_sectors_pieces_and_random_depth(boot, tmp_path, suite):
    """As many sectors as one command can have (AHCI: 65,535), pieces of 32 bytes, random commands
    32 at a time; the image is afterwards what it was."""
    path = tmp_path / "d.img"
    data = random_image(path, 33 * MIB, seed=65535)
    m = boot(mem="256M", cpus=2, **{
        "ahci": dict(disks=[str(path)]), "nvme": dict(extra=nvme(path)),
        "ide": dict(machine="pc", extra=["-drive", f"if=ide,format=raw,file={path}"])}[suite])
    output = m.ok(f"ktest {suite}.most_sectors; ktest {suite}.pieces_of_32; "
                  f"ktest {suite}.random_at_full")
    assert output.count("\nok 1 ") == 3 and "SKIP" not in output
    said = m.ok(f"cat /proc/driver/{suite}")
    if suite == "nvme":
        settled(m)
    else:
        assert re.search(r"errors 0, time-?outs 0", said), said
    power_off_and_compare(m, path, data)


@pytest.mark.parametrize("completion,context", [("softirq", "BLOCK"), ("hardirq", None),
                                                ("irq_poll", "IRQ_POLL")])
def test_who_finds_out(boot, tmp_path, completion, context):
    """Completion by softirq, by the interrupt itself, by polling: the same data."""
    path = tmp_path / "d.img"
    data = random_image(path, MIB, seed=3)
    m = boot(cpus=2, append=f"ahci.completion={completion}", disks=[str(path)])

    def runs(name):
        row = next(line.split() for line in m.ok("cat /proc/softirqs").splitlines()
                   if line.split()[0] == f"{name}:")
        return sum(map(int, row[1:]))

    before = {name: runs(name) for name in ("BLOCK", "IRQ_POLL")}
    assert digest(m, "dd if=/dev/sda bs=4K iflag=direct status=none") == sha256(data)
    for name in before:
        assert runs(name) - before[name] >= (200 if name == context else 0)
        assert name == context or runs(name) - before[name] < 20
    assert "errors 0, timeouts 0, lost interrupts 0" in m.ok("cat /proc/driver/ahci")
