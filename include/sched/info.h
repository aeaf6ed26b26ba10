// What may be told of a thread and of a run queue, for ps, top and /proc: copies, taken while the
// thread cannot go away.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/types.h>
#include <sched/thread.h>

struct thread_info {
    int tid;
    unsigned cpu;
    enum sched_policy policy;
    unsigned rt_priority;  // its own, 0 outside FIFO and RR
    unsigned rt_effective; // with what it borrows
    int nice;
    char state; // R S D I Z as in ps
    bool program;
    uint64_t runtime_ns;
    uint64_t started_ns; // since boot
    uint64_t switches, preemptions;
    const char *wait_channel; // a literal; NULL: it runs, or says nothing
    struct cpumask allowed;
    char name[16];
};

// Context: any, the thread held by the caller.
void thread_info(const struct thread *thread, struct thread_info *info);
// Linux's number: 0..98 for realtime 99..1, 100 + nice + 20 for the others; lower is better.
int thread_info_prio(const struct thread_info *info);
const char *sched_policy_name(enum sched_policy policy); // "SCHED_OTHER"

// The thread with this tid, with a reference for the caller (thread_put), or NULL. Context: any.
struct thread *thread_find(int tid);

// A copy of all threads but the idle ones, by tid; free it with kfree(). NULL: no memory.
// Context: thread.
struct thread_table {
    unsigned count;
    struct thread_info rows[];
};
struct thread_table *thread_table_copy(void);
