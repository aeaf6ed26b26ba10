"""A real gdb follows an interrupt: stub, spine, top half, iretq, the interrupted instruction."""

import os
import re
import subprocess

from machine import ELF, TIMEOUT, TOP


def test_gdb_follows_an_interrupt_through_the_kernel(boot, tmp_path):
    path = str(tmp_path / "gdb.sock")
    machine = boot(cpus=1, nics=["user"], append="ip=10.0.2.15/24,10.0.2.2", gdb=path,
                   halted=False)
    machine.wait_for_answer()
    machine.send("ping -i 0.1 10.0.2.2\r")
    machine.expect("bytes from 10.0.2.2")
    gdb = subprocess.run(
        ["gdb", "-nx", "-q", "-batch", "-x", f"{TOP}/tests/console/gdb_interrupt.py", ELF],
        capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL,
        env=dict(os.environ, GDB_SOCKET=path, PYTHONDONTWRITEBYTECODE="1"))
    said = gdb.stdout
    shown = re.sub(r"^0x\w\w isr_stubs.*\n", "", said, flags=re.M)  # 256 lines of no news
    assert "ALL DONE" in said, f"{shown}\n{gdb.stderr}"
    assert re.search(r"^STUB vector 0x\w\w at \w+", said, re.M)
    assert re.search(r"^BACKTRACE e1000_interrupt < .*irq_dispatch < .*interrupt < ", said,
                     re.M), shown
    interrupted = re.search(r"^INTERRUPTED (\w+)", said, re.M).group(1)
    assert f"RETURNED to {interrupted}" in said
    assert ("STOPS isr_stubs interrupt irq_dispatch e1000_interrupt softirq_serve "
            "netif_receive_skb") in said, shown
    walk = [line for line in said.split("--- walk\n")[1].split("--- walked\n")[0].splitlines()
            if re.match(r"[ \d]\d [a-zA-Z]", line)]
    assert [int(line[:2]) for line in walk] == list(range(1, 11)), walk
    for number, words in ((1, "the device asks: irq"), (3, "clears IF: on before, off now"),
                          (7, "flow_level"), (8, "e1000_interrupt"),
                          (10, "IF on, as if nothing had been")):
        assert words in walk[number - 1], walk
    tables = said.split("--- walked\n")[1].split("--- ")[1:]
    assert [table.split("\n")[0] for table in tables] == ["irqs", "idt", "cpus", "threads"]
    assert re.search(r"eth0 e1000_interrupt", tables[0]) and re.search(r"ttyS0", tables[0])
    assert len(re.findall(r"^0x\w\w \w", tables[1], re.M)) == 256
    assert len(tables[2].splitlines()) == 3
    assert re.search(r"ksoftirqd/0", tables[3])

    # gdb has let go: the kernel runs on.
    machine.send("\x03")
    machine.wait_prompt()
    assert machine.ok("echo alive") == "alive\n"
