// Ring arithmetic and command identifiers of an NVMe queue pair: see nvme_queue.h for the picture.
//
// The order is the lesson, and stands there. Handing over: write the command, publish, ring the
// doorbell (the caller's). Taking back: read the word with the phase, observe, then the rest. Here
// is only how both begin.
//
// NVMe 1.4, 4.1, 4.2, 4.6. Context: the caller serialises each pair.
#include <lib/string.h>

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
