"""Partitions: both kinds of tables, disks of their own, and a table that is broken."""

import random
import struct
import uuid
import zlib

import pytest

from images import MIB, digest, sha256
from nvme_disk import nvme

SECTORS = 4 * MIB // 512


def mbr(entries):
    table = b"".join(struct.pack("<B3sB3sII", 0, b"", kind, b"", start, count)
                     for kind, start, count in entries)
    return bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa"


def gpt(partitions, block=512):
    """{block: bytes}: protective MBR, both headers, both tables."""
    blocks, table_blocks = 4 * MIB // block, 128 * 128 // block
    entries = b""
    for start, end, name in partitions:
        entries += uuid.uuid4().bytes + uuid.uuid4().bytes + struct.pack("<QQQ", start, end, 0) + \
            name.encode("utf-16-le").ljust(72, b"\0")
    entries = entries.ljust(128 * 128, b"\0")

    def header(here, there, table):
        fields = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, here, there,
                             2 + table_blocks, blocks - table_blocks - 2, uuid.uuid4().bytes,
                             table, 128, 128, zlib.crc32(entries))
        return fields[:16] + struct.pack("<I", zlib.crc32(fields)) + fields[20:]

    last = blocks - 1
    return {0: mbr([(0xee, 1, last)]), 1: header(1, last, 2), 2: entries,
            last - table_blocks: entries, last: header(last, 1, last - table_blocks)}


def image(path, pieces, seed, block=512):
    data = bytearray(random.Random(seed).randbytes(SECTORS * 512))
    for place, piece in pieces.items():
        data[place * block:place * block + len(piece)] = piece
    path.write_bytes(data)
    return data


def looked(m):
    """The log, when the disk was looked at: a busy host may be at the prompt before that."""
    m.wait_for_log(r"sectors \(4 MiB\)")
    return m.ok("dmesg")


def test_mbr(boot, tmp_path):
    path = tmp_path / "d.img"
    data = image(path, {0: mbr([(0x83, 64, 1000), (0x05, 2000, 4000), (0x83, 7000, 500)]),
                        2000: mbr([(0x83, 10, 300)])}, 1)
    m = boot(disks=[str(path)])
    looked(m)
    assert m.ok("lsblk -n").splitlines() == [
        "sda      8:0    0    4M  0 disk ", "|-sda1   8:1    0  500K  0 part ",
        "|-sda3   8:3    0  250K  0 part ", "`-sda5   8:5    0  150K  0 part "]
    assert "   8        3        250 sda3" in m.ok("cat /proc/partitions")
    for name, start, count in (("sda1", 64, 1000), ("sda3", 7000, 500), ("sda5", 2010, 300)):
        assert m.ok(f"sha256sum /dev/{name}").split()[0] == \
            sha256(data[start * 512:(start + count) * 512])
    # A partition ends where it ends, and counts for itself.
    output, status = m.run("dd if=/dev/zero of=/dev/sda5 bs=64K count=3 oflag=direct status=none")
    assert status == 1 and "No space left on device" in output
    data[2010 * 512:2310 * 512] = bytes(300 * 512)
    rows = {line.split()[2]: line.split()[3:] for line in m.ok("cat /proc/diskstats").splitlines()}
    assert int(rows["sda5"][6]) == 300 and int(rows["sda1"][6]) == 0
    assert int(rows["sda"][6]) == 300 and int(rows["sda5"][8]) == 0
    # Gone with the disk, back with it.
    m.ok("driver unbind 0000:00:1f.2")
    assert m.ok("lsblk") == ""
    m.ok("driver bind 0000:00:1f.2")
    assert "sda5" in m.ok("lsblk")
    m.power_off()
    assert path.read_bytes() == data


def test_gpt(boot, tmp_path):
    path = tmp_path / "d.img"
    data = image(path, gpt([(40, 99, "first"), (2048, 4095, "data")]), 2)
    m = boot(disks=[str(path)], append="loglevel=6")
    assert "sda: 2 partitions (gpt)" in looked(m)
    assert m.ok("sha256sum /dev/sda2").split()[0] == \
        sha256(data[2048 * 512:4096 * 512])


def test_broken_gpt(boot, tmp_path):
    """One bit wrong in the first header: the second serves, and it is said. Both wrong: the disk
    has no partitions, and works."""
    path = tmp_path / "d.img"
    data = image(path, gpt([(40, 99, "first")]), 3)
    data[512 + 60] ^= 1
    path.write_bytes(data)
    m = boot(disks=[str(path)])
    assert "sda: the first GPT is broken, the second one is used" in looked(m)
    assert "sda1" in m.ok("lsblk")
    m.close()
    data[(SECTORS - 1) * 512 + 60] ^= 1
    path.write_bytes(data)
    m = boot(disks=[str(path)])
    assert "sda: partitions not read: a GPT header with a wrong CRC" in looked(m)
    assert "sda1" not in m.ok("lsblk")
    assert digest(m, "dd if=/dev/sda bs=4K count=1 status=none") == sha256(data[:4096])


@pytest.mark.parametrize("kind", ["mbr", "gpt"])
def test_blocks_of_4_kib(boot, tmp_path, kind):
    """Tables count the disk's own blocks, and GPT's header is in the second of them."""
    block = 4096
    path = tmp_path / "d.img"
    pieces = {0: mbr([(0x83, 8, 100), (0x05, 200, 400)]), 200: mbr([(0x83, 10, 30)])} \
        if kind == "mbr" else gpt([(8, 107, "first"), (210, 239, "data")], block)
    data = image(path, pieces, 4, block)
    m = boot(append="loglevel=6", extra=nvme(path, logical_block_size=block,
                                             physical_block_size=block))
    assert f"nvme0n1: 2 partitions ({kind})" in m.ok("dmesg")
    second = "nvme0n1p5" if kind == "mbr" else "nvme0n1p2"
    for name, start, count in (("nvme0n1p1", 8, 100), (second, 210, 30)):
        assert m.ok(f"lsblk -b -n -o SIZE {name}").strip() == str(count * block)
        assert m.ok(f"sha256sum /dev/{name}").split()[0] == \
            sha256(data[start * block:(start + count) * block])
    m.ok(f"dd if=/dev/zero of=/dev/{second} bs=4K seek=29 count=1 oflag=direct status=none")
    m.power_off()
    data[239 * block:240 * block] = bytes(block)
    assert path.read_bytes() == data
