"""Deferred work as a person meets it: the labs, and mistakes made on purpose."""

import re

import pytest

from machine import Machine, wait_until

EDU = ["-device", "edu,addr=5"]
WAYS = {  # how lab bottomhalves serves an interrupt: where that must run, and may it sleep there
    "handler": ("hard interrupt", "no"),
    "softirq": ("softirq", "no"),
    "tasklet": ("softirq", "no"),
    "irq_poll": ("softirq", "no"),
    "work": (r"kworker/\d+:\d+H", "yes"),
    "work elsewhere": (r"kworker/\d+:\d+H", "yes"),
    "irq thread": (r"irq/\d+-lab", "yes"),
    "polling": ("the requester", "yes"),
}


@pytest.fixture(scope="module")
def four():
    with Machine(name="deferral", cpus=4, extra=EDU) as machine:
        yield machine


def table(said, title):
    """The rows of the table whose first title this is, as {name: rest of the row}."""
    lines = said[said.index(title):].split("\n")[1:]
    rows = {}
    for line in lines[:next(i for i, text in enumerate(lines) if not text.strip())]:
        rows[line[:14].strip()] = line[14:]
    return rows


def check_bottomhalves(said, ways):
    latency = table(said, "served by      runs in")
    cost = table(said, "served by      top half us")
    assert set(latency) == set(cost) == set(WAYS)
    for name in ways:
        where, sleeps = WAYS[name]
        assert re.match(rf" {where} +{sleeps} ", latency[name]), (name, latency[name])
        assert cost[name].split()[-1] == "0", f"{name} lost events: {cost[name]}"
        assert int(cost[name].split()[3]) > 0, (name, cost[name])
    assert "The order handler, softirq, tasklet" in said


def test_one_interrupt_in_every_way(four):
    said, status = four.run("lab bottomhalves 50")
    assert status == 0, said
    check_bottomhalves(said, WAYS)
    # The device is its driver's again, and works.
    four.ok("echo raise 5 > /proc/driver/edu")
    assert "interrupts 5" in four.ok("cat /proc/driver/edu")


def test_one_interrupt_in_every_way_by_wire_on_one_cpu():
    with Machine(name="deferral-wire", cpus=1, append="pci=nomsi", extra=EDU) as machine:
        said, status = machine.run("lab bottomhalves 20")
        assert status == 0 and "wire irq" in said, said
        check_bottomhalves(said, set(WAYS) - {"work elsewhere"})
        assert "(one CPU)" in said


def test_without_the_device_it_says_how_to_have_it(machine):
    said, status = machine.run("lab bottomhalves")
    assert status == 1
    assert "no edu device: `make run` has it" in said


def check_tasklets(said):
    assert "one tasklet never on two CPUs" in said and said.rstrip().endswith("lost: 0"), said


def check_works(said):
    match = re.search(r"executed (\d+) \+ cancelled (\d+) = queued (\d+); .* never", said)
    assert match, said
    executed, cancelled, queued = map(int, match.groups())
    assert executed + cancelled == queued and executed > 0
    return queued


def test_tasklets_from_every_cpu(four):
    check_tasklets(four.ok("lab tasklets 50000"))


def test_works_from_every_cpu(four):
    check_works(four.ok("lab works 50000"))


@pytest.mark.long
def test_a_million_operations_on_tasklets():
    with Machine(name="tasklets", cpus=4) as machine:
        said, status = machine.run("lab tasklets 1000000", timeout=1200)
        assert status == 0
        check_tasklets(said)


@pytest.mark.long
def test_a_million_items_of_work():
    with Machine(name="works", cpus=4) as machine:
        queued = 0
        while queued < 1000000:
            said, status = machine.run("lab works 2000000", timeout=1200)
            assert status == 0
            queued += check_works(said)


def test_labs_are_listed_and_unknown_ones_refused(four):
    said = four.ok("lab")
    for name in ("bottomhalves", "tasklets", "works"):
        assert re.search(rf"^{name} ", said, re.M)
    assert four.run("lab nonsense")[1] == 1
    assert four.run("lab works 0")[1] == 1


# ---- mistakes -----------------------------------------------------------------------------------

def by_ksoftirqd(machine):
    """Servings in ksoftirqd so far, of all CPUs."""
    rows = re.findall(r"^ +\d+ +\d+ +\d+ +(\d+) ", machine.ok("cat /proc/softirq_stat"), re.M)
    return sum(map(int, rows))


@pytest.mark.parametrize("cpus", [1, 2])
def test_softirq_that_raises_itself_for_ever(cpus):
    """The console goes on meanwhile, and ksoftirqd is seen to carry it."""
    with Machine(name="forever", cpus=cpus) as machine:
        before = by_ksoftirqd(machine)
        machine.ok("break softirq-forever 300 &")  # until the machine ends
        assert "alive" in machine.ok("echo alive")
        wait_until(lambda: by_ksoftirqd(machine) > before, "ksoftirqd, who carries it")
        machine.wait_for_log(r"softirq: ksoftirqd/\d+ has not caught up for \d+ s; SPARE took")
        carried = by_ksoftirqd(machine)
        wait_until(lambda: by_ksoftirqd(machine) > carried, "ksoftirqd goes on")


def test_reader_that_does_not_end(four):
    four.ok("echo 1 > /proc/rcu")

    def is_told():  # a host that stops a CPU for as long as the reader reads needs another one
        four.ok("break rcu-stall 3")
        log = four.ok("dmesg")
        # Who it is, and the way there: but for the function it is in, which may have no frame.
        return re.search(r"rcu: INFO: CPU \d+ stalls grace period \d+ for \d+ ticks", log) and \
            re.search(r"rcu: CPU \d+ is in break, preempt_off [1-9]", log) and "cmd_break" in log

    wait_until(is_told, lambda: f"the stall\n{four.ok('dmesg')}")
    four.ok("echo 21 > /proc/rcu")
    rcu = four.ok("cat /proc/rcu")
    begun, ended = re.search(r"grace periods (\d+) begun, (\d+) ended", rcu).groups()
    assert int(begun) - int(ended) <= 1
    assert not re.search(r"; 0 stalls", rcu)


def hogs(machine):
    """Items that were found to keep their CPU: by pool, and by function."""
    pools, _, functions = machine.ok("cat /proc/workqueues").replace("\r", "").split("\n\n")
    assert re.search(r" HOGS$", pools, re.M)
    return (sum(int(line.split()[-1]) for line in pools.splitlines()[1:]),
            {name: int(count) for count, name in re.findall(r"^(\d+) +(\S+)$", functions, re.M)})


def test_work_that_keeps_its_cpu(four):
    """Told of the fourth time; each of them is counted."""
    before, _ = hogs(four)
    four.ok("break work-hog")
    told = re.findall(r"workqueue: break_hog_function\S* kept its CPU for more than (\d+) us, "
                      r"(\d+) times", four.ok("dmesg"))
    assert told == [("10000", "4")]
    after, functions = hogs(four)
    assert after >= before + 4
    assert [count for name, count in functions.items() if "break_hog_function" in name] == [4]


def test_nobody_looks_for_hogs():
    with Machine(name="nohogs", append="workqueue.cpu_intensive_thresh_us=0") as machine:
        machine.ok("break work-hog")
        assert hogs(machine) == (0, {})
        assert "kept its CPU" not in machine.ok("dmesg")


# ---- counters and what they mean ----------------------------------------------------------------

SOFTIRQS = ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER",
            "RCU"]


def test_softirqs_are_explained(four):
    hints = four.ok("softirq hints")
    assert re.findall(r"^(\w+) .*high: ", hints, re.M) == SOFTIRQS
    rates = four.ok("softirq 1")
    assert re.findall(r"^(\w+) +\d+ +\d+\.\d{3} +\d+%  ", rates, re.M) == SOFTIRQS
    assert four.run("softirq 0")[1] == 2


def test_a_high_softirq_is_called_high(four):
    """How much a host gets done in a second is its own affair: figure and word must agree."""
    four.ok("lab tasklets 2000000 &")
    said = four.ok("softirq 1")
    four.ok("wait", timeout=600)
    for name, rate, percent, rest in re.findall(
            r"^(\w+) +(\d+) +\d+\.\d{3} +(\d+)%  (.*)$", said, re.M):
        high = int(rate) >= 2000 * 4 or int(percent) >= 10
        assert ("HIGH" in rest) == high, (name, rest)
    assert int(re.search(r"^TASKLET +(\d+)", said, re.M).group(1)) > 0, "at least what is typed"
