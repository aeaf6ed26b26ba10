// PVH start information, as QEMU's -kernel leaves it: one struct with physical pointers to the
// rest.
//
//   hvm_start_info   +0 magic  +4 version  +8 flags  +12 modules  +16 -> module list
//                    +24 -> command line  +32 RSDP's address  +40 -> memory map  +48 entries (v1)
//   module           +0 address  +8 size  +16 -> its command line  +24 reserved
//   memory map       +0 address  +8 size  +16 type, as in ACPI's E820  +20 reserved
//
// Source: Xen's public header arch-x86/hvm/start_info.h. Pointers are followed only where `map`
// says that memory is.
//
// Pure: reads through `map`, writes *boot. Tested on the host (tests/host/test_pvh.c).
#include <lib/string.h>

#include "boot.h"

enum { START_INFO_V0 = 40, START_INFO_V1 = 56, MODULE_SIZE = 32, MAP_ENTRY = 24 };

// A NUL-terminated text of unknown length, byte by byte: it may end just before memory does.
static bool pvh_copy_text(char *to, size_t size, phys_t from, boot_map_fn *map)
{
    for (size_t n = 0; n < size; n++) {
        const char *c = map(from + n, 1);
        to[n] = c ? *c : '\0';
        if (to[n] == '\0') {
            return true;
        }
    }
    to[size - 1] = '\0';
    return false;
}

static void pvh_read_modules(phys_t list, uint32_t count, boot_map_fn *map, struct boot_info *boot)
{
    char name[sizeof(boot->modules[0].name)];

    for (uint32_t n = 0; n < count && n <= BOOT_MAX_MODULES; n++) {
        const uint8_t *entry = map(list + (uint64_t)n * MODULE_SIZE, MODULE_SIZE);
        if (!entry) {
            boot_note(boot, "the list of modules lies outside memory");
            return;
        }
        name[0] = '\0';
        if (get_le64(entry + 16) != 0) {
            pvh_copy_text(name, sizeof(name), get_le64(entry + 16), map);
        }
        boot_add_module(boot, get_le64(entry), get_le64(entry + 8), name, sizeof(name));
    }
}

static void pvh_read_memory_map(phys_t at, uint32_t count, boot_map_fn *map, struct boot_info *boot)
{
    enum { ENTRIES_LIMIT = 4096 };

    if (count > ENTRIES_LIMIT) {
        boot_note(boot, "the memory map claims an absurd number of entries, cut");
        count = ENTRIES_LIMIT;
    }
    for (uint32_t n = 0; n < count; n++) {
        const uint8_t *entry = map(at + (uint64_t)n * MAP_ENTRY, MAP_ENTRY);
        if (!entry) {
            boot_note(boot, "the memory map lies outside memory");
            return;
        }
        boot_add_region(boot, get_le64(entry), get_le64(entry + 8), get_le32(entry + 16));
    }
}

void pvh_read(phys_t start_info, boot_map_fn *map, struct boot_info *boot)
{
    boot->protocol = "PVH";
    strscpy(boot->loader, "an unnamed loader", sizeof(boot->loader)); // PVH tells no name
    const uint8_t *info = map(start_info, START_INFO_V0);
    if (!info || get_le32(info) != PVH_START_MAGIC) {
        boot_note(boot,
                  "there is no start information: a command line beyond 4 KiB overwrites QEMU's");
        return;
    }
    phys_t cmdline = get_le64(info + 24);
    if (cmdline != 0 && !pvh_copy_text(boot->cmdline, sizeof(boot->cmdline), cmdline, map)) {
        boot_note(boot, "the command line is longer than 2047 bytes, cut");
    }
    boot->rsdp = get_le64(info + 32);
    pvh_read_modules(get_le64(info + 16), get_le32(info + 12), map, boot);

    if (get_le32(info + 4) < 1 || !(info = map(start_info, START_INFO_V1))) {
        boot_note(boot, "start information of version 0 has no memory map");
        return;
    }
    pvh_read_memory_map(get_le64(info + 40), get_le32(info + 48), map, boot);
}
