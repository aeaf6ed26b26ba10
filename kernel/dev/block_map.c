// Lends a request's memory to the device that works on it, all of it or none.
//
//   request ──> [segment][segment]   merged ──> [segment]
//                  │bus     │bus                   │bus     map: the device's from here on,
//                  v        v                      v        until unmap
//               PRD, PRP or SGL: how it is told is each driver's own
//
// A piece that cannot be lent (no memory for a copy that the device reaches) takes those before it
// back: so a driver never has half a request to undo. What is usual, one piece, stands in
// include/dev/block.h, in the driver's own code: there is nothing before it to take back.
//
// Context: any; the request is the driver's, from queue_rq until it completes or requeues it.
// Previous: kernel/dev/block.c. Next: kernel/dma/dma.c.
#include <lib/errno.h>
#include <dev/block.h>

// Takes back what lies before `end`; NULL: everything.
static void blk_unmap_until(struct request *request, struct device *dev,
                            const struct blk_segment *end)
{
    struct request *part;
    struct blk_segment *segment;
    rq_for_each_segment (segment, part, request) {
        if (segment == end) {
            return;
        }
        dma_unmap_single(dev, segment->bus, segment->length, rq_dma_dir(request));
    }
}

int blk_rq_dma_map_many(struct request *request, struct device *dev)
{
    struct request *part;
    struct blk_segment *segment;
    rq_for_each_segment (segment, part, request) {
        segment->bus = dma_map_single(dev, segment->data, segment->length, rq_dma_dir(request));
        if (dma_mapping_error(dev, segment->bus)) {
            blk_unmap_until(request, dev, segment);
            return -ENOMEM;
        }
    }
    return 0;
}

void blk_rq_dma_unmap_many(struct request *request, struct device *dev)
{
    blk_unmap_until(request, dev, NULL);
}
