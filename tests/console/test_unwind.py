"""gdb unwinds through the entry code at each of its instructions, on the way in and out."""

import os
import re
import subprocess

from machine import ELF, TIMEOUT, TOP


def test_gdb_unwinds_at_every_instruction(boot, tmp_path):
    path = str(tmp_path / "gdb.sock")
    machine = boot(cpus=1, gdb=path, halted=False)
    with subprocess.Popen(
            ["timeout", str(TIMEOUT), "gdb", "-nx", "-q", "-batch", "-x",
             f"{TOP}/tests/console/gdb_unwind.py", ELF],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            env=dict(os.environ, GDB_SOCKET=path, PYTHONDONTWRITEBYTECODE="1")) as gdb:
        said = ""
        for line in gdb.stdout:
            said += line
            if line.startswith("READY breakpoint"):  # a trap that returns to where it struck
                machine.send("ktest exception.stray_breakpoint\r")
    assert "ALL DONE" in said, said
    for title in ("timer", "nmi", "breakpoint"):
        way_in = re.search(rf"^IN {title}: (\d+) instructions", said, re.M)
        way_out = re.search(rf"^OUT {title}: (\d+) instructions", said, re.M)
        assert int(way_in.group(1)) > 20 and int(way_out.group(1)) > 15, said
    machine.expect("1 passed, 0 failed")
    machine.wait_prompt()
    assert machine.ok("echo alive") == "alive\n"
