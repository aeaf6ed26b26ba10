"""Programs in ring 3: `run`, what it prints of them, and that only they suffer."""

import re
import time

import pytest

from machine import wait_until

MACHINE = {"cpus": 4}

STATUS = {"0": 0, "SIGINT": 130, "SIGILL": 132, "SIGTRAP": 133, "SIGBUS": 135, "SIGFPE": 136,
          "SIGSEGV": 139}
WORDS = {130: "", 132: "Illegal instruction", 133: "Trace/breakpoint trap", 135: "Bus error",
         136: "Floating point exception", 139: "Segmentation fault"}


def misdeeds(machine):
    """What `run bad` says that it can do: name -> status."""
    found = dict(line.split() for line in machine.ok("run bad").splitlines())
    assert len(found) > 30
    return {name: STATUS[end] for name, end in found.items()}


def free_kib(machine):
    return int(re.search(r"^MemFree: +(\d+)", machine.ok("cat /proc/meminfo"), re.M)[1])


def test_hello(machine):
    output, status = machine.run("run hello world")
    assert re.fullmatch(r"hello by SYSCALL, world\nhello by INT 0x80\nI am process \d+\n?", output)
    assert status == 42


def test_cost(machine):
    """Figures of this host, so only that there are some, of both ways in."""
    said = machine.ok("run cost")
    assert re.fullmatch(r"SYSCALL  +[1-9]\d* ticks for getpid\n"
                        r"INT 0x80 [1-9]\d* ticks for getpid\n", said), said


def test_list_and_unknown(machine):
    assert machine.ok("run").split() == ["bad", "cost", "count", "echo", "hello"]
    output, status = machine.run("run nonsense")
    assert "nonsense: no such program" in output and status == 127


def test_pipes_and_files(machine):
    assert machine.ok("echo one two | run echo").split() == ["one", "two"]
    assert machine.ok("run count 3 | run echo").split() == ["1", "2", "3"]
    machine.ok("run count 2 > /tmp/counted")
    assert machine.ok("cat /tmp/counted").split() == ["1", "2"]


def test_each_misdeed_kills_only_the_program(machine):
    for name, wanted in misdeeds(machine).items():
        if wanted in (0, 130):
            continue
        output, status = machine.run(f"run bad {name}")
        if name == "rsp-wild":  # #SS by the manual, #GP in QEMU's TCG
            assert status in (135, 139)
        else:
            assert status == wanted, name
        assert output.strip() == WORDS[status], name
    for name in ("pointers", "flags"):
        machine.ok(f"run bad {name}")
    assert machine.ok("run hello; echo alive").endswith("\nalive\n")


@pytest.mark.parametrize("name, line", [
    ("read-null", r"bad\[\d+\]: segfault at 0 ip 0000000000400[0-9a-f]{3} "
                  r"sp 00007fffffff[0-9a-f]{4} error 4$"),
    ("write-text", r"bad\[\d+\]: segfault at 400[0-9a-f]{3} ip .* error 7$"),
    ("read-kernel", r"bad\[\d+\]: segfault at ffffffff80101000 ip .* error 5$"),
    ("hlt", r"traps: bad\[\d+\] general protection fault ip:400[0-9a-f]{3} sp:7fff[0-9a-f]+ "
            r"error:0$"),
    ("divide", r"traps: bad\[\d+\] trap divide error ip:"),
    ("ud2", r"traps: bad\[\d+\] trap invalid opcode ip:"),
])
def test_told_in_dmesg(machine, name, line):
    time.sleep(1.1)  # such lines are held back to one a second from one place
    machine.ok("dmesg -c > /dev/null")
    machine.run(f"run bad {name}")
    assert re.search(line, machine.ok("dmesg"), re.M)


def test_a_message_with_the_system_calls_vector_is_none(boot):
    """Any device can write one, and a program is no shield: it is ended, counted, and nobody's."""
    m = boot(cpus=1, hostile=True)
    m.ok("run bad spin > /dev/null &")
    for _ in range(20):
        m.bus_write32(0xfee00000, 0x80)
        m.ok("sleep 0.01")  # the program has the CPU
    assert re.search(r"^served +-$", m.ok("cat /proc/apic"), re.M)
    wait_until(lambda: re.search(r"^ERR: +[1-9]", m.ok("cat /proc/interrupts"), re.M), "its count")
    assert "run bad spin" in m.ok("jobs")
    assert "no handler for vector 0x80" in m.ok("dmesg")


@pytest.mark.parametrize("command, begun", [("run count", "3\r?\n"), ("run bad spin", "spin")])
def test_interrupted(machine, command, begun):
    """In a sleep and in a loop without any system call."""
    machine.send(command + "\r")
    machine.expect(begun)
    machine.send("\x03")
    machine.wait_prompt()
    assert machine.ok("echo $?").strip() == "130"


def test_in_the_background(machine):
    machine.ok("run bad spin > /dev/null &")
    wait_until(lambda: re.search(r"^ *\d+ +TS +- +\d+ +0 +[0-3] R .* bad$", machine.ok("ps"), re.M),
               "the program's thread")

    def user_time():
        return int(re.search(r"^cpu +(\d+)", machine.ok("cat /proc/stat"), re.M)[1])

    before = user_time()
    wait_until(lambda: user_time() > before, "user time")
    machine.ok("stop 1")
    machine.run("wait")
    assert not any(row.split()[-1] == "bad" for row in machine.ok("ps").splitlines())


def test_memory_is_flat(machine):
    """The thousand runs are tests/kernel/user_test.c's; here the shell's way, with its threads."""
    names = [name for name, status in misdeeds(machine).items() if status > 130]
    line = "; ".join(f"run bad {name} > /dev/null" for name in names[:16])
    for _ in range(3):
        machine.run(line)
    before = free_kib(machine)
    for _ in range(6):
        machine.run(line)
    assert free_kib(machine) > before - 256


def test_the_kernels_own(machine):
    assert "0 failed" in machine.ok("ktest user.")


def test_without_protections(boot):
    """A CPU without SMEP, SMAP, UMIP: what ring 3 may not do does not depend on them."""
    m = boot(cpus=2, cpu="qemu64")
    assert "0 failed" in m.ok("ktest user.")
    assert "0 failed" in m.ok("ktest ring3.")
    assert "smap" not in m.ok("cat /proc/cpuinfo")


def test_with_protections(boot):
    m = boot(cpus=2, cpu="max")
    assert "smap" in m.ok("cat /proc/cpuinfo") and "smep" in m.ok("cat /proc/cpuinfo")
    assert "0 failed" in m.ok("ktest user.")
