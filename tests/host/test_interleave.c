// Sleeping and waking in every order: kernel/sched/wait.c and completion.c as they are
// (tests/host/interleave.c tells how). What is told of each way:
//
//   lost wake-up      nobody can go on, and somebody is not done
//   double enqueue    a thread is made runnable that is runnable
//   late touch        a completion or an entry is touched when its owner has left (AddressSanitizer)
//
// The last tests seed the classic mistakes, which must be found.
//
// links: kernel/sched/wait.c kernel/sched/completion.c tests/host/interleave.c tests/host/stubs/panic.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <sched/completion.h>
#include <sched/wait.h>

#include "interleave.h"

enum { SWITCHES_MAX = 4 };

// ---- what wait.c and completion.c ask for ----

uint32_t schedule_timeout(uint32_t timeout_jiffies)
{
    schedule();
    return timeout_jiffies;
}

bool thread_interrupted(void)
{
    return false;
}

// As the kernel's, in line there.
void finish_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry)
{
    current->state = THREAD_RUNNING;
    step();
    if (__atomic_load_n(&entry->link.prev, __ATOMIC_ACQUIRE) != &entry->link) {
        wait_entry_remove(queue, entry);
    }
}

// ---- scenes: a condition ----

static struct wait_queue_head queue;
static bool condition;
static unsigned passed;

static bool look(void)
{
    step();
    bool seen = condition;
    step();
    return seen;
}

static void sleeper(void)
{
    wait_event(&queue, look());
    passed++;
}

static void waker(void)
{
    step();
    condition = true;
    step();
    wake_up(&queue);
}

static void waker_all(void)
{
    step();
    condition = true;
    step();
    wake_up_all(&queue);
}

static void set_up_condition(void)
{
    init_waitqueue_head(&queue, "q");
    condition = false;
    passed = 0;
}

static void one_cpu_wakes(void)
{
    set_up_condition();
    actor_add(sleeper, 0, ACTOR_THREAD, NULL);
    actor_add(waker, 1, ACTOR_THREAD, NULL);
}

static void two_cpus_wake(void)
{
    one_cpu_wakes();
    actor_add(waker, 2, ACTOR_THREAD, NULL);
}

static void an_interrupt_wakes(void)
{
    set_up_condition();
    actor_add(sleeper, 0, ACTOR_THREAD, NULL);
    actor_add(waker, 0, ACTOR_HARDIRQ, NULL);
}

static void two_sleep(void)
{
    set_up_condition();
    actor_add(sleeper, 0, ACTOR_THREAD, NULL);
    actor_add(sleeper, 1, ACTOR_THREAD, NULL);
    actor_add(waker_all, 2, ACTOR_THREAD, NULL);
}

static void expect_none_lost(void (*set_up)(void), uint64_t at_least)
{
    explore(set_up, NULL, SWITCHES_MAX);
    print_message("%llu ways\n", (unsigned long long)search.ways);
    assert_int_equal(search.lost, 0);
    assert_int_equal(search.doubles, 0);
    assert_true(search.ways >= at_least); // it did try
}

static void test_condition(void **state)
{
    (void)state;
    expect_none_lost(one_cpu_wakes, 200);
    expect_none_lost(an_interrupt_wakes, 6);
    expect_none_lost(two_cpus_wake, 5000);
    expect_none_lost(two_sleep, 5000);
}

// ---- scenes: a completion, which lies with its waiter and is gone when he has returned ----

static struct completion *completion;

static void completion_waiter(void)
{
    wait_for_completion(completion);
    memset(completion, 0x6b, sizeof(*completion));
    free(completion);
    passed++;
}

static void completion_teller(void)
{
    step();
    complete(completion);
}

static void set_up_completion(void)
{
    passed = 0;
    completion = malloc(sizeof(*completion));
    init_completion(completion);
    actor_add(completion_waiter, 0, ACTOR_THREAD, NULL);
}

static void one_cpu_tells(void)
{
    set_up_completion();
    actor_add(completion_teller, 1, ACTOR_THREAD, NULL);
}

static void an_interrupt_tells(void)
{
    set_up_completion();
    actor_add(completion_teller, 0, ACTOR_HARDIRQ, NULL);
}

static void test_completion(void **state)
{
    (void)state;
    expect_none_lost(one_cpu_tells, 50);
    expect_none_lost(an_interrupt_tells, 3);
}

// ---- seeded mistakes ----

// The condition is looked at first, and then the thread says that it sleeps.
static void hasty_sleeper(void)
{
    DEFINE_WAIT(entry);

    if (!look()) {
        prepare_to_wait(&queue, &entry, THREAD_BLOCKED);
        schedule();
        finish_wait(&queue, &entry);
    }
    passed++;
}

static void a_hasty_one_sleeps(void)
{
    set_up_condition();
    actor_add(hasty_sleeper, 0, ACTOR_THREAD, NULL);
    actor_add(waker, 1, ACTOR_THREAD, NULL);
}

// Everybody is woken first, and then the condition becomes true.
static void hasty_waker(void)
{
    step();
    wake_up(&queue);
    condition = true;
}

static void a_hasty_one_wakes(void)
{
    set_up_condition();
    actor_add(sleeper, 0, ACTOR_THREAD, NULL);
    actor_add(hasty_waker, 1, ACTOR_THREAD, NULL);
}

static void expect_found(void (*set_up)(void))
{
    explore(set_up, NULL, SWITCHES_MAX);
    assert_true(search.lost > 0);
}

static void test_seeded_mistakes_are_found(void **state)
{
    (void)state;
    expect_found(a_hasty_one_sleeps);
    assert_true(search.lost < search.ways); // most ways go well: that is why luck does not find it
    expect_found(a_hasty_one_wakes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_condition),
        cmocka_unit_test(test_completion),
        cmocka_unit_test(test_seeded_mistakes_are_found),
    };

    return interleave_run_tests(tests);
}
