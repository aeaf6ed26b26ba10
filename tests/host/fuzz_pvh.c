// Any bytes as PVH's start information, in a memory of just these bytes: nothing outside is read,
// and what arrives keeps its bounds.
//
// links: boot/pvh.c boot/boot_info.c kernel/lib/string.c
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "boot/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Small numbers are good pointers here, so that the fuzzer finds them.
enum { RAM_BASE = 0x10 };
static const uint8_t *ram;
static size_t ram_size;

static const void *map(phys_t address, uint64_t size)
{
    if (address < RAM_BASE || address - RAM_BASE > ram_size ||
        size > ram_size - (address - RAM_BASE)) {
        return NULL;
    }
    return ram + (address - RAM_BASE);
}

static void must(bool condition)
{
    if (!condition) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct boot_info boot;

    ram = data;
    ram_size = size;
    memset(&boot, 0, sizeof(boot));
    pvh_read(RAM_BASE, map, &boot);

    must(boot.note_count <= BOOT_MAX_NOTES && boot.region_count <= BOOT_MAX_REGIONS &&
         boot.module_count <= BOOT_MAX_MODULES);
    must(strnlen(boot.cmdline, sizeof(boot.cmdline)) < sizeof(boot.cmdline));
    for (uint32_t n = 0; n < boot.region_count; n++) {
        const struct boot_region *r = &boot.regions[n];
        must(r->size != 0 && r->base + r->size >= r->base && r->type >= BOOT_REGION_RAM &&
             r->type <= BOOT_REGION_BAD);
    }
    for (uint32_t n = 0; n < boot.module_count; n++) {
        const struct boot_module *m = &boot.modules[n];
        must(m->size != 0 && m->base + m->size >= m->base &&
             strnlen(m->name, sizeof(m->name)) < sizeof(m->name));
    }
    return 0;
}
