// Offsets in ACPI's static tables. ACPI Specification 6.4; the section stands beside each table.
// All fields are little-endian and may be unaligned: they are read with get_le16() and friends,
// never through a struct.
#pragma once

// Root System Description Pointer, 5.2.5.3
enum {
    RSDP_SIGNATURE = 0, // "RSD PTR "
    RSDP_CHECKSUM_V1 = 8,
    RSDP_OEM = 9,
    RSDP_REVISION = 15,
    RSDP_RSDT = 16,
    RSDP_SIZE_V1 = 20,
    RSDP_LENGTH = 20, // from revision 2 on
    RSDP_XSDT = 24,
    RSDP_SIZE_V2 = 36,
};

// System description table header, 5.2.6
enum {
    SDT_SIGNATURE = 0,
    SDT_LENGTH = 4,
    SDT_REVISION = 8,
    SDT_CHECKSUM = 9,
    SDT_OEM = 10,
    SDT_SIZE = 36,
};

// Generic address structure, 5.2.3.2
enum { GAS_SPACE = 0, GAS_ADDRESS = 4, GAS_SIZE = 12 };
#define GAS_SPACE_MEMORY 0
#define GAS_SPACE_PORTS  1

// Multiple APIC Description Table, 5.2.12
enum { MADT_LAPIC_BASE = 36, MADT_FLAGS = 40, MADT_ENTRIES = 44 };
#define MADT_FLAG_PCAT 0x1 // there are 8259s

enum { // 5.2.12.1, table 5.21; offsets below are from the entry's first byte
    MADT_LAPIC = 0,
    MADT_IOAPIC = 1,
    MADT_OVERRIDE = 2,
    MADT_LAPIC_NMI = 4,
    MADT_LAPIC_ADDRESS = 5,
    MADT_X2APIC = 9,
    MADT_X2APIC_NMI = 10,
};
enum { LAPIC_UID = 2, LAPIC_ID = 3, LAPIC_FLAGS = 4, LAPIC_SIZE = 8 };     // 5.2.12.2
enum { IOAPIC_ID = 2, IOAPIC_BASE = 4, IOAPIC_GSI = 8, IOAPIC_SIZE = 12 }; // 5.2.12.3
enum {
    OVERRIDE_BUS = 2,
    OVERRIDE_SOURCE = 3,
    OVERRIDE_GSI = 4,
    OVERRIDE_FLAGS = 8,
    OVERRIDE_SIZE = 10
};                                                                           // 5.2.12.5
enum { NMI_UID = 2, NMI_FLAGS = 3, NMI_LINT = 5, NMI_SIZE = 6 };             // 5.2.12.7
enum { LAPIC_ADDRESS_BASE = 4, LAPIC_ADDRESS_SIZE = 12 };                    // 5.2.12.8
enum { X2APIC_ID = 4, X2APIC_FLAGS = 8, X2APIC_UID = 12, X2APIC_SIZE = 16 }; // 5.2.12.12
enum { X2NMI_FLAGS = 2, X2NMI_UID = 4, X2NMI_LINT = 8, X2NMI_SIZE = 12 };    // 5.2.12.13
#define LAPIC_FLAG_ENABLED 0x1

#define INTI_POLARITY(flags) \
    ((flags)&3) // 0 conforms to the bus, 1 active high, 3 active low; table 5.26
#define INTI_TRIGGER(flags) ((flags) >> 2 & 3) // 0 conforms to the bus, 1 edge, 3 level

// Fixed ACPI Description Table, 5.2.9. Revision 1 ends at 116 bytes.
enum {
    FADT_DSDT = 40,
    FADT_SCI = 46,
    FADT_SMI_COMMAND = 48,
    FADT_ACPI_ENABLE = 52,
    FADT_PM1A_EVENT = 56,
    FADT_PM1A_CONTROL = 64,
    FADT_PM1B_CONTROL = 68,
    FADT_PM_TIMER = 76,
    FADT_PM1_EVENT_LENGTH = 88,
    FADT_BOOT_ARCH = 109,
    FADT_FLAGS = 112,
    FADT_SIZE_V1 = 116,
    FADT_RESET = 116,
    FADT_RESET_VALUE = 128,
    FADT_X_DSDT = 140,
    FADT_X_PM1A_EVENT = 148,
    FADT_X_PM1A_CONTROL = 172,
    FADT_X_PM1B_CONTROL = 184,
    FADT_X_PM_TIMER = 208,
};
#define FADT_FLAG_RESET  BIT(10)
#define BOOT_ARCH_LEGACY 0x1
#define BOOT_ARCH_8042   0x2

// PCI Firmware Specification 3.2, 4.1.2
enum {
    MCFG_ENTRIES = 44,
    MCFG_ENTRY_SIZE = 16,
    MCFG_BASE = 0,
    MCFG_SEGMENT = 8,
    MCFG_FIRST = 10,
    MCFG_LAST = 11
};

// IA-PC HPET Specification 1.0a, 3.2.4
enum { HPET_ADDRESS = 40, HPET_SIZE = 56 };

// The few words of AML that static data is made of, 20.3
enum {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_BUFFER = 0x11,
    AML_PACKAGE = 0x12,
    AML_DUAL_NAME = 0x2e,
    AML_EXTENDED = 0x5b,
    AML_EXTENDED_DEVICE = 0x82,
    AML_ROOT = 0x5c,
    AML_PARENT = 0x5e,
};
// Extended interrupt descriptor, 6.4.3.6
#define EXT_IRQ_EDGE       BIT(1)
#define EXT_IRQ_ACTIVE_LOW BIT(2)
enum { EXT_IRQ_TAG = 0x89, EXT_IRQ_FLAGS = 3, EXT_IRQ_COUNT = 4, EXT_IRQ_NUMBERS = 5 };

// PM1 control and event registers, 4.8.3
#define PM1_SCI_ENABLE    0x0001
#define PM1_SLP_TYP(type) ((uint16_t)((type) << 10))
#define PM1_SLP_TYP_MASK  0x1c00
#define PM1_SLP_ENABLE    0x2000
