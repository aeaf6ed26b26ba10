// The page cache's requests: pages that follow each other on the disk, read or written by DMA
// straight from and into the cache. Nothing is copied on this way.
//
//   cache_io   [ request | pages: 7 8 9 10 | segments: [7 8][9][10] ]
//                                                        └─ neighbours in memory too: one segment
//
// A request holds a reference of each page and of the disk that it is charged to, which is the
// partition through which a reader came, as long as all of it lies there.
//
// Context: submitting: thread; the ends: softirq, or hard irq where the disk completes there.
// Previous: page_cache_read.c. Next: page_cache_wb.c.
#include <lib/errno.h>
#include <core/log.h>
#include <core/trace.h>
#include <mm/page.h>
#include <mm/slab.h>

#include "page_cache_internal.h"

enum { CACHE_COMPLAINTS_MAX = 10 };

struct cache_io *cache_io_alloc(struct page_cache *cache, struct gendisk *disk, uint32_t room)
{
    size_t size =
        sizeof(struct cache_io) + room * (sizeof(struct blk_segment) + sizeof(struct cache_page *));
    struct cache_io *io = kmalloc(size, GFP_ATOMIC); // never waits: reclaim might wait for us
    if (io != NULL) {
        io->cache = cache;
        io->disk = disk;
        io->count = 0;
        io->room = room;
        io->alone = false;
        io->is_spare = false;
        io->segments = (struct blk_segment *)(io + 1);
        io->pages = (struct cache_page **)(io->segments + room);
    }
    return io;
}

bool cache_io_takes(const struct cache_io *io, uint64_t index)
{
    return io->count == 0 ||
           (io->count < io->room && io->pages[io->count - 1]->node.index + 1 == index);
}

// The spare one goes back to its disk.
void cache_io_free(struct cache_io *io)
{
    if (io == NULL) {
        return;
    }
    if (!io->is_spare) {
        kfree(io);
        return;
    }
    struct page_cache *cache = io->cache;
    __atomic_store_n(&cache->spare, io, __ATOMIC_RELEASE);
    wake_up_all(&cache->wait);
}

// Two pages whose memory follows each other are one segment, if the disk can take it.
static bool cache_io_joins(const struct gendisk *whole, const struct blk_segment *segment,
                           const uint8_t *data, uint32_t bytes)
{
    uintptr_t start = (uintptr_t)segment->data, end = start + segment->length + bytes - 1;
    if ((uint8_t *)segment->data + segment->length != data) {
        return false;
    }
    if (whole->max_segment_size != 0 && segment->length + bytes > whole->max_segment_size) {
        return false;
    }
    uint64_t boundary = whole->segment_boundary;
    return boundary == 0 || ((start ^ end) & ~boundary) == 0;
}

static void cache_io_submit(struct cache_io *io, enum req_op op,
                            void (*done)(struct request *request))
{
    struct page_cache *cache = io->cache;
    struct gendisk *whole = cache->disk, *disk = io->disk != NULL ? io->disk : whole;
    uint64_t sector = io->pages[0]->node.index * (PAGE_SIZE / SECTOR_SIZE);
    unsigned segments = 0;
    uint32_t total = 0;

    for (uint32_t i = 0; i < io->count; i++) {
        struct cache_page *page = io->pages[i];
        uint32_t bytes = cache_page_bytes(cache, page->node.index);
        total += bytes;
        if (segments != 0 &&
            cache_io_joins(whole, &io->segments[segments - 1], page->data, bytes)) {
            io->segments[segments - 1].length += bytes;
        } else {
            io->segments[segments++] = (struct blk_segment){.data = page->data, .length = bytes};
        }
    }
    uint32_t sectors = total / SECTOR_SIZE;
    if (sector < disk->start || sector + sectors > disk->start + disk->capacity) {
        disk = whole; // a page across a partition's edge
    }
    io->disk = disk;
    blk_get(disk);
    blk_request_init(&io->request, disk, op, sector - disk->start, sectors, NULL, done, io);
    io->request.segments = io->segments;
    io->request.segment_count = segments;
    blk_submit(&io->request);
}

// The common end: waiters, references, memory; the disk last.
static void cache_io_end(struct cache_io *io, bool wake)
{
    struct gendisk *disk = io->disk;
    for (uint32_t i = 0; i < io->count; i++) {
        cache_page_put(io->pages[i]);
    }
    // Only now: who needs memory, and sees nothing on its way to a disk, takes what is clean.
    if (io->request.op == REQ_OP_WRITE) {
        page_count_add(NR_WRITEBACK, -(long)io->count);
        lru_wake();
    }
    if (wake) {
        wake_up_all(&io->cache->wait);
    }
    cache_io_free(io);
    blk_put(disk);
}

// ---- reads --------------------------------------------------------------------------------------

static void cache_read_done(struct request *request)
{
    struct cache_io *io = request->private_data;
    struct page_cache *cache = io->cache;
    int error = request->status;
    bool wake = false;
    unsigned long flags;

    trace(TRACE_PAGE_CACHE_FILL, io->count, io->pages[0]->node.index);
    spin_lock_irqsave(&page_cache_lock, flags);
    for (uint32_t i = 0; i < io->count; i++) {
        struct cache_page *page = io->pages[i];
        bool is_its_own = io->alone || error != -EIO; // all others are errors of the whole disk
        uint32_t set = error == 0 ? PG_UPTODATE : is_its_own ? PG_ERROR : 0;
        page->error = error;
        wake = cache_page_change_locked(page, PG_LOCKED, set) || wake;
        lru_add_locked(page);
    }
    spin_unlock_irqrestore(&page_cache_lock, flags);
    cache_count(&cache->stats.filled, error == 0 ? io->count : 0);
    cache_io_end(io, wake);
}

void cache_io_read(struct cache_io *io)
{
    cache_io_submit(io, REQ_OP_READ, cache_read_done);
}

// ---- writes -------------------------------------------------------------------------------------

void cache_page_note_loss_locked(struct cache_page *page, int error)
{
    struct page_cache *cache = page->cache;
    struct gendisk *partition;
    uint64_t start = page->node.index * (PAGE_SIZE / SECTOR_SIZE);
    cache_count(&cache->stats.lost, 1);
    errseq_set(&cache->disk->wb_err, error);
    list_for_each_entry (partition, &cache->partitions, cached) {
        if (start < partition->start + partition->capacity &&
            partition->start < start + PAGE_SIZE / SECTOR_SIZE) {
            errseq_set(&partition->wb_err, error);
        }
    }
}

static void cache_page_lost_locked(struct cache_page *page, int error)
{
    struct page_cache *cache = page->cache;
    cache_page_note_loss_locked(page, error == -ENXIO ? -EIO : error);
    if (cache->complaints++ < CACHE_COMPLAINTS_MAX) {
        pr_err("Buffer I/O error on dev %s, logical block %llu, lost async page write",
               cache->disk->name, (unsigned long long)page->node.index);
    }
}

// A page that was written is clean. One that was not is tried once more, alone; after that it is
// given up, and told: to keep it dirty for ever would only move the loss to the moment when memory
// runs out.
static void cache_write_ended_locked(struct cache_page *page, int error, bool alone)
{
    struct page_cache *cache = page->cache;
    if (error != 0 && !alone && error != -ENXIO && !cache->gone) {
        wb_set_dirty_locked(page);
        page->state |= PG_ALONE;
        cache->alone_pages++;
    } else if (error != 0) {
        cache_page_lost_locked(page, error);
    }
    lru_add_locked(page);
}

static void cache_write_done(struct request *request)
{
    struct cache_io *io = request->private_data;
    struct page_cache *cache = io->cache;
    int error = request->status;
    unsigned long flags;

    trace(TRACE_PAGE_CACHE_WRITTEN, io->count, io->pages[0]->node.index);
    spin_lock_irqsave(&page_cache_lock, flags);
    for (uint32_t i = 0; i < io->count; i++) {
        cache_page_change_locked(io->pages[i], PG_WRITEBACK, 0);
        cache_write_ended_locked(io->pages[i], error, io->count == 1);
    }
    cache->writeback_pages -= io->count;
    cache->writes_in_flight--;
    list_del(&io->link);
    spin_unlock_irqrestore(&page_cache_lock, flags);
    cache_count(&cache->stats.written, error == 0 ? io->count : 0);
    cache_io_end(io, true);
}

void cache_io_write(struct cache_io *io)
{
    cache_io_submit(io, REQ_OP_WRITE, cache_write_done);
}
