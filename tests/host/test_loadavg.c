// The load average: moves towards what is, at the pace that its name says, and arrives.
//
// links: tests/host/stubs/panic.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../kernel/sched/loadavg.h"

static uint64_t run(uint64_t load, uint64_t left, unsigned active, unsigned seconds)
{
    for (unsigned i = 0; i < seconds / 5; i++) {
        load = load_step(load, left, active);
    }
    return load;
}

// After one period 63 % of the way is done (1 - 1/e), after three 95 %.
static void test_pace(void **state)
{
    (void)state;
    assert_in_range(run(0, LOAD_EXP_1, 1, 60) * 100 / LOAD_ONE, 62, 64);
    assert_in_range(run(0, LOAD_EXP_5, 1, 300) * 100 / LOAD_ONE, 62, 65);
    assert_in_range(run(0, LOAD_EXP_15, 1, 900) * 100 / LOAD_ONE, 62, 65);
    assert_in_range(run(0, LOAD_EXP_1, 1, 180) * 100 / LOAD_ONE, 94, 96);
}

static void test_arrives(void **state)
{
    static const uint64_t left[] = {LOAD_EXP_1, LOAD_EXP_5, LOAD_EXP_15};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(run(0, left[i], 7, 4 * 3600), 7 * LOAD_ONE);
        assert_int_equal(run(7 * LOAD_ONE, left[i], 0, 8 * 3600), 0);
        assert_int_equal(run(3 * LOAD_ONE, left[i], 3, 3600), 3 * LOAD_ONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pace), cmocka_unit_test(test_arrives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
