// IO-APIC pins driven by a real wire: a timer of the HPET, which can be routed to a free pin and
// told to blink (edge) or to hold (level).
//
// On -machine pc the HPET reaches pin 2 only, which the PIT drives too: that is stopped, nothing
// here uses it. Without an HPET the wire tests are skipped; what the pins look like after boot is
// checked everywhere. IA-PC HPET 1.0a, 2.3.
#include "message_line.h"

#include <core/io.h>
#include <core/panic.h>
#include <lib/errno.h>
#include <mm/map.h>
#include <sched/sleep.h>
#include <x86/acpi.h>
#include <x86/ioapic.h>

enum {
    HPET_CONFIG = 0x10,
    HPET_STATUS = 0x20,
    HPET_COUNTER = 0xf0,
    HPET_TIMER = 0x100, // configuration; comparator 8 further on; the next timer 0x20
    HPET_COMPARATOR = 8,
    HPET_ROUTES = 4, // high half of the configuration: the pins it can reach
    HPET_LEVEL = 1 << 1,
    HPET_ENABLE = 1 << 2,
    HPET_32_BITS = 1 << 8, // compare the low half only: it can be written in one go
    HPET_ROUTE_SHIFT = 9,
    HPET_FAR_TICKS = 0x7fffffff, // half the counter away: not for as long as a test takes
    HPET_SOON_TICKS = 2000,      // 20 us at 100 MHz
    IOAPIC_PIN_PIT = 2,
    PIT_CHANNEL_0 = 0x40,
    PIT_COMMAND = 0x43,
    PIT_ONCE = 0x30, // channel 0, mode 0: its output rises when the count is over, and stays
};
#define ENTRY_MASKED     BIT64(16)
#define ENTRY_REMOTE_IRR BIT64(14)
#define ENTRY_LEVEL      BIT64(15)

static struct {
    volatile uint8_t *hpet, *timer;
    unsigned gsi, number;
    bool level;
    uint32_t calls, keep; // A; `keep`: that many calls leave the wire up
} wire;

static void wire_lower(void)
{
    writel(BIT(wire.number), wire.hpet + HPET_STATUS);
}

static irqreturn_t wire_handler(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    if (wire.level) {
        if (wire.keep > 0) {
            wire.keep--;
        } else {
            wire_lower();
        }
    }
    __atomic_fetch_add(&wire.calls, 1, __ATOMIC_SEQ_CST);
    return IRQ_HANDLED;
}

static bool wire_calls(uint32_t calls)
{
    return message_line_reached(&wire.calls, calls);
}

// One blink, or one rise that stays until it is lowered.
static void wire_raise(void)
{
    unsigned long flags = local_irq_save();
    writel(readl(wire.hpet + HPET_COUNTER) + HPET_SOON_TICKS, wire.timer + HPET_COMPARATOR);
    local_irq_restore(flags);
}

// Waits until the comparator was passed, and makes sure that nothing comes any more: an emulator's
// timer may be later than its counter.
static bool wire_is_over(void)
{
    uint32_t at = readl(wire.timer + HPET_COMPARATOR);
    bool passed =
        wait_until((int32_t)(readl(wire.hpet + HPET_COUNTER) - at) > 0, MESSAGE_LINE_WAIT_US);
    msleep(20);
    writel(readl(wire.hpet + HPET_COUNTER) + HPET_FAR_TICKS, wire.timer + HPET_COMPARATOR);
    msleep(4);
    return passed;
}

static bool wire_is_up(void)
{
    return wait_until(readl(wire.hpet + HPET_STATUS) & BIT(wire.number), MESSAGE_LINE_WAIT_US);
}

// The highest free pin that one of the first three timers reaches. NULL, or why not.
static const char *wire_find(void)
{
    if (acpi.hpet_base == 0) {
        return "no HPET";
    }
    if (wire.hpet == NULL) {
        wire.hpet = ioremap(acpi.hpet_base, 1024);
    }
    if (wire.hpet == NULL) {
        return "no room to map the HPET";
    }
    for (unsigned number = 3; number-- > 0;) {
        wire.timer = wire.hpet + HPET_TIMER + 0x20 * number;
        uint32_t routes = readl(wire.timer + HPET_ROUTES);
        for (unsigned gsi = 32; gsi-- > 0;) {
            const struct irq_desc *desc = irq_to_desc(gsi);
            if ((routes & BIT(gsi)) && desc != NULL && desc->action == NULL) {
                wire.number = number;
                wire.gsi = gsi;
                return NULL;
            }
        }
    }
    return "the HPET reaches no free pin";
}

static const char *wire_open(bool level)
{
    const char *why = wire_find();
    if (why != NULL) {
        return why;
    }
    if (wire.gsi == IOAPIC_PIN_PIT) {
        outb(PIT_ONCE, PIT_COMMAND);
        outb(1, PIT_CHANNEL_0);
        outb(0, PIT_CHANNEL_0);
        msleep(20); // the pin is masked: that last rise is lost
    }
    wire.level = level;
    wire.calls = 0;
    wire.keep = 0;
    writel(0, wire.timer);
    writel(readl(wire.hpet + HPET_COUNTER) + HPET_FAR_TICKS, wire.timer + HPET_COMPARATOR);
    wire_lower();
    if (request_irq(wire.gsi, wire_handler, level ? IRQF_TRIGGER_HIGH : IRQF_TRIGGER_RISING,
                    "ktest", &wire) != 0) {
        return "the pin's irq cannot be had";
    }
    writel(HPET_ENABLE | HPET_32_BITS | (level ? HPET_LEVEL : 0) | wire.gsi << HPET_ROUTE_SHIFT,
           wire.timer);
    return NULL;
}

static void wire_close(void)
{
    writel(0, wire.timer);
    wire_lower();
    free_irq(wire.gsi, &wire);
}

#define WIRE_OPEN(level)                    \
    do {                                    \
        const char *why = wire_open(level); \
        if (why != NULL) {                  \
            SKIP(why);                      \
        }                                   \
    } while (0)

// ---- what boot leaves behind ----

KTEST(ioapic, only_pins_with_a_handler_are_open)
{
    for (unsigned gsi = 0; gsi < ioapic_gsi_end(); gsi++) {
        const struct irq_desc *desc = irq_to_desc(gsi);
        if (desc == NULL) {
            continue;
        }
        uint64_t entry = ioapic_read_entry(gsi);
        bool open = (entry & ENTRY_MASKED) == 0;
        if (open != (desc->action != NULL && !desc->masked)) {
            ktest_fail(ktest, __FILE__, __LINE__, "GSI %u: entry %#llx, %s handler", gsi,
                       (unsigned long long)entry, desc->action != NULL ? "a" : "no");
        }
        if (open) {
            struct ioapic_entry decoded;
            EXPECT(ioapic_decode(gsi, &decoded));
            EXPECT_EQ(entry & 0xff, desc->data.vector);
            EXPECT_EQ(decoded.vector, desc->data.vector);
            EXPECT_EQ(decoded.apic_id, desc->data.apic_id);
            EXPECT_EQ((entry & ENTRY_LEVEL) != 0, desc->data.level);
            EXPECT(cpumask_test(&cpu_online_mask, desc->data.cpu));
        }
    }
}

KTEST(ioapic, both_8259s_are_masked)
{
    EXPECT_EQ(inb(0x21), 0xff);
    EXPECT_EQ(inb(0xa1), 0xff);
}

// ---- edges ----

KTEST(ioapic, edge_comes_once)
{
    WIRE_OPEN(false);
    for (uint32_t i = 1; i <= 20; i++) {
        wire_raise();
        EXPECT(wire_calls(i));
    }
    EXPECT(wire_is_over());
    EXPECT_EQ(wire.calls, 20);
    wire_close();
}

// What a masked pin does not see is gone: that is why disable_irq leaves edges open
// (kernel/irq/irq.c).
KTEST(ioapic, edge_while_masked_is_lost_but_not_while_disabled)
{
    WIRE_OPEN(false);
    struct irq_desc *desc = irq_to_desc(wire.gsi);
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    irq_mask(desc);
    spin_unlock_irqrestore(&desc->lock, flags);
    wire_raise();
    EXPECT(wire_is_over());
    spin_lock_irqsave(&desc->lock, flags);
    irq_unmask(desc);
    spin_unlock_irqrestore(&desc->lock, flags);
    msleep(10);
    EXPECT_EQ(wire.calls, 0);

    disable_irq(wire.gsi);
    wire_raise();
    EXPECT(wait_until(READ_ONCE(desc->pending), MESSAGE_LINE_WAIT_US));
    EXPECT_EQ(wire.calls, 0);
    enable_irq(wire.gsi);
    EXPECT(wire_calls(1));
    wire_raise();
    EXPECT(wire_calls(2));
    msleep(10);
    EXPECT_EQ(wire.calls, 2);
    wire_close();
}

// ---- levels ----

KTEST(ioapic, level_sets_and_clears_remote_irr)
{
    WIRE_OPEN(true);
    for (uint32_t i = 1; i <= 20; i++) {
        wire_raise();
        EXPECT(wire_calls(i));
    }
    msleep(10);
    EXPECT_EQ(wire.calls, 20);
    EXPECT_EQ(ioapic_read_entry(wire.gsi) & ENTRY_REMOTE_IRR, 0);
    EXPECT_EQ(ioapic_read_entry(wire.gsi) & ENTRY_LEVEL, ENTRY_LEVEL);
    wire_close();
    EXPECT_EQ(ioapic_read_entry(wire.gsi) & ENTRY_MASKED, ENTRY_MASKED);
}

// A device that its handler does not quiet interrupts again after each EOI.
KTEST(ioapic, level_that_stays_up_comes_again)
{
    WIRE_OPEN(true);
    wire.keep = 5;
    wire_raise();
    EXPECT(wire_calls(6));
    msleep(10);
    EXPECT_EQ(wire.calls, 6);
    wire_close();
}

KTEST(ioapic, level_while_disabled_waits)
{
    WIRE_OPEN(true);
    disable_irq(wire.gsi);
    EXPECT_EQ(ioapic_read_entry(wire.gsi) & ENTRY_MASKED, ENTRY_MASKED);
    wire_raise();
    EXPECT(wire_is_up());
    msleep(4);
    EXPECT_EQ(wire.calls, 0);
    enable_irq(wire.gsi);
    EXPECT(wire_calls(1));
    msleep(10);
    EXPECT_EQ(wire.calls, 1);
    wire_close();
}

// ---- affinity ----

static void wire_move(struct ktest_run *ktest, bool level)
{
    WIRE_OPEN(level);
    struct irq_desc *desc = irq_to_desc(wire.gsi);
    uint32_t mis = ioapic_mis_count, calls = 0;
    for (unsigned round = 0; round < 100 / cpu_count + 1; round++) {
        for_each_online_cpu (cpu) {
            struct cpumask mask = {0};
            cpumask_set(&mask, cpu);
            uint32_t before = desc->count[cpu];
            EXPECT_EQ(irq_set_affinity(wire.gsi, &mask), 0);
            wire_raise();
            if (!wire_calls(++calls)) {
                ktest_fail(ktest, __FILE__, __LINE__, "lost at CPU %u, round %u, entry %#llx", cpu,
                           round, (unsigned long long)ioapic_read_entry(wire.gsi));
                round = 100;
                break;
            }
            EXPECT_EQ(desc->count[cpu], before + 1); // on the CPU that was asked for
            EXPECT(cpumask_equal(&desc->effective_affinity, &mask));
        }
    }
    EXPECT_EQ(wire.calls, calls);
    EXPECT_EQ(ioapic_mis_count, mis);
    EXPECT_EQ(ioapic_read_entry(wire.gsi) & ENTRY_REMOTE_IRR, 0);
    wire_close();
}

KTEST(ioapic, edge_follows_its_affinity)
{
    wire_move(ktest, false);
}

KTEST(ioapic, level_follows_its_affinity)
{
    wire_move(ktest, true);
}

// Moved while it is being delivered: each rise is still served exactly once.
static void wire_move_under_fire(struct ktest_run *ktest, bool level)
{
    WIRE_OPEN(level);
    for (uint32_t calls = 1; calls <= 300; calls++) {
        wire_raise();
        for (unsigned moves = 0; READ_ONCE(wire.calls) < calls && moves < 1000000; moves++) {
            struct cpumask mask = {0};
            cpumask_set(&mask, moves % cpu_count);
            irq_set_affinity(wire.gsi, &mask);
        }
        if (!wire_calls(calls)) {
            ktest_fail(ktest, __FILE__, __LINE__, "rise %u lost, entry %#llx", calls,
                       (unsigned long long)ioapic_read_entry(wire.gsi));
            break;
        }
    }
    msleep(10);
    EXPECT_EQ(wire.calls, 300);
    EXPECT_EQ(ioapic_read_entry(wire.gsi) & ENTRY_REMOTE_IRR, 0);
    wire_close();
}

KTEST(ioapic, edge_moved_under_fire)
{
    wire_move_under_fire(ktest, false);
}

KTEST(ioapic, level_moved_under_fire)
{
    wire_move_under_fire(ktest, true);
}
