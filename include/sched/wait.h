// Wait queues: threads that sleep until a condition, which somebody else makes true, holds. The
// macros close the classic hole (condition becomes true between the test and the sleep) by queueing
// first, then testing.
// Context: any, where a line does not say otherwise.
#pragma once

#include <core/spinlock.h>
#include <lib/errno.h>
#include <lib/list.h>
#include <sched/thread.h>

struct wait_queue_head {
    struct spinlock lock;
    struct list_head entries; // L
};

struct wait_queue_entry {
    struct thread *thread;
    struct list_head link;
    bool exclusive; // woken one at a time
};
// An entry of the running thread, on no queue.
#define DEFINE_WAIT(name) \
    struct wait_queue_entry name = {.thread = current, .link = LIST_HEAD_INIT((name).link)}

#define WAIT_QUEUE_INIT(name)                                                   \
    {                                                                           \
        .lock = SPINLOCK_INIT(#name), .entries = LIST_HEAD_INIT((name).entries) \
    }
#define DECLARE_WAIT_QUEUE_HEAD(name) struct wait_queue_head name = WAIT_QUEUE_INIT(name)
static inline void init_waitqueue_head(struct wait_queue_head *queue, const char *name)
{
    spin_lock_init(&queue->lock, name);
    INIT_LIST_HEAD(&queue->entries);
}

// Wake one exclusive waiter and all others. Context: any.
void wake_up(struct wait_queue_head *queue);
void wake_up_all(struct wait_queue_head *queue);
bool waitqueue_active(struct wait_queue_head *queue);

// Steps of the macros below. Context: thread, interrupts on.
void prepare_to_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry,
                     enum thread_state state);
void wait_entry_remove(struct wait_queue_head *queue, struct wait_queue_entry *entry);
#ifdef HOST_TEST // tests bring their own
void finish_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry);
#else
static inline void finish_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry)
{
    struct thread *thread = current;

    WRITE_ONCE(thread->state, THREAD_RUNNING);
    thread->wait_channel = NULL;
    // The waker's last store (kernel/sched/wait.c): most often it took the entry off.
    if (unlikely(__atomic_load_n(&entry->link.prev, __ATOMIC_ACQUIRE) != &entry->link)) {
        wait_entry_remove(queue, entry);
    }
}
#endif
// Sleeps until woken or until the timeout; returns the jiffies left (0: timed out).
// MAX_SCHEDULE_TIMEOUT: no bound. Context: thread.
#define MAX_SCHEDULE_TIMEOUT UINT32_MAX
uint32_t schedule_timeout(uint32_t timeout_jiffies);
static inline uint32_t schedule_timeout_in_line(uint32_t timeout_jiffies)
{
    if (__builtin_constant_p(timeout_jiffies) && timeout_jiffies == MAX_SCHEDULE_TIMEOUT) {
        schedule();
        return MAX_SCHEDULE_TIMEOUT;
    }
    return schedule_timeout(timeout_jiffies);
}

#define wait_event_common(queue, condition, state_, timeout_jiffies, interruptible) \
    ({                                                                              \
        long wait_result_ = 1;                                                      \
        uint32_t wait_left_ = (timeout_jiffies);                                    \
        might_sleep();                                                              \
        if (!(condition)) {                                                         \
            DEFINE_WAIT(wait_entry_);                                               \
            for (;;) {                                                              \
                prepare_to_wait(queue, &wait_entry_, state_);                       \
                if (condition) {                                                    \
                    break;                                                          \
                }                                                                   \
                if ((interruptible) && thread_interrupted()) {                      \
                    wait_result_ = -EINTR;                                          \
                    break;                                                          \
                }                                                                   \
                if (wait_left_ == 0) {                                              \
                    wait_result_ = 0;                                               \
                    break;                                                          \
                }                                                                   \
                wait_left_ = schedule_timeout_in_line(wait_left_);                  \
                if (condition) { /* the usual end: no need to queue again */        \
                    break;                                                          \
                }                                                                   \
            }                                                                       \
            finish_wait(queue, &wait_entry_);                                       \
        }                                                                           \
        wait_result_;                                                               \
    })

// Waits for ever (state D). For what our own code is sure to do; anything that depends on a device
// has a timeout.
#define wait_event(queue, condition) \
    ((void)wait_event_common(queue, condition, THREAD_BLOCKED, MAX_SCHEDULE_TIMEOUT, false))
// The same, for what a disk is to do: while the thread's CPU has nothing else to do, that is
// iowait.
#define io_wait_event(queue, condition) \
    ((void)wait_event_common(queue, condition, THREAD_IOWAIT, MAX_SCHEDULE_TIMEOUT, false))
// 1 when the condition holds, 0 when timeout_jiffies passed first.
#define wait_event_timeout(queue, condition, timeout_jiffies) \
    wait_event_common(queue, condition, THREAD_BLOCKED, timeout_jiffies, false)
// 1, or -EINTR after thread_interrupt() / kthread_stop().
#define wait_event_interruptible(queue, condition) \
    wait_event_common(queue, condition, THREAD_SLEEPING, MAX_SCHEDULE_TIMEOUT, true)
#define wait_event_interruptible_timeout(queue, condition, timeout_jiffies) \
    wait_event_common(queue, condition, THREAD_SLEEPING, timeout_jiffies, true)
