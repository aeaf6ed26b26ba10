// The buddy allocator: blocks of every order, apart from each other and aligned; misuse is reported
// and harms nothing; its own check finds damage. Where its pages come from: test_page_boot.c.
//
// links: kernel/mm/region.c kernel/mm/fail.c kernel/lib/parse.c kernel/lib/text.c
// links: kernel/lib/format.c
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/resource.c
// links: tests/host/stubs/spinlock.c
#define _GNU_SOURCE
#include "page_case.h"

IMAGE_TEXT(kernel_start, rodata_start);

static int reset(void **state)
{
    static struct cpu cpu;

    (void)state;
    on_cpu_at(&cpu);
    page_machine();
    return 0;
}

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
        cmocka_unit_test_setup(orders, reset),
        cmocka_unit_test_setup(blocks_are_aligned_and_apart, reset),
        cmocka_unit_test_setup(zeroed_means_zeroed, reset),
        cmocka_unit_test_setup(misuse_is_reported, reset),
        cmocka_unit_test_setup(selfcheck_finds_damage, reset),
        cmocka_unit_test_setup(ram_overlaps, reset),
    };

    return cmocka_run_group_tests_name("page", tests, NULL, NULL);
}
