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
// Context: hard irq, called by irq_dispatch in <irq/desc.h>.
#include <core/clock.h>
#include <core/log.h>
#include <core/trace.h>
#include <x86/lapic.h>
#include <irq/desc.h>

enum { FLOW_EDGE_ROUNDS = 8, FLOW_LONG_NS = 50000000 };

// The longest call of a handler so far. Fifty milliseconds is the life of a dozen ticks: whatever
// else this CPU had to do waited.
// Hands on what the handler said, so that nobody has to keep it meanwhile.
static __noinline uint64_t flow_note_longest(struct irqaction *action, uint64_t cycles,
                                             uint64_t said)
{
    uint64_t ns = clock_tsc_to_ns(cycles);

    action->cycles_max = cycles;
    if (ns >= FLOW_LONG_NS) {
        pr_ratelimited(LOG_WARNING, "irq %u: %s kept CPU %u for %llu ms: too long for a handler",
                       action->irq, action->name, cpu_id(), (unsigned long long)(ns / 1000000));
    }
    return said;
}

static __noinline irqreturn_t flow_wake_thread(struct irq_desc *desc, struct irqaction *action)
{
    if (action->thread == NULL) {
        pr_ratelimited(LOG_ERR, "irq %u: %s asks for a thread and has none", desc->data.irq,
                       action->name);
        return IRQ_NONE;
    }
    // Counted first: the thread may be done on another CPU before wake() returns.
    __atomic_fetch_add(&desc->threads_active, 1, __ATOMIC_ACQ_REL);
    if (!irq_threads->wake(action)) {
        __atomic_fetch_sub(&desc->threads_active, 1, __ATOMIC_ACQ_REL);
    }
    return IRQ_WAKE_THREAD;
}

// One handler, timed. What it said.
static __always_inline uint64_t flow_call(struct irq_desc *desc, struct irqaction *action)
{
    irq_handler_t handler = action->handler;
    uint64_t start = rdtsc();

    cpu_field_write(handler_tsc, start);
    trace_at(start, TRACE_IRQ_HANDLER_ENTRY, desc->data.irq, (uintptr_t)handler);
    uint64_t said = handler((int)desc->data.irq, action->dev_id);
    uint64_t end = rdtsc();
    trace_at(end, TRACE_IRQ_HANDLER_EXIT, desc->data.irq, said);

    uint64_t cycles = end - cpu_field(handler_tsc);
    action->cycles += cycles;
    if (unlikely(cycles > action->cycles_max)) {
        said = flow_note_longest(action, cycles, said);
    }
    return said;
}

// One that asks for its thread gets it woken; without one, that is a mistake.
static unsigned flow_heed(struct irq_desc *desc, struct irqaction *action, unsigned said)
{
    if (likely(said == IRQ_HANDLED)) {
        action->count++;
    } else if (said == IRQ_WAKE_THREAD) {
        return flow_wake_thread(desc, action);
    }
    return said;
}

// The list, without the lock: the release of it made in_progress visible before the list is read;
// the other half is in free_irq. The first was called already, and said something.
static __always_inline unsigned flow_walk_on(struct irq_desc *desc, struct irqaction *action,
                                             unsigned said)
{
    unsigned result = flow_heed(desc, action, said);

    while ((action = READ_ONCE(action->next)) != NULL) {
        result |= flow_heed(desc, action, (unsigned)flow_call(desc, action));
    }
    return result;
}

// With the lock again.
static void flow_walked(struct irq_desc *desc, unsigned result)
{
    barrier(); // as in flow_actions()
    desc->in_progress--;
    if (result != IRQ_WAKE_THREAD) { // else the thread will know, and say (irq_thread_done)
        irq_note_result(desc, (irqreturn_t)(result & ~(unsigned)IRQ_WAKE_THREAD));
    }
}

// The line is shared, or the handler wants its thread, or the interrupt was not its own.
static __noinline void flow_actions_on(struct irq_desc *desc, struct irqaction *action,
                                       unsigned said)
{
    unsigned result = flow_walk_on(desc, action, said);

    spin_lock_hardirq(&desc->lock);
    flow_walked(desc, result);
}

// Most lines have one action, and most often it says "handled". True: there is an obstacle now.
static __always_inline bool flow_actions(struct irq_desc *desc)
{
    struct irqaction *action = desc->action;

    desc->in_progress++;
    spin_unlock_hardirq(&desc->lock);
    uint64_t said = flow_call(desc, action);
    if (unlikely(said != IRQ_HANDLED) || unlikely(action->next != NULL)) {
        flow_actions_on(desc, action, (unsigned)said);
        return desc->obstacles != 0;
    }
    action->count++;
    spin_lock_hardirq(&desc->lock);
    irq_note_handled(desc);
    barrier(); // x86 keeps stores in order: who sees it fall sees what the handlers did
    desc->obstacles -= OBSTACLE_IN_PROGRESS;
    return desc->obstacles != 0;
}

// The same for whoever is not a flow handler, and took the lock as one ordinarily does.
irqreturn_t irq_handle_actions(struct irq_desc *desc)
{
    struct irqaction *action = desc->action;

    lockdep_assert_held(&desc->lock);
    desc->in_progress++;
    spin_unlock(&desc->lock);
    unsigned result = flow_walk_on(desc, action, (unsigned)flow_call(desc, action));
    spin_lock(&desc->lock);
    flow_walked(desc, result);
    return (irqreturn_t)result;
}

static void flow_eoi(struct irq_desc *desc)
{
    if (desc->own_eoi) {
        desc->data.chip->irq_eoi(&desc->data);
    } else {
        lapic_eoi();
    }
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

    police_might_sleep();
    spin_lock_irqsave(&desc->lock, flags);
    __atomic_fetch_sub(&desc->threads_active, 1, __ATOMIC_ACQ_REL);
    irq_note_result(desc, result);
    flow_unmask_oneshot(desc);
    spin_unlock_irqrestore(&desc->lock, flags);
}

void flow_level(struct irq_desc *desc)
{
    spin_lock_hardirq(&desc->lock);
    bool run = flow_may_run(desc);
    if (unlikely(!run || desc->oneshot)) {
        irq_mask(desc); // before the handlers: a thread may be done before we are
    }
    if (likely(run)) {
        flow_actions(desc);
        if (desc->oneshot) {
            flow_unmask_oneshot(desc);
        }
    }
    flow_eoi(desc);
    spin_unlock_hardirq(&desc->lock);
}

// Called while another CPU, or a disable_irq, stands in the way: no handler can run, but the edge
// must not be forgotten. Masked, so that a storm stops at one; whoever takes the note unmasks
// before it looks at the device, so what is missed in between is seen.
static void flow_edge_note(struct irq_desc *desc)
{
    trace(TRACE_IRQ_NOTED, desc->data.irq, desc->data.vector);
    desc->pending = true;
    irq_mask(desc);
}

// Others came meanwhile, and left notes. After so many rounds the rest of the machine shall live:
// the last one comes back by the front door.
static __noinline void flow_edge_again(struct irq_desc *desc)
{
    for (unsigned round = 1; desc->pending && flow_may_run(desc); round++) {
        desc->pending = false;
        irq_unmask(desc);
        if (round < FLOW_EDGE_ROUNDS) {
            flow_actions(desc);
        } else if (desc->data.chip->irq_retrigger != NULL) {
            desc->data.chip->irq_retrigger(&desc->data);
        }
    }
}

// Most find no obstacle, and no other has come when they are done.
void flow_edge(struct irq_desc *desc)
{
    spin_lock_hardirq(&desc->lock);
    flow_eoi(desc);
    if (unlikely(desc->obstacles != 0)) {
        if (!flow_may_run(desc) || desc->in_progress != 0) {
            flow_edge_note(desc);
            spin_unlock_hardirq(&desc->lock);
            return;
        }
        desc->pending = false;
        irq_unmask(desc);
    }
    if (unlikely(flow_actions(desc))) {
        flow_edge_again(desc);
    }
    spin_unlock_hardirq(&desc->lock);
}

void flow_percpu(struct irq_desc *desc)
{
    flow_eoi(desc);
    struct irqaction *action = READ_ONCE(desc->action);
    if (action != NULL) {
        flow_heed(desc, action, (unsigned)flow_call(desc, action));
    }
}
