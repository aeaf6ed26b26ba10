// Serial ATA AHCI 1.3.1: registers (chapter 3), memory structures (chapter 4); ATA8-ACS
// (T13/1699-D) for commands and status. Facts only. "D" numbers are byte offsets from ABAR, the
// controller's BAR 5 (2.1.11).
#pragma once

#include <lib/text.h>
#include <lib/types.h>

enum { AHCI_BAR = 5, AHCI_MAX_PORTS = 32, AHCI_MAX_SLOTS = 32, AHCI_REGISTERS_SIZE = 0x1100 };

// ---- the controller: 3.1 ------------------------------------------------------------------------
enum ahci_register {
    AHCI_CAP = 0x00,  // 3.1.1 what it can
    AHCI_GHC = 0x04,  // 3.1.2 switches
    AHCI_IS = 0x08,   // 3.1.3 which ports want attention; write ones to clear, after the port's own
    AHCI_PI = 0x0c,   // 3.1.4 which ports exist
    AHCI_VS = 0x10,   // 3.1.5 version
    AHCI_CAP2 = 0x24, // 3.1.10
    AHCI_BOHC = 0x28, // 3.1.11 BIOS/OS handoff
    AHCI_PORT_BASE = 0x100,
    AHCI_PORT_SIZE = 0x80,
};

#define AHCI_CAP_NP(cap)  (((cap)&0x1f) + 1)        // ports
#define AHCI_CAP_NCS(cap) (((cap) >> 8 & 0x1f) + 1) // command slots
#define AHCI_CAP_SCLO     BIT(24)                   // PxCMD.CLO works
#define AHCI_CAP_SSS      BIT(27)                   // staggered spin-up
#define AHCI_CAP_SNCQ     BIT(30)                   // native command queueing
#define AHCI_CAP_S64A     BIT(31)                   // 64-bit addresses

#define AHCI_GHC_HR BIT(0)  // reset the controller; clears itself
#define AHCI_GHC_IE BIT(1)  // interrupts
#define AHCI_GHC_AE BIT(31) // AHCI mode

#define AHCI_CAP2_BOH BIT(0)
#define AHCI_BOHC_BOS BIT(0) // BIOS owns it
#define AHCI_BOHC_OOS BIT(1) // the OS wants it
#define AHCI_BOHC_BB  BIT(4) // BIOS is busy

// ---- a port: 3.3 --------------------------------------------------------------------------------
enum ahci_port_register {
    AHCI_PXCLB = 0x00, // command list, 1 KiB aligned
    AHCI_PXCLBU = 0x04,
    AHCI_PXFB = 0x08, // received FISes, 256 byte aligned
    AHCI_PXFBU = 0x0c,
    AHCI_PXIS = 0x10, // write ones to clear
    AHCI_PXIE = 0x14,
    AHCI_PXCMD = 0x18,
    AHCI_PXTFD = 0x20, // shadow of status (7:0) and error (15:8)
    AHCI_PXSIG = 0x24,
    AHCI_PXSSTS = 0x28, // SStatus
    AHCI_PXSCTL = 0x2c, // SControl
    AHCI_PXSERR = 0x30, // SError; write ones to clear
    AHCI_PXSACT = 0x34, // one bit a tag: set by us, cleared by the device when it is done
    AHCI_PXCI =
        0x38, // one bit a slot: set by us, cleared by the controller when the command is done
};

// PxIS and PxIE, 3.3.5
#define AHCI_PXIS_DHRS BIT(0) // register FIS from the device: a command is over
#define AHCI_PXIS_PSS  BIT(1) // PIO setup FIS: a block of a PIO command
#define AHCI_PXIS_DSS  BIT(2)
#define AHCI_PXIS_SDBS BIT(3) // set device bits FIS: queued commands are over
#define AHCI_PXIS_UFS  BIT(4) // unknown FIS
#define AHCI_PXIS_DPS  BIT(5)
#define AHCI_PXIS_PCS  BIT(6) // port connect change
#define AHCI_PXIS_DMPS BIT(7)
#define AHCI_PXIS_PRCS BIT(22) // PhyRdy change
#define AHCI_PXIS_IPMS BIT(23)
#define AHCI_PXIS_OFS  BIT(24) // overflow
#define AHCI_PXIS_INFS BIT(26) // interface non-fatal
#define AHCI_PXIS_IFS  BIT(27) // interface fatal
#define AHCI_PXIS_HBDS BIT(28) // host bus data error
#define AHCI_PXIS_HBFS BIT(29) // host bus fatal error
#define AHCI_PXIS_TFES BIT(30) // the device set ERR in its status
#define AHCI_PXIS_CPDS BIT(31)

// After any of these the port stands still until software restarts it (6.2.2).
#define AHCI_PXIS_STOPS \
    (AHCI_PXIS_TFES | AHCI_PXIS_HBFS | AHCI_PXIS_HBDS | AHCI_PXIS_IFS | AHCI_PXIS_OFS)
// The link is another one than before.
#define AHCI_PXIS_LINK   (AHCI_PXIS_PCS | AHCI_PXIS_PRCS)
#define AHCI_PXIE_WANTED (AHCI_PXIS_DHRS | AHCI_PXIS_SDBS | AHCI_PXIS_STOPS | AHCI_PXIS_LINK)

// PxCMD, 3.3.7
#define AHCI_PXCMD_ST         BIT(0) // process the command list
#define AHCI_PXCMD_SUD        BIT(1) // spin up
#define AHCI_PXCMD_POD        BIT(2) // power on
#define AHCI_PXCMD_CLO        BIT(3) // override BSY and DRQ
#define AHCI_PXCMD_FRE        BIT(4) // receive FISes
#define AHCI_PXCMD_CCS(cmd)   ((cmd) >> 8 & 0x1f)
#define AHCI_PXCMD_FR         BIT(14) // FIS receive runs
#define AHCI_PXCMD_CR         BIT(15) // command list runs
#define AHCI_PXCMD_ICC_MASK   (0xfu << 28)
#define AHCI_PXCMD_ICC_ACTIVE (1u << 28)

// PxSSTS, 3.3.10
#define AHCI_SSTS_DET(ssts) ((ssts)&0xf)
#define AHCI_SSTS_SPD(ssts) ((ssts) >> 4 & 0xf)
enum { AHCI_DET_NONE = 0, AHCI_DET_PRESENT = 1, AHCI_DET_LINK = 3, AHCI_DET_OFF = 4 };

// PxSCTL, 3.3.11: DET 1 sends COMRESET; IPM 3 forbids partial and slumber
#define AHCI_SCTL_DET_RESET 0x1
#define AHCI_SCTL_IPM_NONE  0x300

// PxSIG, 3.3.9 and SATA 3.0, 11.3
#define AHCI_SIG_ATA   0x00000101
#define AHCI_SIG_ATAPI 0xeb140101

// ---- memory: chapter 4 --------------------------------------------------------------------------
enum {
    AHCI_LIST_SIZE = 32 * 32, // 4.2.2: 32 headers of 32 bytes
    AHCI_RFIS_SIZE = 256,     // 4.2.1
    AHCI_TABLE_FIS = 0x00,    // 4.2.3: command FIS, up to 64 bytes
    AHCI_TABLE_ACMD = 0x40,   // packet of an ATAPI command, 12 or 16 bytes
    AHCI_TABLE_PRDT = 0x80,
    AHCI_PRD_SIZE = 16,
    AHCI_PRD_MAX_BYTES = 4 << 20, // 22 bits, counted from 0
    AHCI_FIS_DWORDS = 5,          // register FIS, host to device
};

struct ahci_command_header { // 4.2.2, figure 9
    uint32_t flags;          // PRDTL 31:16, W 6, A 5, CFL 4:0
    uint32_t transferred;    // PRDBC; D
    uint32_t table_low;      // 128 byte aligned
    uint32_t table_high;
    uint32_t reserved[4];
};
_Static_assert(sizeof(struct ahci_command_header) == 32, "AHCI 1.3.1, 4.2.2");
#define AHCI_HEADER_ATAPI    BIT(5)
#define AHCI_HEADER_WRITE    BIT(6)
#define AHCI_HEADER_PRDTL(n) ((uint32_t)(n) << 16)

struct ahci_prd {      // 4.2.3.3, figure 11
    uint32_t base_low; // even
    uint32_t base_high;
    uint32_t reserved;
    uint32_t count; // bytes - 1 in 21:0, always odd; interrupt on completion 31
};
_Static_assert(sizeof(struct ahci_prd) == AHCI_PRD_SIZE, "AHCI 1.3.1, 4.2.3.3");

enum { FIS_REG_H2D = 0x27 }; // SATA 3.0, 10.3.4
#define FIS_H2D_COMMAND 0x80 // byte 1: the command register was written

// Tables of bit names for the log and /proc: ahci_cmd.c.
extern const struct bit_name ahci_pxis_names[], ahci_serr_names[];
