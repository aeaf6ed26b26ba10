"""Time: idle CPUs take no ticks, the books of the CPUs' time add up, the timers can be seen."""

import re

import linux_formats as linux
from machine import wait_until

CPUS = 4
MACHINE = dict(cpus=CPUS, nics=["user"], extra=["-device", "edu,addr=5"])
USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL = range(8)
ROWS = 7  # that are counted


def local_timer(machine):
    return linux.parse_interrupts(machine.ok("cat /proc/interrupts"))["rows"]["LOC"]["counts"]


def jiffies(machine):
    return int(re.match(r"jiffies (\d+), 250 a second\n", machine.ok("cat /proc/timers")).group(1))


def busy(machine):
    """In how many ticks' time each CPU did not idle."""
    stat = linux.parse_stat(machine.ok("cat /proc/stat"))
    return [2.5 * (sum(row[:ROWS]) - row[IDLE] - row[IOWAIT])
            for row in (stat[f"cpu{cpu}"] for cpu in range(CPUS))]


def stop(machine, line):
    """Ends the background job that was typed so."""
    job = re.search(rf"^\[(\d+)\] running +{line} &$", machine.ok("jobs"), re.M).group(1)
    machine.ok(f"stop %{job}")


def spent(machine, command):
    """What /proc/stat's first row grew by while a command ran, and its output."""
    before = linux.parse_stat(machine.ok("cat /proc/stat"))["cpu"]
    output = machine.ok(command)
    after = linux.parse_stat(machine.ok("cat /proc/stat"))["cpu"]
    return [b - a for a, b in zip(before, after)], output


def test_idle_cpus_take_no_ticks(machine):
    """As many as they have work for: the console's CPU has some, for as long as the host makes it
    last. Only the others' sleep is free of them, and one CPU sleeps nearly all the time."""
    machine.ok("sleep 2")  # what the boot left to be done
    busy_before, jiffies_before, before = busy(machine), jiffies(machine), local_timer(machine)
    machine.ok("sleep 5")
    jiffies_after, after, busy_after = jiffies(machine), local_timer(machine), busy(machine)
    ticks = [b - a for a, b in zip(before, after)]
    passed = (jiffies_after - jiffies_before) % 2**32
    assert passed >= 5 * 250, "jiffies are caught up when a CPU wakes"
    worked = [b - a for a, b in zip(busy_before, busy_after)]
    assert all(n <= work + passed / 10 for n, work in zip(ticks, worked)), (ticks, worked, passed)
    assert min(ticks) < passed / 50, f"{ticks} of {passed}: work on each CPU all the time"


def test_a_busy_cpu_ticks(machine):
    """A hundred times while it spins, however long a busy host takes for it; an idle one less."""
    machine.ok("run bad spin &")
    before = local_timer(machine)
    for _ in range(60):
        machine.ok("sleep 1")
        ticks = [b - a for a, b in zip(before, local_timer(machine))]
        if max(ticks) >= 100:
            break
    stop(machine, "run bad spin")
    assert max(ticks) >= 100 and max(ticks) > 4 * min(ticks), ticks


def test_each_cpus_rows_add_up_to_the_uptime(machine):
    text = machine.ok("cat /proc/uptime /proc/stat /proc/uptime").splitlines()
    begin, end = (float(text[i].split()[0]) for i in (0, -1))
    stat = linux.parse_stat("\n".join(text[1:-1]) + "\n")
    for cpu in range(CPUS):
        total = sum(stat[f"cpu{cpu}"][:ROWS])
        # Each row is rounded down to a hundredth of a second.
        assert begin * 100 - ROWS - 1 <= total <= end * 100 + 1, (cpu, stat[f"cpu{cpu}"], begin)
        assert stat[f"cpu{cpu}"][STEAL] == 0 and stat[f"cpu{cpu}"][IOWAIT] == 0
    idle = float(text[0].split()[1])
    assert abs(idle * 100 - stat["cpu"][IDLE]) <= (end - begin + 0.1) * 100 * CPUS


def test_a_program_that_computes_is_user_time(machine):
    """Most of what is not idle. A host's pause is booked on whatever it struck: then once more."""
    machine.ok("run bad spin &")
    rows = []

    def is_most():
        rows.append(spent(machine, "sleep 1")[0])
        user, others = rows[-1][USER], sum(rows[-1][what] for what in (SYSTEM, IRQ, SOFTIRQ))
        return user >= 50 and user > others

    wait_until(is_most, lambda: f"user time: {rows}")
    stop(machine, "run bad spin")


def test_interrupts_are_irq_time(machine):
    row, _ = spent(machine, "echo raise 5000 > /proc/driver/edu")
    assert sum(row) > 0
    wait_until(lambda: spent(machine, "echo raise 5000 > /proc/driver/edu")[0][IRQ] >= 1,
               "a hundredth of a second in handlers")


def test_frames_are_softirq_time(machine):
    machine.wait_for_address()
    wait_until(lambda: spent(machine, "ping -q -c 500 -i 0 10.0.2.2")[0][SOFTIRQ] >= 1,
               "a hundredth of a second in softirqs")


def test_timer_list(machine):
    text = machine.ok("cat /proc/timer_list")
    assert text.startswith("Timer List Version: v0.10\n")
    assert re.search(r"^now at \d+ nsecs$", text, re.M)
    assert re.findall(r"^cpu: (\d+)$", text, re.M) == [str(cpu) for cpu in range(CPUS)]
    assert text.count("Clock Event Device: lapic\n") == CPUS
    assert len(re.findall(r" #\d+: <[0-9a-f]{16}>, tick_fire\+0x0, hard$", text, re.M)) == CPUS
    for expires in re.findall(r"expires at (\d+)-(\d+) nsecs \[in -?\d+ to -?\d+ nsecs\]", text):
        assert int(expires[0]) <= int(expires[1])
    assert len(re.findall(r"^  \.tick_stopped   : [01]$", text, re.M)) == CPUS
    wait_until(lambda: re.search(r"^  \.tick_stopped   : 1$", machine.ok("cat /proc/timer_list"),
                                 re.M), "somebody sleeps")
    wait_until(lambda: all(int(n) > 0 for n in re.findall(
        r"^  \.idle_sleeps    : (\d+)$", machine.ok("cat /proc/timer_list"), re.M)),
        "each CPU has slept")


def test_a_short_sleep_is_a_timer(machine):
    def soft():
        return sum(int(n) for n in re.findall(r"\.nr_soft +: (\d+)",
                                              machine.ok("cat /proc/timer_list")))
    before = soft()
    machine.ok("sleep 0.001")
    assert soft() > before
