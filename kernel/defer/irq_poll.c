// Completion polling: IRQ_POLL_SOFTIRQ asks drivers for completions, a bounded number each.
//
//   drivers/block/ the top half     irq_poll_sched()                             <- previous
//   this file                       each driver that asked, in turn, weight by weight
//   drivers/block/ poll function    completions, then blk_complete_request()     <- next
//
// One run of the softirq hands out IRQ_POLL_BUDGET completions; what is left then waits for the
// next round, behind the other softirqs, and if there are too many rounds for ksoftirqd. So a disk
// that completes faster than the CPU can reap takes its share and no more.
//
// Who sets IRQ_POLL_SCHED owns the structure's place on a list: the driver's interrupt that sets it
// puts it on its CPU's list, the poll function that clears it (irq_poll_complete) has taken it off
// before. irq_poll_disable() is an owner that never puts it on a list.
//
// Context: as <defer/irq_poll.h> says.
#include <contract/proc_file.h>
#include <core/cpu.h>
#include <core/panic.h>
#include <sched/thread.h>
#include <sched/wait.h>
#include <defer/irq_poll.h>
#include <defer/softirq.h>

enum { IRQ_POLL_SCHED = 1, IRQ_POLL_DISABLED = 2 };

struct irq_poll_cpu {
    struct list_head list;       // C: drivers that want to be asked
    uint64_t polls, completions; // C: calls of poll functions, and what they found
    uint64_t whole;              // C: calls that used the whole weight
    uint64_t left;               // C: runs of the softirq that ended for want of budget
} __aligned(64);

static struct irq_poll_cpu irq_poll_cpus[MAX_CPUS];

void irq_poll_init(struct irq_poll *iop, int weight, irq_poll_fn poll)
{
    might_sleep();
    WARN_ON(weight < 1 || weight > IRQ_POLL_MAX_WEIGHT);
    INIT_LIST_HEAD(&iop->list);
    iop->state = 0;
    iop->weight = min(max(weight, 1), (int)IRQ_POLL_MAX_WEIGHT);
    iop->poll = poll;
}

// Sets the bit; true when it was clear.
static bool irq_poll_set(struct irq_poll *iop, uint32_t bit)
{
    return (__atomic_fetch_or(&iop->state, bit, __ATOMIC_SEQ_CST) & bit) == 0;
}

static bool irq_poll_is_disabled(const struct irq_poll *iop)
{
    return (__atomic_load_n(&iop->state, __ATOMIC_SEQ_CST) & IRQ_POLL_DISABLED) != 0;
}

void irq_poll_sched(struct irq_poll *iop)
{
    unsigned long flags;

    if (irq_poll_is_disabled(iop) || !irq_poll_set(iop, IRQ_POLL_SCHED)) {
        return;
    }
    flags = local_irq_save();
    list_add_tail(&iop->list, &this_cpu(irq_poll_cpus).list);
    raise_softirq_irqoff(IRQ_POLL_SOFTIRQ);
    local_irq_restore(flags);
}

// Gives up ownership. False: nobody had it, a mistake of the driver's.
static bool irq_poll_give_up(struct irq_poll *iop)
{
    uint32_t owned = IRQ_POLL_SCHED;

    return (__atomic_fetch_and(&iop->state, ~owned, __ATOMIC_SEQ_CST) & owned) != 0;
}

void irq_poll_complete(struct irq_poll *iop)
{
    assert_in_softirq();
    WARN_ON(!list_empty(&iop->list) || !irq_poll_give_up(iop));
}

void irq_poll_disable(struct irq_poll *iop)
{
    might_sleep();
    irq_poll_set(iop, IRQ_POLL_DISABLED); // one that always has more is taken off the list
    while (!irq_poll_set(iop, IRQ_POLL_SCHED)) {
        set_current_state(THREAD_BLOCKED);
        schedule_timeout(1);
    }
}

void irq_poll_enable(struct irq_poll *iop)
{
    WARN_ON(!irq_poll_is_disabled(iop));
    __atomic_store_n(&iop->state, 0, __ATOMIC_SEQ_CST);
}

// Asks the first driver on the list. One that used its whole weight may have more and goes to the
// end of the list, unless somebody waits for it to stop; one that did not may be on another CPU's
// list by now, or gone. Interrupts off on entry and exit, on meanwhile.
static int irq_poll_ask(struct irq_poll_cpu *self)
{
    struct irq_poll *iop = list_first_entry(&self->list, struct irq_poll, list);
    int weight = iop->weight;

    list_del_init(&iop->list);
    local_irq_enable();
    int done = iop->poll(iop, weight);
    local_irq_disable();
    self->polls++;
    self->completions += (uint64_t)max(done, 0);
    if (done >= weight) {
        self->whole++;
        if (irq_poll_is_disabled(iop)) {
            irq_poll_give_up(iop);
        } else {
            list_add_tail(&iop->list, &self->list);
        }
    }
    return done;
}

static void irq_poll_softirq(void)
{
    struct irq_poll_cpu *self = &this_cpu(irq_poll_cpus);

    local_irq_disable();
    for (int budget = IRQ_POLL_BUDGET; budget > 0 && !list_empty(&self->list);) {
        budget -= max(irq_poll_ask(self), 1);
    }
    if (!list_empty(&self->list)) {
        self->left++;
        raise_softirq_irqoff(IRQ_POLL_SOFTIRQ);
    }
    local_irq_enable();
}

void irq_poll_init_subsystem(void)
{
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
        INIT_LIST_HEAD(&irq_poll_cpus[cpu].list);
    }
    open_softirq(IRQ_POLL_SOFTIRQ, irq_poll_softirq);
}

static void irq_poll_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "%4s %12s %12s %12s %12s\n", "CPU", "POLLS", "COMPLETIONS", "WHOLE_WEIGHT",
                "BUDGET_ENDED");
    for_each_online_cpu (cpu) {
        const struct irq_poll_cpu *c = &irq_poll_cpus[cpu];

        text_printf(t, "%4u %12llu %12llu %12llu %12llu\n", cpu, (unsigned long long)c->polls,
                    (unsigned long long)c->completions, (unsigned long long)c->whole,
                    (unsigned long long)c->left);
    }
}

PROC_FILE("irq_poll", irq_poll_show);
