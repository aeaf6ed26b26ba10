"""What a newcomer types: `make run`, on a terminal."""

import os

import pexpect

from machine import BUILD, PROMPT, TIMEOUT, TOP


def make_run(*variables):
    # A make of our own, not a part of the one that may have started these tests.
    clean = {name: value for name, value in os.environ.items()
             if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    # The word that `make test` uses: another one is another build, linked anew under other tests.
    build = os.path.relpath(BUILD, TOP)
    return pexpect.spawn("make", ["run", f"BUILD={build}", *variables], cwd=TOP, timeout=TIMEOUT,
                         encoding="utf-8", env=clean)


def test_make_run_reaches_the_prompt_and_poweroff_ends_it():
    terminal = make_run()
    try:
        terminal.expect("Ctrl-A x")
        terminal.expect_exact(PROMPT)
        terminal.send("echo it lives\r")
        terminal.expect(r"\nit lives\r*\n")
        terminal.expect_exact(PROMPT)
        terminal.send("poweroff\r")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert terminal.exitstatus == 0


def run_line(terminal, line, says):
    terminal.expect_exact(PROMPT)
    terminal.send(f"{line}; echo status=$?\r")
    terminal.expect(says)
    terminal.expect(r"\nstatus=0\r*\n")


def test_make_run_has_the_devices_that_labs_need(tmp_path):
    # Boot options make another image: one of our own, for others boot the usual one meanwhile.
    terminal = make_run("IOMMU=intel", "APPEND=intel_iommu=on", f"ISO={tmp_path}/ours.iso")
    try:
        run_line(terminal, "lab bottomhalves 5", "served by")
        run_line(terminal, "lab nvme-read", "doorbell")
        run_line(terminal, "lab rogue-dma", "DMAR")
        terminal.expect_exact(PROMPT)
        terminal.send("poweroff\r")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert terminal.exitstatus == 0


def test_make_run_on_pc_has_an_ide_disk():
    terminal = make_run("MACHINE=pc")
    try:
        run_line(terminal, "lab pio-dma", "cycles per byte")
    finally:
        terminal.close(force=True)


def test_make_run_says_the_kernels_exit_status():
    terminal = make_run("NET=none", "DISK=none", "LABS=no", "CPUS=1")
    try:
        terminal.expect_exact(PROMPT)
        terminal.send("exit 3\r")
        terminal.expect(r"Error 3")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert terminal.exitstatus == 2


def test_ctrl_a_x_quits():
    terminal = make_run("NET=none", "DISK=none")
    try:
        terminal.expect_exact(PROMPT)
        terminal.send("\x01x")
        terminal.expect(pexpect.EOF)
    finally:
        terminal.close(force=True)
    assert terminal.exitstatus == 0
