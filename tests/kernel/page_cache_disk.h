// What the tests of the page cache share: a disk of memory, and threads that read it.
#pragma once

#include <core/spinlock.h>
#include <sched/completion.h>
#include <dev/block.h>
#include <dev/page_cache.h>

#include "../../kernel/dev/page_cache_internal.h"

enum {
    PC_PAGES = 128,
    PC_SECTORS = PC_PAGES * 8 + 3, // the last page is not whole
    PC_SIZE = PC_SECTORS * SECTOR_SIZE,
    PC_HELD = 64,
    PC_SIZES = 64,
    PC_THREADS = 6,
    PC_FIRST_START = 64,
    PC_SECOND_START = 196, // and there the first one ends
    PC_SECOND_SECTORS = 128,
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

// A disk in blocks of this size, open, with bytes that pc_byte tells; NULL: no memory.
struct pc_disk *pc_make_blocks(uint32_t block);
struct pc_disk *pc_make(void); // of 512 bytes
// The same with two partitions, which share a page. pc_partition: with a reference.
struct pc_disk *pc_make_parted(void);
struct gendisk *pc_partition(struct pc_disk *d, unsigned number);
// Gives back what is held, and takes the disk down. True: nothing was left of it.
bool pc_drop(struct pc_disk *d);
// The rest of that, for a test that took a reference and then the disk down itself.
void pc_put(struct pc_disk *d);
// Holds nothing any more, and answers what was held.
void pc_release(struct pc_disk *d);
uint8_t pc_byte(size_t at);
bool pc_is_right(const uint8_t *data, size_t at, size_t size);
struct page_cache_stats pc_stats(struct pc_disk *d);

struct pc_thread {
    struct pc_disk *d;
    uint64_t offset;
    long got;
    bool right;
    void (*fn)(struct pc_thread *r);
    struct page_cache_file file;
    uint8_t *data;
    struct completion done;
    struct thread *thread;
};

// A thread beside the test's, an opener of its own: calls fn. False: no memory.
bool pc_thread_start(struct pc_thread *r, struct pc_disk *d, void (*fn)(struct pc_thread *r),
                     uint64_t offset, uint8_t *data);
// True: it came back, in time.
bool pc_thread_join(struct pc_thread *r);
// So many threads that read the page at `offset`. NULL: no memory.
struct pc_thread *pc_readers_start(struct pc_disk *d, unsigned count, uint64_t offset);
// True: all came back, in time.
bool pc_readers_join(struct pc_thread *readers, unsigned count);
// How many threads wait for pages of this disk.
unsigned pc_waiting(struct pc_disk *d);
