// What the files of the block layer know of each other: block.c (the life of a request), block_merge.c
// (plug and merge), block_timeout.c (requests that take too long), block_disk.c (which disks there
// are).
#pragma once

#include <dev/block.h>

enum {
    BLK_GONE = 1,     // bits of gendisk.stopped
    BLK_QUIESCED = 2, // and how often
    BLK_NO_TAG = 0xffff,
    BLK_BATCH = 32, // requests that are handed to the driver in one go
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

// Cuts [offset, offset + *size) to the disk.
void blk_clip(const struct gendisk *disk, uint64_t offset, size_t *size);
// Queues what blk_submit accepted and counted: one request, or a list of them for one queue, in
// order. Context: thread, softirq.
void blk_enqueue(struct blk_mq_hw_ctx *hctx, struct request *request);
void blk_enqueue_list(struct blk_mq_hw_ctx *hctx, struct list_head *requests);
// Appends `later` to `earlier` when it follows it on the disk and the disk can do both at once.
bool blk_merge(struct request *earlier, struct request *later);
// Keeps the request in the thread's plug. False: it has none, or this is not the thread.
bool blk_plug_add(struct request *request);
// The poll function of each queue. Context: IRQ_POLL softirq.
int blk_irq_poll(struct irq_poll *iop, int budget);
// Sees to it that somebody looks at the deadline of what was just started. Context: any.
void blk_timeout_arm(struct gendisk *disk);
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
