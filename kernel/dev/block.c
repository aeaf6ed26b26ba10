// The block layer's core: the life of a request.
//
// A disk has one or more hardware queues. Each accepts as many requests at a time as it has tags;
// the rest wait in its list. A request changes hands four times, and each step is made under the
// queue's lock or by one atomic exchange, so "done exactly once" is not a hope:
//
//    maker            block layer                       driver
//   IDLE ──blk_submit──> WAITING ──a tag is free──────> STARTED
//     ^                   │   ^── blk_requeue_request ──┘   │
//     │                   └──── the disk goes: -ENXIO ──┐   │ blk_complete_request, any context:
//     │                                                 v   v a list insertion, a raised softirq
//     └────── request->done, in BLOCK_SOFTIRQ ────────── DONE
//
// The interrupt only asks (blk_mq_reap). BLOCK_SOFTIRQ on the same CPU lets the driver look what is
// done, counts it (/proc/diskstats), feeds the driver from the waiting list, and calls `done`; a
// queue at a time, so that thirty requests which finished together take its lock once. A queue is
// never reaped on two CPUs at once: who asks while it runs makes it run once more.
//
//   reap_state   0 ──asked──> WANTED ──softirq──> RUNNING ──> 0
//                                                  └─asked──> RUNNING|WANTED ──> again
//
// There is no elevator: what an emulated disk and an SSD gain from one is nothing, and the path
// stays short enough to read. Requests that follow each other on the disk are merged (block_merge.c).
//
// Context: blk_submit from threads and softirqs; blk_mq_reap and blk_complete_request from anywhere.
// Next: kernel/dev/block_io.c (whole transfers that sleep), drivers/block/ahci/ahci_disk.c (a
// driver).
#include <lib/errno.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <mm/slab.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/softirq.h>
#include <dev/block.h>

#include "block_internal.h"
#include "page_cache_internal.h"

enum { REAP_WANTED = 1, REAP_RUNNING = 2, REAP_MAX_ROUNDS = 4, BLK_QUIESCE_MS = 10000 };

struct blk_cpu {
    struct list_head reap; // C: queues that this CPU was asked to look at
    struct list_head done; // C: completed requests
} __aligned(64);

static struct blk_cpu blk_cpus[MAX_CPUS];

// ---- accounting ---------------------------------------------------------------------------------

// How long the disk had anything to do: from the first request in to the last one out. Two CPUs that
// meet at the turn may lose the time between their readings of the clock.
static void blk_account_begin(struct gendisk *disk, uint64_t now_ns)
{
    if (__atomic_fetch_add(&disk->in_flight, 1, __ATOMIC_RELAXED) == 0) {
        WRITE_ONCE(disk->io_stamp_ns, now_ns);
    }
}

static void blk_account_end(struct gendisk *disk, uint64_t now_ns, uint32_t count)
{
    if (__atomic_sub_fetch(&disk->in_flight, count, __ATOMIC_RELAXED) == 0) {
        uint64_t since_ns = READ_ONCE(disk->io_stamp_ns);
        if (now_ns > since_ns) {
            __atomic_fetch_add(&disk->io_ns, now_ns - since_ns, __ATOMIC_RELAXED);
        }
    }
}

// A partition counts for itself; whoever reads its numbers sees each of them whole, not all of one
// moment.
static void blk_account_partition(struct request *request, uint64_t now_ns)
{
    struct disk_stats *stats = &request->disk->stats;
    __atomic_fetch_add(&stats->ios[request->op], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&stats->ticks_ns[request->op], now_ns - request->start_ns, __ATOMIC_RELAXED);
    if (request->status == 0) {
        __atomic_fetch_add(&stats->sectors[request->op], request->sectors, __ATOMIC_RELAXED);
    }
    blk_account_end(request->disk, now_ns, 1);
}

// Counts a request that is over, under its queue's lock; returns how many were merged into it.
static uint32_t blk_account_done_locked(struct blk_mq_hw_ctx *hctx, struct request *request,
                                        uint64_t now_ns)
{
    struct disk_stats *stats = &hctx->stats;
    enum req_op op = request->op;
    uint32_t count = 0;
    if (likely((unsigned)op < REQ_OP_COUNT)) {
        stats->ios[op]++;
        stats->ticks_ns[op] += now_ns - request->start_ns;
        stats->sectors[op] += request->status == 0 ? request->total_sectors : 0;
    }
    for (struct request *part = request; part != NULL; part = part->merged) {
        part->status = request->status;
        count++;
        if (unlikely(part->disk->whole != NULL) && (unsigned)op < REQ_OP_COUNT) {
            blk_account_partition(part, now_ns);
        }
    }
    return count;
}

// ---- down: to the driver ------------------------------------------------------------------------

static int blk_check_segments(const struct gendisk *disk, const struct request *request)
{
    uint64_t bytes = 0, boundary = disk->segment_boundary;
    uint32_t align = disk->dma_alignment, most = disk->max_segment_size;
    for (unsigned i = 0; i < request->segment_count; i++) {
        const struct blk_segment *segment = &request->segments[i];
        uintptr_t start = (uintptr_t)segment->data, end = start + segment->length;
        if (segment->length == 0 || ((start | segment->length) & align) != 0 ||
            (most != 0 && segment->length > most) ||
            (i != 0 && (start & disk->virt_boundary) != 0) ||
            (i + 1 != request->segment_count && (end & disk->virt_boundary) != 0) ||
            (boundary != 0 && ((start ^ (end - 1)) & ~boundary) != 0)) {
            return -EINVAL;
        }
        bytes += segment->length;
    }
    return bytes == (uint64_t)request->sectors * SECTOR_SIZE ? 0 : -EINVAL;
}

// What a driver need not check again. Returns 0, -EINVAL, -ENOSPC (beyond the end), -EROFS.
static int blk_check(const struct gendisk *disk, const struct gendisk *whole,
                     const struct request *request)
{
    if (request->op == REQ_OP_FLUSH) {
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
    return blk_check_segments(whole, request);
}

// The driver gets it next. Caller holds the lock and has seen a free tag.
static void blk_start_locked(struct blk_mq_hw_ctx *hctx, struct request *request)
{
    struct gendisk *disk = hctx->disk;
    uint16_t tag = hctx->free_tags[--hctx->free_count];
    hctx->by_tag[tag] = request;
    request->tag = tag;
    request->deadline =
        jiffies + (request->op == REQ_OP_FLUSH ? disk->timeout_jiffies * 3 : disk->timeout_jiffies);
    WRITE_ONCE(request->state, REQUEST_STARTED);
}

static void blk_free_tag_locked(struct blk_mq_hw_ctx *hctx, struct request *request)
{
    if (likely(request->tag != BLK_NO_TAG)) {
        hctx->by_tag[request->tag] = NULL;
        hctx->free_tags[hctx->free_count++] = request->tag;
        request->tag = BLK_NO_TAG;
    }
}

// Takes what waits, as far as there are tags. Caller holds the lock and must call blk_dispatch for
// what it gets.
static unsigned blk_take_locked(struct blk_mq_hw_ctx *hctx, struct request **batch)
{
    unsigned count = 0;
    while (!list_empty(&hctx->waiting) && hctx->free_count != 0 && count < BLK_BATCH &&
           READ_ONCE(hctx->disk->stopped) == 0) {
        batch[count] = list_first_entry(&hctx->waiting, struct request, link);
        list_del(&batch[count]->link);
        blk_start_locked(hctx, batch[count++]);
    }
    if (count != 0) {
        __atomic_fetch_add(&hctx->submitting, 1, __ATOMIC_RELAXED);
    }
    return count;
}

static unsigned blk_take(struct blk_mq_hw_ctx *hctx, struct request **batch)
{
    unsigned long flags;
    spin_lock_irqsave(&hctx->lock, flags);
    unsigned count = blk_take_locked(hctx, batch);
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

// Offers the batch to the driver. False: it had no room, and there is no reason to try again now.
static bool blk_offer(struct blk_mq_hw_ctx *hctx, struct request **batch, unsigned count)
{
    const struct blk_mq_ops *ops = hctx->disk->ops;
    uint32_t kicks = READ_ONCE(hctx->kicks);
    int error = 0;
    for (unsigned i = 0; i < count; i++) {
        trace(TRACE_BLOCK_SUBMIT, blk_trace_device(hctx->disk), batch[i]->pos);
        error = ops->queue_rq(hctx, batch[i], i + 1 == count);
        if (unlikely(error == -EBUSY)) {
            if (i != 0 && ops->commit_rqs != NULL) {
                ops->commit_rqs(hctx);
            }
            return blk_put_back(hctx, batch + i, count - i, kicks);
        }
        if (unlikely(error != 0)) {
            blk_complete_request(batch[i], error);
        }
    }
    if (unlikely(error != 0) && count > 1 && ops->commit_rqs != NULL) {
        ops->commit_rqs(hctx); // the last one was to ring, and did not
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
static void blk_dispatch(struct blk_mq_hw_ctx *hctx, struct request **batch, unsigned count)
{
    if (unlikely(count == 0)) {
        return;
    }
    bool more = blk_offer(hctx, batch, count);
    if (unlikely(READ_ONCE(hctx->disk->timeout_armed) == 0)) {
        blk_timeout_arm(hctx->disk);
    }
    if (unlikely(more && !list_empty(&hctx->waiting))) {
        blk_dispatch_waiting(hctx);
    }
    __atomic_fetch_sub(&hctx->submitting, 1, __ATOMIC_RELEASE);
}

static void blk_run_hctx(struct blk_mq_hw_ctx *hctx)
{
    struct request *batch[BLK_BATCH];
    unsigned long flags;
    spin_lock_irqsave(&hctx->lock, flags);
    hctx->kicks++;
    unsigned count = blk_take_locked(hctx, batch);
    spin_unlock_irqrestore(&hctx->lock, flags);
    blk_dispatch(hctx, batch, count);
}

void blk_run_queue(struct gendisk *disk)
{
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
            hctx->stats.merges[request->op]++;
            return;
        }
    }
    list_add_tail(&request->link, &hctx->waiting);
}

static void blk_refuse(struct request *request, int error)
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
void blk_enqueue(struct blk_mq_hw_ctx *hctx, struct request *request)
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

void blk_enqueue_list(struct blk_mq_hw_ctx *hctx, struct list_head *requests)
{
    struct request *batch[BLK_BATCH];
    unsigned long flags;
    unsigned count = 0;

    spin_lock_irqsave(&hctx->lock, flags);
    bool gone = (READ_ONCE(hctx->disk->stopped) & BLK_GONE) != 0;
    while (!gone && !list_empty(requests)) {
        struct request *request = list_first_entry(requests, struct request, link);
        list_del(&request->link);
        blk_wait_locked(hctx, request);
    }
    count = blk_take_locked(hctx, batch);
    spin_unlock_irqrestore(&hctx->lock, flags);
    while (!list_empty(requests)) {
        struct request *request = list_first_entry(requests, struct request, link);
        list_del(&request->link);
        blk_refuse(request, -ENXIO);
    }
    blk_dispatch(hctx, batch, count);
}

void blk_request_init(struct request *request, struct gendisk *disk, enum req_op op,
                      uint64_t sector, uint32_t sectors, void *data,
                      void (*done)(struct request *request), void *private_data)
{
    request->op = op;
    request->sectors = sectors;
    request->sector = sector;
    request->segment_count = sectors == 0 ? 0 : 1;
    request->segments = &request->segment;
    request->segment.data = data;
    request->segment.length = sectors * SECTOR_SIZE;
    request->done = done;
    request->private_data = private_data;
    request->driver_data = NULL;
    request->disk = disk;
    request->state = REQUEST_IDLE;
    request->alone = false;
}

void blk_submit(struct request *request)
{
    struct gendisk *disk = request->disk, *whole = blk_whole(disk);
    int error = blk_check(disk, whole, request);
    unsigned queue = whole->queue_count == 1 ? 0 : cpu_id() % whole->queue_count;

    request->status = 0;
    request->pos = request->sector + disk->start;
    request->total_sectors = request->sectors;
    request->total_segments = (uint16_t)request->segment_count;
    request->tag = BLK_NO_TAG;
    request->hctx = &whole->queues[queue];
    request->merged = NULL;
    request->start_ns = clock_ns();
    blk_account_begin(whole, request->start_ns);
    if (unlikely(whole != disk)) {
        blk_account_begin(disk, request->start_ns);
        error = (READ_ONCE(disk->stopped) & BLK_GONE) != 0 ? -ENXIO : error;
    }
    if (unlikely(error != 0)) {
        blk_refuse(request, error);
    } else if (likely(current->plug == NULL) || !blk_plug_add(request)) {
        blk_enqueue(request->hctx, request);
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
        hctx->stats.requeues++;
    }
    spin_unlock_irqrestore(&hctx->lock, flags);
}

// ---- up: from the driver ------------------------------------------------------------------------

// Adds to one of this CPU's lists, and has the softirq look at it.
static void blk_leave_to_softirq(struct list_head *link, bool done)
{
    unsigned long flags = local_irq_save();
    struct blk_cpu *self = &this_cpu(blk_cpus);
    list_add_tail(link, done ? &self->done : &self->reap);
    raise_softirq_irqoff(BLOCK_SOFTIRQ);
    local_irq_restore(flags);
}

// What is not over though the driver is done with it: a merged request failed, and which part of it
// is to blame shows when each is tried alone.
static void blk_take_apart_locked(struct blk_mq_hw_ctx *hctx, struct request *request)
{
    struct list_head *place = &hctx->waiting;
    if (request == hctx->examined) { // somebody looks at it, and will end it
        return;
    }
    while (request != NULL) {
        struct request *next = request->merged;
        request->merged = NULL;
        request->alone = true;
        request->status = 0;
        request->total_sectors = request->sectors;
        request->total_segments = (uint16_t)request->segment_count;
        WRITE_ONCE(request->state, REQUEST_WAITING);
        list_add(&request->link, place);
        place = &request->link;
        request = next;
    }
    hctx->stats.requeues++;
}

// Counts a request that the driver is done with and gives its tag back. Returns how many makers are
// to be told; 0: it is not over yet.
static uint32_t blk_settle_locked(struct blk_mq_hw_ctx *hctx, struct request *request,
                                  uint64_t now_ns)
{
    if (unlikely(request == hctx->examined)) {
        hctx->examined_done = true;
        return 0;
    }
    trace(TRACE_BLOCK_DONE, blk_trace_device(hctx->disk), request->pos);
    blk_free_tag_locked(hctx, request);
    if (unlikely(request->status != 0 && request->merged != NULL)) {
        return 0;
    }
    return blk_account_done_locked(hctx, request, now_ns);
}

static void blk_tell(struct request *request)
{
    while (request != NULL) {
        struct request *next = request->merged; // `done` may free it
        request->done(request);
        request = next;
    }
}

// Ends the requests of this queue at the head of the list. The driver gets its next ones before their
// makers are told: it should not be idle meanwhile. When the last is told, the disk may be freed.
static void blk_finish_queue(struct blk_mq_hw_ctx *hctx, struct list_head *list)
{
    struct request *request, *next;
    uint64_t now_ns = clock_ns();
    uint32_t ended = 0, told = 0;
    unsigned long flags;

    spin_lock_irqsave(&hctx->lock, flags);
    list_for_each_entry_safe (request, next, list, link) {
        if (request->hctx != hctx) {
            break;
        }
        uint32_t parts = blk_settle_locked(hctx, request, now_ns);
        ended += parts;
        if (likely(parts != 0)) {
            told++;
        } else {
            list_del(&request->link);
            blk_take_apart_locked(hctx, request);
        }
    }
    hctx->kicks++;
    bool more = !list_empty(&hctx->waiting);
    spin_unlock_irqrestore(&hctx->lock, flags);
    if (likely(ended != 0)) {
        blk_account_end(hctx->disk, now_ns, ended);
    }
    if (unlikely(more)) {
        blk_run_hctx(hctx);
    }
    while (told-- != 0) {
        request = list_first_entry(list, struct request, link);
        list_del(&request->link);
        blk_tell(request);
    }
}

static void blk_finish_list(struct list_head *list)
{
    while (!list_empty(list)) {
        blk_finish_queue(list_first_entry(list, struct request, link)->hctx, list);
    }
}

void blk_finish_one(struct request *request)
{
    struct blk_mq_hw_ctx *hctx = request->hctx;
    uint64_t now_ns = clock_ns();
    unsigned long flags;
    spin_lock_irqsave(&hctx->lock, flags);
    uint32_t parts = blk_settle_locked(hctx, request, now_ns);
    if (parts == 0) {
        blk_take_apart_locked(hctx, request);
    }
    hctx->kicks++;
    bool more = !list_empty(&hctx->waiting);
    spin_unlock_irqrestore(&hctx->lock, flags);
    if (parts != 0) {
        blk_account_end(hctx->disk, now_ns, parts);
    }
    if (more) {
        blk_run_hctx(hctx);
    }
    if (parts != 0) {
        blk_tell(request);
    }
}

void blk_complete_request(struct request *request, int status)
{
    uint32_t state = __atomic_exchange_n(&request->state, REQUEST_DONE, __ATOMIC_RELAXED);
    if (WARN_ON(state != REQUEST_STARTED)) { // not the driver's: a completion too many
        __atomic_store_n(&request->state, state, __ATOMIC_RELAXED);
        return;
    }
    request->status = status;
    struct blk_mq_hw_ctx *hctx = request->hctx;
    if (unlikely(in_hardirq())) {
        if (READ_ONCE(hctx->disk->completion) == BLK_COMPLETE_HARDIRQ) {
            blk_finish_one(request);
            return;
        }
    } else if (likely(READ_ONCE(hctx->reaping_cpu) == cpu_id() + 1)) {
        list_add_tail(&request->link, &hctx->reaped); // we are inside this queue's reap
        return;
    }
    blk_leave_to_softirq(&request->link, true);
}

// One look of the driver's, and the end of what it found. How many that was.
static unsigned blk_reap_once(struct blk_mq_hw_ctx *hctx, unsigned budget)
{
    __atomic_store_n(&hctx->reap_state, REAP_RUNNING, __ATOMIC_SEQ_CST);
    WRITE_ONCE(hctx->reaping_cpu, cpu_id() + 1);
    unsigned found = hctx->disk->ops->reap(hctx, budget);
    WRITE_ONCE(hctx->reaping_cpu, 0);
    if (likely(!list_empty(&hctx->reaped))) {
        LIST_HEAD(list); // what `done` submits may be done at once
        list_splice_tail_init(&hctx->reaped, &list);
        blk_finish_queue(hctx, &list);
    }
    return found;
}

// Nobody has asked meanwhile: it is over. From then on the queue may be reaped elsewhere, or gone.
static bool blk_reap_ends(struct blk_mq_hw_ctx *hctx)
{
    uint32_t state = REAP_RUNNING;
    return __atomic_compare_exchange_n(&hctx->reap_state, &state, 0, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

// Again and again while it is asked to meanwhile, but not for ever.
static void blk_reap(struct blk_mq_hw_ctx *hctx)
{
    for (unsigned rounds = 0; rounds < REAP_MAX_ROUNDS; rounds++) {
        blk_reap_once(hctx, hctx->disk->queue_depth);
        if (likely(blk_reap_ends(hctx))) {
            return;
        }
    }
    __atomic_store_n(&hctx->reap_state, REAP_WANTED, __ATOMIC_SEQ_CST);
    blk_leave_to_softirq(&hctx->reap_link, false);
}

// The same by IRQ_POLL softirq: `budget` at a time, then it is another device's turn. It is ours, and
// not to be scheduled, until the state is 0; so completing comes first.
int blk_irq_poll(struct irq_poll *iop, int budget)
{
    struct blk_mq_hw_ctx *hctx = container_of(iop, struct blk_mq_hw_ctx, iop);
    unsigned found = blk_reap_once(hctx, (unsigned)budget);
    if (found >= (unsigned)budget) {
        return budget;
    }
    irq_poll_complete(iop);
    if (!blk_reap_ends(hctx)) {
        irq_poll_sched(iop);
    }
    return (int)found;
}

void blk_mq_reap(struct blk_mq_hw_ctx *hctx)
{
    if (__atomic_fetch_or(&hctx->reap_state, REAP_WANTED, __ATOMIC_SEQ_CST) != 0) {
        return; // whoever was asked first looks once more
    }
    if (unlikely((READ_ONCE(hctx->disk->stopped) & BLK_GONE) != 0 &&
                 READ_ONCE(hctx->disk->in_flight) == 0)) { // an interrupt after del_gendisk
        __atomic_store_n(&hctx->reap_state, 0, __ATOMIC_SEQ_CST);
        return;
    }
    enum blk_completion completion = READ_ONCE(hctx->disk->completion);
    if (completion == BLK_COMPLETE_HARDIRQ && in_hardirq()) {
        blk_reap(hctx);
        return;
    }
    if (completion == BLK_COMPLETE_IRQ_POLL) {
        irq_poll_sched(&hctx->iop);
        return;
    }
    blk_leave_to_softirq(&hctx->reap_link, false);
}

// The handler of BLOCK_SOFTIRQ. What comes in while it runs raises it again.
static void blk_softirq(void)
{
    LIST_HEAD(reap);
    LIST_HEAD(done);
    local_irq_disable();
    struct blk_cpu *self = &this_cpu(blk_cpus);
    list_splice_tail_init(&self->reap, &reap);
    list_splice_tail_init(&self->done, &done);
    local_irq_enable();
    while (!list_empty(&reap)) {
        struct blk_mq_hw_ctx *hctx = list_first_entry(&reap, struct blk_mq_hw_ctx, reap_link);
        list_del(&hctx->reap_link); // before it may be asked for again
        blk_reap(hctx);
    }
    blk_finish_list(&done);
}

void blk_init(void)
{
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
        INIT_LIST_HEAD(&blk_cpus[cpu].reap);
        INIT_LIST_HEAD(&blk_cpus[cpu].done);
    }
    open_softirq(BLOCK_SOFTIRQ, blk_softirq);
    blk_timeout_init();
    page_cache_init();
}

// ---- standing still -----------------------------------------------------------------------------

// Whoever takes a lock after this sees what was written to `stopped` before.
static void blk_see_stopped(struct gendisk *disk)
{
    unsigned long flags;
    for (unsigned i = 0; i < disk->queue_count; i++) {
        spin_lock_irqsave(&disk->queues[i].lock, flags);
        spin_unlock_irqrestore(&disk->queues[i].lock, flags);
    }
}

static bool blk_nobody_submits(const struct gendisk *disk)
{
    for (unsigned i = 0; i < disk->queue_count; i++) {
        if (__atomic_load_n(&disk->queues[i].submitting, __ATOMIC_ACQUIRE) != 0) {
            return false;
        }
    }
    return true;
}

void blk_mq_quiesce_queue(struct gendisk *disk)
{
    might_sleep();
    __atomic_fetch_add(&disk->stopped, BLK_QUIESCED, __ATOMIC_SEQ_CST);
    blk_see_stopped(disk);
    for (unsigned waited_ms = 0; !blk_nobody_submits(disk); waited_ms++) {
        if (WARN_ON(waited_ms == BLK_QUIESCE_MS)) { // a driver whose queue_rq does not end
            return;
        }
        msleep(1);
    }
}

void blk_mq_unquiesce_queue(struct gendisk *disk)
{
    WARN_ON(__atomic_fetch_sub(&disk->stopped, BLK_QUIESCED, __ATOMIC_SEQ_CST) < BLK_QUIESCED);
    blk_run_queue(disk);
}

bool blk_is_quiet(struct gendisk *disk)
{
    for (unsigned i = 0; i < disk->queue_count; i++) {
        if (__atomic_load_n(&disk->queues[i].reap_state, __ATOMIC_SEQ_CST) != 0) {
            return false;
        }
    }
    return __atomic_load_n(&disk->in_flight, __ATOMIC_ACQUIRE) == 0 && blk_nobody_submits(disk);
}

void blk_refuse_waiting(struct gendisk *disk)
{
    unsigned long flags;
    for (unsigned i = 0; i < disk->queue_count; i++) {
        struct blk_mq_hw_ctx *hctx = &disk->queues[i];
        LIST_HEAD(refused);
        spin_lock_irqsave(&hctx->lock, flags);
        list_splice_tail_init(&hctx->waiting, &refused);
        spin_unlock_irqrestore(&hctx->lock, flags);
        while (!list_empty(&refused)) {
            struct request *request = list_first_entry(&refused, struct request, link);
            list_del(&request->link);
            for (struct request *part = request, *next; part != NULL; part = next) {
                next = part->merged; // each gets its own error: nothing is tried again
                part->merged = NULL;
                blk_refuse(part, -ENXIO);
            }
        }
    }
}

// ---- what the driver has ------------------------------------------------------------------------

struct request *blk_mq_tag_to_rq(struct blk_mq_hw_ctx *hctx, uint32_t tag)
{
    return tag < hctx->disk->queue_depth ? READ_ONCE(hctx->by_tag[tag]) : NULL;
}

void blk_mq_busy_iter(struct gendisk *disk, void (*visit)(struct request *request, void *arg),
                      void *arg)
{
    for (unsigned i = 0; i < disk->queue_count; i++) {
        for (unsigned tag = 0; tag < disk->queue_depth; tag++) {
            struct request *request = blk_mq_tag_to_rq(&disk->queues[i], tag);
            if (request != NULL && READ_ONCE(request->state) == REQUEST_STARTED) {
                visit(request, arg);
            }
        }
    }
}
