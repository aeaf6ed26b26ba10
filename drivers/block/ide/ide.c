// An IDE channel: eight ports, one interrupt, two disks on one cable, one command at a time. The
// oldest way in which a PC moves data, and the plainest: the CPU writes a command into registers,
// the disk interrupts once for each sector, the CPU carries the sector over, two bytes at a time.
//
//   command block 0x1f0   data | error, features | count | LBA low, mid, high | device | status
//   control       0x3f6   status without acknowledging | interrupts off, reset
//
// Reading the status register takes the interrupt back: acknowledge, then look. The bus master that
// came later (ide_disk.c) moves the data itself and interrupts once for the whole command.
//
// ATA/ATAPI-6, 7 and 9. Context: see each function. Previous: ide_pci.c. Next: ide_disk.c.
#include "ide.h"

#include <lib/errno.h>
#include <core/clock.h>
#include <core/log.h>
#include <mm/slab.h>
#include <irq/devres.h>
#include <sched/sleep.h>

enum {
    IDE_SETTLE_READS = 4,       // 400 ns: the time in which the status becomes true (9.7)
    IDE_READY_US = 1000 * 1000, // for a disk that spins already
    IDE_RESET_MS = 3 * 1000,
    IDE_LOOK_US = 20,
    IDE_SIGNATURE_US = 10 * 1000, // an absent device says so at once
    IDE_OFFER_US = 20,            // with interrupts off
};

// ---- the wire -----------------------------------------------------------------------------------

static void ide_settle(const struct ide_channel *channel)
{
    for (unsigned i = 0; i < IDE_SETTLE_READS; i++) {
        (void)ide_alternate_status(channel);
    }
}

int ide_wait(const struct ide_channel *channel, uint8_t mask, uint8_t want, unsigned timeout_us)
{
    uint64_t end = clock_ns() + timeout_us * 1000ull;

    for (;;) {
        uint8_t status = ide_alternate_status(channel);

        if ((status & ATA_STATUS_BSY) == 0 && (status & mask) == want) {
            return 0;
        }
        if (clock_ns() > end) {
            return -ETIMEDOUT;
        }
        cpu_relax();
    }
}

void ide_select(const struct ide_channel *channel, const struct ide_disk *disk, uint8_t lba_high)
{
    ide_wr(channel, IDE_DEVICE,
           (uint8_t)(IDE_DEVICE_OBSOLETE | ATA_DEVICE_LBA | (disk->second ? IDE_DEVICE_SECOND : 0) |
                     (lba_high & 0xf)));
    ide_settle(channel);
}

void ide_reset(struct ide_channel *channel)
{
    outb(IDE_CONTROL_RESET | IDE_CONTROL_NIEN, channel->control);
    udelay(5); // 9.2
    outb(0, channel->control);
    uint64_t end_ns = clock_ns() + IDE_RESET_MS * 1000000ull; // a sleep may be longer than asked
    int error;
    do {
        msleep(2);
        error = ide_wait(channel, 0, 0, IDE_LOOK_US);
    } while (error != 0 && clock_ns() < end_ns);
    if (error != 0) {
        dev_err(channel->dev, "channel %u does not come back from its reset (status 0x%02x)",
                channel->index, ide_alternate_status(channel));
    }
    channel->counters.resets++;
}

// ---- looking for disks --------------------------------------------------------------------------

// Asks for the page with one of the two commands. 0; -EIO: refused; -ETIMEDOUT.
static int ide_read_page(struct ide_channel *channel, uint8_t command, uint16_t *page)
{
    ide_wr(channel, IDE_COMMAND, command);
    ide_settle(channel);
    if (ide_alternate_status(channel) == 0) {
        return -ENODEV;
    }
    if (ide_wait(channel, 0, 0, IDE_READY_US) != 0) {
        return -ETIMEDOUT;
    }
    uint8_t status = ide_rd(channel, IDE_STATUS);
    if ((status & (ATA_STATUS_ERR | ATA_STATUS_DF)) != 0 || (status & ATA_STATUS_DRQ) == 0) {
        return -EIO;
    }
    for (unsigned i = 0; i < ATA_IDENTIFY_WORDS; i++) {
        page[i] = inw((uint16_t)(channel->command + IDE_DATA));
    }
    return 0;
}

// 0: its page is read. -ENODEV: nothing there, or neither disk nor CD drive. A CD drive refuses the
// command for disks, and says by its registers what it is (ATA/ATAPI-6, 9.12).
static int ide_identify(struct ide_channel *channel, struct ide_disk *disk, uint16_t *page)
{
    ide_select(channel, disk, 0);
    uint8_t status = ide_alternate_status(channel);
    if (status == 0xff || status == 0) { // nobody drives the wires; or device 0 answers for nobody
        return -ENODEV;
    }
    if (ide_wait(channel, 0, 0, IDE_READY_US) != 0) {
        return -ENODEV;
    }
    int error = ide_read_page(channel, ATA_IDENTIFY_DEVICE, page);
    if (error != -EIO) {
        return error;
    }
    disk->is_atapi = ide_rd(channel, IDE_LBA_MID) == IDE_ATAPI_MID &&
                     ide_rd(channel, IDE_LBA_HIGH) == IDE_ATAPI_HIGH;
    return disk->is_atapi ? ide_read_page(channel, ATA_IDENTIFY_PACKET_DEVICE, page) : -ENODEV;
}

static int ide_look(struct ide_channel *channel, struct ide_disk *disk)
{
    const char *why = NULL;
    uint16_t *page = kmalloc(ATA_IDENTIFY_WORDS * sizeof(*page), GFP_KERNEL);
    if (page == NULL) {
        return -ENOMEM;
    }
    int error = ide_identify(channel, disk, page);
    if (error == 0) {
        error = disk->is_atapi ? ide_atapi_add(disk, page, &why)
                               : ata_parse_identity(&disk->identity, page, &why);
    }
    kfree(page);
    if (error == 0 && !disk->is_atapi && disk->identity.block_shift != 0) {
        why = "its logical sectors are not of 512 bytes"; // and by PIO each interrupts
        error = -EOPNOTSUPP;
    }
    if (why != NULL) {
        dev_warn(channel->dev, "channel %u, device %u: %s", channel->index, disk->second, why);
    }
    return error != 0 || disk->is_atapi ? error : ide_disk_add(disk);
}

// ---- what a command needs first -----------------------------------------------------------------

// Looks once more, for so long. Until it has been handed over there will be a next time.
static void ide_hand_over_locked(struct ide_channel *channel, unsigned timeout_us)
{
    struct ide_command *now = &channel->now;
    if (ide_wait(channel, ATA_STATUS_DRQ, ATA_STATUS_DRQ, timeout_us) == 0) {
        if (now->disk->is_atapi) {
            now->offering = !ide_atapi_hand_over_locked(channel);
        } else {
            now->offering = false;
            ide_move_first_locked(channel);
        }
    }
    if (now->offering) {
        mod_timer(&channel->offer, jiffies + 1);
    }
}

// For this a drive need not interrupt. One that follows the protocol asks within microseconds; one
// that does not, or is at something else, is looked at in each tick, as interrupts are off here.
// When it never asks, it interrupts with an error, or the time runs out, and a reset is what it
// needs.
void ide_offer_locked(struct ide_channel *channel)
{
    channel->now.offering = true;
    ide_hand_over_locked(channel, IDE_OFFER_US);
}

// Context: TIMER softirq.
static void ide_offer_again(struct timer_list *timer)
{
    struct ide_channel *channel = container_of(timer, struct ide_channel, offer);
    unsigned long flags;
    spin_lock_irqsave(&channel->lock, flags);
    if (channel->now.request != NULL && channel->now.offering && !channel->resetting) {
        channel->counters.looks++;
        ide_hand_over_locked(channel, 0);
    }
    spin_unlock_irqrestore(&channel->lock, flags);
}

// ---- interrupts ---------------------------------------------------------------------------------

// Has the disk interrupted? Then that is acknowledged, and the softirq asked to look. With DMA the
// bus master says whether it was the disk; without one, a disk that is busy cannot have.
static bool ide_take_interrupt(struct ide_channel *channel)
{
    uint8_t bm_status = 0;

    if (channel->bus_master != 0) {
        bm_status = inb((uint16_t)(channel->bus_master + IDE_BM_STATUS));
    }
    if ((channel->bus_master != 0 && (bm_status & IDE_BM_INTERRUPT) == 0) ||
        (ide_alternate_status(channel) & ATA_STATUS_BSY) != 0) {
        return false;
    }
    channel->status = ide_rd(channel, IDE_STATUS); // takes the interrupt back
    if (channel->bus_master != 0) {
        outb((uint8_t)(bm_status & (IDE_BM_ERROR | IDE_BM_INTERRUPT)),
             (uint16_t)(channel->bus_master + IDE_BM_STATUS));
    }
    channel->bm_status = bm_status;
    __atomic_store_n(&channel->interrupted, 1, __ATOMIC_RELEASE);
    const struct ide_disk *disk = READ_ONCE(channel->now.disk);
    if (disk != NULL && disk->disk != NULL) {
        blk_mq_reap(&disk->disk->queues[0]);
    }
    return true;
}

// Context: hard irq.
static irqreturn_t ide_interrupt(int irq, void *dev_id)
{
    (void)irq;
    struct ide_channel *channel = dev_id;
    bool ours = ide_take_interrupt(channel);

    *(ours ? &channel->counters.interrupts : &channel->counters.foreign) += 1;
    return ours ? IRQ_HANDLED : IRQ_NONE;
}

bool ide_find_lost_interrupt(struct ide_channel *channel)
{
    disable_irq((unsigned)channel->irq); // the handler runs nowhere meanwhile
    bool lost = ide_take_interrupt(channel);
    enable_irq((unsigned)channel->irq);
    return lost;
}

// ---- the channel --------------------------------------------------------------------------------

static int ide_alloc_table(struct ide_channel *channel)
{
    if (channel->bus_master == 0) {
        return 0;
    }
    channel->prds =
        dma_alloc_coherent(channel->dev, IDE_MAX_PRDS * sizeof(struct ide_prd), &channel->prds_bus);
    return channel->prds != NULL ? 0 : -ENOMEM;
}

static void ide_free_table(struct ide_channel *channel)
{
    if (channel->prds != NULL) {
        dma_free_coherent(channel->dev, IDE_MAX_PRDS * sizeof(struct ide_prd), channel->prds,
                          channel->prds_bus);
        channel->prds = NULL;
    }
}

int ide_channel_start(struct ide_channel *channel)
{
    static const char *const names[] = {"ide0", "ide1"};
    int found = 0;

    spin_lock_init(&channel->lock, "ide channel");
    timer_setup(&channel->offer, ide_offer_again, 0);
    int error = ide_alloc_table(channel);
    if (error != 0) {
        return error;
    }
    outb(0, channel->control);
    (void)ide_rd(channel, IDE_STATUS); // an interrupt that firmware left
    error = devm_request_irq(channel->dev, (unsigned)channel->irq, ide_interrupt, 0,
                             names[channel->index], channel);
    if (error != 0) {
        dev_err(channel->dev, "channel %u: irq %d cannot be had: error %d", channel->index,
                channel->irq, error);
        ide_free_table(channel);
        return error;
    }
    for (unsigned i = 0; i < IDE_DISKS; i++) {
        struct ide_disk *disk = &channel->disks[i];

        disk->channel = channel;
        disk->second = i == 1;
        found += ide_look(channel, disk) == 0;
    }
    return found;
}

bool ide_channel_stop(struct ide_channel *channel)
{
    bool clean = true;

    for (unsigned i = 0; i < IDE_DISKS; i++) {
        clean = ide_disk_remove(&channel->disks[i]) && clean;
    }
    outb(IDE_CONTROL_NIEN, channel->control);
    devm_free_irq(channel->dev, (unsigned)channel->irq, channel); // now: see below
    timer_shutdown_sync(&channel->offer);
    for (unsigned i = 0; i < IDE_DISKS; i++) {
        if (clean && channel->disks[i].disk != NULL) { // no handler can name it any more
            blk_put(channel->disks[i].disk);
            channel->disks[i].disk = NULL;
        }
    }
    if (clean) {
        ide_free_table(channel);
    }
    return clean;
}

void ide_show(struct ide_channel *channel, struct text *t)
{
    text_printf(t, "ide%u: ports 0x%x and 0x%x, irq %d, %s\n", channel->index, channel->command,
                channel->control, channel->irq,
                channel->bus_master != 0 ? "bus master" : "PIO only");
    for (unsigned i = 0; i < IDE_DISKS; i++) {
        if (channel->disks[i].disk != NULL) {
            text_printf(t, "  device %u: %s %s\n", i, channel->disks[i].disk->name,
                        channel->disks[i].identity.model);
        }
    }
    text_printf(
        t,
        "  interrupts %llu, not ours %llu; sectors by PIO %llu, by DMA %llu; words %llu (with "
        "interrupts off %llu), descriptors %llu\n",
        (unsigned long long)channel->counters.interrupts,
        (unsigned long long)channel->counters.foreign,
        (unsigned long long)channel->counters.pio_sectors,
        (unsigned long long)channel->counters.dma_sectors,
        (unsigned long long)channel->counters.words,
        (unsigned long long)channel->counters.deaf_words,
        (unsigned long long)channel->counters.descriptors);
    text_printf(
        t, "  errors %llu, time-outs %llu, resets %llu, lost interrupts %llu, looked again %llu\n",
        (unsigned long long)channel->counters.errors,
        (unsigned long long)channel->counters.timeouts,
        (unsigned long long)channel->counters.resets,
        (unsigned long long)channel->counters.lost_interrupts,
        (unsigned long long)channel->counters.looks);
}
