// What the boot loader told us, in our own words: boot/ fills it from multiboot2 tags or from PVH's
// start info, the kernel never looks at either again. Everything here was checked or cut to fit;
// notes say what was refused.
#pragma once

#include <lib/types.h>

enum {
    BOOT_MAX_REGIONS = 256,
    BOOT_MAX_CMDLINE = 2048,
    BOOT_MAX_MODULES = 16,
    BOOT_MAX_NOTES = 8,
};

enum boot_region_type {
    BOOT_REGION_RAM = 1, // values as in multiboot2 3.6.8 and PVH
    BOOT_REGION_RESERVED = 2,
    BOOT_REGION_ACPI = 3,
    BOOT_REGION_NVS = 4,
    BOOT_REGION_BAD = 5,
};

struct boot_region {
    phys_t base;
    uint64_t size;
    enum boot_region_type type; // a type we don't know becomes RESERVED
};

struct boot_module {
    phys_t base;
    uint64_t size;
    char name[64];
};

struct boot_framebuffer {
    phys_t base;
    uint32_t pitch_bytes, width, height;
    uint8_t bits_per_pixel;
    uint8_t kind; // 0 none, 1 RGB, 2 EGA text
    uint8_t red_shift, red_bits, green_shift, green_bits, blue_shift, blue_bits;
};

struct boot_info {
    const char *protocol; // "multiboot2" or "PVH"
    char loader[64];
    char cmdline[BOOT_MAX_CMDLINE];
    uint32_t region_count;
    struct boot_region regions[BOOT_MAX_REGIONS]; // as given: neither sorted nor free of overlaps
    uint32_t module_count;
    struct boot_module modules[BOOT_MAX_MODULES];
    phys_t rsdp;           // where the RSDP lies, 0 when only a copy was given
    uint8_t rsdp_copy[36]; // the copy from a multiboot2 tag (new one preferred), zeroes when none
    uint32_t rsdp_copy_size;
    struct boot_framebuffer framebuffer;
    phys_t efi_system_table; // 0 on BIOS
    uint32_t note_count;
    const char *notes[BOOT_MAX_NOTES]; // what was refused and why, printed by kernel_main
};

// What assembly calls upward: the kernel on the boot CPU, and on each other CPU. Both in
// kernel/main.c.
__noreturn void kernel_main(const struct boot_info *boot);
__noreturn void ap_main(unsigned cpu);
