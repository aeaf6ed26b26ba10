// The MADT: which CPUs there are, which IO-APICs, how the ISA lines are wired to them, where NMIs
// come in.
//
//   MADT  local APICs' address, 8259s or not
//         ├── entry  type, length ──> CPU         by APIC id, 8 or 32 bits of it
//         ├── entry                   IO-APIC     its registers, its first wire (GSI)
//         ├── entry                   override    ISA line 0 is on GSI 2, line 9 is a level ...
//         └── entry                   NMI         LINT0 or LINT1 of one CPU, or of all
//
// An entry that contradicts one before it is left out with a note. A length that leads nowhere ends
// the table; types that are not known are stepped over.
//
// ACPI Specification 6.4, 5.2.12. Context: boot, one CPU. Pure. Previous: acpi.c. Next:
// kernel/irq/route.c.
#include <lib/string.h>

#include "acpi_internal.h"
#include "acpi_regs.h"

// ---- what an entry says ----

static void acpi_add_cpu(struct acpi_info *info, uint32_t apic_id, uint32_t uid, uint32_t flags)
{
    if ((flags & LAPIC_FLAG_ENABLED) == 0) {
        return;
    }
    for (uint32_t i = 0; i < info->cpu_count; i++) {
        if (info->cpus[i].apic_id == apic_id) {
            acpi_note(info, "MADT: APIC id %u is listed twice", apic_id);
            return;
        }
    }
    info->cpu_total++;
    if (info->cpu_count == MAX_CPUS) {
        return; // counted: the caller says how many stay out
    }
    info->cpus[info->cpu_count++] =
        (struct acpi_cpu){.apic_id = apic_id, .acpi_uid = uid, .enabled = true};
}

static void acpi_add_ioapic(struct acpi_info *info, const uint8_t *entry)
{
    struct acpi_ioapic ioapic = {.id = entry[IOAPIC_ID],
                                 .gsi_base = get_le32(entry + IOAPIC_GSI),
                                 .base = get_le32(entry + IOAPIC_BASE)};
    if (ioapic.base == 0 || info->ioapic_count == ACPI_MAX_IOAPICS) {
        acpi_note(info, "MADT: IO-APIC %u at 0x%llx is left out", ioapic.id,
                  (unsigned long long)ioapic.base);
        return;
    }
    for (uint32_t i = 0; i < info->ioapic_count; i++) {
        if (info->ioapics[i].base == ioapic.base || info->ioapics[i].gsi_base == ioapic.gsi_base) {
            acpi_note(info, "MADT: IO-APICs %u and %u overlap, the second is left out",
                      info->ioapics[i].id, ioapic.id);
            return;
        }
    }
    info->ioapics[info->ioapic_count++] = ioapic;
}

static void acpi_add_override(struct acpi_info *info, const uint8_t *entry)
{
    uint8_t bus = entry[OVERRIDE_BUS], source = entry[OVERRIDE_SOURCE];
    uint16_t flags = get_le16(entry + OVERRIDE_FLAGS);
    if (bus != 0 || source > 15) { // 5.2.12.5: the bus is ISA, constant 0
        acpi_note(info, "MADT: override of bus %u line %u: only ISA's 0 to 15 have any", bus,
                  source);
        return;
    }
    if (INTI_POLARITY(flags) == 2 || INTI_TRIGGER(flags) == 2) {
        acpi_note(info, "MADT: override of line %u has reserved flags 0x%x", source, flags);
    }
    for (uint32_t i = 0; i < info->override_count; i++) {
        if (info->overrides[i].source == source) {
            acpi_note(info, "MADT: line %u is overridden twice, the first stands", source);
            return;
        }
    }
    if (info->override_count == ACPI_MAX_OVERRIDES) {
        return; // cannot be: 16 sources, each once
    }
    info->overrides[info->override_count++] =
        (struct acpi_override){.source = source,
                               .gsi = get_le32(entry + OVERRIDE_GSI),
                               .level = INTI_TRIGGER(flags) == 3,
                               .active_low = INTI_POLARITY(flags) == 3};
}

static void acpi_add_nmi(struct acpi_info *info, uint32_t uid, uint16_t flags, uint8_t lint)
{
    if (lint > 1 || info->nmi_count == ACPI_MAX_NMIS) {
        acpi_note(info, "MADT: NMI at local input %u of CPU %u is left out", lint, uid);
        return;
    }
    info->nmis[info->nmi_count++] =
        (struct acpi_nmi){.acpi_uid = uid, .lint = lint, .active_low = INTI_POLARITY(flags) == 3};
}

// ---- entry by entry ----

// The shortest form of each entry type that is read; 0 for the others.
static uint32_t acpi_madt_entry_size(uint8_t type)
{
    switch (type) {
    case MADT_LAPIC:
        return LAPIC_SIZE;
    case MADT_IOAPIC:
        return IOAPIC_SIZE;
    case MADT_OVERRIDE:
        return OVERRIDE_SIZE;
    case MADT_LAPIC_NMI:
        return NMI_SIZE;
    case MADT_LAPIC_ADDRESS:
        return LAPIC_ADDRESS_SIZE;
    case MADT_X2APIC:
        return X2APIC_SIZE;
    case MADT_X2APIC_NMI:
        return X2NMI_SIZE;
    default:
        return 0;
    }
}

static void acpi_madt_entry(struct acpi_info *info, const uint8_t *e)
{
    switch (e[0]) {
    case MADT_LAPIC:
        if (e[LAPIC_ID] == 0xff) { // broadcast, nobody's: firmware writes it for empty sockets
            if (get_le32(e + LAPIC_FLAGS) & LAPIC_FLAG_ENABLED) {
                acpi_note(info, "MADT: a CPU cannot have APIC id 255");
            }
            break;
        }
        acpi_add_cpu(info, e[LAPIC_ID], e[LAPIC_UID], get_le32(e + LAPIC_FLAGS));
        break;
    case MADT_X2APIC:
        acpi_add_cpu(info, get_le32(e + X2APIC_ID), get_le32(e + X2APIC_UID),
                     get_le32(e + X2APIC_FLAGS));
        break;
    case MADT_IOAPIC:
        acpi_add_ioapic(info, e);
        break;
    case MADT_OVERRIDE:
        acpi_add_override(info, e);
        break;
    case MADT_LAPIC_NMI:
        acpi_add_nmi(info, e[NMI_UID] == 0xff ? UINT32_MAX : e[NMI_UID], get_le16(e + NMI_FLAGS),
                     e[NMI_LINT]);
        break;
    case MADT_X2APIC_NMI:
        acpi_add_nmi(info, get_le32(e + X2NMI_UID), get_le16(e + X2NMI_FLAGS), e[X2NMI_LINT]);
        break;
    case MADT_LAPIC_ADDRESS:
        info->lapic_base = get_le64(e + LAPIC_ADDRESS_BASE);
        break;
    }
}

void acpi_parse_madt(struct acpi_info *info, struct acpi_span table)
{
    if (info->has_madt || table.size < MADT_ENTRIES) {
        acpi_note(info, "APIC: %s, ignored", info->has_madt ? "a second one" : "too short");
        return;
    }
    info->has_madt = true;
    info->lapic_base = get_le32(table.data + MADT_LAPIC_BASE);
    info->has_8259 = (get_le32(table.data + MADT_FLAGS) & MADT_FLAG_PCAT) != 0;

    for (uint32_t at = MADT_ENTRIES, size; at < table.size; at += size) {
        const uint8_t *entry = table.data + at;
        uint32_t room = table.size - at;
        size = room >= 2 ? entry[1] : 0;
        if (size < 2 || size > room) { // there is no way to find the next one
            acpi_note(info, "MADT: entry at %u has length %u with %u left, the rest is ignored", at,
                      size, room);
            return;
        }
        if (size < acpi_madt_entry_size(entry[0])) {
            acpi_note(info, "MADT: entry of type %u is only %u long", entry[0], size);
            continue;
        }
        acpi_madt_entry(info, entry);
    }
}
