// /proc/diskstats and /proc/partitions: what disks there are and what they did, as Linux prints it
// (Documentation/admin-guide/iostats.rst), so that iostat and vmstat -d understand it.
//
// The 17 numbers of a disk: reads done, merged, sectors, ms; the same four for writes; in flight
// now; ms with anything to do; those weighted with how much; four for discards, which do not exist
// here; flushes done, ms.
//
// Context: thread.
#include <lib/text.h>
#include <contract/proc_file.h>
#include <dev/block.h>

static unsigned long long ns_to_ms(uint64_t ns)
{
    return ns / 1000000;
}

static void diskstats_show(struct text *t, unsigned long index)
{
    (void)index;
    for (struct gendisk *disk = blk_next(NULL); disk != NULL; disk = blk_next(disk)) {
        struct disk_stats stats;
        blk_stats(disk, &stats);
        uint64_t weighted_ns = 0;
        for (unsigned op = 0; op < REQ_OP_COUNT; op++) {
            weighted_ns += stats.ticks_ns[op];
        }
        text_printf(t, "%4u %7u %s", disk->major, disk->minor, disk->name);
        for (unsigned op = REQ_OP_READ; op <= REQ_OP_WRITE; op++) {
            text_printf(t, " %llu %llu %llu %llu", (unsigned long long)stats.ios[op],
                        (unsigned long long)stats.merges[op], (unsigned long long)stats.sectors[op],
                        ns_to_ms(stats.ticks_ns[op]));
        }
        text_printf(t, " %u %llu %llu 0 0 0 0 %llu %llu\n", stats.in_flight, ns_to_ms(stats.io_ns),
                    ns_to_ms(weighted_ns), (unsigned long long)stats.ios[REQ_OP_FLUSH],
                    ns_to_ms(stats.ticks_ns[REQ_OP_FLUSH]));
    }
}

static void partitions_show(struct text *t, unsigned long index)
{
    (void)index;
    struct gendisk *disk = blk_next(NULL);
    if (disk == NULL) {
        return;
    }
    text_puts(t, "major minor  #blocks  name\n\n");
    for (; disk != NULL; disk = blk_next(disk)) {
        uint64_t capacity = READ_ONCE(disk->capacity);
        if (capacity != 0) { // a drive without a medium is not listed
            text_printf(t, "%4u  %7u %10llu %s\n", disk->major, disk->minor,
                        (unsigned long long)capacity / 2, disk->name);
        }
    }
}

PROC_FILE("diskstats", diskstats_show);
PROC_FILE("partitions", partitions_show);
