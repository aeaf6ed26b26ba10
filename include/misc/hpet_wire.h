// A wire to pull: a timer of the HPET, routed to a free pin of an IO-APIC and told to blink (edge)
// or to hold (level). For demonstrations and tests of what a pin does.
#pragma once

#include <lib/types.h>
#include <irq/irq.h>

struct hpet_wire {
    unsigned gsi;                   // of the pin, and so the irq
    bool level;                     // it holds until hpet_wire_lower
    unsigned number;                // of the timer
    volatile uint8_t *hpet, *timer; // its registers
    void *dev_id;
    bool was_level, was_low; // as the tables wired the pin
};

// Finds the highest free pin that one of the first three timers reaches, and requests its irq,
// whose handler stays a hard interrupt's also with threadirqs: NULL, or why there is none. One wire
// at a time. Context: thread.
const char *hpet_wire_open(struct hpet_wire *wire, bool level, irq_handler_t handler, void *dev_id,
                           const char *name);
void hpet_wire_close(struct hpet_wire *wire);

// One blink in a few microseconds, or one rise that stays. Context: any.
void hpet_wire_raise(const struct hpet_wire *wire);
void hpet_wire_lower(const struct hpet_wire *wire);
bool hpet_wire_is_up(const struct hpet_wire *wire); // level only
// Waits until the rise has been, and nothing comes any more. Context: thread.
bool hpet_wire_settle(const struct hpet_wire *wire);
