// The little that DMA, logs and statistics need to know of a device, whatever its bus. A bus's own
// struct (pci_dev) embeds it, so kernel/dma never sees PCI.
#pragma once

#include <lib/types.h>

struct device {
    char name[24];      // I: "0000:00:03.0"
    uint64_t dma_mask;  // I: highest address the device can reach; dma_set_mask()
    void *driver_data;  // L by the bus: the bound driver's state, NULL when none is bound
    const char *driver; // L by the bus: the bound driver's name or NULL
    char alias[12];     // L by the bus: what its driver calls it: "nvme0"; empty: nothing
    // I: who it is on its bus: bus << 8 | slot << 3 | function; the bridge on the root bus that it
    // is behind, or again itself; and as whom its accesses arrive there: a bridge to conventional
    // PCI speaks for those behind it, who cannot be told apart
    uint16_t requester, upstream, source, segment;
    uint32_t dma_bounced; // A: copies that it works on (kernel/dma/bounce.c)
    void *translation;    // L by drivers/iommu: its view of memory; NULL: it never asked for DMA
    uint32_t
        dma_held; // A: mappings and coherent buffers that it has and must give back; kernel/dma's
};

// Log lines that say which device speaks: "e1000 0000:00:02.0: link is up". Need <core/log.h>.
#define dev_err(dev, format, ...) \
    pr_err("%s %s: " format, (dev)->driver ? (dev)->driver : "device", (dev)->name, ##__VA_ARGS__)
#define dev_warn(dev, format, ...) \
    pr_warn("%s %s: " format, (dev)->driver ? (dev)->driver : "device", (dev)->name, ##__VA_ARGS__)
#define dev_dbg(dev, format, ...) \
    pr_debug("%s %s: " format, (dev)->driver ? (dev)->driver : "device", (dev)->name, ##__VA_ARGS__)
#define dev_info(dev, format, ...) \
    pr_info("%s %s: " format, (dev)->driver ? (dev)->driver : "device", (dev)->name, ##__VA_ARGS__)
