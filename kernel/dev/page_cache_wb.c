// Write-back: how what was written to the cache reaches the disk, and when.
//
// A page becomes dirty when a writer has changed it. It is written
//
//   - by its disk's flusher, a delayed work, when the oldest dirty page is older than
//     dirty_expire_centisecs, or more than dirty_background_ratio of the memory is dirty;
//   - by fsync, sync, O_SYNC and direct transfers, which wait for it.
//
// Who dirties pages while more than dirty_ratio is dirty waits until it is less: the disk sets the
// pace then, not the memory.
//
//   dirty pages, by index:   3 4 5 6 . . . 12 13 . . 40      three requests: 3-6, 12-13, 40
//
// The pages of a request leave the tree of dirty ones under the lock (WRITEBACK), and are handed to
// the disk under a plug. At most CACHE_WRITES_MAX are under way. Each has a number, and fsync waits
// until none is left that is as old as its own last one: pages that others dirty meanwhile are not
// waited for, so it ends.
//
//   in flight   [ 17 ][ 18 ][ 20 ][ 21 ]      fsync submitted up to 20: done when 21 is the oldest
//
// A request that fails is taken apart: its pages are dirty once more, each to be written alone.
// What fails alone is lost; the wb_err of the disk, and of the partition on which the page lies,
// keeps that for each opener's next fsync (<lib/errseq.h>). An opener of sda1 is not told of
// sda2's.
//
// Memory may be short when this runs, as it is what memory waits for: its requests fall back on one
// that each disk keeps, and its work queue has a rescuer.
//
// Context: thread. Previous: page_cache_io.c. Next: page_cache_lru.c.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/text.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <mm/page.h>

#include "page_cache_internal.h"

enum { WB_THROTTLE_MS = 100, WB_OWN_SHARE = 8 };

static struct workqueue_struct *wb_queue; // I
struct wb_setting wb_setting = {.dirty_background_ratio = 10,
                                .dirty_ratio = 20,
                                .dirty_expire_centisecs = 3000,
                                .dirty_writeback_centisecs = 500};

static uint32_t wb_centisecs(const uint32_t *setting)
{
    return msecs_to_jiffies(READ_ONCE(*setting) * 10);
}

void wb_settings(uint32_t *background_pages, uint32_t *limit_pages)
{
    uint64_t usable = page_free_count() + page_count(NR_FILE_PAGES);
    *background_pages = (uint32_t)(usable * READ_ONCE(wb_setting.dirty_background_ratio) / 100);
    *limit_pages = (uint32_t)(usable * READ_ONCE(wb_setting.dirty_ratio) / 100);
}

// Without the lock, so a page that is on its way from dirty to written is counted twice rather than
// not at all: who moves it adds before he takes away, and here they are read the other way round.
static uint32_t wb_dirty_pages(void)
{
    uint64_t dirty = page_count(NR_FILE_DIRTY);
    barrier();
    return (uint32_t)(dirty + page_count(NR_WRITEBACK));
}

static uint32_t wb_own_pages(const struct page_cache *cache)
{
    uint32_t dirty = READ_ONCE(cache->dirty_pages);
    barrier();
    return dirty + READ_ONCE(cache->writeback_pages);
}

// ---- dirty --------------------------------------------------------------------------------------

bool wb_set_dirty_locked(struct cache_page *page)
{
    struct page_cache *cache = page->cache;
    if (cache->gone) {
        return false;
    }
    if (page->state & PG_DIRTY) {
        return true;
    }
    page->state |= PG_DIRTY;
    lru_del_locked(page);
    page_index_add(&cache->dirty, &page->dirty);
    page_count_add(NR_FILE_DIRTY, 1);
    if (cache->dirty_pages++ == 0) {
        cache->dirtied_when = jiffies;
        queue_delayed_work(wb_queue, &cache->flusher,
                           wb_centisecs(&wb_setting.dirty_writeback_centisecs));
    }
    return true;
}

void wb_clear_dirty_locked(struct cache_page *page)
{
    struct page_cache *cache = page->cache;
    page_index_del(&cache->dirty, &page->dirty);
    cache->dirty_pages--;
    cache->alone_pages -= (page->state & PG_ALONE) != 0;
    page->state &= ~(uint32_t)(PG_DIRTY | PG_ALONE);
    page_count_add(NR_FILE_DIRTY, -1);
}

uint64_t page_cache_dirty_bytes(struct gendisk *disk)
{
    might_sleep();
    const struct page_cache *cache = cache_of(disk);
    unsigned long flags;
    if (cache == NULL) {
        return 0;
    }
    spin_lock_irqsave(&page_cache_lock, flags); // or a page on its way would count twice
    uint64_t pages = (uint64_t)cache->dirty_pages + cache->writeback_pages;
    spin_unlock_irqrestore(&page_cache_lock, flags);
    return pages * PAGE_SIZE;
}

// ---- collecting ---------------------------------------------------------------------------------

// May the page stand in this request, behind what is there? Sets where to go on.
static bool wb_takes_locked(struct wb_pass *pass, const struct cache_io *io,
                            struct cache_page *page)
{
    bool alone = (page->state & PG_ALONE) != 0;
    if (io->count != 0 && (alone || !cache_io_takes(io, page->dirty.index))) {
        return false;
    }
    if (io->count != 0 && (io->alone || (page->state & PG_LOCKED))) {
        return false;
    }
    if (pass->alone_only && !alone) {
        pass->at = page->dirty.index + 1;
        return false;
    }
    return true;
}

// It is the device's from now on.
static void wb_move_locked(struct wb_pass *pass, struct cache_io *io, struct cache_page *page)
{
    io->alone = (page->state & PG_ALONE) != 0;
    pass->cache->writeback_pages++; // first this, then no longer dirty: see wb_dirty_pages()
    page_count_add(NR_WRITEBACK, 1);
    wb_clear_dirty_locked(page);
    page->state |= PG_WRITEBACK;
    cache_page_get(page);
    io->pages[io->count++] = page;
}

bool wb_collect_some_locked(struct wb_pass *pass, struct cache_io *io)
{
    struct page_node *node = page_index_from(&pass->cache->dirty, pass->at);
    for (unsigned looks = 0; node != NULL && node->index <= pass->last; looks++) {
        struct cache_page *page = container_of(node, struct cache_page, dirty);
        if (looks == WB_LOOKS) {
            return true;
        }
        node = page_index_next(node);
        if (!wb_takes_locked(pass, io, page)) {
            if (io->count != 0) {
                return true;
            }
            continue;
        }
        if ((page->state & PG_LOCKED) && pass->wait) {
            page->state |= PG_WAITED;
            pass->busy = page;
            cache_page_get(page);
            return false;
        }
        if ((page->state & PG_LOCKED) == 0) {
            wb_move_locked(pass, io, page);
        }
        pass->at = page->dirty.index + 1;
    }
    return false;
}

// Moves the next run of dirty pages into the request. False: there is no more, or a page to be
// waited for first. Many that may not be taken, as others have them or it is not their turn, are
// not passed over in one hold of the lock.
static bool wb_collect(struct wb_pass *pass, struct cache_io *io)
{
    struct page_cache *cache = pass->cache;
    unsigned long flags;
    bool more;
    do {
        spin_lock_irqsave(&page_cache_lock, flags);
        more = wb_collect_some_locked(pass, io);
        if (io->count != 0) {
            io->number = ++cache->write_number;
            list_add_tail(&io->link, &cache->writes);
            cache->writes_in_flight++;
            pass->pages += io->count;
        }
        spin_unlock_irqrestore(&page_cache_lock, flags);
    } while (more && io->count == 0);
    return io->count != 0;
}

// ---- waiting ------------------------------------------------------------------------------------

static uint32_t wb_left(const uint32_t *deadline)
{
    uint32_t left = *deadline - jiffies;
    return (int32_t)left > 0 ? left : 0;
}

// Sleeps until the condition holds or the deadline has passed. True: it holds.
#define wb_wait_for(cache, deadline, condition)                            \
    ((deadline) == NULL ? (io_wait_event(&(cache)->wait, condition), true) \
                        : wait_event_timeout(&(cache)->wait, condition, wb_left(deadline)) != 0)

static bool wb_has_room(struct page_cache *cache)
{
    return READ_ONCE(cache->writes_in_flight) < CACHE_WRITES_MAX;
}

static bool wb_has_spare(struct page_cache *cache)
{
    return READ_ONCE(cache->spare) != NULL;
}

// Is no request as old as this one under way?
static bool wb_is_behind(struct page_cache *cache, uint64_t number)
{
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    bool behind = list_empty(&cache->writes) ||
                  list_first_entry(&cache->writes, struct cache_io, link)->number > number;
    spin_unlock_irqrestore(&page_cache_lock, flags);
    return behind;
}

// wb_collect has set the bit; who unlocks the page takes it back and wakes us.
static bool wb_page_is_free(const struct cache_page *page)
{
    return (READ_ONCE(page->state) & PG_WAITED) == 0;
}

// ---- writing ------------------------------------------------------------------------------------

// A request, or the spare one; NULL: the deadline has passed before that was free.
static struct cache_io *wb_request(struct wb_pass *pass)
{
    struct page_cache *cache = pass->cache;
    struct cache_io *io = cache_io_alloc(cache, cache->disk, cache->io_pages);
    unsigned long flags;
    while (io == NULL) {
        if (!wb_wait_for(cache, pass->deadline, wb_has_spare(cache))) {
            return NULL;
        }
        spin_lock_irqsave(&page_cache_lock, flags);
        io = cache->spare;
        cache->spare = NULL;
        spin_unlock_irqrestore(&page_cache_lock, flags);
        if (io != NULL) {
            io->disk = cache->disk;
            io->count = 0;
            io->alone = false;
        }
    }
    return io;
}

// As many requests as may be under way, under one plug. False: nothing was found.
static bool wb_write_some(struct wb_pass *pass)
{
    struct blk_plug plug;
    uint32_t before = pass->pages;
    bool no_memory = false;
    blk_start_plug(&plug);
    while (wb_has_room(pass->cache) && pass->busy == NULL) {
        struct cache_io *io = cache_io_alloc(pass->cache, pass->cache->disk, pass->cache->io_pages);
        if (io == NULL) {
            no_memory = true; // the spare one is waited for, but not here: it may be in the plug
            break;
        }
        if (!wb_collect(pass, io)) {
            cache_io_free(io);
            break;
        }
        cache_io_write(io);
    }
    blk_finish_plug(&plug);
    if (no_memory && pass->pages == before) {
        struct cache_io *io = wb_request(pass);
        if (io != NULL && wb_collect(pass, io)) {
            cache_io_write(io);
        } else {
            cache_io_free(io);
        }
    }
    return pass->pages != before;
}

// 0; -ETIMEDOUT.
static int wb_write_pass(struct wb_pass *pass)
{
    struct page_cache *cache = pass->cache;
    bool in_time = true;
    for (;;) {
        bool more = wb_write_some(pass);
        if (pass->busy != NULL) {
            in_time = wb_wait_for(cache, pass->deadline, wb_page_is_free(pass->busy));
            cache_page_put(pass->busy);
            pass->busy = NULL;
            more = true;
        }
        if (!wb_has_room(cache)) {
            in_time = wb_wait_for(cache, pass->deadline, wb_has_room(cache));
            more = true;
        }
        if (!in_time || !more) {
            return in_time ? 0 : -ETIMEDOUT;
        }
    }
}

int wb_sync(struct page_cache *cache, uint64_t first, uint64_t last, const uint32_t *deadline)
{
    unsigned long flags;
    int error = 0;
    // In the second round what failed in company in the first, in ours or in the flusher's, is
    // written alone, and then that is its end. What fails after that was dirtied after we came.
    for (unsigned round = 0; error == 0 && round < 2; round++) {
        struct wb_pass pass = {.cache = cache,
                               .at = first,
                               .last = last,
                               .alone_only = round == 1,
                               .wait = true,
                               .deadline = deadline};
        error = wb_write_pass(&pass);
        spin_lock_irqsave(&page_cache_lock, flags);
        uint64_t number = cache->write_number; // what the flusher has under way is waited for too
        spin_unlock_irqrestore(&page_cache_lock, flags);
        if (error == 0 && !wb_wait_for(cache, deadline, wb_is_behind(cache, number))) {
            error = -ETIMEDOUT;
        }
        if (READ_ONCE(cache->alone_pages) == 0) {
            break;
        }
    }
    return error;
}

int page_cache_sync(struct gendisk *disk, unsigned timeout_ms)
{
    might_sleep();
    struct page_cache *cache = cache_of(disk);
    uint32_t deadline = jiffies + msecs_to_jiffies(timeout_ms);
    int error = 0;
    if (cache != NULL) {
        uint64_t lost = __atomic_load_n(&cache->stats.lost, __ATOMIC_RELAXED);
        error = wb_sync(cache, 0, CACHE_END, timeout_ms != 0 ? &deadline : NULL);
        if (error == 0 && __atomic_load_n(&cache->stats.lost, __ATOMIC_RELAXED) != lost) {
            error = -EIO; // and each opener is told by his own fsync
        }
    }
    int flush = error != -ETIMEDOUT && !disk->read_only ? blk_flush(disk) : 0;
    return error != 0 ? error : flush;
}

int page_cache_fsync_range(struct page_cache_file *file, uint64_t offset, uint64_t size)
{
    might_sleep();
    struct page_cache *cache = cache_of(file->disk);
    uint64_t start = file->disk->start * SECTOR_SIZE + offset;
    if (cache != NULL && size != 0) {
        wb_sync(cache, start / PAGE_SIZE, (start + size - 1) / PAGE_SIZE, NULL);
    }
    int flush = file->disk->read_only ? 0 : blk_flush(file->disk);
    int error = errseq_check_and_advance(&file->disk->wb_err, &file->wb_err);
    return error != 0 ? error : flush;
}

int page_cache_fsync(struct page_cache_file *file)
{
    might_sleep();
    return page_cache_fsync_range(file, 0, file->disk->capacity * SECTOR_SIZE);
}

// ---- the flusher --------------------------------------------------------------------------------

static void wb_flush(struct work_struct *work)
{
    struct page_cache *cache = container_of(work, struct page_cache, flusher.work);
    uint32_t background, limit;
    unsigned long flags;

    wb_settings(&background, &limit);
    bool now = __atomic_exchange_n(&cache->flush_now, false, __ATOMIC_RELAXED);
    bool old = jiffies - READ_ONCE(cache->dirtied_when) >=
               wb_centisecs(&wb_setting.dirty_expire_centisecs);
    if (now || old || wb_dirty_pages() > background) {
        struct wb_pass pass = {.cache = cache, .last = CACHE_END};
        WRITE_ONCE(cache->dirtied_when, jiffies);
        wb_write_pass(&pass);
    }
    spin_lock_irqsave(&page_cache_lock, flags);
    if (cache->dirty_pages != 0 && !cache->gone) {
        queue_delayed_work(wb_queue, &cache->flusher,
                           wb_centisecs(&wb_setting.dirty_writeback_centisecs));
    }
    spin_unlock_irqrestore(&page_cache_lock, flags);
}

void wb_kick(struct page_cache *cache)
{
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    if (!cache->gone) {
        WRITE_ONCE(cache->flush_now, true);
        mod_delayed_work(wb_queue, &cache->flusher, 0);
    }
    spin_unlock_irqrestore(&page_cache_lock, flags);
}

void wb_start(struct page_cache *cache)
{
    INIT_DELAYED_WORK(&cache->flusher, wb_flush);
}

void wb_stop(struct page_cache *cache)
{
    cancel_delayed_work_sync(&cache->flusher);
}

// A disk with little of its own to write is not made to wait for another's.
static bool wb_too_much(struct page_cache *cache)
{
    uint32_t background, limit;
    wb_settings(&background, &limit);
    return wb_dirty_pages() > limit && !READ_ONCE(cache->gone) &&
           wb_own_pages(cache) > limit / WB_OWN_SHARE;
}

int wb_throttle(struct page_cache *cache)
{
    uint32_t background, limit;
    wb_settings(&background, &limit);
    if (likely(wb_dirty_pages() <= background)) {
        return 0;
    }
    if (wb_has_room(cache)) {
        wb_kick(cache);
    }
    while (wb_too_much(cache)) {
        cache_count(&cache->stats.throttled, 1);
        if (wait_event_interruptible_timeout(&cache->wait, !wb_too_much(cache),
                                             msecs_to_jiffies(WB_THROTTLE_MS)) < 0) {
            return -EINTR;
        }
        wb_kick(cache);
    }
    return 0;
}

int wb_init(void)
{
    wb_queue = alloc_workqueue("writeback", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
    return wb_queue != NULL ? 0 : -ENOMEM;
}
