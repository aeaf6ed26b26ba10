// Mistakes with memory that a device may touch, for `break`: each is a driver's, made with a device
// that does not exist, so that nothing transfers and only the record of who owns what is wrong.
//
//   the right way    CPU owns ──dma_map_single──> device owns ──dma_unmap_single──> CPU owns
//   the wrong ones   map what is owned, or is nobody's to lend; give back something else than was
//                    lent, or what another has; free it, or write to it, meanwhile
//
// What a driver leaves mapped at its end is a mistake of its remove, and needs a driver: echo leave
// dma > /proc/driver/edu, then driver unbind. Caught by kernel/dma/debug.c. Context: thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/break.h>
#include <contract/device.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <dma/dma.h>

enum { BREAK_DMA_SIZE = 2048, BREAK_DMA_FEW_BITS = 12 };

// The device, and a buffer that is mapped for it; gone when the case is over.
struct break_dma {
    struct device dev;
    char *buffer;
    dma_addr_t bus;
};

// 0 or -ENOMEM.
static int break_dma_begin(struct break_dma *it, enum dma_data_direction direction)
{
    it->dev = (struct device){.name = "break", .dma_mask = DMA_BIT_MASK(64)};
    it->buffer = kzalloc(BREAK_DMA_SIZE, GFP_KERNEL);
    if (it->buffer == NULL) {
        return -ENOMEM;
    }
    it->bus = dma_map_single(&it->dev, it->buffer, BREAK_DMA_SIZE, direction);
    if (dma_mapping_error(&it->dev, it->bus)) {
        kfree(it->buffer);
        return -ENOMEM;
    }
    return 0;
}

// Gives the buffer back as it should be.
static void break_dma_end(struct break_dma *it, enum dma_data_direction direction)
{
    dma_unmap_single(&it->dev, it->bus, BREAK_DMA_SIZE, direction);
    kfree(it->buffer);
}

// ---- lent what may not be lent ------------------------------------------------------------------

static int break_double_map(const char *argument __unused)
{
    struct break_dma it;
    int error = break_dma_begin(&it, DMA_FROM_DEVICE);

    if (error == 0) {
        dma_addr_t again = dma_map_single(&it.dev, it.buffer + 512, 512, DMA_FROM_DEVICE);
        dma_unmap_single(&it.dev, again, 512, DMA_FROM_DEVICE);
        break_dma_end(&it, DMA_FROM_DEVICE);
    }
    return error;
}

static int break_map(void *memory, uint64_t mask)
{
    struct device dev = {.name = "break", .dma_mask = mask};
    dma_addr_t bus = dma_map_single(&dev, memory, 64, DMA_FROM_DEVICE);

    if (dma_mapping_error(&dev, bus)) {
        return 0; // as it should be
    }
    dma_unmap_single(&dev, bus, 64, DMA_FROM_DEVICE);
    return -EOPNOTSUPP;
}

static int break_map_stack(const char *argument __unused)
{
    char local[64];

    return break_map(local, DMA_BIT_MASK(64));
}

static int break_map_freed(const char *argument __unused)
{
    void *object = kmalloc(64, GFP_KERNEL);

    if (object == NULL) {
        return -ENOMEM;
    }
    kfree(object);
    __asm__ volatile("" : "+r"(object)); // the compiler need not know better
    return break_map(object, DMA_BIT_MASK(64));
}

// Its mask leaves the first page only, of which there is never any to copy to.
static int break_beyond_mask(const char *argument __unused)
{
    void *object = kmalloc(64, GFP_KERNEL);
    int error = object == NULL ? -ENOMEM : break_map(object, DMA_BIT_MASK(BREAK_DMA_FEW_BITS));

    kfree(object);
    return error;
}

// ---- given back what was not lent ---------------------------------------------------------------

static int break_unmap(size_t size, enum dma_data_direction direction)
{
    struct break_dma it;
    int error = break_dma_begin(&it, DMA_FROM_DEVICE);

    if (error == 0) {
        dma_unmap_single(&it.dev, it.bus, size, direction); // said, and done
        kfree(it.buffer);
    }
    return error;
}

static int break_unmap_size(const char *argument __unused)
{
    return break_unmap(BREAK_DMA_SIZE / 2, DMA_FROM_DEVICE);
}

static int break_unmap_direction(const char *argument __unused)
{
    return break_unmap(BREAK_DMA_SIZE, DMA_TO_DEVICE);
}

static int break_unmap_twice(const char *argument __unused)
{
    struct break_dma it;
    int error = break_dma_begin(&it, DMA_FROM_DEVICE);

    if (error == 0) {
        dma_unmap_single(&it.dev, it.bus, BREAK_DMA_SIZE, DMA_FROM_DEVICE);
        break_dma_end(&it, DMA_FROM_DEVICE);
    }
    return error;
}

static int break_unmap_foreign(const char *argument __unused)
{
    struct break_dma it;
    struct device other = {.name = "break-other", .dma_mask = DMA_BIT_MASK(64)};
    int error = break_dma_begin(&it, DMA_FROM_DEVICE);

    if (error == 0) {
        dma_unmap_single(&other, it.bus, BREAK_DMA_SIZE, DMA_FROM_DEVICE); // said, and not done
        break_dma_end(&it, DMA_FROM_DEVICE);
    }
    return error;
}

static int break_unmap_coherent(const char *argument __unused)
{
    struct device dev = {.name = "break", .dma_mask = DMA_BIT_MASK(64)};
    dma_addr_t bus;
    void *ring = dma_alloc_coherent(&dev, PAGE_SIZE, &bus);

    if (ring == NULL) {
        return -ENOMEM;
    }
    dma_unmap_single(&dev, bus, PAGE_SIZE, DMA_BIDIRECTIONAL); // said, and not done
    dma_free_coherent(&dev, PAGE_SIZE, ring, bus);
    return 0;
}

static int break_sync_beyond(const char *argument __unused)
{
    struct break_dma it;
    int error = break_dma_begin(&it, DMA_FROM_DEVICE);

    if (error == 0) {
        dma_sync_single_for_cpu(&it.dev, it.bus, BREAK_DMA_SIZE + 1, DMA_FROM_DEVICE);
        break_dma_end(&it, DMA_FROM_DEVICE);
    }
    return error;
}

// ---- touched while it was lent ------------------------------------------------------------------

static int break_free_mapped(const char *argument __unused)
{
    struct break_dma it;
    int error = break_dma_begin(&it, DMA_FROM_DEVICE);

    if (error == 0) {
        kfree(it.buffer); // said, and not done
        break_dma_end(&it, DMA_FROM_DEVICE);
    }
    return error;
}

// Noticed by a sum, which is made only when somebody wants it: it reads all that is sent.
static int break_write_mapped(const char *argument __unused)
{
    struct break_dma it;
    bool was_strict = dma_debug_be_strict(true);
    int error = break_dma_begin(&it, DMA_TO_DEVICE);

    if (error == 0) {
        it.buffer[100] = 1; // too late: the device may have read it already, or not
        break_dma_end(&it, DMA_TO_DEVICE);
    }
    dma_debug_be_strict(was_strict);
    return error;
}

BREAK("dma-double-map", NULL, "memory is mapped that a device owns already",
      "mapped although a device owns it already", true, break_double_map);
BREAK("dma-map-stack", NULL, "a local variable is mapped for a device",
      "is not from kmalloc or the page allocator", true, break_map_stack);
BREAK("dma-map-freed", NULL, "freed memory is mapped for a device", "refused, the memory was freed",
      true, break_map_freed);
BREAK("dma-beyond-mask", NULL, "a device is lent memory that it cannot reach, nor a copy of it",
      "dma: break reaches up to 0xfff", true, break_beyond_mask);
BREAK("dma-unmap-size", NULL, "a mapping is given back with another size",
      "unmapped with another size", true, break_unmap_size);
BREAK("dma-unmap-direction", NULL, "a mapping is given back with another direction",
      "unmapped with another direction", true, break_unmap_direction);
BREAK("dma-unmap-twice", NULL, "a mapping is given back twice", "unmapped, but is not mapped", true,
      break_unmap_twice);
BREAK("dma-unmap-foreign", NULL, "a mapping is given back by another device",
      "unmapped by another device than mapped it", true, break_unmap_foreign);
BREAK("dma-unmap-coherent", NULL, "coherent memory is given back like a mapping",
      "is coherent memory", true, break_unmap_coherent);
BREAK("dma-sync-beyond", NULL, "the CPU looks at more than is mapped",
      "synced beyond the end of the mapping", true, break_sync_beyond);
BREAK("dma-free-mapped", NULL, "memory is freed that a device owns",
      "freed although a device owns it", true, break_free_mapped);
BREAK("dma-write-mapped", NULL, "the CPU writes to what a device is about to read",
      "the CPU wrote to it while the device owned it", true, break_write_mapped);
