// Completions: a count of what has happened, and those who wait for it.
//
// The count is only looked at under the queue's lock. So a completion may lie on the waiter's
// stack: he cannot return before the signaller has let go of it.
//
// Context: complete and complete_all any; waiting thread.
#include <sched/completion.h>

#include "internal.h"

enum { COMPLETION_ALL = UINT32_MAX / 2 }; // complete_all(): more than anybody will ever take

void reinit_completion(struct completion *c)
{
    WRITE_ONCE(c->done, 0);
}

// The one who has waited longest.
static inline void completion_wake_first(struct completion *c)
{
    struct wait_queue_entry *entry =
        list_first_entry(&c->queue.entries, struct wait_queue_entry, link);
    list_del_init(&entry->link);
    sched_wake_atomic(entry->thread);
}

void complete(struct completion *c)
{
    unsigned long flags;

    lockdep_completes(c);
    spin_lock_irqsave(&c->queue.lock, flags);
    if (c->done != COMPLETION_ALL) {
        c->done++;
    }
    if (!list_empty(&c->queue.entries)) {
        completion_wake_first(c);
    }
    spin_unlock_irqrestore(&c->queue.lock, flags);
}

void complete_all(struct completion *c)
{
    unsigned long flags;

    lockdep_completes(c);
    spin_lock_irqsave(&c->queue.lock, flags);
    c->done = COMPLETION_ALL;
    while (!list_empty(&c->queue.entries)) {
        completion_wake_first(c);
    }
    spin_unlock_irqrestore(&c->queue.lock, flags);
}

// Jiffies left (at least 1), 0: timed out, -EINTR.
static int64_t completion_wait(struct completion *c, enum thread_state state, uint32_t timeout)
{
    DEFINE_WAIT(entry);
    int64_t result = 0;

    might_sleep();
    spin_lock_irq(&c->queue.lock);
    while (c->done == 0) {
        if (state == THREAD_SLEEPING && thread_interrupted()) {
            result = -EINTR;
            break;
        }
        if (timeout == 0) {
            break;
        }
        if (list_empty(&entry.link)) {
            list_add_tail(&entry.link, &c->queue.entries);
        }
        entry.thread->wait_channel = c->queue.lock.name;
        set_current_state(state);
        spin_unlock_irq(&c->queue.lock);
        timeout = schedule_timeout(timeout);
        spin_lock_irq(&c->queue.lock);
    }
    set_current_state(THREAD_RUNNING);
    if (!list_empty(&entry.link)) {
        list_del_init(&entry.link);
    }
    if (c->done != 0) {
        result = timeout != 0 ? timeout : 1;
        if (c->done != COMPLETION_ALL) {
            c->done--;
        }
    }
    spin_unlock_irq(&c->queue.lock);
    entry.thread->wait_channel = NULL;
    return result;
}

void wait_for_completion(struct completion *c)
{
    lockdep_waits_for_completion(c);
    completion_wait(c, THREAD_BLOCKED, MAX_SCHEDULE_TIMEOUT);
}

void wait_for_completion_io(struct completion *c)
{
    lockdep_waits_for_completion(c);
    completion_wait(c, THREAD_IOWAIT, MAX_SCHEDULE_TIMEOUT);
}

uint32_t wait_for_completion_timeout(struct completion *c, uint32_t timeout_jiffies)
{
    return (uint32_t)completion_wait(c, THREAD_BLOCKED, timeout_jiffies);
}

int wait_for_completion_state(struct completion *c, enum thread_state state)
{
    return completion_wait(c, state, MAX_SCHEDULE_TIMEOUT) < 0 ? -EINTR : 0;
}

int wait_for_completion_interruptible(struct completion *c)
{
    return wait_for_completion_state(c, THREAD_SLEEPING);
}
