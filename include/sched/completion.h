// "It has happened": a one-way event that any context may signal and threads wait for.
// Context: any, where a line does not say otherwise.
#pragma once

#include <sched/wait.h>

struct completion {
    uint32_t done;    // L of the queue
    uint16_t class;   // A: which kind this is, for the lock validator
    const char *name; // I: where it was made: that is its kind
    struct wait_queue_head queue;
};

#define COMPLETION_LINE_(line) #line
#define COMPLETION_LINE(line)  COMPLETION_LINE_(line)
#define init_completion(c)     init_completion_at(c, __FILE_NAME__ ":" COMPLETION_LINE(__LINE__))
static inline void init_completion_at(struct completion *c, const char *name)
{
    c->done = 0;
    c->class = 0;
    c->name = name;
    init_waitqueue_head(&c->queue, "completion");
}
void reinit_completion(struct completion *c);
void complete(struct completion *c);     // releases one waiter; context: any
void complete_all(struct completion *c); // releases everyone, now and later
// Context: thread.
void wait_for_completion(struct completion *c);
// The same, of a disk: while the thread's CPU has nothing else to do, that is iowait. Context:
// thread.
void wait_for_completion_io(struct completion *c);
// Jiffies left (at least 1), 0: timed out. Context: thread.
uint32_t wait_for_completion_timeout(struct completion *c, uint32_t timeout_jiffies);
// For those to whom the wait is their ordinary life: THREAD_IDLE. 0, or -EINTR if the state is
// THREAD_SLEEPING. Context: thread.
int wait_for_completion_state(struct completion *c, enum thread_state state);
// 0 or -EINTR. Context: thread.
int wait_for_completion_interruptible(struct completion *c);
