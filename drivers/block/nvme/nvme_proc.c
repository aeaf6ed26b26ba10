// /proc/driver/nvme, the list of controllers, and the driver's boot options.
//
// Context: thread; boot options once, early.
#include "nvme.h"

#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>

uint32_t nvme_timeout_ms = NVME_TIMEOUT_MS;
uint32_t nvme_depth = NVME_MAX_DEPTH;
uint32_t nvme_max_queues = NVME_MAX_QUEUES;
enum blk_completion nvme_completion = BLK_COMPLETE_SOFTIRQ;

static DEFINE_MUTEX(nvme_list_mutex);
static LIST_HEAD(nvme_list); // L: controllers, in the order of their numbers

// ---- the list -----------------------------------------------------------------------------------

void nvme_list_add(struct nvme_ctrl *ctrl)
{
    struct nvme_ctrl *other;
    struct list_head *place = &nvme_list;

    mutex_lock(&nvme_list_mutex);
    list_for_each_entry (other, &nvme_list, link) { // the lowest number that is free
        if (other->number != ctrl->number) {
            break;
        }
        ctrl->number++;
        place = &other->link;
    }
    snprintf(ctrl->name, sizeof(ctrl->name), "nvme%u", ctrl->number);
    list_add(&ctrl->link, place);
    mutex_unlock(&nvme_list_mutex);
}

void nvme_list_remove(struct nvme_ctrl *ctrl)
{
    mutex_lock(&nvme_list_mutex);
    list_del_init(&ctrl->link);
    mutex_unlock(&nvme_list_mutex);
}

struct nvme_ctrl *nvme_list_lock(const char *disk)
{
    struct nvme_ctrl *ctrl;
    mutex_lock(&nvme_list_mutex);
    list_for_each_entry (ctrl, &nvme_list, link) {
        for (unsigned i = 0; i < ctrl->ns_count; i++) {
            if (ctrl->namespaces[i] != NULL && nvme_state(ctrl) == NVME_LIVE &&
                (*disk == '\0' || strcmp(ctrl->namespaces[i]->disk->name, disk) == 0)) {
                return ctrl;
            }
        }
    }
    mutex_unlock(&nvme_list_mutex);
    return NULL;
}

void nvme_list_unlock(void)
{
    mutex_unlock(&nvme_list_mutex);
}

// ---- /proc/driver/nvme --------------------------------------------------------------------------

static void nvme_show_queue(struct text *t, const struct nvme_queue *queue)
{
    const struct nvme_counters *c = &queue->counters;
    uint64_t strange = c->answers[NVME_ANSWER_WRONG_QUEUE] + c->answers[NVME_ANSWER_WILD] +
                       c->answers[NVME_ANSWER_STALE];
    unsigned out = 0;
    for (unsigned i = 0; i < queue->tags.count; i++) {
        out += READ_ONCE(queue->tags.tags[i].issued);
    }
    text_printf(t, "  queue %u: depth %u, vector %u, irq %d, CPUs ", queue->ring.id,
                queue->ring.depth, queue->vector, queue->irq);
    if (queue->ring.id == 0) {
        text_putc(t, '-');
    } else {
        cpumask_show_list(t, &queue->cpus);
    }
    text_printf(t, ", SQ 0x%llx, CQ 0x%llx, tail %u, head %u, phase %u\n",
                (unsigned long long)queue->sq_bus.value, (unsigned long long)queue->cq_bus.value,
                queue->ring.sq_tail, queue->ring.cq_head, queue->ring.phase);
    text_printf(t,
                "    commands %llu, by SGL %llu, doorbells %llu, interrupts %llu (%llu in vain), "
                "answers %llu, out %u, turned away %llu\n",
                (unsigned long long)c->commands, (unsigned long long)c->sgls,
                (unsigned long long)c->doorbells, (unsigned long long)c->interrupts,
                (unsigned long long)c->empty, (unsigned long long)c->answers[NVME_ANSWER_GOOD], out,
                (unsigned long long)c->busy);
    text_printf(
        t,
        "    strange answers %llu: wrong queue %llu, wild %llu, stale %llu; lost "
        "interrupts %llu\n",
        (unsigned long long)strange, (unsigned long long)c->answers[NVME_ANSWER_WRONG_QUEUE],
        (unsigned long long)c->answers[NVME_ANSWER_WILD],
        (unsigned long long)c->answers[NVME_ANSWER_STALE], (unsigned long long)c->lost_interrupts);
}

static void nvme_show_ctrl(struct text *t, struct nvme_ctrl *ctrl)
{
    static const char *const states[] = {"starting", "live", "resetting", "dead"};

    text_printf(t, "%s: %s, %s, %s, CAP 0x%llx, CSTS ", ctrl->name, ctrl->dev->name,
                ctrl->identity.model, states[nvme_state(ctrl)], (unsigned long long)ctrl->cap);
    text_bits(t, nvme_rd(ctrl, NVME_CSTS), nvme_csts_names);
    text_printf(t, "\n  %u vectors%s, %u queues, depth %u, largest command %u bytes%s%s\n",
                ctrl->vector_count, ctrl->level ? " (a wire)" : "", ctrl->queue_count, ctrl->depth,
                ctrl->max_bytes, ctrl->identity.sgl != 0 ? ", SGL" : "",
                ctrl->identity.has_write_cache ? ", write cache" : "");
    text_printf(t, "  timeouts %llu, aborts %llu, resets %llu, events %llu, failed %llu\n",
                (unsigned long long)ctrl->timeouts, (unsigned long long)ctrl->aborts,
                (unsigned long long)ctrl->resets, (unsigned long long)ctrl->events,
                (unsigned long long)ctrl->failed);
    for (unsigned i = 0; i < ctrl->ns_count; i++) {
        const struct nvme_ns *ns = ctrl->namespaces[i];
        if (ns != NULL) {
            text_printf(t, "  namespace %u: %s, %llu blocks of %u bytes%s\n", ns->nsid,
                        ns->disk->name, (unsigned long long)ns->format.blocks,
                        1u << ns->format.block_shift, ns->format.read_only ? ", read-only" : "");
        }
    }
    if (ctrl->admin != NULL) {
        nvme_show_queue(t, ctrl->admin);
    }
    for (unsigned i = 0; i < ctrl->queue_count; i++) {
        if (ctrl->queues[i] != NULL) {
            nvme_show_queue(t, ctrl->queues[i]);
        }
    }
}

// A controller leaves the list before its queues and namespaces go.
static void nvme_show(struct text *t, unsigned long index)
{
    struct nvme_ctrl *ctrl;
    (void)index;
    mutex_lock(&nvme_list_mutex);
    list_for_each_entry (ctrl, &nvme_list, link) {
        nvme_show_ctrl(t, ctrl);
    }
    mutex_unlock(&nvme_list_mutex);
}
PROC_FILE("driver/nvme", nvme_show);

// ---- boot options -------------------------------------------------------------------------------

BOOT_NUMBER("nvme.timeout", nvme_timeout_ms, 100, 600000,
            "milliseconds until an NVMe command is aborted (100 to 600000)");

BOOT_NUMBER("nvme.depth", nvme_depth, 2, NVME_MAX_DEPTH, "entries of an NVMe queue (2 to 1024)");

BOOT_NUMBER("nvme.queues", nvme_max_queues, 1, NVME_MAX_QUEUES,
            "at most so many I/O queues (1 to 64)");

BOOT_NUMBER("nvme.sgl_threshold", nvme_sgl_threshold, 0, NVME_MAX_BYTES,
            "bytes of a piece of memory from which on SGLs are used, not PRPs (0: never; 32768)");

static int nvme_set_completion(const char *value)
{
    static const char *const names[] = {[BLK_COMPLETE_SOFTIRQ] = "softirq",
                                        [BLK_COMPLETE_HARDIRQ] = "hardirq",
                                        [BLK_COMPLETE_IRQ_POLL] = "irq_poll"};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        if (strcmp(value, names[i]) == 0) {
            nvme_completion = (enum blk_completion)i;
            return 0;
        }
    }
    return -EINVAL;
}
BOOT_OPTION("nvme.completion", nvme_set_completion,
            "who completes NVMe commands: softirq, hardirq or irq_poll");
