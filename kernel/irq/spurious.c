// A line that interrupts and interrupts while every handler says "not mine" would take the machine
// down: the CPU would never leave hard irq again. So the answers are counted, and a line is shut
// when of the last 100,000 interrupts more than 99,900 found nobody. A few unhandled ones are
// normal on a shared or racing line, and those more than a tenth of a second apart are forgiven.
//
// The numbers and words are Linux's (kernel/irq/spurious.c there describes the same rule), so what
// scripts look for is found. The line stays masked until enable_irq or a new handler; polling it
// meanwhile (irqpoll) is not done, and the log says so.
//
// Context: hard irq, the descriptor's lock held.
#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>
#include <irq/desc.h>

enum { SPURIOUS_WINDOW = 100000, SPURIOUS_LIMIT = 99900, SPURIOUS_FORGIVE = HZ / 10 };

static bool spurious_off; // I: boot option noirqdebug

static void spurious_list_handlers(const struct irq_desc *desc)
{
    pr_err("handlers:");
    for (const struct irqaction *action = desc->action; action != NULL; action = action->next) {
        char symbol[200];
        struct text t = TEXT_INIT(symbol);
        text_symbol(&t, (uintptr_t)action->handler);
        if (action->thread_fn != NULL) {
            text_printf(&t, " threaded [<%p>] ", (void *)(uintptr_t)action->thread_fn);
            text_symbol(&t, (uintptr_t)action->thread_fn);
        }
        pr_err("[<%p>] %s", (void *)(uintptr_t)action->handler, symbol);
    }
}

static void spurious_kill(struct irq_desc *desc)
{
    pr_err("irq %u: nobody cared (try booting with the \"irqpoll\" option)", desc->data.irq);
    backtrace_print(NULL);
    spurious_list_handlers(desc);
    desc->killed = true;
    desc->depth++;
    irq_mask(desc);
    pr_emerg("Disabling IRQ #%u", desc->data.irq);
    pr_err(
        "irq %u: masked and not polled: the device behind it is deaf until its driver comes back",
        desc->data.irq);
}

void irq_note_result(struct irq_desc *desc, irqreturn_t result)
{
    if (spurious_off || desc->killed) {
        return;
    }
    if (result & ~(unsigned)(IRQ_HANDLED | IRQ_WAKE_THREAD)) {
        pr_ratelimited(LOG_ERR, "irq event %u: bogus return value %x", desc->data.irq, result);
    }
    if (result == IRQ_NONE) {
        // The tick counter may stand still while this line holds the boot CPU: then all of them
        // count, which is right.
        bool long_ago = time_after(jiffies, desc->last_unhandled_jiffies + SPURIOUS_FORGIVE);
        desc->unhandled = long_ago ? 1 : desc->unhandled + 1;
        desc->last_unhandled_jiffies = jiffies;
    }
    if (++desc->spurious_count < SPURIOUS_WINDOW) {
        return;
    }
    desc->spurious_count = 0;
    if (desc->unhandled > SPURIOUS_LIMIT) {
        spurious_kill(desc);
    }
    desc->unhandled = 0;
}

static int spurious_option_off(const char *value)
{
    (void)value;
    spurious_off = true;
    return 0;
}
BOOT_OPTION("noirqdebug", spurious_option_off, "never shut an interrupt line that nobody handles");
