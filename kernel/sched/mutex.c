// Mutexes: locks to sleep on, handed from owner to waiter.
//
//   owner   NULL                   free
//           thread                 owned, nobody waits
//           thread | MUTEX_WAITED  owned, and the unlock must look at the waiters
//
// Lock and unlock are one compare-and-exchange while nobody waits. Otherwise the unlocker gives the
// mutex to the best waiter by name, under a lock: nobody slips in between, so waiting is bounded by
// the number of those who came earlier, or are realtime threads of higher priority: those stand in
// front, and lend the owner their priority (pi.c).
//
// That one lock, pi_lock, serves all mutexes that are waited for: so a chain of owners that wait
// for other mutexes can be walked as a whole. A run queue's lock may be taken under it, never the
// other way round.
//
// Every waiter looks at `owner` under pi_lock before he returns, so the unlocker has let go of the
// mutex and of the waiter's entry by then.
//
// Context: thread.
#include <lib/errno.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <sched/mutex.h>
#include <sched/thread.h>
#include <sched/wait.h>

#include "internal.h"
#include "pi.h"

static DEFINE_SPINLOCK(pi_lock);

void mutex_init(struct mutex *mutex, const char *name)
{
    mutex->owner = NULL;
    mutex->name = name;
    mutex->class = 0;
    INIT_LIST_HEAD(&mutex->waiters);
    INIT_LIST_HEAD(&mutex->owned_link);
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

// With pi_lock held: takes the mutex if it is free, otherwise sees to it that the unlock will look
// at the waiters.
static bool mutex_take_or_mark(struct mutex *mutex, struct thread *thread)
{
    uintptr_t old = __atomic_fetch_or((uintptr_t *)&mutex->owner, MUTEX_WAITED, __ATOMIC_ACQ_REL);

    if ((old & ~MUTEX_WAITED) != 0) {
        return (old & ~MUTEX_WAITED) == (uintptr_t)thread;
    }
    mutex_set(mutex, thread, !list_empty(&mutex->waiters));
    return true;
}

// Its owner waits for us, perhaps through others: nobody will ever go on. The lock validator has
// said so before, if it is on; this is the moment at which it happens.
static void mutex_deadlock(const struct mutex *mutex, const struct thread *thread)
{
    pr_err("BUG: deadlock: %s/%d waits for mutex %s", thread->name, thread->tid, mutex->name);
    for (unsigned step = 0; step < PI_CHAIN_MAX; step++) {
        const struct thread *owner = mutex_owner(mutex);

        if (owner == thread || owner == NULL || owner->pi_waiter == NULL) {
            break;
        }
        mutex = owner->pi_waiter->mutex;
        pr_err("BUG: deadlock: which %s/%d owns, who waits for mutex %s", owner->name, owner->tid,
               mutex->name);
    }
    pr_err("BUG: deadlock: which %s/%d owns", thread->name, thread->tid);
}

// 0, -EINTR, -ETIMEDOUT. pi_lock is held, interrupts off.
static int mutex_sleep(struct mutex *mutex, struct mutex_waiter *waiter, enum thread_state state,
                       uint32_t timeout)
{
    do {
        set_current_state(state);
        if (state == THREAD_SLEEPING && thread_interrupted()) {
            return -EINTR;
        }
        if (timeout == 0) {
            return -ETIMEDOUT;
        }
        spin_unlock_irq(&pi_lock);
        timeout = schedule_timeout(timeout);
        spin_lock_irq(&pi_lock);
    } while (mutex_owner(mutex) != waiter->thread);
    return 0;
}

static int mutex_wait(struct mutex *mutex, enum thread_state state, uint32_t timeout)
{
    struct mutex_waiter waiter = {.thread = current, .mutex = mutex};
    int result = 0;

    spin_lock_irq(&pi_lock);
    if (!mutex_take_or_mark(mutex, waiter.thread)) {
        if (unlikely(pi_is_deadlock(mutex, waiter.thread))) {
            mutex_deadlock(mutex, waiter.thread);
        }
        pi_wait(&waiter);
        waiter.thread->wait_channel = mutex->name;
        result = mutex_sleep(mutex, &waiter, state, timeout);
        set_current_state(THREAD_RUNNING);
        waiter.thread->wait_channel = NULL;
        if (result != 0) {
            pi_leave(&waiter);
        }
    }
    spin_unlock_irq(&pi_lock);
    return result;
}

// The lock validator's word before the mutex is waited for: false when the thread has it already,
// which was reported, and to which as many unlocks belong.
static inline bool mutex_may_wait(struct mutex *mutex, bool tried, const void *at)
{
    return !police_watches() ||
           !lockdep_acquire(mutex, &mutex->class, mutex->name, LOCK_MUTEX, tried, at);
}

static inline bool mutex_may_go(struct mutex *mutex, const void *at)
{
    return !police_watches() || lockdep_release(mutex, mutex->class, at);
}

static inline __attribute__((always_inline)) int
mutex_lock_common(struct mutex *mutex, enum thread_state state, uint32_t timeout)
{
    might_sleep();
    if (unlikely(!mutex_may_wait(mutex, false, __builtin_return_address(0)))) {
        return 0;
    }
    if (likely(mutex_exchange(mutex, NULL, current))) {
        return 0;
    }
    if (mutex_owner(mutex) == current) {
        // Waiting for oneself never ends. It has what it asked for, so it may go on; its two
        // unlocks will not match.
        mutex_bug(mutex, "locks what it has locked already");
        return 0;
    }
    int result = mutex_wait(mutex, state, timeout);
    if (result != 0) {
        mutex_may_go(mutex, __builtin_return_address(0));
    }
    return result;
}

void mutex_lock(struct mutex *mutex)
{
    mutex_lock_common(mutex, THREAD_BLOCKED, MAX_SCHEDULE_TIMEOUT);
}

int mutex_lock_interruptible(struct mutex *mutex)
{
    return mutex_lock_common(mutex, THREAD_SLEEPING, MAX_SCHEDULE_TIMEOUT);
}

int mutex_lock_timeout(struct mutex *mutex, uint32_t timeout_jiffies)
{
    return mutex_lock_common(mutex, THREAD_BLOCKED, timeout_jiffies);
}

bool mutex_trylock(struct mutex *mutex)
{
    police_context(CTX_THREAD | CTX_ATOMIC);
    if (!mutex_exchange(mutex, NULL, current)) {
        return false;
    }
    mutex_may_wait(mutex, true, __builtin_return_address(0));
    return true;
}

// Gives the mutex to the best waiter, or frees it when all have given up. What we borrowed for it
// we give back, so a better thread may run when pi_lock is released.
static void mutex_hand_over(struct mutex *mutex)
{
    struct thread *next;
    unsigned long flags;

    spin_lock_irqsave(&pi_lock, flags);
    next = pi_hand_over(mutex);
    mutex_set(mutex, next, !list_empty(&mutex->waiters));
    if (next != NULL) {
        sched_wake_atomic(next);
    }
    spin_unlock_irqrestore(&pi_lock, flags);
}

void mutex_unlock(struct mutex *mutex)
{
    police_context(CTX_THREAD | CTX_ATOMIC);
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

void mutex_priority_changed(struct thread *thread)
{
    unsigned long flags;

    spin_lock_irqsave(&pi_lock, flags);
    pi_priority_changed(thread);
    spin_unlock_irqrestore(&pi_lock, flags);
}
