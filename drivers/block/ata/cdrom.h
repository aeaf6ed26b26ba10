// A CD drive as a disk, whatever bus it is on.
#pragma once

#include <sched/completion.h>
#include <dev/block.h>

#include "atapi.h"

// A packet on its way as a request of the driver's own (REQ_OP_DRV_IN): the drivers find it by
// cdrom_packet_of.
struct cdrom_command {
    struct request request;
    struct atapi_packet packet;
    struct completion done;
    uint8_t data[64]; // in kmalloc's memory: D, while the request is under way
};

// The packet of a request; one for a read is built in *built. NULL: a request that a CD drive does
// not take. Context: any.
const struct atapi_packet *cdrom_packet_of(const struct request *request,
                                           struct atapi_packet *built);
// How ops->queue_rq of such a disk begins: *packet is what to send, NULL: nothing, and what is
// returned is the answer to the block layer. 0; -EIO: of a medium that is gone; -EINVAL. Context:
// any.
int cdrom_start(struct request *request, struct atapi_packet *built,
                const struct atapi_packet **packet);
// What the drivers do not have to tell apart: name and kind of the disk. Before add_disk.
void cdrom_describe(struct gendisk *disk, const struct atapi_identity *identity);
// ops->open of such a disk: waits, bounded, until the drive is ready; reads its capacity anew. 0,
// -ENOMEDIUM, -EINTR, -errno. Context: thread.
int cdrom_open(struct gendisk *disk);
// After add_disk: looks once what lies in it, so that it is known before somebody opens it.
// Context: thread.
void cdrom_look(struct gendisk *disk);
// What a verdict of the drive means for a request: 0: try it again; -EAGAIN: the same, in a moment;
// -errno: its end. Marks the medium as lost where it is. Context: thread.
int cdrom_verdict(const struct request *request, enum atapi_verdict verdict);
