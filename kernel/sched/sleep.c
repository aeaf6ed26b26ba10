// Sleeping by the clock: schedule_timeout() and msleep().
//
// The timer wheel (kernel/defer/timer.c) stands above the scheduler, so threads that wait with a
// timeout do not use it. Each CPU has instead a list of its sleepers, the earliest first; the tick
// looks at the first, and wakes those whose time has come. Most are woken by what they waited for
// long before that. A sleeper's entry lies on its stack and goes on and off the list of the CPU
// where it fell asleep, under that list's lock; the tick holds it while waking, so an entry never
// vanishes under it.
//
// Putting a sleeper in its place looks through the list from its end: timeouts that are equal, the
// usual case, cost one step.
//
// Context: thread; sleep_tick hard irq.
#include <lib/errno.h>
#include <core/clock.h>
#include <core/spinlock.h>
#include <sched/sleep.h>
#include <sched/wait.h>

#include "internal.h"

// A tick wakes at most so many; the others are late by a tick. A hard handler does not loop without
// bound.
enum { SLEEP_WAKES_PER_TICK = 64 };

struct sleeper {
    struct list_head link;
    struct thread *thread;
    uint32_t expires; // jiffies
};

struct sleep_list {
    struct spinlock lock;
    struct list_head sleepers; // L: by expires
};

static struct sleep_list sleep_lists[MAX_CPUS];

void sleep_init_cpu(unsigned cpu)
{
    spin_lock_init(&sleep_lists[cpu].lock, "sleepers");
    INIT_LIST_HEAD(&sleep_lists[cpu].sleepers);
}

bool sched_next_sleeper(uint32_t *at)
{
    lockdep_assert_irqs_disabled();
    struct sleep_list *list = &this_cpu(sleep_lists);
    bool found;

    spin_lock(&list->lock);
    found = !list_empty(&list->sleepers);
    if (found) {
        *at = list_first_entry(&list->sleepers, struct sleeper, link)->expires;
    }
    spin_unlock(&list->lock);
    return found;
}

void sleep_tick(void)
{
    struct sleep_list *list = &this_cpu(sleep_lists);

    if (list_empty(&list->sleepers)) {
        return;
    }
    spin_lock(&list->lock);
    for (unsigned n = 0; n < SLEEP_WAKES_PER_TICK && !list_empty(&list->sleepers); n++) {
        struct sleeper *sleeper = list_first_entry(&list->sleepers, struct sleeper, link);

        if (time_after(sleeper->expires, jiffies)) {
            break;
        }
        list_del_init(&sleeper->link);
        sched_wake_atomic(sleeper->thread);
    }
    spin_unlock(&list->lock);
}

static void sleep_add(struct sleep_list *list, struct sleeper *sleeper)
{
    struct list_head *after = list->sleepers.prev;

    while (after != &list->sleepers &&
           time_after(list_entry(after, struct sleeper, link)->expires, sleeper->expires)) {
        after = after->prev;
    }
    list_add(&sleeper->link, after);
}

static __noinline uint32_t schedule_until(uint32_t timeout_jiffies)
{
    struct sleeper sleeper = {.thread = current};
    struct sleep_list *list;
    unsigned long flags;

    flags = local_irq_save();
    if (likely(sched_update_jiffies != NULL)) {
        sched_update_jiffies(); // ticks that are late would come out of the sleep
    }
    // Ticks are compared by their difference: half the range is the most that can be told from the
    // past.
    sleeper.expires = jiffies + min(timeout_jiffies, (uint32_t)INT32_MAX);
    list = &this_cpu(sleep_lists);
    spin_lock(&list->lock);
    sleep_add(list, &sleeper);
    spin_unlock(&list->lock);
    local_irq_restore(flags);

    schedule();

    spin_lock_irqsave(&list->lock, flags);
    if (!list_empty(&sleeper.link)) {
        list_del(&sleeper.link);
    }
    spin_unlock_irqrestore(&list->lock, flags);
    return time_after(sleeper.expires, jiffies) ? sleeper.expires - jiffies : 0;
}

uint32_t schedule_timeout(uint32_t timeout_jiffies)
{
    if (timeout_jiffies != MAX_SCHEDULE_TIMEOUT) {
        return schedule_until(timeout_jiffies);
    }
    schedule();
    return MAX_SCHEDULE_TIMEOUT;
}

void msleep(uint32_t ms)
{
    uint32_t left = msecs_to_jiffies(ms) + 1; // the tick under way does not count

    might_sleep();
    current->wait_channel = "msleep";
    while (left != 0) {
        set_current_state(THREAD_BLOCKED);
        left = schedule_timeout(left);
    }
    current->wait_channel = NULL;
}

int msleep_interruptible(uint32_t ms)
{
    uint32_t left = msecs_to_jiffies(ms) + 1;
    int result = 0;

    might_sleep();
    current->wait_channel = "msleep";
    while (left != 0) {
        set_current_state(THREAD_SLEEPING);
        if (thread_interrupted()) {
            set_current_state(THREAD_RUNNING);
            result = -EINTR;
            break;
        }
        left = schedule_timeout(left);
    }
    current->wait_channel = NULL;
    return result;
}
