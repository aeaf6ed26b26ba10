"""Fixtures for console tests. A boot costs more than a test: share one where that is harmless.

`machine`: one for the file, booted with its MACHINE dictionary (arguments of Machine) if it has
one; a test that finds it dead gets a fresh one. `boot`: a function that boots one more, for this
test alone. `disk`: a function that makes a disk image. `netns`: a network namespace with a tap.
"""

import os
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from machine import TOP, Machine  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "long: a campaign of minutes or hours, for make test-long; "
                            "its short form is a test of its own, without the mark")


def make_disk(path, size_mib=16):
    subprocess.run([sys.executable, f"{TOP}/tools/mkdisk.py", str(path), str(size_mib)], check=True)
    return str(path)


@pytest.fixture(scope="module")
def shared(request, tmp_path_factory):
    """Keeper of the file's machine."""
    options = dict(getattr(request.module, "MACHINE", {}))
    options.setdefault("name", request.module.__name__)
    if options.pop("disk", False):
        options["disks"] = [make_disk(tmp_path_factory.mktemp("disk") / "disk.img")]
    keeper = {"machine": None, "options": options}
    yield keeper
    if keeper["machine"]:
        keeper["machine"].close()
        keeper["machine"].check()


@pytest.fixture
def machine(shared):
    m = shared["machine"]
    if m is not None and m.process.poll() is not None:
        m.close()
        m = shared["machine"] = None
    if m is None:
        m = shared["machine"] = Machine(**shared["options"])
    return m


@pytest.fixture
def boot(request):
    """boot(**options) -> Machine, closed at the test's end."""
    machines = []

    def boot_one(**options):
        options.setdefault("name", f"{request.node.name}-{len(machines)}")
        machines.append(Machine(**options))
        return machines[-1]

    yield boot_one
    for m in machines:
        m.close()
    for m in machines:
        m.check()


@pytest.fixture
def disk(tmp_path):
    """disk(name="disk.img", size_mib=16) -> path of a raw image with named sectors."""
    return lambda name="disk.img", size_mib=16: make_disk(tmp_path / name, size_mib)


class Namespace:
    """A network namespace with tap0 in it: the far end of the machine's cable."""

    def __init__(self, name, address):
        self.name = name
        self.prefix = ["ip", "netns", "exec", name]
        self.nic = "tap,ifname=tap0,script=no,downscript=no"
        self._ip("netns", "add", name)
        try:
            self.run("ip", "tuntap", "add", "dev", "tap0", "mode", "tap")
            self.run("ip", "addr", "add", address, "dev", "tap0")
            self.run("ip", "link", "set", "tap0", "up")
        except subprocess.CalledProcessError:
            self.close()
            raise

    @staticmethod
    def _ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

    def run(self, *command, timeout=60, check=True):
        return subprocess.run([*self.prefix, *command], check=check, timeout=timeout,
                              capture_output=True, text=True)

    def close(self):
        self._ip("netns", "del", self.name)


@pytest.fixture(scope="module")
def netns(request):
    """A Namespace at 10.9.0.1/24, or a skip with the reason. Boot with prefix and nics from it."""
    if os.geteuid() != 0:
        pytest.skip("a tap device needs root")
    if not shutil.which("ip") or not os.path.exists("/dev/net/tun"):
        pytest.skip("needs the ip command and /dev/net/tun")
    try:
        namespace = Namespace(f"tophalf-{os.getpid()}", "10.9.0.1/24")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot make a network namespace: {error.stderr.strip()}")
    yield namespace
    namespace.close()
