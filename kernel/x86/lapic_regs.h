// Registers of the local APIC. Intel SDM vol. 3 (325384-079), chapter 11; the section stands beside
// each. Offsets are those of the memory page; in x2APIC mode register `r` is MSR 0x800 + (r >> 4)
// (11.12.1.2).
#pragma once

#include <lib/text.h>

enum lapic_reg {
    LAPIC_ID = 0x020,       // 11.4.6; xAPIC: identifier in bits 31:24
    LAPIC_VERSION = 0x030,  // 11.4.8
    LAPIC_TPR = 0x080,      // 11.8.3.1
    LAPIC_PPR = 0x0a0,      // 11.8.3.1
    LAPIC_EOI = 0x0b0,      // 11.8.5
    LAPIC_LDR = 0x0d0,      // 11.6.2.2
    LAPIC_SVR = 0x0f0,      // 11.9
    LAPIC_ISR = 0x100,      // 11.8.4; 8 registers of 32 bits, 0x10 apart
    LAPIC_TMR = 0x180,      // likewise
    LAPIC_IRR = 0x200,      // likewise
    LAPIC_ESR = 0x280,      // 11.5.3
    LAPIC_LVT_CMCI = 0x2f0, // 11.5.1
    LAPIC_ICR_LOW = 0x300,  // 11.6.1; x2APIC: one 64-bit register
    LAPIC_ICR_HIGH = 0x310,
    LAPIC_LVT_TIMER = 0x320, // 11.5.1
    LAPIC_LVT_THERMAL = 0x330,
    LAPIC_LVT_PERF = 0x340,
    LAPIC_LVT_LINT0 = 0x350,
    LAPIC_LVT_LINT1 = 0x360,
    LAPIC_LVT_ERROR = 0x370,
    LAPIC_TIMER_INITIAL = 0x380, // 11.5.4
    LAPIC_TIMER_CURRENT = 0x390,
    LAPIC_TIMER_DIVIDE = 0x3e0,
    LAPIC_SELF_IPI = 0x3f0, // 11.12.11, x2APIC only
};

// IA32_APIC_BASE, 11.4.4 and 11.12.1
#define APIC_BASE_BSP     BIT(8)
#define APIC_BASE_X2APIC  BIT(10)
#define APIC_BASE_ENABLE  BIT(11)
#define APIC_BASE_ADDRESS 0x000ffffffffff000ull

#define LAPIC_VERSION_MAX_LVT(version) ((version) >> 16 & 0xff)

#define LAPIC_SVR_ENABLE BIT(8)

// Interrupt command register, figure 11-12
#define ICR_FIXED        0x00000
#define ICR_NMI          0x00400
#define ICR_INIT         0x00500
#define ICR_STARTUP      0x00600
#define ICR_BUSY         BIT(12) // delivery status: send pending; xAPIC only
#define ICR_ASSERT       BIT(14)
#define ICR_SELF         0x40000
#define ICR_ALL_BUT_SELF 0xc0000

// Local vector table, figure 11-8
#define LVT_NMI        0x00400
#define LVT_EXTINT     0x00700
#define LVT_PENDING    BIT(12)
#define LVT_ACTIVE_LOW BIT(13)
#define LVT_REMOTE_IRR BIT(14)
#define LVT_LEVEL      BIT(15)
#define LVT_MASKED     BIT(16)
#define LVT_PERIODIC   BIT(17)
#define LVT_DEADLINE   BIT(18)

#define TIMER_DIVIDE_BY_1   0xb // 11.5.4, figure 11-10
#define TIMER_DIVIDE_BY_128 0xa

// Error status register, figure 11-9
static const struct bit_name lapic_esr_bits[] = {
    {BIT(0), "send-checksum"},
    {BIT(1), "receive-checksum"},
    {BIT(2), "send-accept"},
    {BIT(3), "receive-accept"},
    {BIT(4), "redirectable-IPI"},
    {BIT(5), "send-illegal-vector"},
    {BIT(6), "receive-illegal-vector"},
    {BIT(7), "illegal-register"},
    {0, NULL},
};

static const struct bit_name lapic_lvt_bits[] = {
    {LVT_PENDING, "pending"},       {LVT_ACTIVE_LOW, "low"},
    {LVT_REMOTE_IRR, "remote-irr"}, {LVT_LEVEL, "level"},
    {LVT_MASKED, "masked"},         {LVT_PERIODIC, "periodic"},
    {LVT_DEADLINE, "deadline"},     {0, NULL},
};
