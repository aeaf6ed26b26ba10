// Polling of interrupt lines that were shut because nobody cared: ten times a second, as long as
// there is one. With the boot option irqpoll every line is asked, always: for a machine whose wires
// are not where its tables say.
//
// Context: TIMER_SOFTIRQ; the hook in hard irq. What is polled, and when a line comes back, is
// decided in kernel/irq/spurious.c.
#include <contract/boot_option.h>
#include <core/clock.h>
#include <irq/desc.h>
#include <defer/line_poll.h>
#include <defer/timer.h>

enum { LINE_POLL_TICKS = HZ / 10 };

static struct timer_list line_poll_timer;
static bool line_poll_all; // I: boot option irqpoll

static void line_poll_again(struct timer_list *timer)
{
    if (irq_poll_lines(line_poll_all) || line_poll_all) {
        mod_timer(timer, jiffies + LINE_POLL_TICKS);
    }
}

static void line_poll_begin(void)
{
    mod_timer(&line_poll_timer, jiffies + LINE_POLL_TICKS);
}

void line_poll_init(void)
{
    timer_setup(&line_poll_timer, line_poll_again, 0);
    irq_killed_hook = line_poll_begin;
    if (line_poll_all) {
        line_poll_begin();
    }
}

static int line_poll_option(const char *value)
{
    (void)value;
    line_poll_all = true;
    return 0;
}
BOOT_OPTION("irqpoll", line_poll_option, "ask the handlers of every line, ten times a second");
