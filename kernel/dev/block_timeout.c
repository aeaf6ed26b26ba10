// Requests that take too long. Each has a deadline from the moment that the driver gets it; one
// timer a disk, armed by the first request and from then on by itself while anything is under way,
// has a work item look at them: a driver that finds out what became of a command has to wait for
// hardware.
//
//   request started ──> timer (TIMER softirq) ──> kblockd ──> ops->timeout(request)
//                          ^                                    ├─ done, or soon: nothing more
//                          └──── the earliest deadline left ────┴─ BLK_EH_RESET_TIMER: once more
//
// While the driver looks at an overdue request its completion may come after all. Its memory is the
// maker's and must not go away meanwhile: a request that is `examined` is not told of its end
// before the driver has returned.
//
// And requests for which a driver found no memory: the same queue of work offers them again.
//
// Context: work item; timer softirq. Previous: block.c.
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <defer/timer.h>
#include <defer/work.h>
#include <dev/block.h>

#include "block_internal.h"

enum { RETRY_MS = 10 };

static struct workqueue_struct *kblockd;

// Asks the driver about the request under this tag when it is overdue. True: it is (or will be)
// under way still, and *next is no later than its deadline.
static bool timeout_look(struct blk_mq_hw_ctx *hctx, unsigned tag, uint32_t *next)
{
    struct gendisk *disk = hctx->disk;
    bool left = false, ended = false;
    unsigned long flags;

    spin_lock_irqsave(&hctx->lock, flags);
    struct request *request = hctx->by_tag[tag];
    if (request != NULL && time_after(request->deadline, jiffies)) {
        left = true;
    } else if (request != NULL && READ_ONCE(request->state) == REQUEST_STARTED) {
        hctx->examined = request;
        hctx->examined_done = false;
        hctx->counts.timeouts++;
        spin_unlock_irqrestore(&hctx->lock, flags);
        enum blk_eh_timer_return answer = disk->ops->timeout(request);
        spin_lock_irqsave(&hctx->lock, flags);
        hctx->examined = NULL;
        ended = hctx->examined_done;
        if (!ended && answer == BLK_EH_RESET_TIMER) {
            request->deadline = jiffies + disk->timeout_jiffies;
        }
        left = !ended && answer == BLK_EH_RESET_TIMER;
    }
    if (left && time_after(*next, request->deadline)) {
        *next = request->deadline;
    }
    spin_unlock_irqrestore(&hctx->lock, flags);
    if (ended) {
        blk_finish_one(request);
    }
    return left;
}

static void timeout_work(struct work_struct *work)
{
    struct gendisk *disk = container_of(work, struct gendisk, timeout_work);
    uint32_t next = jiffies + disk->timeout_jiffies;
    bool left = false;

    // From here on whoever starts a request arms the timer again; so an early one is not missed.
    __atomic_store_n(&disk->timeout_armed, 0, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < disk->queue_count; i++) {
        for (unsigned tag = 0; tag < disk->queue_depth; tag++) {
            if (READ_ONCE(disk->queues[i].by_tag[tag]) != NULL) {
                left = timeout_look(&disk->queues[i], tag, &next) || left;
            }
        }
    }
    if (left) {
        __atomic_store_n(&disk->timeout_armed, 1, __ATOMIC_SEQ_CST);
        mod_timer(&disk->timeout_timer, next);
    }
}

static void timeout_timer(struct timer_list *timer)
{
    struct gendisk *disk = container_of(timer, struct gendisk, timeout_timer);
    queue_work(kblockd, &disk->timeout_work);
}

void blk_timeout_arm(struct gendisk *disk)
{
    if (disk->timeout_jiffies != 0 &&
        __atomic_exchange_n(&disk->timeout_armed, 1, __ATOMIC_SEQ_CST) == 0) {
        mod_timer(&disk->timeout_timer, jiffies + disk->timeout_jiffies);
    }
}

static void retry_work(struct work_struct *work)
{
    blk_run_queue(container_of(work, struct gendisk, retry_work.work));
}

void blk_retry_soon(struct gendisk *disk)
{
    queue_delayed_work(kblockd, &disk->retry_work, msecs_to_jiffies(RETRY_MS));
}

void blk_timeout_setup(struct gendisk *disk)
{
    INIT_DELAYED_WORK(&disk->retry_work, retry_work);
    timer_setup(&disk->timeout_timer, timeout_timer, 0);
    INIT_WORK(&disk->timeout_work, timeout_work);
    disk->timeout_jiffies = disk->ops->timeout == NULL ? 0 : msecs_to_jiffies(disk->timeout_ms);
    disk->timeout_armed = disk->timeout_jiffies == 0; // "armed": nobody tries to
}

// Nothing is under way any more. Twice, as the work may have armed the timer, and the timer queued
// the work.
void blk_timeout_stop(struct gendisk *disk)
{
    __atomic_store_n(&disk->timeout_armed, 1, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < 2; i++) {
        del_timer_sync(&disk->timeout_timer);
        cancel_work_sync(&disk->timeout_work);
    }
    cancel_delayed_work_sync(&disk->retry_work);
}

// Overdue requests must not wait for other work: a queue of its own.
void blk_timeout_init(void)
{
    kblockd = alloc_workqueue("kblockd", WQ_HIGHPRI | WQ_MEM_RECLAIM, 0);
    if (kblockd == NULL) {
        pr_warn("block: no memory for kblockd, time-outs share the system's work queue");
        kblockd = system_wq;
    }
}
