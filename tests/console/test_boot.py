"""It boots: the everyday part of the boot matrix. The whole of it is test_matrix.py."""

import re

import pytest

import linux_formats as linux


def check(machine, cpus, mem_mib, disks=0, nics=0):
    """What every machine that reached its prompt must be able to say about itself."""
    assert len(linux.parse_cpuinfo(machine.ok("cat /proc/cpuinfo"))) == cpus
    table = linux.parse_interrupts(machine.ok("cat /proc/interrupts"))
    assert table["cpus"] == cpus
    assert all(count > 0 for count in table["rows"]["LOC"]["counts"])
    total = linux.parse_meminfo(machine.ok("cat /proc/meminfo"))["MemTotal"]
    assert mem_mib * 1024 * 0.9 < total <= mem_mib * 1024, f"{total} kB of {mem_mib} MiB"
    names = re.findall(r"^(sd\w)\b", machine.ok("lsblk"), re.M)
    assert names == ["sda", "sdb", "sdc"][:disks]
    cards = sorted(name for name in linux.parse_net_dev(machine.ok("cat /proc/net/dev"))
                   if name.startswith("eth"))
    assert cards == ["eth0", "eth1", "eth2"][:nics]
    for path in ["/dev/sda", "/dev/sdb"][:disks]:
        assert "|tophalf disk, se|" in machine.ok(f"dd if={path} bs=512 count=1 | hexdump -C")
    log = machine.ok("dmesg")
    assert not re.search(r"BUG|WARN|panic|assertion", log), log


BOOTS = {
    "iso-bios-q35": dict(boot="iso", cpus=2, vga=True),
    "iso-uefi-q35": dict(boot="iso", firmware="uefi", cpus=2, vga=True),
    "iso-bios-pc": dict(boot="iso", machine="pc", cpus=1),
    "pc-8-cpus": dict(machine="pc", cpus=8),
    "q35-qemu64": dict(cpu="qemu64", cpus=1),
    "64M": dict(mem="64M", cpus=4),
    "6G": dict(mem="6G"),
    "bare": dict(disks=0, nics=0),
    "two-of-each": dict(disks=2, nics=2),
    "pc-two-of-each": dict(machine="pc", disks=2, nics=2),
}


@pytest.mark.parametrize("name", BOOTS)
def test_boot(boot, disk, name):
    options = dict(dict(cpus=2, mem="256M", disks=1, nics=1), **BOOTS[name])
    disks, nics = options.pop("disks"), options.pop("nics")
    machine = boot(disks=[disk(f"{n}.img") for n in range(disks)], nics=["user"] * nics, **options)
    mem = options["mem"]
    mem_mib = int(mem[:-1]) * (1024 if mem[-1] == "G" else 1)
    check(machine, options["cpus"], mem_mib, disks, nics)
    assert machine.power_off() == 0
    assert machine.end_reason() == "guest-shutdown"


@pytest.mark.parametrize("code", [0, 1, 42])
def test_exit_says_its_number_to_the_host(boot, code):
    machine = boot()
    machine.send(f"exit {code}\r")
    assert machine.wait_end() == code


def test_reboot(boot):
    machine = boot()
    machine.send("reboot\r")
    machine.wait_end()
    assert machine.end_reason() == "guest-reset"


def test_boot_script_and_command_line(boot):
    machine = boot(script="echo from the script\nexit 5\n", wait=False, append="nonsense=1")
    machine.expect("from the script")
    assert machine.wait_end() == 5


def test_maxcpus(boot):
    machine = boot(cpus=4, append="maxcpus=2")
    table = linux.parse_interrupts(machine.ok("cat /proc/interrupts"))
    assert table["cpus"] == 2


def test_options_that_are_wrong_are_told(boot):
    wrong = ["nvme.depth=1", "nvme.queues=65", "ahci.timeout=99", "ide.timeout=many",
             "e1000.itr=65536", "maxcpus=", "loglevel=loud"]
    right = ["nvme.depth=1024", "e1000.itr=65535", "irqpoll", "workqueue.cpu_intensive_thresh_us=0"]
    machine = boot(append=" ".join(wrong + right + ["nonsense=1"]))
    log = machine.ok("dmesg")
    told = re.findall(r"boot option (\S+) from \w+ was not understood: ", log)
    assert told == wrong
    assert 'unknown boot option "nonsense" from' in log
