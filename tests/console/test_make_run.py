"""What a newcomer types: `make run`, on a terminal."""

import contextlib
import os

import pexpect

from machine import BUILD, PROMPT, TIMEOUT, TOP


@contextlib.contextmanager
def make_run(*variables):
    """The terminal on which it was typed."""
    # A make of our own, not a part of the one that may have started these tests.
    clean = {name: value for name, value in os.environ.items()
             if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    # The word that `make test` uses: another one is another build, linked anew under other tests.
    build = os.path.relpath(BUILD, TOP)
    terminal = pexpect.spawn("make", ["run", f"BUILD={build}", *variables], cwd=TOP,
                             timeout=TIMEOUT, encoding="utf-8", env=clean)
    try:
        yield terminal
    finally:
        terminal.close(force=True)


def end_by(terminal, keys):
    """At the prompt; make's exit status."""
    terminal.expect_exact(PROMPT)
    terminal.send(keys)
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal.exitstatus


def run_line(terminal, line, says):
    terminal.expect_exact(PROMPT)
    terminal.send(f"{line}; echo status=$?\r")
    terminal.expect(says)
    terminal.expect(r"\nstatus=0\r*\n")


def test_make_run_reaches_the_prompt_and_poweroff_ends_it():
    with make_run() as terminal:
        terminal.expect("Ctrl-A x")
        run_line(terminal, "echo it lives", r"\nit lives\r")
        assert end_by(terminal, "poweroff\r") == 0


def test_make_run_has_the_devices_that_labs_need(tmp_path):
    # Boot options make another image: one of our own, for others boot the usual one meanwhile.
    with make_run("IOMMU=intel", "APPEND=intel_iommu=on", f"ISO={tmp_path}/ours.iso") as terminal:
        run_line(terminal, "lab bottomhalves 5", "served by")
        run_line(terminal, "lab nvme-read", "doorbell")
        run_line(terminal, "lab rogue-dma", "DMAR")
        assert end_by(terminal, "poweroff\r") == 0


def test_make_run_on_pc_has_an_ide_disk():
    with make_run("MACHINE=pc") as terminal:
        run_line(terminal, "lab pio-dma", "cycles per byte")


def test_make_run_says_the_kernels_exit_status():
    with make_run("NET=none", "DISK=none", "LABS=no", "CPUS=1") as terminal:
        assert end_by(terminal, "exit 3\r") == 2
        assert "Error 3" in terminal.before


def test_ctrl_a_x_quits():
    with make_run("NET=none", "DISK=none") as terminal:
        assert end_by(terminal, "\x01x") == 0
