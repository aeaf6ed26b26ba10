// A request's way up: from the device's interrupt to whoever asked.
//
//   hard irq   the driver's handler only asks (blk_mq_reap)
//   softirq    BLOCK_SOFTIRQ on the same CPU has the driver look what is done (ops->reap), which
//              names each request (blk_complete_request): they gather in a batch
//              the batch is counted (/proc/diskstats) and its tags are free again, under one lock
//              the driver is given what waits for a tag, so that it is not idle meanwhile
//              `done` is called for each; when the last is told, the disk may be freed
//
// A queue is never reaped on two CPUs at once: who asks while it runs makes it run once more.
//
//   reap_state   0 ──asked──> WANTED ──softirq──> RUNNING ──> 0
//                                                  └─asked──> RUNNING|WANTED ──> again
//
// A driver may also complete a request from anywhere else, as recovery after an error does: then it
// waits for the softirq in this CPU's list.
//
// Context: blk_mq_reap and blk_complete_request from anywhere. Previous: kernel/dev/block.c.
#include <lib/errno.h>
#include <core/panic.h>
#include <core/trace.h>
#include <defer/softirq.h>
#include <dev/block.h>

#include "block_internal.h"
#include "page_cache_internal.h"

enum { REAP_WANTED = 1, REAP_RUNNING = 2, REAP_MAX_ROUNDS = 4 };

struct blk_cpu {
    struct list_head reap; // C: queues that this CPU was asked to look at
    struct list_head done; // C: completed requests
} __aligned(64);

static struct blk_cpu blk_cpus[MAX_CPUS];

// Adds to one of this CPU's lists, and has the softirq look at it.
static inline void blk_leave_to_softirq(struct list_head *link, bool done)
{
    unsigned long flags = local_irq_save();
    struct blk_cpu *self = &this_cpu(blk_cpus);
    list_add_tail(link, done ? &self->done : &self->reap);
    raise_softirq_irqoff(BLOCK_SOFTIRQ);
    local_irq_restore(flags);
}

// ---- over, or not -------------------------------------------------------------------------------

// A partition counts for itself; whoever reads its numbers sees each of them whole, not all of one
// moment.
static void blk_account_partition(struct request *request, uint64_t now_tsc)
{
    struct disk_counts *counts = &request->disk->counts;
    __atomic_fetch_add(&counts->ios[request->op], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&counts->ticks_tsc[request->op], blk_tsc_since(request->start_tsc, now_tsc),
                       __ATOMIC_RELAXED);
    if (request->status == 0) {
        __atomic_fetch_add(&counts->sectors[request->op], request->sectors, __ATOMIC_RELAXED);
    }
    blk_account_end(request->disk, now_tsc, 1);
}

// A request that others were merged into, or of a partition: each maker's part for itself. How
// many.
static __noinline uint32_t blk_account_parts(struct request *request, uint64_t now_tsc)
{
    uint32_t parts = 0;
    for (struct request *part = request; part != NULL; part = part->merged) {
        part->status = request->status;
        parts++;
        if (part->disk->whole != NULL && (unsigned)part->op < REQ_OP_COUNT) {
            blk_account_partition(part, now_tsc);
        }
    }
    return parts;
}

// Counts a request that is over, under its queue's lock; returns how many makers are to be told of
// it: with those whose requests were merged into it.
static inline uint32_t blk_account_done_locked(struct blk_mq_hw_ctx *hctx, struct request *request,
                                               uint64_t now_tsc)
{
    struct disk_counts *counts = &hctx->counts;
    enum req_op op = request->op;
    if (likely((unsigned)op < REQ_OP_COUNT)) {
        counts->ios[op]++;
        counts->ticks_tsc[op] += blk_tsc_since(request->start_tsc, now_tsc);
        counts->sectors[op] += likely(request->status == 0) ? request->total_sectors : 0;
    }
    if (likely(request->merged == NULL && request->disk->whole == NULL)) {
        return 1;
    }
    return blk_account_parts(request, now_tsc);
}

// What is not over though the driver is done with it: a merged request failed, and which part of it
// is to blame shows when each is tried alone.
static __noinline void blk_take_apart_locked(struct blk_mq_hw_ctx *hctx, struct request *request)
{
    struct list_head *place = &hctx->waiting;
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
    hctx->counts.requeues++;
}

static void blk_tell(struct request *request)
{
    while (request != NULL) {
        struct request *next = request->merged; // `done` may free it
        request->done(request);
        request = next;
    }
}

// Counts a batch that the driver is done with, and gives its tags back. How many of it are over:
// they are the first now. *makers: who is to be told.
static __always_inline unsigned blk_settle_locked(struct blk_mq_hw_ctx *hctx,
                                                  struct request **batch, unsigned count,
                                                  uint64_t now_tsc, uint32_t *makers)
{
    uint32_t device = blk_trace_device(hctx->disk);
    unsigned over = 0;
    for (unsigned i = 0; i < count; i++) {
        struct request *request = batch[i];
        if (unlikely(request == hctx->examined)) { // by the time-out, which will end it
            hctx->examined_done = true;
            continue;
        }
        trace_at(now_tsc, TRACE_BLOCK_DONE, device, request->pos);
        blk_free_tag_locked(hctx, request);
        if (unlikely(request->status != 0 && request->merged != NULL)) {
            blk_take_apart_locked(hctx, request);
            continue;
        }
        *makers += blk_account_done_locked(hctx, request, now_tsc);
        batch[over++] = request;
    }
    return over;
}

static __always_inline void blk_finish(struct blk_mq_hw_ctx *hctx, struct request **batch,
                                       unsigned count)
{
    uint64_t now_tsc = rdtsc();
    uint32_t makers = 0;
    unsigned long flags;

    spin_lock_irqsave(&hctx->lock, flags);
    unsigned over = blk_settle_locked(hctx, batch, count, now_tsc, &makers);
    hctx->kicks++;
    bool more = !list_empty(&hctx->waiting);
    spin_unlock_irqrestore(&hctx->lock, flags);
    if (likely(makers != 0)) {
        blk_account_end(hctx->disk, now_tsc, makers);
    }
    if (unlikely(more)) {
        blk_run_hctx(hctx);
    }
    for (unsigned i = 0; i < over; i++) {
        blk_tell(batch[i]);
    }
}

__noinline void blk_finish_one(struct request *request)
{
    blk_finish(request->hctx, &request, 1);
}

// Neighbours in the list that belong to one queue are ended together.
static __noinline void blk_finish_list(struct list_head *list)
{
    struct request *batch[BLK_BATCH];
    while (!list_empty(list)) {
        struct blk_mq_hw_ctx *hctx = list_first_entry(list, struct request, link)->hctx;
        unsigned count = 0;
        while (!list_empty(list) && count < BLK_BATCH) {
            struct request *request = list_first_entry(list, struct request, link);
            if (request->hctx != hctx) {
                break;
            }
            list_del(&request->link);
            batch[count++] = request;
        }
        blk_finish(hctx, batch, count);
    }
}

// By somebody else than this queue's reap.
static __noinline void blk_complete_elsewhere(struct request *request)
{
    if (in_hardirq() && READ_ONCE(request->hctx->disk->completion) == BLK_COMPLETE_HARDIRQ) {
        blk_finish_one(request);
    } else {
        blk_leave_to_softirq(&request->link, true);
    }
}

// It is not the driver's: a completion too many.
static __noinline void blk_complete_strange(struct request *request, uint32_t state)
{
    WARN_ON(true);
    __atomic_store_n(&request->state, state, __ATOMIC_RELAXED);
}

void blk_complete_request(struct request *request, int status)
{
    struct blk_mq_hw_ctx *hctx = request->hctx;
    uint32_t state = __atomic_exchange_n(&request->state, REQUEST_DONE, __ATOMIC_RELAXED);
    if (unlikely(state != REQUEST_STARTED)) {
        blk_complete_strange(request, state);
        return;
    }
    request->status = status;
    if (likely(READ_ONCE(hctx->reaping_cpu) == cpu_id() + 1 && !in_hardirq())) {
        struct blk_batch *batch = &hctx->reaped;
        if (likely(batch->count < BLK_BATCH)) {
            batch->requests[batch->count++] = request;
            return;
        }
    }
    blk_complete_elsewhere(request);
}

// ---- reaping ------------------------------------------------------------------------------------

// Looks of the driver's, and the end of what they found. How many that was, `budget` at most.
static __always_inline unsigned blk_reap_some(struct blk_mq_hw_ctx *hctx, unsigned budget)
{
    struct blk_batch *batch = &hctx->reaped;
    unsigned found, sum = 0;
    do {
        unsigned room = min(budget - sum, (unsigned)BLK_BATCH);
        batch->count = 0;
        __atomic_store_n(&hctx->reap_state, REAP_RUNNING, __ATOMIC_SEQ_CST);
        WRITE_ONCE(hctx->reaping_cpu, cpu_id() + 1);
        found = hctx->disk->ops->reap(hctx, room);
        WRITE_ONCE(hctx->reaping_cpu, 0);
        if (likely(batch->count != 0)) {
            blk_finish(hctx, batch->requests, batch->count);
        }
        sum += found;
    } while (unlikely(found >= BLK_BATCH && sum < budget));
    return sum;
}

// Nobody has asked meanwhile: it is over. From then on the queue may be reaped elsewhere, or gone.
static inline bool blk_reap_ends(struct blk_mq_hw_ctx *hctx)
{
    uint32_t state = REAP_RUNNING;
    return __atomic_compare_exchange_n(&hctx->reap_state, &state, 0, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

// Again and again while it is asked to meanwhile, but not for ever.
static inline void blk_reap(struct blk_mq_hw_ctx *hctx)
{
    for (unsigned rounds = 0; rounds < REAP_MAX_ROUNDS; rounds++) {
        blk_reap_some(hctx, hctx->disk->queue_depth);
        if (likely(blk_reap_ends(hctx))) {
            return;
        }
    }
    __atomic_store_n(&hctx->reap_state, REAP_WANTED, __ATOMIC_SEQ_CST);
    blk_leave_to_softirq(&hctx->reap_link, false);
}

// The same by IRQ_POLL softirq: `budget` at a time, then it is another device's turn. It is ours,
// and not to be scheduled, until the state is 0; so completing comes first.
int blk_irq_poll(struct irq_poll *iop, int budget)
{
    struct blk_mq_hw_ctx *hctx = container_of(iop, struct blk_mq_hw_ctx, iop);
    unsigned found = blk_reap_some(hctx, (unsigned)budget);
    if (found >= (unsigned)budget) {
        return budget;
    }
    irq_poll_complete(iop);
    if (!blk_reap_ends(hctx)) {
        irq_poll_sched(iop);
    }
    return (int)found;
}

// As the disk is switched: here and now, or by IRQ_POLL softirq.
static __noinline void blk_mq_reap_otherwise(struct blk_mq_hw_ctx *hctx,
                                             enum blk_completion completion)
{
    if (completion == BLK_COMPLETE_IRQ_POLL) {
        irq_poll_sched(&hctx->iop);
    } else if (in_hardirq()) {
        blk_reap(hctx);
    } else {
        blk_leave_to_softirq(&hctx->reap_link, false);
    }
}

void blk_mq_reap(struct blk_mq_hw_ctx *hctx)
{
    uint32_t state = 0;
    if (!__atomic_compare_exchange_n(&hctx->reap_state, &state, REAP_WANTED, false,
                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST) &&
        __atomic_fetch_or(&hctx->reap_state, REAP_WANTED, __ATOMIC_SEQ_CST) != 0) {
        return; // whoever was asked first looks once more
    }
    if (unlikely((READ_ONCE(hctx->disk->stopped) & BLK_GONE) != 0 &&
                 READ_ONCE(hctx->disk->in_flight) == 0)) { // an interrupt after del_gendisk
        __atomic_store_n(&hctx->reap_state, 0, __ATOMIC_SEQ_CST);
        return;
    }
    enum blk_completion completion = READ_ONCE(hctx->disk->completion);
    if (likely(completion == BLK_COMPLETE_SOFTIRQ)) {
        blk_leave_to_softirq(&hctx->reap_link, false);
    } else {
        blk_mq_reap_otherwise(hctx, completion);
    }
}

// Several queues, or requests that were completed elsewhere. Interrupts are off, and on at the end.
static __noinline void blk_softirq_many(struct blk_cpu *self)
{
    LIST_HEAD(reap);
    LIST_HEAD(done);
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

// The handler of BLOCK_SOFTIRQ: one queue, most often. What comes in while it runs raises it again.
static void blk_softirq(void)
{
    local_irq_disable();
    struct blk_cpu *self = &this_cpu(blk_cpus);
    struct list_head *first = self->reap.next;
    if (unlikely(first == &self->reap || first->next != &self->reap || !list_empty(&self->done))) {
        blk_softirq_many(self);
        return;
    }
    INIT_LIST_HEAD(&self->reap);
    local_irq_enable();
    blk_reap(container_of(first, struct blk_mq_hw_ctx, reap_link));
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
