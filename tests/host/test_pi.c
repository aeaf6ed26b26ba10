// Priority inheritance against its definition: threads lock, wait, give up, let go and change their
// priorities at random, and after each step everybody's loan is compared with one that is computed
// from scratch.
//
// links: kernel/sched/pi.c kernel/sched/runqueue.c tests/host/stubs/spinlock.c tests/host/stubs/panic.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <cmocka.h>

#include "../../kernel/sched/pi.h"
#include "../../kernel/sched/runqueue.h"

enum { THREADS = 12, MUTEXES = 8, STEPS = 200000 };

static struct thread threads[THREADS];
static struct mutex mutexes[MUTEXES];
static struct mutex_waiter waiters[THREADS];
static unsigned boosts; // how often a loan changed

void sched_set_boost(struct thread *thread, unsigned boost)
{
    assert_int_not_equal(thread->rt_boost, boost); // no call without a change
    boosts++;
    thread_set_boost(thread, boost);
}

static int set_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.tid = (int)i + 1};
        thread_set_class(&threads[i], SCHED_OTHER, 0, 0);
        INIT_LIST_HEAD(&threads[i].pi_owned);
    }
    for (unsigned i = 0; i < MUTEXES; i++) {
        mutexes[i] = (struct mutex){.name = "m"};
        INIT_LIST_HEAD(&mutexes[i].waiters);
        INIT_LIST_HEAD(&mutexes[i].owned_link);
    }
    boosts = 0;
    return 0;
}

static void set_priority(struct thread *thread, unsigned priority)
{
    thread_set_class(thread, priority != 0 ? SCHED_FIFO : SCHED_OTHER, priority, 0);
    pi_priority_changed(thread);
}

// As mutex.c: owned at once, or waited for.
static void lock(struct thread *thread, struct mutex *mutex)
{
    if (mutex_owner(mutex) == NULL) {
        mutex->owner = thread;
        return;
    }
    struct mutex_waiter *waiter = &waiters[thread - threads];
    *waiter = (struct mutex_waiter){.thread = thread, .mutex = mutex};
    pi_wait(waiter);
}

static void unlock(struct mutex *mutex)
{
    mutex->owner = pi_hand_over(mutex);
}

// The definition, by walking until nothing changes.
static void expect_loans(void)
{
    unsigned effective[THREADS], loan[THREADS];
    bool changed = true;

    for (unsigned i = 0; i < THREADS; i++) {
        effective[i] = threads[i].rt_priority;
        loan[i] = 0;
    }
    while (changed) {
        changed = false;
        for (unsigned i = 0; i < THREADS; i++) {
            if (threads[i].pi_waiter != NULL) {
                long owner = mutex_owner(threads[i].pi_waiter->mutex) - threads;
                if (loan[owner] < effective[i]) {
                    loan[owner] = effective[i];
                    effective[owner] = max(effective[owner], loan[owner]);
                    changed = true;
                }
            }
        }
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(threads[i].rt_boost, loan[i]);
        assert_int_equal(threads[i].rt_effective, effective[i]);
    }
}

static void expect_order(void)
{
    for (unsigned i = 0; i < MUTEXES; i++) {
        unsigned last = RT_PRIORITIES;
        struct mutex_waiter *waiter;

        list_for_each_entry (waiter, &mutexes[i].waiters, link) {
            assert_true(waiter->thread->rt_effective <= last);
            last = waiter->thread->rt_effective;
        }
        assert_int_equal(list_empty(&mutexes[i].owned_link), list_empty(&mutexes[i].waiters));
    }
}

static void test_classic_inversion(void **state)
{
    struct thread *low = &threads[0], *high = &threads[1];

    (void)state;
    set_priority(high, 50);
    lock(low, &mutexes[0]);
    lock(high, &mutexes[0]);
    assert_int_equal(low->rt_effective, 50);
    assert_int_equal(low->rt_priority, 0);
    unlock(&mutexes[0]);
    assert_int_equal(low->rt_effective, 0);
    assert_ptr_equal(mutex_owner(&mutexes[0]), high);
}

// Thread i owns mutex i and waits for mutex i - 1: the loan reaches the far end, and leaves it.
static void test_chain(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MUTEXES; i++) {
        lock(&threads[i], &mutexes[i]);
        if (i > 0) {
            lock(&threads[i], &mutexes[i - 1]);
        }
    }
    assert_int_equal(boosts, 0);
    set_priority(&threads[MUTEXES - 1], 77);
    for (unsigned i = 0; i < MUTEXES; i++) {
        assert_int_equal(threads[i].rt_effective, 77);
    }
    pi_leave(&waiters[MUTEXES - 1]); // its patience is at an end
    for (unsigned i = 0; i + 1 < MUTEXES; i++) {
        assert_int_equal(threads[i].rt_effective, 0);
    }
}

static void test_two_mutexes_two_lenders(void **state)
{
    struct thread *owner = &threads[0];

    (void)state;
    set_priority(owner, 5);
    set_priority(&threads[1], 10);
    set_priority(&threads[2], 20);
    lock(owner, &mutexes[0]);
    lock(owner, &mutexes[1]);
    lock(&threads[1], &mutexes[0]);
    lock(&threads[2], &mutexes[1]);
    assert_int_equal(owner->rt_effective, 20);
    unlock(&mutexes[1]);
    assert_int_equal(owner->rt_effective, 10);
    unlock(&mutexes[0]);
    assert_int_equal(owner->rt_effective, 5);
}

static void test_deadlock_is_seen(void **state)
{
    (void)state;
    lock(&threads[0], &mutexes[0]);
    lock(&threads[1], &mutexes[1]);
    lock(&threads[2], &mutexes[2]);
    lock(&threads[0], &mutexes[1]);
    lock(&threads[1], &mutexes[2]);
    assert_true(pi_is_deadlock(&mutexes[0], &threads[2]));
    assert_false(pi_is_deadlock(&mutexes[0], &threads[3]));
}

static void step(void)
{
    struct thread *thread = &threads[rand() % THREADS];
    struct mutex *mutex = &mutexes[rand() % MUTEXES];

    switch (rand() % 4) {
    case 0:
    case 1:
        if (thread->pi_waiter == NULL && mutex_owner(mutex) != thread &&
            !pi_is_deadlock(mutex, thread)) {
            lock(thread, mutex);
        }
        break;
    case 2:
        thread = mutex_owner(mutex);
        if (thread != NULL && thread->pi_waiter == NULL) { // who sleeps unlocks nothing
            unlock(mutex);
        } else if (thread != NULL && rand() % 2 == 0) {
            struct mutex_waiter *waiter = thread->pi_waiter;
            pi_leave(waiter);
        }
        break;
    default:
        set_priority(thread, rand() % 3 == 0 ? 0 : (unsigned)rand() % 99 + 1);
    }
}

static void test_against_the_definition(void **state)
{
    (void)state;
    srand(1);
    for (unsigned i = 0; i < STEPS; i++) {
        step();
        expect_loans();
        expect_order();
    }
    assert_true(boosts > STEPS / 20); // it was not idle talk
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_classic_inversion, set_up),
        cmocka_unit_test_setup(test_chain, set_up),
        cmocka_unit_test_setup(test_two_mutexes_two_lenders, set_up),
        cmocka_unit_test_setup(test_deadlock_is_seen, set_up),
        cmocka_unit_test_setup(test_against_the_definition, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
