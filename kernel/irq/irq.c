// From a vector to the handlers that asked for it: the interrupt core.
//
//   1 kernel/x86/entry.S     stub and save
//   2 kernel/interrupt.c     the spine                                             <- previous
//   3 <irq/desc.h>, flow.c   vector to descriptor, in line; when to mask and acknowledge, and the
//                            list of actions; this file is all around them
//   4 drivers/net/e1000/     the top half                                          <- next
//
// Three things that older kernels mixed are kept apart here, as in Linux's generic layer:
//
//   the chip      knows registers: mask, unmask, EOI. contract/irq_chip.h; kernel/x86/ioapic.c, MSI
//   the flow      knows when to do which of them: an edge is another story than a level. flow.c
//   the actions   know what to do about it: the drivers' handlers. request_irq, below
//
// and a descriptor per irq ties one of each together. Some vectors have no descriptor: the CPU's
// own timer and error inputs, and messages between CPUs. They are the kernel's, not a driver's;
// their handlers stand in a table of their own.
//
// Who may touch what: a descriptor is changed under its lock with interrupts off. The flow handlers
// take the same lock, but let go of it while handlers run, and read the action list without it;
// `in_progress` says so, and free_irq waits for it to fall to 0 between unlinking an action and
// freeing it. The counts are per CPU and written by that CPU alone.
//
// Context: irq_dispatch_system in hard irq; the driver's functions as their header says. This layer
// knows no threads: what waits here, spins.
#include <lib/errno.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <x86/exception.h>
#include <x86/lapic.h>
#include <x86/pic.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <irq/ipi.h>
#include <irq/route.h>

enum {
    IRQF_TRIGGER_EDGES = IRQF_TRIGGER_RISING | IRQF_TRIGGER_FALLING,
    IRQF_TRIGGER_LEVELS = IRQF_TRIGGER_HIGH | IRQF_TRIGGER_LOW,
    IRQF_TRIGGER_MASK = IRQF_TRIGGER_EDGES | IRQF_TRIGGER_LEVELS,

    IRQ_PIC_FIRST = 0x20,
    IRQ_PIC_LAST = 0x2f,
};

#define IRQ_SYNC_LATE_NS 10000000000ull // an emulated CPU may be scheduled away for seconds

struct irq_desc irq_descs[MAX_IRQS];
uint32_t irq_err_count;
const struct irq_thread_ops *irq_threads;

struct irq_system {
    void (*fn)(void);   // I
    enum irq_stat stat; // I
};
static struct irq_system irq_system[256];
static uint32_t irq_stats[IRQ_STAT_COUNT][MAX_CPUS]; // C

// ---- counts ----

struct irq_desc *irq_to_desc(unsigned irq)
{
    return irq < MAX_IRQS && READ_ONCE(irq_descs[irq].exists) ? &irq_descs[irq] : NULL;
}

unsigned irq_count(void)
{
    unsigned end = MAX_IRQS;
    while (end > 0 && !irq_descs[end - 1].exists) {
        end--;
    }
    return end;
}

uint64_t irq_desc_total(const struct irq_desc *desc)
{
    uint64_t total = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        total += READ_ONCE(desc->count[cpu]);
    }
    return total;
}

void irq_stat_inc(enum irq_stat stat)
{
    if (stat < IRQ_STAT_COUNT) {
        irq_stats[stat][cpu_id()]++;
    }
}

// NMI and machine check are exceptions by number, and counted where those are; retries of the
// command register are the APIC's.
uint32_t irq_stat_get(enum irq_stat stat, unsigned cpu)
{
    switch (stat) {
    case IRQ_STAT_NMI:
        return (uint32_t)exception_count(EXC_NMI, cpu);
    case IRQ_STAT_MCE:
        return (uint32_t)exception_count(EXC_MC, cpu);
    case IRQ_STAT_RTR:
        return lapic_icr_retries(cpu);
    default:
        return stat < IRQ_STAT_COUNT && cpu < MAX_CPUS ? READ_ONCE(irq_stats[stat][cpu]) : 0;
    }
}

uint64_t irq_total(unsigned cpu)
{
    return cpu < MAX_CPUS ? READ_ONCE(cpus[cpu].interrupts) + irq_stat_get(IRQ_STAT_NMI, cpu) +
                                irq_stat_get(IRQ_STAT_MCE, cpu)
                          : 0;
}

// ---- the way in ----

void irq_set_system_vector(uint8_t vector, enum irq_stat stat, void (*fn)(void))
{
    assert(irq_system[vector].fn == NULL || irq_system[vector].fn == fn);
    irq_system[vector].stat = stat;
    WRITE_ONCE(irq_system[vector].fn, fn); // last: the vector may come at once
}

// A vector that nobody asked for: a mistake of ours, a late message of a device that was just let
// go, or a chipset's. An EOI is owed exactly when the in-service bit is set: the spurious vector
// has none, and an 8259's comes past the local APIC.
static void irq_unexpected(uint8_t vector)
{
    bool in_service = lapic_isr_test(vector);
    if (in_service) {
        lapic_eoi();
    }
    if (vector == VECTOR_SPURIOUS && !in_service) {
        irq_stat_inc(IRQ_STAT_SPU); // a message was withdrawn on its way; harmless
        return;
    }
    __atomic_fetch_add(&irq_err_count, 1, __ATOMIC_RELAXED);
    if (!in_service && vector >= IRQ_PIC_FIRST && vector <= IRQ_PIC_LAST) {
        unsigned line = vector - IRQ_PIC_FIRST;
        bool real = pic_stray(line);
        pr_ratelimited(LOG_WARNING, "irq: CPU %u: %s interrupt %u from the 8259", cpu_id(),
                       real ? "stray" : "spurious", line);
        return;
    }
    pr_ratelimited(LOG_WARNING, "irq: CPU %u: no handler for vector 0x%02x", cpu_id(), vector);
}

// The kernel's own vectors: timer, messages between CPUs; and those that lead nowhere.
void irq_dispatch_system(struct cpu *cpu, uint8_t vector)
{
    cpu->interrupts++;
    void (*fn)(void) = READ_ONCE(irq_system[vector].fn);
    if (fn == NULL) {
        irq_unexpected(vector);
        return;
    }
    irq_stat_inc(irq_system[vector].stat);
    trace(TRACE_VECTOR_ENTRY, vector, 0);
    lapic_eoi();
    fn();
    trace(TRACE_VECTOR_EXIT, vector, 0);
}

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

// ---- request and free ----

static int irq_apply_trigger(struct irq_desc *desc, unsigned long flags)
{
    unsigned trigger = flags & IRQF_TRIGGER_MASK;
    if (trigger != 0 && !IS_POWER_OF_2(trigger)) {
        return -EINVAL; // both edges, or edge and level: no chip here can
    }
    if (!desc->retyped) {
        desc->wired_level = desc->data.level;
        desc->wired_low = desc->data.active_low;
    }
    bool level = desc->wired_level, active_low = desc->wired_low; // as the tables say
    if (trigger != 0) {
        level = (trigger & IRQF_TRIGGER_LEVELS) != 0;
        active_low = (trigger & (IRQF_TRIGGER_LOW | IRQF_TRIGGER_FALLING)) != 0;
    }
    desc->retyped = level != desc->wired_level || active_low != desc->wired_low;
    if (level == desc->data.level && active_low == desc->data.active_low) {
        return 0;
    }
    if (desc->data.chip->irq_set_type == NULL) {
        return -EINVAL;
    }
    desc->data.level = level;
    desc->data.active_low = active_low;
    desc->flow = level ? flow_level : flow_edge;
    return desc->data.chip->irq_set_type(&desc->data);
}

// May the two share? Linux's rule: both say so, and agree on the trigger and on one-shot masking.
static bool irq_may_share(const struct irqaction *old, const struct irqaction *action)
{
    const unsigned long same = IRQF_TRIGGER_MASK | IRQF_ONESHOT;
    return (old->flags & action->flags & IRQF_SHARED) != 0 &&
           ((old->flags ^ action->flags) & same) == 0;
}

static int irq_add_action(struct irq_desc *desc, struct irqaction *action)
{
    struct irqaction *first = desc->action;
    if (first == NULL) {
        int err = irq_apply_trigger(desc, action->flags);
        if (err != 0) {
            return err;
        }
        irq_note_anew(desc);
        desc->oneshot = (action->flags & IRQF_ONESHOT) != 0 && !desc->data.chip->oneshot_safe;
        WRITE_ONCE(desc->action, action); // before the first interrupt
        err = irq_start(desc);
        if (err != 0) {
            WRITE_ONCE(desc->action, NULL);
        }
        return err;
    }
    if (!irq_may_share(first, action)) {
        pr_err("genirq: Flags mismatch irq %u. %08lx (%s) vs. %08lx (%s)", action->irq,
               action->flags, action->name, first->flags, first->name);
        return -EBUSY;
    }
    for (struct irqaction *other = first; other != NULL; other = other->next) {
        if (other->dev_id == action->dev_id) {
            pr_err("irq %u: dev_id %p of %s is %s's already: free_irq could not tell them apart",
                   action->irq, action->dev_id, action->name, other->name);
            return -EINVAL;
        }
        first = other;
    }
    WRITE_ONCE(first->next, action);
    if (desc->killed) { // a new handler may be the one that was missing
        desc->killed = false;
        irq_note_anew(desc);
        if (--desc->depth == 0) {
            irq_unmask(desc);
        }
    }
    return 0;
}

// The primary handler of an irq that has only a thread.
static irqreturn_t irq_wake_thread_only(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    return IRQ_WAKE_THREAD;
}

// Without a handler that quiets the device a level would interrupt for ever, before the thread ran.
static int irq_check_primary(const struct irq_desc *desc, const struct irqaction *action)
{
    if (action->handler != irq_wake_thread_only || (action->flags & IRQF_ONESHOT) ||
        desc->data.chip->oneshot_safe) {
        return 0;
    }
    pr_err("genirq: Threaded irq requested with handler=NULL and !ONESHOT for %s (irq %u)",
           action->name, action->irq);
    return -EINVAL;
}

static int irq_request_action(struct irq_desc *desc, struct irqaction *action)
{
    int err = irq_check_primary(desc, action);
    if (err == 0 && irq_threads != NULL) {
        err = irq_threads->setup(action);
    } else if (err == 0 && action->thread_fn != NULL) {
        err = -EOPNOTSUPP; // too early: nobody makes threads yet
    }
    if (err != 0) {
        return err;
    }
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    err = irq_add_action(desc, action);
    spin_unlock_irqrestore(&desc->lock, flags);
    if (err != 0 && action->thread != NULL) {
        irq_threads->release(action);
    }
    return err;
}

int request_threaded_irq(unsigned irq, irq_handler_t handler, irq_handler_t thread_fn,
                         unsigned long flags, const char *name, void *dev_id)
{
    might_sleep();
    struct irq_desc *desc = irq_to_desc(irq);
    if (desc == NULL || (handler == NULL && thread_fn == NULL) ||
        ((flags & IRQF_SHARED) && dev_id == NULL)) {
        return -EINVAL;
    }
    struct irqaction *action = kzalloc(sizeof(*action), GFP_KERNEL);
    if (action == NULL) {
        return -ENOMEM;
    }
    *action = (struct irqaction){.handler = handler != NULL ? handler : irq_wake_thread_only,
                                 .thread_fn = thread_fn,
                                 .dev_id = dev_id,
                                 .flags = flags,
                                 .name = name != NULL ? name : "?",
                                 .irq = irq};
    int err = irq_request_action(desc, action);
    if (err != 0) {
        kfree(action);
    }
    return err;
}

int request_irq(unsigned irq, irq_handler_t handler, unsigned long flags, const char *name,
                void *dev_id)
{
    might_sleep();
    return handler == NULL ? -EINVAL
                           : request_threaded_irq(irq, handler, NULL, flags, name, dev_id);
}

static struct irqaction *irq_remove_action(struct irq_desc *desc, const void *dev_id)
{
    struct irqaction **link = &desc->action;
    while (*link != NULL && (*link)->dev_id != dev_id) {
        link = &(*link)->next;
    }
    struct irqaction *action = *link;
    if (action != NULL) {
        WRITE_ONCE(*link, action->next); // a flow that stands on it still finds the way on
        if (desc->action == NULL) {
            irq_shutdown(desc);
        }
    }
    return action;
}

const char *free_irq(unsigned irq, void *dev_id)
{
    might_sleep();
    struct irq_desc *desc = irq_to_desc(irq);
    if (desc == NULL || in_hardirq()) {
        pr_err("irq %u: cannot be freed: %s", irq,
               desc == NULL ? "there is no such irq" : "this is interrupt context");
        WARN_ON(true);
        return NULL;
    }
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    struct irqaction *action = irq_remove_action(desc, dev_id);
    spin_unlock_irqrestore(&desc->lock, flags);
    if (action == NULL) {
        pr_err("Trying to free already-free IRQ %u", irq);
        WARN_ON(true);
        return NULL;
    }
    synchronize_irq(irq);
    const char *name = action->name;
    if (action->thread != NULL) {
        irq_threads->release(action);
    }
    kfree(action);
    return name;
}

struct irqaction *irq_detach_action(unsigned irq, const void *dev_id)
{
    might_sleep();
    struct irq_desc *desc = irq_to_desc(irq);
    struct irqaction *action = NULL;
    unsigned long flags;
    if (desc == NULL) {
        return NULL;
    }
    spin_lock_irqsave(&desc->lock, flags);
    for (action = desc->action; action != NULL && action->dev_id != dev_id;) {
        action = action->next;
    }
    if (action != NULL && action->thread == NULL) {
        irq_remove_action(desc, dev_id);
    } else {
        action = NULL;
    }
    spin_unlock_irqrestore(&desc->lock, flags);
    if (action != NULL) {
        synchronize_irq(irq);
    }
    return action;
}

int irq_attach_action(unsigned irq, struct irqaction *action)
{
    might_sleep();
    struct irq_desc *desc = irq_to_desc(irq);
    unsigned long flags;
    if (desc == NULL) {
        return -EINVAL;
    }
    action->irq = irq;
    action->next = NULL;
    spin_lock_irqsave(&desc->lock, flags);
    int err = irq_add_action(desc, action);
    spin_unlock_irqrestore(&desc->lock, flags);
    return err;
}

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

void *irq_find_dev_id(const void *start, size_t size, unsigned *irq, const char **name)
{
    for (unsigned i = 0; i < irq_count(); i++) {
        struct irq_desc *desc = irq_to_desc(i);
        void *found = NULL;
        unsigned long flags;
        if (desc == NULL) {
            continue;
        }
        spin_lock_irqsave(&desc->lock, flags);
        for (struct irqaction *action = desc->action; action != NULL; action = action->next) {
            if ((uintptr_t)action->dev_id - (uintptr_t)start < size) {
                found = action->dev_id;
                *irq = i;
                *name = action->name;
            }
        }
        spin_unlock_irqrestore(&desc->lock, flags);
        if (found != NULL) {
            return found;
        }
    }
    return NULL;
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
