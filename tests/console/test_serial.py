"""The serial line and the screen when they misbehave, and when the log has much to say."""

import re
import time

from machine import TOP, wait_until

MACHINE = {"cpus": 2}


def shown_on_vga(machine):
    """The 80 by 25 characters of VGA text memory, as lines."""
    dump = machine.hmp("xp /2000xh 0xb8000")
    cells = [int(word, 16) for line in dump.splitlines() for word in line.split(":", 1)[1].split()]
    text = "".join(chr(cell & 0x7F) for cell in cells)
    return [text[at:at + 80].rstrip() for at in range(0, 2000, 80)]


def glyphs():
    """The kernel's own letters: eight bytes of dots, from the table that they are drawn by."""
    table = {}
    with open(f"{TOP}/drivers/char/font.c", encoding="utf-8") as file:
        drawn = re.findall(r'^    "((?:[.#]{5} ?){8})",', file.read(), re.M)
    for number, dots in enumerate(drawn):
        table[dots.replace(" ", "")] = chr(32 + number)
    assert len(table) == 95
    return table


def shown_on_framebuffer(machine):
    """What the pixels of the screen say, as lines: each cell is 8 by 16, each dot 1 by 2."""
    path = f"{machine.scratch}/screen.ppm"
    machine.hmp(f"screendump {path}")
    with open(path, "rb") as file:
        assert file.readline() == b"P6\n"
        width, height = map(int, file.readline().split())
        file.readline()
        pixels = file.read()
    table, lines = glyphs(), []
    for top in range(0, height - 15, 16):
        line = ""
        for left in range(0, width - 7, 8):
            dots = "".join(
                "#" if pixels[((top + 2 * y) * width + left + 1 + x) * 3] else "."
                for y in range(8) for x in range(5))
            line += table.get(dots, "?")
        lines.append(line.rstrip())
    return lines


def test_every_log_line_is_shown_or_accounted_for(machine):
    """A burst that the console cannot follow: what was overwritten before it was shown is said."""
    machine.ok("dmesg -n 7")
    start = machine.at
    machine.send("seq 3000 > /dev/kmsg; echo '<3>the very last' > /dev/kmsg\r")
    machine.expect(r"\] the very last\r\n")
    said = re.sub(r"tophalf# [^\r\n]*\r +\r", "", machine.text[start:machine.at])  # taken away
    numbers = [int(n) for n in re.findall(r"^\[ *\d+\.\d+\] (\d+)\r$", said, re.M)]
    lost = sum(int(n) for n in re.findall(r"^\((\d+) log lines were overwritten", said, re.M))
    assert numbers == sorted(numbers) and len(numbers) + lost == 3000
    machine.ok("dmesg -n 4")


def test_log_lines_do_not_break_into_other_lines(machine):
    """Log and command both write whole lines: no line of either is torn."""
    machine.ok("dmesg -n 7")
    machine.send("seq 200 > /dev/kmsg & seq 1000 1200; wait\r")
    machine.expect(r"wait\r\n")
    start = machine.at
    machine.wait_prompt()
    machine.ok("echo over")
    said = re.sub(r"tophalf# [^\r\n]*\r +\r", "", machine.text[start:machine.at])
    for line in said.replace("\r", "").splitlines():
        assert re.fullmatch(r"\[ *\d+\.\d+\] \d{1,3}|1\d\d\d|\[\d+\] started|over|0|"
                            r" *|(tophalf# .*)|tophalf# *", line), repr(line)
    machine.ok("dmesg -n 4")


def test_a_reader_that_pauses_loses_nothing(boot):
    machine = boot()
    machine.listening.clear()
    machine.send("seq 20000; echo end\r")
    time.sleep(2)  # long enough for every buffer to fill
    machine.listening.set()
    machine.expect(r"end\r\n1\r\n")
    start = machine.at
    machine.expect(r"[\r\n]end\r\n")
    numbers = [int(n) for n in machine.text[start:machine.at].split()[:-1]]
    assert numbers == list(range(2, 20001))
    machine.wait_prompt()


def test_a_line_that_nobody_reads_does_not_hold_up_the_kernel(boot):
    machine = boot()
    machine.listening.clear()
    machine.send("seq 20000\r")
    time.sleep(9)  # more than the writers wait
    machine.listening.set()

    def runs_off():  # what had backed up; what was said meanwhile is gone, the prompt too
        said = len(machine.text)
        time.sleep(1)
        return len(machine.text) == said

    wait_until(runs_off, "a quiet line")
    machine.at = len(machine.text)
    machine.send("\r")
    machine.wait_prompt()
    machine.ok("echo back")
    assert "ttyS0: the port takes nothing" in machine.ok("dmesg")
    assert re.search(r" dropped:\d+", machine.ok("cat /proc/tty/driver/serial"))


def test_a_port_without_interrupts_is_polled(boot):
    """COM1 is wired to another line than every PC's: not one interrupt arrives."""
    machine = boot(extra=["-global", "isa-serial.irq=5"])
    assert machine.ok("seq 1000 | wc -l") == "1000\n"
    assert len(machine.ok("seq 1000").splitlines()) == 1000
    assert "no transmit interrupt comes on irq 4" in machine.ok("dmesg")
    assert "polled" in machine.ok("cat /proc/tty/driver/serial")


def test_the_ports_interrupt_does_the_work(machine):
    """Sixteen bytes an interrupt at best: the count moves with the output."""
    def count():
        row = re.search(r"^ *4:((?: +\d+)+) ", machine.ok("cat /proc/interrupts"), re.M)
        return sum(map(int, row.group(1).split()))

    before = count()
    output = machine.ok("seq 2000")
    assert count() - before >= len(output) / 16
    assert "polled" not in machine.ok("cat /proc/tty/driver/serial")


def test_vga_text_shows_the_console(boot):
    machine = boot(vga=True, cpus=1)
    machine.ok("seq 50")
    machine.ok("echo 'on the screen'")

    def drawn(*wanted):  # fifty times a second
        lines = shown_on_vga(machine)
        return lines if all(line in lines for line in wanted) else None

    lines = wait_until(lambda: drawn("on the screen", "50", "tophalf#"),
                       lambda: "\n".join(shown_on_vga(machine)))
    assert lines[-1] == "tophalf#"
    machine.ok("clear")
    machine.send("half a line")
    wait_until(lambda: drawn("tophalf# half a line"), lambda: "\n".join(shown_on_vga(machine)))


def test_the_framebuffer_shows_the_console(boot):
    machine = boot(boot="iso", firmware="uefi", vga=True)
    letters = "".join(chr(c) for c in range(33, 127) if chr(c) not in "'\\\"$")
    machine.ok("clear; seq 100")
    machine.ok(f"echo '{letters}'")
    wait_until(lambda: {letters, "100"} <= set(shown_on_framebuffer(machine)),
               lambda: "\n".join(shown_on_framebuffer(machine)))


def test_a_panic_is_told_on_every_output(boot):
    machine = boot(vga=True)
    machine.send("fault smash\r")
    said = machine.expect(r"panic: ([^\r\n]*)\r\n").group(1)
    machine.expect(r"ktest|fault|sched_first_run")  # the backtrace, which comes later
    machine.hmp("stop")  # what is drawn now stays
    assert any(said[:40] in line for line in shown_on_vga(machine))


def test_no_serial_port_at_all(boot):
    """The console is the screen and the keyboard; a script can still end the machine."""
    machine = boot(vga=True, cpus=1, wait=False, extra=["-global", "isa-serial.iobase=0x3e8"],
                   script="sleep 0.5\nexit 4")
    assert machine.wait_end() == 4


def test_a_break_is_counted_and_types_nothing(machine):
    machine.send("echo be")
    machine.expect("echo be")
    machine.hmp("chardev-send-break com1")
    machine.send("fore\r")
    machine.expect(r"[\r\n]before\r\n")
    machine.wait_prompt()
    assert re.search(r"\bbrk:1\b", machine.ok("cat /proc/tty/driver/serial"))
