// A lock to sleep on, whose owner inherits the realtime priority of those who wait for it
// (kernel/sched/pi.c). Context: thread, never an interrupt or softirq.
#pragma once

#include <lib/list.h>
#include <lib/types.h>
#include <sched/wait.h>

struct mutex {
    struct thread *owner;        // A: bit 0: somebody may be waiting
    struct list_head waiters;    // L of mutex.c: struct mutex_waiter, the best first
    struct list_head owned_link; // L of mutex.c: of its owner's pi_owned, while somebody waits
    const char *name;            // I
    uint16_t class;              // A: which kind of lock this is, for the lock validator
};

#define MUTEX_INIT(name_)                                                \
    {                                                                    \
        .waiters = LIST_HEAD_INIT((name_).waiters),                      \
        .owned_link = LIST_HEAD_INIT((name_).owned_link), .name = #name_ \
    }
#define DEFINE_MUTEX(name_) struct mutex name_ = MUTEX_INIT(name_)
void mutex_init(struct mutex *mutex, const char *name); // Context: any
void mutex_lock(struct mutex *mutex);                   // taking it twice is a BUG with a backtrace
int mutex_lock_interruptible(struct mutex *mutex);      // 0 or -EINTR
int mutex_lock_timeout(struct mutex *mutex, uint32_t timeout_jiffies); // 0 or -ETIMEDOUT
// Neither sleeps. Context: thread or atomic.
bool mutex_trylock(struct mutex *mutex);
void mutex_unlock(struct mutex *mutex);

// Who has it; NULL when it is free. It may be another one the moment after. Context: any.
#define MUTEX_WAITED ((uintptr_t)1)
static inline struct thread *mutex_owner(const struct mutex *mutex)
{
    uintptr_t value = (uintptr_t)__atomic_load_n(&mutex->owner, __ATOMIC_RELAXED);

    return (struct thread *)(value & ~MUTEX_WAITED);
}
