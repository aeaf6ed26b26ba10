// The page cache's middle: a page's life, finding it, locking it, waiting for it.
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
// comes later finds it and waits. A fill of several pages that fails proves nothing about any one
// of them, so each reader that needs such a page has it read again alone, and that result is for
// all who waited for it: an error hits those who need the page, once each, and the sector is asked
// for once.
//
// A page that the device reads (WRITEBACK) is not changed: writers wait. The alternative, to write
// again later, is right as well, but the disk would see half of each version for a while, and the
// DMA checker is right to call that a bug.
//
// Everything shared is guarded by one spinlock for all disks, held for a few dozen instructions and
// with interrupts off, as memory may be asked back in any context (page_cache_lru.c). Copies are
// made without it: a reference keeps the page.
//
// Context: thread, where a line says nothing else. Next: page_cache_read.c, page_cache_write.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/panic.h>
#include <mm/page.h>
#include <mm/slab.h>

#include "page_cache_internal.h"

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
    INIT_LIST_HEAD(&cache->partitions);
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
        WARN_ON(cache->pages != 0 || !list_empty(&cache->partitions));
        kfree(cache->spare);
        kfree(cache);
    }
}

void page_cache_add_partition(struct gendisk *partition)
{
    struct page_cache *cache = cache_of(partition);
    unsigned long flags;
    if (cache != NULL) {
        spin_lock_irqsave(&page_cache_lock, flags);
        list_add_tail(&partition->cached, &cache->partitions);
        spin_unlock_irqrestore(&page_cache_lock, flags);
    }
}

void page_cache_del_partition(struct gendisk *partition)
{
    unsigned long flags;
    spin_lock_irqsave(&page_cache_lock, flags);
    list_del_init(&partition->cached);
    spin_unlock_irqrestore(&page_cache_lock, flags);
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

struct cache_page *cache_page_find_locked(struct page_cache *cache, uint64_t index)
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

int cache_page_insert(struct cache_page *page)
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

void page_cache_open(struct page_cache_file *file, struct gendisk *disk)
{
    *file = (struct page_cache_file){
        .disk = disk, .ra.prev_index = UINT64_MAX, .wb_err = errseq_sample(&disk->wb_err)};
}

// Of a disk that has gone nothing is given out any more, nor of a medium that was exchanged, though
// some of it may be here.
int cache_check(const struct page_cache *cache)
{
    return READ_ONCE(cache->gone)                     ? -ENXIO
           : READ_ONCE(cache->disk->medium_lost) != 0 ? -ENOMEDIUM
                                                      : 0;
}

void page_cache_stats(struct gendisk *disk, struct page_cache_stats *stats)
{
    const struct page_cache *cache = cache_of(disk);
    *stats = cache != NULL ? cache->stats : (struct page_cache_stats){0};
}
