// Puts the boot map in order: firmware gives regions unsorted, overlapping, empty or beyond the end
// of the world, and this file makes of them an ascending list in which each byte has one type.
//
//   given:    RAM      |-----------------------------|
//             reserved            |-----|     |------------|
//             RAM           |--------|
//   made:     |---RAM-------------|res--|-RAM-|----res-----|
//
// A sweep over the edges, from low to high, counts for each type how many regions are open; between
// two edges the type is the highest that is open. The types' numbers rise from RAM over reserved to
// bad memory, so whoever objects to RAM wins.
//
// Context: boot, once; pure, so tests/host/test_region.c runs it too.
#include <lib/types.h>

#include "internal.h"

struct region_edge {
    uint64_t at;
    uint8_t type;
    bool opens;
};

// Too large for a boot stack, and used once.
static struct region_edge region_edges[2 * BOOT_MAX_REGIONS];

static unsigned region_add_edges(const struct boot_region *in, uint64_t limit, unsigned edges)
{
    uint64_t end = in->base + in->size;

    if (end < in->base || end > limit) {
        end = limit;
    }
    if (in->base >= end) {
        return edges;
    }
    enum boot_region_type type = in->type >= BOOT_REGION_RAM && in->type <= BOOT_REGION_BAD
                                     ? in->type
                                     : BOOT_REGION_RESERVED;
    region_edges[edges++] = (struct region_edge){.at = in->base, .type = type, .opens = true};
    region_edges[edges++] = (struct region_edge){.at = end, .type = type, .opens = false};
    return edges;
}

// By insertion: maps come nearly sorted, and 512 edges are the most.
static void region_sort_edges(unsigned edges)
{
    for (unsigned i = 1; i < edges; i++) {
        struct region_edge edge = region_edges[i];
        unsigned at = i;

        for (; at > 0 && region_edges[at - 1].at > edge.at; at--) {
            region_edges[at] = region_edges[at - 1];
        }
        region_edges[at] = edge;
    }
}

static unsigned region_highest_open(const unsigned open[BOOT_REGION_BAD + 1])
{
    unsigned type = BOOT_REGION_BAD;

    while (type > 0 && open[type] == 0) {
        type--;
    }
    return type; // 0: none
}

unsigned region_resolve(const struct boot_region *in, unsigned count, uint64_t limit,
                        uint64_t ram_limit, struct region *out)
{
    unsigned open[BOOT_REGION_BAD + 1] = {0}, edges = 0, made = 0;

    for (unsigned i = 0; i < count && i < BOOT_MAX_REGIONS; i++) {
        bool ram = in[i].type == BOOT_REGION_RAM;
        edges = region_add_edges(&in[i], ram ? min(limit, ram_limit) : limit, edges);
    }
    region_sort_edges(edges);

    for (unsigned i = 0; i < edges; i++) {
        unsigned type = region_highest_open(open);
        uint64_t from = i > 0 ? region_edges[i - 1].at : 0, to = region_edges[i].at;

        if (type != 0 && from < to) {
            struct region *last = made > 0 ? &out[made - 1] : NULL;

            if (last != NULL && last->end == from && last->type == type) {
                last->end = to;
            } else {
                out[made++] = (struct region){.start = from, .end = to, .type = type};
            }
        }
        open[region_edges[i].type] += region_edges[i].opens ? 1 : -1u;
    }
    return made;
}
