// The tick: 250 times a second a CPU that is not idle books the time that its thread has had, and
// asks whether that was the thread's slice.
//
// Context: hard irq.
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/thread.h>

#include "internal.h"

void sched_tick(void)
{
    struct run_queue *queue = this_cpu(run_queues);
    struct thread *thread;
    uint64_t now_ns = clock_ns();

    spin_lock(&queue->lock);
    thread = queue->running;
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
