"""The scheduler's campaigns: short in every test run, long in make test-long."""

import pytest

MACHINE = dict(cpus=4)


def test_changes_at_random(machine):
    line = machine.ok("lab threads 3000", timeout=120)
    assert line.startswith("3000 changes") and "on a forbidden CPU 0, lost 0" in line


def test_no_wakeup_is_lost(machine):
    line = machine.ok("lab ping 4000", timeout=120)
    assert "between 4 pairs of threads; lost 0" in line
    assert machine.run("lab ping 0")[1] == 2


@pytest.mark.long
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_a_million_changes(boot, cpus):
    line = boot(cpus=cpus).ok("lab threads 1000000", timeout=3600)
    assert "on a forbidden CPU 0, lost 0" in line


@pytest.mark.long
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_a_million_wakeups(boot, cpus):
    line = boot(cpus=cpus).ok("lab ping 1000000", timeout=3600)
    assert "; lost 0" in line
