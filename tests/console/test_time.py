"""Time: idle CPUs take no ticks, the books of the CPUs' time add up, the timers can be seen."""

import re

import linux_formats as linux

CPUS = 4
MACHINE = dict(cpus=CPUS, nics=["user"], extra=["-device", "edu,addr=5"])
USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL = range(8)
ROWS = 7  # that are counted


def local_timer(machine):
    return linux.parse_interrupts(machine.ok("cat /proc/interrupts"))["rows"]["LOC"]["counts"]


def jiffies(machine):
    return int(re.match(r"jiffies (\d+), 250 a second\n", machine.ok("cat /proc/timers")).group(1))


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
    machine.ok("sleep 2")  # what the boot left to be done
    jiffies_before, before = jiffies(machine), local_timer(machine)
    machine.ok("sleep 5")
    jiffies_after, after = jiffies(machine), local_timer(machine)
    ticks = [b - a for a, b in zip(before, after)]
    passed = (jiffies_after - jiffies_before) % 2**32
    assert passed >= 5 * 250, "jiffies are caught up when a CPU wakes"
    assert sum(ticks) < CPUS * passed / 10, ticks
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
    machine.ok("run bad spin &")
    row, _ = spent(machine, "sleep 1")
    stop(machine, "run bad spin")
    assert row[USER] >= 50 and row[USER] > row[SYSTEM] + row[IRQ] + row[SOFTIRQ], row


def test_interrupts_are_irq_time(machine):
    row, _ = spent(machine, "echo raise 50000 > /proc/driver/edu")
    assert row[IRQ] >= 1, row


def test_frames_are_softirq_time(machine):
    machine.wait_for_address()
    row, output = spent(machine, "ping -q -c 3000 -i 0 10.0.2.2")
    assert "3000 received" in output
    assert row[SOFTIRQ] >= 1, row


def test_timer_list(machine):
    text = machine.ok("cat /proc/timer_list")
    assert text.startswith("Timer List Version: v0.10\n")
    assert re.search(r"^now at \d+ nsecs$", text, re.M)
    assert re.findall(r"^cpu: (\d+)$", text, re.M) == [str(cpu) for cpu in range(CPUS)]
    assert text.count("Clock Event Device: lapic\n") == CPUS
    assert len(re.findall(r" #0: <[0-9a-f]{16}>, tick_fire\+0x0, hard$", text, re.M)) == CPUS
    for expires in re.findall(r"expires at (\d+)-(\d+) nsecs \[in -?\d+ to -?\d+ nsecs\]", text):
        assert int(expires[0]) <= int(expires[1])
    assert "1" in re.findall(r"^  \.tick_stopped   : ([01])$", text, re.M), "somebody sleeps"
    assert all(int(n) > 0 for n in re.findall(r"^  \.idle_sleeps    : (\d+)$", text, re.M))


def test_a_short_sleep_is_a_timer(machine):
    def soft():
        return sum(int(n) for n in re.findall(r"\.nr_soft +: (\d+)",
                                              machine.ok("cat /proc/timer_list")))
    before = soft()
    machine.ok("sleep 0.001")
    assert soft() > before
