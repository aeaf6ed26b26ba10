// Block devices: requests go down to a driver, completions come back in BLOCK softirq context and
// wake the waiter.
//
//   blk_read ──> blk_submit ──> disk->submit ──> hardware
//                                                   └──irq──> driver ──> blk_complete_request
//   waiter wakes <── request->done <── BLOCK_SOFTIRQ <────────────────────────────┘
#pragma once

#include <core/spinlock.h>
#include <lib/list.h>
#include <lib/types.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <dma/dma.h>

enum { SECTOR_SIZE = 512, BLK_MAX_SEGMENTS = 64 };
enum req_op { REQ_OP_READ, REQ_OP_WRITE, REQ_OP_FLUSH };

struct blk_segment {
    void *data;      // memory that dma_map_single takes, at an even address
    uint32_t length; // bytes, a multiple of 2
    dma_addr_t bus;  // of the driver, while it has the request
};

// Whose a request is. Each step is made once, so a driver that completes twice is caught, not
// obeyed.
enum request_state { REQUEST_IDLE, REQUEST_WAITING, REQUEST_STARTED, REQUEST_DONE };

struct gendisk;

// The maker fills op to private_data and disk; the rest is the block layer's.
struct request {
    enum req_op op;
    uint64_t sector;  // in 512-byte sectors
    uint32_t sectors; // 0 for FLUSH
    unsigned segment_count;
    void (*done)(struct request *request); // softirq context; may free the request
    void *private_data;                    // of whoever made it
    struct gendisk *disk;                  // whoever made it holds a reference until done
    int status;                            // 0 or -errno, valid in done
    uint32_t state;                        // A: enum request_state
    uint64_t start_ns;
    struct list_head link; // owned by the block layer before submit, by the driver until completion
    void *driver_data;     // of the driver, while it has it
    struct blk_segment segments[BLK_MAX_SEGMENTS];
};

struct disk_stats { // L: /proc/diskstats, per direction: 0 read, 1 write, 2 flush
    uint64_t ios[3], sectors[2], ticks_ns[3], merges[2];
    uint64_t io_ns, weighted_ns, stamp_ns;
    uint32_t in_flight; // accepted by blk_submit and not yet done
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
    // Starts the request or returns -EBUSY (called again after the next completion, or
    // blk_run_queue) or another error. Called with interrupts on or off, in thread or softirq
    // context, under no lock of the block layer; may run on several CPUs at once.
    int (*submit)(struct gendisk *disk, struct request *request);
    void *private_data; // of the driver
    struct spinlock lock;
    struct list_head waiting; // L: requests held back
    uint32_t started;         // L: requests that the driver has
    uint32_t kicks;           // L: completions and blk_run_queue: reasons to ask the driver again
    uint32_t submitting;      // A: CPUs that are in submit() now
    struct disk_stats stats;  // L
    struct mutex write_mutex; // held over a byte-wise write: its read-modify-write is one step
    unsigned order;           // I: among the disks of its prefix: 0 is sda
    struct list_head link;    // L of the list of disks
    uint32_t references;      // A
    bool gone;                // L: new requests get -ENXIO
};

void blk_init(void);
// A disk with one reference, the driver's, for it to fill and add. NULL: no memory. Freed with the
// last blk_put: del_gendisk drops the driver's reference; a disk that was never added is dropped by
// blk_put. Context: thread.
struct gendisk *alloc_disk(void);
// Names ("sda", "sdb" by `prefix` "sd"; "sr0" by "sr") and publishes it. 0, -EINVAL, -ENOSPC.
// Context: thread.
int add_disk(struct gendisk *disk, const char *prefix);
// No new requests; those held back end with -ENXIO; waits (bounded) until those under way are done
// and no CPU is in submit(). Drops the driver's reference: the disk itself lives on until the last
// user puts it, but never calls the driver again. 0; -ETIMEDOUT when the driver did not give
// everything back (said in the log; the disk's memory is then never freed). Context: thread.
int del_gendisk(struct gendisk *disk);

// Checks range, size and direction, then starts or queues it: done is called exactly once in any
// case. Context: any but hard irq.
void blk_submit(struct request *request);
// By the driver when the hardware is done with a request. Context: any; `done` runs later in
// softirq on this CPU.
void blk_complete_request(struct request *request, int status);
// By a driver that returned -EBUSY while it had nothing of ours to complete: it may be asked again.
// Context: any but hard irq.
void blk_run_queue(struct gendisk *disk);

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

struct gendisk *blk_find(const char *name); // takes a reference; NULL
struct gendisk *
blk_next(struct gendisk *after); // in the order of their names; drops and takes a reference
void blk_put(struct gendisk *disk);
