#!/usr/bin/env python3
"""Run the tests and sum them up. The Makefile builds what is needed and calls this.

usage: tests/run.py [--build DIR] [-k NAME] [-j JOBS]
                    host|kernel|console|iommu|matrix|long|static|all

Every part is split into jobs (a host program, a boot of the kernel's tests, a file of console
tests, a static check); as many run at a time as the host has CPUs. The kernel's own tests keep up
to four CPUs busy all the while, each a thread of the host that wants to run with the others: of
these jobs half as many. A job's line is printed when it ends, with its output when something
failed. The last line is always

    N passed, N failed, N skipped

and the exit status is 0 only if something passed and nothing failed. A job that ends without
saying what it tested counts as a failure: silence is not success.
"""

import argparse
import concurrent.futures
import dataclasses
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tools"))
import qemu  # noqa: E402

CPUS = len(os.sched_getaffinity(0))
# Seconds; these are hang detectors, not measurements: ten times what the longest takes on a busy
# host.
HOST_TIMEOUT = 600
KERNEL_TIMEOUT = 1200
CONSOLE_TIMEOUT = 1800
LONG_TIMEOUT = 3 * 3600
FUZZ_RUNS = 20000  # or as many as fit into
FUZZ_SECONDS = 15
FUZZ_SEED = 1


@dataclasses.dataclass
class Result:
    """What one job found."""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    output: str = ""  # shown when something failed
    notes: str = ""  # shown always: reasons for skipping

    def fail(self, text):
        self.failed += 1
        self.output += text.rstrip("\n") + "\n"


running = set()  # process groups to end if we are ended


def call(arguments, timeout, **kwargs):
    """Run a program in a group of its own; (status, output). Status None: it hung, was killed.
    It does not outlive us, however we end."""
    if shutil.which("setpriv"):
        arguments = ["setpriv", "--pdeathsig", "KILL", "--", *arguments]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True, **kwargs)
    running.add(process.pid)
    try:
        output, _ = process.communicate(timeout=timeout)
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        status = None
    finally:
        running.discard(process.pid)
    return status, output.decode("utf-8", "replace")


# ---- TAP -----------------------------------------------------------------------------------------

TAP_PLAN = re.compile(r"^1\.\.(\d+)", re.M)
TAP_LINE = re.compile(r"^(ok|not ok)\s+(\d+)?\s*-?\s*(.*?)\s*$", re.M)


def read_tap(text, result, what):
    """Count a TAP or KTAP report, strictly: one plan, as many results as it promised, in order."""
    text = text.replace("\r", "")
    plans = TAP_PLAN.findall(text)
    lines = TAP_LINE.findall(text)
    if len(plans) != 1:
        result.fail(f"{what}: {len(plans)} plans (1..N) in the report, expected one\n{tail(text)}")
        return
    for position, (verdict, number, name) in enumerate(lines, 1):
        if number and int(number) != position:
            result.fail(f"{what}: result {number} stands where {position} should")
        if re.search(r"#\s*SKIP", name, re.I):
            result.skipped += 1
            result.notes += f"    skipped: {name}\n"
        elif verdict == "ok":
            result.passed += 1
        else:
            result.fail(f"{what}: not ok: {name}\n{context(text, name)}")
    if len(lines) != int(plans[0]):
        result.fail(f"{what}: {plans[0]} tests promised, {len(lines)} reported\n{tail(text)}")


def tail(text, lines=30):
    return "\n".join(text.splitlines()[-lines:])


def context(text, name, before=12):
    """The lines up to the one that names a failed test: its diagnostics come before it."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if line.startswith("not ok") and name in line:
            start = at
            while start > 0 and at - start < before and not TAP_LINE.match(lines[start - 1]):
                start -= 1
            return "\n".join(lines[start:at + 1])
    return ""


# ---- host ----------------------------------------------------------------------------------------

def host_test(build, name):
    result = Result()
    environment = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP",
                       UBSAN_OPTIONS="print_stacktrace=1")
    status, output = call([f"{build}/host/{name}"], HOST_TIMEOUT, env=environment)
    read_tap(output, result, name)
    if status != 0 and not result.failed:
        result.fail(f"{name}: ended with status {status}\n{tail(output, 60)}")
    elif result.failed:
        result.output += tail(output, 60) + "\n"
    return result


def fuzz_test(build, name):
    """A bounded, seeded run from the corpus: it finds what came back. By hand one searches on."""
    result = Result()
    corpus = sorted(glob.glob(f"{TOP}/tests/host/corpus/{name[len('fuzz_'):]}"))
    with tempfile.TemporaryDirectory() as scratch:
        status, output = call(
            [f"{build}/host/{name}", f"-runs={FUZZ_RUNS}", f"-max_total_time={FUZZ_SECONDS}",
             f"-seed={FUZZ_SEED}", "-max_len=4096",
             f"-artifact_prefix={build}/host/{name}-", "-print_final_stats=1", scratch, *corpus],
            HOST_TIMEOUT)
    if status != 0:
        result.fail(f"{name}: status {status}\n{tail(output, 60)}")
    elif "stat::number_of_executed_units" not in output:
        result.fail(f"{name}: no statistics at its end: did it run?\n{tail(output)}")
    else:
        result.passed = 1
    return result


def host_jobs(build, _):
    for path in sorted(glob.glob(f"{TOP}/tests/host/test_*.c")):
        name = os.path.basename(path)[:-2]
        yield f"host/{name}", lambda name=name: host_test(build, name)
    for path in sorted(glob.glob(f"{TOP}/tests/host/fuzz_*.c")):
        name = os.path.basename(path)[:-2]
        yield f"host/{name}", lambda name=name: fuzz_test(build, name)


# ---- kernel --------------------------------------------------------------------------------------

def kernel_boot(build, machine, cpus, option=""):
    """Boot the kernel, let it run its own tests; KTAP comes out of the second serial port."""
    result = Result()
    what = f"{machine} with {cpus} CPUs {option}".strip()
    with tempfile.TemporaryDirectory() as scratch:
        disk, ktap, console = (f"{scratch}/{name}" for name in ("disk.img", "ktap", "console"))
        subprocess.run([sys.executable, f"{TOP}/tools/mkdisk.py", disk, "16"], check=True)
        arguments = qemu.command(
            kernel=f"{build}/tophalf.elf", machine=machine, cpus=cpus, disks=[disk], vga=False,
            serial=[f"file:{console}", f"file:{ktap}"], append=f"plain panic=exit {option}".strip(),
            script="ktest\nexit $?\n", extra=[
                "-blockdev", "driver=null-co,node-name=nothing,size=16777216,read-zeroes=on",
                "-device", "nvme,drive=nothing,serial=ktest"])
        status, output = call(arguments, KERNEL_TIMEOUT)
        report, log = (open(path, errors="replace").read() if os.path.exists(path) else ""
                       for path in (ktap, console))
    read_tap(report, result, what)
    if status is None:
        result.fail(f"{what}: hung for {KERNEL_TIMEOUT} s and was ended\n{tail(log)}")
    elif status >> 1 != qemu.EXIT_OK and not result.failed:
        result.fail(f"{what}: QEMU ended with {status}, not by exit 0\n{output}{tail(log)}")
    elif result.failed:
        result.output += f"--- end of the console ---\n{tail(log)}\n"
    return result


def kernel_jobs(build, _):
    for machine, cpus, *option in (("q35", 1), ("q35", 2), ("q35", 4), ("pc", 2),
                                   ("q35", 2, "threadirqs")):
        yield "-".join([f"kernel/{machine}-{cpus}cpu", *option]), \
            lambda boot=(machine, cpus, *option): kernel_boot(build, *boot)


# ---- console -------------------------------------------------------------------------------------

def console_file(build, path, select, mark="not long", behind=""):
    """One file of console tests, by pytest; counted from its report, not from its words. The mark
    says which of its tests: those of every day, or the campaigns that take minutes. `behind`:
    translation hardware of this kind stands between devices and memory (machine.py)."""
    result = Result()
    name = os.path.basename(path)[:-3]
    os.makedirs(f"{build}/reports", exist_ok=True)
    kind = "-long" if mark == "long" else f"-{behind}" if behind else ""
    report = f"{build}/reports/{name}{kind}.xml"
    if os.path.exists(report):
        os.unlink(report)
    arguments = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider",
                 "-m", mark, "-rs", f"--junitxml={report}", path]
    if select:
        arguments += ["-k", select]
    timeout = LONG_TIMEOUT if mark == "long" else CONSOLE_TIMEOUT
    status, output = call(arguments, timeout, cwd=TOP,
                          env=dict(os.environ, TOPHALF_BUILD=build, PYTHONDONTWRITEBYTECODE="1",
                                   TOPHALF_IOMMU=behind))
    if status == 5 and (select or mark == "long"):  # nothing by that name or mark in this file
        return result
    if not os.path.exists(report):
        result.fail(f"{name}: pytest left no report (status {status})\n{tail(output, 60)}")
        return result
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed += 1
        elif case.find("skipped") is not None:
            result.skipped += 1
            reason = case.find("skipped").get("message", "").splitlines() or [""]
            result.notes += f"    skipped: {case.get('name')}: {reason[0]}\n"
        else:
            result.passed += 1
    if result.failed:
        result.output = output
    elif status != 0:
        result.fail(f"{name}: pytest ended with status {status}\n{tail(output, 60)}")
    return result


def console_jobs(build, select):
    for path in sorted(glob.glob(f"{TOP}/tests/console/test_*.py")):
        if not path.endswith("test_matrix.py"):
            yield f"console/{os.path.basename(path)[5:-3]}", \
                lambda path=path: console_file(build, path, select)


def long_jobs(build, select):
    for path in sorted(glob.glob(f"{TOP}/tests/console/test_*.py")):
        yield f"long/{os.path.basename(path)[5:-3]}", \
            lambda path=path: console_file(build, path, select, "long")


# What devices do, by the tests of every day, behind each kind of translation.
IOMMU_FILES = ("coalescing", "disk", "disk_matrix", "disk_trouble", "dma", "driver_faults",
               "irq_campaigns", "net", "nvme", "nvme_faults", "partition")


def iommu_jobs(build, select):
    for behind in ("strict", "lazy", "pt"):
        for name in IOMMU_FILES:
            path = f"{TOP}/tests/console/test_{name}.py"
            yield f"{behind}/{name}", lambda path=path, behind=behind: \
                console_file(build, path, select, behind=behind)


def matrix_jobs(build, select):
    yield "console/matrix", \
        lambda: console_file(build, f"{TOP}/tests/console/test_matrix.py", select)


# ---- static --------------------------------------------------------------------------------------

def static_check(arguments):
    """A check that prints its own `N passed, N failed, N skipped` as the last line."""
    result = Result()
    status, output = call([sys.executable, *arguments], HOST_TIMEOUT, cwd=TOP)
    sums = SUMS.match((output.strip().splitlines() or [""])[-1])
    if not sums:
        result.fail(f"{arguments[0]}: no sums at its end (status {status})\n{output}")
        return result
    result.passed, result.failed, result.skipped = map(int, sums.groups())
    if result.failed:
        result.output = output
    elif status != 0:
        result.fail(f"{arguments[0]}: status {status}\n{output}")
    return result


SUMS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$")


def static_jobs(build, _):
    for name in ("selfcheck", "layers", "headers", "docs", "contexts"):
        if os.path.exists(f"{TOP}/tests/{name}.py"):
            yield f"static/{name}", \
                lambda name=name: static_check([f"tests/{name}.py", "--build", build])


# ---- all -----------------------------------------------------------------------------------------

BUSY = [kernel_jobs]  # they keep several CPUs busy
PARTS = {"host": [host_jobs], "kernel": [kernel_jobs], "console": [console_jobs],
         "matrix": [matrix_jobs], "iommu": [iommu_jobs], "long": [long_jobs, iommu_jobs],
         "static": [static_jobs],
         "all": [console_jobs, kernel_jobs, host_jobs, static_jobs]}


def timed(job):
    start = time.monotonic()
    try:
        result = job()
    except Exception as error:  # a broken harness is a failure too, and must not hide the others
        result = Result()
        result.fail(f"the harness failed: {type(error).__name__}: {error}")
    return result, time.monotonic() - start


def run(jobs, workers, times, total):
    """Run the jobs, the long ones first, so many at a time; adds to the sums."""
    jobs.sort(key=lambda job: -times.get(job[0], 30))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(timed, job): name for name, job in jobs}
        for future in concurrent.futures.as_completed(futures):
            name = futures[future]
            result, seconds = future.result()
            times[name] = round(seconds, 1)
            total.passed += result.passed
            total.failed += result.failed
            total.skipped += result.skipped
            if result.passed or result.failed or result.skipped:
                print(f"  {name:24} {sums_of(result)}  ({seconds:.1f} s)")
                print(result.notes + (result.output if result.failed else ""), end="", flush=True)


def sums_of(result):
    return f"{result.passed} passed, {result.failed} failed, {result.skipped} skipped"


def ended(signum, _):
    for group in list(running):
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass
    os._exit(128 + signum)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("-k", dest="select", default="", help="console: tests whose name holds it")
    parser.add_argument("-j", dest="jobs", type=int, default=CPUS,
                        help="so many jobs at a time, half as many busy ones; the host's CPUs")
    parser.add_argument("part", choices=PARTS)
    options = parser.parse_args()
    build = os.path.abspath(options.build.strip())
    signal.signal(signal.SIGINT, ended)
    signal.signal(signal.SIGTERM, ended)

    times_path = f"{build}/test-times.json"
    try:
        with open(times_path) as file:
            times = json.load(file)
    except (OSError, ValueError):
        times = {}
    total = Result()
    for busy, workers in ((False, options.jobs), (True, max(1, options.jobs // 2))):
        run([job for part in PARTS[options.part] if (part in BUSY) == busy
             for job in part(build, options.select)], workers, times, total)
    with open(times_path, "w") as file:
        json.dump(times, file, indent=1)
    print(sums_of(total))
    return 0 if total.passed and not total.failed else 1


if __name__ == "__main__":
    sys.exit(main())
