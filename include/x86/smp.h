// Starting the other CPUs (Intel SDM vol. 3, 9.4: INIT, start-up, start-up) and talking to them.
#pragma once

// What a starting CPU is told: the block at trampoline_block inside the copied page, which
// boot/trampoline.S reads at these offsets.
//   CR3    of the kernel; loaded in 64-bit mode, from the upper half (the boot tables map the page
//          one to one until then)
//   STACK  its top, 16-byte aligned
//   CPU    ap_main's argument
//   STATE  SMP_OFFERED -> SMP_TAKEN by the CPU's lock cmpxchg; one that finds anything else halts for
//          good
#define SMP_BLOCK_CR3   0
#define SMP_BLOCK_STACK 8
#define SMP_BLOCK_CPU   16
#define SMP_BLOCK_STATE 24
#define SMP_BLOCK_SIZE  32

#define SMP_OFFERED 1
#define SMP_TAKEN   2

#ifndef __ASSEMBLER__
#include <lib/types.h>

// boot/trampoline.S: real-mode code of less than a page, position independent within its page; SIPI
// enters at its first byte.
extern const uint8_t trampoline_start[], trampoline_end[], trampoline_block[];

// Starts CPU `cpu` (index into cpus[], apic_id set) with the given stack; it comes up in
// ap_main(cpu) in kernel/main.c. 0, or -ETIMEDOUT when it did not call smp_ap_is_up() within
// `timeout_us`; such a CPU is put back into INIT and stays out for good. Context: boot CPU, thread,
// one at a time.
int smp_start_cpu(unsigned cpu, uintptr_t stack_top, uint32_t timeout_us);
// Called by ap_main once it needs the trampoline no more and can say so (its %gs is set). Context:
// the new CPU, interrupts off.
void smp_ap_is_up(void);

// Copies the trampoline below 1 MiB. The page must be free RAM (found by kernel/mm), mapped
// writable at PHYS_BASE; cr3 is the kernel's (map_root()), below 4 GiB or not. Context: boot CPU,
// before the first smp_start_cpu.
void smp_prepare(phys_t trampoline_page, phys_t cr3);

// Boot options: how many CPUs may run (maxcpus=, nosmp is 1); the boot CPU is always one of them.
unsigned smp_max_cpus(void);
#endif
