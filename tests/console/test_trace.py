"""The flight recorder: a ring of 256 records per CPU, shown oldest first."""

import re

MACHINE = dict(cpus=2)
RECORD = re.compile(r"^\[(\d{3})\] \S+ +(\d+\.\d{6}) \+(\d+) +(\w+):", re.M)


def records(machine):
    """(CPU, microseconds, cycles behind the record before it) of each record."""
    said = machine.ok("cat /proc/trace")
    found = [(int(cpu), int(time.replace(".", "")), int(cycles))
             for cpu, time, cycles, _ in RECORD.findall(said)]
    assert len(found) == len(said.splitlines()) - 2, said  # nothing but records behind the heading
    return found


def test_a_full_ring_is_shown_in_order(machine):
    machine.ok("ktest softirq")  # more than 256 events, wherever it runs
    found = records(machine)
    times = [time for _, time, _ in found]
    assert times == sorted(times)
    assert all(cycles < 1 << 40 for _, _, cycles in found)  # never behind the one before
    each = [sum(cpu == one for cpu, _, _ in found) for one in (0, 1)]
    # What it overwrites while it prints is left out: the console interrupts one CPU as it goes.
    assert max(each) <= 256 and 100 < max(each), each


def test_what_is_not_recorded_leaves_the_ring_alone(machine):
    machine.ok("ktest softirq")
    machine.ok("echo 0 > /proc/trace")
    first = records(machine)
    machine.ok("ktest softirq")
    assert records(machine) == first
    assert max(sum(cpu == one for cpu, _, _ in first) for one in (0, 1)) == 256
    machine.ok("echo 1 > /proc/trace")
    again = records(machine)
    times = [time for _, time, _ in again]
    assert times == sorted(times) and again != first
