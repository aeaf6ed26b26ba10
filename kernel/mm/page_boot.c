// How the page allocator begins: from the boot map's RAM to free blocks.
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
// Context: boot; page_ram_piece, page_overlaps_ram: any. Previous: region.c. Next: page.c.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/boot_info.h>
#include <contract/boot_option.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/resource.h>
#include <core/sections.h>
#include <x86/cpuid.h>
#include <mm/page.h>

#include "page_internal.h"

enum {
    SPAN_HOLE_PAGES =
        4096,        // a hole of up to 16 MiB costs up to 64 KiB of struct pages, and saves a span
    IOMEM_MAX = 200, // nodes of /proc/iomem that the boot map may take
};
#define PAGE_LOW_END 0xa0000 // where video memory begins

static struct region page_regions[REGION_MAX]; // I
static unsigned page_region_count;             // I
static phys_t page_low;                        // I: the page for the trampoline, until taken
static uint64_t page_ram_limit = UINT64_MAX;   // I: boot option mem=
struct page_span page_spans[SPANS_MAX];
unsigned page_span_count;
struct page *pages;
uint64_t page_total;
phys_t page_main_start, page_main_size, page_first_size;

// What lies in RAM and is not free: page frames [first, end).
struct page_keep {
    uint64_t first, end;
};
static struct page_keep page_keeps[BOOT_MAX_MODULES + 4]; // I
static unsigned page_keep_count;                          // I

// ---- the boot map -------------------------------------------------------------------------------

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

// ---- what is kept -------------------------------------------------------------------------------

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

// ---- struct pages -------------------------------------------------------------------------------

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

// ---- the start ----------------------------------------------------------------------------------

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
    for (unsigned z = 0; z < ZONE_COUNT; z++) {
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

phys_t page_take_low(void)
{
    phys_t low = page_low;

    page_low = 0;
    return low;
}

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
