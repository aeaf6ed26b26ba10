"""The whole boot matrix, `make test-matrix`: every machine, firmware, CPU model and size."""

import itertools

import pytest

from test_boot import check

WAYS = {"kernel": dict(boot="kernel"), "bios": dict(boot="iso"),
        "uefi": dict(boot="iso", firmware="uefi")}
CASES = [(machine, way, cpus, "256M", "max", 1, 1)
         for machine, way, cpus in itertools.product(("q35", "pc"), WAYS, (1, 2, 4, 8))]
CASES += [(machine, way, 2, mem, "max", 1, 1) for machine, way, mem
          in itertools.product(("q35", "pc"), WAYS, ("64M", "6G"))]
CASES += [(machine, way, 2, "256M", "qemu64", 1, 1)
          for machine, way in itertools.product(("q35", "pc"), WAYS)]
CASES += [(machine, "kernel", 2, "256M", "max", disks, nics) for machine, disks, nics
          in itertools.product(("q35", "pc"), (0, 1, 2), (0, 1, 2)) if (disks, nics) != (1, 1)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_boot(boot, disk, case):
    machine, way, cpus, mem, cpu, disks, nics = case
    m = boot(machine=machine, cpus=cpus, mem=mem, cpu=cpu, nics=["user"] * nics,
             disks=[disk(f"{n}.img") for n in range(disks)], **WAYS[way])
    check(m, cpus, int(mem[:-1]) * (1024 if mem[-1] == "G" else 1), disks, nics)
