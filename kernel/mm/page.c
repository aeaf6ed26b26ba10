// Hands out physical pages: a buddy allocator over the boot map's RAM.
//
// Free memory lies in blocks of 4 KiB << order, aligned to their size. A request splits the
// smallest block that is large enough, again and again, and leaves the second halves on the free
// lists; a free joins a block with its buddy (the block whose address differs in the one bit of the
// size) as long as that one is free too.
//
//   order 2 |               |    alloc_page:  split to order 1, then to order 0
//   order 1 |       | free  |
//   order 0 |USED|free|          free_page:   join, join
//
// Each page has a struct page of 16 bytes (page_boot.c says where they lie), which tells whether it
// is free, or begins a block, and of which order.
//
// Context: a spinlock per zone, interrupts off while it is held; so alloc_pages and free_pages may
// be called from anywhere. Previous: page_boot.c. Next: slab.c, which cuts pages into objects.
#include <lib/string.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/sections.h>
#include <core/spinlock.h>
#include <mm/page.h>

#include "page_internal.h"

struct zone zones[ZONE_COUNT] = {
    {.name = "DMA32", .lock = SPINLOCK_INIT("zone DMA32")},
    {.name = "Normal", .lock = SPINLOCK_INIT("zone Normal")},
};

// ---- arithmetic ---------------------------------------------------------------------------------

struct page *page_of(const void *address)
{
    return page_at(((uintptr_t)address - PHYS_BASE) >> PAGE_SHIFT);
}

phys_t virt_to_phys(const void *address)
{
    uintptr_t virt = (uintptr_t)address;

    if (virt >= (uintptr_t)kernel_start && virt < (uintptr_t)kernel_end) {
        return virt - KERNEL_BASE;
    }
    assert(virt >= PHYS_BASE && virt - PHYS_BASE < PHYS_SIZE);
    return virt - PHYS_BASE;
}

unsigned page_order(size_t size)
{
    size_t count = size <= PAGE_SIZE ? 1 : ((size - 1) >> PAGE_SHIFT) + 1;
    unsigned order = 0;

    while (order < 63 && (1ull << order) < count) {
        order++;
    }
    return order;
}

bool page_is_ram_anywhere(phys_t address)
{
    const struct page *page = page_at(address >> PAGE_SHIFT);

    return page != NULL && page->kind != PAGE_HOLE;
}

// ---- free lists; the zone's lock is held --------------------------------------------------------

static void zone_link_locked(struct zone *zone, struct page *page, unsigned order)
{
    uint32_t self = (uint32_t)(page - pages), next = zone->free_head[order];

    page->kind = PAGE_FREE;
    page->order = (uint8_t)order;
    page->prev = PAGE_NONE;
    page->next = next;
    if (next != PAGE_NONE) {
        pages[next].prev = self;
    }
    zone->free_head[order] = self;
    zone->free_blocks[order]++;
}

static void zone_unlink_locked(struct zone *zone, struct page *page)
{
    if (page->next != PAGE_NONE) {
        pages[page->next].prev = page->prev;
    }
    if (page->prev != PAGE_NONE) {
        pages[page->prev].next = page->next;
    } else {
        zone->free_head[page->order] = page->next;
    }
    zone->free_blocks[page->order]--;
    page->kind = PAGE_INSIDE;
}

// The first free block of `order` that begins below page frame `limit` with enough room for `want`;
// PAGE_NONE for none.
static uint32_t zone_find_locked(const struct zone *zone, unsigned order, unsigned want,
                                 uint64_t limit)
{
    uint32_t i = zone->free_head[order];

    while (limit != UINT64_MAX && i != PAGE_NONE && page_pfn(&pages[i]) + (1ull << want) > limit) {
        i = pages[i].next;
    }
    return i;
}

// Takes a block of which no page is at or above `limit`; UINT64_MAX, the usual case, looks at list
// heads only.
static struct page *zone_take_locked(struct zone *zone, unsigned order, uint64_t limit)
{
    uint32_t found = PAGE_NONE;
    unsigned have = order;

    for (; have <= PAGE_MAX_ORDER; have++) {
        found = zone_find_locked(zone, have, order, limit);
        if (found != PAGE_NONE) {
            break;
        }
    }
    if (found == PAGE_NONE) {
        return NULL;
    }
    struct page *page = &pages[found];
    zone_unlink_locked(zone, page);
    while (have > order) {
        have--;
        zone_link_locked(zone, page + (1u << have), have);
    }
    page->kind = PAGE_USED;
    page->order = (uint8_t)order;
    page->owner = NULL;
    return page;
}

// The buddies of a block lie in one span or one of them does not exist; and never in two zones, as
// 4 GiB is a multiple of the largest block.
void zone_give_locked(struct zone *zone, struct page *page, uint64_t pfn, unsigned order)
{
    page->kind = PAGE_INSIDE;
    for (; order < PAGE_MAX_ORDER; order++) {
        uint64_t buddy_pfn = pfn ^ (1ull << order);
        struct page *buddy = page_at(buddy_pfn);

        if (buddy == NULL || buddy->kind != PAGE_FREE || buddy->order != order) {
            break;
        }
        zone_unlink_locked(zone, buddy);
        if (buddy_pfn < pfn) {
            pfn = buddy_pfn;
            page = buddy;
        }
    }
    zone_link_locked(zone, page, order);
}

// ---- allocation ---------------------------------------------------------------------------------

unsigned long (*page_reclaim)(unsigned long pages, bool may_wait); // I
static uint64_t page_counts[NR_PAGE_USES];                         // A

void page_count_add(enum page_use use, long count)
{
    __atomic_fetch_add(&page_counts[use], (uint64_t)count, __ATOMIC_RELAXED);
}

uint64_t page_count(enum page_use use)
{
    return __atomic_load_n(&page_counts[use], __ATOMIC_RELAXED);
}

uint64_t page_clean_bytes(void)
{
    uint64_t busy = page_count(NR_FILE_DIRTY) + page_count(NR_WRITEBACK);
    uint64_t all = page_count(NR_FILE_PAGES); // counted at another moment: it may be less

    return (all > busy ? all - busy : 0) << PAGE_SHIFT;
}

static bool page_may_wait(enum gfp flags)
{
    return (flags & GFP_ATOMIC) == 0 && in_task() && cpu_field(preempt_off) == 0 &&
           !irqs_disabled();
}

bool page_reclaim_wait(enum gfp flags)
{
    return page_reclaim != NULL && page_may_wait(flags) && page_reclaim(1, true) != 0;
}

// The scarce zone last: a device that reaches 4 GiB only can use no other.
static struct page *page_take(enum gfp flags, unsigned order, uint64_t limit)
{
    struct page *page = NULL;
    unsigned long irq;

    for (int z = flags & GFP_DMA32 ? ZONE_DMA32 : ZONE_NORMAL; z >= 0 && page == NULL; z--) {
        spin_lock_irqsave(&zones[z].lock, irq);
        page = zone_take_locked(&zones[z], order, limit);
        spin_unlock_irqrestore(&zones[z].lock, irq);
    }
    return page;
}

// Nothing is free: what is kept for later is given up for this, bit by bit, until a block of the
// size is there or nothing is left to give.
static __noinline struct page *page_take_back(enum gfp flags, unsigned order, uint64_t limit)
{
    struct page *page = NULL;

    while (page == NULL && page_reclaim != NULL &&
           page_reclaim(1ul << order, page_may_wait(flags)) != 0) {
        page = page_take(flags, order, limit);
    }
    return page;
}

static void *page_alloc(enum gfp flags, unsigned order, uint64_t limit)
{
    gfp_check(flags, "alloc_pages");
    if (order > PAGE_MAX_ORDER || fail_wanted()) {
        return NULL;
    }
    struct page *page = page_take(flags, order, limit);
    if (unlikely(page == NULL)) {
        page = page_take_back(flags, order, limit);
        if (page == NULL) {
            return NULL;
        }
    }
    void *address = page_address(page);
    if (flags & GFP_ZERO) {
        memset(address, 0, (size_t)PAGE_SIZE << order);
    }
    return address;
}

void *alloc_pages(enum gfp flags, unsigned order)
{
    return page_alloc(flags, order, UINT64_MAX);
}

void *alloc_pages_within(enum gfp flags, unsigned order, phys_t highest)
{
    uint64_t limit = (highest >> PAGE_SHIFT) + ((highest & (PAGE_SIZE - 1)) == PAGE_SIZE - 1);

    return page_alloc(highest < BIT64(32) ? flags | GFP_DMA32 : flags, order, limit);
}

// Why [address] is no block that may be freed with this order; NULL when it is.
static const char *page_free_fault(const void *address, const struct page *page, unsigned order)
{
    if ((uintptr_t)address < PHYS_BASE || page == NULL || page->kind == PAGE_HOLE ||
        page->kind == PAGE_KEPT) {
        return "never was a page to allocate";
    }
    if (!IS_ALIGNED((uintptr_t)address, PAGE_SIZE)) {
        return "is not the start of a page";
    }
    if (page->kind == PAGE_SLAB) {
        return "belongs to a slab";
    }
    if (page->kind != PAGE_USED) {
        return "is free already, or inside of another block";
    }
    return page->order != order ? "was allocated with another order" : NULL;
}

// ---- what is lent to devices --------------------------------------------------------------------

bool (*page_lent_hook)(const void *start, size_t size, const void *caller);

void page_lend(phys_t start, uint64_t size, int change)
{
    uint64_t first = start >> PAGE_SHIFT, last = (start + size - 1) >> PAGE_SHIFT;

    for (uint64_t pfn = first;; pfn = last) {
        struct page *page = page_at(pfn);

        if (likely(page != NULL)) {
            __atomic_fetch_add(&page->lent, (uint16_t)change, __ATOMIC_RELAXED);
        }
        if (pfn == last) {
            return;
        }
    }
}

bool page_lent_refuse(const void *start, size_t size, const void *caller)
{
    bool (*hook)(const void *start, size_t size, const void *caller) = READ_ONCE(page_lent_hook);

    return hook != NULL && hook(start, size, caller);
}

void page_free(void *address, unsigned order, const void *caller)
{
    uint64_t pfn = ((uintptr_t)address - PHYS_BASE) >> PAGE_SHIFT;
    struct zone *zone = page_zone(pfn);
    struct page *page = page_at(pfn);
    unsigned long irq;

    if (address == NULL) {
        return;
    }
    if (likely(page != NULL && page->kind == PAGE_USED && page->order == order) &&
        page_refuse_free(page, 1u << order, address, (size_t)PAGE_SIZE << order, caller)) {
        return;
    }
    spin_lock_irqsave(&zone->lock, irq);
    const char *fault = page_free_fault(address, page, order);
    if (fault == NULL) {
        zone_give_locked(zone, page, pfn, order);
    }
    spin_unlock_irqrestore(&zone->lock, irq);
    if (fault != NULL) {
        pr_err("BUG: free_pages(%p, order %u): it %s; the memory stays as it is", address, order,
               fault);
        warn_at(__FILE__, __LINE__, "pages are freed wrongly");
    }
}

void free_pages(void *address, unsigned order)
{
    page_free(address, order, __builtin_return_address(0));
}
