// /proc/loadavg: how many threads wanted a CPU, or waited for ever for something, averaged over 1,
// 5 and 15 minutes.
//
// Every five seconds of jiffies a sample is taken, which moves each average a little towards it:
// what is left of the past is e^(-5 s / period). The kernel's own threads that have nothing to do
// sleep interruptibly and so are not counted. When all CPUs have slept for longer nothing has
// changed in the meantime: the samples that were left out are all like the one that is taken now.
//
// Context: sched_load_tick hard irq, whoever advances jiffies, under his lock.
#include <contract/proc_file.h>
#include <core/clock.h>
#include <sched/thread.h>

#include "internal.h"
#include "loadavg.h"

enum { LOAD_PERIOD_TICKS = 5 * HZ };

static uint64_t load_averages[3]; // L of jiffies
static uint32_t load_next = INITIAL_JIFFIES + LOAD_PERIOD_TICKS;

void sched_load_tick(void)
{
    static const uint64_t left[3] = {LOAD_EXP_1, LOAD_EXP_5, LOAD_EXP_15};

    lockdep_assert_irqs_disabled();
    if (time_after(load_next, jiffies)) {
        return;
    }
    uint32_t samples = (jiffies - load_next) / LOAD_PERIOD_TICKS + 1;
    unsigned active = sched_running() + sched_blocked();

    load_next += samples * LOAD_PERIOD_TICKS;
    for (unsigned i = 0; i < ARRAY_SIZE(left); i++) {
        uint64_t before = load_averages[i] + 1;

        for (uint32_t n = 0; n < samples && before != load_averages[i]; n++) { // until it arrives
            before = load_averages[i];
            load_averages[i] = load_step(before, left[i], active);
        }
    }
}

void sched_load(unsigned hundredths[3])
{
    for (unsigned i = 0; i < ARRAY_SIZE(load_averages); i++) {
        hundredths[i] =
            (unsigned)((READ_ONCE(load_averages[i]) * 100 + LOAD_ONE / 2) >> LOAD_SHIFT);
    }
}

static void load_count(struct thread *thread, void *count)
{
    *(unsigned *)count += thread->tid != 0;
}

static void load_show(struct text *t, unsigned long index)
{
    unsigned threads = 0, load[3];

    (void)index;
    thread_for_each(load_count, &threads);
    sched_load(load);
    for (unsigned i = 0; i < ARRAY_SIZE(load); i++) {
        text_printf(t, "%u.%02u ", load[i] / 100, load[i] % 100);
    }
    text_printf(t, "%u/%u %llu\n", sched_running(), threads,
                (unsigned long long)sched_threads_created());
}

PROC_FILE("loadavg", load_show);
