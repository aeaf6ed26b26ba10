// Pages that leave the cache: because memory is wanted, because a transfer went past it, because
// the disk has gone.
//
// All clean pages that nobody changes are in one list, the newest first; the oldest goes first. One
// that was read twice is spared once (a second chance), so a disk that is read from end to end does
// not push out what is read again and again.
//
//   newest [ p ][ q* ][ r ] ... [ x* ][ y ] oldest      *: referenced
//                                  │    └─ given back
//                                  └─ loses its star, becomes the newest
//
// The page allocator asks when it finds nothing, in whatever context somebody allocates: an
// interrupt handler too. So the list is under the cache's spinlock with interrupts off, and nothing
// here sleeps, but for one case: a thread that may wait has the flushers write what is dirty, and
// waits for that, a second at most.
//
// Context: as each line says. Previous: page_cache_wb.c. Next: page_cache_proc.c.
#include <lib/errno.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <mm/page.h>
#include <sched/thread.h>

#include "page_cache_internal.h"

enum { LRU_WAIT_MS = 50, LRU_WAITS = 20, LRU_RESERVE_SHARE = 64, LRU_RESERVE_MAX = 1024 };

static LIST_HEAD(lru);                       // L
static uint32_t lru_count;                   // L
static uint64_t lru_reserve;                 // I: free pages that the cache leaves alone
static DECLARE_WAIT_QUEUE_HEAD(lru_waiters); // of memory, for pages that become clean

// ---- the list -----------------------------------------------------------------------------------

void lru_add_locked(struct cache_page *page)
{
    if ((page->state & (PG_LOCKED | PG_DIRTY | PG_WRITEBACK | PG_GONE)) == 0 &&
        list_empty(&page->lru)) {
        list_add(&page->lru, &lru);
        lru_count++;
    }
}

void lru_del_locked(struct cache_page *page)
{
    if (!list_empty(&page->lru)) {
        list_del_init(&page->lru);
        lru_count--;
    }
}

// Takes a page out of its disk's index. Its reference is the caller's to put.
static void cache_page_remove_locked(struct cache_page *page)
{
    struct page_cache *cache = page->cache;
    lru_del_locked(page);
    page_index_del(&cache->index, &page->node);
    cache->pages--;
    page->state |= PG_GONE;
    page_count_add(NR_FILE_PAGES, -1);
}

// ---- memory is wanted ---------------------------------------------------------------------------

// One hold of the lock: looks at the oldest few, and puts what may go on the list.
static unsigned lru_isolate(struct list_head *list, unsigned most, uint32_t *left)
{
    unsigned count = 0;
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    for (unsigned looks = 2 * most; looks != 0 && count < most && !list_empty(&lru); looks--) {
        struct cache_page *page = list_entry(lru.prev, struct cache_page, lru);
        *left -= *left != 0;
        if ((page->state & PG_REFERENCED) || READ_ONCE(page->references) != 1) {
            page->state &= ~(uint32_t)PG_REFERENCED;
            list_del(&page->lru);
            list_add(&page->lru, &lru);
            continue;
        }
        cache_page_remove_locked(page);
        cache_count(&page->cache->stats.evicted, 1);
        list_add(&page->lru, list);
        count++;
    }
    *left = list_empty(&lru) ? 0 : *left;
    spin_unlock_irqrestore(&page_cache_lock, flags);
    return count;
}

unsigned long page_cache_shrink(unsigned long pages)
{
    unsigned long freed = 0;
    uint32_t left = 2 * READ_ONCE(lru_count); // each page may have been referenced
    while (freed < pages && left != 0) {
        LIST_HEAD(list);
        unsigned most = (unsigned)min(pages - freed, (unsigned long)CACHE_SHRINK_BATCH);
        freed += lru_isolate(&list, most, &left);
        while (!list_empty(&list)) {
            struct cache_page *page = list_first_entry(&list, struct cache_page, lru);
            list_del_init(&page->lru);
            cache_page_put(page);
        }
    }
    return freed;
}

static void lru_kick_all(void)
{
    for (struct gendisk *disk = blk_next(NULL); disk != NULL; disk = blk_next(disk)) {
        if (disk->whole == NULL && page_cache_dirty_bytes(disk) != 0) {
            wb_kick(disk->cache);
        }
    }
}

// For the page allocator. Context: any; thread when it may wait.
static unsigned long lru_reclaim(unsigned long pages, bool may_wait)
{
    unsigned long freed = page_cache_shrink(pages);
    for (unsigned i = 0; freed == 0 && may_wait && i < LRU_WAITS; i++) {
        if (page_count(NR_FILE_DIRTY) + page_count(NR_WRITEBACK) == 0) {
            freed = page_cache_shrink(pages); // what became clean since
            break;
        }
        lru_kick_all();
        wait_event_timeout(&lru_waiters, READ_ONCE(lru_count) != 0, msecs_to_jiffies(LRU_WAIT_MS));
        freed = page_cache_shrink(pages);
    }
    return freed;
}

void lru_wake(void)
{
    if (waitqueue_active(&lru_waiters)) { // who comes just now looks again soon
        wake_up_all(&lru_waiters);
    }
}

void lru_make_room(uint32_t pages)
{
    if (page_free_count() < lru_reserve) {
        page_cache_shrink(max(pages, (uint32_t)CACHE_SHRINK_BATCH));
    }
}

void lru_init(void)
{
    struct page_stats stats;
    page_stats(&stats);
    lru_reserve = min(stats.total_bytes / PAGE_SIZE / LRU_RESERVE_SHARE, (uint64_t)LRU_RESERVE_MAX);
    page_reclaim = lru_reclaim;
}

// ---- transfers past the cache -------------------------------------------------------------------

// The first page at or behind `index` that is there, with a reference; NULL.
static struct cache_page *cache_page_from(struct page_cache *cache, uint64_t index)
{
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    struct page_node *node = page_index_from(&cache->index, index);
    struct cache_page *page = node != NULL ? page_of_node(node) : NULL;
    if (page != NULL) {
        cache_page_get(page);
    }
    spin_unlock_irqrestore(&page_cache_lock, flags);
    return page;
}

// A page that the caller has LOCKED and a reference of leaves; a dirty one only when what was
// written is lost anyway. Both the lock and the reference are given back.
static void cache_page_drop(struct cache_page *page, bool with_dirty)
{
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    bool was_dirty = (page->state & PG_DIRTY) != 0, goes = !was_dirty || with_dirty;
    if (was_dirty && goes) {
        wb_clear_dirty_locked(page);
        cache_page_note_loss_locked(page, -EIO);
    }
    if (goes) {
        cache_page_remove_locked(page);
    }
    bool waited = cache_page_change_locked(page, PG_LOCKED, 0);
    spin_unlock_irqrestore(&page_cache_lock, flags);
    if (waited) {
        wake_up_all(&page->cache->wait);
    }
    if (goes) {
        cache_page_put(page); // the index's
    }
    cache_page_put(page);
}

int page_cache_before_direct(struct gendisk *disk, uint64_t sector, uint32_t sectors)
{
    uint64_t first = (disk->start + sector) / (PAGE_SIZE / SECTOR_SIZE);
    uint64_t last = (disk->start + sector + sectors - 1) / (PAGE_SIZE / SECTOR_SIZE);
    if (sectors == 0 || page_cache_dirty_bytes(disk) == 0) {
        return 0;
    }
    struct page_cache *cache = cache_of(disk);
    uint64_t lost = __atomic_load_n(&cache->stats.lost, __ATOMIC_RELAXED);
    wb_sync(cache, first, last, NULL);
    return __atomic_load_n(&cache->stats.lost, __ATOMIC_RELAXED) == lost ? 0 : -EIO;
}

// Pages first .. last leave, when they are neither read nor written any more. One that is dirty
// stays: who writes both ways at once gets one of the two.
static void cache_drop_clean(struct page_cache *cache, uint64_t first, uint64_t last)
{
    for (uint64_t index = first; index <= last;) {
        struct cache_page *page = cache_page_from(cache, index);
        if (page == NULL) {
            return;
        }
        index = page->node.index + 1;
        if (page->node.index <= last && cache_page_lock(page)) {
            cache_page_drop(page, false);
        } else {
            cache_page_put(page);
        }
    }
}

void page_cache_after_direct_write(struct gendisk *disk, uint64_t sector, uint32_t sectors)
{
    uint64_t first = (disk->start + sector) / (PAGE_SIZE / SECTOR_SIZE);
    uint64_t last = (disk->start + sector + sectors - 1) / (PAGE_SIZE / SECTOR_SIZE);
    if (sectors != 0) {
        cache_drop_clean(cache_of(disk), first, last);
    }
}

void page_cache_forget(struct gendisk *disk)
{
    might_sleep();
    if (cache_of(disk) != NULL) {
        cache_drop_clean(cache_of(disk), 0, CACHE_END - 1);
    }
}

// ---- the disk has gone --------------------------------------------------------------------------

void page_cache_leave(struct gendisk *whole)
{
    struct page_cache *cache = whole->cache;
    struct cache_page *page;
    unsigned long flags;
    if (cache == NULL) {
        return;
    }
    spin_lock_irqsave(&page_cache_lock, flags);
    cache->gone = true;
    spin_unlock_irqrestore(&page_cache_lock, flags);
    wb_stop(cache);
    while ((page = cache_page_from(cache, 0)) != NULL) {
        if (cache_page_lock(page)) {
            cache_page_drop(page, true);
        } else {
            cache_page_put(page);
        }
    }
    uint64_t all = __atomic_load_n(&cache->stats.lost, __ATOMIC_RELAXED);
    if (all != 0) {
        pr_err("%s: gone with %llu KiB in the page cache that were never written", whole->name,
               (unsigned long long)all * (PAGE_SIZE / 1024));
    }
    wake_up_all(&cache->wait);
}
