// The records of who owns which memory: kernel/dma/dma.c tells, kernel/dma/debug.c remembers and
// objects.
#pragma once

#include <lib/types.h>
#include <contract/device.h>
#include <dma/dma.h>

struct dma_use { // one call of the API, as its caller made it
    struct device *dev;
    uint64_t bus;  // first address, as the device is told
    uint64_t phys; // the memory behind it, which is what two mappings may not share
    uint64_t size;
    uint8_t direction; // enum dma_data_direction
    bool coherent;
    uint32_t sum;       // of what the device is to read (dma_debug=strict); debug.c's
    const void *caller; // code address
};

// Remembers a mapping; objects when the device owns part of it already. Context: any.
void dma_debug_map(const struct dma_use *use);
// Forgets it, and corrects use->size to what was mapped. False when there was none of this device
// at this address: then nothing was unmapped. Context: any.
bool dma_debug_unmap(struct dma_use *use);
// The CPU (or the device again) wants to look at part of a mapping. Context: any.
void dma_debug_sync(const struct dma_use *use, bool for_cpu);
// A request that could not be a mapping at all; `what` says why. Context: any.
void dma_debug_refuse(const struct dma_use *use, const char *what);

// ---- among debug.c, debug_report.c and debug_show.c ----

// Says what is wrong with `use`; `other` is the mapping that is in the way, or NULL. Context: any.
void dma_debug_report(const struct dma_use *use, const char *what, const struct dma_use *other);

struct dma_record {
    struct dma_record *next; // L of its bucket, or of the pool
    struct dma_use use;      // L
    bool cpu_looks;          // L: between sync_for_cpu and sync_for_device
};

const char *dma_debug_kind(const struct dma_use *use); // "coherent", or its direction
void dma_debug_counts(uint32_t *live, uint32_t *peak); // mappings that are recorded; the most ever
bool dma_debug_is_strict(void);
// Copies the records, as many as fit; how many those are. Context: any.
uint32_t dma_debug_copy(struct dma_record *to, uint32_t room);
