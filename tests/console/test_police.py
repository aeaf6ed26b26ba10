"""Mistakes made on purpose: each is told in the expected words, and the kernel goes on."""

import re

import pytest

from machine import wait_until

MACHINE = dict(cpus=4)

# name: (text in the log, more texts)
REPORTS = {
    "sleep-in-isr": ["BUG: scheduling while atomic: break/", r"context d.h.:", "-- interrupted:"],
    "sleep-in-softirq": ["BUG: scheduling while atomic: ", r"context ..s1:"],
    "sleep-under-spinlock": [r"BUG: scheduling while atomic: break/\d+/0x00000001",
                             r"\(break_sleep_lock\) spinlock, thread, taken at break_sleep_under"],
    "gfp-kernel-in-atomic": [r"BUG: kmalloc\(\) called in atomic thread context"],
    "mutex-in-irq": [r"BUG: mutex_lock\w*\(\) called in hard interrupt context"],
    "copy-to-user-in-isr": [r"BUG: copy_to_user\(\) called in hard interrupt context"],
    "double-enable-irq": [r"Unbalanced enable for IRQ \d+"],
    "lock-order": ["WARNING: possible circular locking dependency detected",
                   r"CPU0 +CPU1", r"\] {2}lock\(break_lock_b\);", r"\] {26}lock\(break_lock_a\);",
                   r"\*\*\* DEADLOCK \*\*\*"],
    "lock-circle": ["WARNING: possible circular locking dependency detected",
                    r"-> #2 \(break_mutex_c\)", r"CPU0 +CPU1 +CPU2"],
    "lock-irq-usage": ["WARNING: inconsistent lock state", "<Interrupt>",
                       r"taken in a hard interrupt \(break_irq_lock\)"],
    "lock-irq-inversion": ["WARNING: possible irq lock inversion dependency detected",
                           r"local_irq_disable\(\);", "<Interrupt>"],
    "double-lock": ["WARNING: possible recursive locking detected", "it is the same lock"],
    "unbalanced-unlock": ["WARNING: bad unlock balance detected!", r"\(break_never_taken\)"],
    "flush-under-mutex": ["WARNING: possible circular locking dependency detected",
                          r"\(fn:break_work_function\)"],
    "wait-under-mutex": ["WARNING: possible circular locking dependency detected",
                         r"\(lock\.c:\d+\)", r"\(break_told_mutex\)"],
    "sync-irq-under-mutex": ["WARNING: possible circular locking dependency detected",
                             r"\(fn:break_thread_function\)", r"\(break_thread_mutex\)"],
    "flow-lock-irqs-on": ["WARNING: inconsistent lock state", "<Interrupt>",
                          r"taken in a hard interrupt \(irq_desc\), at: flow_edge"],
    "timer-sync-under-lock": ["WARNING: possible circular locking dependency detected",
                              r"wants lock \(fn:break_timer_function\)",
                              r"-> #1 \(break_timer_lock\) was taken at break_timer_function"],
    "timer-sync-under-irq-lock": [
        "WARNING: possible irq lock inversion dependency detected",
        r"taken in a hard interrupt \(break_handler_lock\), at: break_take_handler_lock",
        r"held with interrupts on \(fn:break_idle_function\)", "<Interrupt>"],
    "timer-sync-in-isr": [r"BUG: del_timer_sync\(\) called in hard interrupt context"],
    "timer-sync-in-itself": [r"BUG: del_timer_sync\(\) called in softirq context",
                             "WARNING: possible recursive locking detected",
                             r"holds lock \(fn:break_own_function\)",
                             r"WARN at kernel/defer/timer\.c:\d+"],
    "hrtimer-cancel-under-lock": ["WARNING: possible circular locking dependency detected",
                                  r"wants lock \(fn:break_hrtimer_function\)",
                                  r"\(break_hrtimer_lock\) was taken at break_hrtimer_function"],
    "tasklet-disable-under-lock": ["WARNING: possible circular locking dependency detected",
                                   r"wants lock \(fn:break_tasklet_function\)",
                                   r"\(break_tasklet_lock\) was taken at break_tasklet_function"],
    "tasklet-disable-in-itself": [r"BUG: tasklet_disable\(\) called in softirq context",
                                  "WARNING: possible recursive locking detected",
                                  r"holds lock \(fn:break_disable_itself\)",
                                  r"WARN at kernel/defer/tasklet\.c:\d+"],
    "use-after-free": [r"was written to after it was freed by break_use_after_free"],
    "double-free": [r"is free already, freed by break_double_free"],
}


def log_of(machine, command):
    """What the log gained while the command ran; the kernel must answer afterwards."""
    before = machine.ok("dmesg").splitlines()
    machine.ok(command)
    assert machine.ok("echo ok") == "ok\n"
    return "\n".join(line for line in machine.ok("dmesg").splitlines() if line not in before)


@pytest.mark.parametrize("name", REPORTS)
def test_mistake_is_told(machine, name):
    said = log_of(machine, f"break {name}")
    for text in REPORTS[name]:
        assert re.search(text, said), f"{text!r} is not in\n{said}"


def test_list_and_wrong_names(machine):
    listed = machine.ok("break")
    for name in REPORTS:
        assert re.search(rf"^{name} ", listed, re.M)
    assert machine.run("break nothing")[1] == 2
    assert machine.run("break irqs-off soon")[1] == 2
    assert machine.run("break lock-order 5")[1] == 2


@pytest.mark.parametrize("what, ms", [("irqs-off", 1), ("irqs-off", 50), ("irqs-off", 500),
                                      ("preempt-off", 50)])
def test_long_section_is_timed_with_both_ends(machine, what, ms):
    function = f"break_{what.replace('-', '_')}"

    def longest():  # where the host makes another section last longer, it has to be tried again
        machine.ok("echo 0 > /proc/latency")
        machine.ok(f"break {what} {ms}")
        shown = machine.ok("cat /proc/latency")
        rows = re.findall(rf"^\d+ +{what} +(\d+)  (\S+)\+0x\w+ -> (\S+)\+0x\w+$", shown, re.M)
        ours = [int(us) for us, begin, end in rows if begin == end == function]
        others = [int(us) for us, begin, end in rows if function not in (begin, end)]
        # Of a millisecond hardly any section is the longest on a busy host; none is shorter then.
        return ours or (ms == 1 and [us for us in others if us >= 1000])

    found = wait_until(longest, lambda: f"{function} in\n{machine.ok('cat /proc/latency')}")
    assert max(found) >= ms * 1000


def test_locks_shows_who_holds_what(machine):
    held = r"thread break \(\d+\):\n #0: \(break_lock\) mutex, thread, taken at cmd_break"

    def seen():  # within two seconds, or once more
        machine.output_of("break hung-task 2 &")
        machine.wait_asleep("break", r"\S+.*")
        return re.search(held, machine.ok("locks"))

    wait_until(seen, "the job's lock")
    assert "break_lock" in machine.ok("cat /proc/lockdep")
    stats = machine.ok("cat /proc/lockdep_stats")
    assert re.search(r"^ police: +on$", stats, re.M)
    assert re.search(r"^ without room: +0$", stats, re.M)


def test_trace_lines_have_context_letters(machine):
    for letters, event in (("d.[hH].", "vector_entry"), (r"\..s\d", "softirq_entry")):
        wait_until(lambda: re.search(rf"^\[\d{{3}}\] {letters} .* {event}: ",
                                     machine.ok("cat /proc/trace"), re.M), f"{event} {letters}")


def told(machine, command, report):
    """What the log gained, once the report is in it: a watchdog that looks too late for a mistake
    of some seconds, as its CPU or the mistake's was not run by the host, looks at the next one."""
    said = []

    def comes():
        said.append(log_of(machine, command))
        return re.search(report, said[-1])

    wait_until(comes, lambda: f"{report!r} is not in\n{said}")
    return said[-1]


def test_soft_lockup(machine):
    machine.ok("echo 1 > /proc/sys/kernel/watchdog_thresh")
    said = told(machine, "break soft-lockup 3",
                r"watchdog: BUG: soft lockup - CPU#3 stuck for \d+s! \[break:\d+\]")
    assert "break_soft_thread" in said
    machine.wait_for_log("watchdog: CPU#3 goes on")


def test_hard_lockup_is_seen_from_another_cpu(machine):
    machine.ok("echo 1 > /proc/sys/kernel/watchdog_thresh")
    said = told(machine, "break hard-lockup 4",
                r"watchdog: Watchdog detected hard LOCKUP on cpu 3 \[break:\d+\]\n.*"
                r"interrupts off for \d+ ms, since break_hard_thread\+0x[^!]*"
                r"rip f{8}\w{8} .* rflags \w{8}")
    said = said[said.index("hard LOCKUP on cpu 3 [break"):]
    flags = re.search(r"rip f{8}\w{8} .* rflags (\w{8})", said)
    assert int(flags[1], 16) & 0x200 == 0
    assert re.search(r"0xf{8}\w{8}  break_hard_thread\+0x", said)
    machine.wait_for_log("watchdog: CPU 3 takes interrupts again")


def test_hung_task_and_idle_cpus_are_not_locked_up(machine):
    machine.ok("echo 1 > /proc/sys/kernel/watchdog_thresh")
    machine.ok("echo 1 > /proc/sys/kernel/hung_task_timeout_secs")
    said = told(machine, "break hung-task 2",
                r"INFO: task break:\d+ blocked for more than \d+ seconds, in completion")
    assert "LOCKUP" not in said and "lockup" not in said
    assert "break_hung_thread" in said
    machine.ok("echo 120 > /proc/sys/kernel/hung_task_timeout_secs")
    machine.ok("echo 10 > /proc/sys/kernel/watchdog_thresh")


def test_settings_refuse_nonsense(machine):
    for name in "watchdog_thresh", "hung_task_timeout_secs", "panic_on_warn":
        assert machine.run(f"echo soon > /proc/sys/kernel/{name}")[1] != 0
    assert machine.run("echo 61 > /proc/sys/kernel/watchdog_thresh")[1] != 0
    assert machine.run("echo 1 > /proc/latency")[1] != 0


def test_stack_overflow_is_the_end(boot):
    with boot(append="panic=exit") as machine:
        machine.send("break stack-overflow\r")
        machine.expect(r"panic: ")
        machine.expect(r"\(break_lock\) mutex, thread, taken at cmd_break")  # held locks are told
        assert machine.wait_end() == 32


def test_panic_on_warn(boot):
    with boot(append="panic=exit panic_on_warn") as machine:
        machine.send("break double-free\r")
        machine.expect(r"panic: panic_on_warn: ")
        assert machine.wait_end() == 32


def test_police_off(boot):
    with boot(append="police=off") as machine:
        assert re.search(r"^ police: +off$", machine.ok("cat /proc/lockdep_stats"), re.M)
        assert machine.run("locks")[1] == 1
        assert re.search(r"^ok 1 police\.", machine.ok("ktest police.the_code"), re.M)
        said = log_of(machine, "break lock-order")
        assert "WARNING" not in said
        said = log_of(machine, "break sleep-under-spinlock")  # told all the same
        assert "BUG: scheduling while atomic" in said
