// Any bytes as PVH's start information, in a memory of just these bytes: nothing outside is read,
// and what arrives keeps its bounds.
//
// links: boot/pvh.c boot/boot_info.c kernel/lib/string.c

#include "fuzz_boot.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct boot_info boot;

    ram = data;
    ram_size = size;
    memset(&boot, 0, sizeof(boot));
    pvh_read(RAM_BASE, map, &boot);

    must_be_boot_info(&boot);
    return 0;
}
