// Mistakes on the way of an interrupt, for `break`: what `irq why` then finds.
//
// Context: thread; break_flow_without_eoi hard irq.
#include <lib/errno.h>
#include <lib/parse.h>
#include <contract/break.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <irq/desc.h>
#include <irq/soft_line.h>
#include <defer/timer.h>

// ---- an EOI that is forgotten -------------------------------------------------------------------

static irq_flow_t break_flow;      // the right one of the irq that is being broken
static uint32_t break_flow_is_out; // A: one at a time

// One interrupt, handled as it should be, and never ended: the local APIC keeps its class and all
// below to itself, an IO-APIC's entry keeps remote IRR.
static void break_flow_without_eoi(struct irq_desc *desc)
{
    spin_lock(&desc->lock);
    desc->flow = break_flow;
    irq_handle_actions(desc);
    spin_unlock(&desc->lock);
    __atomic_store_n(&break_flow_is_out, 0, __ATOMIC_RELEASE);
}

static int break_lost_eoi(const char *argument)
{
    uint32_t irq;
    unsigned long flags;
    int error = break_number(argument, 0, MAX_IRQS - 1, &irq);
    struct irq_desc *desc = error == 0 ? irq_to_desc(irq) : NULL;

    if (desc == NULL || !desc->started) {
        return error != 0 ? error : -EINVAL;
    }
    if (__atomic_exchange_n(&break_flow_is_out, 1, __ATOMIC_ACQUIRE) != 0) {
        return -EBUSY; // it still waits for its interrupt
    }
    spin_lock_irqsave(&desc->lock, flags);
    break_flow = desc->flow;
    desc->flow = break_flow_without_eoi;
    spin_unlock_irqrestore(&desc->lock, flags);
    return 0;
}

BREAK("lost-eoi", "IRQ", "the next interrupt of an irq is handled and never ended (then: irq why)",
      "", true, break_lost_eoi);

// ---- a CPU with interrupts off ------------------------------------------------------------------

static void break_deaf_fn(struct timer_list *timer);

static uint32_t break_deaf_ms; // of the CPU that is deaf now
static struct timer_list break_deaf_timer = {.function = break_deaf_fn, .flags = TIMER_IRQSAFE};

static void break_deaf_fn(struct timer_list *timer)
{
    (void)timer;
    uint64_t end_ns = clock_ns() + break_deaf_ms * 1000000ull;

    while (clock_ns() < end_ns) {
        cpu_relax();
    }
}

// Half a second later: by then this thread has gone. Its end would wait for that CPU, as each must
// forget where its stack was mapped.
static int break_deaf_cpu(const char *argument)
{
    int error = break_number(argument, 1500, 10000, &break_deaf_ms);
    unsigned last = 0;

    for_each_online_cpu (cpu) {
        last = cpu;
    }
    if (error == 0 && last == 0) {
        return -EOPNOTSUPP; // who would look at it?
    }
    if (error == 0) {
        del_timer_sync(&break_deaf_timer);
        break_deaf_timer.expires = jiffies + HZ / 2;
        add_timer_on(&break_deaf_timer, last);
    }
    return error;
}

BREAK("deaf-cpu", "MS [1500]", "the last CPU turns interrupts off for a while (then: irq why)", "",
      true, break_deaf_cpu);

// ---- disable and enable, free, once too often ---------------------------------------------------

static char break_handler_id; // its address

static irqreturn_t break_handler(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    return IRQ_HANDLED;
}

// A clean-up that runs twice.
static int break_double_enable(const char *argument __unused)
{
    int irq = soft_line_open(break_handler, &break_handler_id, "break");

    if (irq < 0) {
        return irq;
    }
    disable_irq((unsigned)irq);
    enable_irq((unsigned)irq);
    enable_irq((unsigned)irq);
    soft_line_close(irq, &break_handler_id);
    return 0;
}

BREAK("double-enable", NULL, "enable_irq is called twice for one disable_irq",
      "Unbalanced enable for IRQ", true, break_double_enable);

static int break_double_free_irq(const char *argument __unused)
{
    int irq = soft_line_open(break_handler, &break_handler_id, "break");

    if (irq < 0) {
        return irq;
    }
    free_irq((unsigned)irq, &break_handler_id + 1);
    soft_line_close(irq, &break_handler_id);
    return 0;
}

BREAK("free-irq-twice", NULL, "free_irq of a handler that is not there",
      "Trying to free already-free IRQ", true, break_double_free_irq);
