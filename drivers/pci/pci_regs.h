// PCI configuration space: PCI Local Bus Specification 3.0, chapter 6 (header, capabilities),
// PCI-to-PCI Bridge Architecture 1.2, chapter 3 (bridges), PCI Express Base 3.0, 7.2.2 (ECAM) and
// 7.9.1 (extended capabilities). Facts only.
#pragma once

#include <lib/types.h>

enum pci_config_size {
    PCI_CONFIG_SIZE = 256,           // conventional
    PCI_CONFIG_EXTENDED_SIZE = 4096, // through ECAM
};

enum pci_register { // offset: 3.0, figure 6-1
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04, // 6.2.2
    PCI_STATUS = 0x06,  // 6.2.3
    PCI_REVISION = 0x08,
    PCI_CLASS_CODE = 0x09, // three bytes: interface, subclass, class
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10, // six in a device, two in a bridge; 6.2.5.1
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM_ID = 0x2e,
    PCI_CAPABILITIES = 0x34, // 6.7
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,

    PCI_PRIMARY_BUS = 0x18, // of a bridge; Bridge 1.2, 3.2.5
    PCI_SECONDARY_BUS = 0x19,
    PCI_SUBORDINATE_BUS = 0x1a,
    PCI_IO_BASE = 0x1c,       // base and limit in one 16-bit word, 4 KiB steps; 3.2.5.6
    PCI_MEMORY_BASE = 0x20,   // base and limit in one 32-bit word, 1 MiB steps; 3.2.5.8
    PCI_PREFETCH_BASE = 0x24, // likewise; 3.2.5.9
    PCI_PREFETCH_BASE_HIGH = 0x28,
    PCI_PREFETCH_LIMIT_HIGH = 0x2c,
    PCI_IO_HIGH = 0x30,
};

#define PCI_COMMAND_IO           BIT(0)
#define PCI_COMMAND_MEMORY       BIT(1)
#define PCI_COMMAND_MASTER       BIT(2)
#define PCI_COMMAND_INTX_DISABLE BIT(10)

#define PCI_STATUS_CAPABILITIES BIT(4)

#define PCI_HEADER_TYPE_MASK   0x7f // 0 device, 1 PCI-to-PCI bridge, 2 CardBus bridge
#define PCI_HEADER_MULTI       0x80
#define PCI_HEADER_TYPE_NORMAL 0
#define PCI_HEADER_TYPE_BRIDGE 1

#define PCI_BAR_PORT         BIT(0)
#define PCI_BAR_PORT_MASK    0xfffffffc
#define PCI_BAR_TYPE_MASK    0x6 // of a memory BAR: 0: 32 bits, 4: 64 bits, 2 and 6: reserved
#define PCI_BAR_TYPE_32      0x0
#define PCI_BAR_TYPE_64      0x4
#define PCI_BAR_PREFETCHABLE BIT(3)
#define PCI_BAR_MEMORY_MASK  0xfffffff0

enum {
    PCI_CAPABILITY_FIRST = 0x40,
    PCI_EXTENDED_FIRST = 0x100
}; // the lowest places they may be at
#define PCI_EXTENDED_ID(header)   ((header)&0xffff)
#define PCI_EXTENDED_NEXT(header) ((header) >> 20)

// Capability identifiers (PCI-SIG, "PCI Code and ID Assignment", 1.11, section 2).
enum pci_capability_id {
    PCI_CAP_POWER = 0x01,
    PCI_CAP_MSI = 0x05,
    PCI_CAP_VENDOR = 0x09,
    PCI_CAP_EXPRESS = 0x10,
    PCI_CAP_MSIX = 0x11,
    PCI_CAP_SATA = 0x12,
};

// What kind of port a PCI Express function is: the capability's register at offset 2 (PCI Express
// Base 3.0, 7.8.2).
enum { PCI_EXPRESS_FLAGS = 0x02 };
#define PCI_EXPRESS_TYPE(flags) ((flags) >> 4 & 0xf)
#define PCI_EXPRESS_TO_PCI      7u // a bridge to conventional PCI
#define PCI_EXPRESS_FROM_PCI    8u // the other way round

// Class and subclass (PCI-SIG, "PCI Code and ID Assignment", 1.11, section 1).
enum pci_class { PCI_CLASS_BRIDGE_HOST = 0x0600 };

// Mechanism #1: an address port and a data port (3.0, 3.2.2.3.2).
enum { PCI_CF8_ADDRESS = 0xcf8, PCI_CF8_DATA = 0xcfc };
#define PCI_CF8_ENABLE BIT(31)

// PIIX3 (Intel 290550) and its relatives: PIRQA..PIRQD route control, one byte each: bit 7 off,
// bits 3:0 the 8259's line.
enum { PIIX_PIRQ_ROUTE = 0x60 };
#define PIIX_PIRQ_OFF 0x80
#define PIIX_PIRQ_IRQ 0x0f

// Message Signaled Interrupts (3.0, 6.8.1): offsets within the capability.
enum pci_msi_register {
    PCI_MSI_CONTROL = 0x02,
    PCI_MSI_ADDRESS = 0x04,
    PCI_MSI_ADDRESS_HIGH = 0x08, // where bit 7 of the control says 64 bits
    PCI_MSI_DATA_32 = 0x08,
    PCI_MSI_DATA_64 = 0x0c,
    PCI_MSI_MASK_32 = 0x0c, // where bit 8 of the control says that there is a mask
    PCI_MSI_MASK_64 = 0x10,
};
#define PCI_MSI_ENABLE        BIT(0)
#define PCI_MSI_MULTIPLE_MASK (7u << 4) // log2 of how many messages are enabled
#define PCI_MSI_64BIT         BIT(7)
#define PCI_MSI_MASKABLE      BIT(8)

// MSI-X (3.0, 6.8.2): the capability, and an entry of the table in a BAR.
enum pci_msix_register {
    PCI_MSIX_CONTROL = 0x02,
    PCI_MSIX_TABLE = 0x04, // bits 2:0 which BAR, the rest the offset
    PCI_MSIX_PBA = 0x08,

    PCI_MSIX_ENTRY_ADDRESS = 0x0,
    PCI_MSIX_ENTRY_ADDRESS_HIGH = 0x4,
    PCI_MSIX_ENTRY_DATA = 0x8,
    PCI_MSIX_ENTRY_CONTROL = 0xc,
    PCI_MSIX_ENTRY_SIZE = 0x10,
};
#define PCI_MSIX_SIZE_MASK     0x7ff // one less than the entries
#define PCI_MSIX_FUNCTION_MASK BIT(14)
#define PCI_MSIX_ENABLE        BIT(15)
#define PCI_MSIX_BIR           7u
#define PCI_MSIX_ENTRY_MASKED  BIT(0)
