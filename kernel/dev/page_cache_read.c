// Readers of the page cache: what is not there is read, in few requests and ahead of them, and then
// copied.
//
//   page_cache_read ── for each page ──> there? ── and up to date ──────────────> copied
//                                         │  └─ on its way: waited for ──────────────^
//                                         │  └─ failed with others: read alone ──────^
//                                         └─ not there: a window is read, and waited for
//
// Read-ahead (page_cache_ra.c) says which pages to read besides. Those that come to a marked page
// ask for the next window, and do not wait for it.
//
// Context: thread. Previous: page_cache.c. Next: page_cache_ra.c, page_cache_io.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/trace.h>
#include <mm/page.h>
#include <sched/thread.h>

#include "page_cache_internal.h"
#include "page_cache_ra.h"

// ---- filling ------------------------------------------------------------------------------------

// What of a window has to be read, and for whom.
struct cache_fill {
    struct page_cache_file *file;
    struct page_cache *cache;
    struct ra_window window;
    uint64_t wanted;          // pages from this one on are read ahead
    struct cache_page *first; // the window's first page, with a reference, if it is brought
};

// The next page in [index, end) that is not there, and where those that are not there end.
static uint64_t cache_missing(struct page_cache *cache, uint64_t index, uint64_t end,
                              uint64_t *stop)
{
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    struct page_node *node = page_index_from(&cache->index, index);
    for (; node != NULL && node->index == index && index < end; index++) {
        node = page_index_next(node);
    }
    *stop = node != NULL ? min(node->index, end) : end;
    spin_unlock_irqrestore(&page_cache_lock, flags);
    return index;
}

// A page of its own for this index, in the cache and in the request. 0; -EEXIST: somebody was
// faster; -ENOMEM, -ENXIO.
static int cache_fill_page(struct cache_fill *fill, uint64_t index, struct cache_io *io)
{
    struct page_cache *cache = fill->cache;
    bool ahead = index >= fill->wanted;
    struct cache_page *page = cache_page_new(cache, index);
    if (page == NULL) {
        return -ENOMEM;
    }
    page->state |= (ahead ? PG_AHEAD : PG_WANTED) | (index == fill->window.marker ? PG_MARKER : 0);
    int error = cache_page_insert(page);
    if (error != 0) {
        cache_page_put(page);
        return error;
    }
    if (index == fill->window.start) {
        cache_page_get(page);
        fill->first = page;
    }
    io->pages[io->count++] = page;
    cache_count(ahead ? &cache->stats.ahead : &cache->stats.misses, 1);
    return 0;
}

// One request for pages [index, stop), as far as they fit and there is memory. 0, or what stopped
// it. *index: where to go on.
static int cache_fill_request(struct cache_fill *fill, uint64_t *index, uint64_t stop)
{
    uint32_t room = (uint32_t)min(stop - *index, (uint64_t)fill->cache->io_pages);
    struct cache_io *io = cache_io_alloc(fill->cache, fill->file->disk, room);
    int error = io == NULL ? -ENOMEM : 0;
    lru_make_room(room);
    while (error == 0 && io->count < room) {
        error = cache_fill_page(fill, *index, io);
        *index += error == 0 || error == -EEXIST;
    }
    if (io != NULL && io->count != 0) {
        cache_io_read(io);
    } else {
        cache_io_free(io);
    }
    return error == -EEXIST ? 0 : error;
}

// The pages of a window that are not there yet, each as far as there is memory, in requests that
// the plug makes one of where the disk can. 0, or what stopped it.
static int cache_fill(struct cache_fill *fill)
{
    const struct gendisk *disk = fill->file->disk;
    uint64_t end = DIV_ROUND_UP((disk->start + disk->capacity) * SECTOR_SIZE, PAGE_SIZE);
    uint64_t index = fill->window.start, stop;
    struct blk_plug plug;
    int error = 0;

    end = min(end, fill->window.start + fill->window.size);
    blk_start_plug(&plug);
    while (error == 0 && (index = cache_missing(fill->cache, index, end, &stop)) < end) {
        while (error == 0 && index < stop) {
            error = cache_fill_request(fill, &index, stop);
        }
    }
    blk_finish_plug(&plug);
    return error;
}

int cache_fill_alone(struct page_cache_file *file, struct cache_page *page)
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

int cache_page_ready(struct page_cache_file *file, struct cache_page *page)
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
    struct cache_fill fill = {
        .file = file, .cache = cache, .window = ra_on_marker(&file->ra, index, count, hole, max)};
    cache_fill(&fill);
    if (fill.first != NULL) {
        cache_page_put(fill.first);
    }
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
            struct cache_fill fill = {.file = file,
                                      .cache = cache,
                                      .window = ra_on_miss(&file->ra, index, count, max),
                                      .wanted = index + count};
            int failed = cache_fill(&fill);
            page = fill.first;
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

long page_cache_read(struct page_cache_file *file, uint64_t offset, void *to, size_t size)
{
    police_might_sleep();
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
