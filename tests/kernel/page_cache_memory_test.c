// The page cache when memory is short: what goes and what stays, who gets it, and a crowd that
// reads and writes meanwhile.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/cpu.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <irq/ipi.h>
#include <sched/thread.h>

#include "fail_case.h"
#include "eventually.h"
#include "page_cache_disk.h"

// ---- memory -------------------------------------------------------------------------------------

KTEST(page_cache, reclaim_spares_what_is_used_and_what_is_dirty)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kzalloc(65536, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    page_cache_shrink(~0ul);
    EXPECT_EQ(page_cache_read(&d->file, 0, data, 65536), 65536);
    EXPECT_EQ(page_cache_write(&d->file, 4096 * 100, data, 4096), 4096);
    struct page_cache *cache = d->disk->cache;
    uint32_t pages = cache->pages;
    struct cache_page *held = cache_page_find(cache, 3);
    REQUIRE(held != NULL);
    EXPECT_EQ(page_cache_shrink(~0ul), pages - 2);
    EXPECT_EQ(cache->pages, 2);
    cache_page_put(held);
    EXPECT_EQ(page_cache_shrink(~0ul), 1);
    // Read twice is spared once: of two, the older one stays.
    EXPECT_EQ(page_cache_read(&d->file, 4096 * 50, data, 4096), 4096);
    EXPECT_EQ(page_cache_read(&d->file, 4096 * 60, data, 4096), 4096);
    EXPECT_EQ(page_cache_read(&d->file, 4096 * 50, data, 4096), 4096);
    EXPECT_EQ(page_cache_shrink(1), 1);
    held = cache_page_find(cache, 50);
    EXPECT(held != NULL && cache_page_find(cache, 60) == NULL);
    if (held != NULL) {
        cache_page_put(held);
    }
    EXPECT(pc_drop(d));
    kfree(data);
}

struct pc_irq {
    unsigned long freed;
    bool in_hardirq;
};

static void pc_reclaim_in_irq(void *arg)
{
    struct pc_irq *r = arg;
    r->in_hardirq = in_hardirq();
    r->freed = page_reclaim(5, false);
}

// Who allocates in an interrupt gets pages as well, from a cache that another CPU works on.
KTEST(page_cache, an_interrupt_gets_memory_too)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kmalloc(65536, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    page_cache_shrink(~0ul);
    EXPECT_EQ(page_cache_read(&d->file, 65536, data, 65536), 65536);
    uint32_t pages = d->disk->cache->pages;
    for_each_online_cpu (cpu) {
        struct pc_irq r = {0};
        if (cpu == cpu_id()) {
            continue;
        }
        EXPECT_EQ(smp_call_function_single(cpu, pc_reclaim_in_irq, &r, true), 0);
        EXPECT(r.in_hardirq);
        EXPECT_EQ(r.freed, min(5u, pages));
        pages -= (uint32_t)r.freed;
        EXPECT_EQ(d->disk->cache->pages, pages);
    }
    EXPECT_EQ(page_cache_read(&d->file, 65536, data, 65536), 65536);
    EXPECT(pc_is_right(data, 65536, 65536));
    EXPECT(pc_drop(d));
    kfree(data);
}

// Takes all blocks of this order, as a list through them. How many pages.
static uint64_t pc_take(void **list, unsigned order, enum gfp flags)
{
    uint64_t pages = 0;
    void **block;
    while ((block = alloc_pages(flags, order)) != NULL) {
        block[0] = *list;
        block[1] = (void *)(uintptr_t)order;
        *list = block;
        pages += 1ull << order;
    }
    return pages;
}

// Takes all memory there is: what is clean without waiting; then, as a thread that may wait, what
// is dirty. On a busy host that may take the flusher longer than one allocation waits.
static uint64_t pc_take_all(struct page_cache *cache, void **list)
{
    uint64_t pages = 0;
    for (int order = PAGE_MAX_ORDER; order >= 0; order--) {
        pages += pc_take(list, (unsigned)order, GFP_ATOMIC);
    }
    for (unsigned tries = 0; tries < 30 && READ_ONCE(cache->pages) != 0; tries++) {
        pages += pc_take(list, 0, GFP_KERNEL);
    }
    return pages;
}

static void pc_give_all(void *list)
{
    while (list != NULL) {
        void **block = list;
        list = block[0];
        free_pages(block, (unsigned)(uintptr_t)block[1]);
    }
}

// An allocation never fails because of what is cached: clean pages go, and dirty ones are written
// and go.
KTEST(page_cache, memory_comes_back_when_it_is_wanted)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kzalloc(65536, GFP_KERNEL);
    void *list = NULL;
    REQUIRE(d != NULL && data != NULL);
    EXPECT_EQ(page_cache_read(&d->file, 0, data, 65536), 65536);
    memset(data, 0x77, 65536);
    EXPECT_EQ(page_cache_write(&d->file, 65536, data, 65536), 65536);
    struct page_cache *cache = d->disk->cache;
    EXPECT(cache->pages >= 32 && cache->dirty_pages == 16);
    uint64_t taken = pc_take_all(cache, &list);
    uint32_t left = cache->pages, dirty = cache->dirty_pages;
    pc_give_all(list);
    EXPECT(taken > 1000);
    EXPECT_EQ(left, 0);
    EXPECT_EQ(dirty, 0);
    EXPECT_EQ(pc_stats(d).lost, 0);
    EXPECT_EQ(d->memory[65536 + 5], 0x77);
    EXPECT_EQ(page_cache_read(&d->file, 65536, data, 4096), 4096);
    EXPECT_EQ(data[5], 0x77);
    EXPECT(pc_drop(d));
    kfree(data);
}

// Each allocation of a read, a write and a sync fails once: an error or the data, and no page is
// left that nobody can use.
KTEST(page_cache, each_allocation_may_fail)
{
    enum { MOST = 300 };
    struct pc_disk *d = pc_make();
    uint8_t *data = kmalloc(32768, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    bool hit = true;
    unsigned number = 0, refused = 0;
    while (hit && ++number < MOST) {
        page_cache_shrink(~0ul);
        page_cache_open(&d->file, d->disk);
        fail_start(number);
        long got = page_cache_read(&d->file, 4096 * 20, data, 32768);
        bool right = got < 0 || pc_is_right(data, 4096 * 20, (size_t)got);
        long put = page_cache_write(&d->file, 4096 * 40 + 7, data, 5000);
        int error = page_cache_fsync(&d->file);
        hit = fail_stop();
        EXPECT(right && (got == -ENOMEM || (got > 0 && got <= 32768)));
        EXPECT(put == -ENOMEM || (put > 0 && put <= 5000));
        EXPECT_EQ(error, 0); // write-back has a request in reserve
        EXPECT_EQ(page_cache_dirty_bytes(d->disk), 0);
        refused += got != 32768 || put != 5000;
        EXPECT_EQ(page_cache_read(&d->file, 4096 * 20, data, 32768), 32768);
        EXPECT(pc_is_right(data, 4096 * 20, 32768));
    }
    EXPECT(number > 10 && number < MOST);
    EXPECT(refused > 5);
    EXPECT(pc_drop(d));
    kfree(data);
}

// ---- all at once --------------------------------------------------------------------------------

enum { PC_CROWD = 8, PC_ROUNDS = 150, PC_BLOCKS = 120 };

struct pc_crowd {
    struct pc_disk *d;
    uint8_t taken[PC_BLOCKS]; // A
    uint8_t value[PC_BLOCKS]; // of whoever has taken it
    uint32_t wrong, steps;    // A
    bool stop;                // A
};

// Blocks of 4000 bytes, so that each page has two owners.
static void pc_crowd_step(struct pc_crowd *c, struct page_cache_file *file, uint8_t *data,
                          uint32_t *seed)
{
    *seed = *seed * 1103515245 + 12345;
    uint32_t block = (*seed >> 8) % PC_BLOCKS, how = (*seed >> 20) % 8;
    if (__atomic_exchange_n(&c->taken[block], 1, __ATOMIC_ACQUIRE)) {
        return;
    }
    if (how < 3) {
        uint8_t value = (uint8_t)(*seed >> 24);
        memset(data, value, 4000);
        if (page_cache_write(file, block * 4000, data, 4000) == 4000) {
            c->value[block] = value;
        } else {
            __atomic_fetch_add(&c->wrong, 1, __ATOMIC_RELAXED);
        }
    }
    if (how == 7) {
        page_cache_fsync_range(file, block * 4000, 4000);
    }
    bool right = page_cache_read(file, block * 4000, data, 4000) == 4000;
    for (unsigned i = 0; right && i < 4000; i++) {
        right = data[i] == c->value[block];
    }
    __atomic_fetch_add(&c->wrong, !right, __ATOMIC_RELAXED);
    __atomic_fetch_add(&c->steps, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&c->taken[block], 0, __ATOMIC_RELEASE);
}

static void pc_crowd_thread(void *arg)
{
    struct pc_crowd *c = arg;
    struct page_cache_file file;
    uint8_t *data = kmalloc(4096, GFP_KERNEL);
    uint32_t seed = (uint32_t)(uintptr_t)data >> 7;
    page_cache_open(&file, c->d->disk);
    for (unsigned i = 0; i < PC_ROUNDS && data != NULL; i++) {
        pc_crowd_step(c, &file, data, &seed);
    }
    kfree(data);
}

static void pc_shrink_thread(void *arg)
{
    struct pc_crowd *c = arg;
    while (!READ_ONCE(c->stop)) {
        page_cache_shrink(16);
        yield();
    }
}

KTEST(page_cache, a_crowd_while_memory_is_short)
{
    struct thread *threads[PC_CROWD], *shrinker;
    struct pc_disk *d = pc_make();
    struct pc_crowd *c = kzalloc(sizeof(*c), GFP_KERNEL);
    unsigned started = 0;
    REQUIRE(d != NULL && c != NULL);
    c->d = d;
    memset(d->memory, 0, PC_SIZE);
    shrinker = kthread_run(pc_shrink_thread, c, "shrinker");
    REQUIRE(shrinker != NULL);
    for (unsigned i = 0; i < PC_CROWD; i++) {
        threads[i] = kthread_run(pc_crowd_thread, c, "crowd/%u", i);
        started += threads[i] != NULL;
    }
    for (unsigned i = 0; i < PC_CROWD; i++) {
        if (threads[i] != NULL) {
            thread_join(threads[i]);
        }
    }
    WRITE_ONCE(c->stop, true);
    thread_join(shrinker);
    EXPECT_EQ(started, PC_CROWD);
    EXPECT_EQ(c->wrong, 0);
    EXPECT(c->steps > PC_CROWD * PC_ROUNDS / 4);
    EXPECT_EQ(page_cache_fsync(&d->file), 0);
    for (unsigned block = 0; block < PC_BLOCKS; block++) {
        EXPECT_EQ(d->memory[block * 4000], c->value[block]);
        EXPECT_EQ(d->memory[block * 4000 + 3999], c->value[block]);
    }
    EXPECT(pc_drop(d));
    kfree(c);
}
