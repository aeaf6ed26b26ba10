// A disk on an IDE channel: what a request costs the CPU, in the two ways that there are.
//
//   PIO   command ──> irq: a sector is ready ──> softirq: rep insw, 256 words ──> irq: the next ...
//   DMA   list of memory, command, start ──> ... the bus master moves all of it ... ──> irq: done
//
// The interrupt handler (ide.c) acknowledges in both cases and leaves the data to the BLOCK
// softirq: each word takes an old disk 0.6 us (PIO mode 0), a sector so 150 us, too long for a
// hard interrupt. Nor is the channel's lock held meanwhile, as it turns interrupts off: the
// command bears a mark instead (ide_command.moving) and is left alone. The disk waits: it raises
// the next interrupt only when its sector has been taken. Only a write's first sector is moved
// with interrupts off, by whoever starts the command.
//
// One command at a time on a channel, whichever disk it is for: a request that finds it busy is
// refused with -EBUSY and offered again when the other disk's is done.
//
// ATA/ATAPI-6, 9.5 (PIO) and 9.7 (DMA); Programming Interface for Bus Master IDE 1.0, 3.1. Context:
// see each function. Previous: ide.c.
#include "ide.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>

enum ide_mode ide_mode = IDE_DMA;
bool ide_lba28;
uint32_t ide_timeout_ms = IDE_TIMEOUT_MS;

// ---- PIO ----------------------------------------------------------------------------------------

static void ide_in(uint16_t port, void *to, uint32_t bytes)
{
    uint32_t words = bytes / 2;
    __asm__ volatile("rep insw" : "+D"(to), "+c"(words) : "d"(port) : "memory");
}

static void ide_out(uint16_t port, const void *from, uint32_t bytes)
{
    uint32_t words = bytes / 2;
    __asm__ volatile("rep outsw" : "+S"(from), "+c"(words) : "d"(port) : "memory");
}

void ide_plan_move_locked(struct ide_channel *channel, uint32_t bytes, uint32_t excess)
{
    struct ide_command *now = &channel->now;

    now->left -= bytes;
    now->wanted = bytes;
    now->excess = excess;
    channel->counters.pio_sectors += DIV_ROUND_UP(bytes, SECTOR_SIZE);
    channel->counters.words += (bytes + excess) / 2;
}

// The request's memory may be in several pieces.
static void ide_move(struct ide_channel *channel)
{
    struct ide_command *now = &channel->now;
    uint16_t port = (uint16_t)(channel->command + IDE_DATA);

    channel->counters.deaf_words += irqs_disabled() ? (now->wanted + now->excess) / 2 : 0;
    while (now->wanted > 0 && now->part != NULL) {
        const struct blk_segment *segment = &now->part->segments[now->segment];
        uint32_t bytes = min(now->wanted, segment->length - now->offset);
        char *at = (char *)segment->data + now->offset;

        if (now->write) {
            ide_out(port, at, bytes);
        } else {
            ide_in(port, at, bytes);
        }
        now->wanted -= bytes;
        now->offset += bytes;
        if (now->offset == segment->length) {
            now->offset = 0;
            if (++now->segment == now->part->segment_count) {
                now->segment = 0;
                now->part = now->part->merged;
            }
        }
    }
    for (uint32_t words = DIV_ROUND_UP(now->excess, 2); words > 0; words--) {
        (void)inw(port);
    }
}

void ide_move_unlocked(struct ide_channel *channel, unsigned long *flags)
{
    channel->now.moving = true;
    spin_unlock_irqrestore(&channel->lock, *flags);
    ide_move(channel);
    spin_lock_irqsave(&channel->lock, *flags);
    channel->now.moving = false;
}

void ide_move_first_locked(struct ide_channel *channel)
{
    ide_plan_move_locked(channel, min((uint32_t)SECTOR_SIZE, channel->now.left), 0);
    ide_move(channel);
}

// ---- DMA ----------------------------------------------------------------------------------------

static int ide_map_locked(struct ide_channel *channel, struct request *request)
{
    struct request *part;
    struct blk_segment *segment;
    int count = 0;
    int error = blk_rq_dma_map(request, channel->dev);
    if (error != 0) {
        return error;
    }
    rq_for_each_segment (segment, part, request) {
        count = ide_prd_add(channel->prds, (unsigned)count, IDE_MAX_PRDS, segment->bus.value,
                            segment->length);
        if (count < 0) {
            blk_rq_dma_unmap(request, channel->dev);
            return count;
        }
    }
    ide_prd_end(channel->prds, (unsigned)count);
    channel->counters.descriptors += (unsigned)count;
    return 0;
}

// The bus master waits for the disk, so it is started last.
static void ide_prepare_dma_locked(const struct ide_channel *channel)
{
    uint8_t direction = channel->now.write ? 0 : IDE_BM_TO_MEMORY;

    dma_publish();
    outl((uint32_t)channel->prds_bus.value, (uint16_t)(channel->bus_master + IDE_BM_TABLE));
    outb(direction, (uint16_t)(channel->bus_master + IDE_BM_COMMAND));
    outb(IDE_BM_ERROR | IDE_BM_INTERRUPT, (uint16_t)(channel->bus_master + IDE_BM_STATUS));
}

static void ide_start_dma_locked(const struct ide_channel *channel)
{
    uint8_t direction = channel->now.write ? 0 : IDE_BM_TO_MEMORY;

    outb((uint8_t)(direction | IDE_BM_START), (uint16_t)(channel->bus_master + IDE_BM_COMMAND));
}

static void ide_stop_dma_locked(const struct ide_channel *channel)
{
    outb(0, (uint16_t)(channel->bus_master + IDE_BM_COMMAND));
}

// ---- down ---------------------------------------------------------------------------------------

// A register of two bytes takes the upper one first (ATA/ATAPI-6, 6.20).
static void ide_write_registers_locked(const struct ide_channel *channel,
                                       const struct ata_registers *regs)
{
    ide_select(channel, channel->now.disk, regs->lba48 ? 0 : (uint8_t)(regs->lba >> 24));
    if (regs->lba48) {
        ide_wr(channel, IDE_COUNT, (uint8_t)(regs->count >> 8));
        ide_wr(channel, IDE_LBA_LOW, (uint8_t)(regs->lba >> 24));
        ide_wr(channel, IDE_LBA_MID, (uint8_t)(regs->lba >> 32));
        ide_wr(channel, IDE_LBA_HIGH, (uint8_t)(regs->lba >> 40));
    }
    ide_wr(channel, IDE_COUNT, (uint8_t)regs->count); // 256 and 65,536 leave 0, as it should be
    ide_wr(channel, IDE_LBA_LOW, (uint8_t)regs->lba);
    ide_wr(channel, IDE_LBA_MID, (uint8_t)(regs->lba >> 8));
    ide_wr(channel, IDE_LBA_HIGH, (uint8_t)(regs->lba >> 16));
}

static int ide_build_locked(struct ide_channel *channel, struct request *request,
                            struct ata_registers *regs)
{
    struct ide_command *now = &channel->now;
    struct ata_identity identity = now->disk->identity;

    if (request->op == REQ_OP_FLUSH) {
        ata_build_flush(regs, &identity);
        return 0;
    }
    identity.by_pio = now->mode == IDE_PIO;
    identity.has_lba48 = identity.has_lba48 && !READ_ONCE(ide_lba28);
    int error =
        ata_build_rw(regs, &identity, now->write, blk_rq_pos(request), blk_rq_sectors(request));
    return error == 0 && now->mode == IDE_DMA ? ide_map_locked(channel, request) : error;
}

// The command goes out. A write by PIO hands over its first sector by itself; the others are asked
// for by interrupts.
static void ide_issue_locked(struct ide_channel *channel, const struct ata_registers *regs)
{
    struct ide_command *now = &channel->now;
    bool data = now->left > 0;

    if (data && now->mode == IDE_DMA) {
        ide_prepare_dma_locked(channel);
    }
    ide_write_registers_locked(channel, regs);
    ide_wr(channel, IDE_COMMAND, regs->command);
    if (data && now->mode == IDE_DMA) {
        ide_start_dma_locked(channel);
    } else if (data && now->write) {
        ide_offer_locked(channel);
    }
}

static int ide_start_locked(struct ide_channel *channel, struct ide_disk *disk,
                            struct request *request)
{
    struct ata_registers regs;
    uint32_t bytes = request->op == REQ_OP_FLUSH ? 0 : blk_rq_sectors(request) * SECTOR_SIZE;

    channel->now = (struct ide_command){
        .disk = disk,
        .mode = channel->bus_master != 0 ? READ_ONCE(ide_mode) : IDE_PIO,
        .write = request->op == REQ_OP_WRITE,
        .left = bytes,
        .part = request,
    };
    __atomic_store_n(&channel->interrupted, 0, __ATOMIC_RELAXED);
    int error = ide_build_locked(channel, request, &regs);
    if (error == 0) {
        channel->now.request = request;
        ide_issue_locked(channel, &regs);
    }
    return error;
}

static int ide_queue_rq(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct ide_disk *disk = hctx->private_data;
    struct ide_channel *channel = disk->channel;
    unsigned long flags;
    int error = -EBUSY;

    (void)last;
    if (request->op == REQ_OP_FLUSH && !disk->identity.has_flush) {
        blk_complete_request(request, 0);
        return 0;
    }
    spin_lock_irqsave(&channel->lock, flags);
    if (channel->now.request == NULL && !channel->resetting) {
        error = ide_start_locked(channel, disk, request);
    }
    spin_unlock_irqrestore(&channel->lock, flags);
    return error;
}

// ---- up -----------------------------------------------------------------------------------------

// Ends the command; the lock is held. Its request, for whoever completes it without the lock.
static struct request *ide_finish_locked(struct ide_channel *channel)
{
    struct request *request = channel->now.request;

    if (channel->now.mode == IDE_DMA && request->op != REQ_OP_FLUSH) {
        ide_stop_dma_locked(channel);
        blk_rq_dma_unmap(request, channel->dev);
        channel->counters.dma_sectors += blk_rq_sectors(request);
    }
    channel->now.request = NULL;
    channel->now.offering = false;
    return request;
}

// It may have been refused meanwhile.
void ide_kick_other(const struct ide_disk *disk)
{
    const struct ide_disk *other = &disk->channel->disks[!disk->second];

    if (other->disk != NULL) {
        blk_run_queue(other->disk);
    }
}

static void ide_say_error(const struct ide_disk *disk, const struct request *request,
                          uint8_t status, uint8_t error)
{
    char text[96];
    struct text t = TEXT_INIT(text);

    text_puts(&t, "status ");
    text_bits(&t, status, ata_status_names);
    text_puts(&t, ", error ");
    text_bits(&t, error, ata_error_names);
    pr_ratelimited(LOG_ERR, "%s: %s of %u sectors at %llu: %s", disk->disk->name,
                   request->op == REQ_OP_READ    ? "read"
                   : request->op == REQ_OP_WRITE ? "write"
                                                 : "flush",
                   blk_rq_sectors(request), (unsigned long long)blk_rq_pos(request), text);
}

// A failed command is tried again some times; whoever fails for good is told. No lock is held.
void ide_end(struct ide_disk *disk, struct request *request, bool failed)
{
    uintptr_t tries = (uintptr_t)request->driver_data;

    if (!failed) {
        request->driver_data = NULL;
        blk_complete_request(request, 0);
    } else if (tries + 1 < IDE_MAX_TRIES) {
        request->driver_data = (void *)(tries + 1);
        blk_requeue_request(request);
        blk_run_queue(disk->disk);
    } else {
        request->driver_data = NULL;
        blk_complete_request(request, -EIO);
    }
    ide_kick_other(disk);
}

bool ide_interrupted_locked(const struct ide_disk *disk)
{
    struct ide_channel *channel = disk->channel;
    return __atomic_exchange_n(&channel->interrupted, 0, __ATOMIC_ACQUIRE) != 0 &&
           channel->now.request != NULL && channel->now.disk == disk && !channel->resetting;
}

// What the last interrupt meant. When the command is over, `*failed` says how.
static enum ide_step ide_advance_locked(struct ide_channel *channel, bool *failed)
{
    struct ide_command *now = &channel->now;
    uint8_t status = channel->status;

    *failed = (status & (ATA_STATUS_ERR | ATA_STATUS_DF)) != 0 ||
              (now->mode == IDE_DMA && (channel->bm_status & IDE_BM_ERROR) != 0);
    if (!*failed && now->offering) {
        return IDE_STEP_WAIT; // it works at nothing of ours yet
    }
    if (*failed || now->mode == IDE_DMA || now->left == 0) {
        // More data than was asked for, or less: the disk and we do not mean the same command.
        *failed = *failed || (status & ATA_STATUS_DRQ) != 0;
        return IDE_STEP_OVER;
    }
    if ((status & ATA_STATUS_DRQ) == 0) {
        *failed = true;
        return IDE_STEP_OVER;
    }
    ide_plan_move_locked(channel, min((uint32_t)SECTOR_SIZE, now->left), 0);
    return IDE_STEP_MOVE;
}

// Context: BLOCK softirq.
static unsigned ide_reap(struct blk_mq_hw_ctx *hctx, unsigned budget)
{
    struct ide_disk *disk = hctx->private_data;
    struct ide_channel *channel = disk->channel;
    struct request *request = NULL;
    uint8_t status = 0, error = 0;
    bool failed = false;
    unsigned long flags;

    (void)budget;
    enum ide_step step = IDE_STEP_WAIT;
    spin_lock_irqsave(&channel->lock, flags);
    if (ide_interrupted_locked(disk)) {
        step = ide_advance_locked(channel, &failed);
    }
    if (step == IDE_STEP_MOVE) {
        ide_move_unlocked(channel, &flags);
        // A write ends with an interrupt behind the last sector, a read with the sector itself.
        step = channel->now.left == 0 && !channel->now.write ? IDE_STEP_OVER : IDE_STEP_WAIT;
    }
    if (step == IDE_STEP_OVER) {
        status = channel->status;
        if (failed) {
            error = ide_rd(channel, IDE_ERROR);
            channel->counters.errors++;
        }
        request = ide_finish_locked(channel);
    }
    spin_unlock_irqrestore(&channel->lock, flags);
    if (request == NULL) {
        return 0;
    }
    dma_observe();
    if (failed) {
        ide_say_error(disk, request, status, error);
    }
    ide_end(disk, request, failed);
    return 1;
}

// Is it the channel's, and nobody at it? Whose data is moved at this moment, or whose interrupt the
// softirq is about to look at, is not dead, only slow: it gets on by that, or ends.
static bool ide_is_stuck_locked(const struct ide_channel *channel, const struct request *request)
{
    const struct ide_command *now = &channel->now;
    bool gets_on = now->moving || (!now->offering && READ_ONCE(channel->interrupted) != 0);
    return now->request == request && !channel->resetting && !gets_on;
}

// Can the disk have anything to tell? Not before it has got its packet or first sector. Where no
// bus master keeps a mark of the interrupt, only what it wants to move, or what went wrong, is one;
// a disk that sits there and has forgotten its command needs the reset.
static bool ide_may_have_news_locked(const struct ide_channel *channel)
{
    const struct ide_command *now = &channel->now;
    uint8_t news = ATA_STATUS_DRQ | ATA_STATUS_ERR | ATA_STATUS_DF;
    return !now->offering && (channel->bus_master != 0 || now->left == 0 ||
                              (ide_alternate_status(channel) & news) != 0);
}

// The command has an end, or a sector ready, and only its interrupt is missing.
static bool ide_only_lost_its_interrupt(struct ide_disk *disk, const struct request *request)
{
    struct ide_channel *channel = disk->channel;
    unsigned long flags;

    spin_lock_irqsave(&channel->lock, flags);
    bool may = ide_is_stuck_locked(channel, request) && ide_may_have_news_locked(channel);
    spin_unlock_irqrestore(&channel->lock, flags);
    if (!may || !ide_find_lost_interrupt(channel)) {
        return false;
    }
    spin_lock_irqsave(&channel->lock, flags);
    channel->counters.lost_interrupts++;
    spin_unlock_irqrestore(&channel->lock, flags);
    pr_ratelimited(LOG_WARNING, "%s: an interrupt was lost (irq why %d)", disk->disk->name,
                   channel->irq);
    return true;
}

// Overdue. If no interrupt was lost, the channel is reset, which ends the command for sure, and
// then the request is tried again or failed. An interrupt that comes later finds nothing to do.
enum blk_eh_timer_return ide_timeout(struct request *request)
{
    struct ide_disk *disk = request->hctx->private_data;
    struct ide_channel *channel = disk->channel;
    unsigned long flags;

    if (ide_only_lost_its_interrupt(disk, request)) {
        return BLK_EH_RESET_TIMER;
    }
    spin_lock_irqsave(&channel->lock, flags);
    bool stuck = ide_is_stuck_locked(channel, request);
    channel->resetting = channel->resetting || stuck;
    spin_unlock_irqrestore(&channel->lock, flags);
    if (!stuck) {
        return BLK_EH_RESET_TIMER;
    }
    dev_err(channel->dev, "%s: no answer in %u ms (status 0x%02x): channel %u is reset",
            disk->disk->name, disk->disk->timeout_ms, ide_alternate_status(channel),
            channel->index);
    ide_reset(channel);
    spin_lock_irqsave(&channel->lock, flags);
    channel->counters.timeouts++;
    ide_finish_locked(channel);
    channel->resetting = false;
    spin_unlock_irqrestore(&channel->lock, flags);
    ide_end(disk, request, true);
    return BLK_EH_DONE;
}

static const struct blk_mq_ops ide_mq_ops = {
    .queue_rq = ide_queue_rq,
    .reap = ide_reap,
    .timeout = ide_timeout,
};

// ---- coming and going ---------------------------------------------------------------------------

int ide_disk_add(struct ide_disk *ide)
{
    const struct ata_identity *identity = &ide->identity;
    struct gendisk *disk = alloc_disk(&ide_mq_ops, 1, 1);

    if (disk == NULL) {
        return -ENOMEM;
    }
    disk->capacity = identity->sectors;
    disk->max_sectors = IDE_MAX_SECTORS;
    disk->max_segments = IDE_MAX_SEGMENTS;
    disk->max_segment_size = IDE_PRD_BOUNDARY;
    disk->timeout_ms = ide_timeout_ms;
    disk->rotational = identity->rotation > 1;
    disk->transport = "ata";
    strscpy(disk->model, identity->model, sizeof(disk->model));
    strscpy(disk->serial, identity->serial, sizeof(disk->serial));
    strscpy(disk->firmware, identity->firmware, sizeof(disk->firmware));
    disk->private_data = ide;
    disk->queues[0].private_data = ide;
    ide->disk = disk;
    int error = add_disk(disk, "hd");
    if (error != 0) {
        ide->disk = NULL;
        blk_put(disk);
        return error;
    }
    dev_info(ide->channel->dev, "%s: %s, %llu sectors (%llu MiB), LBA%s, %s", disk->name,
             disk->model, (unsigned long long)disk->capacity,
             (unsigned long long)disk->capacity >> 11, identity->has_lba48 ? "48" : "28",
             ide->channel->bus_master != 0 && ide_mode == IDE_DMA ? "DMA" : "PIO");
    return 0;
}

bool ide_disk_remove(struct ide_disk *ide)
{
    return ide->disk == NULL || del_gendisk(ide->disk) == 0;
}
