// A CD drive on an AHCI port. Its reads go the way of a disk's (ahci_disk.c): slot, FIS, PRDs,
// doorbell, interrupt, reap; what differs is told here.
//
//   table   [ FIS: PACKET, DMA | packet: 28 .. LBA .. count | PRD 0 | PRD 1 | ... ]
//   header  [ A: there is a packet | ... ]
//
// One command at a time, and never a queued one: the block layer has one tag for it. An error stops
// the port as a disk's does, and ahci_recover.c starts it again; then the drive is asked why it
// refused (REQUEST SENSE), before anything else, as the next command makes it forget. Half of these
// errors are news of the tray and are no reason for a line in the log.
//
//   reap ──TFES──> recovery: stop, start ──> REQUEST SENSE ──┬─ news: once more ──> done
//                                                            ├─ no medium: -ENOMEDIUM
//                                                            └─ else: one line, -EIO
//
// AHCI 1.3.1, 5.3.8 (ATAPI); ATA8-ACS, 7.21. Context: see each function. Previous:
// drivers/block/ata/cdrom.c, atapi.c. Next: ahci_recover.c.
#include "ahci.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/log.h>
#include <sched/sleep.h>

#include "../ata/cdrom.h"

enum { ATAPI_QUICK_MS = 1000, ATAPI_WAIT_MS = 200 }; // an answer from the drive's own memory

// ---- commands that are waited for ---------------------------------------------------------------

static int atapi_identify(struct ahci_port *port, struct atapi_identity *identity, const char **why)
{
    const uint8_t *page;
    struct ata_registers regs = {.command = ATA_IDENTIFY_PACKET_DEVICE};
    int error = ahci_port_read_page(port, &regs, &page);
    if (error != 0) {
        *why = error == -ETIMEDOUT ? "no answer to IDENTIFY PACKET DEVICE"
                                   : "IDENTIFY PACKET DEVICE failed";
        return error;
    }
    return atapi_parse_identity(identity, page, why);
}

int ahci_atapi_identify(struct ahci_port *port, const char **why)
{
    struct atapi_packet packet;
    const uint8_t *data;
    int error = atapi_identify(port, &port->drive, why);
    if (error != 0) {
        return error;
    }
    if (!port->drive.has_dma) {
        *why = "it has no DMA";
        return -EOPNOTSUPP;
    }
    atapi_build_inquiry(&packet);
    long moved = ahci_port_packet(port, &packet, ATAPI_QUICK_MS, &data);
    if (moved < 0) {
        *why = "INQUIRY failed";
        return (int)moved;
    }
    port->is_atapi = true;
    // What IDENTIFY says stays as it is, to know the drive by after a reset.
    strscpy(port->identity.model, port->drive.model, sizeof(port->identity.model));
    return atapi_parse_inquiry(port->drive.model, data, (size_t)moved, why);
}

bool ahci_atapi_is_same(struct ahci_port *port)
{
    struct atapi_identity now;
    const char *why;
    if (atapi_identify(port, &now, &why) != 0) {
        port_err(port, "%s after a reset", why);
        return false;
    }
    if (strcmp(now.serial, port->drive.serial) != 0 ||
        strcmp(now.model, port->identity.model) != 0) {
        port_err(port, "another drive answers: %s", now.model);
        return false;
    }
    return true;
}

// ---- requests -----------------------------------------------------------------------------------

// FIS, packet and header of a slot whose memory is mapped.
static void atapi_write_slot(struct ahci_port *port, unsigned number,
                             const struct atapi_packet *packet)
{
    struct ahci_command_header *list = (void *)(port->page + AHCI_PAGE_LIST);
    ahci_build_packet(port->tables + (size_t)number * AHCI_TABLE_SIZE, packet, &port->drive);
    ahci_slot_write_header(port, number);
    list[number].flags |= AHCI_HEADER_ATAPI;
}

static int atapi_queue_rq(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct ahci_port *port = hctx->private_data;
    struct ahci_slot *slot = &port->slots[request->tag];
    struct atapi_packet built;

    (void)last; // there is never a second one
    const struct atapi_packet *packet;
    int error = cdrom_start(request, &built, &packet);
    if (packet == NULL) {
        return error;
    }
    *slot = (struct ahci_slot){.request = request,
                               .bytes = packet->length,
                               .prd_count = (uint16_t)blk_rq_segments(request)};
    error = ahci_slot_map(port, request->tag);
    if (error == 0) {
        atapi_write_slot(port, request->tag, packet);
        error = ahci_slot_issue(port, request->tag, true);
    } else {
        slot->request = NULL;
    }
    return error;
}

static const struct blk_mq_ops atapi_mq_ops = {
    .queue_rq = atapi_queue_rq,
    .reap = ahci_reap,
    .timeout = ahci_timeout,
    .open = cdrom_open,
};

// ---- recovery -----------------------------------------------------------------------------------

// Why did the command in this slot fail? What stands in `registers` is told with it, unless it is
// news of the tray only. *status, what becomes of the request: see cdrom_verdict. False: the port
// did not survive the question.
static bool atapi_ask(struct ahci_port *port, unsigned number, const char *registers, int *status)
{
    char buffer[96];
    struct text t = TEXT_INIT(buffer);
    const struct request *request = port->slots[number].request;
    struct atapi_packet packet;
    struct atapi_sense sense;
    const uint8_t *data;

    atapi_build_request_sense(&packet);
    long moved = ahci_port_packet(port, &packet, ATAPI_QUICK_MS, &data);
    if (moved < 0 || atapi_parse_sense(&sense, data, (size_t)moved) != 0) {
        port_warn(port, "error, and the drive does not say why: %s", registers);
        *status = 0;
        return moved >= 0 || ahci_recover_restart(port, true);
    }
    enum atapi_verdict verdict = atapi_judge(&sense);
    atapi_show_sense(&t, &sense);
    if (sense.key == SENSE_UNIT_ATTENTION || sense.key == SENSE_NOT_READY) {
        port_dbg(port, "%s", buffer);
    } else {
        port_warn(port, "error: %s: %s", buffer, registers);
    }
    *status = cdrom_verdict(request, verdict);
    return true;
}

static void atapi_end(struct ahci_port *port, unsigned number, int status)
{
    const struct request *request = port->slots[number].request;
    if (request->op == REQ_OP_READ) {
        port_err(port, "read of %u sectors at %llu failed: %s", blk_rq_sectors(request),
                 (unsigned long long)blk_rq_pos(request), strerror(status));
    }
    ahci_slot_complete(port, number, status);
}

bool ahci_atapi_replay(struct ahci_port *port, unsigned number, bool timed_out,
                       const char *registers)
{
    const struct request *request = port->slots[number].request;
    unsigned tries = 1, overdue = timed_out;
    struct atapi_packet built;

    for (;;) {
        int status = 0;
        if (!timed_out && !atapi_ask(port, number, registers, &status)) {
            atapi_end(port, number, -EIO);
            return false;
        }
        if (status == -EAGAIN && request->op == REQ_OP_READ) {
            msleep(ATAPI_WAIT_MS);
            status = 0;
        }
        if (status == 0 && (tries >= AHCI_MAX_TRIES || overdue >= 2)) {
            status = -EIO;
        }
        if (status != 0) {
            atapi_end(port, number, status);
            return true;
        }
        atapi_write_slot(port, number, cdrom_packet_of(request, &built));
        port->counters.retries++;
        int error = ahci_port_execute(port, number, ahci_command_timeout_ms(request));
        if (error == 0) {
            ahci_slot_complete(port, number, 0);
            return true;
        }
        timed_out = error == -ETIMEDOUT;
        tries++;
        overdue += timed_out;
        if (!ahci_recover_restart(port, timed_out)) {
            atapi_end(port, number, -EIO);
            return false;
        }
    }
}

// ---- coming -------------------------------------------------------------------------------------

int ahci_atapi_add(struct ahci_port *port)
{
    struct gendisk *disk = alloc_disk(&atapi_mq_ops, 1, 1);
    if (disk == NULL) {
        return -ENOMEM;
    }
    cdrom_describe(disk, &port->drive);
    int error = ahci_disk_attach(port, disk, "sr");
    if (error == 0) {
        port_info(port, "%s: %s, %s", disk->name, disk->model, disk->firmware);
        cdrom_look(disk);
    }
    return error;
}
