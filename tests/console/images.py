"""Images for the tests' disks and discs, whose bytes a seed tells, and what bytes add up to."""

import hashlib
import json
import random

MIB = 1 << 20


def random_image(path, size=16 * MIB, seed=1):
    """Writes the image; its bytes."""
    data = random.Random(seed).randbytes(size)
    path.write_bytes(data)
    return data


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def digest(machine, command):
    """The same of what a command writes."""
    return machine.ok(f"{command} | sha256sum").split()[0]


def limited_disk(path, per_second, device, read_only=False):
    """QEMU arguments for a device, its drive still to be named, that does so many commands a
    second."""
    node = {"driver": "throttle", "node-name": "slow", "throttle-group": "limit",
            "read-only": read_only,
            "file": {"driver": "file", "filename": str(path), "read-only": read_only}}
    return ["-object", f"throttle-group,id=limit,x-iops-total={per_second}",
            "-blockdev", json.dumps(node), "-device", f"{device},drive=slow"]
