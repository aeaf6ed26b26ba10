#!/usr/bin/env python3
"""Measure what there is to measure, and say what there is not.

usage: tools/bench.py --build DIR     (make bench)

Each figure is the median of several runs, with the smallest and the largest beside it. They are
figures of an emulator (TCG) on this host: compare them with each other and with the next commit's,
not with a real machine's. The comparison with Linux in the same QEMU is not built yet.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "console"))
import linux_formats  # noqa: E402
from machine import BUILD, ELF, Machine  # noqa: E402

RUNS = 5


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


def bench_disk(image):
    with Machine(name="bench-disk", disks=[image]) as machine:
        rates = []
        for _ in range(RUNS):
            start = time.monotonic()
            machine.output_of("dd if=/dev/sda of=/dev/null bs=65536 count=256")
            rates.append(16 / (time.monotonic() - start))
        show("AHCI read, 64 KiB a request, one at a time", rates, "MB/s")


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
    parser.parse_args()
    print("tophalf in QEMU, TCG; median (smallest .. largest) of", RUNS)
    size = subprocess.run(["size", ELF], capture_output=True, text=True).stdout.split("\n")[1]
    text, data, bss = (int(number) / 1024 for number in size.split()[:3])
    print(f"  kernel: {text:.0f} KiB text and constants, {data:.0f} KiB data, {bss:.0f} KiB bss")
    bench_boot()
    image = os.path.join(BUILD, "bench.img")
    subprocess.run([sys.executable, f"{TOP}/tools/mkdisk.py", image, "32"], check=True)
    bench_disk(image)
    os.unlink(image)
    with Machine(name="bench-net", nics=["user"]) as machine:
        bench_ping(machine)
    print("Not measured yet: the same on Linux in the same QEMU.")


if __name__ == "__main__":
    main()
