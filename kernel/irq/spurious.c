// A line that interrupts and interrupts while every handler says "not mine" would take the machine
// down: the CPU would never leave hard irq again. So the answers are counted, and a line is shut
// when of the last 100,000 interrupts more than 99,900 found nobody. A few unhandled ones are
// normal on a shared or racing line, and those more than a tenth of a second apart are forgiven.
//
// The numbers and words are Linux's (kernel/irq/spurious.c there describes the same rule), so what
// scripts look for is found; /proc/irq/spurious_rule shows and sets them. A shut line is not dead:
// ten times a second its handlers are asked whether their device wants something, so that a healthy
// one beside a mad one is served, slowly (kernel/defer/line_poll.c has the clock).
//
//   irqstorm=disable   the line stays shut until enable_irq or a new handler (Linux)
//   irqstorm=backoff   it comes back after 50 ms, and after twice that each time it is shut again
//
// Context: hard irq, the descriptor's lock held; irq_poll_lines: softirq.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>
#include <irq/desc.h>

enum {
    SPURIOUS_WINDOW = 100000,
    SPURIOUS_LIMIT = 99900,
    SPURIOUS_FORGIVE = HZ / 10,
    SPURIOUS_BACKOFF_MS = 50, // times 2 for each time that the line was shut before
    SPURIOUS_BACKOFF_DOUBLINGS = 10,
};

static uint32_t spurious_window = SPURIOUS_WINDOW; // A: /proc/irq/spurious_rule
static uint32_t spurious_limit = SPURIOUS_LIMIT;   // A
static bool spurious_backoff;                      // A: irqstorm=backoff
static bool spurious_off;                          // I: boot option noirqdebug

void (*irq_killed_hook)(void);

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
    if (spurious_backoff) {
        uint32_t wait_ms = SPURIOUS_BACKOFF_MS
                           << min(desc->kills, (uint32_t)SPURIOUS_BACKOFF_DOUBLINGS);
        desc->revive_jiffies = jiffies + msecs_to_jiffies(wait_ms);
        pr_err("irq %u: comes back in %u ms", desc->data.irq, wait_ms);
    }
    desc->kills++;
    if (irq_killed_hook != NULL) {
        irq_killed_hook();
    }
}

static void spurious_revive(struct irq_desc *desc)
{
    desc->killed = false;
    irq_note_anew(desc);
    if (--desc->depth == 0) {
        irq_unmask(desc);
    }
}

// One line's turn. The handlers run with interrupts off, as they expect; their answers are not
// counted while the line is shut.
static bool spurious_poll(struct irq_desc *desc, bool all)
{
    unsigned long flags;

    spin_lock_irqsave(&desc->lock, flags);
    if ((desc->killed || all) && desc->action != NULL && desc->in_progress == 0 &&
        (desc->killed || desc->depth == 0)) {
        desc->polls++;
        irq_handle_actions(desc);
    }
    if (desc->killed && spurious_backoff && desc->action != NULL &&
        time_after(jiffies, desc->revive_jiffies)) {
        spurious_revive(desc);
    }
    bool killed = desc->killed;
    spin_unlock_irqrestore(&desc->lock, flags);
    return killed;
}

bool irq_poll_lines(bool all)
{
    bool killed = false;

    assert_context(CTX_THREAD | CTX_ATOMIC | CTX_SOFTIRQ);
    for (unsigned irq = 0; irq < irq_count(); irq++) {
        struct irq_desc *desc = irq_to_desc(irq);

        if (desc != NULL && desc->started && (all || READ_ONCE(desc->killed))) {
            killed |= spurious_poll(desc, all);
        }
    }
    return killed;
}

void irq_note_rest(struct irq_desc *desc, irqreturn_t result)
{
    lockdep_assert_held(&desc->lock);
    if (spurious_off || desc->killed || desc->data.chip->is_polled) {
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
        desc->nobodys++;
    }
    if (desc->spurious_window == 0) {
        desc->spurious_window = READ_ONCE(spurious_window);
        desc->spurious_count = -(int32_t)desc->spurious_window;
    }
    if (++desc->spurious_count < 0) {
        return;
    }
    if (desc->unhandled > READ_ONCE(spurious_limit)) {
        spurious_kill(desc);
    } else if (desc->spurious_window - desc->nobodys > desc->unhandled) {
        desc->kills = 0; // a good spell
    }
    irq_note_anew(desc);
}

void irq_note_edge(struct irq_desc *desc)
{
    desc->spurious_count--; // it is counted below, if it is
    irq_note_rest(desc, IRQ_HANDLED);
}

// Another rule: what was counted for the one before is no measure for it.
static void spurious_count_anew(void)
{
    for (unsigned irq = 0; irq < irq_count(); irq++) {
        unsigned long flags;

        spin_lock_irqsave(&irq_descs[irq].lock, flags);
        irq_note_anew(&irq_descs[irq]);
        spin_unlock_irqrestore(&irq_descs[irq].lock, flags);
    }
}

BOOT_FLAG("noirqdebug", spurious_off, "never shut an interrupt line that nobody handles");

static int spurious_option_storm(const char *value)
{
    bool backoff = strcmp(value, "backoff") == 0;

    if (!backoff && strcmp(value, "disable") != 0) {
        return -EINVAL;
    }
    spurious_backoff = backoff;
    return 0;
}
BOOT_OPTION("irqstorm", spurious_option_storm,
            "irqstorm=disable|backoff: what becomes of a line that nobody handles");

static void spurious_rule_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "%u of %u %s\n", spurious_limit, spurious_window,
                spurious_off       ? "off"
                : spurious_backoff ? "backoff"
                                   : "disable");
}

// "disable", "backoff", or "LIMIT WINDOW".
static int spurious_rule_write(const char *line, unsigned long index)
{
    char first[16];
    size_t length = strcspn(line, " ");
    uint32_t limit, window;

    (void)index;
    if (spurious_option_storm(line) == 0) {
        return 0;
    }
    if (line[length] == '\0' || length >= sizeof(first)) {
        return -EINVAL;
    }
    memcpy(first, line, length);
    first[length] = '\0';
    if (kstrtou32(first, 10, &limit) != 0 || kstrtou32(line + length + 1, 10, &window) != 0 ||
        window < 10 || window > 100000000 || limit >= window) {
        return -EINVAL;
    }
    WRITE_ONCE(spurious_window, window);
    WRITE_ONCE(spurious_limit, limit);
    spurious_count_anew();
    return 0;
}
PROC_FILE_RW("irq/spurious_rule", spurious_rule_show, spurious_rule_write);
