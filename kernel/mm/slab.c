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
// What is free carries marks, by which misuse is noticed:
//
//   +--------------------------+------------+-------------+
//   | POISON_FREE ...          | (anything) | who freed it|    a free object
//   +--------------------------+------------+-------------+
//
// When the object is handed out again, the poison must be intact: if not, somebody wrote after
// free. When an object comes back that still carries a mark, it may be free already: then, and only
// then, the slow search through magazines and bitmap decides. By default the poison covers the
// first 64 bytes: that is where structs have their links and counters, and it keeps the cost of a 2
// KiB packet buffer that of a small object. `slab_debug=on` poisons all of it, `slab_debug=off`
// nothing.
//
// Sizes above 8 KiB are whole pages. Out of memory is NULL, never a panic.
//
// Context: any with GFP_ATOMIC. Interrupts are off for about thirty instructions on the fast way,
// for half a magazine on the slow one.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/list.h>
#include <lib/string.h>
#include <lib/text.h>
#include <lib/types.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <mm/page.h>
#include <mm/slab.h>

#include "internal.h"

enum {
    SLAB_CACHES = 32,     // caches that may exist at once
    SLAB_OBJECTS = 256,   // objects in a slab at most: bits of its map
    SLAB_MIN_OBJECTS = 8, // a slab is made large enough to hold that many, if it may be that large
    SLAB_MAX_ORDER = 3,   // 32 KiB
    SLAB_EMPTY_BYTES = 64 << 10, // empty slabs that a cache holds on to, for the next burst
    MAGAZINE_SLOTS = 31,         // with its counter 256 bytes
    MAGAZINE_BYTES = 32 << 10,   // of objects that a CPU may sit on, per cache
    KMALLOC_MIN_SHIFT = 4,       // 16 bytes
    KMALLOC_MAX_SHIFT = 13,      // 8 KiB
    KMALLOC_CACHES = KMALLOC_MAX_SHIFT - KMALLOC_MIN_SHIFT + 1,
    POISON_WORDS = 8, // checked by default
};

struct slab {
    struct list_head link;    // L of the cache: partial, full or empty
    struct kmem_cache *cache; // I
    char *base;               // I: first object
    uint32_t free;            // L: set bits below
    uint64_t
        free_map[SLAB_OBJECTS / 64]; // L: bit set: the object is here, not in a magazine nor in use
};

struct kmem_cache {
    char name[32];           // I
    uint32_t size;           // I: of an object, rounded up to its alignment
    uint32_t object_size;    // I: as asked for
    uint32_t order;          // I: of a slab
    uint32_t objects;        // I: in a slab
    uint32_t poison_words;   // I: 8-byte words at the front that are poisoned while free
    uint16_t index;          // I: in caches[] and of its magazines
    uint16_t magazine_slots; // I: how much a magazine may hold
    uint16_t empty_kept;     // I: empty slabs that stay
    bool meta;               // I: holds struct slab; its own slabs carry theirs inside
    struct spinlock lock;
    struct list_head partial, full, empty; // L
    uint32_t slabs, empty_slabs;           // L
    uint64_t free_objects;                 // L: in slabs
    uint64_t errors;                       // A
};

struct magazine {
    uint64_t count;                // C
    void *objects[MAGAZINE_SLOTS]; // C: the top is objects[count - 1]
};

// One CPU's magazines, one for each cache: two pages, taken when the CPU allocates for the first
// time.
struct slab_cpu {
    struct magazine magazine[SLAB_CACHES];
};
_Static_assert(sizeof(struct slab_cpu) == 2 * PAGE_SIZE, "magazines fill two pages");

static struct slab_cpu *slab_cpus[MAX_CPUS];                   // C; read by others for statistics
static struct kmem_cache slab_boot_caches[KMALLOC_CACHES + 1]; // I
static struct kmem_cache *slab_caches[SLAB_CACHES];            // L of slab_caches_lock
static DEFINE_SPINLOCK(slab_caches_lock);
static uint64_t slab_page_bytes;                                                               // A
static enum { SLAB_DEBUG_OFF, SLAB_DEBUG_QUICK, SLAB_DEBUG_ON } slab_debug = SLAB_DEBUG_QUICK; // I

#define slab_meta_cache (&slab_boot_caches[KMALLOC_CACHES])

#define POISON_FREE_WORD  (POISON_FREE * 0x0101010101010101ull)
#define POISON_ALLOC_WORD (POISON_ALLOC * 0x0101010101010101ull)

extern char text_start[], text_end[];

// ---- marks --------------------------------------------------------------------------------------

static uint64_t *slab_last_word(const struct kmem_cache *cache, void *object)
{
    return (uint64_t *)((char *)object + cache->size) - 1;
}

static bool slab_is_text(uint64_t word)
{
    return word - (uintptr_t)text_start < (uintptr_t)(text_end - text_start);
}

// The usual number of words, without a loop: this is what each packet pays, twice.
static inline void poison_write_usual(uint64_t *word)
{
    word[0] = POISON_FREE_WORD;
    word[1] = POISON_FREE_WORD;
    word[2] = POISON_FREE_WORD;
    word[3] = POISON_FREE_WORD;
    word[4] = POISON_FREE_WORD;
    word[5] = POISON_FREE_WORD;
    word[6] = POISON_FREE_WORD;
    word[7] = POISON_FREE_WORD;
}

static inline bool poison_usual_is_whole(const uint64_t *word)
{
    return word[0] == POISON_FREE_WORD && word[1] == POISON_FREE_WORD &&
           word[2] == POISON_FREE_WORD && word[3] == POISON_FREE_WORD &&
           word[4] == POISON_FREE_WORD && word[5] == POISON_FREE_WORD &&
           word[6] == POISON_FREE_WORD && word[7] == POISON_FREE_WORD;
}

// The object becomes free: poison, and the address that freed it.
static inline void slab_mark_free(const struct kmem_cache *cache, void *object, const void *caller)
{
    uint64_t *word = object;

    if (likely(cache->poison_words == POISON_WORDS)) {
        poison_write_usual(word);
    } else {
        for (uint32_t i = 0; i < cache->poison_words; i++) {
            word[i] = POISON_FREE_WORD;
        }
    }
    *slab_last_word(cache, object) = (uintptr_t)caller;
}

static inline bool slab_poison_is_whole(const struct kmem_cache *cache, const void *object)
{
    const uint64_t *word = object;
    uint32_t i = 0;

    if (likely(cache->poison_words == POISON_WORDS)) {
        return poison_usual_is_whole(word);
    }
    while (i < cache->poison_words && word[i] == POISON_FREE_WORD) {
        i++;
    }
    return i == cache->poison_words;
}

// The object is handed out: the marks that kfree looks for go.
static void slab_mark_used(const struct kmem_cache *cache, void *object)
{
    *(uint64_t *)object = POISON_ALLOC_WORD;
    *slab_last_word(cache, object) = POISON_ALLOC_WORD;
}

static __noinline void slab_report_write(struct kmem_cache *cache, void *object)
{
    const uint64_t *word = object;
    uint64_t freed_by = *slab_last_word(cache, object);
    char buffer[96];
    struct text t = TEXT_INIT(buffer);
    uint32_t first = 0;

    while (first < cache->poison_words && word[first] == POISON_FREE_WORD) {
        first++;
    }
    if (slab_is_text(freed_by)) {
        text_symbol(&t, freed_by);
    } else {
        text_puts(&t, freed_by == 0 ? "nobody (it is new)" : "(overwritten as well)");
    }
    __atomic_fetch_add(&cache->errors, 1, __ATOMIC_RELAXED);
    pr_err("BUG: %s: object %p was written to after it was freed by %s: offset %u holds %016llx",
           cache->name, object, buffer, first * 8, (unsigned long long)word[first]);
    warn_at(__FILE__, __LINE__, "freed memory is written to");
}

static __noinline void slab_report_free(const char *cache, const void *object, const char *what,
                                        const void *caller)
{
    char buffer[96];
    struct text t = TEXT_INIT(buffer);

    if (caller != NULL) {
        text_puts(&t, ", freed by ");
        text_symbol(&t, (uintptr_t)caller);
    }
    pr_err("BUG: %s: object %p %s%s; it is left alone", cache, object, what, buffer);
    warn_at(__FILE__, __LINE__, "an object is freed wrongly");
}

// ---- slabs; the cache's lock is held ------------------------------------------------------------

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

static uint32_t slab_index(const struct slab *slab, const void *object)
{
    return (uint32_t)((const char *)object - slab->base) / slab->cache->size;
}

static void *slab_take_locked(struct kmem_cache *cache)
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

// False when the slab has the object already.
static bool slab_give_locked(struct slab *slab, void *object)
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

// An empty slab beyond those that the cache keeps, taken off its lists; NULL when there is none.
static struct slab *slab_spare_locked(struct kmem_cache *cache, uint32_t keep)
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

// ---- slabs and pages ----------------------------------------------------------------------------

static void slab_mark_pages(struct slab *slab, void *block, enum page_kind kind)
{
    struct page *page = page_of(block);

    for (uint32_t i = 0; i < 1u << slab->cache->order; i++) {
        page[i].kind = (uint8_t)(i > 0 && kind == PAGE_USED ? PAGE_INSIDE : kind);
        page[i].owner = kind == PAGE_SLAB ? slab : NULL;
    }
}

static struct slab *slab_new(struct kmem_cache *cache)
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

static void slab_delete(struct slab *slab)
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

// Gives the oldest `count` objects of a magazine back to their slabs; slabs that become empty go
// back to the pages.
static __noinline void magazine_drain(struct kmem_cache *cache, struct magazine *magazine,
                                      uint64_t count)
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

// Is the object free already? Looks into all magazines and the bitmap. A magazine of another CPU
// may move meanwhile: then a double free is missed here and noticed when the object reaches its
// slab twice.
static __noinline bool slab_is_free(struct slab *slab, const void *object)
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

// ---- caches -------------------------------------------------------------------------------------

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

// ---- looking at it ------------------------------------------------------------------------------

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
