// What the files of the block layer know of each other: block.c (a request's way down),
// block_map.c (its memory, for the device), block_done.c (and up), block_merge.c (plug and merge),
// block_timeout.c (requests that take too long), block_quiesce.c (disks that stand still),
// block_disk.c (which disks there are).
#pragma once

#include <core/cpu.h>
#include <dev/block.h>

enum {
    BLK_GONE = 1,     // bits of gendisk.stopped
    BLK_QUIESCED = 2, // and how often
    BLK_NO_TAG = 0xffff,
    BLK_MEMORY_MS = 2000,      // for how long requests are offered for which there is no memory
    BLK_MEMORY_PAUSE_MS = 500, // without such: it was another time
};

// The disk that the hardware knows.
static inline struct gendisk *blk_whole(struct gendisk *disk)
{
    return disk->whole != NULL ? disk->whole : disk;
}

// A disk in the flight recorder, as Linux writes a dev_t.
static inline uint32_t blk_trace_device(const struct gendisk *disk)
{
    return (uint32_t)disk->major << 20 | disk->minor;
}

// Time between two stamps. Where CPUs differ it may seem to run backward.
static inline uint64_t blk_tsc_since(uint64_t since_tsc, uint64_t now_tsc)
{
    return likely(now_tsc > since_tsc) ? now_tsc - since_tsc : 0;
}

// How long the disk had anything to do: from the first request in to the last one out. Two CPUs
// that meet at the turn may lose the time between their readings of the clock.
static inline void blk_account_begin(struct gendisk *disk, uint64_t now_tsc)
{
    if (__atomic_fetch_add(&disk->in_flight, 1, __ATOMIC_RELAXED) == 0) {
        WRITE_ONCE(disk->io_stamp_tsc, now_tsc);
    }
}

static inline void blk_account_end(struct gendisk *disk, uint64_t now_tsc, uint32_t count)
{
    if (__atomic_sub_fetch(&disk->in_flight, count, __ATOMIC_RELAXED) == 0) {
        __atomic_fetch_add(&disk->io_tsc, blk_tsc_since(READ_ONCE(disk->io_stamp_tsc), now_tsc),
                           __ATOMIC_RELAXED);
    }
}

static inline void blk_free_tag_locked(struct blk_mq_hw_ctx *hctx, struct request *request)
{
    if (likely(request->tag != BLK_NO_TAG)) {
        hctx->by_tag[request->tag] = NULL;
        hctx->free_tags[hctx->free_count++] = request->tag;
        request->tag = BLK_NO_TAG;
    }
}

// Cuts [offset, offset + *size) to the disk.
void blk_clip(const struct gendisk *disk, uint64_t offset, size_t *size);
// Gives the driver what waits, as far as it has room. Context: any that may call queue_rq.
void blk_run_hctx(struct blk_mq_hw_ctx *hctx);
// Queues requests that blk_submit accepted and counted, all for one queue, in order; the list is
// empty afterwards. Context: thread, softirq.
void blk_enqueue_list(struct blk_mq_hw_ctx *hctx, struct list_head *requests);
// Ends a request that never was the driver's, like any other. Context: any.
void blk_refuse(struct request *request, int error);
// Appends `later` to `earlier` when it follows it on the disk and the disk can do both at once.
bool blk_merge(struct request *earlier, struct request *later);
// Keeps the request in its thread's plug. Context: thread.
void blk_plug_add(struct blk_plug *plug, struct request *request);
// The poll function of each queue. Context: IRQ_POLL softirq.
int blk_irq_poll(struct irq_poll *iop, int budget);
// Sees to it that somebody looks at the deadline of what was just started. Context: any.
void blk_timeout_arm(struct gendisk *disk);
// Runs the disk's queues in a moment. Context: any.
void blk_retry_soon(struct gendisk *disk);
void blk_timeout_setup(struct gendisk *disk);
void blk_timeout_stop(struct gendisk *disk);
void blk_timeout_init(void);
// Ends a request at once: counted, its makers told, the next ones started. Context: any.
void blk_finish_one(struct request *request);
// All requests that wait get -ENXIO. Context: thread.
void blk_refuse_waiting(struct gendisk *disk);
// Nothing of this disk is under way, nobody is inside its driver.
bool blk_is_quiet(struct gendisk *disk);
// alloc_disk for a partition too, which has no queues of its own.
struct gendisk *blk_alloc_disk(const struct blk_mq_ops *ops, unsigned queues, unsigned depth);
// Names and publishes a partition whose whole, start and number are set. 0, -ENXIO (the disk went),
// -EEXIST. Context: thread.
int blk_insert_partition(struct gendisk *disk);
// Reads the partition table and adds what it names; says in the log what is wrong with it. Context:
// thread.
void blk_add_partitions(struct gendisk *whole);
