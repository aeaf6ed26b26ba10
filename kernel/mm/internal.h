// What the files of kernel/mm share with each other and with their tests, and with nobody else.
#pragma once

#include <contract/boot_info.h>
#include <lib/types.h>
#include <core/cpu.h>
#include <mm/page.h>

// ---- region.c: the boot map put in order --------------------------------------------------------

struct region {
    uint64_t start, end; // bytes, end exclusive
    enum boot_region_type type;
};

enum {
    REGION_MAX = 2 * BOOT_MAX_REGIONS
}; // n regions have 2n edges, so at most 2n - 1 pieces between them

// Sorts `count` regions, cuts them at `limit` (RAM at `ram_limit` as well), and resolves overlaps:
// what is not RAM wins. `out` gets at most REGION_MAX ascending, disjoint regions, neighbours of
// one type joined. Returns how many. Context: boot.
unsigned region_resolve(const struct boot_region *in, unsigned count, uint64_t limit,
                        uint64_t ram_limit, struct region *out);

// ---- page.c: one struct page for each page of RAM -----------------------------------------------

enum page_kind {     // what a page frame is
    PAGE_INSIDE = 0, // part of a block: the block's first page tells
    PAGE_HOLE,       // no RAM
    PAGE_KEPT,       // RAM that never was free: kernel image, boot modules, the struct pages
    PAGE_FREE,       // first page of a free block
    PAGE_USED,       // first page of a block that somebody has
    PAGE_SLAB,       // any page of a slab
};

struct page {
    union {
        struct {
            uint32_t next,
                prev; // L of the zone: neighbours in the free list, as indices of struct pages
        };
        void *owner; // L of whoever has the page: the struct slab of PAGE_SLAB
    };
    uint8_t kind;  // L of the zone: enum page_kind
    uint8_t order; // L of the zone: of PAGE_FREE and PAGE_USED blocks
    uint16_t lent; // A: mappings for devices that begin or end in this page (page_lend)
};

// Memory is to be freed that begins in the first of these pages. True: a device still owns some of
// it, and that was said; it must be left alone. Context: any.
bool page_lent_refuse(const void *start, size_t size, const void *caller);
static inline bool page_refuse_free(const struct page *page, uint32_t pages, const void *start,
                                    size_t size, const void *caller)
{
    for (uint32_t i = 0; i < pages; i++) {
        if (unlikely(READ_ONCE(page[i].lent) != 0)) {
            return page_lent_refuse(start, size, caller);
        }
    }
    return false;
}
// free_pages, in whose name. Context: any.
void page_free(void *address, unsigned order, const void *caller);

// The struct page of a direct-map address; NULL when there is no RAM of ours. Context: any.
struct page *page_of(const void *address);

// ---- fail.c: allocations that fail on purpose ---------------------------------------------------

extern uint32_t fail_countdown;
bool fail_draw(void);
static inline bool fail_wanted(void)
{
    return unlikely(READ_ONCE(fail_countdown) != 0) && fail_draw();
}

// GFP_KERNEL is for threads that may sleep: a driver that uses it in a handler works, until memory
// is short. Locks held and interrupt contexts are looked at, disabled interrupts alone are not:
// boot has them off all along.
static inline void gfp_check(enum gfp flags, const char *function)
{
    if ((flags & GFP_ATOMIC) == 0 && unlikely(may_never_sleep())) {
        assert_context_failed(CTX_THREAD, function);
    }
}

// ---- map.c: the page tables ---------------------------------------------------------------------

// Maps [virt, virt + size) to [phys, ...) by the largest pages that fit; all page-aligned. Nothing
// may be mapped there yet. 0 or -ENOMEM (then part of it may be mapped: map_clear it). Context:
// any.
int map_range(uintptr_t virt, phys_t phys, size_t size, uint64_t flags);
// Leaves a not-present entry that tells why (PTE_GUARD_...). 0 or -ENOMEM.
int map_guard(uintptr_t virt, uint64_t mark);
// Takes the mapping and guard marks away, here and on all CPUs. Context: thread or boot.
void map_clear(uintptr_t virt, size_t size);

struct map_stats {
    uint64_t table_bytes;     // page tables themselves
    uint64_t direct_bytes[3]; // direct map, by page size: 4 KiB, 2 MiB, 1 GiB
};
void map_stats(struct map_stats *stats);

// ---- vmap.c: areas of VMAP_BASE -----------------------------------------------------------------

struct vmap_stats {
    uint64_t used_bytes;  // areas, guard pages included
    uint64_t alloc_bytes; // pages behind vmalloc
    uint64_t stack_bytes; // pages behind kernel stacks
};
void vmap_stats(struct vmap_stats *stats);

// For demand.c: an area without pages, and the end of one with those that it has.
void *vmap_demand_take(size_t size, const void *caller);
void vmap_demand_give(void *pointer);
