// Copies for devices that cannot reach the memory that they were given: kernel/dma/dma.c asks.
#pragma once

#include <contract/device.h>
#include <dma/dma.h>
#include <lib/types.h>

enum { DMA_BOUNCE_BYTES = 64 << 10 }; // a copy should not be larger: it is one piece

extern bool dma_bounce_forced; // I: boot option swiotlb=force

// Makes a copy that the device can reach, at the same offset within a page; its bus address, or
// DMA_NO_ADDRESS: no memory within the mask. Context: any.
uint64_t dma_bounce_map(struct device *dev, void *cpu, size_t size,
                        enum dma_data_direction direction);
// False: this address is no copy's. Else what the device wrote is copied back, and the copy freed.
bool dma_bounce_unmap(struct device *dev, uint64_t bus);
// Copies part of it back (for the CPU) or forth (for the device). Nothing when it is no copy's.
void dma_bounce_sync(struct device *dev, uint64_t bus, size_t size, bool for_cpu);
// Physical address of the original; DMA_NO_ADDRESS: this address is no copy's.
uint64_t dma_bounce_original(struct device *dev, uint64_t bus);
// How many copies this device has now.
static inline uint32_t dma_bounce_count(const struct device *dev)
{
    return __atomic_load_n(&dev->dma_bounced, __ATOMIC_RELAXED);
}
