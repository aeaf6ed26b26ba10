// A port's engine: memory, link, start, stop, and commands that are waited for.
//
// A port is two machines. One receives FISes (frames of the SATA link) into memory, the other walks
// the command list and sends what it finds. They are started and stopped in a fixed order, because
// the second needs the first:
//
//   FRE=1 ──FR──> ST=1 ──CR──> commands ──> ST=0 ──(CR=0)──> FRE=0 ──(FR=0)──> memory may be freed
//
// Memory of a port, one page and one area, both coherent:
//
//   page    [ command list: 32 headers ][ received FISes ][ table for IDENTIFY ][ IDENTIFY data ]
//   tables  [ slot 0: FIS, 248 PRDs ][ slot 1 ] ... a page each
//
// Headers and tables are written by us and read by the device; received FISes, `transferred` and
// IDENTIFY data are written by the device. Nothing is read back but what the device wrote, and that
// is checked.
//
// Every wait here has a bound; a device that keeps us waiting longer is stopped or given up, never
// waited for again.
//
// AHCI 1.3.1, 10.1 (initialisation), 10.3 (start and stop), 10.4.2 (COMRESET). Context: thread.
// Previous: ahci.c. Next: ahci_disk.c, where commands flow by interrupt.
#include "ahci.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>
#include <mm/slab.h>
#include <sched/sleep.h>

enum {
    ENGINE_STOP_MS = 500,       // 10.3.2: CR clears within 500 ms
    LINK_UP_MS = 1000,          // generous: 10.4.2 has PHYs find each other within 10 ms
    DEVICE_READY_MS = 10000,    // a disk that spins up
    IDENTIFY_TIMEOUT_MS = 1000, // answered from the disk's own memory
    SPIN_US = 200,              // fast answers are waited for awake
};

// ---- memory -------------------------------------------------------------------------------------

struct ahci_port *ahci_port_create(struct ahci_hba *hba, unsigned index)
{
    struct ahci_port *port = kzalloc(sizeof(*port), GFP_KERNEL);
    if (port == NULL) {
        return NULL;
    }
    port->hba = hba;
    port->index = index;
    port->registers = (volatile uint8_t __iomem *)hba->registers + AHCI_PORT_BASE +
                      (size_t)index * AHCI_PORT_SIZE;
    spin_lock_init(&port->lock, "ahci port");
    INIT_WORK(&port->recover, ahci_recover_work);
    port->page = dma_alloc_coherent(hba->dev, AHCI_PAGE_SIZE, &port->page_bus);
    if (port->page == NULL) {
        goto no_page;
    }
    port->tables =
        dma_alloc_coherent(hba->dev, (size_t)hba->slot_count * AHCI_TABLE_SIZE, &port->tables_bus);
    if (port->tables == NULL) {
        goto no_tables;
    }
    return port;

no_tables:
    dma_free_coherent(hba->dev, AHCI_PAGE_SIZE, port->page, port->page_bus);
no_page:
    kfree(port);
    return NULL;
}

// 10.3.2: FRE may only be cleared when the command list does not run.
static bool port_stop_receiving(struct ahci_port *port)
{
    port_wr(port, AHCI_PXCMD, port_rd(port, AHCI_PXCMD) & ~AHCI_PXCMD_FRE);
    return ahci_port_wait(port, AHCI_PXCMD, AHCI_PXCMD_FR, 0, ENGINE_STOP_MS);
}

void ahci_port_destroy(struct ahci_port *port)
{
    struct ahci_hba *hba = port->hba;
    port_wr(port, AHCI_PXIE, 0);
    if (ahci_port_stop(port) != 0 || !port_stop_receiving(port)) {
        // The device might still write there: memory that is never given out again does no harm.
        port_err(port, "does not stop, %u KiB are left to it",
                 (hba->slot_count * AHCI_TABLE_SIZE + AHCI_PAGE_SIZE) / 1024);
        return;
    }
    dma_free_coherent(hba->dev, (size_t)hba->slot_count * AHCI_TABLE_SIZE, port->tables,
                      port->tables_bus);
    dma_free_coherent(hba->dev, AHCI_PAGE_SIZE, port->page, port->page_bus);
    kfree(port);
}

// ---- waiting ------------------------------------------------------------------------------------

// The driver goes, and the port has no disk yet: nobody needs the answer. Where there is a disk,
// its requests are to end as they would have; a command that is given up while the device does it
// could be taken for a failed one.
static bool port_hurries(const struct ahci_port *port)
{
    return READ_ONCE(port->hba->stopping) && READ_ONCE(port->state) == AHCI_PORT_STOPPED;
}

// Waits until the masked register has this value: awake for a moment, then asleep.
bool ahci_port_wait(const struct ahci_port *port, enum ahci_port_register reg, uint32_t mask,
                    uint32_t value, uint32_t timeout_ms)
{
    uint64_t deadline_ns = clock_ns() + (uint64_t)timeout_ms * 1000000;
    if (wait_until((port_rd(port, reg) & mask) == value, SPIN_US)) {
        return true;
    }
    while (clock_ns() < deadline_ns && !port_hurries(port)) {
        msleep(1);
        if ((port_rd(port, reg) & mask) == value) {
            return true;
        }
    }
    return (port_rd(port, reg) & mask) == value;
}

// ---- the engine ---------------------------------------------------------------------------------

// 10.3.2
int ahci_port_stop(struct ahci_port *port)
{
    uint32_t command = port_rd(port, AHCI_PXCMD);
    if (command & (AHCI_PXCMD_ST | AHCI_PXCMD_CR)) {
        port_wr(port, AHCI_PXCMD, command & ~AHCI_PXCMD_ST);
    }
    return ahci_port_wait(port, AHCI_PXCMD, AHCI_PXCMD_CR, 0, ENGINE_STOP_MS) ? 0 : -EIO;
}

// Points the port at its memory and lets it receive. The signature that a device sends after a
// reset comes this way. The addresses may only change while nothing is received (10.3.1).
static void port_receive(struct ahci_port *port)
{
    uint64_t list = port->page_bus.value + AHCI_PAGE_LIST;
    uint64_t rfis = port->page_bus.value + AHCI_PAGE_RFIS;
    uint32_t command = port_rd(port, AHCI_PXCMD);
    if (command & AHCI_PXCMD_FRE) {
        return;
    }
    port_wr(port, AHCI_PXCLB, (uint32_t)list);
    port_wr(port, AHCI_PXCLBU, (uint32_t)(list >> 32));
    port_wr(port, AHCI_PXFB, (uint32_t)rfis);
    port_wr(port, AHCI_PXFBU, (uint32_t)(rfis >> 32));
    command = (command & ~AHCI_PXCMD_ICC_MASK) | AHCI_PXCMD_ICC_ACTIVE;
    port_wr(port, AHCI_PXCMD, command | AHCI_PXCMD_FRE | AHCI_PXCMD_SUD | AHCI_PXCMD_POD);
}

static void port_clear_errors(struct ahci_port *port)
{
    port_wr(port, AHCI_PXSERR, UINT32_MAX); // first: some PxIS bits only mirror it (3.3.5)
    port_wr(port, AHCI_PXIS, UINT32_MAX);
    ahci_wr(port->hba, AHCI_IS, BIT(port->index));
}

// 10.3.1: a device that answers, BSY and DRQ clear, then ST.
int ahci_port_start(struct ahci_port *port)
{
    uint32_t busy = ATA_STATUS_BSY | ATA_STATUS_DRQ;
    port_receive(port);
    port_clear_errors(port);
    if (AHCI_SSTS_DET(port_rd(port, AHCI_PXSSTS)) != AHCI_DET_LINK) {
        return -ENODEV;
    }
    if (!ahci_port_wait(port, AHCI_PXTFD, busy, 0, DEVICE_READY_MS)) {
        return -EIO;
    }
    port_wr(port, AHCI_PXCMD, port_rd(port, AHCI_PXCMD) | AHCI_PXCMD_ST);
    return ahci_port_wait(port, AHCI_PXCMD, AHCI_PXCMD_CR, AHCI_PXCMD_CR, ENGINE_STOP_MS) ? 0
                                                                                          : -EIO;
}

bool ahci_port_runs(const struct ahci_port *port)
{
    uint32_t runs = AHCI_PXCMD_ST | AHCI_PXCMD_FRE;
    uint64_t list = port->page_bus.value + AHCI_PAGE_LIST;
    return (port_rd(port, AHCI_PXCMD) & runs) == runs &&
           port_rd(port, AHCI_PXCLB) == (uint32_t)list;
}

// 10.4.2: DET = 1 for at least a millisecond sends COMRESET, DET = 0 lets the PHYs find each other
// again.
int ahci_port_reset(struct ahci_port *port)
{
    port_receive(port);
    port_wr(port, AHCI_PXSCTL, AHCI_SCTL_IPM_NONE | AHCI_SCTL_DET_RESET);
    msleep(1);
    port_wr(port, AHCI_PXSCTL, AHCI_SCTL_IPM_NONE);
    if (!ahci_port_wait(port, AHCI_PXSSTS, 0xf, AHCI_DET_LINK, LINK_UP_MS)) {
        return -ENODEV;
    }
    port_clear_errors(port);
    if (!ahci_port_wait(port, AHCI_PXTFD, ATA_STATUS_BSY | ATA_STATUS_DRQ, 0, DEVICE_READY_MS)) {
        return -EIO;
    }
    return 0;
}

// ---- commands that are waited for ---------------------------------------------------------------

// From our shadow, whatever stands there now.
void ahci_slot_write_header(struct ahci_port *port, unsigned slot)
{
    struct ahci_command_header *list = (void *)(port->page + AHCI_PAGE_LIST);
    ahci_build_header(&list[slot], port->tables_bus.value + (uint64_t)slot * AHCI_TABLE_SIZE,
                      port->slots[slot].prd_count, port->slots[slot].write);
}

int ahci_port_execute(struct ahci_port *port, unsigned slot, uint32_t timeout_ms)
{
    uint64_t deadline_ns = clock_ns() + (uint64_t)timeout_ms * 1000000;
    uint64_t awake_ns = clock_ns() + SPIN_US * 1000;
    uint32_t bit = BIT(slot), issued, cause;

    port_clear_errors(port);
    dma_publish();
    port_wr(port, AHCI_PXCI, bit);
    for (;;) {
        issued = port_rd(port, AHCI_PXCI);
        cause = port_rd(port, AHCI_PXIS);
        if ((issued & bit) == 0 || (cause & AHCI_PXIS_STOPS) != 0 || clock_ns() >= deadline_ns ||
            port_hurries(port)) {
            break;
        }
        if (clock_ns() < awake_ns) {
            cpu_relax();
        } else {
            msleep(1);
        }
    }
    // What PxTFD says of a command that is not over is what it said of the one before.
    if ((issued & bit) != 0 && (cause & AHCI_PXIS_STOPS) == 0) {
        return -ETIMEDOUT;
    }
    uint32_t status = port_rd(port, AHCI_PXTFD);
    if ((cause & AHCI_PXIS_STOPS) != 0 || (status & (ATA_STATUS_ERR | ATA_STATUS_DF)) != 0) {
        return -EIO;
    }
    dma_observe();
    return 0;
}

// Runs what stands in the table of its own in slot 0, with `bytes` of answer. How many came, or
// -errno. Slot 0's header may belong to a command that waits to be tried again: it gets it back.
static long port_execute_own(struct ahci_port *port, uint32_t flags, uint32_t bytes,
                             uint32_t timeout_ms)
{
    struct ahci_command_header *list = (void *)(port->page + AHCI_PAGE_LIST);
    uint8_t *table = port->page + AHCI_PAGE_IDENTIFY_TABLE;

    memset(port->page + AHCI_PAGE_IDENTIFY_DATA, 0, ATA_IDENTIFY_WORDS * 2);
    ahci_build_prd((void *)(table + AHCI_TABLE_PRDT),
                   port->page_bus.value + AHCI_PAGE_IDENTIFY_DATA, bytes);
    ahci_build_header(&list[0], port->page_bus.value + AHCI_PAGE_IDENTIFY_TABLE, 1, false);
    list[0].flags |= flags;
    int error = ahci_port_execute(port, 0, timeout_ms);
    uint32_t moved = READ_ONCE(list[0].transferred);
    ahci_slot_write_header(port, 0);
    return error != 0 ? error : (long)min(moved, bytes);
}

// A disk may send less than a page without an error: the rest is zeroes, and what is read of it is
// checked.
int ahci_port_read_page(struct ahci_port *port, const struct ata_registers *regs,
                        const uint8_t **page)
{
    *page = port->page + AHCI_PAGE_IDENTIFY_DATA;
    ahci_build_fis(port->page + AHCI_PAGE_IDENTIFY_TABLE + AHCI_TABLE_FIS, regs);
    long moved = port_execute_own(port, 0, ATA_IDENTIFY_WORDS * 2, IDENTIFY_TIMEOUT_MS);
    return moved < 0 ? (int)moved : 0;
}

long ahci_port_packet(struct ahci_port *port, const struct atapi_packet *packet,
                      uint32_t timeout_ms, const uint8_t **data)
{
    *data = port->page + AHCI_PAGE_IDENTIFY_DATA;
    ahci_build_packet(port->page + AHCI_PAGE_IDENTIFY_TABLE, packet, &port->drive);
    return port_execute_own(port, AHCI_HEADER_ATAPI, packet->length, timeout_ms);
}

int ahci_port_identify(struct ahci_port *port, struct ata_identity *identity, const char **why)
{
    const uint8_t *page;
    struct ata_registers regs = {.command = ATA_IDENTIFY_DEVICE};
    int error = ahci_port_read_page(port, &regs, &page);
    if (error != 0) {
        *why = error == -ETIMEDOUT ? "no answer to IDENTIFY DEVICE" : "IDENTIFY DEVICE failed";
        return error;
    }
    return ata_parse_identity(identity, page, why);
}

int ahci_port_read_log(struct ahci_port *port, uint8_t log, const uint8_t **page)
{
    struct ata_registers regs;
    ata_build_read_log(&regs, log);
    return ahci_port_read_page(port, &regs, page);
}
