// A CD drive on an IDE channel: a command is a packet, and the drive says how much it brings.
//
//   PACKET ──DRQ──> 12 bytes ──> irq: so many bytes are ready ──> softirq takes them ──> irq ...
//                                 ├─ over: done
//                                 └─ ERR ──> REQUEST SENSE ──> irq ... ──> why it failed
//
// By PIO only: the count of bytes in the LBA's registers is our limit when we ask and the drive's
// offer when it answers. It is checked against what is still wanted; what is too much is thrown
// away, and the command has failed. An offer beyond our limit is not touched at all.
//
// A drive that does not ask for the packet at once is looked at in each tick (ide_offer_locked).
// One that never does, or asks for something else, needs the reset that comes with the time-out.
//
// A command that fails is asked for the reason at once, with the channel still ours: the same
// request stays the channel's (ide_command.sensing), so nothing gets between.
//
// ATA/ATAPI-6, 8.27 and 9.8. Context: see each function. Previous: drivers/block/ata/cdrom.c. Next:
// ide_disk.c, which moves the bytes.
#include "ide.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/log.h>

#include "../ata/cdrom.h"

enum {
    ATAPI_LIMIT = 8192, // bytes at a time: no softirq but this one runs on the CPU meanwhile
    // The count register says what is asked for (9.8): a packet, or data and which way.
    ATAPI_REASON_PACKET = 1,
    ATAPI_REASON_TO_HOST = 2,
    ATAPI_REASON_MASK = 3,
};

// ---- down ---------------------------------------------------------------------------------------

// Sends a packet for the request that is the channel's.
static void atapi_issue_locked(struct ide_channel *channel, const struct atapi_packet *packet)
{
    const struct ide_disk *disk = channel->now.disk;
    uint32_t limit = min(packet->length, (uint32_t)ATAPI_LIMIT);

    channel->now.packet = *packet;
    channel->now.left = packet->length;
    ide_select(channel, disk, 0);
    ide_wr(channel, IDE_FEATURES, 0);
    ide_wr(channel, IDE_LBA_MID, (uint8_t)limit);
    ide_wr(channel, IDE_LBA_HIGH, (uint8_t)(limit >> 8));
    ide_wr(channel, IDE_COMMAND, ATA_PACKET);
    ide_offer_locked(channel);
}

bool ide_atapi_hand_over_locked(struct ide_channel *channel)
{
    if ((ide_rd(channel, IDE_COUNT) & ATAPI_REASON_MASK) != ATAPI_REASON_PACKET) {
        return false;
    }
    for (unsigned i = 0; i < channel->now.disk->drive.packet_size; i += 2) {
        outw(get_le16(channel->now.packet.bytes + i), (uint16_t)(channel->command + IDE_DATA));
    }
    return true;
}

static int atapi_queue_rq(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct ide_disk *disk = hctx->private_data;
    struct ide_channel *channel = disk->channel;
    struct atapi_packet built;
    unsigned long flags;

    (void)last;
    const struct atapi_packet *packet;
    int error = cdrom_start(request, &built, &packet);
    if (packet == NULL) {
        return error;
    }
    error = -EBUSY;
    spin_lock_irqsave(&channel->lock, flags);
    if (channel->now.request == NULL && !channel->resetting) {
        channel->now = (struct ide_command){
            .request = request, .disk = disk, .mode = IDE_PIO, .part = request};
        memset(disk->sense, 0, sizeof(disk->sense)); // that of an older command explains nothing
        __atomic_store_n(&channel->interrupted, 0, __ATOMIC_RELAXED);
        atapi_issue_locked(channel, packet);
        error = 0;
    }
    spin_unlock_irqrestore(&channel->lock, flags);
    return error;
}

// ---- up -----------------------------------------------------------------------------------------

// Its answer to REQUEST SENSE is short, and for us, not for the request.
static void atapi_take_sense_locked(struct ide_channel *channel, uint32_t bytes)
{
    struct ide_command *now = &channel->now;
    uint8_t *to = now->disk->sense + ATAPI_SENSE_SIZE - now->left;

    now->left -= bytes;
    for (uint32_t i = 0; i < bytes; i += 2) {
        uint16_t word = inw((uint16_t)(channel->command + IDE_DATA));
        to[i] = (uint8_t)word;
        to[i + 1] = (uint8_t)(word >> 8);
    }
}

// Takes what the drive offers. IDE_STEP_OVER: it is not what was asked for.
static enum ide_step atapi_take_locked(struct ide_channel *channel)
{
    struct ide_command *now = &channel->now;
    uint32_t offered =
        (uint32_t)ide_rd(channel, IDE_LBA_MID) | (uint32_t)ide_rd(channel, IDE_LBA_HIGH) << 8;
    uint32_t reason = ide_rd(channel, IDE_COUNT) & ATAPI_REASON_MASK;
    uint32_t bytes = min(offered, now->left), excess = offered - bytes;

    if (reason != ATAPI_REASON_TO_HOST || offered == 0 || offered > ATAPI_LIMIT ||
        (bytes & 1) != 0) {
        return IDE_STEP_OVER;
    }
    if (now->sensing) {
        atapi_take_sense_locked(channel, bytes);
        bytes = 0;
    }
    ide_plan_move_locked(channel, bytes, excess);
    return IDE_STEP_MOVE;
}

static void atapi_ask_locked(struct ide_channel *channel)
{
    struct atapi_packet packet;
    channel->now.sensing = true;
    atapi_build_request_sense(&packet);
    atapi_issue_locked(channel, &packet);
}

// What the last interrupt meant. When the command is over, it has its sense if it failed.
static enum ide_step atapi_advance_locked(struct ide_channel *channel, bool *failed)
{
    uint8_t status = channel->status;
    *failed = (status & (ATA_STATUS_ERR | ATA_STATUS_DF)) != 0;
    if (!*failed && channel->now.offering) {
        return IDE_STEP_WAIT; // it works at nothing of ours yet
    }
    if (!*failed && (status & ATA_STATUS_DRQ) != 0) {
        enum ide_step step = atapi_take_locked(channel);
        *failed = step == IDE_STEP_OVER;
        return step;
    }
    if (!*failed && channel->now.sensing) {
        *failed = true; // the request did; how it came to that stands in the drive's answer
        return IDE_STEP_OVER;
    }
    if (!*failed) {
        *failed = channel->now.left != 0; // it ends before all has come
        return IDE_STEP_OVER;
    }
    channel->counters.errors++;
    if (channel->now.sensing) {
        return IDE_STEP_OVER; // the question failed itself
    }
    atapi_ask_locked(channel); // why?
    return IDE_STEP_WAIT;
}

// Its sense is in disk->sense, all zero when it could not be had. No lock is held.
static void atapi_end_failed(struct ide_disk *disk, struct request *request)
{
    char text[96];
    struct text t = TEXT_INIT(text);
    struct atapi_sense sense;
    (void)atapi_parse_sense(&sense, disk->sense, sizeof(disk->sense));
    atapi_show_sense(&t, &sense);
    if (sense.key == SENSE_UNIT_ATTENTION || sense.key == SENSE_NOT_READY) {
        dev_dbg(disk->channel->dev, "%s: %s", disk->disk->name, text);
    } else {
        pr_ratelimited(LOG_ERR, "%s: %s of %u sectors at %llu: %s", disk->disk->name,
                       request->op == REQ_OP_READ ? "read" : "command", blk_rq_sectors(request),
                       (unsigned long long)blk_rq_pos(request), text);
    }
    int status = cdrom_verdict(request, atapi_judge(&sense));
    if (status == 0 || (status == -EAGAIN && request->op == REQ_OP_READ)) {
        ide_end(disk, request, true); // some more tries
        return;
    }
    request->driver_data = NULL;
    blk_complete_request(request, status);
    ide_kick_other(disk);
}

// Context: BLOCK softirq.
static unsigned atapi_reap(struct blk_mq_hw_ctx *hctx, unsigned budget)
{
    struct ide_disk *disk = hctx->private_data;
    struct ide_channel *channel = disk->channel;
    struct request *request = NULL;
    bool failed = false;
    unsigned long flags;

    (void)budget;
    enum ide_step step = IDE_STEP_WAIT;
    spin_lock_irqsave(&channel->lock, flags);
    if (ide_interrupted_locked(disk)) {
        step = atapi_advance_locked(channel, &failed);
    }
    if (step == IDE_STEP_MOVE) {
        ide_move_unlocked(channel, &flags);
        failed = channel->now.excess != 0;
        step = failed ? IDE_STEP_OVER : IDE_STEP_WAIT;
    }
    if (step == IDE_STEP_OVER) {
        request = channel->now.request;
        channel->now.request = NULL;
        channel->now.offering = false;
    }
    spin_unlock_irqrestore(&channel->lock, flags);
    if (request == NULL) {
        return 0;
    }
    if (failed) {
        atapi_end_failed(disk, request);
    } else {
        ide_end(disk, request, false);
    }
    return 1;
}

static const struct blk_mq_ops atapi_mq_ops = {
    .queue_rq = atapi_queue_rq,
    .reap = atapi_reap,
    .timeout = ide_timeout,
    .open = cdrom_open,
};

// ---- coming -------------------------------------------------------------------------------------

int ide_atapi_add(struct ide_disk *ide, const void *page, const char **why)
{
    int error = atapi_parse_identity(&ide->drive, page, why);
    if (error != 0) {
        return error;
    }
    struct gendisk *disk = alloc_disk(&atapi_mq_ops, 1, 1);
    if (disk == NULL) {
        return -ENOMEM;
    }
    cdrom_describe(disk, &ide->drive);
    strscpy(ide->identity.model, ide->drive.model, sizeof(ide->identity.model));
    disk->max_segments = IDE_MAX_SEGMENTS;
    disk->timeout_ms = ide_timeout_ms;
    disk->transport = "ata";
    disk->private_data = ide;
    disk->queues[0].private_data = ide;
    ide->disk = disk;
    error = add_disk(disk, "sr");
    if (error != 0) {
        ide->disk = NULL;
        blk_put(disk);
        return error;
    }
    dev_info(ide->channel->dev, "%s: %s, %s, PIO", disk->name, disk->model, disk->firmware);
    cdrom_look(disk);
    return 0;
}
