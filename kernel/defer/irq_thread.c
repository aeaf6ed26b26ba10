// Threaded interrupts: the bottom half that is a thread with a name and a priority.
//
//   hard irq   handler: "mine, but it takes long" ── IRQ_WAKE_THREAD ──> irq_thread_wake
//   thread     irq/24-ahci, SCHED_FIFO 50, on the irq's CPU: thread_fn, which may sleep
//              then irq_thread_done: a one-shot line is unmasked by the last thread that was woken
//
// A wake-up while the thread runs makes exactly one more run: `woken` is one bit, set by the
// handler and taken by the thread before each run, and each time that it goes from 0 to 1 is one
// run owed (irq_desc.threads_active counts them over all threads of the irq).
//
// Boot option threadirqs gives every handler such a thread, but for those with IRQF_NO_THREAD: what
// PREEMPT_RT does, so that a person can see what it costs. Such a handler was written for hard
// interrupt context, where no softirq runs on the CPU meanwhile; so softirqs are off around it.
//
// This is the shape of a driver that lives in ring 3, too: mask, wake, work, unmask
// (docs/decisions/0002-microkernel.md).
//
// Context: setup, wait, release: thread; wake: interrupts off. Previous: kernel/irq/flow.c.
#include <lib/errno.h>
#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <sched/thread.h>
#include <sched/wait.h>
#include <defer/irq_thread.h>
#include <defer/softirq.h>

enum { IRQ_THREAD_PRIORITY = 50, IRQ_THREADS_EXPECTED = 8 };

struct irq_thread {
    struct irqaction *action; // I
    struct irq_desc *desc;    // I
    struct thread *task;      // I
    irq_handler_t forced;     // I: by threadirqs: the handler that was meant for hard irq
    uint32_t woken;           // A: a run is owed
    bool running;             // of the thread: in its function
    bool dead;                // A: it ended, and should not have
    unsigned cpu;             // of the thread: where it was last told to run
};

static bool irq_thread_all;                      // I: threadirqs
static DECLARE_WAIT_QUEUE_HEAD(irq_thread_idle); // told after each run: synchronize_irq waits here

static irqreturn_t irq_thread_primary(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    return IRQ_WAKE_THREAD;
}

// ---- the thread ---------------------------------------------------------------------------------

// The thread works where its interrupt arrives: what the handler touched is in that CPU's cache.
static void irq_thread_follow(struct irq_thread *t)
{
    unsigned cpu = READ_ONCE(t->desc->data.cpu);

    if (cpu != t->cpu) {
        struct cpumask mask = {0};

        cpumask_set(&mask, cpu);
        if (sched_setaffinity(current, &mask) == 0) {
            t->cpu = cpu;
        }
    }
}

// What the thread runs, and who waits for the thread waits for.
static irq_handler_t irq_thread_function(const struct irqaction *action)
{
    const struct irq_thread *t = action->thread;

    return t->forced != NULL ? t->forced : action->thread_fn;
}

static irqreturn_t irq_thread_call(struct irq_thread *t)
{
    struct irqaction *action = t->action;

    irqreturn_t result;

    lockdep_function_begins(irq_thread_function(action));
    if (t->forced == NULL) {
        result = action->thread_fn((int)action->irq, action->dev_id);
    } else {
        local_bh_disable();
        result = t->forced((int)action->irq, action->dev_id);
        local_bh_enable();
    }
    lockdep_function_ends(irq_thread_function(action));
    return result;
}

static bool irq_thread_take(struct irq_thread *t)
{
    return __atomic_exchange_n(&t->woken, 0, __ATOMIC_ACQ_REL) != 0;
}

// A driver's function that ends its thread: nobody would ever open the line again, or do what the
// interrupts ask for. So the line is shut, in the open, and nobody waits for the run that does not
// come to its end.
static void irq_thread_died(struct thread *thread)
{
    struct irq_thread *t = thread->arg;

    __atomic_store_n(&t->dead, true, __ATOMIC_SEQ_CST);
    pr_err("irq %u: its thread %s has ended: its driver lets it; the line is shut", t->action->irq,
           thread->name);
    disable_irq_nosync(t->action->irq);
    if (t->running) {
        irq_thread_done(t->desc, IRQ_NONE);
    }
    if (irq_thread_take(t)) { // the run that was owed as well
        irq_thread_done(t->desc, IRQ_NONE);
    }
    wake_up_all(&irq_thread_idle);
}

static void irq_thread_main(void *arg)
{
    struct irq_thread *t = arg;

    current->exit_hook = irq_thread_died;
    while (!kthread_should_stop()) {
        set_current_state(
            THREAD_SLEEPING); // first, then the test: a wake-up in between is not lost
        if (!irq_thread_take(t)) {
            if (!kthread_should_stop()) {
                current->wait_channel = "irq";
                schedule();
            }
            set_current_state(THREAD_RUNNING);
            continue;
        }
        set_current_state(THREAD_RUNNING);
        irq_thread_follow(t);
        t->running = true;
        irqreturn_t result = irq_thread_call(t);
        t->running = false;
        if (result == IRQ_HANDLED) {
            t->action->count++;
        }
        irq_thread_done(t->desc, result);
        wake_up_all(&irq_thread_idle);
    }
    current->exit_hook = NULL; // it was asked to end
}

// ---- what the interrupt core calls --------------------------------------------------------------

// True for those that threadirqs moves.
static bool irq_thread_force(const struct irqaction *action)
{
    return irq_thread_all && action->thread_fn == NULL &&
           (action->flags & (IRQF_NO_THREAD | IRQF_ONESHOT)) == 0;
}

static int irq_thread_setup(struct irqaction *action)
{
    bool force = irq_thread_force(action);

    if (action->thread_fn == NULL && !force) {
        return 0;
    }
    struct irq_thread *t = kzalloc(sizeof(*t), GFP_KERNEL);
    if (t == NULL) {
        return -ENOMEM;
    }
    t->action = action;
    t->desc = irq_to_desc(action->irq);
    t->cpu = MAX_CPUS;
    t->task = kthread_run(irq_thread_main, t, "irq/%u-%s", action->irq, action->name);
    if (t->task == NULL) {
        kfree(t);
        return -ENOMEM;
    }
    sched_setscheduler(t->task, SCHED_FIFO, IRQ_THREAD_PRIORITY);
    if (force) {
        t->forced = action->handler;
        action->handler = irq_thread_primary;
        action->flags |= IRQF_ONESHOT;
    }
    action->thread = t;
    return 0;
}

static bool irq_thread_wake(struct irqaction *action)
{
    struct irq_thread *t = action->thread;

    if (unlikely(__atomic_load_n(&t->dead, __ATOMIC_SEQ_CST))) {
        return false;
    }
    if (__atomic_exchange_n(&t->woken, 1, __ATOMIC_ACQ_REL) != 0) {
        return false; // a run is owed already, and it will look at the device after this
    }
    if (unlikely(__atomic_load_n(&t->dead, __ATOMIC_SEQ_CST)) && irq_thread_take(t)) {
        return false; // it died meanwhile, and has not seen this
    }
    sched_wake_atomic(t->task); // the end of the interrupt will switch
    return true;
}

static bool irq_thread_is_idle(struct irq_desc *desc)
{
    return __atomic_load_n(&desc->threads_active, __ATOMIC_ACQUIRE) == 0;
}

// Told to the police whether there is something to wait for just now or not. The list may only be
// read under the lock, and what is found there goes on without it.
static void irq_thread_expect(struct irq_desc *desc)
{
    // cppcheck-suppress uninitvar ; it does not see that `count` of them are written
    irq_handler_t functions[IRQ_THREADS_EXPECTED];
    unsigned count = 0;
    unsigned long flags;

    spin_lock_irqsave(&desc->lock, flags);
    for (struct irqaction *a = desc->action; a != NULL && count < ARRAY_SIZE(functions);
         a = a->next) {
        if (a->thread != NULL) {
            functions[count++] = irq_thread_function(a);
        }
    }
    spin_unlock_irqrestore(&desc->lock, flags);
    for (unsigned i = 0; i < count; i++) {
        lockdep_waits_for(functions[i]);
    }
}

// There is no giving up, as the caller is about to free what the thread uses; but it is said.
static void irq_thread_wait(struct irq_desc *desc)
{
    if (current->fn == irq_thread_main && ((struct irq_thread *)current->arg)->desc == desc) {
        pr_err("irq %u: its thread must not wait for itself", desc->data.irq);
        WARN_ON(true);
        return;
    }
    if (police_watches()) {
        irq_thread_expect(desc);
    }
    for (unsigned seconds = 1; !irq_thread_is_idle(desc); seconds++) {
        if (wait_event_timeout(&irq_thread_idle, irq_thread_is_idle(desc), HZ) == 0 &&
            (seconds & (seconds - 1)) == 0) {
            pr_err("irq %u: its thread has been running for %u s", desc->data.irq, seconds);
        }
    }
}

static void irq_thread_release(struct irqaction *action)
{
    struct irq_thread *t = action->thread;

    lockdep_waits_for(irq_thread_function(action));
    kthread_stop(t->task);
    action->thread = NULL;
    kfree(t);
}

const struct irq_thread_ops irq_thread_ops = {
    .setup = irq_thread_setup,
    .wake = irq_thread_wake,
    .wait = irq_thread_wait,
    .release = irq_thread_release,
};

BOOT_FLAG("threadirqs", irq_thread_all, "handlers run in threads, but for IRQF_NO_THREAD");
