// The tick: 250 times a second each CPU books the time that has passed, and asks whether the thread
// that runs has had its slice.
//
// Context: hard irq.
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/thread.h>

#include "internal.h"

// Shares out the time since this CPU's last tick to what the tick interrupted.
static void sched_account(struct run_queue *queue, uint64_t now_ns)
{
    enum cpu_time what = CPU_SYSTEM;

    if (cpu_field(irq_depth) > 1) {
        what = CPU_IRQ;
    } else if (cpu_field(serving_softirq)) {
        what = CPU_SOFTIRQ;
    } else if (queue->running == queue->idle) {
        what = CPU_IDLE;
    } else if (cpu_field(from_user)) {
        what = CPU_USER;
    }
    if (queue->tick_ns != 0 && now_ns > queue->tick_ns) {
        queue->time_ns[what] += now_ns - queue->tick_ns;
    }
    queue->tick_ns = now_ns;
}

void sched_tick(void)
{
    struct run_queue *queue = this_cpu(run_queues);
    struct thread *thread;
    uint64_t now_ns = clock_ns();

    spin_lock(&queue->lock);
    thread = queue->running;
    sched_account(queue, now_ns);
    queue_charge(queue, thread, now_ns);
    if (thread == queue->idle) {
        if (queue->waiting != 0 || place_in(&sched_waiting_mask, &sched_mask) < MAX_CPUS) {
            cpu_self()->want_resched = true;
        }
    } else if (thread->policy != SCHED_FIFO) {
        if (thread->slice_ticks != 0) {
            thread->slice_ticks--;
        }
        if (thread->slice_ticks == 0 && queue->waiting != 0) {
            cpu_self()->want_resched = true;
        }
    }
    sched_balance(queue);
    queue_note_empty(queue);
    spin_unlock(&queue->lock);
    sleep_tick();
    if (queue->cpu == 0) {
        load_tick();
    }
}
