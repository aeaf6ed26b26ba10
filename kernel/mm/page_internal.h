// What the files of the page allocator know of each other: page.c (blocks come and go),
// page_boot.c (how it begins), page_show.c (counts and checks).
#pragma once

#include <core/panic.h>
#include <core/spinlock.h>
#include <lib/types.h>
#include <mm/page.h>

#include "internal.h"

#define PAGE_NONE  0xffffffffu
#define DMA32_PFNS (1ull << (32 - PAGE_SHIFT))

enum { SPANS_MAX = 16 };

struct page_span {
    uint64_t first, count; // I: page frame numbers
    uint32_t index;        // I: of its first struct page
};

struct zone {
    const char *name;
    struct spinlock lock;
    uint32_t free_head[PAGE_MAX_ORDER + 1];   // L: index of a struct page or PAGE_NONE
    uint64_t free_blocks[PAGE_MAX_ORDER + 1]; // L
};
enum { ZONE_DMA32, ZONE_NORMAL, ZONE_COUNT };
extern struct zone zones[ZONE_COUNT];

extern struct page_span page_spans[SPANS_MAX]; // I
extern unsigned page_span_count;               // I
extern struct page *pages;                     // I: the array
extern uint64_t page_total;                    // I: pages of RAM in spans, kept ones included

// NULL: no RAM of ours.
static inline struct page *page_at(uint64_t pfn)
{
    for (unsigned i = 0; i < page_span_count; i++) {
        const struct page_span *span = &page_spans[i];

        if (pfn - span->first < span->count) {
            return &pages[span->index + (pfn - span->first)];
        }
    }
    return NULL;
}

static inline uint64_t page_pfn(const struct page *page)
{
    uint64_t index = (uint64_t)(page - pages);

    for (unsigned i = 0; i < page_span_count; i++) {
        const struct page_span *span = &page_spans[i];

        if (index - span->index < span->count) {
            return span->first + (index - span->index);
        }
    }
    panic("page %p is none of ours", (const void *)page);
}

static inline void *page_address(const struct page *page)
{
    return phys_to_virt(page_pfn(page) << PAGE_SHIFT);
}

static inline struct zone *page_zone(uint64_t pfn)
{
    return &zones[pfn < DMA32_PFNS ? ZONE_DMA32 : ZONE_NORMAL];
}

// A block becomes free, and is joined with its buddies. Caller holds the zone's lock, or it is
// boot.
void zone_give_locked(struct zone *zone, struct page *page, uint64_t pfn, unsigned order);
