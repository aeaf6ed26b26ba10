// The scheduler: gives each CPU to the best thread that may run there.
//
//                 wake_up_process                 run_queue_take
//     sleeping ────────────────────> on a queue ─────────────────> current
//        ^                               ^                            │
//        │       schedule(), state set   │  preempted, yield, slice   │
//        └───────────────────────────────┴────────────────────────────┘
//
// Every CPU has a run queue (runqueue.c orders it) with a lock of its own. A thread belongs to the
// queue that `thread->cpu` names, sleeping ones too: that queue's lock guards its state, and is
// held across the switch of stacks and released by the thread that comes after. So whoever holds it
// sees a thread either still running or wholly gone from its stack, never between. Two queue locks
// are never waited for at once: a thread changes queues by being on neither for a moment (its state
// says RUNNING and on_queue says that somebody has it in hand), and a CPU without work takes from
// others by trylock only.
//
// What holds whenever nobody has a queue's lock:
//
//   a thread with on_queue is linked on the queue of thread->cpu, or is that queue's `running`, or
//   is in the hands of exactly one caller, who will link it; one without on_queue is none of these,
//   and its registers are saved
//   the state is changed from asleep to RUNNING under that lock only, by one waker: whoever changes
//   it links the thread if on_queue was false, and leaves it alone if not, since then the thread
//   itself will see RUNNING under the same lock before it leaves the CPU
//   whoever links a thread looks under the lock whether it preempts, and kicks that CPU afterwards;
//   the kick cannot be lost, as want_resched is cleared only under the lock, before the choice
//
// `lab ping` and `lab threads` try to break it.
//
// Preemption: waking a better thread sets want_resched, here or by an IPI there; the switch happens
// when the outermost interrupt ends (sched_preempt_irq) or the last lock is released
// (sched_preempt). A preempted thread stays runnable whatever its state says: it may have been
// about to sleep, and does so when it is back.
//
// Idle: HLT with interrupts on (sched_idle). A wake-up cannot be lost there, because the interrupt
// that brings it switches threads itself when it ends; the idle loop need not look again. That
// holds also when an NMI opens the one-instruction shadow between STI and HLT.
//
// The chapters: wake.c brings threads to queues, runqueue.c orders them there, this file switches,
// tick.c shares the time out, balance.c evens the queues, atomic.c reports who sleeps where he must
// not.
//
// Context: as each function says. Interrupts are off wherever a queue's lock is held.
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/rcu.h>
#include <core/trace.h>
#include <x86/msr.h>
#include <x86/segments.h>
#include <x86/switch.h>
#include <mm/map.h>
#include <mm/slab.h>
#include <sched/cputime.h>
#include <sched/thread.h>

#include "internal.h"

struct cpu_sched {
    struct run_queue queue;
    struct thread idle;
};

static struct cpu_sched boot_sched;
struct run_queue *run_queues[MAX_CPUS]; // I: NULL for a CPU that is not up
struct cpumask sched_mask;              // A: CPUs with a run queue
struct cpumask sched_idle_mask;         // A: CPUs that idle and have not been promised work
struct cpumask sched_waiting_mask;      // A: CPUs on whose queue somebody waits

// ---- switching ---------------------------------------------------------------------------------

// What becomes of the thread that leaves the CPU. One that is dead, or may not run here any more,
// is left over for its successor: it cannot be dealt with while we stand on its stack.
static inline void queue_put_current(struct run_queue *queue, struct thread *thread,
                                     enum leave leave)
{
    if (thread->state != THREAD_RUNNING && leave != LEAVE_PREEMPTED) {
        thread->on_queue = false;
        queue->asleep[thread->state]++;
        if (leave == LEAVE_END) {
            queue->leftover = thread;
        }
        return;
    }
    if (unlikely(thread->misplaced)) {
        queue->leftover = thread;
        return;
    }
    if (likely(!thread_is_rt(thread))) {
        if (leave == LEAVE_YIELD) {
            run_queue_yield(queue, thread);
        } else {
            thread->preemptions++;
        }
        thread->slice_ticks = FAIR_SLICE_TICKS;
        run_queue_add_fair(queue, thread);
    } else {
        thread->preemptions += leave == LEAVE_PREEMPTED;
        run_queue_put_rt(queue, thread, leave == LEAVE_PREEMPTED);
    }
    queue_note_waiting(queue);
}

// Sees off whom the predecessor left over; the queue's lock goes in between.
static __noinline void sched_see_off(struct run_queue *queue)
{
    struct thread *leftover = queue->leftover;

    queue->leftover = NULL;
    if (leftover->state == THREAD_DEAD) {
        spin_unlock_irqs_off(&queue->lock);
        thread_reap(leftover);
        return;
    }
    uint64_t origin = queue->min_vruntime;
    leftover->cpu = (uint16_t)place_moved(leftover);
    spin_unlock_irqs_off(&queue->lock);
    queue_insert(leftover, origin);
}

// The second half of every switch, on the new stack: drops the lock that the predecessor took.
static inline void sched_finish_switch(void)
{
    struct run_queue *queue = cpu_field(queue);

    if (unlikely(queue->leftover != NULL)) {
        sched_see_off(queue);
    } else {
        spin_unlock_irqs_off(&queue->lock);
    }
}

// The CPU has nothing to do, or something again. As in Linux it idles for a disk while a thread
// that ran here last waits for one: who wakes that thread, wakes it here.
static void sched_idle_begins(struct run_queue *queue)
{
    cpumask_set(&sched_idle_mask, queue->cpu);
    cputime_enter(&cputimes[queue->cpu], queue->asleep[THREAD_IOWAIT] != 0 ? CPU_IOWAIT : CPU_IDLE);
}

static void sched_idle_ends(struct run_queue *queue)
{
    cpumask_clear(&sched_idle_mask, queue->cpu);
    cputime_enter(&cputimes[queue->cpu], CPU_SYSTEM);
    if (cpus[queue->cpu].tick_stopped) {
        sched_tick_restart();
    }
}

// Nobody waits here: somebody who waits elsewhere, or the idle thread.
static __noinline struct thread *sched_take_elsewhere(struct run_queue *queue)
{
    run_queue_catch_up(queue);
    struct thread *thread = queue_steal_any(queue);

    if (thread == NULL) {
        thread = queue->idle;
        sched_idle_begins(queue);
    }
    return thread;
}

// For the idle thread: anybody, or itself again.
static __noinline struct thread *sched_take_after_idle(struct run_queue *queue)
{
    struct thread *thread = run_queue_take(queue);

    if (thread == NULL) {
        thread = queue_steal_any(queue);
    }
    if (thread == NULL) {
        return queue->idle;
    }
    sched_idle_ends(queue);
    return thread;
}

static __noinline void sched_stack_overrun(const struct thread *thread)
{
    panic("the stack of thread %s (%d) was overrun", thread->name, thread->tid);
}

// One of the two runs a program: another address space, and a stack for its entries from ring 3.
// All tables have the same kernel's half.
static __noinline void sched_switch_program(const struct thread *prev, const struct thread *next)
{
    if (next->cr3 != prev->cr3) {
        write_cr3(next->cr3 != 0 ? next->cr3 : map_root());
    }
    if (next->cr3 != 0) {
        gdt_set_kernel_stack(next->stack + KERNEL_STACK_SIZE);
    }
}

static __always_inline void sched_switch_to(struct cpu *cpu, struct run_queue *queue,
                                            struct thread *prev, struct thread *next, uint64_t now)
{
    if (unlikely(*prev->stack_end != STACK_MAGIC)) {
        sched_stack_overrun(prev);
    }
    next->switched_in = now;
    next->switches++;
    queue->switches++;
    queue->running = next;
    cpu->thread = next;
    if (unlikely((prev->cr3 | next->cr3) != 0)) {
        sched_switch_program(prev, next);
    }
    trace_at(now, TRACE_SCHED_SWITCH, (uint32_t)prev->tid, (uint64_t)next->tid);
    switch_stacks(&prev->saved_rsp, next->saved_rsp);
    sched_finish_switch(); // back again, perhaps on another CPU
}

// Chooses who runs now. Interrupts off on entry and exit; may be on in between, while others run.
// In line where the reason is known: each reason has its own way through.
static __always_inline void sched_switch_for(enum leave leave, struct thread *prev)
{
    struct cpu *cpu = cpu_self();
    struct run_queue *queue = cpu->queue;
    struct thread *next;

    rcu_quiescent();
    spin_lock_irqs_off(&queue->lock);
    cpu->want_resched = false;
    uint64_t now = rdtsc(); // the only look at the clock in a switch
    run_queue_book(queue, prev, now);
    if (likely(prev != queue->idle)) {
        queue_put_current(queue, prev, leave);
        next = run_queue_take(queue);
    } else {
        next = sched_take_after_idle(queue);
    }
    if (unlikely(next == NULL)) {
        next = sched_take_elsewhere(queue);
    }
    if (unlikely(next == prev)) {
        queue_note_empty(queue); // others may have taken what we were woken for
        spin_unlock_irqs_off(&queue->lock);
        return;
    }
    sched_switch_to(cpu, queue, prev, next, now);
}

void sched_switch(enum leave leave)
{
    sched_switch_for(leave, current);
}

void sched_first_run(void *arg)
{
    struct thread *thread = arg;

    sched_finish_switch();
    local_irq_enable();
    thread->fn(thread->arg);
    thread_exit();
}

void sched_end(void)
{
    struct run_queue *queue;
    struct thread *thread = current;

    local_irq_disable();
    queue = this_cpu(run_queues);
    spin_lock_irqs_off(
        &queue->lock); // a late waker, who saw it asleep, must not bring it back to life
    thread->state = THREAD_DEAD;
    spin_unlock_irqs_off(&queue->lock);
    sched_switch(LEAVE_END);
    panic("thread %s (%d) runs after its end", thread->name, thread->tid);
}

// ---- sleeping ----------------------------------------------------------------------------------

// Of a thread that somebody wants to be told of.
static __noinline void schedule_with_hook(struct thread *thread)
{
    bool sleeps = thread->state != THREAD_RUNNING;

    if (sleeps) {
        thread->sleep_hook(thread, true);
    }
    local_irq_disable();
    sched_switch(LEAVE_SLEEP);
    local_irq_enable();
    if (sleeps) {
        thread->sleep_hook(thread, false);
    }
}

void schedule(void)
{
    if (unlikely(may_not_sleep())) {
        schedule_atomic();
        return;
    }
    struct thread *thread = current;

    if (unlikely(thread->sleep_hook != NULL)) {
        schedule_with_hook(thread);
    } else {
        local_irq_disable();
        sched_switch_for(LEAVE_SLEEP, thread);
        local_irq_enable();
    }
    if (unlikely(cpu_field_set(want_resched))) {
        sched_preempt();
    }
}

void yield(void)
{
    if (unlikely(may_not_sleep())) {
        schedule_atomic();
        return;
    }
    local_irq_disable();
    sched_switch_for(LEAVE_YIELD, current);
    local_irq_enable();
}

// ---- preemption, tick, idle --------------------------------------------------------------------

void sched_preempt(void)
{
    while (cpu_field(want_resched) && !in_atomic()) {
        local_irq_disable();
        sched_switch(LEAVE_PREEMPTED);
        local_irq_enable();
    }
}

void sched_preempt_irq(void)
{
    sched_switch_for(LEAVE_PREEMPTED, current);
}

void sched_idle(void)
{
    struct run_queue *queue = this_cpu(run_queues);

    local_irq_disable();
    cputime_enter(&this_cpu(cputimes), CPU_IDLE);
    for (;;) {
        local_irq_disable();
        rcu_idle_end();
        if (cpu_field(want_resched) || queue->waiting != 0) {
            sched_switch(LEAVE_PREEMPTED); // who came before interrupts were on
            local_irq_enable();
        } else {
            if (!cpumask_test(&sched_idle_mask, queue->cpu)) {
                cpumask_set(&sched_idle_mask, queue->cpu);
            }
            rcu_idle_begin();
            cpu_sti_hlt();
        }
    }
}

// ---- start -------------------------------------------------------------------------------------

static void sched_set_up(struct cpu_sched *sched, unsigned cpu)
{
    run_queue_init(&sched->queue, cpu);
    thread_init_idle(&sched->idle, cpu);
    sched->queue.idle = &sched->idle;
    sched->queue.running = &sched->idle;
    sched->idle.switched_in = rdtsc();
    sleep_init_cpu(cpu);
    cputime_init_cpu(cpu);
    cpus[cpu].thread = &sched->idle;
    run_queues[cpu] = cpus[cpu].queue = &sched->queue;
    cpumask_set(&sched_mask, cpu);
    cpumask_set(&sched_idle_mask, cpu);
}

void sched_init(void)
{
    run_queue_init_times(clock_tsc_hz());
    sched_set_up(&boot_sched, 0);
}

void sched_init_cpu(void)
{
    struct cpu_sched *sched = kzalloc(sizeof(*sched), GFP_ATOMIC);

    if (sched == NULL) {
        pr_err("sched: no memory for CPU %u: it stays out", cpu_id());
        cpu_stop();
    }
    sched_set_up(sched, cpu_id());
}
