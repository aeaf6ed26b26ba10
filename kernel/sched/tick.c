// The scheduler's part of the tick: 250 times a second a CPU that is not idle books the time that
// its thread has had, and asks whether that was the thread's slice.
//
// Context: hard irq.
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/thread.h>

#include "internal.h"

void sched_tick(void)
{
    lockdep_assert_irqs_disabled();
    struct run_queue *queue = this_cpu(run_queues);

    spin_lock(&queue->lock);
    uint64_t now = rdtsc();
    run_queue_charge(queue, now);
    if (run_queue_tick(queue, now) ||
        (queue->running == queue->idle && place_in(&sched_waiting_mask, &sched_mask) < MAX_CPUS)) {
        cpu_self()->want_resched = true;
    }
    bool balance = sched_balance_due(queue);
    queue_note_empty(queue);
    spin_unlock(&queue->lock);
    if (balance) {
        sched_raise_balance();
    }
    sleep_tick();
}

void (*sched_tick_restart)(void);
void (*sched_update_jiffies)(void);

bool sched_can_stop_tick(void)
{
    lockdep_assert_irqs_disabled();
    const struct run_queue *queue = this_cpu(run_queues);

    return queue->running == queue->idle && READ_ONCE(queue->waiting) == 0 &&
           !cpu_field(want_resched);
}
