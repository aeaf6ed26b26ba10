// Looking at the page allocator: how much is free and in what pieces, whether its lists are whole,
// and /proc/buddyinfo, as proc(5) has it.
//
// Context: thread; page_free_count: any. Previous: page.c.
#include <lib/text.h>
#include <contract/proc_file.h>
#include <core/log.h>
#include <core/panic.h>

#include "page_internal.h"

uint64_t page_free_count(void)
{
    uint64_t count = 0;

    for (unsigned z = 0; z < ZONE_COUNT; z++) {
        for (unsigned order = 0; order <= PAGE_MAX_ORDER; order++) {
            count += READ_ONCE(zones[z].free_blocks[order]) << order;
        }
    }
    return count;
}

void page_stats(struct page_stats *stats)
{
    *stats = (struct page_stats){.total_bytes = page_total << PAGE_SHIFT};
    for (unsigned z = 0; z < ZONE_COUNT; z++) {
        unsigned long irq;

        spin_lock_irqsave(&zones[z].lock, irq);
        for (unsigned order = 0; order <= PAGE_MAX_ORDER; order++) {
            uint64_t blocks = zones[z].free_blocks[order];

            stats->free_blocks[order] += blocks;
            stats->free_bytes += blocks << (PAGE_SHIFT + order);
            if (blocks != 0 && order > stats->largest_free_order) {
                stats->largest_free_order = order;
            }
        }
        spin_unlock_irqrestore(&zones[z].lock, irq);
    }
}

// What is wrong with a block on the free list of `order`; NULL when nothing is.
static const char *zone_block_fault(const struct zone *zone, uint32_t index, uint32_t prev,
                                    unsigned order)
{
    const struct page *page = &pages[index];
    uint64_t pfn = page_pfn(page);

    if (page->kind != PAGE_FREE || page->order != order) {
        return "is not marked as a free block of this order";
    }
    if (page->prev != prev) {
        return "does not point back";
    }
    if (!IS_ALIGNED(pfn, 1ull << order) || page_zone(pfn) != zone) {
        return "is unaligned or in the wrong zone";
    }
    for (uint32_t i = 1; i < 1u << order; i++) {
        if (page[i].kind != PAGE_INSIDE) {
            return "holds a page that is not free";
        }
    }
    struct page *buddy = order < PAGE_MAX_ORDER ? page_at(pfn ^ (1ull << order)) : NULL;
    if (buddy != NULL && buddy->kind == PAGE_FREE && buddy->order == order) {
        return "was not joined with its free buddy";
    }
    return NULL;
}

static unsigned zone_check_order(struct zone *zone, unsigned order)
{
    uint32_t prev = PAGE_NONE;
    uint64_t seen = 0;
    unsigned errors = 0;
    unsigned long irq;

    spin_lock_irqsave(&zone->lock, irq);
    uint64_t want = zone->free_blocks[order];
    for (uint32_t i = zone->free_head[order]; i != PAGE_NONE && seen <= want; i = pages[i].next) {
        const char *fault = zone_block_fault(zone, i, prev, order);

        if (fault != NULL) {
            errors++;
            pr_err("page_selfcheck: free block %p of order %u %s", page_address(&pages[i]), order,
                   fault);
        }
        prev = i;
        seen++;
    }
    spin_unlock_irqrestore(&zone->lock, irq);
    if (seen != want) {
        errors++;
        pr_err("page_selfcheck: zone %s, order %u: %llu blocks counted, the list holds %s%llu",
               zone->name, order, (unsigned long long)want, seen > want ? "at least " : "",
               (unsigned long long)seen);
    }
    return errors;
}

unsigned page_selfcheck(void)
{
    unsigned errors = 0;

    might_sleep();
    for (unsigned z = 0; z < ZONE_COUNT; z++) {
        for (unsigned order = 0; order <= PAGE_MAX_ORDER; order++) {
            errors += zone_check_order(&zones[z], order);
        }
    }
    return errors;
}

static void page_show_buddyinfo(struct text *t, unsigned long index)
{
    (void)index;
    for (unsigned z = 0; z < ZONE_COUNT; z++) {
        text_printf(t, "Node 0, zone %8s ", zones[z].name);
        for (unsigned order = 0; order <= PAGE_MAX_ORDER; order++) {
            text_printf(t, "%6llu ", (unsigned long long)READ_ONCE(zones[z].free_blocks[order]));
        }
        text_putc(t, '\n');
    }
}
PROC_FILE("buddyinfo", page_show_buddyinfo);
