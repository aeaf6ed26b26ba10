#!/usr/bin/env python3
"""The checkers can fail: each is shown something wrong, and must say so.

A harness that calls everything good is worse than none; nobody would notice when it breaks.
"""

import argparse
import os
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TOP, "tests"), os.path.join(TOP, "tests", "console"),
                os.path.join(TOP, "tools")]
import contexts  # noqa: E402
import docs  # noqa: E402
import layers  # noqa: E402
import linux_formats  # noqa: E402
import qemu  # noqa: E402
import run  # noqa: E402


def counts(report):
    result = run.Result()
    run.read_tap(report, result, "sample")
    return result.passed, result.failed, result.skipped


def check_tap():
    assert counts("KTAP version 1\n1..2\nok 1 a\nok 2 b\n") == (2, 0, 0)
    assert counts("1..2\r\nok 1 a\r\nok 2 b # SKIP no card\r\n") == (1, 0, 1)
    assert counts("1..2\nok 1 a\nnot ok 2 b\n") == (1, 1, 0)
    assert counts("1..3\nok 1 a\nok 2 b\n") == (2, 1, 0), "a result is missing"
    assert counts("ok 1 a\n") == (0, 1, 0), "no plan"
    assert counts("") == (0, 1, 0), "silence"
    assert counts("1..1\n1..1\nok 1 a\n") == (0, 1, 0), "two plans"
    assert counts("1..2\nok 2 b\nok 1 a\n")[1] == 2, "out of order"


def check_contexts():
    with tempfile.NamedTemporaryFile("w", suffix=".h") as header:
        header.write("// A header. Context: thread.\n#pragma once\nint a(void);\n"
                     "// Context: any.\nint b(int x);\nint c(void); // Context: hard irq\n"
                     "static inline int d(void) // of us\n{\n    return 1;\n}\n\nint *e(void);\n")
        header.flush()
        found = [(name, contract) for name, contract, _ in contexts.prototypes(header.name)]
    assert found == [("a", "thread"), ("b", "any"), ("c", "hard irq"), ("d", "any"),
                     ("e", "thread")], found
    asked = contexts.beginning("    int x = y ? f() : 0;\n    g();\n    if (x) {\n        h();\n",
                               contexts.CONTROL)
    assert "g()" in asked and "h()" not in asked, "what comes behind a decision is not sure"
    assert "f()" not in contexts.beginning("    return x ? f() : 0;\n", contexts.DECISION)
    assert "f(" in contexts.beginning("    return f(x) ? 1 : 0;\n", contexts.DECISION)
    assert contexts.asserts("mutex_lock", r"might_sleep\(\)")
    assert not contexts.asserts("mutex_owner", r"might_sleep\(\)")
    assert contexts.check("mutex_owner", "thread"), "says thread, asserts nothing"
    assert contexts.check("mutex_owner", None) and contexts.check("mutex_owner", "sometimes")
    assert contexts.check("kmalloc", "boot"), "is called from everywhere"


def check_exit_status():
    assert qemu.console_status(0) == 0
    assert qemu.console_status(qemu.EXIT_OK << 1 | 1) == 0
    assert qemu.console_status(qemu.EXIT_PANIC << 1 | 1) == qemu.EXIT_PANIC
    assert qemu.console_status(7 << 1 | 1) == 7
    assert qemu.console_status(-9) == 137


def check_layers():
    known = layers.Layers(os.path.join(TOP, "docs", "LAYERS"))
    assert known.may_see("kernel/irq", "kernel/x86")
    assert not known.may_see("kernel/irq", "kernel/sched")
    assert not known.may_see("drivers/net", "drivers/block"), "siblings are blind to each other"
    assert known.may_see("boot", "kernel/lib") and not known.may_see("boot", "kernel/core")
    assert known.place("include/irq/irq.h") == "kernel/irq"
    assert known.place("include/pci/pci.h") == "drivers/pci"
    assert known.place("kernel/main.c") == "kernel/main.c"
    assert known.place("somewhere/else.c") is None


def check_docs():
    sample = ("static int ring_push(struct ring *r,\n                     int x)\n{\n}\n"
              "struct ring {\n};\n#define RING_SIZE 8\nstatic int ring_count;\n"
              "int ring_declared(void);\n")
    with tempfile.NamedTemporaryFile("w", suffix=".c", delete=False) as file:
        file.write(sample)
    try:
        for name in ("ring_push", "ring", "RING_SIZE", "ring_count", "ring_declared"):
            assert docs.defines(file.name, name), name
        for name in ("ring_pus", "push", "x", "SIZE", "ring_pop"):
            assert not docs.defines(file.name, name), name
    finally:
        os.unlink(file.name)
    assert docs.check_command("no-such-command") and docs.check_command("cat /proc/no/such/file")
    assert docs.check_test("tests/no_such_test.py")
    assert docs.check_test("tests/console/test_gdb.py::test_that_is_not_there")


LINUX_INTERRUPTS = "           CPU0       CPU1       \n" + """\
 26:          0         13  IO-APIC   4-edge      ttyS0
 38:          0       3001 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
NMI:          0          0   Non-maskable interrupts
ERR:          0
MIS:          0
"""


def check_formats():
    table = linux_formats.parse_interrupts(LINUX_INTERRUPTS)
    assert table["irqs"][26] == {"counts": [0, 13], "chip": "IO-APIC", "hwirq": 4, "flow": "edge",
                                 "actions": ["ttyS0"]}
    assert table["irqs"][38]["chip"] == "PCI-MSIX-0000:00:03.0"
    assert table["rows"]["NMI"]["counts"] == [0, 0]
    for broken in (LINUX_INTERRUPTS.replace(" 26:", "26:"), LINUX_INTERRUPTS.replace("13", "3"),
                   LINUX_INTERRUPTS[:-1], LINUX_INTERRUPTS.replace("CPU1", "CPU2")):
        try:
            linux_formats.parse_interrupts(broken)
        except AssertionError:
            continue
        raise AssertionError(f"accepted:\n{broken}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build")
    parser.parse_args()
    checks = (check_tap, check_exit_status, check_layers, check_docs, check_contexts,
              check_formats)
    failed = 0
    for check in checks:
        try:
            check()
        except AssertionError as error:
            failed += 1
            print(f"selfcheck: {check.__name__}: line {error.__traceback__.tb_next.tb_lineno}: "
                  f"{error}")
    print(f"{len(checks) - failed} passed, {failed} failed, 0 skipped")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
