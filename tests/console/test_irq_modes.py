"""How a device interrupts: MSI-X, MSI, its wire, or not at all; changed while it works."""
import re

import pytest

from machine import wait_until

MACHINE = dict(cpus=2, nics=["user"], disk=True, append="ip=10.0.2.15/24",
               extra=["-device", "edu,addr=5"])

KINDS = {"intx": "INTx", "msi": "MSI", "poll": "POLL"}
DIGEST = "dd if=/dev/sda bs=65536 count=32 iflag=direct | sha256sum"


def count_of(machine, name):
    line = next(line for line in machine.ok("cat /proc/interrupts").splitlines()
                if re.search(rf"(  |, ){re.escape(name)}", line))
    return sum(int(n) for n in line.split()[1:3]), line


def test_a_reading_disk_changes_its_interrupt(machine):
    """Every block of a read that runs over all the switches is right, and none is waited for."""
    digest = machine.ok(DIGEST).splitlines()[-1]
    machine.ok("echo 250 > /proc/irq/poll_hz")
    for mode in ("intx", "msi", "intx", "poll", "msi") * 2:
        machine.ok(f"{DIGEST} > /tmp/digest &")
        said = machine.ok(f"irq mode ahci {mode}")
        assert "while it works" in said and f"-> {KINDS[mode]} " in said, said
        machine.ok("wait")
        assert machine.ok("cat /tmp/digest").strip() == digest
    machine.ok("echo 10 > /proc/irq/poll_hz")
    log = machine.ok("dmesg")
    assert "BUG" not in log and "lost interrupt" not in log
    assert "timeouts 0," in machine.ok("cat /proc/driver/ahci")


def test_a_card_changes_its_interrupt(machine):
    for mode, kind in (("poll", "POLL"), ("intx", "INTx")):
        assert f"-> {kind} irq" in machine.ok(f"irq mode eth0 {mode}")
        before, line = count_of(machine, "eth0")
        assert ("PCI-POLL-" in line) == (kind == "POLL")
        machine.wait_for_answer()

        def counted():  # the answer may have come with the look before: then the next one's
            machine.ok("ping -c 1 10.0.2.2")
            return count_of(machine, "eth0")[0] > before

        wait_until(counted, "an interrupt")
    output, status = machine.run("irq mode eth0 msi")
    assert status == 1 and "cannot use msi" in output and "it has INTx" in output
    machine.ok("irq why eth0")


def test_a_polled_device_is_shown_and_asked(machine):
    said = machine.ok("irq mode edu poll")
    irq = int(re.search(r"-> POLL irq (\d+)", said).group(1))
    assert "has no interrupt, and is asked" in machine.ok("dmesg")
    before, _ = count_of(machine, "edu")
    machine.ok("echo 100 > /proc/irq/poll_hz")
    machine.ok("echo raise 20 > /proc/driver/edu")
    machine.ok("echo 10 > /proc/irq/poll_hz")
    assert count_of(machine, "edu")[0] >= before + 20
    assert "POLL" in machine.ok("irq route edu")
    machine.ok(f"irq why {irq}")
    for hz in ("0", "1000", "-1", "x"):
        assert machine.run(f"echo {hz} > /proc/irq/poll_hz")[1] == 1
    machine.ok("irq mode edu auto")
    machine.ok("echo raise 20 > /proc/driver/edu")


@pytest.mark.parametrize("machine_type", ["q35", "pc"])
def test_no_interrupts_at_all(boot, disk, machine_type):
    """The last resort from the first probe on: disk and card are served ten times a second."""
    m = boot(machine=machine_type, cpus=2, disks=[disk()], nics=["user"],
             append="pci=noirq ip=10.0.2.15/24")
    log = m.ok("dmesg")
    assert log.count("has no interrupt, and is asked") >= 2
    table = m.ok("cat /proc/interrupts")
    assert len(re.findall(r"PCI-POLL-\S+ +0-edge", table)) >= 2
    assert not re.search(r"PCI-MSI|fasteoi.*(eth0|ahci)", table)
    m.ok("dd if=/dev/sda of=/dev/null bs=4096 count=8 iflag=direct")
    m.wait_for_answer()
