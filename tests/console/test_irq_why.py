"""irq why: every link of the chain broken on purpose, named first, and mended by what it says."""
import re

import pytest

from machine import wait_until

# On q35 slots 1 and 5 share GSI 21; the disk speaks by message. The bus is ours to write to.
MACHINE = dict(cpus=2, disk=True, hostile=True, append="ip=10.0.2.15/24",
               extra=["-netdev", "user,id=why0", "-device", "e1000,netdev=why0,addr=1",
                      "-device", "edu,addr=5"])

ECAM = 0xb0000000
NIC, EDU, AHCI = 0x08, 0x28, 0xfa  # slot << 3 | function
COMMAND, BAR0 = 4, 0x10
MASTER, INTX_OFF = 4, 0x400
IOAPIC_SELECT, IOAPIC_WINDOW = 0xfec00000, 0xfec00010
IOAPIC = "/machine/q35/ioapic"
KERNEL_BASE = 0xffffffff80000000
WIRE = 21


def config(bdf, offset):
    return ECAM + (bdf << 12) + offset


def change16(machine, address, clear, set_):
    value = int(machine.bus_command(f"readw {address:#x}")[0], 16)
    machine.bus_command(f"writew {address:#x} {value & ~clear | set_:#x}")


def entry(machine, pin, high=False):
    machine.bus_write32(IOAPIC_SELECT, 0x10 + 2 * pin + high)
    return machine.bus_read32(IOAPIC_WINDOW)


def set_entry(machine, pin, value, high=False):
    machine.bus_write32(IOAPIC_SELECT, 0x10 + 2 * pin + high)
    machine.bus_write32(IOAPIC_WINDOW, value)


def symbol(machine, name):
    line = next(line for line in machine.ok(f"grep {name} /proc/kallsyms").splitlines()
                if line.split()[2] == name)
    return int(line.split()[0], 16)


def nic_interrupts(machine):
    line = next(line for line in machine.ok("cat /proc/interrupts").splitlines()
                if re.search(r"(  |, )eth0", line))
    return sum(int(n) for n in line.split()[1:3])


def broken(machine, what, words):
    """The first broken link, and the command that mends it."""
    output, status = machine.run(f"irq why {what}")
    assert status == 1, output
    first = re.search(r"first broken link: (.*)\nto mend it: (.*)\n", output)
    assert words in first.group(1), output
    return first.group(2)


def mended(machine, cure, what="eth0"):
    """What was said mends it: the chain is whole, and the device interrupts."""
    machine.output_of(cure)
    output = machine.ok(f"irq why {what}")
    assert output.rstrip().endswith("the chain is whole")
    if what == "eth0":
        before = nic_interrupts(machine)
        machine.ok("ip addr add 10.0.2.15/24 dev eth0 || true")
        machine.wait_for_answer()
        assert nic_interrupts(machine) > before
    elif what == "ahci":
        machine.ok("dd if=/dev/sda of=/dev/null bs=4096 count=8 iflag=direct")
    else:
        machine.ok("echo raise 5 > /proc/driver/edu")


@pytest.fixture(autouse=True)
def whole_before(machine):
    for name in ("eth0", "ahci", "edu"):
        machine.ok(f"irq why {name}")


def test_device_mask(machine):
    registers = machine.bus_read32(config(NIC, BAR0)) & ~0xf
    machine.bus_write32(registers + 0xd8, 0xffffffff)  # IMC: nothing may interrupt
    cure = broken(machine, "eth0", "IMS is 0: the device may not interrupt at all")
    assert cure == "driver unbind 00:01.0; driver bind 00:01.0"
    mended(machine, cure)


def test_cause_that_is_masked(machine):
    registers = machine.bus_read32(config(NIC, BAR0)) & ~0xf
    machine.bus_write32(registers + 0xd8, 0xffffffff)
    machine.bus_write32(registers + 0xd0, 0x1)  # IMS: one that does not come
    machine.bus_write32(registers + 0xc8, 0x4)  # ICS: the link has changed
    mended(machine, broken(machine, "eth0", "asks, but IMS 0x1 lets none of it out"))


def test_intx_disable(machine):
    change16(machine, config(NIC, COMMAND), 0, INTX_OFF)
    cure = broken(machine, "eth0", "INTx is disabled in its command register")
    assert cure == f"irq reset {WIRE}"
    mended(machine, cure)


def test_bus_master(machine):
    change16(machine, config(AHCI, COMMAND), MASTER, 0)
    mended(machine, broken(machine, "ahci", "bus master is off"), "ahci")


def test_message_turned_off(machine):
    capability = 0x80
    change16(machine, config(AHCI, capability + 2), 1, 0)
    mended(machine, broken(machine, "ahci", "MSI is off in the device's capability"), "ahci")


def test_message_to_somewhere_else(machine):
    machine.bus_command(f"writew {config(AHCI, 0x80 + 12):#x} 0xe5")
    mended(machine, broken(machine, "ahci", "mean vector 0xe5"), "ahci")


def test_entry_masked(machine):
    set_entry(machine, WIRE, entry(machine, WIRE) | 1 << 16)
    mended(machine, broken(machine, "eth0", "the entry is masked, and the kernel does not know"))


def test_entry_with_a_wrong_vector(machine):
    set_entry(machine, WIRE, entry(machine, WIRE) & ~0xff | 0xe6)
    mended(machine, broken(machine, "eth0", "entry says vector 0xe6"))


def test_entry_to_nobody_and_remote_irr(machine):
    high = entry(machine, WIRE, high=True)
    set_entry(machine, WIRE, 0x55 << 24, high=True)
    broken(machine, "edu", "entry says vector")
    machine.send("echo raise 1 > /proc/driver/edu\r")
    machine.wait_prompt()  # it has timed out: the level went to a CPU that is not there
    set_entry(machine, WIRE, high, high=True)
    mended(machine, broken(machine, "edu", "remote IRR is stuck"), "edu")


def test_task_priority(machine):
    machine.ok(f"echo 1 > /proc/irq/{WIRE}/smp_affinity_list")  # the console's line is CPU 0's
    machine.ok("apic tpr 1 0xd0")
    cure = broken(machine, "eth0", "task priority 0xd0 holds back")
    assert cure == "apic tpr 1 0"
    mended(machine, cure)


def test_eoi_that_was_forgotten(machine):
    machine.ok(f"break lost-eoi {WIRE}")
    machine.send("echo raise 2 > /proc/driver/edu\r")
    machine.wait_prompt()  # the first came, the second did not
    mended(machine, broken(machine, "edu", "is in service and was never ended (EOI)"), "edu")


def test_eoi_of_another_vector(machine):
    """What is in service holds back its class and all below, whoever's they are."""
    cpu = int(machine.ok(f"cat /proc/irq/{WIRE}/effective_affinity_list"))
    ahci = int(re.search(r"^irq (\d+)", machine.ok("irq route ahci")).group(1))
    vectors = {irq: int(re.search(r"CPU +\d+, vector 0x(\w\w)", machine.ok(f"irq route {irq}"))
                        .group(1), 16) for irq in (WIRE, ahci)}
    low, high = sorted(vectors, key=vectors.get)
    machine.ok(f"echo {cpu} > /proc/irq/{ahci}/smp_affinity_list")
    machine.ok(f"break lost-eoi {high}")
    if high == ahci:
        machine.ok("dd if=/dev/sda of=/dev/null bs=4096 count=1 iflag=direct")
    else:
        machine.ok("echo raise 1 > /proc/driver/edu")
    name = "ahci" if low == ahci else "edu"
    cure = broken(machine, name, f"vector 0x{vectors[high]:02x} was never ended (EOI) and holds")
    mended(machine, cure, name)


def test_cpu_with_interrupts_off(boot):
    m = boot(cpus=3, append="isolcpus=2", extra=["-device", "edu,addr=5"])  # nobody else is on it
    m.ok(f"echo 2 > /proc/irq/{WIRE}/smp_affinity_list")

    def deaf():  # from half a second on, and for ten
        m.ok("break deaf-cpu 10000")
        m.ok("sleep 0.8")
        return re.search(r"first broken link: .*interrupts are off there \(IF = 0\).*\n"
                         r"to mend it: (.*)\n", m.run("irq why edu")[0])

    cure = wait_until(deaf, lambda: f"a deaf CPU\n{m.run('irq why edu')[0]}")[1]
    assert cure == f"echo 0 > /proc/irq/{WIRE}/smp_affinity_list"
    mended(m, cure, "edu")


def test_gate_that_was_bent(machine):
    vector = int(re.search(r"vector 0x(\w\w), class", machine.ok(f"irq route {WIRE}")).group(1), 16)
    gate = symbol(machine, "idt") - KERNEL_BASE + 16 * vector
    unused = gate - 16 * vector + 16 * 0xe7
    machine.bus_write32(gate, machine.bus_read32(unused))
    cure = broken(machine, "eth0", f"gate 0x{vector:02x} is not as at boot")
    mended(machine, cure)
    assert ", 0 differences" in machine.ok("idt check")


def test_disabled_line(machine):
    machine.ok(f"irq disable {WIRE}")
    mended(machine, broken(machine, "eth0", "disabled, depth 1"))


def test_nobody_has_requested_it(machine):
    assert broken(machine, 22, "no handler: nobody has requested irq 22").startswith("driver bind")


def test_device_without_a_driver(machine):
    machine.ok("driver unbind 00:05.0")
    cure = broken(machine, "00:05.0", "has no driver")
    mended(machine, cure, "edu")


def test_wrong_trigger(machine, boot):
    m = boot(cpus=1, extra=["-device", "edu,addr=5"])
    m.ok("echo fault edge > /proc/driver/edu")
    assert broken(m, "edu", "a PCI wire is a level, and is requested as an edge")
    m.ok("driver unbind 00:05.0; driver bind 00:05.0")
    m.ok("echo raise 5 > /proc/driver/edu")


def test_last_ones_were_nobodys(machine):
    def noted():  # those a tenth of a second apart are forgiven: on a slow host, again
        machine.ok(f"irq reset {WIRE}")  # the counts begin anew
        for _ in range(50):
            machine.bus_command(f"set_irq_in {IOAPIC} unnamed-gpio-in {WIRE} 1")
            machine.bus_command(f"set_irq_in {IOAPIC} unnamed-gpio-in {WIRE} 0")
        return re.search(r"first broken link: .*interrupts were nobody's.*\nto mend it: (.*)\n",
                         machine.run("irq why edu")[0])

    mended(machine, wait_until(noted, "interrupts that were nobody's")[1], "edu")


def test_culprit_of_a_storm_is_named(machine):
    machine.ok("echo 900 1000 > /proc/irq/spurious_rule")
    machine.ok("echo storm > /proc/driver/edu")
    machine.wait_for_log(f"Disabling IRQ #{WIRE}")
    cure = broken(machine, "eth0", "nobody cared")
    assert cure == f"driver unbind 00:05.0; irq reset {WIRE}"
    machine.output_of(cure)
    machine.ok("irq why eth0")
    machine.ok("driver bind 00:05.0")
    machine.ok("echo 99900 100000 > /proc/irq/spurious_rule")


def test_cause_that_is_never_acknowledged(machine):
    machine.ok(f"echo 1 > /proc/irq/{WIRE}/smp_affinity_list")
    machine.ok("echo fault no-ack > /proc/driver/edu")
    machine.send("echo raise 1 > /proc/driver/edu\r")
    machine.wait_prompt()
    cure = broken(machine, "00:05.0", "it does not acknowledge it")
    assert cure == "driver unbind 00:05.0; driver bind 00:05.0"
    mended(machine, cure, "edu")


def test_pin_led_elsewhere(boot):
    """On the pc the chipset's PIRQ registers lead the pins: a write there, and nobody hears."""
    m = boot(machine="pc", cpus=2, hostile=True, extra=["-device", "edu,addr=5"])
    irq = int(re.search(r"^irq (\d+)", m.ok("irq route edu")).group(1))
    other = 10 if irq == 11 else 11
    for register in range(0x60, 0x64):
        m.bus_command(f"outl 0xcf8 {0x80000000 | 1 << 11 | register & ~3:#x}")
        m.bus_command(f"outb {0xcfc + (register & 3):#x} {other:#x}")
    cure = broken(m, "edu", f"the chipset leads INTA to irq {other} now")
    assert cure == "irq mode 00:05.0 intx"
    m.ok(cure)
    m.ok("irq why edu")
    m.ok("echo raise 5 > /proc/driver/edu")


def test_types_of_every_device(machine):
    table = machine.ok("irq types")
    assert re.search(r"00:01\.0 +e1000 +A +- +- +INTx, irq 21", table)
    assert re.search(r"00:1f\.2 +ahci +A +1, 64-bit, no mask +- +MSI, irq \d+", table)
