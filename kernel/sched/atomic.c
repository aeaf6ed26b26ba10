// "BUG: scheduling while atomic": sleeping where that is forbidden is reported in Linux's words and
// then done, as far as that goes.
//
// Context: any, that is the point.
#include <core/cpu.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <sched/cputime.h>
#include <sched/thread.h>

#include "internal.h"

// The count as Linux packs it: preemption 0..7, softirq 8..15, hard interrupts 16..19, NMI 20..23.
static uint32_t sched_atomic_count(void)
{
    return cpu_field(preempt_off) | (cpu_field(serving_softirq) ? 0x100u : 0) |
           (uint32_t)cpu_field(bh_disabled) << 9 | (uint32_t)cpu_field(irq_depth) << 16 |
           (uint32_t)cpu_field(nmi_depth) << 20;
}

static void schedule_atomic_report(const struct cpu *cpu, uint32_t context, bool interrupts_on)
{
    char letters[5];

    pr_err("BUG: scheduling while atomic: %s/%d/0x%08x", cpu->thread->name, cpu->thread->tid,
           sched_atomic_count());
    cpu_context_letters(context, letters);
    pr_err("  context %s: interrupts %s, irq depth %u, softirq %u, bottom halves off %u, "
           "preemption off %u deep",
           letters, interrupts_on ? "on" : "off", cpu->irq_depth, cpu->serving_softirq,
           cpu->bh_disabled, cpu->preempt_off);
    lockdep_print_held(pr_warn_line);
    backtrace_print(NULL);
    warn_noted("scheduling while atomic");
}

// The running thread sleeps, and what it is in the middle of is laid aside with it: the CPU's
// context counters, and the locks that the CPU holds. The thread is tied to this CPU, as the end of
// its interrupt must be told to this CPU's controller.
static void schedule_atomic_sleep(struct cpu *cpu)
{
    struct thread *thread = cpu->thread;
    struct cpumask allowed = thread->allowed, here = {0};
    struct cpu saved = *cpu;
    struct lock_stack held;
    // What interrupted the thread must not be charged with what others do meanwhile.
    enum cpu_time kind = cputime_enter(&cputimes[cpu->id], CPU_SYSTEM);

    cpumask_set(&here, cpu->id);
    thread->allowed = here;
    cpu->irq_depth = 0;
    cpu->bh_disabled = 0;
    cpu->preempt_off = 0;
    cpu->serving_softirq = false;
    lockdep_set_aside(&held);
    sched_switch(LEAVE_SLEEP);
    lockdep_bring_back(&held);
    cpu->irq_depth = saved.irq_depth;
    cpu->irq_frame = saved.irq_frame;
    cpu->bh_disabled = saved.bh_disabled;
    cpu->preempt_off = saved.preempt_off;
    cpu->serving_softirq = saved.serving_softirq;
    cputime_enter(&cputimes[cpu->id], kind);
    thread->allowed = allowed;
}

// Somebody sleeps with a lock held, in a softirq or in an interrupt handler. After the report we do
// what was asked for, so that the report can be read. An idle thread cannot sleep: it halts until
// the next interrupt instead and looks again.
void schedule_atomic(void)
{
    uint32_t context = cpu_context_flags();
    unsigned long flags = local_irq_save();
    struct cpu *cpu = cpu_self();
    bool in_handler = cpu->irq_since != 0; // its time ends here, and goes on afterwards

    schedule_atomic_report(cpu, context, (flags & CPU_FLAGS_IF) != 0);
    if (cpu->nmi_depth != 0) {
        cpu->thread->state = THREAD_RUNNING;
        local_irq_restore(flags);
        return;
    }
    if (in_handler) {
        cputime_irq_end(cpu);
    }
    if (cpu->thread == run_queues[cpu->id]->idle) {
        const struct frame *frame = cpu->irq_frame;

        cpu->thread->state = THREAD_RUNNING;
        cpu_sti_hlt();
        local_irq_disable(); // restoring only ever turns them on
        cpu->irq_frame = frame;
    } else {
        schedule_atomic_sleep(cpu);
    }
    if (in_handler) {
        cputime_irq_begin(cpu);
    }
    local_irq_restore(flags);
}
