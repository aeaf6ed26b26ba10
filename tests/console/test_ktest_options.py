"""The kernel's own tests under each boot option that changes what they look at: green, or skipped
with a reason. Each day without the police; the others by make test-long. (threadirqs: test-kernel.)
"""

import re

import pytest

UNIT = ["-device", "intel-iommu,intremap=on"]
OPTIONS = ["dma_debug=off", "dma_debug=strict", "swiotlb=force", "irqpoll", "noirqdebug",
           "irqstorm=backoff", "nosmp", "noapic", "pci=nomsi", "pci=noirq", "isolcpus=1",
           "irqaffinity=1", "clock=coarse", "intel_iommu=on", "intel_iommu=on iommu=pt"]


@pytest.mark.parametrize("options", [
    "police=off", *(pytest.param(option, marks=pytest.mark.long) for option in OPTIONS)])
def test_green_or_skipped_with_a_reason(boot, options):
    m = boot(cpus=2, nics=["user"], append=options, dma_misuse=True, extra=["-device", "edu"],
             first=UNIT if "iommu" in options else [])
    said, status = m.run("ktest", timeout=600)
    assert status == 0 and re.search(r"^\d+ passed, 0 failed, \d+ skipped$", said, re.M), \
        "\n".join(re.findall(r"^(?:# .*\n)*not ok .*$", said, re.M))
    assert not re.search(r"^ok .* # SKIP *$", said, re.M), "skipped without a reason"
