// Disks that stand still: no request goes to the driver until it is undone, for recovery after an
// error, for a reset, and at the end. And what the driver has at such a moment.
//
//   quiesce   `stopped` is raised, then each queue's lock taken once: whoever comes later sees it;
//             whoever was before is counted in `submitting`, and waited for
//
// Context: thread. Previous: block.c.
#include <lib/errno.h>
#include <core/panic.h>
#include <sched/sleep.h>
#include <dev/block.h>

#include "block_internal.h"

enum { BLK_QUIESCE_MS = 10000 };

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
    might_sleep();
    for (unsigned i = 0; i < disk->queue_count; i++) {
        for (unsigned tag = 0; tag < disk->queue_depth; tag++) {
            struct request *request = blk_mq_tag_to_rq(&disk->queues[i], tag);
            if (request != NULL && READ_ONCE(request->state) == REQUEST_STARTED) {
                visit(request, arg);
            }
        }
    }
}
