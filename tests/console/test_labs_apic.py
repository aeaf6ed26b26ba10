"""The controllers' labs: what they print is what the machine did."""

import re

import pytest

MACHINE = {"cpus": 2}


def test_task_priority(machine):
    for _ in range(3):  # the router's classes wrap now and then, and the lab says so
        said, status = machine.run("lab tpr")
        if status == 0:
            break
    lines = said.splitlines()
    low, high = re.findall(r"vector (0x\w\w)", lines[0])
    assert int(low, 16) >> 4 < int(high, 16) >> 4
    steps = {line[:34].strip(): line[34:] for line in lines[1:-1]}
    held = steps["both sent, task priority = class"]
    assert f"{low}: waits, served 0" in held and f"{high}: -    , served 1" in held
    assert f"TPR 0x{low[2]}0  PPR 0x{low[2]}0" in held
    assert f"{low}: -    , served 1" in steps["task priority one class lower"]
    assert f"{low}: -    , served 2" in steps["IF = 0, low twice, high; IF = 1"]
    assert "came first" in lines[-1]


@pytest.mark.parametrize("kind", ["q35", "pc"])
def test_edge_and_level(boot, machine, kind):
    m = machine if kind == "q35" else boot(machine="pc")
    for _ in range(2):  # and the pin is left as it was found
        said = m.ok("lab edge-level")
        rows = [(line[:8].strip(), line[9:53].strip(), int(line.split()[-1]))
                for line in said.splitlines() if re.match(r"(edge|level) ", line)]
        assert rows == [
            ("edge", "raised once, and quieted", 1),
            ("edge", "raised while the pin is masked", 0),
            ("edge", "and unmasked again", 0),
            ("edge", "raised under disable_irq, then enable_irq", 1),
            ("level", "raised once, and quieted", 1),
            ("level", "raised once, quieted by the 4th handler", 4),
            ("level", "raised while the pin is masked", 0),
            ("level", "and unmasked again", 1),
            ("level", "raised under disable_irq, then enable_irq", 1)]
        assert "Remote IRR was set in the handlers of the level, and is clear after EOI" in said
    assert " 0 differences" in m.ok("irq check")


def test_without_an_hpet(boot):
    m = boot(machine="q35,hpet=off")
    said, status = m.run("lab edge-level")
    assert status == 1 and "no HPET" in said


def test_strays(machine):
    said = machine.ok("lab strays")
    assert re.search(r"^0x30.*ERR \+ 1$", said, re.M)
    assert re.search(r"^0xff.*none.*SPU \+ 1$", said, re.M)
    assert re.search(r"^0x27.*ERR \+ 1$", said, re.M) and re.search(r"^0x2f.*ERR \+ 1$", said, re.M)
    assert "ESR 0x80<illegal-register>" in said
    log = machine.ok("dmesg")
    assert "no handler for vector 0x30" in log and "spurious interrupt 7 from the 8259" in log


def test_latency_histogram(machine):
    said = machine.ok("lab latency 200")
    for cpu in range(2):
        part = said.split(f"to CPU {cpu}: ")[1].split("to CPU")[0]
        head, *bins = part.splitlines()
        assert head.startswith("200 interrupts, min ")
        least, average, most = (float(n) for n in re.findall(r"(\d+\.\d+) us", head))
        assert 0 < least <= average <= most
        assert sum(int(line.split()[3]) for line in bins) == 200
    assert machine.run("lab latency 0")[1] == 2


def test_a_secret_in_the_gaps(boot):
    """Time is counted in instructions here: what the host does besides leaves no gaps."""
    m = boot(cpus=1, extra=["-icount", "shift=0"])
    for _ in range(3):  # another secret each time
        said = m.ok("lab timing")
        assert re.search(r"counter .*: 16 of 16 bits right", said), said
        assert re.search(r"ticks .*, 0 ones seen", said), said


def test_coarse_clock(boot):
    m = boot(cpus=2, append="clock=coarse")
    assert "may not read the counter" in m.ok("lab timing")
    assert "0 failed" in m.ok("ktest ring3.time_stamp")
