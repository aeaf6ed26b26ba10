// The e1000: Intel's 8254x gigabit Ethernet chips, as QEMU and a million old boards have them. SDM:
// Intel 317453 (e1000_regs.h).
//
// The story of a received frame, stop 4 and 6 of an interrupt's way (docs/READING.md):
//
//   wire ──DMA──> buffer of slot head, status DD
//            ICR.RXT0 ──irq──> e1000_interrupt: read ICR (that acknowledges), mask everything,
//                              napi_schedule
//            NET_RX softirq ─> e1000_poll: e1000_rx_clean takes done slots, puts a fresh buffer in
//                              each one's place, hands the frame to netif_receive_skb; when there
//                              is no more: acknowledge, look once more, unmask
//
// A buffer's owner changes with it: dma_map_single gives it to the device, dma_unmap_single takes
// it back. When there is no memory for a fresh buffer, the frame is dropped and its buffer goes
// back: the receive ring never runs dry for want of memory.
//
// What may go wrong has one place, e1000_service, a delayed work item that runs every second and at
// once when the link changes: it follows the link, sees a transmitter that hangs and resets the
// chip, sees work for which no interrupt came, reads the statistics registers, and notices when the
// device is gone (all registers read ones).
//
// Steps of the SDM that are left out: VLAN and multicast filters (we want neither), flow control
// thresholds, checksum offload (the checksums are part of what this kernel shows), wake-up, and the
// PHY (the chip negotiates by itself, 14.3). Known erratum not worked around: on a 64-bit PCI bus
// some chips cannot acknowledge a reset that is written by memory access.
//
// Previous: kernel/irq/flow.c for the top half, kernel/defer/softirq.c for the poll. Next:
// kernel/dev/netdev.c.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/log.h>
#include <mm/slab.h>
#include <irq/irq.h>
#include <sched/sleep.h>
#include <defer/softirq.h>
#include <defer/work.h>
#include <dma/dma.h>
#include <dev/netdev.h>

#include "e1000.h"

enum {
    E1000_RESET_US = 10000,
    E1000_EERD_US = 10000,
    E1000_SERVICE_MS = 1000,
    E1000_SUSPECT_MS = 20,
    E1000_HANG_MS = 2000,
    E1000_QUIET_MS = 10,     // for a transfer that is under way when DMA is turned off
    E1000_TX_WAKE_FREE = 64, // free slots before a stopped queue is woken
    // 195 * 256 ns = 50 us, at most 20,000 interrupts a second. It only moderates: the first one
    // after a pause comes at once.
    E1000_ITR_20K = 195,
};

static uint32_t e1000_itr = E1000_ITR_20K; // I: boot option

// What may interrupt. TXQE is left out: TXDW says the same with a descriptor to show for it.
#define E1000_INT_RX      (E1000_INT_RXT0 | E1000_INT_RXO | E1000_INT_RXDMT0)
#define E1000_INT_POLL    (E1000_INT_RX | E1000_INT_TXDW)
#define E1000_INT_ENABLED (E1000_INT_POLL | E1000_INT_LSC)

// ---- top half -----------------------------------------------------------------------------------

static void e1000_link_changed(struct e1000 *e)
{
    if (READ_ONCE(e->running)) {
        mod_delayed_work(system_wq, &e->service, 0);
    }
}

// Hard interrupt. The line is shared: no cause, not ours. All ones: the device is no longer there
// to ask.
static irqreturn_t e1000_interrupt(int irq, void *dev_id)
{
    (void)irq;
    struct e1000 *e = dev_id;
    uint32_t cause = e1000_rd(e, E1000_ICR); // reading acknowledges every cause, SDM 13.4.17
    if (cause == 0 || cause == UINT32_MAX) {
        return IRQ_NONE;
    }
    e->stats.irqs++;
    if (cause & E1000_INT_LSC) {
        e1000_link_changed(e);
    }
    if (cause & E1000_INT_POLL) {
        e1000_wr(e, E1000_IMC, UINT32_MAX);
        napi_schedule(&e->napi);
    }
    return IRQ_HANDLED;
}

// ---- poll: NET_RX softirq -----------------------------------------------------------------------

// Tells the device of the slots up to tail.
static void e1000_ring_rx_doorbell(struct e1000 *e)
{
    dma_publish();
    e1000_wr(e, E1000_RDT, e->rx.tail);
}

// A fresh buffer for the receive ring, mapped. NULL: no memory.
static struct sk_buff *e1000_rx_fresh(struct e1000 *e, dma_addr_t *bus)
{
    struct sk_buff *skb = dev_alloc_skb(SKB_BUFFER_SIZE);
    if (skb == NULL) {
        return NULL;
    }
    *bus = dma_map_single(e->dev, skb->data, SKB_BUFFER_SIZE, DMA_FROM_DEVICE);
    if (unlikely(dma_mapping_error(e->dev, *bus))) {
        kfree_skb(skb);
        return NULL;
    }
    return skb;
}

// Puts a fresh buffer into the ring and hands the filled one up; without a fresh one the frame is
// dropped and its buffer stays.
static void e1000_rx_frame(struct e1000 *e, const struct e1000_slot *slot, uint32_t length)
{
    dma_addr_t bus;
    struct sk_buff *fresh = e1000_rx_fresh(e, &bus);
    if (unlikely(fresh == NULL)) {
        e->stats.rx_no_memory++;
        netdev_count(&e->netdev.stats.rx_dropped, 1);
        e1000_rx_post(&e->rx, slot->cookie, slot->bus, slot->length);
        return;
    }
    e1000_rx_post(&e->rx, fresh, bus, SKB_BUFFER_SIZE);

    struct sk_buff *skb = slot->cookie;
    dma_unmap_single(e->dev, slot->bus, slot->length, DMA_FROM_DEVICE);
    skb_put(skb, length);
    skb->dev = &e->netdev;
    skb->timestamp_ns = clock_ns();
    netif_receive_skb(skb);
}

static int e1000_rx_clean(struct e1000 *e, int budget)
{
    struct e1000_slot slot;
    uint32_t length = 0;
    int done = 0;
    while (done < budget) {
        enum e1000_rx_verdict verdict = e1000_rx_reap(&e->rx, &slot, &length);
        if (verdict == E1000_RX_NONE) {
            break;
        }
        done++;
        if (likely(verdict == E1000_RX_FRAME)) {
            e1000_rx_frame(e, &slot, length);
            continue;
        }
        *(verdict == E1000_RX_TOO_LONG ? &e->stats.rx_too_long : &e->stats.rx_bad) += 1;
        netdev_count(&e->netdev.stats.rx_errors, 1);
        e1000_rx_post(&e->rx, slot.cookie, slot.bus, slot.length);
    }
    if (done != 0 || READ_ONCE(e->rx_kick)) {
        WRITE_ONCE(e->rx_kick, false);
        e1000_ring_rx_doorbell(e);
    }
    return done;
}

static void e1000_tx_clean(struct e1000 *e)
{
    if (!e1000_tx_ready(&e->tx)) {
        return;
    }
    struct net_device *dev = &e->netdev;
    struct e1000_slot slot;
    spin_lock(&dev->tx_lock);
    while (e1000_tx_reap(&e->tx, &slot)) {
        dma_unmap_single(e->dev, slot.bus, slot.length, DMA_TO_DEVICE);
        netdev_count(&dev->stats.tx_packets, 1);
        netdev_count(&dev->stats.tx_bytes, slot.length);
        kfree_skb(slot.cookie);
    }
    bool wake = dev->queue_stopped && e1000_ring_used(&e->tx) + E1000_TX_WAKE_FREE < e->tx.count;
    spin_unlock(&dev->tx_lock);
    if (wake) {
        netif_wake_queue(dev);
    }
}

static int e1000_poll(struct napi_struct *napi, int budget)
{
    struct e1000 *e = container_of(napi, struct e1000, napi);
    e->stats.polls++;
    int done = e1000_rx_clean(e, budget);
    if (done < budget) {
        // Acknowledge, then look: what is ready by now was perhaps announced by the cause that this
        // read clears. Without it each reply that was sent above would cost one more interrupt.
        uint32_t cause = e1000_rd(e, E1000_ICR);
        if (unlikely(cause == UINT32_MAX)) {
            napi_complete_done(napi, done); // gone: stays masked; the service says so
            return done;
        }
        if (unlikely(cause & E1000_INT_LSC)) {
            e1000_link_changed(e);
        }
        done += e1000_rx_clean(e, budget - done);
    }
    e1000_tx_clean(e);
    if (done < budget && napi_complete_done(napi, done)) {
        e1000_wr(e, E1000_IMS, E1000_INT_ENABLED);
    }
    return done;
}

// ---- sending ------------------------------------------------------------------------------------

// Under tx_lock, softirqs off.
static enum netdev_tx e1000_start_xmit(struct sk_buff *skb, struct net_device *dev)
{
    struct e1000 *e = container_of(dev, struct e1000, netdev);
    if (unlikely(e1000_ring_full(&e->tx))) {
        netif_stop_queue(dev);
        return NETDEV_TX_BUSY;
    }
    dma_addr_t bus = {0};
    bool bad = skb->len < ETH_HLEN || skb->len > ETH_HLEN + (uint32_t)dev->mtu;
    if (likely(!bad)) {
        bus = dma_map_single(e->dev, skb->data, skb->len, DMA_TO_DEVICE);
        bad = dma_mapping_error(e->dev, bus);
    }
    if (unlikely(bad)) {
        netdev_count(&dev->stats.tx_dropped, 1);
        kfree_skb(skb);
        return NETDEV_TX_OK;
    }
    e1000_tx_post(&e->tx, skb, bus, skb->len, jiffies);
    if (unlikely(e1000_ring_full(&e->tx))) {
        netif_stop_queue(dev);
    }
    dma_publish();
    e1000_wr(e, E1000_TDT, e->tx.tail);
    return NETDEV_TX_OK;
}

// ---- the chip: quiet, reset, start --------------------------------------------------------------

// No interrupts and no DMA. Leaves time for a transfer that is under way.
static void e1000_quiet(struct e1000 *e)
{
    e1000_wr(e, E1000_IMC, UINT32_MAX);
    e1000_wr(e, E1000_RCTL, 0);
    e1000_wr(e, E1000_TCTL, E1000_TCTL_PSP);
    (void)e1000_rd(e, E1000_STATUS); // writes to PCI are posted: a read waits for them
}

// SDM 14.2, 13.4.1: the reset bit clears itself when the reset is over. Interrupts are masked
// before and after, as the reset brings the mask's power-up state back.
static int e1000_reset(struct e1000 *e)
{
    e1000_quiet(e);
    e1000_wr(e, E1000_CTRL, e1000_rd(e, E1000_CTRL) | E1000_CTRL_RST);
    udelay(2); // at least 1 us before the first access
    if (!wait_until((e1000_rd(e, E1000_CTRL) & E1000_CTRL_RST) == 0, E1000_RESET_US)) {
        return -EIO; // also when it is gone: all ones
    }
    e1000_wr(e, E1000_IMC, UINT32_MAX);
    (void)e1000_rd(e, E1000_ICR);
    memset(e->statistics, 0, sizeof(e->statistics)); // the reset cleared the registers, too
    return 0;
}

// The station address goes into receive address 0, low half first (13.5.3); no multicast.
static void e1000_write_address(struct e1000 *e)
{
    const uint8_t *a = e->netdev.dev_addr;
    e1000_wr(e, E1000_RAL0, get_le32(a));
    e1000_wr(e, E1000_RAH0, get_le16(a + 4) | E1000_RAH_VALID);
    for (unsigned i = 0; i < E1000_MTA_WORDS; i++) {
        writel(0, (volatile uint8_t __iomem *)e->regs + E1000_MTA + 4 * i);
    }
}

// Programs a reset chip and lets it go: SDM 14.3, 14.4, 14.5. The receive ring is filled already,
// the transmit ring is empty.
static void e1000_start(struct e1000 *e)
{
    // 14.3: full-duplex and speed as negotiated, link up, no VLAN
    uint32_t ctrl = e1000_rd(e, E1000_CTRL) & ~E1000_CTRL_VME;
    e1000_wr(e, E1000_CTRL, ctrl | E1000_CTRL_SLU | E1000_CTRL_ASDE);
    e1000_write_address(e);

    // 14.4: receive. RDTR stays 0: moderation is ITR's
    e1000_wr(e, E1000_RDBAL, (uint32_t)e->rx_bus.value);
    e1000_wr(e, E1000_RDBAH, (uint32_t)(e->rx_bus.value >> 32));
    e1000_wr(e, E1000_RDLEN, e->rx.count * sizeof(struct e1000_rx_desc));
    e1000_wr(e, E1000_RDH, e->rx.head);
    e1000_wr(e, E1000_RDT, e->rx.head); // none yet: the doorbell below
    e1000_wr(e, E1000_RDTR, 0);
    if (e->features & E1000_HAS_ITR) {
        e1000_wr(e, E1000_ITR, e1000_itr);
    }

    // 14.5: transmit. Collision threshold 15, distance 64 byte times (full duplex)
    e1000_wr(e, E1000_TDBAL, (uint32_t)e->tx_bus.value);
    e1000_wr(e, E1000_TDBAH, (uint32_t)(e->tx_bus.value >> 32));
    e1000_wr(e, E1000_TDLEN, e->tx.count * sizeof(struct e1000_tx_desc));
    e1000_wr(e, E1000_TDH, e->tx.head);
    e1000_wr(e, E1000_TDT, e->tx.tail);
    e1000_wr(e, E1000_TIPG, E1000_TIPG_COPPER);
    e1000_wr(e, E1000_TCTL,
             E1000_TCTL_EN | E1000_TCTL_PSP | 15u << E1000_TCTL_CT_SHIFT |
                 64u << E1000_TCTL_COLD_SHIFT);

    // SECRC: without it a minimal frame takes 64 bytes and, in QEMU's e1000e, a second descriptor
    e1000_wr(e, E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_BAM | E1000_RCTL_SECRC);
    e1000_ring_rx_doorbell(e);
}

// ---- rings' memory ------------------------------------------------------------------------------

static void e1000_rx_empty(struct e1000 *e)
{
    struct e1000_slot slot;
    while (e1000_ring_cancel(&e->rx, &slot) != NULL) {
        dma_unmap_single(e->dev, slot.bus, slot.length, DMA_FROM_DEVICE);
        kfree_skb(slot.cookie);
    }
}

static void e1000_tx_empty(struct e1000 *e)
{
    struct e1000_slot slot;
    while (e1000_ring_cancel(&e->tx, &slot) != NULL) {
        dma_unmap_single(e->dev, slot.bus, slot.length, DMA_TO_DEVICE);
        netdev_count(&e->netdev.stats.tx_errors, 1);
        kfree_skb(slot.cookie);
    }
}

static int e1000_rx_fill(struct e1000 *e)
{
    while (!e1000_ring_full(&e->rx)) {
        dma_addr_t bus;
        struct sk_buff *skb = e1000_rx_fresh(e, &bus);
        if (skb == NULL) {
            return -ENOMEM;
        }
        e1000_rx_post(&e->rx, skb, bus, SKB_BUFFER_SIZE);
    }
    return 0;
}

static void e1000_free_rings(struct e1000 *e)
{
    e1000_rx_empty(e);
    e1000_tx_empty(e);
    dma_free_coherent(e->dev, E1000_RING_SIZE * sizeof(struct e1000_rx_desc), e->rx_descriptors,
                      e->rx_bus);
    dma_free_coherent(e->dev, E1000_RING_SIZE * sizeof(struct e1000_tx_desc), e->tx_descriptors,
                      e->tx_bus);
    kfree(e->slots);
    e->rx_descriptors = e->tx_descriptors = e->slots = NULL;
}

static int e1000_alloc_rings(struct e1000 *e)
{
    int error = -ENOMEM;
    e->slots = kcalloc(2 * E1000_RING_SIZE, sizeof(struct e1000_slot), GFP_KERNEL);
    if (e->slots == NULL) {
        return -ENOMEM;
    }
    e->rx_descriptors =
        dma_alloc_coherent(e->dev, E1000_RING_SIZE * sizeof(struct e1000_rx_desc), &e->rx_bus);
    if (e->rx_descriptors == NULL) {
        goto free_slots;
    }
    e->tx_descriptors =
        dma_alloc_coherent(e->dev, E1000_RING_SIZE * sizeof(struct e1000_tx_desc), &e->tx_bus);
    if (e->tx_descriptors == NULL) {
        goto free_rx;
    }
    e1000_ring_init(&e->rx, e->rx_descriptors, e->slots, E1000_RING_SIZE);
    e1000_ring_init(&e->tx, e->tx_descriptors, e->slots + E1000_RING_SIZE, E1000_RING_SIZE);
    error = e1000_rx_fill(e);
    if (error != 0) {
        e1000_free_rings(e);
    }
    return error;

free_rx:
    dma_free_coherent(e->dev, E1000_RING_SIZE * sizeof(struct e1000_rx_desc), e->rx_descriptors,
                      e->rx_bus);
free_slots:
    kfree(e->slots);
    e->slots = NULL;
    return error;
}

// ---- service: a work item -----------------------------------------------------------------------

static void e1000_check_link(struct e1000 *e)
{
    static const char *const speeds[] = {"10", "100", "1000", "1000"};
    uint32_t status = e1000_rd(e, E1000_STATUS);
    bool up = (status & E1000_STATUS_LU) != 0;
    if (up == e->netdev.carrier) {
        return;
    }
    e->stats.link_changes++;
    if (!up) {
        dev_info(e->dev, "%s: link is down", e->netdev.name);
        netif_carrier_off(&e->netdev);
        return;
    }
    dev_info(e->dev, "%s: link is up, %s Mb/s, %s duplex", e->netdev.name,
             speeds[(status & E1000_STATUS_SPEED) >> E1000_STATUS_SPEED_SHIFT],
             status & E1000_STATUS_FD ? "full" : "half");
    // Frames that QEMU's network held while the link was down come only after the next write to
    // RDT, and the tail is the poll's.
    WRITE_ONCE(e->rx_kick, true);
    napi_schedule(&e->napi);
    netif_carrier_on(&e->netdev);
}

// The oldest packet has been with the device for too long.
static bool e1000_tx_is_stuck(struct e1000 *e)
{
    struct net_device *dev = &e->netdev;
    local_bh_disable();
    spin_lock(&dev->tx_lock);
    const struct e1000_ring *tx = &e->tx;
    bool stuck = tx->head != tx->tail && !e1000_tx_ready(tx) &&
                 time_after(jiffies, tx->slots[tx->head].jiffies + msecs_to_jiffies(E1000_HANG_MS));
    spin_unlock(&dev->tx_lock);
    local_bh_enable();
    return stuck;
}

// Starts over with the same buffers. First the poll is stopped, which could wake the queue, then
// the queue: from there on nobody sends, packets wait or are dropped by count.
static int e1000_restart(struct e1000 *e)
{
    e->stats.resets++;
    napi_disable(&e->napi);
    local_bh_disable();
    spin_lock(&e->netdev.tx_lock);
    netif_stop_queue(&e->netdev);
    spin_unlock(&e->netdev.tx_lock);
    local_bh_enable();
    int error = e1000_reset(e);
    if (error != 0) {
        dev_err(e->dev, "%s: does not come out of reset; unbind and bind it again", e->netdev.name);
        return error;
    }
    e1000_tx_empty(e);
    struct e1000_slot slot;
    for (uint32_t left = e1000_ring_used(&e->rx); left != 0; left--) {
        e1000_ring_cancel(&e->rx, &slot);
        e1000_rx_post(&e->rx, slot.cookie, slot.bus, slot.length);
    }
    e->rx.skipping = false;
    e1000_start(e);
    napi_enable(&e->napi);
    e1000_wr(e, E1000_IMS, E1000_INT_ENABLED);
    netif_wake_queue(&e->netdev);
    return 0;
}

static int e1000_check_tx(struct e1000 *e)
{
    if (!e1000_tx_is_stuck(e)) {
        return 0;
    }
    if (e->netdev.carrier) {
        e->stats.tx_hangs++;
        dev_err(e->dev,
                "%s: transmit hang, resetting: TDH %u TDT %u, ring [%u, %u), TCTL %#x STATUS %#x",
                e->netdev.name, e1000_rd(e, E1000_TDH), e1000_rd(e, E1000_TDT), e->tx.head,
                e->tx.tail, e1000_rd(e, E1000_TCTL), e1000_rd(e, E1000_STATUS));
    } // else: without a link they would leave, stale, when it returns
    return e1000_restart(e);
}

// Descriptors are done, nobody polls, and no interrupt has come since the last look: it is lost.
// Asked twice, as one may be on its way right now.
static void e1000_check_missed_irq(struct e1000 *e)
{
    uint64_t irqs = READ_ONCE(e->stats.irqs);
    bool quiet = irqs == e->irqs_before && (READ_ONCE(e->napi.state) & NAPI_SCHEDULED) == 0;
    bool suspect = quiet && (e1000_rx_ready(&e->rx) || e1000_tx_ready(&e->tx));
    if (suspect && e->suspect_missed) {
        e->stats.missed_irqs++;
        suspect = false;
        dev_warn(e->dev, "%s: missed an interrupt (IMS %#x), polling", e->netdev.name,
                 e1000_rd(e, E1000_IMS));
        napi_schedule(&e->napi); // its end unmasks
    }
    e->suspect_missed = suspect;
    e->irqs_before = irqs;
}

// How much a statistics register has counted since the last time. Reading clears it, says SDM 13.7,
// and so it is on the chip; in QEMU most of them go on counting. The second read tells: it is
// smaller only where the first one cleared.
static uint64_t e1000_statistic(struct e1000 *e, unsigned which)
{
    static const enum e1000_register registers[E1000_STATISTICS] = {
        [E1000_STAT_CRC] = E1000_CRCERRS,    [E1000_STAT_RX_ERROR] = E1000_RXERRC,
        [E1000_STAT_MISSED] = E1000_MPC,     [E1000_STAT_COLLISION] = E1000_COLC,
        [E1000_STAT_NO_BUFFER] = E1000_RNBC, [E1000_STAT_UNDERSIZE] = E1000_RUC,
        [E1000_STAT_OVERSIZE] = E1000_ROC,
    };
    uint32_t *last = &e->statistics[which];
    uint32_t first = e1000_rd(e, registers[which]);
    uint32_t second = first != 0 ? e1000_rd(e, registers[which]) : 0;
    if (second < first) {
        *last = 0;
        return (uint64_t)first + second;
    }
    uint32_t counted = first - *last;
    *last = first;
    return counted;
}

static void e1000_harvest_statistics(struct e1000 *e)
{
    struct net_device_stats *s = &e->netdev.stats;
    uint64_t missed = e1000_statistic(e, E1000_STAT_MISSED);
    uint64_t crc = e1000_statistic(e, E1000_STAT_CRC);
    uint64_t errors = crc + e1000_statistic(e, E1000_STAT_RX_ERROR) +
                      e1000_statistic(e, E1000_STAT_UNDERSIZE) +
                      e1000_statistic(e, E1000_STAT_OVERSIZE);
    e->stats.missed_packets += missed;
    e->stats.no_buffers += e1000_statistic(e, E1000_STAT_NO_BUFFER);
    netdev_count(&s->rx_fifo_errors, missed);
    netdev_count(&s->rx_frame_errors, crc);
    netdev_count(&s->rx_errors, errors);
    netdev_count(&s->collisions, e1000_statistic(e, E1000_STAT_COLLISION));
}

static void e1000_service(struct work_struct *work)
{
    struct e1000 *e = container_of(work, struct e1000, service.work);
    if (!READ_ONCE(e->running)) {
        return;
    }
    if (e1000_rd(e, E1000_STATUS) == UINT32_MAX) {
        e->gone = true;
        dev_err(e->dev, "%s: gone: its registers read all ones", e->netdev.name);
        netif_carrier_off(&e->netdev);
        return;
    }
    e1000_check_link(e);
    if (e1000_check_tx(e) != 0) {
        netif_carrier_off(&e->netdev);
        return;
    }
    e1000_check_missed_irq(e);
    e1000_harvest_statistics(e);
    if (READ_ONCE(e->running)) {
        schedule_delayed_work(
            &e->service, msecs_to_jiffies(e->suspect_missed ? E1000_SUSPECT_MS : E1000_SERVICE_MS));
    }
}

// ---- open and stop ------------------------------------------------------------------------------

static int e1000_open(struct net_device *dev)
{
    struct e1000 *e = container_of(dev, struct e1000, netdev);
    // 1. memory: rings and a buffer for each receive slot
    int error = e1000_alloc_rings(e);
    if (error != 0) {
        return error;
    }
    // 2. a chip in a known state
    error = e1000_reset(e);
    if (error != 0) {
        goto free_rings;
    }
    // 3. its interrupt
    error = request_irq((unsigned)e->irq, e1000_interrupt, IRQF_SHARED, dev->name, e);
    if (error != 0) {
        goto free_rings;
    }
    // 4. go. The link takes its time; the service sees it come
    e->rx_kick = e->suspect_missed = false;
    e->irqs_before = e->stats.irqs;
    dev->queue_stopped = false;
    e1000_start(e);
    napi_enable(&e->napi);
    WRITE_ONCE(e->running, true);
    e1000_wr(e, E1000_IMS, E1000_INT_ENABLED);
    schedule_delayed_work(&e->service, 0);
    return 0;

free_rings:
    e1000_free_rings(e);
    return error;
}

static int e1000_stop(struct net_device *dev)
{
    struct e1000 *e = container_of(dev, struct e1000, netdev);
    WRITE_ONCE(e->running, false);
    synchronize_irq((unsigned)e->irq); // from here on no handler asks for the service
    cancel_delayed_work_sync(&e->service);
    napi_disable(&e->napi); // from here on nobody unmasks
    e1000_quiet(e);
    free_irq((unsigned)e->irq, e);
    netif_carrier_off(dev);
    msleep(E1000_QUIET_MS);
    if (e1000_reset(e) != 0 && !e->gone) {
        dev_err(e->dev, "%s: did not reset at stop", dev->name);
    }
    e1000_free_rings(e);
    return 0;
}

static const struct net_device_ops e1000_ops = {
    .ndo_open = e1000_open, .ndo_stop = e1000_stop, .ndo_start_xmit = e1000_start_xmit};

// ---- attach and detach --------------------------------------------------------------------------

struct e1000 *e1000_of(struct net_device *dev)
{
    return dev->ops == &e1000_ops ? container_of(dev, struct e1000, netdev) : NULL;
}

// SDM 13.4.4. 0 or -EIO.
static int e1000_eeprom_read(struct e1000 *e, unsigned word, uint16_t *value)
{
    e1000_wr(e, E1000_EERD, E1000_EERD_START | word << E1000_EERD_ADDR_SHIFT);
    uint32_t eerd = 0;
    if (!wait_until(((eerd = e1000_rd(e, E1000_EERD)) & E1000_EERD_DONE) != 0, E1000_EERD_US)) {
        return -EIO;
    }
    *value = (uint16_t)(eerd >> E1000_EERD_DATA_SHIFT);
    return 0;
}

// Words 0 to 2 hold the address, and all 64 must add up (SDM 5.6). 0 or -EIO.
static int e1000_address_from_eeprom(struct e1000 *e, uint8_t *address)
{
    uint16_t sum = 0, word;
    for (unsigned i = 0; i < E1000_EEPROM_WORDS; i++) {
        if (e1000_eeprom_read(e, i, &word) != 0) {
            return -EIO;
        }
        sum = (uint16_t)(sum + word);
        if (i < 3) {
            address[2 * i] = (uint8_t)word;
            address[2 * i + 1] = (uint8_t)(word >> 8);
        }
    }
    return sum == E1000_EEPROM_SUM ? 0 : -EIO;
}

static bool e1000_address_is_good(const uint8_t *a)
{
    static const uint8_t zero[ETH_ALEN];
    return (a[0] & 1) == 0 && memcmp(a, zero, ETH_ALEN) != 0; // unicast, not nothing
}

static int e1000_read_address(struct e1000 *e)
{
    uint8_t *a = e->netdev.dev_addr;
    if ((e->features & E1000_HAS_EERD) && e1000_address_from_eeprom(e, a) == 0 &&
        e1000_address_is_good(a)) {
        return 0;
    }
    if (e->features & E1000_HAS_EERD) {
        dev_warn(e->dev, "EEPROM does not answer or its checksum is wrong, using RAL and RAH");
    }
    msleep(5); // the chip itself loads them from the EEPROM after a reset
    uint32_t low = e1000_rd(e, E1000_RAL0), high = e1000_rd(e, E1000_RAH0);
    for (unsigned i = 0; i < ETH_ALEN; i++) {
        a[i] = (uint8_t)(i < 4 ? low >> 8 * i : high >> 8 * (i - 4));
    }
    return e1000_address_is_good(a) ? 0 : -EIO;
}

int e1000_attach(struct e1000 *e)
{
    if (e1000_rd(e, E1000_STATUS) == UINT32_MAX) {
        dev_err(e->dev, "its registers read all ones");
        return -ENODEV;
    }
    int error = e1000_reset(e);
    if (error != 0) {
        dev_err(e->dev, "does not come out of reset");
        return error;
    }
    error = e1000_read_address(e);
    if (error != 0) {
        dev_err(e->dev, "has no usable station address");
        return error;
    }
    INIT_DELAYED_WORK(&e->service, e1000_service);
    struct net_device *dev = &e->netdev;
    dev->mtu = 1500;
    dev->ops = &e1000_ops;
    dev->parent = e->dev;
    netif_napi_add(dev, &e->napi, e1000_poll, NAPI_WEIGHT);
    return 0;
}

int e1000_register(struct e1000 *e)
{
    return register_netdev(&e->netdev, "eth");
}

void e1000_detach(struct e1000 *e)
{
    unregister_netdev(&e->netdev);
    e1000_quiet(e);
}

// The register has 16 bits. A value that is far too large is worth a look: nothing is lost, and
// everything comes late.
static int e1000_set_itr(const char *value)
{
    uint32_t units;

    if (kstrtou32(value, 10, &units) != 0 || units > UINT16_MAX) {
        return -EINVAL;
    }
    e1000_itr = units;
    return 0;
}
BOOT_OPTION("e1000.itr", e1000_set_itr,
            "e1000.itr=N: least time between interrupts, N * 256 ns; 0: none (195, 50 us)");
