#!/usr/bin/env python3
"""Measure what things cost, with Linux doing the same on the same emulated devices beside it.

usage: tools/bench.py --build DIR [--no-linux]     (make bench)

  instructions   QEMU with -icount: the time stamp counter counts instructions, so the figures are
                 the same on every host (but for a few per cent where a device's answer comes
                 sooner or later). The benchmarks are records in the kernel: `bench` in its shell.
  time           QEMU without it: nanoseconds that pass, waiting included; ratios of one run. Twice:
                 with all of QEMU on one host CPU, and on two. A request whose thread waits takes
                 two of QEMU's own threads, and on two CPUs the host sends one to sleep and wakes
                 the other each time: that wait is the host's, and the same for every kernel.
  boot, memory   seconds and MiB

"checked" is the kernel as it always runs; "lean" has the checks off that Linux's machine does not
have either (police=off dma_debug=off). Each figure is a median, with the smallest and the largest
beside it. Those of time are figures of an emulator on this host: compare them with each other, not
with a real machine's.
"""

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TOP, "tests", "console"), os.path.join(TOP, "tools")]
import linux_formats  # noqa: E402
from machine import BUILD, ELF, Machine  # noqa: E402
from peer import Peer, disk_arguments  # noqa: E402

RUNS = 5

# Our benchmark, and what Linux's machine calls the same work (tools/peer/init.c).
SAME_WORK = {
    "user.syscall": "syscall",
    "sched.yield_pair": "yield_pair",
    "sched.wait_queue_round": "ping_pong",
    "ahci.read_4k": "sda.read_4k",
    "ahci.read_4k_qd32": "sda.read_4k_qd32",
    "ahci.read_1m": "sda.read_1m",
    "cache.read_4k_cold": "sda.read_4k_cold",
    "cache.read_4k_warm": "sda.read_4k_warm",
    "nvme.read_4k": "nvme0n1.read_4k",
    "nvme.read_4k_qd32": "nvme0n1.read_4k_qd32",
    "nvme.read_1m": "nvme0n1.read_1m",
}
ROW = re.compile(r"^(\w+\.\w+) +(\d+) +(\d+) +(\d+) +(\d+|-) +(\d+|-)  (.+)$", re.M)
SKIPPED = re.compile(r"^(\w+\.\w+) +skipped: (.+)$", re.M)


def show(name, values, unit):
    values = sorted(values)
    print(f"  {name:44} {statistics.median(values):10.2f} {unit:4} "
          f"({values[0]:.2f} .. {values[-1]:.2f})", flush=True)


def boot_times(**options):
    """(host's seconds from starting QEMU to the prompt, guest's seconds since kernel entry)."""
    start = time.monotonic()
    with Machine(name="bench", **options) as machine:
        host = time.monotonic() - start
        uptime = linux_formats.parse_uptime(machine.ok("cat /proc/uptime"))[0]
        memory = linux_formats.parse_meminfo(machine.ok("cat /proc/meminfo"))
    return host, uptime, (memory["MemTotal"] - memory["MemFree"]) / 1024


def bench_boot():
    for name, options in (("-kernel, 2 CPUs", dict(nics=["user"])),
                          ("-kernel, 8 CPUs", dict(nics=["user"], cpus=8)),
                          ("ISO by BIOS, 2 CPUs", dict(boot="iso", nics=["user"])),
                          ("ISO by UEFI, 2 CPUs", dict(boot="iso", firmware="uefi"))):
        runs = [boot_times(**options) for _ in range(RUNS)]
        show(f"power on to prompt, {name}", [run[0] for run in runs], "s")
    show("memory in use at the prompt, of 256 MiB", [run[2] for run in runs], "MiB")


def number(text):
    return None if text == "-" else int(text)


@contextlib.contextmanager
def host_cpus(count):
    """What is started meanwhile runs on so many of the host's CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[-count:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def kernel_rows(ticks, append=""):
    """The kernel's own benchmarks: {name: (median, low, high, limit, Linux's, what)}."""
    extra = disk_arguments(ahci=True, nvme=True) + ["-device", "edu"]
    if ticks:
        extra += ["-icount", "shift=0,sleep=off"]
    command = "bench" if ticks else "bench -t read"
    with Machine(name="bench", cpus=1, mem="1G", append=append, extra=extra) as machine:
        said, _ = machine.run(command, timeout=300)
        cost = re.search(r"SYSCALL +(\d+) ticks", machine.ok("run cost")) if ticks else None
    for name, reason in SKIPPED.findall(said):
        print(f"  {name} skipped: {reason}")
    rows = {row[0]: (*(number(field) for field in row[1:6]), row[6]) for row in ROW.findall(said)}
    if cost:  # measured by a program, in ring 3
        rows["user.syscall"] = (*[int(cost[1])] * 3, 150, 338, "getpid by SYSCALL, and back")
    return rows


def bench_kernel(peer, ticks, unit):
    """Our benchmarks beside Linux's figures: one row each. How many are over their limit?"""
    linux = bench_linux(peer, ticks)
    lean = kernel_rows(ticks, "police=off dma_debug=off")
    checked = kernel_rows(ticks)
    print(f"\n{unit:28} {'checked':>9} {'lean':>9} {'Linux':>9} {'lean/L.':>7} {'limit':>7}")
    failed = 0
    for name, (median, low, high, limit, known, what) in lean.items():
        limit, known = (limit, known) if ticks else (None, None)
        rounds = linux.get(SAME_WORK.get(name))
        peer = round(statistics.median(rounds)) if rounds else known
        ratio = f"{median / peer:.2f}" if peer else "-"
        over = limit is not None and median > limit
        failed += over
        print(f"{name:28} {checked.get(name, ('-',))[0]:>9} {median:>9} {peer or '-':>9} "
              f"{ratio:>7} {limit or '-':>7}  {what} ({low} .. {high})"
              f"{'  OVER ITS LIMIT' if over else ''}", flush=True)
    return failed


def bench_linux(peer, ticks):
    work = "sched,/dev/sda,/dev/nvme0n1" if ticks else "/dev/sda,/dev/nvme0n1"
    return peer.run(work, ticks, disk_arguments(ahci=True, nvme=True)) if peer else {}


def bench_ping(machine):
    rtts = []
    deadline = time.monotonic() + 30
    while "inet 10.0.2." not in machine.ok("ip addr"):  # DHCP goes on behind the prompt
        if time.monotonic() > deadline:
            return
    for _ in range(RUNS):
        said = machine.ok("ping -c 20 -i 0.01 10.0.2.2")
        match = re.search(r"= [\d.]+/([\d.]+)/", said)
        if not match:
            return
        rtts.append(float(match.group(1)))
    show("ping of QEMU's gateway, average of 20", rtts, "ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build")
    parser.add_argument("--no-linux", action="store_true", help="do not boot Linux")
    options = parser.parse_args()
    peer = None if options.no_linux else Peer.fetch(os.path.join(BUILD, "peer"))
    if peer:
        print(f"Linux is Debian's {peer.release}, one CPU, tsc=reliable, no I/O scheduler")
    failed = bench_kernel(peer, True, "instructions")
    for count, unit in ((1, "ns, QEMU on one host CPU"), (2, "ns, on two")):
        with host_cpus(count):
            bench_kernel(peer, False, unit)

    print("\ntophalf in QEMU, TCG; median (smallest .. largest) of", RUNS)
    size = subprocess.run(["size", ELF], capture_output=True, text=True).stdout.split("\n")[1]
    text, data, bss = (int(field) / 1024 for field in size.split()[:3])
    print(f"  kernel: {text:.0f} KiB text and constants, {data:.0f} KiB data, {bss:.0f} KiB bss")
    bench_boot()
    with Machine(name="bench-net", nics=["user"]) as machine:
        bench_ping(machine)
    if failed:
        print(f"{failed} over their limit")
    return 0  # a limit is a goal: it is said, and nothing is broken


if __name__ == "__main__":
    sys.exit(main())
