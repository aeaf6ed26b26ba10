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


def test_make_run_says_the_kernels_exit_status():
    terminal = make_run("NET=none", "DISK=none", "CPUS=1")
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
