"""Run by gdb (test_fault.py): send the CPU to nowhere at a function's first instruction."""

import os

import gdb

gdb.execute("set pagination off")
gdb.execute("set architecture i386:x86-64", to_string=True)
gdb.execute(f"target remote {os.environ['GDB_SOCKET']}", to_string=True)
try:
    gdb.execute(f"hbreak {os.environ['AT']}", to_string=True)
    gdb.execute("continue", to_string=True)
    gdb.execute("delete")
    gdb.execute("set $rip = 0x600000000000")
finally:
    gdb.execute("detach")
