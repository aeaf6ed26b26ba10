// Interrupt remapping: with it, a wire's entry or a message does not say which vector goes to which
// CPU, but names an entry of a table that only the kernel writes and that also says which device
// may use it. So a device (or whoever controls it) cannot make up interrupts.
#pragma once

#include <contract/irq_chip.h>
#include <lib/types.h>

enum { IRQ_REMAP_ANY_SOURCE = -1 };

struct irq_remap_ops {
    // Writes the table's entry of data->irq from vector, apic_id and trigger. `source` is the
    // requester's identifier, bus << 8 | slot << 3 | function, or IRQ_REMAP_ANY_SOURCE. Context:
    // any, under the descriptor's lock.
    void (*set)(const struct irq_data *data, int source);
    void (*clear)(const struct irq_data *data);
    // What the table's entry says; false: it is not present. Context: any.
    bool (*get)(unsigned index, uint8_t *vector, uint32_t *apic_id);
    // The requester's identifier of an IO-APIC. Context: any.
    int (*ioapic_source)(uint32_t ioapic_id);
};

// NULL: off; then wires and messages say vector and CPU themselves. Set once, before the first irq
// is started.
extern const struct irq_remap_ops *irq_remap;

// A wire's entry in remappable form: the table's index is the irq's number (VT-d specification rev.
// 3.3, 5.1.5.1). The vector stays in it, for the EOI of a level to find its pin.
#define IRQ_REMAP_WIRE BIT64(48)
static inline uint64_t irq_remap_wire(unsigned irq)
{
    return IRQ_REMAP_WIRE | (uint64_t)(irq & 0x7fff) << 49 | (uint64_t)(irq >> 15 & 1) << 11;
}
static inline unsigned irq_remap_wire_index(uint64_t entry)
{
    return (unsigned)(entry >> 49 & 0x7fff) | (unsigned)(entry >> 11 & 1) << 15;
}
// A message's address in remappable form; its data is 0 (5.1.5.2).
#define IRQ_REMAP_MESSAGE BIT(4)
static inline uint32_t irq_remap_message(unsigned irq)
{
    return 0xfee00000u | (irq & 0x7fffu) << 5 | (irq >> 15 & 1u) << 2 | IRQ_REMAP_MESSAGE;
}

// The vector and the CPU that a message means, through the table where it names an entry. False: it
// means none. Context: any.
bool irq_message_decode(uint64_t address, uint32_t data, uint8_t *vector, uint32_t *apic_id);
