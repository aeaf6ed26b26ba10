// The page cache read: the same bytes as the disk has, in few requests, one for many readers; and
// together with transfers that go past it.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <mm/slab.h>

#include "eventually.h"
#include "page_cache_disk.h"

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

KTEST(page_cache, one_fill_for_many_readers)
{
    struct pc_disk *d = pc_make();
    REQUIRE(d != NULL);
    d->hold = true;
    struct pc_thread *readers = pc_readers_start(d, PC_THREADS, 50 * 4096);
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
    struct pc_thread *readers = pc_readers_start(d, PC_THREADS, 50 * 4096);
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
