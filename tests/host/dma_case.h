// What the tests of kernel/dma share: a machine with 64 MiB of RAM, whose allocators are counted
// and fail when they shall, and two devices, a 32-bit and a 64-bit one. kernel/dma is included, not
// linked, so that each test starts it afresh.
//
// The includer links: kernel/lib/text.c kernel/lib/format.c, and the stubs log.c, panic.c and
// spinlock.c.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "kernel/dma/bounce.c"
#include "kernel/dma/debug.c"
#include "kernel/dma/debug_report.c"
#include "kernel/dma/debug_show.c"
#include "kernel/dma/dma.c"
#include "stubs/stubs.h"

#define RAM_SIZE (64ull << 20)

// ---- what kernel/dma asks of the kernel ---------------------------------------------------------

static uint64_t next_page;    // where alloc_pages_within takes from
static bool no_memory;        // alloc_pages fails
static unsigned record_pages; // taken for records
static unsigned pages_freed;  // by free_pages
static unsigned traced[TRACE_COUNT];
static unsigned last_order;                 // asked of alloc_pages_within
static const void *freed;                   // what slab_is_freed says yes to
static uint16_t lent[RAM_SIZE / PAGE_SIZE]; // by page_lend
unsigned long host_kernel_base;

static unsigned shown; // in /proc/iomem

int resource_add(enum resource_kind kind, uint64_t start, uint64_t end, const char *name)
{
    assert_int_equal(kind, RESOURCE_MEMORY);
    assert_true(start < end);
    assert_memory_equal(name, "DMA ", 4);
    shown++;
    return 0;
}

int resource_remove(enum resource_kind kind, uint64_t start, uint64_t end, const char *name)
{
    assert_int_equal(kind, RESOURCE_MEMORY);
    assert_true(start < end);
    assert_memory_equal(name, "DMA ", 4);
    shown--;
    return 0;
}

void page_lend(phys_t start, uint64_t size, int change)
{
    uint64_t first = start / PAGE_SIZE, last = (start + size - 1) / PAGE_SIZE;

    assert_true(change == 1 || change == -1);
    for (uint64_t page = first;; page = last) {
        if (page < ARRAY_SIZE(lent)) {
            lent[page] += (uint16_t)change;
        }
        if (page == last) {
            return;
        }
    }
}

phys_t page_main_start, page_main_size, page_first_size; // none: each address is looked up

bool page_is_ram_anywhere(phys_t address)
{
    return address >= PAGE_SIZE && address < RAM_SIZE;
}

bool page_ram_piece(unsigned index, phys_t *start, phys_t *end)
{
    *start = PAGE_SIZE;
    *end = RAM_SIZE;
    return index == 0;
}

phys_t virt_to_phys(const void *address)
{
    return (uintptr_t)address - PHYS_BASE;
}

unsigned page_order(size_t size)
{
    unsigned order = 0;

    while (((size_t)PAGE_SIZE << order) < size) {
        order++;
    }
    return order;
}

void *alloc_pages(enum gfp flags, unsigned order)
{
    static char pages[160][PAGE_SIZE] __aligned(PAGE_SIZE);

    (void)flags;
    assert_int_equal(order, 0);
    assert_true(record_pages < ARRAY_SIZE(pages));
    return no_memory ? NULL : pages[record_pages++];
}

void *alloc_pages_within(enum gfp flags, unsigned order, phys_t highest)
{
    uint64_t at = next_page;

    assert_true(flags & GFP_ZERO);
    last_order = order;
    if (no_memory || at + (PAGE_SIZE << order) - 1 > highest) {
        return NULL;
    }
    next_page += PAGE_SIZE << order;
    return phys_to_virt(at);
}

void *kmalloc(size_t size, enum gfp flags)
{
    (void)flags;
    return no_memory ? NULL : malloc(size);
}

bool slab_is_freed(const void *pointer)
{
    return pointer == freed;
}

void *kcalloc(size_t count, size_t size, enum gfp flags)
{
    (void)flags;
    return no_memory ? NULL : calloc(count, size);
}

void kfree(const void *pointer)
{
    free((void *)(uintptr_t)pointer);
}

void free_pages(void *address, unsigned order)
{
    (void)address;
    (void)order;
    pages_freed++;
}

void trace(enum trace_event event, uint32_t a, uint64_t b)
{
    (void)a;
    (void)b;
    traced[event]++;
}

bool log_limit_ok(struct log_limit *limit, uint32_t *held)
{
    (void)limit;
    *held = 0;
    return true;
}

static uint64_t seconds;

uint64_t clock_ns(void)
{
    return seconds * 1000000000;
}

void text_symbol(struct text *t, uintptr_t address)
{
    text_printf(t, "%#lx", (unsigned long)address);
}

// ---- scaffolding --------------------------------------------------------------------------------

static struct device nic, disk;
static char *ram;

static inline int reset(void **state)
{
    (void)state;
    void *want = (void *)PHYS_BASE;
    if (mmap(want, RAM_SIZE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != want) {
        return -1;
    }
    ram = want;
    for (unsigned i = 0; i < ARRAY_SIZE(dma_buckets); i++) {
        dma_buckets[i] = (struct dma_bucket){.lock = SPINLOCK_INIT("dma bucket")};
    }
    dma_pool = NULL;
    dma_pool_made = dma_crossing_count = dma_live = dma_peak = 0;
    dma_unrecorded = dma_errors = 0;
    memset(dma_unrecorded_at, 0, sizeof(dma_unrecorded_at));
    dma_debug_off = dma_debug_strict = no_memory = false;
    dma_iommu = NULL;
    freed = NULL;
    dma_bounce_forced = false;
    bounce_maps = bounce_bytes = bounce_refused = 0;
    next_page = 16 * PAGE_SIZE;
    pages_freed = record_pages = shown = 0;
    memset(lent, 0, sizeof(lent));
    memset(dma_long_regions, 0, sizeof(dma_long_regions));
    memset(traced, 0, sizeof(traced));
    nic = (struct device){.name = "nic", .dma_mask = DMA_BIT_MASK(32)};
    disk = (struct device){.name = "disk", .dma_mask = DMA_BIT_MASK(64)};
    warn_count = 0;
    seconds++;
    stub_log_clear();
    return 0;
}

// Exactly one report since the last look, and it says this.
static inline void reported(const char *what)
{
    assert_int_equal(dma_errors, 1);
    assert_int_equal(warn_count, 1);
    if (strstr(stub_log(), what) == NULL) {
        fail_msg("'%s' does not say '%s'", stub_log(), what);
    }
    dma_errors = 0;
    warn_count = 0;
    stub_log_clear();
}

static inline void quiet(void)
{
    assert_int_equal(dma_errors, 0);
    assert_int_equal(warn_count, 0);
    assert_string_equal(stub_log(), "");
}

static inline dma_addr_t map(struct device *dev, uint64_t at, size_t size,
                             enum dma_data_direction direction)
{
    dma_addr_t handle = dma_map_single(dev, ram + at, size, direction);

    assert_false(dma_mapping_error(dev, handle));
    return handle;
}
