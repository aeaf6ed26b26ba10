// From a boot map to free pages: maps of BIOSes, of UEFI and of nobody's good will; each page of
// RAM is accounted for, and no other.
//
// links: kernel/mm/region.c kernel/mm/fail.c kernel/lib/parse.c kernel/lib/text.c
// links: kernel/lib/format.c
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
#define _GNU_SOURCE
#include <lib/errno.h>

#include "page_case.h"

IMAGE_TEXT(kernel_start, rodata_start);

static unsigned resources;

int resource_add(enum resource_kind kind, uint64_t start, uint64_t end, const char *name)
{
    assert_int_equal(kind, RESOURCE_MEMORY);
    assert_true(start <= end);
    assert_non_null(name);
    resources++;
    return 0;
}

static int reset(void **state)
{
    static struct cpu cpu;

    (void)state;
    on_cpu_at(&cpu);
    page_machine();
    resources = 0;
    return 0;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };

    return cmocka_run_group_tests_name("page_boot", tests, NULL, NULL);
}
