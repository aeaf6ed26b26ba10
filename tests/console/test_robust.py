"""Nothing that is typed takes the console away: the prompt comes back, and the kernel knows."""

import random

import pytest

MACHINE = {"cpus": 2, "disk": True, "nics": ["user"]}

LINE_LIMIT = 1024


def answers(machine):
    """The four checks after anything hostile: prompt, sanity, memory, no report of ours."""
    assert machine.ok("echo still here") == "still here\n"
    log = machine.ok("dmesg")
    for word in ("BUG", "WARN", "panic", "assertion"):
        assert word not in log, f"{word} in the log:\n{log}"


def to_prompt(machine):
    """Whatever was left on the line or runs in the foreground: end it."""
    machine.send("\x03\r")
    machine.send("\x03\x15\r")
    mark = f"mark-{random.getrandbits(32):08x}"
    machine.send(f"echo {mark}\r")
    machine.expect(rf"[\r\n]{mark}\r?\n")
    machine.wait_prompt()


@pytest.mark.parametrize("seed", range(2))
def test_random_bytes(machine, seed):
    data = random.Random(seed).randbytes(64 << 10)
    for at in range(0, len(data), 4096):
        machine.send(data[at:at + 4096])
    to_prompt(machine)
    answers(machine)


def test_random_printable_lines(machine):
    """Words, punctuation and ends of lines: reaches the parser more often than raw bytes do."""
    source = random.Random(3)
    pieces = ["echo", "cat", "/proc/interrupts", "/proc/nothing", ";", "|", ">", "<", "&&", "||",
              "'", '"', "#", "$?", "&", "\\", "*", "-1", "0x", "18446744073709551616", "\t", " ",
              "ls", "help", "ps", "dd", "if=", "of=/dev/null", "count=-1", "bs=0", "hexdump"]
    for _ in range(300):
        words = [source.choice(pieces) for _ in range(source.randint(1, 8))]
        machine.send("".join(words if source.random() < 0.3 else " ".join(words)) + "\r")
        if source.random() < 0.1:
            machine.send("\x03")
    to_prompt(machine)
    answers(machine)


def test_a_line_at_the_limit_runs_and_one_beyond_is_refused(machine):
    text = "x" * (LINE_LIMIT - len("echo "))
    assert machine.ok(f"echo {text}") == text + "\n"
    machine.send("echo " + "y" * 3 * LINE_LIMIT + "\r")
    said = machine.wait_prompt()
    assert "\nyyyy" not in machine.text[-2 * LINE_LIMIT:said.end()], "a cut line was run"
    output = machine.output_of("echo $?").strip()
    assert output != "0"
    answers(machine)


def test_an_over_long_line_is_refused_whole(machine):
    machine.send("z" * (64 << 10) + "\r")
    to_prompt(machine)
    answers(machine)


@pytest.mark.parametrize("command", ["nonsense", "./nonsense", "NONSENSE", "ech", "echoo", "-",
                                     "exit-not", "🦊"])
def test_unknown_commands(machine, command):
    output, status = machine.run(command.encode().decode("latin-1"))
    assert status == 127 and output.count("\n") == 1 and "not found" in output


@pytest.mark.parametrize("command", [
    "dd if=/dev/sda of=/dev/null bs=18446744073709551616 count=1",
    "dd if=/dev/sda of=/dev/null bs=-1 count=1",
    "dd if=/dev/sda of=/dev/null bs=0",
    "dd if=/dev/sda of=/dev/null skip=99999999999999999999",
    "dd if=/dev/sda of=/dev/null bs=1x",
    "sleep 99999999999999999999",
    "sleep -1",
    "sleep",
    "sleep abc",
    "ping -c 99999999999999999999 10.0.2.2",
    "ping 999.1.1.1",
    "ping 1.2.3",
    "ping",
    "exit 99999999999999999999",
    "exit -1",
    "cat /proc/irq/99999999999/spurious",
    "cat /proc/irq/-1/spurious",
    "cat /nothing",
    "cat /proc",
    "ls /nothing",
    "hexdump -C /nothing",
    "hexdump -n -1 -C /dev/sda",
    "sha256sum /nothing",
    "help nothing",
    "echo x > /proc/version",
    "echo x > /nothing/there",
    "cat < /nothing",
])
def test_absurd_arguments_are_errors_of_one_line(machine, command):
    output, status = machine.run(command)
    assert status in (1, 2), f"status {status}\n{output}"
    lines = output.splitlines()
    assert 1 <= len(lines) <= 2, output
    assert lines[0].startswith(command.split()[0] + ": ") or lines[0].startswith("sh: "), output


def test_interrupt_stops_the_foreground(machine):
    machine.send("sleep 1000\r")
    machine.expect(r"sleep 1000\r\n")
    machine.send("\x03")
    machine.wait_prompt()
    assert machine.output_of("echo $?").strip() == "130"


def test_empty_lines_and_comments(machine):
    for line in ("", "   ", "# a comment", "   # another"):
        assert machine.output_of(line) == ""


def test_both_line_ends_are_taken(machine):
    machine.send("echo one\n")
    machine.expect(r"[\r\n]one\r\n")
    machine.wait_prompt()
    machine.send("echo two\r")
    machine.expect(r"[\r\n]two\r\n")
    machine.wait_prompt()


def test_output_lines_end_with_cr_lf(machine):
    start = machine.at
    machine.ok("cat /proc/version")
    said = machine.text[start:machine.at]
    assert "\r\n" in said and said.replace("\r\n", "").count("\n") == 0
