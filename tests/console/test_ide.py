"""IDE on -M pc: data by PIO and by DMA, errors, a command that hangs, coming and going."""

import os
import re

import pytest

from images import sha256
from machine import Machine

SECTORS = 16384


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ide")
    paths = []
    for number in range(2):
        path = folder / f"disk{number}.img"
        path.write_bytes(os.urandom(SECTORS * 512))
        paths.append(str(path))
    return paths


def drives(paths):
    return [word for path in paths
            for word in ("-drive", f"if=ide,format=raw,file={path},snapshot=on")]


def counters(machine):
    said = machine.ok("cat /proc/driver/ide")
    return {name: [int(number) for number in re.findall(pattern, said)]
            for name, pattern in (("pio", r"by PIO (\d+)"), ("dma", r"by DMA (\d+)"),
                                  ("words", r"words (\d+)"), ("deaf", r"interrupts off (\d+)"),
                                  ("errors", r"errors (\d+)"), ("timeouts", r"time-outs (\d+)"),
                                  ("resets", r"resets (\d+)"))}


def test_two_disks_of_a_channel(images):
    """Both at once, though the channel does one command at a time: each gets its own bytes. What a
    command may look like: test_disk_matrix.py."""
    with Machine(machine="pc", cpus=2, name="ide-two", extra=drives(images)) as machine:
        machine.output_of("sha256sum /dev/hdb > /tmp/hdb &")
        digests = [machine.ok("sha256sum /dev/hda")]
        machine.output_of("wait")
        machine.output_of("")
        digests.append(machine.ok("cat /tmp/hdb"))
        for path, said in zip(images, digests):
            with open(path, "rb") as file:
                assert sha256(file.read()) in said
        counts = counters(machine)
        assert sum(counts["errors"] + counts["resets"]) == 0, counts


def test_errors_are_of_their_sector(images, tmp_path):
    """EIO for exactly the bad sectors, in both modes; the next command is good."""
    extra = ["-blockdev", f"driver=file,filename={images[0]},node-name=raw0,read-only=off",
             "-blockdev", "driver=blkdebug,image=raw0,node-name=bad0,"
             "inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.sector=104,"
             "inject-error.0.errno=5",
             "-device", "ide-hd,drive=bad0,bus=ide.0,rerror=report,werror=report"]
    with Machine(machine="pc", name="ide-errors", extra=extra) as machine:
        for mode in ("dma", "pio"):
            machine.ok(f"echo {mode} > /proc/driver/ide")
            output, status = machine.run("dd if=/dev/hda of=/dev/null bs=512 skip=104 count=1 "
                                         "iflag=direct")
            assert status == 1 and "Input/output error" in output, output
            machine.ok("dd if=/dev/hda of=/dev/null bs=512 skip=105 count=8 iflag=direct")
        assert re.search(r"hda: read of 1 sectors at 104: status \S*ERR", machine.ok("dmesg"))
        assert counters(machine)["errors"][0] >= 2


def test_an_interrupt_that_never_comes(images):
    """Somebody turns the channel's interrupts off: a time-out, a reset, and the read succeeds.

    (A command that hangs in the image cannot be tried: QEMU 7.2 itself waits for it at the reset.)
    """
    with Machine(machine="pc", name="ide-lost", append="ide.timeout=1000", hostile=True,
                 extra=drives(images)) as machine:
        with open(images[0], "rb") as file:
            data = file.read()
        machine.bus_command("outb 0x3f6 0x2")
        machine.ok("dd if=/dev/hda of=/dev/null bs=4096 count=1 iflag=direct")
        assert "hda: no answer in 1000 ms" in machine.ok("dmesg")
        assert sha256(data) in machine.ok("sha256sum /dev/hda")
        counts = counters(machine)
        # Once; and once more where the host stops us for a second.
        assert counts["timeouts"][0] == counts["resets"][0] >= 1, counts


def test_data_is_carried_with_interrupts_on(images):
    """By PIO the CPU is long at it, and must not be deaf meanwhile: a disk's sectors and a CD
    drive's 8 KiB are moved with interrupts on. Only a write's first sector is not."""
    extra = drives(images[:1]) + [
        "-drive", f"if=none,id=cd,media=cdrom,format=raw,file={images[1]},readonly=on",
        "-device", "ide-cd,drive=cd,bus=ide.1,unit=0"]
    size = SECTORS * 512
    with Machine(machine="pc", cpus=2, name="ide-deaf", append="ide=pio", extra=extra) as machine:
        for path, name in zip(images, ("hda", "sr0")):
            before = counters(machine)
            with open(path, "rb") as file:
                assert sha256(file.read()) in machine.ok(f"sha256sum /dev/{name}")
            after = counters(machine)
            moved = sum(after["words"]) - sum(before["words"])
            assert size // 2 <= moved < size // 2 + 4096, (before, after)  # and what the drive said
            assert sum(after["deaf"]) == sum(before["deaf"]) == 0, after
        machine.ok("dd if=/dev/zero of=/dev/hda bs=8K count=3 oflag=direct")
        counts = counters(machine)
        assert sum(counts["deaf"]) == 3 * 256 and sum(counts["errors"]) == 0, counts


def test_coming_and_going(images):
    with Machine(machine="pc", cpus=4, name="ide-bind", extra=drives(images)) as machine:
        with open(images[0], "rb") as file:
            expected = sha256(file.read())
        for _ in range(10):
            machine.send("sha256sum /dev/hda &\r")
            machine.wait_prompt()
            machine.output_of("driver unbind 0000:00:01.1")  # (the reader may speak in between)
            machine.output_of("driver bind 0000:00:01.1")
        machine.output_of("wait")
        machine.output_of("")
        assert expected in machine.ok("sha256sum /dev/hda")
        assert "errors 0" in machine.ok("cat /proc/dma-map")


def test_what_a_byte_costs(images):
    """By PIO the cost of a byte does not fall with the size of the request; by DMA it does."""
    with Machine(machine="pc", cpus=1, name="ide-lab", extra=drives(images)) as machine:
        rows = re.findall(r"^ *(\d+) (pio|dma) +(\d+) +(\d+) +(\d+) +[\d.]+ +([\d.]+) ",
                          machine.ok("lab pio-dma"), re.M)
        cost = {(int(size), way): float(cycles) for size, way, *_, cycles in rows}
        assert len(cost) == 10, rows
        for size, way, words, descriptors, irqs, _ in rows:
            counts = (int(words), int(descriptors), int(irqs))
            if way == "pio":  # each word through the CPU, an interrupt for each sector
                assert counts == (int(size) // 2, 0, int(size) // 512)
            else:  # a page: one descriptor, one interrupt; no piece has more than 64 KiB
                pieces = (int(size) + 65535) // 65536
                assert counts == (0, pieces, pieces)
        assert cost[131072, "dma"] * 4 < cost[512, "dma"]
        assert cost[131072, "dma"] * 4 < cost[131072, "pio"]
