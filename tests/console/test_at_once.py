"""Several jobs at once that bind a device, switch it, open and close it, look at it: each gets its
turn, or an error, and nothing is left behind."""

import random
import re

import pytest

MACHINE = dict(cpus=4, nics=["user"], disk=True, extra=["-device", "edu,addr=5"])
CARD, DISK, EDU = "00:01.0", "00:1f.2", "00:05.0"

COMMANDS = [f"driver {verb} {place}" for place in (CARD, DISK, EDU) for verb in ("unbind", "bind")]
COMMANDS += [f"driver bind {CARD}", f"driver bind {DISK}"]  # more often there than not
COMMANDS += [f"irq mode {name} {mode}" for name in ("eth0", "sda") for mode in ("intx", "poll")]
COMMANDS += [
    "irq mode sda msi", "irq why eth0", "irq why sda", f"irq reset {DISK}", "irq check",
    "irq types", "msi", "lspci -v", "ip link set eth0 down", "ip link set eth0 up",
    "ip addr add 10.0.2.15/24 dev eth0", "ip addr del 10.0.2.15/24 dev eth0",
    "ping -c 3 -i 0.01 10.0.2.2", "dd if=/dev/sda of=/dev/null bs=4096 count=50 iflag=direct",
    "dd if=/dev/zero of=/dev/sda bs=4096 count=50", "sync", "health", "cat /proc/interrupts",
    "cat /proc/trace", "cat /proc/workqueues", "cat /proc/diskstats", "cat /proc/net/dev", "locks",
    "irqbalance 1", "irqbalance off", "echo 1 > /proc/irq/16/smp_affinity",
    "echo 8 > /proc/irq/16/smp_affinity"]


def at_once(machine, *jobs):
    """Runs each list of commands in the background, whatever they say, and waits for all."""
    for job in jobs:
        line = " && ".join(f"{command if '>' in command else command + ' > /dev/null'} || true"
                           for command in job)
        machine.output_of(f"{line} &")
    machine.run("wait")
    found = [line for line in machine.ok("dmesg").splitlines() if re.search("BUG|WARN", line)]
    assert not found, (found, jobs)


def test_switching_a_card_that_is_opened_and_closed(machine):
    for _ in range(6):
        at_once(machine, ["irq mode eth0 intx", "irq mode eth0 poll"] * 8,
                ["ip link set eth0 down", "ip link set eth0 up"] * 9)


def test_looking_at_a_disk_that_comes_and_goes(machine):
    for _ in range(3):
        at_once(machine, [f"irq why {DISK}"] * 24,
                [f"driver unbind {DISK}", f"driver bind {DISK}"] * 8, ["msi", "irq check"] * 12)


def some_at_once(machine, rounds, seed):
    chance = random.Random(seed)
    for _ in range(rounds):
        at_once(machine, *(chance.sample(COMMANDS, 7) for _ in range(4)))


def test_anything_at_once(machine):
    some_at_once(machine, 6, 1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
def test_anything_at_once_for_long(boot, disk, seed):
    some_at_once(boot(cpus=4, nics=["user"], disks=[disk()], extra=["-device", "edu,addr=5"]), 25,
                 seed)
