"""/proc as Linux prints it: each file parses with a parser written for Linux, and is true."""

import re

import pytest

import linux_formats as linux

CPUS = 2
MACHINE = {"cpus": CPUS, "mem": "256M", "disk": True, "nics": ["user"]}


def interrupts(machine):
    return linux.parse_interrupts(machine.ok("cat /proc/interrupts"))


def test_interrupts_has_the_rows_that_linux_has(machine):
    table = interrupts(machine)
    assert table["cpus"] == CPUS
    wanted = ["NMI", "LOC", "SPU", "PMI", "IWI", "RTR", "RES", "CAL", "TLB", "TRM", "THR", "MCE",
              "MCP", "ERR", "MIS"]
    assert [row for row in table["rows"] if row in wanted] == wanted
    assert table["rows"]["LOC"]["text"] == "Local timer interrupts"
    assert table["rows"]["RES"]["text"] == "Rescheduling interrupts"


def test_the_serial_lines_irq_counts_what_we_type(machine):
    def serial(table):
        return [irq for irq in table["irqs"].values() if "ttyS0" in irq["actions"]]

    before = serial(interrupts(machine))
    after = serial(interrupts(machine))
    assert len(before) == 1 and before[0]["hwirq"] == 4 and before[0]["flow"] == "edge"
    assert sum(after[0]["counts"]) > sum(before[0]["counts"])


def test_reading_the_disk_moves_its_irq_and_the_block_softirq(machine):
    def counts():
        disk = [irq for irq in interrupts(machine)["irqs"].values()
                if any(action.startswith("ahci") for action in irq["actions"])]
        assert len(disk) == 1
        return (sum(disk[0]["counts"]),
                sum(linux.parse_softirqs(machine.ok("cat /proc/softirqs"))["BLOCK"]))

    irqs, softirqs = counts()
    machine.ok("dd if=/dev/sda of=/dev/null bs=4096 count=64 iflag=direct")
    more_irqs, more_softirqs = counts()
    assert more_irqs > irqs and more_softirqs > softirqs


def test_softirqs(machine):
    rows = linux.parse_softirqs(machine.ok("cat /proc/softirqs"))
    assert all(len(counts) == CPUS for counts in rows.values())
    assert sum(rows["TASKLET"]) > 0, "the serial line's receiver is a tasklet"
    assert sum(rows["RCU"]) == 0


def test_stat_agrees_with_interrupts(machine):
    before = linux.parse_stat(machine.ok("cat /proc/stat"))
    table = interrupts(machine)
    after = linux.parse_stat(machine.ok("cat /proc/stat"))
    assert {"cpu", "cpu0", "cpu1"} <= before.keys()
    assert before["ctxt"] <= after["ctxt"] and before["intr"][0] < after["intr"][0]
    for number, irq in table["irqs"].items():
        assert before["intr"][1 + number] <= sum(irq["counts"]) <= after["intr"][1 + number]
    softirqs = linux.parse_softirqs(machine.ok("cat /proc/softirqs"))
    assert after["softirq"][0] == sum(after["softirq"][1:])
    assert sum(softirqs["TIMER"]) >= after["softirq"][2]


def test_meminfo(machine):
    memory = linux.parse_meminfo(machine.ok("cat /proc/meminfo"))
    assert 240 * 1024 < memory["MemTotal"] <= 256 * 1024
    assert 0 < memory["MemFree"] < memory["MemTotal"]
    assert memory["MemTotal"] - memory["MemFree"] < 8 * 1024, "more than 8 MiB used at the prompt"


def test_cpuinfo(machine):
    cpus = linux.parse_cpuinfo(machine.ok("cat /proc/cpuinfo"))
    assert len(cpus) == CPUS
    for cpu in cpus:
        assert cpu["vendor_id"] in ("AuthenticAMD", "GenuineIntel")
        assert {"apic", "msr", "tsc", "lm", "nx"} <= set(cpu["flags"].split())


def test_iomem(machine):
    entries = linux.parse_resources(machine.ok("cat /proc/iomem"), 8)
    names = [name for _, _, _, name in entries]
    for wanted in ("System RAM", "Kernel code", "Kernel data", "Kernel bss", "IOAPIC 0",
                   "Local APIC"):
        assert wanted in names, f"/proc/iomem lacks {wanted}"
    ram = sum(end - start + 1 for _, start, end, name in entries if name == "System RAM")
    assert 250 << 20 < ram <= 256 << 20
    code = [(depth, start, end) for depth, start, end, name in entries if name == "Kernel code"]
    assert len(code) == 1 and code[0][0] == 1, "the kernel's code lies inside System RAM"


def test_ioports(machine):
    names = [name for _, _, _, name in linux.parse_resources(machine.ok("cat /proc/ioports"), 4)]
    for wanted in ("pic1", "pic2", "serial", "PCI conf1", "keyboard"):
        assert wanted in names, f"/proc/ioports lacks {wanted}"


def test_dma(machine):
    assert linux.parse_dma(machine.ok("cat /proc/dma"))[4] == "cascade"


def test_uptime_advances(machine):
    up, idle = linux.parse_uptime(machine.ok("cat /proc/uptime"))
    later_up, later_idle = linux.parse_uptime(machine.ok("cat /proc/uptime"))
    assert later_up >= up > 0 and later_idle >= idle


def test_version(machine):
    assert re.match(r"tophalf version \S+ ", machine.ok("cat /proc/version"))


def test_kallsyms_holds_what_the_kernel_runs(machine):
    symbols = linux.parse_kallsyms(machine.ok("cat /proc/kallsyms"))
    names = {name for _, _, name in symbols}
    assert {"kernel_main", "interrupt", "irq_dispatch_system", "cpus"} <= names
    assert all(address >= 0xFFFFFFFF80000000 for address, _, _ in symbols)


def test_net_dev(machine):
    devices = linux.parse_net_dev(machine.ok("cat /proc/net/dev"))
    assert "eth0" in devices


def test_diskstats_counts_what_dd_reads(machine):
    before = linux.parse_diskstats(machine.ok("cat /proc/diskstats"))["sda"]
    machine.ok("dd if=/dev/sda of=/dev/null bs=4096 count=16 iflag=direct")
    after = linux.parse_diskstats(machine.ok("cat /proc/diskstats"))["sda"]
    assert after["sectors_read"] - before["sectors_read"] >= 128
    assert after["reads"] > before["reads"] and after["in_flight"] == 0


@pytest.mark.parametrize("name", ["smp_affinity", "smp_affinity_list", "effective_affinity",
                                  "effective_affinity_list", "affinity_hint", "node", "spurious"])
def test_each_irq_has_its_directory(machine, name):
    for irq in interrupts(machine)["irqs"]:
        text = machine.ok(f"cat /proc/irq/{irq}/{name}")
        if name == "spurious":
            assert re.fullmatch(r"count \d+\nunhandled \d+\nlast_unhandled \d+ ms\n", text)
        elif name.endswith("list"):
            assert re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*\n", text), text
        elif name == "node":
            assert text in ("-1\n", "0\n")
        else:
            assert re.fullmatch(r"[0-9a-f]\n", text), text


def test_affinity_moves_an_irq(machine):
    disk = [number for number, irq in interrupts(machine)["irqs"].items()
            if any(action.startswith("ahci") for action in irq["actions"])][0]
    for cpu in (1, 0):
        machine.ok(f"echo {1 << cpu} > /proc/irq/{disk}/smp_affinity")
        assert machine.ok(f"cat /proc/irq/{disk}/smp_affinity_list") == f"{cpu}\n"
        # A change may wait for an interrupt.
        machine.ok("dd if=/dev/sda of=/dev/null bs=4096 count=4 iflag=direct")
        before = interrupts(machine)["irqs"][disk]["counts"]
        machine.ok("dd if=/dev/sda of=/dev/null bs=4096 count=32 iflag=direct")
        after = interrupts(machine)["irqs"][disk]["counts"]
        assert after[cpu] > before[cpu] and after[1 - cpu] == before[1 - cpu], (before, after)


@pytest.mark.parametrize("mask", ["0", "zz", "", "ffffffffffffffffffffffffffffffffffff", "-1"])
def test_a_bad_affinity_is_refused(machine, mask):
    irqs = interrupts(machine)["irqs"]
    number = min(irqs)
    was = machine.ok(f"cat /proc/irq/{number}/smp_affinity")
    output, status = machine.run(f"echo '{mask}' > /proc/irq/{number}/smp_affinity")
    assert status == 1 and output.count("\n") == 1, output
    assert machine.ok(f"cat /proc/irq/{number}/smp_affinity") == was
