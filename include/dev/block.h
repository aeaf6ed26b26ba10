// Block devices: requests go down to a driver through one of its queues, completions come back in
// BLOCK softirq context and wake the waiter. The vocabulary is Linux's blk-mq.
//
//   blk_read ──> blk_submit ──> ops->queue_rq ──> hardware queue (hctx) ──> disk
//                                                        └──irq──> driver ──> blk_mq_reap
//   waiter wakes <── request->done <── blk_complete_request <── ops->reap <── BLOCK_SOFTIRQ
//
// A queue per CPU where the hardware has so many (NVMe), one where it has not (AHCI, IDE). Within
// its queue each request that the driver has is known by its tag, 0 .. depth-1: that is a command
// slot, or a command id.
// Context: any, where a line does not say otherwise.
#pragma once

#include <core/spinlock.h>
#include <lib/errno.h>
#include <lib/errseq.h>
#include <lib/list.h>
#include <lib/types.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <defer/irq_poll.h>
#include <defer/timer.h>
#include <defer/work.h>
#include <dma/dma.h>

enum { SECTOR_SIZE = 512, BLK_MAX_SEGMENTS = 256, BLK_MAX_DEPTH = 4096 };
enum req_op {
    REQ_OP_READ,
    REQ_OP_WRITE,
    REQ_OP_FLUSH,
    REQ_OP_COUNT,
    REQ_OP_DRV_IN = REQ_OP_COUNT, // the driver's own, from the device: in no statistics
};

struct blk_segment {
    void *data;      // memory that dma_map_single takes, aligned as the disk wants it
    uint32_t length; // bytes, a multiple of the alignment
    dma_addr_t bus;  // of the driver, while it has the request
};

// Whose a request is. Each step is made once, so a driver that completes twice is caught, not
// obeyed.
enum request_state { REQUEST_IDLE, REQUEST_WAITING, REQUEST_STARTED, REQUEST_DONE };

struct gendisk;
struct blk_mq_hw_ctx;

// Made by blk_request_init. The maker may then set segments and segment_count for more than one
// piece of memory; everything behind `disk` is the block layer's and the driver's.
struct request {
    enum req_op op;
    uint32_t sectors; // its own, without what was merged to it; 0 for FLUSH
    uint64_t sector;  // as the maker named it; a driver asks blk_rq_pos
    unsigned segment_count;
    struct blk_segment *segments; // the maker's, until done
    struct blk_segment segment;   // for whom one is enough
    void (*done)(
        struct request *request); // atomic context, softirq as a rule; may free the request
    void *private_data;           // of whoever made it
    struct gendisk *disk;         // whoever made it holds a reference until done

    int status;                 // 0 or -errno, valid in done
    uint32_t state;             // A: enum request_state
    uint64_t pos;               // sector of the whole disk: `sector` and where the partition starts
    uint32_t total_sectors;     // with what was merged
    uint16_t total_segments;    // likewise
    uint16_t tag;               // while the driver has it
    uint32_t deadline;          // jiffies: when the block layer asks ops->timeout
    bool alone;                 // never to be merged
    struct blk_mq_hw_ctx *hctx; // the queue that it goes through
    struct request *merged;     // the one whose sectors follow, done together with this one
    uint64_t start_tsc;
    struct list_head link; // of the block layer, except from queue_rq until blk_complete_request
    void *driver_data;     // of the driver, while it has it
};

// All segments of a request and of what was merged to it, in the order of the sectors.
#define rq_for_each_segment(segment, part, request)                                              \
    for ((part) = (request); (part) != NULL; (part) = (part)->merged)                            \
        for ((segment) = (part)->segments; (segment) < (part)->segments + (part)->segment_count; \
             (segment)++)

// What a driver wants to know of a request.
static inline uint64_t blk_rq_pos(const struct request *request)
{
    return request->pos;
}
static inline uint32_t blk_rq_sectors(const struct request *request)
{
    return request->total_sectors;
}
static inline uint32_t blk_rq_segments(const struct request *request)
{
    return request->total_segments;
}
static inline enum dma_data_direction rq_dma_dir(const struct request *request)
{
    return request->op == REQ_OP_WRITE ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
}

enum blk_eh_timer_return {
    BLK_EH_DONE,        // the driver has completed it, or requeued it, or is about to
    BLK_EH_RESET_TIMER, // it gets its time once more
};

// What a driver can do. Only queue_rq is required.
struct blk_mq_ops {
    // Starts the request. -EBUSY: no room just now; it is offered again after the next completion
    // of this queue, or blk_run_queue. -ENOMEM: no memory just now; it is offered again soon, and
    // fails with that after a while. Another -errno: it fails with that. `last`: ring the
    // doorbell now; false: more follow at once, and commit_rqs comes if the last of them did not
    // get here. Context: thread or softirq, interrupts on or off, no lock of the block layer held;
    // may run on several CPUs at once. In hard irq too, of a disk that completes there (enum
    // blk_completion).
    int (*queue_rq)(struct blk_mq_hw_ctx *hctx, struct request *request, bool last);
    void (*commit_rqs)(struct blk_mq_hw_ctx *hctx); // NULL: queue_rq rings for each
    // Looks which of the queue's requests the hardware has done, and completes up to `budget` of
    // them (BLK_BATCH at most: it is asked again); returns how many. After blk_mq_reap; never on
    // two CPUs at once. Context: softirq, or hard irq when the disk is so switched; any for a disk
    // that is polled.
    unsigned (*reap)(struct blk_mq_hw_ctx *hctx, unsigned budget);
    // The request is overdue. It may be completed meanwhile, but its memory stays until this
    // returns. Context: thread (a work item of the block layer), may sleep.
    enum blk_eh_timer_return (*timeout)(struct request *request);
    // Of a disk whose medium can be exchanged: somebody wants it, and nobody else has it. Finds out
    // what lies in it, by requests of its own (REQ_OP_DRV_IN: no sectors, any segments), and sets
    // the capacity. 0, -ENOMEDIUM, -errno. NULL: a disk is always the same, and takes no such
    // requests. Context: thread.
    int (*open)(struct gendisk *disk);
};

// What a queue and a partition count; index is enum req_op.
struct disk_counts {
    uint64_t ios[REQ_OP_COUNT], sectors[REQ_OP_COUNT], merges[REQ_OP_COUNT];
    uint64_t ticks_tsc[REQ_OP_COUNT]; // from submit to done, summed, in time stamps
    uint64_t requeues, timeouts;
};

struct disk_stats { // the same for a reader: /proc/diskstats
    uint64_t ios[REQ_OP_COUNT], sectors[REQ_OP_COUNT], merges[REQ_OP_COUNT];
    uint64_t ticks_ns[REQ_OP_COUNT]; // from submit to done, summed
    uint64_t io_ns;                  // during which there was anything to do
    uint64_t requeues, timeouts;
    uint32_t in_flight; // accepted by blk_submit and not yet done
};

enum { BLK_BATCH = 32 }; // requests that go between the block layer and a driver in one go

struct blk_batch {
    unsigned count;
    struct request *requests[BLK_BATCH];
};

// A hardware queue.
struct blk_mq_hw_ctx {
    struct gendisk *disk; // I
    unsigned index;       // I: 0 .. disk->queue_count-1
    void *private_data;   // I: of the driver
    struct spinlock lock;
    struct list_head waiting;   // L: requests held back
    struct request **by_tag;    // L: what the driver has; NULL: the tag is free
    uint16_t *free_tags;        // L: a stack, the top is used next
    uint32_t free_count;        // L
    uint32_t kicks;             // L: completions and blk_run_queue: reasons to ask the driver again
    uint32_t submitting;        // A: CPUs that are in queue_rq now
    uint32_t reap_state;        // A: asked for, running
    uint32_t reaping_cpu;       // A: CPU + 1 whose softirq is in ops->reap
    struct blk_batch reaped;    // what that has found; of the one CPU that reaps
    struct list_head reap_link; // C: list of the CPU that was asked
    struct irq_poll iop;        // the same with BLK_COMPLETE_IRQ_POLL
    struct request *examined;   // L: by the time-out; not done before it has been
    bool examined_done;         // L
    struct disk_counts counts;  // L
} __aligned(64);

// Who finds out that a request is done.
enum blk_completion {
    BLK_COMPLETE_SOFTIRQ,  // BLOCK softirq after the interrupt
    BLK_COMPLETE_HARDIRQ,  // the interrupt handler itself
    BLK_COMPLETE_IRQ_POLL, // IRQ_POLL softirq, a budget at a time
};

struct gendisk {
    char name[16]; // I: "sda"
    uint16_t major, minor;
    // ---- filled by the driver before add_disk
    uint64_t capacity;         // I: sectors; A where ops->open is: 0 without a medium
    uint32_t max_sectors;      // I: of one request
    uint32_t max_segments;     // I: of one request
    uint32_t max_segment_size; // I: bytes; 0: no bound
    uint64_t segment_boundary; // I: mask: no segment crosses it; 0: none
    uint32_t virt_boundary; // I: mask: segments but the first start on it, but the last end on it
    uint32_t dma_alignment; // I: mask for addresses and lengths of segments; 1 when 0
    uint32_t logical_block_size; // I: bytes, a power of two: requests are whole blocks; 512 when 0
    uint32_t timeout_ms;         // I: of a request (a flush has three times that); 0: none
    bool read_only;              // I
    bool removable;              // I
    bool rotational;             // I
    bool no_part;                // I: is not searched for partitions
    char model[41], serial[21], firmware[9];
    const char *transport; // I: "sata", "nvme", "ata"
    void *private_data;    // I: of the driver
    // ---- the block layer's
    const struct blk_mq_ops *ops;    // I
    unsigned queue_count;            // I
    unsigned queue_depth;            // I: tags of each queue
    struct blk_mq_hw_ctx *queues;    // I
    enum blk_completion completion;  // A
    uint32_t stopped;                // A: bit 0: gone; the rest: how often quiesced, times two
    uint32_t timeout_jiffies;        // I
    uint32_t in_flight;              // A
    uint64_t io_stamp_tsc, io_tsc;   // A: since when, and how long it had anything to do
    struct timer_list timeout_timer; // the next look at deadlines
    uint32_t timeout_armed;          // A
    struct work_struct timeout_work;
    struct delayed_work retry_work;              // for who found no memory
    uint64_t starved_since_ns, starved_until_ns; // A: when it was so, first and last
    struct mutex write_mutex; // held over a byte-wise write: its read-modify-write is one step
    struct mutex open_mutex;
    unsigned openers;      // L of open_mutex; counted where ops->open is
    uint32_t medium_lost;  // A: by the driver: what was opened is there no more; reads fail
    char prefix[16];       // I: "sd"
    unsigned order;        // I: among the disks of its prefix: 0 is sda
    struct gendisk *whole; // I: of a partition: the disk it lies on, with a reference; else NULL
    uint64_t start;        // I: of a partition: its first sector there
    unsigned partition;    // I: 1 .. ; 0: a whole disk
    struct disk_counts counts; // of a partition: A, each number for itself
    struct page_cache *cache;  // L: of kernel/dev/page_cache.c
    errseq_t wb_err;           // A: what of its sectors write-back has lost
    struct list_head cached;   // L of the page cache: a partition's place with its disk's cache
    struct list_head link;     // L of the list of disks
    uint32_t references;       // A
};

void blk_init(void); // Context: boot
// A disk with one reference, the driver's, and so many queues with so many tags each, for the
// driver to fill and add. NULL: no memory. It is freed with the last blk_put. Context: thread.
struct gendisk *alloc_disk(const struct blk_mq_ops *ops, unsigned queues, unsigned depth);
// Names ("sda", "sdb" by `prefix` "sd"; "sr0" by "sr"; a prefix that ends in a digit gets nothing
// added: "nvme0n1") and publishes it. 0, -EINVAL, -ENOSPC, -EEXIST. Context: thread.
int add_disk(struct gendisk *disk, const char *prefix);
// No new requests; those held back end with -ENXIO; waits (bounded) until those under way are done.
// After it the driver is never called again. Its reference stays: it is put when no interrupt of
// the device can name the disk any more. 0; -ETIMEDOUT when the driver did not give everything back
// (said in the log; then the driver must not put its reference). Context: thread.
int del_gendisk(struct gendisk *disk);

// ---- for whoever wants something of a disk ------------------------------------------------------

// `data` in one piece, NULL when the maker brings segments of its own. Context: any.
static inline void blk_request_init(struct request *request, struct gendisk *disk, enum req_op op,
                                    uint64_t sector, uint32_t sectors, void *data,
                                    void (*done)(struct request *request), void *private_data)
{
    request->op = op;
    request->sectors = sectors;
    request->sector = sector;
    request->segment_count = sectors == 0 ? 0 : 1;
    request->segments = &request->segment;
    request->segment.data = data;
    request->segment.length = sectors * SECTOR_SIZE;
    request->done = done;
    request->private_data = private_data;
    request->driver_data = NULL;
    request->disk = disk;
    request->state = REQUEST_IDLE;
    request->alone = false;
}
// Checks range, size and segments, then starts or queues it: done is called exactly once in any
// case. Between blk_start_plug and blk_finish_plug of this thread it is only collected. Context:
// any but hard irq.
void blk_submit(struct request *request);

// What a thread submits between the two is kept back, merged where sectors follow each other, and
// handed down in one go. The thread must not wait for any of it in between. Context: thread.
struct blk_plug {
    struct list_head requests;  // C: the thread's
    struct blk_mq_hw_ctx *hctx; // C: of the first of them
    bool has_others;            // C: not all are of that queue
    unsigned count;
    struct blk_plug *outer;
};
void blk_start_plug(struct blk_plug *plug);
void blk_finish_plug(struct blk_plug *plug);

// Whole transfers of any size that sleep until done; data from kmalloc or alloc_pages. 0 or -errno.
// Context: thread.
int blk_read(struct gendisk *disk, uint64_t sector, uint32_t sectors, void *data);
int blk_write(struct gendisk *disk, uint64_t sector, uint32_t sectors, const void *data);
int blk_flush(struct gendisk *disk);

// The disk as a row of bytes, for /dev: any offset, any size, any kernel memory. Bytes done, cut at
// the disk's end (0: at or past it; a write there is -ENOSPC); -errno when not even the first could
// be done. Partial sectors are read, changed and written back, one writer at a time. Context:
// thread.
long blk_read_bytes(struct gendisk *disk, uint64_t offset, void *data, size_t size);
long blk_write_bytes(struct gendisk *disk, uint64_t offset, const void *data, size_t size);

// Whoever uses a disk over some time says so. Of a CD drive the medium is looked at when the first
// one opens it, and for all who have it open it stays that one: when it is exchanged their reads
// fail (-EIO, -ENOMEDIUM), and nobody else gets it before they have closed it. 0; -ENOMEDIUM;
// -EBUSY: exchanged, and still open; -EINTR: ^C before the drive was ready; -errno. The reference
// that the caller has must stay until blk_close. Context: thread.
int blk_open(struct gendisk *disk);
void blk_close(struct gendisk *disk);

struct gendisk *blk_find(const char *name); // takes a reference; NULL
// In the order of their names; drops and takes a reference.
struct gendisk *blk_next(struct gendisk *after);
void blk_get(struct gendisk *disk);
void blk_put(struct gendisk *disk);
void blk_stats(struct gendisk *disk, struct disk_stats *stats); // summed over its queues

// ---- for drivers --------------------------------------------------------------------------------

// From the interrupt handler: something of this queue may be done; ops->reap is called soon, on
// this CPU. Asked for while it runs, it runs once more. Context: any.
void blk_mq_reap(struct blk_mq_hw_ctx *hctx);
// The hardware is done with a request. `done` is called later in softirq on this CPU (or, of a disk
// so switched, in the interrupt). A request that was merged and failed is taken apart: each part is
// tried alone. Context: any.
void blk_complete_request(struct request *request, int status);
// Lends all the memory of a request that the driver has to its device: the address of each segment
// is in segment->bus, until it is taken back, before the request is completed or requeued. 0;
// -ENOMEM: one could not be lent (no copy within the device's reach), and none is. Context: any.
static inline int blk_rq_dma_map(struct request *request, struct device *dev);
static inline void blk_rq_dma_unmap(struct request *request, struct device *dev);
// Gives a request back that the driver had, to be started again before all others; its tag is free.
// It starts with the next completion, blk_run_queue or blk_mq_unquiesce_queue. Context: any.
void blk_requeue_request(struct request *request);
// By a driver that returned -EBUSY while it had nothing of ours to complete: it may be asked again.
// Context: any but hard irq.
void blk_run_queue(struct gendisk *disk);
// No queue_rq any more, and none under way when it returns: new requests wait; those that the
// driver has may still complete. For error recovery. Nests. Context: thread.
void blk_mq_quiesce_queue(struct gendisk *disk);
// Context: any but hard irq.
void blk_mq_unquiesce_queue(struct gendisk *disk);
// The request that the driver has under this tag; NULL: none. For tags that a device wrote: any
// value. Context: any.
struct request *blk_mq_tag_to_rq(struct blk_mq_hw_ctx *hctx, uint32_t tag);
// Calls visit for each request that the driver has. With the queue quiesced and the device still,
// nothing changes meanwhile; visit may complete or requeue. Context: thread.
void blk_mq_busy_iter(struct gendisk *disk, void (*visit)(struct request *request, void *arg),
                      void *arg);

// ---- inline: one piece of memory, as most requests have -----------------------------------------

// The same for any number of pieces. Context: any.
int blk_rq_dma_map_many(struct request *request, struct device *dev);
void blk_rq_dma_unmap_many(struct request *request, struct device *dev);

static inline int blk_rq_dma_map(struct request *request, struct device *dev)
{
    struct blk_segment *only = request->segments;
    if (unlikely(blk_rq_segments(request) != 1)) {
        return blk_rq_dma_map_many(request, dev);
    }
    only->bus = dma_map_single(dev, only->data, only->length, rq_dma_dir(request));
    return likely(!dma_mapping_error(dev, only->bus)) ? 0 : -ENOMEM;
}

static inline void blk_rq_dma_unmap(struct request *request, struct device *dev)
{
    const struct blk_segment *only = request->segments;
    if (unlikely(blk_rq_segments(request) != 1)) {
        blk_rq_dma_unmap_many(request, dev);
        return;
    }
    dma_unmap_single(dev, only->bus, only->length, rq_dma_dir(request));
}
