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
// How the chip is reset and started is in e1000_hw.c; what may go wrong has one place,
// e1000_service.c.
//
// Previous: kernel/irq/flow.c for the top half, kernel/defer/softirq.c for the poll. Next:
// kernel/dev/napi.c.
#include <lib/errno.h>
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
    E1000_QUIET_MS = 10,     // for a transfer that is under way when DMA is turned off
    E1000_TX_WAKE_FREE = 64, // free slots before a stopped queue is woken
};

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
        e1000_rx_doorbell(e);
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

// ---- rings' memory ------------------------------------------------------------------------------

static void e1000_rx_empty(struct e1000 *e)
{
    struct e1000_slot slot;
    while (e1000_ring_cancel(&e->rx, &slot) != NULL) {
        dma_unmap_single(e->dev, slot.bus, slot.length, DMA_FROM_DEVICE);
        kfree_skb(slot.cookie);
    }
}

void e1000_tx_empty(struct e1000 *e)
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
