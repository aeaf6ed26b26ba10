// The block layer's core: the life of a request, and its way down to the driver.
//
// A disk has one or more hardware queues. Each accepts as many requests at a time as it has tags;
// the rest wait in its list. A request changes hands four times, and each step is made under the
// queue's lock or by one atomic exchange, so "done exactly once" is not a hope:
//
//    maker            block layer                       driver
//   IDLE ──blk_submit──> WAITING ──a tag is free──────> STARTED
//     ^                   │   ^── blk_requeue_request ──┘   │
//     │                   └──── the disk goes: -ENXIO ──┐   │ blk_complete_request, any context:
//     │                                                 v   v a place in a batch, or a raised softirq
//     └────── request->done, in BLOCK_SOFTIRQ ────────── DONE
//
// There is no elevator: what an emulated disk and an SSD gain from one is nothing, and the path
// stays short enough to read. Requests that follow each other on the disk are merged
// (block_merge.c).
//
// Context: blk_submit from threads and softirqs. Next: kernel/dev/block_done.c (the way up),
// kernel/dev/block_io.c (whole transfers that sleep), drivers/block/ahci/ahci_disk.c (a driver).
#include <lib/errno.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <sched/thread.h>
#include <dev/block.h>

#include "block_internal.h"

// ---- what is asked for --------------------------------------------------------------------------

// What holds for each piece of memory.
static inline bool blk_segment_fits(const struct gendisk *disk, const struct blk_segment *segment)
{
    uintptr_t start = (uintptr_t)segment->data;
    uint32_t length = segment->length, most = disk->max_segment_size;
    return length != 0 && ((start | length) & disk->dma_alignment) == 0 &&
           (most == 0 || length <= most) &&
           (likely(disk->segment_boundary == 0) ||
            ((start ^ (start + length - 1)) & ~disk->segment_boundary) == 0);
}

// And for several: the seams between them.
static __noinline int blk_check_segments(const struct gendisk *disk, const struct request *request)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < request->segment_count; i++) {
        const struct blk_segment *segment = &request->segments[i];
        uintptr_t start = (uintptr_t)segment->data, end = start + segment->length;
        if (!blk_segment_fits(disk, segment) || (i != 0 && (start & disk->virt_boundary) != 0) ||
            (i + 1 != request->segment_count && (end & disk->virt_boundary) != 0)) {
            return -EINVAL;
        }
        bytes += segment->length;
    }
    return bytes == (uint64_t)request->sectors * SECTOR_SIZE ? 0 : -EINVAL;
}

// What a driver need not check again. Returns 0, -EINVAL, -ENOSPC (beyond the end), -EROFS.
static inline int blk_check(const struct gendisk *disk, const struct gendisk *whole,
                            const struct request *request)
{
    if (unlikely(request->op == REQ_OP_FLUSH)) {
        return request->sectors == 0 && request->segment_count == 0 ? 0 : -EINVAL;
    }
    if (request->op != REQ_OP_READ && request->op != REQ_OP_WRITE) {
        return request->op == REQ_OP_DRV_IN && disk->ops->open != NULL ? 0 : -EINVAL;
    }
    if (request->op == REQ_OP_WRITE && disk->read_only) {
        return -EROFS;
    }
    if (request->sectors == 0 || request->sectors > whole->max_sectors ||
        request->segment_count == 0 || request->segment_count > whole->max_segments) {
        return -EINVAL;
    }
    if (request->sector >= disk->capacity || request->sectors > disk->capacity - request->sector) {
        return -ENOSPC;
    }
    uint64_t pos = request->sector + disk->start;
    if (((pos | request->sectors) & (whole->logical_block_size / SECTOR_SIZE - 1)) != 0) {
        return -EINVAL; // the disk has larger blocks than a sector
    }
    if (likely(request->segment_count == 1)) {
        return blk_segment_fits(whole, request->segments) &&
                       request->segments->length == (uint64_t)request->sectors * SECTOR_SIZE
                   ? 0
                   : -EINVAL;
    }
    return blk_check_segments(whole, request);
}

// ---- to the driver ------------------------------------------------------------------------------

// The driver gets it next. Caller holds the lock and has seen a free tag.
static inline void blk_start_locked(struct blk_mq_hw_ctx *hctx, struct request *request)
{
    struct gendisk *disk = hctx->disk;
    uint16_t tag = hctx->free_tags[--hctx->free_count];
    hctx->by_tag[tag] = request;
    request->tag = tag;
    request->deadline =
        jiffies + (request->op == REQ_OP_FLUSH ? disk->timeout_jiffies * 3 : disk->timeout_jiffies);
    WRITE_ONCE(request->state, REQUEST_STARTED);
}

// Takes from the head of a list, as far as there are tags. Caller holds the lock and must call
// blk_dispatch for what it gets.
static unsigned blk_take_locked(struct blk_mq_hw_ctx *hctx, struct list_head *list,
                                struct request **batch)
{
    struct list_head *link = list->next;
    unsigned count = 0;
    if (READ_ONCE(hctx->disk->stopped) != 0) {
        return 0;
    }
    while (link != list && hctx->free_count != 0 && count < BLK_BATCH) {
        batch[count] = list_entry(link, struct request, link);
        link = link->next;
        blk_start_locked(hctx, batch[count++]);
    }
    if (count != 0) {
        list->next = link; // they are out, all at once
        link->prev = list;
        __atomic_fetch_add(&hctx->submitting, 1, __ATOMIC_RELAXED);
    }
    return count;
}

static unsigned blk_take(struct blk_mq_hw_ctx *hctx, struct request **batch)
{
    unsigned long flags;
    spin_lock_irqsave(&hctx->lock, flags);
    unsigned count = blk_take_locked(hctx, &hctx->waiting, batch);
    spin_unlock_irqrestore(&hctx->lock, flags);
    return count;
}

// Takes the requests back that the driver had no room for, in order. True when a completion came
// between its "no" and this: nobody else would look at the list again.
static bool blk_put_back(struct blk_mq_hw_ctx *hctx, struct request **batch, unsigned count,
                         uint32_t kicks)
{
    unsigned long flags;
    spin_lock_irqsave(&hctx->lock, flags);
    while (count-- != 0) {
        blk_free_tag_locked(hctx, batch[count]);
        WRITE_ONCE(batch[count]->state, REQUEST_WAITING);
        list_add(&batch[count]->link, &hctx->waiting);
    }
    bool again = hctx->kicks != kicks;
    spin_unlock_irqrestore(&hctx->lock, flags);
    return again;
}

// The driver found no memory: for a copy that the device can reach, or for tables. Mostly others
// give some back in a moment, and what is written must not be lost for that. True: the request is
// offered again, and somebody comes to do so even if nothing of this queue is under way. The
// patience is the disk's, not each request's: when it is at an end, all that wait are told soon.
static bool blk_waits_for_memory(struct gendisk *disk)
{
    const uint64_t ms = 1000000;
    uint64_t now_ns = clock_ns(), last_ns = READ_ONCE(disk->starved_until_ns);
    if (now_ns > last_ns + BLK_MEMORY_PAUSE_MS * ms) {
        WRITE_ONCE(disk->starved_since_ns, now_ns); // there was some in between
    }
    WRITE_ONCE(disk->starved_until_ns, now_ns);
    if (now_ns > READ_ONCE(disk->starved_since_ns) + BLK_MEMORY_MS * ms) {
        return false;
    }
    blk_retry_soon(disk);
    return true;
}

// The driver did not take a batch's request number i. -EBUSY: nor the later ones; another error: it
// is over. False: there is no reason to try again now.
static __noinline bool blk_not_taken(struct blk_mq_hw_ctx *hctx, struct request **batch, unsigned i,
                                     unsigned count, uint32_t kicks, int error)
{
    const struct blk_mq_ops *ops = hctx->disk->ops;
    if (error != -EBUSY) {
        blk_complete_request(batch[i], error);
        if (i + 1 != count) {
            return true;
        }
    }
    if (i != 0 && ops->commit_rqs != NULL) {
        ops->commit_rqs(hctx); // the last one was to ring, and did not
    }
    return error != -EBUSY || blk_put_back(hctx, batch + i, count - i, kicks);
}

// Offers the batch to the driver. False: it had no room, and there is no reason to try again now.
static inline bool blk_offer(struct blk_mq_hw_ctx *hctx, struct request **batch, unsigned count)
{
    const struct blk_mq_ops *ops = hctx->disk->ops;
    uint32_t kicks = READ_ONCE(hctx->kicks), device = blk_trace_device(hctx->disk);
    uint64_t now_tsc = rdtsc();
    for (unsigned i = 0; i < count; i++) {
        trace_at(now_tsc, TRACE_BLOCK_SUBMIT, device, batch[i]->pos);
        int error = ops->queue_rq(hctx, batch[i], i + 1 == count);
        if (unlikely(error != 0)) {
            error = error == -ENOMEM && blk_waits_for_memory(hctx->disk) ? -EBUSY : error;
            bool more = blk_not_taken(hctx, batch, i, count, kicks, error);
            if (error == -EBUSY) {
                return more;
            }
        }
    }
    return true;
}

// What waits still, as long as the driver has room. Caller counts in hctx->submitting.
static __noinline void blk_dispatch_waiting(struct blk_mq_hw_ctx *hctx)
{
    struct request *batch[BLK_BATCH];
    unsigned count;
    while (!list_empty(&hctx->waiting) && (count = blk_take(hctx, batch)) != 0) {
        bool more = blk_offer(hctx, batch, count);
        __atomic_fetch_sub(&hctx->submitting, 1, __ATOMIC_RELEASE);
        if (!more) {
            break;
        }
    }
}

// Hands what was taken to the driver, outside the lock, and goes on while there is more and it has
// room. A request may be done, and freed, before queue_rq returns. The disk may not: del_gendisk
// waits until nobody is submitting.
static inline void blk_dispatch(struct blk_mq_hw_ctx *hctx, struct request **batch, unsigned count)
{
    bool more = blk_offer(hctx, batch, count);
    if (unlikely(READ_ONCE(hctx->disk->timeout_armed) == 0)) {
        blk_timeout_arm(hctx->disk);
    }
    if (unlikely(more && !list_empty(&hctx->waiting))) {
        blk_dispatch_waiting(hctx);
    }
    __atomic_fetch_sub(&hctx->submitting, 1, __ATOMIC_RELEASE);
}

void blk_run_hctx(struct blk_mq_hw_ctx *hctx)
{
    struct request *batch[BLK_BATCH];
    unsigned long flags;
    spin_lock_irqsave(&hctx->lock, flags);
    hctx->kicks++;
    unsigned count = blk_take_locked(hctx, &hctx->waiting, batch);
    spin_unlock_irqrestore(&hctx->lock, flags);
    if (count != 0) {
        blk_dispatch(hctx, batch, count);
    }
}

void blk_run_queue(struct gendisk *disk)
{
    police_context(CTX_THREAD | CTX_ATOMIC | CTX_SOFTIRQ);
    for (unsigned i = 0; i < disk->queue_count; i++) {
        blk_run_hctx(&disk->queues[i]);
    }
}

// Behind what waits already, or into the last of them when it follows that on the disk.
static void blk_wait_locked(struct blk_mq_hw_ctx *hctx, struct request *request)
{
    WRITE_ONCE(request->state, REQUEST_WAITING);
    if (!list_empty(&hctx->waiting)) {
        struct request *last = list_entry(hctx->waiting.prev, struct request, link);
        if (blk_merge(last, request)) {
            hctx->counts.merges[request->op]++;
            return;
        }
    }
    list_add_tail(&request->link, &hctx->waiting);
}

void blk_refuse(struct request *request, int error)
{
    WRITE_ONCE(request->state, REQUEST_STARTED); // never the driver's, but completed like any other
    blk_complete_request(request, error);
}

// It cannot go to the driver at once: the disk is gone or stands still, no tag is free, or an older
// one is first.
static __noinline void blk_enqueue_late(struct blk_mq_hw_ctx *hctx, struct request *request)
{
    LIST_HEAD(list);
    list_add(&request->link, &list);
    blk_enqueue_list(hctx, &list);
}

// The short way of most requests: a tag, and to the driver.
static inline void blk_enqueue(struct blk_mq_hw_ctx *hctx, struct request *request)
{
    struct gendisk *disk = hctx->disk;
    unsigned long flags;

    spin_lock_irqsave(&hctx->lock, flags);
    bool now = READ_ONCE(disk->stopped) == 0 && hctx->free_count != 0 && list_empty(&hctx->waiting);
    if (likely(now)) {
        blk_start_locked(hctx, request);
        __atomic_fetch_add(&hctx->submitting, 1, __ATOMIC_RELAXED);
    }
    spin_unlock_irqrestore(&hctx->lock, flags);
    if (likely(now)) {
        blk_dispatch(hctx, &request, 1);
    } else {
        blk_enqueue_late(hctx, request);
    }
}

// What finds no tag, or older ones before it, waits; when the disk goes it is refused.
static __noinline void blk_enqueue_rest_locked(struct blk_mq_hw_ctx *hctx,
                                               struct list_head *requests)
{
    while ((READ_ONCE(hctx->disk->stopped) & BLK_GONE) == 0 && !list_empty(requests)) {
        struct request *request = list_first_entry(requests, struct request, link);
        list_del(&request->link);
        blk_wait_locked(hctx, request);
    }
}

void blk_enqueue_list(struct blk_mq_hw_ctx *hctx, struct list_head *requests)
{
    struct request *batch[BLK_BATCH];
    unsigned long flags;

    spin_lock_irqsave(&hctx->lock, flags);
    struct list_head *first = list_empty(&hctx->waiting) ? requests : &hctx->waiting;
    unsigned count = blk_take_locked(hctx, first, batch);
    if (unlikely(!list_empty(requests))) {
        blk_enqueue_rest_locked(hctx, requests);
    }
    spin_unlock_irqrestore(&hctx->lock, flags);
    while (unlikely(!list_empty(requests))) {
        struct request *request = list_first_entry(requests, struct request, link);
        list_del(&request->link);
        blk_refuse(request, -ENXIO);
    }
    if (likely(count != 0)) {
        blk_dispatch(hctx, batch, count);
    }
}

__no_stack_protector void blk_submit(struct request *request)
{
    police_context(CTX_THREAD | CTX_ATOMIC | CTX_SOFTIRQ);
    struct gendisk *disk = request->disk, *whole = blk_whole(disk);
    struct blk_plug *plug = current->plug;
    int error = blk_check(disk, whole, request);
    unsigned queue = whole->queue_count == 1 ? 0 : cpu_id() % whole->queue_count;

    request->status = 0;
    request->pos = request->sector + disk->start;
    request->total_sectors = request->sectors;
    request->total_segments = (uint16_t)request->segment_count;
    request->tag = BLK_NO_TAG;
    request->hctx = &whole->queues[queue];
    request->merged = NULL;
    request->start_tsc = rdtsc();
    blk_account_begin(whole, request->start_tsc);
    if (unlikely(whole != disk)) {
        blk_account_begin(disk, request->start_tsc);
        error = (READ_ONCE(disk->stopped) & BLK_GONE) != 0 ? -ENXIO : error;
    }
    if (unlikely(error != 0)) {
        blk_refuse(request, error);
    } else if (likely(plug == NULL) || !in_task()) { // a softirq has interrupted that thread
        blk_enqueue(request->hctx, request);
    } else {
        blk_plug_add(plug, request);
    }
}

void blk_requeue_request(struct request *request)
{
    struct blk_mq_hw_ctx *hctx = request->hctx;
    unsigned long flags;
    spin_lock_irqsave(&hctx->lock, flags);
    if (!WARN_ON(request->state != REQUEST_STARTED)) {
        blk_free_tag_locked(hctx, request);
        WRITE_ONCE(request->state, REQUEST_WAITING);
        list_add(&request->link, &hctx->waiting);
        hctx->counts.requeues++;
    }
    spin_unlock_irqrestore(&hctx->lock, flags);
}
