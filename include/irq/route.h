// Which irq has which vector on which CPU. A wire's irq is its GSI; message interrupts follow after
// the last wire.
// Context: any, where a line does not say otherwise.
#pragma once

#include <contract/irq_chip.h>
#include <lib/types.h>

struct acpi_info;
struct cpumask;

// Builds descriptors for every wire of every IO-APIC, with the trigger and polarity that the MADT
// gives ISA lines. Context: boot.
void route_init(const struct acpi_info *acpi);

// The irq of ISA line 0..15 (keyboard, serial, ...), following the MADT's overrides; -ENOENT when
// nothing is wired.
int route_isa(unsigned line);
// The irq of a PCI wire: level, active low unless an override of the same GSI says otherwise.
// -ENOENT: no such pin.
int route_gsi_pci(unsigned gsi);

// An irq for a message (MSI) with a vector of its own; `data` fields chip, chip_data and hwirq are
// taken over. -ENOSPC when vectors or numbers are used up.
int route_alloc_message(const struct irq_chip *chip, void *chip_data, unsigned hwirq);
// After free_irq. Lets what is still on its way through. Context: thread.
void route_free_message(unsigned irq);

// Used by line.c: a vector when an irq starts, spread over priority classes; 0 when none is left.
uint8_t route_vector_alloc(unsigned irq);
void route_vector_free(uint8_t vector);
unsigned route_vector_irq(uint8_t vector); // MAX_IRQS when free
struct irq_desc;
extern struct irq_desc *route_vectors[256]; // L by route.c, read without: NULL when free

// The CPU that a mask means: the online CPU in it with the fewest irqs. MAX_CPUS when none is
// online.
unsigned route_pick_cpu(const struct cpumask *mask);
extern struct cpumask
    irq_default_affinity; // L by line.c: /proc/irq/default_smp_affinity, boot option irqaffinity=
