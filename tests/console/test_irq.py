"""irq, driver, idt, apic: the interrupt path seen from the console, and mended there."""
import re

MACHINE = dict(cpus=2, nics=["user"], disk=True)


DIGEST = "dd if=/dev/sda bs=64K iflag=direct status=none | sha256sum"


def irq_of(machine, name):
    for line in machine.ok("cat /proc/interrupts").splitlines():
        if re.search(rf"  {re.escape(name)}(\[|,|\s|$)", line):
            return int(line.split(":")[0]), line
    raise AssertionError(f"{name} has no line in /proc/interrupts")


def test_disk_interrupts_by_message(machine):
    irq, line = irq_of(machine, "ahci")
    assert irq >= 24 and "PCI-MSI-0000:00:1f.2" in line and "0-edge" in line
    route = machine.ok(f"irq route {irq}")
    address, data = re.search(r"address (0x[0-9a-f]+).*data (0x[0-9a-f]+)", route).groups()
    assert int(address, 16) & 0xfff00000 == 0xfee00000
    assert f"vector {data}" in route


def test_whole_chain(machine):
    for name in ("eth0", "ahci"):
        assert machine.ok(f"irq why {name}").rstrip().endswith("the chain is whole")


def test_why_names_a_disabled_line_and_its_cure(machine):
    irq, _ = irq_of(machine, "eth0")
    machine.ok(f"irq disable {irq}")
    output, status = machine.run(f"irq why {irq}")
    assert status == 1
    assert "first broken link: disabled, depth 1" in output
    cure = re.search(r"to mend it: (.*)", output).group(1).strip()
    assert cure == f"irq enable {irq}"
    machine.ok(cure)
    machine.ok(f"irq why {irq}")


def test_why_names_a_task_priority_that_holds_it_back(machine):
    irq, _ = irq_of(machine, "ahci")
    cpu = int(machine.ok(f"cat /proc/irq/{irq}/effective_affinity_list"))
    machine.ok(f"apic tpr {cpu} 0xe0")
    output, status = machine.run(f"irq why {irq}")
    machine.ok(f"apic tpr {cpu} 0")
    assert status == 1 and "task priority 0xe0 holds back" in output
    machine.ok(f"irq why {irq}")


def test_why_names_a_device_without_a_driver(machine):
    where = next(line.split()[0] for line in machine.ok("driver").splitlines() if " e1000 " in line)
    machine.ok(f"driver unbind {where}")
    output, status = machine.run(f"irq why {where}")
    assert status == 1 and f"to mend it: driver bind {where[5:]}" in output
    assert "eth0" not in machine.ok("cat /proc/interrupts")
    machine.ok(f"driver bind {where}")
    assert irq_of(machine, "eth0")
    machine.ok("irq why eth0")


def test_mode_switches_a_live_disk(machine):
    digest = machine.ok(DIGEST)
    assert "-> INTx irq 16" in machine.ok("irq mode ahci intx")
    irq, line = irq_of(machine, "ahci")
    assert irq == 16 and "IO-APIC" in line and "fasteoi" in line
    assert machine.ok(DIGEST) == digest
    output, status = machine.run("irq mode ahci msix")
    assert status == 1 and "cannot use msix" in output and "it has INTx" in output
    assert "-> MSI irq" in machine.ok("irq mode ahci auto")
    assert machine.ok(DIGEST) == digest
    assert irq_of(machine, "ahci")[0] >= 24


def test_affinity_of_a_message_moves_it(machine):
    irq, _ = irq_of(machine, "ahci")
    for cpu in (0, 1, 0):
        machine.ok(f"echo {1 << cpu} > /proc/irq/{irq}/smp_affinity")
        assert int(machine.ok(f"cat /proc/irq/{irq}/effective_affinity_list")) == cpu
        before = [int(n) for n in irq_of(machine, "ahci")[1].split()[1:3]]
        machine.ok("dd if=/dev/sda of=/dev/null bs=4096 count=8 iflag=direct")
        after = [int(n) for n in irq_of(machine, "ahci")[1].split()[1:3]]
        assert after[cpu] > before[cpu] and after[1 - cpu] == before[1 - cpu]


def test_unbind_and_bind_leave_nothing(machine):
    where = next(line.split()[0] for line in machine.ok("driver").splitlines() if " e1000 " in line)

    def cycles(count):
        for _ in range(count):
            machine.ok(f"driver unbind {where} && driver bind {where}")
        return int(machine.ok("free -k").splitlines()[1].split()[2])
    before = cycles(30)  # the packet pools of both CPUs are full now
    # A page a cycle would be 600 KiB; 16 stacks that the kernel keeps for the next thread are 256.
    assert cycles(150) <= before + 400
    assert "LEAK" not in machine.ok("dmesg")


def test_idt_is_as_at_boot(machine):
    assert "idt: 256 gates on 2 CPUs, 0 differences" in machine.ok("idt check")
    assert "#PF page fault" in machine.ok("idt 14")
    assert machine.run("idt 256")[1] == 2


def test_errors_say_what_to_do(machine):
    for command, status in (("irq why 99", 1), ("irq why nosuch", 1), ("irq frobnicate 4", 2),
                            ("irq mode ahci smoke-signals", 2), ("driver bind 00:1f.2", 1),
                            ("driver unbind 77:00.0", 1), ("driver eject 00:1f.2", 2),
                            ("apic tpr 9 0", 1), ("apic tpr 0 0xff", 1), ("irq enable 4", 1)):
        output, got = machine.run(command)
        assert got == status, f"{command}: {got}\n{output}"
        assert re.match(rf"{command.split()[0]}: ", output)


def test_handlers_are_timed(machine):
    irq, _ = irq_of(machine, "ahci")
    machine.ok("dd if=/dev/sda of=/dev/null bs=4096 count=4 iflag=direct")
    row = machine.ok(f"cat /proc/irq/{irq}/handlers").splitlines()[1].split()
    name, handled, total, longest, handler = row
    assert name.startswith("ahci[") and handler.startswith("ahci_interrupt")
    assert int(handled) >= 4 and int(total) >= int(longest) > 0


def test_threadirqs_moves_handlers_into_threads(boot, disk):
    m = boot(cpus=2, nics=["user"], disks=[disk()], append="threadirqs")
    irq, _ = irq_of(m, "ahci")
    threads = [line.split() for line in m.ok("ps").splitlines() if " irq/" in line]
    assert {t[-1] for t in threads} >= {f"irq/{irq}-ahci[000", "irq/4-ttyS0"}
    assert all(t[1:3] == ["FF", "50"] for t in threads)
    before = int(irq_of(m, "ahci")[1].split()[1]) + int(irq_of(m, "ahci")[1].split()[2])
    m.ok("dd if=/dev/sda of=/dev/null bs=4096 count=32 iflag=direct")
    after = int(irq_of(m, "ahci")[1].split()[1]) + int(irq_of(m, "ahci")[1].split()[2])
    assert after >= before + 32
    m.ok("irq why ahci")


def test_nomsi_leaves_the_wire(boot, disk):
    m = boot(disks=[disk()], append="pci=nomsi")
    assert irq_of(m, "ahci")[0] == 16
    m.ok("dd if=/dev/sda of=/dev/null bs=4096 count=4 iflag=direct")
    assert m.run("irq mode ahci msi")[1] == 1
