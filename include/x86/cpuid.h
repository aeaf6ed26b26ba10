// What this CPU can do, asked once; and the protections that follow from it, switched on per CPU.
#pragma once

#include <lib/text.h>
#include <lib/types.h>

enum cpu_feature {
    FEATURE_NX,
    FEATURE_PAGE1GB,
    FEATURE_SMEP,
    FEATURE_SMAP,
    FEATURE_UMIP,
    FEATURE_X2APIC,
    FEATURE_TSC_DEADLINE,
    FEATURE_INVARIANT_TSC,
    FEATURE_RDRAND,
    FEATURE_FSGSBASE,
    FEATURE_PCID,
    FEATURE_RDTSCP,
    FEATURE_MCE,
    FEATURE_MCA,
    FEATURE_PGE,
    FEATURE_PAT,
    FEATURE_ARAT,
    FEATURE_HYPERVISOR,
    FEATURE_COUNT,
};

// Fills the table from CPUID. Context: boot, once, before the others.
void cpuid_init(void);
bool cpu_has(enum cpu_feature feature);
unsigned cpu_phys_bits(void);

// A random number of the CPU's own (RDRAND), 0 when it has none to give. Context: any.
uint64_t cpu_random(void);

// Sets CR0.{WP,NE,MP,TS}, CR4.{PGE,SMEP,SMAP,UMIP,MCE}, EFER.{NXE,SCE} with SYSCALL's entry, and
// the PAT (<x86/pte.h>) as this CPU has them; FSGSBASE stays off, cpuid.c says why. Context: once
// per CPU.
extern bool cpu_coarse_clock; // I: ring 3 may not read the TSC: boot option clock=coarse
void cpu_protect(void);

// The text of /proc/cpuinfo for one CPU, in Linux's lines.
void cpuid_show(struct text *t, unsigned cpu);
// Vendor and brand, for the boot line.
const char *cpuid_brand(void);
