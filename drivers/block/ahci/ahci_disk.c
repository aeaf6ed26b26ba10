// A port as a disk: requests become commands, interrupts become completions. The way of one read:
//
//   submit     take a slot; map the memory; FIS, PRDs and header into it; ring PxCI   any context
//   device     fetches, reads the disk, writes memory, clears the slot's bit in PxCI, interrupts
//   handler    PxIS acknowledged, tasklet scheduled (ahci.c)                          hard irq
//   reap       which issued slots have no bit in PxCI? unmap, blk_complete_request    tasklet
//   done       waiter woken (kernel/dev/block.c)                                      BLOCK softirq
//
// Whose is a slot? One word a set; `free` is atomic, the others are under the port's lock:
//
//   free ──submit──> (filling) ──> issued ──reap──> free          while the port runs
//                        └──> ready ──recovery ends──> issued     while it recovers
//
// The device does one of these commands at a time (they are not NCQ), but has the next at hand when
// one ends.
//
// Acknowledge, then look: the handler clears PxIS before the tasklet reads PxCI. A command that
// ends between the two raises PxIS again, so it is looked for twice, never zero times.
//
// AHCI 1.3.1, 5.5 (system software), 6.2.2 (errors). Previous: ahci.c. Next: ahci_recover.c, when a
// command fails.
#include "ahci.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>

uint32_t ahci_timeout_ms = AHCI_TIMEOUT_MS;

// A flush may have a whole cache to write.
uint32_t ahci_command_timeout_ms(const struct request *request)
{
    return request->op == REQ_OP_FLUSH ? ahci_timeout_ms * 3 : ahci_timeout_ms;
}

// ---- down ---------------------------------------------------------------------------------------

// Takes a slot out of `free`: whoever clears the bit owns it. -1: none is left.
static int slot_take(struct ahci_port *port)
{
    uint32_t free = __atomic_load_n(&port->free, __ATOMIC_RELAXED);
    while (free != 0) {
        uint32_t taken = free & -free; // the lowest
        if (__atomic_compare_exchange_n(&port->free, &free, free & ~taken, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            return __builtin_ctz(taken);
        }
    }
    return -1;
}

static void slot_give(struct ahci_port *port, unsigned slot)
{
    __atomic_fetch_or(&port->free, BIT(slot), __ATOMIC_RELEASE);
}

static enum dma_data_direction slot_direction(const struct ahci_slot *slot)
{
    return slot->write ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
}

static void slot_unmap(struct ahci_port *port, struct ahci_slot *slot, unsigned count)
{
    struct blk_segment *segments = slot->request->segments;
    for (unsigned i = 0; i < count; i++) {
        dma_unmap_single(port->hba->dev, segments[i].bus, segments[i].length, slot_direction(slot));
    }
}

// Hands the request's memory to the device and lists it in the slot's table.
static int slot_map(struct ahci_port *port, struct ahci_slot *slot, uint8_t *table)
{
    struct request *request = slot->request;
    struct ahci_prd *prds = (void *)(table + AHCI_TABLE_PRDT);
    for (unsigned i = 0; i < request->segment_count; i++) {
        struct blk_segment *segment = &request->segments[i];
        segment->bus =
            dma_map_single(port->hba->dev, segment->data, segment->length, slot_direction(slot));
        if (dma_mapping_error(port->hba->dev, segment->bus)) {
            slot_unmap(port, slot, i);
            return -EFAULT;
        }
        if (ahci_build_prd(&prds[i], segment->bus.value, segment->length) != 0) {
            slot_unmap(port, slot, i + 1);
            return -EINVAL;
        }
    }
    return 0;
}

// Makes a command of the request in a slot that is ours.
static int slot_fill(struct ahci_port *port, unsigned number, struct request *request)
{
    struct ahci_slot *slot = &port->slots[number];
    uint8_t *table = port->tables + (size_t)number * AHCI_TABLE_SIZE;
    struct ata_registers regs;

    slot->request = request;
    slot->write = request->op == REQ_OP_WRITE;
    slot->bytes = request->sectors * SECTOR_SIZE;
    slot->prd_count = (uint16_t)request->segment_count;
    if (request->op == REQ_OP_FLUSH) {
        ahci_build_flush(&regs, &port->identity);
    } else {
        int error =
            ahci_build_rw(&regs, &port->identity, slot->write, request->sector, request->sectors);
        if (error != 0) {
            return error;
        }
    }
    int error = slot_map(port, slot, table);
    if (error != 0) {
        return error;
    }
    ahci_build_fis(table + AHCI_TABLE_FIS, &regs);
    ahci_slot_write_header(port, number);
    return 0;
}

// The doorbell. Caller holds the lock, the port runs, the slots are filled.
void ahci_disk_issue_locked(struct ahci_port *port, uint32_t slots)
{
    for (uint32_t left = slots; left != 0; left &= left - 1) {
        struct ahci_slot *slot = &port->slots[__builtin_ctz(left)];
        slot->deadline = jiffies + msecs_to_jiffies(ahci_command_timeout_ms(slot->request));
        port->counters.commands++;
    }
    port->issued |= slots;
    dma_publish();
    port_wr(port, AHCI_PXCI, slots);
    // Armed once, not at each command: it looks at the deadlines itself.
    if (!port->watchdog_armed) {
        port->watchdog_armed = true;
        mod_timer(&port->watchdog, jiffies + msecs_to_jiffies(ahci_timeout_ms));
    }
}

static int ahci_disk_submit(struct gendisk *disk, struct request *request)
{
    struct ahci_port *port = disk->private_data;
    unsigned long flags;

    // What has nothing to flush is done at once.
    if (request->op == REQ_OP_FLUSH && !port->identity.has_flush) {
        blk_complete_request(request, 0);
        return 0;
    }
    int slot = slot_take(port);
    if (unlikely(slot < 0)) {
        return -EBUSY;
    }
    int error = slot_fill(port, (unsigned)slot, request);
    if (unlikely(error != 0)) {
        slot_give(port, (unsigned)slot);
        return error;
    }
    spin_lock_irqsave(&port->lock, flags);
    enum ahci_port_state state = port->state;
    if (likely(state == AHCI_PORT_RUNNING)) {
        ahci_disk_issue_locked(port, BIT(slot));
    } else if (state == AHCI_PORT_RECOVERING) {
        port->ready |= BIT(slot);
    }
    spin_unlock_irqrestore(&port->lock, flags);
    if (unlikely(state == AHCI_PORT_DEAD)) {
        slot_unmap(port, &port->slots[slot], request->segment_count);
        slot_give(port, (unsigned)slot);
        return -EIO;
    }
    return 0;
}

// ---- up -----------------------------------------------------------------------------------------

// Gives a slot that is ours back, and its request to the block layer.
void ahci_slot_complete(struct ahci_port *port, unsigned number, int status)
{
    struct ahci_slot *slot = &port->slots[number];
    const struct ahci_command_header *list = (const void *)(port->page + AHCI_PAGE_LIST);
    struct request *request = slot->request;

    // What the device says it moved must be what was asked for: a short read would leave old bytes
    // to be taken for new ones.
    uint32_t transferred = READ_ONCE(list[number].transferred);
    if (unlikely(status == 0 && transferred != slot->bytes)) {
        pr_ratelimited(LOG_ERR, "ahci %s: port %u: %u bytes moved instead of %u at sector %llu",
                       port->hba->dev->name, port->index, transferred, slot->bytes,
                       (unsigned long long)request->sector);
        status = -EIO;
    }
    slot_unmap(port, slot, request->segment_count);
    slot->request = NULL;
    if (unlikely(status != 0)) {
        __atomic_fetch_add(&port->failed, 1, __ATOMIC_RELAXED);
    }
    slot_give(port, number);
    blk_complete_request(request, status);
}

static void ahci_disk_reap(struct tasklet_struct *tasklet)
{
    struct ahci_port *port = container_of(tasklet, struct ahci_port, reap);
    uint32_t done = 0;
    unsigned long flags;

    spin_lock_irqsave(&port->lock, flags);
    if (likely(port->state == AHCI_PORT_RUNNING)) {
        done = port->issued & ~port_rd(port, AHCI_PXCI);
        // Errors are read after PxCI, and from the register too, where one may stand that the
        // handler has not seen yet: a controller that clears the bit of a failed command, against
        // 6.2.2.1 (QEMU before 8.1), must not pass for success.
        uint32_t cause = port_rd(port, AHCI_PXIS);
        cause |= __atomic_exchange_n(&port->cause, 0, __ATOMIC_RELAXED);
        if (unlikely((cause & (AHCI_PXIS_STOPS | AHCI_PXIS_LINK)) != 0)) {
            ahci_recover_begin_locked(port, cause, false);
            done = 0; // in doubt, done again
        }
        port->issued &= ~done;
    }
    spin_unlock_irqrestore(&port->lock, flags);

    dma_observe();
    for (; done != 0; done &= done - 1) {
        ahci_slot_complete(port, (unsigned)__builtin_ctz(done), 0);
    }
}

// Once in a while, while there is something under way: is it overdue? Done, but nobody told us?
// Context: timer softirq.
static void ahci_disk_watch(struct timer_list *timer)
{
    struct ahci_port *port = container_of(timer, struct ahci_port, watchdog);
    uint32_t next = jiffies + msecs_to_jiffies(ahci_timeout_ms), overdue = 0;
    unsigned long flags;

    spin_lock_irqsave(&port->lock, flags);
    for (uint32_t left = port->issued; left != 0; left &= left - 1) {
        unsigned slot = (unsigned)__builtin_ctz(left);
        uint32_t deadline = port->slots[slot].deadline;
        if (!time_after(deadline, jiffies)) {
            overdue |= BIT(slot);
        } else if (time_after(next, deadline)) {
            next = deadline;
        }
    }
    bool running = port->state == AHCI_PORT_RUNNING;
    if (running && overdue != 0) {
        if ((overdue & port_rd(port, AHCI_PXCI)) != overdue) {
            port->counters.lost_interrupts++;
            tasklet_schedule(&port->reap);
        } else {
            port->counters.timeouts++;
            ahci_recover_begin_locked(port, 0, true);
        }
    }
    port->watchdog_armed = running && port->issued != 0;
    if (port->watchdog_armed) {
        mod_timer(&port->watchdog, next);
    }
    spin_unlock_irqrestore(&port->lock, flags);
}

// ---- coming and going ---------------------------------------------------------------------------

static void ahci_disk_describe(const struct ahci_port *port, struct gendisk *disk)
{
    const struct ata_identity *identity = &port->identity;
    disk->capacity = identity->sectors;
    disk->max_sectors = identity->has_lba48 ? AHCI_PRD_MAX_BYTES / SECTOR_SIZE : 256;
    disk->max_segments = AHCI_MAX_PRDS;
    disk->queue_depth = port->hba->slot_count;
    disk->transport = "sata";
    strscpy(disk->model, identity->model, sizeof(disk->model));
    strscpy(disk->serial, identity->serial, sizeof(disk->serial));
    strscpy(disk->firmware, identity->firmware, sizeof(disk->firmware));
    disk->submit = ahci_disk_submit;
}

int ahci_disk_add(struct ahci_port *port)
{
    unsigned slots = port->hba->slot_count;
    struct gendisk *disk = alloc_disk();
    unsigned long flags;

    if (disk == NULL) {
        return -ENOMEM;
    }
    ahci_disk_describe(port, disk);
    disk->private_data = port;
    port->disk = disk;
    tasklet_setup(&port->reap, ahci_disk_reap, "ahci reap");
    timer_setup(&port->watchdog, ahci_disk_watch, 0);
    spin_lock_irqsave(&port->lock, flags);
    port->free = slots == 32 ? UINT32_MAX : BIT(slots) - 1;
    port->state = AHCI_PORT_RUNNING;
    port->hba->ports[port->index] = port; // from here on the handler knows it
    spin_unlock_irqrestore(&port->lock, flags);
    port_wr(port, AHCI_PXIS, UINT32_MAX); // what IDENTIFY left behind
    port_wr(port, AHCI_PXIE, AHCI_PXIE_WANTED);

    int error = add_disk(disk, "sd");
    if (error != 0) {
        ahci_disk_remove(port);
        return error;
    }
    port_info(port, "%s: %s, %llu sectors (%llu MiB)%s", disk->name, disk->model,
              (unsigned long long)disk->capacity, (unsigned long long)disk->capacity >> 11,
              port->identity.write_cache_on ? ", write cache on" : "");
    return 0;
}

bool ahci_disk_remove(struct ahci_port *port)
{
    struct ahci_hba *hba = port->hba;
    unsigned long flags;

    // Interrupts, watchdog and recovery still work, so what is under way ends one way or another.
    if (port->disk->name[0] == '\0') {
        blk_put(port->disk); // was never added
    } else if (del_gendisk(port->disk) != 0) {
        return false;
    }
    port->disk = NULL;
    spin_lock_irqsave(&port->lock, flags);
    port->state = AHCI_PORT_DEAD;
    spin_unlock_irqrestore(&port->lock, flags);
    port_wr(port, AHCI_PXIE, 0);
    hba->ports[port->index] = NULL;
    synchronize_irq((unsigned)hba->irq); // no handler holds the pointer any longer
    cancel_work_sync(&port->recover);
    port_wr(port, AHCI_PXIE, 0); // a recovery that was in its last line
    tasklet_kill(&port->reap);
    del_timer_sync(&port->watchdog);
    return true;
}
