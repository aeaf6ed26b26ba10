// The e1000 driver's state, shared by what moves frames (e1000.c), the chip (e1000_hw.c), the
// service (e1000_service.c), its views (e1000_proc.c) and its bus part (e1000_pci.c).
#pragma once

#include <contract/device.h>
#include <core/io.h>
#include <dma/dma.h>
#include <defer/work.h>
#include <dev/netdev.h>

#include "e1000_ring.h"

enum { E1000_RING_SIZE = 256 }; // descriptors: a multiple of 8 (SDM 13.4.27); 4 KiB of them

// What may interrupt. TXQE is left out: TXDW says the same with a descriptor to show for it.
#define E1000_INT_RX      (E1000_INT_RXT0 | E1000_INT_RXO | E1000_INT_RXDMT0)
#define E1000_INT_POLL    (E1000_INT_RX | E1000_INT_TXDW)
#define E1000_INT_ENABLED (E1000_INT_POLL | E1000_INT_LSC)

// The statistics registers that the service harvests.
enum {
    E1000_STAT_CRC,
    E1000_STAT_RX_ERROR,
    E1000_STAT_MISSED,
    E1000_STAT_COLLISION,
    E1000_STAT_NO_BUFFER,
    E1000_STAT_UNDERSIZE,
    E1000_STAT_OVERSIZE,
    E1000_STATISTICS,
};

// What kind of chip it is.
enum {
    E1000_HAS_EERD =
        1, // EEPROM by register; the 82544 wants its bits banged, so there we trust RAL and RAH
    E1000_HAS_ITR = 2, // interrupt throttling
};

struct e1000_stats {         // beside netdev.stats; see e1000_proc.c
    uint64_t irqs;           // H: interrupts that were ours
    uint64_t polls;          // C: of NAPI
    uint64_t rx_too_long;    // C: parts of frames longer than a buffer
    uint64_t rx_bad;         // C: frames that the descriptor calls bad
    uint64_t rx_no_memory;   // C: frames dropped because there was no fresh buffer
    uint64_t tx_hangs;       // service
    uint64_t resets;         // service
    uint64_t missed_irqs;    // service: work was ready and nobody had said so
    uint64_t link_changes;   // service
    uint64_t missed_packets; // service: MPC
    uint64_t no_buffers;     // service: RNBC
};

struct e1000 {
    // I: set by e1000_attach
    volatile void __iomem *regs;
    struct device *dev;
    int irq;
    unsigned features;

    struct net_device netdev;
    struct napi_struct napi;
    struct delayed_work
        service;  // link, hang and statistics: every second, and at once when the link changes
    bool running; // A: between open and stop
    bool gone;    // A: the registers read all ones

    struct e1000_ring rx; // C: NAPI poll
    struct e1000_ring tx; // L of netdev.tx_lock
    bool rx_kick;         // A: write RDT at the next poll although nothing changed

    // I while running: the rings' memory
    void *rx_descriptors, *tx_descriptors;
    dma_addr_t rx_bus, tx_bus;
    struct e1000_slot *slots; // receive, then transmit

    // service only
    uint32_t
        statistics[E1000_STATISTICS]; // what a register read last, where reading does not clear it
    uint64_t irqs_before;             // stats.irqs when it last looked
    bool suspect_missed;              // work was ready without an interrupt, once
    struct e1000_stats stats;
};

static inline uint32_t e1000_rd(const struct e1000 *e, enum e1000_register reg)
{
    return readl((const volatile uint8_t __iomem *)e->regs + reg);
}

static inline void e1000_wr(struct e1000 *e, enum e1000_register reg, uint32_t value)
{
    writel(value, (volatile uint8_t __iomem *)e->regs + reg);
}

// Tells the device of the receive slots up to tail.
static inline void e1000_rx_doorbell(struct e1000 *e)
{
    dma_publish();
    e1000_wr(e, E1000_RDT, e->rx.tail);
}

// ---- e1000_hw.c. Context: thread.
// No interrupts and no DMA; a transfer that is under way may still end.
void e1000_quiet(struct e1000 *e);
// Quiet, then as after power-on, masked. 0; -EIO: it does not come out of it, or is gone.
int e1000_reset(struct e1000 *e);
// Programs a chip that was reset, with filled rings, and lets it go. Interrupts stay masked.
void e1000_start(struct e1000 *e);
// Into netdev.dev_addr. 0; -EIO: none that could be used.
int e1000_read_address(struct e1000 *e);

// ---- e1000_service.c: the work item behind e1000.service.
void e1000_service(struct work_struct *work);

// ---- e1000.c
// Takes back what the device has not sent, counted as errors. The device is quiet.
void e1000_tx_empty(struct e1000 *e);

// The driver's state of a network device; NULL when it is not one of its own.
struct e1000 *e1000_of(struct net_device *dev);

// Quiets and resets the chip and reads its address. 0, -ENODEV (registers read all ones), -EIO (no
// reset, no address). Context: thread.
int e1000_attach(struct e1000 *e);
// Publishes it as ethN; from here on it may be opened. Context: thread.
int e1000_register(struct e1000 *e);
// Takes ethN away and leaves the chip reset, masked and without DMA memory. Context: thread.
void e1000_detach(struct e1000 *e);
