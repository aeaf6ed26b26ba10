// The admin queue: commands to the controller itself, one at a time, waited for; and its events.
//
// Two commands can be out. One asks to be told of events; it is answered when there is one, perhaps
// never, and is asked anew then. The other is somebody's who waits: its answer comes by interrupt,
// and as interrupts are what is being set up here, the waiter looks for itself now and then.
//
//   nvme_admin ──> doorbell ... answer ──> nvme_admin_interrupt ──> completion ──> waiter
//                                    └───────────> nvme_event_work: what happened, in words
//
// An answer that comes after its waiter has given up meets a tag that is not out, and is dropped.
//
// NVMe 1.4, 5 (admin commands). Context: thread; the top half in hard irq. Previous: nvme.c.
#include "nvme.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>

enum { ADMIN_MAX_ANSWERS = 4, EVENT_LOG_BYTES = 512 };

// ---- answers ------------------------------------------------------------------------------------

static void nvme_admin_answer(struct nvme_ctrl *ctrl, uint16_t tag, const struct nvme_cqe *answer)
{
    if (tag == NVME_TAG_COMMAND) {
        ctrl->admin_answer = *answer;
        complete(&ctrl->admin_done);
    } else if (NVME_CQE_STATUS(answer->status) == 0) {
        __atomic_store_n(&ctrl->event, answer->result, __ATOMIC_RELAXED);
        schedule_work(&ctrl->event_work);
    }
}

// Takes what there is, which is two answers at most; a device that says more says it in vain.
static bool nvme_admin_reap(struct nvme_ctrl *ctrl)
{
    struct nvme_queue *queue = ctrl->admin;
    unsigned taken = 0;
    unsigned long flags;

    spin_lock_irqsave(&queue->cq_lock, flags);
    while (queue->running && taken < ADMIN_MAX_ANSWERS) {
        struct nvme_cqe answer;
        uint16_t tag;
        enum nvme_answer kind = nvme_ring_take(&queue->ring, &queue->tags, &answer, &tag);
        if (kind == NVME_ANSWER_NONE) {
            break;
        }
        taken++;
        queue->counters.answers[kind]++;
        if (kind == NVME_ANSWER_GOOD) {
            nvme_admin_answer(ctrl, tag, &answer);
        } else {
            pr_ratelimited(LOG_WARNING, "%s: admin queue: a stray answer: id 0x%04x, queue %u",
                           ctrl->name, answer.cid, answer.sq_id);
        }
    }
    if (taken != 0) {
        writel(queue->ring.cq_head, queue->cq_doorbell);
    }
    spin_unlock_irqrestore(&queue->cq_lock, flags);
    return taken != 0;
}

irqreturn_t nvme_admin_interrupt(int irq, void *dev_id)
{
    struct nvme_ctrl *ctrl = dev_id;
    (void)irq;
    ctrl->admin->counters.interrupts++;
    if (nvme_admin_reap(ctrl)) {
        return IRQ_HANDLED;
    }
    ctrl->admin->counters.empty++;
    return IRQ_NONE;
}

// ---- commands -----------------------------------------------------------------------------------

static void nvme_admin_issue(struct nvme_ctrl *ctrl, uint16_t tag, struct nvme_sqe *command)
{
    struct nvme_queue *queue = ctrl->admin;
    unsigned long flags;

    spin_lock_irqsave(&queue->sq_lock, flags);
    command->cdw0 |= (uint32_t)nvme_tag_issue(&queue->tags, tag) << 16;
    nvme_ring_push(&queue->ring, command);
    queue->counters.commands++;
    queue->counters.doorbells++;
    dma_publish();
    writel(queue->ring.sq_tail, queue->sq_doorbell);
    spin_unlock_irqrestore(&queue->sq_lock, flags);
}

// 0, -EIO: the controller is dead, -ETIMEDOUT.
static int nvme_admin_wait(struct nvme_ctrl *ctrl, uint32_t timeout_ms)
{
    uint64_t deadline_ns = clock_ns() + (uint64_t)timeout_ms * 1000000;
    int error = 0;

    while (wait_for_completion_timeout(&ctrl->admin_done, 2) == 0) {
        uint32_t csts = nvme_rd(ctrl, NVME_CSTS);
        if (nvme_admin_reap(ctrl)) {
            continue;
        }
        error = (csts & NVME_CSTS_CFS) != 0 ? -EIO : clock_ns() >= deadline_ns ? -ETIMEDOUT : 0;
        // Whoever clears the tag decides whether there was an answer.
        if (error != 0 && nvme_tag_revoke(&ctrl->admin->tags, NVME_TAG_COMMAND)) {
            return error;
        }
    }
    return 0;
}

// Caller holds admin_mutex.
static int nvme_admin_locked(struct nvme_ctrl *ctrl, struct nvme_sqe *command, uint32_t *result,
                             uint32_t timeout_ms)
{
    uint8_t opcode = (uint8_t)command->cdw0;

    reinit_completion(&ctrl->admin_done);
    nvme_admin_issue(ctrl, NVME_TAG_COMMAND, command);
    int error = nvme_admin_wait(ctrl, timeout_ms);
    if (error != 0) {
        dev_warn(ctrl->dev, "admin command 0x%02x: %s", opcode,
                 error == -EIO ? "the controller is dead" : "no answer");
        return error;
    }
    uint16_t status = ctrl->admin_answer.status;
    if (NVME_CQE_STATUS(status) != 0) {
        dev_warn(ctrl->dev, "admin command 0x%02x: %s (status 0x%x)", opcode,
                 nvme_status_text(status), NVME_CQE_STATUS(status));
        return -EIO;
    }
    if (result != NULL) {
        *result = ctrl->admin_answer.result;
    }
    return 0;
}

void nvme_admin_cancel(struct nvme_ctrl *ctrl)
{
    nvme_tag_revoke(&ctrl->admin->tags, NVME_TAG_EVENT);
    if (nvme_tag_revoke(&ctrl->admin->tags, NVME_TAG_COMMAND)) { // somebody waits for it
        ctrl->admin_answer = (struct nvme_cqe){.status = NVME_SC_ABORTED << 1};
        complete(&ctrl->admin_done);
    }
}

int nvme_admin(struct nvme_ctrl *ctrl, struct nvme_sqe *command, uint32_t *result,
               uint32_t timeout_ms)
{
    mutex_lock(&ctrl->admin_mutex);
    int error = nvme_admin_locked(ctrl, command, result, timeout_ms);
    mutex_unlock(&ctrl->admin_mutex);
    return error;
}

// ---- Identify -----------------------------------------------------------------------------------

// Fills ctrl->page. Caller holds admin_mutex.
static int nvme_identify_locked(struct nvme_ctrl *ctrl, uint32_t what, uint32_t nsid)
{
    struct nvme_sqe command = {
        .cdw0 = NVME_ADMIN_IDENTIFY, .nsid = nsid, .prp = {ctrl->page_bus.value, 0}, .cdw10 = what};
    memset(ctrl->page, 0, NVME_IDENTIFY_SIZE); // a device that writes less must not find old pages
    return nvme_admin_locked(ctrl, &command, NULL, NVME_ADMIN_TIMEOUT_MS);
}

int nvme_identify_controller(struct nvme_ctrl *ctrl, struct nvme_identity *identity,
                             const char **why)
{
    *why = "no answer to Identify";
    mutex_lock(&ctrl->admin_mutex);
    int error = nvme_identify_locked(ctrl, NVME_CNS_CONTROLLER, 0);
    if (error == 0) {
        error =
            nvme_parse_controller(identity, ctrl->page, (unsigned)NVME_CAP_MPSMIN(ctrl->cap), why);
    }
    mutex_unlock(&ctrl->admin_mutex);
    return error;
}

int nvme_identify_namespace(struct nvme_ctrl *ctrl, uint32_t nsid, struct nvme_format *format,
                            const char **why)
{
    *why = "no answer to Identify";
    mutex_lock(&ctrl->admin_mutex);
    int error = nvme_identify_locked(ctrl, NVME_CNS_NAMESPACE, nsid);
    if (error == 0) {
        error = nvme_parse_namespace(format, ctrl->page, why);
    }
    mutex_unlock(&ctrl->admin_mutex);
    return error;
}

// The list came with 1.1 (5.15.2.3): numbers in rising order, up to the first zero. Before, those
// from 1 to NN are tried.
int nvme_list_namespaces(struct nvme_ctrl *ctrl, uint32_t *nsids, unsigned room)
{
    unsigned count = 0;
    int error = 0;

    if (ctrl->version < 0x10100) {
        for (; count < room && count < ctrl->identity.namespaces; count++) {
            nsids[count] = count + 1;
        }
        return (int)count;
    }
    mutex_lock(&ctrl->admin_mutex);
    error = nvme_identify_locked(ctrl, NVME_CNS_ACTIVE_LIST, 0);
    const uint32_t *list = (const uint32_t *)(const void *)ctrl->page;
    for (unsigned i = 0; error == 0 && i < NVME_IDENTIFY_SIZE / 4; i++) {
        uint32_t nsid = READ_ONCE(list[i]);
        if (nsid == 0 || (count > 0 && nsid <= nsids[count - 1]) ||
            nsid > ctrl->identity.namespaces) {
            break;
        }
        if (count == room) {
            dev_warn(ctrl->dev, "more than %u namespaces, the others are not used", room);
            break;
        }
        nsids[count++] = nsid;
    }
    mutex_unlock(&ctrl->admin_mutex);
    return error != 0 ? error : (int)count;
}

// ---- features, abort ----------------------------------------------------------------------------

// 5.21.1.5: both numbers count from 0, and the controller may give more than was asked for.
int nvme_set_queue_count(struct nvme_ctrl *ctrl, unsigned wanted, unsigned *got)
{
    struct nvme_sqe command = {.cdw0 = NVME_ADMIN_SET_FEATURES,
                               .cdw10 = NVME_FEATURE_QUEUES,
                               .cdw11 = (wanted - 1) << 16 | (wanted - 1)};
    uint32_t result = 0;
    int error = nvme_admin(ctrl, &command, &result, NVME_ADMIN_TIMEOUT_MS);
    unsigned submission = (result & 0xffff) + 1, completion = (result >> 16) + 1;
    unsigned pairs = min(submission, completion);
    *got = min(wanted, pairs);
    return error;
}

// 5.1: bit 0 of the result: it was not aborted, and may still be done.
int nvme_abort(struct nvme_ctrl *ctrl, uint16_t sq, uint16_t cid, bool *aborted)
{
    struct nvme_sqe command = {.cdw0 = NVME_ADMIN_ABORT, .cdw10 = (uint32_t)cid << 16 | sq};
    uint32_t result = 1;
    int error = nvme_admin(ctrl, &command, &result, NVME_ADMIN_TIMEOUT_MS);
    *aborted = error == 0 && (result & 1) == 0;
    return error;
}

// ---- events -------------------------------------------------------------------------------------

static const char *nvme_event_text(uint32_t event)
{
    switch (event & 7) { // 5.2.1, figures 145 to 148
    case 0:
        return "error";
    case 1:
        switch (event >> 8 & 0xff) {
        case 0:
            return "it is no longer reliable";
        case 1:
            return "its temperature crossed a threshold";
        case 2:
            return "its spare blocks run out";
        default:
            return "health";
        }
    case 2:
        return (event >> 8 & 0xff) == 0
                   ? "its namespaces have changed (unbind and bind to see them)"
                   : "notice";
    default:
        return "of a kind that is not known";
    }
}

static void nvme_event_ask(struct nvme_ctrl *ctrl)
{
    struct nvme_sqe command = {.cdw0 = NVME_ADMIN_ASYNC_EVENT};
    nvme_admin_issue(ctrl, NVME_TAG_EVENT, &command);
}

// The same event is not told again before its log page was read (5.2).
void nvme_event_work(struct work_struct *work)
{
    struct nvme_ctrl *ctrl = container_of(work, struct nvme_ctrl, event_work);
    uint32_t event = __atomic_load_n(&ctrl->event, __ATOMIC_RELAXED);
    struct nvme_sqe command = {.cdw0 = NVME_ADMIN_GET_LOG,
                               .nsid = UINT32_MAX,
                               .prp = {ctrl->page_bus.value, 0},
                               .cdw10 = (event >> 16 & 0xff) | (EVENT_LOG_BYTES / 4 - 1) << 16};

    ctrl->events++;
    pr_ratelimited(LOG_WARNING, "%s: event 0x%x: %s", ctrl->name, event, nvme_event_text(event));
    if (nvme_state(ctrl) == NVME_LIVE &&
        nvme_admin(ctrl, &command, NULL, NVME_ADMIN_TIMEOUT_MS) == 0) {
        nvme_event_ask(ctrl);
    }
}

// Which events it is to tell of: all warnings of its health, changes of namespaces (5.21.1.11).
void nvme_event_arm(struct nvme_ctrl *ctrl)
{
    struct nvme_sqe command = {
        .cdw0 = NVME_ADMIN_SET_FEATURES, .cdw10 = NVME_FEATURE_ASYNC, .cdw11 = 0x1f | BIT(8)};
    nvme_admin(ctrl, &command, NULL, NVME_ADMIN_TIMEOUT_MS); // an option: without it no events
    nvme_event_ask(ctrl);
}
