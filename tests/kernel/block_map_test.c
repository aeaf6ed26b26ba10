// A request's memory lent to a device that does not exist: all of it, or none.
#include <lib/errno.h>
#include <contract/device.h>
#include <contract/ktest.h>
#include <mm/slab.h>
#include <dev/block.h>

enum { MAP_PIECES = 3, MAP_BYTES = 1024 };

// Two pieces of one request, and a third of a request that was merged to it; or only the first.
struct map_case {
    struct device dev;
    struct request request, merged;
    struct blk_segment pieces[MAP_PIECES];
    char *memory;
};

static bool map_case_make(struct map_case *c, enum req_op op, unsigned pieces)
{
    *c = (struct map_case){.dev = {.name = "nobody", .dma_mask = DMA_BIT_MASK(64)}};
    c->memory = kmalloc((size_t)MAP_PIECES * MAP_BYTES, GFP_KERNEL);
    for (unsigned i = 0; c->memory != NULL && i < MAP_PIECES; i++) {
        c->pieces[i] = (struct blk_segment){
            .data = c->memory + (size_t)i * MAP_BYTES, .length = MAP_BYTES, .bus = {.value = 0}};
    }
    c->request.op = c->merged.op = op;
    c->request.segments = c->pieces;
    c->request.segment_count = min(pieces, 2u);
    c->request.total_segments = (uint16_t)pieces;
    if (pieces > 2) {
        c->merged.segments = &c->pieces[2];
        c->merged.segment_count = pieces - 2;
        c->request.merged = &c->merged;
    }
    return c->memory != NULL;
}

KTEST(blkmap, every_piece_is_lent_and_taken_back)
{
    struct map_case c;
    for (unsigned pieces = 0; pieces <= MAP_PIECES; pieces++) {
        enum req_op op = pieces % 2 == 0 ? REQ_OP_WRITE : REQ_OP_READ;
        REQUIRE(map_case_make(&c, op, pieces));
        EXPECT_EQ(blk_rq_dma_map(&c.request, &c.dev), 0);
        EXPECT_EQ(dma_outstanding(&c.dev), pieces);
        for (unsigned i = 0; i < pieces; i++) {
            EXPECT(c.pieces[i].bus.value != 0 && !dma_mapping_error(&c.dev, c.pieces[i].bus));
        }
        blk_rq_dma_unmap(&c.request, &c.dev);
        EXPECT_EQ(dma_outstanding(&c.dev), 0);
        kfree(c.memory);
    }
}

// Whichever it is: those before it are taken back, those behind it never went.
KTEST(blkmap, one_that_cannot_be_lent_takes_the_others_back)
{
    if (!dma_debug_is_on()) {
        SKIP("dma_debug=off: the refusals are not counted");
    }
    char on_the_stack[MAP_BYTES]; // no device may have it
    struct map_case c;
    uint64_t errors = dma_debug_errors(), refused = 0;
    for (unsigned pieces = 1; pieces <= MAP_PIECES; pieces++) {
        for (unsigned bad = 0; bad < pieces; bad++) {
            REQUIRE(map_case_make(&c, REQ_OP_READ, pieces));
            c.pieces[bad].data = on_the_stack;
            EXPECT_EQ(blk_rq_dma_map(&c.request, &c.dev), -ENOMEM);
            EXPECT_EQ(dma_outstanding(&c.dev), 0);
            for (unsigned i = bad + 1; i < pieces; i++) {
                EXPECT_EQ(c.pieces[i].bus.value, 0);
            }
            refused++;
            kfree(c.memory);
        }
    }
    ktest->warnings_expected = (unsigned)refused;
    EXPECT_EQ(dma_debug_errors() - errors, refused); // no unmap of what never was mapped
}
