// The shape of an interrupt controller. A chip knows registers; when to call which of these is the
// flow handler's business (kernel/irq/flow.c), and who is to be called then is the action list's.
// That separation is Linux's generic irq layer, and the best idea in it. The primitives mean what
// they say and nothing more.
#pragma once

#include <lib/types.h>

struct irq_chip;

// What a chip may know of the interrupt that it is asked about.
struct irq_data {
    unsigned irq;     // I: the kernel's number, as in /proc/interrupts
    unsigned hwirq;   // I: the chip's own number: pin of the IO-APIC, index of the message
    uint8_t vector;   // L: what the CPU indexes the IDT with
    bool level;       // L: level- rather than edge-triggered
    bool active_low;  // L: polarity of a wire
    uint32_t apic_id; // L: the CPU that it goes to
    unsigned cpu;     // L: the same, as the kernel numbers CPUs
    void *chip_data;  // I: which of several chips of this kind
    const struct irq_chip *chip; // I
};

// All are called with the descriptor's lock held and interrupts off; none may block. A NULL
// primitive does not exist.
struct irq_chip {
    // A second message before the thread is done does no harm, so IRQF_ONESHOT is not needed: MSI.
    bool oneshot_safe;
    // No device asks: a clock does, in its place. That nobody has anything to do is no fault then.
    bool is_polled;
    const char *name;                            // as /proc/interrupts shows it: "IO-APIC"
    void (*irq_startup)(struct irq_data *data);  // program vector, CPU, trigger; leave it unmasked
    void (*irq_shutdown)(struct irq_data *data); // mask and forget
    void (*irq_mask)(struct irq_data *data);
    void (*irq_unmask)(struct irq_data *data);
    void (*irq_eoi)(struct irq_data *data);     // NULL: the local APIC's EOI is all that it takes
    int (*irq_set_type)(struct irq_data *data); // level, active_low have changed; 0 or -EINVAL
    int (*irq_set_affinity)(struct irq_data *data); // apic_id, vector have changed; 0 or -EIO
    void (*irq_retrigger)(
        struct irq_data
            *data); // deliver the vector once more, as if the edge came again; needed by edge chips
    void (*irq_show)(const struct irq_data *data, char *to,
                     size_t size); // the name for this very interrupt, optional
};
