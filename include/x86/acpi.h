// The firmware's description of the machine, taken from ACPI's static tables without an interpreter
// (ACPI 6.4, chapter 5; IA-PC HPET 1.0a; PCI Firmware 3.2). Pure: it reads through a mapping
// function, so the host tests and fuzzes it. Every table is hostile.
#pragma once

#include <contract/boot_info.h>
#include <lib/cpumask.h>
#include <lib/types.h>

enum {
    ACPI_MAX_IOAPICS = 16,
    ACPI_MAX_OVERRIDES = 32,
    ACPI_MAX_NMIS = 16,
    ACPI_MAX_MCFG = 8,
    ACPI_MAX_TABLES = 64,
    ACPI_MAX_INTX = 160
};

struct acpi_cpu {
    uint32_t apic_id, acpi_uid;
    bool enabled;
};
struct acpi_ioapic {
    uint32_t id, gsi_base;
    phys_t base;
};
struct acpi_override { // MADT type 2: ISA line `source` is wired to `gsi`
    uint8_t source;
    uint32_t gsi;
    bool level, active_low; // already resolved: "conforms to bus" on ISA is edge, active high
};
struct acpi_nmi {      // MADT type 4: a local APIC's input that carries NMI
    uint32_t acpi_uid; // UINT32_MAX: of every CPU
    uint8_t lint;      // 0 or 1
    bool active_low;
};
struct acpi_mcfg {
    phys_t base;
    uint16_t segment;
    uint8_t bus_first, bus_last;
};
struct acpi_table_ref {
    char signature[5];
    uint8_t revision;
    phys_t address;
    uint32_t length;
    char oem_id[7];
};
// A PCI interrupt wire that the DSDT names in a static package (q35's PRTA): slot and pin (0 =
// INTA) to GSI.
struct acpi_intx {
    uint8_t slot, pin;
    uint32_t gsi;
    bool level, active_low; // as its link device says; without one PCI's way: level, low
};

struct acpi_info {
    uint8_t revision; // of the RSDP; 0 with present == false
    bool present;
    uint32_t table_count;
    struct acpi_table_ref tables[ACPI_MAX_TABLES];

    bool has_madt, has_8259;
    phys_t lapic_base;
    uint32_t cpu_total; // entries seen, also those beyond MAX_CPUS
    uint32_t cpu_count;
    struct acpi_cpu cpus[MAX_CPUS]; // enabled ones only, boot order as in the MADT
    uint32_t ioapic_count;
    struct acpi_ioapic ioapics[ACPI_MAX_IOAPICS];
    uint32_t override_count;
    struct acpi_override overrides[ACPI_MAX_OVERRIDES];

    uint32_t nmi_count;
    struct acpi_nmi nmis[ACPI_MAX_NMIS];

    uint32_t mcfg_count;
    struct acpi_mcfg mcfg[ACPI_MAX_MCFG];

    phys_t hpet_base; // 0: none
    bool has_fadt;
    uint16_t sci_irq;
    uint32_t pm1a_control, pm1b_control, pm1a_event, pm_timer; // ports, 0: none
    uint8_t pm1_event_length;
    uint32_t smi_command; // port; 0: ACPI is always on
    uint8_t acpi_enable;
    uint16_t boot_arch_flags; // bit 1: there is an 8042; assumed when the table is too old to say
    bool has_s5;
    uint8_t s5_type_a, s5_type_b; // SLP_TYP values from the DSDT's _S5_ package
    bool has_reset;
    uint8_t reset_space; // 0 memory, 1 ports
    uint64_t reset_address;
    uint8_t reset_value;

    uint32_t intx_count;
    struct acpi_intx intx[ACPI_MAX_INTX];

    uint32_t note_count;
    char notes[16][96]; // what was refused and why, printed by the caller
};

// Fills *info. `map` returns a pointer to `size` bytes at a physical address or NULL. 0, or -ENODEV
// when there is no usable RSDP; *info then holds what a PC without tables has: one CPU, an IO-APIC
// to be tried at its usual address, 8259s.
int acpi_parse(const struct boot_info *boot, void *(*map)(phys_t address, size_t size),
               struct acpi_info *info);

// The machine's own copy, filled by kernel_main.
extern struct acpi_info acpi;

// S5 and reset (kernel/x86/power.c). Both return only when the machine did not obey. Context:
// thread or panic.
void acpi_poweroff(void);
void acpi_reboot(void);
