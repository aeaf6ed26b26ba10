// The page cache's middle: finding a page, waiting for it, and the copies to readers and from
// writers.
//
// A page is 4 KiB of a disk in memory. Who owns that memory is in its state, and changes hands so:
//
//                     ┌──────────── read by DMA: LOCKED ───────────┐ failed: not up to date,
//        not there ───┤                                            v   who needs it tries again
//                     └─ whole page written: LOCKED ─> UPTODATE, clean <──────────────┐
//                                                        │      ^                     │ written,
//                                       a writer: LOCKED │      │ reclaim: not there  │ or lost
//                                                        v                            │
//                                                      DIRTY ── collected ──> WRITEBACK
//
// One fill for many readers: who finds no page puts one there, LOCKED, before it asks the disk; who
// comes later finds it and waits. A fill of several pages that fails proves nothing about any one of
// them, so each reader that needs such a page has it read again alone, and that result is for all
// who waited for it: an error hits those who need the page, once each, and the sector is asked for
// once.
//
// A page that the device reads (WRITEBACK) is not changed: writers wait. The alternative, to write
// again later, is right as well, but the disk would see half of each version for a while, and the
// DMA checker is right to call that a bug.
//
// Everything shared is guarded by one spinlock for all disks, held for a few dozen instructions and
// with interrupts off, as memory may be asked back in any context (page_cache_lru.c). Copies are
// made without it: a reference keeps the page.
//
// Context: thread, where a line says nothing else. Next: page_cache_ra.c, page_cache_io.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/panic.h>
#include <core/trace.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <sched/thread.h>

#include "page_cache_internal.h"
#include "page_cache_ra.h"

enum { CACHE_TRIES = 16 }; // to get hold of a page that others take away meanwhile

DEFINE_SPINLOCK(page_cache_lock);
static struct kmem_cache *cache_pages; // I

void page_cache_init(void)
{
    cache_pages = kmem_cache_create("page_cache", sizeof(struct cache_page), 0);
    if (cache_pages == NULL || wb_init() != 0) {
        panic("no memory for the page cache: give the machine more than 16 MiB");
    }
    lru_init();
}

// ---- a disk's cache -----------------------------------------------------------------------------

// A disk that cannot do 4 KiB in one request is read and written directly, always.
static uint32_t cache_io_pages(const struct gendisk *disk)
{
    if (disk->max_sectors < PAGE_SIZE / SECTOR_SIZE || disk->logical_block_size > PAGE_SIZE ||
        (disk->max_segment_size != 0 && disk->max_segment_size < PAGE_SIZE) ||
        disk->dma_alignment >= PAGE_SIZE ||
        (disk->segment_boundary != 0 && disk->segment_boundary < PAGE_SIZE - 1)) {
        return 0;
    }
    uint32_t pages = disk->max_sectors / (uint32_t)(PAGE_SIZE / SECTOR_SIZE);
    pages = min(pages, disk->max_segments);
    return min(pages, (uint32_t)CACHE_IO_PAGES);
}

int page_cache_make(struct gendisk *whole)
{
    uint32_t io_pages = cache_io_pages(whole);
    if (io_pages == 0) {
        return 0;
    }
    struct page_cache *cache = kzalloc(sizeof(*cache), GFP_KERNEL);
    if (cache == NULL) {
        return -ENOMEM;
    }
    cache->disk = whole;
    cache->io_pages = io_pages;
    cache->read_ahead = (CACHE_READ_AHEAD_KB << 10) / PAGE_SIZE;
    cache->index = RB_ROOT_CACHED;
    cache->dirty = RB_ROOT_CACHED;
    INIT_LIST_HEAD(&cache->writes);
    init_waitqueue_head(&cache->wait, "page cache");
    cache->spare = cache_io_alloc(cache, NULL, io_pages);
    if (cache->spare == NULL) {
        kfree(cache);
        return -ENOMEM;
    }
    cache->spare->is_spare = true;
    wb_start(cache);
    whole->cache = cache;
    return 0;
}

void page_cache_free(struct gendisk *whole)
{
    struct page_cache *cache = whole->cache;
    if (cache != NULL) {
        WARN_ON(cache->pages != 0);
        kfree(cache->spare);
        kfree(cache);
    }
}

uint32_t cache_page_bytes(const struct page_cache *cache, uint64_t index)
{
    uint64_t left = cache->disk->capacity * SECTOR_SIZE - index * PAGE_SIZE;
    return (uint32_t)min(left, (uint64_t)PAGE_SIZE);
}

// ---- a page -------------------------------------------------------------------------------------

// Never waits for memory: reclaim might wait for us.
struct cache_page *cache_page_new(struct page_cache *cache, uint64_t index)
{
    lru_make_room();
    struct cache_page *page = kmem_cache_alloc(cache_pages, GFP_ATOMIC);
    uint8_t *data = page != NULL ? alloc_page(GFP_ATOMIC) : NULL;
    if (data == NULL) {
        kmem_cache_free(cache_pages, page);
        return NULL;
    }
    uint32_t bytes = cache_page_bytes(cache, index);
    memset(data + bytes, 0, PAGE_SIZE - bytes); // behind the disk's end
    *page = (struct cache_page){.cache = cache,
                                .node.index = index,
                                .dirty.index = index,
                                .data = data,
                                .references = 1,
                                .state = PG_LOCKED};
    INIT_LIST_HEAD(&page->lru);
    return page;
}

void cache_page_get(struct cache_page *page)
{
    __atomic_fetch_add(&page->references, 1, __ATOMIC_RELAXED);
}

void cache_page_put(struct cache_page *page)
{
    if (__atomic_sub_fetch(&page->references, 1, __ATOMIC_ACQ_REL) == 0) {
        free_page(page->data);
        kmem_cache_free(cache_pages, page);
    }
}

bool cache_page_change_locked(struct cache_page *page, uint32_t clear, uint32_t set)
{
    bool waited = (page->state & PG_WAITED) != 0;
    WRITE_ONCE(page->state, (page->state & ~(clear | PG_WAITED)) | set);
    return waited;
}

void cache_page_wait(struct cache_page *page, uint32_t bits)
{
    unsigned long flags;
    for (;;) {
        spin_lock_irqsave(&page_cache_lock, flags);
        bool done = (page->state & bits) == 0;
        if (!done) {
            page->state |= PG_WAITED;
        }
        spin_unlock_irqrestore(&page_cache_lock, flags);
        if (done) {
            return;
        }
        io_wait_event(&page->cache->wait, (READ_ONCE(page->state) & PG_WAITED) == 0);
    }
}

bool cache_page_lock(struct cache_page *page)
{
    unsigned long flags;
    for (;;) {
        spin_lock_irqsave(&page_cache_lock, flags);
        uint32_t state = page->state;
        if ((state & (PG_GONE | PG_LOCKED | PG_WRITEBACK)) == 0) {
            page->state |= PG_LOCKED;
            lru_del_locked(page);
        }
        spin_unlock_irqrestore(&page_cache_lock, flags);
        if ((state & (PG_GONE | PG_LOCKED | PG_WRITEBACK)) == 0) {
            return true;
        }
        if (state & PG_GONE) {
            return false;
        }
        cache_page_wait(page, PG_LOCKED | PG_WRITEBACK);
    }
}

void cache_page_unlock(struct cache_page *page)
{
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    bool waited = cache_page_change_locked(page, PG_LOCKED, 0);
    lru_add_locked(page);
    spin_unlock_irqrestore(&page_cache_lock, flags);
    if (waited) {
        wake_up_all(&page->cache->wait);
    }
}

// Caller holds the lock.
static struct cache_page *cache_page_find_locked(struct page_cache *cache, uint64_t index)
{
    struct page_node *node = page_index_find(&cache->index, index);
    if (node == NULL) {
        return NULL;
    }
    cache_page_get(page_of_node(node));
    return page_of_node(node);
}

struct cache_page *cache_page_find(struct page_cache *cache, uint64_t index)
{
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    struct cache_page *page = cache_page_find_locked(cache, index);
    spin_unlock_irqrestore(&page_cache_lock, flags);
    return page;
}

// Puts a new page into the index, which takes a reference of its own. 0; -EEXIST; -ENXIO.
static int cache_page_insert(struct cache_page *page)
{
    struct page_cache *cache = page->cache;
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    int error = cache->gone ? -ENXIO : !page_index_add(&cache->index, &page->node) ? -EEXIST : 0;
    if (error == 0) {
        cache_page_get(page);
        cache->pages++;
        page_count_add(NR_FILE_PAGES, 1);
    }
    spin_unlock_irqrestore(&page_cache_lock, flags);
    return error;
}

// ---- filling ------------------------------------------------------------------------------------

static bool cache_has(struct page_cache *cache, uint64_t index)
{
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    bool has = page_index_find(&cache->index, index) != NULL;
    spin_unlock_irqrestore(&page_cache_lock, flags);
    return has;
}

// The pages of a window that are not there yet, each as far as there is memory, in requests that
// the plug makes one of where the disk can. Pages from `wanted` on are read ahead. *first: the
// window's first page, with a reference, if it is among them. 0, or what stopped it.
static int cache_fill(struct page_cache_file *file, struct ra_window window, uint64_t wanted,
                      struct cache_page **first)
{
    struct page_cache *cache = cache_of(file->disk);
    uint64_t end =
        DIV_ROUND_UP((file->disk->start + file->disk->capacity) * SECTOR_SIZE, PAGE_SIZE);
    struct cache_io *io = NULL;
    struct blk_plug plug;
    int error = 0;

    end = min(end, window.start + window.size);
    blk_start_plug(&plug);
    for (uint64_t index = window.start; index < end && error == 0; index++) {
        if (cache_has(cache, index)) {
            continue;
        }
        if (io != NULL && !cache_io_takes(io, index)) {
            cache_io_read(io);
            io = NULL;
        }
        if (io == NULL) {
            io = cache_io_alloc(cache, file->disk,
                                (uint32_t)min(end - index, (uint64_t)cache->io_pages));
        }
        struct cache_page *page = io != NULL ? cache_page_new(cache, index) : NULL;
        if (page == NULL) {
            error = -ENOMEM;
            break;
        }
        page->state |=
            (index >= wanted ? PG_AHEAD : PG_WANTED) | (index == window.marker ? PG_MARKER : 0);
        error = cache_page_insert(page);
        if (error == 0) {
            if (index == window.start && first != NULL) {
                cache_page_get(page);
                *first = page;
            }
            io->pages[io->count++] = page;
            cache_count(index >= wanted ? &cache->stats.ahead : &cache->stats.misses, 1);
        } else {
            cache_page_put(page);
            error = error == -EEXIST ? 0 : error; // somebody was faster
        }
    }
    if (io != NULL && io->count != 0) {
        cache_io_read(io);
    } else {
        cache_io_free(io);
    }
    blk_finish_plug(&plug);
    return error;
}

// Reads one page again, or for the first time, which the caller has LOCKED: this request's result is
// that of the page. 0; -ENOMEM, and then the page is not LOCKED any more.
static int cache_fill_alone(struct page_cache_file *file, struct cache_page *page)
{
    struct cache_io *io = cache_io_alloc(page->cache, file->disk, 1);
    if (io == NULL) {
        cache_page_unlock(page);
        return -ENOMEM;
    }
    io->alone = true;
    io->pages[io->count++] = page;
    cache_page_get(page);
    cache_io_read(io);
    return 0;
}

// Sleeps until a page is up to date. 0; -EAGAIN: it has left the cache; why it cannot be read.
static int cache_page_ready(struct page_cache_file *file, struct cache_page *page)
{
    unsigned long flags;
    bool waited = false;
    int error = 0;
    for (;;) {
        spin_lock_irqsave(&page_cache_lock, flags);
        uint32_t state = page->state;
        bool failed = waited && (state & (PG_LOCKED | PG_ERROR)) == PG_ERROR;
        if ((state & (PG_UPTODATE | PG_GONE | PG_LOCKED)) == 0 && !failed) {
            page->state = (state & ~PG_ERROR) | PG_LOCKED;
            lru_del_locked(page);
        }
        error = page->error;
        spin_unlock_irqrestore(&page_cache_lock, flags);
        if (state & PG_UPTODATE) {
            return 0;
        }
        if (failed) {
            return error;
        }
        if (state & PG_GONE) {
            return -EAGAIN;
        }
        if ((state & PG_LOCKED) == 0 && (error = cache_fill_alone(file, page)) != 0) {
            return error;
        }
        cache_page_wait(page, PG_LOCKED);
        waited = true;
    }
}

// What a reader's look at a page changes; `again`: his last one was at the same. Caller holds the
// lock. True: it is the marked one.
static bool cache_page_touch_locked(struct cache_page *page, bool again)
{
    uint32_t state = page->state;
    cache_count(&page->cache->stats.hits, (state & PG_WANTED) == 0);
    cache_count(&page->cache->stats.ahead_used, (state & PG_AHEAD) != 0);
    uint32_t used = again ? 0 : (state & PG_USED) != 0 ? PG_REFERENCED : PG_USED;
    page->state = (state & ~(uint32_t)(PG_AHEAD | PG_WANTED | PG_MARKER)) | used;
    return (state & PG_MARKER) != 0;
}

// A reader comes to a page, which he has a reference of, or is looked up. NULL: it is not there.
static struct cache_page *cache_page_look(struct page_cache_file *file, uint64_t index,
                                          struct cache_page *page, bool *marked)
{
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    if (page == NULL) {
        page = cache_page_find_locked(cache_of(file->disk), index);
    }
    if (page != NULL) {
        *marked = cache_page_touch_locked(page, file->ra.prev_index == index);
    }
    spin_unlock_irqrestore(&page_cache_lock, flags);
    return page;
}

static void cache_ask_for_more(struct page_cache_file *file, uint64_t index, uint32_t count)
{
    struct page_cache *cache = cache_of(file->disk);
    uint32_t max = READ_ONCE(cache->read_ahead);
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    uint64_t hole = page_index_hole(&cache->index, index, max);
    spin_unlock_irqrestore(&page_cache_lock, flags);
    cache_fill(file, ra_on_marker(&file->ra, index, count, hole, max), 0, NULL);
}

// A page to read from, up to date, with a reference; of the `count` that the reader wants. 0 or
// -errno.
static int cache_page_for_read(struct page_cache_file *file, uint64_t index, uint32_t count,
                               struct cache_page **found)
{
    struct page_cache *cache = cache_of(file->disk);
    for (unsigned tries = 0; tries < CACHE_TRIES; tries++) {
        bool marked = false;
        struct cache_page *page = cache_page_look(file, index, NULL, &marked);
        if (page == NULL) {
            trace(TRACE_PAGE_CACHE_MISS, blk_trace_device(cache->disk), index);
            uint32_t max = READ_ONCE(cache->read_ahead);
            struct ra_window window = ra_on_miss(&file->ra, index, count, max);
            int failed = cache_fill(file, window, index + count, &page);
            if (page == NULL && failed != 0) {
                return failed;
            }
            if (page == NULL) {
                continue; // somebody was faster
            }
            cache_page_look(file, index, page, &marked);
        }
        if (marked) {
            cache_ask_for_more(file, index, count);
        }
        int error = cache_page_ready(file, page);
        if (error == 0) {
            *found = page;
            return 0;
        }
        cache_page_put(page);
        if (error != -EAGAIN) {
            return error;
        }
    }
    return -ENOMEM; // pages go as fast as others bring them
}

// ---- readers ------------------------------------------------------------------------------------

void page_cache_open(struct page_cache_file *file, struct gendisk *disk)
{
    const struct page_cache *cache = cache_of(disk);
    *file = (struct page_cache_file){.disk = disk, .ra.prev_index = UINT64_MAX};
    if (cache != NULL) {
        file->wb_err = errseq_sample(&cache->wb_err);
    }
}

// Of a disk that has gone nothing is given out any more, nor of a medium that was exchanged, though
// some of it may be here.
static int cache_check(const struct page_cache *cache)
{
    return READ_ONCE(cache->gone)                     ? -ENXIO
           : READ_ONCE(cache->disk->medium_lost) != 0 ? -ENOMEDIUM
                                                      : 0;
}

long page_cache_read(struct page_cache_file *file, uint64_t offset, void *to, size_t size)
{
    struct page_cache *cache = cache_of(file->disk);
    size_t done = 0;
    int error = 0;

    blk_clip(file->disk, offset, &size);
    if (cache == NULL) {
        return blk_read_bytes(file->disk, offset, to, size);
    }
    uint64_t at = file->disk->start * SECTOR_SIZE + offset;
    while (done < size && error == 0) {
        uint64_t index = at / PAGE_SIZE, last = (at + (size - done) - 1) / PAGE_SIZE;
        size_t skip = at % PAGE_SIZE, length = min((size_t)PAGE_SIZE - skip, size - done);
        struct cache_page *page = NULL;
        uint32_t count = (uint32_t)min(last - index + 1, (uint64_t)UINT32_MAX);
        error = cache_check(cache);
        if (error == 0) {
            error = cache_page_for_read(file, index, count, &page);
        }
        if (error == 0) {
            memcpy((uint8_t *)to + done, page->data + skip, length);
            cache_page_put(page);
            cache_count(&cache->stats.copied_to, length);
            file->ra.prev_index = index;
            at += length;
            done += length;
        }
    }
    return done != 0 || error == 0 ? (long)done : error;
}

// ---- writers ------------------------------------------------------------------------------------

// The page for a piece of a write, LOCKED: what the piece does not cover is up to date.
static int cache_page_for_write(struct page_cache_file *file, uint64_t index, bool whole,
                                struct cache_page **found)
{
    struct page_cache *cache = cache_of(file->disk);
    for (unsigned tries = 0; tries < CACHE_TRIES; tries++) {
        struct cache_page *page = cache_page_find(cache, index);
        int error = 0;
        if (page == NULL) {
            page = cache_page_new(cache, index);
            error = page == NULL ? -ENOMEM : cache_page_insert(page);
            if (error == 0 && whole) {
                *found = page;
                return 0;
            }
            if (error == 0) {
                error = cache_fill_alone(file, page);
            }
        }
        if (error == 0 && !whole) {
            error = cache_page_ready(file, page);
        }
        if (error == 0 && cache_page_lock(page)) {
            *found = page;
            return 0;
        }
        if (page != NULL) {
            cache_page_put(page);
        }
        if (error != 0 && error != -EAGAIN && error != -EEXIST) {
            return error;
        }
    }
    return -ENOMEM;
}

static int cache_write_piece(struct page_cache_file *file, uint64_t index, size_t skip,
                             const void *from, size_t length)
{
    struct page_cache *cache = cache_of(file->disk);
    struct cache_page *page = NULL;
    unsigned long flags;
    bool whole = skip == 0 && length == cache_page_bytes(cache, index);
    int error = cache_check(cache);
    if (error == 0) {
        error = cache_page_for_write(file, index, whole, &page);
    }
    if (error != 0) {
        return error;
    }
    memcpy(page->data + skip, from, length);
    cache_count(&cache->stats.copied_from, length);
    spin_lock_irqsave(&page_cache_lock, flags);
    error = wb_set_dirty_locked(page) ? 0 : -ENXIO;
    bool waited = cache_page_change_locked(page, PG_LOCKED | PG_ERROR, PG_UPTODATE);
    spin_unlock_irqrestore(&page_cache_lock, flags);
    if (waited) {
        wake_up_all(&cache->wait);
    }
    cache_page_put(page);
    return error;
}

long page_cache_write(struct page_cache_file *file, uint64_t offset, const void *from, size_t size)
{
    struct page_cache *cache = cache_of(file->disk);
    size_t wanted = size, done = 0;
    int error = 0;

    if (cache == NULL) {
        return blk_write_bytes(file->disk, offset, from, size);
    }
    blk_clip(file->disk, offset, &size);
    if (size == 0) {
        return wanted == 0 ? 0 : -ENOSPC;
    }
    if (file->disk->read_only) {
        return -EROFS;
    }
    uint64_t at = file->disk->start * SECTOR_SIZE + offset;
    while (done < size && error == 0) {
        size_t skip = at % PAGE_SIZE, length = min((size_t)PAGE_SIZE - skip, size - done);
        error = wb_throttle(cache);
        if (error == 0) {
            error =
                cache_write_piece(file, at / PAGE_SIZE, skip, (const uint8_t *)from + done, length);
        }
        if (error == 0) {
            at += length;
            done += length;
        }
    }
    return done != 0 || error == 0 ? (long)done : error;
}

void page_cache_stats(struct gendisk *disk, struct page_cache_stats *stats)
{
    const struct page_cache *cache = cache_of(disk);
    *stats = cache != NULL ? cache->stats : (struct page_cache_stats){0};
}
