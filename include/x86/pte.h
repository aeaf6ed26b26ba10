// Page table entries, 4-level paging (Intel SDM vol. 3, 4.5). And the map of virtual memory, which boot/start.S begins and kernel/mm/map.c finishes:
//
//   0xffff800000000000  PHYS_BASE    all RAM, at PHYS_BASE + physical address; no-execute, the kernel's text and constants read-only
//   0xffffc00000000000  VMAP_BASE    mappings made at run time: device registers, stacks with guard pages; 512 GiB
//   0xffffffff80000000  KERNEL_BASE  the kernel image, linked at KERNEL_BASE + 1 MiB = physical 1 MiB
//   lower half                       user space, one day; nothing is mapped there after boot
#pragma once

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096

#define PHYS_BASE   0xffff800000000000
#define VMAP_BASE   0xffffc00000000000
#define VMAP_SIZE   0x8000000000
#define KERNEL_BASE 0xffffffff80000000

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
