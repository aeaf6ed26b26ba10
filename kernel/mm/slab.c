// Small objects: caches of equal objects, carved from pages.
//
//   kmalloc(100) --> cache kmalloc-128
//                        |
//                        v
//                    this CPU's magazine: a stack of free objects, no lock        (almost always)
//                        | empty: take half a magazine      ^ full: give half back
//                        v                                  |
//                    slabs: blocks of pages, each with a map of its free objects (cache lock)
//                        |                                  ^
//                        v                                  |
//                    alloc_pages                        free_pages
//
// A magazine belongs to one CPU and is touched with interrupts off: that is the whole of its
// locking. The bookkeeping of a slab is not in the slab, so that a write after free or over the end
// cannot break the allocator, only the data.
//
// Sizes above 8 KiB are whole pages. Out of memory is NULL, never a panic.
//
// Context: any with GFP_ATOMIC. Interrupts are off for about thirty instructions on the fast way,
// for half a magazine on the slow one. Next: slab_pages.c (slabs), slab_mark.c (misuse),
// slab_cache.c (caches), slab_show.c (what is told of them).
#include <lib/string.h>
#include <core/panic.h>

#include "slab_internal.h"

struct slab_cpu *slab_cpus[MAX_CPUS];

// ---- magazines; interrupts are off --------------------------------------------------------------

// This CPU's magazine of a cache; NULL when the CPU has none yet.
static inline struct magazine *magazine_of(const struct kmem_cache *cache)
{
    struct slab_cpu *mine = this_cpu(slab_cpus);

    return likely(mine != NULL) ? &mine->magazine[cache->index] : NULL;
}

// The same; makes it if need be. NULL when there is no memory.
static struct magazine *magazine_get(const struct kmem_cache *cache)
{
    if (this_cpu(slab_cpus) == NULL) {
        this_cpu(slab_cpus) = alloc_pages(GFP_ATOMIC | GFP_ZERO, 1);
    }
    return magazine_of(cache);
}

// Fills the magazine half from slabs, making a new slab when there is none. False when there is no
// memory.
static __noinline bool magazine_fill(struct kmem_cache *cache, struct magazine *magazine)
{
    struct slab *slab = NULL;
    void *object;

    for (;;) {
        spin_lock(&cache->lock);
        if (slab != NULL) {
            list_add(&slab->link, &cache->empty);
            cache->slabs++;
            cache->empty_slabs++;
            cache->free_objects += cache->objects;
        }
        while (magazine->count < (cache->magazine_slots + 1u) / 2 &&
               (object = slab_take_locked(cache)) != NULL) {
            magazine->objects[magazine->count++] = object;
        }
        spin_unlock(&cache->lock);
        if (magazine->count > 0) {
            return true;
        }
        slab = slab_new(cache);
        if (slab == NULL) {
            return false;
        }
    }
}

__noinline void magazine_drain(struct kmem_cache *cache, struct magazine *magazine, uint64_t count)
{
    struct slab *spare;
    void *twice = NULL;

    spin_lock(&cache->lock);
    for (uint64_t i = 0; i < count; i++) {
        void *object = magazine->objects[i];

        if (!slab_give_locked(page_of(object)->owner, object)) {
            twice = object;
        }
    }
    magazine->count -= count;
    memmove(magazine->objects, magazine->objects + count, magazine->count * sizeof(void *));
    while ((spare = slab_spare_locked(cache, cache->empty_kept)) != NULL) {
        spin_unlock(&cache->lock);
        slab_delete(spare);
        spin_lock(&cache->lock);
    }
    spin_unlock(&cache->lock);
    if (unlikely(twice != NULL)) {
        slab_report_free(cache->name, twice, "was freed twice", NULL);
    }
}

// ---- the two ways in ----------------------------------------------------------------------------

// An object leaves: its poison must be whole, its marks go.
static inline void *slab_hand_out(struct kmem_cache *cache, void *object, size_t size,
                                  enum gfp flags)
{
    if (unlikely(!slab_poison_is_whole(cache, object))) {
        slab_report_write(cache, object);
    }
    slab_mark_used(cache, object);
    if (flags & GFP_ZERO) {
        memset(object, 0, size);
    }
    return object;
}

// The magazine is empty, or not there. Interrupts are off; `irq` is how they were.
static __noinline void *slab_alloc_slow(struct kmem_cache *cache, size_t size, enum gfp flags,
                                        unsigned long irq)
{
    void *object = NULL;

    for (;;) {
        struct magazine *magazine = magazine_get(cache);

        if (magazine != NULL && magazine_fill(cache, magazine)) {
            object = magazine->objects[--magazine->count];
        }
        local_irq_restore(irq);
        if (likely(object != NULL) || !page_reclaim_wait(flags)) {
            break;
        }
        irq = local_irq_save();
    }
    return object != NULL ? slab_hand_out(cache, object, size, flags) : NULL;
}

static inline void *slab_alloc(struct kmem_cache *cache, size_t size, enum gfp flags)
{
    gfp_check(flags, "kmalloc");
    if (fail_wanted()) {
        return NULL;
    }
    unsigned long irq = local_irq_save();
    struct magazine *magazine = magazine_of(cache);

    if (unlikely(magazine == NULL || magazine->count == 0)) {
        return slab_alloc_slow(cache, size, flags, irq);
    }
    void *object = magazine->objects[--magazine->count];
    local_irq_restore(irq);
    return slab_hand_out(cache, object, size, flags);
}

__noinline bool slab_is_free(struct slab *slab, const void *object)
{
    struct kmem_cache *cache = slab->cache;
    uint32_t at = slab_index(slab, object);

    spin_lock(&cache->lock);
    bool found = (slab->free_map[at / 64] & BIT64(at % 64)) != 0;
    spin_unlock(&cache->lock);
    for (unsigned cpu = 0; cpu < cpu_count && !found; cpu++) {
        const struct slab_cpu *theirs = READ_ONCE(slab_cpus[cpu]);

        for (uint64_t i = 0; theirs != NULL && i < MAGAZINE_SLOTS && !found; i++) {
            const struct magazine *magazine = &theirs->magazine[cache->index];

            found = i < READ_ONCE(magazine->count) && READ_ONCE(magazine->objects[i]) == object;
        }
    }
    return found;
}

// The magazine is full, or not there. Interrupts are off.
static __noinline void slab_free_slow(struct kmem_cache *cache, void *object)
{
    struct magazine *magazine = magazine_get(cache);

    if (magazine == NULL) { // no memory for magazines: straight to the slab
        struct magazine one = {.count = 1, .objects = {object}};

        magazine_drain(cache, &one, 1);
        return;
    }
    if (magazine->count == cache->magazine_slots) {
        magazine_drain(cache, magazine, (cache->magazine_slots + 1u) / 2);
    }
    magazine->objects[magazine->count++] = object;
}

static inline void slab_free(const struct page *page, void *object, const void *caller)
{
    struct slab *slab = page->owner;
    struct kmem_cache *cache = slab->cache;
    uint32_t offset = (uint32_t)((char *)object - slab->base); // a slab is less than 4 GiB

    // Buffers are kmalloc's: those of up to a page lie in one page.
    uint32_t page_count = likely(cache->size <= PAGE_SIZE) ? 1 : cache->size >> PAGE_SHIFT;
    if (page_refuse_free(page, page_count, object, cache->size, caller)) {
        return;
    }
    if (unlikely(offset % cache->size != 0 || offset / cache->size >= cache->objects)) {
        slab_report_free(cache->name, object, "is not the start of an object", caller);
        return;
    }
    unsigned long irq = local_irq_save();
    if (unlikely((*(uint64_t *)object == POISON_FREE_WORD ||
                  slab_is_text(*slab_last_word(cache, object))) &&
                 slab_is_free(slab, object))) {
        local_irq_restore(irq);
        slab_report_free(cache->name, object, "is free already", caller);
        return;
    }
    slab_mark_free(cache, object, caller);
    struct magazine *magazine = magazine_of(cache);
    if (unlikely(magazine == NULL || magazine->count == cache->magazine_slots)) {
        slab_free_slow(cache, object);
    } else {
        magazine->objects[magazine->count++] = object;
    }
    local_irq_restore(irq);
}

// ---- objects of a cache -------------------------------------------------------------------------

void *kmem_cache_alloc(struct kmem_cache *cache, enum gfp flags)
{
    return slab_alloc(cache, cache->object_size, flags);
}

void kmem_cache_free(struct kmem_cache *cache, void *object)
{
    const void *caller = __builtin_return_address(0);
    struct page *page = page_of(object);

    if (object == NULL) {
        return;
    }
    if (unlikely(page == NULL || page->kind != PAGE_SLAB)) {
        slab_report_free(cache->name, object, "is no object of a slab", caller);
        return;
    }
    struct slab *slab = page->owner;
    if (unlikely(slab->cache != cache)) {
        slab_report_free(cache->name, object, "belongs to another cache", caller);
        return;
    }
    slab_free(page, object, caller);
}

// ---- kmalloc ------------------------------------------------------------------------------------

void *kmalloc(size_t size, enum gfp flags)
{
    // Above 8 KiB, and for a device that reaches 4 GiB only, whole pages.
    if (unlikely(size > 1u << KMALLOC_MAX_SHIFT || (flags & GFP_DMA32))) {
        return size > (size_t)PAGE_SIZE << PAGE_MAX_ORDER ? NULL
                                                          : alloc_pages(flags, page_order(size));
    }
    if (unlikely(size == 0)) {
        return NULL;
    }
    // The number of bits that size - 1 has says which power of two holds it.
    unsigned shift = size <= 1u << KMALLOC_MIN_SHIFT
                         ? 0
                         : 64 - (unsigned)__builtin_clzll(size - 1) - KMALLOC_MIN_SHIFT;
    return slab_alloc(&slab_boot_caches[shift], size, flags);
}

void *kzalloc(size_t size, enum gfp flags)
{
    return kmalloc(size, flags | GFP_ZERO);
}

void *kcalloc(size_t count, size_t size, enum gfp flags)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes)) {
        return NULL;
    }
    return kmalloc(bytes, flags | GFP_ZERO);
}

void (*slab_free_hook)(const void *object, size_t size);

void kfree(const void *pointer)
{
    struct page *page = page_of(pointer);
    void *object = (void *)(uintptr_t)pointer;
    void (*hook)(const void *object, size_t size) = READ_ONCE(slab_free_hook);

    if (unlikely(hook != NULL) && pointer != NULL) {
        hook(pointer, ksize(pointer));
    }
    if (likely(page != NULL && page->kind == PAGE_SLAB)) {
        slab_free(page, object, __builtin_return_address(0));
        return;
    }
    if (pointer == NULL) {
        return;
    }
    if (page == NULL || page->kind != PAGE_USED || !IS_ALIGNED((uintptr_t)pointer, PAGE_SIZE)) {
        slab_report_free("kfree", pointer, "was not allocated, or is free already",
                         __builtin_return_address(0));
        return;
    }
    page_free(object, page->order, __builtin_return_address(0));
}

size_t ksize(const void *pointer)
{
    const struct page *page = pointer == NULL ? NULL : page_of(pointer);

    if (page == NULL || (page->kind != PAGE_SLAB && page->kind != PAGE_USED)) {
        return 0;
    }
    if (page->kind == PAGE_USED) {
        return (size_t)PAGE_SIZE << page->order;
    }
    return ((const struct slab *)page->owner)->cache->size;
}
