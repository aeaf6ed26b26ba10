// Intel PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual, 317453 rev.
// 4.0 ("SDM" here): the part of the 82540EM, 82545EM and 82544GC that the driver uses. Facts only.
// Offsets are bytes into BAR 0 (SDM table 13-2); each bit stands under its register, with the
// section that describes it.
#pragma once

#include <lib/text.h>
#include <lib/types.h>

enum e1000_register {
    E1000_CTRL = 0x0000,   // 13.4.1 device control
    E1000_STATUS = 0x0008, // 13.4.2 device status
    E1000_EERD = 0x0014,   // 13.4.4 EEPROM read; not on the 82544
    E1000_ICR = 0x00c0,    // 13.4.17 interrupt cause; reading clears it
    E1000_ITR = 0x00c4,  // 13.4.18 least time between interrupts, units of 256 ns; not on the 82544
    E1000_ICS = 0x00c8,  // 13.4.19 sets causes by software
    E1000_IMS = 0x00d0,  // 13.4.20 mask: writing 1 lets a cause interrupt; reads what is let
    E1000_IMC = 0x00d8,  // 13.4.21 mask: writing 1 stops a cause
    E1000_RCTL = 0x0100, // 13.4.22 receive control
    E1000_TCTL = 0x0400, // 13.4.33 transmit control
    E1000_TIPG = 0x0410, // 13.4.34 gap between packets
    E1000_RDBAL = 0x2800, // 13.4.25 receive ring: bus address, low half
    E1000_RDBAH = 0x2804, // 13.4.26
    E1000_RDLEN = 0x2808, // 13.4.27 bytes, a multiple of 128
    E1000_RDH =
        0x2810, // 13.4.28 next descriptor that the device fills. The SDM's head: where the consumer is
    E1000_RDT = 0x2818, // 13.4.29 one beyond the last descriptor that the device may fill
    E1000_RDTR =
        0x2820, // 13.4.30 delay of the receive interrupt; the SDM itself says: leave it 0, use ITR
    E1000_TDBAL = 0x3800, // 13.4.36 transmit ring, likewise
    E1000_TDBAH = 0x3804,
    E1000_TDLEN = 0x3808,
    E1000_TDH = 0x3810,
    E1000_TDT = 0x3818,     // 13.4.40
    E1000_CRCERRS = 0x4000, // 13.7.1 statistics from here on: they clear when read
    E1000_RXERRC = 0x400c,  // 13.7.4
    E1000_MPC = 0x4010,     // 13.7.5 missed packets: no room in the device's FIFO
    E1000_COLC = 0x4028,    // 13.7.10
    E1000_RLEC = 0x4040,    // 13.7.15 wrong length
    E1000_RNBC =
        0x40a0, // 13.7.33 no receive descriptor was free (the packet may still have waited in the FIFO)
    E1000_RUC = 0x40a4,  // 13.7.34 undersize
    E1000_ROC = 0x40ac,  // 13.7.36 oversize
    E1000_MTA = 0x5200,  // 13.5.1 128 words of multicast hash
    E1000_RAL0 = 0x5400, // 13.5.2 our address, bytes 0 to 3
    E1000_RAH0 = 0x5404, // 13.5.3 bytes 4 and 5, and the valid bit
};
enum { E1000_MTA_WORDS = 128, E1000_BAR_SIZE = 0x20000 };

// CTRL, 13.4.1
#define E1000_CTRL_ASDE BIT(5)  // speed as the link found it
#define E1000_CTRL_SLU  BIT(6)  // set link up
#define E1000_CTRL_RST  BIT(26) // reset everything but the PCI configuration; clears itself
#define E1000_CTRL_VME  BIT(30) // strip VLAN tags

// STATUS, 13.4.2
#define E1000_STATUS_FD          BIT(0) // full duplex
#define E1000_STATUS_LU          BIT(1) // link up
#define E1000_STATUS_SPEED       0xc0u  // bits 7:6: 0 is 10, 1 is 100, 2 and 3 are 1000 Mb/s
#define E1000_STATUS_SPEED_SHIFT 6

// EERD, 13.4.4
#define E1000_EERD_START      BIT(0)
#define E1000_EERD_DONE       BIT(4)
#define E1000_EERD_ADDR_SHIFT 8
#define E1000_EERD_DATA_SHIFT 16
enum { E1000_EEPROM_WORDS = 64, E1000_EEPROM_SUM = 0xbaba }; // 5.6: words 0 to 3f add up to this

// ICR, ICS, IMS, IMC, 13.4.17
#define E1000_INT_TXDW   BIT(0) // a transmit descriptor was written back
#define E1000_INT_TXQE   BIT(1) // transmit ring is empty
#define E1000_INT_LSC    BIT(2) // link changed
#define E1000_INT_RXDMT0 BIT(4) // few receive descriptors are left
#define E1000_INT_RXO    BIT(6) // receiver overrun
#define E1000_INT_RXT0   BIT(7) // frames were received

// RCTL, 13.4.22
#define E1000_RCTL_EN    BIT(1)
#define E1000_RCTL_BAM   BIT(15) // accept broadcasts
#define E1000_RCTL_SECRC BIT(26) // leave the frame check sequence out
// BSIZE (bits 17:16) = 0 with BSEX (25) = 0: buffers of 2048 bytes. LPE (5) = 0: frames over 1522
// bytes are dropped.

// TCTL, 13.4.33
#define E1000_TCTL_EN         BIT(1)
#define E1000_TCTL_PSP        BIT(3) // pad short packets to 64 bytes
#define E1000_TCTL_CT_SHIFT   4
#define E1000_TCTL_COLD_SHIFT 12

// TIPG, 13.4.34: IPGT 8, IPGR1 8, IPGR2 6 byte times, which gives the legal gap on copper
#define E1000_TIPG_COPPER (8u | 8u << 10 | 6u << 20)

// RAH, 13.5.3
#define E1000_RAH_VALID BIT(31)

// Receive descriptor, 3.2.3: 16 bytes. All but the address is written by the device.
struct e1000_rx_desc {
    uint64_t address;
    uint16_t length;
    uint16_t checksum;
    uint8_t status;
    uint8_t errors;
    uint16_t special;
};
#define E1000_RXD_DD  BIT(0) // status: the device is done with it
#define E1000_RXD_EOP BIT(1) // status: the frame ends here
#define E1000_RXD_ERRORS \
    0x97u // errors: CE, SE, SEQ, CXE, RXE; the others are about checksums (3.2.3.2)

// Legacy transmit descriptor, 3.3.3: 16 bytes. Only status is written by the device.
struct e1000_tx_desc {
    uint64_t address;
    uint16_t length;
    uint8_t cso;
    uint8_t command;
    uint8_t status;
    uint8_t css;
    uint16_t special;
};
#define E1000_TXD_EOP  BIT(0) // command: the packet ends here
#define E1000_TXD_IFCS BIT(1) // command: insert the frame check sequence
#define E1000_TXD_RS   BIT(3) // command: write the status back
#define E1000_TXD_DD   BIT(0) // status: sent

_Static_assert(sizeof(struct e1000_rx_desc) == 16, "SDM table 3-1");
_Static_assert(offsetof(struct e1000_rx_desc, status) == 12, "SDM table 3-1");
_Static_assert(sizeof(struct e1000_tx_desc) == 16, "SDM table 3-8");
_Static_assert(offsetof(struct e1000_tx_desc, command) == 11, "SDM table 3-8");
_Static_assert(offsetof(struct e1000_tx_desc, status) == 12, "SDM table 3-8");

static const struct bit_name e1000_int_names[] __unused = {
    {E1000_INT_TXDW, "TXDW"},
    {E1000_INT_TXQE, "TXQE"},
    {E1000_INT_LSC, "LSC"},
    {E1000_INT_RXDMT0, "RXDMT0"},
    {E1000_INT_RXO, "RXO"},
    {E1000_INT_RXT0, "RXT0"},
    {0, NULL},
};
static const struct bit_name e1000_status_names[] __unused = {
    {E1000_STATUS_FD, "FD"},
    {E1000_STATUS_LU, "LU"},
    {0, NULL},
};
