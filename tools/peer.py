"""Linux beside us: Debian's kernel in the same QEMU, with the same devices, doing the same work.

    peer = Peer.fetch("build/peer")            # None, with a reason printed, where there is none
    peer.run("sched,/dev/sda", ticks=True, disks={...})  # {"yield_pair": [3143.0, ...], ...}

The kernel comes from the distribution's own package, unpacked below build/ and installed nowhere.
Its initramfs is made here: one static program (tools/peer/init.c) and the few modules that its
devices need, in the order in which they need each other.
"""

import glob
import os
import re
import shutil
import subprocess
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = ("ahci", "sd_mod", "nvme")
COMPILE = ["gcc", "-O2", "-Wall", "-Wextra", "-static", "-pthread"]
TIMEOUT = 300  # seconds: a hang detector

# Where null-co gives zeroes at once, only the kernel and the device model are measured.
NULL_DISK = "driver=null-co,size=4294967296,read-zeroes=on"


def disk_arguments(ahci=False, nvme=False):
    """Disks that cost nothing behind the controller, for Linux's machine and for ours."""
    arguments = []
    if ahci:
        arguments += ["-blockdev", f"{NULL_DISK},node-name=ahci0",
                      "-device", "ide-hd,drive=ahci0,bus=ide.0"]
    if nvme:
        arguments += ["-blockdev", f"{NULL_DISK},node-name=nvme0",
                      "-device", "nvme,drive=nvme0,serial=null,max_ioqpairs=2"]
    return arguments


def archive(files):
    """An initramfs: {path: (mode, bytes)} as a cpio archive of the "newc" kind."""
    blob = b""
    for inode, (path, (mode, data)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        name = path.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        blob += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        blob += b"\0" * (-len(blob) % 4) + data
        blob += b"\0" * (-len(blob) % 4)
    return blob


def wanted_modules(paths):
    """The modules' files in loading order: what a module depends on stands in its .modinfo."""
    by_name = {os.path.basename(path)[:-3].replace("-", "_"): path for path in paths}
    order = []

    def want(name):
        path = by_name.get(name.replace("-", "_"))
        if path is None or path in order:
            return  # built into the kernel, or already there
        with open(path, "rb") as file:
            depends = re.search(rb"\0depends=([^\0]*)\0", b"\0" + file.read())
        for other in filter(None, depends[1].decode().split(",") if depends else []):
            want(other)
        order.append(path)

    for name in MODULES:
        want(name)
    return order


class Peer:
    """A kernel and an initramfs that are ready to boot."""

    def __init__(self, folder):
        self.kernel = f"{folder}/vmlinuz"
        self.initrd = f"{folder}/initrd.cpio"
        self.release = open(f"{folder}/release", encoding="ascii").read().strip()

    @classmethod
    def fetch(cls, folder):
        """Get the distribution's kernel and build the initramfs, once. None where that fails."""
        if not os.path.exists(f"{folder}/release"):
            if not shutil.which("apt-get"):
                print("  Linux is not measured: its kernel comes from Debian's packages, and there "
                      "is no apt-get here")
                return None
            os.makedirs(folder, exist_ok=True)
            try:
                cls._fetch(folder)
            except (subprocess.CalledProcessError, OSError, LookupError, ValueError) as error:
                print(f"  Linux is not measured: its kernel could not be fetched: {error}")
                return None
        cls._build(folder)
        return cls(folder)

    @staticmethod
    def _fetch(folder):
        depends = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], check=True,
                                 capture_output=True, text=True).stdout
        names = re.findall(r"Depends: (linux-image-\S+)", depends)
        if not names:
            raise LookupError("no package linux-image-amd64; apt-get update?")
        subprocess.run(["apt-get", "download", names[0]], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        package = glob.glob(f"{folder}/linux-image-*.deb")[0]
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package],
                              stdout=subprocess.PIPE) as unpack:
            with tarfile.open(fileobj=unpack.stdout, mode="r|") as files:
                for member in files:
                    if member.name.startswith("./boot/vmlinuz-"):
                        release = member.name.split("vmlinuz-")[1]
                        with open(f"{folder}/vmlinuz", "wb") as file:
                            shutil.copyfileobj(files.extractfile(member), file)
                    elif re.search(r"/(drivers/(ata|scsi|nvme|block)|lib|crypto|block)/.*\.ko$",
                                   member.name) and member.isfile():
                        with open(f"{folder}/{os.path.basename(member.name)}", "wb") as file:
                            shutil.copyfileobj(files.extractfile(member), file)
        os.unlink(package)
        with open(f"{folder}/release", "w", encoding="ascii") as file:
            file.write(release)

    @staticmethod
    def _build(folder):
        subprocess.run([*COMPILE, "-o", f"{folder}/init", f"{HERE}/peer/init.c"], check=True)
        with open(f"{folder}/init", "rb") as file:
            files = {"init": (0o100755, file.read()), "modules": (0o040755, b""),
                     "dev": (0o040755, b"")}
        modules = wanted_modules(glob.glob(f"{folder}/*.ko"))
        for path in modules:
            with open(path, "rb") as file:
                files[f"modules/{os.path.basename(path)}"] = (0o100644, file.read())
        order = "".join(os.path.basename(path) + "\n" for path in modules)
        files["modules/order"] = (0o100644, order.encode())
        with open(f"{folder}/initrd.cpio", "wb") as file:
            file.write(archive(files))

    def run(self, work, ticks, extra=(), cpus=1):
        """Boot, measure, end: {figure: [value of each round]}. ticks: count instructions."""
        append = f"console=ttyS0 quiet panic=-1 tsc=reliable work={work} "
        append += "unit=ticks" if ticks else "unit=ns"
        command = ["qemu-system-x86_64", "-nodefaults", "-M", "q35", "-accel", "tcg", "-cpu", "max",
                   "-m", "1G", "-smp", str(cpus), "-display", "none", "-vga", "none",
                   "-serial", "stdio", "-no-reboot", "-kernel", self.kernel,
                   "-initrd", self.initrd, "-append", append, *extra]
        if ticks:
            command += ["-icount", "shift=0,sleep=off"]
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=TIMEOUT, check=False).stdout.decode("latin-1")
        if "peer: done" not in said:
            raise RuntimeError(f"Linux did not end its work; it said:\n{said[-2000:]}")
        figures = {}
        for name, value in re.findall(r"^figure (\S+) ([\d.]+)\r?$", said, re.M):
            figures.setdefault(name, []).append(float(value))
        return figures
