"""Run by gdb (test_gdb.py): follow one interrupt of the network card from its stub and back.

Every step prints what it saw; a wrong one raises, and gdb ends with an error.
"""

import os
import sys

import gdb

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tools", "gdb"))
import tophalf  # noqa: E402


def register(name):
    return int(gdb.execute(f"print/x ${name}", to_string=True).split("=")[1], 16)


def word(address):
    memory = gdb.selected_inferior().read_memory(address, 8).tobytes()
    return int.from_bytes(memory, "little")


def run_to(location, condition=None):
    """Continue until a hardware breakpoint there is hit."""
    stop = gdb.Breakpoint(location, type=gdb.BP_HARDWARE_BREAKPOINT, temporary=False)
    if condition:
        stop.condition = condition
    gdb.execute("continue", to_string=True)
    hits = stop.hit_count
    stop.delete()
    assert hits == 1, f"{location}: hit {hits} times"


def function_at(address):
    return tophalf.symbol(address).split(" + ")[0].split("+")[0]


def frames():
    """The backtrace, innermost first: (function, address)."""
    found = []
    frame = gdb.newest_frame()
    while frame is not None and len(found) < 40:
        found.append((frame.name(), frame.pc()))
        frame = frame.older()
    return found


def iretq_of_kernel():
    """Addresses of the iretq instructions on the way back from an interrupt."""
    found = []
    for line in gdb.execute("x/60i isr_return", to_string=True).splitlines():
        if "iret" in line:
            found.append(int(line.replace("=>", "").split()[0], 16))
    return found


def follow():
    handler_of = {tophalf.text(a["name"]): (int(d["data"]["vector"]), int(a["handler"]))
                  for _, d, actions in tophalf.irqs() for a in actions}
    vector, handler = handler_of["eth0"]
    stub = dict(tophalf.idt())[vector]
    print(f"STUB vector {vector:#x} at {tophalf.symbol(stub)}")

    # 1: the stub's first instruction; the CPU has pushed rip cs rflags rsp ss.
    run_to(f"*{stub:#x}")
    top = register("rsp")
    rip, cs, rflags = word(top), word(top + 8), word(top + 16)
    assert cs & 3 == 0 and rflags & 0x200, f"cs {cs:#x} rflags {rflags:#x}"
    assert not register("eflags") & 0x200, "an interrupt gate clears IF"
    interrupted = function_at(rip)
    print(f"INTERRUPTED {interrupted}")
    outer = frames()
    assert outer[1][1] == rip, f"bt in the stub: {outer}"
    interrupted_frame = outer[1]  # its name differs from the symbol's where a function was inlined

    # 2: instruction by instruction into C.
    steps = 0
    while gdb.selected_frame().name() != "interrupt":
        gdb.execute("stepi", to_string=True)
        steps += 1
        assert steps < 100, "never came to interrupt()"
        unwound = frames()
        assert interrupted_frame in unwound, f"after {steps} steps bt is broken: {unwound}"
    print(f"SPINE after {steps} instructions")

    # 3: the driver's top half, and the backtrace through the interrupt frame.
    run_to(f"*{handler:#x}")
    trace = frames()
    names = [name for name, _ in trace]
    print("BACKTRACE " + " < ".join(str(name) for name in names))
    assert "interrupt" in names and interrupted_frame in trace, trace
    assert names.index("interrupt") < trace.index(interrupted_frame), names
    below = trace[trace.index(interrupted_frame):]
    assert below == outer[1:], "below the interrupt frame, bt differs from the one in the stub"

    # 4: back through the iretq that uses this very frame, onto the interrupted instruction.
    returns = iretq_of_kernel()
    assert len(returns) == 1, returns
    run_to(f"*{returns[0]:#x}", f"$rsp == {top:#x}")
    assert word(top) == rip
    gdb.execute("stepi", to_string=True)
    assert register("rip") == rip, f"landed on {register('rip'):#x}, not {rip:#x}"
    assert register("eflags") & 0x200, "iretq gives IF back"
    print(f"RETURNED to {function_at(rip)}")


def stops():
    """`tophalf stops` takes one the same way, and on to a frame that comes up from the card."""
    gdb.execute("tophalf stops eth0", to_string=True)
    found = []
    for _ in range(100):
        gdb.execute("continue", to_string=True)
        stop = gdb.selected_frame().name()  # irq_dispatch is in line
        if found[-1:] != [stop]:  # one stop may be two places, where the compiler split a function
            found = [stop] if stop == "isr_stubs" else found + [stop]
        if found[0] == "isr_stubs" and stop == "netif_receive_skb":
            break
    gdb.execute("delete")
    print("STOPS " + " ".join(found))


gdb.execute("set pagination off")
gdb.execute(f"tophalf attach {os.environ['GDB_SOCKET']}", to_string=True)
try:
    follow()
    print("--- walk")
    gdb.execute("tophalf walk eth0")
    print("--- walked")
    stops()
    for name in ("irqs", "idt", "cpus", "threads"):
        print(f"--- {name}")
        gdb.execute(f"tophalf {name}")
    print("ALL DONE")
finally:
    gdb.execute("detach")
