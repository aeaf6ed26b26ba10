// The DMA interface and its memory of who owns what: each misuse gives one report that names it,
// and harms no other mapping.
//
// links: kernel/lib/text.c kernel/lib/format.c
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
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

static int reset(void **state)
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
static void reported(const char *what)
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

static void quiet(void)
{
    assert_int_equal(dma_errors, 0);
    assert_int_equal(warn_count, 0);
    assert_string_equal(stub_log(), "");
}

static dma_addr_t map(struct device *dev, uint64_t at, size_t size,
                      enum dma_data_direction direction)
{
    dma_addr_t handle = dma_map_single(dev, ram + at, size, direction);

    assert_false(dma_mapping_error(dev, handle));
    return handle;
}

// ---- what is right ------------------------------------------------------------------------------

static void a_mapping_lives_and_ends(void **state)
{
    (void)state;
    dma_addr_t handle = map(&nic, 0x5800, 2048, DMA_FROM_DEVICE);
    assert_int_equal(handle.value, 0x5800);
    assert_int_equal(dma_outstanding(&nic), 1);
    assert_int_equal(dma_live, 1);
    dma_sync_single_for_cpu(&nic, handle, 2048, DMA_FROM_DEVICE);
    dma_sync_single_for_device(&nic, handle, 64, DMA_FROM_DEVICE);
    dma_unmap_single(&nic, handle, 2048, DMA_FROM_DEVICE);
    assert_int_equal(dma_outstanding(&nic), 0);
    assert_int_equal(dma_live, 0);
    assert_int_equal(traced[TRACE_DMA_MAP], 1);
    assert_int_equal(traced[TRACE_DMA_UNMAP], 1);
    quiet();
}

static void neighbours_are_no_collision(void **state)
{
    (void)state;
    map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    map(&nic, 0x5800, 2048, DMA_FROM_DEVICE);
    map(&disk, 0x6000, 65536, DMA_FROM_DEVICE);
    map(&disk, 0x4f00, 256, DMA_FROM_DEVICE);
    quiet();
}

static void two_readers_may_share(void **state)
{
    (void)state;
    map(&nic, 0x5000, 1500, DMA_TO_DEVICE);
    map(&disk, 0x5000, 4096, DMA_TO_DEVICE);
    quiet();
}

static void coherent_memory(void **state)
{
    (void)state;
    dma_addr_t handle;
    void *ring = dma_alloc_coherent(&nic, 5000, &handle);
    assert_ptr_equal(ring, ram + 16 * PAGE_SIZE);
    assert_int_equal(handle.value, 16 * PAGE_SIZE);
    assert_int_equal(dma_outstanding(&nic), 1);
    assert_int_equal(shown, 1);
    dma_free_coherent(&nic, 5000, ring, handle);
    assert_int_equal(shown, 0);
    assert_int_equal(pages_freed, 1);
    assert_int_equal(dma_outstanding(&nic), 0);
    quiet();
}

static void coherent_memory_beyond_the_mask(void **state)
{
    (void)state;
    dma_addr_t handle;
    assert_int_equal(dma_set_mask(&nic, 0xffff), 0);
    assert_null(dma_alloc_coherent(&nic, 4096, &handle));
    assert_true(dma_mapping_error(&nic, handle));
    assert_non_null(strstr(stub_log(), "nic"));
    assert_null(dma_alloc_coherent(&nic, 0, &handle));
    assert_null(dma_alloc_coherent(&nic, SIZE_MAX / 2, &handle));
    assert_int_equal(dma_outstanding(&nic), 0);
}

static void masks(void **state)
{
    (void)state;
    assert_int_equal(dma_set_mask(&nic, DMA_BIT_MASK(28)), 0);
    assert_int_equal(nic.dma_mask, 0xfffffff);
    assert_int_equal(dma_set_mask(&nic, 0xfff), -EIO); // no RAM lies there
    assert_int_equal(nic.dma_mask, 0xfffffff);
    assert_int_equal(DMA_BIT_MASK(64), UINT64_MAX);
}

// ---- what is wrong ------------------------------------------------------------------------------

static void refused_memory(void **state)
{
    (void)state;
    char stack[64];

    assert_true(dma_mapping_error(&nic, dma_map_single(&nic, stack, 64, DMA_TO_DEVICE)));
    reported("not from kmalloc");
    assert_true(
        dma_mapping_error(&nic, dma_map_single(&nic, ram + RAM_SIZE - 64, 65, DMA_TO_DEVICE)));
    reported("not from kmalloc");
    assert_true(dma_mapping_error(&nic, dma_map_single(&nic, ram + 0x5000, 0, DMA_TO_DEVICE)));
    reported("no size");
    assert_true(
        dma_mapping_error(&nic, dma_map_single(&nic, ram + 0x5000, SIZE_MAX, DMA_TO_DEVICE)));
    reported("no size");
    freed = ram + 0x6000;
    assert_true(dma_mapping_error(&nic, dma_map_single(&nic, ram + 0x6000, 8, DMA_TO_DEVICE)));
    reported("was freed");
    nic.dma_mask = 0x5fff; // and alloc_pages_within has nothing below that
    assert_true(dma_mapping_error(&nic, dma_map_single(&nic, ram + 0x5fff, 2, DMA_TO_DEVICE)));
    assert_non_null(strstr(stub_log(), "nic reaches up to 0x5fff, the buffer lies at 0x5fff"));
    stub_log_clear();
    map(&nic, 0x5ffe, 2, DMA_TO_DEVICE);
    quiet();
    assert_int_equal(dma_outstanding(&nic), 1);
}

// ---- copies -------------------------------------------------------------------------------------

// The device reaches up to 0x1ffff; the buffer lies beyond. Bytes go there at the map, and come
// back at the unmap, by direction.
static void what_cannot_be_reached_is_copied(void **state)
{
    (void)state;
    char *buffer = ram + 0x345678;
    nic.dma_mask = 0x1ffff;
    memset(buffer, 'a', 100);
    dma_addr_t handle = dma_map_single(&nic, buffer, 100, DMA_BIDIRECTIONAL);
    assert_int_equal(handle.value, 16 * PAGE_SIZE + 0x678); // as far into a page as the original
    assert_int_equal(dma_bounce_count(&nic), 1);
    assert_memory_equal(ram + handle.value, buffer, 100);
    memset(ram + handle.value, 'b', 100); // the device writes
    assert_int_equal(buffer[0], 'a');
    dma_sync_single_for_cpu(&nic, handle, 10, DMA_BIDIRECTIONAL);
    assert_int_equal(buffer[9], 'b');
    assert_int_equal(buffer[10], 'a');
    buffer[0] = 'c';
    dma_sync_single_for_device(&nic, handle, 10, DMA_BIDIRECTIONAL);
    assert_int_equal(ram[handle.value], 'c');
    dma_unmap_single(&nic, handle, 100, DMA_BIDIRECTIONAL);
    assert_int_equal(buffer[99], 'b');
    assert_int_equal(dma_bounce_count(&nic), 0);
    assert_int_equal(dma_outstanding(&nic), 0);
    assert_int_equal(pages_freed, 1);
    quiet();
}

static void copies_on_request(void **state)
{
    (void)state;
    assert_int_equal(dma_max_mapping_size(&disk), UINT64_MAX);
    assert_int_equal(dma_max_mapping_size(&nic), UINT64_MAX);
    nic.dma_mask = 0x1ffff;
    assert_int_equal(dma_max_mapping_size(&nic), DMA_BOUNCE_BYTES);
    assert_int_equal(bounce_set_forced("yes"), -EINVAL);
    assert_int_equal(bounce_set_forced("force"), 0);
    assert_int_equal(dma_max_mapping_size(&disk), DMA_BOUNCE_BYTES);
    memset(ram + 0x5ffe, 'a', 4);
    dma_addr_t handle = map(&disk, 0x5ffe, 4, DMA_TO_DEVICE); // it could reach it
    assert_int_equal(handle.value, 16 * PAGE_SIZE + 0xffe);
    assert_int_equal(last_order, 1); // across the page's end, as the original
    assert_memory_equal(ram + handle.value, "aaaa", 4);
    dma_unmap_single(&disk, handle, 4, DMA_TO_DEVICE);
    assert_int_equal(dma_bounce_count(&disk), 0);
    quiet();
}

static void copies_go_one_way_only(void **state)
{
    (void)state;
    char *buffer = ram + 0x345000;
    nic.dma_mask = 0x1ffff;
    memset(buffer, 'a', 5000);
    dma_addr_t handle = dma_map_single(&nic, buffer, 5000, DMA_TO_DEVICE);
    assert_int_equal(last_order, 1);
    memset(ram + handle.value, 'x', 5000);
    dma_unmap_single(&nic, handle, 5000, DMA_TO_DEVICE);
    assert_int_equal(buffer[0], 'a');
    handle = dma_map_single(&nic, buffer, 100, DMA_FROM_DEVICE);
    assert_int_equal(ram[handle.value], 0); // nothing of the CPU's is shown to the device
    dma_unmap_single(&nic, handle, 100, DMA_FROM_DEVICE);
    assert_int_equal(buffer[0], 0);
    quiet();
}

// Found by its original, a copied mapping is checked like any other.
static void copies_are_checked(void **state)
{
    (void)state;
    nic.dma_mask = 0x1ffff;
    dma_addr_t handle = map(&nic, 0x345000, 64, DMA_TO_DEVICE);
    map(&disk, 0x345020, 64, DMA_FROM_DEVICE);
    reported("owns it already");
    dma_unmap_single(&nic, handle, 32, DMA_TO_DEVICE);
    reported("with another size");
    dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    reported("not mapped");
    assert_int_equal(dma_bounce_count(&nic), 0);
}

// ---- translation --------------------------------------------------------------------------------

enum { TRANSLATED = 0x40000000 }; // what the fake adds to each address
static unsigned translations, untranslations;
static size_t untranslated_size;

static uint64_t fake_map(struct device *dev, phys_t phys, size_t size,
                         enum dma_data_direction direction)
{
    (void)dev;
    (void)size;
    (void)direction;
    translations++;
    return phys + TRANSLATED;
}

static void fake_unmap(struct device *dev, uint64_t bus, size_t size)
{
    (void)dev;
    (void)bus;
    untranslations++;
    untranslated_size = size;
}

static bool fake_translates(struct device *dev)
{
    (void)dev;
    return true;
}

static uint64_t fake_translate(struct device *dev, uint64_t bus)
{
    (void)dev;
    return bus >= TRANSLATED ? bus - TRANSLATED : DMA_NO_ADDRESS;
}

static const struct iommu_ops fake_iommu = {fake_map, fake_unmap, fake_translates, fake_translate};

// The device is told another address, and the checker still sees the memory behind it.
static void translated_addresses(void **state)
{
    (void)state;
    dma_iommu = &fake_iommu;
    translations = untranslations = 0;
    dma_addr_t handle = map(&nic, 0x5000, 100, DMA_FROM_DEVICE);
    assert_int_equal(handle.value, 0x5000 + TRANSLATED);
    map(&disk, 0x5010, 4, DMA_FROM_DEVICE);
    reported("owns it already");
    dma_unmap_single(&nic, handle, 60, DMA_FROM_DEVICE);
    reported("with another size");
    assert_int_equal(untranslated_size, 100); // all of it is taken back
    dma_unmap_single(&nic, handle, 100, DMA_FROM_DEVICE);
    reported("not mapped");
    dma_unmap_single(&nic, (dma_addr_t){7}, 100, DMA_FROM_DEVICE);
    reported("not mapped");
    assert_int_equal(translations, 2);
    assert_int_equal(untranslations, 1);
    dma_addr_t coherent;
    void *cpu = dma_alloc_coherent(&nic, 4096, &coherent);
    assert_non_null(cpu);
    assert_int_equal(coherent.value, virt_to_phys(cpu) + TRANSLATED);
    dma_free_coherent(&nic, 4096, cpu, coherent);
    assert_int_equal(untranslations, 2);
    quiet();
}

static uint64_t refuse_map(struct device *dev, phys_t phys, size_t size,
                           enum dma_data_direction direction)
{
    (void)dev;
    (void)phys;
    (void)size;
    (void)direction;
    return DMA_NO_ADDRESS;
}

static bool refuse_translates(struct device *dev)
{
    (void)dev;
    return false; // it knows nothing of the device
}

// A device that no unit serves: it is told so, and gets no copy, which it would not reach either.
static void what_translation_refuses_is_not_copied(void **state)
{
    (void)state;
    static const struct iommu_ops refusing = {refuse_map, fake_unmap, refuse_translates,
                                              fake_translate};
    dma_iommu = &refusing;
    untranslations = 0;
    assert_true(dma_mapping_error(&nic, dma_map_single(&nic, ram + 0x5000, 100, DMA_FROM_DEVICE)));
    assert_int_equal(dma_bounce_count(&nic), 0);
    assert_int_equal(dma_outstanding(&nic), 0);
    dma_addr_t coherent;
    assert_null(dma_alloc_coherent(&nic, 4096, &coherent));
    assert_int_equal(untranslations, 0);
}

// ---- several pieces -----------------------------------------------------------------------------

static void a_list_is_mapped_whole_or_not_at_all(void **state)
{
    (void)state;
    struct scatterlist list[] = {{.cpu = ram + 0x5000, .length = 512},
                                 {.cpu = ram + 0x9000, .length = 4096},
                                 {.cpu = ram + 0xb000, .length = 8}};
    assert_int_equal(dma_map_sg(&nic, list, 3, DMA_TO_DEVICE), 3);
    assert_int_equal(list[1].address.value, 0x9000);
    assert_int_equal(dma_outstanding(&nic), 3);
    dma_unmap_sg(&nic, list, 3, DMA_TO_DEVICE);
    quiet();
    list[2].cpu = (char *)&list; // a stack
    assert_int_equal(dma_map_sg(&nic, list, 3, DMA_TO_DEVICE), 0);
    reported("not from kmalloc");
    assert_int_equal(dma_outstanding(&nic), 0);
}

// ---- what the CPU does meanwhile ----------------------------------------------------------------

static void strict_sees_the_cpu_write(void **state)
{
    (void)state;
    dma_debug_strict = true;
    dma_addr_t handle = map(&nic, 0x5000, 64, DMA_TO_DEVICE);
    dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    quiet();
    handle = map(&nic, 0x5000, 64, DMA_TO_DEVICE);
    ram[0x5010]++;
    dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    reported("the CPU wrote to it");
    handle = map(&nic, 0x5000, 64, DMA_TO_DEVICE);
    dma_sync_single_for_cpu(&nic, handle, 64, DMA_TO_DEVICE);
    ram[0x5010]++; // now it may
    dma_sync_single_for_device(&nic, handle, 64, DMA_TO_DEVICE);
    dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    quiet();
}

// What the device writes lies in the copy: the original is nobody's to write until it is unmapped.
static void strict_sees_more_of_copies(void **state)
{
    (void)state;
    dma_debug_strict = dma_bounce_forced = true;
    dma_addr_t handle = map(&nic, 0x5000, 64, DMA_FROM_DEVICE);
    memset(ram + handle.value, 'd', 64);
    dma_unmap_single(&nic, handle, 64, DMA_FROM_DEVICE);
    assert_int_equal(ram[0x5010], 'd');
    quiet();
    handle = map(&nic, 0x5000, 64, DMA_FROM_DEVICE);
    ram[0x5010]++; // which is lost
    dma_unmap_single(&nic, handle, 64, DMA_FROM_DEVICE);
    reported("the CPU wrote to it");
    handle = map(&nic, 0x5000, 64, DMA_BIDIRECTIONAL);
    memset(ram + handle.value, 'e', 64);
    dma_sync_single_for_cpu(&nic, handle, 64, DMA_BIDIRECTIONAL);
    ram[0x5010]++;
    dma_unmap_single(&nic, handle, 64, DMA_BIDIRECTIONAL); // it need not be the device's again
    quiet();
}

static void mapped_twice(void **state)
{
    (void)state;
    map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    reported("owns it already");
    map(&disk, 0x57ff, 1, DMA_TO_DEVICE); // the last byte of both
    reported("owns it already");
}

// All ways to overlap, short and long, from before and from behind, across page borders.
static void overlaps_are_found(void **state)
{
    static const struct {
        uint64_t at;
        size_t size;
    } a[] = {{0x8000, 64},   {0x8fc0, 128},  {0x8000, 4096},
             {0x8800, 4096}, {0x8000, 4097}, {0x8000, 0x20000}};

    for (unsigned i = 0; i < ARRAY_SIZE(a); i++) {
        for (uint64_t at = 0x6000; at < 0x2a000; at += 0x7c0) {
            static const size_t sizes[] = {1, 0x800, 0x1000, 0x1001, 0x30000};

            for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
                bool overlap = at < a[i].at + a[i].size && a[i].at < at + sizes[k];

                reset(state);
                map(&disk, a[i].at, a[i].size, DMA_FROM_DEVICE);
                map(&nic, at, sizes[k], DMA_TO_DEVICE);
                assert_int_equal(dma_errors, overlap);
                reset(state);
                map(&nic, at, sizes[k], DMA_TO_DEVICE);
                map(&disk, a[i].at, a[i].size, DMA_FROM_DEVICE);
                assert_int_equal(dma_errors, overlap);
            }
        }
    }
}

// Whoever frees memory is told, if and only if some of it is lent; the mark that makes the free ask
// goes with the mapping.
static void freed_while_a_device_owns_it(void **state)
{
    (void)state;
    dma_addr_t handle = map(&nic, 0x5800, 1500, DMA_TO_DEVICE);
    dma_addr_t crossing = map(&disk, 0x8f00, 512, DMA_FROM_DEVICE);
    dma_addr_t large = map(&disk, 0x10000, 65536, DMA_FROM_DEVICE);

    assert_int_equal(lent[5], 1);
    assert_int_equal(lent[8] + lent[9], 2);
    assert_int_equal(lent[16] + lent[31], 2);
    assert_int_equal(lent[20], 0); // in the middle: the price does not grow with the size
    assert_false(dma_debug_freed(ram + 0x5000, 2048, NULL)); // its neighbour in the page
    assert_false(dma_debug_freed(ram + 0x6000, PAGE_SIZE, NULL));
    quiet();
    assert_true(dma_debug_freed(ram + 0x5800, 2048, (void *)0x1234));
    assert_non_null(strstr(stub_log(), "nic [0x5800, +2048) to-device by 0x1234"));
    assert_non_null(strstr(stub_log(), "mapped: nic [0x5800, +1500) to-device by 0x"));
    reported("freed although a device owns it");
    assert_true(dma_debug_freed(ram + 0x9000, PAGE_SIZE, NULL)); // the second page of a mapping
    reported("disk [0x9000, +4096)");
    assert_true(dma_debug_freed(ram + 0x10000, 65536, NULL));
    reported("disk [0x10000, +65536)");
    dma_unmap_single(&nic, handle, 1500, DMA_TO_DEVICE);
    dma_unmap_single(&disk, crossing, 512, DMA_FROM_DEVICE);
    dma_unmap_single(&disk, large, 65536, DMA_FROM_DEVICE);
    for (unsigned page = 0; page < ARRAY_SIZE(lent); page++) {
        assert_int_equal(lent[page], 0);
    }
    quiet();
}

static void unmapped_twice(void **state)
{
    (void)state;
    dma_addr_t other = map(&nic, 0x9000, 64, DMA_TO_DEVICE);
    dma_addr_t handle = map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    dma_unmap_single(&nic, handle, 2048, DMA_FROM_DEVICE);
    dma_unmap_single(&nic, handle, 2048, DMA_FROM_DEVICE);
    reported("unmapped twice");
    assert_int_equal(dma_outstanding(&nic), 1);
    dma_unmap_single(&nic, other, 64, DMA_TO_DEVICE);
    quiet();
}

static void never_mapped(void **state)
{
    (void)state;
    dma_unmap_single(&nic, (dma_addr_t){0x77777}, 64, DMA_TO_DEVICE);
    reported("is not mapped");
    dma_unmap_single(&nic, (dma_addr_t){DMA_NO_ADDRESS}, 64,
                     DMA_TO_DEVICE); // a mapping error, unchecked
    reported("is not mapped");
    dma_unmap_single(&nic, (dma_addr_t){0}, 0, DMA_TO_DEVICE);
    reported("is not mapped");
    assert_int_equal(dma_outstanding(&nic), 0);
}

static void another_size(void **state)
{
    (void)state;
    static const size_t sizes[][2] = {
        {2048, 1024}, {2048, 8192}, {8192, 2048}, {8192, 16384}, {2048, 0}};

    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        dma_addr_t handle = map(&nic, 0x5000, sizes[i][0], DMA_FROM_DEVICE);
        dma_unmap_single(&nic, handle, sizes[i][1], DMA_FROM_DEVICE);
        reported("with another size");
        assert_int_equal(dma_outstanding(&nic), 0);
        assert_int_equal(dma_live, 0);
        for (unsigned k = 0; k < ARRAY_SIZE(dma_long_regions); k++) {
            assert_int_equal(dma_long_regions[k], 0);
        }
    }
}

static void another_direction(void **state)
{
    (void)state;
    dma_addr_t handle = map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    dma_unmap_single(&nic, handle, 2048, DMA_TO_DEVICE);
    reported("with another direction");
    assert_int_equal(dma_outstanding(&nic), 0);
}

static void another_device(void **state)
{
    (void)state;
    dma_addr_t handle = map(&nic, 0x5000, 2048, DMA_FROM_DEVICE);
    dma_unmap_single(&disk, handle, 2048, DMA_FROM_DEVICE);
    reported("by another device");
    assert_int_equal(dma_outstanding(&nic), 1); // it still owns it
    dma_unmap_single(&nic, handle, 2048, DMA_FROM_DEVICE);
    quiet();
}

static void another_kind(void **state)
{
    (void)state;
    dma_addr_t handle;
    void *ring = dma_alloc_coherent(&nic, 4096, &handle);
    dma_unmap_single(&nic, handle, 4096, DMA_BIDIRECTIONAL);
    reported("is coherent memory");
    dma_free_coherent(&nic, 4096, ring, (dma_addr_t){handle.value + PAGE_SIZE});
    reported("not at the address");
    dma_free_coherent(&nic, 4096, ring, handle);
    quiet();
    assert_int_equal(pages_freed, 1);
    dma_free_coherent(&nic, 4096, ring, handle);
    reported("is not mapped");
    assert_int_equal(pages_freed, 1);

    handle = map(&nic, 0x5000, 4096, DMA_BIDIRECTIONAL);
    dma_free_coherent(&nic, 4096, ram + 0x5000, handle);
    reported("is a streaming mapping");
    assert_int_equal(pages_freed, 1);
}

static void wrong_syncs(void **state)
{
    (void)state;
    dma_addr_t handle = map(&nic, 0x5800, 2048, DMA_FROM_DEVICE);
    dma_sync_single_for_cpu(&nic, handle, 2049, DMA_FROM_DEVICE);
    reported("beyond the end");
    dma_sync_single_for_cpu(&nic, handle, 64, DMA_TO_DEVICE);
    reported("in another direction");
    dma_sync_single_for_cpu(&disk, handle, 64, DMA_FROM_DEVICE);
    reported("is not mapped");
    dma_sync_single_for_cpu(&nic, (dma_addr_t){0x57ff}, 1, DMA_FROM_DEVICE);
    reported("is not mapped");
    dma_sync_single_for_cpu(&nic, (dma_addr_t){0x5fff}, 1, DMA_FROM_DEVICE); // the last byte
    quiet();

    map(&nic, 0x8f80, 256, DMA_BIDIRECTIONAL); // crosses: the second half is in the next page
    dma_sync_single_for_cpu(&nic, (dma_addr_t){0x9000}, 64, DMA_FROM_DEVICE);
    map(&disk, 0x20000, 0x10000, DMA_TO_DEVICE);
    dma_sync_single_for_device(&disk, (dma_addr_t){0x2ffff}, 1, DMA_TO_DEVICE);
    quiet();
}

// ---- when records run out -----------------------------------------------------------------------

static void records_run_out(void **state)
{
    (void)state;
    unsigned more = DEBUG_RECORDS + 100;

    for (unsigned i = 0; i < more; i++) {
        map(&nic, 0x10000 + i * 64, 64, DMA_TO_DEVICE);
    }
    assert_int_equal(dma_live, DEBUG_RECORDS);
    assert_int_equal(dma_debug_unrecorded(), 100);
    assert_int_equal(dma_outstanding(&nic), more);
    assert_non_null(strstr(stub_log(), "records are in use"));
    assert_int_equal(dma_errors, 0);
    for (unsigned i = 0; i < more; i++) {
        dma_unmap_single(&nic, (dma_addr_t){0x10000 + i * 64}, 64, DMA_TO_DEVICE);
    }
    assert_int_equal(dma_outstanding(&nic), 0);
    assert_int_equal(dma_errors, 0);
    assert_int_equal(dma_debug_unrecorded(), 0);
}

static void no_memory_for_records(void **state)
{
    (void)state;
    no_memory = true;
    dma_addr_t handle = map(&nic, 0x5000, 64, DMA_TO_DEVICE);
    assert_int_equal(dma_debug_unrecorded(), 1);
    dma_unmap_single(&nic, (dma_addr_t){0x9000}, 64, DMA_TO_DEVICE); // that is not the one
    assert_int_equal(dma_errors, 1);
    assert_int_equal(dma_debug_unrecorded(), 1);
    dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    assert_int_equal(dma_errors, 1);
    assert_int_equal(dma_debug_unrecorded(), 0);
    assert_int_equal(dma_outstanding(&nic), 0);
}

static void switched_off(void **state)
{
    (void)state;
    assert_int_equal(dma_set_debug("off"), 0);
    assert_int_equal(dma_set_debug("of"), -EINVAL);
    dma_addr_t handle = map(&nic, 0x5000, 64, DMA_TO_DEVICE);
    map(&nic, 0x5000, 64, DMA_FROM_DEVICE);
    assert_int_equal(dma_live, 0);
    assert_int_equal(dma_outstanding(&nic), 2);
    for (unsigned i = 0; i < 3; i++) {
        dma_unmap_single(&nic, handle, 64, DMA_TO_DEVICE);
    }
    assert_int_equal(dma_outstanding(&nic), 0); // not below
    quiet();
}

static void reports_are_bounded(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        dma_unmap_single(&nic, (dma_addr_t){0x5000}, 64, DMA_TO_DEVICE);
    }
    assert_int_equal(dma_debug_errors(), 1000);
    assert_int_equal(warn_count, DEBUG_REPORTS);
    seconds++;
    dma_unmap_single(&nic, (dma_addr_t){0x5000}, 64, DMA_TO_DEVICE);
    assert_int_equal(warn_count, DEBUG_REPORTS + 1);
}

// ---- what people see ----------------------------------------------------------------------------

static void the_proc_file(void **state)
{
    (void)state;
    char buffer[2000];
    struct text t = TEXT_INIT(buffer);
    dma_addr_t ring;

    dma_addr_t handle = map(&nic, 0x5800, 2048, DMA_FROM_DEVICE);
    dma_alloc_coherent(&disk, 4096, &ring);
    dma_show_map(&t, 0);
    assert_non_null(strstr(buffer, "mappings 2, most at once 2, unrecorded 0, errors 0\n"));
    assert_non_null(
        strstr(buffer, "nic            0x0000000000005800     2048 from-device   device "));
    assert_non_null(
        strstr(buffer, "disk           0x0000000000010000     4096 coherent      both "));
    dma_sync_single_for_cpu(&nic, handle, 64, DMA_FROM_DEVICE);
    text_init(&t, buffer, sizeof(buffer));
    dma_show_map(&t, 0);
    assert_non_null(strstr(buffer, "2048 from-device   cpu "));
    no_memory = true;
    text_init(&t, buffer, sizeof(buffer));
    dma_show_map(&t, 0);
    assert_non_null(strstr(buffer, "mappings 2, "));
}

static void the_proc_file_is_sorted(void **state)
{
    (void)state;
    static char buffer[60000];
    struct text t = TEXT_INIT(buffer);
    unsigned long long last = 0, bus;
    unsigned lines = 0;

    srand(5);
    for (unsigned i = 0; i < 300; i++) {
        map(i % 2 ? &nic : &disk, (uint64_t)(2 + i * 37 % 300) * 0x2000, 64, DMA_TO_DEVICE);
    }
    dma_show_map(&t, 0);
    bool seen_nic = false;
    for (char *line = strchr(strchr(buffer, '\n') + 1, '\n') + 1; *line;
         line = strchr(line, '\n') + 1) {
        bool is_nic = strncmp(line, "nic ", 4) == 0;

        if (is_nic && !seen_nic) {
            seen_nic = true;
            last = 0;
        }
        assert_int_equal(is_nic, seen_nic); // all of the disk's stand before
        assert_int_equal(sscanf(line, "%*s %llx", &bus), 1);
        assert_true(bus > last);
        last = bus;
        lines++;
    }
    assert_int_equal(lines, 300);
}

// A thousand rounds of maps and unmaps against a list that a child could check.
static void random_traffic(void **state)
{
    (void)state;
    enum { SLOTS = 400 };
    static struct {
        size_t size;
        dma_addr_t handle;
    } slot[SLOTS];
    unsigned live = 0;

    srand(3);
    for (unsigned round = 0; round < 20000; round++) {
        unsigned i = (unsigned)rand() % SLOTS;
        struct device *dev = i % 2 ? &nic : &disk;
        enum dma_data_direction direction = (enum dma_data_direction)(i % 3);

        if (slot[i].size == 0) {
            slot[i].size = 1 + (size_t)rand() % (i % 50 == 0 ? 65536 : 2048);
            slot[i].handle = map(dev, 0x10000 + (uint64_t)i * 0x10000, slot[i].size, direction);
            live++;
        } else {
            dma_unmap_single(dev, slot[i].handle, slot[i].size, direction);
            slot[i].size = 0;
            live--;
        }
        assert_int_equal(dma_live, live);
        assert_int_equal(dma_outstanding(&nic) + dma_outstanding(&disk), live);
    }
    quiet();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_mapping_lives_and_ends, reset),
        cmocka_unit_test_setup(neighbours_are_no_collision, reset),
        cmocka_unit_test_setup(two_readers_may_share, reset),
        cmocka_unit_test_setup(coherent_memory, reset),
        cmocka_unit_test_setup(coherent_memory_beyond_the_mask, reset),
        cmocka_unit_test_setup(masks, reset),
        cmocka_unit_test_setup(what_cannot_be_reached_is_copied, reset),
        cmocka_unit_test_setup(copies_on_request, reset),
        cmocka_unit_test_setup(copies_go_one_way_only, reset),
        cmocka_unit_test_setup(copies_are_checked, reset),
        cmocka_unit_test_setup(translated_addresses, reset),
        cmocka_unit_test_setup(what_translation_refuses_is_not_copied, reset),
        cmocka_unit_test_setup(a_list_is_mapped_whole_or_not_at_all, reset),
        cmocka_unit_test_setup(strict_sees_the_cpu_write, reset),
        cmocka_unit_test_setup(refused_memory, reset),
        cmocka_unit_test_setup(strict_sees_more_of_copies, reset),
        cmocka_unit_test_setup(mapped_twice, reset),
        cmocka_unit_test_setup(overlaps_are_found, reset),
        cmocka_unit_test_setup(freed_while_a_device_owns_it, reset),
        cmocka_unit_test_setup(unmapped_twice, reset),
        cmocka_unit_test_setup(never_mapped, reset),
        cmocka_unit_test_setup(another_size, reset),
        cmocka_unit_test_setup(another_direction, reset),
        cmocka_unit_test_setup(another_device, reset),
        cmocka_unit_test_setup(another_kind, reset),
        cmocka_unit_test_setup(wrong_syncs, reset),
        cmocka_unit_test_setup(records_run_out, reset),
        cmocka_unit_test_setup(no_memory_for_records, reset),
        cmocka_unit_test_setup(switched_off, reset),
        cmocka_unit_test_setup(reports_are_bounded, reset),
        cmocka_unit_test_setup(the_proc_file, reset),
        cmocka_unit_test_setup(the_proc_file_is_sorted, reset),
        cmocka_unit_test_setup(random_traffic, reset),
    };

    return cmocka_run_group_tests_name("dma_debug", tests, NULL, NULL);
}
