// A CD drive as a disk: read-only, in blocks of 2,048 bytes, with a medium that comes and goes.
//
// Reads are requests like those of any disk. The few commands beside them, is it ready, how large
// is the medium, travel as requests too (REQ_OP_DRV_IN), so that they get a slot, an interrupt, a
// time-out and the driver's recovery without a second way through the driver:
//
//   blk_open ──> cdrom_open ──> TEST UNIT READY ──not yet, changed──> once more, bounded
//                                    └─ok──> READ CAPACITY ──> gendisk.capacity
//
// A drive tells of a new medium by failing a command. For one of ours that is what we came to hear;
// a read of somebody who has the old medium open fails, and all after it (gendisk.medium_lost).
//
// MMC-5, 6.21, 6.30; SPC-3, 6.33. Context: see cdrom.h. Previous: kernel/dev/block_open.c. Next:
// drivers/block/ahci/ahci_atapi.c.
#include "cdrom.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/log.h>
#include <mm/slab.h>
#include <sched/sleep.h>

enum {
    CDROM_TRIES = 50, // of TEST UNIT READY: ten seconds for a disc to spin up
    CDROM_WAIT_MS = 200,
    CDROM_MAX_SECTORS = 16 * 1024, // of one command: 8 MiB
};

const struct atapi_packet *cdrom_packet_of(const struct request *request,
                                           struct atapi_packet *built)
{
    if (request->op == REQ_OP_DRV_IN) {
        return &container_of(request, struct cdrom_command, request)->packet;
    }
    bool known = request->op == REQ_OP_READ &&
                 atapi_build_read(built, blk_rq_pos(request), blk_rq_sectors(request)) == 0;
    return known ? built : NULL;
}

int cdrom_start(struct request *request, struct atapi_packet *built,
                const struct atapi_packet **packet)
{
    *packet = NULL;
    if (request->op == REQ_OP_FLUSH) {
        blk_complete_request(request, 0); // nothing is written, so nothing is kept back
        return 0;
    }
    if (request->op == REQ_OP_READ && READ_ONCE(request->hctx->disk->medium_lost) != 0) {
        return -EIO;
    }
    *packet = cdrom_packet_of(request, built);
    return *packet != NULL ? 0 : -EINVAL;
}

void cdrom_describe(struct gendisk *disk, const struct atapi_identity *identity)
{
    disk->max_sectors = CDROM_MAX_SECTORS;
    disk->logical_block_size = CD_BLOCK_SIZE;
    disk->read_only = true;
    disk->removable = true;
    disk->rotational = true;
    strscpy(disk->model, identity->model, sizeof(disk->model));
    strscpy(disk->serial, identity->serial, sizeof(disk->serial));
    strscpy(disk->firmware, identity->firmware, sizeof(disk->firmware));
}

static void cdrom_done(struct request *request)
{
    complete(&container_of(request, struct cdrom_command, request)->done);
}

// Sends the packet and waits: the driver owes an end for everything it takes.
static int cdrom_execute(struct gendisk *disk, struct cdrom_command *command)
{
    init_completion(&command->done);
    blk_request_init(&command->request, disk, REQ_OP_DRV_IN, 0, 0, NULL, cdrom_done, NULL);
    command->request.alone = true;
    if (command->packet.length != 0) {
        command->request.segment_count = 1;
        command->request.segment =
            (struct blk_segment){.data = command->data, .length = command->packet.length};
    }
    blk_submit(&command->request);
    wait_for_completion(&command->done);
    return command->request.status;
}

// Some say "no medium" once of one that was put in just now, and "it has changed" after that
// (QEMU's does): only what they say twice is believed. Who waits for a disc to spin up may have
// enough of it (^C): the command under way is waited for, as it uses our memory, and no other sent.
static int cdrom_wait_ready(struct gendisk *disk, struct cdrom_command *command)
{
    unsigned absent = 0;
    int error = -EIO;
    for (unsigned tries = 0; tries < CDROM_TRIES; tries++) {
        atapi_build_test_unit_ready(&command->packet);
        error = cdrom_execute(disk, command);
        if (error == -EAGAIN) {
            if (msleep_interruptible(CDROM_WAIT_MS) != 0) {
                return -EINTR;
            }
        } else if (error != -ENOMEDIUM || ++absent == 2) {
            break;
        }
    }
    if (error == -EAGAIN) {
        pr_warn("%s: still not ready after %u s", disk->name, CDROM_TRIES * CDROM_WAIT_MS / 1000);
        error = -ENOMEDIUM; // as Linux has it
    }
    return error;
}

static int cdrom_read_capacity(struct gendisk *disk, struct cdrom_command *command)
{
    uint64_t sectors;
    const char *why;
    atapi_build_read_capacity(&command->packet);
    int error = cdrom_execute(disk, command);
    if (error != 0) {
        return error;
    }
    error = atapi_parse_capacity(&sectors, command->data, command->packet.length, &why);
    if (error != 0) {
        pr_warn("%s: medium not used: %s", disk->name, why);
        return -EIO;
    }
    if (sectors != READ_ONCE(disk->capacity)) {
        pr_info("%s: a medium of %llu blocks (%llu MiB)", disk->name,
                (unsigned long long)sectors / CD_BLOCK_SECTORS, (unsigned long long)sectors >> 11);
        WRITE_ONCE(disk->capacity, sectors);
    }
    return 0;
}

int cdrom_open(struct gendisk *disk)
{
    struct cdrom_command *command = kzalloc(sizeof(*command), GFP_KERNEL);
    if (command == NULL) {
        return -ENOMEM;
    }
    int error = cdrom_wait_ready(disk, command);
    if (error == 0) {
        error = cdrom_read_capacity(disk, command);
    }
    kfree(command);
    return error;
}

void cdrom_look(struct gendisk *disk)
{
    int error = blk_open(disk);
    if (error == 0) {
        blk_close(disk);
    } else if (error != -EINTR) { // of whoever binds the driver: who opens it looks again
        pr_info("%s: %s", disk->name, error == -ENOMEDIUM ? "no medium" : strerror(error));
    }
}

int cdrom_verdict(const struct request *request, enum atapi_verdict verdict)
{
    bool lost = verdict == ATAPI_NO_MEDIUM || verdict == ATAPI_CHANGED;
    if (lost && request->op == REQ_OP_READ) {
        WRITE_ONCE(request->hctx->disk->medium_lost, 1);
    }
    switch (verdict) {
    case ATAPI_NO_MEDIUM:
        return -ENOMEDIUM;
    case ATAPI_CHANGED: // for one of ours: news that is heard, and the command may be done
        return request->op == REQ_OP_READ ? -EIO : 0;
    case ATAPI_WAIT:
        return -EAGAIN;
    case ATAPI_RETRY:
        return 0;
    default:
        return -EIO;
    }
}
