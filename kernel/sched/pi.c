// Priority inheritance. The trouble that it ends, with three threads on one CPU:
//
//   high    (FIFO 50)       waits for the mutex
//   middle  (FIFO 20)       computes, and computes
//   low     (OTHER)         owns the mutex, and never runs: middle has the CPU. So high waits for
//                           middle, which has nothing to do with it
//
// So while high waits, low runs with high's priority:
//
//   a thread's loan = the best of those who wait for any of the mutexes that it owns
//
// which may be borrowed itself: an owner that waits for another mutex passes it on. A walk along
// such a chain stops where nothing changes, which is nearly always at once. When the owner lets go,
// the new owner borrows from those who are left, and the old one gives back.
//
//   high ──waits──> mutex A ──owned by──> low ──waits──> mutex B ──owned by──> lowest
//    50                                   50                                    50
//
// A mutex is on its owner's list only while somebody waits for it; the others need no books.
#include <lib/list.h>

#include "pi.h"

static struct mutex_waiter *pi_first(const struct mutex *mutex)
{
    return list_first_entry(&mutex->waiters, struct mutex_waiter, link);
}

// Behind those that are better or as good.
static void pi_enqueue(struct mutex_waiter *waiter)
{
    struct list_head *waiters = &waiter->mutex->waiters, *after = waiters->prev;
    unsigned priority = waiter->thread->rt_effective;

    while (after != waiters &&
           list_entry(after, struct mutex_waiter, link)->thread->rt_effective < priority) {
        after = after->prev;
    }
    list_add(&waiter->link, after);
}

static unsigned pi_best_loan(const struct thread *thread)
{
    const struct mutex *mutex;
    unsigned best = 0;

    list_for_each_entry (mutex, &thread->pi_owned, owned_link) {
        best = max(best, (unsigned)pi_first(mutex)->thread->rt_effective);
    }
    return best;
}

// What the thread borrows may have changed, and with that what those borrow for whom it waits.
static void pi_adjust(struct thread *thread)
{
    for (unsigned step = 0; step < PI_CHAIN_MAX; step++) {
        unsigned loan = pi_best_loan(thread), before = thread->rt_effective;
        struct mutex_waiter *waiter = thread->pi_waiter;

        if (loan != thread->rt_boost) {
            sched_set_boost(thread, loan);
        }
        if (waiter == NULL || thread->rt_effective == before) {
            return;
        }
        list_del(&waiter->link);
        pi_enqueue(waiter);
        thread = mutex_owner(waiter->mutex);
    }
}

void pi_wait(struct mutex_waiter *waiter)
{
    struct mutex *mutex = waiter->mutex;
    struct thread *owner = mutex_owner(mutex);

    if (list_empty(&mutex->waiters)) {
        list_add(&mutex->owned_link, &owner->pi_owned);
    }
    pi_enqueue(waiter);
    waiter->thread->pi_waiter = waiter;
    pi_adjust(owner);
}

void pi_leave(struct mutex_waiter *waiter)
{
    struct mutex *mutex = waiter->mutex;

    list_del_init(&waiter->link);
    waiter->thread->pi_waiter = NULL;
    if (list_empty(&mutex->waiters)) {
        list_del_init(&mutex->owned_link);
    }
    pi_adjust(mutex_owner(mutex));
}

struct thread *pi_hand_over(struct mutex *mutex)
{
    struct thread *before = mutex_owner(mutex), *after;
    struct mutex_waiter *waiter;

    if (list_empty(&mutex->waiters)) {
        return NULL;
    }
    waiter = pi_first(mutex);
    after = waiter->thread;
    list_del_init(&waiter->link);
    after->pi_waiter = NULL;
    list_del_init(&mutex->owned_link);
    pi_adjust(before);
    if (!list_empty(&mutex->waiters)) {
        list_add(&mutex->owned_link, &after->pi_owned);
        pi_adjust(after);
    }
    return after;
}

void pi_priority_changed(struct thread *thread)
{
    struct mutex_waiter *waiter = thread->pi_waiter;

    if (waiter != NULL) {
        list_del(&waiter->link);
        pi_enqueue(waiter);
        pi_adjust(mutex_owner(waiter->mutex));
    }
}

bool pi_is_deadlock(const struct mutex *mutex, const struct thread *thread)
{
    for (unsigned step = 0; step < PI_CHAIN_MAX; step++) {
        const struct thread *owner = mutex_owner(mutex);

        if (owner == thread) {
            return true;
        }
        if (owner == NULL || owner->pi_waiter == NULL) {
            return false;
        }
        mutex = owner->pi_waiter->mutex;
    }
    return false;
}
