// Names of addresses: the kernel's own symbol table, for backtraces and /proc/kallsyms.
//
// tools/kallsyms.awk makes it from the linked kernel and the kernel is linked once more with it:
// five arrays side by side, ascending by address.
//
//   kallsyms_addresses[n]   where symbol n begins; it ends where the next one begins
//   kallsyms_types[n]       its letter, as nm prints it
//   kallsyms_names[n]       where in kallsyms_strings its name begins
//
// Context: any, NMI included: it only reads constants.
#include <contract/proc_file.h>
#include <core/kallsyms.h>
#include <core/sections.h>
#include <lib/string.h>

extern const uint32_t kallsyms_count;
extern const uint64_t kallsyms_addresses[];
extern const uint32_t kallsyms_names[];
extern const char kallsyms_types[];
extern const char kallsyms_strings[];

const char *kallsyms_lookup(uintptr_t address, uintptr_t *offset)
{
    uint32_t low = 0, high = kallsyms_count; // the answer's index + 1 lies in (low, high]

    if (address < (uintptr_t)kernel_start || address >= (uintptr_t)kernel_end || high == 0 ||
        address < kallsyms_addresses[0]) {
        return NULL;
    }
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (kallsyms_addresses[middle] <= address) {
            low = middle;
        } else {
            high = middle;
        }
    }
    // Of several names for one address the first is the one that `nm` puts first.
    while (low > 0 && kallsyms_addresses[low - 1] == kallsyms_addresses[low]) {
        low--;
    }
    if (offset) {
        *offset = address - kallsyms_addresses[low];
    }
    return kallsyms_strings + kallsyms_names[low];
}

uintptr_t kallsyms_address(const char *name)
{
    for (uint32_t n = 0; n < kallsyms_count; n++) {
        if (strcmp(kallsyms_strings + kallsyms_names[n], name) == 0) {
            return kallsyms_addresses[n];
        }
    }
    return 0;
}

void text_symbol(struct text *t, uintptr_t address)
{
    uintptr_t offset;
    const char *name = kallsyms_lookup(address, &offset);

    if (name) {
        text_printf(t, "%s+0x%lx", name, offset);
    } else {
        text_printf(t, "0x%016lx", address);
    }
}

// As Linux prints it, for scripts that symbolise.
static void kallsyms_show(struct text *t, unsigned long index __unused)
{
    for (uint32_t n = 0; n < kallsyms_count; n++) {
        text_printf(t, "%016lx %c %s\n", kallsyms_addresses[n], kallsyms_types[n],
                    kallsyms_strings + kallsyms_names[n]);
    }
}

PROC_FILE("kallsyms", kallsyms_show);
