// Who runs next: realtime by priority and turn, ordinary threads by their share.
//
// links: kernel/sched/runqueue.c tests/host/stubs/spinlock.c tests/host/stubs/panic.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "../../kernel/sched/runqueue.h"

static struct run_queue queue;
static struct thread idle;
static int last_tid;

// One tick of the time stamp counter is a nanosecond here.
#define HZ_OF_TSC 1000000000ull

static struct thread make(enum sched_policy policy, int priority, int nice)
{
    struct thread thread = {.tid = ++last_tid};

    thread_set_class(&thread, policy, (unsigned)priority, nice);
    thread.allowed.bits[0] = UINT64_MAX;
    return thread;
}

static int set_up(void **state)
{
    (void)state;
    queue = (struct run_queue){.idle = &idle, .running = &idle};
    run_queue_init(&queue, 0);
    run_queue_init_times(HZ_OF_TSC);
    return 0;
}

static void charge(struct thread *thread, uint64_t delta)
{
    queue.running = thread;
    run_queue_charge(&queue, thread->switched_in + delta);
}

static bool thread_preempts(const struct thread *woken, struct thread *running)
{
    queue.running = running;
    return run_queue_preempts(&queue, woken);
}

static void test_empty(void **state)
{
    (void)state;
    assert_null(run_queue_take(&queue));
    assert_null(run_queue_take_for(&queue, 0));
}

static void test_realtime_by_priority(void **state)
{
    static const int priorities[] = {1, 99, 35, 36, 63, 64, 2};
    static const int expected[] = {99, 64, 63, 36, 35, 2, 1};
    struct thread threads[7], ordinary = make(SCHED_OTHER, 0, -20);

    (void)state;
    run_queue_add(&queue, &ordinary, false);
    for (unsigned i = 0; i < 7; i++) {
        threads[i] = make(SCHED_FIFO, priorities[i], 0);
        run_queue_add(&queue, &threads[i], false);
    }
    assert_int_equal(queue.waiting, 8);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(run_queue_take(&queue)->rt_priority, expected[i]);
    }
    assert_ptr_equal(run_queue_take(&queue), &ordinary);
    assert_int_equal(queue.waiting, 0);
}

static void test_realtime_turns(void **state)
{
    struct thread a = make(SCHED_FIFO, 10, 0), b = make(SCHED_FIFO, 10, 0),
                  c = make(SCHED_RR, 10, 0);

    (void)state;
    run_queue_add(&queue, &a, false);
    run_queue_add(&queue, &b, false);
    run_queue_add(&queue, &c, true); // was preempted: keeps its turn
    assert_ptr_equal(run_queue_take(&queue), &c);
    assert_ptr_equal(run_queue_take(&queue), &a);
    run_queue_add(&queue, &a, false);
    run_queue_remove(&queue, &b);
    assert_ptr_equal(run_queue_take(&queue), &a);
    assert_null(run_queue_take(&queue));
}

static void test_who_preempts_whom(void **state)
{
    struct thread fifo = make(SCHED_FIFO, 10, 0), better = make(SCHED_RR, 11, 0);
    struct thread other = make(SCHED_OTHER, 0, 0), late = make(SCHED_OTHER, 0, 0);
    struct thread slack = make(SCHED_IDLE, 0, 0);

    (void)state;
    assert_true(thread_preempts(&slack, &idle));
    assert_true(thread_preempts(&other, &slack));
    assert_false(thread_preempts(&slack, &other));
    assert_true(thread_preempts(&fifo, &other));
    assert_false(thread_preempts(&other, &fifo));
    assert_true(thread_preempts(&better, &fifo));
    assert_false(thread_preempts(&fifo, &better));
    assert_false(thread_preempts(&fifo, &fifo)); // an equal waits for its turn
    late.vruntime = 500 * 1000;
    assert_false(thread_preempts(&other, &late)); // a little ahead is not worth a switch
    late.vruntime = 5 * 1000 * 1000;
    assert_true(thread_preempts(&other, &late));
    assert_false(thread_preempts(&late, &other));
}

// Plays `ticks` ticks with these threads and counts who had how many. Virtual time starts just
// before its wrap.
static void play(struct thread *threads, unsigned count, unsigned ticks, unsigned *had)
{
    queue.min_vruntime = (uint64_t)-1000000;
    for (unsigned i = 0; i < count; i++) {
        threads[i].vruntime = queue.min_vruntime;
        had[i] = 0;
        run_queue_add(&queue, &threads[i], false);
    }
    for (unsigned tick = 0; tick < ticks; tick++) {
        struct thread *thread = run_queue_take(&queue);
        charge(thread, 4000000);
        had[thread - threads]++;
        run_queue_add(&queue, thread, false);
    }
}

static void test_equal_shares(void **state)
{
    struct thread threads[5];
    unsigned had[5];

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        threads[i] = make(SCHED_OTHER, 0, 0);
    }
    play(threads, 5, 5000, had);
    for (unsigned i = 0; i < 5; i++) {
        assert_in_range(had[i], 999, 1001);
    }
}

// A nice level is worth a quarter: 1024 to 335 for five of them.
static void test_shares_by_weight(void **state)
{
    struct thread threads[3] = {make(SCHED_OTHER, 0, 0), make(SCHED_OTHER, 0, 5),
                                make(SCHED_IDLE, 0, 0)};
    unsigned had[3];

    (void)state;
    play(threads, 3, 100000, had);
    assert_in_range(had[0], 74900, 75500); // 1024 of 1024 + 336 + 3
    assert_in_range(had[1], 24300, 24900);
    assert_in_range(had[2], 150, 300); // little, but not nothing
}

static void test_weights(void **state)
{
    (void)state;
    for (int nice = -20; nice < 19; nice++) {
        struct thread a = make(SCHED_OTHER, 0, nice), b = make(SCHED_OTHER, 0, nice + 1);
        assert_in_range(a.weight * 100 / b.weight, 118, 131);
    }
}

// A long sleep earns no more than a short one; a thread that just ran does not get its time back.
static void test_sleepers_credit_is_bounded(void **state)
{
    struct thread sleeper = make(SCHED_OTHER, 0, 0), recent = make(SCHED_OTHER, 0, 0);

    (void)state;
    queue.min_vruntime = 1ull << 40;
    sleeper.vruntime = 5;
    recent.vruntime = queue.min_vruntime + 77;
    run_queue_place_woken(&queue, &sleeper);
    run_queue_place_woken(&queue, &recent);
    assert_int_equal(sleeper.vruntime, queue.min_vruntime - FAIR_SLEEPER_US * 1000);
    assert_int_equal(recent.vruntime, queue.min_vruntime + 77);
}

// A thread that runs alone takes the queue's time along: who wakes then does not catch up on it.
static void test_time_goes_on_for_one_alone(void **state)
{
    struct thread alone = make(SCHED_OTHER, 0, 0), sleeper = make(SCHED_OTHER, 0, 0);

    (void)state;
    for (unsigned tick = 0; tick < 1000; tick++) {
        charge(&alone, 4000000);
    }
    run_queue_place_woken(&queue, &sleeper);
    assert_int_equal(alone.vruntime - sleeper.vruntime, FAIR_SLEEPER_US * 1000);
    // And so does one that runs while others wait, as soon as somebody is chosen.
    run_queue_add(&queue, &sleeper, false);
    charge(&alone, 4000000);
    run_queue_add(&queue, &alone, false);
    assert_ptr_equal(run_queue_take(&queue), &sleeper);
    assert_ptr_equal(run_queue_take(&queue), &alone);
    assert_int_equal(queue.min_vruntime, alone.vruntime);
}

static void test_moving_keeps_the_distance(void **state)
{
    struct thread thread = make(SCHED_OTHER, 0, 0);

    (void)state;
    queue.min_vruntime = 1000000;
    thread.vruntime = 50 + 300; // 300 behind the old queue's time of 50
    run_queue_place_moved(&queue, &thread, 50);
    assert_int_equal(thread.vruntime, 1000300);
}

static void test_yield_lets_the_first_pass(void **state)
{
    struct thread a = make(SCHED_OTHER, 0, 0), b = make(SCHED_OTHER, 0, 0);

    (void)state;
    a.vruntime = 100;
    b.vruntime = 900;
    run_queue_add(&queue, &b, false);
    run_queue_yield(&queue, &a);
    run_queue_add(&queue, &a, false);
    assert_ptr_equal(run_queue_take(&queue), &b);
}

static void test_taken_for_another_cpu(void **state)
{
    struct thread bound = make(SCHED_FIFO, 50, 0), free = make(SCHED_OTHER, 0, 0);
    struct thread far = make(SCHED_OTHER, 0, 0);

    (void)state;
    bound.allowed.bits[0] = 1;
    far.allowed.bits[3] = 1ull << 63;
    far.allowed.bits[0] = 0;
    run_queue_add(&queue, &bound, false);
    run_queue_add(&queue, &free, false);
    run_queue_add(&queue, &far, false);
    assert_ptr_equal(run_queue_take_for(&queue, 255), &far);
    assert_ptr_equal(run_queue_take_for(&queue, 1), &free);
    assert_null(run_queue_take_for(&queue, 1));
    assert_ptr_equal(run_queue_take_for(&queue, 0), &bound);
}

// A FIFO thread that never sleeps leaves a twentieth of the CPU to the others, while there are any.
static void test_realtime_is_throttled(void **state)
{
    enum { TICK = 4000000, TICKS = 25000 };
    struct thread fifo = make(SCHED_FIFO, 99, 0), other = make(SCHED_OTHER, 0, 0);
    unsigned had_fifo = 0, had_other = 0;

    (void)state;
    run_queue_add(&queue, &other, false);
    queue.running = &fifo;
    for (uint64_t now = TICK; now <= (uint64_t)TICK * TICKS; now += TICK) {
        run_queue_charge(&queue, now);
        *(queue.running == &fifo ? &had_fifo : &had_other) += 1;
        if (run_queue_tick(&queue, now)) {
            run_queue_add(&queue, queue.running, queue.running->slice_ticks != 0);
            queue.running = run_queue_take(&queue);
            queue.running->switched_in = now;
        }
    }
    assert_in_range(had_other, TICKS * 4 / 100, TICKS * 6 / 100);
    assert_int_equal(had_fifo + had_other, TICKS);
    assert_in_range(queue.rt_throttled_count, 99, 101); // once in each second
}

// With nobody to starve, and without the limit, it has all.
static void test_realtime_alone_is_not(void **state)
{
    struct thread fifo = make(SCHED_FIFO, 1, 0), better = make(SCHED_RR, 2, 0);

    (void)state;
    queue.running = &fifo;
    for (uint64_t now = 0; now < 3 * HZ_OF_TSC; now += HZ_OF_TSC / HZ) {
        run_queue_charge(&queue, now);
        assert_false(run_queue_tick(&queue, now));
    }
    assert_true(queue.rt_throttled);
    assert_true(run_queue_preempts(&queue, &better)); // among themselves nothing changes
    run_queue_add(&queue, &fifo, false);
    assert_ptr_equal(run_queue_take(&queue), &fifo);

    rt_limit_set(-1, 1000000, HZ_OF_TSC);
    struct thread other = make(SCHED_OTHER, 0, 0);
    run_queue_add(&queue, &other, false);
    for (uint64_t now = 3 * HZ_OF_TSC; now < 6 * HZ_OF_TSC; now += HZ_OF_TSC / HZ) {
        run_queue_charge(&queue, now);
        assert_false(run_queue_tick(&queue, now));
    }
    rt_limit_set(950000, 1000000, HZ_OF_TSC);
}

// A loan counts while it lasts, and only where it is more than the borrower's own.
static void test_boost(void **state)
{
    struct thread other = make(SCHED_OTHER, 0, 5), fifo = make(SCHED_FIFO, 30, 0);

    (void)state;
    thread_set_boost(&other, 40);
    thread_set_boost(&fifo, 20);
    assert_int_equal(fifo.rt_effective, 30);
    run_queue_add(&queue, &fifo, false);
    run_queue_add(&queue, &other, false);
    assert_ptr_equal(run_queue_take(&queue), &other);
    thread_set_boost(&other, 0);
    assert_int_equal(other.rt_effective, 0);
    assert_int_equal(other.weight, make(SCHED_OTHER, 0, 5).weight);
    run_queue_add(&queue, &other, false);
    assert_ptr_equal(run_queue_take(&queue), &fifo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_empty, set_up),
        cmocka_unit_test_setup(test_realtime_by_priority, set_up),
        cmocka_unit_test_setup(test_realtime_turns, set_up),
        cmocka_unit_test_setup(test_who_preempts_whom, set_up),
        cmocka_unit_test_setup(test_equal_shares, set_up),
        cmocka_unit_test_setup(test_shares_by_weight, set_up),
        cmocka_unit_test_setup(test_weights, set_up),
        cmocka_unit_test_setup(test_sleepers_credit_is_bounded, set_up),
        cmocka_unit_test_setup(test_time_goes_on_for_one_alone, set_up),
        cmocka_unit_test_setup(test_moving_keeps_the_distance, set_up),
        cmocka_unit_test_setup(test_yield_lets_the_first_pass, set_up),
        cmocka_unit_test_setup(test_taken_for_another_cpu, set_up),
        cmocka_unit_test_setup(test_realtime_is_throttled, set_up),
        cmocka_unit_test_setup(test_realtime_alone_is_not, set_up),
        cmocka_unit_test_setup(test_boost, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
