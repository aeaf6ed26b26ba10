// Writers of the page cache: what they write is copied into pages, which are dirty from then on.
//
// A page that is written whole need not be read first. Of one that is written in part the rest must
// be there. It is LOCKED while it is changed: one writer at a time, so that two that write parts of
// a page both have their way; readers are not kept out, as nobody promises them whole writes.
//
// Context: thread. Previous: page_cache_read.c. Next: page_cache_wb.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <mm/page.h>

#include "page_cache_internal.h"

// The page for a piece of a write, LOCKED: what the piece does not cover is up to date.
static int cache_page_for_write(struct page_cache_file *file, uint64_t index, bool whole,
                                struct cache_page **found)
{
    struct page_cache *cache = cache_of(file->disk);
    for (unsigned tries = 0; tries < CACHE_TRIES; tries++) {
        struct cache_page *page = cache_page_find(cache, index);
        int error = 0;
        if (page == NULL) {
            lru_make_room(1);
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
    police_might_sleep();
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
