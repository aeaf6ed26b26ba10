// Caches: made, numbered, emptied, taken down. A cache is objects of one size; its number names its
// place among each CPU's magazines.
//
// kmalloc's, one for each power of two, and that of the slabs themselves are there from the start.
//
// Context: thread; slab_init: boot. Previous: slab_mark.c. Next: slab_show.c.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <core/log.h>
#include <core/panic.h>

#include "slab_internal.h"

struct kmem_cache slab_boot_caches[KMALLOC_CACHES + 1];
struct kmem_cache *slab_caches[SLAB_CACHES];
DEFINE_SPINLOCK(slab_caches_lock);
static enum { SLAB_DEBUG_OFF, SLAB_DEBUG_QUICK, SLAB_DEBUG_ON } slab_debug = SLAB_DEBUG_QUICK; // I

static void cache_init(struct kmem_cache *cache, const char *name, size_t size, size_t align)
{
    *cache = (struct kmem_cache){.object_size = (uint32_t)size};
    strscpy(cache->name, name, sizeof(cache->name));
    spin_lock_init(&cache->lock, "slab cache");
    INIT_LIST_HEAD(&cache->partial);
    INIT_LIST_HEAD(&cache->full);
    INIT_LIST_HEAD(&cache->empty);
    cache->size =
        (uint32_t)ALIGN_UP(max(size, (size_t)1 << KMALLOC_MIN_SHIFT), max(align, (size_t)8));
    while (((size_t)PAGE_SIZE << cache->order) / cache->size < SLAB_MIN_OBJECTS &&
           cache->order < SLAB_MAX_ORDER) {
        cache->order++;
    }
    cache->objects =
        min((uint32_t)(((size_t)PAGE_SIZE << cache->order) / cache->size), (uint32_t)SLAB_OBJECTS);
    cache->magazine_slots =
        (uint16_t)min((uint32_t)MAGAZINE_SLOTS, (uint32_t)MAGAZINE_BYTES / cache->size);
    cache->empty_kept = (uint16_t)(SLAB_EMPTY_BYTES / (PAGE_SIZE << cache->order));
    // The last word is the mark of who freed it.
    uint32_t words = cache->size / 8 - 1;
    cache->poison_words = slab_debug == SLAB_DEBUG_ON    ? words
                          : slab_debug == SLAB_DEBUG_OFF ? 0
                                                         : min(words, (uint32_t)POISON_WORDS);
}

// Gives the cache a number. False when there are too many.
static bool cache_register(struct kmem_cache *cache)
{
    unsigned long irq;
    unsigned i = 0;

    spin_lock_irqsave(&slab_caches_lock, irq);
    while (i < SLAB_CACHES && slab_caches[i] != NULL) {
        i++;
    }
    if (i < SLAB_CACHES) {
        cache->index = (uint16_t)i;
        slab_caches[i] = cache;
    }
    spin_unlock_irqrestore(&slab_caches_lock, irq);
    return i < SLAB_CACHES;
}

struct kmem_cache *kmem_cache_create(const char *name, size_t size, size_t align)
{
    might_sleep();
    if (size == 0 || size > 1u << KMALLOC_MAX_SHIFT || align > PAGE_SIZE ||
        (align != 0 && !IS_POWER_OF_2(align))) {
        pr_err("kmem_cache_create(%s): size %zu, alignment %zu: out of range", name, size, align);
        return NULL;
    }
    struct kmem_cache *cache = kmalloc(sizeof(*cache), GFP_KERNEL);
    if (cache == NULL) {
        return NULL;
    }
    cache_init(cache, name, size, align);
    if (!cache_register(cache)) {
        pr_err("kmem_cache_create(%s): all %d caches are taken", name, SLAB_CACHES);
        kfree(cache);
        return NULL;
    }
    return cache;
}

// Nobody uses the cache any more, so other CPUs leave their magazines of it alone.
static void cache_drain(struct kmem_cache *cache)
{
    unsigned long irq = local_irq_save();

    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        if (slab_cpus[cpu] != NULL) {
            struct magazine *magazine = &slab_cpus[cpu]->magazine[cache->index];

            magazine_drain(cache, magazine, magazine->count);
        }
    }
    spin_lock(&cache->lock);
    struct slab *spare;
    while ((spare = slab_spare_locked(cache, 0)) != NULL) {
        spin_unlock(&cache->lock);
        slab_delete(spare);
        spin_lock(&cache->lock);
    }
    spin_unlock(&cache->lock);
    local_irq_restore(irq);
}

void kmem_cache_destroy(struct kmem_cache *cache)
{
    unsigned long irq;

    might_sleep();
    if (cache == NULL) {
        return;
    }
    cache_drain(cache);
    if (cache->slabs != 0) {
        uint64_t in_use = (uint64_t)cache->slabs * cache->objects - cache->free_objects;

        pr_err("BUG: kmem_cache_destroy(%s): %llu objects are still in use; the cache stays",
               cache->name, (unsigned long long)in_use);
        warn_at(__FILE__, __LINE__, "a cache is destroyed that is in use");
        return;
    }
    spin_lock_irqsave(&slab_caches_lock, irq);
    slab_caches[cache->index] = NULL;
    spin_unlock_irqrestore(&slab_caches_lock, irq);
    kfree(cache);
}

void slab_init(void)
{
    for (unsigned i = 0; i < KMALLOC_CACHES; i++) {
        char name[32];
        size_t size = (size_t)1 << (KMALLOC_MIN_SHIFT + i);

        snprintf(name, sizeof(name), size < 1024 ? "kmalloc-%zu" : "kmalloc-%zuk",
                 size < 1024 ? size : size >> 10);
        cache_init(&slab_boot_caches[i], name, size, size);
        cache_register(&slab_boot_caches[i]);
    }
    cache_init(slab_meta_cache, "slab", sizeof(struct slab), 0);
    slab_meta_cache->meta = true;
    slab_meta_cache->objects--; // the first place is the slab's own
    cache_register(slab_meta_cache);
}

static int slab_set_debug(const char *value)
{
    if (strcmp(value, "on") == 0) {
        slab_debug = SLAB_DEBUG_ON;
    } else if (strcmp(value, "off") == 0) {
        slab_debug = SLAB_DEBUG_OFF;
    } else {
        return -EINVAL;
    }
    return 0;
}
BOOT_OPTION(
    "slab_debug", slab_set_debug,
    "slab_debug=on|off: poison freed memory as a whole, or not at all (else: its first 64 bytes)");
