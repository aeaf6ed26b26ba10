// Priority inheritance in the running kernel: a realtime thread that waits for a mutex is not kept
// waiting by who has nothing to do with it.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/cpu.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <sched/thread.h>

#include "eventually.h"

enum { CHAIN = 5 };

static DEFINE_MUTEX(first_mutex);
static struct mutex chain[CHAIN];
static struct completion low_has_it, let_go;
static bool high_has_it, middle_stops;

static void pi_begin(void)
{
    struct cpumask only = {0};

    cpumask_set(&only, 0);
    sched_setaffinity(current, &only);
    sched_setscheduler(current, SCHED_FIFO, 90);
    init_completion(&low_has_it);
    init_completion(&let_go);
    high_has_it = middle_stops = false;
}

static void pi_end(void)
{
    struct cpumask all;

    memset(&all, 0xff, sizeof(all));
    sched_setscheduler(current, SCHED_OTHER, 0);
    sched_setaffinity(current, &all);
}

static struct thread *pi_thread(void (*fn)(void *arg), void *arg, int priority)
{
    struct thread *thread = kthread_run_on(0, fn, arg, "pi/%d", priority);

    if (thread != NULL && priority != 0) {
        sched_setscheduler(thread, SCHED_FIFO, priority);
    }
    return thread;
}

static void low_thread(void *arg)
{
    mutex_lock(arg);
    complete(&low_has_it);
    wait_for_completion(&let_go);
    for (volatile unsigned i = 0; i < 1000; i++) { // it needs the CPU to get to its unlock
    }
    mutex_unlock(arg);
}

static void high_thread(void *arg)
{
    mutex_lock(arg);
    WRITE_ONCE(high_has_it, true);
    mutex_unlock(arg);
}

// Computes until it is told to stop, or until the high one, which it outranks nobody for, is done.
static void middle_thread(void *arg)
{
    (void)arg;
    while (!READ_ONCE(middle_stops)) {
        cpu_relax();
    }
}

// Low owns, high waits, middle computes for ever: with all of them on one CPU, high gets the mutex.
KTEST(pi, classic_inversion)
{
    struct thread *low, *middle, *high;

    pi_begin();
    low = pi_thread(low_thread, &first_mutex, 0);
    REQUIRE(low != NULL);
    wait_for_completion(&low_has_it);
    high = pi_thread(high_thread, &first_mutex, 50);
    REQUIRE(high != NULL);
    EXPECT(EVENTUALLY(READ_ONCE(high->state) == THREAD_BLOCKED));
    EXPECT_EQ(low->rt_effective, 50);
    EXPECT_EQ(low->rt_priority, 0);
    middle = pi_thread(middle_thread, NULL, 20);
    REQUIRE(middle != NULL);
    complete(&let_go);
    EXPECT(EVENTUALLY(READ_ONCE(high_has_it)));
    EXPECT_EQ(READ_ONCE(middle_stops), false); // while the middle one was at it
    EXPECT_EQ(low->rt_effective, 0);           // and what was lent is given back
    WRITE_ONCE(middle_stops, true);
    thread_join(high);
    thread_join(middle);
    thread_join(low);
    pi_end();
}

static void chain_thread(void *arg)
{
    unsigned i = (unsigned)(uintptr_t)arg;

    mutex_lock(&chain[i]);
    if (i == 0) {
        complete(&low_has_it);
        wait_for_completion(&let_go);
    } else {
        mutex_lock(&chain[i - 1]);
        mutex_unlock(&chain[i - 1]);
    }
    mutex_unlock(&chain[i]);
}

// Thread i owns mutex i and waits for mutex i - 1; high waits for the last: the loan reaches the
// first.
KTEST(pi, chain)
{
    struct thread *threads[CHAIN], *middle, *high;
    static const char *const names[CHAIN] = {"pi0", "pi1", "pi2", "pi3", "pi4"};

    pi_begin();
    for (unsigned i = 0; i < CHAIN; i++) {
        mutex_init(&chain[i], names[i]);
        threads[i] = pi_thread(chain_thread, (void *)(uintptr_t)i, 0);
        REQUIRE(threads[i] != NULL);
        if (i == 0) {
            wait_for_completion(&low_has_it);
        } else {
            EXPECT(EVENTUALLY(READ_ONCE(threads[i]->pi_waiter) != NULL));
        }
    }
    high = pi_thread(high_thread, &chain[CHAIN - 1], 50);
    REQUIRE(high != NULL);
    EXPECT(EVENTUALLY(READ_ONCE(high->pi_waiter) != NULL));
    for (unsigned i = 0; i < CHAIN; i++) {
        EXPECT_EQ(threads[i]->rt_effective, 50);
    }
    middle = pi_thread(middle_thread, NULL, 20);
    REQUIRE(middle != NULL);
    complete(&let_go);
    EXPECT(EVENTUALLY(READ_ONCE(high_has_it)));
    for (unsigned i = 0; i < CHAIN; i++) {
        EXPECT_EQ(threads[i]->rt_effective, 0);
    }
    WRITE_ONCE(middle_stops, true);
    thread_join(high);
    thread_join(middle);
    for (unsigned i = 0; i < CHAIN; i++) {
        thread_join(threads[i]);
    }
    pi_end();
}

static int timed_result;

static void timed_thread(void *arg)
{
    timed_result = mutex_lock_timeout(arg, 2);
}

// Who gives up takes his loan along; a change of his priority changes it.
KTEST(pi, loan_ends_with_the_wait)
{
    struct thread *low, *high;

    pi_begin();
    timed_result = 1;
    low = pi_thread(low_thread, &first_mutex, 0);
    REQUIRE(low != NULL);
    wait_for_completion(&low_has_it);
    high = pi_thread(high_thread, &first_mutex, 30);
    REQUIRE(high != NULL);
    EXPECT(EVENTUALLY(READ_ONCE(high->pi_waiter) != NULL));
    EXPECT_EQ(low->rt_effective, 30);
    sched_setscheduler(high, SCHED_FIFO, 40);
    EXPECT_EQ(low->rt_effective, 40);
    struct thread *timed = pi_thread(timed_thread, &first_mutex, 60);
    REQUIRE(timed != NULL);
    EXPECT(EVENTUALLY(READ_ONCE(timed->pi_waiter) != NULL || READ_ONCE(timed_result) != 1));
    thread_join(timed);
    EXPECT_EQ(timed_result, -ETIMEDOUT);
    EXPECT_EQ(low->rt_effective, 40);
    sched_setscheduler(high, SCHED_OTHER, 0);
    EXPECT_EQ(low->rt_effective, 0);
    complete(&let_go);
    thread_join(high);
    thread_join(low);
    EXPECT(high_has_it);
    pi_end();
}

KTEST(pi, timeout_of_a_free_mutex_is_none)
{
    EXPECT_EQ(mutex_lock_timeout(&first_mutex, 0), 0);
    mutex_unlock(&first_mutex);
}
