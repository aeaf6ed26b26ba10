// Looking at small objects: whether one is free, how much memory they have, whether everything is
// whole, and /proc/slabinfo, as Linux's slabinfo(5) has it.
//
// Context: any, under the lock of the list of caches or of a cache; slab_selfcheck, /proc: thread.
// Previous: slab_cache.c.
#include <lib/text.h>
#include <contract/proc_file.h>
#include <core/log.h>

#include "slab_internal.h"

bool slab_is_freed(const void *pointer)
{
    struct page *page = pointer == NULL ? NULL : page_of(pointer);

    if (page == NULL || page->kind != PAGE_SLAB) {
        return page != NULL && page->kind == PAGE_FREE;
    }
    struct slab *slab = page->owner;
    size_t offset = (size_t)((const char *)pointer - slab->base);
    const char *object = slab->base + offset / slab->cache->size * slab->cache->size;
    if (offset / slab->cache->size >= slab->cache->objects ||
        *(const uint64_t *)(const void *)object != POISON_FREE_WORD) {
        return false; // the usual case, without a lock
    }
    unsigned long irq = local_irq_save();
    bool found = slab_is_free(slab, object);
    local_irq_restore(irq);
    return found;
}

uint64_t slab_bytes(void)
{
    return __atomic_load_n(&slab_page_bytes, __ATOMIC_RELAXED);
}

// What is wrong with a slab on a list where free objects number min to max.
static const char *slab_fault_locked(const struct slab *slab, uint32_t least, uint32_t most)
{
    const struct kmem_cache *cache = slab->cache;
    uint32_t free = 0;

    for (uint32_t i = 0; i < cache->objects; i++) {
        if (slab->free_map[i / 64] & BIT64(i % 64)) {
            free++;
            if (!slab_poison_is_whole(cache, slab->base + (size_t)i * cache->size)) {
                return "holds a free object that was written to";
            }
        }
    }
    if (free != slab->free) {
        return "has a wrong count of free objects";
    }
    return free < least || free > most ? "is on the wrong list" : NULL;
}

static unsigned slab_check_list_locked(const struct kmem_cache *cache, const struct list_head *list,
                                       uint32_t least, uint32_t most, uint32_t *slabs)
{
    struct slab *slab;
    unsigned errors = 0;

    list_for_each_entry (slab, list, link) {
        const char *fault =
            slab->cache == cache ? slab_fault_locked(slab, least, most) : "is another cache's";

        if (fault != NULL) {
            errors++;
            pr_err("slab_selfcheck: %s: slab %p %s", cache->name, (void *)slab->base, fault);
        }
        if (++*slabs > cache->slabs) {
            break;
        }
    }
    return errors;
}

static unsigned cache_check(struct kmem_cache *cache)
{
    uint32_t slabs = 0, all = cache->objects;
    unsigned long irq;

    spin_lock_irqsave(&cache->lock, irq);
    unsigned errors = slab_check_list_locked(cache, &cache->full, 0, 0, &slabs);
    errors += slab_check_list_locked(cache, &cache->partial, 1, all - 1, &slabs);
    errors += slab_check_list_locked(cache, &cache->empty, all, all, &slabs);
    if (slabs != cache->slabs) {
        errors++;
        pr_err("slab_selfcheck: %s: %u slabs counted, %u found", cache->name, cache->slabs, slabs);
    }
    spin_unlock_irqrestore(&cache->lock, irq);
    return errors;
}

unsigned slab_selfcheck(void)
{
    unsigned errors = 0;
    unsigned long irq;

    spin_lock_irqsave(&slab_caches_lock, irq);
    for (unsigned i = 0; i < SLAB_CACHES; i++) {
        if (slab_caches[i] != NULL) {
            errors += cache_check(slab_caches[i]);
        }
    }
    spin_unlock_irqrestore(&slab_caches_lock, irq);
    return errors;
}

static void cache_show(struct text *t, const struct kmem_cache *cache)
{
    uint64_t all = (uint64_t)cache->slabs * cache->objects, idle = READ_ONCE(cache->free_objects);

    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        const struct slab_cpu *theirs = READ_ONCE(slab_cpus[cpu]);

        idle += theirs != NULL ? READ_ONCE(theirs->magazine[cache->index].count) : 0;
    }
    text_printf(t, "%-17s %6llu %6llu %6u %4u %4u : tunables %4u %4u %4u : slabdata %6u %6u %6u\n",
                cache->name, (unsigned long long)(all - min(all, idle)), (unsigned long long)all,
                cache->size, cache->objects, 1u << cache->order, cache->magazine_slots,
                (cache->magazine_slots + 1u) / 2, 0u, cache->slabs - cache->empty_slabs,
                cache->slabs, 0u);
}

// As Linux's: an object in a magazine counts as free. Tunables are the magazine's slots and what
// moves at a time.
static void slab_show_slabinfo(struct text *t, unsigned long index)
{
    unsigned long irq;

    (void)index;
    text_puts(t,
              "slabinfo - version: 2.1\n"
              "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : "
              "tunables <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> "
              "<sharedavail>\n");
    spin_lock_irqsave(&slab_caches_lock, irq);
    for (unsigned i = 0; i < SLAB_CACHES; i++) {
        if (slab_caches[i] != NULL) {
            cache_show(t, slab_caches[i]);
        }
    }
    spin_unlock_irqrestore(&slab_caches_lock, irq);
}
PROC_FILE("slabinfo", slab_show_slabinfo);
