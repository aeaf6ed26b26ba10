// The kernel's page tables: W^X for the image, the direct map, device registers, stacks with
// guards.
// Context: any, where a line does not say otherwise.
#pragma once

#include <contract/boot_info.h>
#include <lib/text.h>
#include <lib/types.h>
#include <core/io.h>
#include <x86/pte.h>

// Replaces the boot page tables by the kernel's own and loads them, after page_init; other CPUs
// call map_load. Context: boot.
void map_init(const struct boot_info *boot);
void map_load(void);   // Context: boot
phys_t map_root(void); // CR3 of the kernel. Context: any

// Maps firmware tables or device registers. Registers are uncached, no-execute. NULL when the vmap
// area or memory is used up, or the range is nonsense (wraps, beyond the CPU's physical width, or
// overlaps usable RAM for ioremap). Context: thread or boot.
void __iomem *ioremap(phys_t address, size_t size);
void __iomem *ioremap_wc(phys_t address, size_t size); // write-combining: framebuffers
void *memremap(phys_t address, size_t size);           // cached, read-only: tables
void iounmap(volatile void *address);

// A kernel stack of KERNEL_STACK_SIZE with an unmapped guard page below it; returns the lowest
// usable address. unmap_stack keeps some for the next map_stack; the others leave every CPU's TLB
// at once. Context: thread or boot.
#define KERNEL_STACK_SIZE 16384
void *map_stack(void);
void unmap_stack(void *stack);
// Says whether an address lies in a guard page, and whose: NULL or a text such as "guard page below
// a kernel stack".
const char *map_guard_name(uintptr_t address);
bool map_is_stack(uintptr_t address, size_t size);

// Flush on the other CPUs; tied to kernel/irq/ipi.c by kernel_main. NULL while there is one CPU.
extern void (*map_shootdown)(uintptr_t start, uintptr_t end);
void map_flush_local(uintptr_t start, uintptr_t end); // what the shoot-down runs on each CPU
extern uint64_t map_shootdown_count;                  // A

// The entry that maps an address: 0 when none; *level 1 (4 KiB), 2 (2 MiB), 3 (1 GiB). Context:
// any.
uint64_t map_lookup(uintptr_t address, unsigned *level);
// Walks all tables; returns how many pages are writable and executable at once (0 is right), logs
// each.
unsigned map_audit(void);
