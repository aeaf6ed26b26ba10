// After an error: find out who was guilty, let the innocent finish, and get the port going again.
//
// The device should stop at the first command that fails, with up to 31 others behind it. The
// specification has a field that tells which one failed (PxCMD.CCS), but not every controller fills
// it in, and a timeout has no such field at all. So nobody is believed: the engine is stopped,
// which takes every command back, and then each is tried alone, in a slot that is the only one. Who
// fails alone is guilty; reads and writes do no harm when they are done twice.
//
//   RUNNING ──error, timeout──> RECOVERING ──stop, start, each one alone──> RUNNING
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
#include <core/log.h>
#include <core/panic.h>

// From the tasklet or the watchdog. Caller holds the lock.
void ahci_recover_begin_locked(struct ahci_port *port, uint32_t cause, bool timed_out)
{
    port->state = AHCI_PORT_RECOVERING;
    port->error_cause = cause;
    port->timed_out = timed_out;
    port->counters.errors++;
    schedule_work(&port->recover);
}

static void recover_log(const struct ahci_port *port, uint32_t cause, uint32_t victims)
{
    char buffer[200];
    struct text t = TEXT_INIT(buffer);
    uint32_t task_file = port_rd(port, AHCI_PXTFD);
    uint32_t error = task_file >> 8 & 0xff;

    text_printf(&t, "PxIS ");
    text_bits(&t, cause, ahci_pxis_names);
    text_puts(&t, " status ");
    text_bits(&t, task_file & 0xff, ahci_status_names);
    text_puts(&t, " error ");
    text_bits(&t, error, ahci_error_names);
    text_puts(&t, " SError ");
    text_bits(&t, port_rd(port, AHCI_PXSERR), ahci_serr_names);
    text_printf(&t, " slots 0x%x of 0x%x", port_rd(port, AHCI_PXCI), victims);
    port_warn(port, "%s: %s", port->timed_out ? "no answer" : "error", buffer);
}

// Is it still the disk that it was? One that was exchanged must not get the old one's writes.
static bool recover_same_disk(struct ahci_port *port)
{
    struct ata_identity now;
    const char *why;
    if (ahci_port_identify(port, &now, &why) != 0) {
        port_err(port, "%s after a reset", why);
        return false;
    }
    if (now.sectors != port->identity.sectors || strcmp(now.serial, port->identity.serial) != 0 ||
        strcmp(now.model, port->identity.model) != 0) {
        port_err(port, "another disk answers: %s", now.model);
        return false;
    }
    return true;
}

// Stops the engine and starts it again, with a COMRESET between where that is needed.
static bool recover_restart(struct ahci_port *port, bool reset)
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
        ahci_slot_write_header(port, number);
        port->counters.retries++;
        int error = ahci_port_execute(port, number, timeout_ms);
        if (error == 0) {
            ahci_slot_complete(port, number, 0);
            return true;
        }
        tries++;
        overdue += error == -ETIMEDOUT;
        bool restarted = recover_restart(port, error == -ETIMEDOUT);
        // One that let its time pass twice is not waited for a third time.
        if (!restarted || tries >= AHCI_MAX_TRIES || overdue >= 2) {
            static const char *const names[] = {"read", "write", "flush"};
            port_err(port, "%s of %u sectors at %llu failed", names[request->op], request->sectors,
                     (unsigned long long)request->sector);
            ahci_slot_complete(port, number, -EIO);
            return restarted;
        }
    }
}

static void recover_fail_all(struct ahci_port *port, uint32_t slots)
{
    for (; slots != 0; slots &= slots - 1) {
        ahci_slot_complete(port, (unsigned)__builtin_ctz(slots), -EIO);
    }
}

// The port runs again, with what was submitted meanwhile; unless the driver is being removed.
static void recover_finish(struct ahci_port *port)
{
    unsigned long flags;
    spin_lock_irqsave(&port->lock, flags);
    if (port->state == AHCI_PORT_RECOVERING) {
        __atomic_store_n(&port->cause, 0, __ATOMIC_RELAXED);
        uint32_t ready = port->ready;
        port->ready = 0;
        port->state = AHCI_PORT_RUNNING;
        port_wr(port, AHCI_PXIS, port_rd(port, AHCI_PXIS));
        port_wr(port, AHCI_PXIE, AHCI_PXIE_WANTED);
        if (ready != 0) {
            ahci_disk_issue_locked(port, ready);
        }
    }
    spin_unlock_irqrestore(&port->lock, flags);
}

static void recover_give_up(struct ahci_port *port, uint32_t left)
{
    unsigned long flags;
    spin_lock_irqsave(&port->lock, flags);
    port->state = AHCI_PORT_DEAD;
    left |= port->ready;
    port->ready = 0;
    spin_unlock_irqrestore(&port->lock, flags);
    port_err(port, "given up; every request gets an error from now on");
    recover_fail_all(port, left);
}

void ahci_recover_work(struct work_struct *work)
{
    struct ahci_port *port = container_of(work, struct ahci_port, recover);
    unsigned long flags;

    port_wr(port, AHCI_PXIE, 0);
    spin_lock_irqsave(&port->lock, flags);
    uint32_t victims = port->issued, cause = port->error_cause;
    bool timed_out = port->timed_out;
    port->issued = 0;
    spin_unlock_irqrestore(&port->lock, flags);

    recover_log(port, cause, victims);
    // One that was alone has had its first try, and its first timeout if that was it; in company it
    // may have been innocent.
    bool alone = IS_POWER_OF_2(victims);
    // Stop and start are enough for one command that the device itself refused. With others behind
    // it only a reset is sure to end them all: QEMU, unlike 6.2.2.1, has gone on to the next one,
    // and dies when it finds the list restarted under a command that it is still doing (up to
    // 11.0).
    bool simple = alone && !timed_out && (cause & ~AHCI_PXIS_DHRS) == AHCI_PXIS_TFES;
    bool alive = recover_restart(port, !simple);
    while (alive && victims != 0) {
        unsigned slot = (unsigned)__builtin_ctz(victims);
        victims &= ~BIT(slot);
        alive = recover_replay(port, slot, alone ? 1 : 0, alone && timed_out ? 1 : 0);
    }
    if (alive) {
        recover_finish(port);
    } else {
        recover_give_up(port, victims);
    }
}
