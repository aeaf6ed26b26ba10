// Block devices: requests go down to a driver, completions come back in BLOCK softirq context and wake the waiter.
//
//   blk_read ── blk_submit ──> disk->submit(request) ──> hardware ──irq──> driver ── blk_complete_request ──> BLOCK_SOFTIRQ ── request->done
#pragma once

#include <core/spinlock.h>
#include <lib/list.h>
#include <lib/types.h>
#include <sched/completion.h>

enum { SECTOR_SIZE = 512, BLK_MAX_SEGMENTS = 64 };
enum req_op { REQ_OP_READ, REQ_OP_WRITE, REQ_OP_FLUSH };

struct blk_segment {
    void *data;      // memory that dma_map_single takes
    uint32_t length; // bytes, a multiple of 2
};

struct gendisk;

struct request {
    enum req_op op;
    uint64_t sector;  // in 512-byte sectors
    uint32_t sectors; // 0 for FLUSH
    struct blk_segment segments[BLK_MAX_SEGMENTS];
    unsigned segment_count;
    void (*done)(struct request *request); // softirq context; may free the request
    void *private_data;                    // of whoever made it
    int status;                            // 0 or -errno, valid in done
    struct gendisk *disk;
    uint64_t start_ns;
    struct list_head link; // owned by the block layer before submit, by the driver until completion
    void *driver_data;     // of the driver, while it has it
};

struct disk_stats { // L: /proc/diskstats, per direction: 0 read, 1 write, 2 flush
    uint64_t ios[3], sectors[2], ticks_ns[3], merges[2];
    uint64_t io_ns, weighted_ns, stamp_ns;
    uint32_t in_flight;
};

struct gendisk {
    char name[16]; // I: "sda"
    uint16_t major, minor;
    uint64_t capacity;                  // I: sectors
    uint32_t max_sectors, max_segments; // I: what one request may hold
    uint32_t
        queue_depth; // I: how many submit() accepts at a time; the block layer holds the rest back
    bool read_only;
    char model[41], serial[21], firmware[9];
    const char *transport; // "sata", "nvme"
    // Starts the request or returns -EBUSY (called again after the next completion) or another error. Called with interrupts on or off, in
    // thread or softirq context, under no lock of the block layer; may run on several CPUs at once.
    int (*submit)(struct gendisk *disk, struct request *request);
    void *private_data; // of the driver
    struct spinlock lock;
    struct list_head waiting; // L: requests held back
    struct disk_stats stats;  // L
    struct list_head link;
    uint32_t references; // A
    bool gone;           // A: new requests get -ENXIO
};

void blk_init(void);
// Names ("sda", "sdb" by `prefix` "sd"; "sr0" by "sr") and publishes it. 0, -EINVAL, -ENOSPC. Context: thread.
int add_disk(struct gendisk *disk, const char *prefix);
// No new requests; waits (bounded) until those under way are done. Context: thread.
void del_gendisk(struct gendisk *disk);

// Checks range, size and direction, then starts or queues it: done is called exactly once in any case. Context: any but hard irq.
void blk_submit(struct request *request);
// By the driver when the hardware is done with a request. Context: any; `done` runs later in softirq on this CPU.
void blk_complete_request(struct request *request, int status);

// Whole transfers of any size that sleep until done; data from kmalloc or alloc_pages. 0 or -errno. Context: thread.
int blk_read(struct gendisk *disk, uint64_t sector, uint32_t sectors, void *data);
int blk_write(struct gendisk *disk, uint64_t sector, uint32_t sectors, const void *data);
int blk_flush(struct gendisk *disk);

struct gendisk *blk_find(const char *name); // takes a reference; NULL
struct gendisk *
blk_next(struct gendisk *after); // in the order of their names; drops and takes a reference
void blk_put(struct gendisk *disk);
