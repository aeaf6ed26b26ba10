// IO-APIC pins driven by a real wire: a timer of the HPET (misc/hpet_wire.h). Without an HPET the
// wire tests are skipped; what the pins look like after boot is checked everywhere.
#include "message_line.h"

#include <core/io.h>
#include <core/panic.h>
#include <lib/errno.h>
#include <sched/sleep.h>
#include <irq/ipi.h>
#include <x86/ioapic.h>
#include <x86/irq_remap.h>
#include <misc/hpet_wire.h>

#define ENTRY_MASKED     BIT64(16)
#define ENTRY_REMOTE_IRR BIT64(14)
#define ENTRY_LEVEL      BIT64(15)

static struct {
    struct hpet_wire pull;
    unsigned gsi;
    uint32_t calls, keep; // A; `keep`: that many calls leave the wire up
    uint32_t total;       // what a test expects so far
    bool look_at_tmr, tmr;
    bool mask_in_handler; // once
    bool move_in_handler; // once: to the next CPU
} wire;

static void wire_lower(void)
{
    hpet_wire_lower(&wire.pull);
}

static void wire_bend(void)
{
    struct irq_desc *desc = irq_to_desc(wire.gsi);
    if (wire.mask_in_handler) {
        spin_lock(&desc->lock);
        irq_mask(desc);
        irq_unmask(desc);
        spin_unlock(&desc->lock);
        wire.mask_in_handler = false;
    }
    if (wire.move_in_handler) {
        struct cpumask next = {0};
        cpumask_set(&next, (cpu_id() + 1) % cpu_count);
        wire.move_in_handler = false;
        irq_set_affinity(wire.gsi, &next);
    }
}

static irqreturn_t wire_handler(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    if (wire.look_at_tmr) {
        wire.tmr = lapic_tmr_test(irq_to_desc(wire.gsi)->data.vector);
    }
    wire_bend();
    if (wire.pull.level) {
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

static void wire_raise(void)
{
    hpet_wire_raise(&wire.pull);
}

static bool wire_is_over(void)
{
    return hpet_wire_settle(&wire.pull);
}

static bool wire_is_up(void)
{
    return wait_until(hpet_wire_is_up(&wire.pull), MESSAGE_LINE_WAIT_US);
}

static const char *wire_open(bool level)
{
    wire.calls = wire.keep = wire.total = 0;
    wire.look_at_tmr = wire.mask_in_handler = wire.move_in_handler = false;
    const char *why = message_line_polled();
    if (why == NULL) {
        why = hpet_wire_open(&wire.pull, level, wire_handler, &wire, "ktest");
    }
    wire.gsi = wire.pull.gsi;
    return why;
}

static void wire_close(void)
{
    hpet_wire_close(&wire.pull);
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

// ---- the registers, 82093AA 3.2 -----------------------------------------------------------------

enum { IOAPIC_TEST_ID = 0, IOAPIC_TEST_VERSION = 1, IOAPIC_TEST_ARB = 2, IOAPIC_TEST_ENTRIES = 16 };

// Only bits 24 to 27 of the identifier can be written.
KTEST(ioapic, id_bits)
{
    for (unsigned i = 0; i < ioapic_count(); i++) {
        uint32_t before = ioapic_register(i, IOAPIC_TEST_ID);
        ioapic_register_write(i, IOAPIC_TEST_ID, UINT32_MAX);
        uint32_t ones = ioapic_register(i, IOAPIC_TEST_ID);
        ioapic_register_write(i, IOAPIC_TEST_ID, 0);
        uint32_t zeroes = ioapic_register(i, IOAPIC_TEST_ID);
        ioapic_register_write(i, IOAPIC_TEST_ID, before);
        EXPECT_EQ(ones, 0x0f000000);
        EXPECT_EQ(zeroes, 0);
        EXPECT_EQ(ioapic_register(i, IOAPIC_TEST_ID), before);
    }
}

KTEST(ioapic, arbitration_id_is_read_only)
{
    for (unsigned i = 0; i < ioapic_count(); i++) {
        uint32_t before = ioapic_register(i, IOAPIC_TEST_ARB);
        ioapic_register_write(i, IOAPIC_TEST_ARB, ~before);
        EXPECT_EQ(ioapic_register(i, IOAPIC_TEST_ARB), before);
    }
}

KTEST(ioapic, version)
{
    REQUIRE(ioapic_count() > 0);
    for (unsigned i = 0; i < ioapic_count(); i++) {
        uint32_t version = ioapic_register(i, IOAPIC_TEST_VERSION);
        EXPECT((version & 0xff) == 0x11 || (version & 0xff) == 0x20);
        EXPECT((version >> 16 & 0xff) >= 15);
        ioapic_register_write(i, IOAPIC_TEST_VERSION, ~version);
        EXPECT_EQ(ioapic_register(i, IOAPIC_TEST_VERSION), version);
    }
}

// ---- trigger mode register, and what merges -----------------------------------------------------

static void wire_tmr(struct ktest_run *ktest, bool level)
{
    WIRE_OPEN(level);
    wire.look_at_tmr = true;
    uint32_t calls = 0;
    for_each_online_cpu (cpu) { // also where it was another trigger's the last time
        struct cpumask mask = {0};
        cpumask_set(&mask, cpu);
        EXPECT_EQ(irq_set_affinity(wire.gsi, &mask), 0);
        wire_raise();
        EXPECT(wire_calls(++calls));
        EXPECT_EQ(wire.tmr, level);
    }
    wire_close();
}

KTEST(ioapic, tmr_says_edge)
{
    wire_tmr(ktest, false);
    if (ktest->skip == NULL) {
        wire_tmr(ktest, true);
        wire_tmr(ktest, false);
    }
}

KTEST(ioapic, tmr_says_level)
{
    wire_tmr(ktest, true);
}

// A level that falls and rises again before anybody took it is one interrupt.
KTEST(ioapic, level_coalesces)
{
    WIRE_OPEN(true);
    preempt_disable();
    struct cpumask here = {0};
    cpumask_set(&here, cpu_id());
    irq_set_affinity(wire.gsi, &here);
    unsigned long flags = local_irq_save();
    wire_raise();
    bool first = wire_is_up();
    wire_lower();
    wire_raise();
    bool second = wire_is_up();
    uint32_t early = wire.calls;
    local_irq_restore(flags);
    preempt_enable();
    EXPECT(first && second);
    EXPECT_EQ(early, 0);
    EXPECT(wire_calls(1));
    msleep(10);
    EXPECT_EQ(wire.calls, 1);
    wire_close();
}

KTEST(ioapic, level_sequential)
{
    WIRE_OPEN(true);
    wire_raise();
    EXPECT(wire_calls(1));
    wire_raise();
    EXPECT(wire_calls(2));
    msleep(10);
    EXPECT_EQ(wire.calls, 2);
    wire_close();
}

// Left up by the handler it comes again after EOI; masked and unmasked in between it does too.
static void wire_retrigger(struct ktest_run *ktest, bool mask)
{
    WIRE_OPEN(true);
    wire.keep = 1;
    wire.mask_in_handler = mask;
    wire_raise();
    EXPECT(wire_calls(2));
    msleep(10);
    EXPECT_EQ(wire.calls, 2);
    EXPECT_EQ(ioapic_read_entry(wire.gsi) & (ENTRY_REMOTE_IRR | ENTRY_MASKED), 0);
    wire_close();
}

KTEST(ioapic, level_retrigger)
{
    wire_retrigger(ktest, false);
}

KTEST(ioapic, level_retrigger_with_mask)
{
    wire_retrigger(ktest, true);
}

// ---- reprogrammed at the worst time -------------------------------------------------------------

// From within the handler, Remote IRR set: to another CPU, or written anew. The line lives on.
static void wire_reconfigure(struct ktest_run *ktest, bool self)
{
    WIRE_OPEN(true);
    struct irq_desc *desc = irq_to_desc(wire.gsi);
    for (uint32_t i = 1; i <= 20; i++) {
        wire.move_in_handler = self;
        wire.keep = i % 2;
        wire_raise();
        if (!self) {
            wait_until((ioapic_read_entry(wire.gsi) & ENTRY_REMOTE_IRR) ||
                           READ_ONCE(wire.calls) >= i,
                       MESSAGE_LINE_WAIT_US);
            unsigned long flags;
            spin_lock_irqsave(&desc->lock, flags);
            desc->data.chip->irq_set_affinity(&desc->data); // the same CPU, written once more
            spin_unlock_irqrestore(&desc->lock, flags);
        }
        uint32_t want = wire.total + 1 + i % 2;
        EXPECT(wait_until(READ_ONCE(wire.calls) >= want, MESSAGE_LINE_WAIT_US));
        wire.total = want;
    }
    msleep(10);
    EXPECT_EQ(wire.calls, wire.total);
    EXPECT_EQ(ioapic_read_entry(wire.gsi) & ENTRY_REMOTE_IRR, 0);
    wire_close();
}

KTEST(ioapic, reconfigure_while_remote_irr)
{
    wire_reconfigure(ktest, false);
}

KTEST(ioapic, self_reconfigure)
{
    wire_reconfigure(ktest, true);
}

// ---- destinations -------------------------------------------------------------------------------

static void wire_set_logical(void *arg)
{
    lapic_register_write(0xe0, UINT32_MAX); // flat
    lapic_register_write(0xd0, *(bool *)arg && cpu_id() < 8 ? 1u << (24 + cpu_id()) : 0);
}

KTEST(ioapic, physical_destination)
{
    WIRE_OPEN(false);
    struct irq_desc *desc = irq_to_desc(wire.gsi);
    uint32_t calls = 0;
    for_each_online_cpu (cpu) {
        struct cpumask mask = {0};
        cpumask_set(&mask, cpu);
        uint32_t before = desc->count[cpu];
        EXPECT_EQ(irq_set_affinity(wire.gsi, &mask), 0);
        struct ioapic_entry entry;
        EXPECT(ioapic_decode(wire.gsi, &entry));
        EXPECT_EQ(entry.apic_id, cpus[cpu].apic_id);
        wire_raise();
        EXPECT(wire_calls(++calls));
        EXPECT_EQ(desc->count[cpu], before + 1);
    }
    wire_close();
}

// The kernel uses physical destinations; the hardware must do the others too: every CPU whose bit
// is set gets one.
KTEST(ioapic, logical_destination)
{
    bool on = true, off = false;
    if (lapic_is_x2apic() || cpumask_weight(&cpu_online_mask) > 8) {
        SKIP("flat logical identifiers are xAPIC's, for eight CPUs");
    }
    if (irq_remap != NULL) {
        SKIP("with interrupt remapping a pin names an entry of a table, and no CPU");
    }
    WIRE_OPEN(false);
    struct irq_desc *desc = irq_to_desc(wire.gsi);
    unsigned last = cpumask_weight(&cpu_online_mask) - 1, reg = IOAPIC_TEST_ENTRIES + 2 * wire.gsi;
    on_each_cpu(wire_set_logical, &on);
    uint32_t before = desc->count[last];
    uint32_t low = ioapic_register(0, reg), high = ioapic_register(0, reg + 1);
    ioapic_register_write(0, reg + 1, 1u << (24 + last));
    ioapic_register_write(0, reg, low | 0x800);
    wire_raise();
    EXPECT(wire_calls(1));
    EXPECT_EQ(desc->count[last], before + 1);
    ioapic_register_write(0, reg, low);
    ioapic_register_write(0, reg + 1, high);
    on_each_cpu(wire_set_logical, &off);
    wire_close();
}
