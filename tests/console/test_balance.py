"""irqbalance and isolcpus: who gets the interrupts when nobody says."""
import re

from machine import wait_until

# Everything begins on CPU 0, as on a machine where nobody has balanced anything.
MACHINE = dict(cpus=4, disk=True, append="irqaffinity=0",
               extra=["-device", "edu,addr=5", "-device", "edu,addr=6"])


def counts(machine, name):
    line = next(line for line in machine.ok("cat /proc/interrupts").splitlines()
                if re.search(rf"  {name}", line))
    return int(line.split(":")[0]), [int(n) for n in line.split()[1:5]]


def work(machine):
    machine.ok("echo raise 300 > /proc/driver/edu")
    machine.ok("dd if=/dev/sda of=/dev/null bs=4096 count=200 iflag=direct")


def test_without_it_all_is_on_one_cpu(machine):
    work(machine)
    for name in ("edu", "ahci"):
        _, per_cpu = counts(machine, name)
        assert per_cpu[0] >= 200 and sum(per_cpu[1:]) == 0
    assert "irqbalance is stopped" in machine.ok("irqbalance")


def test_oneshot_parts_the_busy_ones(machine):
    moved = int(machine.ok("irqbalance oneshot").split()[0])
    work(machine)
    assert moved + int(machine.ok("irqbalance oneshot").split()[0]) >= 1
    where = [int(machine.ok(f"cat /proc/irq/{counts(machine, name)[0]}/effective_affinity_list"))
             for name in ("edu", "ahci")]
    assert where[0] != where[1]
    before = [counts(machine, name)[1] for name in ("edu", "ahci")]
    work(machine)
    after = [counts(machine, name)[1] for name in ("edu", "ahci")]
    for k in range(2):  # all that came went to the new CPU
        assert after[k][where[k]] - before[k][where[k]] == sum(after[k]) - sum(before[k]) > 0


def test_a_banned_irq_stays_and_a_written_one_is_overridden(machine):
    edu, _ = counts(machine, "edu")
    ahci, _ = counts(machine, "ahci")
    machine.ok(f"irqbalance --banirq={edu}")
    for irq in (edu, ahci):
        machine.ok(f"echo 1 > /proc/irq/{irq}/smp_affinity")
    machine.ok("irqbalance oneshot")
    work(machine)
    machine.ok("irqbalance oneshot")
    assert machine.ok(f"cat /proc/irq/{edu}/smp_affinity") == "1\n"
    assert machine.ok(f"cat /proc/irq/{ahci}/smp_affinity") != "1\n"
    machine.ok(f"irqbalance --unbanirq={edu}")


def test_the_service_runs_and_stops(machine):
    machine.ok("irqbalance start -t 1")
    assert machine.run("irqbalance start")[1] == 1
    assert any(line.endswith(" irqbalance") for line in machine.ok("ps").splitlines())
    before = int(re.search(r"(\d+) rounds", machine.ok("irqbalance status")).group(1))
    wait_until(lambda: int(re.search(r"(\d+) rounds", machine.ok("irqbalance"))[1]) >= before + 2,
               "two rounds")
    machine.ok("irqbalance stop")
    assert "irqbalance is stopped" in machine.ok("irqbalance")
    assert machine.run("irqbalance --banirq=999")[1] == 1
    assert machine.run("irqbalance start -t 0")[1] == 1


def test_isolated_cpus_get_nothing(boot, disk):
    m = boot(cpus=4, disks=[disk()], append="isolcpus=2-3", extra=["-device", "edu,addr=5"])
    assert m.ok("cat /proc/irq/default_smp_affinity") == "3\n"
    for _ in range(3):
        work(m)
        m.ok("irqbalance oneshot")
    for name in ("edu", "ahci", "ttyS0"):
        assert counts(m, name)[1][2:] == [0, 0]
    free = re.compile(r"^(ksoftirqd|kworker|idle|migration)")
    rows = [line.split() for line in m.ok("ps").splitlines()[1:]]
    assert not [row for row in rows if int(row[5]) >= 2 and not free.match(row[-1])]
    irq, _ = counts(m, "ahci")
    m.ok(f"echo 8 > /proc/irq/{irq}/smp_affinity")  # by hand it can still be put there
    m.ok("dd if=/dev/sda of=/dev/null bs=4096 count=20 iflag=direct")
    assert counts(m, "ahci")[1][3] >= 20
