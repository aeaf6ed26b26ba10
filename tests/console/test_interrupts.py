"""Interrupts from outside: where they go, and what a line or a device that misbehaves does to us.

A hostile machine's bus lets us drive any IO-APIC pin and write any message, as broken hardware can.
"""

import re

import pytest

import linux_formats as linux
from machine import wait_until
from test_irq_campaigns import BUSY, any_set, in_memory

CPUS = 4
MACHINE = {"cpus": CPUS, "disk": True, "hostile": True, "append": "pci=nomsi"}

AHCI_PIN = 16  # nobody else is on it: see test_disk.py
KEYBOARD_PIN = 1
FREE_PIN = 22
IOAPIC = "/machine/q35/ioapic"


def interrupts(machine):
    return linux.parse_interrupts(machine.ok("cat /proc/interrupts"))


def counts_of(machine, irq):
    return interrupts(machine)["irqs"][irq]["counts"]


def row(machine, name):
    return interrupts(machine)["rows"][name]["counts"]


def drive(machine, pin, level):
    machine.bus_command(f"set_irq_in {IOAPIC} unnamed-gpio-in {pin} {level}")


def lives(machine, *expected):
    """After the worst: the prompt, every CPU, the tick, and no report but the expected ones."""
    before = sum(row(machine, "LOC"))
    said = machine.ok("lab latency 1")  # an interrupt to each CPU: an idle one does not tick
    assert said.count("1 interrupts, min ") == interrupts(machine)["cpus"]
    machine.ok("sleep 0.1")
    assert sum(row(machine, "LOC")) > before
    log = machine.ok("dmesg")
    for line in log.splitlines():
        if re.search(r"BUG|WARN|panic|assertion", line):
            assert any(word in line for word in expected), line


# ---- /proc/irq --------------------------------------------------------------

def test_directory_of_an_irq(machine):
    names = set(machine.ok(f"ls /proc/irq/{AHCI_PIN}").split())
    assert {"affinity_hint", "effective_affinity", "effective_affinity_list", "node",
            "smp_affinity", "smp_affinity_list", "spurious", "ahci[0000:00:1f.2]"} <= names
    assert machine.ok(f"cat /proc/irq/{AHCI_PIN}/node") == "-1\n"
    assert re.fullmatch(r"count \d+\nunhandled \d+\nlast_unhandled \d+ ms\n",
                        machine.ok(f"cat /proc/irq/{AHCI_PIN}/spurious"))
    assert machine.ok("cat /proc/irq/default_smp_affinity") == "f\n"


def test_disk_interrupts_follow_smp_affinity(machine):
    for cpu in (1, 3, 0, 2):
        machine.ok(f"echo {cpu} > /proc/irq/{AHCI_PIN}/smp_affinity_list")
        assert machine.ok(f"cat /proc/irq/{AHCI_PIN}/smp_affinity") == f"{1 << cpu:x}\n"
        assert machine.ok(f"cat /proc/irq/{AHCI_PIN}/effective_affinity_list") == f"{cpu}\n"
        before = counts_of(machine, AHCI_PIN)
        machine.ok("dd if=/dev/sda of=/dev/null bs=4096 count=10 iflag=direct")
        moved = [b - a for a, b in zip(before, counts_of(machine, AHCI_PIN))]
        assert moved[cpu] >= 10 and sum(moved) == moved[cpu], moved


def test_messages_follow_too(boot, disk):
    m = boot(cpus=2, disks=[disk()])
    irq = next(number for number, irq in interrupts(m)["irqs"].items()
               if irq["chip"].startswith("PCI-MSI"))
    for cpu in (1, 0, 1):
        m.ok(f"echo {1 << cpu:x} > /proc/irq/{irq}/smp_affinity")
        before = counts_of(m, irq)
        m.ok("dd if=/dev/sda of=/dev/null bs=4096 count=10 iflag=direct")
        moved = [b - a for a, b in zip(before, counts_of(m, irq))]
        assert moved[cpu] >= 10 and sum(moved) == moved[cpu], moved


@pytest.mark.parametrize("line,why", [
    ("echo 0 > /proc/irq/16/smp_affinity", "Invalid argument"),
    ("echo 10 > /proc/irq/16/smp_affinity", "Value too large for defined data type"),
    ("echo word > /proc/irq/16/smp_affinity", "Invalid argument"),
    ("echo 3-1 > /proc/irq/16/smp_affinity_list", "Invalid argument"),
    ("echo 99999999999999999999 > /proc/irq/16/smp_affinity_list", "Value too large"),
    ("echo 0 > /proc/irq/default_smp_affinity", "Invalid argument"),
])
def test_refused_masks(machine, line, why):
    before = machine.ok("cat /proc/irq/16/smp_affinity /proc/irq/default_smp_affinity")
    said, status = machine.run(line)
    assert status == 1 and why in said, said
    assert machine.ok("cat /proc/irq/16/smp_affinity /proc/irq/default_smp_affinity") == before


def test_default_affinity_is_for_later_irqs(machine):
    machine.ok("echo 6 > /proc/irq/default_smp_affinity")
    assert machine.ok("cat /proc/irq/default_smp_affinity") == "6\n"
    assert machine.ok(f"cat /proc/irq/{FREE_PIN}/smp_affinity") == "6\n"  # not started yet
    machine.ok("echo f > /proc/irq/default_smp_affinity")


def test_controllers_show_themselves(machine):
    assert "x2APIC" in machine.ok("cat /proc/apic") or "xAPIC" in machine.ok("cat /proc/apic")
    pins = machine.ok("cat /proc/ioapic").splitlines()
    assert len([line for line in pins if re.match(r" *\d+  [0-9a-f]{16}", line)]) == 24


def test_8259s_are_masked_and_the_unused_twins_too(machine):
    said = machine.hmp("info pic")
    assert len(re.findall(r"pic[01]: irr=\S+ imr=ff", said)) == 2, said
    open_pins = {int(pin) for pin in re.findall(r"pin (\d+) .*?\n", said)
                 if f"pin {pin} " in said and "masked" not in
                 re.search(rf"pin {pin} .*", said).group()}
    used = {irq["hwirq"] for irq in interrupts(machine)["irqs"].values() if irq["actions"]}
    assert open_pins == used, said


# ---- messages nobody asked for ------------------------------------------------------------------

def test_messages_to_every_unowned_vector(machine):
    """What a device, or a stray one, could write: counted, ended, one line a second at most."""
    before = row(machine, "ERR")[0]
    owned = {int(v, 16) for v in re.findall(r"0x(\w\w) +\d+ ", machine.ok("cat /proc/ioapic"))}
    sent = 0
    for cpu in range(CPUS):
        for vector in range(0x20, 0xec):
            if vector not in owned:
                machine.bus_write32(0xfee00000 + (cpu << 12), vector)
                sent += 1
    wait_until(lambda: row(machine, "ERR")[0] > before, "an unexpected vector")
    lives(machine)
    arrived = row(machine, "ERR")[0] - before
    assert 0 < arrived <= sent  # two of one vector on one CPU may merge
    told = [float(at) for at in re.findall(r"^\[ *(\d+\.\d+)\] irq: CPU \d+: no handler for vector",
                                           machine.ok("dmesg"), re.M)]
    assert told and all(b - a >= 0.9 for a, b in zip(told, told[1:])), f"a flood: {told}"


def test_nmis_on_every_cpu(machine):
    """The firmware lets only the boot CPU hear them; we programmed all."""
    before = row(machine, "NMI")
    for _ in range(50):
        machine.qmp("inject-nmi")
    wait_until(lambda: all(b > a for a, b in zip(before, row(machine, "NMI"))),
               "an NMI on each CPU")
    after = row(machine, "NMI")
    assert all(b - a <= 50 for a, b in zip(before, after))  # they may merge
    lives(machine)


# ---- lines out of order --------------------------------------------------------------------------

def test_edges_on_a_masked_pin_are_nothing(machine):
    before = interrupts(machine)["irqs"]
    for _ in range(200):
        drive(machine, FREE_PIN, 1)
        drive(machine, FREE_PIN, 0)
    after = interrupts(machine)["irqs"]
    assert FREE_PIN not in after or after[FREE_PIN]["counts"] == before[FREE_PIN]["counts"]
    lives(machine)


def taken_since(machine, before):
    """How many of the keyboard's edges came. A busy host may not have run the CPU that they go to
    before all of them were sent: then they are one, and that comes when the CPU does."""
    wait_until(lambda: sum(counts_of(machine, KEYBOARD_PIN)) > before,
               lambda: f"an edge: {machine.run(f'irq why {KEYBOARD_PIN}')[0]}")
    return sum(counts_of(machine, KEYBOARD_PIN)) - before


def test_storm_of_edges(machine):
    """The keyboard's pin, with nothing typed: each one is taken or merged, none makes two."""
    before = sum(counts_of(machine, KEYBOARD_PIN))
    for _ in range(3000):
        drive(machine, KEYBOARD_PIN, 1)
        drive(machine, KEYBOARD_PIN, 0)
    assert taken_since(machine, before) <= 3000
    lives(machine)


def pulses(machine, pin, count, batch=500):
    """Edges as fast as the bus takes them: answers are read a batch later, not one by one."""
    pair = "".join(f"set_irq_in {IOAPIC} unnamed-gpio-in {pin} {level}\n" for level in (1, 0))
    for start in range(0, count, batch):
        number = min(batch, count - start)
        machine.bus.sendall((pair * number).encode())
        answers, rest = 0, b""
        while answers < 2 * number:
            *lines, rest = (rest + machine.bus.recv(65536)).split(b"\n")
            answers += sum(line.startswith(b"OK") for line in lines)
            assert all(line.startswith((b"OK", b"IRQ")) for line in lines), lines


def host_count(machine, pin):
    """How often the pin rose, as QEMU counted."""
    said = machine.hmp("info irq")
    found = re.search(rf"IRQ statistics for ioapic:\s(?:.*\n)*?\s*{pin}: (\d+)", said)
    return int(found.group(1)) if found else 0


def flood(machine, edges, step):
    """Each edge is taken or merged with one that waits, none is lost on its way in or made two; the
    console answers all along."""
    sent, before = host_count(machine, KEYBOARD_PIN), sum(counts_of(machine, KEYBOARD_PIN))
    for start in range(0, edges, step):
        pulses(machine, KEYBOARD_PIN, step)
        assert machine.ok(f"echo {start}") == f"{start}\n"
    sent = host_count(machine, KEYBOARD_PIN) - sent
    taken = taken_since(machine, before)
    assert sent == edges
    assert taken <= sent
    return sent, taken


def test_edges_by_the_ten_thousand(machine):
    flood(machine, 20000, 4000)
    lives(machine)


@pytest.mark.long
def test_edges_by_the_hundred_thousand(machine):
    sent, taken = flood(machine, 400000, 10000)
    print(f"{sent} edges: {taken} delivered, {sent - taken} coalesced")
    lives(machine)


def test_edges_one_by_one_are_all_taken(machine):
    """None sent before the last was taken: nothing can merge, so the counts must be the same."""
    before, flags = sum(counts_of(machine, KEYBOARD_PIN)), in_memory(KEYBOARD_PIN, *BUSY)
    for number in range(1, 41):
        pulses(machine, KEYBOARD_PIN, 1)
        wait_until(lambda: sum(counts_of(machine, KEYBOARD_PIN)) - before >= number and
                   not any_set(machine, flags), "the edge, and its handler's end")
    assert sum(counts_of(machine, KEYBOARD_PIN)) - before == 40


def test_every_vector_on_every_cpu(machine):
    """Also those that are the kernel's own or a device's: a call that nobody made, a shoot-down of
    nothing, a tick too many. Each is ended, none breaks anything."""
    for cpu in range(CPUS):
        for vector in range(0x20, 0xff):
            machine.bus_write32(0xfee00000 + (cpu << 12), vector)
        assert machine.ok(f"echo {cpu}") == f"{cpu}\n"
    lives(machine)
    assert "served    -" in re.sub(r"served +-", "served    -", machine.ok("cat /proc/apic"))


@pytest.mark.long
def test_a_thousand_nmis_in_a_storm(machine):
    nmi = row(machine, "NMI")
    for _ in range(100):
        pulses(machine, KEYBOARD_PIN, 400)
        for _ in range(10):
            machine.qmp("inject-nmi")
    assert machine.ok("echo alive") == "alive\n"
    assert all(0 < b - a <= 1000 for a, b in zip(nmi, row(machine, "NMI")))
    lives(machine)


def test_nmis_in_a_storm_that_moves(machine):
    """NMIs nest in anything; the line changes its CPU under fire: no edge makes two calls."""
    nmi, calls = row(machine, "NMI"), sum(counts_of(machine, KEYBOARD_PIN))
    for burst in range(12):
        machine.send(f"echo {burst % CPUS} > /proc/irq/{KEYBOARD_PIN}/smp_affinity_list\r")
        for _ in range(100):
            drive(machine, KEYBOARD_PIN, 1)
            drive(machine, KEYBOARD_PIN, 0)
        for _ in range(10):
            machine.qmp("inject-nmi")
        machine.wait_prompt()
    assert taken_since(machine, calls) <= 1200
    wait_until(lambda: all(b > a for a, b in zip(nmi, row(machine, "NMI"))), "NMIs on each CPU")
    assert all(b - a <= 120 for a, b in zip(nmi, row(machine, "NMI")))
    lives(machine)
    machine.ok(f"echo 0-{CPUS - 1} > /proc/irq/{KEYBOARD_PIN}/smp_affinity_list")


def test_line_that_never_falls_is_shut(boot, disk):
    m = boot(cpus=2, disks=[disk()], hostile=True, append="pci=nomsi")
    drive(m, AHCI_PIN, 1)
    m.wait_for_log(f"Disabling IRQ #{AHCI_PIN}")
    log = m.ok("dmesg")
    assert f'irq {AHCI_PIN}: nobody cared (try booting with the "irqpoll" option)' in log
    assert re.search(r"handlers:\n.*\[<0x[0-9a-f]{16}>\] ahci_", log), log
    stopped = counts_of(m, AHCI_PIN)
    assert sum(stopped) >= 100000
    lives(m)
    assert counts_of(m, AHCI_PIN) == stopped
    drive(m, AHCI_PIN, 0)


# ---- machines with less, or more, than usual -----------------------------------------------------

@pytest.mark.parametrize("machine_type,clock", [
    ("q35", "HPET"),
    ("q35,hpet=off", "ACPI PM timer"),
    ("pc,hpet=off,acpi=off", "PIT"),
    ("q35,pit=off", "HPET"),
])
def test_clocks(boot, machine_type, clock):
    m = boot(machine=machine_type, cpus=2)
    assert f"measured against the {clock}\n" in m.ok("dmesg")
    assert int(re.search(r"TSC runs at (\d+)\.", m.ok("dmesg")).group(1)) > 100
    lives_alone = interrupts(m)
    assert lives_alone["cpus"] == (1 if "acpi=off" in machine_type else 2)
    m.ok("sleep 0.1")


def test_cpu_sockets_may_be_empty(boot):
    m = boot(cpus="2,maxcpus=8")
    assert interrupts(m)["cpus"] == 2
    assert "smp: 2 of 2 CPUs are up" in m.ok("dmesg")


@pytest.mark.parametrize("cpus", [3, 8, 64])
def test_cpus(boot, cpus):
    m = boot(cpus=cpus)
    table = interrupts(m)
    assert table["cpus"] == cpus
    assert f"smp: {cpus} of {cpus} CPUs are up" in m.ok("dmesg")
    groups = m.ok("cat /proc/irq/default_smp_affinity").strip().replace(",", "")
    assert int(groups, 16) == (1 << cpus) - 1


def test_noapic_is_refused_in_words(boot):
    m = boot(append="noapic nosmp")
    assert "noapic is refused" in m.ok("dmesg")
    assert interrupts(m)["cpus"] == 1


def test_one_more_acpi_table_and_a_broken_one(boot, tmp_path):
    broken = tmp_path / "broken.aml"
    header = bytearray(b"APIC" + (200).to_bytes(4, "little") + b"\x01\x00" + b"TOPHLF" + b"T" * 20)
    body = bytes([1, 0, 0, 0]) * 2 + bytes([0, 0] * 78)  # a MADT of entries that are 0 long
    broken.write_bytes(bytes(header) + body)
    m = boot(cpus=2, extra=["-acpitable", f"file={broken}"])
    assert interrupts(m)["cpus"] == 2
    assert "ACPI: APIC: a second one, ignored" in m.ok("dmesg")
