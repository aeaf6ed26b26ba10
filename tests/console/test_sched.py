"""Threads, as a person sees them: ps, uptime, and the files that they are made of."""

import re

import linux_formats as linux
from machine import wait_until

MACHINE = dict(cpus=2)

PS_LINE = re.compile(r" *(\d+) +(TS|FF|RR|IDL) +(\d+|-) +(\d+) +(-?\d+|-) +(\d+) ([RSDIZ][<N]?) +"
                     r"(\d\d:\d\d:\d\d) (.{16}) (\S.*)")


def ps(machine):
    """{name: fields} from ps."""
    lines = machine.ok("ps").splitlines()
    assert lines[0].split() == ["PID", "CLS", "RTPRIO", "PRI", "NI", "PSR", "STAT", "TIME",
                                "WCHAN", "COMMAND"]
    threads = {}
    for line in lines[1:]:
        match = PS_LINE.fullmatch(line)
        assert match, repr(line)
        pid, policy, priority, pri, nice, cpu, state, _, wait, name = match.groups()
        assert (priority == "-") != (nice == "-"), line
        threads[name] = dict(pid=int(pid), cpu=int(cpu), policy=policy, state=state[0],
                             priority=priority, pri=int(pri), nice=nice, wait=wait.strip())
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
    for _ in range(5):
        machine.ok("echo gone | head -n 1")
    names = {"echo", "head"}
    wait_until(lambda: not names & set(ps(machine)), lambda: f"an end of {set(ps(machine))}")


def test_a_sleeping_job_is_seen(machine):
    machine.ok("sleep 30 &")
    pid = machine.wait_asleep("sleep")
    assert ps(machine)["sleep"]["pid"] == int(pid)
    machine.ok("stop 1")


def test_waiting_for_nothing_is_no_load(machine):
    """Whoever has nothing to do is idle, and nobody blocked: seen at once, but for what just then
    has something to do."""
    def nobody_waits():
        threads = ps(machine)
        return threads["sh"]["state"] in "IR" and \
            all(threads[f"kworker/{cpu}:0"]["state"] in "IR" for cpu in (0, 1)) and \
            not [name for name, thread in threads.items() if thread["state"] == "D"]

    wait_until(nobody_waits, lambda: f"idle threads: {ps(machine)}")


def test_uptime(machine):
    line = machine.ok("uptime").rstrip("\n")
    assert re.fullmatch(r" \d\d:\d\d:\d\d up .*\d min,  load average: \d+\.\d\d, \d+\.\d\d, "
                        r"\d+\.\d\d", line), line


def test_loadavg(machine):
    def agrees():  # a worker may come between the two looks
        line = machine.ok("cat /proc/loadavg").rstrip("\n")
        match = re.fullmatch(r"(\d+\.\d\d) (\d+\.\d\d) (\d+\.\d\d) (\d+)/(\d+) (\d+)", line)
        assert match, line
        running, threads, last = (int(match.group(i)) for i in (4, 5, 6))
        assert 1 <= running <= threads <= last
        return threads == len(machine.ok("ps").splitlines()) - 1
    wait_until(agrees, "as many as ps shows")


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
    assert lines[0].split()[:7] == ["CPU", "NICE", "WORKERS", "IDLE", "RUNNING", "WAITING",
                                    "EXECUTED"]
    pools = [line.split() for line in lines[1:lines.index("")]]
    assert {"0", "1", "any"} <= {pool[0] for pool in pools}
    assert all(int(idle) <= int(workers) for _, _, workers, idle, *_ in pools)
    assert any(line.startswith("events ") for line in lines)


def test_ps_columns_are_chosen(machine):
    lines = machine.ok("ps -o pid,nsw,runtime,comm").splitlines()
    assert lines[0].split() == ["PID", "SWITCHES", "RUNTIME", "COMMAND"]
    assert all(re.fullmatch(r" *\d+ +\d+ +\d+\.\d{6} \S.*", line) for line in lines[1:])
    assert machine.run("ps -o pid,nonsense")[1] == 1


def test_chrt_shows_and_sets(machine):
    machine.ok("sleep 100 &")
    pid = machine.wait_asleep("sleep")
    assert machine.ok(f"chrt -p {pid}") == (f"pid {pid}'s current scheduling policy: SCHED_OTHER\n"
                                            f"pid {pid}'s current scheduling priority: 0\n")
    assert machine.ok(f"chrt -f -p 80 {pid}") == ""
    thread = ps(machine)["sleep"]
    assert (thread["policy"], thread["priority"], thread["pri"]) == ("FF", "80", 120)
    assert machine.ok(f"chrt -v -r -p 7 {pid}") == (
        f"pid {pid}'s new scheduling policy: SCHED_RR\n"
        f"pid {pid}'s new scheduling priority: 7\n")
    machine.ok(f"chrt -i -p 0 {pid}")
    assert ps(machine)["sleep"]["policy"] == "IDL"
    machine.ok(f"chrt -o -p 0 {pid}")
    for wrong in (f"-f -p 100 {pid}", f"-f -p 0 {pid}", f"-o -p 1 {pid}", "-p 99999", "-p x"):
        output, status = machine.run("chrt " + wrong)
        assert status == 1 and output.startswith("chrt: "), wrong
    assert machine.run("chrt")[1] == 2 and machine.run("chrt -z 1 true")[1] == 2
    assert "SCHED_FIFO min/max priority\t: 1/99" in machine.ok("chrt -m")


def test_chrt_runs_a_command(machine):
    rows = machine.ok("chrt -f 42 ps").splitlines()
    assert rows[-1].split()[1:3] == ["FF", "42"]
    assert machine.run("chrt -f 42 nothing-of-the-kind")[1] == 127


def test_taskset(machine):
    machine.ok("sleep 100 &")
    pid = machine.wait_asleep("sleep")
    assert machine.ok(f"taskset -p {pid}") == f"pid {pid}'s current affinity mask: 3\n"
    assert machine.ok(f"taskset -p 2 {pid}").endswith(f"pid {pid}'s new affinity mask: 2\n")
    assert machine.ok(f"taskset -cp 0,1 {pid}") == (f"pid {pid}'s current affinity list: 1\n"
                                                    f"pid {pid}'s new affinity list: 0-1\n")
    for cpu in (0, 1):
        rows = machine.ok(f"taskset -c {cpu} ps").splitlines()
        assert rows[-1].split()[5] == str(cpu)
    for wrong in (f"-p 0 {pid}", f"-cp 77 {pid}", f"-p zz {pid}"):
        assert machine.run("taskset " + wrong)[1] == 1, wrong
    worker = ps(machine)["kworker/0:0"]["pid"]
    assert machine.run(f"taskset -p 2 {worker}")[1] == 1, "it serves its CPU"


def test_nice_and_renice(machine):
    assert machine.ok("nice") == "0\n"
    assert machine.ok("nice -n 5 nice") == "5\n"
    assert machine.ok("nice nice -n -30 nice") == "-20\n"
    machine.ok("sleep 100 &")
    pid = machine.wait_asleep("sleep")
    assert machine.ok(f"renice 7 {pid}") == f"{pid} (process ID) old priority 0, new priority 7\n"
    assert ps(machine)["sleep"]["nice"] == "7"
    assert machine.run("renice x 1")[1] == 2


def test_top(machine):
    text = machine.ok("top -b -n2 -d1")
    assert len(re.findall(r"^top - \d\d:\d\d:\d\d up .*load average: ", text, re.M)) == 2
    cpus = re.findall(r"^%Cpu\(s\):" + ",".join(rf" +([\d.]+) {name}" for name in
                      ("us", "sy", "ni", "id", "wa", "hi", "si", "st")) + "$", text, re.M)
    assert len(cpus) == 2
    for row in cpus:
        assert 99 <= sum(map(float, row)) <= 101, row
    total, running, sleeping, zombies = map(int, re.search(
        r"Tasks: +(\d+) total, +(\d+) running, +(\d+) sleeping, +0 stopped, +(\d+) zombie",
        text).groups())
    assert total == running + sleeping + zombies and running >= 1
    assert re.search(r"^ +\d+ +20 +0 TS +[01] R +[\d.]+ +0:\d\d\.\d\d top ", text, re.M)
    assert machine.run("top -x")[1] == 2


def test_top_goes_on_until_q(machine):
    machine.send("top -d 1\n")
    machine.expect("COMMAND")
    machine.expect("COMMAND")
    machine.send("q")
    machine.wait_prompt()


def test_proc_of_a_thread(machine):
    machine.ok("sleep 100 &")
    pid = machine.wait_asleep("sleep")
    stat = machine.ok(f"cat /proc/{pid}/stat").rstrip("\n")
    assert stat.startswith(f"{pid} (sleep) ")
    fields = stat[stat.index(")") + 2:].split()
    assert len(fields) == 50 and fields[0] in "SD" and fields[15] == "20"
    assert machine.ok(f"cat /proc/{pid}/comm") == "sleep\n"
    assert machine.ok(f"cat /proc/{pid}/wchan").strip() == "nanosleep"
    status = machine.ok(f"cat /proc/{pid}/status")
    assert f"Pid:\t{pid}\n" in status and "Cpus_allowed_list:\t0-1\n" in status
    stack = machine.ok(f"cat /proc/{pid}/stack").splitlines()
    assert any("schedule_hrtimeout_range+0x" in line for line in stack), stack
    assert f"sleep ({pid}, #threads: 1)" in machine.ok(f"cat /proc/{pid}/sched")
    assert machine.run("cat /proc/99999/stat")[1] == 1
    assert str(pid) in machine.ok("ls /proc").split()


def test_run_queues_are_shown(machine):
    debug = machine.ok("cat /proc/sched_debug")
    assert [line for line in debug.splitlines() if line.startswith("cpu#")] == ["cpu#0", "cpu#1"]
    lines = machine.ok("cat /proc/schedstat").splitlines()
    assert lines[0] == "version 15" and len(lines) == 4
    assert all(len(line.split()) == 10 for line in lines[2:])


def test_the_console_lives_beside_a_fifo_loop(boot):
    m = boot(cpus=1)
    m.ok("chrt -f 99 cat /dev/zero > /dev/null &")
    for _ in range(3):
        wait_until(lambda: " FF " in m.ok("ps"), "the loop, which is just being started")
    wait_until(lambda: int(re.search(r"rt_rq.throttles +: (\d+)",
                                     m.ok("cat /proc/sched_debug")).group(1)) > 0, "a throttle")
    assert m.ok("cat /proc/sys/kernel/sched_rt_runtime_us") == "950000\n"
    assert m.run("echo 2000000 > /proc/sys/kernel/sched_rt_runtime_us")[1] == 1


def test_lab_wakeup(machine):
    lines = machine.ok("lab wakeup 50").splitlines()
    assert lines[0].split()[:2] == ["woken", "on"]
    for line, where in zip(lines[1:4], ("the same CPU", "another CPU, idle", "another CPU, busy")):
        assert line.startswith(where)
        least, median, p99, most = map(float, line[len(where):].split()[:4])
        assert 0 < least <= median <= p99 <= most
    assert "10 to 50 us" in lines[-1]
    assert machine.run("lab wakeup 0")[1] == 2
