// The page cache: what was read from a disk stays in memory, what is written to it waits there.
//
//   page_cache_read ──> page there? ──yes──> copied to the reader
//                          └──no──> read-ahead: a window of pages in few requests, waited for
//   page_cache_write ──> copied into the page, dirty ··later··> write-back ──> disk
//   page_cache_fsync ──> write-back of all that is dirty, then the disk's own cache: now it is safe
//
// One cache for the whole disk: sda1 and sda see the same bytes. Transfers that go past it
// (blk_read, blk_write, O_DIRECT) are coherent with it: kernel/dev/block_io.c.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/errseq.h>
#include <lib/types.h>
#include <dev/block.h>

// Where a reader is, and how far was read ahead for it (kernel/dev/page_cache_ra.c). Pages.
struct file_ra_state {
    uint64_t start;      // the window that was read last
    uint32_t size;       // pages in it; 0: none yet
    uint32_t async_size; // so many of them are left when the next window is asked for
    uint64_t prev_index; // the page that was read last; UINT64_MAX: none
};

// One opener of a disk; not to be used by two threads at once.
struct page_cache_file {
    struct gendisk *disk; // the opener holds a reference
    struct file_ra_state ra;
    errseq_t wb_err; // what it knows of errors in write-back
};

void page_cache_open(struct page_cache_file *file, struct gendisk *disk);
// Bytes done, cut at the end of the disk or partition (0: at or past it; a write there is -ENOSPC);
// -errno when not even the first could be done: -EIO, -ENXIO when the disk is gone, -ENOMEM; a
// write that has to wait for the disk is -EINTR after ^C. Context: thread.
long page_cache_read(struct page_cache_file *file, uint64_t offset, void *to, size_t size);
long page_cache_write(struct page_cache_file *file, uint64_t offset, const void *from, size_t size);
// What is dirty of [offset, offset + size) reaches the disk's medium: written, then FLUSH. An error
// of any write-back since this opener looked last is told here, once. Context: thread.
int page_cache_fsync_range(struct page_cache_file *file, uint64_t offset, uint64_t size);
int page_cache_fsync(struct page_cache_file *file); // all of it

// Writes out and flushes a disk for nobody in particular. 0, -errno; -ETIMEDOUT after timeout_ms,
// 0 for no bound. Context: thread.
int page_cache_sync(struct gendisk *disk, unsigned timeout_ms);
void page_cache_forget(struct gendisk *disk);          // drops what is clean; context: thread
uint64_t page_cache_dirty_bytes(struct gendisk *disk); // what would be lost now

// What the lab of copies counts.
struct page_cache_stats {
    uint64_t hits, misses;           // pages
    uint64_t ahead, ahead_used;      // pages read before they were asked for; and then asked for
    uint64_t filled, written;        // pages, by DMA
    uint64_t evicted, lost;          // pages
    uint64_t copied_to, copied_from; // bytes, by the CPU: to readers, from writers
    uint64_t bounced;                // bytes past the cache, through memory that the disk can reach
    uint64_t throttled;              // how often a writer waited
};
void page_cache_stats(struct gendisk *disk, struct page_cache_stats *stats);

// Gives back clean pages that nobody uses: up to `pages`. How many. Context: any.
unsigned long page_cache_shrink(unsigned long pages);
void page_cache_init(void); // by blk_init
