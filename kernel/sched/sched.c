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
// Preemption: waking a better thread sets want_resched, here or by an IPI there; the switch happens
// when the outermost interrupt ends (sched_preempt_irq) or the last lock is released
// (sched_preempt). A preempted thread stays runnable whatever its state says: it may have been
// about to sleep, and does so when it is back.
//
// Idle: HLT with interrupts on (sched_idle). A wake-up cannot be lost there, because the interrupt
// that brings it switches threads itself when it ends; the idle loop need not look again. That
// holds also when an NMI opens the one-instruction shadow between STI and HLT.
//
// Sleeping where that is forbidden is reported in Linux's words and then done, as far as that goes:
// see schedule_atomic().
//
// Context: as each function says. Interrupts are off wherever a queue's lock is held.
#include <lib/errno.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <x86/msr.h>
#include <x86/segments.h>
#include <x86/switch.h>
#include <mm/map.h>
#include <mm/slab.h>
#include <irq/ipi.h>
#include <sched/thread.h>

#include "internal.h"

enum {
    BALANCE_TICKS = 16,     // how often a busy CPU compares its queue with the others'
    BALANCE_DIFFERENCE = 2, // and takes a thread from one that is this much longer
};

// Why a thread gives the CPU away.
enum leave { LEAVE_SLEEP, LEAVE_PREEMPTED, LEAVE_YIELD };

struct cpu_sched {
    struct run_queue queue;
    struct thread idle;
};

static struct cpu_sched boot_sched;
struct run_queue *run_queues[MAX_CPUS];   // I: NULL for a CPU that is not up
struct cpumask sched_mask;                // A: CPUs with a run queue
static struct cpumask sched_idle_mask;    // A: CPUs that idle and have not been promised work
static struct cpumask sched_waiting_mask; // A: CPUs on whose queue somebody waits

// ---- queues ------------------------------------------------------------------------------------

// The queue that a thread belongs to, locked. The thread may move while we wait for the lock.
struct run_queue *queue_lock_of(struct thread *thread, unsigned long *flags)
{
    for (;;) {
        unsigned cpu = READ_ONCE(thread->cpu);
        struct run_queue *queue = run_queues[cpu];

        spin_lock_irqsave(&queue->lock, *flags);
        if (likely(thread->cpu == cpu)) {
            return queue;
        }
        spin_unlock_irqrestore(&queue->lock, *flags);
    }
}

// Tells idle CPUs that there may be something to take here. The tick takes it back: that is soon
// enough, and spares two locked instructions in each switch to and fro.
void queue_note_waiting(struct run_queue *queue)
{
    if (!queue->noted_waiting) {
        queue->noted_waiting = true;
        cpumask_set(&sched_waiting_mask, queue->cpu);
    }
}

static void queue_note_empty(struct run_queue *queue)
{
    if (queue->waiting == 0 && queue->noted_waiting) {
        queue->noted_waiting = false;
        cpumask_clear(&sched_waiting_mask, queue->cpu);
    }
}

static void queue_charge(struct run_queue *queue, struct thread *thread, uint64_t now_ns)
{
    // TSCs of two CPUs may differ by a little: time never runs backwards in the books.
    if (likely(now_ns > thread->switched_in_ns)) {
        run_queue_charge(queue, thread, now_ns - thread->switched_in_ns);
        thread->switched_in_ns = now_ns;
    }
}

static bool queue_is_idle(const struct run_queue *queue)
{
    return READ_ONCE(queue->running) == queue->idle && READ_ONCE(queue->waiting) == 0;
}

// ---- placement ---------------------------------------------------------------------------------

unsigned place_in(const struct cpumask *set, const struct cpumask *allowed)
{
    for (unsigned word = 0; word * 64 < cpu_count; word++) {
        uint64_t bits = READ_ONCE(set->bits[word]) & allowed->bits[word];
        if (bits != 0) {
            return word * 64 + (unsigned)__builtin_ctzll(bits);
        }
    }
    return MAX_CPUS;
}

// An idle CPU among those allowed, which is then no longer free for others: of several threads
// woken together each gets his own. sched_idle() offers the CPU again if nothing came of it.
static unsigned place_idle(const struct cpumask *allowed)
{
    unsigned cpu = place_in(&sched_idle_mask, allowed);

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
// is idle, else on an idle one, else where it ran last.
static unsigned place_woken(const struct thread *thread)
{
    unsigned last = thread->cpu, cpu;
    bool last_allowed = cpumask_test(&thread->allowed, last);

    if (last_allowed && queue_is_idle(run_queues[last])) {
        return last;
    }
    cpu = place_idle(&thread->allowed);
    if (cpu < MAX_CPUS) {
        return cpu;
    }
    return last_allowed ? last : place_shortest(&thread->allowed);
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
static void queue_insert(struct thread *thread, uint64_t origin_vruntime)
{
    struct run_queue *queue = run_queues[thread->cpu];

    spin_lock(&queue->lock);
    while (unlikely(!cpumask_test(&thread->allowed, queue->cpu))) { // forbidden meanwhile
        thread->cpu = (uint16_t)place_shortest(&thread->allowed);
        spin_unlock(&queue->lock);
        queue = run_queues[thread->cpu];
        spin_lock(&queue->lock);
    }
    run_queue_place_moved(queue, thread, origin_vruntime);
    run_queue_place_woken(queue, thread);
    run_queue_add(queue, thread, false);
    queue_note_waiting(queue);
    bool preempts = thread_preempts(thread, queue->running);
    spin_unlock(&queue->lock); // from here on the thread may run, end and be freed
    if (preempts) {
        queue_kick(queue->cpu);
    }
}

// The same for a thread that leaves `queue`, whose lock the caller holds and which is released
// here.
void queue_release_and_insert(struct run_queue *queue, struct thread *thread,
                              uint64_t origin_vruntime, unsigned long flags)
{
    preempt_disable();
    spin_unlock(&queue->lock);
    queue_insert(thread, origin_vruntime);
    local_irq_restore(flags);
    preempt_enable(); // switches at once if that is possible here
}

static bool sched_wake(struct thread *thread, bool only_interruptible)
{
    unsigned long flags;
    struct run_queue *queue = queue_lock_of(thread, &flags);

    if (thread->state == THREAD_RUNNING || thread->state == THREAD_DEAD ||
        (only_interruptible && thread->state != THREAD_SLEEPING)) {
        spin_unlock_irqrestore(&queue->lock, flags);
        return false;
    }
    bool was_blocked = thread->state == THREAD_BLOCKED;
    thread->state = THREAD_RUNNING;
    if (thread->on_queue) { // it had not gone to sleep yet
        spin_unlock_irqrestore(&queue->lock, flags);
        return true;
    }
    queue->blocked -= was_blocked;
    unsigned cpu = place_woken(thread);
    trace(TRACE_SCHED_WAKEUP, (uint32_t)thread->tid, cpu);
    thread->on_queue = true;
    if (likely(cpu == queue->cpu)) {
        run_queue_place_woken(queue, thread);
        run_queue_add(queue, thread, false);
        queue_note_waiting(queue);
        if (thread_preempts(thread, queue->running)) {
            queue_kick(cpu);
        }
        spin_unlock_irqrestore(&queue->lock, flags); // switches at once if that is possible here
    } else {
        uint64_t origin = queue->min_vruntime;

        thread->cpu = (uint16_t)cpu;
        queue_release_and_insert(queue, thread, origin, flags);
    }
    return true;
}

bool wake_up_process(struct thread *thread)
{
    return sched_wake(thread, false);
}

bool sched_wake_interruptible(struct thread *thread)
{
    return sched_wake(thread, true);
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

// ---- switching ---------------------------------------------------------------------------------

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

static struct thread *queue_steal_any(struct run_queue *to)
{
    struct thread *thread = NULL;

    for (unsigned cpu = place_in(&sched_waiting_mask, &sched_mask); cpu < MAX_CPUS && !thread;
         cpu = cpumask_next(&sched_waiting_mask, cpu + 1)) {
        thread = queue_steal(to, cpu);
    }
    return thread;
}

// What becomes of the thread that leaves the CPU. One that is dead, or may not run here any more,
// is left over for its successor: it cannot be dealt with while we stand on its stack.
static void queue_put_current(struct run_queue *queue, struct thread *thread, enum leave leave)
{
    if (thread->state != THREAD_RUNNING && leave != LEAVE_PREEMPTED) {
        thread->on_queue = false;
        queue->blocked += thread->state == THREAD_BLOCKED;
        if (unlikely(thread->state == THREAD_DEAD)) {
            queue->leftover = thread;
        }
        return;
    }
    if (unlikely(!cpumask_test(&thread->allowed, queue->cpu))) {
        queue->leftover = thread;
        return;
    }
    bool at_head = leave == LEAVE_PREEMPTED && thread->slice_ticks != 0;
    if (leave == LEAVE_YIELD) {
        run_queue_yield(queue, thread);
    }
    if (!at_head) {
        thread->slice_ticks = thread_slice(thread);
    }
    run_queue_add(queue, thread, at_head);
    queue_note_waiting(queue);
}

// The second half of every switch, on the new stack: drops the lock that the predecessor took, and
// sees off whom it left over.
static void sched_finish_switch(void)
{
    struct run_queue *queue = this_cpu(run_queues);
    struct thread *leftover = queue->leftover;

    if (likely(leftover == NULL)) {
        spin_unlock(&queue->lock);
        return;
    }
    queue->leftover = NULL;
    if (leftover->state == THREAD_DEAD) {
        spin_unlock(&queue->lock);
        thread_reap(leftover);
        return;
    }
    uint64_t origin = queue->min_vruntime;
    leftover->cpu = (uint16_t)place_moved(leftover);
    spin_unlock(&queue->lock);
    queue_insert(leftover, origin);
}

static void sched_switch_to(struct cpu *cpu, struct run_queue *queue, struct thread *prev,
                            struct thread *next)
{
    uint32_t preempt_off = cpu->preempt_off;
    uintptr_t stack_top = next->stack + KERNEL_STACK_SIZE;

    if (prev == queue->idle) {
        cpumask_clear(&sched_idle_mask, queue->cpu);
    } else if (next == queue->idle) {
        cpumask_set(&sched_idle_mask, queue->cpu);
    }
    if (unlikely(prev->stack != 0 && *(uint64_t *)prev->stack != STACK_MAGIC)) {
        panic("the stack of thread %s (%d) was overrun", prev->name, prev->tid);
    }
    prev->running = false;
    next->running = true;
    next->switches++;
    queue->switches++;
    queue->running = next;
    cpu->thread = next;
    cpu->kernel_rsp = stack_top;
    gdt_set_kernel_stack(stack_top);
    if (unlikely(next->cr3 != prev->cr3)) { // all tables have the same kernel's half
        write_cr3(next->cr3 != 0 ? next->cr3 : map_root());
    }
    trace(TRACE_SCHED_SWITCH, (uint32_t)prev->tid, (uint64_t)next->tid);
    switch_stacks(&prev->saved_rsp, next->saved_rsp);
    // Back again, perhaps on another CPU; `preempt_off` came along on the stack.
    cpu_self()->preempt_off = preempt_off;
    sched_finish_switch();
}

// Chooses who runs now. Interrupts off on entry and exit; may be on in between, while others run.
static void sched_switch(enum leave leave)
{
    struct cpu *cpu = cpu_self();
    struct run_queue *queue = run_queues[cpu->id];
    struct thread *prev = cpu->thread, *next;
    uint64_t now_ns;

    spin_lock(&queue->lock);
    cpu->want_resched = false;
    now_ns = clock_ns();
    queue_charge(queue, prev, now_ns);
    if (prev != queue->idle) {
        queue_put_current(queue, prev, leave);
    }
    next = run_queue_take(queue);
    if (next == NULL) {
        next = queue_steal_any(queue);
    }
    if (next == NULL) {
        next = queue->idle;
    }
    if (next == prev) {
        spin_unlock(&queue->lock);
        return;
    }
    next->switched_in_ns = now_ns;
    sched_switch_to(cpu, queue, prev, next);
}

void sched_first_run(void *arg)
{
    struct thread *thread = arg;

    cpu_self()->preempt_off = 1; // the queue's lock, as in every other switch
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
    spin_lock(&queue->lock); // a late waker, who saw it asleep, must not bring it back to life
    thread->state = THREAD_DEAD;
    spin_unlock(&queue->lock);
    sched_switch(LEAVE_SLEEP);
    panic("thread %s (%d) runs after its end", thread->name, thread->tid);
}

// ---- sleeping ----------------------------------------------------------------------------------

// The count as Linux packs it: preemption 0..7, softirq 8..15, hard interrupts 16..19, NMI 20..23.
static uint32_t sched_atomic_count(void)
{
    return cpu_field(preempt_off) | (cpu_field(serving_softirq) ? 0x100u : 0) |
           cpu_field(bh_disabled) << 9 | cpu_field(irq_depth) << 16 | cpu_field(nmi_depth) << 20;
}

// Somebody sleeps with a lock held, in a softirq or in an interrupt handler. After the report we do
// what was asked for, so that the report can be read: the CPU's context counters are laid aside
// with the thread, and the thread is tied to this CPU, as the end of its interrupt must be told to
// this CPU's controller. An idle thread cannot sleep: it halts until the next interrupt instead and
// looks again.
static __noinline void schedule_atomic(void)
{
    unsigned long flags = local_irq_save();
    struct cpu *cpu = cpu_self();
    struct cpu saved = *cpu;
    struct thread *thread = cpu->thread;

    __atomic_fetch_add(&warn_count, 1, __ATOMIC_RELAXED);
    pr_err("BUG: scheduling while atomic: %s/%d/0x%08x", thread->name, thread->tid,
           sched_atomic_count());
    backtrace_print(NULL);
    if (thread == run_queues[cpu->id]->idle || cpu->nmi_depth != 0) {
        thread->state = THREAD_RUNNING;
        if (cpu->nmi_depth == 0) {
            cpu_sti_hlt();
            local_irq_disable(); // restoring only ever turns them on
        }
        local_irq_restore(flags);
        return;
    }
    struct cpumask allowed = thread->allowed, here = {0};
    cpumask_set(&here, cpu->id);
    thread->allowed = here;
    cpu->irq_depth = 0;
    cpu->bh_disabled = 0;
    cpu->preempt_off = 0;
    cpu->serving_softirq = false;
    sched_switch(LEAVE_SLEEP);
    cpu->irq_depth = saved.irq_depth;
    cpu->bh_disabled = saved.bh_disabled;
    cpu->preempt_off = saved.preempt_off;
    cpu->serving_softirq = saved.serving_softirq;
    thread->allowed = allowed;
    local_irq_restore(flags);
}

// in_atomic() in fewer steps: who serves softirqs or keeps them off has preemption off as well, and
// interrupt handlers run with interrupts off.
static inline bool sched_in_atomic(void)
{
    return cpu_field(preempt_off) != 0 || irqs_disabled();
}

void schedule(void)
{
    struct thread *thread = current;

    if (unlikely(sched_in_atomic())) {
        schedule_atomic();
        return;
    }
    if (thread->sleep_hook != NULL && thread->state != THREAD_RUNNING) {
        thread->sleep_hook(thread, true);
        local_irq_disable();
        sched_switch(LEAVE_SLEEP);
        local_irq_enable();
        thread->sleep_hook(thread, false);
    } else {
        local_irq_disable();
        sched_switch(LEAVE_SLEEP);
        local_irq_enable();
    }
    if (unlikely(cpu_field(want_resched))) {
        sched_preempt();
    }
}

void yield(void)
{
    if (unlikely(sched_in_atomic())) {
        schedule_atomic();
        return;
    }
    local_irq_disable();
    sched_switch(LEAVE_YIELD);
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
    sched_switch(LEAVE_PREEMPTED);
}

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

// A longer queue elsewhere gives one of its waiting threads to this one.
static void sched_balance(struct run_queue *queue)
{
    for_each_cpu (cpu, &sched_waiting_mask) {
        if (READ_ONCE(run_queues[cpu]->waiting) >= queue->waiting + BALANCE_DIFFERENCE) {
            struct thread *thread = queue_steal(queue, cpu);
            if (thread != NULL) {
                run_queue_add(queue, thread, false);
                queue_note_waiting(queue);
                cpu_self()->want_resched |= thread_preempts(thread, queue->running);
                return;
            }
        }
    }
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
    if (++queue->balance_ticks >= BALANCE_TICKS) {
        queue->balance_ticks = 0;
        sched_balance(queue);
    }
    queue_note_empty(queue);
    spin_unlock(&queue->lock);
    sleep_tick();
    if (queue->cpu == 0) {
        load_tick();
    }
}

void sched_idle(void)
{
    struct run_queue *queue = this_cpu(run_queues);

    for (;;) {
        local_irq_disable();
        if (cpu_field(want_resched) || queue->waiting != 0) {
            sched_switch(LEAVE_PREEMPTED); // who came before interrupts were on
            local_irq_enable();
        } else {
            if (!cpumask_test(&sched_idle_mask, queue->cpu)) {
                cpumask_set(&sched_idle_mask, queue->cpu);
            }
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
    sched->idle.switched_in_ns = clock_ns();
    sleep_init_cpu(cpu);
    cpus[cpu].thread = &sched->idle;
    run_queues[cpu] = &sched->queue;
    cpumask_set(&sched_mask, cpu);
    cpumask_set(&sched_idle_mask, cpu);
}

void sched_init(void)
{
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
