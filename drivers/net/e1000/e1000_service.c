// What may go wrong with an e1000, in one place: a delayed work item that runs every second, and at
// once when the link changes. It follows the link, sees a transmitter that hangs and resets the
// chip, sees work for which no interrupt came, reads the statistics registers, and notices when the
// device is gone (all registers read ones).
//
// Context: thread, of a worker. Previous: e1000_hw.c.
#include <core/clock.h>
#include <core/log.h>
#include <defer/softirq.h>
#include <defer/work.h>
#include <dev/netdev.h>

#include "e1000.h"

enum { E1000_SERVICE_MS = 1000, E1000_SUSPECT_MS = 20, E1000_HANG_MS = 2000 };

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

void e1000_service(struct work_struct *work)
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
