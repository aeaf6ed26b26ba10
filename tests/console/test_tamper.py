"""Interrupt hardware that somebody else programs behind the kernel's back: irq check and idt check
tell what differs from the kernel's own map."""

import re

import pytest

from machine import wait_until

MACHINE = {"cpus": 2, "disk": True, "hostile": True}

IOAPIC_SELECT, IOAPIC_WINDOW, IOAPIC_ENTRIES = 0xfec00000, 0xfec00010, 0x10
SERIAL_PIN, FREE_PIN = 4, 22
ECAM = 0xb0000000  # where q35's firmware puts it
AHCI = ECAM + (31 << 15 | 2 << 12)
AHCI_MSI = 0x80
MSI_CONTROL, MSI_ADDRESS, MSI_DATA = 2, 4, 12
MASKED, LEVEL, NMI = 1 << 16, 1 << 15, 4 << 8


def pin_half(machine, pin, half, value=None):
    machine.bus_write32(IOAPIC_SELECT, IOAPIC_ENTRIES + 2 * pin + half)
    if value is None:
        return machine.bus_read32(IOAPIC_WINDOW)
    machine.bus_write32(IOAPIC_WINDOW, value)
    return None


def test_untouched(machine):
    assert re.fullmatch(r"irq: 24 wires and 1 messages, 0 differences\n", machine.ok("irq check"))
    assert "0 differences" in machine.ok("idt check")


@pytest.mark.parametrize("what,half,change", [
    ("vector", 0, lambda low: low ^ 0x10),
    ("delivery mode", 0, lambda low: low | NMI),
    ("trigger", 0, lambda low: low ^ LEVEL),
    ("mask", 0, lambda low: low ^ MASKED),
    ("CPU", 1, lambda high: high ^ 0x01000000),
])
def test_a_redirection_entry(machine, what, half, change):
    """The serial line's own pin: nothing can be typed meanwhile, so the check is typed before."""
    right = pin_half(machine, SERIAL_PIN, half)

    def seen():  # within a second, or once more
        machine.send("echo begun; sleep 1; irq check; idt check > /dev/null || echo idt too\r")
        machine.expect("^begun\r?\n")
        pin_half(machine, SERIAL_PIN, half, change(right))
        said = machine.expect(
            r"^(?:GSI 4: its entry is 0x(\w{16}), the kernel wrote 0x(\w{16}): CHANGED\r?\n)?"
            r"irq: 24 wires and 1 messages, (?:1 differences\r?\nidt too|0 differences)\r?\n")
        pin_half(machine, SERIAL_PIN, half, right)
        machine.wait_prompt()
        return said if said[1] else None

    have, want = (int(group, 16) for group in wait_until(seen, "the change").groups())
    assert have ^ want == (change(right) ^ right) << (32 * half), what
    assert " 0 differences" in machine.ok("irq check")


def test_a_pin_that_nobody_requested(machine):
    right = pin_half(machine, FREE_PIN, 0)
    pin_half(machine, FREE_PIN, 0, 0x41)
    output, status = machine.run("irq check")
    pin_half(machine, FREE_PIN, 0, right)
    assert status == 1
    assert (f"GSI {FREE_PIN}: nobody requested it, and its entry 0x0000000000000041 is open"
            in output)
    assert " 0 differences" in machine.ok("irq check")


@pytest.mark.parametrize("offset,change", [(MSI_ADDRESS, lambda word: word ^ 0x1000),
                                           (MSI_DATA, lambda word: word ^ 0x1)])
def test_a_message(machine, offset, change):
    right = machine.bus_read32(AHCI + AHCI_MSI + offset)
    machine.bus_write32(AHCI + AHCI_MSI + offset, change(right))
    output, status = machine.run("irq check")
    machine.bus_write32(AHCI + AHCI_MSI + offset, right)
    assert status == 1 and "0000:00:1f.2: message 0 is " in output and "CHANGED" in output
    assert "1 messages, 1 differences" in output
    assert " 0 differences" in machine.ok("irq check")


def test_a_message_that_the_kernel_did_not_turn_on(boot, disk):
    m = boot(disks=[disk()], hostile=True, append="pci=nomsi")
    assert " 0 differences" in m.ok("irq check")
    control = m.bus_read32(AHCI + AHCI_MSI)
    m.bus_write32(AHCI + AHCI_MSI, control | 1 << 16)
    output, status = m.run("irq check")
    assert status == 1
    assert "0000:00:1f.2: MSI is on, and the kernel did not turn it on: CHANGED" in output
