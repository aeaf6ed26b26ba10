// The memory of a request as a command's data pointer: mapped, told as PRPs or as an SGL, and taken
// back.
//
// Three forms, the first that fits:
//
//   short   one piece of at most two pages: the command's own two words (nvme_disk.c, the usual way)
//   SGL     pieces that are long: a word pair for each, however many pages it has
//   PRP     many short pieces: a word for each page
//
// An SGL is optional. Where the controller has it, 1 MiB in one piece costs two words, not 256, and
// the controller reads no list: nvme.sgl_threshold says how long the pieces must be on average.
// What begins or ends within a page, in the middle of the data, only an SGL can say, at any length.
//
// A list of either kind is a page of the queue's own. Whoever finds none is turned away, and asked
// again when one comes back.
//
// NVMe 1.4, 4.3 (PRP), 4.4 (SGL). Context: any. Previous: nvme_prp.c. Next: nvme_disk.c.
#include "nvme.h"

#include <lib/errno.h>

uint32_t nvme_sgl_threshold = NVME_SGL_THRESHOLD;

// ---- lists --------------------------------------------------------------------------------------

// -EBUSY: all are in use.
static int data_take_list(struct nvme_queue *queue, struct nvme_slot *slot)
{
    unsigned long flags;
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
void nvme_data_give_list(struct nvme_queue *queue, struct nvme_slot *slot)
{
    unsigned long flags;
    if (slot->list == NVME_NO_LIST) {
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

// ---- the pointer --------------------------------------------------------------------------------

static int data_point_by_prp(const struct nvme_queue *queue, struct request *request,
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

// One piece needs no list: its descriptor is the command's data pointer. -EINVAL: not by this one.
static int data_point_by_sgl(struct nvme_queue *queue, struct request *request,
                             const struct nvme_slot *slot, struct nvme_io *io)
{
    size_t offset = (size_t)slot->list * NVME_LIST_SIZE;
    struct nvme_sgl only, *list = &only;
    uint64_t list_bus = 0;
    struct request *part;
    struct blk_segment *segment;
    unsigned count = 0;

    if (queue->ctrl->identity.sgl == 0 || blk_rq_segments(request) > NVME_LIST_SGLS) {
        return -EINVAL;
    }
    if (slot->list != NVME_NO_LIST) {
        list = (void *)(queue->lists + offset);
        list_bus = queue->lists_bus.value + offset;
    }
    rq_for_each_segment (segment, part, request) {
        nvme_sgl_add(list, count++, segment->bus.value, segment->length);
    }
    nvme_sgl_end(io->prp, list, list_bus, count);
    io->cdw0 |= NVME_PSDT_SGL;
    __atomic_fetch_add(&queue->counters.sgls, 1, __ATOMIC_RELAXED);
    return 0;
}

// Are its pieces so long that an SGL is the shorter way to say it?
static bool data_prefers_sgl(const struct nvme_ctrl *ctrl, const struct request *request)
{
    uint64_t bytes = (uint64_t)blk_rq_sectors(request) * SECTOR_SIZE;
    return ctrl->identity.sgl != 0 && nvme_sgl_threshold != 0 && blk_rq_segments(request) != 0 &&
           blk_rq_segments(request) <= NVME_LIST_SGLS &&
           bytes >= (uint64_t)nvme_sgl_threshold * blk_rq_segments(request);
}

static bool data_needs_list(const struct request *request, bool by_sgl)
{
    const struct blk_segment *first = request->segments;
    return blk_rq_segments(request) > 1 ||
           (blk_rq_segments(request) == 1 && !by_sgl &&
            nvme_prp_needs_list((uintptr_t)first->data, first->length));
}

int nvme_data_map(struct nvme_queue *queue, uint16_t tag, struct request *request,
                  struct nvme_io *io)
{
    struct nvme_slot *slot = &queue->slots[tag];
    bool by_sgl = data_prefers_sgl(queue->ctrl, request);

    *slot = (struct nvme_slot){.list = NVME_NO_LIST};
    int error = data_needs_list(request, by_sgl) ? data_take_list(queue, slot) : 0;
    if (error != 0) {
        return error;
    }
    error = blk_rq_dma_map(request, queue->ctrl->dev);
    if (error != 0) {
        nvme_data_give_list(queue, slot);
        return error;
    }
    slot->request = request;
    error = by_sgl ? -EINVAL : data_point_by_prp(queue, request, slot, io);
    if (error == -EINVAL) {
        error = data_point_by_sgl(queue, request, slot, io);
    }
    if (error != 0) {
        blk_rq_dma_unmap(request, queue->ctrl->dev);
        nvme_data_give_list(queue, slot);
    }
    return error;
}
