"""The benchmarks inside the kernel: exact under -icount, a table in any case."""

import re

import pytest

from machine import Machine

ROW = re.compile(r"^(\w+\.\w+) +(\d+) +(\d+) +(\d+) +(\d+|-) +(\d+|-)  (.+)$", re.M)


def rows(output):
    return {match[1]: [int(number) for number in match.groups()[1:4]]
            for match in ROW.finditer(output)}


@pytest.fixture(scope="module")
def counting():
    """One CPU whose time stamp counter counts instructions."""
    with Machine(cpus=1, name="bench-icount", extra=["-icount", "shift=0,sleep=off"]) as machine:
        yield machine


def test_instructions_are_counted_exactly(counting):
    """The same loop gives the same figure, and more work a larger one. The largest of a row is not
    compared: what the host types may come in the midst of one round."""
    first = rows(counting.ok("bench core"))
    again = rows(counting.ok("bench core"))
    assert {name: row[:2] for name, row in first.items()} == {
        name: row[:2] for name, row in again.items()}
    assert 1 <= first["core.nothing"][0] <= 4, first
    assert first["core.nothing"][0] < first["core.spin_lock_irqsave"][0]
    for name, (median, low, high) in first.items():
        assert low <= median <= high, name


def test_a_name_that_is_not_there(counting):
    output, status = counting.run("bench nosuchthing")
    assert status == 1
    assert "bench: nosuchthing: no benchmark has this in its name" in output
    output, status = counting.run("bench -t a b")
    assert status == 2
