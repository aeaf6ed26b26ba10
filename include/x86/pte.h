// Page table entries, 4-level paging (Intel SDM vol. 3, 4.5). And the map of virtual memory, which
// boot/start.S begins and kernel/mm/map.c finishes:
//
//   0xffff800000000000  PHYS_BASE    all RAM, at PHYS_BASE + physical address; no-execute, the
//                                    kernel's text and constants read-only
//   0xffffc00000000000  VMAP_BASE    mappings made at run time: device registers, stacks with
//                                    guard pages; 512 GiB
//   0xffffffff80000000  KERNEL_BASE  the kernel image, linked at KERNEL_BASE + 1 MiB
//   lower half                       user space, one day; nothing is mapped there after boot
#pragma once

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096

#define PHYS_BASE   0xffff800000000000
#define PHYS_SIZE   0x400000000000 // up to VMAP_BASE: 64 TiB
#define VMAP_BASE   0xffffc00000000000
#define VMAP_SIZE   0x8000000000
#define KERNEL_BASE 0xffffffff80000000
#ifdef HOST_TEST
#undef PHYS_BASE
#undef KERNEL_BASE
#define PHYS_BASE   0x200000000000 // a host test maps its make-believe RAM here
#define KERNEL_BASE host_kernel_base
extern unsigned long host_kernel_base;
#endif

#define PTE_P       0x001
#define PTE_W       0x002
#define PTE_U       0x004
#define PTE_PWT     0x008
#define PTE_PCD     0x010
#define PTE_A       0x020
#define PTE_D       0x040
#define PTE_PS      0x080
#define PTE_G       0x100
#define PTE_NX      0x8000000000000000
#define PTE_ADDRESS 0x000ffffffffff000

// Memory types, by way of the PAT (Intel SDM vol. 3, 12.12). Entry 1 becomes write-combining,
// entries 0, 2, 3 keep their meaning from reset (write-back, UC-, uncached), so a CPU that has not
// loaded PAT_VALUE yet is slow but not wrong.
#define PTE_UC    (PTE_PCD | PTE_PWT)
#define PTE_WC    PTE_PWT
#define PAT_VALUE 0x0007040600070106

// Bits 9 to 11 belong to software. The first marks a kernel stack's page, for backtraces; the rest
// stand in entries that are not present and say why: a guard page.
#define PTE_STACK       0x200
#define PTE_GUARD_STACK 0x400
#define PTE_GUARD_BOOT  0x800
#define PTE_GUARD_AREA  0xc00
#define PTE_GUARD_MASK  0xc00
