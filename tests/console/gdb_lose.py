"""Run by gdb (test_late_timer.py): CPU 1's timer interrupt comes to nothing.

LOSE=eoi: it ends before the local APIC is told. LOSE=look: that is told, but nobody looks at the
timers, so nobody sets the next."""

import os

import gdb

PLACE = {"eoi": "irq_dispatch_system if vector == 0xec && cpu->id == 1",
         "look": "hrtimer_interrupt if *(unsigned *)($gs_base + 8) == 1"}  # struct cpu: id

gdb.execute("set pagination off")
gdb.execute("set confirm off")
gdb.execute(f"target remote {os.environ['GDB_SOCKET']}", to_string=True)
try:
    gdb.execute(f"break {PLACE[os.environ['LOSE']]}", to_string=True)
    gdb.execute("continue", to_string=True)
    gdb.execute("return", to_string=True)
    gdb.execute("delete")
    print("LOST, back in", gdb.selected_frame().name())
finally:
    gdb.execute("detach")
