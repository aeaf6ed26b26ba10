"""Memory as people see it: free, pt and the files of /proc, next to each other and next to what the
machine was given; and what happens when there is none left."""

import re

import linux_formats as linux
import pytest

MACHINE = {"cpus": 2, "mem": "256M", "disk": True, "nics": ["user"]}

FREE_HEADER = "               total        used        free      shared  buff/cache   available"
KIB, MIB = 1024, 1024 * 1024


def free(machine, option=""):
    """The numbers of the line `Mem:`, as words."""
    lines = machine.ok(f"free {option}").splitlines()
    assert lines[0] == FREE_HEADER
    assert lines[2].split()[0] == "Swap:"
    # Columns end where their titles end, as procps has it.
    assert re.fullmatch(r"Mem:    ( *\S+){6}", lines[1]) and len(lines[1]) >= len(FREE_HEADER)
    return lines[1].split()[1:]


def memfree(machine):
    return linux.parse_meminfo(machine.ok("cat /proc/meminfo"))["MemFree"]


def test_free_adds_up(machine):
    total, used, unused, shared, cache, available = map(int, free(machine, "-b"))
    assert used + unused == total and shared == cache == 0 and available == unused
    assert total % 4096 == unused % 4096 == 0
    assert abs(int(free(machine)[0]) - total // KIB) <= 1
    assert int(free(machine, "-k")[0]) == total // KIB
    assert int(free(machine, "-m")[0]) == total // MIB


def test_free_for_humans(machine):
    total, used = free(machine, "-h")[:2]
    assert total == "255Mi"
    assert re.fullmatch(r"\d\.\dMi", used)


def test_free_says_what_is_wrong(machine):
    output, status = machine.run("free -x")
    assert status == 2 and "-x" in output


def test_free_agrees_with_meminfo(machine):
    meminfo = linux.parse_meminfo(machine.ok("cat /proc/meminfo"))
    assert int(free(machine)[0]) == meminfo["MemTotal"]
    assert abs(int(free(machine)[2]) - meminfo["MemFree"]) < 256
    assert meminfo["SUnreclaim"] == meminfo["Slab"] > 0
    direct = meminfo["DirectMap4k"] + meminfo["DirectMap2M"] + meminfo["DirectMap1G"]
    assert direct == meminfo["MemTotal"]  # RAM, all of it, and nothing else


def test_buddyinfo_adds_up(machine):
    blocks = 0
    for line in machine.ok("cat /proc/buddyinfo").splitlines():
        words = line.split()
        assert words[:3] == ["Node", "0,", "zone"] and words[3] in ("DMA32", "Normal")
        assert len(words) == 4 + 11
        blocks += sum(int(count) << order for order, count in enumerate(words[4:]))
    assert abs(blocks * 4 - memfree(machine)) < 256


def test_slabinfo(machine):
    lines = machine.ok("cat /proc/slabinfo").splitlines()
    assert lines[0] == "slabinfo - version: 2.1"
    caches = {}
    for line in lines[2:]:
        name, active, objects, size, per_slab, pages, *rest = line.split()
        assert rest[0] == ":" and rest[1] == "tunables" and rest[6] == "slabdata"
        slabs = int(rest[8])
        assert 0 <= int(active) <= int(objects) == slabs * int(per_slab)
        assert int(size) * int(per_slab) <= int(pages) * 4096
        caches[name] = slabs * int(pages) * 4
    assert "kmalloc-64" in caches
    slab = linux.parse_meminfo(machine.ok("cat /proc/meminfo"))["Slab"]
    assert abs(sum(caches.values()) - slab) < 128


def test_no_page_is_writable_and_executable(machine):
    assert machine.ok("pt audit").startswith("0 pages")
    lines = machine.ok("cat /proc/pagetables").splitlines()
    rights = [line.split()[4] for line in lines]
    assert all(re.fullmatch(r"r[w-][x-][g-]", r) for r in rights)
    assert not any(r.startswith("rwx") for r in rights)
    assert sum("x" in r for r in rights) == 1, "one piece of text"
    assert not any(line.endswith(" low") for line in lines)


def test_pt_walk(machine):
    walk = machine.ok("pt walk kernel_main").splitlines()
    assert [line.split("[")[0].strip() for line in walk[:-1]] == ["PML4", "PDPT", "PD", "PT"]
    physical = int(walk[-1].split()[-1], 16)
    assert 0x100000 < physical < 8 * MIB
    alias = machine.ok(f"pt walk {0xffff800000000000 + physical:#x}").splitlines()
    assert int(alias[-1].split()[-1], 16) == physical
    assert "W" not in re.search(r"<(.*)>", alias[-2]).group(1).split(",") and "NX" in alias[-2]


def test_pt_walk_where_nothing_is(machine):
    output, status = machine.run("pt walk 0x1000")
    assert status == 1 and "not mapped" in output
    output, status = machine.run("pt walk boot_stack_guard")
    assert status == 1 and "guard page below the boot stack" in output
    output, status = machine.run("pt walk 0x0123456789abcdef")
    assert status == 1 and "not canonical" in output
    for nonsense in ("walk", "walk nonsense", "walk -1x", "walk 0x1ffffffffffffffff", "jump", ""):
        output, status = machine.run(f"pt {nonsense}")
        assert status == 2, nonsense


def test_vmallocinfo(machine):
    last = 0
    owners = set()
    for line in machine.ok("cat /proc/vmallocinfo").splitlines():
        start, end, size, owner = re.match(r"0x(\w+)-0x(\w+) +(\d+) (\S+) ", line).groups()
        assert last <= int(start, 16) and int(end, 16) - int(start, 16) == int(size)
        last = int(end, 16)
        owners.add(owner.split("+")[0])
    assert "pci_iomap" in owners or any("ioapic" in o or "main" in o for o in owners)


def test_dma_map_shows_who_owns_what(machine):
    def look():
        head, _, *lines = machine.ok("cat /proc/dma-map").splitlines()
        mappings, errors = map(int, re.fullmatch(
            r"mappings (\d+), most at once \d+, unrecorded 0, errors (\d+)", head).groups())
        assert errors == 0
        assert abs(mappings - len(lines)) < 8
        return lines

    lines = look()
    fields = [line.split() for line in lines]
    rings = [f for f in fields if f[3] == "coherent"]
    buffers = [f for f in fields if f[3] == "from-device" and "e1000" in f[5]]
    assert len({f[0] for f in rings}) == 2, "the network card and the disk each have rings"
    assert all(f[4] == "both" for f in rings)
    assert len(buffers) >= 128 and all(f[4] == "device" for f in buffers)
    assert [f[:2] for f in fields] == sorted(f[:2] for f in fields)
    machine.ok("sha256sum /dev/sda", timeout=60)
    assert abs(len(look()) - len(lines)) < 8, "a read leaves mappings behind"


def test_commands_leave_no_memory_behind(machine):
    def round():
        for line in ("ls /proc | wc", "cat /proc/interrupts > /tmp/x", "rm /tmp/x", "ps",
                     "nonsense", "echo a | cat | cat",
                     "dd if=/dev/sda of=/dev/null bs=64k count=16 iflag=direct"):
            machine.run(line)

    round()
    before = memfree(machine)
    for _ in range(15):
        round()
    assert before - memfree(machine) < 128, "kB lost in 105 commands"


def test_each_allocation_may_fail(machine):
    """One failed allocation at each place of a command's way is told; the next one works."""
    for line in ("cat /proc/meminfo", "ls / | wc", "echo a > /tmp/x"):
        complaints = 0
        for number in range(1, 25):
            # One line, as reading a line takes memory too.
            output = machine.output_of(f"echo {number} > /proc/fail-alloc; {line}")
            complaints += "memory" in re.sub("^Mem.*", "", output, flags=re.M)
            machine.output_of("echo 0 > /proc/fail-alloc")
            machine.output_of("echo 0 > /proc/fail-alloc")
        assert complaints > 1, f"{line}: nothing failed"
    assert machine.ok("cat /proc/fail-alloc").splitlines()[0] == "next 0"
    assert "0 failed" in machine.ok("ktest page.every", timeout=60)
    assert not re.search(r"BUG|panic", machine.ok("dmesg"))


@pytest.mark.parametrize("limit, total_mib", [("64M", 64), ("0x4000000", 64), ("100000K", 98)])
def test_mem_option(boot, limit, total_mib):
    m = boot(mem="256M", append=f"mem={limit}")
    total = linux.parse_meminfo(m.ok("cat /proc/meminfo"))["MemTotal"]
    assert (total_mib - 2) * KIB < total <= total_mib * KIB
    ends = [end for _, _, end, name in linux.parse_resources(m.ok("cat /proc/iomem"), 8)
            if name == "System RAM"]
    assert max(ends) < total_mib * MIB


@pytest.mark.parametrize("limit", ["", "1M", "lots", "-64M"])
def test_mem_option_nonsense(boot, limit):
    m = boot(mem="128M", append=f"mem={limit}")
    assert linux.parse_meminfo(m.ok("cat /proc/meminfo"))["MemTotal"] > 120 * KIB
    assert "mem" in m.ok("dmesg | grep -i option")


def test_debug_options(boot, disk):
    m = boot(mem="64M", append="slab_debug=on dma_debug=off", nics=["user"], disks=[disk()])
    assert "not recorded" in m.ok("cat /proc/dma-map")
    assert "0 failed" in m.ok("ktest slab.", timeout=120)
    m.ok("dd if=/dev/sda of=/dev/null bs=64k count=16 iflag=direct")
