// What the files of the local APIC share: lapic.c, lapic_timer.c, lapic_show.c. A register of this
// CPU's, in whichever of its two ways.
#pragma once

#include <core/io.h>
#include <x86/lapic.h>
#include <x86/msr.h>

#include "lapic_regs.h"

extern volatile uint8_t *lapic_mmio; // I: xAPIC
extern bool lapic_x2apic;            // I
extern bool lapic_present;           // I

static inline uint32_t lapic_rd(enum lapic_reg reg)
{
    return lapic_x2apic ? (uint32_t)rdmsr(MSR_X2APIC_BASE + (reg >> 4)) : readl(lapic_mmio + reg);
}

static inline void lapic_wr(enum lapic_reg reg, uint32_t value)
{
    if (lapic_x2apic) {
        wrmsr(MSR_X2APIC_BASE + (reg >> 4), value);
    } else {
        writel(value, lapic_mmio + reg);
    }
}

// One bit of the 256 in ISR, TMR or IRR.
static inline bool lapic_vector_bit(enum lapic_reg first, uint8_t vector)
{
    return lapic_present && (lapic_rd(first + vector / 32 * 0x10) >> (vector % 32) & 1) != 0;
}

// The timer is quiet, and how it stands is known. Context: this CPU comes up.
void lapic_timer_init_cpu(void);
