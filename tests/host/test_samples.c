// Sorted samples and their ranks, against a slow sort.
//
// links: kernel/lib/samples.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <lib/samples.h>

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void check(const uint64_t *values, size_t count)
{
    uint64_t *mine = malloc((count + 1) * sizeof(*mine));
    uint64_t *theirs = malloc((count + 1) * sizeof(*theirs));
    struct samples s = {.values = mine, .size = count};

    assert_non_null(mine);
    assert_non_null(theirs);
    for (size_t i = 0; i < count; i++) {
        assert_true(samples_add(&s, values[i]));
        theirs[i] = values[i];
    }
    assert_false(samples_add(&s, 1)); // full: left out, not written
    samples_sort(&s);
    qsort(theirs, count, sizeof(*theirs), compare);
    assert_memory_equal(mine, theirs, count * sizeof(*mine));
    free(mine);
    free(theirs);
}

static void test_sort(void **state)
{
    uint64_t values[600];

    (void)state;
    srand(20);
    for (size_t count = 0; count < 600; count += count < 40 ? 1 : 37) {
        for (unsigned kind = 0; kind < 5; kind++) {
            for (size_t i = 0; i < count; i++) {
                const uint64_t kinds[] = {i, count - i, 7, (uint64_t)rand() % 5, UINT64_MAX - i};

                values[i] = kinds[kind];
            }
            check(values, count);
        }
    }
}

// Nearest rank: the value itself, never something between two.
static void test_ranks(void **state)
{
    uint64_t values[100];
    struct samples s = {.values = values, .size = 100};

    (void)state;
    assert_int_equal(samples_median(&s), 0);
    samples_add(&s, 42);
    assert_int_equal(samples_min(&s), 42);
    assert_int_equal(samples_p99(&s), 42);
    assert_int_equal(samples_max(&s), 42);
    s.count = 0;
    for (uint64_t i = 100; i > 0; i--) {
        samples_add(&s, 10 * i);
    }
    samples_sort(&s);
    assert_int_equal(samples_min(&s), 10);
    assert_int_equal(samples_median(&s), 500);
    assert_int_equal(samples_p99(&s), 990);
    assert_int_equal(samples_max(&s), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sort),
        cmocka_unit_test(test_ranks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
