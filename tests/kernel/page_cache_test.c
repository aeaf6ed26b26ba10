// The page cache against a disk of memory that does as it is told: holds its answers, fails where
// it is told to, counts what it was asked for.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <irq/ipi.h>
#include <sched/completion.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <dev/block.h>
#include <dev/page_cache.h>

#include "../../kernel/dev/page_cache_internal.h"
#include "../../kernel/mm/internal.h"
#include "eventually.h"

enum {
    PC_PAGES = 128,
    PC_SECTORS = PC_PAGES * 8 + 3, // the last page is not whole
    PC_SIZE = PC_SECTORS * SECTOR_SIZE,
    PC_HELD = 64,
    PC_SIZES = 64,
    PC_THREADS = 6,
};

struct pc_disk {
    struct gendisk *disk;
    uint8_t *memory;
    struct spinlock lock;
    struct request *held[PC_HELD];   // L
    unsigned held_count;             // L
    bool hold;                       // A
    uint64_t bad_read, bad_write;    // A: sectors that fail
    uint32_t reads, writes, flushes; // A
    uint16_t read_sectors[PC_SIZES]; // L: how long the first ones were
    uint32_t read_starts[PC_SIZES];  // L
    uint32_t bad_reads, unaligned;   // A
    struct page_cache_file file;
};

static bool pc_fails(const struct request *request, uint64_t bad)
{
    return bad >= blk_rq_pos(request) && bad < blk_rq_pos(request) + blk_rq_sectors(request);
}

static void pc_finish(struct pc_disk *d, struct request *request)
{
    uint8_t *at = d->memory + blk_rq_pos(request) * SECTOR_SIZE;
    bool writes = request->op == REQ_OP_WRITE;
    struct request *part;
    struct blk_segment *segment;
    const uint64_t *bad = writes ? &d->bad_write : &d->bad_read;
    if (request->op != REQ_OP_FLUSH && pc_fails(request, READ_ONCE(*bad))) {
        __atomic_fetch_add(&d->bad_reads, !writes, __ATOMIC_RELAXED);
        blk_complete_request(request, -EIO);
        return;
    }
    rq_for_each_segment (segment, part, request) {
        memcpy(writes ? at : segment->data, writes ? segment->data : at, segment->length);
        at += segment->length;
    }
    blk_complete_request(request, 0);
}

static int pc_queue_rq(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct pc_disk *d = hctx->disk->private_data;
    uint32_t blocks = hctx->disk->logical_block_size / SECTOR_SIZE - 1;
    unsigned long flags;
    (void)last;
    uint32_t *counter = request->op == REQ_OP_READ    ? &d->reads
                        : request->op == REQ_OP_WRITE ? &d->writes
                                                      : &d->flushes;
    uint32_t number = __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&d->unaligned,
                       ((blk_rq_pos(request) | blk_rq_sectors(request)) & blocks) != 0,
                       __ATOMIC_RELAXED);
    spin_lock_irqsave(&d->lock, flags);
    if (request->op == REQ_OP_READ && number < PC_SIZES) {
        d->read_sectors[number] = (uint16_t)blk_rq_sectors(request);
        d->read_starts[number] = (uint32_t)blk_rq_pos(request);
    }
    bool held = READ_ONCE(d->hold) && d->held_count < PC_HELD;
    if (held) {
        d->held[d->held_count++] = request;
    }
    spin_unlock_irqrestore(&d->lock, flags);
    if (!held) {
        pc_finish(d, request);
    }
    return 0;
}

static const struct blk_mq_ops pc_ops = {.queue_rq = pc_queue_rq};

static void pc_release(struct pc_disk *d)
{
    unsigned long flags;
    WRITE_ONCE(d->hold, false);
    for (;;) {
        spin_lock_irqsave(&d->lock, flags);
        struct request *request = d->held_count != 0 ? d->held[--d->held_count] : NULL;
        spin_unlock_irqrestore(&d->lock, flags);
        if (request == NULL) {
            return;
        }
        pc_finish(d, request);
    }
}

static uint8_t pc_byte(size_t at)
{
    return (uint8_t)(at * 7 + (at >> 9) * 13 + (at >> 12));
}

static struct pc_disk *pc_make_blocks(uint32_t block)
{
    struct pc_disk *d = kzalloc(sizeof(*d), GFP_KERNEL);
    if (d == NULL) {
        return NULL;
    }
    spin_lock_init(&d->lock, "page cache test");
    d->bad_read = d->bad_write = UINT64_MAX;
    d->memory = kmalloc(PC_SIZE, GFP_KERNEL);
    d->disk = alloc_disk(&pc_ops, 1, 32);
    if (d->memory == NULL || d->disk == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < PC_SIZE; i++) {
        d->memory[i] = pc_byte(i);
    }
    d->disk->capacity = ALIGN_DOWN((uint64_t)PC_SECTORS, block / SECTOR_SIZE);
    d->disk->max_sectors = 512;
    d->disk->max_segments = 64;
    d->disk->logical_block_size = block;
    d->disk->no_part = true;
    d->disk->private_data = d;
    if (add_disk(d->disk, "tpc") != 0) {
        return NULL;
    }
    page_cache_open(&d->file, d->disk);
    return d;
}

static struct pc_disk *pc_make(void)
{
    return pc_make_blocks(SECTOR_SIZE);
}

static bool pc_drop(struct pc_disk *d)
{
    pc_release(d);
    bool gone = del_gendisk(d->disk) == 0;
    if (gone) {
        gone = d->disk->cache->pages == 0;
        blk_put(d->disk);
        kfree(d->memory);
        kfree(d);
    }
    return gone;
}

static bool pc_is_right(const uint8_t *data, size_t at, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] != pc_byte(at + i)) {
            return false;
        }
    }
    return true;
}

static struct page_cache_stats pc_stats(struct pc_disk *d)
{
    struct page_cache_stats stats;
    page_cache_stats(d->disk, &stats);
    return stats;
}

// ---- the same bytes -----------------------------------------------------------------------------

static const struct {
    uint32_t offset, size;
} pc_pieces[] = {
    {0, 1},         {4095, 2},     {3, 10000},   {8192, 4096},       {100000, 70001},
    {511, 513},     {200000, 300}, {0, 65536},   {PC_SIZE - 5, 5},   {PC_SIZE - 5000, 5000},
    {4096 * 7, 12}, {4096 * 9, 1}, {40960, 512}, {PC_SIZE - 1537, 1}};

// Every piece is read right from an empty cache and from a full one; what is written is read back
// at once, and lies on the disk after fsync, with its surroundings as they were.
static void pc_same_bytes(struct ktest_run *ktest, uint32_t block)
{
    struct pc_disk *d = pc_make_blocks(block);
    uint8_t *data = kmalloc(PC_SIZE, GFP_KERNEL), *expected = kmalloc(PC_SIZE, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL && expected != NULL);
    size_t end = d->disk->capacity * SECTOR_SIZE;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < ARRAY_SIZE(pc_pieces); i++) {
            size_t at = pc_pieces[i].offset, size = pc_pieces[i].size;
            size = at >= end ? 0 : min(size, end - at);
            EXPECT_EQ(page_cache_read(&d->file, at, data, pc_pieces[i].size), size);
            EXPECT(pc_is_right(data, at, size));
        }
        page_cache_shrink(~0ul);
    }
    EXPECT_EQ(page_cache_read(&d->file, end, data, 10), 0);
    EXPECT_EQ(page_cache_read(&d->file, UINT64_MAX - 3, data, 10), 0);
    EXPECT_EQ(page_cache_write(&d->file, end, data, 10), -ENOSPC);
    memcpy(expected, d->memory, PC_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(pc_pieces); i++) {
        size_t at = pc_pieces[i].offset, size = pc_pieces[i].size;
        size = at >= end ? 0 : min(size, end - at);
        memset(data, (int)(i + 100), pc_pieces[i].size);
        if (size != 0) {
            EXPECT_EQ(page_cache_write(&d->file, at, data, pc_pieces[i].size), size);
            memset(expected + at, (int)(i + 100), size);
        }
        EXPECT_EQ(page_cache_read(&d->file, 0, data, PC_SIZE), end);
        EXPECT_EQ(memcmp(data, expected, end), 0);
        page_cache_shrink(~0ul); // what is dirty stays
    }
    EXPECT(page_cache_dirty_bytes(d->disk) != 0);
    EXPECT_EQ(page_cache_fsync(&d->file), 0);
    EXPECT_EQ(page_cache_dirty_bytes(d->disk), 0);
    EXPECT_EQ(d->flushes, 1);
    EXPECT_EQ(d->unaligned, 0);
    EXPECT_EQ(memcmp(d->memory, expected, PC_SIZE), 0);
    EXPECT(pc_drop(d));
    kfree(data);
    kfree(expected);
}

KTEST(page_cache, same_bytes)
{
    pc_same_bytes(ktest, SECTOR_SIZE);
}

KTEST(page_cache, same_bytes_on_blocks_of_4_kib)
{
    pc_same_bytes(ktest, 4096);
}

KTEST(page_cache, second_read_asks_nobody)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kmalloc(65536, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    EXPECT_EQ(page_cache_read(&d->file, 4096, data, 65536), 65536);
    uint32_t reads = d->reads;
    EXPECT(reads != 0);
    struct page_cache_stats before = pc_stats(d);
    EXPECT_EQ(page_cache_read(&d->file, 4096, data, 65536), 65536);
    struct page_cache_stats after = pc_stats(d);
    EXPECT_EQ(d->reads, reads);
    EXPECT_EQ(before.misses, 16);
    EXPECT_EQ(before.hits, 0);
    EXPECT_EQ(after.misses, 16);
    EXPECT_EQ(after.hits, 16);
    EXPECT_EQ(after.copied_to, 2 * 65536);
    EXPECT_EQ(after.filled, 16);
    EXPECT(pc_drop(d));
    kfree(data);
}

// ---- read-ahead ---------------------------------------------------------------------------------

KTEST(page_cache, sequential_reads_are_few_large_requests)
{
    static const uint16_t expected[] = {4, 8, 16, 32, 32, 32};
    struct pc_disk *d = pc_make();
    uint8_t *data = kmalloc(4096, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    for (unsigned i = 0; i < PC_PAGES; i++) {
        EXPECT_EQ(page_cache_read(&d->file, i * 4096, data, 4096), 4096);
        EXPECT(pc_is_right(data, i * 4096, 4096));
    }
    uint32_t at = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        uint32_t sectors = min((uint32_t)expected[i] * 8, PC_SECTORS - at);
        EXPECT_EQ(d->read_starts[i], at);
        EXPECT_EQ(d->read_sectors[i], sectors);
        at += sectors;
    }
    EXPECT_EQ(d->reads, 7); // the last one is what is left of the disk
    struct page_cache_stats stats = pc_stats(d);
    EXPECT_EQ(stats.misses, 1);
    EXPECT_EQ(stats.hits, PC_PAGES - 1);
    EXPECT_EQ(stats.ahead, PC_PAGES); // all but the first, and the piece of a page at the end
    EXPECT_EQ(stats.ahead_used, PC_PAGES - 1);
    EXPECT(pc_drop(d));
    kfree(data);
}

KTEST(page_cache, random_reads_read_nothing_ahead)
{
    static const uint8_t pages[] = {90, 17, 55, 3, 120, 70, 33, 101, 61, 9};
    struct pc_disk *d = pc_make();
    uint8_t *data = kmalloc(4096, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
        EXPECT_EQ(page_cache_read(&d->file, pages[i] * 4096u, data, 4096), 4096);
        EXPECT_EQ(d->read_sectors[i], 8);
    }
    EXPECT_EQ(d->reads, ARRAY_SIZE(pages));
    EXPECT_EQ(pc_stats(d).ahead, 0);
    EXPECT(pc_drop(d));
    kfree(data);
}

// ---- many readers -------------------------------------------------------------------------------

struct pc_reader {
    struct pc_disk *d;
    uint64_t offset;
    long got;
    bool right;
    struct page_cache_file file;
    uint8_t *data;
    struct completion done;
    struct thread *thread;
};

static void pc_reader_thread(void *arg)
{
    struct pc_reader *r = arg;
    r->got = page_cache_read(&r->file, r->offset, r->data, 4096);
    r->right = r->got > 0 && pc_is_right(r->data, r->offset, (size_t)r->got);
    complete(&r->done);
}

static struct pc_reader *pc_readers_start(struct pc_disk *d, unsigned count, uint64_t offset)
{
    struct pc_reader *readers = kcalloc(count, sizeof(*readers), GFP_KERNEL);
    for (unsigned i = 0; readers != NULL && i < count; i++) {
        struct pc_reader *r = &readers[i];
        r->d = d;
        r->offset = offset;
        page_cache_open(&r->file, d->disk);
        init_completion(&r->done);
        r->data = kmalloc(4096, GFP_KERNEL);
        r->thread = r->data != NULL ? kthread_run(pc_reader_thread, r, "reader/%u", i) : NULL;
        if (r->thread == NULL) {
            return NULL;
        }
    }
    return readers;
}

// True: all came back, in time.
static bool pc_readers_join(struct pc_reader *readers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (wait_for_completion_timeout(&readers[i].done, 50 * HZ) == 0) {
            return false;
        }
        thread_join(readers[i].thread);
        kfree(readers[i].data);
    }
    return true;
}

// How many threads wait for pages of this disk.
static unsigned pc_waiting(struct pc_disk *d)
{
    struct wait_queue_head *queue = &d->disk->cache->wait;
    const struct list_head *link;
    unsigned count = 0;
    unsigned long flags;
    spin_lock_irqsave(&queue->lock, flags);
    for (link = queue->entries.next; link != &queue->entries; link = link->next) {
        count++;
    }
    spin_unlock_irqrestore(&queue->lock, flags);
    return count;
}

KTEST(page_cache, one_fill_for_many_readers)
{
    struct pc_disk *d = pc_make();
    REQUIRE(d != NULL);
    d->hold = true;
    struct pc_reader *readers = pc_readers_start(d, PC_THREADS, 50 * 4096);
    REQUIRE(readers != NULL);
    EXPECT(EVENTUALLY(pc_waiting(d) == PC_THREADS));
    EXPECT_EQ(d->reads, 1);
    pc_release(d);
    REQUIRE(pc_readers_join(readers, PC_THREADS));
    for (unsigned i = 0; i < PC_THREADS; i++) {
        EXPECT_EQ(readers[i].got, 4096);
        EXPECT(readers[i].right);
    }
    EXPECT_EQ(d->reads, 1);
    EXPECT_EQ(pc_stats(d).misses, 1);
    EXPECT_EQ(pc_stats(d).hits, PC_THREADS - 1);
    kfree(readers);
    EXPECT(pc_drop(d));
}

KTEST(page_cache, an_error_is_told_to_all_who_waited_and_asked_for_once)
{
    struct pc_disk *d = pc_make();
    REQUIRE(d != NULL);
    d->hold = true;
    d->bad_read = 50 * 8 + 3;
    struct pc_reader *readers = pc_readers_start(d, PC_THREADS, 50 * 4096);
    REQUIRE(readers != NULL);
    EXPECT(EVENTUALLY(pc_waiting(d) == PC_THREADS));
    pc_release(d);
    REQUIRE(pc_readers_join(readers, PC_THREADS));
    unsigned errors = 0;
    for (unsigned i = 0; i < PC_THREADS; i++) {
        errors += readers[i].got == -EIO;
    }
    EXPECT_EQ(errors, PC_THREADS);
    // The fill they all waited for, and a try alone. A reader that wakes after that has ended makes
    // another: he did not wait for it.
    EXPECT(d->bad_reads >= 2 && d->bad_reads <= PC_THREADS + 1);
    kfree(readers);
    d->bad_read = UINT64_MAX; // the disk has mended itself
    uint8_t *data = kmalloc(4096, GFP_KERNEL);
    REQUIRE(data != NULL);
    EXPECT_EQ(page_cache_read(&d->file, 50 * 4096, data, 4096), 4096);
    EXPECT(pc_is_right(data, 50 * 4096, 4096));
    kfree(data);
    EXPECT(pc_drop(d));
}

// A window with one bad sector: exactly its page cannot be read.
KTEST(page_cache, an_error_hits_exactly_its_page)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kmalloc(65536, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    d->bad_read = 6 * 8 + 5;
    EXPECT_EQ(page_cache_read(&d->file, 0, data, 65536), 6 * 4096); // up to the bad page
    EXPECT(pc_is_right(data, 0, 6 * 4096));
    for (unsigned i = 0; i < 16; i++) {
        EXPECT_EQ(page_cache_read(&d->file, i * 4096, data, 4096), i == 6 ? -EIO : 4096);
        EXPECT(i == 6 || pc_is_right(data, i * 4096, 4096));
    }
    // A piece of it cannot be changed; the whole of it can be written, and is good then.
    EXPECT_EQ(page_cache_write(&d->file, 6 * 4096 + 10, data, 10), -EIO);
    memset(data, 0x5a, 4096);
    EXPECT_EQ(page_cache_write(&d->file, 6 * 4096, data, 4096), 4096);
    EXPECT_EQ(page_cache_read(&d->file, 6 * 4096 + 1, data, 1), 1);
    EXPECT_EQ(data[0], 0x5a);
    EXPECT_EQ(page_cache_fsync(&d->file), 0);
    EXPECT_EQ(d->memory[6 * 4096 + 4095], 0x5a);
    EXPECT(pc_drop(d));
    kfree(data);
}

// ---- write-back ---------------------------------------------------------------------------------

KTEST(page_cache, neighbours_are_written_together)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kzalloc(65536, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    // Out of order, and with gaps: 3..12, 20, 30..45.
    for (unsigned i = 12; i >= 3; i--) {
        EXPECT_EQ(page_cache_write(&d->file, i * 4096, data, 4096), 4096);
    }
    EXPECT_EQ(page_cache_write(&d->file, 20 * 4096, data, 4096), 4096);
    EXPECT_EQ(page_cache_write(&d->file, 30 * 4096, data, 65536), 65536);
    EXPECT_EQ(d->writes + d->reads, 0); // whole pages: nothing to read, nothing written yet
    EXPECT_EQ(page_cache_dirty_bytes(d->disk), 27 * 4096);
    EXPECT_EQ(page_cache_fsync_range(&d->file, 5 * 4096 + 1, 4096), 0);
    EXPECT_EQ(page_cache_dirty_bytes(d->disk), 25 * 4096); // two pages are touched by that range
    EXPECT_EQ(d->writes, 1);
    EXPECT_EQ(page_cache_fsync(&d->file), 0);
    EXPECT_EQ(page_cache_dirty_bytes(d->disk), 0);
    EXPECT_EQ(d->writes, 1 + 4); // 3..4, 7..12, 20, 30..45
    EXPECT_EQ(d->flushes, 2);
    EXPECT_EQ(pc_stats(d).written, 27);
    EXPECT_EQ(page_cache_fsync(&d->file), 0);
    EXPECT_EQ(d->writes, 5);
    EXPECT(pc_drop(d));
    kfree(data);
}

KTEST(page_cache, the_flusher_comes_by_itself)
{
    struct wb_setting before = wb_setting;
    struct pc_disk *d = pc_make();
    uint8_t byte = 0xa7;
    REQUIRE(d != NULL);
    wb_setting.dirty_expire_centisecs = 1;
    wb_setting.dirty_writeback_centisecs = 1;
    EXPECT_EQ(page_cache_write(&d->file, 5000, &byte, 1), 1);
    EXPECT(EVENTUALLY(READ_ONCE(d->memory[5000]) == 0xa7));
    EXPECT(EVENTUALLY(page_cache_dirty_bytes(d->disk) == 0));
    EXPECT_EQ(d->flushes, 0); // that is for fsync
    wb_setting = before;
    EXPECT(pc_drop(d));
}

static void pc_writer_thread(void *arg)
{
    struct pc_reader *r = arg;
    r->got = page_cache_write(&r->file, r->offset, r->data, 4096);
    complete(&r->done);
}

KTEST(page_cache, who_dirties_too_much_waits)
{
    struct wb_setting before = wb_setting;
    struct pc_disk *d = pc_make();
    uint8_t *data = kzalloc(65536, GFP_KERNEL);
    static struct pc_reader writer;
    REQUIRE(d != NULL && data != NULL);
    wb_setting.dirty_background_ratio = wb_setting.dirty_ratio = 0;
    d->hold = true;
    EXPECT_EQ(page_cache_write(&d->file, 0, data, 4096), 4096); // nothing was dirty before it
    writer = (struct pc_reader){.d = d, .offset = 4096, .data = data};
    page_cache_open(&writer.file, d->disk);
    init_completion(&writer.done);
    writer.thread = kthread_run(pc_writer_thread, &writer, "writer");
    REQUIRE(writer.thread != NULL);
    EXPECT(EVENTUALLY(pc_stats(d).throttled != 0));
    EXPECT_EQ(d->disk->cache->pages, 1);
    pc_release(d);
    EXPECT(wait_for_completion_timeout(&writer.done, 50 * HZ) != 0);
    thread_join(writer.thread);
    EXPECT_EQ(writer.got, 4096);
    for (unsigned i = 0; i < 7; i++) {
        EXPECT_EQ(page_cache_write(&d->file, i * 65536, data, 65536), 65536);
        EXPECT(page_cache_dirty_bytes(d->disk) <= 4096); // each page before the next
    }
    wb_setting = before;
    EXPECT(pc_drop(d));
    kfree(data);
}

// As Linux's fsync: once for each who had it open, and for the first who opens it after.
KTEST(page_cache, fsync_tells_each_opener_once)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kzalloc(65536, GFP_KERNEL);
    struct page_cache_file a, b, c;
    REQUIRE(d != NULL && data != NULL);
    page_cache_open(&a, d->disk);
    page_cache_open(&b, d->disk);
    d->bad_write = 6 * 8 + 1;
    EXPECT_EQ(page_cache_write(&a, 0, data, 65536), 65536); // that is no error yet
    EXPECT_EQ(page_cache_fsync(&a), -EIO);
    EXPECT_EQ(page_cache_fsync(&a), 0);
    EXPECT_EQ(page_cache_fsync(&b), -EIO);
    EXPECT_EQ(page_cache_fsync(&b), 0);
    page_cache_open(&c, d->disk);
    EXPECT_EQ(page_cache_fsync(&c), 0);
    // One page is lost, and does not stay dirty; its neighbours of the same request are written.
    EXPECT_EQ(page_cache_dirty_bytes(d->disk), 0);
    EXPECT_EQ(pc_stats(d).lost, 1);
    EXPECT_EQ(pc_stats(d).written, 15);
    for (unsigned i = 0; i < 16; i++) {
        EXPECT_EQ(d->memory[i * 4096 + 100], i == 6 ? pc_byte(6 * 4096 + 100) : 0);
    }
    // Together; then alone, of which the plug joins some again, and they are taken apart again.
    EXPECT(d->writes > 2 && d->writes <= 1 + 2 * 16);
    d->bad_write = UINT64_MAX;
    EXPECT_EQ(page_cache_write(&a, 6 * 4096, data, 4096), 4096);
    EXPECT_EQ(page_cache_fsync(&a), 0);
    EXPECT_EQ(d->memory[6 * 4096 + 100], 0);
    EXPECT(pc_drop(d));
    kfree(data);
}

// The disk reads a page: it is not changed under it, and readers need not wait.
KTEST(page_cache, what_is_being_written_stands_still)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kmalloc(4096, GFP_KERNEL);
    static struct pc_reader writer;
    REQUIRE(d != NULL && data != NULL);
    memset(data, 1, 4096);
    EXPECT_EQ(page_cache_write(&d->file, 4096, data, 4096), 4096);
    d->hold = true;
    wb_kick(d->disk->cache);
    EXPECT(EVENTUALLY(READ_ONCE(d->held_count) == 1));
    memset(data, 2, 4096);
    writer = (struct pc_reader){.d = d, .offset = 4096, .data = data};
    page_cache_open(&writer.file, d->disk);
    init_completion(&writer.done);
    writer.thread = kthread_run(pc_writer_thread, &writer, "writer");
    REQUIRE(writer.thread != NULL);
    EXPECT(EVENTUALLY(pc_waiting(d) == 1));
    uint8_t byte = 0;
    EXPECT_EQ(page_cache_read(&d->file, 4097, &byte, 1), 1);
    EXPECT_EQ(byte, 1);
    pc_release(d);
    EXPECT(wait_for_completion_timeout(&writer.done, 50 * HZ) != 0);
    thread_join(writer.thread);
    EXPECT_EQ(writer.got, 4096);
    EXPECT_EQ(d->memory[4096], 1);
    EXPECT_EQ(page_cache_fsync(&d->file), 0);
    EXPECT_EQ(d->memory[4096], 2);
    EXPECT(pc_drop(d));
    kfree(data);
}

// ---- past the cache -----------------------------------------------------------------------------

KTEST(page_cache, direct_transfers_agree_with_it)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kmalloc(8192, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    // Written through the cache, read past it.
    memset(data, 0x11, 8192);
    EXPECT_EQ(page_cache_write(&d->file, 4096 * 3 + 100, data, 50), 50);
    EXPECT_EQ(blk_read_bytes(d->disk, 4096 * 3, data, 4096), 4096);
    EXPECT_EQ(data[99], pc_byte(4096 * 3 + 99));
    EXPECT_EQ(data[100], 0x11);
    EXPECT_EQ(data[150], pc_byte(4096 * 3 + 150));
    // Written past it, read through it.
    EXPECT_EQ(page_cache_read(&d->file, 4096 * 8, data, 8192), 8192);
    memset(data, 0x22, 8192);
    EXPECT_EQ(blk_write_bytes(d->disk, 4096 * 8 + 512, data, 512), 512);
    EXPECT_EQ(page_cache_read(&d->file, 4096 * 8, data, 8192), 8192);
    EXPECT_EQ(data[511], pc_byte(4096 * 8 + 511));
    EXPECT_EQ(data[512], 0x22);
    EXPECT_EQ(data[1024], pc_byte(4096 * 8 + 1024));
    // Half of a page each way: both halves are on the disk.
    memset(data, 0x33, 8192);
    EXPECT_EQ(page_cache_write(&d->file, 4096 * 12, data, 2048), 2048);
    memset(data, 0x44, 8192);
    EXPECT_EQ(blk_write(d->disk, 12 * 8 + 4, 4, data), 0);
    EXPECT_EQ(page_cache_fsync(&d->file), 0);
    EXPECT_EQ(d->memory[4096 * 12 + 2047], 0x33);
    EXPECT_EQ(d->memory[4096 * 12 + 2048], 0x44);
    EXPECT(pc_drop(d));
    kfree(data);
}

// ---- the disk goes ------------------------------------------------------------------------------

KTEST(page_cache, a_disk_that_goes_gets_what_is_dirty)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kzalloc(65536, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    EXPECT_EQ(page_cache_write(&d->file, 65536, data, 65536), 65536);
    blk_get(d->disk);
    EXPECT_EQ(del_gendisk(d->disk), 0);
    EXPECT_EQ(d->memory[65536 + 77], 0);
    EXPECT_EQ(pc_stats(d).lost, 0);
    EXPECT_EQ(d->disk->cache->pages, 0);
    // Who has it still open is told.
    EXPECT_EQ(page_cache_read(&d->file, 65536, data, 10), -ENXIO);
    EXPECT_EQ(page_cache_write(&d->file, 65536, data, 10), -ENXIO);
    EXPECT_EQ(page_cache_write(&d->file, 65536, data, 4096), -ENXIO);
    EXPECT_EQ(page_cache_fsync(&d->file), -ENXIO);
    blk_put(d->disk);
    blk_put(d->disk);
    kfree(d->memory);
    kfree(d);
    kfree(data);
}

KTEST(page_cache, what_a_disk_takes_with_it_is_counted)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kzalloc(65536, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    EXPECT_EQ(page_cache_write(&d->file, 0, data, 3 * 4096), 3 * 4096);
    d->bad_write = 9;
    blk_get(d->disk);
    EXPECT_EQ(del_gendisk(d->disk), 0);
    EXPECT_EQ(pc_stats(d).lost, 1);
    EXPECT_EQ(pc_stats(d).written, 2);
    EXPECT_EQ(d->disk->cache->pages, 0);
    EXPECT_EQ(d->disk->cache->dirty_pages, 0);
    EXPECT_EQ(page_cache_fsync(&d->file), -EIO);
    blk_put(d->disk);
    blk_put(d->disk);
    kfree(d->memory);
    kfree(d);
    kfree(data);
}

static void pc_leave_thread(void *arg)
{
    struct pc_reader *r = arg;
    r->got = del_gendisk(r->d->disk);
    complete(&r->done);
}

// Readers wait for a disk that goes: each gets its data or an error, and all come back.
KTEST(page_cache, nobody_hangs_when_the_disk_goes)
{
    struct pc_disk *d = pc_make();
    REQUIRE(d != NULL);
    d->hold = true;
    struct pc_reader *readers = pc_readers_start(d, PC_THREADS, 30 * 4096);
    REQUIRE(readers != NULL);
    EXPECT(EVENTUALLY(pc_waiting(d) == PC_THREADS));
    static struct pc_reader leaver;
    leaver = (struct pc_reader){.d = d};
    init_completion(&leaver.done);
    blk_get(d->disk);
    leaver.thread = kthread_run(pc_leave_thread, &leaver, "leaver");
    REQUIRE(leaver.thread != NULL);
    EXPECT(EVENTUALLY((READ_ONCE(d->disk->stopped) & BLK_GONE) != 0));
    pc_release(d);
    REQUIRE(pc_readers_join(readers, PC_THREADS));
    EXPECT(wait_for_completion_timeout(&leaver.done, 50 * HZ) != 0);
    thread_join(leaver.thread);
    EXPECT_EQ(leaver.got, 0);
    for (unsigned i = 0; i < PC_THREADS; i++) {
        EXPECT(readers[i].got == -ENXIO || (readers[i].got == 4096 && readers[i].right));
    }
    EXPECT_EQ(d->disk->cache->pages, 0);
    blk_put(d->disk);
    blk_put(d->disk);
    kfree(readers);
    kfree(d->memory);
    kfree(d);
}

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
        __atomic_store_n(&fail_countdown, number, __ATOMIC_RELAXED);
        long got = page_cache_read(&d->file, 4096 * 20, data, 32768);
        bool right = got < 0 || pc_is_right(data, 4096 * 20, (size_t)got);
        long put = page_cache_write(&d->file, 4096 * 40 + 7, data, 5000);
        int error = page_cache_fsync(&d->file);
        hit = __atomic_exchange_n(&fail_countdown, 0, __ATOMIC_RELAXED) == 0;
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
