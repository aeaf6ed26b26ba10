// One read, watched: what `lab nvme-read` shows.
//
// A device writes its data, then its answer, then sends its message (7.2.1). To see the three
// apart, the CPU that submits keeps its interrupts off and looks at the two places in memory that
// will change: the last word of the buffer, which is given a value that it cannot have read, and
// the phase of the next answer. Then it turns its interrupts on, and the message that waits is
// taken.
//
// Context: thread. Previous: nvme_disk.c. Next: kernel/lab/nvme.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <mm/page.h>
#include <block/nvme.h>

#include "nvme.h"

enum {
    WATCH_NS = 1000 * 1000 * 1000, // interrupts are off, but an emulator on a busy host takes long
    WATCH_SECTORS = PAGE_SIZE / SECTOR_SIZE
};

static DEFINE_MUTEX(watch_mutex);
static struct nvme_stamps watch_stamps; // not on a stack: a CPU may be late in writing to it

struct watch {
    struct gendisk *disk;
    struct request request;
    struct completion done;
    uint32_t *page;
    uint32_t sentinel; // what the last word of the page holds until the device writes there
};

static void watch_done(struct request *request)
{
    struct watch *watch = request->private_data;
    complete(&watch->done);
}

// With interrupts off. 0; -ETIMEDOUT: the device gave no answer in time; -ENODATA: it did, but
// wrote no data before it.
static int watch_memory(const struct watch *watch, const struct nvme_queue *queue,
                        struct nvme_read_steps *steps)
{
    const volatile uint32_t *last = &watch->page[PAGE_SIZE / 4 - 1];
    uint64_t deadline_ns = clock_ns() + WATCH_NS;

    while (*last == watch->sentinel && !nvme_ring_has_answer(&queue->ring)) {
        if (clock_ns() >= deadline_ns) {
            return -ETIMEDOUT;
        }
        cpu_relax();
    }
    dma_observe(); // data that came between the two looks is there now
    if (*last == watch->sentinel) {
        return -ENODATA;
    }
    steps->data = rdtsc();
    while (!nvme_ring_has_answer(&queue->ring)) {
        if (clock_ns() >= deadline_ns) {
            return -ETIMEDOUT;
        }
        cpu_relax();
    }
    steps->answer = rdtsc();
    return 0;
}

// The read itself: preemption is off until it has been seen to end.
static int watch_submit(struct watch *watch, struct nvme_ctrl *ctrl, struct nvme_read_steps *steps)
{
    preempt_disable();
    struct nvme_queue *queue = ctrl->queues[cpu_id() % ctrl->queue_count];
    steps->cpu = cpu_id();
    steps->queue = queue->ring.id;
    watch_stamps = (struct nvme_stamps){0};
    WRITE_ONCE(queue->stamps, &watch_stamps);
    blk_request_init(&watch->request, watch->disk, REQ_OP_READ, 0, WATCH_SECTORS, watch->page,
                     watch_done, watch);
    unsigned long flags = local_irq_save();
    steps->submitted = rdtsc();
    blk_submit(&watch->request);
    int error = watch_memory(watch, queue, steps);
    local_irq_restore(flags);
    preempt_enable();
    wait_for_completion(&watch->done);
    steps->woken = rdtsc();
    WRITE_ONCE(queue->stamps, NULL);
    return error;
}

static int watch_read(struct watch *watch, struct nvme_ctrl *ctrl, struct nvme_read_steps *steps)
{
    // What is there decides what is not there.
    int error = blk_read(watch->disk, 0, WATCH_SECTORS, watch->page);
    if (error != 0) {
        return error;
    }
    watch->sentinel = ~watch->page[PAGE_SIZE / 4 - 1];
    watch->page[PAGE_SIZE / 4 - 1] = watch->sentinel;
    init_completion(&watch->done);
    error = watch_submit(watch, ctrl, steps);
    if (watch->request.status != 0) {
        return watch->request.status;
    }
    steps->written = watch_stamps.written;
    steps->doorbell = watch_stamps.doorbell;
    steps->interrupt = watch_stamps.interrupt;
    steps->reaped = watch_stamps.head_doorbell;
    return error == 0 && steps->interrupt == 0 ? -ETIMEDOUT : error;
}

int nvme_watch_read(const char *name, struct nvme_read_steps *steps)
{
    struct watch watch = {0};
    int error = -ENODEV;

    mutex_lock(&watch_mutex);
    struct nvme_ctrl *ctrl = nvme_list_lock(name); // the driver cannot go meanwhile
    if (ctrl == NULL) {
        goto no_disk;
    }
    watch.disk = blk_find(*name != '\0' ? name : ctrl->namespaces[0]->disk->name);
    watch.page = alloc_page(GFP_KERNEL);
    if (watch.disk != NULL && watch.page != NULL) {
        error = watch_read(&watch, ctrl, steps);
    } else {
        error = watch.disk == NULL ? -ENODEV : -ENOMEM;
    }
    free_page(watch.page);
    if (watch.disk != NULL) {
        blk_put(watch.disk);
    }
    nvme_list_unlock();
no_disk:
    mutex_unlock(&watch_mutex);
    return error;
}
