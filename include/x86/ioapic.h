// IO-APICs: where wires end. Intel 82093AA data sheet; ACPI 6.4, 5.2.12.3. One chip, "IO-APIC", for
// all of them.
#pragma once

#include <contract/irq_chip.h>
#include <lib/text.h>
#include <lib/types.h>

enum { MAX_IOAPICS = 16 };

// Takes one IO-APIC over: reads its size, masks every pin. 0, -ENOSPC, -ENODEV (nothing
// answers), -EINVAL (another IO-APIC has these GSIs). Says in the log what it found.
int ioapic_add(uint32_t id, phys_t base, uint32_t gsi_base,
               void *(*map)(phys_t address, size_t size));
unsigned ioapic_count(void);
// One past the last wire of all IO-APICs: message interrupts are numbered from here.
unsigned ioapic_gsi_end(void);
bool ioapic_has_gsi(unsigned gsi);

// hwirq in irq_data is the pin, chip_data the IO-APIC; this fills both. 0 or -ENOENT.
int ioapic_irq_data(unsigned gsi, struct irq_data *data);
extern const struct irq_chip ioapic_chip;

// The redirection entry as the hardware has it now, for `ioapic` and tests.
extern uint32_t
    ioapic_mis_count; // A: level interrupts that arrived as edges (82093AA erratum), the MIS row
uint64_t ioapic_read_entry(unsigned gsi);
// What the entry has to be, by the kernel's map; status bits, which the hardware changes, aside.
uint64_t ioapic_wanted_entry(const struct irq_data *data, bool masked);
extern const uint64_t ioapic_status_bits;
bool ioapic_entry_is_masked(uint64_t entry);
// The same in parts. False when no IO-APIC has the GSI.
struct ioapic_entry {
    uint8_t vector;
    uint32_t apic_id;
    bool masked, level, active_low;
    bool pending;    // the wire is up, and no CPU has taken it
    bool remapped;   // vector and APIC are those of the remapping table's entry
    bool remote_irr; // level: a CPU has taken it, and its EOI is awaited
};
bool ioapic_decode(unsigned gsi, struct ioapic_entry *entry);
// A register of the index-th IO-APIC, for tests and demonstrations, which put back what they
// change. Context: any; the index must be below ioapic_count().
uint32_t ioapic_register(unsigned index, unsigned reg);
void ioapic_register_write(unsigned index, unsigned reg, uint32_t value);
void ioapic_show(struct text *t);
void ioapic_mask_all(void);
