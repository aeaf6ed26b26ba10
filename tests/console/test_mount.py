"""Disks mounted as trees of files: the boot CD, images of every kind, and what goes wrong."""

import os
import re
import shutil
import subprocess

import pytest

from images import sha256
from machine import ISO, wait_until
from test_cdrom import bad_disc, drive, eject, hold_open, insert, no_harm, slow_drive

LONG = "a name of two hundred letters " * 6 + "and some more.text"
FIXED = ["devtmpfs /dev devtmpfs rw 0 0", "proc /proc proc rw 0 0", "tmpfs /tmp tmpfs rw 0 0"]


def tree(folder):
    """Files of several sizes, below several folders; {path: bytes}."""
    files = {"ReadMe.text": b"hello\n", "empty": b"", "sub/deeper/large": os.urandom(3 << 20),
             LONG: b"long\n", "sub/block": os.urandom(2048), "sub/odd": os.urandom(2049)}
    files |= {f"many/file{i}": b"%d\n" % i for i in range(150)}
    for name, data in files.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "tree" / "link").symlink_to("empty")
    return files


def image(folder, *options):
    if not shutil.which("xorriso"):
        pytest.skip("needs xorriso")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", *options, "-o", f"{folder}/cd.iso",
                    f"{folder}/tree"], check=True, capture_output=True)
    return folder / "cd.iso"


@pytest.fixture
def cd(boot, tmp_path):
    """A machine with the tree's CD, mounted at /mnt, and the files."""
    files = tree(tmp_path)
    m = boot(extra=drive(image(tmp_path, "-R", "-J")))
    m.ok("mount /dev/sr0 /mnt")
    return m, files


def test_boot_cd_agrees_with_the_host(boot, tmp_path):
    if not shutil.which("xorriso"):
        pytest.skip("needs xorriso")
    m = boot(boot="iso")
    m.ok("mount /dev/sr0 /mnt && ls /mnt/boot")
    subprocess.run(["xorriso", "-osirrox", "on", "-indev", ISO, "-extract", "/boot",
                    f"{tmp_path}/boot"], check=True, capture_output=True)
    kernel = (tmp_path / "boot/tophalf.elf").read_bytes()
    assert m.ok("sha256sum /mnt/boot/tophalf.elf").split()[0] == sha256(kernel)
    assert m.ok("cat /mnt/boot/grub/grub.cfg") == (tmp_path / "boot/grub/grub.cfg").read_text()
    no_harm(m)


def test_every_file(cd):
    m, files = cd
    for name in ("ReadMe.text", "empty", "sub/deeper/large", LONG, "sub/block", "sub/odd",
                 "many/file0", "many/file149"):
        assert m.ok(f"sha256sum '/mnt/{name}'").split()[0].lstrip("\\") == sha256(files[name])
    assert m.ok("ls /mnt").splitlines() == sorted([LONG, "ReadMe.text", "empty", "link", "many",
                                                   "sub"])
    assert sorted(m.ok("ls /mnt/many").split()) == sorted(f"file{i}" for i in range(150))
    listing = m.ok("ls -l /mnt/sub").splitlines()
    assert [line.split()[-2:] for line in listing] == [["2048", "block"], ["-", "deeper"],
                                                       ["2049", "odd"]]
    assert listing[0].startswith("-r--r--r--") and listing[1].startswith("dr-xr-xr-x")


def test_names_that_cannot_be_looked_at(boot, tmp_path):
    """ls -l names each, with the reason, shows the others, and fails: below two long folders some
    names make a path that is too long."""
    first, second = "a" * 240, "b" * 240
    folder = tmp_path / "tree" / first / second
    folder.mkdir(parents=True)
    for name in ("above", "m" * 40, "n" * 40, "zero"):
        (folder / name).touch()
    m = boot(extra=drive(image(tmp_path, "-R")))
    m.ok("mount /dev/sr0 /mnt")
    output, status = m.run(f"ls -l /mnt/{first}/{second}")
    unknown = [line for c in "mn" for line in (
        f"ls: cannot access '{c * 40}': File name too long", f"-????????? ? {c * 40}")]
    assert [re.sub(" +", " ", line) for line in output.splitlines()] == \
        ["-r--r--r-- 0 above", *unknown, "-r--r--r-- 0 zero"]
    assert status == 1
    assert m.ok(f"ls /mnt/{first}/{second}").splitlines() == ["above", "m" * 40, "n" * 40, "zero"]


def test_commands_below_it(cd):
    m, files = cd
    assert m.ok("head -n 1 /mnt/ReadMe.text") == "hello\n"
    assert m.ok("cat /mnt//sub/../ReadMe.text") == "hello\n"
    assert m.ok("wc -c /mnt/sub/deeper/large").split()[0] == str(3 << 20)
    assert m.ok("hexdump -C -n 5 /mnt/ReadMe.text").startswith("00000000  68 65 6c 6c 6f ")
    large = files["sub/deeper/large"]
    assert m.ok("dd if=/mnt/sub/deeper/large bs=1000 skip=3 count=1000 status=none | sha256sum") \
        .split()[0] == sha256(large[3000:1003000])
    assert m.ok("cp /mnt/sub/odd /tmp/odd && sha256sum /tmp/odd").split()[0] == \
        sha256(files["sub/odd"])
    m.send("cat /mnt/Re\t")  # completion
    m.expect("cat /mnt/ReadMe.text ")
    m.send("\r")
    m.expect("hello")
    m.wait_prompt()


@pytest.mark.parametrize("line,status,said", [
    ("cat /mnt/nothing", 1, "No such file or directory"),
    ("cat /mnt/ReadMe.text/x", 1, "Not a directory"),
    ("cat /mnt/sub", 1, "Is a directory"),
    ("cat /mnt", 1, "Is a directory"),
    ("cat /mnt/link", 1, "Operation not supported"),
    ("cat /mnt2", 1, "No such file or directory"),
    ("echo x > /mnt/new", 1, "Read-only file system"),
    ("echo x >> /mnt/empty", 1, "Read-only file system"),
    ("rm /mnt/empty", 1, "Read-only file system"),
    ("mount /dev/sr0 /mnt", 1, "already in use"),
    ("mount /dev/sr0 /proc", 1, "already in use"),
    ("mount /dev/sr0 /tmp/x", 1, "one name below /"),
    ("mount /dev/sr0 /", 1, "one name below /"),
    ("mount /dev/sr0 '/a b'", 1, "no blanks"),
    ("mount /dev/nothing /x", 1, "special device does not exist"),
    ("mount /dev/zero /x", 1, "not a block device"),
    ("mount -t ext4 /dev/sr0 /x", 1, "unknown filesystem type"),
    ("mount -o rw /dev/sr0 /x", 2, "read-only"),
    ("mount /dev/sr0", 2, "where"),
    ("mount -t", 2, "-t: of what?"),
    ("mount /dev/sr0 /x -o", 2, "-o: of what?"),
    ("mount /dev/sr0 '/a\\b'", 1, "no blanks"),
    (f"mount /dev/sr0 /{'a' * 31}", 1, "at most 30 letters"),
    ("umount /x", 1, "not mounted"),
    ("umount", 2, "usage"),
])
def test_refused(machine, shared_cd, line, status, said):
    output, was = machine.run(line)
    assert was == status and said in output


@pytest.fixture(scope="module")
def shared_cd(shared, tmp_path_factory):
    """The file's machine has the tree's CD, mounted at /mnt."""
    from machine import Machine
    if shared["machine"] is None:
        folder = tmp_path_factory.mktemp("cd")
        tree(folder)
        shared["machine"] = Machine(extra=drive(image(folder, "-R")), name="test_mount")
        shared["machine"].ok("mount /dev/sr0 /mnt")


def test_shown(cd):
    m, _ = cd
    mounted = "/dev/sr0 /mnt iso9660 ro 0 0"
    assert m.ok("cat /proc/mounts").splitlines() == [*FIXED, mounted]
    said = [line.split()[:4] for line in m.ok("cat /proc/mounts").splitlines()]
    assert m.ok("mount").splitlines() == [
        f"{source} on {point} type {kind} ({options})" for source, point, kind, options in said]
    assert m.ok("cat /proc/filesystems").splitlines() == [
        "nodev\tdevtmpfs", "nodev\tproc", "nodev\ttmpfs", "\tiso9660"]
    assert "mnt" in m.ok("ls /").split()
    assert m.ok("lsblk -n -o NAME,MOUNTPOINTS").split() == ["sr0", "/mnt"]
    m.ok("mount -t iso9660 -o ro /dev/sr0 /twice")
    assert m.ok("cat /twice/ReadMe.text") == "hello\n"
    m.ok("umount /mnt && umount /dev/sr0")
    assert m.ok("cat /proc/mounts").splitlines() == FIXED
    assert m.run("ls /mnt")[1] == 1


def test_many_mounts(cd):
    """More than any buffer holds: each is shown, and each goes again."""
    m, _ = cd
    names = [f"/a{number:029}" for number in range(100)]
    for name in names:
        m.ok(f"mount /dev/sr0 {name}")
    assert m.ok("mount").splitlines()[-100:] == [
        f"/dev/sr0 on {name} type iso9660 (ro)" for name in names]
    for name in reversed(names):
        m.ok(f"umount {name}")
    assert m.ok("cat /proc/mounts").splitlines() == [*FIXED, "/dev/sr0 /mnt iso9660 ro 0 0"]


def test_busy_while_a_file_is_open(cd):
    m, _ = cd
    hold_open(m, "/mnt/sub/deeper/large")
    output, status = m.run("umount /mnt")
    assert status == 1 and "busy" in output
    m.ok("stop %1")
    m.output_of("")
    m.ok("umount /mnt")


def test_names_of_its_own(boot, tmp_path):
    tree(tmp_path)
    m = boot(extra=drive(image(tmp_path, "--norock", "-iso-level", "1")))
    m.ok("mount /dev/sr0 /mnt")
    assert m.ok("cat /mnt/readme.tex") == "hello\n"


def test_from_a_disk(boot, tmp_path):
    """A hybrid image is one wherever it lies."""
    tree(tmp_path)
    m = boot(disks=[str(image(tmp_path, "-R"))])
    m.ok("mount /dev/sda /cd")
    assert m.ok("cat /cd/ReadMe.text") == "hello\n"
    assert m.ok("cat /proc/mounts").splitlines()[-1] == "/dev/sda /cd iso9660 ro 0 0"


def test_no_file_system(boot, tmp_path):
    (tmp_path / "noise.img").write_bytes(os.urandom(1 << 20))
    m = boot(extra=drive(tmp_path / "noise.img"))
    output, status = m.run("mount /dev/sr0 /mnt")
    assert status == 1 and "it has no ISO 9660 volume" in output
    eject(m)
    output, status = m.run("mount /dev/sr0 /mnt")
    assert status == 1 and "No medium found" in output
    assert m.ok("cat /proc/mounts").splitlines() == FIXED


def test_disc_that_goes_away(cd, tmp_path):
    """Its files cannot be read any more, it can be unmounted, and the next one mounted."""
    m, _ = cd
    eject(m)
    assert "Input/output error" in m.run("cat /mnt/sub/deeper/large")[0]
    assert "Input/output error" in m.run("ls /mnt/sub")[0]
    insert(m, tmp_path / "cd.iso")
    assert "Input/output error" in m.run("cat /mnt/ReadMe.text")[0]  # not the one that was mounted
    assert "Device or resource busy" in m.run("cat /dev/sr0")[0]
    m.ok("umount /mnt")
    m.ok("mount /dev/sr0 /mnt")
    assert m.ok("cat /mnt/ReadMe.text") == "hello\n"
    no_harm(m)


def test_driver_that_goes_away(cd):
    m, _ = cd
    m.ok("driver unbind 0000:00:1f.2")
    assert "Input/output error" in m.run("cat /mnt/ReadMe.text")[0]
    m.ok("umount /mnt")
    m.ok("driver bind 0000:00:1f.2")
    m.ok("mount /dev/sr0 /mnt")
    assert m.ok("cat /mnt/ReadMe.text") == "hello\n"
    no_harm(m)


def test_each_allocation_may_fail(cd):
    """What is not to be had is told as that, not as a fault of the disc; the next one works."""
    m, _ = cd
    m.ok("umount /mnt")
    complaints = 0
    for number in range(1, 40):
        m.ok("echo 3 > /proc/sys/vm/drop_caches")
        output = m.output_of(f"echo {number} > /proc/fail-alloc; mount /dev/sr0 /mnt")
        m.output_of("echo 0 > /proc/fail-alloc; echo 0 > /proc/fail-alloc")
        complaints += "memory" in output
        assert re.fullmatch(r"(.*memory.*\n)?", output), output
        assert ("iso9660" in m.ok("cat /proc/mounts")) == (output == "")
        if output == "":
            assert m.ok("cat /mnt/ReadMe.text") == "hello\n"
            m.ok("umount /mnt")
    assert complaints > 5
    no_harm(m)


def test_search_can_be_stopped(boot, tmp_path):
    """A name is looked for in a directory of hundreds of sectors on a slow drive: stopped, it ends
    between two of them."""
    folder = tmp_path / "tree" / "many"
    folder.mkdir(parents=True)
    for number in range(4000):
        (folder / f"{number:0100}").touch()
    m = boot(extra=slow_drive(image(tmp_path, "-R"), 40))
    m.ok("mount /dev/sr0 /mnt && echo sr0 read_ahead_kb 0 > /proc/page_cache")
    pages = int(re.search(r"^sr0 +(\d+)", m.ok("cat /proc/page_cache"), re.M)[1]) // 4

    def cached():
        return int(re.search(r"^sr0 +(\d+)", m.ok("cat /proc/page_cache"), re.M)[1]) // 4 - pages

    m.output_of("cat /mnt/many/nothing &")
    wait_until(lambda: cached() >= 10, "ten pages")
    m.ok("stop %1")
    m.output_of("wait")
    m.output_of("")
    stopped = cached()
    assert "No such file" in m.run("cat /mnt/many/nothing")[0]
    assert stopped < cached()
    m.ok("umount /mnt")  # nobody is left in it
    no_harm(m)


def test_bad_block_of_a_file(boot, tmp_path):
    """A file with a bad block ends at its page with an error; all others are whole."""
    files = tree(tmp_path)
    iso = image(tmp_path, "-R").read_bytes()
    at = iso.index(files["sub/deeper/large"][:2048]) + 100 * 2048
    m = boot(extra=bad_disc(tmp_path / "cd.iso", at // 512))
    m.ok("mount /dev/sr0 /mnt")
    output, status = m.run("dd if=/mnt/sub/deeper/large of=/dev/null bs=2048")
    good = 100 - at // 2048 % 2  # two blocks are a page of the cache
    assert status == 1 and "Input/output error" in output and f"{good}+0 records in" in output
    assert m.ok("sha256sum /mnt/sub/odd").split()[0] == sha256(files["sub/odd"])
    m.ok("umount /mnt")
