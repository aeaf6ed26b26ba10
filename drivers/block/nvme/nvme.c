// The controller: taken over, enabled, its queues made, its namespaces found; and given back.
//
// In the specification's order (7.6.1, 3.5.1 of 2.0), steps left out with the reason:
//
//   1. off: CC.EN = 0, which ends whatever the firmware had under way; wait for RDY = 0
//   2. admin queues: AQA, ASQ, ACQ; interrupts of the bus are on already, as QEMU's controller takes
//      them only as they are when it is enabled
//   3. CC: pages of 4 KiB, entries of 64 and 16 bytes, round robin; CC.EN = 1; wait for RDY = 1
//   4. Identify controller, then which namespaces there are
//   5. how many I/O queues (Set Features 7); a pair for each CPU, each with its own message
//   6. requests for events; the namespaces become disks
//   left out: host memory buffer, power states, namespace management, streams and the rest that is
//   optional and that nothing here uses; weighted round robin, as all queues are equal
//
//   CPU 0 ──> [SQ 1 | CQ 1] ──message 1──> CPU 0        the admin queue has message 0
//   CPU 1 ──> [SQ 2 | CQ 2] ──message 2──> CPU 1
//
// With fewer queues or messages than CPUs, CPU n uses queue n modulo their number, and the queue's
// message goes to one of its CPUs. With a single interrupt all share it, and there is one I/O
// queue.
//
// How long RDY may take is the controller's word (CAP.TO), which has 127 s at most.
//
// NVMe 1.4, 3.1, 7.6. Context: thread. Previous: nvme_pci.c. Next: nvme_pair.c and nvme_admin.c,
// then nvme_disk.c.
#include "nvme.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>
#include <mm/slab.h>
#include <sched/sleep.h>

enum {
    NVME_SPIN_US = 200,
    NVME_SHUTDOWN_MS = 5000,
    NVME_WATCH_MS = 1000,
};

// ---- on and off ---------------------------------------------------------------------------------

bool nvme_is_gone(uint32_t csts)
{
    return csts == UINT32_MAX;
}

// Waits until the masked CSTS has this value: awake for a moment, then asleep. 0, -EIO (dead, or
// gone), -ETIMEDOUT.
static int nvme_wait(struct nvme_ctrl *ctrl, uint32_t mask, uint32_t value, uint32_t timeout_ms)
{
    uint64_t deadline_ns = clock_ns() + (uint64_t)timeout_ms * 1000000;
    uint32_t csts;

    wait_until((nvme_rd(ctrl, NVME_CSTS) & mask) == value, NVME_SPIN_US);
    for (;;) {
        csts = nvme_rd(ctrl, NVME_CSTS);
        if (nvme_is_gone(csts)) {
            return -EIO;
        }
        if ((csts & mask) == value) {
            return 0;
        }
        if ((value & NVME_CSTS_RDY) != 0 && (csts & NVME_CSTS_CFS) != 0) {
            return -EIO;
        }
        if (clock_ns() >= deadline_ns) {
            return -ETIMEDOUT;
        }
        msleep(1);
    }
}

static uint32_t nvme_ready_ms(const struct nvme_ctrl *ctrl)
{
    return max(NVME_CAP_TO_MS(ctrl->cap), 500u);
}

int nvme_disable(struct nvme_ctrl *ctrl)
{
    uint32_t cc = nvme_rd(ctrl, NVME_CC);
    nvme_wr(ctrl, NVME_CC, cc & ~(NVME_CC_EN | NVME_CC_SHN_MASK));
    int error = nvme_wait(ctrl, NVME_CSTS_RDY, 0, nvme_ready_ms(ctrl));
    if (error != 0) {
        dev_err(ctrl->dev, "cannot be disabled: %s",
                error == -EIO ? "it does not answer" : "it stays ready");
    }
    return error;
}

int nvme_enable(struct nvme_ctrl *ctrl)
{
    struct nvme_queue *admin = ctrl->admin;
    nvme_open_queue(admin);
    nvme_wr(ctrl, NVME_AQA, (uint32_t)(admin->ring.depth - 1) << 16 | (admin->ring.depth - 1u));
    nvme_wr64(ctrl, NVME_ASQ, admin->sq_bus.value);
    nvme_wr64(ctrl, NVME_ACQ, admin->cq_bus.value);
    dma_publish();
    nvme_wr(ctrl, NVME_CC, NVME_CC_EN | NVME_CC_IOSQES | NVME_CC_IOCQES);
    int error = nvme_wait(ctrl, NVME_CSTS_RDY, NVME_CSTS_RDY, nvme_ready_ms(ctrl));
    if (error != 0) {
        dev_err(ctrl->dev, "cannot be enabled: %s",
                error == -EIO ? "it reports a fatal error" : "it does not become ready");
    }
    return error;
}

// 7.6.2: what lies in its caches is written. One that does not answer in time is left to itself.
static void nvme_shutdown(struct nvme_ctrl *ctrl)
{
    uint32_t cc = nvme_rd(ctrl, NVME_CC);
    if (nvme_state(ctrl) != NVME_LIVE || (cc & NVME_CC_EN) == 0) {
        return;
    }
    nvme_wr(ctrl, NVME_CC, (cc & ~NVME_CC_SHN_MASK) | NVME_CC_SHN_NORMAL);
    if (nvme_wait(ctrl, NVME_CSTS_SHST_MASK, NVME_CSTS_SHST_DONE, NVME_SHUTDOWN_MS) != 0) {
        dev_warn(ctrl->dev, "does not end its shutdown");
    }
}

// ---- what it says of itself ---------------------------------------------------------------------

static int nvme_read_shape(struct nvme_ctrl *ctrl, size_t registers_size)
{
    ctrl->cap = nvme_rd64(ctrl, NVME_CAP);
    ctrl->version = nvme_rd(ctrl, NVME_VS);
    if (ctrl->cap == UINT64_MAX) {
        dev_err(ctrl->dev, "the controller does not answer");
        return -EIO;
    }
    if ((ctrl->cap & NVME_CAP_CSS_NVM) == 0) {
        dev_err(ctrl->dev, "the controller does not speak the NVM command set");
        return -EOPNOTSUPP;
    }
    if (NVME_CAP_MPSMIN(ctrl->cap) > NVME_PAGE_SHIFT) {
        dev_err(ctrl->dev, "the controller's smallest page has 2^%u bytes",
                NVME_CAP_MPSMIN(ctrl->cap));
        return -EOPNOTSUPP;
    }
    ctrl->depth = (uint16_t)min(nvme_depth, NVME_CAP_MQES(ctrl->cap));
    if (ctrl->depth < 2) {
        dev_err(ctrl->dev, "the controller's queues have no room");
        return -ENODEV;
    }
    // Doorbells of pair n: at 2n and 2n+1 strides.
    size_t pairs = (registers_size - NVME_DOORBELLS) / (2 * NVME_CAP_DSTRD(ctrl->cap));
    if (pairs < 2) {
        dev_err(ctrl->dev, "BAR 0 does not hold the doorbells");
        return -ENODEV;
    }
    unsigned queues = ctrl->vector_count > 1 ? ctrl->vector_count - 1 : 1;
    queues = min(queues, cpumask_weight(&cpu_online_mask));
    queues = min(queues, nvme_max_queues);
    ctrl->queue_count = min(queues, (unsigned)pairs - 1);
    return dma_set_mask(ctrl->dev, DMA_BIT_MASK(64));
}

static int nvme_identify(struct nvme_ctrl *ctrl)
{
    const char *why;
    int error = nvme_identify_controller(ctrl, &ctrl->identity, &why);
    if (error != 0) {
        dev_err(ctrl->dev, "not used: %s", why);
        return error;
    }
    uint32_t limit = ctrl->identity.max_bytes;
    ctrl->max_bytes = limit == 0 ? NVME_MAX_BYTES : min(limit, (uint32_t)NVME_MAX_BYTES);
    return 0;
}

// ---- start --------------------------------------------------------------------------------------

// The admin queue runs and answers.
static int nvme_start_admin(struct nvme_ctrl *ctrl)
{
    int error = nvme_disable(ctrl);
    if (error != 0) {
        return error;
    }
    ctrl->page = dma_alloc_coherent(ctrl->dev, NVME_IDENTIFY_SIZE, &ctrl->page_bus);
    ctrl->admin = nvme_alloc_queue(ctrl, 0, NVME_ADMIN_DEPTH, NVME_ADMIN_TAGS);
    if (ctrl->page == NULL || ctrl->admin == NULL) {
        return -ENOMEM;
    }
    error = nvme_enable(ctrl);
    return error != 0 ? error : nvme_request_irq(ctrl->admin);
}

struct nvme_found {
    uint32_t nsid;
    unsigned instance; // the 1 of nvme0n1
    struct nvme_format format;
};

// Which namespaces can be driven. How many, or -errno. As in Linux a disk is named by counting, not
// by its identifier: nvme0n1 is the first there is, be it number 5. One that is there and not used
// has its number all the same.
static int nvme_find_namespaces(struct nvme_ctrl *ctrl, struct nvme_found *found)
{
    uint32_t nsids[NVME_MAX_NAMESPACES];
    const char *why;
    int count = nvme_list_namespaces(ctrl, nsids, NVME_MAX_NAMESPACES), good = 0;
    unsigned instance = 0;

    for (int i = 0; i < count; i++) {
        struct nvme_found *next = &found[good];
        int error = nvme_identify_namespace(ctrl, nsids[i], &next->format, &why);
        if (error == 0 || error == -EOPNOTSUPP) {
            instance++;
        }
        if (error == 0) {
            next->nsid = nsids[i];
            next->instance = instance;
            good++;
        } else {
            dev_info(ctrl->dev, "namespace %u not used: %s", nsids[i], why);
        }
    }
    return count < 0 ? count : good;
}

static int nvme_start_queues(struct nvme_ctrl *ctrl, unsigned namespaces)
{
    unsigned got = 0;
    int error = nvme_set_queue_count(ctrl, ctrl->queue_count, &got);
    if (error != 0) {
        return error;
    }
    ctrl->queue_count = got;
    // One entry of a queue stays empty, so that full and empty differ (4.1).
    unsigned tags = min(ctrl->depth - 1u, NVME_MAX_DEPTH - 1u) / max(namespaces, 1u);
    ctrl->tags_per_ns = (uint16_t)tags;
    if (tags == 0) {
        dev_err(ctrl->dev, "%u namespaces and queues of %u entries", namespaces, ctrl->depth);
        return -ENOSPC;
    }
    ctrl->ns_count = namespaces; // for the size of the tables
    error = nvme_alloc_queues(ctrl);
    ctrl->ns_count = 0;
    return error != 0 ? error : nvme_create_queues(ctrl);
}

static void nvme_free(struct nvme_ctrl *ctrl)
{
    for (unsigned i = 0; i < NVME_MAX_QUEUES; i++) {
        if (ctrl->queues[i] != NULL) {
            nvme_free_queue(ctrl->queues[i]);
            ctrl->queues[i] = NULL;
        }
    }
    if (ctrl->admin != NULL) {
        nvme_free_queue(ctrl->admin);
    }
    dma_free_coherent(ctrl->dev, NVME_IDENTIFY_SIZE, ctrl->page, ctrl->page_bus);
}

// Nothing comes from the controller any more, and it touches no memory. False: it cannot be made
// to, and keeps the memory that it has.
static bool nvme_quiet(struct nvme_ctrl *ctrl)
{
    for (unsigned i = 0; i < NVME_MAX_QUEUES; i++) {
        if (ctrl->queues[i] != NULL) {
            nvme_free_irq(ctrl->queues[i]);
        }
    }
    bool quiet = nvme_disable(ctrl) == 0;
    if (!quiet) {
        ctrl->dma_off(ctrl); // without bus mastering it cannot write either
    }
    if (ctrl->admin != NULL) {
        nvme_free_irq(ctrl->admin);
    }
    cancel_work_sync(&ctrl->event_work);
    return quiet;
}

static void nvme_setup(struct nvme_ctrl *ctrl)
{
    mutex_init(&ctrl->admin_mutex, "nvme admin");
    mutex_init(&ctrl->reset_mutex, "nvme reset");
    init_completion(&ctrl->admin_done);
    INIT_WORK(&ctrl->reset, nvme_reset_work);
    INIT_WORK(&ctrl->event_work, nvme_event_work);
    INIT_WORK(&ctrl->kick, nvme_kick_work);
    INIT_LIST_HEAD(&ctrl->link);
    timer_setup(&ctrl->watchdog, nvme_watch, 0);
    ctrl->state = NVME_STARTING;
}

// Disks first, as the queues are reaped through the first one; then the handlers; then the world
// may see them.
static int nvme_start_disks(struct nvme_ctrl *ctrl, const struct nvme_found *found, unsigned count)
{
    int error = 0;
    for (unsigned i = 0; i < count && error == 0; i++) {
        error = nvme_ns_create(ctrl, found[i].nsid, found[i].instance, &found[i].format);
    }
    for (unsigned i = 0; i < ctrl->queue_count && count != 0 && error == 0; i++) {
        error = nvme_request_irq(ctrl->queues[i]);
    }
    if (error != 0) {
        return error;
    }
    __atomic_store_n(&ctrl->state, NVME_LIVE, __ATOMIC_RELEASE);
    nvme_event_arm(ctrl);
    mod_timer(&ctrl->watchdog, jiffies + msecs_to_jiffies(NVME_WATCH_MS));
    for (unsigned i = 0; i < count; i++) {
        nvme_ns_publish(ctrl->namespaces[i]); // one that fails is said, the others work
    }
    return 0;
}

static int nvme_start_all(struct nvme_ctrl *ctrl)
{
    struct nvme_found found[NVME_MAX_NAMESPACES];
    int error = nvme_start_admin(ctrl);
    if (error == 0) {
        error = nvme_identify(ctrl);
    }
    int count = error == 0 ? nvme_find_namespaces(ctrl, found) : error;
    if (count < 0) {
        return count;
    }
    error = nvme_start_queues(ctrl, (unsigned)count);
    if (error != 0) {
        return error;
    }
    dev_info(ctrl->dev, "%s: NVMe %u.%u, %d namespaces, %u queues of %u, %u interrupts", ctrl->name,
             ctrl->version >> 16, ctrl->version >> 8 & 0xff, count, ctrl->queue_count, ctrl->depth,
             ctrl->vector_count);
    return nvme_start_disks(ctrl, found, (unsigned)count);
}

int nvme_start(struct nvme_ctrl *ctrl, size_t registers_size)
{
    nvme_setup(ctrl);
    int error = nvme_read_shape(ctrl, registers_size);
    if (error != 0) {
        return error;
    }
    nvme_list_add(ctrl);
    error = nvme_start_all(ctrl);
    if (error != 0) {
        ctrl->stuck = !nvme_stop(ctrl);
    }
    return error;
}

// ---- stop ---------------------------------------------------------------------------------------

// What is under way ends one way or another: interrupts, time-outs and resets still work. The first
// disk goes last, as the queues are reaped through it.
static bool nvme_remove_disks(struct nvme_ctrl *ctrl)
{
    bool clean = true;
    for (unsigned i = ctrl->ns_count; i > 0; i--) {
        clean = nvme_ns_remove(ctrl->namespaces[i - 1]) && clean;
    }
    return clean;
}

bool nvme_stop(struct nvme_ctrl *ctrl)
{
    struct nvme_ns *namespaces[NVME_MAX_NAMESPACES];
    memcpy(namespaces, ctrl->namespaces, sizeof(namespaces));

    nvme_list_remove(ctrl);
    bool clean = nvme_remove_disks(ctrl);
    // From here on no reset begins.
    WRITE_ONCE(ctrl->stopping, true);
    del_timer_sync(&ctrl->watchdog);
    cancel_work_sync(&ctrl->reset);
    cancel_work_sync(&ctrl->kick);
    nvme_shutdown(ctrl);
    bool quiet = nvme_quiet(ctrl);
    if (!clean || !quiet) {
        return false;
    }
    for (unsigned i = 0; i < ctrl->ns_count; i++) {
        blk_put(namespaces[i]->disk);
        kfree(namespaces[i]);
    }
    nvme_free(ctrl);
    return true;
}
