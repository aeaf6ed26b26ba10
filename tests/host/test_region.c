// The boot map put in order: regions that overlap, touch, wrap, are empty or too many, by hand and
// against a model.
//
// links: kernel/mm/region.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../kernel/mm/internal.h"

#define RAM      BOOT_REGION_RAM
#define RESERVED BOOT_REGION_RESERVED

static struct boot_info map;
static struct region out[REGION_MAX];

static int reset(void **state)
{
    (void)state;
    map.region_count = 0;
    return 0;
}

static void add(uint64_t base, uint64_t size, enum boot_region_type type)
{
    assert_true(map.region_count < BOOT_MAX_REGIONS);
    map.regions[map.region_count++] = (struct boot_region){base, size, type};
}

static unsigned resolve(uint64_t limit, uint64_t ram_limit)
{
    return region_resolve(map.regions, map.region_count, limit, ram_limit, out);
}

static void reserved_wins(void **state)
{
    (void)state;
    add(0x1000, 0x9000, RAM);
    add(0x3000, 0x1800, RESERVED);
    add(0x4000, 0x1000, RAM); // again, and partly reserved
    assert_int_equal(resolve(BIT64(40), UINT64_MAX), 3);
    assert_int_equal(out[0].start, 0x1000);
    assert_int_equal(out[0].end, 0x3000);
    assert_int_equal(out[0].type, RAM);
    assert_int_equal(out[1].end, 0x4800);
    assert_int_equal(out[1].type, RESERVED);
    assert_int_equal(out[2].end, 0xa000);
    assert_int_equal(out[2].type, RAM);
}

static void nonsense(void **state)
{
    (void)state;
    add(0x5000, 0, RAM);                      // empty
    add(UINT64_MAX - 0xfff, 0x10000, RAM);    // wraps
    add(BIT64(40) - 0x1000, UINT64_MAX, RAM); // too long
    add(BIT64(41), 0x1000, RAM);              // beyond the CPU
    add(0x1000, 0x1000, 77);                  // a type from the future
    add(0x2000, 0x1000, 0);
    assert_int_equal(resolve(BIT64(40), UINT64_MAX), 2);
    assert_int_equal(out[0].start, 0x1000);
    assert_int_equal(out[0].end, 0x3000);
    assert_int_equal(out[0].type, RESERVED);
    assert_int_equal(out[1].start, BIT64(40) - 0x1000);
    assert_int_equal(out[1].end, BIT64(40));
}

static void are_cut_at_the_ram_limit(void **state)
{
    (void)state;
    add(0, 0x10000, RAM);
    add(0x8000, 0x1000, RESERVED);
    add(0x20000, 0x1000, RAM);
    assert_int_equal(resolve(BIT64(40), 0x4000), 2);
    assert_int_equal(out[0].end, 0x4000);
    assert_int_equal(out[1].type, RESERVED); // what is not RAM stays known
}

// Against a model: a world of 200 bytes, each of which remembers the highest type that claims it.
static void agree_with_a_model(void **state)
{
    (void)state;
    enum { WORLD = 200, LIMIT = 190 };
    srand(1);
    for (unsigned round = 0; round < 3000; round++) {
        uint8_t model[WORLD] = {0};

        map.region_count = 0;
        for (unsigned i = 0, n = (unsigned)rand() % 24; i < n; i++) {
            unsigned base = (unsigned)rand() % WORLD, size = (unsigned)rand() % (WORLD - base);
            unsigned type = 1 + (unsigned)rand() % 5;

            add(base, size, (enum boot_region_type)type);
            for (unsigned at = base; at < base + size && at < LIMIT; at++) {
                model[at] = model[at] > type ? model[at] : (uint8_t)type;
            }
        }
        unsigned count = resolve(LIMIT, UINT64_MAX);
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

static void at_the_most(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BOOT_MAX_REGIONS; i++) { // nested like onion skins, no two edges equal
        add(i * PAGE_SIZE, 2 * (BOOT_MAX_REGIONS - i) * (uint64_t)PAGE_SIZE - 1,
            i % 2 ? RESERVED : RAM);
    }
    unsigned count = resolve(BIT64(40), UINT64_MAX);
    assert_in_range(count, 1, REGION_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(reserved_wins, reset),
        cmocka_unit_test_setup(nonsense, reset),
        cmocka_unit_test_setup(are_cut_at_the_ram_limit, reset),
        cmocka_unit_test_setup(agree_with_a_model, reset),
        cmocka_unit_test_setup(at_the_most, reset),
    };

    return cmocka_run_group_tests_name("region", tests, NULL, NULL);
}
