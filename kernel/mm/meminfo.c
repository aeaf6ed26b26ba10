// /proc/meminfo: where the memory is, in Linux's lines. Those that we have no such thing for are 0,
// which is true, when programs ask for them by name (Buffers, Cached, Swap...), and left out
// otherwise.
//
// MemTotal counts all RAM that the boot map calls usable, the kernel image and the struct pages
// included: what the kernel takes is to be seen as used, not hidden. Buffers are the page cache of
// the disks, as in Linux; what of it is clean is available.
//
// Context: thread.
#include <lib/string.h>
#include <lib/text.h>
#include <lib/types.h>
#include <contract/proc_file.h>
#include <x86/pte.h>
#include <mm/page.h>
#include <mm/slab.h>

#include "internal.h"

static void meminfo_line(struct text *t, const char *name, uint64_t bytes)
{
    text_printf(t, "%s:", name);
    for (size_t width = strlen(name) + 1; width < 16; width++) {
        text_putc(t, ' ');
    }
    text_printf(t, "%8llu kB\n", (unsigned long long)bytes >> 10);
}

static void meminfo_show(struct text *t, unsigned long index)
{
    struct page_stats pages;
    struct map_stats maps;
    struct vmap_stats areas;

    (void)index;
    page_stats(&pages);
    map_stats(&maps);
    vmap_stats(&areas);
    const struct {
        const char *name;
        uint64_t bytes;
    } lines[] = {
        {"MemTotal", pages.total_bytes},
        {"MemFree", pages.free_bytes},
        {"MemAvailable", pages.free_bytes + page_clean_bytes()},
        {"Buffers", page_count(NR_FILE_PAGES) * PAGE_SIZE},
        {"Cached", 0},
        {"SwapCached", 0},
        {"SwapTotal", 0},
        {"SwapFree", 0},
        {"Dirty", page_count(NR_FILE_DIRTY) * PAGE_SIZE},
        {"Writeback", page_count(NR_WRITEBACK) * PAGE_SIZE},
        {"Slab", slab_bytes()},
        {"SReclaimable", 0},
        {"SUnreclaim", slab_bytes()},
        {"KernelStack", areas.stack_bytes},
        {"PageTables", maps.table_bytes},
        {"VmallocTotal", VMAP_SIZE},
        {"VmallocUsed", areas.used_bytes},
        {"DirectMap4k", maps.direct_bytes[0]},
        {"DirectMap2M", maps.direct_bytes[1]},
        {"DirectMap1G", maps.direct_bytes[2]},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
        meminfo_line(t, lines[i].name, lines[i].bytes);
    }
}
PROC_FILE("meminfo", meminfo_show);
