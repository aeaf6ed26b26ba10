// A lock to sleep on. Context: thread only, never in an interrupt or softirq.
#pragma once

#include <sched/wait.h>

struct mutex {
    struct thread *owner; // A
    struct wait_queue_head waiters;
    const char *name; // I
    uint16_t class;   // A: which kind of lock this is, for the lock validator
};

#define MUTEX_INIT(name_)                                           \
    {                                                               \
        .waiters = WAIT_QUEUE_INIT((name_).waiters), .name = #name_ \
    }
#define DEFINE_MUTEX(name_) struct mutex name_ = MUTEX_INIT(name_)
void mutex_init(struct mutex *mutex, const char *name);
void mutex_lock(struct mutex *mutex);              // taking it twice is a BUG with a backtrace
int mutex_lock_interruptible(struct mutex *mutex); // 0 or -EINTR
bool mutex_trylock(struct mutex *mutex);
void mutex_unlock(struct mutex *mutex);
