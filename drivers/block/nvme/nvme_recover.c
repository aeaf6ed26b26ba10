// When no answer comes, or the controller dies.
//
//   request overdue ──> Abort, one command ──> its answer ("aborted") comes by the usual way
//                            └── not aborted, overdue once more ──> reset of the controller
//   CSTS.CFS, or all ones (looked at each second) ──────────────────────┘
//
// A reset takes back everything that the controller has: it is disabled, after which it touches no
// memory (7.3.2), so each command that is out is ours again. What was under way is put back to be
// started anew; it does no harm to read or write twice. Only the request that has been through this
// too often fails: the guilty after its second time, the others after NVME_MAX_TRIES.
//
//   LIVE ──> RESETTING: quiesce the disks ─> disable ─> take back ─> enable, queues ──> LIVE
//                 └── three times in vain ──> DEAD: -EIO for everything, now and later
//
// An answer that comes late, after its command was taken back, meets a tag that is not out (and
// after a reset a queue that was emptied): it is counted and ignored.
//
// Context: thread: the block layer's work item for time-outs, and one of ours. NVMe 1.4, 5.1,
// 7.3.2, 9.5. Previous: nvme_disk.c.
#include "nvme.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>
#include <sched/sleep.h>

enum { RECOVER_WATCH_MS = 1000, RECOVER_PAUSE_MS = 500 };

// How often a request has been under way in a reset, kept where the block layer keeps it for us.
static unsigned recover_tries(const struct request *request)
{
    return (unsigned)(uintptr_t)request->driver_data;
}

static void recover_set_tries(struct request *request, unsigned tries)
{
    request->driver_data = (void *)(uintptr_t)tries;
}

// ---- taking back --------------------------------------------------------------------------------

// Answers that come from now on are not for us.
static void recover_close_queue(struct nvme_queue *queue)
{
    unsigned long flags;
    spin_lock_irqsave(&queue->cq_lock, flags);
    queue->running = false;
    spin_unlock_irqrestore(&queue->cq_lock, flags);
}

struct recover_victims {
    unsigned requeued, failed;
    bool all; // none is tried again
};

// The device is disabled. Whoever clears the tag has the request: this, or a reap that took its
// answer just before.
static void recover_take_back(struct request *request, void *arg)
{
    struct recover_victims *victims = arg;
    struct nvme_ns *ns = request->hctx->disk->private_data;
    struct nvme_queue *queue = request->hctx->private_data;
    uint16_t tag = nvme_request_tag(ns, request);

    if (!nvme_tag_revoke(&queue->tags, tag)) {
        return;
    }
    nvme_slot_release(queue, tag);
    recover_set_tries(request, recover_tries(request) + 1);
    if (victims->all || recover_tries(request) >= NVME_MAX_TRIES) {
        victims->failed++;
        __atomic_fetch_add(&ns->ctrl->failed, 1, __ATOMIC_RELAXED);
        blk_complete_request(request, -EIO);
    } else {
        victims->requeued++;
        blk_requeue_request(request);
    }
}

static void recover_take_all_back(struct nvme_ctrl *ctrl, struct recover_victims *victims)
{
    for (unsigned i = 0; i < ctrl->ns_count; i++) {
        if (ctrl->namespaces[i] != NULL) {
            blk_mq_busy_iter(ctrl->namespaces[i]->disk, recover_take_back, victims);
        }
    }
}

static void recover_quiesce(struct nvme_ctrl *ctrl, bool quiesce)
{
    for (unsigned i = 0; i < ctrl->ns_count; i++) {
        if (ctrl->namespaces[i] != NULL && quiesce) {
            blk_mq_quiesce_queue(ctrl->namespaces[i]->disk);
        } else if (ctrl->namespaces[i] != NULL) {
            blk_mq_unquiesce_queue(ctrl->namespaces[i]->disk);
        }
    }
}

// ---- the reset ----------------------------------------------------------------------------------

// After a reset another device may answer, or the same with other namespaces.
static int recover_check_identity(struct nvme_ctrl *ctrl)
{
    struct nvme_identity now;
    struct nvme_format format;
    const char *why;
    int error = nvme_identify_controller(ctrl, &now, &why);

    if (error == 0 && (strcmp(now.serial, ctrl->identity.serial) != 0 ||
                       strcmp(now.model, ctrl->identity.model) != 0)) {
        why = "another device answers";
        error = -ENODEV;
    }
    for (unsigned i = 0; i < ctrl->ns_count && error == 0; i++) {
        const struct nvme_ns *ns = ctrl->namespaces[i];
        if (ns == NULL) {
            continue;
        }
        error = nvme_identify_namespace(ctrl, ns->nsid, &format, &why);
        if (error == 0 &&
            (format.blocks != ns->format.blocks || format.block_shift != ns->format.block_shift)) {
            why = "a namespace has another size";
            error = -ENODEV;
        }
    }
    if (error != 0) {
        dev_err(ctrl->dev, "after the reset: %s", why);
    }
    return error;
}

static int recover_restart(struct nvme_ctrl *ctrl)
{
    int error = nvme_enable(ctrl);
    if (error == 0) {
        error = recover_check_identity(ctrl);
    }
    if (error == 0) {
        error = nvme_create_queues(ctrl);
    }
    return error;
}

static void recover_give_up(struct nvme_ctrl *ctrl)
{
    dev_err(ctrl->dev, "%s: given up; every request gets an error from now on", ctrl->name);
    __atomic_store_n(&ctrl->state, NVME_DEAD, __ATOMIC_RELEASE);
}

// Disables, takes back, enables. Caller holds reset_mutex.
static void recover_reset_locked(struct nvme_ctrl *ctrl, const char *why)
{
    struct recover_victims victims = {0};
    uint64_t start_ns = clock_ns();
    bool alive = false;

    ctrl->resets++;
    dev_warn(ctrl->dev, "%s: resetting controller: %s, CSTS 0x%x", ctrl->name, why,
             nvme_rd(ctrl, NVME_CSTS));
    __atomic_store_n(&ctrl->state, NVME_RESETTING, __ATOMIC_RELEASE);
    recover_quiesce(ctrl, true);
    recover_close_queue(ctrl->admin);
    for (unsigned i = 0; i < ctrl->queue_count; i++) {
        recover_close_queue(ctrl->queues[i]);
    }
    for (unsigned tries = 0; tries < NVME_MAX_RESETS && !alive; tries++) {
        msleep(tries * RECOVER_PAUSE_MS); // what made it die may pass
        if (nvme_disable(ctrl) != 0) {
            break; // it may still write to our memory: not without bus mastering
        }
        nvme_admin_cancel(ctrl);
        recover_take_all_back(ctrl, &victims);
        alive = recover_restart(ctrl) == 0;
    }
    if (alive) {
        __atomic_store_n(&ctrl->state, NVME_LIVE, __ATOMIC_RELEASE);
        nvme_event_arm(ctrl);
        dev_warn(ctrl->dev, "%s: reset in %llu ms, %u requests started again, %u failed",
                 ctrl->name, (unsigned long long)(clock_ns() - start_ns) / 1000000,
                 victims.requeued, victims.failed);
    } else {
        ctrl->dma_off(ctrl);
        victims.all = true;
        recover_give_up(ctrl);
        recover_take_all_back(ctrl, &victims);
    }
    recover_quiesce(ctrl, false);
}

// Why a controller that should live does nothing any more; NULL: it lives. One that is not ready
// was disabled, and not by us.
static const char *recover_why_dead(uint32_t csts)
{
    return nvme_is_gone(csts)            ? "it does not answer"
           : (csts & NVME_CSTS_CFS) != 0 ? "fatal error"
           : (csts & NVME_CSTS_RDY) == 0 ? "it was disabled"
                                         : NULL;
}

void nvme_reset_work(struct work_struct *work)
{
    struct nvme_ctrl *ctrl = container_of(work, struct nvme_ctrl, reset);
    mutex_lock(&ctrl->reset_mutex);
    const char *why = recover_why_dead(nvme_rd(ctrl, NVME_CSTS));
    if (nvme_state(ctrl) == NVME_LIVE && !READ_ONCE(ctrl->stopping) && why != NULL) {
        recover_reset_locked(ctrl, why);
    }
    mutex_unlock(&ctrl->reset_mutex);
}

// A controller that dies without a command under way tells nobody: CSTS is looked at each second.
// Context: timer softirq.
void nvme_watch(struct timer_list *timer)
{
    struct nvme_ctrl *ctrl = container_of(timer, struct nvme_ctrl, watchdog);
    if (nvme_state(ctrl) == NVME_DEAD) {
        return;
    }
    if (nvme_state(ctrl) == NVME_LIVE && recover_why_dead(nvme_rd(ctrl, NVME_CSTS)) != NULL) {
        schedule_work(&ctrl->reset);
    }
    mod_timer(timer, jiffies + msecs_to_jiffies(RECOVER_WATCH_MS));
}

// ---- a request that takes too long --------------------------------------------------------------

// Done, but nobody told us: an interrupt that was lost. True when its answer was there.
static bool recover_look(struct nvme_queue *queue, uint16_t tag)
{
    if (!nvme_ring_has_answer(&queue->ring)) {
        return false;
    }
    blk_mq_reap(queue->hctx);
    for (unsigned ms = 0; ms < 100; ms++) {
        if (!READ_ONCE(queue->tags.tags[tag].issued)) {
            __atomic_fetch_add(&queue->counters.lost_interrupts, 1, __ATOMIC_RELAXED);
            return true;
        }
        msleep(1);
    }
    return false;
}

// Caller holds reset_mutex, the controller is live, the tag is out.
static enum blk_eh_timer_return recover_overdue(struct nvme_queue *queue, struct request *request,
                                                uint16_t tag)
{
    static const char *const names[] = {"read", "write", "flush"};
    struct nvme_ctrl *ctrl = queue->ctrl;
    struct nvme_slot *slot = &queue->slots[tag];
    bool aborted = false;

    ctrl->timeouts++;
    const char *why = recover_why_dead(nvme_rd(ctrl, NVME_CSTS));
    if (why != NULL) {
        recover_reset_locked(ctrl, why);
        return BLK_EH_DONE;
    }
    if (!slot->aborting) {
        slot->aborting = true;
        ctrl->aborts++;
        pr_warn("%s: I/O timeout, aborting (queue %u, id 0x%04x, %s of %u sectors at %llu)",
                request->hctx->disk->name, queue->ring.id, nvme_tag_cid(&queue->tags, tag),
                names[request->op], blk_rq_sectors(request),
                (unsigned long long)blk_rq_pos(request));
        if (nvme_abort(ctrl, queue->ring.id, nvme_tag_cid(&queue->tags, tag), &aborted) == 0) {
            // Aborted: its answer is on its way. Not: it may still be done by itself.
            return BLK_EH_RESET_TIMER;
        }
    }
    pr_warn("%s: I/O timeout, reset controller", request->hctx->disk->name);
    recover_set_tries(request, recover_tries(request) + 1); // its own fault, more than the others'
    recover_reset_locked(ctrl, "a command does not end");
    return BLK_EH_DONE;
}

enum blk_eh_timer_return nvme_timeout(struct request *request)
{
    struct nvme_ns *ns = request->hctx->disk->private_data;
    struct nvme_queue *queue = request->hctx->private_data;
    struct nvme_ctrl *ctrl = ns->ctrl;
    uint16_t tag = nvme_request_tag(ns, request);
    uint64_t resets = READ_ONCE(ctrl->resets);
    enum blk_eh_timer_return result = BLK_EH_DONE;

    if (recover_look(queue, tag)) {
        pr_ratelimited(LOG_WARNING, "%s: queue %u: an interrupt was lost (irq why %d)", ctrl->name,
                       queue->ring.id, queue->irq);
        return BLK_EH_DONE;
    }
    mutex_lock(&ctrl->reset_mutex);
    // A reset that another one asked for has taken this one back too.
    if (ctrl->resets == resets && nvme_state(ctrl) == NVME_LIVE &&
        READ_ONCE(queue->tags.tags[tag].issued)) {
        result = recover_overdue(queue, request, tag);
    }
    mutex_unlock(&ctrl->reset_mutex);
    return result;
}
