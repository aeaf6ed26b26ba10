// A port as a disk: requests become commands, interrupts become completions. The way of one read:
//
//   queue_rq   the tag is the slot; map the memory; FIS, PRDs and header into it;     any context
//              ring PxSACT and PxCI, once for all that come together
//   device     fetches, reads the disk, writes memory, clears the tag's bit in PxSACT,
//              interrupts
//   handler    PxIS acknowledged, reaping asked for (ahci.c)                          hard irq
//   reap       which issued slots have no bit in PxSACT? unmap, blk_complete_request  BLOCK softirq
//   done       waiter woken (kernel/dev/block_done.c)                                      the same
//
// With NCQ the device has up to 32 commands at a time and ends them in any order. Commands that are
// not queued (FLUSH, and everything of a disk without NCQ) must not meet queued ones on the way
// (SATA 3.0, 13.6.3): they are told to wait until the others are over, and the block layer, which
// keeps the order, lets nothing pass them meanwhile. Of those the device does one at a time, and
// says in PxCI, not PxSACT, which are over.
//
// Acknowledge, then look: the handler clears PxIS before the softirq reads PxSACT. A command that
// ends between the two raises PxIS again, so it is looked for twice, never zero times.
//
// AHCI 1.3.1, 5.5 (system software), 5.6.4 (NCQ), 6.2.2 (errors). Previous: ahci.c. Next:
// ahci_recover.c, when a command fails.
#include "ahci.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>

uint32_t ahci_timeout_ms = AHCI_TIMEOUT_MS;
enum ahci_mode ahci_mode = AHCI_MODE_NCQ;
enum blk_completion ahci_completion = BLK_COMPLETE_SOFTIRQ;

// A flush may have a whole cache to write.
uint32_t ahci_command_timeout_ms(const struct request *request)
{
    return request->op == REQ_OP_FLUSH ? ahci_timeout_ms * 3 : ahci_timeout_ms;
}

// ---- down ---------------------------------------------------------------------------------------

// Lists the memory in the slot's table.
int ahci_slot_map(struct ahci_port *port, unsigned number)
{
    struct request *request = port->slots[number].request;
    uint8_t *table = port->tables + (size_t)number * AHCI_TABLE_SIZE;
    struct ahci_prd *prd = (void *)(table + AHCI_TABLE_PRDT);
    struct request *part;
    struct blk_segment *segment;
    int error = blk_rq_dma_map(request, port->hba->dev);
    if (unlikely(error != 0)) {
        return error;
    }
    rq_for_each_segment (segment, part, request) {
        if (unlikely(ahci_build_prd(prd++, segment->bus.value, segment->length) != 0)) {
            blk_rq_dma_unmap(request, port->hba->dev);
            return -EINVAL;
        }
    }
    return 0;
}

// The registers of a request as a command that is not queued.
static int slot_unqueued_registers(const struct ahci_port *port, const struct request *request,
                                   struct ata_registers *regs)
{
    if (request->op == REQ_OP_FLUSH) {
        ata_build_flush(regs, &port->identity);
        return 0;
    }
    return ata_build_rw(regs, &port->identity, request->op == REQ_OP_WRITE, blk_rq_pos(request),
                        blk_rq_sectors(request));
}

// Makes a command of the request in a slot that is ours.
static int slot_fill(struct ahci_port *port, unsigned number, struct request *request)
{
    struct ahci_slot *slot = &port->slots[number];
    uint8_t *table = port->tables + (size_t)number * AHCI_TABLE_SIZE;
    struct ata_registers regs;

    slot->request = request;
    slot->write = request->op == REQ_OP_WRITE;
    slot->queued = port->identity.has_ncq && request->op != REQ_OP_FLUSH;
    slot->bytes = blk_rq_sectors(request) * SECTOR_SIZE;
    slot->prd_count = (uint16_t)blk_rq_segments(request);
    int error = slot->queued ? ata_build_fpdma(&regs, &port->identity, slot->write,
                                               blk_rq_pos(request), blk_rq_sectors(request), number)
                             : slot_unqueued_registers(port, request, &regs);
    if (error == 0) {
        error = ahci_slot_map(port, number);
    }
    if (error == 0) {
        ahci_build_fis(table + AHCI_TABLE_FIS, &regs);
        ahci_slot_write_header(port, number);
    }
    return error;
}

void ahci_slot_unqueue(struct ahci_port *port, unsigned number)
{
    struct ahci_slot *slot = &port->slots[number];
    uint8_t *table = port->tables + (size_t)number * AHCI_TABLE_SIZE;
    struct ata_registers regs;
    slot->queued = false;
    WARN_ON(slot_unqueued_registers(port, slot->request, &regs) != 0); // it fitted when queued
    ahci_build_fis(table + AHCI_TABLE_FIS, &regs);
    ahci_slot_write_header(port, number);
}

// The doorbell, for all that were filled. Caller holds the lock, the port runs.
static void port_ring_locked(struct ahci_port *port)
{
    uint32_t slots = port->filled;
    port->filled = 0;
    port->issued |= slots;
    dma_publish();
    if (port->queued) {
        port_wr(port, AHCI_PXSACT, slots); // before PxCI (5.6.4.1)
    }
    port_wr(port, AHCI_PXCI, slots);
}

// May a command of this kind join those that are under way? Caller holds the lock.
static int port_accepts_locked(const struct ahci_port *port, bool queued)
{
    if (unlikely(port->state != AHCI_PORT_RUNNING)) {
        return port->state == AHCI_PORT_RECOVERING ? -EBUSY : -EIO;
    }
    return (port->issued | port->filled) == 0 || port->queued == queued ? 0 : -EBUSY;
}

int ahci_slot_issue(struct ahci_port *port, unsigned slot, bool last)
{
    unsigned long flags;
    spin_lock_irqsave(&port->lock, flags);
    int error = port_accepts_locked(port, port->slots[slot].queued);
    if (likely(error == 0)) {
        port->queued = port->slots[slot].queued;
        port->filled |= BIT(slot);
        port->counters.commands++;
        port->counters.queued += port->queued;
        if (last) {
            port_ring_locked(port);
        }
    }
    spin_unlock_irqrestore(&port->lock, flags);
    if (unlikely(error != 0)) {
        blk_rq_dma_unmap(port->slots[slot].request, port->hba->dev);
        port->slots[slot].request = NULL;
    }
    return error;
}

static int ahci_queue_rq(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct ahci_port *port = hctx->private_data;

    // What has nothing to flush is done at once.
    if (request->op == REQ_OP_FLUSH && !port->identity.has_flush) {
        blk_complete_request(request, 0);
        return 0;
    }
    int error = slot_fill(port, request->tag, request);
    return unlikely(error != 0) ? error : ahci_slot_issue(port, request->tag, last);
}

static void ahci_commit_rqs(struct blk_mq_hw_ctx *hctx)
{
    struct ahci_port *port = hctx->private_data;
    unsigned long flags;
    spin_lock_irqsave(&port->lock, flags);
    if (port->filled != 0 && port->state == AHCI_PORT_RUNNING) {
        port_ring_locked(port);
    }
    spin_unlock_irqrestore(&port->lock, flags);
}

// ---- up -----------------------------------------------------------------------------------------

// Takes the slot's memory back from the device and forgets the command.
static struct request *slot_release(struct ahci_port *port, unsigned number)
{
    struct ahci_slot *slot = &port->slots[number];
    struct request *request = slot->request;
    blk_rq_dma_unmap(request, port->hba->dev);
    slot->request = NULL;
    return request;
}

// What the device says it moved must be what was asked for: a short read would leave old bytes to
// be taken for new ones. Of queued commands it does not say (4.2.2).
static bool slot_moved_all(const struct ahci_port *port, unsigned number)
{
    const struct ahci_slot *slot = &port->slots[number];
    const struct ahci_command_header *list = (const void *)(port->page + AHCI_PAGE_LIST);
    uint32_t transferred = READ_ONCE(list[number].transferred);
    if (slot->queued || transferred == slot->bytes) {
        return true;
    }
    pr_ratelimited(LOG_ERR, "ahci %s: port %u: %u bytes moved instead of %u at sector %llu",
                   port->hba->dev->name, port->index, transferred, slot->bytes,
                   (unsigned long long)blk_rq_pos(slot->request));
    return false;
}

void ahci_slot_complete(struct ahci_port *port, unsigned number, int status)
{
    if (unlikely(status == 0 && !slot_moved_all(port, number))) {
        status = -EIO;
    }
    if (unlikely(status != 0)) {
        __atomic_fetch_add(&port->failed, 1, __ATOMIC_RELAXED);
    }
    blk_complete_request(slot_release(port, number), status);
}

void ahci_slot_requeue(struct ahci_port *port, unsigned number)
{
    port->counters.requeues++;
    blk_requeue_request(slot_release(port, number));
}

unsigned ahci_reap(struct blk_mq_hw_ctx *hctx, unsigned budget)
{
    struct ahci_port *port = hctx->private_data;
    uint32_t done = 0;
    unsigned long flags, count = 0;

    (void)budget; // 32 at most
    spin_lock_irqsave(&port->lock, flags);
    if (likely(port->state == AHCI_PORT_RUNNING)) {
        uint32_t cause = __atomic_exchange_n(&port->cause, 0, __ATOMIC_RELAXED);
        if (port->queued) {
            done = port->issued & ~port_rd(port, AHCI_PXSACT);
        } else {
            done = port->issued & ~port_rd(port, AHCI_PXCI);
            // The register is read after PxCI, as an error may stand there that the handler has not
            // seen yet: a controller that clears the bit of a failed command, against 6.2.2.1 (QEMU
            // before 8.1), must not pass for success.
            cause |= port_rd(port, AHCI_PXIS);
        }
        if (unlikely((cause & (AHCI_PXIS_STOPS | AHCI_PXIS_LINK)) != 0)) {
            ahci_recover_begin_locked(port, cause, false);
            done = 0; // the recovery sorts them
        }
        port->issued &= ~done;
    }
    spin_unlock_irqrestore(&port->lock, flags);

    dma_observe();
    for (; done != 0; done &= done - 1) {
        ahci_slot_complete(port, (unsigned)__builtin_ctz(done), 0);
        count++;
    }
    return (unsigned)count;
}

// A request is overdue. Is it done, but nobody told us? Then an interrupt was lost, or none are
// sent any more, and each request would take so long. Otherwise the whole port is looked after; it
// is asked again if that takes longer than a time-out.
enum blk_eh_timer_return ahci_timeout(struct request *request)
{
    struct ahci_port *port = request->hctx->private_data;
    uint32_t bit = BIT(request->tag & 31);
    unsigned long flags;

    spin_lock_irqsave(&port->lock, flags);
    if (port->state == AHCI_PORT_RUNNING && (port->issued & bit) != 0) {
        uint32_t busy = port_rd(port, port->queued ? AHCI_PXSACT : AHCI_PXCI);
        if ((busy & bit) == 0 && ahci_port_runs(port)) {
            port->counters.lost_interrupts++;
            pr_ratelimited(LOG_WARNING, "%s: an interrupt was lost (irq why %d)", port->disk->name,
                           port->hba->irq);
            ahci_recover_interrupts_locked(port);
            blk_mq_reap(port->hctx);
        } else {
            port->counters.timeouts++;
            ahci_recover_begin_locked(port, 0, true);
        }
    }
    spin_unlock_irqrestore(&port->lock, flags);
    return BLK_EH_RESET_TIMER;
}

static const struct blk_mq_ops ahci_mq_ops = {
    .queue_rq = ahci_queue_rq,
    .commit_rqs = ahci_commit_rqs,
    .reap = ahci_reap,
    .timeout = ahci_timeout,
};

// ---- coming and going ---------------------------------------------------------------------------

static void ahci_disk_describe(const struct ahci_port *port, struct gendisk *disk)
{
    const struct ata_identity *identity = &port->identity;
    disk->capacity = identity->sectors;
    disk->logical_block_size = (uint32_t)SECTOR_SIZE << identity->block_shift;
    disk->max_sectors =
        identity->has_lba48 ? ALIGN_DOWN(AHCI_MAX_SECTORS, 1u << identity->block_shift) : 256;
    disk->rotational = identity->rotation > 1;
    strscpy(disk->model, identity->model, sizeof(disk->model));
    strscpy(disk->serial, identity->serial, sizeof(disk->serial));
    strscpy(disk->firmware, identity->firmware, sizeof(disk->firmware));
}

// Leaves of what the disk can do what the controller can too, and what is wanted.
static void ahci_disk_choose_mode(struct ahci_port *port)
{
    struct ata_identity *identity = &port->identity;
    identity->has_ncq = identity->has_ncq && ahci_mode == AHCI_MODE_NCQ &&
                        (port->hba->capabilities & AHCI_CAP_SNCQ) != 0;
    identity->by_pio = ahci_mode == AHCI_MODE_PIO48 || ahci_mode == AHCI_MODE_PIO28;
    if (ahci_mode == AHCI_MODE_DMA28 || ahci_mode == AHCI_MODE_PIO28) {
        identity->has_lba48 = false;
        identity->sectors = min(identity->sectors, BIT64(28) << identity->block_shift);
    }
}

static const char *ahci_disk_mode_name(const struct ata_identity *identity)
{
    static const char *const names[2][2] = {{"LBA28 DMA", "LBA48 DMA"}, {"LBA28 PIO", "LBA48 PIO"}};
    return identity->has_ncq ? "NCQ" : names[identity->by_pio][identity->has_lba48];
}

// How many commands at a time: the controller's slots, the disk's queue.
static unsigned ahci_disk_depth(const struct ahci_port *port)
{
    unsigned slots = port->hba->slot_count;
    return port->identity.has_ncq ? min(slots, (unsigned)port->identity.queue_depth) : slots;
}

int ahci_disk_attach(struct ahci_port *port, struct gendisk *disk, const char *prefix)
{
    unsigned long flags;
    disk->max_segments = AHCI_MAX_PRDS;
    disk->max_segment_size =
        (uint32_t)min((size_t)AHCI_PRD_MAX_BYTES, dma_max_mapping_size(port->hba->dev));
    disk->timeout_ms = ahci_timeout_ms;
    disk->completion = ahci_completion;
    disk->transport = "sata";
    disk->private_data = port;
    port->disk = disk;
    port->hctx = &disk->queues[0];
    port->hctx->private_data = port;
    ahci_recover_quirks(port);
    spin_lock_irqsave(&port->lock, flags);
    port->state = AHCI_PORT_RUNNING;
    port->hba->ports[port->index] = port; // from here on the handler knows it
    spin_unlock_irqrestore(&port->lock, flags);
    port_wr(port, AHCI_PXIS, UINT32_MAX); // what IDENTIFY left behind
    port_wr(port, AHCI_PXIE, AHCI_PXIE_WANTED);
    return add_disk(disk, prefix);
}

int ahci_disk_add(struct ahci_port *port)
{
    struct ata_identity *identity = &port->identity;

    ahci_disk_choose_mode(port);
    struct gendisk *disk = alloc_disk(&ahci_mq_ops, 1, ahci_disk_depth(port));
    if (disk == NULL) {
        return -ENOMEM;
    }
    ahci_disk_describe(port, disk);
    int error = ahci_disk_attach(port, disk, "sd");
    if (error != 0) {
        return error; // the caller removes it
    }
    port_info(port, "%s: %s, %llu sectors (%llu MiB), %s depth %u%s", disk->name, disk->model,
              (unsigned long long)disk->capacity, (unsigned long long)disk->capacity >> 11,
              ahci_disk_mode_name(identity), disk->queue_depth,
              identity->write_cache_on ? ", write cache on" : "");
    return 0;
}

bool ahci_disk_remove(struct ahci_port *port)
{
    struct ahci_hba *hba = port->hba;
    unsigned long flags;

    // Interrupts, time-outs and recovery still work, so what is under way ends one way or another.
    if (del_gendisk(port->disk) != 0) {
        return false;
    }
    spin_lock_irqsave(&port->lock, flags);
    port->state = AHCI_PORT_DEAD;
    spin_unlock_irqrestore(&port->lock, flags);
    port_wr(port, AHCI_PXIE, 0);
    hba->ports[port->index] = NULL;
    synchronize_irq((unsigned)hba->irq); // no handler holds the pointer any longer
    cancel_work_sync(&port->recover);
    port_wr(port, AHCI_PXIE, 0); // a recovery that was in its last line
    blk_put(port->disk);
    port->disk = NULL;
    return true;
}
