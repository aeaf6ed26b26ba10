// The AHCI driver's own structures: a controller with up to 32 ports, a port with up to 32 command
// slots.
//
//   ahci_pci.c      finds the controller on the PCI bus           ─┐ thread
//   ahci.c          the controller: hand-over, reset, interrupt    │ thread; hard irq
//   ahci_port.c     a port's engine: link, start, stop, commands that are waited for   thread
//   ahci_disk.c     the port as a disk: submit, reap, time-outs    any; BLOCK softirq; work item
//   ahci_atapi.c    the port as a CD drive                         the same
//   ahci_recover.c  what to do after an error                      work item
//   ahci_cmd.c      bytes of commands: pure
#pragma once

#include <contract/device.h>
#include <core/io.h>
#include <core/spinlock.h>
#include <irq/irq.h>
#include <sched/completion.h>
#include <defer/work.h>
#include <dma/dma.h>
#include <dev/block.h>

#include "ahci_cmd.h"

enum {
    AHCI_TABLE_SIZE = 4096, // per slot: FIS and AHCI_MAX_PRDS entries
    AHCI_MAX_PRDS = (AHCI_TABLE_SIZE - AHCI_TABLE_PRDT) / AHCI_PRD_SIZE, // 248
    AHCI_MAX_SECTORS = 65535,                                            // of one command
    AHCI_MAX_TRIES = 3,
    AHCI_TIMEOUT_MS = 10000, // of a command, unless the boot option ahci.timeout says otherwise

    // What lies where in a port's page.
    AHCI_PAGE_LIST = 0,
    AHCI_PAGE_RFIS = 1024,
    AHCI_PAGE_IDENTIFY_TABLE = 1280, // a table of its own, so that IDENTIFY needs no free slot
    AHCI_PAGE_IDENTIFY_DATA = 2048,
    AHCI_PAGE_SIZE = 4096,
};

enum ahci_port_state {
    AHCI_PORT_STOPPED,    // no disk yet, or no longer
    AHCI_PORT_RUNNING,    // commands go out, completions come in
    AHCI_PORT_RECOVERING, // the work item has the port; new requests wait in the block layer
    AHCI_PORT_DEAD,       // did not come back: everything gets -EIO
};

// Our shadow of a command. What the device wrote is compared with this, never the other way round.
struct ahci_slot {
    struct request *request; // NULL: the slot is free
    uint32_t bytes;          // that must be transferred
    uint16_t prd_count;
    bool write;
    bool queued; // an NCQ command
};

struct ahci_counters { // L; but commands only, the rest is the recovery's and the time-out's alone
    uint64_t commands, queued, errors, retries, timeouts, resets, lost_interrupts, requeues;
};

// A slot is a tag of the block layer's queue. It is in none or one of these sets: filled (waits for
// the doorbell of the batch that it belongs to), issued (the device's, as far as we know), or with
// whoever took it out of issued: the softirq, or the recovery.
struct ahci_port {
    struct ahci_hba *hba;             // I
    unsigned index;                   // I
    volatile void __iomem *registers; // I
    struct blk_mq_hw_ctx *hctx;       // I before the port's interrupts are on
    struct spinlock lock;             // taken with interrupts off: submit may come from anywhere
    enum ahci_port_state state;       // L
    uint32_t filled, issued;          // L: a bit a slot
    bool queued;                      // L: what is filled and issued are NCQ commands: all, or none
    struct ahci_slot slots[AHCI_MAX_SLOTS]; // see above
    uint32_t cause;                         // A: PxIS bits, from the handler to the softirq
    uint32_t failed;                        // A: requests that ended with an error
    uint32_t error_cause;                   // L: PxIS bits, to the recovery
    uint32_t overdue;    // L: slots whose time is over, to the recovery; 0: an error
    bool engine_fragile; // I: a quirk, see ahci_recover.c
    struct work_struct recover;
    struct ahci_counters counters;

    uint8_t *page; // I: list, received FISes, IDENTIFY; coherent; D
    uint8_t *tables;
    dma_addr_t page_bus, tables_bus; // I
    struct ata_identity identity;    // I once the disk is added; of a CD drive the model only
    bool is_atapi;                   // I once the disk is added: a CD drive,
    struct atapi_identity drive;     // I: which says this of itself, model by INQUIRY
    struct gendisk *disk;            // I once the disk is added
};

struct ahci_hba {
    struct device *dev;               // I
    volatile void __iomem *registers; // I
    uint32_t capabilities;            // I
    uint32_t implemented;             // I: a bit a port
    uint32_t linked;                  // I during the scan: ports that had a device before the reset
    unsigned slot_count;              // I: 1..32
    int irq;                          // I: -1 before request_irq
    char irq_name[40];                // I: "ahci[0000:00:1f.2]"
    bool stopping;                    // A: the driver is being removed
    struct ahci_port
        *ports[AHCI_MAX_PORTS]; // I before the port's interrupts are on; NULL: nothing there
    void (*dma_off)(struct ahci_hba *hba); // I: takes the right to touch memory away
    struct work_struct scan;
    struct completion scanned;
    struct list_head link; // L of ahci.c's list, for /proc
};

static inline uint32_t ahci_rd(const struct ahci_hba *hba, enum ahci_register reg)
{
    return readl((const volatile uint8_t __iomem *)hba->registers + reg);
}

static inline void ahci_wr(struct ahci_hba *hba, enum ahci_register reg, uint32_t value)
{
    writel(value, (volatile uint8_t __iomem *)hba->registers + reg);
}

static inline uint32_t port_rd(const struct ahci_port *port, enum ahci_port_register reg)
{
    return readl((const volatile uint8_t __iomem *)port->registers + reg);
}

static inline void port_wr(struct ahci_port *port, enum ahci_port_register reg, uint32_t value)
{
    writel(value, (volatile uint8_t __iomem *)port->registers + reg);
}

#define port_info(port, format, ...) \
    dev_info((port)->hba->dev, "port %u: " format, (port)->index, ##__VA_ARGS__)
#define port_warn(port, format, ...) \
    dev_warn((port)->hba->dev, "port %u: " format, (port)->index, ##__VA_ARGS__)
#define port_err(port, format, ...) \
    dev_err((port)->hba->dev, "port %u: " format, (port)->index, ##__VA_ARGS__)
#define port_dbg(port, format, ...) \
    dev_dbg((port)->hba->dev, "port %u: " format, (port)->index, ##__VA_ARGS__)

extern uint32_t ahci_timeout_ms; // I: boot option ahci.timeout

// Which commands move data: the best that disk and controller can, at most this. All but the first
// are for teaching and tests.
enum ahci_mode {
    AHCI_MODE_NCQ,
    AHCI_MODE_DMA48,
    AHCI_MODE_DMA28, // 28-bit addresses: 128 GiB, 256 sectors
    AHCI_MODE_PIO48, // PIO is the protocol on the wire; the controller moves the data all the same
    AHCI_MODE_PIO28,
    AHCI_MODE_COUNT,
};
extern enum ahci_mode ahci_mode;            // I: boot option ahci.mode
extern enum blk_completion ahci_completion; // I: boot option ahci.completion

// ahci.c. Takes the controller over and starts looking for disks in the background; waits a moment
// for the usual case. 0 or -errno, and then nothing is left behind. Context: thread.
int ahci_hba_start(struct ahci_hba *hba, size_t registers_size, int irq);
// Gives everything back: disks gone, memory freed, controller quiet. False: a port never gave its
// commands back, and *hba must stay for it. Context: thread.
bool ahci_hba_stop(struct ahci_hba *hba);

// ahci_port.c: the engine. Context: thread, port not running (or in recovery).
struct ahci_port *ahci_port_create(struct ahci_hba *hba, unsigned index); // NULL: no memory
void ahci_port_destroy(struct ahci_port *port); // 0 commands under way; stops the engine, frees
bool ahci_port_wait(const struct ahci_port *port, enum ahci_port_register reg, uint32_t mask,
                    uint32_t value, uint32_t timeout_ms);
int ahci_port_start(struct ahci_port *port); // commands are processed from here on; 0, -EIO
int ahci_port_stop(struct ahci_port *port);  // the device no longer touches memory for commands
// Is it still as ahci_port_start left it? A controller that was reset, by itself or by somebody
// else, has nothing in PxCI and PxSACT either, and nothing of that is to be believed. Context: any.
bool ahci_port_runs(const struct ahci_port *port);
int ahci_port_reset(
    struct ahci_port *port); // COMRESET; the engine must be stopped; 0, -ENODEV, -EIO
// Runs the command in a slot and waits for it, interrupts of the port off. 0, -EIO, -ETIMEDOUT.
int ahci_port_execute(struct ahci_port *port, unsigned slot, uint32_t timeout_ms);
int ahci_port_identify(struct ahci_port *port, struct ata_identity *identity, const char **why);
void ahci_slot_write_header(struct ahci_port *port, unsigned slot);
// A command that answers with 512 bytes, into the port's page of data. 0, -EIO, -ETIMEDOUT. Where
// they are read: *page.
int ahci_port_read_page(struct ahci_port *port, const struct ata_registers *regs,
                        const uint8_t **page);
int ahci_port_read_log(struct ahci_port *port, uint8_t log, const uint8_t **page);
// The same with a packet, whose data is at most 512 bytes. How many came, at most what was asked
// for; -EIO, -ETIMEDOUT.
long ahci_port_packet(struct ahci_port *port, const struct atapi_packet *packet,
                      uint32_t timeout_ms, const uint8_t **data);

// ahci_disk.c
// Identity is known. 0 or -errno; then, where port->disk is set, ahci_disk_remove is due.
int ahci_disk_add(struct ahci_port *port);
// The steps of it that a CD drive shares: the disk, named by prefix, gets the port's interrupts.
int ahci_disk_attach(struct ahci_port *port, struct gendisk *disk, const char *prefix);
// Waits for everything under way. False: something never came back, and the port must be left to
// it.
bool ahci_disk_remove(struct ahci_port *port);
// Gives a slot that was taken out of `issued` back, and ends its request.
void ahci_slot_complete(struct ahci_port *port, unsigned slot, int status);
// The same, but the request is started again later.
void ahci_slot_requeue(struct ahci_port *port, unsigned slot);
// Makes an unqueued command of the request in a slot, whose memory is mapped.
void ahci_slot_unqueue(struct ahci_port *port, unsigned slot);
uint32_t ahci_command_timeout_ms(const struct request *request);
// The ways of a request, for ahci_atapi.c. Hands the memory of a slot's request to the device. 0 or
// -errno.
int ahci_slot_map(struct ahci_port *port, unsigned slot);
// What was written into a slot goes to the device, with `last` at once. 0; -EBUSY, -EIO: the slot
// is free again, its memory taken back.
int ahci_slot_issue(struct ahci_port *port, unsigned slot, bool last);
unsigned ahci_reap(struct blk_mq_hw_ctx *hctx, unsigned budget);
enum blk_eh_timer_return ahci_timeout(struct request *request);

// ahci_atapi.c
int ahci_atapi_identify(struct ahci_port *port,
                        const char **why);       // IDENTIFY and INQUIRY; 0, -errno
int ahci_atapi_add(struct ahci_port *port);      // as ahci_disk_add
bool ahci_atapi_is_same(struct ahci_port *port); // after a reset: the drive that it was?
// What ahci_recover.c does for a disk's command: tries the one in a slot until it works or is to
// fail. `registers`: what they said when it failed. False: the port did not survive it. Context:
// work item, the engine runs.
bool ahci_atapi_replay(struct ahci_port *port, unsigned slot, bool timed_out,
                       const char *registers);

// ahci_recover.c
void ahci_recover_quirks(struct ahci_port *port); // identity is known
void ahci_recover_begin_locked(struct ahci_port *port, uint32_t cause, bool timed_out);
void ahci_recover_work(struct work_struct *work);
// Lets the port's interrupts out, and says so if they were not. Caller holds the port's lock.
void ahci_recover_interrupts_locked(struct ahci_port *port);
// Stops the engine and starts it again, with a COMRESET between where that is needed. False: it
// does not come back.
bool ahci_recover_restart(struct ahci_port *port, bool reset);
