// Packets that leave: from dev_queue_xmit() to the driver's ring.
//
//   dev_queue_xmit ──tx_lock──> ndo_start_xmit ──> ring ─DMA─> wire
//        │ queue stopped: the ring is full             │
//        └──> tx_waiting, bounded                      │ the driver's poll finds room
//                 └── NET_TX softirq <── netif_wake_queue
//
// The driver is called under tx_lock. When its ring is full it stops the queue, and packets wait
// until it wakes it; when too many do, the next is dropped and counted.
//
// Context: any but hard irq; taking down: thread. Previous: kernel/net/eth.c. Next:
// drivers/net/e1000/e1000.c.
#include <lib/errno.h>
#include <core/cpu.h>
#include <core/panic.h>
#include <core/trace.h>
#include <sched/sleep.h>
#include <defer/softirq.h>
#include <dev/netdev.h>

#include "netdev_internal.h"

enum { TX_WAITING_DEFAULT = 512 };

// Devices that have room again, and packets that wait.
static struct list_head netdev_tx_lists[MAX_CPUS]; // C

void netif_stop_queue(struct net_device *dev)
{
    dev->queue_stopped = true;
}

// Holds the packet back until the driver has room again.
static int netdev_hold_locked(struct net_device *dev, struct sk_buff *skb)
{
    if (dev->tx_waiting_count >= dev->tx_waiting_max) {
        netdev_count(&dev->stats.tx_dropped, 1);
        return -ENOBUFS;
    }
    list_add_tail(&skb->link, &dev->tx_waiting);
    dev->tx_waiting_count++;
    return 0;
}

static int netdev_xmit_locked(struct net_device *dev, struct sk_buff *skb)
{
    if (!dev->up || !dev->carrier) {
        netdev_count(&dev->stats.tx_dropped, 1);
        return -ENETDOWN;
    }
    if (dev->queue_stopped || dev->tx_waiting_count != 0 ||
        dev->ops->ndo_start_xmit(skb, dev) == NETDEV_TX_BUSY) {
        return netdev_hold_locked(dev, skb);
    }
    return 0;
}

int dev_queue_xmit(struct sk_buff *skb)
{
    police_context(CTX_THREAD | CTX_ATOMIC | CTX_SOFTIRQ);
    struct net_device *dev = skb->dev;
    trace(TRACE_NET_TX, skb->len, 0);
    local_bh_disable();
    spin_lock(&dev->tx_lock);
    int error = netdev_xmit_locked(dev, skb);
    spin_unlock(&dev->tx_lock);
    local_bh_enable();
    if (error != 0) {
        kfree_skb(skb);
    }
    return error;
}

// The driver has room again. What waits is sent by NET_TX softirq: who finds the room is most often
// the driver's poll, in the middle of receiving, and shall not be kept.
void netif_wake_queue(struct net_device *dev)
{
    police_context(CTX_THREAD | CTX_ATOMIC | CTX_SOFTIRQ);
    local_bh_disable();
    spin_lock(&dev->tx_lock);
    dev->queue_stopped = false;
    if (dev->up && dev->tx_waiting_count != 0 && !dev->tx_scheduled) {
        unsigned long flags = local_irq_save();
        dev->tx_scheduled = true;
        list_add_tail(&dev->tx_link, &this_cpu(netdev_tx_lists));
        raise_softirq_irqoff(NET_TX_SOFTIRQ);
        local_irq_restore(flags);
    }
    spin_unlock(&dev->tx_lock);
    local_bh_enable();
}

static void netdev_send_waiting(struct net_device *dev)
{
    spin_lock(&dev->tx_lock);
    while (dev->up && !dev->queue_stopped && dev->tx_waiting_count != 0) {
        struct sk_buff *skb = list_first_entry(&dev->tx_waiting, struct sk_buff, link);
        list_del_init(&skb->link);
        dev->tx_waiting_count--;
        if (dev->ops->ndo_start_xmit(skb, dev) == NETDEV_TX_BUSY) {
            list_add(&skb->link, &dev->tx_waiting);
            dev->tx_waiting_count++;
            break;
        }
    }
    dev->tx_scheduled = false; // the last touch: netdev_close waits for it
    spin_unlock(&dev->tx_lock);
}

static void net_tx_action(void)
{
    LIST_HEAD(list);
    local_irq_disable();
    list_splice_tail_init(&this_cpu(netdev_tx_lists), &list);
    local_irq_enable();
    while (!list_empty(&list)) {
        struct net_device *dev = list_first_entry(&list, struct net_device, tx_link);
        list_del_init(&dev->tx_link);
        netdev_send_waiting(dev);
    }
}

// ---- taking a device up and down ----------------------------------------------------------------

void netdev_tx_setup(struct net_device *dev)
{
    spin_lock_init(&dev->tx_lock, dev->name);
    INIT_LIST_HEAD(&dev->tx_waiting);
    if (dev->tx_waiting_max == 0) {
        dev->tx_waiting_max = TX_WAITING_DEFAULT;
    }
}

void netdev_tx_shut(struct net_device *dev)
{
    // Under tx_lock, so that afterwards nobody is inside ndo_start_xmit.
    local_bh_disable();
    spin_lock(&dev->tx_lock);
    WRITE_ONCE(dev->up, false);
    spin_unlock(&dev->tx_lock);
    local_bh_enable();
    for (unsigned ms = 0; READ_ONCE(dev->tx_scheduled); ms++) { // NET_TX has it on no list
        WARN_ON(ms == NETDEV_WAIT_MS);
        msleep(1);
    }
    spin_lock_irq(&dev->tx_lock); // and has let go of it
    spin_unlock_irq(&dev->tx_lock);
}

void netdev_tx_drop(struct net_device *dev)
{
    LIST_HEAD(dropped);
    local_bh_disable();
    spin_lock(&dev->tx_lock);
    list_splice_tail_init(&dev->tx_waiting, &dropped);
    netdev_count(&dev->stats.tx_dropped, dev->tx_waiting_count);
    dev->tx_waiting_count = 0;
    spin_unlock(&dev->tx_lock);
    local_bh_enable();
    struct sk_buff *skb, *next;
    list_for_each_entry_safe (skb, next, &dropped, link) {
        kfree_skb(skb);
    }
}

void netdev_tx_init(void)
{
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
        INIT_LIST_HEAD(&netdev_tx_lists[cpu]);
    }
    open_softirq(NET_TX_SOFTIRQ, net_tx_action);
}
