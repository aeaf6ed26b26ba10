"""The console as a person and a script see it: editing, history, completion, lists, pipes, jobs.

Most of it runs on one machine without escape sequences; the editor's own tests have a terminal.
"""

import re
import time

import pytest

from machine import wait_until

MACHINE = {"cpus": 2, "disk": True, "nics": ["user"]}
ESC = "\x1b"


def plain(machine):
    """Everything that was said, without carriage returns."""
    return machine.text.replace("\r", "")


# ---- statuses and lists --------------------------------------------------------------------------

@pytest.mark.parametrize("line, output, status", [
    ("true", "", 0),
    ("false", "", 1),
    ("false; echo $?", "1\n", 0),
    ("true && echo yes", "yes\n", 0),
    ("false && echo yes", "", 1),
    ("false || echo no", "no\n", 0),
    ("false && echo a || echo b; echo c", "b\nc\n", 0),
    ("echo a; false", "a\n", 1),
    ("echo 'a b' \"c  d\" e\\ f", "a b c  d e f\n", 0),
    ("echo a # not b", "a\n", 0),
    ("echo -n a", "a\n", 0),  # the prompt begins a line of its own
    ("echo -e 'x\\ty\\x21'", "x\ty!\n", 0),
    ("seq 3 | sort -r", "3\n2\n1\n", 0),
    ("seq 2 4 12 | tail -n 1", "10\n", 0),
    ("seq 5 -2 1", "5\n3\n1\n", 0),
    ("seq 100 | head -n 2", "1\n2\n", 0),
    ("yes | head -n 2", "y\ny\n", 0),
    ("seq 12 | grep 1 | wc -l", "4\n", 0),
    ("seq 12 | grep -v 1 | wc -l", "8\n", 0),
    ("seq 12 | grep '^1.$' | tail -1", "12\n", 0),
    ("seq 12 | grep -c 1", "4\n", 0),
    ("echo x | grep y", "", 1),
    ("echo HeLLo | grep -i hello", "HeLLo\n", 0),
    ("echo b a b | wc", "1 3 6\n", 0),
    ("sleep 0.01", "", 0),
])
def test_lines(machine, line, output, status):
    assert machine.run(line) == (output, status)


@pytest.mark.parametrize("line, message", [
    ("echo 'a", "sh: a quote has no end (at character 6), nothing was run"),
    ("| cat", "sh: a command is missing (at character 1), nothing was run"),
    ("echo a >", "sh: the name of a file is missing (at character 8), nothing was run"),
    ("echo a 2>b",
     "sh: a number before < or > is not supported, there is one output (at character 9), "
     "nothing was run"),
])
def test_wrong_lines_run_nothing(machine, line, message):
    assert machine.run(line) == (message + "\n", 2)


@pytest.mark.parametrize("line, status, message", [
    ("foo", 127, "foo: not found (try help)"),
    ("foo | true", 0, "foo: not found (try help)"),
    ("cat /nothing", 1, "cat: /nothing: No such file or directory"),
    ("cat /tmp", 1, "cat: /tmp: Is a directory"),
    ("cat < /nothing", 1, "sh: /nothing: No such file or directory"),
    ("echo x > /proc/version", 1, "sh: /proc/version: Operation not permitted"),
    ("echo x > /dev/full", 1, "echo: write: No space left on device"),
    ("rm /proc/version", 1, "rm: /proc/version: Operation not permitted"),
    ("help nothing", 1, "help: nothing: no such command (help lists them)"),
])
def test_errors_are_one_line(machine, line, status, message):
    assert machine.run(line) == (message + "\n", status)


def test_a_long_name_does_not_hide_the_error(machine):
    for line in ("y" * 1000, "cat < /" + "z" * 240, "cat /" + "z" * 240):
        output, status = machine.run(line)
        assert status != 0 and output.count("\n") == 1
        assert "not found" in output or "No such file" in output


@pytest.mark.parametrize("line, valid", [
    ("sleep 1000001", "seconds are 0 to 1000000"),
    ("sleep -1", "seconds are 0 to 1000000"),
    ("sleep 1.2345", "three decimals"),
    ("exit 128", "0 to 127"),
    ("exit 32", "0 to 127, but not 16, 32 and 33"),
    ("head -n 99999999999", "lines are 0 to 1000000000"),
    ("seq 99999999999", "a number is -2147483648 to 2147483647"),
    ("seq 1 0 2", "a step of 0 never arrives"),
    ("dmesg -n 8", "a level is 0 (emergencies) to 7 (everything)"),
    ("wait 0", "a job's number is 1 to 1000"),
])
def test_absurd_numbers_are_told_the_range(machine, line, valid):
    output, status = machine.run(line)
    assert status == 2 and valid in output.splitlines()[0]
    assert output.splitlines()[1].startswith("usage: ")


def test_every_command_has_its_help(machine):
    names = re.findall(r"^(\S+)  +\S", machine.ok("help"), re.M)
    assert len(names) > 40 and names == sorted(names)
    for name in names:
        assert machine.ok(f"help {name}").startswith(f"usage: {name}")
    assert "loglevel" in machine.ok("help boot")


# ---- files ---------------------------------------------------------------------------------------

def test_files_in_tmp(machine):
    machine.ok("seq 3 > /tmp/a; echo 4 >> /tmp/a; cat < /tmp/a | tee /tmp/b > /tmp/c")
    assert machine.ok("cat /tmp/b /tmp/c") == "1\n2\n3\n4\n" * 2
    assert machine.ok("ls /tmp") == "a\nb\nc\n"
    assert re.search(r"^-rw-rw-rw- +8 a$", machine.ok("ls -l /tmp"), re.M)
    machine.ok("rm /tmp/a /tmp/b /tmp/c")
    assert machine.ok("ls /tmp") == ""


def test_sort_of_what_is_no_text(machine):
    """Bytes of any kind, and many zeroes among them: those are left out, as by the other commands
    that read lines."""
    machine.ok("seq 3 > /tmp/n; dd if=/dev/zero bs=64K count=4 status=none >> /tmp/n; "
               "seq 5 7 >> /tmp/n")
    assert machine.ok("sort -r /tmp/n") == "7\n6\n5\n3\n2\n1\n"
    machine.ok("dd if=/dev/random of=/tmp/n bs=4K count=64 status=none; sort /tmp/n > /tmp/m")
    machine.ok("dd if=/dev/zero of=/tmp/n bs=4K count=64 status=none")
    assert machine.ok("sort /tmp/n") == ""
    machine.ok("rm /tmp/n; rm /tmp/m")
    log = machine.ok("dmesg")
    assert "BUG" not in log and "WARN" not in log


def test_tmp_is_bounded(machine):
    result = machine.run("cat /dev/zero > /tmp/big")
    machine.ok("rm /tmp/big")
    assert result == ("cat: write: No space left on device\n", 1)
    assert machine.ok("echo small > /tmp/s; cat /tmp/s; rm /tmp/s") == "small\n"


def test_devices(machine):
    listing = machine.ok("ls -l /dev")
    assert re.search(r"^crw-rw-rw- +1,   3 null$", listing, re.M)
    assert re.search(r"^brw-rw-rw- +8,   0 sda$", listing, re.M)
    assert machine.ok("head -n 1 /dev/null | wc -c") == "0\n"


def test_writing_to_proc_through_tee(machine):
    before = machine.ok("cat /proc/irq/default_smp_affinity")
    assert machine.ok("echo 1 | tee /proc/irq/default_smp_affinity") == "1\n"
    assert machine.ok("cat /proc/irq/default_smp_affinity") == "1\n"
    machine.ok(f"echo {before.strip()} > /proc/irq/default_smp_affinity")


# ---- ^C and jobs ---------------------------------------------------------------------------------

@pytest.mark.parametrize("line", ["sleep 1000", "yes > /dev/null", "cat", "cat | wc",
                                  "sleep 1000; echo not this", "sleep 1000 && echo not this",
                                  "cat /dev/zero > /dev/null", "seq 2000000000 | sort"])
def test_control_c_stops_the_foreground(machine, line):
    machine.send(line + "\r")
    machine.expect(re.escape(line) + r"\r\n")
    machine.send("\x03")
    start = machine.at
    machine.wait_prompt()
    assert "not this" not in machine.text[start:]
    assert machine.output_of("echo $?") == "130\n"


def test_control_c_forgets_what_was_typed_ahead(machine):
    machine.send("sleep 1000\recho never\recho again never\r")
    machine.expect(r"sleep 1000\r\n")
    machine.send("\x03")
    machine.wait_prompt()
    start = machine.at
    assert machine.ok("echo now") == "now\n"
    assert "never" not in machine.text[start:]


def test_control_c_drops_a_half_typed_line(machine):
    machine.send("echo half")
    machine.expect("echo half")
    machine.send("\x03")
    machine.expect(r"\^C\r\n")
    machine.wait_prompt()
    assert machine.ok("echo whole") == "whole\n"


def test_of_many_ended_jobs_the_oldest_are_forgotten(machine):
    machine.ok("wait")
    said = machine.ok("true & sleep 0.1; " * 12 + "jobs")
    started = re.findall(r"^\[(\d+)\] started$", said, re.M)
    kept = re.findall(r"^\[(\d+)\] (?:done|running)", said, re.M)
    assert len(started) == 12 and len(kept) >= 9 and kept == started[-len(kept):], said


def test_jobs(machine):
    machine.output_of("sleep 1000 &")
    assert re.search(r"^\[1\] running +sleep 1000 &$", machine.ok("jobs"), re.M)
    machine.ok("stop %1")
    assert machine.run("wait 1")[1] == 130
    assert machine.run("wait 7")[1] == 1
    assert machine.run("stop 1") == ("stop: 1: no such job runs (jobs lists them)\n", 1)
    machine.ok("echo from behind > /tmp/j & wait; cat /tmp/j; rm /tmp/j")


def test_control_c_leaves_the_background_alone(machine):
    machine.output_of("sleep 1000 &")
    machine.send("sleep 1000\r")
    machine.expect(r"[^&]\r\n")
    machine.send("\x03")
    machine.wait_prompt()
    assert "running" in machine.ok("jobs")
    machine.ok("stop 1")
    machine.run("wait")


def test_what_is_typed_for_a_command_reaches_it(machine):
    machine.send("cat | sort > /tmp/typed\r")
    machine.expect(r"typed\r\n")
    machine.send("b\rc\x7fa\r")
    machine.send("\x04")
    machine.wait_prompt()
    assert machine.ok("cat /tmp/typed; rm /tmp/typed") == "a\nb\n"


def test_type_ahead_is_run_in_order(machine):
    machine.send("".join(f"echo line-{n}\r" for n in range(200)))
    for n in range(200):
        machine.expect(rf"[\r\n]line-{n}\r\n")
    machine.wait_prompt()


# ---- the log and the typist ----------------------------------------------------------------------

def test_a_log_line_redraws_what_is_typed(machine):
    machine.ok("dmesg -n 7")
    machine.send("echo half a li")
    machine.expect("half a li")
    machine.hmp("set_link net0 off")
    machine.expect(r"\[ *\d+\.\d+\] [^\r\n]*[Ll]ink[^\r\n]*\r\n")
    machine.expect(r"tophalf# echo half a li")
    machine.hmp("set_link net0 on")
    machine.expect(r"\[ *\d+\.\d+\] [^\r\n]*[Ll]ink[^\r\n]*\r\n")
    machine.send("ne\r")
    machine.expect(r"[\r\n]half a line\r\n")
    machine.wait_prompt()
    machine.ok("dmesg -n 4")


# ---- editing on a terminal -----------------------------------------------------------------------

@pytest.fixture(scope="module")
def terminal(tmp_path_factory):
    """A machine whose console may use escape sequences."""
    from machine import Machine
    m = Machine(cpus=1, name="terminal")
    m.send("TERM=vt100\r")
    m.expect(r"vt100\r\n")
    m.wait_prompt()
    yield m
    m.close()


def typed(machine, keys, output):
    """Type keys and Enter; what comes out is the output of what they made of the line."""
    machine.send(keys + "\r")
    machine.expect(rf"[\r\n]{re.escape(output)}\r\n")
    machine.wait_prompt()


@pytest.mark.parametrize("keys, output", [
    ("echo abc", "abc"),
    ("echo acb\x7f\x7fbc", "abc"),
    ("cho abc\x01e", "abc"),
    (f"eco abc{ESC}[D{ESC}[D{ESC}[D{ESC}[D{ESC}[Dh", "abc"),
    (f"xecho abc{ESC}[H{ESC}[3~{ESC}[F!", "abc!"),
    ("junk\x15echo abc", "abc"),
    ("echo abc def\x17ghi", "abc ghi"),
    ("echo abc\x01\x0b\x19", "abc"),
    ("echo abc\x02\x02\x04", "ac"),
    (f"echo {'w' * 100}\x01{ESC}[C{ESC}[C\x05z", "w" * 100 + "z"),
    (f"echo a{ESC}[99;99Xb{ESC}Oxc", "abc"),
])
def test_editing(terminal, keys, output):
    typed(terminal, keys, output)


def test_history(terminal):
    typed(terminal, "echo first", "first")
    typed(terminal, "echo second", "second")
    typed(terminal, f"{ESC}[A{ESC}[A", "first")
    typed(terminal, f"{ESC}[A{ESC}[A{ESC}[B\x7f\x7f\x7f\x7f\x7fthird", "third")
    typed(terminal, "\x12sec", "second")
    assert "echo second" in terminal.ok("history")


@pytest.mark.parametrize("keys, output", [
    ("ech\tdone", "done"),
    ("ec\tx | gre\tx", "x"),
    ("ls /proc/vers\t", "/proc/version"),
    ("ls /proc/ver\t| wc -l", "1"),
    ("ls /proc/irq/default\t", "/proc/irq/default_smp_affinity"),
    ("cat /proc/tt\tdri\tser\t| head -n 1", "serinfo:1.0 driver revision:"),
    ("echo if=/dev/zer\t", "if=/dev/zero"),
])
def test_completion(terminal, keys, output):
    typed(terminal, keys, output)


def test_completion_lists_what_it_could_be(terminal):
    terminal.send("ls /dev/ttyS0 /dev/f\t\t")
    terminal.send("\x15e\t\t")
    terminal.expect(r"echo  .*exit  .*export  \r\n")
    terminal.send("\x15\r")
    terminal.wait_prompt()


def test_a_log_line_redraws_on_a_terminal(terminal):
    half = "echo " + "long " * 30  # two rows

    def comes_while_it_is_typed():
        terminal.send("sleep 0.5 && echo '<2>from below' > /dev/kmsg &\r")
        terminal.expect(r"started\r\n")
        start = terminal.at
        terminal.wait_prompt()
        terminal.send(half)
        typed = terminal.expect("(?:long ){8}").end()
        terminal.at = start
        told = terminal.expect(r"\] from below\r\n").end()
        if told < typed:  # too slow, the line was told before: clear it, and again
            terminal.send("\x15wait\r")
            terminal.expect(r"wait\r\n")
            terminal.wait_prompt()
        return told > typed

    wait_until(comes_while_it_is_typed, "a log line behind what is typed")
    terminal.expect(r"tophalf# echo long long")
    terminal.send("\x15echo whole; wait\r")
    terminal.expect(r"[\r\n]whole\r\n")
    terminal.wait_prompt()


def test_ls_uses_columns_for_eyes_and_lines_for_pipes(terminal):
    across = terminal.ok("ls /dev").splitlines()
    down = terminal.ok("ls /dev | cat").splitlines()
    assert len(down) > 5 > len(across) and sorted(" ".join(across).split()) == down
    assert max(map(len, across)) <= 80


def test_clear_writes_a_sequence_only_on_a_terminal(terminal):
    terminal.send("clear\r")
    terminal.expect(ESC + r"\[2J")
    terminal.wait_prompt()


def test_plain_never_writes_an_escape(boot):
    machine = boot()
    machine.send(f"ech\t abc{ESC}[D{ESC}[Dx\x01\x05\x0c\x12e\x07\x15")
    machine.send("clear\r")
    machine.wait_prompt()
    machine.send("l\t\t\x15")
    machine.ok("help")
    machine.ok("TERM=vt100; TERM=dumb")
    machine.ok("clear")
    assert ESC not in machine.text


def test_term_dumb_at_boot(boot):
    machine = boot(append="TERM=dumb", cpus=1)
    machine.send("abc\x01\x0b\r")
    machine.wait_prompt()
    assert ESC not in machine.text


# ---- other ways in -------------------------------------------------------------------------------

def test_the_keyboard_types_too(boot):
    machine = boot(vga=True, cpus=1)
    for key in ["e", "c", "h", "o", "spc", "shift-a", "b", "left", "minus", "end", "ret"]:
        machine.hmp(f"sendkey {key}")
    machine.expect(r"[\r\n]A-b\r\n")
    machine.wait_prompt()
    for key in ["s", "l", "e", "e", "p", "spc", "9", "9", "ret"]:
        machine.hmp(f"sendkey {key}")
    machine.expect(r"sleep 99\r\n")
    machine.hmp("sendkey ctrl-c")
    machine.wait_prompt()
    assert machine.output_of("echo $?") == "130\n"


def test_the_script_sees_statuses_and_its_end(boot):
    script = "false\necho was $?\nfoo\n" + "echo " + "x" * 1020 + "\n" + "echo is $?\nexit 3"
    machine = boot(script=script, wait=False)
    machine.expect(r"was 1\r\n")
    machine.expect(r"foo: not found")
    machine.expect(r"longer than 1024 bytes")
    machine.expect(r"is 2\r\n")
    assert machine.wait_end() == 3


def test_ktap_goes_to_the_second_port(boot):
    machine = boot(second_serial=True)
    assert "ttyS1" in machine.ok("ls /dev")
    tests = [line for line in machine.ok("ktest -l").splitlines() if line.startswith("vfs.")]
    assert machine.ok("ktest vfs") == f"{len(tests)} passed, 0 failed, 0 skipped\n" and tests
    with open(f"{machine.scratch}/com2", encoding="utf-8") as file:
        report = file.read().replace("\r", "")
    assert report.startswith(f"KTAP version 1\n1..{len(tests)}\nok 1 vfs.")
    assert machine.ok("ktest nothing-of-this-name") == "0 passed, 0 failed, 0 skipped\n"


def test_control_c_at_any_moment(machine):
    """Before, while and after a line begins to run: the prompt always comes back."""
    for wait in range(40):
        machine.send("sleep 1000\r")
        time.sleep(wait / 4000)
        machine.send("\x03")
        machine.wait_prompt()
    machine.send("\r")
    machine.ok("echo still here")


def test_a_script_that_is_too_long_is_not_cut_and_run(boot, tmp_path):
    script = tmp_path / "script"
    script.write_text("true\n" * 4000 + "exit 9\n")
    machine = boot(extra=["-fw_cfg", f"name=opt/org.tophalf/script,file={script}"])
    assert "script is longer than 16383 bytes, it is not run" in machine.ok("dmesg")


def test_boot_option_ktest(boot):
    machine = boot(append="ktest=shell.statuses", second_serial=True, script="exit 6", wait=False)
    assert machine.wait_end() == 6
    assert "1 passed, 0 failed, 0 skipped" in machine.text


def test_every_allocation_may_fail(boot):
    """Each that some lines make fails once: it is said, nothing leaks, the shell goes on."""
    machine = boot()

    def used():
        return int(re.search(r"^Mem: +\d+ +(\d+)", machine.ok("free"), re.M).group(1))

    lines = ["seq 30 | sort -r | head -n 3 > /tmp/a; cat /tmp/a", "ls -l /proc",
             "cat /proc/interrupts | grep CPU", "true & wait", "ktest -l | wc -l"]
    before = used()
    for countdown in range(1, 40):
        for line in lines:
            machine.output_of(f"echo {countdown} > /proc/fail-alloc; {line}")
    machine.output_of("echo 0 > /proc/fail-alloc")
    assert int(re.search(r"^failed (\d+)", machine.ok("cat /proc/fail-alloc"), re.M).group(1)) > 50
    assert machine.ok("seq 3 | sort -r") == "3\n2\n1\n"
    assert used() - before < 1024
    assert not re.search("BUG|WARN|panic", machine.ok("dmesg"))


def test_output_from_the_background_comes_in_whole_lines(boot):
    machine = boot(cpus=2)
    at = len(machine.text)
    machine.send("ps &\r")
    machine.expect(r" ps\r*\n")
    rows = [row for row in machine.text[at:].replace("\r", "\n").splitlines() if " k" in row]
    assert len(rows) >= 4
    for row in rows:
        assert re.fullmatch(r"(tophalf#)? *\d+ .* TS .* \d\d:\d\d:\d\d .* k[\w/:]+", row), row
