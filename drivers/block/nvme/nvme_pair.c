// Pairs of queues: their memory, how the controller is told of them, and the message of each.
//
//   pair n      submission queue   64 bytes a command     ours to fill, the device reads it
//               completion queue   16 bytes an answer     the device's to fill
//               lists              pages for data pointers, handed out by nvme_data.c
//               two doorbells      at 2n and 2n + 1 strides in BAR 0 (3.1.24, 3.1.25)
//               a message          to one of the CPUs that submit here; pair 0 is the admin pair
//
// All of the memory is the device's for as long as the controller is enabled: only when it has been
// disabled is it freed, or emptied for a new start (nvme_open_queue). A reset makes the same pairs
// once more, in the same memory.
//
// NVMe 1.4, 4.1, 5.3, 5.4, 7.5. Context: thread. Previous: nvme.c. Next: nvme_queue.h, whose rings
// these are.
#include "nvme.h"

#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <core/log.h>
#include <mm/slab.h>

// ---- our side -----------------------------------------------------------------------------------

void nvme_free_queue(struct nvme_queue *queue)
{
    struct nvme_ctrl *ctrl = queue->ctrl;
    size_t depth = queue->ring.depth;
    dma_free_coherent(ctrl->dev, depth * sizeof(struct nvme_sqe), queue->sq, queue->sq_bus);
    dma_free_coherent(ctrl->dev, depth * sizeof(struct nvme_cqe), queue->cq, queue->cq_bus);
    dma_free_coherent(ctrl->dev, NVME_LISTS * NVME_LIST_SIZE, queue->lists, queue->lists_bus);
    kfree(queue->tags.tags);
    kfree(queue->slots);
    kfree(queue);
}

static int nvme_alloc_rings(struct nvme_queue *queue, uint16_t depth, uint16_t tags)
{
    struct nvme_ctrl *ctrl = queue->ctrl;
    struct nvme_tag *memory = kcalloc(tags, sizeof(*memory), GFP_KERNEL);
    if (memory != NULL) {
        nvme_tags_init(&queue->tags, memory, tags);
    }
    queue->slots = kcalloc(tags, sizeof(*queue->slots), GFP_KERNEL);
    queue->sq = dma_alloc_coherent(ctrl->dev, depth * sizeof(struct nvme_sqe), &queue->sq_bus);
    queue->cq = dma_alloc_coherent(ctrl->dev, depth * sizeof(struct nvme_cqe), &queue->cq_bus);
    return memory == NULL || queue->slots == NULL || queue->sq == NULL || queue->cq == NULL
               ? -ENOMEM
               : 0;
}

static int nvme_alloc_lists(struct nvme_queue *queue)
{
    queue->lists =
        dma_alloc_coherent(queue->ctrl->dev, NVME_LISTS * NVME_LIST_SIZE, &queue->lists_bus);
    if (queue->lists == NULL) {
        return -ENOMEM;
    }
    for (uint8_t i = 0; i < NVME_LISTS; i++) {
        queue->free_lists[queue->free_list_count++] = i;
    }
    return 0;
}

// NULL: no memory.
struct nvme_queue *nvme_alloc_queue(struct nvme_ctrl *ctrl, uint16_t id, uint16_t depth,
                                    uint16_t tags)
{
    struct nvme_queue *queue = kzalloc(sizeof(*queue), GFP_KERNEL);
    if (queue == NULL) {
        return NULL;
    }
    uint32_t stride = NVME_CAP_DSTRD(ctrl->cap);
    volatile uint8_t __iomem *doorbells =
        (volatile uint8_t __iomem *)ctrl->registers + NVME_DOORBELLS;
    queue->ctrl = ctrl;
    queue->irq = -1;
    queue->ring.id = id;
    queue->ring.depth = depth;
    queue->sq_doorbell = doorbells + (size_t)id * 2 * stride;
    queue->cq_doorbell = doorbells + ((size_t)id * 2 + 1) * stride;
    queue->vector = ctrl->vector_count > 1 ? id : 0;
    spin_lock_init(&queue->sq_lock, "nvme sq");
    spin_lock_init(&queue->cq_lock, "nvme cq");
    if (nvme_alloc_rings(queue, depth, tags) != 0 || (id != 0 && nvme_alloc_lists(queue) != 0)) {
        nvme_free_queue(queue);
        return NULL;
    }
    return queue;
}

// The CPUs that submit to this queue; its message goes to one of them.
static void nvme_set_cpus(struct nvme_queue *queue)
{
    unsigned index = queue->ring.id - 1u, count = queue->ctrl->queue_count;
    for_each_online_cpu (cpu) {
        if (cpu % count == index) {
            cpumask_set(&queue->cpus, cpu);
        }
    }
}

int nvme_alloc_queues(struct nvme_ctrl *ctrl)
{
    uint16_t tags = (uint16_t)(ctrl->tags_per_ns * max(ctrl->ns_count, 1u));
    for (unsigned i = 0; i < ctrl->queue_count; i++) {
        ctrl->queues[i] = nvme_alloc_queue(ctrl, (uint16_t)(i + 1), ctrl->depth, tags);
        if (ctrl->queues[i] == NULL) {
            if (i == 0) {
                return -ENOMEM;
            }
            dev_warn(ctrl->dev, "memory for %u queues of %u", i, ctrl->queue_count);
            ctrl->queue_count = i; // fewer will do
            break;
        }
    }
    for (unsigned i = 0; i < ctrl->queue_count; i++) {
        nvme_set_cpus(ctrl->queues[i]);
    }
    return 0;
}

// Empties a pair for a controller that has just been disabled.
void nvme_open_queue(struct nvme_queue *queue)
{
    unsigned long flags;
    spin_lock_irqsave(&queue->sq_lock, flags);
    spin_lock(&queue->cq_lock);
    nvme_ring_init(&queue->ring, queue->ring.id, queue->ring.depth, queue->sq, queue->cq);
    queue->running = true;
    spin_unlock(&queue->cq_lock);
    spin_unlock_irqrestore(&queue->sq_lock, flags);
}

// ---- the controller's side ----------------------------------------------------------------------

// 5.3, 5.4: the completion queue first, as the other one names it.
static int nvme_create_queue(struct nvme_ctrl *ctrl, struct nvme_queue *queue)
{
    uint32_t shape = (uint32_t)(queue->ring.depth - 1) << 16 | queue->ring.id;
    struct nvme_sqe completion = {.cdw0 = NVME_ADMIN_CREATE_CQ,
                                  .prp = {queue->cq_bus.value, 0},
                                  .cdw10 = shape,
                                  .cdw11 = queue->vector << 16 | NVME_CQ_INTERRUPTS |
                                           NVME_QUEUE_CONTIGUOUS};
    struct nvme_sqe submission = {.cdw0 = NVME_ADMIN_CREATE_SQ,
                                  .prp = {queue->sq_bus.value, 0},
                                  .cdw10 = shape,
                                  .cdw11 = (uint32_t)queue->ring.id << 16 | NVME_QUEUE_CONTIGUOUS};
    nvme_open_queue(queue);
    int error = nvme_admin(ctrl, &completion, NULL, NVME_ADMIN_TIMEOUT_MS);
    return error != 0 ? error : nvme_admin(ctrl, &submission, NULL, NVME_ADMIN_TIMEOUT_MS);
}

int nvme_create_queues(struct nvme_ctrl *ctrl)
{
    unsigned got = 0;
    int error = nvme_set_queue_count(ctrl, ctrl->queue_count, &got);
    if (error == 0 && got < ctrl->queue_count) {
        dev_err(ctrl->dev, "has %u queues, and had %u", got, ctrl->queue_count);
        error = -EIO;
    }
    for (unsigned i = 0; i < ctrl->queue_count && error == 0; i++) {
        error = nvme_create_queue(ctrl, ctrl->queues[i]);
    }
    return error;
}

// ---- interrupts ---------------------------------------------------------------------------------

int nvme_request_irq(struct nvme_queue *queue)
{
    struct nvme_ctrl *ctrl = queue->ctrl;
    bool admin = queue->ring.id == 0;
    int irq = ctrl->vector_irq(ctrl, queue->vector);
    snprintf(queue->irq_name, sizeof(queue->irq_name), "%sq%u", ctrl->name, queue->ring.id);
    int error =
        irq < 0 ? irq
                : request_irq((unsigned)irq, admin ? nvme_admin_interrupt : nvme_interrupt,
                              IRQF_SHARED, queue->irq_name, admin ? (void *)ctrl : (void *)queue);
    if (error != 0) {
        dev_err(ctrl->dev, "irq %d: %s", irq, strerror(error));
        return error;
    }
    queue->irq = irq;
    if (!admin && ctrl->vector_count > 1) { // a queue's interrupt belongs to its CPUs
        irq_set_affinity_and_hint((unsigned)irq, &queue->cpus);
    }
    return 0;
}

void nvme_free_irq(struct nvme_queue *queue)
{
    if (queue->irq >= 0) {
        irq_set_affinity_and_hint((unsigned)queue->irq, NULL);
        free_irq((unsigned)queue->irq, queue->ring.id == 0 ? (void *)queue->ctrl : (void *)queue);
        queue->irq = -1;
    }
}
