// Errors kept for whoever asks later: each listener hears of each error once.
//
// links: kernel/lib/errseq.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <lib/errno.h>
#include <lib/errseq.h>

static void each_listener_once(void **state)
{
    (void)state;
    errseq_t errors = 0, a = errseq_sample(&errors), b = errseq_sample(&errors);
    assert_int_equal(errseq_check_and_advance(&errors, &a), 0);
    errseq_set(&errors, -EIO);
    assert_int_equal(errseq_check_and_advance(&errors, &a), -EIO);
    assert_int_equal(errseq_check_and_advance(&errors, &a), 0);
    assert_int_equal(errseq_check_and_advance(&errors, &b), -EIO);
    assert_int_equal(errseq_check_and_advance(&errors, &b), 0);
    // The same error again is a new one: somebody has seen the first.
    errseq_set(&errors, EIO);
    assert_int_equal(errseq_check_and_advance(&errors, &b), -EIO);
    assert_int_equal(errseq_check_and_advance(&errors, &a), -EIO);
    errseq_set(&errors, -ENOSPC);
    assert_int_equal(errseq_check_and_advance(&errors, &a), -ENOSPC);
}

static void who_comes_later(void **state)
{
    (void)state;
    errseq_t errors = 0, a = errseq_sample(&errors);
    errseq_set(&errors, -EIO);
    // Nobody has seen it: it is the newcomer's too.
    errseq_t late = errseq_sample(&errors);
    assert_int_equal(errseq_check_and_advance(&errors, &late), -EIO);
    assert_int_equal(errseq_check_and_advance(&errors, &late), 0);
    // Now somebody has: a second newcomer is not told, who was there before still is.
    errseq_t later = errseq_sample(&errors);
    assert_int_equal(errseq_check_and_advance(&errors, &later), 0);
    assert_int_equal(errseq_check_and_advance(&errors, &a), -EIO);
    assert_int_equal(errseq_check_and_advance(&errors, &a), 0);
}

static void many_errors_are_one_until_seen(void **state)
{
    (void)state;
    errseq_t errors = 0, a = errseq_sample(&errors);
    for (unsigned i = 0; i < 1000; i++) {
        errseq_set(&errors, -EIO);
    }
    assert_int_equal(errseq_check_and_advance(&errors, &a), -EIO);
    assert_int_equal(errseq_check_and_advance(&errors, &a), 0);
    // Each one that is seen is told of, as long as the number has room: half a million.
    for (unsigned i = 0; i < 500000; i++) {
        errseq_set(&errors, -EIO);
        assert_int_equal(errseq_check_and_advance(&errors, &a), -EIO);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_listener_once),
        cmocka_unit_test(who_comes_later),
        cmocka_unit_test(many_errors_are_one_until_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
