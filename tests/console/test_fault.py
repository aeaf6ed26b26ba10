"""Exceptions from the console: the harmless ones come back as a status, the fatal ones are told in
full and end the machine in the way that was asked for; nothing ever ends in silence."""

import os
import re
import subprocess

import pytest

from machine import ELF, TIMEOUT, TOP

MACHINE = {"cpus": 2}

EXIT_PANIC = 0x20

# name, mnemonic, vector, function at rip, what else the first line says
CAUGHT = [
    ("de", "#DE divide error", 0, "fault_divide", ""),
    ("db", "#DB debug", 1, "fault_single_step", "DR6 0x4000<BS>"),
    ("bp", "#BP breakpoint", 3, "fault_breakpoint", ""),
    ("of", "#OF overflow", 4, "fault_overflow", ""),
    ("br", "#BR bound range exceeded", 5, "fault_bound", ""),
    ("ud", "#UD invalid opcode", 6, "fault_opcode", ""),
    ("nm", "#NM device not available", 7, "fault_no_fpu", ""),
    ("ts", "#TS invalid TSS", 10, "fault_tss", "error code 0x28: selector 0x28 of the GDT"),
    ("np", "#NP segment not present", 11, "fault_segment", "error code 0x38: selector 0x38"),
    ("ss", "#SS stack-segment fault", 12, "fault_stack_segment", "error code 0x38: selector 0x38"),
    ("gp", "#GP general protection", 13, "fault_protection", "error code 0x0"),
    ("pf", "#PF page fault", 14, "fault_page",
     "error code 0x2<W>: ring 0 wrote to 0x0000000000000010, where nothing is mapped"),
    ("mf", "#MF x87 floating-point error", 16, "fault_x87", ""),
    ("ac", "#AC alignment check", 17, "fault_alignment", "error code 0x0"),
    ("xm", "#XM SIMD floating-point error", 19, "fault_simd", ""),
]


@pytest.mark.parametrize("name, title, vector, function, more", CAUGHT, ids=[c[0] for c in CAUGHT])
def test_caught(machine, name, title, vector, function, more):
    output, status = machine.run(f"fault {name}")
    lines = output.splitlines()
    assert lines[0].startswith(f"{title}, vector {vector}")
    assert more in lines[0]
    assert re.fullmatch(rf"rip 0x[0-9a-f]{{16}}  {function}\+0x[0-9a-f]+", lines[1])
    assert re.search(r"^cr0 0x[0-9a-f]+  cr2 0x[0-9a-f]{16}  cr3 ", output, re.M)
    assert status == 128 + vector


def test_again_and_again(machine):
    """Nothing stays bent: all of them, ten times, then the kernel's own tests of exceptions."""
    for _ in range(10):
        machine.send("; ".join(f"fault {c[0]} > /dev/null" for c in CAUGHT) + "\r")
        machine.wait_prompt()
    assert "0 failed" in machine.ok("ktest exception.")


def counts(machine):
    """/proc/exceptions: vector -> how often, all CPUs together."""
    header, *rows = machine.ok("cat /proc/exceptions").splitlines()
    cpus = header.split()
    assert cpus == [f"CPU{n}" for n in range(2)]
    found = {}
    for row in rows:
        vector, *rest = row.split()
        found[int(vector.rstrip(":"))] = sum(int(n) for n in rest[:len(cpus)])
        assert len(rest) > len(cpus)
    return found


def test_counted(machine):
    before = counts(machine)
    for name in ("ud", "ud", "gp"):
        machine.run(f"fault {name}")
    after = counts(machine)
    assert {v: after[v] - before[v] for v in after if after[v] != before[v]} == {6: 2, 13: 1}


def test_unknown(machine):
    output, status = machine.run("fault nonsense")
    assert "no such exception" in output and status == 2
    assert len(machine.ok("fault").splitlines()) > len(CAUGHT)


def told(machine):
    """The report of a machine that panicked, once it has ended; checks how it ended."""
    status = machine.wait_end()
    assert status == EXIT_PANIC, machine.story()
    assert machine.end_reason() != "guest-reset"
    text = machine.text.replace("\r", "")
    return text[text.index("panic: "):]


@pytest.mark.parametrize("cpus", [1, 4])
def test_double_fault(boot, cpus):
    machine = boot(append="panic=exit", cpus=cpus)
    machine.send("fault df\r")
    report = told(machine)
    assert "panic: #DF double fault, vector 8, error code 0x0\n" in report
    assert re.search(r"rip 0x[0-9a-f]{16}  fault_double\+0x", report)
    assert re.search(r"rsp 0x0000000000001000 ", report)
    assert re.search(r"^.*CPU \d, thread fault", report, re.M)
    assert re.search(r"  cmd_fault\+0x", report)


def test_stack_overflow(boot):
    machine = boot(append="panic=exit", cpus=2)
    machine.send("fault stack\r")
    report = told(machine)
    assert re.search(r"stack overflow, CR2 0x[0-9a-f]{16} is in the guard page below a kernel "
                     "stack", report)
    assert re.search(r"fault_recurse\S*\+0x[0-9a-f]+  \d+ times", report)
    assert re.search(r"  cmd_fault\+0x", report)


def test_stack_smashing(boot):
    machine = boot(append="panic=exit")
    machine.send("fault smash\r")
    assert "panic: stack smashing in fault_smash+0x" in told(machine)


def test_panic_in_panic(boot):
    machine = boot(append="panic=exit")
    machine.send("fault panic\r")
    report = told(machine)
    assert "panic: now the report itself will fault\n" in report
    assert "another one, inside of the report of: now the report itself will fault\n" in report


def test_a_message_with_an_exceptions_vector_is_called_one(boot):
    """Nobody can tell the two apart by the frame; the local APIC can."""
    m = boot(cpus=1, hostile=True, append="panic=exit")
    m.bus_write32(0xfee00000, 0x13)
    assert m.wait_end() == EXIT_PANIC
    assert re.search(r"panic: #XM .*vector 19", m.text)
    assert "no exception, but a message with its vector" in m.text


def test_panic_reboots(boot):
    machine = boot(append="panic=reboot")
    machine.send("fault df\r")
    machine.wait_end()
    assert "rebooting" in machine.text
    assert machine.end_reason() == "guest-reset"


def test_panic_halts(boot):
    machine = boot(cpus=2)
    machine.send("fault df\r")
    machine.expect("panic: halted")
    assert machine.process.poll() is None
    assert "paused" not in machine.hmp("info status")


def test_no_long_mode(boot):
    machine = boot(cpu="pentium3", wait=False)
    machine.expect("this CPU has no 64-bit mode")


EXIT_EARLY_PANIC = 0x21


def derail(boot, tmp_path, function):
    """A machine whose kernel jumps to an address that is not mapped, instead of into function."""
    path = str(tmp_path / "gdb.sock")
    machine = boot(append="panic=exit", gdb=path, wait=False)
    subprocess.run(
        ["gdb", "-nx", "-q", "-batch", "-x", f"{TOP}/tests/console/gdb_early.py", ELF],
        check=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env=dict(os.environ, GDB_SOCKET=path, AT=function, PYTHONDONTWRITEBYTECODE="1"))
    assert machine.wait_end() == EXIT_EARLY_PANIC, machine.story()
    return machine.text


def test_fault_before_the_first_c(boot, tmp_path):
    assert ("tophalf: exception before the kernel was ready: vector 0x000000000000000e "
            "error 0x0000000000000010 rip 0x0000600000000000 cr2 0x0000600000000000"
            ) in derail(boot, tmp_path, "boot_info_read")


@pytest.mark.parametrize("function", ["cpuid_init", "stack_protector_init"])
def test_fault_early_in_kernel_main(boot, tmp_path, function):
    """Nobody has parsed the options yet: panic=exit is obeyed all the same."""
    report = derail(boot, tmp_path, function)
    assert re.search(r"panic: #PF page fault, vector 14, error code 0x10<I>: ring 0 ran "
                     r"0x0000600000000000, where nothing is mapped", report)
    assert "(none yet)" in report


def nmi_count(machine):
    row = re.search(r"^ *NMI:((?: +\d+)+)", machine.ok("cat /proc/interrupts"), re.M)
    return sum(int(n) for n in row.group(1).split())


def test_nmi(boot):
    """A thousand unexpected NMIs: told of, counted (they may merge), survived."""
    machine = boot(cpus=2)
    before = nmi_count(machine)
    for _ in range(1000):
        machine.hmp("nmi")
    assert before < nmi_count(machine) <= before + 2000
    assert "NMI on CPU" in machine.ok("dmesg")
    assert "0 failed" in machine.ok("ktest exception.")


VALID, UNCORRECTED, ENABLED, ADDRESS, CORRUPT = 1 << 63, 1 << 61, 1 << 60, 1 << 58, 1 << 57
IN_PROGRESS, RETURN_IP = 4, 1


def test_machine_check_that_can_be_survived(boot):
    machine = boot(cpus=1)
    status = VALID | UNCORRECTED | ENABLED | ADDRESS | 0x0151
    machine.hmp(f"mce 0 1 {status:#x} {IN_PROGRESS | RETURN_IP:#x} 0x123000 0")
    log = machine.ok("dmesg")
    assert "bank 1: uncorrected error, cache hierarchy" in log and "at 0x123000" in log
    assert machine.ok("echo alive") == "alive\n"


def test_corrected_error_is_found(boot):
    """No exception tells of it; the kernel looks every few seconds, on each CPU."""
    machine = boot(cpus=2)
    machine.hmp(f"mce 1 3 {VALID | ENABLED | ADDRESS | 0x0091:#x} 0 0x456000 0")
    wanted = r"machine check: CPU 1 bank 3: corrected error, memory controller .*at 0x456000"
    machine.wait_for_log(wanted)
    assert len(re.findall(wanted, machine.ok("dmesg"))) == 1


def test_machine_check_that_cannot(boot):
    machine = boot(cpus=2, append="panic=exit")
    status = VALID | UNCORRECTED | ENABLED | CORRUPT | 0x0400
    machine.hmp(f"mce 1 2 {status:#x} {IN_PROGRESS:#x} 0 0")
    report = told(machine)
    assert "panic: #MC machine check" in report
    assert "CPU 1 bank 2: uncorrected error, internal timer" in machine.text


def test_a_caught_fault_tells_its_way(machine):
    output, status = machine.run("fault pf")
    assert status == 128 + 14
    names = [line.split()[1].split("+")[0]
             for line in output.split("backtrace:")[1].splitlines() if line.strip()]
    assert names[0].startswith("fault_page") and names[1:3] == ["exception_catch", "cmd_fault"]


def test_the_four_classes(machine):
    """Where each struck and where it went on, by the CPU's own frames."""
    rows = {line[10:19].strip(): line for line in machine.ok("lab classes").splitlines()[1:-1]}
    for example in ("self-IPI", "INT3", "INT 4", "#PF"):
        saved, next_rip = re.findall(r"\w+\+0x[0-9a-f]+", rows[example])
        assert saved == next_rip, rows[example]
    assert "lab_touch" in rows["#PF"] and "at it again" in rows["#PF"]
    assert rows["#DF"].split()[-1] == "0"
    assert rows["#PF"].startswith("fault ") and rows["INT3"].startswith("trap ")
    before = counts(machine)
    machine.ok("lab classes")
    after = counts(machine)
    assert {v: after[v] - before[v] for v in after if after[v] != before[v]} == {3: 1, 4: 1, 14: 1}


def test_a_fault_is_repaired_and_run_again(machine):
    before = counts(machine)[14]
    said = machine.ok("lab demand")
    assert counts(machine)[14] == before + 4
    first, again, rest = re.split("the same page once more:|written end to end:", said)
    assert re.search(r"entry before   0x0{16}  nothing mapped\n  #PF +CR2 0x\w+010, error 0x0, "
                     r"rip lab_touch\+0x", first)
    assert "the same\n" in first and "read           0, 1 fault\n" in first
    assert "0 faults" in again and "#PF" not in again
    assert "4 faults for 4 pages" in rest
