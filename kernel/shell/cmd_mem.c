// Commands about memory: free (as procps prints it) and pt (the page tables).
//
// Context: the command's thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <lib/text.h>
#include <lib/types.h>
#include <contract/command.h>
#include <core/kallsyms.h>
#include <x86/pte.h>
#include <mm/map.h>
#include <mm/page.h>

// ---- free ---------------------------------------------------------------------------------------

enum free_unit { FREE_BYTES = 0, FREE_KIB = 10, FREE_MIB = 20, FREE_GIB = 30, FREE_HUMAN = 64 };

// At most five characters: "9999B", "8.6Mi", "425Mi".
static void free_format_human(char *to, size_t size, uint64_t bytes)
{
    static const char units[] = "KMGTPE";

    if (bytes < 10000) {
        snprintf(to, size, "%lluB", (unsigned long long)bytes);
        return;
    }
    for (unsigned i = 0; i < sizeof(units) - 1; i++) {
        unsigned shift = 10 * (i + 1);
        uint64_t whole = bytes >> shift;
        uint64_t tenths = ((bytes >> (shift - 10)) * 10 + 512) >> 10;

        if (tenths < 100) {
            snprintf(to, size, "%llu.%llu%ci", (unsigned long long)tenths / 10,
                     (unsigned long long)tenths % 10, units[i]);
            return;
        }
        if (whole < 1000) {
            snprintf(to, size, "%llu%ci", (unsigned long long)whole, units[i]);
            return;
        }
    }
}

static void free_print_row(struct shell *sh, const char *name, const uint64_t *bytes,
                           unsigned count, enum free_unit unit)
{
    shell_printf(sh, "%-8s", name);
    for (unsigned i = 0; i < count; i++) {
        char value[24];

        if (unit == FREE_HUMAN) {
            free_format_human(value, sizeof(value), bytes[i]);
        } else {
            snprintf(value, sizeof(value), "%llu", (unsigned long long)bytes[i] >> unit);
        }
        shell_printf(sh, " %11s", value);
    }
    shell_printf(sh, "\n");
}

static int cmd_free(struct shell *sh, int argc, char **argv)
{
    static const struct {
        const char *option;
        enum free_unit unit;
    } options[] = {
        {"-b", FREE_BYTES}, {"-k", FREE_KIB},   {"-m", FREE_MIB},
        {"-g", FREE_GIB},   {"-h", FREE_HUMAN},
    };
    enum free_unit unit = FREE_KIB;
    struct page_stats stats;

    for (int i = 1; i < argc; i++) {
        unsigned k = 0;

        while (k < ARRAY_SIZE(options) && strcmp(argv[i], options[k].option) != 0) {
            k++;
        }
        if (k == ARRAY_SIZE(options)) {
            return shell_usage(sh, "unknown option '%s'", argv[i]);
        }
        unit = options[k].unit;
    }
    page_stats(&stats);
    uint64_t cached = page_count(NR_FILE_PAGES) * PAGE_SIZE;
    uint64_t used = stats.total_bytes - stats.free_bytes - cached;
    const uint64_t memory[] = {stats.total_bytes,
                               used,
                               stats.free_bytes,
                               0,
                               cached,
                               stats.free_bytes + page_clean_bytes()};
    const uint64_t swap[] = {0, 0, 0};

    shell_printf(sh, "        %12s%12s%12s%12s%12s%12s\n", "total", "used", "free", "shared",
                 "buff/cache", "available");
    free_print_row(sh, "Mem:", memory, ARRAY_SIZE(memory), unit);
    free_print_row(sh, "Swap:", swap, ARRAY_SIZE(swap), unit);
    return 0;
}
COMMAND("free", cmd_free, "free [-b|-k|-m|-g|-h]",
        "memory: in all, used (kernel image included), free\n"
        "-b bytes, -k KiB (the default), -m MiB, -g GiB, -h with units");

// ---- pt -----------------------------------------------------------------------------------------

static const struct bit_name pt_flags[] = {
    {PTE_P, "P"}, {PTE_W, "W"}, {PTE_U, "U"}, {PTE_PWT, "PWT"},     {PTE_PCD, "PCD"},
    {PTE_A, "A"}, {PTE_D, "D"}, {PTE_G, "G"}, {PTE_STACK, "stack"}, {0, NULL},
};

static void pt_print_entry(struct shell *sh, const char *table, unsigned index, uint64_t entry,
                           bool large)
{
    char buffer[96];
    struct text t = TEXT_INIT(buffer);

    text_bits(&t, (uint32_t)(entry & 0xfff & ~(uint64_t)PTE_PS), pt_flags);
    shell_printf(sh, "%-5s[%3u] %016llx %s%s%s\n", table, index, (unsigned long long)entry, buffer,
                 large ? " large" : "", entry & PTE_NX ? " NX" : "");
}

// Follows the tables as the CPU would, a line each level (Intel SDM vol. 3, 4.5).
static int pt_walk(struct shell *sh, uintptr_t address)
{
    static const char *const names[] = {"", "PT", "PD", "PDPT", "PML4"};
    uint64_t entry = map_root() | PTE_P;
    unsigned shift = 0;

    for (unsigned level = 4; level > 0; level--) {
        const uint64_t *table = phys_to_virt(entry & PTE_ADDRESS);

        shift = PAGE_SHIFT + 9 * (level - 1);
        unsigned index = (unsigned)(address >> shift & 511);
        entry = READ_ONCE(table[index]);
        bool large = level > 1 && (entry & PTE_P) && (entry & PTE_PS);
        pt_print_entry(sh, names[level], index, entry, large);
        if ((entry & PTE_P) == 0) {
            const char *guard = map_guard_name(address);

            shell_printf(sh, "%#018lx is not mapped%s%s\n", (unsigned long)address,
                         guard != NULL ? ": " : "", guard != NULL ? guard : "");
            return 1;
        }
        if (large) {
            break;
        }
    }
    uint64_t offset = address & (BIT64(shift) - 1);
    uint64_t base = entry & PTE_ADDRESS & ~(BIT64(shift) - 1);
    shell_printf(sh, "%#018lx -> physical %#llx\n", (unsigned long)address,
                 (unsigned long long)(base + offset));
    return 0;
}

// A number, or the name of a symbol.
static int pt_parse(const char *word, uintptr_t *address)
{
    uint64_t value;

    if (kstrtou64(word, 0, &value) == 0) {
        *address = value;
        return 0;
    }
    *address = kallsyms_address(word);
    return *address != 0 ? 0 : -EINVAL;
}

static int cmd_pt(struct shell *sh, int argc, char **argv)
{
    uintptr_t address;

    if (argc == 2 && strcmp(argv[1], "audit") == 0) {
        unsigned found = map_audit();

        shell_printf(sh, "%u pages are writable and executable%s\n", found,
                     found != 0 ? ": dmesg names them" : "");
        return found != 0;
    }
    if (argc == 3 && strcmp(argv[1], "walk") == 0) {
        if (pt_parse(argv[2], &address) != 0) {
            return shell_usage(sh, "'%s' is neither an address nor a symbol", argv[2]);
        }
        if ((uintptr_t)((intptr_t)(address << 16) >> 16) != address) {
            return shell_error(sh, "%#lx: not canonical, bits 63 to 47 must be equal",
                               (unsigned long)address);
        }
        return pt_walk(sh, address);
    }
    return shell_usage(sh, "audit, or walk and an address");
}
COMMAND(
    "pt", cmd_pt, "pt audit | pt walk ADDRESS|SYMBOL",
    "page tables: look for pages writable and executable, or follow an address through the levels\n"
    "cat /proc/pagetables shows all that is mapped");
