// `lab copies [DISK [BYTES]]`: who moves the bytes of a read, and how often.
//
// "DMA is zero-copy", one reads. It is, on the way that it goes:
//
//   disk ──DMA──> page cache ──copy by the CPU──> the reader's buffer      buffered, cold
//                 page cache ──copy by the CPU──> the reader's buffer      buffered, warm
//   disk ──DMA────────────────────────────────> the reader's buffer        direct
//   disk ──DMA──> bounce buffer ──copy────────> the reader's buffer        direct, into memory that no
//                                                                          device can reach (vmalloc)
//
// The same range is read each way, in pieces of BYTES, and everything is counted where it happens:
// copies beside the memcpy (page_cache_stats; below that, for a device that does not reach all of
// the memory, /proc/dma-bounce), bytes by DMA and requests by the block layer (blk_stats),
// interrupts by the irq layer. (An IDE disk in PIO has the CPU carry all bytes: lab pio-dma.) Busy
// are the CPUs' ticks in which they did anything but wait. The last piece of each way is compared
// with that of the first.
//
// Nothing is written. What the cache had of the disk is dropped. Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <sched/sleep.h>
#include <dev/block.h>
#include <dev/page_cache.h>
#include <fs/vfs.h>

enum {
    COPIES_RANGE = 4 << 20,
    COPIES_MOST = 1 << 20,
    COPIES_USUAL = 64 << 10,
    COPIES_SETTLE_MS = 5000,
};

enum copies_way { COPIES_COLD, COPIES_WARM, COPIES_DIRECT, COPIES_BOUNCED, COPIES_WAYS };

static const char *const copies_names[COPIES_WAYS] = {"buffered, cold", "buffered, warm", "direct",
                                                      "direct, vmalloc"};

struct copies {
    struct shell *sh;
    struct gendisk *disk;
    uint32_t bytes;        // of one read
    uint64_t range;        // read each way
    uint8_t *buffer, *far; // for a device, and for none
    uint8_t *expected;     // the last piece
};

struct copies_count {
    uint64_t copied, moved, requests, irqs; // bytes by the CPU, bytes by the disk
    uint64_t ns, busy_ns;
};

static const struct lab_column copies_columns[] = {{"way", -16},       {"to the reader", 13},
                                                   {"by the CPU", 11}, {"by DMA", 9},
                                                   {"requests", 9},    {"irqs", 6},
                                                   {"us", 10},         {"MB/s", 7},
                                                   {"ticks/4KiB", 11}, {NULL, 0}};

// Interrupts of all controllers of the disk's kind, by the names of their handlers.
static uint64_t copies_irqs(const struct gendisk *disk)
{
    const char *prefix = strcmp(disk->transport, "sata") == 0  ? "ahci["
                         : strcmp(disk->transport, "ata") == 0 ? "ide"
                                                               : disk->transport;
    uint64_t sum = 0;
    for (unsigned irq = 0; irq < irq_count(); irq++) {
        struct irq_desc *desc = irq_to_desc(irq);
        unsigned long flags;
        if (desc == NULL) {
            continue;
        }
        spin_lock_irqsave(&desc->lock, flags);
        for (const struct irqaction *a = desc->action; a != NULL; a = a->next) {
            if (a->name != NULL && str_starts(a->name, prefix)) {
                sum += irq_desc_total(desc);
                break;
            }
        }
        spin_unlock_irqrestore(&desc->lock, flags);
    }
    return sum;
}

static void copies_look(struct gendisk *disk, struct copies_count *count)
{
    struct page_cache_stats cache;
    struct disk_stats stats;
    uint64_t below = 0; // copies for a device with a short reach: 0 where there is no such thing
    page_cache_stats(disk, &cache);
    lab_proc_number("/proc/dma-bounce", "bytes copied ", &below);
    blk_stats(disk, &stats);
    *count = (struct copies_count){.copied = cache.copied_to + cache.bounced + below,
                                   .moved = stats.sectors[REQ_OP_READ] * SECTOR_SIZE,
                                   .requests = stats.ios[REQ_OP_READ],
                                   .irqs = copies_irqs(disk),
                                   .ns = clock_ns(),
                                   .busy_ns = lab_busy_ns()};
}

// What was read ahead, and is still on its way, belongs to who caused it.
static void copies_settle(struct gendisk *disk)
{
    struct disk_stats stats;
    blk_stats(disk, &stats);
    for (unsigned ms = 0; stats.in_flight != 0 && ms < COPIES_SETTLE_MS; ms++) {
        msleep(1);
        blk_stats(disk, &stats);
    }
}

static void copies_subtract(struct copies_count *after, const struct copies_count *before)
{
    after->copied -= before->copied;
    after->moved -= before->moved;
    after->requests -= before->requests;
    after->irqs -= before->irqs;
    after->ns -= before->ns;
    after->busy_ns -= before->busy_ns;
}

// Reads the range once. 0, -EINTR or -errno.
static int copies_read(struct copies *c, enum copies_way way, struct copies_count *count)
{
    char path[24];
    struct file *file;
    struct copies_count before;
    uint8_t *to = way == COPIES_BOUNCED ? c->far : c->buffer;
    uint64_t done = 0;
    snprintf(path, sizeof(path), "/dev/%s", c->disk->name);
    int error = vfs_open(path, OPEN_READ | (way >= COPIES_DIRECT ? OPEN_DIRECT : 0), &file);
    if (error != 0) {
        return error;
    }
    copies_look(c->disk, &before);
    while (done < c->range && error == 0) {
        long got = shell_interrupted(c->sh) ? -EINTR : vfs_read(file, to, c->bytes);
        error = got < 0 ? (int)got : got != c->bytes ? -EIO : 0;
        done += c->bytes;
    }
    uint64_t ns = clock_ns(), busy_ns = lab_busy_ns();
    copies_settle(c->disk);
    copies_look(c->disk, count);
    count->ns = ns;
    count->busy_ns = busy_ns;
    copies_subtract(count, &before);
    vfs_close(file);
    if (error == 0 && way == COPIES_COLD) {
        memcpy(c->expected, to, c->bytes);
    } else if (error == 0 && memcmp(c->expected, to, c->bytes) != 0) {
        error = -EIO;
    }
    return error;
}

static void copies_row(const struct copies *c, enum copies_way way, const struct copies_count *n)
{
    uint64_t ticks = n->busy_ns * (clock_tsc_hz() / 1000000) / 1000;
    uint64_t rate = n->ns != 0 ? c->range * 1000 / n->ns : 0; // bytes in a microsecond: MB/s
    const uint64_t numbers[] = {
        c->range, n->copied, n->moved, n->requests, n->irqs, rate, ticks / (c->range / 4096)};
    char cells[ARRAY_SIZE(numbers)][LAB_CELL_SIZE], us[LAB_CELL_SIZE];
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        snprintf(cells[i], LAB_CELL_SIZE, "%llu", (unsigned long long)numbers[i]);
    }
    lab_row(c->sh, copies_columns,
            (const char *const[]){copies_names[way], cells[0], cells[1], cells[2], cells[3],
                                  cells[4], lab_us(us, n->ns), cells[5], cells[6]});
}

// What the books say, beside what was counted: the verdict is of the bytes, never of the times.
static int copies_verdict(const struct copies *c, const struct copies_count *n)
{
    bool cold = n[COPIES_COLD].copied == c->range && n[COPIES_COLD].moved >= c->range;
    bool warm = n[COPIES_WARM].copied == c->range && n[COPIES_WARM].moved == 0;
    bool direct = n[COPIES_DIRECT].copied == 0 && n[COPIES_DIRECT].moved == c->range;
    bool bounced = n[COPIES_BOUNCED].copied == c->range && n[COPIES_BOUNCED].moved == c->range;
    if (!(cold && warm && direct && bounced)) {
        shell_printf(c->sh,
                     "not as expected: was the disk in use by others meanwhile? Does it reach all "
                     "of the memory (cat /proc/dma-bounce)?\n");
        return 1;
    }
    shell_printf(
        c->sh, "\"DMA is zero-copy\": true from the disk into memory, and no further. A buffered "
               "read is copied\nonce more by the CPU, from the page cache to the reader; that buys "
               "the next read, for which the disk\ndoes nothing. Direct, there is no copy, and no "
               "second read for free; and only into memory that the\ndisk can reach: else somebody "
               "copies after all.\n");
    return 0;
}

static int copies_run(struct copies *c)
{
    struct copies_count counts[COPIES_WAYS] = {0};
    int error = page_cache_sync(c->disk, 0);
    page_cache_forget(c->disk);
    shell_printf(c->sh, "%s: %llu KiB from its start, %u bytes at a time\n", c->disk->name,
                 (unsigned long long)c->range / 1024, c->bytes);
    lab_table(c->sh, copies_columns);
    for (unsigned way = 0; way < COPIES_WAYS && error == 0; way++) {
        error = copies_read(c, (enum copies_way)way, &counts[way]);
        if (error == 0) {
            copies_row(c, (enum copies_way)way, &counts[way]);
        }
    }
    if (error == -EINTR) {
        return 130;
    }
    return error != 0 ? shell_error(c->sh, "%s: %s", c->disk->name, strerror(error))
                      : copies_verdict(c, counts);
}

// The disk is held open: a CD drive has a capacity only then.
static int copies_with(struct copies *c)
{
    uint64_t capacity = c->disk->capacity * SECTOR_SIZE;
    c->range = ALIGN_DOWN(min(capacity, (uint64_t)COPIES_RANGE), (uint64_t)c->bytes);
    if (c->range == 0) {
        return shell_error(c->sh, "%s is smaller than %u bytes", c->disk->name, c->bytes);
    }
    c->buffer = kmalloc(c->bytes, GFP_KERNEL);
    c->expected = kmalloc(c->bytes, GFP_KERNEL);
    c->far = vmalloc(c->bytes);
    int status = c->buffer == NULL || c->expected == NULL || c->far == NULL
                     ? shell_error(c->sh, "no memory")
                     : copies_run(c);
    vfree(c->far);
    kfree(c->expected);
    kfree(c->buffer);
    return status;
}

static int lab_copies(struct shell *sh, int argc, char **argv)
{
    struct copies c = {.sh = sh, .bytes = COPIES_USUAL};
    uint64_t bytes;
    if (argc > 3) {
        return shell_usage(sh, "too many arguments");
    }
    if (argc == 3) {
        if (parse_size(argv[2], &bytes) != 0 || bytes < 4096 || bytes > COPIES_MOST ||
            !IS_POWER_OF_2(bytes)) {
            return shell_usage(sh, "%s: a power of two from 4K to 1M is wanted", argv[2]);
        }
        c.bytes = (uint32_t)bytes;
    }
    c.disk = argc > 1 ? blk_find(argv[1]) : blk_next(NULL);
    if (c.disk == NULL) {
        return argc > 1 ? shell_error(sh, "%s: no such disk (lsblk lists them)", argv[1])
                        : shell_error(sh, "no disk");
    }
    int error = blk_open(c.disk);
    int status = error != 0 ? shell_result(sh, c.disk->name, error) : copies_with(&c);
    if (error == 0) {
        blk_close(c.disk);
    }
    blk_put(c.disk);
    return status;
}

LAB("copies", lab_copies, "[DISK [BYTES]]",
    "who moves the bytes of a read: the disk, the CPU, through the page cache or past it");
