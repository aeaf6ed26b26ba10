// "It has happened": a one-way event that any context may signal and threads wait for.
// Context: any, where a line does not say otherwise.
#pragma once

#include <sched/wait.h>

struct completion {
    uint32_t done; // L of the queue
    struct wait_queue_head queue;
};

void init_completion(struct completion *c);
void reinit_completion(struct completion *c);
void complete(struct completion *c);     // releases one waiter; context: any
void complete_all(struct completion *c); // releases everyone, now and later
// Context: thread.
void wait_for_completion(struct completion *c);
// The same, of a disk: while the thread's CPU has nothing else to do, that is iowait. Context: thread.
void wait_for_completion_io(struct completion *c);
// Jiffies left (at least 1), 0: timed out. Context: thread.
uint32_t wait_for_completion_timeout(struct completion *c, uint32_t timeout_jiffies);
// For those to whom the wait is their ordinary life: THREAD_IDLE. 0, or -EINTR if the state is
// THREAD_SLEEPING. Context: thread.
int wait_for_completion_state(struct completion *c, enum thread_state state);
// 0 or -EINTR. Context: thread.
int wait_for_completion_interruptible(struct completion *c);
