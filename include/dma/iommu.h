// What translation hardware offers to kernel/dma: bus addresses that mean something only to the
// device they were made for. Without it a bus address is the physical one.
#pragma once

#include <contract/device.h>
#include <dma/dma.h>
#include <lib/types.h>

struct iommu_ops {
    // Lets the device reach [phys, +size), in the given direction only; the bus address, or
    // DMA_NO_ADDRESS: no room below dev->dma_mask, or no memory. Context: any.
    uint64_t (*map)(struct device *dev, phys_t phys, size_t size,
                    enum dma_data_direction direction);
    // Takes it back: from here on (strict) or soon (lazy) a device that still uses the address
    // meets a fault. Context: any.
    void (*unmap)(struct device *dev, uint64_t bus, size_t size);
    // False: for this device addresses go through as they are (iommu=pt).
    bool (*translates)(struct device *dev);
    // The physical address behind one of the device's bus addresses; DMA_NO_ADDRESS: none.
    uint64_t (*translate)(struct device *dev, uint64_t bus);
};

// NULL: there is none, or it is off. Set once at boot, before the first device is probed.
extern const struct iommu_ops *dma_iommu;
