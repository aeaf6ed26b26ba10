// Mutexes: locks to sleep on, handed from owner to waiter.
//
//   owner   NULL                   free
//           thread                 owned, nobody waits
//           thread | MUTEX_WAITED  owned, and the unlock must look at the waiters
//
// Lock and unlock are one compare-and-exchange while nobody waits. Otherwise the unlocker gives the
// mutex to the first waiter by name, under the waiters' lock: nobody slips in between, so waiting
// is bounded by the number of those who came earlier (or are realtime threads of higher priority:
// those stand in front). The place for priority inheritance is mutex_wait(), where the owner and
// the waiter are both known, and mutex_hand_over(), where it ends.
//
// Every waiter looks at `owner` under the waiters' lock before he returns, so the unlocker has let
// go of the mutex and of the waiter's entry by then.
//
// Context: thread.
#include <lib/errno.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <sched/mutex.h>

#include "internal.h"

#define MUTEX_WAITED ((uintptr_t)1)

void mutex_init(struct mutex *mutex, const char *name)
{
    mutex->owner = NULL;
    mutex->name = name;
    mutex->class = 0;
    init_waitqueue_head(&mutex->waiters, name);
}

static uintptr_t mutex_value(const struct mutex *mutex)
{
    return (uintptr_t)__atomic_load_n(&mutex->owner, __ATOMIC_RELAXED);
}

static struct thread *mutex_owner(const struct mutex *mutex)
{
    return (struct thread *)(mutex_value(mutex) & ~MUTEX_WAITED);
}

static void mutex_set(struct mutex *mutex, struct thread *owner, bool waited)
{
    uintptr_t value = (uintptr_t)owner | (waited ? MUTEX_WAITED : 0);

    __atomic_store_n(&mutex->owner, (struct thread *)value, __ATOMIC_RELEASE);
}

static bool mutex_exchange(struct mutex *mutex, struct thread *from, struct thread *to)
{
    return __atomic_compare_exchange_n(&mutex->owner, &from, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

static void mutex_bug(const struct mutex *mutex, const char *what)
{
    const struct thread *owner = mutex_owner(mutex);
    const struct thread *thread = current;

    pr_err("BUG: mutex %s: %s/%d %s; owner: %s", mutex->name, thread->name, thread->tid, what,
           owner != NULL ? owner->name : "nobody");
    warn_at(mutex->name, 0, what);
}

// Realtime waiters by priority, then the others as they came.
static void mutex_enqueue(struct mutex *mutex, struct wait_queue_entry *entry)
{
    struct list_head *after = mutex->waiters.entries.prev;

    while (after != &mutex->waiters.entries &&
           list_entry(after, struct wait_queue_entry, link)->thread->rt_priority <
               entry->thread->rt_priority) {
        after = after->prev;
    }
    list_add(&entry->link, after);
}

// With the waiters' lock held: takes the mutex if it is free, otherwise sees to it that the unlock
// will look at the waiters.
static bool mutex_take_or_mark(struct mutex *mutex, struct thread *thread)
{
    uintptr_t old = __atomic_fetch_or((uintptr_t *)&mutex->owner, MUTEX_WAITED, __ATOMIC_ACQ_REL);

    if ((old & ~MUTEX_WAITED) != 0) {
        return (old & ~MUTEX_WAITED) == (uintptr_t)thread;
    }
    mutex_set(mutex, thread, !list_empty(&mutex->waiters.entries));
    return true;
}

static int mutex_wait(struct mutex *mutex, enum thread_state state)
{
    struct wait_queue_entry entry = {.thread = current};
    int result = 0;

    spin_lock_irq(&mutex->waiters.lock);
    INIT_LIST_HEAD(&entry.link);
    if (!mutex_take_or_mark(mutex, entry.thread)) {
        mutex_enqueue(mutex, &entry);
        entry.thread->wait_channel = mutex->name;
        do {
            set_current_state(state);
            if (state == THREAD_SLEEPING && thread_interrupted()) {
                result = -EINTR;
                break;
            }
            spin_unlock_irq(&mutex->waiters.lock);
            schedule();
            spin_lock_irq(&mutex->waiters.lock);
        } while (mutex_owner(mutex) != entry.thread);
        set_current_state(THREAD_RUNNING);
        entry.thread->wait_channel = NULL;
        if (!list_empty(&entry.link)) { // gives up
            list_del_init(&entry.link);
        }
    }
    spin_unlock_irq(&mutex->waiters.lock);
    return result;
}

// The lock validator's word before the mutex is waited for: false when the thread has it already,
// which was reported, and to which as many unlocks belong.
static inline bool mutex_may_wait(struct mutex *mutex, bool tried, const void *at)
{
    return !police_on || !lockdep_acquire(mutex, &mutex->class, mutex->name, LOCK_MUTEX, tried, at);
}

static inline bool mutex_may_go(struct mutex *mutex, const void *at)
{
    return !police_on || lockdep_release(mutex, mutex->class, at);
}

void mutex_lock(struct mutex *mutex)
{
    might_sleep();
    if (unlikely(!mutex_may_wait(mutex, false, __builtin_return_address(0)))) {
        return;
    }
    if (likely(mutex_exchange(mutex, NULL, current))) {
        return;
    }
    if (mutex_owner(mutex) == current) {
        // Waiting for oneself never ends. It has what it asked for, so it may go on; its two
        // unlocks will not match.
        mutex_bug(mutex, "locks what it has locked already");
        return;
    }
    mutex_wait(mutex, THREAD_BLOCKED);
}

int mutex_lock_interruptible(struct mutex *mutex)
{
    might_sleep();
    if (unlikely(!mutex_may_wait(mutex, false, __builtin_return_address(0)))) {
        return 0;
    }
    if (likely(mutex_exchange(mutex, NULL, current))) {
        return 0;
    }
    if (mutex_owner(mutex) == current) {
        mutex_bug(mutex, "locks what it has locked already");
        return 0;
    }
    int result = mutex_wait(mutex, THREAD_SLEEPING);
    if (result != 0) {
        mutex_may_go(mutex, __builtin_return_address(0));
    }
    return result;
}

bool mutex_trylock(struct mutex *mutex)
{
    if (!mutex_exchange(mutex, NULL, current)) {
        return false;
    }
    mutex_may_wait(mutex, true, __builtin_return_address(0));
    return true;
}

// Gives the mutex to the first waiter, or frees it when all have given up.
static void mutex_hand_over(struct mutex *mutex)
{
    unsigned long flags;

    spin_lock_irqsave(&mutex->waiters.lock, flags);
    if (list_empty(&mutex->waiters.entries)) {
        mutex_set(mutex, NULL, false);
    } else {
        struct wait_queue_entry *first =
            list_first_entry(&mutex->waiters.entries, struct wait_queue_entry, link);

        list_del_init(&first->link);
        mutex_set(mutex, first->thread, !list_empty(&mutex->waiters.entries));
        sched_wake_atomic(first->thread);
    }
    spin_unlock_irqrestore(&mutex->waiters.lock, flags);
}

void mutex_unlock(struct mutex *mutex)
{
    if (unlikely(!mutex_may_go(mutex, __builtin_return_address(0)))) {
        return;
    }
    if (likely(mutex_exchange(mutex, current, NULL))) {
        return;
    }
    if (mutex_owner(mutex) != current) {
        mutex_bug(mutex, "unlocks what it does not own"); // left as it is
        return;
    }
    mutex_hand_over(mutex);
}
