// Bounce buffers: a device with 28 or 32 address lines on a machine with more memory than that
// works on a copy which it can reach.
//
//   dma_map (to device)      original ──copied──> copy below the mask ──> device reads
//   dma_unmap (from device)  original <──copied── copy                <── device wrote
//
// What a copy costs is why devices with 64 address lines were made, and one of the reasons for
// translation hardware, which needs none. It lies as far from the start of a page as the original:
// some devices count by pages (NVMe's PRPs).
//
// swiotlb=force has every mapping copied, whatever the device reaches: a driver that looks at its
// buffer without dma_sync, or before it unmaps, then sees old bytes.
//
// Copies are taken from the page allocator when they are needed: a mapping for which there is no
// memory fails, as any may, and the driver tries later. They are few, so one list holds them.
//
// Context: any; a spinlock with interrupts off. Previous: kernel/dma/dma.c.
#include <lib/errno.h>
#include <lib/list.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/spinlock.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <dma/dma.h>
#include <dma/iommu.h>

#include "bounce.h"

struct bounce {
    struct list_head link; // L
    struct device *dev;    // I
    uint64_t bus;          // I
    void *block;           // I: the copy's pages
    void *copy, *original; // I
    size_t size;           // I
    enum dma_data_direction direction;
};

static DEFINE_SPINLOCK(bounce_lock);
static LIST_HEAD(bounce_list);  // L
static uint64_t bounce_maps;    // L: since boot
static uint64_t bounce_bytes;   // L: copied since boot
static uint64_t bounce_refused; // L: no memory within a mask

bool dma_bounce_forced;

static void bounce_copy_locked(void *to, const void *from, size_t size)
{
    memcpy(to, from, size);
    bounce_bytes += size;
}

uint64_t dma_bounce_map(struct device *dev, void *cpu, size_t size,
                        enum dma_data_direction direction)
{
    struct bounce *bounce = kmalloc(sizeof(*bounce), GFP_ATOMIC);
    size_t offset = (uintptr_t)cpu % PAGE_SIZE;
    void *block = bounce != NULL ? alloc_pages_within(GFP_ATOMIC | GFP_ZERO,
                                                      page_order(offset + size), dev->dma_mask)
                                 : NULL;
    unsigned long flags;

    spin_lock_irqsave(&bounce_lock, flags);
    if (block != NULL) {
        void *copy = (char *)block + offset;

        *bounce = (struct bounce){.dev = dev,
                                  .bus = virt_to_phys(copy),
                                  .block = block,
                                  .copy = copy,
                                  .original = cpu,
                                  .size = size,
                                  .direction = direction};
        list_add(&bounce->link, &bounce_list);
        if (direction != DMA_FROM_DEVICE) {
            bounce_copy_locked(copy, cpu, size);
        }
        bounce_maps++;
        __atomic_fetch_add(&dev->dma_bounced, 1, __ATOMIC_RELAXED);
    } else {
        bounce_refused++;
    }
    spin_unlock_irqrestore(&bounce_lock, flags);
    if (block == NULL) {
        kfree(bounce);
        return DMA_NO_ADDRESS;
    }
    return virt_to_phys(block) + offset;
}

// The copy that the address lies in; NULL.
static struct bounce *bounce_find_locked(const struct device *dev, uint64_t bus)
{
    struct bounce *bounce;

    list_for_each_entry (bounce, &bounce_list, link) {
        if (bounce->dev == dev && bus >= bounce->bus && bus - bounce->bus < bounce->size) {
            return bounce;
        }
    }
    return NULL;
}

uint64_t dma_bounce_original(struct device *dev, uint64_t bus)
{
    unsigned long flags;

    spin_lock_irqsave(&bounce_lock, flags);
    const struct bounce *bounce = bounce_find_locked(dev, bus);
    uint64_t original =
        bounce != NULL ? virt_to_phys(bounce->original) + (bus - bounce->bus) : DMA_NO_ADDRESS;
    spin_unlock_irqrestore(&bounce_lock, flags);
    return original;
}

bool dma_bounce_unmap(struct device *dev, uint64_t bus)
{
    unsigned long flags;

    spin_lock_irqsave(&bounce_lock, flags);
    struct bounce *bounce = bounce_find_locked(dev, bus);
    if (bounce != NULL) {
        list_del(&bounce->link);
        if (bounce->direction != DMA_TO_DEVICE) {
            bounce_copy_locked(bounce->original, bounce->copy, bounce->size);
        }
        __atomic_fetch_sub(&dev->dma_bounced, 1, __ATOMIC_RELAXED);
    }
    spin_unlock_irqrestore(&bounce_lock, flags);
    if (bounce == NULL) {
        return false;
    }
    free_pages(bounce->block, page_order((uintptr_t)bounce->original % PAGE_SIZE + bounce->size));
    kfree(bounce);
    return true;
}

void dma_bounce_sync(struct device *dev, uint64_t bus, size_t size, bool for_cpu)
{
    unsigned long flags;

    if (dma_bounce_count(dev) == 0) {
        return;
    }
    spin_lock_irqsave(&bounce_lock, flags);
    struct bounce *bounce = bounce_find_locked(dev, bus);
    if (bounce != NULL) {
        size_t offset = (size_t)(bus - bounce->bus);
        size_t part = min(size, bounce->size - offset);
        char *copy = (char *)bounce->copy + offset, *original = (char *)bounce->original + offset;

        if (for_cpu && bounce->direction != DMA_TO_DEVICE) {
            bounce_copy_locked(original, copy, part);
        } else if (!for_cpu && bounce->direction != DMA_FROM_DEVICE) {
            bounce_copy_locked(copy, original, part);
        }
    }
    spin_unlock_irqrestore(&bounce_lock, flags);
}

static void bounce_show(struct text *t, unsigned long index)
{
    unsigned long flags;
    const struct bounce *bounce;
    unsigned now = 0;

    (void)index;
    spin_lock_irqsave(&bounce_lock, flags);
    list_for_each_entry (bounce, &bounce_list, link) {
        now++;
    }
    uint64_t maps = bounce_maps, bytes = bounce_bytes, refused = bounce_refused;
    spin_unlock_irqrestore(&bounce_lock, flags);
    text_printf(
        t, "copies %u, since boot %llu, bytes copied %llu, refused for want of memory %llu\n", now,
        (unsigned long long)maps, (unsigned long long)bytes, (unsigned long long)refused);
}
PROC_FILE("dma-bounce", bounce_show);

static int bounce_set_forced(const char *value)
{
    dma_bounce_forced = strcmp(value, "force") == 0;
    return dma_bounce_forced ? 0 : -EINVAL;
}
BOOT_OPTION("swiotlb", bounce_set_forced,
            "swiotlb=force: devices work on copies always (without an IOMMU), to find drivers that "
            "forget to sync");
