// From asleep to runnable: where a woken thread should run, and how it gets on that CPU's queue.
//
// A thread that wakes goes, in this order: to the CPU where it ran last if that is idle (its data
// is in that cache); to another idle one; else to where it ran last, and waits its turn there.
// Between two queues it is on neither, and in the hands of one caller: sched.c tells the rules.
//
// Context: any, as each function says. Previous: wait.c. Next: sched.c.
#include <core/cpu.h>
#include <core/trace.h>
#include <irq/ipi.h>
#include <sched/thread.h>

#include "internal.h"

// ---- queues ------------------------------------------------------------------------------------

// The thread moved while we waited for the lock of the queue where it was.
static __noinline struct run_queue *queue_lock_moved(struct thread *thread, struct run_queue *queue)
{
    while (thread->cpu != queue->cpu) {
        spin_unlock_irqs_off(&queue->lock);
        queue = run_queues[READ_ONCE(thread->cpu)];
        spin_lock_irqs_off(&queue->lock);
    }
    return queue;
}

// The queue that a thread belongs to, locked. Interrupts are off.
static __always_inline struct run_queue *queue_lock_found(struct thread *thread)
{
    struct run_queue *queue = run_queues[READ_ONCE(thread->cpu)];

    spin_lock_irqs_off(&queue->lock);
    if (likely(thread->cpu == queue->cpu)) {
        return queue;
    }
    return queue_lock_moved(thread, queue);
}

struct run_queue *queue_lock_of(struct thread *thread, unsigned long *flags)
{
    *flags = local_irq_save();
    return queue_lock_found(thread);
}

// Releases it; switches at once if that is wanted, and possible where we are.
void queue_unlock_of(struct run_queue *queue, unsigned long flags)
{
    preempt_disable();
    spin_unlock_irqs_off(&queue->lock);
    local_irq_restore(flags);
    preempt_enable();
}

void queue_note_empty(struct run_queue *queue)
{
    if (queue->waiting == 0 && queue->noted_waiting) {
        queue->noted_waiting = false;
        cpumask_clear(&sched_waiting_mask, queue->cpu);
    }
}

// ---- placement ---------------------------------------------------------------------------------

static __noinline unsigned place_beyond(const struct cpumask *set, const struct cpumask *allowed)
{
    for (unsigned word = 1; word * 64 < cpu_count; word++) {
        uint64_t bits = READ_ONCE(set->bits[word]) & allowed->bits[word];
        if (bits != 0) {
            return word * 64 + (unsigned)__builtin_ctzll(bits);
        }
    }
    return MAX_CPUS;
}

// The first CPU of a set among those allowed. Most machines have one word of CPUs.
static inline unsigned place_first(const struct cpumask *set, const struct cpumask *allowed)
{
    uint64_t first = READ_ONCE(set->bits[0]) & allowed->bits[0];

    if (first != 0) {
        return (unsigned)__builtin_ctzll(first);
    }
    return unlikely(cpu_count > 64) ? place_beyond(set, allowed) : MAX_CPUS;
}

unsigned place_in(const struct cpumask *set, const struct cpumask *allowed)
{
    return place_first(set, allowed);
}

// An idle CPU among those allowed, which is then no longer free for others: of several threads
// woken together each gets his own. sched_idle() offers the CPU again if nothing came of it.
static inline unsigned place_idle(const struct cpumask *allowed)
{
    unsigned cpu = place_first(&sched_idle_mask, allowed);

    if (cpu < MAX_CPUS) {
        cpumask_clear(&sched_idle_mask, cpu);
    }
    return cpu;
}

// The CPU with the shortest queue among those allowed.
static unsigned place_shortest(const struct cpumask *allowed)
{
    unsigned best = MAX_CPUS, best_length = ~0u;

    for_each_cpu (cpu, &sched_mask) {
        if (cpumask_test(allowed, cpu) && READ_ONCE(run_queues[cpu]->waiting) < best_length) {
            best = cpu;
            best_length = READ_ONCE(run_queues[cpu]->waiting);
        }
    }
    return best;
}

// Where a thread that wakes should run: where it ran last (its data is in that cache) if that CPU
// is idle, else on an idle one, else where it ran last. `queue` is that of its last CPU. MAX_CPUS:
// there.
static __always_inline unsigned place_woken(const struct run_queue *queue,
                                            const struct thread *thread)
{
    if (unlikely(thread->misplaced)) {
        return place_moved(thread);
    }
    if (queue->running == queue->idle && queue->waiting == 0) {
        return MAX_CPUS;
    }
    return place_idle(&thread->allowed);
}

// The same for one that is new or had to leave its CPU.
unsigned place_moved(const struct thread *thread)
{
    unsigned cpu = place_idle(&thread->allowed);

    return cpu < MAX_CPUS ? cpu : place_shortest(&thread->allowed);
}

// ---- waking ------------------------------------------------------------------------------------

// Makes sure that the queue's CPU looks at its queue again. Interrupts are off.
void queue_kick(unsigned cpu)
{
    if (cpu == cpu_id()) {
        cpu_self()->want_resched = true;
    } else {
        ipi_reschedule(cpu);
    }
}

// Puts a thread, which is on no queue and which the caller has in hand, on the queue that
// thread->cpu names. Called without a queue lock, interrupts off.
void queue_insert(struct thread *thread, uint64_t origin_vruntime)
{
    struct run_queue *queue = run_queues[thread->cpu];

    spin_lock_irqs_off(&queue->lock);
    while (unlikely(!cpumask_test(&thread->allowed, queue->cpu))) { // forbidden meanwhile
        thread->cpu = (uint16_t)place_shortest(&thread->allowed);
        spin_unlock_irqs_off(&queue->lock);
        queue = run_queues[thread->cpu];
        spin_lock_irqs_off(&queue->lock);
    }
    thread->misplaced = false;
    run_queue_place_moved(queue, thread, origin_vruntime);
    run_queue_place_woken(queue, thread);
    run_queue_add(queue, thread, false);
    queue_note_waiting(queue);
    bool preempts = run_queue_preempts(queue, thread);
    spin_unlock_irqs_off(&queue->lock); // from here on the thread may run, end and be freed
    if (preempts) {
        queue_kick(queue->cpu);
    }
}

// The same for a thread that leaves `queue`, whose lock the caller holds and which is released
// here. Interrupts are off, and preemption: the caller turns it on at the end.
void queue_release_and_insert(struct run_queue *queue, struct thread *thread, unsigned cpu)
{
    uint64_t origin = queue->min_vruntime;

    thread->cpu = (uint16_t)cpu;
    spin_unlock_irqs_off(&queue->lock);
    queue_insert(thread, origin);
}

// Where it ran last there is no place for it any more, or a better one elsewhere.
static __noinline void sched_wake_elsewhere(struct run_queue *queue, struct thread *thread,
                                            unsigned cpu)
{
    trace(TRACE_SCHED_WAKEUP, (uint32_t)thread->tid, cpu);
    queue->wakeups_elsewhere += cpu != queue->cpu;
    queue_release_and_insert(queue, thread, cpu);
}

// The rest, for who wakes where it ran last. True: it should have that CPU at once.
static __always_inline bool sched_wake_here(struct run_queue *queue, struct thread *thread)
{
    trace(TRACE_SCHED_WAKEUP, (uint32_t)thread->tid, queue->cpu);
    run_queue_place_woken(queue, thread);
    queue_note_waiting(queue);
    if (likely(thread->weight == WEIGHT_NICE_0)) {
        run_queue_add_fair(queue, thread);
        return run_queue_preempts_fair(queue, thread);
    }
    run_queue_add(queue, thread, false);
    return run_queue_preempts_by_class(queue, thread);
}

static __always_inline bool sched_wake_in_line(struct thread *thread, bool only_interruptible)
{
    struct run_queue *queue = queue_lock_found(thread);
    enum thread_state state = thread->state;

    if (unlikely(state == THREAD_RUNNING || state == THREAD_DEAD ||
                 (only_interruptible && state != THREAD_SLEEPING))) {
        spin_unlock_irqs_off(&queue->lock);
        return false;
    }
    thread->state = THREAD_RUNNING;
    if (unlikely(thread->on_queue)) { // it had not gone to sleep yet
        spin_unlock_irqs_off(&queue->lock);
        return true;
    }
    thread->on_queue = true;
    queue->asleep[state]--;
    queue->wakeups++;
    unsigned elsewhere = place_woken(queue, thread);
    if (unlikely(elsewhere < MAX_CPUS)) {
        sched_wake_elsewhere(queue, thread, elsewhere);
        return true;
    }
    if (sched_wake_here(queue, thread)) {
        queue_kick(queue->cpu);
    }
    spin_unlock_irqs_off(&queue->lock);
    return true;
}

bool sched_wake_atomic(struct thread *thread)
{
    return sched_wake_in_line(thread, false);
}

bool wake_up_process(struct thread *thread)
{
    unsigned long flags = local_irq_save();

    preempt_disable();
    bool woken = sched_wake_atomic(thread);
    local_irq_restore(flags);
    preempt_enable(); // switches at once if that is wanted, and possible here
    return woken;
}

bool sched_wake_interruptible(struct thread *thread)
{
    unsigned long flags = local_irq_save();

    preempt_disable();
    bool woken = sched_wake_in_line(thread, true);
    local_irq_restore(flags);
    preempt_enable();
    return woken;
}

void sched_start(struct thread *thread)
{
    unsigned long flags = local_irq_save();

    preempt_disable();
    thread->cpu = (uint16_t)place_moved(thread);
    thread->on_queue = true;
    queue_insert(thread, 0);
    local_irq_restore(flags);
    preempt_enable();
}
