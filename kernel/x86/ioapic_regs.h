// Registers of the IO-APIC. Intel 82093AA data sheet (290566-001), section 3; ICH9 data sheet,
// 13.5.
#pragma once

// Two windows in memory, section 3.1: write the register's number into one, access it through the
// other.
enum { IOAPIC_SELECT = 0x00, IOAPIC_WINDOW = 0x10, IOAPIC_MEMORY_SIZE = 0x20 };

enum {
    IOAPIC_REG_ID = 0x00,      // 3.2.1: bits 27:24
    IOAPIC_REG_VERSION = 0x01, // 3.2.2: version 7:0, last pin 23:16
    IOAPIC_REG_ENTRIES = 0x10, // 3.2.4: two registers a pin, low half first
};

// Redirection entry, 3.2.4
#define RTE_VECTOR            0x000000ffull
#define RTE_DELIVERY          0x00000700ull // 0: fixed
#define RTE_LOGICAL           BIT64(11)     // destination mode; 0: physical
#define RTE_PENDING           BIT64(12)     // delivery status
#define RTE_ACTIVE_LOW        BIT64(13)
#define RTE_REMOTE_IRR        BIT64(14) // level: accepted by a CPU that has not said EOI yet
#define RTE_LEVEL             BIT64(15)
#define RTE_MASKED            BIT64(16)
#define RTE_DESTINATION_SHIFT 56 // APIC identifier, 8 bits
