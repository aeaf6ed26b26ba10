"""Interrupts that move, and drivers that come and go, under load: every one of them counted.

Each campaign has a short form for every day and a long one, marked so, for make test-long.
"""
import re
import subprocess
import time

import pytest

from machine import ELF, wait_until

CPUS = 4
MACHINE = dict(cpus=CPUS, hostile=True, extra=["-device", "edu,addr=5"])

KEYBOARD_PIN = 1
IOAPIC = "/machine/q35/ioapic"
KERNEL_BASE = 0xffffffff80000000


def irq_of(machine, name):
    line = next(line for line in machine.ok("cat /proc/interrupts").splitlines()
                if re.search(rf"(  |, ){name}", line))
    number, rest = line.split(":", 1)
    return int(number), [int(n) for n in re.match(r"(?: +\d+)+", rest).group().split()]


def used_kib(machine):
    return int(machine.ok("free -k").splitlines()[1].split()[2])


def no_report(machine):
    log = machine.ok("dmesg")
    for words in ("BUG", "WARN", "LEAK", "nobody cared", "lost", "timed out"):
        assert words not in log, [line for line in log.splitlines() if words in line]


# ---- affinity under fire -------------------------------------------------------------------------

def moving(machine, mode, events, moves):
    """As many interrupts as were asked for are handled while their line changes its CPU."""
    machine.ok(f"irq mode edu {mode}")
    irq, before = irq_of(machine, "edu")
    raised = int(re.search(r"raise (\d+)", machine.ok("cat /proc/driver/edu")).group(1))
    rounds = []

    def on_several_cpus():
        start = time.monotonic()
        machine.ok(f"irq shuffle {irq} {moves} > /tmp/moved &")
        machine.ok(f"echo raise {events} > /proc/driver/edu", timeout=1200)
        rounds.append(time.monotonic() - start)
        machine.ok("wait", timeout=1200)
        assert machine.ok("cat /tmp/moved") == f"irq {irq}: moved {moves} times\n"
        text = machine.ok("cat /proc/driver/edu")
        assert int(re.search(r"raise (\d+)", text).group(1)) == raised + events * len(rounds)
        moved = [b - a for a, b in zip(before, irq_of(machine, "edu")[1])]
        print(f"{mode}: {events} events in {rounds[-1]:.1f} s ({events / rounds[-1]:.0f}/s), "
              f"{moves} moves, by CPU {moved}")
        # A message that arrives while the last one's handler runs is taken by another round of it.
        assert len(rounds) * events <= sum(moved) <= 2 * len(rounds) * events, moved
        return sum(n > 0 for n in moved) >= 2

    # One round, if the host lets both of its jobs run at once.
    wait_until(on_several_cpus, "a line that is moved while it interrupts")
    no_report(machine)


@pytest.mark.parametrize("mode", ["intx", "msi"])
def test_moving_line(machine, mode):
    moving(machine, mode, 5000, 500)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["intx", "msi"])
def test_moving_line_long(machine, mode):
    moving(machine, mode, 400000, 10000)


def in_memory(irq, *fields):
    """The physical addresses of a descriptor's fields, as gdb knows them from the kernel's file."""
    words = [word for field in fields
             for word in ("-ex", f"print /x (long)&irq_descs[{irq}].{field}")]
    said = subprocess.run(["gdb", "-nx", "-q", "-batch", *words, ELF],
                          capture_output=True, text=True, check=True).stdout
    return [int(at, 16) - KERNEL_BASE for at in re.findall(r"= (0x[0-9a-f]+)", said)]


BUSY = ("in_progress", "pending", "masked")  # of a descriptor, a byte each


def any_set(machine, places):
    return any(int(machine.bus_command(f"readb {at:#x}")[0], 16) for at in places)


def edges(machine, count, moves):
    """Each edge of a pin is waited for before the next: none is lost, none counted twice. (Those
    that come while the handler runs are one, and while the pin is masked for it, none.)"""
    count_at, *flags = in_memory(KEYBOARD_PIN, "count", *BUSY)

    def total():
        return sum(machine.bus_read32(count_at + 4 * cpu) for cpu in range(CPUS))

    def busy():
        return any_set(machine, flags)

    before = total()
    assert before == sum(irq_of(machine, "i8042")[1])
    machine.ok(f"irq shuffle {KEYBOARD_PIN} {moves} > /tmp/moved &")
    start = time.monotonic()
    for sent in range(1, count + 1):
        machine.bus_command(f"set_irq_in {IOAPIC} unnamed-gpio-in {KEYBOARD_PIN} 1")
        machine.bus_command(f"set_irq_in {IOAPIC} unnamed-gpio-in {KEYBOARD_PIN} 0")
        wait_until(lambda: total() >= before + sent and not busy(), f"edge {sent}", pause=0)
        assert total() == before + sent, f"edge {sent} was counted twice"
    print(f"edge: {count} edges, {count / (time.monotonic() - start):.0f}/s, {moves} moves")
    machine.ok("wait", timeout=1200)
    assert machine.ok("cat /tmp/moved") == f"irq {KEYBOARD_PIN}: moved {moves} times\n"
    no_report(machine)


def test_moving_edges(machine):
    edges(machine, 500, 2000)


@pytest.mark.long
def test_moving_edges_long(machine):
    edges(machine, 50000, 10000)


# ---- drivers that come and go --------------------------------------------------------------------

def rebinding_card(boot, netns, cycles):
    m = boot(cpus=2, prefix=netns.prefix, nics=[netns.nic], append="ip=10.9.0.2/24")
    where = next(line.split()[0] for line in m.ok("driver").splitlines() if " e1000 " in line)[5:]
    netns.run("ping", "-c", "1", "-w", "20", "10.9.0.2")
    flood = subprocess.Popen([*netns.prefix, "ping", "-f", "-q", "10.9.0.2"],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    replies = 0

    def frames():
        line = next(line for line in m.ok("cat /proc/net/dev").splitlines() if "eth0" in line)
        return int(line.split(":")[1].split()[1])

    def cycle(count):
        nonlocal replies
        for i in range(count):
            if i % 10 == 9:  # let it work before it goes: the link takes half a second to come
                wait_until(lambda: frames() >= 20, "frames of the flood")
                replies += frames()
            m.ok(f"driver unbind {where} && driver bind {where}")
            m.run("ip addr add 10.9.0.2/24 dev eth0")
    try:
        cycle(20)
        before = used_kib(m)
        cycle(cycles)
        after = used_kib(m)
    finally:
        flood.terminate()
        flood.communicate(timeout=20)
    print(f"{cycles} times unbound and bound under a flood, {replies} frames seen, "
          f"memory {before} -> {after} KiB")
    assert replies > 0, "the flood never reached the card"
    assert after <= before + 512
    assert "errors 0" in m.ok("cat /proc/dma-map").splitlines()[0]
    no_report(m)
    netns.run("ping", "-c", "1", "-w", "20", "10.9.0.2")


def test_card_comes_and_goes_under_a_flood(boot, netns):
    rebinding_card(boot, netns, 15)


@pytest.mark.long
def test_card_comes_and_goes_under_a_flood_long(boot, netns):
    rebinding_card(boot, netns, 1000)


def rebinding_disk(boot, disk, cycles):
    m = boot(cpus=2, disks=[disk()])
    digest = m.ok("sha256sum /dev/sda")
    failed = 0

    def cycle(count):
        nonlocal failed
        for _ in range(count):
            m.output_of("dd if=/dev/sda of=/dev/null bs=4096 iflag=direct &")
            m.ok("driver unbind 00:1f.2 && driver bind 00:1f.2")
            said = m.output_of("wait")
            failed += "error" in said or "No such device" in said
    cycle(10)
    before = used_kib(m)
    cycle(cycles)
    after = used_kib(m)
    print(f"{cycles} times unbound and bound under reads, memory {before} -> {after} KiB")
    assert after <= before + 512
    assert m.ok("sha256sum /dev/sda") == digest
    assert "errors 0" in m.ok("cat /proc/dma-map").splitlines()[0]
    log = m.ok("dmesg")
    assert "BUG" not in log and "LEAK" not in log and "WARN" not in log


def test_disk_comes_and_goes_under_reads(boot, disk):
    rebinding_disk(boot, disk, 15)


@pytest.mark.long
def test_disk_comes_and_goes_under_reads_long(boot, disk):
    rebinding_disk(boot, disk, 1000)


# ---- a mad line beside a healthy device ----------------------------------------------------------

def test_sharer_of_a_mad_line_loses_nothing(boot):
    """Two devices on a wire, and one of them holds it up for ever: each event of the other is
    handled, before the line is shut by interrupt, after it by polling."""
    m = boot(cpus=2, extra=["-device", "edu,addr=5", "-device", "edu,addr=1"])
    irq, _ = irq_of(m, "edu")

    def raised():
        return [int(n) for n in re.findall(r"raise (\d+)", m.ok("cat /proc/driver/edu"))]

    before = raised()
    m.ok("echo raise 1500 > /proc/driver/edu &")
    m.ok("echo 1 storm > /proc/driver/edu")
    m.wait_for_log(f"Disabling IRQ #{irq}")
    m.ok("echo 250 > /proc/irq/poll_hz")
    assert "Timed out" not in m.ok("wait", timeout=120)
    assert raised()[0] == before[0] + 1500
    m.ok("echo raise 30 > /proc/driver/edu", timeout=120)  # polled for certain
    assert raised()[0] == before[0] + 1530
    m.ok("echo 10 > /proc/irq/poll_hz")
    cure = re.search(r"to mend it: (.*)\n", m.run(f"irq why {irq}")[0]).group(1)
    m.ok(cure)
    m.ok("echo raise 50 > /proc/driver/edu")


# ---- the lab -------------------------------------------------------------------------------------

def test_lab_affinity_measures_both(machine):
    table = machine.ok("lab affinity 200").splitlines()
    assert re.match(r" +CPU 0 +CPU 0 +\d+\.\d\d", table[1])
    assert re.match(r" +CPU 1 +CPU 0 +\d+\.\d\d", table[2])
    assert re.match(r"the other CPU costs \d+\.\d\d us", table[3])
    assert machine.run("lab affinity 0")[1] == 2
