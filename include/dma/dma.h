// Part of the driver door: memory that a device may touch, and whose it is at the moment. The
// second story of this kernel.
//
//   coherent (rings):    dma_alloc_coherent: both may look at any time;
//                        order by dma_publish and dma_observe
//   streaming (buffers): CPU owns --dma_map_single--> device owns --dma_unmap_single--> CPU owns
//
// Each mapping is recorded while it lives (kernel/dma/debug.c): /proc/dma-map shows who owns what;
// a wrong or missing unmap is reported with both call sites. A bus address is the physical one, or,
// with translation hardware, one that means something only to this device (dma/iommu.h). Three
// kinds of address, three types: pointer, phys_t, dma_addr_t.
// Context: any, where a line does not say otherwise.
#pragma once

#include <contract/device.h>
#include <core/cpu.h>
#include <lib/types.h>

#define DMA_NO_ADDRESS UINT64_MAX // no device can transfer a byte at the last address and behind it

enum dma_data_direction { DMA_BIDIRECTIONAL = 0, DMA_TO_DEVICE = 1, DMA_FROM_DEVICE = 2 };

// Zeroed, physically contiguous, page-aligned, within the device's mask. *handle is what to tell
// the device. NULL: no memory within the mask. Context: thread.
void *dma_alloc_coherent(struct device *dev, size_t size, dma_addr_t *handle);
void dma_free_coherent(struct device *dev, size_t size, void *cpu, dma_addr_t handle);

// Hands [cpu, cpu + size) to the device. The memory must come from kmalloc or the page allocator
// (not a stack, not vmalloc). Where it lies beyond the device's mask, the device gets a copy. Check
// the result with dma_mapping_error: no such copy, or not such memory. Context: any.
dma_addr_t dma_map_single(struct device *dev, void *cpu, size_t size,
                          enum dma_data_direction direction);
void dma_unmap_single(struct device *dev, dma_addr_t handle, size_t size,
                      enum dma_data_direction direction);
static inline bool dma_mapping_error(struct device *dev, dma_addr_t handle)
{
    (void)dev;
    return handle.value == DMA_NO_ADDRESS;
}
// The same by page and offset, and for several pieces at once: dma_map_sg fills in each address;
// the number of pieces, or 0 when one could not be mapped (then none is). Context: any.
dma_addr_t dma_map_page(struct device *dev, void *page, size_t offset, size_t size,
                        enum dma_data_direction direction);
void dma_unmap_page(struct device *dev, dma_addr_t handle, size_t size,
                    enum dma_data_direction direction);
struct scatterlist {
    void *cpu;
    size_t length;
    dma_addr_t address; // filled in by dma_map_sg
};
unsigned dma_map_sg(struct device *dev, struct scatterlist *list, unsigned count,
                    enum dma_data_direction direction);
void dma_unmap_sg(struct device *dev, struct scatterlist *list, unsigned count,
                  enum dma_data_direction direction);
// Looks at a mapped buffer for a while without unmapping it.
void dma_sync_single_for_cpu(struct device *dev, dma_addr_t handle, size_t size,
                             enum dma_data_direction direction);
void dma_sync_single_for_device(struct device *dev, dma_addr_t handle, size_t size,
                                enum dma_data_direction direction);

// How far the device can reach (BIT64(n) - 1). 0 or -EIO when no RAM lies within. Context: thread,
// before the first mapping.
int dma_set_mask(struct device *dev, uint64_t mask);
// The most bytes that one mapping of this device should have: where it works on copies, they must
// be found in one piece. Context: any.
size_t dma_max_mapping_size(struct device *dev);
#define DMA_BIT_MASK(n) ((n) == 64 ? ~0ull : BIT64(n) - 1)

// Small coherent blocks of one size, cut from whole pages: descriptors that come and go. `align` is
// a power of two up to a page, size at most a page. NULL: no memory; alloc may need a page.
// Context: thread.
struct dma_pool;
struct dma_pool *dma_pool_create(const char *name, struct device *dev, size_t size, size_t align);
void *dma_pool_alloc(struct dma_pool *pool, dma_addr_t *handle);
void dma_pool_free(struct dma_pool *pool, void *cpu, dma_addr_t handle); // Context: any
// Blocks that are still out are reported by number, and their pages are not given back. Context:
// thread.
void dma_pool_destroy(struct dma_pool *pool);

// Mappings and coherent buffers that this device still holds; a driver's remove must leave 0.
unsigned dma_outstanding(const struct device *dev);

// ISA DMA channels 0 to 7, for /proc/dma. Channel 4 is never free: it ties the two controllers
// together. 0, -EINVAL, -EBUSY. Context: thread.
int request_dma(unsigned channel, const char *name);
void free_dma(unsigned channel);

// Are mappings recorded and checked (boot option dma_debug)?
extern bool dma_debug_off; // I: boot option dma_debug
static inline bool dma_debug_is_on(void)
{
    return !dma_debug_off;
}
// How many misuses were reported since boot, and how many mappings live unrecorded because the
// records ran out.
uint64_t dma_debug_errors(void);
// From now on, also compare what the CPU does to memory that a device reads (dma_debug=strict), or
// no longer; what was before. Context: any.
bool dma_debug_be_strict(bool strict);
// For kernel/mm (page_lent_hook): does a device own any of [start, +size), which `caller` frees? It
// is said then. Context: any.
bool dma_debug_freed(const void *start, size_t size, const void *caller);
uint64_t dma_debug_unrecorded(void);

// Everything written before is visible to the device before what is written after: put it before
// every doorbell. On x86, stores to memory are not reordered with each other nor with uncached
// stores, so a compiler barrier is enough (Intel SDM vol. 3, 9.2.2); the name is the lesson.
static inline void dma_publish(void)
{
    barrier();
}
// What is read after is not older than what was read before: between a descriptor's status and its
// data.
static inline void dma_observe(void)
{
    barrier();
}
