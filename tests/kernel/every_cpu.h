// Runs a function on every online CPU at once, a thread each, and waits until all are done.
#pragma once

#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <sched/thread.h>

struct every_cpu {
    struct ktest_run *ktest;
    unsigned cpu, seed;
    void *arg;
    void (*fn)(struct every_cpu *self);
    struct completion done;
    struct thread *thread;
};

static inline void every_cpu_thread(void *arg)
{
    struct every_cpu *self = arg;

    self->fn(self);
    complete(&self->done);
}

// A thread that hangs fails the test and is left behind with its memory.
static inline bool every_cpu_run(struct ktest_run *ktest, void (*fn)(struct every_cpu *self),
                                 void *arg)
{
    struct every_cpu *all = kcalloc(MAX_CPUS, sizeof(*all), GFP_KERNEL);
    bool good = all != NULL;

    for_each_online_cpu (cpu) {
        struct every_cpu *self = all == NULL ? NULL : &all[cpu];

        if (!good) {
            break;
        }
        *self = (struct every_cpu){
            .ktest = ktest, .cpu = cpu, .seed = cpu * 7919 + 1, .arg = arg, .fn = fn};
        init_completion(&self->done);
        self->thread = kthread_run_on(cpu, every_cpu_thread, self, "every/%u", cpu);
        good = self->thread != NULL;
    }
    for_each_online_cpu (cpu) {
        if (all != NULL && all[cpu].thread != NULL) {
            if (wait_for_completion_timeout(&all[cpu].done, 150 * HZ) == 0) {
                return false;
            }
            thread_join(all[cpu].thread);
        }
    }
    kfree(all);
    return good;
}

// Small, fast, the same every time (xorshift32).
static inline unsigned every_cpu_random(struct every_cpu *self)
{
    self->seed ^= self->seed << 13;
    self->seed ^= self->seed >> 17;
    self->seed ^= self->seed << 5;
    return self->seed;
}
