// A disk of memory for the tests of the page cache, which does as it is told: holds its answers,
// fails where it is told to, counts what it was asked for. And threads beside the test's that use
// it.
//
// Context: thread; the answers: whoever submits.
#include <lib/string.h>
#include <core/clock.h>
#include <mm/slab.h>
#include <sched/thread.h>

#include "disk_case.h"
#include "page_cache_disk.h"

static bool pc_fails(const struct request *request, uint64_t bad)
{
    return bad >= blk_rq_pos(request) && bad < blk_rq_pos(request) + blk_rq_sectors(request);
}

static void pc_finish(struct pc_disk *d, struct request *request)
{
    bool writes = request->op == REQ_OP_WRITE;
    const uint64_t *bad = writes ? &d->bad_write : &d->bad_read;
    if (request->op != REQ_OP_FLUSH && pc_fails(request, READ_ONCE(*bad))) {
        __atomic_fetch_add(&d->bad_reads, !writes, __ATOMIC_RELAXED);
        blk_complete_request(request, -EIO);
        return;
    }
    test_request_move(request, d->memory);
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

void pc_release(struct pc_disk *d)
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

uint8_t pc_byte(size_t at)
{
    return (uint8_t)(at * 7 + (at >> 9) * 13 + (at >> 12));
}

// An entry of the table in sector 0 (MBR).
static void pc_put_partition(struct pc_disk *d, unsigned number, uint32_t start, uint32_t sectors)
{
    uint8_t *entry = d->memory + 446 + 16 * (number - 1);
    memset(entry, 0, 16);
    entry[4] = 0x83;
    for (unsigned i = 0; i < 4; i++) {
        entry[8 + i] = (uint8_t)(start >> 8 * i);
        entry[12 + i] = (uint8_t)(sectors >> 8 * i);
    }
}

static void pc_put_table(struct pc_disk *d)
{
    memset(d->memory, 0, SECTOR_SIZE);
    pc_put_partition(d, 1, PC_FIRST_START, PC_SECOND_START - PC_FIRST_START);
    pc_put_partition(d, 2, PC_SECOND_START, PC_SECOND_SECTORS);
    d->memory[510] = 0x55;
    d->memory[511] = 0xaa;
}

static struct pc_disk *pc_make_disk(uint32_t block, bool parted)
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
    if (parted) {
        pc_put_table(d);
    }
    d->disk->capacity = ALIGN_DOWN((uint64_t)PC_SECTORS, block / SECTOR_SIZE);
    d->disk->max_sectors = 512;
    d->disk->max_segments = 64;
    d->disk->logical_block_size = block;
    d->disk->no_part = !parted;
    d->disk->private_data = d;
    if (add_disk(d->disk, "tpc") != 0) {
        return NULL;
    }
    page_cache_open(&d->file, d->disk);
    return d;
}

struct pc_disk *pc_make_blocks(uint32_t block)
{
    return pc_make_disk(block, false);
}

struct pc_disk *pc_make(void)
{
    return pc_make_disk(SECTOR_SIZE, false);
}

struct pc_disk *pc_make_parted(void)
{
    return pc_make_disk(SECTOR_SIZE, true);
}

struct gendisk *pc_partition(struct pc_disk *d, unsigned number)
{
    struct gendisk *disk;
    for (disk = blk_next(NULL); disk != NULL; disk = blk_next(disk)) {
        if (disk->whole == d->disk && disk->partition == number) {
            break;
        }
    }
    return disk;
}

void pc_put(struct pc_disk *d)
{
    blk_put(d->disk);
    kfree(d->memory);
    kfree(d);
}

bool pc_drop(struct pc_disk *d)
{
    pc_release(d);
    bool gone = del_gendisk(d->disk) == 0;
    if (gone) {
        gone = d->disk->cache->pages == 0;
        pc_put(d);
    }
    return gone;
}

bool pc_is_right(const uint8_t *data, size_t at, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] != pc_byte(at + i)) {
            return false;
        }
    }
    return true;
}

struct page_cache_stats pc_stats(struct pc_disk *d)
{
    struct page_cache_stats stats;
    page_cache_stats(d->disk, &stats);
    return stats;
}

// ---- threads beside the test's ------------------------------------------------------------------

static void pc_thread_run(void *arg)
{
    struct pc_thread *r = arg;

    r->fn(r);
    complete(&r->done);
}

bool pc_thread_start(struct pc_thread *r, struct pc_disk *d, void (*fn)(struct pc_thread *r),
                     uint64_t offset, uint8_t *data)
{
    *r = (struct pc_thread){.d = d, .fn = fn, .offset = offset, .data = data};
    page_cache_open(&r->file, d->disk);
    init_completion(&r->done);
    r->thread = kthread_run(pc_thread_run, r, "beside");
    return r->thread != NULL;
}

bool pc_thread_join(struct pc_thread *r)
{
    if (wait_for_completion_timeout(&r->done, 50 * HZ) == 0) {
        return false;
    }
    thread_join(r->thread);
    return true;
}

static void pc_reader_read(struct pc_thread *r)
{
    r->got = page_cache_read(&r->file, r->offset, r->data, 4096);
    r->right = r->got > 0 && pc_is_right(r->data, r->offset, (size_t)r->got);
}

struct pc_thread *pc_readers_start(struct pc_disk *d, unsigned count, uint64_t offset)
{
    struct pc_thread *readers = kcalloc(count, sizeof(*readers), GFP_KERNEL);

    for (unsigned i = 0; readers != NULL && i < count; i++) {
        uint8_t *data = kmalloc(4096, GFP_KERNEL);

        if (data == NULL || !pc_thread_start(&readers[i], d, pc_reader_read, offset, data)) {
            return NULL;
        }
    }
    return readers;
}

bool pc_readers_join(struct pc_thread *readers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (!pc_thread_join(&readers[i])) {
            return false;
        }
        kfree(readers[i].data);
    }
    return true;
}

unsigned pc_waiting(struct pc_disk *d)
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
