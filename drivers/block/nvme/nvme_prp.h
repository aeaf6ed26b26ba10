// Where a command's data lies, as the controller wants to hear it: pure, tested on the host.
//
//   PRP    the data as pages: only the first may begin, and only the last may end, within a page
//
//          command          list (one page)
//          [ PRP 1 ] ─────────────────────────────> page, from an offset on
//          [ PRP 2 ] ─────> [ entry ] ────────────> page
//                           [ entry ] ────────────> page
//          Of two pages in all, PRP 2 is the second page itself.
//
//   SGL    the data as pieces of any length; an option, for what PRPs cannot say
//
// A list is one page: 512 entries, 2 MiB of data, more than the driver puts into one command; so
// lists are never chained.
//
// NVMe 1.4, 4.3 (PRP), 4.4 (SGL). Context: any.
#pragma once

#include <lib/types.h>

#include "nvme_regs.h"

enum {
    NVME_LIST_SIZE = NVME_PAGE_SIZE,
    NVME_LIST_PRPS = NVME_LIST_SIZE / 8,
    NVME_LIST_SGLS = NVME_LIST_SIZE / 16,
};

struct nvme_prp_builder {
    uint64_t *prp;     // the command's two
    uint64_t *list;    // NULL: none at hand
    uint64_t list_bus; // where the device finds it
    uint64_t end;      // of the data so far
    uint64_t next;     // the address from which on another entry is needed
    unsigned count;    // pages so far
};

// `list` may be NULL for data of at most two pages. Then each piece of memory in order, then end.
void nvme_prp_begin(struct nvme_prp_builder *b, uint64_t prp[2], uint64_t *list, uint64_t list_bus);
// 0; -EINVAL: PRPs cannot say this; -E2BIG: it needs a list, or a longer one.
int nvme_prp_add(struct nvme_prp_builder *b, uint64_t bus, uint32_t length);
void nvme_prp_end(struct nvme_prp_builder *b);

// Does data of this length at this address touch more than two pages?
static inline bool nvme_prp_needs_list(uint64_t bus, uint32_t length)
{
    return (bus & (NVME_PAGE_SIZE - 1)) + length > 2 * NVME_PAGE_SIZE;
}

// The same for one piece that needs no list, at an address aligned to 4.
static inline void nvme_prp_short(uint64_t prp[2], uint64_t bus, uint32_t length)
{
    uint64_t next = (bus | (NVME_PAGE_SIZE - 1)) + 1;
    prp[0] = bus;
    prp[1] = bus + length > next ? next : 0;
}

// The same as an SGL: each piece, then the descriptor of the whole for the command.
void nvme_sgl_add(struct nvme_sgl *list, unsigned index, uint64_t bus, uint32_t length);
void nvme_sgl_end(uint64_t prp[2], const struct nvme_sgl *list, uint64_t list_bus, unsigned count);
