// Flow handlers: what to do with the controller before, between and after the drivers' handlers.
// Which one an irq has follows from how its wire speaks:
//
//   level   the wire stays active until the device is quieted. The handlers do that, then EOI: an
//           EOI before would let the same level in again. While the line is disabled it is masked,
//           and the level waits; and where a thread is to quiet the device (IRQF_ONESHOT), it is
//           masked until the thread has.
//   edge    the wire only blinks, and a message is the same. EOI first, so that a blink during the
//           handlers is taken and not lost; should it arrive on another CPU, that one leaves a note
//           (pending) and the first goes round again.
//   percpu  each CPU has its own; no lock, no sharing.
//
// The names in /proc/interrupts are Linux's: "fasteoi" for level (the chip needs one word at the
// end), "edge", "percpu".
//
// Context: hard irq, called by irq_dispatch in irq.c.
#include <core/log.h>
#include <core/trace.h>
#include <irq/desc.h>

enum { FLOW_EDGE_ROUNDS = 8 };

// One handler, timed. One that asks for its thread gets it woken; without one, that is a mistake.
static irqreturn_t flow_call(struct irq_desc *desc, struct irqaction *action)
{
    unsigned irq = desc->data.irq;
    uint64_t start = rdtsc();

    trace(TRACE_IRQ_HANDLER_ENTRY, irq, (uint64_t)(uintptr_t)action->handler);
    irqreturn_t said = action->handler((int)irq, action->dev_id);
    trace(TRACE_IRQ_HANDLER_EXIT, irq, said);

    uint64_t cycles = rdtsc() - start;
    action->cycles += cycles;
    if (cycles > action->cycles_max) {
        action->cycles_max = cycles;
    }
    action->count += said == IRQ_HANDLED;
    if (said == IRQ_WAKE_THREAD) {
        if (action->thread == NULL) {
            pr_ratelimited(LOG_ERR, "irq %u: %s asks for a thread and has none", irq, action->name);
            return IRQ_NONE;
        }
        // Counted first: the thread may be done on another CPU before wake() returns.
        __atomic_fetch_add(&desc->threads_active, 1, __ATOMIC_ACQ_REL);
        if (!irq_threads->wake(action)) {
            __atomic_fetch_sub(&desc->threads_active, 1, __ATOMIC_ACQ_REL);
        }
    }
    return said;
}

irqreturn_t irq_handle_actions(struct irq_desc *desc)
{
    unsigned result = IRQ_NONE;
    // The release of the lock makes the count visible before the list is read; the other half is in
    // free_irq.
    desc->in_progress++;
    struct irqaction *action = desc->action;
    spin_unlock(&desc->lock);

    for (; action != NULL; action = READ_ONCE(action->next)) {
        result |= flow_call(desc, action);
    }

    spin_lock(&desc->lock);
    __atomic_store_n(&desc->in_progress, desc->in_progress - 1, __ATOMIC_RELEASE);
    if (result != IRQ_WAKE_THREAD) { // else the thread will know, and say (irq_thread_done)
        irq_note_result(desc, (irqreturn_t)(result & ~(unsigned)IRQ_WAKE_THREAD));
    }
    return (irqreturn_t)result;
}

static bool flow_may_run(const struct irq_desc *desc)
{
    return desc->depth == 0 && desc->action != NULL;
}

// A one-shot line opens when nobody is left who might still have to quiet the device: no handler,
// no thread. The last of them does it.
static void flow_unmask_oneshot(struct irq_desc *desc)
{
    if (desc->oneshot && desc->depth == 0 && desc->started && desc->in_progress == 0 &&
        __atomic_load_n(&desc->threads_active, __ATOMIC_ACQUIRE) == 0) {
        irq_unmask(desc);
    }
}

void irq_thread_done(struct irq_desc *desc, irqreturn_t result)
{
    unsigned long flags;

    spin_lock_irqsave(&desc->lock, flags);
    __atomic_fetch_sub(&desc->threads_active, 1, __ATOMIC_ACQ_REL);
    irq_note_result(desc, result);
    flow_unmask_oneshot(desc);
    spin_unlock_irqrestore(&desc->lock, flags);
}

void flow_level(struct irq_desc *desc)
{
    spin_lock(&desc->lock);
    if (!flow_may_run(desc)) {
        irq_mask(desc);
    } else if (!desc->oneshot) {
        irq_handle_actions(desc);
    } else { // masked before the handlers: a thread may be done before we are
        irq_mask(desc);
        irq_handle_actions(desc);
        flow_unmask_oneshot(desc);
    }
    desc->data.chip->irq_eoi(&desc->data);
    spin_unlock(&desc->lock);
}

// Called while another CPU, or a disable_irq, stands in the way: no handler can run, but the edge
// must not be forgotten. Masked, so that a storm stops at one; whoever takes the note unmasks
// before it looks at the device, so what is missed in between is seen.
static void flow_edge_note(struct irq_desc *desc)
{
    desc->pending = true;
    irq_mask(desc);
}

void flow_edge(struct irq_desc *desc)
{
    spin_lock(&desc->lock);
    desc->data.chip->irq_eoi(&desc->data);
    if (!flow_may_run(desc) || desc->in_progress != 0) {
        flow_edge_note(desc);
        spin_unlock(&desc->lock);
        return;
    }
    unsigned rounds = 0;
    do {
        desc->pending = false;
        irq_unmask(desc);
        irq_handle_actions(desc);
    } while (desc->pending && flow_may_run(desc) && ++rounds < FLOW_EDGE_ROUNDS);

    // Still more after so many rounds: let the rest of the machine live, and come back by the front
    // door.
    if (desc->pending && flow_may_run(desc)) {
        desc->pending = false;
        irq_unmask(desc);
        if (desc->data.chip->irq_retrigger != NULL) {
            desc->data.chip->irq_retrigger(&desc->data);
        }
    }
    spin_unlock(&desc->lock);
}

void flow_percpu(struct irq_desc *desc)
{
    desc->data.chip->irq_eoi(&desc->data);
    struct irqaction *action = READ_ONCE(desc->action);
    if (action != NULL) {
        flow_call(desc, action);
    }
}
