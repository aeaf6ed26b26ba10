"""What the tests of NVMe disks share: the controller, and the driver's counters."""

import re


def nvme(path, **options):
    """QEMU arguments for a controller with one namespace on a raw image."""
    more = "".join(f",{name}={value}" for name, value in options.items())
    return ["-drive", f"if=none,id=n0,format=raw,file={path}", "-device",
            f"nvme,drive=n0,serial=tophalf{more}"]


def nvme_bar(machine):
    """Where the controller's registers are."""
    row = next(line.split("\t") for line in machine.ok("cat /proc/bus/pci/devices").splitlines()
               if line.split("\t")[1] == "1b360010")
    return int(row[3], 16) & ~0xf


def counter(machine, name):
    """The sum of a counter of /proc/driver/nvme over all queues."""
    found = re.findall(rf"\b{name} (\d+)", machine.ok("cat /proc/driver/nvme"))
    assert found, name
    return sum(int(number) for number in found)


def settled(machine):
    """Nothing is under way, and nothing went wrong in the kernel."""
    assert counter(machine, "out") == 1  # the request for events
    clean(machine)


def clean(machine):
    """The kernel found no mistake of its own."""
    assert not re.search(r"BUG:|WARN at|DMA-API", machine.ok("dmesg"))
