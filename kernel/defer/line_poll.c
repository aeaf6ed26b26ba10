// Polling of interrupt lines that were shut because nobody cared: ten times a second, as long as
// there is one. With the boot option irqpoll every line is asked, always: for a machine whose wires
// are not where its tables say. (A device without any interrupt: drivers/pci/pci_poll.c.)
//
// How often is a trade: /proc/irq/poll_hz shows and sets it. Each question costs a call of every
// handler concerned; each event waits for half the interval on average.
//
// Context: TIMER_SOFTIRQ; the hook in hard irq. What is polled, and when a line comes back, is
// decided in kernel/irq/spurious.c.
#include <lib/errno.h>
#include <lib/parse.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <irq/desc.h>
#include <defer/line_poll.h>
#include <defer/timer.h>

enum { LINE_POLL_HZ = 10 };

static struct timer_list line_poll_timer;
static uint32_t line_poll_hz = LINE_POLL_HZ; // A
static bool line_poll_all;                   // I: boot option irqpoll

uint32_t line_poll_interval(void)
{
    return HZ / READ_ONCE(line_poll_hz);
}

bool line_poll_asks_all(void)
{
    return line_poll_all;
}

static void line_poll_arm(void)
{
    mod_timer(&line_poll_timer, jiffies + line_poll_interval());
}

static void line_poll_again(struct timer_list *timer)
{
    (void)timer;
    if (irq_poll_lines(line_poll_all) || line_poll_all) {
        line_poll_arm();
    }
}

// A line that begins to be polled while others are must not put off their turn.
static void line_poll_begin(void)
{
    if (!timer_pending(&line_poll_timer)) {
        line_poll_arm();
    }
}

void line_poll_init(void)
{
    timer_setup(&line_poll_timer, line_poll_again, 0);
    irq_killed_hook = line_poll_begin;
    if (line_poll_all) {
        line_poll_begin();
    }
}

BOOT_FLAG("irqpoll", line_poll_all, "ask the handlers of every line, ten times a second");

static void line_poll_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "%u\n", READ_ONCE(line_poll_hz));
}

static int line_poll_write(const char *line, unsigned long index)
{
    uint32_t hz;

    (void)index;
    if (kstrtou32(line, 10, &hz) != 0 || hz == 0 || hz > HZ) {
        return -EINVAL;
    }
    WRITE_ONCE(line_poll_hz, hz);
    return 0;
}
PROC_FILE_RW("irq/poll_hz", line_poll_show, line_poll_write);
