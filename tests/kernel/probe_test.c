// Probe with too little memory: each allocation on a driver's way up fails once. The driver must
// give back all that it has by then, leave the device quiet, and come up when there is memory
// again.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/panic.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <dma/dma.h>
#include <dev/block.h>
#include <pci/pci.h>

#include "fail_case.h"

enum { PROBE_STEPS_MAX = 2000 };

// One round up and down during which the n-th allocation fails: true when there were so many. The
// driver may give up or come up with less, a port or an open interface.
static bool probe_is_hit(struct ktest_run *ktest, struct pci_dev *dev, uint32_t n)
{
    EXPECT_EQ(pci_unbind(dev), 0);
    fail_start(n);
    int err = pci_bind(dev);
    bool hit = fail_stop();

    if (err != 0) {
        EXPECT_EQ(dma_outstanding(&dev->dev), 0);
        EXPECT(hit);
        EXPECT_EQ(pci_bind(dev), 0);
    }
    return hit;
}

// least: so many allocations the probe makes at least; without a disk AHCI makes few.
static void probe_sweep(struct ktest_run *ktest, const char *driver, uint32_t least)
{
    struct pci_dev *found = NULL;

    while ((found = pci_next(found)) != NULL &&
           (found->dev.driver == NULL || strcmp(found->dev.driver, driver) != 0)) {
    }
    if (found == NULL) {
        SKIP("no such device");
    }
    uint64_t pages = page_free_count();
    uint32_t hits = 0;

    // Each of the first allocations, then some: a ring's 256 buffers are one place in the code.
    for (uint32_t n = 1; n < PROBE_STEPS_MAX && ktest->failures == 0; n += n < 40 ? 1 : 61) {
        if (!probe_is_hit(ktest, found, n)) {
            break;
        }
        hits++;
    }
    EXPECT_EQ(pci_unbind(found), 0);
    EXPECT_EQ(pci_bind(found), 0);
    EXPECT(hits >= least);
    EXPECT_EQ(slab_selfcheck(), 0);
    EXPECT_EQ(page_selfcheck(), 0);
    // A leak for each of the hundred rounds would be more than the pool of packets that each CPU
    // may fill meanwhile.
    EXPECT(page_free_count() + 128 * (cpu_count + 1) >= pages);
}

KTEST(probe, e1000_without_memory)
{
    probe_sweep(ktest, "e1000", 6);
}

KTEST(probe, ahci_without_memory)
{
    struct gendisk *disk = blk_find("sda");

    if (disk != NULL) {
        blk_put(disk);
    }
    probe_sweep(ktest, "ahci", disk != NULL ? 6 : 2);
}
