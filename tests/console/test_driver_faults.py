"""The mistakes that drivers make with interrupts, each made on a real device and each noticed."""
import re

import pytest

from machine import wait_until

# Alone on its wire, so that it may be requested as an edge too; its twin shares another's.
MACHINE = dict(cpus=2, extra=["-device", "edu,addr=5"])


def engines(machine):
    text = machine.ok("cat /proc/driver/edu")
    return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)[,;]", text)}


def fault(machine, name):
    machine.ok(f"echo fault {name} > /proc/driver/edu")


def works(machine):
    machine.ok("echo calm > /proc/driver/edu")
    machine.run("irq enable edu")  # where it was shut
    before = engines(machine)["raise"]
    machine.ok("echo raise 20 > /proc/driver/edu")
    assert engines(machine)["raise"] == before + 20
    machine.ok("irq why edu")


def test_three_engines_on_one_interrupt(machine):
    before = engines(machine)
    machine.ok("echo engines > /proc/driver/edu")
    machine.ok("echo copy 4095 > /proc/driver/edu")
    machine.wait_for_log("its fault engine has reported")
    after = engines(machine)
    assert [after[k] - before[k] for k in ("compute", "copy", "raise", "fault")] == [1, 4, 1, 1]
    for line in ("copy 0", "copy 4096", "raise 0", "fault sorrow", "leave it", "nonsense", "copy"):
        assert machine.run(f"echo {line} > /proc/driver/edu")[1] == 1, line


def test_every_fault_is_in_the_table(machine):
    table = machine.ok("cat /proc/driver/edu_faults").splitlines()[1:]
    names = [line.split()[0] for line in table]
    assert names == ["dead", "no-ack", "greedy", "slow", "sleeps", "copies", "window", "ack-all",
                     "edge", "unlocked", "locked"]
    for name in names:
        fault(machine, name)
        assert f"driven by mistake: {name}\n" in machine.ok("cat /proc/driver/edu")
    works(machine)


@pytest.mark.parametrize("name,function", [("sleeps", "mutex_lock"), ("copies", "copy_to_user")])
def test_blocking_in_a_handler(machine, name, function):
    fault(machine, name)
    machine.ok("echo raise 1 > /proc/driver/edu")
    log = machine.ok("dmesg")
    assert re.search(rf"BUG: {function}\w*\(\) called in hard interrupt context", log)
    assert re.search(rf"{function}\w*\+.*\n.*edu_(sleeping|copying)_interrupt\+", log)
    works(machine)


def test_long_handler(machine):
    fault(machine, "slow")
    machine.ok("echo raise 3 > /proc/driver/edu")
    assert re.search(r"irq \d+: edu kept CPU \d for \d\d+ ms: too long", machine.ok("dmesg"))
    irq = re.search(r"irq (\d+),", machine.ok("cat /proc/driver/edu")).group(1)
    row = next(line.split() for line in machine.ok(f"cat /proc/irq/{irq}/handlers").splitlines()
               if line.startswith("edu "))
    assert int(row[3]) >= 50_000_000
    works(machine)


def test_acknowledging_what_was_not_seen_loses_it(machine):
    lost = {}
    for name in ("window", "ack-all"):
        fault(machine, name)
        before = engines(machine)
        machine.ok("echo raise 50 > /proc/driver/edu")
        after = engines(machine)
        assert after["raise"] == before["raise"] + 50
        lost[name] = 50 - (after["copy"] - before["copy"])
    assert lost["ack-all"] == 50
    fault(machine, "window")  # the last one's second interrupt may be under way at the count
    assert lost["window"] <= 1
    works(machine)


def test_level_requested_as_edge_goes_deaf(machine):
    fault(machine, "edge")
    assert re.search(r"\d+-edge +edu", machine.ok("cat /proc/interrupts"))
    assert machine.run("echo raise 3 > /proc/driver/edu")[1] == 1  # timed out
    output, status = machine.run("irq why edu")
    assert status == 1 and "edge" in output and "to mend it:" in output
    works(machine)
    assert re.search(r"\d+-fasteoi +edu", machine.ok("cat /proc/interrupts"))


def test_data_without_a_lock_loses_updates(machine):
    lost = []
    for name in ("unlocked", "locked"):
        fault(machine, name)
        machine.ok("echo tally 300 > /proc/driver/edu")
        machine.wait_for_log(rf"tally \({name}\)")
        lost.append(int(re.findall(rf"tally \({name}\): (\d+) add", machine.ok("dmesg"))[-1]))
    assert lost == [300, 0]
    works(machine)


def test_a_device_that_is_never_acknowledged(machine):
    machine.ok("echo 1 > /proc/irq/21/smp_affinity_list")  # the console lives on CPU 0
    fault(machine, "no-ack")
    machine.send("echo raise 1 > /proc/driver/edu\r")
    machine.wait_prompt()
    before = engines(machine)["raise"]
    wait_until(lambda: engines(machine)["raise"] > before + 100, "it comes again and again")
    assert "nobody cared" not in machine.ok("dmesg")  # each call says it was its
    works(machine)


def test_a_greedy_sharer_hides_a_storm(boot):
    """Two cards' wires in one: what one of them claims without a look, the detector never sees."""
    m = boot(cpus=2, hostile=True, extra=["-device", "edu,addr=5"])
    m.ok("echo 900 1000 > /proc/irq/spurious_rule")
    irq = int(re.search(r"irq (\d+),", m.ok("cat /proc/driver/edu")).group(1))
    pin = f"set_irq_in /machine/q35/ioapic unnamed-gpio-in {irq}"

    def count():
        line = next(line for line in m.ok("cat /proc/interrupts").splitlines() if " edu" in line)
        return sum(int(n) for n in line.split()[1:3])

    m.ok("echo fault greedy > /proc/driver/edu")
    m.bus_command(f"{pin} 1")
    before = count()
    wait_until(lambda: count() > before + 5000, "a storm that nobody ends")
    assert "nobody cared" not in m.ok("dmesg")
    m.bus_command(f"{pin} 0")
    m.ok("echo calm > /proc/driver/edu")
    m.bus_command(f"{pin} 1")
    m.wait_for_log(f"Disabling IRQ #{irq}")
    m.bus_command(f"{pin} 0")


@pytest.mark.parametrize("kind,words", [
    ("irq", 'leaves a handler behind: "edu-left" on irq'),
    ("timer", "leaves a timer behind: edu_mess_timer"),
    ("hrtimer", "leaves a high-resolution timer behind: edu_mess_hrtimer"),
    ("tasklet", "leaves a tasklet behind: edu_mess_tasklet"),
    ("work", "leaves a work item behind: edu_mess_work"),
    ("dma", "leaves 1 DMA mappings behind"),
])
def test_what_a_driver_leaves_behind_is_named(boot, kind, words):
    m = boot(cpus=2, extra=["-device", "edu,addr=5"], dma_misuse=kind == "dma")
    m.ok("driver unbind 00:05.0 && driver bind 00:05.0")
    assert "BUG" not in m.ok("dmesg")
    m.ok(f"echo leave {kind} > /proc/driver/edu")
    if kind == "irq":
        assert "edu-left" in m.ok("cat /proc/interrupts")  # a shared irq that is not freed
    output, status = m.run("driver unbind 00:05.0")
    assert status == 1 and "LEAK: 1 things are left behind" in output
    log = m.ok("dmesg")
    assert words in log and log.count("BUG:") == 1
    assert "edu-left" not in m.ok("cat /proc/interrupts")
    m.ok("driver bind 00:05.0")
    m.ok("echo raise 10 > /proc/driver/edu")


def test_a_command_outlives_its_device(machine):
    """kref: the memory goes with the last who has a pointer to it, the device goes at once."""
    machine.ok("echo raise 10000000 > /proc/driver/edu &")
    wait_until(lambda: "references 2" in machine.ok("cat /proc/driver/edu"), "its reference")
    machine.ok("driver unbind 00:05.0")
    assert "No such device" in machine.ok("wait") + machine.text[-400:]
    machine.ok("driver bind 00:05.0")
    assert "BUG" not in machine.ok("dmesg").rsplit("edu", 1)[0][-300:]
    works(machine)
