// A wire to pull (include/misc/hpet_wire.h): the HPET's timers can be routed to pins that no device
// has, and a timer's end is then that pin's edge or level.
//
//   comparator reached ──> timer's output ──pin──> redirection entry ──> ...
//        level: bit `number` of the status register is set until it is written: the device's cause
//
// On -machine pc they reach pin 2 only, which the PIT drives as well: that one is stopped, nothing
// here uses it. IA-PC HPET 1.0a, 2.3.4 to 2.3.9; 8254 data sheet. Context: as the header says.
#include <core/clock.h>
#include <core/io.h>
#include <x86/acpi.h>
#include <mm/map.h>
#include <irq/desc.h>
#include <sched/sleep.h>
#include <misc/hpet_wire.h>

enum {
    HPET_STATUS = 0x20,
    HPET_COUNTER = 0xf0,
    HPET_TIMER = 0x100, // configuration; comparator 8 further on; the next timer 0x20
    HPET_COMPARATOR = 8,
    HPET_ROUTES = 4, // high half of the configuration: the pins it can reach
    HPET_LEVEL = 1 << 1,
    HPET_ENABLE = 1 << 2,
    HPET_32_BITS = 1 << 8, // compare the low half only: it can be written in one go
    HPET_ROUTE_SHIFT = 9,
    HPET_FAR_TICKS = 0x7fffffff, // half the counter away
    HPET_SOON_TICKS = 2000,      // 20 us at 100 MHz
    HPET_TIMERS = 3,
    HPET_PINS = 32,
    HPET_WAIT_US = 5 * 1000 * 1000,
    PIN_PIT = 2,
    PIT_CHANNEL_0 = 0x40,
    PIT_COMMAND = 0x43,
    PIT_ONCE = 0x30, // channel 0, mode 0: its output rises when the count is over, and stays
};

static volatile uint8_t *hpet_wire_registers; // I: once mapped, kept

void hpet_wire_lower(const struct hpet_wire *wire)
{
    writel(BIT(wire->number), wire->hpet + HPET_STATUS);
}

void hpet_wire_raise(const struct hpet_wire *wire)
{
    unsigned long flags = local_irq_save();
    writel(readl(wire->hpet + HPET_COUNTER) + HPET_SOON_TICKS, wire->timer + HPET_COMPARATOR);
    local_irq_restore(flags);
}

bool hpet_wire_is_up(const struct hpet_wire *wire)
{
    return (readl(wire->hpet + HPET_STATUS) & BIT(wire->number)) != 0;
}

// An emulator's timer may be later than its counter.
bool hpet_wire_settle(const struct hpet_wire *wire)
{
    uint32_t at = readl(wire->timer + HPET_COMPARATOR);
    bool passed = wait_until((int32_t)(readl(wire->hpet + HPET_COUNTER) - at) > 0, HPET_WAIT_US);

    msleep(20);
    writel(readl(wire->hpet + HPET_COUNTER) + HPET_FAR_TICKS, wire->timer + HPET_COMPARATOR);
    msleep(4);
    return passed;
}

static const char *hpet_wire_find(struct hpet_wire *wire)
{
    if (acpi.hpet_base == 0) {
        return "no HPET";
    }
    if (hpet_wire_registers == NULL) {
        hpet_wire_registers = ioremap(acpi.hpet_base, 1024);
    }
    if (hpet_wire_registers == NULL) {
        return "no room to map the HPET";
    }
    wire->hpet = hpet_wire_registers;
    for (wire->number = HPET_TIMERS; wire->number-- > 0;) {
        wire->timer = wire->hpet + HPET_TIMER + 0x20 * wire->number;
        uint32_t routes = readl(wire->timer + HPET_ROUTES);
        for (wire->gsi = HPET_PINS; wire->gsi-- > 0;) {
            const struct irq_desc *desc = irq_to_desc(wire->gsi);
            if ((routes & BIT(wire->gsi)) && desc != NULL && desc->action == NULL) {
                return NULL;
            }
        }
    }
    return "the HPET reaches no free pin";
}

const char *hpet_wire_open(struct hpet_wire *wire, bool level, irq_handler_t handler, void *dev_id,
                           const char *name)
{
    const char *why = hpet_wire_find(wire);

    if (why != NULL) {
        return why;
    }
    if (wire->gsi == PIN_PIT) {
        outb(PIT_ONCE, PIT_COMMAND);
        outb(1, PIT_CHANNEL_0);
        outb(0, PIT_CHANNEL_0);
        msleep(20); // the pin is masked: that last rise is lost
    }
    wire->was_level = irq_to_desc(wire->gsi)->data.level;
    wire->was_low = irq_to_desc(wire->gsi)->data.active_low;
    wire->level = level;
    wire->dev_id = dev_id;
    writel(0, wire->timer);
    writel(readl(wire->hpet + HPET_COUNTER) + HPET_FAR_TICKS, wire->timer + HPET_COMPARATOR);
    hpet_wire_lower(wire);
    unsigned long trigger = level ? IRQF_TRIGGER_HIGH : IRQF_TRIGGER_RISING;
    if (request_irq(wire->gsi, handler, trigger | IRQF_NO_THREAD, name, dev_id) != 0) {
        return "the pin's irq cannot be had";
    }
    writel(HPET_ENABLE | HPET_32_BITS | (level ? HPET_LEVEL : 0) | wire->gsi << HPET_ROUTE_SHIFT,
           wire->timer);
    return NULL;
}

void hpet_wire_close(struct hpet_wire *wire)
{
    writel(0, wire->timer);
    hpet_wire_lower(wire);
    free_irq(wire->gsi, wire->dev_id);
    struct irq_desc *desc = irq_to_desc(wire->gsi);
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    if (desc->action == NULL) { // for whoever requests it next without a word about its trigger
        desc->data.level = wire->was_level;
        desc->data.active_low = wire->was_low;
        desc->flow = wire->was_level ? flow_level : flow_edge;
    }
    spin_unlock_irqrestore(&desc->lock, flags);
}
