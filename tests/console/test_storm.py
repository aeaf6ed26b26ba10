"""The edu device: interrupts on demand, a wire shared with a network card, and storms on it."""
import re

from machine import wait_until

# On q35 slots 1 and 5 share a wire: GSI 21.
MACHINE = dict(cpus=2, extra=["-netdev", "user,id=storm0",
                              "-device", "e1000,netdev=storm0,addr=1", "-device", "edu,addr=5"])


def edu(machine):
    text = machine.ok("cat /proc/driver/edu")
    interrupts, foreign = re.search(r"interrupts (\d+), not ours (\d+)", text).groups()
    return int(interrupts), int(foreign), text


def line_of(machine):
    return next(line for line in machine.ok("cat /proc/interrupts").splitlines() if "edu" in line)


def calm(machine, irq):
    machine.ok("echo calm > /proc/driver/edu")
    machine.run(f"irq enable {irq}")


def test_shared_wire_calls_both(machine):
    assert re.search(r"^ *21:.*IO-APIC +21-fasteoi +(eth0, edu|edu, eth0)$", line_of(machine), re.M)
    before, _, _ = edu(machine)
    machine.ok("echo raise 500 > /proc/driver/edu")
    assert edu(machine)[0] == before + 500


def test_factorial_interrupts(machine):
    before, _, _ = edu(machine)
    machine.ok("echo factorial 10 > /proc/driver/edu")
    assert edu(machine)[0] == before + 1
    assert "10! is 3628800 modulo" in machine.ok("dmesg")


def test_message_instead_of_wire(machine):
    assert "-> MSI irq" in machine.ok("irq mode edu msi")
    before, others, _ = edu(machine)
    machine.ok("echo raise 300 > /proc/driver/edu")
    interrupts, foreign, _ = edu(machine)
    assert interrupts == before + 300 and foreign <= others + 1  # nobody else's line
    assert "-> INTx irq 21" in machine.ok("irq mode edu intx")


def test_storm_is_shut_and_the_sharer_polled(machine):
    machine.wait_for_address()
    machine.ok("echo storm > /proc/driver/edu")
    machine.wait_for_log("Disabling IRQ #21")
    log = machine.ok("dmesg")
    assert 'irq 21: nobody cared (try booting with the "irqpoll" option)' in log
    assert "e1000_interrupt" in log and "edu_dead_interrupt" in log
    output, status = machine.run("irq why 21")
    assert status == 1 and "nobody cared" in output
    assert "to mend it: driver unbind 00:05.0; irq reset 21" in output
    assert " 0% packet loss" in machine.ok("ping -c 3 10.0.2.2")  # served ten times a second
    calm(machine, 21)
    before, _, _ = edu(machine)
    machine.ok("echo raise 100 > /proc/driver/edu")
    assert edu(machine)[0] == before + 100
    machine.ok("irq why 21")


def test_backoff_brings_the_line_back(machine):
    machine.ok("echo 900 1000 > /proc/irq/spurious_rule")
    machine.ok("echo backoff > /proc/irq/spurious_rule")
    assert machine.ok("cat /proc/irq/spurious_rule") == "900 of 1000 backoff\n"
    machine.ok("echo storm > /proc/driver/edu")

    def waits_told():
        return re.findall(r"irq 21: comes back in (\d+) ms", machine.ok("dmesg"))

    wait_until(lambda: len(set(waits_told())) >= 3, "three waits, each longer")
    waits = [int(ms) for ms in waits_told()]
    assert all(b == 2 * a for a, b in zip(waits, waits[1:])), waits
    machine.ok("echo calm > /proc/driver/edu")
    wait_until(lambda: machine.run("irq why 21")[1] == 0, "it comes back by itself")
    before, _, _ = edu(machine)
    machine.ok("echo raise 100 > /proc/driver/edu")
    assert edu(machine)[0] == before + 100
    machine.ok("echo disable > /proc/irq/spurious_rule")
    machine.ok("echo 99900 100000 > /proc/irq/spurious_rule")


def test_rule_refuses_nonsense(machine):
    for rule in ("", "1", "5 5", "10 9", "-1 100", "99999999999 100", "maybe", "1 2 3"):
        assert machine.run(f'echo "{rule}" > /proc/irq/spurious_rule')[1] == 1


def test_irqpoll_asks_every_line(boot):
    m = boot(cpus=1, append="irqpoll", extra=["-device", "edu,addr=5"])
    m.ok("irq disable edu")  # deaf by hand: not even irqpoll asks
    assert m.run("echo raise 1 > /proc/driver/edu")[1] == 1
    m.ok("irq enable edu")
    m.ok("echo raise 10 > /proc/driver/edu")
    _, foreign, _ = edu(m)
    wait_until(lambda: edu(m)[1] >= foreign + 3, "it is asked without an interrupt")
