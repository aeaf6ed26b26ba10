// The common tail of the two readers: what goes into struct boot_info goes through here, checked or
// cut to fit.
//
// Pure. Tested and fuzzed on the host through its callers, boot/multiboot2.c and boot/pvh.c.
#include <lib/string.h>

#include "boot.h"

void boot_note(struct boot_info *boot, const char *text)
{
    if (boot->note_count < BOOT_MAX_NOTES) {
        boot->notes[boot->note_count++] = text;
    }
}

void boot_add_region(struct boot_info *boot, phys_t base, uint64_t size, uint32_t type)
{
    if (size == 0) {
        return;
    }
    if (base + size < base) {
        boot_note(boot, "memory map: a region wraps around the address space, left out");
        return;
    }
    if (type < BOOT_REGION_RAM || type > BOOT_REGION_BAD) {
        type = BOOT_REGION_RESERVED;
    }
    if (boot->region_count > 0) {
        struct boot_region *last = &boot->regions[boot->region_count - 1];
        if (last->type == type && last->base + last->size == base) {
            last->size += size;
            return;
        }
    }
    if (boot->region_count == BOOT_MAX_REGIONS) {
        boot_note(boot, "memory map: more regions than the kernel has room for, the rest left out");
        return;
    }
    boot->regions[boot->region_count++] = (struct boot_region){base, size, type};
}

void boot_add_module(struct boot_info *boot, phys_t base, uint64_t size, const char *name,
                     size_t length)
{
    if (size == 0 || base + size < base) {
        boot_note(boot, "module: empty or wrapping, left out");
        return;
    }
    if (boot->module_count == BOOT_MAX_MODULES) {
        boot_note(boot, "module: more than the kernel has room for, the rest left out");
        return;
    }
    struct boot_module *module = &boot->modules[boot->module_count++];
    module->base = base;
    module->size = size;
    boot_copy_text(module->name, sizeof(module->name), name, length);
}

bool boot_copy_text(char *to, size_t size, const char *from, size_t length)
{
    size_t n = strnlen(from, length);
    bool fits = n < size;
    if (!fits) {
        n = size - 1;
    }
    memcpy(to, from, n);
    to[n] = '\0';
    return fits;
}
