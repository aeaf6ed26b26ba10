// The IDE driver's own structures: a channel with up to two disks, which does one command at a
// time.
//
//   ide_pci.c   finds the controller on the PCI bus      thread
//   ide.c       the channel: probing, interrupts, reset  thread; hard irq
//   ide_disk.c  a disk: requests, PIO and DMA            any; BLOCK softirq
//   ide_atapi.c a CD drive: packets, by PIO              the same
//   ide_prd.c   the bus master's list: pure
#pragma once

#include <contract/device.h>
#include <core/io.h>
#include <core/spinlock.h>
#include <irq/irq.h>
#include <sched/mutex.h>
#include <defer/timer.h>
#include <dma/dma.h>
#include <dev/block.h>

#include "../ata/ata.h"
#include "../ata/atapi.h"
#include "ide_prd.h"

enum {
    IDE_DISKS = 2,
    IDE_MAX_SEGMENTS = 128,
    IDE_MAX_PRDS = 2 * IDE_MAX_SEGMENTS, // each segment may be cut once
    IDE_MAX_SECTORS = 256,               // of one command: what 28-bit commands have as well
    IDE_MAX_TRIES = 3,
    IDE_TIMEOUT_MS = 10000,
};

// The way in which the next command moves its data.
enum ide_mode { IDE_PIO, IDE_DMA };

struct ide_disk {
    struct ide_channel *channel;     // I
    bool second;                     // I: device 1
    struct ata_identity identity;    // I
    struct gendisk *disk;            // I: NULL: there is none
    bool is_atapi;                   // I: a CD drive,
    struct atapi_identity drive;     // I: which says this of itself
    uint8_t sense[ATAPI_SENSE_SIZE]; // L of the channel: why its last command failed
};

// What the channel does now.
struct ide_command {
    struct request *request;    // L: NULL: nothing
    struct ide_disk *disk;      // L
    enum ide_mode mode;         // L
    bool write;                 // L
    uint32_t left;              // L: PIO: bytes still to move
    struct request *part;       // L: PIO: where the next byte goes: of the merged requests,
    unsigned segment;           // L: its segment,
    uint32_t offset;            // L: and the byte in it
    bool moving;                // L: the softirq moves data now, without the lock: the command is
                                //    its own, part, segment and offset too, until it is done
    uint32_t wanted, excess;    // L: of that: bytes for the request, and to be thrown away
    bool offering;              // L: it waits for what it must have first: ide_offer_locked
    bool sensing;               // L: of a CD drive: it is asked why the request failed
    struct atapi_packet packet; // L: of a CD drive: the one under way
};

struct ide_channel {
    struct device *dev;        // I: the controller
    unsigned index;            // I: 0 primary, 1 secondary
    uint16_t command, control; // I: ports
    uint16_t bus_master;       // I: ports; 0: PIO only
    int irq;                   // I
    struct spinlock lock;
    struct ide_command now;    // L
    struct timer_list offer;   // while now.offering
    bool resetting;            // L: nobody else may speak to it
    uint32_t interrupted;      // A: the handler has something for the softirq
    uint8_t status, bm_status; // H: as the handler found them
    struct ide_prd *prds;      // L; D reads it
    dma_addr_t prds_bus;       // I
    struct ide_disk disks[IDE_DISKS];
    struct {
        uint64_t interrupts, foreign;      // H
        uint64_t pio_sectors, dma_sectors; // L
        uint64_t words, descriptors;       // L: what the CPU did for them: accesses to the data
        uint64_t deaf_words;               // L: port, and how many with interrupts off
        uint64_t errors, timeouts, resets; // L
        uint64_t lost_interrupts;          // L
        uint64_t looks;                    // L: for a drive that did not take at once what it must
    } counters;
};

extern uint32_t ide_timeout_ms; // I: boot option ide.timeout=
extern enum ide_mode ide_mode;  // A: boot option ide=, /proc/driver/ide
extern bool ide_lba28;          // A: the same: commands of 28 bits, though the disk has others

static inline uint8_t ide_rd(const struct ide_channel *channel, enum ide_register reg)
{
    return inb((uint16_t)(channel->command + reg));
}
static inline void ide_wr(const struct ide_channel *channel, enum ide_register reg, uint8_t value)
{
    outb(value, (uint16_t)(channel->command + reg));
}
static inline uint8_t ide_alternate_status(const struct ide_channel *channel)
{
    return inb(channel->control);
}

// ---- ide.c ----

// Looks for disks and publishes them. How many; -errno: no interrupt, no memory. Context: thread.
int ide_channel_start(struct ide_channel *channel);
// False: the block layer did not get everything back; then the channel's memory must stay. Context:
// thread.
bool ide_channel_stop(struct ide_channel *channel);
// Waits (bounded, polling) until the bits of `mask` are `want` and BSY is clear. 0 or -ETIMEDOUT.
int ide_wait(const struct ide_channel *channel, uint8_t mask, uint8_t want, unsigned timeout_us);
// The command has been written: the drive now gets what it must have before it works, the packet or
// a write's first sector, as soon as it asks for it. Caller holds the lock.
void ide_offer_locked(struct ide_channel *channel);
void ide_select(const struct ide_channel *channel, const struct ide_disk *disk, uint8_t lba_high);
// Both devices start anew; what they did is over. Context: thread; `resetting` is set.
void ide_reset(struct ide_channel *channel);
// The disk has interrupted, and nobody came: as if he had come now. Context: thread.
bool ide_find_lost_interrupt(struct ide_channel *channel);
void ide_show(struct ide_channel *channel, struct text *t);

// ---- ide_disk.c ----

int ide_disk_add(struct ide_disk *disk);
// What the last interrupt asks for: nothing more now, data is to be moved, the command is over.
enum ide_step { IDE_STEP_WAIT, IDE_STEP_MOVE, IDE_STEP_OVER };
// So many bytes, an even number and at most what is left, are to be moved next between the data
// register and the memory of the channel's request, and `excess` more read and thrown away: the
// caller goes on with IDE_STEP_MOVE. Caller holds the lock.
void ide_plan_move_locked(struct ide_channel *channel, uint32_t bytes, uint32_t excess);
// Moves what was planned; holds the lock before and after, not meanwhile. Context: softirq.
void ide_move_unlocked(struct ide_channel *channel, unsigned long *flags);
// For a write's first sector. Caller holds the lock, and keeps it.
void ide_move_first_locked(struct ide_channel *channel);
// Has the channel interrupted since this was asked last, for a command of this device that nobody
// resets? Caller holds the lock.
bool ide_interrupted_locked(const struct ide_disk *disk);
// What a failed command's request gets: some more tries, or -EIO; a good one is done. No lock.
void ide_end(struct ide_disk *disk, struct request *request, bool failed);
// The channel is free for the other device. No lock.
void ide_kick_other(const struct ide_disk *disk);
enum blk_eh_timer_return ide_timeout(struct request *request);
bool ide_disk_remove(struct ide_disk *disk);

// ---- ide_atapi.c ----

// The drive asks for something: it gets the packet. False: it was something else. Caller holds the
// lock.
bool ide_atapi_hand_over_locked(struct ide_channel *channel);
// IDENTIFY PACKET DEVICE is in the page. 0, -errno; *why where there is more to say.
int ide_atapi_add(struct ide_disk *disk, const void *page, const char **why);
