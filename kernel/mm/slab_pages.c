// Slabs: blocks of pages cut into equal objects, each with a map of those that are free.
//
//   block   [ object | object | object | ... ]       struct slab: free_map 1 0 1 ...
//             free     in use   free                 (a bit is set: here, not in a magazine)
//
// A cache has three lists of them: full, partial, empty. Objects are taken from a partial one
// first, so that empty ones stay empty and may go. Each page of a slab names it (struct page), by
// which kfree finds the way back. The bookkeeping is an object of a cache of its own, whose slabs
// carry theirs at their start.
//
// Context: any; the cache's lock, interrupts off. Previous: slab.c. Next: slab_mark.c.
#include <lib/string.h>

#include "slab_internal.h"

uint64_t slab_page_bytes;

// ---- objects; the lock is held ------------------------------------------------------------------

static void slab_move_locked(struct slab *slab)
{
    struct kmem_cache *cache = slab->cache;

    list_del(&slab->link);
    if (slab->free == 0) {
        list_add(&slab->link, &cache->full);
    } else if (slab->free < cache->objects) {
        list_add(&slab->link, &cache->partial);
    } else {
        list_add(&slab->link, &cache->empty);
    }
}

uint32_t slab_index(const struct slab *slab, const void *object)
{
    return (uint32_t)((const char *)object - slab->base) / slab->cache->size;
}

void *slab_take_locked(struct kmem_cache *cache)
{
    struct list_head *from = list_empty(&cache->partial) ? &cache->empty : &cache->partial;
    struct slab *slab = list_first_entry_or_null(from, struct slab, link);

    if (slab == NULL) {
        return NULL;
    }
    unsigned group = 0;
    while (slab->free_map[group] == 0) {
        group++;
    }
    unsigned bit = (unsigned)__builtin_ctzll(slab->free_map[group]);
    bool was_empty = slab->free == cache->objects;
    slab->free_map[group] &= ~BIT64(bit);
    slab->free--;
    cache->free_objects--;
    cache->empty_slabs -= was_empty;
    if (was_empty || slab->free == 0) {
        slab_move_locked(slab);
    }
    return slab->base + (size_t)(group * 64 + bit) * cache->size;
}

bool slab_give_locked(struct slab *slab, void *object)
{
    struct kmem_cache *cache = slab->cache;
    uint32_t i = slab_index(slab, object);

    if (slab->free_map[i / 64] & BIT64(i % 64)) {
        return false;
    }
    slab->free_map[i / 64] |= BIT64(i % 64);
    slab->free++;
    cache->free_objects++;
    if (slab->free == 1 || slab->free == cache->objects) {
        cache->empty_slabs += slab->free == cache->objects;
        slab_move_locked(slab);
    }
    return true;
}

struct slab *slab_spare_locked(struct kmem_cache *cache, uint32_t keep)
{
    if (cache->empty_slabs <= keep) {
        return NULL;
    }
    struct slab *slab = list_first_entry(&cache->empty, struct slab, link);
    list_del(&slab->link);
    cache->empty_slabs--;
    cache->slabs--;
    cache->free_objects -= cache->objects;
    return slab;
}

// ---- from pages and back ------------------------------------------------------------------------

static void slab_mark_pages(struct slab *slab, void *block, enum page_kind kind)
{
    struct page *page = page_of(block);

    for (uint32_t i = 0; i < 1u << slab->cache->order; i++) {
        page[i].kind = (uint8_t)(i > 0 && kind == PAGE_USED ? PAGE_INSIDE : kind);
        page[i].owner = kind == PAGE_SLAB ? slab : NULL;
    }
}

struct slab *slab_new(struct kmem_cache *cache)
{
    char *block = alloc_pages(GFP_ATOMIC, cache->order);

    if (block == NULL) {
        return NULL;
    }
    // The slab that holds struct slabs has its own at its start.
    struct slab *slab =
        cache->meta ? (struct slab *)block : kmem_cache_alloc(slab_meta_cache, GFP_ATOMIC);
    if (slab == NULL) {
        free_pages(block, cache->order);
        return NULL;
    }
    // Written over as a whole, once: nothing of what lay in these pages shows, and QEMU forgets
    // code that it saw run in them (map_stack tells why that matters). The slab of slabs has its
    // own slab to lose.
    if (!cache->meta) {
        memset(block, POISON_FREE, (size_t)PAGE_SIZE << cache->order);
    }
    *slab = (struct slab){.cache = cache, .base = block + (cache->meta ? cache->size : 0)};
    slab->free = cache->objects;
    for (uint32_t i = 0; i < cache->objects; i++) {
        slab->free_map[i / 64] |= BIT64(i % 64);
        slab_mark_free(cache, slab->base + (size_t)i * cache->size, NULL);
    }
    slab_mark_pages(slab, block, PAGE_SLAB);
    __atomic_fetch_add(&slab_page_bytes, (uint64_t)PAGE_SIZE << cache->order, __ATOMIC_RELAXED);
    return slab;
}

void slab_delete(struct slab *slab)
{
    struct kmem_cache *cache = slab->cache;
    void *block = slab->base - (cache->meta ? cache->size : 0);

    slab_mark_pages(slab, block, PAGE_USED);
    if (!cache->meta) {
        kmem_cache_free(slab_meta_cache, slab);
    }
    __atomic_fetch_sub(&slab_page_bytes, (uint64_t)PAGE_SIZE << cache->order, __ATOMIC_RELAXED);
    free_pages(block, cache->order);
}
