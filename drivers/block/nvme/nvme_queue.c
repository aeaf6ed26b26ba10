// Ring arithmetic and command identifiers of an NVMe queue pair: see nvme_queue.h for the picture.
//
// The order is the lesson. Handing over: write the command, publish, ring the doorbell (the
// caller's). Taking back: read the word with the phase, observe, only then read the rest, which the
// device wrote before it.
//
// Every entry is taken, good or not, or a bad one would stop the queue for ever.
//
// NVMe 1.4, 4.1, 4.2, 4.6. Context: the caller serialises each pair.
#include <lib/string.h>
#include <dma/dma.h>

#include "nvme_queue.h"

void nvme_ring_init(struct nvme_ring *ring, uint16_t id, uint16_t depth, void *sq, void *cq)
{
    *ring = (struct nvme_ring){.sq = sq, .cq = cq, .id = id, .depth = depth, .phase = 1};
    memset(sq, 0, depth * sizeof(struct nvme_sqe));
    memset(cq, 0, depth * sizeof(struct nvme_cqe));
}

void nvme_tags_init(struct nvme_tags *tags, struct nvme_tag *memory, uint16_t count)
{
    *tags = (struct nvme_tags){.tags = memory, .count = count};
    memset(memory, 0, count * sizeof(*memory));
}

bool nvme_tag_revoke(struct nvme_tags *tags, uint16_t tag)
{
    return __atomic_exchange_n(&tags->tags[tag].issued, false, __ATOMIC_RELAXED);
}

// Is a command with this identifier out?
static enum nvme_answer nvme_tag_match(struct nvme_tags *tags, uint16_t cid, uint16_t *tag)
{
    uint16_t index = cid & (NVME_MAX_DEPTH - 1);
    if (index >= tags->count) {
        return NVME_ANSWER_WILD;
    }
    struct nvme_tag *entry = &tags->tags[index];
    if (entry->generation != cid >> NVME_TAG_BITS || !nvme_tag_revoke(tags, index)) {
        return NVME_ANSWER_STALE;
    }
    *tag = index;
    return NVME_ANSWER_GOOD;
}

enum nvme_answer nvme_ring_take(struct nvme_ring *ring, struct nvme_tags *tags,
                                struct nvme_cqe *answer, uint16_t *tag)
{
    const volatile struct nvme_cqe *entry = &ring->cq[ring->cq_head];
    // Its last four words in one read: the device may change its mind between two.
    uint64_t words = *(const volatile uint64_t *)(const volatile void *)&entry->sq_head;

    if ((words >> 48 & NVME_CQE_PHASE) != ring->phase) {
        return NVME_ANSWER_NONE;
    }
    dma_observe();
    answer->result = entry->result;
    answer->sq_id = (uint16_t)(words >> 16);
    answer->cid = (uint16_t)(words >> 32);
    answer->status = (uint16_t)(words >> 48);
    if (++ring->cq_head == ring->depth) {
        ring->cq_head = 0;
        ring->phase ^= 1;
    }
    if (unlikely(answer->sq_id != ring->id)) {
        return NVME_ANSWER_WRONG_QUEUE;
    }
    return nvme_tag_match(tags, answer->cid, tag);
}
