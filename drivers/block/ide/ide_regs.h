// An IDE channel as the PC has it: AT Attachment with Packet Interface - 6 (T13/1410D revision 3b),
// 7 (register descriptions); Programming Interface for Bus Master IDE Controller, revision 1.0;
// Intel 82371SB (PIIX3), 2.2.10. Facts only.
#pragma once

#include <lib/types.h>

// Where the two channels of a PC are, whatever PCI says (compatibility mode).
enum {
    IDE_PRIMARY = 0x1f0,
    IDE_PRIMARY_CONTROL = 0x3f6,
    IDE_PRIMARY_IRQ = 14,
    IDE_SECONDARY = 0x170,
    IDE_SECONDARY_CONTROL = 0x376,
    IDE_SECONDARY_IRQ = 15,
};

enum ide_register { // from the base of the command block
    IDE_DATA = 0,   // 16 bits
    IDE_ERROR = 1,  // read
    IDE_FEATURES = 1,
    IDE_COUNT = 2, // this and the next three hold two bytes, the older one seen with IDE_HOB
    IDE_LBA_LOW = 3,
    IDE_LBA_MID = 4,
    IDE_LBA_HIGH = 5,
    IDE_DEVICE = 6,
    IDE_STATUS = 7, // reading it takes the interrupt back
    IDE_COMMAND = 7,
};
// The control block has one register: read it is the status without taking the interrupt back.
#define IDE_CONTROL_NIEN  BIT(1) // no interrupts
#define IDE_CONTROL_RESET BIT(2) // both devices, while it is set

#define IDE_DEVICE_OBSOLETE 0xa0
#define IDE_DEVICE_SECOND   BIT(4)

enum { IDE_ATAPI_MID = 0x14, IDE_ATAPI_HIGH = 0xeb }; // what such a device leaves in the LBA

// Bus master: eight ports for each channel, from BAR 4 on.
enum ide_bus_master {
    IDE_BM_COMMAND = 0,
    IDE_BM_STATUS = 2,
    IDE_BM_TABLE = 4, // 32 bits
    IDE_BM_PORTS = 8,
};
#define IDE_BM_START     BIT(0)
#define IDE_BM_TO_MEMORY BIT(3)
#define IDE_BM_ACTIVE    BIT(0)
#define IDE_BM_ERROR     BIT(1) // write 1 to clear, as the next
#define IDE_BM_INTERRUPT BIT(2)

struct ide_prd { // revision 1.0, 1.2: no region crosses 64 KiB
    uint32_t base;
    uint16_t bytes; // 0: 64 KiB
    uint16_t flags;
};
_Static_assert(sizeof(struct ide_prd) == 8, "1.2");
#define IDE_PRD_LAST     BIT(15)
#define IDE_PRD_BOUNDARY 0x10000u

enum { PIIX_IDE_TIMING = 0x40, PIIX_IDE_BAR = 4 }; // PIIX3, 2.2.10 and 2.2.8: two bytes a channel
#define PIIX_IDE_DECODE BIT(15)
