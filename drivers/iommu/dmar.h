// The ACPI table that says where remapping hardware is and which devices it serves. Pure: host
// tests and a fuzzer read it with anything. VT-d specification rev. 3.3, section 8.
#pragma once

#include <lib/types.h>

enum { DMAR_MAX_UNITS = 8, DMAR_MAX_SCOPES = 64, DMAR_MAX_RESERVED = 16, DMAR_NOTES = 8 };

enum dmar_scope_type {
    DMAR_ENDPOINT = 1,
    DMAR_BRIDGE = 2, // and everything behind it
    DMAR_IOAPIC = 3,
    DMAR_HPET = 4
};

struct dmar_scope {
    uint8_t type;           // enum dmar_scope_type
    uint8_t id;             // IO-APIC: its identifier
    uint8_t bus;            // where the path starts
    uint8_t slot, function; // the path's only step
    bool reserved;          // belongs to reserved[owner], else to units[owner]
    uint8_t owner;
};

struct dmar_unit {
    uint64_t base;
    uint16_t segment;
    bool takes_all; // every device of the segment that no other unit names
};

// Memory that firmware's own devices go on using: it must stay mapped as it is for them.
struct dmar_reserved {
    uint64_t start, end; // both included
    uint16_t segment;
    bool refused; // by dmar_refuse_reserved
};

struct dmar {
    uint8_t address_bits; // of the machine
    bool can_remap_interrupts, keep_x2apic_off;
    unsigned unit_count, scope_count, reserved_count;
    struct dmar_unit units[DMAR_MAX_UNITS];
    struct dmar_scope scopes[DMAR_MAX_SCOPES];
    struct dmar_reserved reserved[DMAR_MAX_RESERVED];
    unsigned note_count;
    char notes[DMAR_NOTES][96]; // what was refused and why
};

// Reads the table of `size` bytes. 0; -EINVAL: it is no DMAR, or names no unit.
int dmar_parse(const uint8_t *table, size_t size, struct dmar *dmar);
// Reserved memory in which `overlaps` finds memory of ours is left out, with a note: a device would
// get the kernel's pages with it.
void dmar_refuse_reserved(struct dmar *dmar, bool (*overlaps)(phys_t start, uint64_t size));
// The unit that serves a device, -1: none. Both identifiers are bus << 8 | slot << 3 | function:
// `requester` the device's own, `upstream` that of the bridge on the root bus that it is behind, or
// again its own.
int dmar_unit_of(const struct dmar *dmar, uint16_t segment, uint16_t requester, uint16_t upstream);
// The index-th piece of memory that is reserved for a device; NULL behind the last.
const struct dmar_reserved *dmar_reserved_of(const struct dmar *dmar, uint16_t segment,
                                             uint16_t requester, unsigned index);
