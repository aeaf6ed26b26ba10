// Reads the firmware's description of the machine out of ACPI's static tables.
//
//   RSDP ──> XSDT or RSDT ──> MADT   CPUs, IO-APICs, how the ISA lines are wired  (acpi_madt.c)
//                        ├──> FADT   power ports, reset register                 (acpi_fadt.c)
//                        │     └──> DSDT   byte code: _S5_, PRTA                   (acpi_aml.c)
//                        ├──> MCFG   where PCIe configuration space lies
//                        └──> HPET   where the timer lies
//
// Every byte here was written by somebody else. Nothing is believed before its table's length and
// checksum are right, an entry is read only as far as its own length and its table's go, and what
// is refused leaves a note that says why; the rest of the tables still counts. The kernel wants to
// boot on a machine with one broken table, not to be right about it.
//
// ACPI Specification 6.4, chapter 5; IA-PC HPET 1.0a; PCI Firmware 3.2, 4.1.2. Context:
// boot, one CPU. Pure: memory is read through the caller's `map`, so tests/host/test_acpi.c and
// fuzz_acpi.c feed it anything. Next: acpi_madt.c, acpi_fadt.c, acpi_aml.c.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <x86/acpi.h>

#include "acpi_internal.h"
#include "acpi_regs.h"

enum {
    ACPI_MAX_TABLE_BYTES = 4 << 20,
    LAPIC_USUAL_BASE = 0xfee00000,
    IOAPIC_USUAL_BASE = 0xfec00000,
};

struct acpi_info acpi;

typedef void *(*acpi_map_t)(phys_t address, size_t size);

void acpi_note(struct acpi_info *info, const char *format, ...)
{
    if (info->note_count == ARRAY_SIZE(info->notes)) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(info->notes[info->note_count++], sizeof(info->notes[0]), format, args);
    va_end(args);
}

static bool acpi_sum_is_zero(const uint8_t *data, size_t size)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum = (uint8_t)(sum + data[i]);
    }
    return sum == 0;
}

// Text from a table, for notes: what is not printable becomes '?'.
static void acpi_copy_text(char *to, const uint8_t *from, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        to[i] = from[i] >= 0x20 && from[i] < 0x7f ? (char)from[i] : '?';
    }
    to[size] = '\0';
}

// ---- the root pointer ----

static bool acpi_rsdp_is_good(const uint8_t *rsdp, size_t size)
{
    if (size < RSDP_SIZE_V1 || memcmp(rsdp, "RSD PTR ", 8) != 0 ||
        !acpi_sum_is_zero(rsdp, RSDP_SIZE_V1)) {
        return false;
    }
    return rsdp[RSDP_REVISION] < 2 ||
           (size >= RSDP_SIZE_V2 && acpi_sum_is_zero(rsdp, RSDP_SIZE_V2));
}

// Copies a good RSDP from there; a page may end right behind an old, short one, so the longer form
// is asked for by itself.
static bool acpi_rsdp_at(phys_t address, acpi_map_t map, uint8_t rsdp[RSDP_SIZE_V2])
{
    size_t size = RSDP_SIZE_V2;
    const uint8_t *p = map(address, size);
    if (p == NULL) {
        size = RSDP_SIZE_V1;
        p = map(address, size);
    }
    if (p == NULL || !acpi_rsdp_is_good(p, size)) {
        return false;
    }
    memcpy(rsdp, p, size);
    return true;
}

static bool acpi_rsdp_scan(phys_t from, size_t size, acpi_map_t map, uint8_t rsdp[RSDP_SIZE_V2])
{
    const uint8_t *p = map(from, size);
    if (p == NULL) {
        return false;
    }
    for (size_t at = 0; at + RSDP_SIZE_V1 <= size; at += 16) {
        size_t room = min(size - at, (size_t)RSDP_SIZE_V2);
        if (acpi_rsdp_is_good(p + at, room)) {
            memcpy(rsdp, p + at, room);
            return true;
        }
    }
    return false;
}

// ACPI 5.2.5.1: the loader's word first; then, on BIOS only, the extended BIOS data area's first
// KiB and the BIOS ROM.
static bool acpi_find_rsdp(const struct boot_info *boot, struct acpi_info *info, acpi_map_t map,
                           uint8_t rsdp[RSDP_SIZE_V2])
{
    size_t copied = min((size_t)boot->rsdp_copy_size, sizeof(boot->rsdp_copy));
    if (copied != 0) {
        if (acpi_rsdp_is_good(boot->rsdp_copy, copied)) {
            memcpy(rsdp, boot->rsdp_copy, copied);
            return true;
        }
        acpi_note(info, "the loader's copy of the RSDP is not one");
    }
    if (boot->rsdp != 0) {
        if (acpi_rsdp_at(boot->rsdp, map, rsdp)) {
            return true;
        }
        acpi_note(info, "no RSDP at 0x%llx, where the loader said", (unsigned long long)boot->rsdp);
    }
    if (boot->efi_system_table != 0) {
        return false;
    }
    const uint8_t *segment = map(0x40e, 2);
    phys_t ebda = segment != NULL ? (phys_t)get_le16(segment) << 4 : 0;
    return (ebda >= 0x400 && ebda < 0xa0000 && acpi_rsdp_scan(ebda, 1024, map, rsdp)) ||
           acpi_rsdp_scan(0xe0000, 0x20000, map, rsdp);
}

// ---- tables ----

// Maps a whole table after looking at its header. `want` is its signature or NULL. False, with a
// note, when it is not usable.
static bool acpi_table(struct acpi_info *info, acpi_map_t map, phys_t address, const char *want,
                       struct acpi_span *table)
{
    char signature[5];
    const uint8_t *header = address != 0 ? map(address, SDT_SIZE) : NULL;
    if (header == NULL) {
        acpi_note(info, "%s: no table at 0x%llx", want != NULL ? want : "root entry",
                  (unsigned long long)address);
        return false;
    }
    acpi_copy_text(signature, header, 4);
    if (want != NULL && memcmp(header, want, 4) != 0) {
        acpi_note(info, "0x%llx holds %s where %s should be", (unsigned long long)address,
                  signature, want);
        return false;
    }
    uint32_t size = get_le32(header + SDT_LENGTH);
    if (size < SDT_SIZE || size > ACPI_MAX_TABLE_BYTES || address + size < address) {
        acpi_note(info, "%s: a length of %u makes no sense", signature, size);
        return false;
    }
    const uint8_t *data = map(address, size);
    if (data == NULL) {
        acpi_note(info, "%s: cannot map its %u bytes", signature, size);
        return false;
    }
    if (!acpi_sum_is_zero(data, size)) {
        acpi_note(info, "%s: wrong checksum, ignored", signature);
        return false;
    }
    *table = (struct acpi_span){data, size};
    return true;
}

static void acpi_record_table(struct acpi_info *info, phys_t address, const struct acpi_span *table)
{
    if (info->table_count == ACPI_MAX_TABLES) {
        acpi_note(info, "more than %d tables, the rest is not listed", ACPI_MAX_TABLES);
        return;
    }
    struct acpi_table_ref *ref = &info->tables[info->table_count++];
    acpi_copy_text(ref->signature, table->data + SDT_SIGNATURE, 4);
    acpi_copy_text(ref->oem_id, table->data + SDT_OEM, 6);
    ref->revision = table->data[SDT_REVISION];
    ref->address = address;
    ref->length = table->size;
}

// ---- MCFG and HPET ----

static void acpi_parse_mcfg(struct acpi_info *info, const struct acpi_span *table)
{
    for (uint32_t at = MCFG_ENTRIES; table->size >= at + MCFG_ENTRY_SIZE; at += MCFG_ENTRY_SIZE) {
        const uint8_t *entry = table->data + at;
        struct acpi_mcfg mcfg = {.base = get_le64(entry + MCFG_BASE),
                                 .segment = get_le16(entry + MCFG_SEGMENT),
                                 .bus_first = entry[MCFG_FIRST],
                                 .bus_last = entry[MCFG_LAST]};
        phys_t end = mcfg.base + ((phys_t)(mcfg.bus_last + 1) << 20);
        if (mcfg.base == 0 || (mcfg.base & 0xfffff) != 0 || mcfg.bus_last < mcfg.bus_first ||
            end < mcfg.base || info->mcfg_count == ACPI_MAX_MCFG) {
            acpi_note(info, "MCFG: window 0x%llx for buses %u to %u is left out",
                      (unsigned long long)mcfg.base, mcfg.bus_first, mcfg.bus_last);
            continue;
        }
        info->mcfg[info->mcfg_count++] = mcfg;
    }
}

static void acpi_parse_hpet(struct acpi_info *info, const struct acpi_span *table)
{
    if (info->hpet_base != 0) {
        return; // a second block of timers is of no use here
    }
    const uint8_t *gas = table->data + HPET_ADDRESS;
    if (table->size < HPET_SIZE || gas[GAS_SPACE] != GAS_SPACE_MEMORY) {
        acpi_note(info, "HPET: too short, or its registers are not in memory");
        return;
    }
    info->hpet_base = get_le64(gas + GAS_ADDRESS);
}

// ---- the root table ----

// The FADT, and the DSDT that it names.
static void acpi_read_fadt(struct acpi_info *info, acpi_map_t map, struct acpi_span fadt)
{
    struct acpi_span dsdt;
    phys_t address;

    if (acpi_parse_fadt(info, fadt, &address) && acpi_table(info, map, address, "DSDT", &dsdt)) {
        struct acpi_span aml = {dsdt.data + SDT_SIZE, dsdt.size - SDT_SIZE};

        acpi_record_table(info, address, &dsdt);
        acpi_find_s5(info, aml);
        acpi_find_intx(info, aml);
    }
}

static void acpi_parse_table(struct acpi_info *info, acpi_map_t map, phys_t address)
{
    struct acpi_span table;
    if (!acpi_table(info, map, address, NULL, &table)) {
        return;
    }
    acpi_record_table(info, address, &table);
    if (memcmp(table.data, "APIC", 4) == 0) {
        acpi_parse_madt(info, table);
    } else if (memcmp(table.data, "FACP", 4) == 0) {
        acpi_read_fadt(info, map, table);
    } else if (memcmp(table.data, "MCFG", 4) == 0) {
        acpi_parse_mcfg(info, &table);
    } else if (memcmp(table.data, "HPET", 4) == 0) {
        acpi_parse_hpet(info, &table);
    }
}

// What a PC is without tables. The IO-APIC is a guess: ioapic_add() finds out whether one answers
// there.
static void acpi_assume_pc(struct acpi_info *info)
{
    info->has_8259 = true;
    info->ioapics[info->ioapic_count++] = (struct acpi_ioapic){.base = IOAPIC_USUAL_BASE};
    // The PIT sits on pin 2 since the first PC with an IO-APIC, as line 2 itself only joins the
    // 8259s (MP specification 1.4, 3.6.2).
    info->overrides[info->override_count++] = (struct acpi_override){.source = 0, .gsi = 2};
}

// Firmware that names no NMI input means the usual one (MP specification 1.4, chapter 5: LINTIN1 of
// every local APIC).
static void acpi_assume_nmi(struct acpi_info *info)
{
    if (info->nmi_count == 0) {
        info->nmis[info->nmi_count++] = (struct acpi_nmi){.acpi_uid = UINT32_MAX, .lint = 1};
    }
}

static int acpi_parse_all(const struct boot_info *boot, acpi_map_t map, struct acpi_info *info)
{
    uint8_t rsdp[RSDP_SIZE_V2] = {0};
    struct acpi_span root = {0};
    memset(info, 0, sizeof(*info));
    info->lapic_base = LAPIC_USUAL_BASE;
    info->boot_arch_flags = BOOT_ARCH_LEGACY | BOOT_ARCH_8042;
    if (!acpi_find_rsdp(boot, info, map, rsdp)) {
        acpi_note(info,
                  "no tables: one CPU, no power-off, an IO-APIC if it answers at its usual place");
        acpi_assume_pc(info);
        return -ENODEV;
    }
    info->revision = rsdp[RSDP_REVISION];

    unsigned entry_size = 8;
    phys_t address = info->revision >= 2 ? get_le64(rsdp + RSDP_XSDT) : 0;
    if (address == 0 || !acpi_table(info, map, address, "XSDT", &root)) {
        entry_size = 4;
        address = get_le32(rsdp + RSDP_RSDT);
        if (!acpi_table(info, map, address, "RSDT", &root)) {
            acpi_note(info, "neither XSDT nor RSDT is usable: one CPU, no power-off");
            acpi_assume_pc(info);
            return -ENODEV;
        }
    }
    info->present = true;
    for (uint32_t at = SDT_SIZE; at + entry_size <= root.size; at += entry_size) {
        acpi_parse_table(info, map,
                         entry_size == 8 ? get_le64(root.data + at) : get_le32(root.data + at));
    }
    if (!info->has_madt) {
        acpi_note(info, "no MADT: one CPU, and an IO-APIC if it answers at its usual place");
        acpi_assume_pc(info);
    }
    return 0;
}

int acpi_parse(const struct boot_info *boot, acpi_map_t map, struct acpi_info *info)
{
    int err = acpi_parse_all(boot, map, info);
    acpi_assume_nmi(info);
    return err;
}
