"""Images for the tests' disks and discs, whose bytes a seed tells, and what bytes add up to."""

import hashlib
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
