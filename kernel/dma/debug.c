// Remembers every mapping while it lives, and objects to what drivers get wrong. Always on: most
// DMA mistakes corrupt memory long after the mistake, and cannot be found from the corruption.
//
//   mapped twice        the device owns part of this memory already, and one of the two may write
//   not mapped          unmapped twice, or never mapped
//   other size, direction, kind or device than it was mapped with
//   sync outside        of the mapping, or against its direction
//   freed meanwhile     by kfree or free_pages: kernel/mm asks, where a page bears the mark that each
//                       record leaves in it (page_lend); the memory is not freed then
//   written meanwhile   the CPU changed what the device was to read (dma_debug=strict, or echo strict
//                       > /proc/dma-map: sums of the first page are compared). With swiotlb=force also
//                       what the device is to write, as it writes to a copy then
//
// Records hang in buckets by the page that the mapping starts in. Most mappings, packets and
// sectors, are at most a page long, so what overlaps them starts in their own page; the page before
// matters only while some mapping crosses into its next page, and the longer ones are few and have
// a list of their own, which matters only in regions of 64 pages that one of them reaches into. So
// the usual cost is one hash, one lock, a chain of one or two. A long mapping would have to look at
// the bucket of each of its pages: it skips the regions in which no short one starts, which is most
// of them.
//
//   bucket[hash(page)] -> record -> record     records: at most 8192, in pages taken when needed;
//   bucket[LONG]       -> record               each bucket keeps some spare ones for itself
//
// When the records run out, mappings work all the same, are counted (`unrecorded`) and said once.
//
// Context: any; a spinlock per bucket with interrupts off. Reports are logged after the lock is
// released.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/types.h>
#include <contract/boot_option.h>
#include <contract/device.h>
#include <core/log.h>
#include <core/spinlock.h>
#include <mm/page.h>
#include <dma/dma.h>
#include <dma/iommu.h>

#include "debug.h"

enum {
    DEBUG_BUCKET_BITS = 8,
    DEBUG_BUCKETS = 1 << DEBUG_BUCKET_BITS,
    DEBUG_LONG = DEBUG_BUCKETS, // the bucket of mappings longer than a page
    DEBUG_RECORDS = 8192,
    DEBUG_REGION_BITS = 6, // pages of a region: 256 KiB
    DEBUG_REGIONS = 256,   // counters; regions 64 MiB apart share one
    DEBUG_SPARE = 8,       // records that a bucket keeps for itself
};

struct dma_bucket {
    struct spinlock lock;
    struct dma_record *live, *spare; // L
    uint32_t spares;                 // L
};

static struct dma_bucket dma_buckets[] = {
    [0 ... DEBUG_LONG] = {.lock = SPINLOCK_INIT("dma bucket")},
};
static uint32_t dma_long_regions[DEBUG_REGIONS];  // A: long mappings that reach into such a region
static uint32_t dma_crossing_count;               // A: short mappings that touch two pages
static uint32_t dma_live, dma_peak;               // A
static uint32_t dma_regions[DEBUG_REGIONS];       // A: short mappings that start in such a region
static uint64_t dma_unrecorded;                   // A: live mappings without a record
static uint32_t dma_unrecorded_at[DEBUG_BUCKETS]; // A: the same, by device and address
bool dma_debug_off;
static bool dma_debug_strict; // A: boot option, or somebody's wish

static DEFINE_SPINLOCK(dma_pool_lock);
static struct dma_record *dma_pool; // L: free records
static uint32_t dma_pool_made;      // L

bool dma_debug_be_strict(bool strict)
{
    return __atomic_exchange_n(&dma_debug_strict, strict, __ATOMIC_RELAXED);
}

uint64_t dma_debug_unrecorded(void)
{
    return __atomic_load_n(&dma_unrecorded, __ATOMIC_RELAXED);
}

// ---- records ------------------------------------------------------------------------------------

// Puts a page full of new records into the pool; false when there may be no more.
static bool dma_pool_grow_locked(void)
{
    uint32_t count = min((uint32_t)(PAGE_SIZE / sizeof(struct dma_record)),
                         (uint32_t)DEBUG_RECORDS - dma_pool_made);
    struct dma_record *fresh = count > 0 ? alloc_page(GFP_ATOMIC) : NULL;

    if (fresh == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        fresh[i].next = dma_pool;
        dma_pool = &fresh[i];
    }
    dma_pool_made += count;
    return true;
}

// The bucket's lock is held, interrupts are off.
static struct dma_record *dma_record_take_locked(struct dma_bucket *bucket)
{
    struct dma_record *record = bucket->spare;

    if (likely(record != NULL)) {
        bucket->spare = record->next;
        bucket->spares--;
        return record;
    }
    spin_lock(&dma_pool_lock);
    if (dma_pool != NULL || dma_pool_grow_locked()) {
        record = dma_pool;
        dma_pool = record->next;
    }
    spin_unlock(&dma_pool_lock);
    return record;
}

static void dma_record_give_locked(struct dma_bucket *bucket, struct dma_record *record)
{
    if (likely(bucket->spares < DEBUG_SPARE)) {
        record->next = bucket->spare;
        bucket->spare = record;
        bucket->spares++;
        return;
    }
    spin_lock(&dma_pool_lock);
    record->next = dma_pool;
    dma_pool = record;
    spin_unlock(&dma_pool_lock);
}

static bool dma_is_long(const struct dma_use *use)
{
    return use->size > PAGE_SIZE;
}

static bool dma_is_crossing(const struct dma_use *use)
{
    return !dma_is_long(use) &&
           use->phys >> PAGE_SHIFT != (use->phys + use->size - 1) >> PAGE_SHIFT;
}

static struct dma_bucket *dma_bucket_of_page(uint64_t page)
{
    // Fibonacci hashing: neighbouring pages spread over all buckets.
    return &dma_buckets[page * 0x9e3779b97f4a7c15ull >> (64 - DEBUG_BUCKET_BITS)];
}

static struct dma_bucket *dma_bucket_of(const struct dma_use *use)
{
    return dma_is_long(use) ? &dma_buckets[DEBUG_LONG]
                            : dma_bucket_of_page(use->phys >> PAGE_SHIFT);
}

static uint32_t *dma_region_of(uint64_t page)
{
    return &dma_regions[(page >> DEBUG_REGION_BITS) % DEBUG_REGIONS];
}

static uint32_t *dma_long_region_of(uint64_t page)
{
    return &dma_long_regions[(page >> DEBUG_REGION_BITS) % DEBUG_REGIONS];
}

static void dma_count_long(const struct dma_use *use, uint32_t change)
{
    uint64_t first = use->phys >> PAGE_SHIFT, last = (use->phys + use->size - 1) >> PAGE_SHIFT;

    for (uint64_t region = first >> DEBUG_REGION_BITS; region <= last >> DEBUG_REGION_BITS;
         region++) {
        __atomic_fetch_add(dma_long_region_of(region << DEBUG_REGION_BITS), change,
                           __ATOMIC_RELAXED);
    }
}

// May a long mapping reach into this page?
static bool dma_long_reaches(uint64_t page)
{
    return __atomic_load_n(dma_long_region_of(page), __ATOMIC_RELAXED) != 0;
}

static void dma_count(const struct dma_use *use, uint32_t change)
{
    page_lend(use->phys, use->size, (int)change);
    if (unlikely(dma_is_long(use))) {
        dma_count_long(use, change);
    } else {
        __atomic_fetch_add(dma_region_of(use->phys >> PAGE_SHIFT), change, __ATOMIC_RELAXED);
        if (dma_is_crossing(use)) {
            __atomic_fetch_add(&dma_crossing_count, change, __ATOMIC_RELAXED);
        }
    }
    uint32_t live = __atomic_add_fetch(&dma_live, change, __ATOMIC_RELAXED);
    if (live > READ_ONCE(dma_peak)) {
        WRITE_ONCE(dma_peak, live);
    }
}

// ---- mapping ------------------------------------------------------------------------------------

// Two devices may read the same memory; but what one of them writes is the other's surprise.
static bool dma_collide(const struct dma_use *a, const struct dma_use *b)
{
    return a->phys < b->phys + b->size && b->phys < a->phys + a->size &&
           !(a->direction == DMA_TO_DEVICE && b->direction == DMA_TO_DEVICE);
}

// Copies the first record of the bucket that collides; the record `except` does not.
static bool dma_find_collision_locked(const struct dma_bucket *bucket, const struct dma_use *use,
                                      const struct dma_record *except, struct dma_use *found)
{
    for (const struct dma_record *r = bucket->live; r != NULL; r = r->next) {
        if (r != except && unlikely(dma_collide(&r->use, use))) {
            *found = r->use;
            return true;
        }
    }
    return false;
}

static bool dma_find_collision(struct dma_bucket *bucket, const struct dma_use *use,
                               struct dma_use *found)
{
    unsigned long flags;

    spin_lock_irqsave(&bucket->lock, flags);
    bool collides = dma_find_collision_locked(bucket, use, NULL, found);
    spin_unlock_irqrestore(&bucket->lock, flags);
    return collides;
}

// Looks beyond the mapping's own bucket: whatever may reach into it from elsewhere.
static bool dma_find_elsewhere(const struct dma_use *use, struct dma_use *found)
{
    uint64_t first = use->phys >> PAGE_SHIFT, last = (use->phys + use->size - 1) >> PAGE_SHIFT;
    bool is_long = dma_is_long(use), collides = false;

    if (!is_long && (dma_long_reaches(first) || dma_long_reaches(last))) {
        collides = dma_find_collision(&dma_buckets[DEBUG_LONG], use, found);
    }
    if (!collides && first > 0 && __atomic_load_n(&dma_crossing_count, __ATOMIC_RELAXED) > 0) {
        collides = dma_find_collision(dma_bucket_of_page(first - 1), use, found);
    }
    for (uint64_t page = first + !is_long; page <= last && !collides; page++) {
        if (is_long && __atomic_load_n(dma_region_of(page), __ATOMIC_RELAXED) == 0) {
            page |= BIT64(DEBUG_REGION_BITS) - 1; // nothing short starts in this region
            continue;
        }
        collides = dma_find_collision(dma_bucket_of_page(page), use, found);
    }
    return collides;
}

// Nobody may change this memory now: the device only reads it, or works on a copy (bounce.c).
static bool dma_is_still(const struct dma_use *use)
{
    return !use->coherent &&
           (use->direction == DMA_TO_DEVICE || (dma_iommu == NULL && use->bus != use->phys));
}

// Of what nobody may change. Zero: not looked at.
static uint32_t dma_sum(const struct dma_use *use)
{
    const uint8_t *at = phys_to_virt(use->phys);
    uint32_t sum = 1;

    if (!READ_ONCE(dma_debug_strict) || !dma_is_still(use)) {
        return 0;
    }
    for (uint64_t i = 0; i < min(use->size, (uint64_t)PAGE_SIZE); i++) {
        sum = sum * 31 + at[i];
    }
    return sum | 1;
}

// Of a mapping without a record nothing is known but that it is there. Counted by its device and
// address, so that when it is unmapped that is believed, and not of just any mapping.
static uint32_t *dma_unrecorded_of(const struct dma_use *use)
{
    uint64_t key = (uintptr_t)use->dev ^ use->bus;

    return &dma_unrecorded_at[key * 0x9e3779b97f4a7c15ull >> (64 - DEBUG_BUCKET_BITS)];
}

static void dma_map_unrecorded(const struct dma_use *use)
{
    __atomic_fetch_add(dma_unrecorded_of(use), 1, __ATOMIC_RELAXED);
    if (__atomic_fetch_add(&dma_unrecorded, 1, __ATOMIC_RELAXED) == 0) {
        pr_warn("DMA-API: all %d records are in use or there is no memory for more: "
                "from now on not every mapping is checked",
                DEBUG_RECORDS);
    }
}

static bool dma_unmap_unrecorded(const struct dma_use *use)
{
    uint32_t *cell = dma_unrecorded_of(use), count = __atomic_load_n(cell, __ATOMIC_RELAXED);

    while (count > 0) {
        if (__atomic_compare_exchange_n(cell, &count, count - 1, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            __atomic_fetch_sub(&dma_unrecorded, 1, __ATOMIC_RELAXED);
            return true;
        }
    }
    return false;
}

void dma_debug_map(const struct dma_use *use)
{
    struct dma_bucket *bucket = dma_bucket_of(use);
    struct dma_use other;
    unsigned long flags;

    if (dma_debug_off) {
        return;
    }
    uint32_t sum = dma_sum(use);
    spin_lock_irqsave(&bucket->lock, flags);
    struct dma_record *record = dma_record_take_locked(bucket);
    if (likely(record != NULL)) {
        record->use = *use;
        record->use.sum = sum;
        record->cpu_looks = false;
        record->next = bucket->live;
        bucket->live = record;
    }
    bool collides = dma_find_collision_locked(bucket, use, record, &other);
    spin_unlock_irqrestore(&bucket->lock, flags);

    if (likely(record != NULL)) {
        dma_count(use, 1);
    } else {
        dma_map_unrecorded(use);
    }
    if (unlikely(collides || dma_find_elsewhere(use, &other))) {
        dma_debug_report(use, "mapped although a device owns it already", &other);
    }
}

// ---- freeing ------------------------------------------------------------------------------------

// Asked by kernel/mm: part of a page in [start, +size) is lent; is it this part?
bool dma_debug_freed(const void *start, size_t size, const void *caller)
{
    struct dma_use use = {.phys = virt_to_phys(start),
                          .size = size,
                          .direction = DMA_FROM_DEVICE, // collides with all
                          .caller = caller};
    struct dma_use other;

    if (!dma_find_collision(dma_bucket_of(&use), &use, &other) &&
        !dma_find_elsewhere(&use, &other)) {
        return false;
    }
    use = (struct dma_use){.dev = other.dev,
                           .bus = other.bus + (use.phys - other.phys), // as the device sees it
                           .size = size,
                           .direction = other.direction,
                           .coherent = other.coherent,
                           .caller = caller};
    dma_debug_report(&use, "freed although a device owns it, and left alone", &other);
    return true;
}

// ---- unmapping ----------------------------------------------------------------------------------

static bool dma_same(const struct dma_use *a, const struct dma_use *b)
{
    return a->size == b->size && a->direction == b->direction && a->coherent == b->coherent;
}

// The link to the record of this device at this address, the one that is the same in all else if
// there are several.
static struct dma_record **dma_find_locked(struct dma_bucket *bucket, const struct dma_use *use)
{
    struct dma_record **found = NULL;

    for (struct dma_record **link = &bucket->live; *link != NULL; link = &(*link)->next) {
        const struct dma_use *have = &(*link)->use;

        if (have->bus == use->bus && have->dev == use->dev) {
            if (likely(dma_same(have, use))) {
                return link;
            }
            found = link;
        }
    }
    return found;
}

// Takes the record out of a bucket. A coherent buffer is not given back by unmapping, nor the other
// way round: it stays.
static bool dma_remove(struct dma_bucket *bucket, const struct dma_use *use, struct dma_use *was)
{
    unsigned long flags;

    spin_lock_irqsave(&bucket->lock, flags);
    struct dma_record **link = dma_find_locked(bucket, use), *record;
    if (link != NULL) {
        record = *link;
        *was = record->use;
        if (was->coherent == use->coherent) {
            *link = record->next;
            dma_record_give_locked(bucket, record);
        }
    }
    spin_unlock_irqrestore(&bucket->lock, flags);
    return link != NULL;
}

// Any device's mapping that starts at this memory.
static bool dma_find_foreign(struct dma_bucket *bucket, uint64_t phys, struct dma_use *found)
{
    unsigned long flags;
    bool hit = false;

    spin_lock_irqsave(&bucket->lock, flags);
    for (struct dma_record *r = bucket->live; r != NULL && !hit; r = r->next) {
        if (r->use.phys == phys) {
            *found = r->use;
            hit = true;
        }
    }
    spin_unlock_irqrestore(&bucket->lock, flags);
    return hit;
}

// The mapping was not where its size says, or not this device's. False: nothing was unmapped.
static bool dma_unmap_strange(const struct dma_use *use, struct dma_use *was)
{
    struct dma_bucket *by_page = dma_bucket_of_page(use->phys >> PAGE_SHIFT);
    struct dma_bucket *by_length = &dma_buckets[DEBUG_LONG];

    if (dma_remove(by_page, use, was) || dma_remove(by_length, use, was)) {
        return true;
    }
    if (dma_find_foreign(by_page, use->phys, was) || dma_find_foreign(by_length, use->phys, was)) {
        dma_debug_report(use, "unmapped by another device than mapped it", was);
        return false;
    }
    dma_debug_report(use, "unmapped, but is not mapped (unmapped twice?)", NULL);
    return false;
}

bool dma_debug_unmap(struct dma_use *use)
{
    struct dma_use was;

    if (dma_debug_off) {
        return true;
    }
    if (unlikely(!dma_remove(dma_bucket_of(use), use, &was))) {
        if (dma_unmap_unrecorded(use)) {
            return true;
        }
        if (!dma_unmap_strange(use, &was)) {
            return false;
        }
    }
    if (unlikely(was.coherent != use->coherent)) {
        dma_debug_report(use,
                         was.coherent ? "is coherent memory: dma_free_coherent gives it back"
                                      : "is a streaming mapping: dma_unmap_single gives it back",
                         &was);
        return false;
    }
    dma_count(&was, -1u);
    if (unlikely(was.size != use->size)) {
        dma_debug_report(use, "unmapped with another size", &was);
    } else if (unlikely(was.direction != use->direction)) {
        dma_debug_report(use, "unmapped with another direction", &was);
    }
    uint32_t sum = was.sum != 0 ? dma_sum(&was) : 0;
    if (unlikely(sum != 0 && sum != was.sum)) {
        dma_debug_report(use, "the CPU wrote to it while the device owned it", &was);
    }
    use->size = was.size;
    return true;
}

// ---- syncing ------------------------------------------------------------------------------------

// Why this look at the mapping is wrong; NULL when it is not.
static const char *dma_sync_fault(const struct dma_use *use, const struct dma_use *have)
{
    if (use->bus + use->size > have->bus + have->size) {
        return "synced beyond the end of the mapping";
    }
    if (have->direction != DMA_BIDIRECTIONAL && use->direction != have->direction) {
        return "synced in another direction";
    }
    return NULL;
}

// Part of a mapping may be synced: its record may hang under the page before, or be a long one.
void dma_debug_sync(const struct dma_use *use, bool for_cpu)
{
    uint64_t page = use->phys >> PAGE_SHIFT;
    struct dma_bucket *places[] = {dma_bucket_of_page(page), dma_bucket_of_page(page - (page > 0)),
                                   &dma_buckets[DEBUG_LONG]};
    const char *fault = "synced, but is not mapped";
    struct dma_use have = *use;
    bool found = false;

    if (dma_debug_off) {
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(places) && !found; i++) {
        unsigned long flags;

        spin_lock_irqsave(&places[i]->lock, flags);
        for (struct dma_record *r = places[i]->live; r != NULL && !found; r = r->next) {
            found = r->use.dev == use->dev && use->bus >= r->use.bus &&
                    use->bus < r->use.bus + r->use.size;
            if (found) {
                have = r->use;
                r->cpu_looks = for_cpu;
                r->use.sum = for_cpu ? 0 : dma_sum(&r->use); // between the two it may write
            }
        }
        spin_unlock_irqrestore(&places[i]->lock, flags);
    }
    if (found) {
        fault = dma_sync_fault(use, &have);
    } else if (dma_debug_unrecorded() > 0) {
        return; // perhaps part of one of those
    }
    if (unlikely(fault != NULL)) {
        dma_debug_report(use, fault, found ? &have : NULL);
    }
}

// ---- for /proc/dma-map (debug_show.c), and the boot option -----------------------------------

void dma_debug_counts(uint32_t *live, uint32_t *peak)
{
    *live = READ_ONCE(dma_live);
    *peak = READ_ONCE(dma_peak);
}

bool dma_debug_is_strict(void)
{
    return READ_ONCE(dma_debug_strict);
}

// Copies the records, as many as fit, so that no lock is held while they are sorted and printed.
uint32_t dma_debug_copy(struct dma_record *to, uint32_t room)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(dma_buckets); i++) {
        unsigned long flags;

        spin_lock_irqsave(&dma_buckets[i].lock, flags);
        for (const struct dma_record *r = dma_buckets[i].live; r != NULL && count < room;
             r = r->next) {
            to[count++] = *r;
        }
        spin_unlock_irqrestore(&dma_buckets[i].lock, flags);
    }
    return count;
}

static int dma_set_debug(const char *value)
{
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0 && strcmp(value, "strict") != 0) {
        return -EINVAL;
    }
    dma_debug_off = strcmp(value, "off") == 0;
    dma_debug_strict = strcmp(value, "strict") == 0;
    return 0;
}
BOOT_OPTION("dma_debug", dma_set_debug,
            "dma_debug=on|off|strict: record and check DMA mappings; strict: also what the CPU "
            "does to them");
