// What others ask of the scheduler: a thread's class, its share, its CPUs; and the counts for
// /proc.
//
// A thread is changed where it is found, under the lock of the queue it belongs to: on a list it is
// taken off, changed, and put back in its new place; running it is told to look again; asleep it
// finds everything changed when it wakes.
//
// Context: setting thread, counts any.
#include <lib/errno.h>
#include <core/cpu.h>
#include <sched/thread.h>

#include "internal.h"
#include "pi.h"

static void sched_requeue_after(struct thread *thread, struct run_queue *queue)
{
    run_queue_add(queue, thread, false);
    queue_note_waiting(queue);
    if (run_queue_preempts(queue, thread)) {
        queue_kick(queue->cpu);
    }
}

// A thread is changed wherever it is: off the lists, changed, and back in its new place. These two
// stand around the change.
static bool sched_change_begin(struct run_queue *queue, struct thread *thread)
{
    bool linked = !list_empty(&thread->queue_link);

    if (linked) {
        run_queue_remove(queue, thread);
    }
    if (queue->running == thread) { // in the old class until now
        run_queue_charge(queue, rdtsc());
    }
    return linked;
}

static void sched_change_end(struct run_queue *queue, struct thread *thread, bool linked,
                             bool was_rt)
{
    if (was_rt && !thread_is_rt(thread)) {
        thread->vruntime = queue->min_vruntime; // no credit for the time in another class
    }
    if (linked) {
        sched_requeue_after(thread, queue);
    } else if (queue->running == thread && queue->waiting != 0) {
        queue_kick(queue->cpu); // it may now be worse than one that waits
    }
}

static void sched_set(struct thread *thread, enum sched_policy policy, unsigned priority, int nice)
{
    unsigned long flags;
    struct run_queue *queue = queue_lock_of(thread, &flags);
    bool was_rt = thread_is_rt(thread), linked = sched_change_begin(queue, thread);

    thread_set_class(thread, policy, priority, nice);
    sched_change_end(queue, thread, linked, was_rt);
    queue_unlock_of(queue, flags);
    mutex_priority_changed(thread);
}

void sched_set_boost(struct thread *thread, unsigned boost)
{
    unsigned long flags;
    struct run_queue *queue = queue_lock_of(thread, &flags);
    bool was_rt = thread_is_rt(thread), linked = sched_change_begin(queue, thread);

    thread_set_boost(thread, boost);
    sched_change_end(queue, thread, linked, was_rt);
    queue_unlock_of(queue, flags);
}

int sched_setscheduler(struct thread *thread, enum sched_policy policy, int rt_priority)
{
    might_sleep();
    switch (policy) {
    case SCHED_FIFO:
    case SCHED_RR:
        if (rt_priority < 1 || rt_priority >= RT_PRIORITIES) {
            return -EINVAL;
        }
        break;
    case SCHED_OTHER:
    case SCHED_IDLE:
        if (rt_priority != 0) {
            return -EINVAL;
        }
        break;
    default:
        return -EINVAL;
    }
    if (thread->tid == 0) { // an idle thread is in no class
        return -EINVAL;
    }
    sched_set(thread, policy, (unsigned)rt_priority, thread->nice);
    return 0;
}

void sched_set_nice(struct thread *thread, int nice)
{
    might_sleep();
    nice = max(-20, min(nice, 19));
    sched_set(thread, thread->policy, thread->rt_priority, nice);
}

int sched_setaffinity(struct thread *thread, const struct cpumask *mask)
{
    unsigned long flags;
    struct run_queue *queue;

    police_might_sleep();
    if (thread->tid == 0 || thread->bound || place_in(&sched_mask, mask) >= MAX_CPUS) {
        return -EINVAL;
    }
    queue = queue_lock_of(thread, &flags);
    bool here = cpumask_test(mask, queue->cpu);
    thread->misplaced = !here; // first: who looks sees one or the other
    barrier();
    thread->allowed = *mask;
    if (here) {
        queue_unlock_of(queue, flags);
        return 0;
    }
    if (!list_empty(&thread->queue_link)) {
        run_queue_remove(queue, thread);
        preempt_disable();
        queue_release_and_insert(queue, thread, place_moved(thread));
        local_irq_restore(flags);
        preempt_enable();
        return 0;
    }
    if (queue->running == thread) {
        queue_kick(queue->cpu); // queue_put_current() sends it away
    }
    queue_unlock_of(queue, flags);
    return 0;
}

uint64_t sched_context_switches(void)
{
    uint64_t sum = 0;

    for_each_cpu (cpu, &sched_mask) {
        sum += READ_ONCE(run_queues[cpu]->switches);
    }
    return sum;
}

unsigned sched_running(void)
{
    unsigned sum = 0;

    for_each_cpu (cpu, &sched_mask) {
        sum += READ_ONCE(run_queues[cpu]->waiting) +
               (READ_ONCE(run_queues[cpu]->running) != run_queues[cpu]->idle);
    }
    return sum;
}

unsigned sched_blocked(void)
{
    unsigned sum = 0;

    for_each_cpu (cpu, &sched_mask) {
        sum += READ_ONCE(run_queues[cpu]->asleep[THREAD_BLOCKED]) +
               READ_ONCE(run_queues[cpu]->asleep[THREAD_IOWAIT]);
    }
    return (int)sum > 0 ? sum : 0; // the queues are read one after another
}

unsigned sched_iowait(void)
{
    unsigned sum = 0;

    for_each_cpu (cpu, &sched_mask) {
        sum += READ_ONCE(run_queues[cpu]->asleep[THREAD_IOWAIT]);
    }
    return sum;
}
