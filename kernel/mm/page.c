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
// Each page has a struct page of 16 bytes. RAM comes in pieces with holes between them, some tiny,
// some of many GiB, so the struct pages cover `spans`: pieces whose holes are too small to matter
// are one span. All struct pages are one array, laid at boot into the first free RAM that is large
// enough and below 4 GiB (the boot page tables reach no farther).
//
//   RAM:    [0..640K] hole [1M...........2G] big hole [4G.......6G]
//   spans:  [------------ span 0 -----------]         [--- span 1 ---]
//   pages:  [ struct page 0 ...................... | ............. ]
//
// Nothing here is sized by the highest address that the map mentions: that may be a reserved hole
// at 0xfd00000000.
//
// What nobody may hand out is kept out by never being freed here: page 0 (the BIOS's data lives
// there, and a physical address 0 means "none"), the kernel image, boot modules, the struct pages.
//
// Context: a spinlock per zone, interrupts off while it is held; so alloc_pages and free_pages may
// be called from anywhere.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <lib/text.h>
#include <lib/types.h>
#include <contract/boot_info.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/resource.h>
#include <core/spinlock.h>
#include <x86/cpuid.h>
#include <mm/page.h>

#include "internal.h"

enum {
    SPANS_MAX = 16,
    SPAN_HOLE_PAGES =
        4096,        // a hole of up to 16 MiB costs up to 64 KiB of struct pages, and saves a span
    IOMEM_MAX = 200, // nodes of /proc/iomem that the boot map may take
};
#define PAGE_NONE    0xffffffffu
#define DMA32_PFNS   (1ull << (32 - PAGE_SHIFT))
#define PAGE_LOW_END 0xa0000 // where video memory begins

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

static struct zone zones[] = {
    {.name = "DMA32", .lock = SPINLOCK_INIT("zone DMA32")},
    {.name = "Normal", .lock = SPINLOCK_INIT("zone Normal")},
};
enum { ZONE_DMA32, ZONE_NORMAL };

static struct region page_regions[REGION_MAX]; // I
static unsigned page_region_count;             // I
static struct page_span page_spans[SPANS_MAX]; // I
static unsigned page_span_count;               // I
static struct page *pages;                     // I: the array
static uint64_t page_total;                    // I: pages of RAM in spans, kept ones included
static phys_t page_low;                        // I: the page for the trampoline, until taken
static uint64_t page_ram_limit = UINT64_MAX;   // I: boot option mem=

// What lies in RAM and is not free: page frames [first, end).
struct page_keep {
    uint64_t first, end;
};
static struct page_keep page_keeps[BOOT_MAX_MODULES + 4]; // I
static unsigned page_keep_count;                          // I

extern char kernel_start[], kernel_end[]; // linker.ld

// ---- arithmetic ---------------------------------------------------------------------------------

static struct page *page_at(uint64_t pfn)
{
    for (unsigned i = 0; i < page_span_count; i++) {
        const struct page_span *span = &page_spans[i];

        if (pfn - span->first < span->count) {
            return &pages[span->index + (pfn - span->first)];
        }
    }
    return NULL;
}

static uint64_t page_pfn(const struct page *page)
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

struct page *page_of(const void *address)
{
    return page_at(((uintptr_t)address - PHYS_BASE) >> PAGE_SHIFT);
}

static void *page_address(const struct page *page)
{
    return phys_to_virt(page_pfn(page) << PAGE_SHIFT);
}

static struct zone *page_zone(uint64_t pfn)
{
    return &zones[pfn < DMA32_PFNS ? ZONE_DMA32 : ZONE_NORMAL];
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

phys_t page_main_start, page_main_size, page_first_size;

bool page_is_ram_anywhere(phys_t address)
{
    const struct page *page = page_at(address >> PAGE_SHIFT);

    return page != NULL && page->kind != PAGE_HOLE;
}

bool page_ram_piece(unsigned index, phys_t *start, phys_t *end)
{
    for (unsigned i = 0; i < page_region_count; i++) {
        const struct region *r = &page_regions[i];

        if (r->type != BOOT_REGION_RAM) {
            continue;
        }
        *start = ALIGN_UP(r->start, PAGE_SIZE);
        *end = ALIGN_DOWN(r->end, PAGE_SIZE);
        if (*start < *end && index-- == 0) {
            return true;
        }
    }
    return false;
}

bool page_overlaps_ram(phys_t address, uint64_t size)
{
    phys_t start, end;

    for (unsigned i = 0; page_ram_piece(i, &start, &end); i++) {
        if (address < end && start - min(start, address) < size) {
            return true;
        }
    }
    return false;
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
static void zone_give_locked(struct zone *zone, struct page *page, uint64_t pfn, unsigned order)
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

phys_t page_take_low(void)
{
    phys_t low = page_low;

    page_low = 0;
    return low;
}

// ---- boot ---------------------------------------------------------------------------------------

static void page_keep(uint64_t start, uint64_t end)
{
    if (start < end && page_keep_count < ARRAY_SIZE(page_keeps)) {
        page_keeps[page_keep_count++] =
            (struct page_keep){.first = start >> PAGE_SHIFT, .end = ((end - 1) >> PAGE_SHIFT) + 1};
    }
}

// The keep that [first, end) runs into at the lowest address, NULL for none.
static const struct page_keep *page_keep_in(uint64_t first, uint64_t end)
{
    const struct page_keep *lowest = NULL;

    for (unsigned i = 0; i < page_keep_count; i++) {
        const struct page_keep *k = &page_keeps[i];

        if (k->first < end && k->end > first && (lowest == NULL || k->first < lowest->first)) {
            lowest = k;
        }
    }
    return lowest;
}

// Adds a piece of RAM to the last span, or makes a new one. Where there are too many, the smallest
// gives way.
static void page_span_add(uint64_t first, uint64_t end)
{
    struct page_span *last = page_span_count > 0 ? &page_spans[page_span_count - 1] : NULL;

    if (last != NULL && first - (last->first + last->count) <= SPAN_HOLE_PAGES) {
        last->count = end - last->first;
        return;
    }
    if (page_span_count == SPANS_MAX) {
        struct page_span *smallest = page_spans;

        for (unsigned i = 1; i < SPANS_MAX; i++) {
            smallest = page_spans[i].count < smallest->count ? &page_spans[i] : smallest;
        }
        if (smallest->count >= end - first) {
            pr_warn("RAM is in too many pieces: %llu KiB at %#llx stay unused",
                    (unsigned long long)(end - first) << (PAGE_SHIFT - 10),
                    (unsigned long long)first << PAGE_SHIFT);
            return;
        }
        pr_warn("RAM is in too many pieces: %llu KiB at %#llx stay unused",
                (unsigned long long)smallest->count << (PAGE_SHIFT - 10),
                (unsigned long long)smallest->first << PAGE_SHIFT);
        memmove(smallest, smallest + 1, (size_t)((char *)last - (char *)smallest));
        page_span_count--;
    }
    page_spans[page_span_count++] = (struct page_span){.first = first, .count = end - first};
}

// Finds room for `size` bytes of struct pages in free RAM between 1 MiB and 4 GiB. 0 when there is
// none.
static phys_t page_find_room(uint64_t size)
{
    uint64_t count = DIV_ROUND_UP(size, PAGE_SIZE);
    phys_t start, end;

    for (unsigned i = 0; page_ram_piece(i, &start, &end); i++) {
        uint64_t first = max(start, (phys_t)0x100000) >> PAGE_SHIFT;
        uint64_t last = min(end >> PAGE_SHIFT, (uint64_t)DMA32_PFNS);

        while (first < last && last - first >= count) {
            const struct page_keep *k = page_keep_in(first, first + count);

            if (k == NULL) {
                return first << PAGE_SHIFT;
            }
            first = k->end;
        }
    }
    return 0;
}

// Lays the array of struct pages into RAM; gives up RAM from the top until it fits.
static void page_place_array(void)
{
    for (;;) {
        uint64_t count = 0;

        for (unsigned i = 0; i < page_span_count; i++) {
            page_spans[i].index = (uint32_t)count;
            count += page_spans[i].count;
        }
        phys_t room = count < PAGE_NONE ? page_find_room(count * sizeof(struct page)) : 0;
        if (room != 0) {
            pages = phys_to_virt(room);
            memset(pages, 0, count * sizeof(struct page)); // all PAGE_INSIDE
            page_keep(room, room + count * sizeof(struct page));
            return;
        }
        if (page_span_count == 0 || count < 2) {
            panic("no RAM for the page allocator: give the machine more, or raise mem=");
        }
        if (page_span_count > 1) {
            page_span_count--;
        } else {
            page_spans[0].count /= 2;
        }
        const struct page_span *top = &page_spans[page_span_count - 1];
        pr_warn("no room below 4 GiB to manage all RAM: what is above %#llx stays unused",
                (unsigned long long)(top->first + top->count) << PAGE_SHIFT);
    }
}

static void page_mark(uint64_t first, uint64_t end, enum page_kind kind)
{
    for (uint64_t pfn = first; pfn < end; pfn++) {
        struct page *page = page_at(pfn);

        if (page != NULL) {
            page->kind = (uint8_t)kind;
        }
    }
}

static void page_mark_holes(void)
{
    for (unsigned i = 0; i < page_span_count; i++) {
        uint64_t at = page_spans[i].first, span_end = at + page_spans[i].count;
        phys_t start, end;

        for (unsigned k = 0; page_ram_piece(k, &start, &end) && at < span_end; k++) {
            uint64_t first = start >> PAGE_SHIFT, last = end >> PAGE_SHIFT;

            if (last <= at) {
                continue;
            }
            page_mark(at, min(max(first, at), span_end), PAGE_HOLE);
            page_total += min(last, span_end) - min(max(first, at), span_end);
            at = last;
        }
        page_mark(at, span_end, PAGE_HOLE);
    }
}

// Frees [first, end), which holds no keep and no hole, in the largest blocks that are aligned.
static void page_release(uint64_t first, uint64_t end)
{
    while (first < end) {
        struct page *page = page_at(first);
        unsigned order = 0;

        if (page == NULL) { // RAM of a span that was given up
            first++;
            continue;
        }
        while (order < PAGE_MAX_ORDER && (first & ((2ull << order) - 1)) == 0 &&
               first + (2ull << order) <= end &&
               page_at(first + (2ull << order) - 1) == page + (2ull << order) - 1) {
            order++;
        }
        zone_give_locked(page_zone(first), page, first, order);
        first += 1ull << order;
    }
}

static void page_release_all(void)
{
    phys_t start, end;

    for (unsigned i = 0; page_ram_piece(i, &start, &end); i++) {
        uint64_t first = start >> PAGE_SHIFT, last = end >> PAGE_SHIFT;

        while (first < last) {
            const struct page_keep *k = page_keep_in(first, last);
            uint64_t stop = k == NULL ? last : max(k->first, first);

            page_release(first, stop);
            if (k != NULL) {
                page_mark(stop, min(k->end, last), PAGE_KEPT);
                stop = min(k->end, last);
            }
            first = stop;
        }
    }
}

// Sets the highest free page below 640 KiB aside for the trampoline: the lowest ones are where
// firmware is most careless.
static void page_find_low(void)
{
    phys_t start, end;

    for (unsigned i = 0; page_ram_piece(i, &start, &end) && start < PAGE_LOW_END; i++) {
        for (phys_t at = min(end, (phys_t)PAGE_LOW_END); at > start; at -= PAGE_SIZE) {
            uint64_t pfn = (at >> PAGE_SHIFT) - 1;

            if (page_keep_in(pfn, pfn + 1) == NULL) {
                page_low = pfn << PAGE_SHIFT; // pieces ascend: the last one found is the highest
                break;
            }
        }
    }
    page_keep(page_low, page_low + (page_low != 0 ? PAGE_SIZE : 0));
}

static const char *const region_names[BOOT_REGION_BAD + 1] = {
    [BOOT_REGION_RAM] = "System RAM",      [BOOT_REGION_RESERVED] = "Reserved",
    [BOOT_REGION_ACPI] = "ACPI Tables",    [BOOT_REGION_NVS] = "ACPI Non-volatile Storage",
    [BOOT_REGION_BAD] = "Unusable memory",
};

extern char text_start[], text_end[], rodata_start[], rodata_end[];
extern char data_start[], data_end[], bss_start[], bss_end[];

// The boot map and the kernel image, for /proc/iomem.
static void page_add_resources(void)
{
    const struct {
        const char *start, *end, *name;
    } image[] = {
        {text_start, text_end, "Kernel code"},
        {rodata_start, rodata_end, "Kernel rodata"},
        {data_start, data_end, "Kernel data"},
        {bss_start, bss_end, "Kernel bss"},
    };

    for (unsigned i = 0; i < page_region_count && i < IOMEM_MAX; i++) {
        const struct region *r = &page_regions[i];

        resource_add(RESOURCE_MEMORY, r->start, r->end - 1, region_names[r->type]);
    }
    if (page_region_count > IOMEM_MAX) {
        pr_warn("/proc/iomem shows the first %u of the boot map's %u regions", IOMEM_MAX,
                page_region_count);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(image); i++) {
        if (image[i].start < image[i].end) {
            resource_add(RESOURCE_MEMORY, (uintptr_t)image[i].start - KERNEL_BASE,
                         (uintptr_t)image[i].end - KERNEL_BASE - 1, image[i].name);
        }
    }
}

// The largest piece of RAM that has struct pages, and the one below 640 KiB: where nearly all
// memory is, for page_is_ram().
static void page_find_main(void)
{
    phys_t start, end;

    page_main_size = page_first_size = 0;
    for (unsigned i = 0; page_ram_piece(i, &start, &end); i++) {
        if (page_at(start >> PAGE_SHIFT) == NULL || page_at((end - 1) >> PAGE_SHIFT) == NULL) {
            continue;
        }
        if (start == 0) {
            page_first_size = end;
        }
        if (end - start > page_main_size) {
            page_main_start = start;
            page_main_size = end - start;
        }
    }
}

void page_init(const struct boot_info *boot)
{
    phys_t start, end;

    // RAM that the direct map has no room for is left alone.
    page_region_count = region_resolve(boot->regions, boot->region_count, BIT64(cpu_phys_bits()),
                                       min(page_ram_limit, (uint64_t)PHYS_SIZE), page_regions);
    for (unsigned z = 0; z < ARRAY_SIZE(zones); z++) {
        for (unsigned order = 0; order <= PAGE_MAX_ORDER; order++) {
            zones[z].free_head[order] = PAGE_NONE;
        }
    }
    page_keep(0, PAGE_SIZE);
    page_keep((uintptr_t)kernel_start - KERNEL_BASE, (uintptr_t)kernel_end - KERNEL_BASE);
    for (unsigned i = 0; i < boot->module_count && i < BOOT_MAX_MODULES; i++) {
        const struct boot_module *m = &boot->modules[i];

        page_keep(m->base, m->base + min(m->size, UINT64_MAX - m->base));
    }
    page_find_low();

    for (unsigned i = 0; page_ram_piece(i, &start, &end); i++) {
        page_span_add(start >> PAGE_SHIFT, end >> PAGE_SHIFT);
    }
    page_place_array();
    page_mark_holes();
    page_find_main();
    page_release_all();
    page_add_resources();
    pr_info("memory: %llu KiB of RAM in %u piece%s, %llu KiB free",
            (unsigned long long)page_total << (PAGE_SHIFT - 10), page_span_count,
            page_span_count == 1 ? "" : "s",
            (unsigned long long)page_free_count() << (PAGE_SHIFT - 10));
}

// ---- looking at it ------------------------------------------------------------------------------

uint64_t page_free_count(void)
{
    uint64_t count = 0;

    for (unsigned z = 0; z < ARRAY_SIZE(zones); z++) {
        for (unsigned order = 0; order <= PAGE_MAX_ORDER; order++) {
            count += READ_ONCE(zones[z].free_blocks[order]) << order;
        }
    }
    return count;
}

void page_stats(struct page_stats *stats)
{
    *stats = (struct page_stats){.total_bytes = page_total << PAGE_SHIFT};
    for (unsigned z = 0; z < ARRAY_SIZE(zones); z++) {
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
    for (unsigned z = 0; z < ARRAY_SIZE(zones); z++) {
        for (unsigned order = 0; order <= PAGE_MAX_ORDER; order++) {
            errors += zone_check_order(&zones[z], order);
        }
    }
    return errors;
}

static void page_show_buddyinfo(struct text *t, unsigned long index)
{
    (void)index;
    for (unsigned z = 0; z < ARRAY_SIZE(zones); z++) {
        text_printf(t, "Node 0, zone %8s ", zones[z].name);
        for (unsigned order = 0; order <= PAGE_MAX_ORDER; order++) {
            text_printf(t, "%6llu ", (unsigned long long)READ_ONCE(zones[z].free_blocks[order]));
        }
        text_putc(t, '\n');
    }
}
PROC_FILE("buddyinfo", page_show_buddyinfo);

// mem=SIZE: RAM above this address is left alone. Less than 16 MiB holds the kernel but no work:
// refused as a slip of the pen.
static int page_set_limit(const char *value)
{
    uint64_t limit;
    int err = parse_size(value, &limit);

    if (err != 0 || limit < (16u << 20)) {
        return -EINVAL;
    }
    page_ram_limit = limit;
    return 0;
}
BOOT_OPTION("mem", page_set_limit, "mem=SIZE: use no RAM above this address (16M or more)");
