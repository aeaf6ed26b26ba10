// A device's view of memory against a model: what is mapped translates, what is not does not, no
// address is given out twice, none again before the unit has forgotten it.
//
// links: tests/host/stubs/log.c tests/host/stubs/panic.c tests/host/stubs/spinlock.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "drivers/iommu/vtd_domain.c"

// ---- what it asks of the kernel -----------------------------------------------------------------

unsigned long host_kernel_base;
#define RAM_SIZE (64ull << 20)
static uint64_t next_page;
static int pages_left; // before alloc_pages fails

void *alloc_pages(enum gfp flags, unsigned order)
{
    (void)flags;
    assert_int_equal(order, 0);
    if (pages_left-- <= 0) {
        return NULL;
    }
    void *page = phys_to_virt(next_page);
    next_page += PAGE_SIZE;
    memset(page, 0, PAGE_SIZE);
    return page;
}

void free_pages(void *address, unsigned order)
{
    (void)address;
    (void)order;
}

phys_t virt_to_phys(const void *address)
{
    return (uintptr_t)address - PHYS_BASE;
}

void *kzalloc(size_t size, enum gfp flags)
{
    (void)flags;
    return calloc(1, size);
}

void kfree(const void *pointer)
{
    free((void *)(uintptr_t)pointer);
}

static struct vtd_descriptor last; // of what the unit was told
static unsigned told;

void vtd_unit_invalidate(struct vtd_unit *unit, const struct vtd_descriptor *work, unsigned count)
{
    (void)unit;
    assert_int_equal(count, 1);
    last = work[0];
    told++;
}

// ---- scaffolding --------------------------------------------------------------------------------

#define BOTH  (VTD_PTE_READ | VTD_PTE_WRITE)
#define REACH UINT64_MAX

static struct vtd_unit unit;
static struct vtd_domain *domain;

static int setup(void **state)
{
    (void)state;
    void *want = (void *)PHYS_BASE;
    if (mmap(want, RAM_SIZE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != want) {
        return -1;
    }
    next_page = 1 << 20;
    pages_left = 1000;
    told = 0;
    unit = (struct vtd_unit){.levels = 3, .cap = VTD_CAP_PSI | 18ull << 48};
    domain = vtd_domain_create(&unit, 7);
    return domain != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    kfree(domain->used);
    kfree(domain);
    return 0;
}

// ---- tests --------------------------------------------------------------------------------------

static void a_buffer_is_reached_at_its_address(void **state)
{
    (void)state;
    uint64_t bus = vtd_domain_map(domain, 0x3456780, 5000, BOTH, REACH);
    assert_int_equal(bus % PAGE_SIZE, 0x780);
    assert_int_equal(vtd_domain_translate(domain, bus), 0x3456780);
    assert_int_equal(vtd_domain_translate(domain, bus + 4999), 0x3456780 + 4999);
    assert_int_equal(vtd_domain_translate(domain, bus + 2 * PAGE_SIZE), UINT64_MAX);
    assert_int_equal(vtd_domain_translate(domain, bus - PAGE_SIZE), UINT64_MAX);
    assert_int_equal(domain->pages, 2);
    assert_int_equal(told, 0); // what was not there cannot be remembered
    vtd_domain_unmap(domain, bus, 5000, true);
    assert_int_equal(vtd_domain_translate(domain, bus), UINT64_MAX);
    assert_int_equal(domain->pages, 0);
    assert_int_equal(told, 1);
    assert_int_equal(last.low & 0xff, VTD_INV_IOTLB_PAGES | VTD_INV_IOTLB_DRAIN);
    assert_int_equal(last.low >> 16, 7);
}

// The range of an order to forget is a power of two, aligned: it covers all that was unmapped.
static void the_order_to_forget_covers_everything(void **state)
{
    (void)state;
    for (unsigned pages = 1; pages <= 40; pages++) {
        uint64_t bus = vtd_domain_map(domain, 0x100000, pages * PAGE_SIZE, BOTH, REACH);
        vtd_domain_unmap(domain, bus, pages * PAGE_SIZE, true);
        uint64_t order = last.high & 0x3f, base = last.high & ~0xfffull;
        assert_true(base <= bus);
        assert_int_equal(base % (PAGE_SIZE << order), 0);
        assert_true(base + (PAGE_SIZE << order) >= bus + pages * PAGE_SIZE);
    }
    unit.cap = 0; // it cannot forget single pages
    uint64_t bus = vtd_domain_map(domain, 0x100000, 10, BOTH, REACH);
    vtd_domain_unmap(domain, bus, 10, true);
    assert_int_equal(last.low & 0x3f, VTD_INV_IOTLB_DOMAIN & 0x3f);
}

static void directions_are_bits(void **state)
{
    (void)state;
    uint64_t bus = vtd_domain_map(domain, 0x5000, 4096, VTD_PTE_WRITE, REACH);
    uint64_t *entry = domain_entry_locked(domain, bus, false);
    assert_int_equal(*entry, 0x5000 | VTD_PTE_WRITE);
}

static void the_limit_of_the_device(void **state)
{
    (void)state;
    assert_int_equal(vtd_domain_map(domain, 0x5000, 4096, BOTH, 0xfffff), UINT64_MAX);
    uint64_t bus = vtd_domain_map(domain, 0x5000, 4096, BOTH, VTD_FIRST_ADDRESS + PAGE_SIZE - 1);
    assert_int_equal(bus, VTD_FIRST_ADDRESS);
    assert_int_equal(vtd_domain_map(domain, 0x5000, 1, BOTH, VTD_FIRST_ADDRESS + PAGE_SIZE - 1),
                     UINT64_MAX);
}

static void addresses_come_round_late(void **state)
{
    (void)state;
    uint64_t first = vtd_domain_map(domain, 0x5000, 4096, BOTH, REACH);
    vtd_domain_unmap(domain, first, 4096, true);
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t bus = vtd_domain_map(domain, 0x5000, 4096, BOTH, REACH);
        assert_int_not_equal(bus, first);
        vtd_domain_unmap(domain, bus, 4096, true);
    }
}

static void lazily_nothing_is_given_out_again_too_early(void **state)
{
    (void)state;
    uint64_t limit = VTD_FIRST_ADDRESS + 100 * PAGE_SIZE - 1;
    for (unsigned i = 0; i < VTD_LAZY - 1; i++) {
        uint64_t bus = vtd_domain_map(domain, 0x5000, 4096, BOTH, limit);
        assert_int_equal(bus, VTD_FIRST_ADDRESS + i * PAGE_SIZE); // never an old one
        vtd_domain_unmap(domain, bus, 4096, false);
        assert_int_equal(vtd_domain_translate(domain, bus), UINT64_MAX);
    }
    assert_int_equal(told, 0);
    uint64_t bus = vtd_domain_map(domain, 0x5000, 4096, BOTH, limit);
    vtd_domain_unmap(domain, bus, 4096, false); // the list is full
    assert_int_equal(told, 1);
    assert_int_equal(last.low & 0x3f, VTD_INV_IOTLB_DOMAIN & 0x3f);
    assert_int_equal(domain->lazy_count, 0);
    for (unsigned i = 0; i < 100; i++) { // all are free again
        assert_int_not_equal(vtd_domain_map(domain, 0x5000, 4096, BOTH, limit), UINT64_MAX);
    }
    assert_int_equal(vtd_domain_map(domain, 0x5000, 4096, BOTH, limit), UINT64_MAX);
    vtd_domain_unmap(domain, VTD_FIRST_ADDRESS, 4096, false);
    // Full but for what waits: that is flushed for it.
    assert_int_equal(vtd_domain_map(domain, 0x5000, 4096, BOTH, limit), VTD_FIRST_ADDRESS);
    assert_int_equal(told, 2);
}

static void no_memory_leaves_nothing_behind(void **state)
{
    (void)state;
    for (int pages = 0; pages < 2; pages++) {
        pages_left = pages;
        assert_int_equal(vtd_domain_map(domain, 0x5000, 3 * PAGE_SIZE, BOTH, REACH), UINT64_MAX);
        assert_int_equal(domain->pages, 0);
        for (unsigned word = 0; word < DOMAIN_WORDS; word++) {
            assert_int_equal(domain->used[word], 0);
        }
    }
}

static void what_was_not_given_is_not_taken(void **state)
{
    (void)state;
    uint64_t bus = vtd_domain_map(domain, 0x5000, 4096, BOTH, REACH);
    vtd_domain_unmap(domain, 0, 4096, true);
    vtd_domain_unmap(domain, UINT64_MAX - 4096, 4096, true);
    vtd_domain_unmap(domain, VTD_END_ADDRESS - PAGE_SIZE, 2 * PAGE_SIZE, true);
    assert_int_equal(told, 0);
    assert_int_equal(vtd_domain_translate(domain, bus), 0x5000);
    assert_int_equal(vtd_domain_translate(domain, UINT64_MAX), UINT64_MAX);
    assert_int_equal(vtd_domain_translate(domain, 1ull << 39), UINT64_MAX);
}

static void reserved_memory_keeps_its_address(void **state)
{
    (void)state;
    assert_int_equal(vtd_domain_map_same(domain, 0x101000, 0x102fff), 0);
    assert_int_equal(vtd_domain_translate(domain, 0x102abc), 0x102abc);
    for (unsigned i = 0; i < 10; i++) {
        uint64_t bus = vtd_domain_map(domain, 0x900000, 4096, BOTH, REACH);
        assert_true(bus < 0x101000 || bus > 0x102fff);
    }
    assert_int_not_equal(vtd_domain_map_same(domain, 0, 1ull << 40), 0);
}

// Random maps and unmaps, strict and lazy, next to a list of what should be.
static void against_a_model(void **state)
{
    (void)state;
    enum { SLOTS = 64 };
    struct {
        uint64_t bus, phys, size;
    } live[SLOTS] = {0};
    uint64_t random = 1;

    for (unsigned step = 0; step < 20000; step++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        unsigned i = (unsigned)(random >> 40) % SLOTS;
        if (live[i].size != 0) {
            assert_int_equal(vtd_domain_translate(domain, live[i].bus), live[i].phys);
            vtd_domain_unmap(domain, live[i].bus, live[i].size, (random >> 33 & 1) != 0);
            live[i].size = 0;
            continue;
        }
        live[i].phys = (random >> 20) % (1 << 24);
        live[i].size = 1 + (random >> 45) % 20000;
        live[i].bus = vtd_domain_map(domain, live[i].phys, live[i].size, BOTH, REACH);
        assert_int_not_equal(live[i].bus, UINT64_MAX);
        for (unsigned j = 0; j < SLOTS; j++) {
            if (j != i && live[j].size != 0) { // no page belongs to two
                uint64_t mine = live[i].bus >> PAGE_SHIFT, theirs = live[j].bus >> PAGE_SHIFT;
                assert_true((live[i].bus + live[i].size - 1) >> PAGE_SHIFT < theirs ||
                            (live[j].bus + live[j].size - 1) >> PAGE_SHIFT < mine);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_buffer_is_reached_at_its_address, setup, teardown),
        cmocka_unit_test_setup_teardown(the_order_to_forget_covers_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(directions_are_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(the_limit_of_the_device, setup, teardown),
        cmocka_unit_test_setup_teardown(addresses_come_round_late, setup, teardown),
        cmocka_unit_test_setup_teardown(lazily_nothing_is_given_out_again_too_early, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(no_memory_leaves_nothing_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_not_given_is_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(reserved_memory_keeps_its_address, setup, teardown),
        cmocka_unit_test_setup_teardown(against_a_model, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
