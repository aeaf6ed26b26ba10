// Reads what the loader told, whichever it was, into the one struct boot_info: the first C that
// runs.
//
// The loader's structures lie anywhere in RAM and nothing protects them, so all of it is copied
// into the image before anybody allocates memory; afterwards their memory is ordinary RAM. They are
// read through the direct map of the first 4 GiB that boot/start.S made.
//
// Context: boot CPU, interrupts off, called by boot/start.S. Previous: boot/start.S. Next:
// kernel/main.c.
#include <x86/pte.h>

#include "boot.h"

#define MAPPED_BYTES 0x100000000 // what start.S maps at PHYS_BASE
#define INFO_LIMIT   0x100000    // no loader has that much to say

static struct boot_info boot_info;

static const void *boot_map(phys_t address, uint64_t size)
{
    if (address == 0 || address >= MAPPED_BYTES || size > MAPPED_BYTES - address) {
        return NULL;
    }
    return (const void *)(PHYS_BASE + address);
}

// Called by start.S with eax and ebx as the loader left them.
struct boot_info *boot_info_read(uint32_t magic, uint32_t info);

struct boot_info *boot_info_read(uint32_t magic, uint32_t info)
{
    if (magic == MULTIBOOT2_MAGIC) {
        uint64_t size = min((uint64_t)INFO_LIMIT, MAPPED_BYTES - (uint64_t)info);
        const void *tags = boot_map(info, size);
        multiboot2_read(tags, tags ? size : 0, &boot_info);
    } else if (magic == PVH_START_MAGIC) {
        pvh_read(info, boot_map, &boot_info);
    } else {
        boot_info.protocol = "unknown";
        boot_note(&boot_info, "the loader speaks neither multiboot2 nor PVH");
    }
    return &boot_info;
}
