// Lends memory to devices: makes bus addresses of it, and knows which memory a device may have at
// all.
//
//   driver                      here                                   device
//   dma_map_single(buffer) -->  direct-map memory? within the mask?
//                               recorded (debug.c)          bus address -->  descriptor
//                                                                            ... DMA ...
//   dma_unmap_single       -->  record taken back; the CPU owns the buffer again
//
// A device reaches memory by physical address and past all page tables: what it is told wrongly, it
// overwrites. So only memory that lies where its address says is lent: pages and kmalloc'd objects.
// A stack or a vmalloc area is contiguous for the CPU only, and constants of the image are nobody's
// to write.
//
// Today the bus address is the physical one. Memory beyond a device's mask is refused: no copy is
// made through memory that it can reach. Coherent memory is taken from below the mask from the
// start.
//
// On x86 the caches follow what devices do (they snoop), so that syncing moves nothing: what is
// left of it is the order of accesses (dma_observe, dma_publish) and the record of who owns the
// buffer.
//
// Context: map, unmap, sync: any. Coherent memory: thread. Next: kernel/dma/debug.c.
#include <lib/errno.h>
#include <lib/types.h>
#include <contract/device.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <mm/page.h>
#include <dma/dma.h>

#include "debug.h"

#define DMA_ERROR UINT64_MAX // no device can transfer a byte at the last address and one behind it

static dma_addr_t dma_address(uint64_t bus)
{
    return (dma_addr_t){.value = bus};
}

// Why this memory may be lent to no device at all; NULL when it may.
static const char *dma_buffer_fault(const void *cpu, size_t size)
{
    uintptr_t virt = (uintptr_t)cpu;
    phys_t first = virt - PHYS_BASE, last = first + size - 1;

    if (size == 0 || virt + size < virt) {
        return "has no size";
    }
    if (virt < PHYS_BASE || !page_is_ram(first) ||
        (first >> PAGE_SHIFT != last >> PAGE_SHIFT && !page_is_ram(last))) {
        return "is not from kmalloc or the page allocator";
    }
    return NULL;
}

// Only a device that never said how far it reaches has a mask of 0: it gets what every PCI device
// must manage.
static void dma_default_mask(struct device *dev)
{
    if (dev->dma_mask == 0) {
        dev->dma_mask = DMA_BIT_MASK(32);
    }
}

static void dma_hold(struct device *dev)
{
    __atomic_fetch_add(&dev->dma_held, 1, __ATOMIC_RELAXED);
}

// Never below zero: an unmap too many was reported by debug.c, and may not hide a leak.
static void dma_release(struct device *dev)
{
    uint32_t held = __atomic_load_n(&dev->dma_held, __ATOMIC_RELAXED);

    while (held > 0 && !__atomic_compare_exchange_n(&dev->dma_held, &held, held - 1, true,
                                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

dma_addr_t dma_map_single(struct device *dev, void *cpu, size_t size,
                          enum dma_data_direction direction)
{
    struct dma_use use = {.dev = dev,
                          .size = size,
                          .direction = (uint8_t)direction,
                          .caller = __builtin_return_address(0)};

    dma_default_mask(dev);
    const char *fault = dma_buffer_fault(cpu, size);
    if (unlikely(fault != NULL)) {
        use.bus = (uintptr_t)cpu;
        dma_debug_refuse(&use, fault);
        return dma_address(DMA_ERROR);
    }
    use.bus = virt_to_phys(cpu);
    if (unlikely(use.bus + size - 1 >
                 dev->dma_mask)) { // no mistake: the device is too small for this machine
        pr_ratelimited(LOG_WARNING,
                       "dma: %s reaches up to %#llx, the buffer lies at %#llx: not mapped (kmalloc "
                       "with GFP_DMA32, or dma_alloc_coherent, gives memory that it can reach)",
                       dev->name, (unsigned long long)dev->dma_mask, (unsigned long long)use.bus);
        return dma_address(DMA_ERROR);
    }
    dma_debug_map(&use);
    dma_hold(dev);
    trace(TRACE_DMA_MAP, (uint32_t)size, use.bus);
    return dma_address(use.bus);
}

void dma_unmap_single(struct device *dev, dma_addr_t handle, size_t size,
                      enum dma_data_direction direction)
{
    struct dma_use use = {.dev = dev,
                          .bus = handle.value,
                          .size = size,
                          .direction = (uint8_t)direction,
                          .caller = __builtin_return_address(0)};

    trace(TRACE_DMA_UNMAP, (uint32_t)size, use.bus);
    if (dma_debug_unmap(&use)) {
        dma_release(dev);
    }
    dma_observe(); // what the device wrote is read after this
}

bool dma_mapping_error(struct device *dev, dma_addr_t handle)
{
    (void)dev;
    return handle.value == DMA_ERROR;
}

void dma_sync_single_for_cpu(struct device *dev, dma_addr_t handle, size_t size,
                             enum dma_data_direction direction)
{
    struct dma_use use = {.dev = dev,
                          .bus = handle.value,
                          .size = size,
                          .direction = (uint8_t)direction,
                          .caller = __builtin_return_address(0)};

    dma_debug_sync(&use, true);
    dma_observe();
}

void dma_sync_single_for_device(struct device *dev, dma_addr_t handle, size_t size,
                                enum dma_data_direction direction)
{
    struct dma_use use = {.dev = dev,
                          .bus = handle.value,
                          .size = size,
                          .direction = (uint8_t)direction,
                          .caller = __builtin_return_address(0)};

    dma_publish();
    dma_debug_sync(&use, false);
}

void *dma_alloc_coherent(struct device *dev, size_t size, dma_addr_t *handle)
{
    unsigned order = page_order(size);

    *handle = dma_address(DMA_ERROR);
    dma_default_mask(dev);
    if (size == 0 || order > PAGE_MAX_ORDER) {
        return NULL;
    }
    void *cpu = alloc_pages_within(GFP_KERNEL | GFP_ZERO, order, dev->dma_mask);
    if (cpu == NULL) {
        pr_warn("dma: %s: no %zu bytes in one piece that it can reach (up to %#llx)", dev->name,
                size, (unsigned long long)dev->dma_mask);
        return NULL;
    }
    struct dma_use use = {.dev = dev,
                          .bus = virt_to_phys(cpu),
                          .size = size,
                          .direction = DMA_BIDIRECTIONAL,
                          .coherent = true,
                          .caller = __builtin_return_address(0)};
    dma_debug_map(&use);
    dma_hold(dev);
    *handle = dma_address(use.bus);
    return cpu;
}

void dma_free_coherent(struct device *dev, size_t size, void *cpu, dma_addr_t handle)
{
    struct dma_use use = {.dev = dev,
                          .bus = handle.value,
                          .size = size,
                          .direction = DMA_BIDIRECTIONAL,
                          .coherent = true,
                          .caller = __builtin_return_address(0)};

    if (cpu == NULL) {
        return;
    }
    if (virt_to_phys(cpu) != handle.value) {
        dma_debug_refuse(&use, "is not at the address that is freed");
        return;
    }
    if (dma_debug_unmap(&use)) {
        dma_release(dev);
        free_pages(cpu, page_order(size));
    }
}

int dma_set_mask(struct device *dev, uint64_t mask)
{
    phys_t start, end;

    if (!page_ram_piece(0, &start, &end) || mask < start + PAGE_SIZE - 1) {
        return -EIO;
    }
    dev->dma_mask = mask;
    return 0;
}

unsigned dma_outstanding(const struct device *dev)
{
    return __atomic_load_n(&dev->dma_held, __ATOMIC_RELAXED);
}
