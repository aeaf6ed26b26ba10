"""Run by gdb (test_unwind.py): at every instruction of the entry and the return path, gdb must see
the interrupted function with the registers that it had. This is what the .cfi lines in
kernel/x86/entry.S promise.
"""

import os

import gdb

REGISTERS = "rip rsp rbp rax rbx rcx rdx rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()
MASK = (1 << 64) - 1


def register(name, frame=None):
    return int((frame or gdb.newest_frame()).read_register(name)) & MASK


def word(address):
    memory = gdb.selected_inferior().read_memory(address, 8).tobytes()
    return int.from_bytes(memory, "little")


def run_to(location, condition=None):
    stop = gdb.Breakpoint(location, type=gdb.BP_HARDWARE_BREAKPOINT)
    if condition:
        stop.condition = condition
    gdb.execute("continue", to_string=True)
    stop.delete()


def instruction():
    return gdb.execute("x/i $rip", to_string=True).strip()


def check(wanted):
    """Outwards from here there is a frame with the interrupted rip and registers."""
    frame = gdb.newest_frame()
    while frame is not None and frame.pc() != wanted["rip"]:
        frame = frame.older()
    assert frame is not None, f"lost the way at {instruction()}"
    for name in REGISTERS:
        seen = register(name, frame)
        assert seen == wanted[name], \
            f"{name} is {seen:#x}, was {wanted[name]:#x}; unwound at {instruction()}"
    older = frame.older()
    return older.pc() if older else 0


def follow(title, vector, has_error, common, returns):
    stub = f"*((char *)&isr_stubs + {16 * vector})"
    print(f"READY {title}", flush=True)
    run_to(stub)
    top = register("rsp") + (8 if has_error else 0)
    wanted = {name: register(name) for name in REGISTERS}
    wanted["rip"], wanted["rsp"] = word(top), word(top + 24)
    caller = check(wanted)
    steps = 0
    while gdb.newest_frame().name() != "interrupt":
        gdb.execute("stepi", to_string=True)
        assert check(wanted) == caller, f"another caller at {instruction()}"
        steps += 1
        assert steps < 60, "never came to interrupt()"
    print(f"IN {title}: {steps} instructions of {common}")

    # Where the call in `common` returns to, when it returns to this very frame.
    run_to(f"*{returns:#x}", f"$rsp == {top - 136 - 16:#x}")
    steps = 0
    while register("rsp") != wanted["rsp"] or register("rip") != wanted["rip"]:
        check(wanted)
        gdb.execute("stepi", to_string=True)
        steps += 1
        assert steps < 60, "never came back"
    for name in REGISTERS:
        assert register(name) == wanted[name], f"{name} has changed"
    print(f"OUT {title}: {steps} instructions")


def after_call(function):
    """The address behind the one call in an assembly function."""
    lines = gdb.execute(f"x/60i {function}", to_string=True).splitlines()
    for line, following in zip(lines, lines[1:]):
        if "call" in line:
            return int(following.replace("=>", "").split()[0], 16)
    raise AssertionError(f"no call in {function}")


gdb.execute("set pagination off")
gdb.execute("set architecture i386:x86-64", to_string=True)
gdb.execute(f"target remote {os.environ['GDB_SOCKET']}", to_string=True)
try:
    common, paranoid = after_call("isr_common"), after_call("isr_paranoid")
    assert common == int(gdb.parse_and_eval("(unsigned long)&isr_return"))
    follow("timer", 0xec, False, "isr_common", common)
    gdb.execute("monitor nmi", to_string=True)
    follow("nmi", 2, False, "isr_paranoid", paranoid)
    follow("breakpoint", 3, False, "isr_common", common)
    print("ALL DONE")
finally:
    gdb.execute("detach")
