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
           cpu_field(bh_disabled) << 9 | cpu_field(irq_depth) << 16 | cpu_field(nmi_depth) << 20;
}

// Somebody sleeps with a lock held, in a softirq or in an interrupt handler. After the report we do
// what was asked for, so that the report can be read: the CPU's context counters are laid aside
// with the thread, and the thread is tied to this CPU, as the end of its interrupt must be told to
// this CPU's controller. An idle thread cannot sleep: it halts until the next interrupt instead and
// looks again.
void schedule_atomic(void)
{
    unsigned long flags = local_irq_save();
    struct cpu *cpu = cpu_self();
    struct cpu saved = *cpu;
    struct thread *thread = cpu->thread;

    struct lock_stack held;
    char letters[5];

    pr_err("BUG: scheduling while atomic: %s/%d/0x%08x", thread->name, thread->tid,
           sched_atomic_count());
    cpu_context_letters(cpu_context_flags(), letters);
    pr_err(
        "  context %s: interrupts %s, irq depth %u, softirq %u, bottom halves off %u, preemption "
        "off %u deep",
        letters, (flags & CPU_FLAGS_IF) != 0 ? "on" : "off", cpu->irq_depth, cpu->serving_softirq,
        cpu->bh_disabled, cpu->preempt_off);
    lockdep_print_held(pr_warn_line);
    backtrace_print(NULL);
    warn_noted("scheduling while atomic");
    if (thread == run_queues[cpu->id]->idle || cpu->nmi_depth != 0) {
        thread->state = THREAD_RUNNING;
        if (cpu->nmi_depth == 0) {
            cpu_sti_hlt();
            local_irq_disable(); // restoring only ever turns them on
        }
        local_irq_restore(flags);
        return;
    }
    // What interrupted the thread must not be charged with what others do meanwhile.
    enum cpu_time kind = cputime_enter(&cputimes[cpu->id], CPU_SYSTEM);
    struct cpumask allowed = thread->allowed, here = {0};
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
    cpu->bh_disabled = saved.bh_disabled;
    cpu->preempt_off = saved.preempt_off;
    cpu->serving_softirq = saved.serving_softirq;
    cputime_enter(&cputimes[cpu->id], kind);
    thread->allowed = allowed;
    local_irq_restore(flags);
}
