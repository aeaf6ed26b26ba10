// Selectors of the GDT (order forced by SYSCALL/SYSRET: kernel code, kernel data, user data, user
// code) and interrupt stack table slots.
#pragma once

#define KERNEL_CS 0x08
#define KERNEL_DS 0x10
#define USER_DS   (0x18 | 3)
#define USER_CS   (0x20 | 3)
#define TSS_SEL   0x28

// INT 0x80: the system call as a gate. The only gate besides #BP and #OF that ring 3 may use.
#define VECTOR_SYSCALL 0x80
// What SYSCALL leaves in its frame in a vector's place: no gate can.
#define VECTOR_BY_SYSCALL 0x180

// TSS.IST slots: stacks that are good even when the current one is not. 0 means "stay on the
// current stack".
#define IST_DOUBLE_FAULT  1
#define IST_NMI           2
#define IST_MACHINE_CHECK 3
#define IST_COUNT         3

#ifndef __ASSEMBLER__
#include <lib/types.h>

// Loads this CPU's GDT, TSS and IDT and its %gs base. `ist_tops` are IST_COUNT stack tops (16-byte
// aligned). Context: once per CPU, interrupts off.
void gdt_init_cpu(unsigned cpu, const uintptr_t ist_tops[IST_COUNT]);
// Stack for entries from ring 3; called when a thread that has a program gets the CPU. Context:
// interrupts off.
void gdt_set_kernel_stack(uintptr_t top);

// Fills all 256 gates and loads them on this CPU; idt_load only loads (other CPUs).
void idt_init(void);
void idt_load(void);
// For `idt check`, which finds gates that somebody has bent: where a gate leads, whether it is as
// idt_init makes it, and whether this CPU uses our table at all (SIDT). Context: any.
uintptr_t idt_target(unsigned vector);
bool idt_gate_is_good(unsigned vector);
void idt_gate_repair(unsigned vector); // to what it was at boot
bool idt_is_loaded(void);

// The first line of kernel_main: all of the above for the boot CPU, with static stacks for the ISTs
// (kernel/x86/gdt.c) until others can be allocated. From here on cpu_id() works and exceptions are
// told.
void gdt_init_early(void);
#endif
