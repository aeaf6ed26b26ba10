// The page cache written: what reaches the disk, when, in what pieces; who is told of an error;
// what becomes of it all when the disk goes.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <mm/slab.h>

#include "eventually.h"
#include "page_cache_disk.h"

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

static void pc_write_page(struct pc_thread *r)
{
    r->got = page_cache_write(&r->file, r->offset, r->data, 4096);
}

KTEST(page_cache, who_dirties_too_much_waits)
{
    struct wb_setting before = wb_setting;
    struct pc_disk *d = pc_make();
    uint8_t *data = kzalloc(65536, GFP_KERNEL);
    static struct pc_thread writer;
    REQUIRE(d != NULL && data != NULL);
    wb_setting.dirty_background_ratio = wb_setting.dirty_ratio = 0;
    d->hold = true;
    EXPECT_EQ(page_cache_write(&d->file, 0, data, 4096), 4096); // nothing was dirty before it
    REQUIRE(pc_thread_start(&writer, d, pc_write_page, 4096, data));
    EXPECT(EVENTUALLY(pc_stats(d).throttled != 0));
    EXPECT_EQ(d->disk->cache->pages, 1);
    pc_release(d);
    REQUIRE(pc_thread_join(&writer));
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
    static struct pc_thread writer;
    REQUIRE(d != NULL && data != NULL);
    memset(data, 1, 4096);
    EXPECT_EQ(page_cache_write(&d->file, 4096, data, 4096), 4096);
    d->hold = true;
    wb_kick(d->disk->cache);
    EXPECT(EVENTUALLY(READ_ONCE(d->held_count) == 1));
    memset(data, 2, 4096);
    REQUIRE(pc_thread_start(&writer, d, pc_write_page, 4096, data));
    EXPECT(EVENTUALLY(pc_waiting(d) == 1));
    uint8_t byte = 0;
    EXPECT_EQ(page_cache_read(&d->file, 4097, &byte, 1), 1);
    EXPECT_EQ(byte, 1);
    pc_release(d);
    REQUIRE(pc_thread_join(&writer));
    EXPECT_EQ(writer.got, 4096);
    EXPECT_EQ(d->memory[4096], 1);
    EXPECT_EQ(page_cache_fsync(&d->file), 0);
    EXPECT_EQ(d->memory[4096], 2);
    EXPECT(pc_drop(d));
    kfree(data);
}

// Each opener hears of it once, by his fsync: those of the disk, and those of the partition on
// which it happened.
KTEST(page_cache, an_error_is_told_where_it_happened)
{
    struct pc_disk *d = pc_make_parted();
    uint8_t *data = kzalloc(4096, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    struct gendisk *first = pc_partition(d, 1), *second = pc_partition(d, 2);
    struct page_cache_file a, b, c;
    REQUIRE(first != NULL && second != NULL);
    page_cache_open(&a, first);
    page_cache_open(&b, second);
    page_cache_open(&c, second);
    d->bad_write = 241;
    EXPECT_EQ(page_cache_write(&b, (240 - PC_SECOND_START) * SECTOR_SIZE, data, 4096), 4096);
    EXPECT_EQ(page_cache_fsync(&a), 0); // that is not its own
    EXPECT_EQ(page_cache_fsync(&b), -EIO);
    EXPECT_EQ(page_cache_fsync(&b), 0);
    EXPECT_EQ(page_cache_fsync(&c), -EIO);
    EXPECT_EQ(page_cache_fsync(&c), 0);
    EXPECT_EQ(page_cache_fsync(&d->file), -EIO);
    EXPECT_EQ(page_cache_fsync(&d->file), 0);
    EXPECT_EQ(page_cache_fsync(&a), 0);
    page_cache_open(&c, second); // others have seen it
    EXPECT_EQ(page_cache_fsync(&c), 0);
    d->bad_write = 193; // of a page on which both partitions lie
    EXPECT_EQ(page_cache_write(&a, (195 - PC_FIRST_START) * SECTOR_SIZE, data, SECTOR_SIZE),
              SECTOR_SIZE);
    EXPECT_EQ(page_cache_fsync(&a), -EIO);
    EXPECT_EQ(page_cache_fsync(&b), -EIO);
    EXPECT_EQ(page_cache_fsync(&d->file), -EIO);
    blk_put(first);
    blk_put(second);
    EXPECT(pc_drop(d));
    kfree(data);
}

// What may not be taken is passed over in small steps, each a hold of the lock.
KTEST(page_cache, many_dirty_pages_are_not_walked_at_once)
{
    struct pc_disk *d = pc_make();
    uint8_t *data = kzalloc(4096, GFP_KERNEL);
    REQUIRE(d != NULL && data != NULL);
    for (unsigned i = 0; i < PC_PAGES; i++) {
        EXPECT_EQ(page_cache_write(&d->file, i * 4096, data, 4096), 4096);
    }
    struct cache_io *io = cache_io_alloc(d->disk->cache, d->disk, 8);
    struct wb_pass pass = {.cache = d->disk->cache, .last = CACHE_END, .alone_only = true};
    unsigned long flags;
    unsigned holds = 0;
    bool more;
    REQUIRE(io != NULL);
    do {
        uint64_t before = pass.at;
        spin_lock_irqsave(&page_cache_lock, flags);
        more = wb_collect_some_locked(&pass, io);
        spin_unlock_irqrestore(&page_cache_lock, flags);
        EXPECT(pass.at - before <= WB_LOOKS);
        holds++;
    } while (more && holds <= PC_PAGES);
    EXPECT_EQ(io->count, 0);
    EXPECT_EQ(pass.at, PC_PAGES);
    EXPECT_EQ(holds, PC_PAGES / WB_LOOKS);
    cache_io_free(io);
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
    pc_put(d);
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
    pc_put(d);
    kfree(data);
}

static void pc_take_away(struct pc_thread *r)
{
    r->got = del_gendisk(r->d->disk);
}

// Readers wait for a disk that goes: each gets its data or an error, and all come back.
KTEST(page_cache, nobody_hangs_when_the_disk_goes)
{
    struct pc_disk *d = pc_make();
    REQUIRE(d != NULL);
    d->hold = true;
    struct pc_thread *readers = pc_readers_start(d, PC_THREADS, 30 * 4096);
    REQUIRE(readers != NULL);
    EXPECT(EVENTUALLY(pc_waiting(d) == PC_THREADS));
    static struct pc_thread leaver;
    blk_get(d->disk);
    REQUIRE(pc_thread_start(&leaver, d, pc_take_away, 0, NULL));
    EXPECT(EVENTUALLY((READ_ONCE(d->disk->stopped) & BLK_GONE) != 0));
    pc_release(d);
    REQUIRE(pc_readers_join(readers, PC_THREADS));
    REQUIRE(pc_thread_join(&leaver));
    EXPECT_EQ(leaver.got, 0);
    for (unsigned i = 0; i < PC_THREADS; i++) {
        EXPECT(readers[i].got == -ENXIO || (readers[i].got == 4096 && readers[i].right));
    }
    EXPECT_EQ(d->disk->cache->pages, 0);
    blk_put(d->disk);
    pc_put(d);
    kfree(readers);
}
