// Lending memory to a device that does not exist: addresses, masks, refusals, reports, and all CPUs
// at once. The records in detail: tests/host/test_dma_debug.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/device.h>
#include <contract/ktest.h>
#include <core/panic.h>
#include <mm/map.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <dma/dma.h>

#include "every_cpu.h"

static struct device dma_nobody(void)
{
    return (struct device){.name = "nobody", .dma_mask = DMA_BIT_MASK(64)};
}

KTEST(dma, a_mapping_is_the_physical_address)
{
    struct device dev = dma_nobody();
    char *buffer = kmalloc(2048, GFP_KERNEL);

    REQUIRE(buffer != NULL);
    dma_addr_t handle = dma_map_single(&dev, buffer + 64, 1500, DMA_TO_DEVICE);
    EXPECT(!dma_mapping_error(&dev, handle));
    EXPECT_EQ(handle.value, virt_to_phys(buffer) + 64);
    EXPECT_EQ(dma_outstanding(&dev), 1);
    dma_sync_single_for_cpu(&dev, handle, 1500, DMA_TO_DEVICE);
    dma_sync_single_for_device(&dev, handle, 1500, DMA_TO_DEVICE);
    dma_unmap_single(&dev, handle, 1500, DMA_TO_DEVICE);
    EXPECT_EQ(dma_outstanding(&dev), 0);
    kfree(buffer);
}

KTEST(dma, coherent_memory_is_zeroed_and_within_the_mask)
{
    static const unsigned bits[] = {24, 28, 32, 64};
    struct device dev = dma_nobody();

    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++) {
        dma_addr_t handle;

        EXPECT_EQ(dma_set_mask(&dev, DMA_BIT_MASK(bits[i])), 0);
        char *ring = dma_alloc_coherent(&dev, 5000, &handle);
        REQUIRE(ring != NULL);
        EXPECT(handle.value + 5000 - 1 <= DMA_BIT_MASK(bits[i]));
        EXPECT(IS_ALIGNED(handle.value, PAGE_SIZE));
        EXPECT(ring[0] == 0 && ring[4999] == 0);
        memset(ring, 0xff, 5000);
        dma_free_coherent(&dev, 5000, ring, handle);
    }
    EXPECT_EQ(dma_outstanding(&dev), 0);
    EXPECT_EQ(dma_set_mask(&dev, 0xff), -EIO);
}

KTEST(dma, memory_that_no_device_may_have)
{
    struct device dev = dma_nobody();
    char on_the_stack[64];
    static char in_the_image[64];
    char *scattered = vmalloc(8192);
    char *good = kmalloc(64, GFP_KERNEL);
    uint64_t errors = dma_debug_errors();

    REQUIRE(scattered != NULL && good != NULL);
    char *const bad[] = {on_the_stack, in_the_image, scattered, phys_to_virt(0xa0000), NULL};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        EXPECT(dma_mapping_error(&dev, dma_map_single(&dev, bad[i], 64, DMA_FROM_DEVICE)));
    }
    EXPECT(dma_mapping_error(&dev, dma_map_single(&dev, good, 0, DMA_FROM_DEVICE)));
    dev.dma_mask = virt_to_phys(good) + 62;
    EXPECT(dma_mapping_error(&dev, dma_map_single(&dev, good, 64, DMA_FROM_DEVICE)));
    ktest->warnings_expected = 6; // not for the mask: that is no mistake
    EXPECT_EQ(dma_debug_errors() - errors, 6);
    EXPECT_EQ(dma_outstanding(&dev), 0);
    vfree(scattered);
    kfree(good);
}

KTEST(dma, misuse_is_reported_once_each)
{
    struct device dev = dma_nobody(), other = dma_nobody();
    char *buffer = kmalloc(2048, GFP_KERNEL);
    uint64_t errors = dma_debug_errors();

    REQUIRE(buffer != NULL);
    dma_addr_t handle = dma_map_single(&dev, buffer, 2048, DMA_FROM_DEVICE);
    dma_addr_t again = dma_map_single(&other, buffer, 64, DMA_FROM_DEVICE); // 1: owned already
    dma_unmap_single(&other, again, 2048, DMA_FROM_DEVICE);                 // 2: another size
    dma_unmap_single(&other, handle, 2048, DMA_FROM_DEVICE);                // 3: not its own
    dma_sync_single_for_cpu(&dev, handle, 4096, DMA_FROM_DEVICE);           // 4: beyond the end
    dma_unmap_single(&dev, handle, 2048, DMA_TO_DEVICE);                    // 5: another direction
    dma_unmap_single(&dev, handle, 2048, DMA_FROM_DEVICE);                  // 6: twice
    ktest->warnings_expected = 6;
    EXPECT_EQ(dma_debug_errors() - errors, 6);
    EXPECT_EQ(dma_outstanding(&dev), 0);
    EXPECT_EQ(dma_outstanding(&other), 0);
    kfree(buffer);
}

enum { DMA_SLOTS = 64, DMA_ROUNDS = 10000 };

static void dma_traffic(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;
    struct device *dev = self->arg;
    struct {
        char *buffer;
        dma_addr_t handle;
        size_t size;
    } slots[DMA_SLOTS] = {0};
    unsigned failed = 0;

    for (unsigned round = 0; round < DMA_ROUNDS; round++) {
        unsigned i = every_cpu_random(self) % DMA_SLOTS;

        if (slots[i].buffer == NULL) {
            slots[i].size = 1 + every_cpu_random(self) % (i == 0 ? 16000 : 2048);
            slots[i].buffer = kmalloc(slots[i].size, GFP_KERNEL);
            if (slots[i].buffer == NULL) {
                continue;
            }
            slots[i].handle = dma_map_single(dev, slots[i].buffer, slots[i].size, DMA_FROM_DEVICE);
            failed += dma_mapping_error(dev, slots[i].handle);
        } else {
            dma_unmap_single(dev, slots[i].handle, slots[i].size, DMA_FROM_DEVICE);
            kfree(slots[i].buffer);
            slots[i].buffer = NULL;
        }
    }
    for (unsigned i = 0; i < DMA_SLOTS; i++) {
        if (slots[i].buffer != NULL) {
            dma_unmap_single(dev, slots[i].handle, slots[i].size, DMA_FROM_DEVICE);
            kfree(slots[i].buffer);
        }
    }
    EXPECT_EQ(failed, 0);
}

KTEST(dma, every_cpu_at_once)
{
    struct device dev = dma_nobody();
    uint64_t errors = dma_debug_errors(), unrecorded = dma_debug_unrecorded();

    REQUIRE(every_cpu_run(ktest, dma_traffic, &dev));
    EXPECT_EQ(dma_outstanding(&dev), 0);
    EXPECT_EQ(dma_debug_errors() - errors, 0);
    EXPECT_EQ(dma_debug_unrecorded(), unrecorded);
    EXPECT_EQ(slab_selfcheck(), 0);
}

KTEST(dma, isa_channels)
{
    EXPECT_EQ(request_dma(4, "floppy"), -EBUSY); // the cascade
    EXPECT_EQ(request_dma(8, "floppy"), -EINVAL);
    EXPECT_EQ(request_dma(2, ""), -EINVAL);
    EXPECT_EQ(request_dma(2, "floppy"), 0);
    EXPECT_EQ(request_dma(2, "other"), -EBUSY);
    free_dma(2);
    EXPECT_EQ(request_dma(2, "other"), 0);
    free_dma(2);
    free_dma(4); // says no
    EXPECT_EQ(request_dma(4, "floppy"), -EBUSY);
}
