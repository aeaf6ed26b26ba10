"""A CPU's timer interrupt is lost, as a broken machine loses it: told, and got going again."""

import os
import subprocess

import pytest

from machine import ELF, TIMEOUT, TOP


@pytest.mark.parametrize("lose, told", [
    ("eoi", r"CPU#1: its timer is \d+ ms late: vector 0xec was in service.*EOI was lost; ended"),
    ("look", r"CPU#1: its timer is \d+ ms late, and nothing holds it back.*sent again")])
def test_a_lost_timer_interrupt_is_made_good(boot, tmp_path, lose, told):
    path = str(tmp_path / "gdb.sock")
    m = boot(cpus=2, gdb=path, halted=False)
    m.ok("echo 1 >/proc/sys/kernel/watchdog_thresh")
    # A thread that sleeps there, again and again: its interrupt is to come soon.
    m.ok("taskset 2 watch -n 0.1 true >/dev/null &")
    gdb = subprocess.run(
        ["gdb", "-nx", "-q", "-batch", "-x", f"{TOP}/tests/console/gdb_lose.py", ELF],
        capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL,
        env=dict(os.environ, GDB_SOCKET=path, LOSE=lose, PYTHONDONTWRITEBYTECODE="1"))
    assert "LOST, back in" in gdb.stdout, gdb.stdout + gdb.stderr
    m.expect(told)
    m.ok("taskset 2 sleep 0.2")
