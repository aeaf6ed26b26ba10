// Handlers: from request_irq() to free_irq().
//
//   descriptor ──action──> driver A ──> driver B (IRQF_SHARED)      who may join: irq_may_share()
//
// The first action sets the trigger and starts the line, the last one that goes shuts it. A flow
// handler reads the list without the lock: an action that is unlinked is freed only when no handler
// runs any more (synchronize_irq), and still points to the way on. A driver that changes its kind
// of interrupt takes its action along (irq_detach_action), so that its handler stays what it is.
//
// Threads for handlers that may sleep are made above this layer, which hands down how
// (irq_threads).
//
// Context: thread. Previous: irq.c. Next: line.c.
#include <lib/errno.h>
#include <core/log.h>
#include <core/panic.h>
#include <mm/slab.h>
#include <irq/desc.h>

enum {
    IRQF_TRIGGER_EDGES = IRQF_TRIGGER_RISING | IRQF_TRIGGER_FALLING,
    IRQF_TRIGGER_LEVELS = IRQF_TRIGGER_HIGH | IRQF_TRIGGER_LOW,
    IRQF_TRIGGER_MASK = IRQF_TRIGGER_EDGES | IRQF_TRIGGER_LEVELS,
};

const struct irq_thread_ops *irq_threads;

// ---- the trigger ----

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

// ---- the list of actions ----

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

// ---- request and free ----

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

// ---- from one irq to another ----

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

// ---- whose is it? ----

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
