// What holds for everything that a loader told, by whichever protocol.
#pragma once

#include "boot/boot.h"
#include "fuzz.h"

static inline void must_be_boot_info(const struct boot_info *boot)
{
    MUST(boot->note_count <= BOOT_MAX_NOTES && boot->region_count <= BOOT_MAX_REGIONS &&
         boot->module_count <= BOOT_MAX_MODULES);
    MUST(strnlen(boot->cmdline, sizeof(boot->cmdline)) < sizeof(boot->cmdline));
    MUST(strnlen(boot->loader, sizeof(boot->loader)) < sizeof(boot->loader));
    for (uint32_t n = 0; n < boot->note_count; n++) {
        MUST(boot->notes[n] != NULL);
    }
    for (uint32_t n = 0; n < boot->region_count; n++) {
        const struct boot_region *r = &boot->regions[n];
        MUST(r->size != 0 && r->base + r->size >= r->base && r->type >= BOOT_REGION_RAM &&
             r->type <= BOOT_REGION_BAD);
    }
    for (uint32_t n = 0; n < boot->module_count; n++) {
        const struct boot_module *m = &boot->modules[n];
        MUST(m->size != 0 && m->base + m->size >= m->base &&
             strnlen(m->name, sizeof(m->name)) < sizeof(m->name));
    }
}
