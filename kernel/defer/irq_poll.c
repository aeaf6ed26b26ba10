// Polling of interrupt lines that were shut because nobody cared: ten times a second, as long as
// there is one. With the boot option irqpoll every line is asked, always: for a machine whose wires
// are not where its tables say.
//
// Context: TIMER_SOFTIRQ; the hook in hard irq. What is polled, and when a line comes back, is
// decided in kernel/irq/spurious.c.
#include <contract/boot_option.h>
#include <core/clock.h>
#include <irq/desc.h>
#include <defer/irq_poll.h>
#include <defer/timer.h>

enum { IRQ_POLL_TICKS = HZ / 10 };

static struct timer_list irq_poll_timer;
static bool irq_poll_all; // I: boot option irqpoll

static void irq_poll_again(struct timer_list *timer)
{
    if (irq_poll_lines(irq_poll_all) || irq_poll_all) {
        mod_timer(timer, jiffies + IRQ_POLL_TICKS);
    }
}

static void irq_poll_begin(void)
{
    mod_timer(&irq_poll_timer, jiffies + IRQ_POLL_TICKS);
}

void irq_poll_init(void)
{
    timer_setup(&irq_poll_timer, irq_poll_again, 0);
    irq_killed_hook = irq_poll_begin;
    if (irq_poll_all) {
        irq_poll_begin();
    }
}

static int irq_poll_option(const char *value)
{
    (void)value;
    irq_poll_all = true;
    return 0;
}
BOOT_OPTION("irqpoll", irq_poll_option, "ask the handlers of every line, ten times a second");
