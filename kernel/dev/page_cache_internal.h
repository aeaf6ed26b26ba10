// What the files of the page cache know of each other: page_cache.c (pages), page_cache_read.c,
// page_cache_write.c, page_cache_io.c (requests), page_cache_wb.c (write-back), page_cache_lru.c
// (pages that go).
#pragma once

#include <core/spinlock.h>
#include <lib/errseq.h>
#include <lib/list.h>
#include <sched/wait.h>
#include <defer/work.h>
#include <dev/page_cache.h>

#include "block_internal.h"
#include "page_index.h"

// Bits of a page's state. The first two that concern the device tell who owns the memory:
//
//   LOCKED      one writer changes it, or a request fills it: nobody else may
//   UPTODATE    it holds what the disk should hold: readers may copy, also while it is LOCKED
//   DIRTY       the disk does not hold it yet
//   WRITEBACK   the disk is reading it: nobody may change it; never together with DIRTY
enum page_state {
    PG_LOCKED = 1,
    PG_UPTODATE = 2,
    PG_DIRTY = 4,
    PG_WRITEBACK = 8,
    PG_WAITED = 16,       // somebody waits for LOCKED or WRITEBACK to end
    PG_ALONE = 32,        // a request of several pages failed: the next one has this page only
    PG_ERROR = 64,        // the request that had it alone failed: page->error
    PG_AHEAD = 128,       // read before anybody asked, and not used yet
    PG_MARKER = 256,      // whose reader asks for the next window
    PG_USED = 512,        // read once
    PG_REFERENCED = 1024, // read again: spared once by reclaim
    PG_GONE = 2048,       // not in the index any more
    PG_WANTED = 4096,     // read because somebody asked: his first look is no hit
};

enum {
    CACHE_TRIES = 16,          // to get hold of a page that others take away meanwhile
    CACHE_IO_PAGES = 64,       // of one request; more are merged by the plug
    CACHE_WRITES_MAX = 8,      // requests of write-back under way, of one disk
    CACHE_SHRINK_BATCH = 32,   // pages that go under one hold of the lock
    CACHE_READ_AHEAD_KB = 128, // see docs/decisions/0008-page-cache.md
};
#define CACHE_END UINT64_MAX

struct cache_page {
    struct page_node node;    // L: of cache->index
    struct page_node dirty;   // L: of cache->dirty, while PG_DIRTY
    struct list_head lru;     // L: while clean, idle and in the index; else linked to itself
    struct page_cache *cache; // I
    uint8_t *data;            // I: a page of memory; who may touch it says `state`
    uint32_t references;      // A: one of the index, one of each who uses it
    uint32_t state;           // L: enum page_state
    int error;                // L: with PG_ERROR
};

struct page_cache {
    struct gendisk *disk;        // I: whole; lives longer than its cache
    uint32_t io_pages;           // I: of one request of this disk
    uint32_t read_ahead;         // A: pages; 0: none
    struct rb_root_cached index; // L: all pages
    struct rb_root_cached dirty; // L: those that are dirty
    uint32_t pages, dirty_pages; // L
    uint32_t writeback_pages;    // L
    uint32_t alone_pages;        // L: dirty, and to be written alone
    uint32_t dirtied_when;       // L: jiffies: when the oldest that is dirty was dirtied, at most
    bool gone;                   // L: the disk is: no page comes any more
    bool flush_now;              // A: the flusher need not ask how old or how many
    uint32_t complaints;         // L: lost pages that were logged
    struct list_head writes;     // L: requests of write-back under way, the oldest first
    uint32_t writes_in_flight;   // L
    uint64_t write_number;       // L: of the last one
    struct cache_io *spare;      // L: for write-back when there is no memory; NULL: in use
    struct wait_queue_head wait; // for pages, for requests, for room to dirty
    struct list_head partitions; // L: of the disk, as long as somebody has a reference of them
    struct delayed_work flusher;
    struct page_cache_stats stats; // A, each number for itself
};

// A request of the cache: pages that follow each other on the disk.
struct cache_io {
    struct request request;
    struct page_cache *cache;
    struct gendisk *disk;      // whom it is charged to: the whole disk or a partition; a reference
    struct list_head link;     // L: of cache->writes
    uint64_t number;           // I: its place in the order of writes
    uint32_t count, room;      // pages
    bool alone;                // its failure is the failure of its only page
    bool is_spare;             // I: its disk's, never freed before that
    struct cache_page **pages; // a reference of each
    struct blk_segment *segments;
};

extern struct spinlock page_cache_lock; // of everything L here, of all disks

static inline struct page_cache *cache_of(struct gendisk *disk)
{
    return blk_whole(disk)->cache;
}
static inline struct cache_page *page_of_node(struct page_node *node)
{
    return container_of(node, struct cache_page, node);
}
static inline void cache_count(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

// ---- page_cache.c -------------------------------------------------------------------------------

int page_cache_make(struct gendisk *whole);               // by add_disk: 0; -ENOMEM
void page_cache_free(struct gendisk *whole);              // with the disk
void page_cache_add_partition(struct gendisk *partition); // if its disk has a cache
void page_cache_del_partition(struct gendisk *partition); // before any disk is freed
// How many bytes of the page lie on the disk: less than a page for the last one only.
uint32_t cache_page_bytes(const struct page_cache *cache, uint64_t index);
// A page without an owner, LOCKED and in no index, with one reference; NULL: no memory.
struct cache_page *cache_page_new(struct page_cache *cache, uint64_t index);
void cache_page_get(struct cache_page *page);
void cache_page_put(struct cache_page *page);
// Ends bits of the state, sets others; caller holds the lock. True: wake cache->wait.
bool cache_page_change_locked(struct cache_page *page, uint32_t clear, uint32_t set);
// Sleeps until none of these bits is set. Context: thread.
void cache_page_wait(struct cache_page *page, uint32_t bits);
// LOCKED for the caller, not WRITEBACK. False: it has left the index. Context: thread.
bool cache_page_lock(struct cache_page *page);
void cache_page_unlock(struct cache_page *page);
struct cache_page *cache_page_find(struct page_cache *cache, uint64_t index); // takes a reference
// The same for who holds the lock.
struct cache_page *cache_page_find_locked(struct page_cache *cache, uint64_t index);
// Puts a new page into the index, which takes a reference of its own. 0; -EEXIST; -ENXIO.
int cache_page_insert(struct cache_page *page);
int cache_check(const struct page_cache *cache); // 0; -ENXIO, -ENOMEDIUM: nothing may be given out

// ---- page_cache_read.c --------------------------------------------------------------------------

// Reads one page again, or for the first time, which the caller has LOCKED: this request's result
// is that of the page. 0; -ENOMEM, and then the page is not LOCKED any more.
int cache_fill_alone(struct page_cache_file *file, struct cache_page *page);
// Sleeps until a page is up to date. 0; -EAGAIN: it has left the cache; why it cannot be read.
int cache_page_ready(struct page_cache_file *file, struct cache_page *page);

// ---- page_cache_io.c ----------------------------------------------------------------------------

struct cache_io *cache_io_alloc(struct page_cache *cache, struct gendisk *disk, uint32_t room);
void cache_io_free(struct cache_io *io);
// May this page stand behind the last one?
bool cache_io_takes(const struct cache_io *io, uint64_t index);
// The pages are LOCKED, in the index, and not up to date; their references go to the request.
void cache_io_read(struct cache_io *io);
// What was written to the page will not reach the disk: noted for whoever has the disk open, or a
// partition on which the page lies. Caller holds the lock.
void cache_page_note_loss_locked(struct cache_page *page, int error);
// The pages are WRITEBACK, and the request is in cache->writes.
void cache_io_write(struct cache_io *io);

// ---- page_cache_wb.c ----------------------------------------------------------------------------

enum { WB_MAX_CENTISECS = 1000000, WB_LOOKS = 64 };
struct wb_setting {                                             // as Linux's of the same names
    uint32_t dirty_background_ratio, dirty_ratio;               // A: percent of usable memory
    uint32_t dirty_expire_centisecs, dirty_writeback_centisecs; // A
};
extern struct wb_setting wb_setting;
int wb_init(void);
void wb_start(struct page_cache *cache); // with the cache
void wb_stop(struct page_cache *cache);  // when it is gone
// The caller holds the lock: the page is dirty from now on. False: the disk is gone.
bool wb_set_dirty_locked(struct cache_page *page);
void wb_clear_dirty_locked(struct cache_page *page);
// Has the flusher run now. Context: any.
void wb_kick(struct page_cache *cache);
// What of the disk one pass writes.
struct wb_pass {
    struct page_cache *cache;
    uint64_t at, last;        // pages: the next one to look at, the last one
    bool alone_only;          // those of failed requests
    bool wait;                // for pages that a writer has LOCKED; else they are passed over
    const uint32_t *deadline; // NULL: none
    struct cache_page *busy;  // what has to be waited for, with a reference
    uint32_t pages;           // so many so far
};
// Looks at some dirty pages, WB_LOOKS at most, and moves a run of them into the request. False:
// there are no more, or one has to be waited for first. Caller holds the lock.
bool wb_collect_some_locked(struct wb_pass *pass, struct cache_io *io);

// Writes pages first .. last that are dirty. `deadline` in jiffies, NULL for no bound and waiting:
// 0; -ETIMEDOUT. Errors are in the wb_err of the disks concerned. Context: thread.
int wb_sync(struct page_cache *cache, uint64_t first, uint64_t last, const uint32_t *deadline);
// Waits as long as too much is dirty. 0; -EINTR. Context: thread.
int wb_throttle(struct page_cache *cache);
void wb_settings(uint32_t *background_pages, uint32_t *limit_pages);

// ---- page_cache_lru.c ---------------------------------------------------------------------------

void lru_init(void);
void lru_add_locked(struct cache_page *page); // if it is clean and idle
void lru_del_locked(struct cache_page *page);
void lru_wake(void); // clean pages have come; context: any
// Gives back as many pages as are about to be taken, when few are free.
void lru_make_room(uint32_t pages);
// For transfers past the cache, of a disk's sectors. What is dirty there is written before: 0;
// -EIO: some of the disk was lost meanwhile, and what it has is not what was written. Context:
// thread.
int page_cache_before_direct(struct gendisk *disk, uint64_t sector, uint32_t sectors);
void page_cache_after_direct_write(struct gendisk *disk, uint64_t sector, uint32_t sectors);
// The disk takes no request any more: what it had is dropped, and said. Context: thread.
void page_cache_leave(struct gendisk *whole);
