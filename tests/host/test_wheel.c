// The timer wheel against a plain model: every timer is due in exactly its tick, in no other,
// across the wrap of jiffies.
//
// links: kernel/defer/wheel.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernel/defer/wheel.h"

static struct timer_list make(uint32_t expires)
{
    return (struct timer_list){.expires = expires};
}

static unsigned take_all(struct wheel *wheel, struct list_head *due)
{
    unsigned count = 0;

    while (!list_empty(due)) {
        wheel_remove(wheel, list_first_entry(due, struct timer_list, link));
        count++;
    }
    return count;
}

static unsigned advance(struct wheel *wheel, uint32_t until)
{
    LIST_HEAD(due);

    wheel_advance(wheel, until, &due);
    return take_all(wheel, &due);
}

// One timer at every distance that is interesting, from starts that are interesting: not one tick
// early, not one late.
static void test_exact(void **state)
{
    static const uint32_t starts[] = {
        0, 1, 63, 64, 4095, 4096, 0x3fffffff, 0x7fffffff, 0xffffffc0, 0xffffffff, (uint32_t)-75000};
    static const uint32_t distances[] = {0,        1,          2,          62,         63,
                                         64,       65,         127,        128,        4095,
                                         4096,     4097,       262143,     262144,     262145,
                                         16777216, 0x3fffffff, 0x40000000, 0x7ffffffe, 0x7fffffff};
    struct wheel wheel;

    (void)state;
    for (unsigned s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
        for (unsigned d = 0; d < sizeof(distances) / sizeof(distances[0]); d++) {
            uint32_t expires = starts[s] + distances[d];
            struct timer_list timer = make(expires);

            wheel_init(&wheel, starts[s]);
            wheel_add(&wheel, &timer);
            if (distances[d] > 0) {
                assert_int_equal(advance(&wheel, expires - 1), 0);
                assert_non_null(timer.link.next);
            }
            assert_true(wheel_has_work(&wheel, expires));
            assert_int_equal(advance(&wheel, expires), 1);
            assert_int_equal(wheel.count, 0);
            assert_null(timer.link.next);
        }
    }
}

static void test_past_is_due_at_once(void **state)
{
    struct wheel wheel;
    struct timer_list timer = make(900), other = make(1000 - 0x7fffffff);

    (void)state;
    wheel_init(&wheel, 1000);
    wheel_add(&wheel, &timer);
    wheel_add(&wheel, &other);
    assert_int_equal(advance(&wheel, 1000), 2);
}

static void test_order_of_ticks(void **state)
{
    struct wheel wheel;
    struct timer_list timers[200];
    LIST_HEAD(due);
    uint32_t last = 0;

    (void)state;
    wheel_init(&wheel, 0);
    for (unsigned i = 0; i < 200; i++) {
        timers[i] = make((i * 7919) % 200 * 50);
        wheel_add(&wheel, &timers[i]);
    }
    wheel_advance(&wheel, 10000, &due);
    struct timer_list *timer;
    list_for_each_entry (timer, &due, link) {
        assert_true(timer->expires >= last);
        last = timer->expires;
    }
    assert_int_equal(take_all(&wheel, &due), 200);
}

static void test_empty_wheel_skips(void **state)
{
    struct wheel wheel;
    struct timer_list timer;

    (void)state;
    wheel_init(&wheel, 0);
    assert_false(wheel_has_work(&wheel, 0x7fffffff));
    wheel_skip(&wheel, 5000);
    timer = make(5001);
    wheel_add(&wheel, &timer);
    wheel_skip(&wheel, 9000); // not empty: must not move
    assert_int_equal(wheel.now, 5000);
    assert_int_equal(advance(&wheel, 5000), 0);
    assert_int_equal(advance(&wheel, 5001), 1);
}

static void count_visit(struct timer_list *timer, void *arg)
{
    (void)timer;
    ++*(unsigned *)arg;
}

static void test_for_each_sees_each_once(void **state)
{
    struct wheel wheel;
    struct timer_list timers[6];
    static const uint32_t distances[] = {0, 70, 5000, 300000, 20000000, 0x7fffffff};
    unsigned count = 0;

    (void)state;
    wheel_init(&wheel, 77);
    for (unsigned i = 0; i < 6; i++) {
        timers[i] = make(77 + distances[i]);
        wheel_add(&wheel, &timers[i]);
    }
    wheel_remove(&wheel, &timers[3]);
    wheel_for_each(&wheel, count_visit, &count);
    assert_int_equal(count, 5);
}

// Random adding, removing and turning, by steps of any size, against an array that is searched.
enum { MODEL_TIMERS = 300, MODEL_STEPS = 60000 };

static uint32_t random_distance(void)
{
    uint32_t distance = (uint32_t)rand() << 16 ^ (uint32_t)rand();

    return distance >> (rand() % 31 + 1); // short ones as likely as long ones
}

// What a CPU may sleep until: not later than the first timer, and there is nothing to do before.
static void model_next_event(const struct wheel *wheel, const struct timer_list *timers)
{
    uint32_t nearest = UINT32_MAX, at;
    bool any = false;

    for (unsigned i = 0; i < MODEL_TIMERS; i++) {
        if (timers[i].link.next != NULL) {
            nearest =
                timers[i].expires - wheel->now < nearest ? timers[i].expires - wheel->now : nearest;
            any = true;
        }
    }
    assert_int_equal(wheel_next_event(wheel, &at), any);
    if (any) {
        assert_true(at - wheel->now <= nearest);
        assert_true(at == wheel->now || !wheel_has_work(wheel, at - 1));
    }
}

static void model_advance(struct wheel *wheel, struct timer_list *timers, uint32_t until)
{
    LIST_HEAD(due);
    struct timer_list *timer;
    unsigned expected = 0, found = 0;

    for (unsigned i = 0; i < MODEL_TIMERS; i++) {
        expected += timers[i].link.next != NULL && (int32_t)(until - timers[i].expires) >= 0;
    }
    if (expected != 0) {
        assert_true(wheel_has_work(wheel, until));
    }
    wheel_advance(wheel, until, &due);
    list_for_each_entry (timer, &due, link) {
        assert_true((int32_t)(until - timer->expires) >= 0);
        found++;
    }
    assert_int_equal(found, expected);
    take_all(wheel, &due);
    model_next_event(wheel, timers);
}

static void test_against_model(void **state)
{
    static struct timer_list timers[MODEL_TIMERS];
    struct wheel wheel;
    uint32_t now = (uint32_t)-20000;

    (void)state;
    srand(1);
    memset(timers, 0, sizeof(timers));
    wheel_init(&wheel, now);
    for (unsigned step = 0; step < MODEL_STEPS; step++) {
        struct timer_list *timer = &timers[rand() % MODEL_TIMERS];

        switch (rand() % 4) {
        case 0:
        case 1:
            if (timer->link.next == NULL) {
                timer->expires = now + 1 + random_distance() / 2; // now's tick has been served
                wheel_skip(&wheel, now);
                wheel_add(&wheel, timer);
            }
            break;
        case 2:
            if (timer->link.next != NULL) {
                wheel_remove(&wheel, timer);
            }
            break;
        default:
            // Mostly a tick or a few; now and then a leap over several rounds.
            now += rand() % 100 == 0 ? random_distance() >> 8 : (uint32_t)(rand() % 5);
            model_advance(&wheel, timers, now);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_past_is_due_at_once),
        cmocka_unit_test(test_order_of_ticks),
        cmocka_unit_test(test_empty_wheel_skips),
        cmocka_unit_test(test_for_each_sees_each_once),
        cmocka_unit_test(test_against_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
