#!/usr/bin/env python3
"""The QEMU command line, in one place: `make run`, `make debug` and every test use this.

command() builds the argument list; run as a program it starts what the Makefile asks for and
translates QEMU's exit status into the kernel's: `poweroff` and `exit 0` are 0, `exit N` is N.
"""

import argparse
import glob
import os
import shlex
import signal
import subprocess
import sys
import time

# Where distributions keep UEFI for x86-64: whole images, then code with its variables' template.
OVMF_WHOLE = (
    "/usr/share/ovmf/OVMF.fd",  # Debian, Ubuntu
    "/usr/share/edk2/x64/OVMF.4m.fd",  # Arch
    "/usr/share/edk2-ovmf/x64/OVMF.fd",
)
OVMF_SPLIT = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),  # Fedora
    ("/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"),  # QEMU's own
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),  # SUSE
)

# The isa-debug-exit device: v written there ends QEMU with status (v << 1) | 1. What v may be:
# enum exit_code of include/core/panic.h.
DEBUG_EXIT_PORT = 0xF4
EXIT_OK = 0x10
EXIT_PANIC = 0x20
EXIT_EARLY_PANIC = 0x21


def firmware_arguments(firmware):
    """The arguments that choose the firmware: none for QEMU's own BIOS."""
    if firmware == "bios":
        return []
    if firmware != "uefi":
        raise SystemExit(f"qemu.py: FIRMWARE={firmware}: bios or uefi")
    for path in OVMF_WHOLE:
        if os.path.exists(path):
            return ["-bios", path]
    for code, variables in OVMF_SPLIT:
        if os.path.exists(code) and os.path.exists(variables):
            flash = "if=pflash,format=raw"
            return [
                "-drive", f"{flash},unit=0,readonly=on,file={code}",
                "-drive", f"{flash},unit=1,snapshot=on,file={variables}",
            ]
    raise SystemExit("qemu.py: no UEFI firmware found: install OVMF (Debian: apt-get install ovmf)")


def comma(text):
    """A value inside one of QEMU's comma lists: commas are doubled."""
    return text.replace(",", ",,")


def fw_cfg(name, text):
    """A file for the kernel to read through fw_cfg: boot options, or console commands."""
    return ["-fw_cfg", f"name=opt/org.tophalf/{name},string={comma(text)}"]


def disk_arguments(machine, disks, cdrom):
    """AHCI disks from port 0 on, and the CD. pc has no AHCI of its own: it gets a card."""
    arguments = []
    if machine != "q35" and disks:
        arguments += ["-device", "ahci,id=ahci"]
    bus = "ide" if machine == "q35" else "ahci"
    ports = [0, 1, 3, 4, 5] if machine == "q35" else range(6)  # q35: the CD has port 2
    for number, (port, path) in enumerate(zip(ports, disks)):
        arguments += [
            "-drive", f"if=none,id=disk{number},format=raw,file={comma(path)}",
            "-device", f"ide-hd,drive=disk{number},bus={bus}.{port}",
        ]
    if cdrom:
        arguments += ["-cdrom", cdrom]
    return arguments


def net_arguments(nics, model="e1000"):
    """One card for each netdev: "user", or a whole -netdev argument without its id."""
    arguments = []
    for number, netdev in enumerate(nics):
        kind, _, rest = netdev.partition(",")
        arguments += [
            "-netdev", f"{kind},id=net{number}" + ("," + rest if rest else ""),
            "-device", f"{model},netdev=net{number}",
        ]
    return arguments


def lab_arguments(machine, image):
    """What only experiments need: the edu device, and a disk of the kind that the machine's own
    is not: by NVMe, or on pc by IDE."""
    arguments = ["-device", "edu,dma_mask=0xffffffff",
                 "-drive", f"if=none,id=labs,format=raw,file={comma(image)}"]
    if machine == "q35":
        return [*arguments, "-device", "nvme,drive=labs,serial=labs"]
    return [*arguments, "-device", "ide-hd,drive=labs,bus=ide.0"]


def iommu_arguments(iommu):
    """A unit between devices and memory; QEMU wants it before all others."""
    if iommu not in ("none", "intel"):
        raise SystemExit(f"qemu.py: IOMMU={iommu}: none or intel")
    return [] if iommu == "none" else ["-device", "intel-iommu,intremap=on"]


def command(*, kernel=None, iso=None, machine="q35", cpus=2, mem="256M", firmware="bios",
            accel="tcg", cpu="max", nics=("user",), disks=(), screen="none", vga=True,
            serial=("mon:stdio",), append="", script="", gdb=None, halted=True, reboot=False,
            first=(), extra=()):
    """QEMU's arguments. Either kernel (an ELF, started directly) or iso; the rest has defaults.

    append: boot options; they reach an ISO's kernel through fw_cfg. script: console commands, one
    a line. serial: a -serial argument for each port. gdb: the path of a socket for gdb; halted:
    wait for it before the first instruction. first: devices that must stand before
    all others (intel-iommu). reboot: let the machine really reset; else QEMU ends.
    """
    arguments = ["qemu-system-x86_64", "-nodefaults", "-M", machine, "-accel", accel,
                 "-cpu", cpu, "-smp", str(cpus), "-m", mem]
    arguments += [*first, *firmware_arguments(firmware)]
    arguments += ["-device", f"isa-debug-exit,iobase={DEBUG_EXIT_PORT:#x},iosize=4"]
    arguments += ["-vga", "std" if vga else "none", "-display", screen]
    for port in serial:
        arguments += ["-serial", port]
    if not reboot:
        arguments += ["-no-reboot"]
    if kernel:
        arguments += ["-kernel", kernel]
        arguments += ["-append", append] if append else []
    elif append:
        arguments += fw_cfg("cmdline", append)
    if script:
        arguments += fw_cfg("script", script)
    arguments += disk_arguments(machine, disks, iso)
    arguments += net_arguments(nics)
    if gdb:
        arguments += ["-chardev", f"socket,id=gdb0,path={gdb},server=on,wait=off",
                      "-gdb", "chardev:gdb0"]
        arguments += ["-S"] if halted else []
    return arguments + list(extra)


def console_status(status):
    """What the kernel said with its end, from QEMU's exit status (negative: killed by a signal)."""
    if status < 0:
        return 128 - status
    if not status & 1:
        return status
    return 0 if status >> 1 == EXIT_OK else status >> 1


def start(arguments):
    """Run QEMU on this terminal; it, not we, gets ^C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return console_status(subprocess.call(arguments))


def debug_auto(arguments, build):
    """QEMU behind, gdb in front, on one terminal; QEMU ends when gdb does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, start_new_session=True) as qemu:
        try:
            deadline = time.monotonic() + 10
            while not os.path.exists(f"{build}/gdb.sock") and time.monotonic() < deadline:
                time.sleep(0.02)
            print(f"qemu.py: the console is in {build}/serial.log")
            return subprocess.call(
                ["gdb", "-q", "-x", "tools/gdb/tophalf.py",
                 "-ex", f"tophalf attach {build}/gdb.sock", f"{build}/tophalf.elf"],
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        finally:
            qemu.terminate()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for option in ("cpus", "mem", "machine", "firmware", "accel", "net", "disk", "labs",
                   "iommu", "screen", "iso", "build", "extra"):
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("job", choices=("run", "debug", "debug-auto"))
    options = parser.parse_args()
    build = options.build.strip()
    gdb_socket = None
    serial = "mon:stdio"
    if options.job != "run":
        gdb_socket = f"{build}/gdb.sock"
        for stale in glob.glob(gdb_socket):
            os.unlink(stale)
    if options.job == "debug-auto":
        serial = f"file:{build}/serial.log"

    labs = [] if options.labs == "none" else lab_arguments(options.machine, options.labs)
    arguments = command(
        iso=options.iso, machine=options.machine, cpus=options.cpus, mem=options.mem,
        firmware=options.firmware, accel=options.accel,
        nics=[] if options.net == "none" else [options.net],
        disks=[] if options.disk == "none" else [options.disk],
        first=iommu_arguments(options.iommu),
        screen=options.screen, serial=[serial], gdb=gdb_socket, reboot=True,
        extra=[*labs, *shlex.split(options.extra)])

    if options.job == "debug-auto":
        return debug_auto(arguments, build)
    if options.job == "debug":
        print("qemu.py: halted; say `make gdb` in another terminal")
    print("qemu.py: quit with Ctrl-A x, or type poweroff; Ctrl-A c is QEMU's monitor", flush=True)
    return start(arguments)


if __name__ == "__main__":
    sys.exit(main())
