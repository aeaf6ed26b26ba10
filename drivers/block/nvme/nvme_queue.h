// A pair of NVMe queues as pure bookkeeping: where the next command goes, whether there is an
// answer, and whose. Nothing here touches a register or maps memory: tests/host/test_nvme_queue.c
// plays the device.
//
//   submission queue, ours to fill         0       (head)              tail        depth
//                                          |  ours  | the device's to read | ours   |
//   completion queue, the device's to fill 0        head               (tail)      depth
//                                          |        | answers to take      |        |
//                                            phase 1 ^^^ phase as we wait for ^^ phase of last round
//
// The device says nothing of its completion tail: each entry carries a phase bit, which the device
// inverts with each round. An entry whose phase is the one that we wait for is new. So looking for
// answers reads memory only, never a register.
//
// Of what an answer says, one thing is used: the command's identifier, and that only to look in our
// own table (nvme_tags) whether such a command is out. The table also bounds how many are out, to
// one less than the queue has entries: so the submission queue cannot overflow, whatever the device
// claims about its head.
//
//   identifier   15      10 9            0     the generation changes each time the tag is used, so
//                [generation][   tag     ]     an answer to the command before is known for one
//
// NVMe 1.4, 4.1 (queues), 4.6 (completions, phase). Context: the caller serialises each pair.
#pragma once

#include <lib/types.h>
#include <dma/dma.h>

#include "nvme_regs.h"

enum {
    NVME_TAG_BITS = 10,
    NVME_MAX_DEPTH = 1 << NVME_TAG_BITS, // entries of a queue; one less are used
    NVME_GENERATIONS = 63,               // not 64: identifier 0xffff is reserved (4.2)
};

struct nvme_ring {
    struct nvme_sqe *sq;                // I: read by the device
    const volatile struct nvme_cqe *cq; // I: D
    uint16_t id;                        // I: 0 is the admin pair
    uint16_t depth;                     // I: entries in each of the two
    uint16_t sq_tail;                   // L: where the next command goes
    uint16_t cq_head;                   // L: where the next answer will be
    uint8_t phase;                      // L: of a new answer: 1 in the first round
};

// One of the commands that may be out at a time. `issued` is set before the doorbell and cleared
// when the answer is taken, so the two sides need no lock between them.
struct nvme_tag {
    uint8_t generation; // of the command that has it, or had it last
    bool issued;        // the device owes an answer
};

struct nvme_tags {
    struct nvme_tag *tags; // I
    uint16_t count;        // I
};

// Both queues empty. The memory must be zeroed here and not before: old answers would have a phase.
void nvme_ring_init(struct nvme_ring *ring, uint16_t id, uint16_t depth, void *sq, void *cq);
// Copies the command to the tail. The doorbell is the caller's: it writes ring->sq_tail.
static inline void nvme_ring_push(struct nvme_ring *ring, const struct nvme_sqe *command)
{
    ring->sq[ring->sq_tail] = *command;
    ring->sq_tail = (uint16_t)(ring->sq_tail + 1 == ring->depth ? 0 : ring->sq_tail + 1);
}
// What of a command changes from one read or write to the next.
struct nvme_io {
    uint32_t cdw0, nsid;
    uint64_t prp[2];
    uint64_t block; // dwords 10 and 11
    uint32_t cdw12;
};
// The same for these, word by word: the way that every read takes.
static inline void nvme_ring_push_io(struct nvme_ring *ring, const struct nvme_io *io)
{
    uint64_t *words = (uint64_t *)(void *)&ring->sq[ring->sq_tail];
    uint16_t next = (uint16_t)(ring->sq_tail + 1);
    words[0] = io->cdw0 | (uint64_t)io->nsid << 32;
    words[1] = words[2] = 0;
    words[3] = io->prp[0];
    words[4] = io->prp[1];
    words[5] = io->block;
    words[6] = io->cdw12;
    words[7] = 0;
    ring->sq_tail = next == ring->depth ? 0 : next;
}
// Is there an answer that has not been taken? Reads one word of memory. Context: also hard irq,
// without the lock: then a hint.
static inline bool nvme_ring_has_answer(const struct nvme_ring *ring)
{
    return (READ_ONCE(ring->cq[ring->cq_head].status) & NVME_CQE_PHASE) == ring->phase;
}

void nvme_tags_init(struct nvme_tags *tags, struct nvme_tag *memory, uint16_t count);
// An answer to this one is not wanted any more: the device was reset, or too slow. True when there
// was none yet.
static inline bool nvme_tag_revoke(struct nvme_tags *tags, uint16_t tag)
{
    return __atomic_exchange_n(&tags->tags[tag].issued, false, __ATOMIC_RELAXED);
}
// The identifier that the tag was issued with last.
static inline uint16_t nvme_tag_cid(const struct nvme_tags *tags, uint16_t tag)
{
    return (uint16_t)(tags->tags[tag].generation << NVME_TAG_BITS | tag);
}

// A new identifier for the tag, which from now on is owed an answer. Nobody else may be using it.
static inline uint16_t nvme_tag_issue(struct nvme_tags *tags, uint16_t tag)
{
    struct nvme_tag *entry = &tags->tags[tag];
    unsigned next = entry->generation + 1u;
    next = next == NVME_GENERATIONS ? 0 : next;
    entry->generation = (uint8_t)next;
    WRITE_ONCE(entry->issued, true);
    return (uint16_t)(next << NVME_TAG_BITS | tag);
}

enum nvme_answer {
    NVME_ANSWER_NONE,        // nothing new
    NVME_ANSWER_GOOD,        // a command of ours; its tag is owed no answer any more
    NVME_ANSWER_WRONG_QUEUE, // names another queue
    NVME_ANSWER_WILD,        // an identifier that no command can have
    NVME_ANSWER_STALE,       // answered before, or given up
    NVME_ANSWER_KINDS,
};
// Is a command with this identifier out? From here on it is not.
static inline enum nvme_answer nvme_tag_match(struct nvme_tags *tags, uint16_t cid, uint16_t *tag)
{
    uint16_t index = cid & (NVME_MAX_DEPTH - 1);
    if (unlikely(index >= tags->count)) {
        return NVME_ANSWER_WILD;
    }
    if (unlikely(tags->tags[index].generation != cid >> NVME_TAG_BITS ||
                 !nvme_tag_revoke(tags, index))) {
        return NVME_ANSWER_STALE;
    }
    *tag = index;
    return NVME_ANSWER_GOOD;
}
// Takes the next answer out of the queue, whatever it is. GOOD: *tag is whose, result and status
// are in *answer. The doorbell is the caller's: it writes ring->cq_head, once for several.
//
// Read the word with the phase, observe, only then read the rest, which the device wrote before it.
// Every entry is taken, good or not, or a bad one would stop the queue for ever.
static inline enum nvme_answer nvme_ring_take(struct nvme_ring *ring, struct nvme_tags *tags,
                                              struct nvme_cqe *answer, uint16_t *tag)
{
    const volatile struct nvme_cqe *entry = &ring->cq[ring->cq_head];
    // Its last four words in one read: the device may change its mind between two.
    uint64_t words = *(const volatile uint64_t *)(const volatile void *)&entry->sq_head;
    uint16_t next = (uint16_t)(ring->cq_head + 1);

    if ((words >> 48 & NVME_CQE_PHASE) != ring->phase) {
        return NVME_ANSWER_NONE;
    }
    dma_observe();
    answer->result = entry->result;
    answer->sq_id = (uint16_t)(words >> 16);
    answer->cid = (uint16_t)(words >> 32);
    answer->status = (uint16_t)(words >> 48);
    if (unlikely(next == ring->depth)) {
        next = 0;
        ring->phase ^= 1;
    }
    ring->cq_head = next;
    if (unlikely(answer->sq_id != ring->id)) {
        return NVME_ANSWER_WRONG_QUEUE;
    }
    return nvme_tag_match(tags, answer->cid, tag);
}
