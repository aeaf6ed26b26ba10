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
#include <dma/iommu.h>

#include "every_cpu.h"

static struct device dma_nobody(void)
{
    return (struct device){.name = "nobody", .dma_mask = DMA_BIT_MASK(64)};
}

KTEST(dma, a_mapping_leads_to_the_memory)
{
    struct device dev = dma_nobody();
    char *buffer = kmalloc(2048, GFP_KERNEL);

    REQUIRE(buffer != NULL);
    memset(buffer, 0x5a, 2048);
    dma_addr_t handle = dma_map_single(&dev, buffer + 64, 1500, DMA_TO_DEVICE);
    EXPECT(!dma_mapping_error(&dev, handle));
    if (dev.dma_bounced != 0) { // swiotlb=force: a copy
        EXPECT_EQ(memcmp(phys_to_virt(handle.value), buffer + 64, 1500), 0);
    } else if (dma_iommu == NULL) {
        EXPECT_EQ(handle.value, virt_to_phys(buffer) + 64);
    } else {
        EXPECT_EQ(dma_iommu->translate(&dev, handle.value), virt_to_phys(buffer) + 64);
        EXPECT_EQ(dma_iommu->translate(&dev, handle.value + 1499), virt_to_phys(buffer) + 1563);
    }
    EXPECT_EQ(dma_outstanding(&dev), 1);
    dma_sync_single_for_cpu(&dev, handle, 1500, DMA_TO_DEVICE);
    dma_sync_single_for_device(&dev, handle, 1500, DMA_TO_DEVICE);
    dma_unmap_single(&dev, handle, 1500, DMA_TO_DEVICE);
    EXPECT_EQ(dma_outstanding(&dev), 0);
    if (dma_iommu != NULL && dma_iommu->translates(&dev)) {
        EXPECT_EQ(dma_iommu->translate(&dev, handle.value), DMA_NO_ADDRESS);
    }
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
    if (!dma_debug_is_on()) {
        SKIP("dma_debug=off: what was freed is not known");
    }
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
    kfree(good);
    EXPECT(dma_mapping_error(&dev, dma_map_single(&dev, good, 64, DMA_FROM_DEVICE))); // freed
    ktest->warnings_expected = 7;
    EXPECT_EQ(dma_debug_errors() - errors, 7);
    EXPECT_EQ(dma_outstanding(&dev), 0);
    vfree(scattered);
}

// A device with few address lines: what lies beyond is copied to where it reaches, or, with
// translation, has an address there. Either way the address is within the mask.
KTEST(dma, memory_beyond_the_mask_is_brought_near)
{
    struct device dev = dma_nobody();
    unsigned char *far = alloc_pages(GFP_KERNEL, 1), *near;

    REQUIRE(far != NULL);
    dev.dma_mask = DMA_BIT_MASK(24);
    if (virt_to_phys(far) <= dev.dma_mask) {
        free_pages(far, 1);
        SKIP("all memory is near: the machine is too small");
    }
    memset(far, 0x5a, 2 * PAGE_SIZE);
    dma_addr_t handle = dma_map_single(&dev, far + 100, PAGE_SIZE, DMA_BIDIRECTIONAL);
    EXPECT(!dma_mapping_error(&dev, handle));
    EXPECT(handle.value + PAGE_SIZE - 1 <= dev.dma_mask);
    if (dma_iommu == NULL) { // then it is a physical address, and the device can be played
        near = phys_to_virt(handle.value);
        EXPECT_EQ(near[PAGE_SIZE - 1], 0x5a);
        near[0] = 1;
        EXPECT_EQ(far[100], 0x5a);
    }
    dma_unmap_single(&dev, handle, PAGE_SIZE, DMA_BIDIRECTIONAL);
    EXPECT_EQ(far[100], dma_iommu == NULL ? 1 : 0x5a);
    EXPECT_EQ(far[99], 0x5a);
    EXPECT_EQ(far[100 + PAGE_SIZE], 0x5a);
    EXPECT_EQ(dma_outstanding(&dev), 0);
    EXPECT_EQ(dev.dma_bounced, 0);
    free_pages(far, 1);
}

KTEST(dma, pools_cut_blocks_from_pages)
{
    enum { BLOCKS = 200, SIZE = 96, ALIGN = 32 };
    static char *blocks[BLOCKS];
    static dma_addr_t handles[BLOCKS];
    struct device dev = dma_nobody();
    struct dma_pool *pool = dma_pool_create("test", &dev, SIZE, ALIGN);

    REQUIRE(pool != NULL);
    EXPECT(dma_pool_create("test", &dev, PAGE_SIZE + 1, 8) == NULL);
    EXPECT(dma_pool_create("test", &dev, 8, 24) == NULL);
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = dma_pool_alloc(pool, &handles[i]);
        REQUIRE(blocks[i] != NULL);
        EXPECT_EQ(handles[i].value % ALIGN, 0);
        EXPECT_EQ(blocks[i][0] | blocks[i][SIZE - 1], 0);
        memset(blocks[i], (int)i, SIZE);
    }
    for (unsigned i = 0; i < BLOCKS; i++) { // nobody wrote into another's
        EXPECT_EQ((unsigned char)blocks[i][0], i);
        EXPECT_EQ((unsigned char)blocks[i][SIZE - 1], i);
        dma_pool_free(pool, blocks[i], handles[i]);
    }
    EXPECT_EQ(dma_outstanding(&dev), (BLOCKS + PAGE_SIZE / SIZE - 1) / (PAGE_SIZE / SIZE));
    dma_pool_destroy(pool);
    EXPECT_EQ(dma_outstanding(&dev), 0);
}

// A device may write into all of a pool's pages at all times. What it writes into a free block must
// not lead the next caller anywhere.
KTEST(dma, a_pool_believes_nothing_that_a_device_can_write)
{
    enum { BLOCKS = 3 * PAGE_SIZE / 64 };
    static char *blocks[BLOCKS];
    static dma_addr_t handles[BLOCKS];
    struct device dev = dma_nobody();
    struct dma_pool *pool = dma_pool_create("test", &dev, 64, 64);

    REQUIRE(pool != NULL);
    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = dma_pool_alloc(pool, &handles[i]);
        REQUIRE(blocks[i] != NULL);
    }
    EXPECT_EQ(dma_outstanding(&dev), 3);
    for (unsigned i = 0; i < BLOCKS; i += 2) {
        dma_pool_free(pool, blocks[i], handles[i]);
        memset(blocks[i], 0x5a, 64); // the device, whom nobody has told
    }
    dma_pool_free(pool, blocks[2], handles[2]);                             // twice
    dma_pool_free(pool, blocks[1] + 8, (dma_addr_t){handles[1].value + 8}); // no block
    dma_pool_free(pool, blocks[1], handles[3]);                             // another's address
    for (unsigned i = 0; i < BLOCKS; i += 2) {
        blocks[i] = dma_pool_alloc(pool, &handles[i]);
        REQUIRE(blocks[i] != NULL);
        EXPECT_EQ(blocks[i][0] | blocks[i][63], 0);
        memset(blocks[i], (int)i, 64);
    }
    EXPECT_EQ(dma_outstanding(&dev), 3); // all were there again, none twice
    for (unsigned i = 0; i < BLOCKS; i++) {
        EXPECT_EQ((unsigned char)blocks[i][63], i % 2 == 0 ? i % 256 : 0);
        dma_pool_free(pool, blocks[i], handles[i]);
    }
    dma_pool_destroy(pool);
    EXPECT_EQ(dma_outstanding(&dev), 0);
}

KTEST(dma, misuse_is_reported_once_each)
{
    if (!dma_debug_is_on()) {
        SKIP("dma_debug=off");
    }
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
