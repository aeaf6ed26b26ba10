// A line: started, masked, disabled and enabled, waited for, moved to another CPU, programmed anew.
//
//                    irq_start                disable_irq: depth 1, 2, ..
//   (no handler) ────────────────> listening ────────────────────────────> disabled
//                <────────────────           <────────────────────────────
//                   irq_shutdown               enable_irq: depth .., 1, 0
//
// Masked is what the chip does; disabled is what was asked for. A level is masked when it is
// disabled, an edge only when it comes: then it is remembered (`pending`) and sent again.
//
// Context: as <irq/irq.h> says; what changes a descriptor holds its lock. Previous: request.c.
// Next: route.c (which vector, which CPU).
#include <lib/errno.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <x86/lapic.h>
#include <irq/desc.h>
#include <irq/ipi.h>
#include <irq/route.h>

#define IRQ_SYNC_LATE_NS 10000000000ull // an emulated CPU may be scheduled away for seconds

// ---- starting and stopping ----

void irq_mask(struct irq_desc *desc)
{
    lockdep_assert_held(&desc->lock);
    if (!desc->masked) {
        desc->masked = true;
        desc->data.chip->irq_mask(&desc->data);
    }
}

void irq_unmask(struct irq_desc *desc)
{
    lockdep_assert_held(&desc->lock);
    if (desc->masked) {
        desc->masked = false;
        desc->data.chip->irq_unmask(&desc->data);
    }
}

static void irq_aim(struct irq_desc *desc, unsigned cpu)
{
    desc->data.cpu = cpu;
    desc->data.apic_id = cpus[cpu].apic_id;
    desc->effective_affinity = (struct cpumask){0};
    cpumask_set(&desc->effective_affinity, cpu);
}

// A wire keeps the vector of its first start for good: one that is still on its way when the line
// is shut finds its descriptor, and none can take it for another's. Messages give theirs back in
// route_free_message.
int irq_start(struct irq_desc *desc)
{
    lockdep_assert_held(&desc->lock);
    if (desc->data.vector == 0) {
        desc->data.vector = route_vector_alloc(desc->data.irq);
        if (desc->data.vector == 0) {
            pr_err("irq %u: all interrupt vectors are taken", desc->data.irq);
            return -ENOSPC;
        }
    }
    if (cpumask_empty(&desc->affinity)) {
        desc->affinity = irq_default_affinity;
    }
    unsigned cpu = route_pick_cpu(&desc->affinity);
    irq_aim(desc, cpu != MAX_CPUS
                      ? cpu
                      : 0); // a wish for CPUs that are not there is no reason to stay deaf
    desc->depth = 0;
    desc->pending = false;
    desc->killed = false;
    desc->masked = false;
    desc->own_eoi = desc->data.chip->irq_eoi != NULL;
    desc->started = true;
    desc->data.chip->irq_startup(&desc->data);
    return 0;
}

void irq_shutdown(struct irq_desc *desc)
{
    lockdep_assert_held(&desc->lock);
    desc->started = false;
    desc->masked = true;
    desc->depth = 1;
    desc->data.chip->irq_shutdown(&desc->data);
}

// ---- disable, enable, wait ----

void synchronize_irq(unsigned irq)
{
    might_sleep();
    struct irq_desc *desc = irq_to_desc(irq);
    if (desc == NULL) {
        return;
    }
    if (in_hardirq()) { // it might be this very handler, which would wait for itself
        pr_err("irq %u: a handler must not wait for handlers", irq);
        WARN_ON(true);
        return;
    }
    // Whoever asks is about to free what the handler uses, so there is no giving up; but a handler
    // that never returns is named.
    bool told = false;
    uint64_t late_ns = clock_ns() + IRQ_SYNC_LATE_NS;
    while (__atomic_load_n(&desc->in_progress, __ATOMIC_ACQUIRE) != 0) {
        if (!told && clock_ns() > late_ns) {
            told = true;
            pr_err("irq %u: a handler does not come to an end (%s)", irq,
                   desc->action != NULL ? desc->action->name : "freed");
        }
        cpu_relax();
    }
    if (__atomic_load_n(&desc->threads_active, __ATOMIC_ACQUIRE) != 0 ||
        (police_watches() && irq_threads != NULL)) { // it wants to know who would be waited for
        irq_threads->wait(desc);
    }
}

// A level must be masked at once, or it would interrupt again and again. An edge can wait: it
// happens rarely between disable and enable, and when it does flow_edge masks it and remembers that
// it came, so that none is lost.
void disable_irq_nosync(unsigned irq)
{
    struct irq_desc *desc = irq_to_desc(irq);
    if (desc == NULL) {
        return;
    }
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    if (desc->depth++ == 0 && desc->data.level) {
        irq_mask(desc);
    }
    spin_unlock_irqrestore(&desc->lock, flags);
}

void disable_irq(unsigned irq)
{
    might_sleep();
    disable_irq_nosync(irq);
    synchronize_irq(irq);
}

void enable_irq(unsigned irq)
{
    struct irq_desc *desc = irq_to_desc(irq);
    if (desc == NULL) {
        return;
    }
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    bool unbalanced = !desc->started || desc->depth == 0;
    if (!unbalanced && --desc->depth == 0) {
        desc->killed = false;
        irq_unmask(desc);
        if (desc->pending && desc->data.chip->irq_retrigger != NULL) {
            desc->pending = false;
            desc->data.chip->irq_retrigger(&desc->data);
        }
    }
    spin_unlock_irqrestore(&desc->lock, flags);
    if (unbalanced) {
        pr_warn("Unbalanced enable for IRQ %u", irq);
        WARN_ON(true);
    }
}

// ---- affinity ----

int irq_set_affinity(unsigned irq, const struct cpumask *mask)
{
    struct irq_desc *desc = irq_to_desc(irq);
    unsigned cpu = route_pick_cpu(mask);
    if (desc == NULL || cpu == MAX_CPUS) {
        return -EINVAL;
    }
    if (desc->data.chip->irq_set_affinity == NULL) {
        return -EIO;
    }
    int err = 0;
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    if (!desc->started) {
        desc->affinity = *mask; // irq_start will heed it
    } else if (cpumask_test(mask, desc->data.cpu) && cpus[desc->data.cpu].online) {
        desc->affinity = *mask; // it is at home already
    } else {
        unsigned before = desc->data.cpu;
        irq_aim(desc, cpu);
        err = desc->data.chip->irq_set_affinity(&desc->data);
        if (err == 0) {
            desc->affinity = *mask;
        } else {
            irq_aim(desc, before);
        }
    }
    spin_unlock_irqrestore(&desc->lock, flags);
    return err;
}

int irq_set_affinity_and_hint(unsigned irq, const struct cpumask *mask)
{
    struct irq_desc *desc = irq_to_desc(irq);
    if (desc == NULL) {
        return -EINVAL;
    }
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    desc->affinity_hint = mask != NULL ? *mask : (struct cpumask){0};
    spin_unlock_irqrestore(&desc->lock, flags);
    return mask != NULL ? irq_set_affinity(irq, mask) : 0;
}

// ---- once more ----

// What the device said while nobody listened was lost on the way: its level was cut, its message
// went nowhere. So its handler is called once, and looks.
void irq_replay(unsigned irq)
{
    assert_context(CTX_THREAD | CTX_ATOMIC); // bottom halves are off in its caller
    struct irq_desc *desc = irq_to_desc(irq);
    unsigned long flags;
    if (desc == NULL) {
        return;
    }
    spin_lock_irqsave(&desc->lock, flags);
    if (desc->started && desc->depth == 0) {
        if (!desc->data.level && desc->data.chip->irq_retrigger != NULL) {
            desc->data.chip->irq_retrigger(&desc->data);
        } else if (desc->in_progress == 0) {
            irq_handle_actions(desc);
        }
    }
    spin_unlock_irqrestore(&desc->lock, flags);
}

// On the CPU itself, in its interrupt for function calls, whose own EOI was sent before: handlers
// run with interrupts off and do not nest, so what is in service now and holds this irq back was
// forgotten.
static void irq_end_orphans(void *arg)
{
    const uint8_t *vector = arg;

    lapic_end_in_service(*vector, NULL, 0);
}

int irq_reprogram(unsigned irq)
{
    might_sleep();
    struct irq_desc *desc = irq_to_desc(irq);
    unsigned long flags;
    if (desc == NULL || !desc->started) {
        return -ENXIO;
    }
    uint8_t vector = desc->data.vector;
    smp_call_function_single(desc->data.cpu, irq_end_orphans, &vector, true);
    spin_lock_irqsave(&desc->lock, flags);
    bool started = desc->started;
    if (started) {
        irq_note_anew(desc);
        if (desc->killed) {
            desc->killed = false;
            desc->depth--;
            desc->masked = desc->depth != 0;
        }
        desc->data.chip->irq_shutdown(&desc->data); // turns a level's entry to edge and back
        desc->data.chip->irq_startup(&desc->data);
        if (desc->masked) {
            desc->data.chip->irq_mask(&desc->data);
        }
    }
    spin_unlock_irqrestore(&desc->lock, flags);
    return started ? 0 : -ENXIO;
}
