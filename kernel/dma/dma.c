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
// What the device is told is the physical address, unless translation hardware makes bus addresses
// of its own (include/dma/iommu.h). Memory that lies beyond the device's mask is lent as a copy
// that it can reach (bounce.c). Coherent memory is taken from below the mask from the start.
//
// On x86 the caches follow what devices do (they snoop), so that syncing moves nothing: what is
// left of it is the order of accesses (dma_observe, dma_publish) and the record of who owns the
// buffer.
//
// Context: map, unmap, sync: any. Coherent memory: thread. Next: kernel/dma/bounce.c,
// kernel/dma/debug.c.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/types.h>
#include <contract/device.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/resource.h>
#include <core/trace.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <dma/dma.h>
#include <dma/iommu.h>

#include "bounce.h"
#include "debug.h"

const struct iommu_ops *dma_iommu; // I

static dma_addr_t dma_address(uint64_t bus)
{
    return (dma_addr_t){.value = bus};
}

// Of memory in the direct map, and no other is lent.
static phys_t dma_phys_of(const void *cpu)
{
    return (uintptr_t)cpu - PHYS_BASE;
}

static bool dma_was_freed(const void *cpu)
{
    return dma_debug_is_on() && slab_is_freed(cpu);
}

// May this memory be lent to any device at all? Not to be used before dma_was_freed() is asked too.
static inline bool dma_is_lendable(const void *cpu, size_t size)
{
    uintptr_t virt = (uintptr_t)cpu;
    phys_t first = dma_phys_of(cpu), last = first + size - 1;

    return size != 0 && virt + size >= virt && virt >= PHYS_BASE && page_is_ram(first) &&
           (first >> PAGE_SHIFT == last >> PAGE_SHIFT || page_is_ram(last));
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

// The bus address where it is not simply the physical one: translated, or a copy's.
static __noinline uint64_t dma_reach_far(struct device *dev, void *cpu, phys_t phys, size_t size,
                                         enum dma_data_direction direction)
{
    uint64_t bus = phys;

    if (dma_iommu != NULL) {
        bus = dma_iommu->map(dev, phys, size, direction);
        if (bus == DMA_NO_ADDRESS) {
            return bus; // its space is full, or no unit serves it: it would not reach a copy either
        }
    }
    if (bus + size - 1 <= dev->dma_mask && (!dma_bounce_forced || dma_iommu != NULL)) {
        return bus;
    }
    return dma_bounce_map(dev, cpu, size, direction);
}

// Nothing stands between the device and the memory.
static inline bool dma_is_direct(const struct device *dev, phys_t phys, size_t size)
{
    return likely(dma_iommu == NULL && !dma_bounce_forced && phys + size - 1 <= dev->dma_mask);
}

// The memory behind a bus address, DMA_NO_ADDRESS when there is none.
static uint64_t dma_memory_of(struct device *dev, uint64_t bus)
{
    if (unlikely(dma_bounce_count(dev) > 0)) {
        uint64_t original = dma_bounce_original(dev, bus);
        if (original != DMA_NO_ADDRESS) {
            return original;
        }
    }
    return unlikely(dma_iommu != NULL) ? dma_iommu->translate(dev, bus) : bus;
}

// ---- map, unmap ---------------------------------------------------------------------------------

static __noinline dma_addr_t dma_map_refused(struct device *dev, void *cpu, size_t size,
                                             enum dma_data_direction direction, const void *caller)
{
    uintptr_t virt = (uintptr_t)cpu;
    struct dma_use use = {
        .dev = dev, .bus = virt, .size = size, .direction = (uint8_t)direction, .caller = caller};
    dma_debug_refuse(&use, size == 0 || virt + size < virt ? "has no size"
                           : dma_is_lendable(cpu, size)
                               ? "was freed"
                               : "is not from kmalloc or the page allocator");
    return dma_address(DMA_NO_ADDRESS);
}

static __noinline dma_addr_t dma_map_unreached(const struct device *dev, phys_t phys)
{
    pr_ratelimited(LOG_WARNING,
                   "dma: %s reaches up to %#llx, the buffer lies at %#llx, and there is no memory "
                   "for a copy that it can reach: not mapped",
                   dev->name, (unsigned long long)dev->dma_mask, (unsigned long long)phys);
    return dma_address(DMA_NO_ADDRESS);
}

static __noinline void dma_record_map(struct device *dev, uint64_t bus, phys_t phys, size_t size,
                                      enum dma_data_direction direction, const void *caller)
{
    struct dma_use use = {.dev = dev,
                          .bus = bus,
                          .phys = phys,
                          .size = size,
                          .direction = (uint8_t)direction,
                          .caller = caller};
    dma_debug_map(&use);
}

// The size that was mapped, whatever the caller says; 0: there is no such mapping of this device.
static __noinline size_t dma_record_unmap(struct device *dev, uint64_t bus, size_t size,
                                          enum dma_data_direction direction, const void *caller)
{
    struct dma_use use = {.dev = dev,
                          .bus = bus,
                          .phys = dma_memory_of(dev, bus),
                          .size = size,
                          .direction = (uint8_t)direction,
                          .caller = caller};
    return dma_debug_unmap(&use) ? use.size : 0;
}

static inline dma_addr_t dma_mapped(struct device *dev, uint64_t bus, size_t size)
{
    dma_hold(dev);
    trace(TRACE_DMA_MAP, (uint32_t)size, bus);
    return dma_address(bus);
}

static __noinline dma_addr_t dma_map_fully(struct device *dev, void *cpu, size_t size,
                                           enum dma_data_direction direction, const void *caller)
{
    dma_default_mask(dev);
    if (unlikely(!dma_is_lendable(cpu, size)) || dma_was_freed(cpu)) {
        return dma_map_refused(dev, cpu, size, direction, caller);
    }
    phys_t phys = dma_phys_of(cpu);
    uint64_t bus =
        dma_is_direct(dev, phys, size) ? phys : dma_reach_far(dev, cpu, phys, size, direction);
    if (unlikely(bus == DMA_NO_ADDRESS)) {
        return dma_map_unreached(dev, phys);
    }
    if (dma_debug_is_on()) {
        dma_record_map(dev, bus, phys, size, direction, caller);
    }
    return dma_mapped(dev, bus, size);
}

// Two of these for each disk request and each packet: what is rare stands in functions of its own.
// The short way is for memory as most is, straight to the device, and nobody keeps a record.
static __always_inline dma_addr_t dma_map_at(struct device *dev, void *cpu, size_t size,
                                             enum dma_data_direction direction, const void *caller)
{
    phys_t phys = dma_phys_of(cpu);
    if (likely(!dma_debug_is_on()) && page_is_main_ram(phys, size) &&
        dma_is_direct(dev, phys, size)) {
        return dma_mapped(dev, phys, size);
    }
    return dma_map_fully(dev, cpu, size, direction, caller);
}

// What stood between the device and the memory goes: a copy, or a translation.
static __noinline void dma_unreach(struct device *dev, uint64_t bus, size_t size)
{
    if ((dma_bounce_count(dev) == 0 || !dma_bounce_unmap(dev, bus)) && dma_iommu != NULL) {
        dma_iommu->unmap(dev, bus, size);
    }
}

static __always_inline void dma_unmap_at(struct device *dev, dma_addr_t handle, size_t size,
                                         enum dma_data_direction direction, const void *caller)
{
    trace(TRACE_DMA_UNMAP, (uint32_t)size, handle.value);
    if (dma_debug_is_on()) {
        size = dma_record_unmap(dev, handle.value, size, direction, caller);
        if (unlikely(size == 0)) {
            return;
        }
    }
    if (unlikely(dma_iommu != NULL || dma_bounce_count(dev) != 0)) {
        dma_unreach(dev, handle.value, size);
    }
    dma_release(dev);
    dma_observe(); // what the device wrote is read after this
}

dma_addr_t dma_map_single(struct device *dev, void *cpu, size_t size,
                          enum dma_data_direction direction)
{
    return dma_map_at(dev, cpu, size, direction, __builtin_return_address(0));
}

void dma_unmap_single(struct device *dev, dma_addr_t handle, size_t size,
                      enum dma_data_direction direction)
{
    dma_unmap_at(dev, handle, size, direction, __builtin_return_address(0));
}

dma_addr_t dma_map_page(struct device *dev, void *page, size_t offset, size_t size,
                        enum dma_data_direction direction)
{
    return dma_map_at(dev, (char *)page + offset, size, direction, __builtin_return_address(0));
}

void dma_unmap_page(struct device *dev, dma_addr_t handle, size_t size,
                    enum dma_data_direction direction)
{
    dma_unmap_at(dev, handle, size, direction, __builtin_return_address(0));
}

unsigned dma_map_sg(struct device *dev, struct scatterlist *list, unsigned count,
                    enum dma_data_direction direction)
{
    for (unsigned i = 0; i < count; i++) {
        list[i].address =
            dma_map_at(dev, list[i].cpu, list[i].length, direction, __builtin_return_address(0));
        if (dma_mapping_error(dev, list[i].address)) {
            while (i-- > 0) { // all or nothing
                dma_unmap_at(dev, list[i].address, list[i].length, direction,
                             __builtin_return_address(0));
            }
            return 0;
        }
    }
    return count;
}

void dma_unmap_sg(struct device *dev, struct scatterlist *list, unsigned count,
                  enum dma_data_direction direction)
{
    for (unsigned i = 0; i < count; i++) {
        dma_unmap_at(dev, list[i].address, list[i].length, direction, __builtin_return_address(0));
    }
}

void dma_sync_single_for_cpu(struct device *dev, dma_addr_t handle, size_t size,
                             enum dma_data_direction direction)
{
    struct dma_use use = {.dev = dev,
                          .bus = handle.value,
                          .size = size,
                          .direction = (uint8_t)direction,
                          .caller = __builtin_return_address(0)};

    use.phys = dma_memory_of(dev, use.bus);
    dma_debug_sync(&use, true);
    dma_bounce_sync(dev, use.bus, size, true);
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

    dma_bounce_sync(dev, use.bus, size, false);
    dma_publish();
    use.phys = dma_memory_of(dev, use.bus);
    dma_debug_sync(&use, false);
}

// With translation any memory will do: it is the address that must lie within the mask.
static uint64_t dma_highest(struct device *dev)
{
    return dma_iommu != NULL && dma_iommu->translates(dev) ? UINT64_MAX : dev->dma_mask;
}

// Coherent memory stays a device's for long: /proc/iomem shows where it lies, as "DMA
// 0000:00:1f.2". One that finds no room there is only not shown.
static void dma_show_in_iomem(const struct device *dev, phys_t start, uint64_t size, bool show)
{
    char name[32];

    snprintf(name, sizeof(name), "DMA %s", dev->name);
    if (show) {
        resource_add(RESOURCE_MEMORY, start, start + size - 1, name);
    } else {
        resource_remove(RESOURCE_MEMORY, start, start + size - 1, name);
    }
}

void *dma_alloc_coherent(struct device *dev, size_t size, dma_addr_t *handle)
{
    might_sleep();
    unsigned order = page_order(size);

    *handle = dma_address(DMA_NO_ADDRESS);
    dma_default_mask(dev);
    if (size == 0 || order > PAGE_MAX_ORDER) {
        return NULL;
    }
    void *cpu = alloc_pages_within(GFP_KERNEL | GFP_ZERO, order, dma_highest(dev));
    if (cpu == NULL) {
        pr_warn("dma: %s: no %zu bytes in one piece that it can reach (up to %#llx)", dev->name,
                size, (unsigned long long)dev->dma_mask);
        return NULL;
    }
    struct dma_use use = {.dev = dev,
                          .bus = virt_to_phys(cpu),
                          .phys = virt_to_phys(cpu),
                          .size = size,
                          .direction = DMA_BIDIRECTIONAL,
                          .coherent = true,
                          .caller = __builtin_return_address(0)};
    if (dma_iommu != NULL) {
        use.bus = dma_iommu->map(dev, use.phys, size, DMA_BIDIRECTIONAL);
        if (use.bus == DMA_NO_ADDRESS) {
            free_pages(cpu, order);
            return NULL;
        }
    }
    dma_debug_map(&use);
    dma_hold(dev);
    dma_show_in_iomem(dev, use.phys, size, true);
    *handle = dma_address(use.bus);
    return cpu;
}

void dma_free_coherent(struct device *dev, size_t size, void *cpu, dma_addr_t handle)
{
    might_sleep();
    struct dma_use use = {.dev = dev,
                          .bus = handle.value,
                          .size = size,
                          .direction = DMA_BIDIRECTIONAL,
                          .coherent = true,
                          .caller = __builtin_return_address(0)};

    if (cpu == NULL) {
        return;
    }
    use.phys = dma_memory_of(dev, use.bus);
    if (virt_to_phys(cpu) != use.phys) {
        dma_debug_refuse(&use, "is not at the address that is freed");
        return;
    }
    if (dma_debug_unmap(&use)) {
        if (dma_iommu != NULL) {
            dma_iommu->unmap(dev, use.bus, use.size);
        }
        dma_release(dev);
        dma_show_in_iomem(dev, use.phys, use.size, false);
        free_pages(cpu, page_order(use.size));
    }
}

// A copy is one piece, and large pieces are the first to be gone.
size_t dma_max_mapping_size(struct device *dev)
{
    phys_t start, end = 0;
    unsigned pieces = 0;

    dma_default_mask(dev);
    while (page_ram_piece(pieces, &start, &end)) {
        pieces++; // they ascend
    }
    bool reached = dma_iommu != NULL ? dma_iommu->translates(dev) || end - 1 <= dev->dma_mask
                                     : !dma_bounce_forced && end - 1 <= dev->dma_mask;
    return reached ? UINT64_MAX : DMA_BOUNCE_BYTES;
}

int dma_set_mask(struct device *dev, uint64_t mask)
{
    phys_t start, end;

    might_sleep();
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
