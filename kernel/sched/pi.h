// Priority inheritance: who waits for a mutex lends its realtime priority to the owner. Pure: lists
// and numbers, tested on the host. Context: mutex.c's lock is held, interrupts off.
#pragma once

#include <sched/mutex.h>
#include <sched/thread.h>

enum { PI_CHAIN_MAX = 64 }; // steps of a walk along a chain of waiters and owners

// A thread that waits for a mutex; lies on its stack.
struct mutex_waiter {
    struct thread *thread;
    struct mutex *mutex;
    struct list_head link; // of mutex->waiters: the best first, equals as they came
};

// Begins to wait for a mutex that has an owner.
void pi_wait(struct mutex_waiter *waiter);
// Gives up.
void pi_leave(struct mutex_waiter *waiter);
// The owner lets go: the best waiter is taken off and is the owner now; NULL when nobody waits.
struct thread *pi_hand_over(struct mutex *mutex);
// The thread's own priority has changed.
void pi_priority_changed(struct thread *thread);
// Does the owner of this mutex wait, directly or through others, for `thread`?
bool pi_is_deadlock(const struct mutex *mutex, const struct thread *thread);

// policy.c (tests bring their own): makes the loan take effect wherever the thread is.
void sched_set_boost(struct thread *thread, unsigned boost);
