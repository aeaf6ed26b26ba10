// Model-specific registers and control registers. Context: any; the numbers are Intel SDM vol. 4,
// table 2-2.
#pragma once

#include <lib/types.h>

#define MSR_APIC_BASE    0x1b
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_X2APIC_BASE  0x800
#define MSR_PAT          0x277
#define MSR_EFER         0xc0000080
#define MSR_STAR         0xc0000081
#define MSR_LSTAR        0xc0000082
#define MSR_SFMASK       0xc0000084
#define MSR_FS_BASE      0xc0000100
#define MSR_GS_BASE      0xc0000101
#define MSR_KERNEL_GS    0xc0000102
#define MSR_MCG_CAP      0x179
#define MSR_MCG_STATUS   0x17a
#define MSR_MCG_CTL      0x17b
#define MSR_MC_CTL(bank) (0x400 + 4 * (bank))

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

#define CONTROL_REGISTER(name)                                       \
    static inline uint64_t read_##name(void)                         \
    {                                                                \
        uint64_t v;                                                  \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(v)::"memory"); \
        return v;                                                    \
    }                                                                \
    static inline void write_##name(uint64_t v)                      \
    {                                                                \
        __asm__ volatile("mov %0, %%" #name ::"r"(v) : "memory");    \
    }
CONTROL_REGISTER(cr0)
CONTROL_REGISTER(cr2)
CONTROL_REGISTER(cr3)
CONTROL_REGISTER(cr4)
