"""Memory that devices may touch: each mistake with it is named, who owns what is shown, and what a
device cannot reach is brought to it."""

import random
import re

import pytest

from images import MIB, sha256
import linux_formats as linux
from machine import BEHIND
from nvme_disk import nvme

MACHINE = dict(cpus=2, disk=True, nics=["user"], extra=["-device", "edu,addr=9"], dma_misuse=True)

# break NAME: what the report says, and, where there is a second party, who had mapped it.
MISTAKES = {
    "dma-double-map": (r"mapped although a device owns it already: break \[0x\w+, \+512\) "
                       r"from-device by break_double_map\+", "break_dma_begin"),
    "dma-map-stack": (r"refused, the memory is not from kmalloc or the page allocator: break "
                      r"\[0xffffc0\w+, \+64\) from-device by break_map", None),
    "dma-map-freed": (r"refused, the memory was freed: break .* by break_map", None),
    "dma-unmap-size": (r"unmapped with another size: break \[0x\w+, \+1024\) from-device by "
                       r"break_unmap_size\+", "break_dma_begin"),
    "dma-unmap-direction": (r"unmapped with another direction: break \[0x\w+, \+2048\) to-device "
                            r"by break_unmap_direction\+", "break_dma_begin"),
    "dma-unmap-twice": (r"unmapped, but is not mapped \(unmapped twice\?\): break .* by "
                        r"break_unmap_twice\+", None),
    "dma-unmap-foreign": (r"unmapped by another device than mapped it: break-other .* by "
                          r"break_unmap_foreign\+", "break_dma_begin"),
    "dma-unmap-coherent": (r"is coherent memory: dma_free_coherent gives it back: break .* by "
                           r"break_unmap_coherent\+", "break_unmap_coherent"),
    "dma-sync-beyond": (r"synced beyond the end of the mapping: break \[0x\w+, \+2049\) "
                        r"from-device by break_sync_beyond\+", "break_dma_begin"),
    "dma-free-mapped": (r"freed although a device owns it, and left alone: break \[0x\w+, \+2048\) "
                        r"from-device by break_free_mapped\+", "break_dma_begin"),
    "dma-write-mapped": (r"the CPU wrote to it while the device owned it: break \[0x\w+, \+2048\) "
                         r"to-device by break_write_mapped\+", "break_dma_begin"),
}


def errors(machine):
    return int(re.search(r"errors (\d+)", machine.ok("cat /proc/dma-map"))[1])


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named(machine, name):
    """One report each, with both call sites; afterwards nothing is mapped that was not before."""
    what, mapped_by = MISTAKES[name]
    before = errors(machine)
    machine.ok("dmesg -c > /dev/null")
    machine.ok(f"break {name}")
    log = machine.ok("dmesg")
    assert len(re.findall(rf"DMA-API: {what}", log)) == 1, log
    assert log.count("DMA-API: ") == (1 if mapped_by is None else 2), log
    if mapped_by:
        assert re.search(rf"DMA-API:   mapped: break .* by {mapped_by}\+0x", log), log
    assert errors(machine) == before + 1
    assert not re.search(r"^break", machine.ok("cat /proc/dma-map"), re.M)


def test_beyond_the_mask_and_no_copy(machine):
    """Refused, never cut to fit; a driver sees an error, and it is none of its mistakes."""
    before = errors(machine)
    machine.ok("break dma-beyond-mask")
    assert re.search(r"dma: break reaches up to 0xfff, the buffer lies at 0x\w{4,}, and there is "
                     r"no memory for a copy that it can reach: not mapped", machine.ok("dmesg"))
    assert errors(machine) == before


def test_what_a_driver_leaves_mapped(boot):
    """Its memory goes with it: that is told at the free, and the mapping at the end."""
    machine = boot(extra=["-device", "edu,addr=9"], dma_misuse=True)
    machine.ok("echo leave dma > /proc/driver/edu")
    machine.ok("dmesg -c > /dev/null")
    output, status = machine.run("driver unbind 00:09.0")
    log = machine.ok("dmesg")
    assert status == 1 and "leaves 1 DMA mappings behind" in log
    assert re.search(r"DMA-API: freed although a device owns it, and left alone: 0000:00:09.0 .* "
                     r"by edu_remove\+", log), log
    machine.ok("driver bind 00:09.0")


def test_strict_can_be_switched(machine):
    assert "strict" not in machine.ok("cat /proc/dma-map").splitlines()[0]
    machine.ok("echo strict > /proc/dma-map")
    assert machine.ok("cat /proc/dma-map").splitlines()[0].endswith(", strict")
    before = errors(machine)
    machine.ok("dd if=/dev/zero of=/dev/sda bs=64K count=8 seek=8 oflag=direct status=none")
    machine.ok("sha256sum /dev/sda")
    assert errors(machine) == before  # the disk's driver writes to nothing that it lent
    machine.ok("echo on > /proc/dma-map")
    assert "strict" not in machine.ok("cat /proc/dma-map").splitlines()[0]
    assert machine.run("echo off > /proc/dma-map")[1] == 1


def map_costs(machine, mode):
    """lab map-cost: {(pages, pieces): ticks for a page}, and that a large piece is worth it."""
    said = machine.ok("lab map-cost")
    assert f"translation: {mode}," in said and f"(translation: {mode}): yes for one large" in said
    rows = re.findall(r"^ *(\d+) (?:(\d+) pieces|one piece) +(\d+) +(\d+) +(\d+) +(\d+) +\d+%$",
                      said, re.M)
    costs = {(int(pages), int(pieces or 1)): int(both) for pages, pieces, _, _, both, _ in rows}
    assert list(costs) == [(1, 1), (4, 4), (4, 1), (16, 16), (16, 1), (64, 64), (64, 1),
                           (256, 256), (256, 1)]
    assert all(int(row[2]) + int(row[3]) <= int(row[4]) + 1 for row in rows)
    assert costs[256, 1] * 4 < costs[1, 1] and costs[256, 1] < costs[256, 256]
    return costs


def test_what_a_mapping_costs(machine):
    map_costs(machine, {"": "none", "pt": "pass-through"}.get(BEHIND, BEHIND))


# ---- what a device cannot reach -----------------------------------------------------------------


def copies(machine):
    """(mappings that were copied since boot, refused for want of memory)."""
    return tuple(int(n) for n in re.search(r"since boot (\d+), .* memory (\d+)",
                                           machine.ok("cat /proc/dma-bounce")).groups())


def test_more_memory_than_devices_reach(boot, tmp_path):
    """6 GiB, an IDE controller with 32 address lines and a device with 28: what lies above is
    brought to them, in both directions, none of it cut; what needs no copy gets none."""
    paths, data = [], []
    for i in range(3):
        paths.append(tmp_path / f"{i}.img")
        data.append(bytearray(random.Random(60 + i).randbytes(2 * MIB)))
        paths[i].write_bytes(data[i])
    m = boot(machine="pc", mem="6G", append="loglevel=6", cpus=2, disks=[str(paths[1])], extra=[
        "-drive", f"if=ide,format=raw,file={paths[0]}", "-device", "edu,addr=9",
        *nvme(paths[2])])
    assert copies(m)[0] <= 1  # hda was looked at for partitions
    for size in ("4K", "64K", "4M"):  # disks with 64 address lines
        for i, name in ((1, "sda"), (2, "nvme0n1")):
            assert m.ok(f"dd if=/dev/{name} bs={size} iflag=direct status=none | "
                        "sha256sum").split()[0] == sha256(data[i])
    assert copies(m)[0] <= 1
    for size in ("4K", "64K", "4M"):
        before = copies(m)[0]
        assert m.ok(f"dd if=/dev/hda bs={size} iflag=direct status=none | "
                    "sha256sum").split()[0] == sha256(data[0])
        assert copies(m)[0] - before >= 2 * MIB // (64 << 10)
    m.ok("dd if=/dev/hda of=/dev/hda bs=1M seek=1 count=1 iflag=direct oflag=direct status=none")
    data[0][MIB:] = data[0][:MIB]
    before = copies(m)[0]
    for size in (1, 100, 4000):
        m.ok(f"echo stream {size} > /proc/driver/edu")
    m.ok("echo copy 4000 > /proc/driver/edu")
    assert copies(m) == (before + 6, 0)
    places = re.findall(r"streams \d+ bytes at 0x(\w+)", m.ok("dmesg"))
    assert len(places) == 3 and all(int(place, 16) > 1 << 28 for place in places)
    ring = re.search(r"^0000:00:09.0 +0x(\w+) +(\d+) coherent", m.ok("cat /proc/dma-map"), re.M)
    assert int(ring[1], 16) + int(ring[2]) <= 1 << 28
    m.power_off()
    assert paths[0].read_bytes() == data[0]


def test_everything_copied(boot, tmp_path):
    """swiotlb=force: disks and card work on copies, so each of them syncs and unmaps before it
    looks; and (strict) nobody writes to what is theirs. Behind an IOMMU there are no copies."""
    data = []
    for i in range(2):
        data.append(bytearray(random.Random(70 + i).randbytes(2 * MIB)))
        (tmp_path / f"{i}.img").write_bytes(data[i])
    m = boot(cpus=2, append="swiotlb=force dma_debug=strict", nics=["user"],
             disks=[str(tmp_path / "0.img")], extra=nvme(tmp_path / "1.img"))
    for i, name in enumerate(("sda", "nvme0n1")):
        before = copies(m)[0]
        for size in ("4K", "64K", "4M"):
            assert m.ok(f"dd if=/dev/{name} bs={size} iflag=direct status=none | "
                        "sha256sum").split()[0] == sha256(data[i])
        m.ok(f"dd if=/dev/{name} of=/dev/{name} bs=1M seek=1 count=1 oflag=direct status=none")
        data[i][MIB:] = data[i][:MIB]
        assert BEHIND or copies(m)[0] - before >= 3 * 2 * MIB // (64 << 10)
    m.wait_for_address()
    assert " 0% packet loss" in m.ok("ping -c 5 -i 0.01 -s 1400 10.0.2.2")
    m.power_off()
    for i in range(2):
        assert (tmp_path / f"{i}.img").read_bytes() == data[i]


# ---- what a person sees -------------------------------------------------------------------------


def test_who_owns_what(machine):
    """Every mapping: device, address, size, direction, whose turn it is, who mapped it."""
    rows = machine.ok("cat /proc/dma-map").splitlines()
    assert re.match(r"mappings \d+, most at once \d+, unrecorded 0, errors \d+", rows[0])
    assert rows[1].split() == ["device", "bus", "address", "bytes", "direction", "owner", "mapped",
                               "by"]
    for row in rows[2:]:
        assert re.fullmatch(r"0000:00:\w\w\.\d +0x\w{16} +\d+ +(?:coherent +both|"
                            r"(?:bidirectional|to-device|from-device) +(?:device|cpu)) +\w+\+0x\w+",
                            row), row
    assert {row.split()[0] for row in rows[2:]} >= {"0000:00:09.0", "0000:00:1f.2"}


def test_dma_memory_and_channels(machine):
    """/proc/iomem has each device's registers by its driver's name, and the memory that it shares
    with the CPU by its own; /proc/dma has the cascade."""
    def owners():
        entries = linux.parse_resources(machine.ok("cat /proc/iomem"), 8)
        parents = {}
        for depth, start, end, name in entries:
            parents[depth] = name
            if name.startswith("DMA "):
                assert depth == 1 and parents[0] == "System RAM"
        return [(name, start, end) for _, start, end, name in entries]

    before = owners()
    assert {"ahci", "edu", "DMA 0000:00:1f.2", "DMA 0000:00:09.0"} <= {name for name, *_ in before}
    rings = re.findall(r"^0000:00:09.0 +0x(\w+) +(\d+) coherent", machine.ok("cat /proc/dma-map"),
                       re.M)
    assert ("DMA 0000:00:09.0", int(rings[0][0], 16),
            int(rings[0][0], 16) + int(rings[0][1]) - 1) in before or BEHIND
    machine.ok("driver unbind 00:09.0")
    assert "DMA 0000:00:09.0" not in {name for name, *_ in owners()}
    machine.ok("driver bind 00:09.0")
    assert {name for name, *_ in owners()} == {name for name, *_ in before}
    assert machine.ok("cat /proc/dma") == " 4: cascade\n"
    assert linux.parse_dma(machine.ok("cat /proc/dma")) == {4: "cascade"}
