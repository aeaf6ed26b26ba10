// A namespace as a disk: requests become commands, answers become completions. The way of one read:
//
//   1  queue_rq    map the memory, build the command, write it into the submission queue   any
//   2  doorbell    tell the controller how far the queue is filled                         any
//   3  device      fetches the command by DMA
//   4  device      reads the medium, writes the data by DMA
//   5  device      writes the answer into the completion queue, phase inverted
//   6  device      sends the queue's message; the top half below asks the block layer      hard irq
//   7  reap        takes answers, finds their requests, unmaps, tells the controller how   softirq
//                  far it has read, completes; the waiter wakes
//
// `lab nvme-read` prints these seven with cycles.
//
// A queue belongs to the CPUs that submit to it, and its message goes to one of them: submission,
// interrupt, completion and the waiter share a cache. The two rings have a lock each, so that a CPU
// that submits never waits for one that reaps:
//
//   sq_lock   tail of the submission queue, PRP lists      cq_lock   head of the completion queue
//
// Whose is a tag? The block layer's until queue_rq; the device's from nvme_tag_issue to its answer
// (or to the reset that revokes it); whoever takes it back, by one atomic exchange, completes the
// request. So a device that answers twice finds nobody who is owed an answer.
//
// With a wire instead of messages the line stays up until the answers are taken, so the top half
// masks it (INTMS) and reap unmasks it.
//
// NVMe 1.4, 6 (NVM commands), 7.2.1 (processing of commands), 7.5 (interrupts). Previous:
// nvme_data.c. Next: nvme_recover.c, when no answer comes.
#include "nvme.h"

#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <core/log.h>
#include <core/panic.h>
#include <mm/slab.h>

// ---- down: the command --------------------------------------------------------------------------

uint16_t nvme_request_tag(const struct nvme_ns *ns, const struct request *request)
{
    return (uint16_t)(ns->first_tag + request->tag);
}

// Everything of a read or write but the data pointer and the identifier. -EINVAL: not whole blocks
// of this namespace.
static inline int nvme_build_rw(const struct nvme_ns *ns, const struct request *request,
                                struct nvme_io *io)
{
    uint64_t sector = blk_rq_pos(request);
    uint32_t sectors = blk_rq_sectors(request);
    uint8_t shift = ns->shift;

    io->cdw0 = request->op == REQ_OP_WRITE ? NVME_IO_WRITE : NVME_IO_READ;
    io->nsid = ns->nsid;
    io->block = sector >> shift;
    io->cdw12 = (sectors >> shift) - 1; // counted from 0
    return likely(((sector | sectors) & (BIT(shift) - 1)) == 0) ? 0 : -EINVAL;
}

static void nvme_ring_doorbell(struct nvme_queue *queue)
{
    dma_publish();
    writel(queue->ring.sq_tail, queue->sq_doorbell);
    queue->counters.doorbells++;
    nvme_stamp(queue, doorbell);
}

// The queue is closed: by a reset, or for good.
static __noinline int nvme_turn_away(struct nvme_queue *queue, uint16_t tag)
{
    nvme_slot_release(queue, tag);
    return nvme_state(queue->ctrl) == NVME_DEAD ? -EIO : -EBUSY;
}

// From here on the tag is the device's. 0, -EIO, -EBUSY.
static __always_inline int nvme_issue(struct nvme_queue *queue, uint16_t tag, struct nvme_io *io,
                                      bool last)
{
    unsigned long flags;
    spin_lock_irqsave(&queue->sq_lock, flags);
    if (unlikely(nvme_state(queue->ctrl) != NVME_LIVE)) {
        spin_unlock_irqrestore(&queue->sq_lock, flags);
        return nvme_turn_away(queue, tag);
    }
    io->cdw0 |= (uint32_t)nvme_tag_issue(&queue->tags, tag) << 16;
    nvme_ring_push_io(&queue->ring, io);
    queue->counters.commands++;
    nvme_stamp(queue, written);
    if (last) {
        nvme_ring_doorbell(queue);
    }
    spin_unlock_irqrestore(&queue->sq_lock, flags);
    return 0;
}

static inline void nvme_release(struct nvme_queue *queue, struct nvme_slot *slot,
                                struct request *request)
{
    blk_rq_dma_unmap(request, queue->ctrl->dev);
    if (unlikely(slot->list != NVME_NO_LIST)) {
        nvme_data_give_list(queue, slot);
    }
    slot->request = NULL;
}

void nvme_slot_release(struct nvme_queue *queue, uint16_t tag)
{
    struct nvme_slot *slot = &queue->slots[tag];
    nvme_release(queue, slot, slot->request);
}

static void nvme_commit_rqs(struct blk_mq_hw_ctx *hctx)
{
    struct nvme_queue *queue = hctx->private_data;
    unsigned long flags;
    spin_lock_irqsave(&queue->sq_lock, flags);
    if (nvme_state(queue->ctrl) == NVME_LIVE) {
        nvme_ring_doorbell(queue);
    }
    spin_unlock_irqrestore(&queue->sq_lock, flags);
}

// The usual way of data: one piece of at most two pages, told in two words. False: not so.
static inline bool nvme_is_short(const struct request *request)
{
    const struct blk_segment *only = request->segments;
    return likely(blk_rq_segments(request) == 1 && ((uintptr_t)only->data & 3) == 0 &&
                  !nvme_prp_needs_list((uintptr_t)only->data, only->length));
}

static inline int nvme_map_short(struct nvme_ctrl *ctrl, struct request *request,
                                 struct nvme_slot *slot, struct nvme_io *io)
{
    const struct blk_segment *only = request->segments;
    int error = blk_rq_dma_map(request, ctrl->dev);
    if (likely(error == 0)) {
        *slot = (struct nvme_slot){.request = request, .list = NVME_NO_LIST};
        nvme_prp_short(io->prp, only->bus.value, only->length);
    }
    return error;
}

// What has no cache has nothing to flush: done at once. True: it was.
static bool nvme_skip_flush(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct nvme_ns *ns = hctx->disk->private_data;
    if (request->op != REQ_OP_FLUSH || ns->ctrl->identity.has_write_cache) {
        return false;
    }
    if (last) {
        nvme_commit_rqs(hctx); // those before it wait for the doorbell
    }
    blk_complete_request(request, 0);
    return true;
}

// Data of many pieces or pages, and none.
static __noinline int nvme_queue_long(struct blk_mq_hw_ctx *hctx, struct request *request,
                                      bool last)
{
    struct nvme_queue *queue = hctx->private_data;
    struct nvme_ns *ns = hctx->disk->private_data;
    uint16_t tag = nvme_request_tag(ns, request);
    struct nvme_io io = {.cdw0 = NVME_IO_FLUSH, .nsid = ns->nsid};

    if (nvme_skip_flush(hctx, request, last)) {
        return 0;
    }
    int error = request->op == REQ_OP_FLUSH ? 0 : nvme_build_rw(ns, request, &io);
    if (error == 0) {
        error = nvme_data_map(queue, tag, request, &io);
    }
    if (unlikely(error != 0)) {
        return error;
    }
    return nvme_issue(queue, tag, &io, last);
}

static int nvme_queue_rq(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct nvme_queue *queue = hctx->private_data;
    struct nvme_ns *ns = hctx->disk->private_data;
    uint16_t tag = nvme_request_tag(ns, request);
    struct nvme_io io;

    if (unlikely(!nvme_is_short(request))) {
        return nvme_queue_long(hctx, request, last);
    }
    int error = nvme_build_rw(ns, request, &io);
    if (likely(error == 0)) {
        error = nvme_map_short(ns->ctrl, request, &queue->slots[tag], &io);
    }
    if (unlikely(error != 0)) {
        return error;
    }
    return nvme_issue(queue, tag, &io, last);
}

// ---- up: the top half ---------------------------------------------------------------------------

irqreturn_t nvme_interrupt(int irq, void *dev_id)
{
    struct nvme_queue *queue = dev_id;
    (void)irq;
    queue->counters.interrupts++;
    if (!nvme_ring_has_answer(&queue->ring)) {
        queue->counters.empty++;
        return IRQ_NONE;
    }
    nvme_stamp(queue, interrupt);
    if (queue->ctrl->level) {
        nvme_wr(queue->ctrl, NVME_INTMS, BIT(queue->vector));
    }
    blk_mq_reap(queue->hctx);
    return IRQ_HANDLED;
}

// ---- up: reaping --------------------------------------------------------------------------------

// An answer that no command of ours can have got: counted, said, and not obeyed.
static __noinline void nvme_report_answer(struct nvme_queue *queue, enum nvme_answer kind,
                                          uint16_t sq_id, uint16_t cid, uint16_t status)
{
    static const char *const kinds[] = {"", "", "for another queue", "to no command of ours",
                                        "to a command that is not out"};
    queue->counters.answers[kind]++;
    pr_ratelimited(LOG_WARNING, "%s: queue %u: an answer %s: id 0x%04x, queue %u, status 0x%x",
                   queue->ctrl->name, queue->ring.id, kinds[kind], cid, sq_id, status);
}

// Takes answers out of the queue; its lock is held no longer than that. How many good ones are in
// *done. What comes after the last look brings an interrupt of its own.
static inline unsigned nvme_take_answers(struct nvme_queue *queue, struct nvme_done *done,
                                         unsigned room)
{
    unsigned good = 0, strange = 0;
    unsigned long flags;

    spin_lock_irqsave(&queue->cq_lock, flags);
    while (good < room && likely(queue->running)) {
        struct nvme_cqe answer;
        uint16_t tag;
        enum nvme_answer kind = nvme_ring_take(&queue->ring, &queue->tags, &answer, &tag);
        if (likely(kind == NVME_ANSWER_GOOD)) {
            done[good++] = (struct nvme_done){.tag = tag, .status = answer.status};
            continue;
        }
        if (kind == NVME_ANSWER_NONE) {
            break;
        }
        nvme_report_answer(queue, kind, answer.sq_id, answer.cid, answer.status);
        if (++strange == queue->ring.depth) {
            break; // a device that writes them as fast as we read gets a bound too
        }
    }
    queue->counters.answers[NVME_ANSWER_GOOD] += good;
    if (likely(good + strange != 0)) {
        nvme_stamp(queue, reaped);
        writel(queue->ring.cq_head, queue->cq_doorbell);
        nvme_stamp(queue, head_doorbell);
    }
    spin_unlock_irqrestore(&queue->cq_lock, flags);
    return good;
}

static __noinline int nvme_failed(struct nvme_queue *queue, const struct request *request,
                                  uint16_t status)
{
    static const char *const names[] = {"read", "write", "flush"};
    __atomic_fetch_add(&queue->ctrl->failed, 1, __ATOMIC_RELAXED);
    pr_ratelimited(LOG_ERR, "%s: %s of %u sectors at %llu failed: %s (status 0x%x)",
                   request->hctx->disk->name, names[request->op], blk_rq_sectors(request),
                   (unsigned long long)blk_rq_pos(request), nvme_status_text(status),
                   NVME_CQE_STATUS(status));
    return nvme_status_error(status);
}

static inline void nvme_complete(struct nvme_queue *queue, struct nvme_done done)
{
    struct nvme_slot *slot = &queue->slots[done.tag];
    struct request *request = slot->request;
    int error = 0;

    if (unlikely(NVME_CQE_STATUS(done.status) != 0)) {
        error = nvme_failed(queue, request, done.status);
    }
    nvme_release(queue, slot, request);
    blk_complete_request(request, error);
}

static unsigned nvme_reap(struct blk_mq_hw_ctx *hctx, unsigned budget)
{
    struct nvme_queue *queue = hctx->private_data;
    unsigned good = nvme_take_answers(queue, queue->done, min(budget, (unsigned)BLK_BATCH));

    for (unsigned i = 0; i < good; i++) {
        nvme_complete(queue, queue->done[i]);
    }
    if (unlikely(queue->ctrl->level) && good < budget) {
        nvme_wr(queue->ctrl, NVME_INTMC, BIT(queue->vector));
    }
    return good;
}

// ---- coming and going ---------------------------------------------------------------------------

static const struct blk_mq_ops nvme_mq_ops = {
    .queue_rq = nvme_queue_rq,
    .commit_rqs = nvme_commit_rqs,
    .reap = nvme_reap,
    .timeout = nvme_timeout,
};

static void nvme_describe(const struct nvme_ns *ns, struct gendisk *disk)
{
    const struct nvme_ctrl *ctrl = ns->ctrl;
    disk->capacity = ns->format.blocks << (ns->format.block_shift - 9);
    disk->max_sectors = ctrl->max_bytes / SECTOR_SIZE;
    disk->max_segment_size =
        (uint32_t)min((size_t)ctrl->max_bytes, dma_max_mapping_size(ctrl->dev));
    disk->max_segments = min((uint32_t)BLK_MAX_SEGMENTS, ctrl->max_bytes / NVME_PAGE_SIZE + 1);
    disk->virt_boundary = ctrl->identity.sgl != 0 ? 0 : NVME_PAGE_SIZE - 1;
    disk->dma_alignment = ctrl->identity.sgl == 1 ? 1 : 3;
    disk->logical_block_size = 1u << ns->format.block_shift;
    disk->timeout_ms = nvme_timeout_ms;
    disk->read_only = ns->format.read_only;
    disk->completion = nvme_completion;
    disk->transport = "nvme";
    strscpy(disk->model, ctrl->identity.model, sizeof(disk->model));
    strscpy(disk->serial, ctrl->identity.serial, sizeof(disk->serial));
    strscpy(disk->firmware, ctrl->identity.firmware, sizeof(disk->firmware));
}

int nvme_ns_create(struct nvme_ctrl *ctrl, uint32_t nsid, unsigned instance,
                   const struct nvme_format *format)
{
    struct nvme_ns *ns = kzalloc(sizeof(*ns), GFP_KERNEL);
    if (ns == NULL) {
        return -ENOMEM;
    }
    *ns = (struct nvme_ns){.ctrl = ctrl,
                           .nsid = nsid,
                           .instance = instance,
                           .index = ctrl->ns_count,
                           .first_tag = (uint16_t)(ctrl->ns_count * ctrl->tags_per_ns),
                           .shift = (uint8_t)(format->block_shift - 9),
                           .format = *format};
    ns->disk = alloc_disk(&nvme_mq_ops, ctrl->queue_count, ctrl->tags_per_ns);
    if (ns->disk == NULL) {
        kfree(ns);
        return -ENOMEM;
    }
    nvme_describe(ns, ns->disk);
    ns->disk->private_data = ns;
    for (unsigned i = 0; i < ctrl->queue_count; i++) {
        ns->disk->queues[i].private_data = ctrl->queues[i];
        if (ns->index == 0) { // the first disk's queues are reaped for all, and go last
            ctrl->queues[i]->hctx = &ns->disk->queues[i];
        }
    }
    ctrl->namespaces[ctrl->ns_count++] = ns;
    return 0;
}

int nvme_ns_publish(struct nvme_ns *ns)
{
    struct nvme_ctrl *ctrl = ns->ctrl;
    const struct nvme_format *format = &ns->format;
    char name[24];

    snprintf(name, sizeof(name), "%sn%u", ctrl->name, ns->instance);
    int error = add_disk(ns->disk, name);
    if (error != 0) {
        dev_err(ctrl->dev, "%s: %s", name, strerror(error));
        return error;
    }
    dev_info(ctrl->dev, "%s: %s, namespace %u, %llu blocks of %u bytes (%llu MiB)%s", name,
             ctrl->identity.model, ns->nsid, (unsigned long long)format->blocks,
             1u << format->block_shift, (unsigned long long)ns->disk->capacity >> 11,
             format->read_only ? ", read-only" : "");
    return 0;
}

bool nvme_ns_remove(struct nvme_ns *ns)
{
    struct nvme_ctrl *ctrl = ns->ctrl;
    if (ns->disk->name[0] != '\0' && del_gendisk(ns->disk) != 0) {
        return false;
    }
    mutex_lock(&ctrl->reset_mutex); // a reset, or a kick, looks at the list
    ctrl->namespaces[ns->index] = NULL;
    mutex_unlock(&ctrl->reset_mutex);
    return true;
}
