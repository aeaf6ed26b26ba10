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
// NVMe 1.4, 6 (NVM commands), 7.2.1 (processing of commands), 7.5 (interrupts). Previous: nvme.c.
// Next: nvme_recover.c, when no answer comes.
#include "nvme.h"

#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <core/log.h>
#include <core/panic.h>
#include <mm/slab.h>

enum { REAP_BATCH = 16 };

// ---- down: the data pointer ---------------------------------------------------------------------

static enum dma_data_direction nvme_direction(const struct request *request)
{
    return request->op == REQ_OP_WRITE ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
}

static void nvme_unmap(struct nvme_ctrl *ctrl, struct request *request, unsigned count)
{
    struct request *part;
    struct blk_segment *segment = request->segments;
    if (likely(blk_rq_segments(request) == 1 && count != 0)) {
        dma_unmap_single(ctrl->dev, segment->bus, segment->length, nvme_direction(request));
        return;
    }
    rq_for_each_segment (segment, part, request) {
        if (count-- == 0) {
            return;
        }
        dma_unmap_single(ctrl->dev, segment->bus, segment->length, nvme_direction(request));
    }
}

static int nvme_map(struct nvme_ctrl *ctrl, struct request *request)
{
    struct request *part;
    struct blk_segment *segment;
    unsigned mapped = 0;
    rq_for_each_segment (segment, part, request) {
        segment->bus =
            dma_map_single(ctrl->dev, segment->data, segment->length, nvme_direction(request));
        if (unlikely(dma_mapping_error(ctrl->dev, segment->bus))) {
            nvme_unmap(ctrl, request, mapped);
            return -EFAULT;
        }
        mapped++;
    }
    return 0;
}

// A list where the command's own two pointers will not do. -EBUSY: all are in use.
static int nvme_take_list(struct nvme_queue *queue, const struct request *request,
                          struct nvme_slot *slot)
{
    const struct blk_segment *first = request->segments;
    unsigned long flags;

    slot->list = NVME_NO_LIST;
    if (blk_rq_segments(request) == 0 ||
        (blk_rq_segments(request) == 1 &&
         !nvme_prp_needs_list((uintptr_t)first->data, first->length))) {
        return 0;
    }
    spin_lock_irqsave(&queue->sq_lock, flags);
    bool have = queue->free_list_count != 0;
    if (have) {
        slot->list = queue->free_lists[--queue->free_list_count];
    } else {
        queue->starved = true;
        queue->counters.busy++;
    }
    spin_unlock_irqrestore(&queue->sq_lock, flags);
    return have ? 0 : -EBUSY;
}

// Whoever was turned away is asked again: his own disk may have nothing under way that would.
static void nvme_slot_give_list(struct nvme_queue *queue, struct nvme_slot *slot)
{
    unsigned long flags;
    if (likely(slot->list == NVME_NO_LIST)) {
        return;
    }
    spin_lock_irqsave(&queue->sq_lock, flags);
    queue->free_lists[queue->free_list_count++] = slot->list;
    bool starved = queue->starved;
    queue->starved = false;
    spin_unlock_irqrestore(&queue->sq_lock, flags);
    if (starved) {
        schedule_work(&queue->ctrl->kick);
    }
}

void nvme_kick_work(struct work_struct *work)
{
    struct nvme_ctrl *ctrl = container_of(work, struct nvme_ctrl, kick);
    mutex_lock(&ctrl->reset_mutex); // disks come and go under it
    for (unsigned i = 0; i < ctrl->ns_count; i++) {
        if (ctrl->namespaces[i] != NULL) {
            blk_run_queue(ctrl->namespaces[i]->disk);
        }
    }
    mutex_unlock(&ctrl->reset_mutex);
}

static int nvme_point_by_prp(const struct nvme_queue *queue, struct request *request,
                             const struct nvme_slot *slot, struct nvme_io *io)
{
    size_t offset = (size_t)slot->list * NVME_LIST_SIZE;
    bool has_list = slot->list != NVME_NO_LIST;
    struct nvme_prp_builder builder;
    struct request *part;
    struct blk_segment *segment;

    nvme_prp_begin(&builder, io->prp, has_list ? (void *)(queue->lists + offset) : NULL,
                   has_list ? queue->lists_bus.value + offset : 0);
    rq_for_each_segment (segment, part, request) {
        int error = nvme_prp_add(&builder, segment->bus.value, segment->length);
        if (unlikely(error != 0)) {
            return error;
        }
    }
    nvme_prp_end(&builder);
    return 0;
}

// What begins or ends within a page, in the middle of the data, only an SGL can say.
static int nvme_point_by_sgl(const struct nvme_queue *queue, struct request *request,
                             const struct nvme_slot *slot, struct nvme_io *io)
{
    size_t offset = (size_t)slot->list * NVME_LIST_SIZE;
    struct request *part;
    struct blk_segment *segment;
    unsigned count = 0;

    if (queue->ctrl->identity.sgl == 0 || slot->list == NVME_NO_LIST ||
        blk_rq_segments(request) > NVME_LIST_SGLS) {
        return -EINVAL;
    }
    struct nvme_sgl *list = (void *)(queue->lists + offset);
    rq_for_each_segment (segment, part, request) {
        nvme_sgl_add(list, count++, segment->bus.value, segment->length);
    }
    nvme_sgl_end(io->prp, list, queue->lists_bus.value + offset, count);
    io->cdw0 |= NVME_PSDT_SGL;
    return 0;
}

// ---- down: the command --------------------------------------------------------------------------

uint16_t nvme_request_tag(const struct nvme_ns *ns, const struct request *request)
{
    return (uint16_t)(ns->first_tag + request->tag);
}

// Everything but the data pointer and the identifier.
static inline int nvme_build(const struct nvme_ns *ns, const struct request *request,
                             struct nvme_io *io)
{
    static const uint8_t opcodes[] = {NVME_IO_READ, NVME_IO_WRITE, NVME_IO_FLUSH};
    uint64_t sector = blk_rq_pos(request);
    uint32_t sectors = blk_rq_sectors(request);

    io->cdw0 = opcodes[request->op];
    io->nsid = ns->nsid;
    if (unlikely(request->op == REQ_OP_FLUSH)) {
        io->block = 0;
        io->cdw12 = 0;
        io->prp[0] = io->prp[1] = 0;
        return 0;
    }
    io->block = sector >> ns->shift;
    io->cdw12 = (sectors >> ns->shift) - 1; // counted from 0
    // Whole blocks of this namespace?
    return likely(((sector | sectors) & (BIT(ns->shift) - 1)) == 0) ? 0 : -EINVAL;
}

static void nvme_ring_doorbell(struct nvme_queue *queue)
{
    dma_publish();
    writel(queue->ring.sq_tail, queue->sq_doorbell);
    queue->counters.doorbells++;
    nvme_stamp(queue, doorbell);
}

// From here on the tag is the device's. False: the queue is closed.
static inline bool nvme_issue(struct nvme_queue *queue, uint16_t tag, struct nvme_io *io, bool last)
{
    unsigned long flags;
    spin_lock_irqsave(&queue->sq_lock, flags);
    bool open = nvme_state(queue->ctrl) == NVME_LIVE;
    if (likely(open)) {
        io->cdw0 |= (uint32_t)nvme_tag_issue(&queue->tags, tag) << 16;
        nvme_ring_push_io(&queue->ring, io);
        queue->counters.commands++;
        nvme_stamp(queue, written);
        if (last) {
            nvme_ring_doorbell(queue);
        }
    }
    spin_unlock_irqrestore(&queue->sq_lock, flags);
    return open;
}

void nvme_slot_release(struct nvme_queue *queue, uint16_t tag)
{
    struct nvme_slot *slot = &queue->slots[tag];
    nvme_unmap(queue->ctrl, slot->request, UINT32_MAX);
    slot->request = NULL;
    nvme_slot_give_list(queue, slot);
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

static int nvme_map_short(struct nvme_ctrl *ctrl, struct request *request, struct nvme_slot *slot,
                          struct nvme_io *io)
{
    struct blk_segment *only = request->segments;
    only->bus = dma_map_single(ctrl->dev, only->data, only->length, nvme_direction(request));
    if (unlikely(dma_mapping_error(ctrl->dev, only->bus))) {
        return -EFAULT;
    }
    slot->request = request;
    slot->list = NVME_NO_LIST;
    nvme_prp_short(io->prp, only->bus.value, only->length);
    return 0;
}

// Any other way: many pieces, many pages.
static __noinline int nvme_map_long(struct nvme_queue *queue, uint16_t tag, struct request *request,
                                    struct nvme_io *io)
{
    struct nvme_slot *slot = &queue->slots[tag];
    int error = nvme_take_list(queue, request, slot);
    if (error != 0) {
        return error;
    }
    error = nvme_map(queue->ctrl, request);
    if (error != 0) {
        nvme_slot_give_list(queue, slot);
        return error;
    }
    slot->request = request;
    error = nvme_point_by_prp(queue, request, slot, io);
    if (error == -EINVAL) {
        error = nvme_point_by_sgl(queue, request, slot, io);
    }
    if (error != 0) {
        nvme_slot_release(queue, tag);
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

static int nvme_queue_rq(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct nvme_queue *queue = hctx->private_data;
    struct nvme_ns *ns = hctx->disk->private_data;
    struct nvme_io io;

    if (unlikely(request->op == REQ_OP_FLUSH) && nvme_skip_flush(hctx, request, last)) {
        return 0;
    }
    uint16_t tag = nvme_request_tag(ns, request);
    struct nvme_slot *slot = &queue->slots[tag];
    int error = nvme_build(ns, request, &io);
    if (unlikely(error != 0)) {
        return error;
    }
    slot->aborting = false;
    error = nvme_is_short(request) ? nvme_map_short(ns->ctrl, request, slot, &io)
                                   : nvme_map_long(queue, tag, request, &io);
    if (unlikely(error != 0)) {
        return error;
    }
    if (likely(nvme_issue(queue, tag, &io, last))) {
        return 0;
    }
    nvme_slot_release(queue, tag);
    return nvme_state(ns->ctrl) == NVME_DEAD ? -EIO : -EBUSY;
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
static void nvme_report_answer(const struct nvme_queue *queue, enum nvme_answer kind,
                               const struct nvme_cqe *answer)
{
    static const char *const kinds[] = {"", "", "for another queue", "to no command of ours",
                                        "to a command that is not out"};
    pr_ratelimited(LOG_WARNING, "%s: queue %u: an answer %s: id 0x%04x, queue %u, status 0x%x",
                   queue->ctrl->name, queue->ring.id, kinds[kind], answer->cid, answer->sq_id,
                   answer->status);
}

struct nvme_done {
    uint16_t tag, status;
};

// Takes answers out of the queue; its lock is held no longer than that. How many good ones are in
// *done. What comes after the last look brings an interrupt of its own.
static unsigned nvme_take_answers(struct nvme_queue *queue, struct nvme_done *done, unsigned room)
{
    unsigned good = 0, strange = 0;
    unsigned long flags;

    spin_lock_irqsave(&queue->cq_lock, flags);
    // A device that writes strange ones as fast as we read gets a bound too.
    while (nvme_ring_has_answer(&queue->ring) && good < room && likely(queue->running) &&
           likely(strange < queue->ring.depth)) {
        struct nvme_cqe answer;
        uint16_t tag;
        enum nvme_answer kind = nvme_ring_take(&queue->ring, &queue->tags, &answer, &tag);
        if (likely(kind == NVME_ANSWER_GOOD)) {
            done[good++] = (struct nvme_done){.tag = tag, .status = answer.status};
        } else {
            strange++;
            queue->counters.answers[kind]++;
            nvme_report_answer(queue, kind, &answer);
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

static void nvme_complete(struct nvme_queue *queue, const struct nvme_done *done)
{
    struct request *request = queue->slots[done->tag].request;
    int error = 0;

    if (unlikely(NVME_CQE_STATUS(done->status) != 0)) {
        static const char *const names[] = {"read", "write", "flush"};
        error = nvme_status_error(done->status);
        __atomic_fetch_add(&queue->ctrl->failed, 1, __ATOMIC_RELAXED);
        pr_ratelimited(LOG_ERR, "%s: %s of %u sectors at %llu failed: %s (status 0x%x)",
                       request->hctx->disk->name, names[request->op], blk_rq_sectors(request),
                       (unsigned long long)blk_rq_pos(request), nvme_status_text(done->status),
                       NVME_CQE_STATUS(done->status));
    }
    nvme_slot_release(queue, done->tag);
    blk_complete_request(request, error);
}

static unsigned nvme_reap(struct blk_mq_hw_ctx *hctx, unsigned budget)
{
    struct nvme_queue *queue = hctx->private_data;
    struct nvme_done done[REAP_BATCH];
    unsigned completed = 0, room, good;

    do {
        room = min(budget - completed, (unsigned)REAP_BATCH);
        good = nvme_take_answers(queue, done, room);
        for (unsigned i = 0; i < good; i++) {
            nvme_complete(queue, &done[i]);
        }
        completed += good;
    } while (good == room && completed < budget);
    if (queue->ctrl->level && completed < budget) {
        nvme_wr(queue->ctrl, NVME_INTMC, BIT(queue->vector));
    }
    return completed;
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
    disk->max_segments = min((uint32_t)BLK_MAX_SEGMENTS, ctrl->max_bytes / NVME_PAGE_SIZE + 1);
    disk->virt_boundary = ctrl->identity.sgl != 0 ? 0 : NVME_PAGE_SIZE - 1;
    disk->dma_alignment = ctrl->identity.sgl == 1 ? 1 : 3;
    disk->logical_block_size = 1u << ns->format.block_shift;
    disk->no_part = ns->format.block_shift != 9; // tables are read by sectors
    disk->timeout_ms = nvme_timeout_ms;
    disk->read_only = ns->format.read_only;
    disk->completion = nvme_completion;
    disk->transport = "nvme";
    strscpy(disk->model, ctrl->identity.model, sizeof(disk->model));
    strscpy(disk->serial, ctrl->identity.serial, sizeof(disk->serial));
    strscpy(disk->firmware, ctrl->identity.firmware, sizeof(disk->firmware));
}

int nvme_ns_create(struct nvme_ctrl *ctrl, uint32_t nsid, const struct nvme_format *format)
{
    struct nvme_ns *ns = kzalloc(sizeof(*ns), GFP_KERNEL);
    if (ns == NULL) {
        return -ENOMEM;
    }
    *ns = (struct nvme_ns){.ctrl = ctrl,
                           .nsid = nsid,
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

    snprintf(name, sizeof(name), "%sn%u", ctrl->name, ns->nsid);
    int error = add_disk(ns->disk, name);
    if (error != 0) {
        dev_err(ctrl->dev, "%s: %s", name, strerror(error));
        return error;
    }
    dev_info(ctrl->dev, "%s: %s, %llu blocks of %u bytes (%llu MiB)%s", name, ctrl->identity.model,
             (unsigned long long)format->blocks, 1u << format->block_shift,
             (unsigned long long)ns->disk->capacity >> 11, format->read_only ? ", read-only" : "");
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
