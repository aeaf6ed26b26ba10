// What a read from a disk costs, by a thread that blocks and is woken: one at a time, 32 at a time,
// and a large one. QEMU's null-co behind the disk costs the guest nothing.
#include <contract/bench.h>
#include <core/spinlock.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <dev/block.h>
#include <dev/page_cache.h>
#include <fs/vfs.h>

enum { BENCH_READS = 256, BENCH_DEPTH = 32, BENCH_PAGE = 8 /* sectors */, BENCH_BIG = 2048 };

// A place for the next read: spread over the disk, never next to the one before.
static uint64_t bench_sector(const struct gendisk *disk, uint32_t *seed)
{
    *seed = *seed * 1103515245 + 12345;
    return (*seed >> 4) % (disk->capacity / BENCH_PAGE) * BENCH_PAGE;
}

static void bench_one_at_a_time(struct bench_run *bench, const char *name, uint32_t sectors)
{
    struct gendisk *disk = blk_find(name);
    void *data = kmalloc((size_t)sectors * SECTOR_SIZE, GFP_KERNEL);
    uint32_t seed = 1;

    if (disk == NULL || data == NULL) {
        bench->skip = disk == NULL ? "no such disk" : "no memory";
    } else {
        bench_soak(bench);
    }
    bench_round(bench)
    {
        bench_start(bench);
        for (unsigned i = 0; i < BENCH_READS; i++) {
            uint64_t sector = sectors == BENCH_PAGE ? bench_sector(disk, &seed) : i % 8 * sectors;
            if (blk_read(disk, sector, sectors, data) != 0) {
                bench->skip = "the disk does not read";
                break;
            }
        }
        bench_stop(bench, BENCH_READS);
    }
    kfree(data);
    if (disk != NULL) {
        blk_put(disk);
    }
}

// ---- many at a time -----------------------------------------------------------------------------

struct bench_queue {
    struct gendisk *disk;
    struct spinlock lock;
    struct list_head over;       // L: requests that are done
    struct completion some_over; // there are some, and the thread waits
    bool waiting;                // L
    uint32_t errors, seed;
    uint8_t *data;
    struct request requests[BENCH_DEPTH];
};

static void bench_queue_done(struct request *request)
{
    struct bench_queue *queue = request->private_data;
    unsigned long flags;
    spin_lock_irqsave(&queue->lock, flags);
    queue->errors += request->status != 0;
    list_add_tail(&request->link, &queue->over);
    bool wake = queue->waiting;
    queue->waiting = false;
    spin_unlock_irqrestore(&queue->lock, flags);
    if (wake) {
        complete(&queue->some_over);
    }
}

static void bench_queue_submit(struct bench_queue *queue, struct request *request)
{
    size_t index = (size_t)(request - queue->requests);
    blk_request_init(request, queue->disk, REQ_OP_READ, bench_sector(queue->disk, &queue->seed),
                     BENCH_PAGE, queue->data + index * BENCH_PAGE * SECTOR_SIZE, bench_queue_done,
                     queue);
    blk_submit(request);
}

// Takes what is over; sleeps until there is something.
static void bench_queue_take(struct bench_queue *queue, struct list_head *over)
{
    spin_lock_irq(&queue->lock);
    while (list_empty(&queue->over)) {
        queue->waiting = true;
        spin_unlock_irq(&queue->lock);
        wait_for_completion(&queue->some_over);
        spin_lock_irq(&queue->lock);
    }
    list_splice_tail_init(&queue->over, over);
    spin_unlock_irq(&queue->lock);
}

// `reads` of them, BENCH_DEPTH under way as long as there are so many left.
static void bench_queue_run(struct bench_queue *queue, unsigned reads)
{
    unsigned submitted = 0, ended = 0;
    struct blk_plug plug;
    LIST_HEAD(over);

    blk_start_plug(&plug);
    for (; submitted < BENCH_DEPTH; submitted++) {
        bench_queue_submit(queue, &queue->requests[submitted]);
    }
    blk_finish_plug(&plug);
    while (ended < reads) {
        bench_queue_take(queue, &over);
        blk_start_plug(&plug);
        while (!list_empty(&over)) {
            struct request *request = list_first_entry(&over, struct request, link);
            list_del(&request->link);
            ended++;
            if (submitted < reads) {
                submitted++;
                bench_queue_submit(queue, request);
            }
        }
        blk_finish_plug(&plug);
    }
}

static void bench_many_at_a_time(struct bench_run *bench, const char *name)
{
    struct bench_queue *queue = kzalloc(sizeof(*queue), GFP_KERNEL);
    struct gendisk *disk = blk_find(name);
    if (queue == NULL || disk == NULL) {
        bench->skip = disk == NULL ? "no such disk" : "no memory";
        goto out;
    }
    queue->disk = disk;
    queue->data = kmalloc(BENCH_DEPTH * BENCH_PAGE * SECTOR_SIZE, GFP_KERNEL);
    spin_lock_init(&queue->lock, "bench queue");
    INIT_LIST_HEAD(&queue->over);
    init_completion(&queue->some_over);
    if (queue->data == NULL) {
        bench->skip = "no memory";
        goto out;
    }
    bench_soak(bench);
    bench_round(bench)
    {
        bench_start(bench);
        bench_queue_run(queue, 16 * BENCH_DEPTH);
        bench_stop(bench, 16 * BENCH_DEPTH);
        bench->skip = queue->errors != 0 ? "the disk does not read" : NULL;
    }
out:
    if (queue != NULL) {
        kfree(queue->data);
    }
    kfree(queue);
    if (disk != NULL) {
        blk_put(disk);
    }
}

// ---- through the file system --------------------------------------------------------------------

// The first 1 MiB of /dev/sda, 4 KiB at a time: past the page cache (OPEN_DIRECT), from it, or into
// it: `cold` empties it before each round.
static void bench_file(struct bench_run *bench, unsigned flags, bool cold)
{
    struct gendisk *disk = blk_find("sda");
    struct file *file = NULL;
    void *data = kmalloc(BENCH_PAGE * SECTOR_SIZE, GFP_KERNEL);
    if (disk == NULL || data == NULL || vfs_open("/dev/sda", OPEN_READ | flags, &file) != 0) {
        bench->skip = data == NULL ? "no memory" : "no such disk";
    } else {
        bench_soak(bench);
        page_cache_forget(disk);
    }
    bench_round(bench)
    {
        if (cold) {
            page_cache_forget(disk);
        }
        vfs_seek(file, 0);
        bench_start(bench);
        for (unsigned i = 0; i < BENCH_READS && !bench->skip; i++) {
            bench->skip = vfs_read(file, data, BENCH_PAGE * SECTOR_SIZE) <= 0 ? "no data" : NULL;
        }
        bench_stop(bench, BENCH_READS);
    }
    kfree(data);
    if (file != NULL) {
        vfs_close(file);
    }
    if (disk != NULL) {
        blk_put(disk);
    }
}

BENCH(ahci, read_4k, "4 KiB read from sda, the thread waits", .target = 2500, .on_linux = 13210)
{
    bench_one_at_a_time(bench, "sda", BENCH_PAGE);
}

BENCH(ahci, read_4k_qd32, "the same, 32 under way", .target = 1500, .on_linux = 8630)
{
    bench_many_at_a_time(bench, "sda");
}

BENCH(ahci, read_1m, "1 MiB in one command", .target = 6000, .on_linux = 160000)
{
    bench_one_at_a_time(bench, "sda", BENCH_BIG);
}

BENCH(ahci, read_4k_file, "4 KiB of /dev/sda, as dd iflag=direct reads it")
{
    bench_file(bench, OPEN_DIRECT, false);
}

BENCH(cache, read_4k_cold, "4 KiB of /dev/sda in a row, from the disk", .on_linux = 14338)
{
    bench_file(bench, 0, true);
}

// Of both kernels' figures the copy is the larger part, and that as the emulator counts it: Linux's
// rep movsb is 4096 steps, our rep movsq 512.
BENCH(cache, read_4k_warm, "the same from the page cache, copy included", .on_linux = 5695)
{
    bench_file(bench, 0, false);
}

BENCH(nvme, read_4k, "4 KiB read from nvme0n1, the thread waits", .target = 2000, .on_linux = 10980)
{
    bench_one_at_a_time(bench, "nvme0n1", BENCH_PAGE);
}

BENCH(nvme, read_4k_qd32, "the same, 32 under way", .target = 900, .on_linux = 6107)
{
    bench_many_at_a_time(bench, "nvme0n1");
}

BENCH(nvme, read_1m, "1 MiB, by two commands where MDTS is 512 KiB", .on_linux = 203700)
{
    bench_one_at_a_time(bench, "nvme0n1", BENCH_BIG);
}
