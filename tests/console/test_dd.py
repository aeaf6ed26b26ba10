"""dd's operands against the host's own dd: the same words, the same status, the same file."""

import os
import re
import subprocess

import pytest

from images import MIB, random_image
from machine import Machine

INPUT, OUTPUT = b"abcdefghij", b"0123456789"
OPERANDS = [
    "", "bs=4", "bs=4 count=2", "bs=3 skip=1 seek=1 conv=notrunc", "bs=1 seek=12", "count=0",
    # more is left out than there is: no error, but said
    "bs=1 skip=9", "bs=1 skip=10", "bs=1 skip=11", "bs=1 skip=11 status=none", "bs=4 skip=3",
    "skip=100 count=0", "bs=1 skip=11 seek=2",
    # appended to, and cut first all the same
    "oflag=append", "oflag=append conv=notrunc", "bs=2 oflag=append seek=2", "oflag=append count=0",
    "oflag=append status=none",
    # bytes instead of blocks
    "bs=4 count=5 iflag=count_bytes", "bs=4 count=8 iflag=count_bytes",
    "bs=4 count=0 iflag=count_bytes", "bs=4 count=99 iflag=count_bytes",
    "bs=2 skip=3 iflag=skip_bytes", "bs=2 skip=1 count=3 iflag=count_bytes,skip_bytes",
    "bs=2 seek=5 oflag=seek_bytes", "bs=2 seek=5 oflag=seek_bytes conv=notrunc",
]
OPERANDS_9_1 = [  # what GNU coreutils have since then
    "bs=4 count=5B", "bs=4 count=3Bx2", "bs=3 count=1kB", "bs=2 skip=3B seek=5B", "bs=1 iseek=2",
    "bs=1 iseek=2 oseek=3", "bs=4 iseek=11B", "bs=4 count=0B",
]


def gnu_dd():
    """The version of the host's dd, None if it is another's."""
    said = subprocess.run(["dd", "--version"], capture_output=True, text=True).stdout
    found = re.match(r"dd \(coreutils\) (\d+)\.(\d+)", said)
    return found and tuple(map(int, found.groups()))


def without_time(said):
    return re.sub(r"copied, .* s, .*/s$", "copied", said, flags=re.M)


def on_the_host(folder, operands):
    (folder / "in").write_bytes(INPUT)
    (folder / "out").write_bytes(OUTPUT)
    done = subprocess.run(["dd", "if=in", "of=out", *operands.split()], cwd=folder,
                          capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    return without_time(done.stderr), done.returncode, (folder / "out").read_bytes().hex(" ")


def on_the_console(machine, operands):
    machine.ok(f"echo -n {INPUT.decode()} > /tmp/in; echo -n {OUTPUT.decode()} > /tmp/out")
    said, status = machine.run(f"dd if=/tmp/in of=/tmp/out {operands}")
    lines = machine.ok("hexdump -C /tmp/out").splitlines()
    data = " ".join(line[10:58].strip() for line in lines)
    return without_time(said.replace("/tmp/", "")), status, " ".join(data.split())


def test_says_and_does_what_the_hosts_does(tmp_path):
    version = gnu_dd()
    if version is None:
        pytest.skip("the host's dd is not GNU's")
    with Machine(name="dd") as machine:
        for operands in OPERANDS + (OPERANDS_9_1 if version >= (9, 1) else []):
            expected = on_the_host(tmp_path, operands)
            assert on_the_console(machine, operands) == expected, operands


def test_pipes_have_no_places():
    """What is piped in is read and left out; what is piped out cannot be sought in."""
    with Machine(name="dd-pipe") as machine:
        assert machine.run("echo -n abcdef | dd bs=1 skip=2 count=3 status=none") == ("cde\n", 0)
        said, status = machine.run("echo -n abc | dd bs=1 skip=5 status=noxfer")
        assert status == 0 and said == ("dd: 'standard input': cannot skip to specified offset\n"
                                        "0+0 records in\n0+0 records out\n")
        said, status = machine.run("dd if=/dev/zero seek=1 bs=1 count=1 status=noxfer")
        assert status == 1 and said == ("dd: 'standard output': cannot seek: Illegal seek\n"
                                        "0+0 records in\n0+0 records out\n")


def test_a_disk_ends_where_it_ends(tmp_path):
    """As GNU's does with a loop device: up to the end one may go, no further, and nothing is cut or
    written there."""
    path = tmp_path / "disk.img"
    data = random_image(path, MIB)
    records = "0+0 records in\n0+0 records out\n"
    with Machine(name="dd-disk", disks=[str(path)]) as machine:
        assert machine.run("dd if=/dev/sda skip=2048 count=1 of=/dev/null status=noxfer") == \
            (records, 0)
        assert machine.run("dd if=/dev/sda skip=2049 count=1 of=/dev/null status=noxfer") == \
            (f"dd: /dev/sda: cannot skip: Invalid argument\n{records}", 1)
        assert machine.run("dd if=/dev/zero of=/dev/sda seek=2049 count=1 status=noxfer") == \
            (f"dd: /dev/sda: cannot seek: Invalid argument\n{records}", 1)
        said, status = machine.run("dd if=/dev/zero of=/dev/sda seek=2048 count=1 status=noxfer")
        assert status == 1 and said.startswith("dd: error writing '/dev/sda': No space left")
        said, status = machine.run("hexdump -s 1048577 /dev/sda")
        assert status == 1 and said == "hexdump: /dev/sda: Invalid argument\n"
        machine.power_off()
    assert path.read_bytes() == data


@pytest.mark.parametrize("operand", ["count=3BB", "skip=2xB", "oflag=count_bytes",
                                     "iflag=seek_bytes", "bs=", "seek=-1", "count=1x"])
def test_refused(refuser, operand):
    said, status = refuser.run(f"dd if=/dev/zero of=/tmp/never {operand} count=1")
    assert status == 1 and said.startswith(f"dd: {operand}: "), said
    assert refuser.run("cat /tmp/never")[1] == 1


@pytest.fixture(scope="module")
def refuser():
    with Machine(name="dd-refuse") as machine:
        yield machine
