"""A machine for console tests: QEMU with tophalf in it, driven over its serial line.

    with Machine(cpus=4) as m:                 # boots by -kernel and waits for the prompt
        output, status = m.run("cat /proc/version")
        m.send("ping 10.0.2.2\\r"); m.expect(r"64 bytes from")

Serial line, QMP and network frames go through socket pairs that QEMU inherits: there is no port, no
path and no race. A thread of ours always drains the serial line, so neither side ever blocks on the
other, and keeps the whole conversation for the log. Every wait has a bound; when it passes, QEMU is
killed by its pid and the end of the conversation is printed. QEMU also dies when we do, whatever
the reason (PR_SET_PDEATHSIG).
"""

import ctypes
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tools"))
import qemu  # noqa: E402

BUILD = os.environ.get("TOPHALF_BUILD", os.path.join(TOP, "build"))
ELF = os.path.join(BUILD, "tophalf.elf")
ISO = os.path.join(BUILD, "tophalf.iso")

PROMPT = "tophalf# "
TIMEOUT = 180  # seconds: when is a wait hopeless? A hang detector, never a measurement: ten times
# what the slowest wait takes on a host that is loaded with other work.
# TOPHALF_IOMMU=strict|lazy|pt: every machine that can have translation hardware has it, so that any
# test can be run behind it (make test-iommu).
BEHIND = os.environ.get("TOPHALF_IOMMU", "")
IOMMU = ["-device", "intel-iommu,intremap=on"]
IOMMU_OPTIONS = {"strict": "intel_iommu=on", "lazy": "intel_iommu=on iommu.strict=0",
                 "pt": "intel_iommu=on iommu=pt"}
LOG_LINE = re.compile(r"^\[ *\d+\.\d{6}\] .*\n", re.M)
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None)


class Hung(AssertionError):
    """What we waited for did not come; the machine was killed."""


class Ended(AssertionError):
    """The machine ended while we waited for something else."""


def behind_iommu(append, options):
    """The boot options, and in `options` the unit, when TOPHALF_IOMMU wants one. Only q35 can have
    it; a test that says itself what it wants is left alone."""
    if not BEHIND or options.get("machine", "q35") != "q35" or "iommu" in append or \
            options.get("first"):
        return append
    options["first"] = IOMMU
    return f"{append} {IOMMU_OPTIONS[BEHIND]}"


def wait_until(condition, what, seconds=TIMEOUT, pause=0.02):
    """Look until condition() gives something true, and return that. `what` should have come: words,
    or who finds them when it does not."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            words = what() if callable(what) else what
            raise AssertionError(f"did not come within {seconds} s: {words}")
        time.sleep(pause)


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Machine:
    """One QEMU. All arguments of qemu.command() are accepted; boot is "kernel" or "iso"."""

    def __init__(self, boot="kernel", *, append="", nics=(), frames=False, wait=True,
                 name="machine", prefix=(), extra=(), second_serial=False, gdb=None, hostile=False,
                 dma_misuse=False, **options):
        self.name = name
        self.dma_misuse = dma_misuse
        self.text = ""  # everything the console said
        self.at = 0  # where the next expect() starts to look
        self.events = []  # QMP events, oldest first
        self.status = None  # QEMU's exit status, once it has ended
        self.changed = threading.Condition()
        self.listening = threading.Event()  # cleared: nobody reads the serial line, it backs up
        self.listening.set()
        self.scratch = tempfile.mkdtemp(prefix="tophalf-")
        self.serial, serial_far = socket.socketpair()
        self.monitor, monitor_far = socket.socketpair()
        passed = [serial_far, monitor_far]
        arguments = ["-chardev", f"socket,id=mon0,fd={monitor_far.fileno()}",
                     "-mon", "chardev=mon0,mode=control",
                     "-chardev", f"socket,id=com1,fd={serial_far.fileno()}"]
        serial = ["chardev:com1"]
        if second_serial:
            serial.append(f"file:{self.scratch}/com2")
        nics = list(nics)
        self.wire = None
        if frames:
            self.wire, wire_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for end in (self.wire, wire_far):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            self.wire.settimeout(TIMEOUT)
            passed.append(wire_far)
            nics.append(f"dgram,local.type=fd,local.str={wire_far.fileno()}")
        self.bus = None
        if hostile:
            self.bus, bus_far = socket.socketpair()
            passed.append(bus_far)
            arguments += ["-chardev", f"socket,id=qtest,fd={bus_far.fileno()}",
                          "-qtest", "chardev:qtest", "-qtest-log", "/dev/null"]
        options.setdefault("vga", False)
        append = behind_iommu(append, options)
        options["iso" if boot == "iso" else "kernel"] = ISO if boot == "iso" else ELF
        command = qemu.command(append=f"plain loglevel=4 {append}".strip(), nics=nics,
                               serial=serial, gdb=gdb, extra=[*arguments, *extra], **options)
        self.command = [*prefix, *command]
        self.errors = open(f"{self.scratch}/qemu.log", "w+")
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
            pass_fds=[end.fileno() for end in passed], preexec_fn=die_with_parent)
        for end in passed:
            end.close()
        self.readers = [threading.Thread(target=self._read_serial, daemon=True),
                        threading.Thread(target=self._read_monitor, daemon=True)]
        self.replies = []
        for reader in self.readers:
            reader.start()
        try:
            try:
                self._command("qmp_capabilities")
            except (OSError, Ended):
                if wait:
                    raise  # a script may have ended the machine before we could say a word
            if wait and not (gdb and options.get("halted", True)):
                self.wait_prompt()
        except BaseException:
            self.close()
            raise

    # ---- the two lines -----------------------------------------------------------------------

    def _read_serial(self):
        while True:
            self.listening.wait()
            try:
                data = self.serial.recv(65536)
            except OSError:
                data = b""
            with self.changed:
                self.text += data.decode("latin-1")
                if not data:
                    self.serial_ended = True
                self.changed.notify_all()
            if not data:
                return

    serial_ended = False

    def _read_monitor(self):
        buffered = b""
        while True:
            try:
                data = self.monitor.recv(65536)
            except OSError:
                data = b""
            if not data:
                with self.changed:
                    self.changed.notify_all()
                return
            buffered += data
            while b"\n" in buffered:
                line, buffered = buffered.split(b"\n", 1)
                message = json.loads(line)
                with self.changed:
                    if "event" in message:
                        self.events.append(message)
                    elif "QMP" not in message:
                        self.replies.append(message)
                    self.changed.notify_all()

    def _until(self, ready, what, timeout):
        """Wait until ready() gives something true; it is called under the lock, at each change."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                found = ready()
                if found:
                    return found
                if self.serial_ended and self.process.poll() is not None:
                    raise Ended(f"{self.name}: ended with status {self.process.returncode} while "
                                f"waiting for {what}\n{self.story()}")
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self.changed.wait(min(left, 0.5))
        self.kill()
        raise Hung(f"{self.name}: waited {timeout} s for {what}\n{self.story()}")

    def story(self, lines=40):
        """The end of the conversation, for a failure's report."""
        self.errors.flush()
        with open(self.errors.name, errors="replace") as file:
            qemu_said = file.read()
        return "\n".join([f"--- the last {lines} lines of the console of {self.name} ---",
                          *self.text.replace("\r", "").splitlines()[-lines:],
                          "--- QEMU said ---" if qemu_said else "", qemu_said])

    # ---- the console -------------------------------------------------------------------------

    def send(self, data):
        """Type. Text or bytes; a line ends with \\r."""
        self.serial.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def expect(self, pattern, timeout=TIMEOUT):
        """Wait for a regular expression in what the console says from here on; the match object."""
        compiled = re.compile(pattern, re.M)

        def found():
            match = compiled.search(self.text, self.at)
            if match:
                self.at = match.end()
            return match

        return self._until(found, f"/{pattern}/", timeout)

    def wait_prompt(self, timeout=TIMEOUT):
        return self.expect(rf"(?:^|[\r\n]){re.escape(PROMPT)}", timeout)

    def run(self, command, timeout=TIMEOUT):
        """Run a console command; (its output with \\n line ends, its status)."""
        output = self.output_of(command, timeout)
        status = self.output_of("echo $?", timeout).strip()
        assert re.fullmatch(r"\d+", status), f"echo $? said {status!r}\n{self.story()}"
        return output, int(status)

    def output_of(self, command, timeout=TIMEOUT):
        """Run a console command; its output. Log lines that fell into it are left out, as they
        are not the command's, unless they are what was asked for (dmesg)."""
        self.send(command + "\r")
        self.expect(re.escape(command) + r"\r?\n", timeout)
        start = self.at
        end = self.expect(rf"(?:(?<=\n)|(?<=\A)){re.escape(PROMPT)}", timeout).start()
        output = self.text[start:end].replace("\r", "")
        return output if "dmesg" in command else LOG_LINE.sub("", output)

    def ok(self, command, timeout=TIMEOUT):
        """Run a console command that must succeed; its output."""
        output, status = self.run(command, timeout)
        assert status == 0, f"{command}: status {status}\n{output}"
        return output

    def wait_for_address(self, name="eth0", net="10.0.2."):
        """Until DHCP has given the card its address: it is asked for when the prompt is there."""
        wait_until(lambda: f"inet {net}" in self.ok(f"ip addr show {name}"),
                   lambda: f"an address for {name}\n{self.story()}", pause=0.1)

    def wait_for_answer(self, address="10.0.2.2"):
        """Until somebody there answers a ping: a card's link takes its time to come up."""
        wait_until(lambda: self.run(f"ping -c 1 {address}")[1] == 0,
                   lambda: f"an answer from {address}\n{self.story()}")

    def wait_asleep(self, name, channel="nanosleep"):
        """Until a job that was just started sleeps, as ps shows it; its PID (the latest one's)."""
        row = re.compile(rf"^ *(\d+) [SD]\S* +{channel} +{name}$", re.M)
        return wait_until(lambda: row.findall(self.ok("ps -o pid,stat,wchan,comm")),
                          lambda: f"{name} in {channel}\n{self.story()}")[-1]

    def wait_for_log(self, pattern, seconds=TIMEOUT):
        """Until the kernel's log has this (a regular expression); the match object."""
        return wait_until(lambda: re.search(pattern, self.ok("dmesg"), re.M),
                          lambda: f"/{pattern}/ in the log\n{self.story()}", seconds, pause=0.1)

    # ---- QEMU's monitor ----------------------------------------------------------------------

    def _command(self, name, **arguments):
        self.monitor.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        reply = self._until(lambda: self.replies and self.replies.pop(0), f"QMP {name}", TIMEOUT)
        assert "return" in reply, f"QMP {name}: {reply}"
        return reply["return"]

    def qmp(self, command, **arguments):
        """A QMP command; its result."""
        return self._command(command, **arguments)

    def hmp(self, line):
        """A line for the human monitor; what it printed, or nothing when the machine ended by it
        before the answer came."""
        try:
            said = self._command("human-monitor-command", **{"command-line": line})
        except Ended:
            return ""
        return said.replace("\r", "")

    # ---- the wire ----------------------------------------------------------------------------

    def send_frame(self, frame):
        """Put one Ethernet frame on the wire of the machine's last card (frames=True)."""
        self.wire.settimeout(TIMEOUT)
        try:
            self.wire.send(bytes(frame))
        except socket.timeout:
            self.kill()
            raise Hung(f"{self.name}: takes no frames\n{self.story()}") from None

    def receive_frame(self, timeout=TIMEOUT):
        """The next Ethernet frame that the machine sent, as bytes; None after the timeout."""
        ready, _, _ = select.select([self.wire], [], [], timeout)
        return self.wire.recv(65536) if ready else None

    # ---- the bus, where a device misbehaves ----------------------------------------------------

    def bus_command(self, line):
        """A line of QEMU's qtest protocol (hostile=True); the words of its answer after OK."""
        self.bus.settimeout(TIMEOUT)
        self.bus.sendall(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += self.bus.recv(1)
            if answer.startswith(b"IRQ") and answer.endswith(b"\n"):
                answer = b""  # news of interrupt lines, unasked
        words = answer.decode().split()
        assert words[0] == "OK", f"{line}: {answer}"
        return words[1:]

    def bus_read32(self, address):
        """What the bus has at a physical address: memory, or a device's register."""
        return int(self.bus_command(f"readl {address:#x}")[0], 16)

    def bus_write32(self, address, value):
        """Write there past the CPU, as a device can."""
        self.bus_command(f"writel {address:#x} {value:#x}")

    def memory_of(self, device, bus):
        """The physical address behind a device's bus address: another one behind an IOMMU."""
        if BEHIND not in ("strict", "lazy") or "intel-iommu" not in " ".join(self.command):
            return bus
        rows = re.findall(r"^0x([0-9a-f]+) +0x([0-9a-f]+) +(\d+)$", self.ok(f"iommu map {device}"),
                          re.M)
        for start, memory, size in rows:
            offset = bus - int(start, 16)
            if 0 <= offset < int(size):
                return int(memory, 16) + offset
        raise AssertionError(f"{device} has nothing at {bus:#x}: {rows}")

    # ---- the end -----------------------------------------------------------------------------

    def wait_end(self, timeout=TIMEOUT):
        """Wait until QEMU ends by itself; what the console said with it (`exit N` is N)."""
        try:
            self.status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Hung(f"{self.name}: did not end within {timeout} s\n{self.story()}") from None
        for reader in self.readers:
            reader.join(5)
        return qemu.console_status(self.status)

    def power_off(self):
        """Switch it off from its console, and wait for the end; what it said with it."""
        self.send("poweroff\r")
        return self.wait_end()

    def end_reason(self):
        """Why the guest ended, as QEMU says: "guest-shutdown", "guest-reset", ... or None."""
        for event in self.events:
            if event["event"] == "SHUTDOWN":
                return event["data"]["reason"]
        return None

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def save_log(self):
        """Keep the conversation under build/, for reading after a failure."""
        folder = os.path.join(BUILD, "console-logs")
        os.makedirs(folder, exist_ok=True)
        safe = re.sub(r"[^\w.-]+", "-", self.name)
        with open(os.path.join(folder, safe + ".log"), "w", encoding="utf-8") as file:
            file.write(" ".join(self.command) + "\n\n" + self.text.replace("\r", ""))

    def check(self):
        """At the end of every test that passed: no driver misused DMA, unless that was the test's
        subject (`dma_misuse`)."""
        said = re.findall(r"^[^\r\n]*DMA-API: [^\r\n]*", self.text, re.M)
        if said and not self.dma_misuse:
            raise AssertionError(f"{self.name}: DMA was used wrongly:\n" + "\n".join(said[:8]))

    def close(self):
        self.kill()
        self.listening.set()
        for reader in self.readers:
            reader.join(5)
        self.save_log()
        self.errors.close()
        for end in (self.serial, self.monitor, self.wire, self.bus):
            if end:
                end.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()
        if kind is None:
            self.check()
