// What the files of kernel/sched share with one another and with nobody else.
#pragma once

#include "runqueue.h"

#define STACK_MAGIC 0x68616c66u // the lowest word of every stack that thread.c made

// Why a thread gives the CPU away.
enum leave { LEAVE_SLEEP, LEAVE_PREEMPTED, LEAVE_YIELD, LEAVE_END };

// sched.c; the comments of these functions are at their bodies.
extern struct run_queue *run_queues[MAX_CPUS];
extern struct cpumask sched_mask, sched_idle_mask, sched_waiting_mask;
void sched_switch(enum leave leave);

// wake.c: queues and how to handle them.
struct run_queue *queue_lock_of(struct thread *thread, unsigned long *flags);
void queue_unlock_of(struct run_queue *queue, unsigned long flags);
void queue_note_empty(struct run_queue *queue);
void queue_kick(unsigned cpu);
void queue_insert(struct thread *thread, uint64_t origin_vruntime);
void queue_release_and_insert(struct run_queue *queue, struct thread *thread, unsigned cpu);
// Tells idle CPUs that there may be something to take here. The tick takes it back: that is soon
// enough, and spares two locked instructions in each switch to and fro.
static inline void queue_note_waiting(struct run_queue *queue)
{
    if (unlikely(!queue->noted_waiting)) {
        queue->noted_waiting = true;
        cpumask_set(&sched_waiting_mask, queue->cpu);
    }
}
unsigned place_in(const struct cpumask *set, const struct cpumask *allowed);
unsigned place_moved(const struct thread *thread);

// balance.c.
struct thread *queue_steal_any(struct run_queue *to);
bool sched_balance_due(struct run_queue *queue);

// atomic.c: schedule() where that is forbidden.
void schedule_atomic(void);

// wake.c: gives a new, not yet runnable thread its first CPU and its place in a run queue.
// Context: any.
void sched_start(struct thread *thread);
// Ends the running thread: marks it dead and switches away for good. Context: thread.
__noreturn void sched_end(void);
// Where a new stack begins (kernel/x86/switch.S): finishes the switch, then runs the thread's
// function.
void sched_first_run(void *thread);
// wake.c: wakes only what waits interruptibly. Context: any.
bool sched_wake_interruptible(struct thread *thread);

// thread.c: called on another stack once a dead thread has left its own. Context: interrupts off.
void thread_reap(struct thread *thread);
void thread_init_idle(struct thread *thread, unsigned cpu);

// sleep.c: the sleepers of each CPU, looked at by each tick.
void sleep_init_cpu(unsigned cpu);
void sleep_tick(void);

// mutex.c: a thread's own priority has changed; those whose mutexes it waits for may borrow more,
// or less. Context: any.
void mutex_priority_changed(struct thread *thread);
