// A kernel image, for code that asks where it lies: from 1 MiB on, 2 MiB of it. Nobody reads it;
// only its addresses count.
#pragma once

#include <core/sections.h>
#include <x86/pte.h>

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define IMAGE_START (1 * MIB)
#define IMAGE_END   (3 * MIB)

__asm__(".data\n"
        ".globl kernel_start, kernel_end, rodata_start, rodata_end\n"
        ".globl data_start, data_end, bss_start, bss_end\n"
        ".balign 4096\n"
        "kernel_start:\n .skip 0x100000\n"
        "rodata_start:\n .skip 0x80000\n"
        "rodata_end: data_start:\n .skip 0x1000\n"
        "data_end: bss_start:\n .skip 0x7f000\n"
        "bss_end: kernel_end:\n"
        ".text\n");

// What counts as its code: its own, from kernel_start to rodata_start, or the test's.
#define IMAGE_TEXT(start, end)              \
    __asm__(".globl text_start, text_end\n" \
            ".set text_start, " #start "\n" \
            ".set text_end, " #end "\n")

unsigned long host_kernel_base;

static inline void image_place(void)
{
    host_kernel_base = (uintptr_t)kernel_start - IMAGE_START;
}
