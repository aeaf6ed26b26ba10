// Transfers that sleep: a piece of memory to or from a disk, whole, of any size, by sectors or by
// bytes.
//
// What fits into one request takes the short way: request and completion live on the caller's
// stack. Longer transfers are cut into chunks, of which a few are under way at once:
//
//   memory   [ chunk 0 ][ chunk 1 ][ chunk 2 ][ chunk 3 ][ chunk 4 ] ...
//   slots        0          1          2          3          0 again, when its completion came
//
// They are waited for in order, so the first error reported is that of the lowest sector, and
// nothing is submitted after it.
//
// All of them go past the page cache, and agree with it: what it has dirty of the range is written
// first, what it has of a range that was written is dropped. The byte-wise functions serve
// O_DIRECT, and disks that can have no cache: a partial sector costs a read, and to write one is a
// read-modify-write, which the disk's write_mutex keeps whole against other byte-wise writers.
//
// Context: thread. Previous: kernel/dev/block.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/panic.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <sched/thread.h>
#include <dev/block.h>

#include "block_internal.h"
#include "page_cache_internal.h"

enum {
    BLK_CHUNKS_IN_FLIGHT = 4,
    BLK_BOUNCE_SIZE = 64 << 10, // for memory that a device may not touch
};

struct blk_chunk {
    struct completion done;
    struct request request;
};

// What one request can carry that has its memory in one piece.
static uint32_t blk_most_sectors(struct gendisk *disk)
{
    const struct gendisk *whole = blk_whole(disk);
    uint32_t piece = whole->max_segment_size / SECTOR_SIZE;
    return piece == 0 ? whole->max_sectors : min(piece, whole->max_sectors);
}

static void blk_chunk_done(struct request *request)
{
    struct blk_chunk *chunk = request->private_data;
    complete(&chunk->done);
}

static void blk_chunk_submit(struct blk_chunk *chunk, struct gendisk *disk, enum req_op op,
                             uint64_t sector, uint32_t sectors, void *data)
{
    init_completion(&chunk->done);
    blk_request_init(&chunk->request, disk, op, sector, sectors, data, blk_chunk_done, chunk);
    blk_submit(&chunk->request);
}

// The driver owes a completion for everything it took (its timeouts see to that), so this wait has
// no bound of its own.
static int blk_chunk_wait(struct blk_chunk *chunk)
{
    wait_for_completion_io(&chunk->done);
    return chunk->request.status;
}

static inline int blk_one(struct gendisk *disk, enum req_op op, uint64_t sector, uint32_t sectors,
                          void *data)
{
    struct blk_chunk chunk;
    blk_chunk_submit(&chunk, disk, op, sector, sectors, data);
    return blk_chunk_wait(&chunk);
}

// Without memory for several chunks at once: one after the other.
static int blk_in_turn(struct gendisk *disk, enum req_op op, uint64_t sector, uint32_t sectors,
                       uint8_t *data)
{
    uint32_t most = blk_most_sectors(disk);
    int error = 0;
    while (sectors != 0 && error == 0) {
        uint32_t length = min(sectors, most);
        error = blk_one(disk, op, sector, length, data);
        sector += length;
        sectors -= length;
        data += (size_t)length * SECTOR_SIZE;
    }
    return error;
}

static __noinline int blk_many(struct gendisk *disk, enum req_op op, uint64_t sector,
                               uint32_t sectors, uint8_t *data)
{
    struct blk_chunk *chunks = kcalloc(BLK_CHUNKS_IN_FLIGHT, sizeof(*chunks), GFP_KERNEL);
    uint32_t submitted = 0, waited = 0, most = blk_most_sectors(disk);
    int error = 0;

    if (chunks == NULL) {
        return blk_in_turn(disk, op, sector, sectors, data);
    }
    while (waited < submitted || (sectors != 0 && error == 0)) {
        if (sectors != 0 && error == 0 && submitted - waited < BLK_CHUNKS_IN_FLIGHT) {
            uint32_t length = min(sectors, most);
            blk_chunk_submit(&chunks[submitted++ % BLK_CHUNKS_IN_FLIGHT], disk, op, sector, length,
                             data);
            sector += length;
            sectors -= length;
            data += (size_t)length * SECTOR_SIZE;
            continue;
        }
        int status = blk_chunk_wait(&chunks[waited++ % BLK_CHUNKS_IN_FLIGHT]);
        if (error == 0) {
            error = status;
        }
    }
    kfree(chunks);
    return error;
}

static inline int blk_transfer(struct gendisk *disk, enum req_op op, uint64_t sector,
                               uint32_t sectors, void *data)
{
    if (sectors == 0) {
        return 0;
    }
    if (likely(sectors <= blk_most_sectors(disk))) {
        return blk_one(disk, op, sector, sectors, data);
    }
    return blk_many(disk, op, sector, sectors, data);
}

// Has the page cache anything of this disk, so that it and a transfer past it must agree?
static inline bool blk_is_cached(struct gendisk *disk)
{
    const struct page_cache *cache = cache_of(disk);
    return unlikely(cache != NULL && READ_ONCE(cache->pages) != 0);
}

int blk_read(struct gendisk *disk, uint64_t sector, uint32_t sectors, void *data)
{
    police_might_sleep();
    if (blk_is_cached(disk)) {
        int error = page_cache_before_direct(disk, sector, sectors);
        if (error != 0) {
            return error;
        }
    }
    return blk_transfer(disk, REQ_OP_READ, sector, sectors, data);
}

// Pages that the cache reads while this is under way may hold either: they go afterwards.
int blk_write(struct gendisk *disk, uint64_t sector, uint32_t sectors, const void *data)
{
    police_might_sleep();
    if (blk_is_cached(disk)) {
        page_cache_before_direct(disk, sector, sectors); // what is lost is overwritten
    }
    int error = blk_transfer(disk, REQ_OP_WRITE, sector, sectors, (void *)(uintptr_t)data);
    if (blk_is_cached(disk)) {
        page_cache_after_direct_write(disk, sector, sectors);
    }
    return error;
}

int blk_flush(struct gendisk *disk)
{
    might_sleep();
    return blk_one(disk, REQ_OP_FLUSH, 0, 0, NULL);
}

// ---- by bytes -----------------------------------------------------------------------------------

// May a device reach this memory? Only what lies in the direct map: not a stack, not vmalloc's, not
// the image's own data.
static bool blk_is_dma_memory(struct gendisk *disk, const void *data, size_t size)
{
    uintptr_t start = (uintptr_t)data;
    return start >= PHYS_BASE && start + size <= VMAP_BASE && start + size > start &&
           (start & blk_whole(disk)->dma_alignment) == 0;
}

// One step of a byte-wise transfer, at most as long as the bounce buffer unless it needs none.
struct blk_step {
    uint64_t sector;  // the first one touched
    uint32_t sectors; // how many
    uint32_t skip;    // bytes of the first block that are not asked for
    uint32_t bytes;   // that are
    bool partial;     // not whole blocks
    bool direct;      // without the bounce buffer
};

static struct blk_step blk_next_step(struct gendisk *disk, uint64_t offset, const void *data,
                                     size_t size)
{
    uint32_t block = blk_whole(disk)->logical_block_size;
    struct blk_step step = {.skip = (uint32_t)(offset & (block - 1))};
    size_t whole = ALIGN_DOWN(size, block);
    step.sector = (offset - step.skip) / SECTOR_SIZE;
    step.direct = step.skip == 0 && whole != 0 && blk_is_dma_memory(disk, data, whole);
    if (step.direct) {
        step.bytes = (uint32_t)min(whole, (size_t)(1u << 30));
    } else if (step.skip == 0 && whole != 0) {
        step.bytes = (uint32_t)min(whole, (size_t)BLK_BOUNCE_SIZE);
    } else {
        step.bytes = (uint32_t)min(size, (size_t)(block - step.skip));
        step.partial = true;
    }
    step.sectors = (uint32_t)ALIGN_UP(step.skip + step.bytes, block) / SECTOR_SIZE;
    return step;
}

// For `lab copies`.
static void blk_count_copy(struct gendisk *disk, uint32_t bytes)
{
    if (cache_of(disk) != NULL) {
        cache_count(&cache_of(disk)->stats.bounced, bytes);
    }
}

static int blk_read_step(struct gendisk *disk, const struct blk_step *step, void *data,
                         uint8_t *bounce)
{
    void *to = step->direct ? data : bounce;
    int error = blk_read(disk, step->sector, step->sectors, to);
    if (error == 0 && !step->direct) {
        memcpy(data, bounce + step->skip, step->bytes);
        blk_count_copy(disk, step->bytes);
    }
    return error;
}

static int blk_write_step(struct gendisk *disk, const struct blk_step *step, const void *data,
                          uint8_t *bounce)
{
    int error = 0;
    if (step->direct) {
        return blk_write(disk, step->sector, step->sectors, data);
    }
    if (step->partial) {
        error = blk_read(disk, step->sector, step->sectors, bounce);
    }
    if (error == 0) {
        memcpy(bounce + step->skip, data, step->bytes);
        blk_count_copy(disk, step->bytes);
        error = blk_write(disk, step->sector, step->sectors, bounce);
    }
    return error;
}

void blk_clip(const struct gendisk *disk, uint64_t offset, size_t *size)
{
    uint64_t end = disk->capacity * SECTOR_SIZE; // capacity is below 2^48 sectors
    if (offset >= end) {
        *size = 0;
    } else if (*size > end - offset) {
        *size = end - offset;
    }
    *size = min(*size, (size_t)INT64_MAX);
}

static long blk_bytes(struct gendisk *disk, enum req_op op, uint64_t offset, uint8_t *data,
                      size_t size)
{
    uint8_t *bounce = NULL;
    size_t finished = 0;
    int error = 0;

    while (finished < size && error == 0) {
        struct blk_step step =
            blk_next_step(disk, offset + finished, data + finished, size - finished);
        if (!step.direct && bounce == NULL) {
            bool is_last = step.bytes == size - finished;
            size_t need = step.partial && is_last ? (size_t)step.sectors * SECTOR_SIZE
                                                  : (size_t)BLK_BOUNCE_SIZE;
            bounce = kmalloc(need, GFP_KERNEL);
            if (bounce == NULL) {
                error = -ENOMEM;
                break;
            }
        }
        error = op == REQ_OP_READ ? blk_read_step(disk, &step, data + finished, bounce)
                                  : blk_write_step(disk, &step, data + finished, bounce);
        if (error == 0) {
            finished += step.bytes;
        }
    }
    kfree(bounce);
    return finished != 0 || error == 0 ? (long)finished : error;
}

long blk_read_bytes(struct gendisk *disk, uint64_t offset, void *data, size_t size)
{
    police_might_sleep();
    blk_clip(disk, offset, &size);
    return blk_bytes(disk, REQ_OP_READ, offset, data, size);
}

long blk_write_bytes(struct gendisk *disk, uint64_t offset, const void *data, size_t size)
{
    police_might_sleep();
    size_t wanted = size;
    blk_clip(disk, offset, &size);
    if (size == 0) {
        return wanted == 0 ? 0 : -ENOSPC;
    }
    mutex_lock(&blk_whole(disk)->write_mutex);
    long written = blk_bytes(disk, REQ_OP_WRITE, offset, (uint8_t *)(uintptr_t)data, size);
    mutex_unlock(&blk_whole(disk)->write_mutex);
    return written;
}
