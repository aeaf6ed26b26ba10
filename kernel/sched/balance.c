// Spreads the threads over the CPUs. Three ways lead from a queue where threads wait:
//
//   newly idle   a CPU that would idle takes one from another queue (sched.c asks, in the switch)
//   idle         CPUs that idle have no tick in which they would find anything: a busy CPU with
//                threads waiting wakes one of them, which then is newly idle
//   busy         a busy CPU compares its queue with the others' now and then, and takes from one
//                that is longer; a realtime thread that waits elsewhere, while an ordinary one runs
//                here, is taken at the next tick
//
// The last two run in SCHED softirq, which the tick raises when there may be something to do: the
// tick itself, with interrupts off, only looks at a few numbers.
//
// Context: as each function says.
#include <core/cpu.h>
#include <sched/thread.h>

#include "internal.h"

enum {
    BALANCE_TICKS = 16,     // how often a busy CPU compares its queue with the others'
    BALANCE_DIFFERENCE = 2, // and takes a thread from one that is this much longer
};

void (*sched_raise_balance)(void);

// Something from another CPU's queue. Holds its own queue's lock, so it only tries the others'; who
// is missed now is found at the next tick.
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
        to->stolen++;
    }
    spin_unlock(&from->lock);
    return thread;
}

// For a CPU that would idle: its queue's lock is held, interrupts off.
struct thread *queue_steal_any(struct run_queue *to)
{
    struct thread *thread = NULL;

    for (unsigned cpu = place_in(&sched_waiting_mask, &sched_mask); cpu < MAX_CPUS && !thread;
         cpu = cpumask_next(&sched_waiting_mask, cpu + 1)) {
        thread = queue_steal(to, cpu);
    }
    return thread;
}

static bool queue_has_rt(const struct run_queue *queue)
{
    return (READ_ONCE(queue->rt_bits[0]) | READ_ONCE(queue->rt_bits[1])) != 0;
}

// Should `to`, which is busy, have one of the threads that wait on `from`?
static bool balance_wants(const struct run_queue *to, const struct run_queue *from)
{
    if (queue_has_rt(from) && !thread_is_rt(to->running) && !queue_has_rt(to)) {
        return true;
    }
    return READ_ONCE(from->waiting) >= to->waiting + BALANCE_DIFFERENCE;
}

static void balance_pull(struct run_queue *queue)
{
    for_each_cpu (cpu, &sched_waiting_mask) {
        if (cpu == queue->cpu || !balance_wants(queue, run_queues[cpu])) {
            continue;
        }
        struct thread *thread = queue_steal(queue, cpu);
        if (thread != NULL) {
            run_queue_add(queue, thread, false);
            queue_note_waiting(queue);
            cpu_self()->want_resched |= run_queue_preempts(queue, thread);
            return;
        }
    }
}

// Wakes one of those who idle, if there is something for it to take.
static void balance_wake_idle(struct run_queue *queue)
{
    if (queue->waiting == 0 || queue->running == queue->idle) {
        return;
    }
    for_each_cpu (cpu, &sched_idle_mask) {
        if (run_queue_find_for(queue, cpu) != NULL) {
            queue->pushed++;
            queue_kick(cpu);
            return;
        }
    }
}

// From the tick, under the queue's lock: is the softirq worth its while?
bool sched_balance_due(struct run_queue *queue)
{
    if (queue->waiting != 0 && place_in(&sched_idle_mask, &sched_mask) < MAX_CPUS) {
        return true;
    }
    for_each_cpu (cpu, &sched_waiting_mask) {
        if (cpu != queue->cpu && queue_has_rt(run_queues[cpu]) && !thread_is_rt(queue->running)) {
            return true;
        }
    }
    if (++queue->balance_ticks < BALANCE_TICKS) {
        return false;
    }
    queue->balance_ticks = 0;
    return place_in(&sched_waiting_mask, &sched_mask) < MAX_CPUS;
}

void sched_balance_softirq(void)
{
    assert_in_softirq();
    struct run_queue *queue = this_cpu(run_queues);
    unsigned long flags;

    spin_lock_irqsave(&queue->lock, flags);
    queue->balances++;
    balance_pull(queue);
    balance_wake_idle(queue);
    spin_unlock_irqrestore(&queue->lock, flags);
}
