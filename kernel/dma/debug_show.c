// /proc/dma-map: who owns what now, sorted by device and address.
//
//   cat /proc/dma-map              device, bus address, bytes, direction, whose turn it is, who mapped it
//   echo strict > /proc/dma-map    also compare what the CPU does to what it has lent (debug.c)
//   echo on > /proc/dma-map        no longer
//
// Context: thread. Previous: kernel/dma/debug.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/proc_file.h>
#include <core/kallsyms.h>
#include <mm/slab.h>
#include <dma/dma.h>

#include "debug.h"

static void dma_show_record(struct text *t, const struct dma_record *r)
{
    text_printf(t, "%-14s %#018llx %8llu %-13s %-6s ", r->use.dev->name,
                (unsigned long long)r->use.bus, (unsigned long long)r->use.size,
                dma_debug_kind(&r->use),
                r->use.coherent ? "both"
                : r->cpu_looks  ? "cpu"
                                : "device");
    text_symbol(t, (uintptr_t)r->use.caller);
    text_putc(t, '\n');
}

static bool dma_stands_before(const struct dma_record *a, const struct dma_record *b)
{
    int order = strcmp(a->use.dev->name, b->use.dev->name);

    return order != 0 ? order < 0 : a->use.bus < b->use.bus;
}

// By device and address; Shell's sort, as there are hundreds.
static void dma_sort_records(struct dma_record *records, uint32_t count)
{
    for (uint32_t gap = count / 2; gap > 0; gap /= 2) {
        for (uint32_t i = gap; i < count; i++) {
            struct dma_record record = records[i];
            uint32_t at = i;

            for (; at >= gap && dma_stands_before(&record, &records[at - gap]); at -= gap) {
                records[at] = records[at - gap];
            }
            records[at] = record;
        }
    }
}

static void dma_show_map(struct text *t, unsigned long index)
{
    uint32_t live, peak;

    (void)index;
    dma_debug_counts(&live, &peak);
    uint32_t room = live + 64; // some may come meanwhile
    if (!dma_debug_is_on()) {
        text_puts(t, "mappings are not recorded (boot option dma_debug=off)\n");
        return;
    }
    text_printf(t, "mappings %u, most at once %u, unrecorded %llu, errors %llu%s\n", live, peak,
                (unsigned long long)dma_debug_unrecorded(), (unsigned long long)dma_debug_errors(),
                dma_debug_is_strict() ? ", strict" : "");
    text_printf(t, "%-14s %-18s %8s %-13s %-6s %s\n", "device", "bus address", "bytes", "direction",
                "owner", "mapped by");
    struct dma_record *records = kcalloc(room, sizeof(*records), GFP_KERNEL);
    if (records == NULL) {
        text_puts(t, "(no memory to list them)\n");
        return;
    }
    uint32_t count = dma_debug_copy(records, room);
    dma_sort_records(records, count);
    for (uint32_t i = 0; i < count; i++) {
        dma_show_record(t, &records[i]);
    }
    kfree(records);
}

static int dma_write_map(const char *line, unsigned long index)
{
    (void)index;
    if (strcmp(line, "strict") != 0 && strcmp(line, "on") != 0) {
        return -EINVAL;
    }
    if (!dma_debug_is_on()) { // what is mapped by now was not recorded
        return -EOPNOTSUPP;
    }
    dma_debug_be_strict(strcmp(line, "strict") == 0);
    return 0;
}
PROC_FILE_RW("dma-map", dma_show_map, dma_write_map);
