// The boot map put in order, and the buddy allocator over it: hostile maps, every page accounted
// for, misuse reported.
//
// The allocator is included, not linked, so that each test starts it afresh. Its RAM is address
// space of this process, from PHYS_BASE on: pages that nobody writes to cost nothing, so 8 GiB of
// it is no matter.
//
// links: kernel/mm/region.c kernel/mm/fail.c kernel/lib/parse.c kernel/lib/text.c
// links: kernel/lib/format.c
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernel/mm/page.c"
#include "kernel/mm/page_boot.c"
#include "kernel/mm/page_show.c"
#include "stubs/stubs.h"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define RAM      BOOT_REGION_RAM
#define RESERVED BOOT_REGION_RESERVED

// ---- what the allocator asks of the kernel ------------------------------------------------------

// The image lies at 1 MiB, 2 MiB long.
__asm__(".data\n"
        ".globl kernel_start, kernel_end, text_start, text_end, rodata_start, rodata_end\n"
        ".globl data_start, data_end, bss_start, bss_end\n"
        ".balign 4096\n"
        "kernel_start: text_start:\n .skip 0x100000\n"
        "text_end: rodata_start:\n .skip 0x80000\n"
        "rodata_end: data_start:\n .skip 0x1000\n"
        "data_end: bss_start:\n .skip 0x7f000\n"
        "bss_end: kernel_end:\n"
        ".text\n");
unsigned long host_kernel_base;
#define IMAGE_START (1 * MIB)
#define IMAGE_END   (3 * MIB)

static unsigned phys_bits = 40;

unsigned cpu_phys_bits(void)
{
    return phys_bits;
}

static unsigned resources;

int resource_add(enum resource_kind kind, uint64_t start, uint64_t end, const char *name)
{
    assert_int_equal(kind, RESOURCE_MEMORY);
    assert_true(start <= end);
    assert_non_null(name);
    resources++;
    return 0;
}

// ---- scaffolding --------------------------------------------------------------------------------

#define HOST_RAM (12 * GIB)

static struct boot_info boot;

static int reset(void **state)
{
    static struct cpu cpu;

    (void)state;
    syscall(SYS_arch_prctl, ARCH_SET_GS, &cpu); // thread context, by what cpu.h reads at %gs
    void *want = (void *)PHYS_BASE;
    if (mmap(want, HOST_RAM, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != want) {
        return -1;
    }
    host_kernel_base = (uintptr_t)kernel_start - IMAGE_START;
    memset(&boot, 0, sizeof(boot));
    memset(zones[0].free_blocks, 0, sizeof(zones[0].free_blocks));
    memset(zones[1].free_blocks, 0, sizeof(zones[1].free_blocks));
    page_region_count = page_span_count = page_keep_count = 0;
    page_total = 0;
    page_low = 0;
    page_ram_limit = UINT64_MAX;
    phys_bits = 40;
    resources = 0;
    warn_count = 0;
    stub_log_clear();
    return 0;
}

static void add(uint64_t base, uint64_t size, enum boot_region_type type)
{
    assert_true(boot.region_count < BOOT_MAX_REGIONS);
    boot.regions[boot.region_count++] = (struct boot_region){base, size, type};
}

// What SeaBIOS says of a machine with 256 MiB.
static void add_bios_256m(void)
{
    add(0, 0x9fc00, RAM);
    add(0x9fc00, 0x400, RESERVED);
    add(0xf0000, 0x10000, RESERVED);
    add(0x100000, 0xfee0000, RAM);
    add(0xffe0000, 0x20000, RESERVED);
    add(0xfeffc000, 0x4000, RESERVED);
    add(0xfffc0000, 0x40000, RESERVED);
    add(0xfd00000000, 0x300000000, RESERVED);
}

static uint64_t free_bytes(void)
{
    struct page_stats stats;

    page_stats(&stats);
    return stats.free_bytes;
}

// Is the byte in RAM by the boot map, taken naively: in a RAM region and in none of another type?
static bool given_as_ram(uint64_t at)
{
    bool ram = false;

    for (unsigned i = 0; i < boot.region_count; i++) {
        const struct boot_region *r = &boot.regions[i];

        if (at >= r->base && at - r->base < r->size) {
            if (r->type != RAM) {
                return false;
            }
            ram = true;
        }
    }
    return ram;
}

// Takes every page there is; each must be RAM, none the image's, the first page or a struct page,
// and none twice. Gives all back.
static uint64_t take_all(void)
{
    uint64_t count = 0;
    uint64_t want = free_bytes() / PAGE_SIZE;
    void **taken = malloc(want * sizeof(void *));
    char *seen = calloc(HOST_RAM / PAGE_SIZE, 1);
    phys_t array = virt_to_phys(pages), array_end = 0;

    for (unsigned i = 0; i < page_span_count; i++) {
        array_end = array + (page_spans[i].index + page_spans[i].count) * sizeof(struct page);
    }
    for (void *page; (page = alloc_page(GFP_ATOMIC)) != NULL; count++) {
        phys_t at = virt_to_phys(page);

        assert_true(count < want);
        assert_true(at >= PAGE_SIZE && at + PAGE_SIZE <= HOST_RAM);
        assert_true(given_as_ram(at) && given_as_ram(at + PAGE_SIZE - 1));
        assert_true(at + PAGE_SIZE <= IMAGE_START || at >= IMAGE_END);
        assert_true(at + PAGE_SIZE <= array || at >= array_end);
        assert_true(page_is_ram(at));
        assert_int_equal(seen[at / PAGE_SIZE], 0);
        seen[at / PAGE_SIZE] = 1;
        taken[count] = page;
    }
    assert_int_equal(count, want);
    assert_int_equal(free_bytes(), 0);
    for (uint64_t i = 0; i < count; i++) {
        free_page(taken[i]);
    }
    assert_int_equal(free_bytes(), want * PAGE_SIZE);
    assert_int_equal(page_selfcheck(), 0);
    assert_int_equal(warn_count, 0);
    free(taken);
    free(seen);
    return count;
}

static struct region out[REGION_MAX];

// ---- the boot map -------------------------------------------------------------------------------

static void regions_reserved_wins(void **state)
{
    (void)state;
    add(0x1000, 0x9000, RAM);
    add(0x3000, 0x1800, RESERVED);
    add(0x4000, 0x1000, RAM); // again, and partly reserved
    assert_int_equal(region_resolve(boot.regions, boot.region_count, BIT64(40), UINT64_MAX, out),
                     3);
    assert_int_equal(out[0].start, 0x1000);
    assert_int_equal(out[0].end, 0x3000);
    assert_int_equal(out[0].type, RAM);
    assert_int_equal(out[1].end, 0x4800);
    assert_int_equal(out[1].type, RESERVED);
    assert_int_equal(out[2].end, 0xa000);
    assert_int_equal(out[2].type, RAM);
}

static void regions_nonsense(void **state)
{
    (void)state;
    add(0x5000, 0, RAM);                      // empty
    add(UINT64_MAX - 0xfff, 0x10000, RAM);    // wraps
    add(BIT64(40) - 0x1000, UINT64_MAX, RAM); // too long
    add(BIT64(41), 0x1000, RAM);              // beyond the CPU
    add(0x1000, 0x1000, 77);                  // a type from the future
    add(0x2000, 0x1000, 0);
    assert_int_equal(region_resolve(boot.regions, boot.region_count, BIT64(40), UINT64_MAX, out),
                     2);
    assert_int_equal(out[0].start, 0x1000);
    assert_int_equal(out[0].end, 0x3000);
    assert_int_equal(out[0].type, RESERVED);
    assert_int_equal(out[1].start, BIT64(40) - 0x1000);
    assert_int_equal(out[1].end, BIT64(40));
}

static void regions_are_cut_at_the_ram_limit(void **state)
{
    (void)state;
    add(0, 0x10000, RAM);
    add(0x8000, 0x1000, RESERVED);
    add(0x20000, 0x1000, RAM);
    assert_int_equal(region_resolve(boot.regions, boot.region_count, BIT64(40), 0x4000, out), 2);
    assert_int_equal(out[0].end, 0x4000);
    assert_int_equal(out[1].type, RESERVED); // what is not RAM stays known
}

// Against a model: a world of 200 bytes, each of which remembers the highest type that claims it.
static void regions_agree_with_a_model(void **state)
{
    (void)state;
    enum { WORLD = 200, LIMIT = 190 };
    srand(1);
    for (unsigned round = 0; round < 3000; round++) {
        uint8_t model[WORLD] = {0};

        boot.region_count = 0;
        for (unsigned i = 0, n = (unsigned)rand() % 24; i < n; i++) {
            unsigned base = (unsigned)rand() % WORLD, size = (unsigned)rand() % (WORLD - base);
            unsigned type = 1 + (unsigned)rand() % 5;

            add(base, size, (enum boot_region_type)type);
            for (unsigned at = base; at < base + size && at < LIMIT; at++) {
                model[at] = model[at] > type ? model[at] : (uint8_t)type;
            }
        }
        unsigned count = region_resolve(boot.regions, boot.region_count, LIMIT, UINT64_MAX, out);
        uint8_t made[WORLD] = {0};
        for (unsigned i = 0; i < count; i++) {
            assert_true(out[i].start < out[i].end && out[i].end <= LIMIT);
            if (i > 0) { // ascending, disjoint, and joined where they could be
                assert_true(out[i - 1].end <= out[i].start);
                assert_false(out[i - 1].end == out[i].start && out[i - 1].type == out[i].type);
            }
            memset(made + out[i].start, (int)out[i].type, out[i].end - out[i].start);
        }
        assert_memory_equal(made, model, WORLD);
    }
}

static void regions_at_the_most(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BOOT_MAX_REGIONS; i++) { // nested like onion skins, no two edges equal
        add(i * PAGE_SIZE, 2 * (BOOT_MAX_REGIONS - i) * (uint64_t)PAGE_SIZE - 1,
            i % 2 ? RESERVED : RAM);
    }
    unsigned count = region_resolve(boot.regions, boot.region_count, BIT64(40), UINT64_MAX, out);
    assert_in_range(count, 1, REGION_MAX);
}

// ---- pages out of maps --------------------------------------------------------------------------

static void a_bios_map(void **state)
{
    (void)state;
    add_bios_256m();
    page_init(&boot);
    assert_int_equal(page_total, (0x9f000 + 0xfee0000) / PAGE_SIZE);
    assert_int_equal(page_span_count, 1);
    uint64_t count = take_all();
    // All but page 0, the trampoline's, the image and the struct pages: 16 bytes for each page up
    // to the last.
    uint64_t array = DIV_ROUND_UP(page_spans[0].count * sizeof(struct page), PAGE_SIZE);
    assert_int_equal(count, page_total - 2 - (IMAGE_END - IMAGE_START) / PAGE_SIZE - array);
    assert_true(resources >= 8 + 4);
}

static void the_low_page(void **state)
{
    (void)state;
    add_bios_256m();
    page_init(&boot);
    phys_t low = page_take_low();
    assert_int_equal(low, 0x9e000); // 0x9f000 is cut by the EBDA
    assert_int_equal(page_take_low(), 0);
    assert_true(page_is_ram(low));
    take_all();
}

static void no_low_page(void **state)
{
    (void)state;
    add(0, 0x1000, RAM); // the BIOS's own
    add(0x100000, 64 * MIB, RAM);
    page_init(&boot);
    assert_int_equal(page_take_low(), 0);
    take_all();
}

static void unaligned_edges(void **state)
{
    (void)state;
    add(0x100001, 32 * MIB, RAM); // starts and ends inside of pages
    page_init(&boot);
    phys_t start, end;
    assert_true(page_ram_piece(0, &start, &end));
    assert_int_equal(start, 0x101000);
    assert_int_equal(end, 33 * MIB);
    assert_false(page_ram_piece(1, &start, &end));
    take_all();
}

static void two_halves_make_a_page(void **state)
{
    (void)state;
    add(0x100000, 16 * MIB + 0x800, RAM);
    add(0x100000 + 16 * MIB + 0x800, 16 * MIB - 0x800, RAM);
    page_init(&boot);
    assert_int_equal(page_total, 32 * MIB / PAGE_SIZE);
    take_all();
}

// A UEFI map is many small pieces; the struct pages must not multiply with them.
static void a_uefi_map(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++) { // not sorted
        uint64_t base = 0x800000 + (i * 37 % 100) * 0x80000;

        add(base, i % 3 == 0 ? 0x7f000 : 0x80000, i % 5 == 4 ? BOOT_REGION_NVS : RAM);
    }
    add(0, 0xa0000, RAM);
    add(0x100000, 0x700000, RAM);
    page_init(&boot);
    assert_int_equal(page_span_count, 1);
    take_all();
}

static void six_gib(void **state)
{
    (void)state;
    add(0, 0x9fc00, RAM);
    add(0x100000, 2 * GIB - 0x100000, RAM);
    add(4 * GIB, 4 * GIB, RAM);
    add(0xfd00000000, 0x300000000, RESERVED);
    page_init(&boot);
    assert_int_equal(page_span_count, 2);
    assert_true(virt_to_phys(pages) < 4 * GIB);

    // The plentiful zone first; below 4 GiB for those who ask.
    assert_true(virt_to_phys(alloc_page(GFP_KERNEL)) >= 4 * GIB);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(virt_to_phys(alloc_page(GFP_DMA32)) < 4 * GIB);
    }
    assert_int_equal(zones[ZONE_NORMAL].free_blocks[PAGE_MAX_ORDER], 1023);
}

static void what_a_small_mask_reaches(void **state)
{
    (void)state;
    add(0, 0x9fc00, RAM);
    add(0x100000, 2 * GIB - 0x100000, RAM);
    page_init(&boot);
    unsigned count = 0;
    for (void *block; (block = alloc_pages_within(GFP_ATOMIC, 8, 64 * MIB - 1)) != NULL; count++) {
        assert_true(virt_to_phys(block) + 1 * MIB <= 64 * MIB);
    }
    assert_in_range(count, 20, 62); // image and struct pages (8 MiB) lie there too
    assert_null(alloc_pages_within(GFP_ATOMIC, 0, 0xfff));
    assert_non_null(alloc_pages_within(GFP_ATOMIC, 0, UINT64_MAX));
    assert_int_equal(page_selfcheck(), 0);
}

static void mem_is_obeyed(void **state)
{
    (void)state;
    assert_int_equal(page_set_limit("64M"), 0);
    assert_int_equal(page_set_limit("8M"), -EINVAL);
    assert_int_equal(page_set_limit("x"), -EINVAL);
    add_bios_256m();
    page_init(&boot);
    for (void *page; (page = alloc_page(GFP_ATOMIC)) != NULL;) {
        assert_true(virt_to_phys(page) + PAGE_SIZE <= 64 * MIB);
    }
    assert_false(page_is_ram(64 * MIB));
    assert_true(page_is_ram(64 * MIB - 1));
}

static void modules_are_kept(void **state)
{
    (void)state;
    add_bios_256m();
    boot.module_count = 2;
    boot.modules[0] = (struct boot_module){.base = 5 * MIB + 5, .size = 3 * MIB};
    boot.modules[1] =
        (struct boot_module){.base = 200 * MIB, .size = UINT64_MAX}; // whoever believes that
    page_init(&boot);
    assert_int_equal(page_total, (0x9f000 + 0xfee0000) / PAGE_SIZE);
    assert_true(virt_to_phys(pages) + page_total * sizeof(struct page) <= 5 * MIB);
    for (void *page; (page = alloc_page(GFP_ATOMIC)) != NULL;) {
        phys_t at = virt_to_phys(page);
        assert_true(at < 200 * MIB);
        assert_true(at + PAGE_SIZE <= 5 * MIB || at > 8 * MIB);
    }
}

// 256 pieces of one page, a GiB apart: sixteen are managed, the rest is left, and it is said.
static void pieces_far_apart(void **state)
{
    (void)state;
    add(0x100000, 8 * MIB, RAM);
    for (uint64_t i = 1; i < BOOT_MAX_REGIONS; i++) {
        add(i * GIB, PAGE_SIZE * (1 + i % 3), RAM);
    }
    page_init(&boot);
    assert_int_equal(page_span_count, SPANS_MAX);
    assert_int_equal(page_spans[0].count, 8 * MIB / PAGE_SIZE); // the largest survives
    assert_non_null(strstr(stub_log(), "too many pieces"));
    assert_int_equal(page_selfcheck(), 0);
    assert_true(
        page_overlaps_ram(255 * GIB - 5, 6)); // RAM that is not used is no device's all the same
}

// More RAM than struct pages find room for: what can be managed is.
static void more_ram_than_room(void **state)
{
    (void)state;
    add(0x100000, 8 * MIB, RAM);
    add(4 * GIB, 8 * GIB, RAM); // would take 32 MiB of struct pages
    page_init(&boot);
    assert_int_equal(page_span_count, 1);
    assert_non_null(strstr(stub_log(), "no room below 4 GiB"));
    take_all();
}

// The direct map has room for 64 TiB; a CPU may reach farther.
static void ram_beyond_the_direct_map(void **state)
{
    (void)state;
    phys_bits = 52;
    add(0x100000, 32 * MIB, RAM);
    add(BIT64(46) - MIB, 2 * MIB, RAM);
    add(BIT64(47), GIB, RAM);
    page_init(&boot);
    phys_t start, end = 0;
    for (unsigned i = 0; page_ram_piece(i, &start, &end); i++) {
        assert_true(end <= BIT64(46));
    }
    assert_true(page_is_ram(BIT64(46) - 1));
    assert_false(page_is_ram(BIT64(46)));
    assert_false(page_is_ram(BIT64(47)));
}

static void no_ram_at_all(void **state)
{
    (void)state;
    add(0x100000, 64 * MIB, RESERVED);
    expect_assert_failure(page_init(&boot));
}

static void random_maps(void **state)
{
    for (unsigned seed = 1; seed <= 40; seed++) {
        reset(state);
        srand(seed);
        add(0x100000, 12 * MIB + (unsigned)rand() % MIB, RAM);
        for (unsigned i = 0; i < 60; i++) {
            uint64_t base = (uint64_t)rand() % (96 * MIB), size = (uint64_t)rand() % (4 * MIB);

            if (rand() % 3 == 0) { // leave the image its place
                base = base < 4 * MIB ? base + 4 * MIB : base;
                add(base, size / 16, (enum boot_region_type)(2 + rand() % 4));
            } else {
                add(base, size, RAM);
            }
        }
        page_init(&boot);
        take_all();
    }
}

// ---- the buddies --------------------------------------------------------------------------------

static void orders(void **state)
{
    (void)state;
    assert_int_equal(page_order(0), 0);
    assert_int_equal(page_order(1), 0);
    assert_int_equal(page_order(4096), 0);
    assert_int_equal(page_order(4097), 1);
    assert_int_equal(page_order(3 * 4096), 2);
    assert_int_equal(page_order(4 * MIB), 10);
    assert_true(page_order(SIZE_MAX) > PAGE_MAX_ORDER);
}

static void blocks_are_aligned_and_apart(void **state)
{
    (void)state;
    enum { ROUNDS = 20000, SLOTS = 300 };
    struct {
        char *at;
        unsigned order;
    } slot[SLOTS] = {0};

    add_bios_256m();
    page_init(&boot);
    uint64_t before = free_bytes();
    srand(7);
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned i = (unsigned)rand() % SLOTS;

        if (slot[i].at == NULL) {
            unsigned order = (unsigned)rand() % (rand() % 8 == 0 ? PAGE_MAX_ORDER + 1 : 4);
            slot[i].at = alloc_pages(rand() % 2 ? GFP_ZERO : GFP_ATOMIC, order);
            slot[i].order = order;
            if (slot[i].at != NULL) {
                assert_true(IS_ALIGNED(virt_to_phys(slot[i].at), PAGE_SIZE << order));
                // Owner's marks in the first and the last word of the block.
                *(uint64_t *)slot[i].at = i;
                *(uint64_t *)(slot[i].at + ((size_t)PAGE_SIZE << order) - 8) = ~(uint64_t)i;
            }
        } else {
            assert_int_equal(*(uint64_t *)slot[i].at, i);
            assert_int_equal(*(uint64_t *)(slot[i].at + ((size_t)PAGE_SIZE << slot[i].order) - 8),
                             ~(uint64_t)i);
            free_pages(slot[i].at, slot[i].order);
            slot[i].at = NULL;
        }
        if (round % 1000 == 0) {
            assert_int_equal(page_selfcheck(), 0);
        }
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        if (slot[i].at != NULL) {
            free_pages(slot[i].at, slot[i].order);
        }
    }
    assert_int_equal(free_bytes(), before);
    assert_int_equal(page_selfcheck(), 0);
    assert_int_equal(warn_count, 0);
}

static void zeroed_means_zeroed(void **state)
{
    (void)state;
    static const char zeroes[4 * PAGE_SIZE];

    add_bios_256m();
    page_init(&boot);
    char *block = alloc_pages(GFP_KERNEL, 2);
    memset(block, 0xff, sizeof(zeroes));
    free_pages(block, 2);
    char *again = alloc_pages(GFP_KERNEL | GFP_ZERO, 2);
    assert_ptr_equal(again, block); // what was freed last comes first, or this proves nothing
    assert_memory_equal(again, zeroes, sizeof(zeroes));
    assert_null(alloc_pages(GFP_KERNEL, PAGE_MAX_ORDER + 1));
}

static void refused(void *address, unsigned order, const char *why)
{
    uint64_t before = free_bytes();
    uint32_t warned = warn_count;

    stub_log_clear();
    free_pages(address, order);
    assert_int_equal(free_bytes(), before);
    assert_int_equal(warn_count, warned + 1);
    if (strstr(stub_log(), why) == NULL) {
        fail_msg("'%s' does not say '%s'", stub_log(), why);
    }
    assert_int_equal(page_selfcheck(), 0);
}

static void misuse_is_reported(void **state)
{
    (void)state;
    char on_the_stack[64];

    add_bios_256m();
    page_init(&boot);
    char *block = alloc_pages(GFP_KERNEL, 3);
    refused(block, 2, "another order");
    refused(block + PAGE_SIZE, 0, "free already, or inside");
    refused(block + 8, 3, "not the start");
    refused(on_the_stack, 0, "never was a page");
    refused(phys_to_virt(0), 0, "never was a page");
    refused(phys_to_virt(IMAGE_START), 0, "never was a page");
    refused(phys_to_virt(0xa0000), 0, "never was a page");
    refused(phys_to_virt(11 * GIB), 0, "never was a page");
    page_of(block)->kind = PAGE_SLAB;
    refused(block, 3, "belongs to a slab");
    page_of(block)->kind = PAGE_USED;
    free_pages(block, 3);
    refused(block, 3, "free already");
    free_pages(NULL, 0);
}

// The check itself: each kind of damage must be found.
static void selfcheck_finds_damage(void **state)
{
    (void)state;
    add_bios_256m();
    page_init(&boot);
    struct page *head = &pages[zones[ZONE_DMA32].free_head[PAGE_MAX_ORDER]];
    head[5].kind = PAGE_USED;
    assert_int_equal(page_selfcheck(), 1);
    head[5].kind = PAGE_INSIDE;
    zones[ZONE_DMA32].free_blocks[PAGE_MAX_ORDER]++;
    assert_int_equal(page_selfcheck(), 1);
    zones[ZONE_DMA32].free_blocks[PAGE_MAX_ORDER]--;
    uint32_t next = head->next;
    head->next = zones[ZONE_DMA32].free_head[PAGE_MAX_ORDER]; // a circle
    assert_true(page_selfcheck() > 0);
    head->next = next;
    assert_int_equal(page_selfcheck(), 0);
}

static void ram_overlaps(void **state)
{
    (void)state;
    add_bios_256m();
    page_init(&boot);
    assert_true(page_overlaps_ram(0x100000, 1));
    assert_true(page_overlaps_ram(0xa0000, 0x60001));
    assert_false(page_overlaps_ram(0xa0000, 0x60000));
    assert_false(page_overlaps_ram(0xfee00000, 0x1000));
    assert_false(page_overlaps_ram(0xffe0000, 0x20000));
    assert_true(page_overlaps_ram(0xffdffff, 1));
    assert_true(page_overlaps_ram(0, UINT64_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(regions_reserved_wins, reset),
        cmocka_unit_test_setup(regions_nonsense, reset),
        cmocka_unit_test_setup(regions_are_cut_at_the_ram_limit, reset),
        cmocka_unit_test_setup(regions_agree_with_a_model, reset),
        cmocka_unit_test_setup(regions_at_the_most, reset),
        cmocka_unit_test_setup(a_bios_map, reset),
        cmocka_unit_test_setup(the_low_page, reset),
        cmocka_unit_test_setup(no_low_page, reset),
        cmocka_unit_test_setup(unaligned_edges, reset),
        cmocka_unit_test_setup(two_halves_make_a_page, reset),
        cmocka_unit_test_setup(a_uefi_map, reset),
        cmocka_unit_test_setup(six_gib, reset),
        cmocka_unit_test_setup(what_a_small_mask_reaches, reset),
        cmocka_unit_test_setup(mem_is_obeyed, reset),
        cmocka_unit_test_setup(modules_are_kept, reset),
        cmocka_unit_test_setup(pieces_far_apart, reset),
        cmocka_unit_test_setup(more_ram_than_room, reset),
        cmocka_unit_test_setup(ram_beyond_the_direct_map, reset),
        cmocka_unit_test_setup(no_ram_at_all, reset),
        cmocka_unit_test_setup(random_maps, reset),
        cmocka_unit_test_setup(orders, reset),
        cmocka_unit_test_setup(blocks_are_aligned_and_apart, reset),
        cmocka_unit_test_setup(zeroed_means_zeroed, reset),
        cmocka_unit_test_setup(misuse_is_reported, reset),
        cmocka_unit_test_setup(selfcheck_finds_damage, reset),
        cmocka_unit_test_setup(ram_overlaps, reset),
    };

    return cmocka_run_group_tests_name("page", tests, NULL, NULL);
}
