// Spreads the threads over the CPUs: one that would idle takes from the others (sched.c asks), and
// a busy one compares its queue with theirs now and then (tick.c asks).
//
// Context: the own queue's lock is held, interrupts off.
#include <core/cpu.h>
#include <sched/thread.h>

#include "internal.h"

enum {
    BALANCE_TICKS = 16,     // how often a busy CPU compares its queue with the others'
    BALANCE_DIFFERENCE = 2, // and takes a thread from one that is this much longer
};

// Something from another CPU's queue, for a CPU that would idle. Holds its own queue's lock, so it
// only tries the others'; who is missed now is found at the next tick.
static struct thread *queue_steal(struct run_queue *to, unsigned from_cpu)
{
    struct run_queue *from = run_queues[from_cpu];
    struct thread *thread;

    if (from == to || READ_ONCE(from->waiting) == 0 || !spin_trylock(&from->lock)) {
        return NULL;
    }
    thread = run_queue_take_for(from, to->cpu);
    if (thread != NULL) {
        thread->cpu = (uint16_t)to->cpu;
        run_queue_place_moved(to, thread, from->min_vruntime);
    }
    spin_unlock(&from->lock);
    return thread;
}

struct thread *queue_steal_any(struct run_queue *to)
{
    struct thread *thread = NULL;

    for (unsigned cpu = place_in(&sched_waiting_mask, &sched_mask); cpu < MAX_CPUS && !thread;
         cpu = cpumask_next(&sched_waiting_mask, cpu + 1)) {
        thread = queue_steal(to, cpu);
    }
    return thread;
}

// A longer queue elsewhere gives one of its waiting threads to this one.
void sched_balance(struct run_queue *queue)
{
    if (++queue->balance_ticks < BALANCE_TICKS) {
        return;
    }
    queue->balance_ticks = 0;
    for_each_cpu (cpu, &sched_waiting_mask) {
        if (READ_ONCE(run_queues[cpu]->waiting) >= queue->waiting + BALANCE_DIFFERENCE) {
            struct thread *thread = queue_steal(queue, cpu);
            if (thread != NULL) {
                run_queue_add(queue, thread, false);
                queue_note_waiting(queue);
                cpu_self()->want_resched |= run_queue_preempts(queue, thread);
                return;
            }
        }
    }
}

// Threads wait here while other CPUs sleep without a tick, in which they would find them: wakes one
// of those, which takes a thread if it may.
void sched_kick_sleeping(const struct run_queue *queue)
{
    if (queue->waiting == 0 || queue->running == queue->idle) {
        return;
    }
    for_each_cpu (cpu, &sched_idle_mask) {
        if (READ_ONCE(cpus[cpu].tick_stopped) && run_queue_find_for(queue, cpu) != NULL) {
            queue_kick(cpu);
            return;
        }
    }
}
