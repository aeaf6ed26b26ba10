// After an error: find out who was guilty, let the innocent finish, and get the port going again.
//
// The device stops at the first command that fails, with up to 31 others behind it. Of queued
// commands PxSACT says which are over and were good; which of the rest failed stands in the disk's
// log of queued errors (SATA 3.0, 13.7), if it keeps one. Of unqueued ones the controller has a
// field that tells (PxCMD.CCS), but not every controller fills it in. After a time-out, those whose
// time is over are suspects and nobody else. Where that leaves more than one suspect, nobody is
// believed: each is tried alone, unqueued, in a slot that is the only one. Who fails alone is
// guilty; reads and writes do no harm when they are done twice. Who is no suspect goes back to the
// block layer, and out again when the port runs.
//
//   RUNNING ──error, time-out──> RECOVERING ──stop, start, suspects alone──> RUNNING
//                                   └── COMRESET where a stop is not enough; the link or the
//                                       disk does not come back ──> DEAD: -EIO for everything
//
// A completion that comes late, after the stop, finds no slot in `issued` and is ignored. Memory is
// unmapped only after the engine has stopped; when it cannot be stopped the port's memory is never
// reused (ahci_port_destroy).
//
// One line tells what happened. Context: work item. AHCI 1.3.1, 6.2.2. Previous: ahci_disk.c.
#include "ahci.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>

// What a command that was refused by the device itself leaves in PxIS, and nothing more.
#define RECOVER_PLAIN (AHCI_PXIS_TFES | AHCI_PXIS_DHRS | AHCI_PXIS_SDBS)

// QEMU, unlike 6.2.2.1, has gone on to the next command after one failed, and dies when it finds
// the list restarted under a command that it is still doing (up to 11.0): there only a reset is
// safe.
void ahci_recover_quirks(struct ahci_port *port)
{
    port->engine_fragile = str_starts(port->identity.model, "QEMU ");
}

// Those whose time is over. Now, as the block layer will give them a new one. Caller holds the
// lock.
static uint32_t recover_overdue_locked(const struct ahci_port *port)
{
    uint32_t overdue = 0, now = jiffies, victims = port->issued;
    for (; victims != 0; victims &= victims - 1) {
        unsigned slot = (unsigned)__builtin_ctz(victims);
        if (!time_after(port->slots[slot].request->deadline, now)) {
            overdue |= BIT(slot);
        }
    }
    return overdue;
}

// From the softirq or the time-out. Caller holds the lock.
void ahci_recover_begin_locked(struct ahci_port *port, uint32_t cause, bool timed_out)
{
    port->state = AHCI_PORT_RECOVERING;
    port->error_cause = cause;
    port->overdue = timed_out ? recover_overdue_locked(port) : 0;
    port->counters.errors++;
    schedule_work(&port->recover);
}

// Is it still the disk that it was? One that was exchanged must not get the old one's writes.
static bool recover_same_disk(struct ahci_port *port)
{
    struct ata_identity now;
    const char *why;
    if (port->is_atapi) {
        return ahci_atapi_is_same(port);
    }
    if (ahci_port_identify(port, &now, &why) != 0) {
        port_err(port, "%s after a reset", why);
        return false;
    }
    if (now.sectors < port->identity.sectors || now.block_shift != port->identity.block_shift ||
        strcmp(now.serial, port->identity.serial) != 0 ||
        strcmp(now.model, port->identity.model) != 0) {
        port_err(port, "another disk answers: %s", now.model);
        return false;
    }
    return true;
}

bool ahci_recover_restart(struct ahci_port *port, bool reset)
{
    uint32_t busy = ATA_STATUS_BSY | ATA_STATUS_DRQ;
    if (ahci_port_stop(port) != 0 || (port_rd(port, AHCI_PXTFD) & busy) != 0) {
        reset = true;
    }
    if (!reset) {
        return ahci_port_start(port) == 0;
    }
    port->counters.resets++;
    int error = ahci_port_reset(port);
    if (ahci_port_stop(port) != 0) {
        // A reset frees an engine that hung. This one goes on, and no memory is safe from it.
        port_err(port, "does not stop: the whole controller loses its access to memory");
        port->hba->dma_off(port->hba);
        return false;
    }
    if (error == 0) {
        error = ahci_port_start(port);
    }
    if (error != 0) {
        port_err(port, "%s after COMRESET",
                 error == -ENODEV ? "no link" : "the device is not ready");
        return false;
    }
    return recover_same_disk(port);
}

// Tries one command alone until it works or has had its tries. `tries` and `overdue` count what it
// has had already. False: the port did not survive it.
static bool recover_replay(struct ahci_port *port, unsigned number, unsigned tries,
                           unsigned overdue)
{
    const struct request *request = port->slots[number].request;
    uint32_t timeout_ms = ahci_command_timeout_ms(request);

    for (;;) {
        ahci_slot_unqueue(port, number);
        port->counters.retries++;
        int error = ahci_port_execute(port, number, timeout_ms);
        if (error == 0) {
            ahci_slot_complete(port, number, 0);
            return true;
        }
        tries++;
        overdue += error == -ETIMEDOUT;
        bool restarted = ahci_recover_restart(port, error == -ETIMEDOUT);
        // One that let its time pass twice is not waited for a third time.
        if (!restarted || tries >= AHCI_MAX_TRIES || overdue >= 2) {
            static const char *const names[] = {"read", "write", "flush"};
            port_err(port, "%s of %u sectors at %llu failed", names[request->op],
                     blk_rq_sectors(request), (unsigned long long)blk_rq_pos(request));
            ahci_slot_complete(port, number, -EIO);
            return restarted;
        }
    }
}

static void recover_end_all(struct ahci_port *port, uint32_t slots, int status)
{
    for (; slots != 0; slots &= slots - 1) {
        ahci_slot_complete(port, (unsigned)__builtin_ctz(slots), status);
    }
}

static void recover_requeue_all(struct ahci_port *port, uint32_t slots)
{
    for (; slots != 0; slots &= slots - 1) {
        ahci_slot_requeue(port, (unsigned)__builtin_ctz(slots));
    }
}

// A controller that was reset by somebody else has forgotten that it is AHCI's, and that it may
// interrupt. All ports write the same here.
static void recover_controller(struct ahci_hba *hba)
{
    uint32_t wanted = AHCI_GHC_AE | AHCI_GHC_IE, now = ahci_rd(hba, AHCI_GHC);
    if ((now & wanted) != wanted) {
        ahci_wr(hba, AHCI_GHC, wanted);
        pr_ratelimited(LOG_WARNING, "%s: GHC was 0x%x, and is 0x%x again", hba->dev->name, now,
                       wanted);
    }
}

void ahci_recover_interrupts_locked(struct ahci_port *port)
{
    uint32_t now = port_rd(port, AHCI_PXIE);
    recover_controller(port->hba);
    if (now != AHCI_PXIE_WANTED) {
        port_wr(port, AHCI_PXIE, AHCI_PXIE_WANTED);
        pr_ratelimited(LOG_WARNING, "%s: port %u: PxIE was 0x%x, and is 0x%x again",
                       port->hba->dev->name, port->index, now, AHCI_PXIE_WANTED);
    }
}

// The port runs again, with what waits in the block layer.
static void recover_finish(struct ahci_port *port)
{
    unsigned long flags;
    spin_lock_irqsave(&port->lock, flags);
    __atomic_store_n(&port->cause, 0, __ATOMIC_RELAXED);
    port->state = AHCI_PORT_RUNNING;
    port_wr(port, AHCI_PXIS, port_rd(port, AHCI_PXIS));
    port_wr(port, AHCI_PXIE, AHCI_PXIE_WANTED);
    spin_unlock_irqrestore(&port->lock, flags);
    blk_run_queue(port->disk);
}

static void recover_give_up(struct ahci_port *port, uint32_t left)
{
    unsigned long flags;
    spin_lock_irqsave(&port->lock, flags);
    port->state = AHCI_PORT_DEAD;
    spin_unlock_irqrestore(&port->lock, flags);
    port_err(port, "given up; every request gets an error from now on");
    recover_end_all(port, left, -EIO);
    blk_run_queue(port->disk); // what waits gets its error too
}

// Which of the commands the log of queued errors names. 0: it does not say, or not one of ours.
static uint32_t recover_ask_log(struct ahci_port *port, uint32_t victims)
{
    struct ata_ncq_error error;
    const uint8_t *page;
    if (!port->identity.has_logs || ahci_port_read_log(port, ATA_LOG_NCQ_ERROR, &page) != 0 ||
        ata_parse_ncq_log(&error, page) != 0) {
        return 0;
    }
    port_warn(port, "the disk's log says: tag %u, status 0x%x, error 0x%x, sector %llu", error.tag,
              error.status, error.error,
              (unsigned long long)error.lba << port->identity.block_shift);
    return victims & BIT(error.tag);
}

// What the recovery was started with.
struct recover_case {
    uint32_t cause, victims, never_rung, overdue;
    bool queued;
};

// What the port's registers say goes to the log, and into `registers` for whoever has more to tell:
// of a CD drive it is not known yet whether this is an error.
static void recover_log(const struct ahci_port *port, const struct recover_case *c, char *registers,
                        size_t size)
{
    struct text t;
    uint32_t task_file = port_rd(port, AHCI_PXTFD);
    uint32_t error = task_file >> 8 & 0xff;

    text_init(&t, registers, size);
    text_puts(&t, "PxIS ");
    text_bits(&t, c->cause, ahci_pxis_names);
    text_puts(&t, " status ");
    text_bits(&t, task_file & 0xff, ata_status_names);
    text_puts(&t, " error ");
    text_bits(&t, error, ata_error_names);
    text_puts(&t, " SError ");
    text_bits(&t, port_rd(port, AHCI_PXSERR), ahci_serr_names);
    text_printf(&t, " PxCI 0x%x PxSACT 0x%x of 0x%x", port_rd(port, AHCI_PXCI),
                port_rd(port, AHCI_PXSACT), c->victims);
    if (c->overdue != 0 || !port->is_atapi) {
        port_warn(port, "%s: %s%s", c->overdue != 0 ? "no answer" : "error", registers,
                  c->queued ? " (NCQ)" : "");
    }
}

// Takes everything from the port. Queued commands that PxSACT has no bit for were done well; that
// is to be believed unless the link or the bus had a part in the error, or the engine has stopped.
static struct recover_case recover_take(struct ahci_port *port)
{
    struct recover_case c;
    unsigned long flags;
    spin_lock_irqsave(&port->lock, flags);
    c.victims = port->issued;
    c.never_rung = port->filled; // a batch whose last did not get through
    c.cause = port->error_cause;
    c.overdue = port->overdue;
    c.queued = port->queued;
    port->issued = 0;
    port->filled = 0;
    spin_unlock_irqrestore(&port->lock, flags);
    if (c.queued && (c.cause & ~RECOVER_PLAIN) == 0) {
        uint32_t good = c.victims & ~port_rd(port, AHCI_PXSACT);
        good = ahci_port_runs(port) ? good : 0; // read after PxSACT
        c.victims &= ~good;
        recover_end_all(port, good, 0);
    }
    return c;
}

void ahci_recover_work(struct work_struct *work)
{
    struct ahci_port *port = container_of(work, struct ahci_port, recover);
    recover_controller(port->hba);
    port_wr(port, AHCI_PXIE, 0);
    struct recover_case c = recover_take(port);
    bool timed_out = c.overdue != 0;
    uint32_t suspects = timed_out ? c.overdue & c.victims : c.victims;
    char registers[200];
    recover_log(port, &c, registers, sizeof(registers));

    // One that was alone has had its first try, and its first time-out if that was it; in company
    // it may have been innocent. Stop and start are enough when the device itself refused a
    // command.
    bool alone = IS_POWER_OF_2(c.victims);
    bool plain = !timed_out && (c.cause & ~RECOVER_PLAIN) == 0;
    bool alive = ahci_recover_restart(port, !plain || (port->engine_fragile && !alone));
    if (alive && c.queued && !timed_out && !alone) {
        uint32_t named = recover_ask_log(port, c.victims);
        suspects = named != 0 ? named : suspects;
        alive = ahci_recover_restart(port, false); // the log itself may have failed
    }
    if (alive) {
        recover_requeue_all(port, (c.victims & ~suspects) | c.never_rung);
        c.victims = suspects;
    } else {
        c.victims |= c.never_rung;
    }
    while (alive && c.victims != 0) {
        unsigned slot = (unsigned)__builtin_ctz(c.victims);
        c.victims &= ~BIT(slot);
        alive = port->is_atapi
                    ? ahci_atapi_replay(port, slot, timed_out, registers)
                    : recover_replay(port, slot, alone ? 1 : 0, alone && timed_out ? 1 : 0);
    }
    if (alive) {
        recover_finish(port);
    } else {
        recover_give_up(port, c.victims);
    }
}
