// What the files of the small objects know of each other: slab.c (the two ways in), slab_pages.c
// (slabs), slab_mark.c (what is told of misuse), slab_cache.c (caches), slab_show.c (counts and
// checks).
#pragma once

#include <core/cpu.h>
#include <core/sections.h>
#include <core/spinlock.h>
#include <lib/list.h>
#include <lib/types.h>
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

#define POISON_FREE_WORD  (POISON_FREE * 0x0101010101010101ull)
#define POISON_ALLOC_WORD (POISON_ALLOC * 0x0101010101010101ull)

extern struct slab_cpu *slab_cpus[MAX_CPUS];                   // C; read by others for statistics
extern struct kmem_cache slab_boot_caches[KMALLOC_CACHES + 1]; // I: kmalloc's, and that of slabs
extern struct kmem_cache *slab_caches[SLAB_CACHES];            // L of slab_caches_lock
extern struct spinlock slab_caches_lock;
extern uint64_t slab_page_bytes; // A: in slabs

#define slab_meta_cache (&slab_boot_caches[KMALLOC_CACHES])

// ---- marks of what is free: written and looked at on the fast way -------------------------------

static inline uint64_t *slab_last_word(const struct kmem_cache *cache, void *object)
{
    return (uint64_t *)((char *)object + cache->size) - 1;
}

static inline bool slab_is_text(uint64_t word)
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
static inline void slab_mark_used(const struct kmem_cache *cache, void *object)
{
    *(uint64_t *)object = POISON_ALLOC_WORD;
    *slab_last_word(cache, object) = POISON_ALLOC_WORD;
}

// ---- slab_mark.c: misuse is told, with both sides of it; context: any ---------------------------

void slab_report_write(struct kmem_cache *cache, void *object);
// `cache`: in whose name; `caller` who frees, NULL when that is not known.
void slab_report_free(const char *cache, const void *object, const char *what, const void *caller);

// ---- slab_pages.c: slabs; the cache's lock is held ----------------------------------------------

uint32_t slab_index(const struct slab *slab, const void *object);
void *slab_take_locked(struct kmem_cache *cache); // NULL: all are out
// False when the slab has the object already.
bool slab_give_locked(struct slab *slab, void *object);
// An empty slab beyond those that the cache keeps, taken off its lists; NULL when there is none.
struct slab *slab_spare_locked(struct kmem_cache *cache, uint32_t keep);
// From pages and back, without the lock. NULL: no memory.
struct slab *slab_new(struct kmem_cache *cache);
void slab_delete(struct slab *slab);

// ---- slab.c: interrupts are off -----------------------------------------------------------------

// Gives the oldest `count` objects of a magazine back to their slabs; slabs that become empty go
// back to the pages.
void magazine_drain(struct kmem_cache *cache, struct magazine *magazine, uint64_t count);
// Is the object free already? Looks into all magazines and the bitmap. A magazine of another CPU
// may move meanwhile: then a double free is missed here and noticed when the object reaches its
// slab twice.
bool slab_is_free(struct slab *slab, const void *object);
