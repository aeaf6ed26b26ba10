"""Threads, as a person sees them: ps, uptime, and the files that they are made of."""

import re

import linux_formats as linux

MACHINE = dict(cpus=2)

PS_LINE = re.compile(r" *(\d+) +(\d+) (TS|FF|RR|IDL) +(\d+|-) +(-?\d+|-) ([RSDIZ]) +(\d+\.\d{3}) "
                     r"+(\d+) (.{16}) (\S.*)")


def ps(machine):
    """{name: fields} from ps."""
    lines = machine.ok("ps").splitlines()
    assert lines[0].split() == ["PID", "CPU", "CLS", "RTPRI", "NI", "S", "TIME", "SWITCHES",
                                "WCHAN", "COMMAND"]
    threads = {}
    for line in lines[1:]:
        match = PS_LINE.fullmatch(line)
        assert match, repr(line)
        pid, cpu, policy, priority, nice, state, time, switches, wait, name = match.groups()
        assert (priority == "-") != (nice == "-"), line
        threads[name] = dict(pid=int(pid), cpu=int(cpu), policy=policy, state=state,
                             time=float(time), switches=int(switches), wait=wait.strip())
    return threads


def test_ps_shows_every_kind_of_thread(machine):
    threads = ps(machine)
    for cpu in (0, 1):
        assert threads[f"ksoftirqd/{cpu}"]["cpu"] == cpu
        assert threads[f"ksoftirqd/{cpu}"]["wait"] == "softirq"
        assert threads[f"kworker/{cpu}:0"]["cpu"] == cpu
    assert threads["ps"]["state"] == "R"
    pids = [thread["pid"] for thread in threads.values()]
    assert len(set(pids)) == len(pids) and 0 not in pids


def test_ps_wants_no_arguments(machine):
    output, status = machine.run("ps aux")
    assert status == 2 and output.startswith("ps: ")


def test_ended_threads_leave_the_list(machine):
    before = set(ps(machine))
    for _ in range(5):
        machine.ok("true")
    assert len(set(ps(machine)) - before) <= 1


def test_a_sleeping_job_is_seen(machine):
    machine.ok("sleep 30 &")
    job = ps(machine)["sleep"]
    assert job["state"] in "SD" and job["wait"] == "msleep"


def test_waiting_for_nothing_is_no_load(machine):
    threads = ps(machine)
    assert threads["sh"]["state"] in "IR", "it waits for ps, or is just about to"
    assert all(threads[f"kworker/{cpu}:0"]["state"] in "IR" for cpu in (0, 1))
    assert not [name for name, thread in threads.items() if thread["state"] == "D"]


def test_uptime(machine):
    line = machine.ok("uptime").rstrip("\n")
    assert re.fullmatch(r" \d\d:\d\d:\d\d up .*\d min,  load average: \d+\.\d\d, \d+\.\d\d, "
                        r"\d+\.\d\d", line), line


def test_loadavg(machine):
    line = machine.ok("cat /proc/loadavg").rstrip("\n")
    match = re.fullmatch(r"(\d+\.\d\d) (\d+\.\d\d) (\d+\.\d\d) (\d+)/(\d+) (\d+)", line)
    assert match, line
    running, threads, last = (int(match.group(i)) for i in (4, 5, 6))
    assert 1 <= running <= threads <= last
    assert threads == len(ps(machine)), "as many as ps shows"


def test_stat_counts_go_up(machine):
    before = linux.parse_stat(machine.ok("cat /proc/stat"))
    machine.ok("sleep 1")
    after = linux.parse_stat(machine.ok("cat /proc/stat"))
    assert after["ctxt"] > before["ctxt"]
    assert after["processes"] > before["processes"]
    assert after["btime"] == before["btime"]
    idle = 3
    assert after["cpu"][idle] > before["cpu"][idle]
    for cpu in ("cpu", "cpu0", "cpu1"):
        assert all(b <= a for b, a in zip(before[cpu], after[cpu])), cpu


def test_timers_are_listed(machine):
    lines = machine.ok("cat /proc/timers").splitlines()
    assert re.fullmatch(r"jiffies \d+, 250 a second", lines[0])
    assert lines[1].split() == ["CPU", "TICKS", "TO", "FUNCTION"]
    for line in lines[2:]:
        assert re.fullmatch(r" *[01] +-?\d+ [a-z_0-9]+\+0x0", line), line


def test_tasklets_are_counted(machine):
    def runs():
        found = {}
        for line in machine.ok("cat /proc/tasklets").splitlines()[1:]:
            match = re.fullmatch(r" *(\d+) (\S+) +([a-z_0-9]+)\+0x0", line)
            assert match, line
            found[match.group(2)] = int(match.group(1))
        return found
    before = runs()["ttyS0"]
    assert runs()["ttyS0"] > before, "what was typed came through a tasklet"


def test_workqueues(machine):
    lines = machine.ok("cat /proc/workqueues").splitlines()
    assert lines[0].split() == ["CPU", "NICE", "WORKERS", "IDLE", "RUNNING", "WAITING", "EXECUTED"]
    pools = [line.split() for line in lines[1:lines.index("")]]
    assert {"0", "1", "any"} <= {pool[0] for pool in pools}
    for _, _, workers, idle, *_ in pools:
        assert 1 <= int(idle) <= int(workers)
    assert any(line.startswith("events ") for line in lines)
