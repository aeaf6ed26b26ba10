// The network device class: between drivers, which move frames, and protocols, which understand
// them.
//
// Receiving is NAPI. The first frame interrupts; the top half masks the device and puts its
// napi_struct on this CPU's poll list; NET_RX softirq then calls poll() again and again, at most
// NAPI_WEIGHT frames a time, until the device has no more, and only then is the device unmasked.
// Under load there are no interrupts at all, and a frame that cannot be dealt with is dropped by
// the device, where it costs nothing.
//
//   top half ── napi_schedule ──> poll list of this CPU ── net_rx_action ──> napi->poll(64) ──> netif_receive_skb ──> kernel/net
//                                   ^                            │
//                                   └── did 64: to the end ──────┤ did less: napi_complete_done, unmask
//
// One softirq round is bounded three ways: NAPI_BUDGET frames, 2 ms, and each device's weight, so
// that devices take turns and the rest of the machine lives. A round that was cut short counts as
// time_squeeze in /proc/net/softnet_stat.
//
// Sending: dev_queue_xmit gives the packet to the driver under tx_lock; when the driver's ring is
// full the packet waits in tx_waiting, bounded, until the driver wakes the queue: then NET_TX
// softirq sends what waits.
//
// The list of devices is changed under rtnl_lock and read by RCU (<core/rcu.h>): softirqs look up
// where a packet goes and take no lock. A removed device keeps its next pointer, and its memory,
// until synchronize_net() says that nobody can still stand on it.
//
// Previous stop of a received frame: drivers/net/e1000/e1000.c. Next: kernel/net/eth.c.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/device.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <defer/rcu.h>
#include <defer/softirq.h>
#include <dev/netdev.h>

enum {
    NET_RX_ROUND_NS = 2000000,
    BACKLOG_MAX = 1000,
    TX_WAITING_DEFAULT = 512,
    NAPI_DISABLE_MS = 10000, // a poll that lasts longer is a bug of ours
};

// What a CPU's NET_RX softirq works on.
struct softnet_data {
    struct list_head poll_list; // C: napi_structs that want to be polled
    struct list_head backlog;   // C: packets from netif_rx
    struct list_head tx_list;   // C: devices that have room again, and packets that wait
    uint32_t backlog_length;    // C
    struct napi_struct backlog_napi;
    uint32_t processed, dropped, time_squeeze; // C
};

static struct softnet_data softnet[MAX_CPUS];

static LIST_HEAD(netdev_list); // L of rtnl_mutex for changes
static DEFINE_MUTEX(rtnl_mutex);
static int netdev_last_ifindex; // L of rtnl_mutex

void (*netdev_input)(struct sk_buff *skb);
void (*netdev_notify)(struct net_device *dev, enum netdev_event event);

static void netdev_tell(struct net_device *dev, enum netdev_event event)
{
    if (netdev_notify != NULL) {
        netdev_notify(dev, event);
    }
}

// ---- NAPI ---------------------------------------------------------------------------------------

void netif_napi_add(struct net_device *dev, struct napi_struct *napi,
                    int (*poll)(struct napi_struct *, int), int weight)
{
    *napi =
        (struct napi_struct){.state = NAPI_DISABLED, .weight = weight, .poll = poll, .dev = dev};
    INIT_LIST_HEAD(&napi->link);
}

static void napi_enqueue_irqoff(struct napi_struct *napi)
{
    list_add_tail(&napi->link, &this_cpu(softnet).poll_list);
    raise_softirq_irqoff(NET_RX_SOFTIRQ);
}

bool napi_schedule(struct napi_struct *napi)
{
    uint32_t old = __atomic_load_n(&napi->state, __ATOMIC_RELAXED), new;
    do {
        if (old & NAPI_DISABLED) {
            return false;
        }
        new = old | NAPI_SCHEDULED | (old & NAPI_SCHEDULED ? NAPI_MISSED : 0);
    } while (!__atomic_compare_exchange_n(&napi->state, &old, new, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    if (old & NAPI_SCHEDULED) {
        return false;
    }
    unsigned long flags = local_irq_save();
    napi_enqueue_irqoff(napi);
    local_irq_restore(flags);
    return true;
}

bool napi_complete_done(struct napi_struct *napi, int work_done)
{
    assert_in_softirq();
    (void)work_done;
    uint32_t old = __atomic_load_n(&napi->state, __ATOMIC_RELAXED), new;
    do {
        bool again = (old & (NAPI_MISSED | NAPI_DISABLED)) == NAPI_MISSED;
        new = again ? old & ~NAPI_MISSED : old & ~(NAPI_SCHEDULED | NAPI_MISSED);
    } while (!__atomic_compare_exchange_n(&napi->state, &old, new, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    if (new &NAPI_SCHEDULED) {
        unsigned long flags = local_irq_save();
        napi_enqueue_irqoff(napi);
        local_irq_restore(flags);
        return false;
    }
    return (new &NAPI_DISABLED) == 0;
}

void napi_enable(struct napi_struct *napi)
{
    __atomic_store_n(&napi->state, 0, __ATOMIC_SEQ_CST);
}

void napi_disable(struct napi_struct *napi)
{
    might_sleep();
    __atomic_fetch_or(&napi->state, NAPI_DISABLED, __ATOMIC_SEQ_CST);
    for (unsigned ms = 0; __atomic_load_n(&napi->state, __ATOMIC_SEQ_CST) & NAPI_SCHEDULED; ms++) {
        WARN_ON(ms == NAPI_DISABLE_MS);
        msleep(1);
    }
}

// The poll used its whole weight: there is more. Back to the end of the list, unless somebody waits
// for it to stop.
static void napi_requeue(struct napi_struct *napi)
{
    if (__atomic_load_n(&napi->state, __ATOMIC_SEQ_CST) & NAPI_DISABLED) {
        __atomic_fetch_and(&napi->state, ~(uint32_t)(NAPI_SCHEDULED | NAPI_MISSED),
                           __ATOMIC_SEQ_CST);
        return;
    }
    local_irq_disable();
    napi_enqueue_irqoff(napi);
    local_irq_enable();
}

// The next napi_struct to poll, taken off the list; NULL when there is none, or when this round has
// had its share.
static struct napi_struct *net_rx_next(int budget, uint64_t deadline_ns)
{
    struct napi_struct *napi = NULL;
    local_irq_disable();
    struct softnet_data *data = &this_cpu(softnet);
    if (!list_empty(&data->poll_list)) {
        if (budget > 0 && clock_ns() < deadline_ns) {
            napi = list_first_entry(&data->poll_list, struct napi_struct, link);
            list_del_init(&napi->link);
        } else {
            data->time_squeeze++;
            raise_softirq_irqoff(NET_RX_SOFTIRQ);
        }
    }
    local_irq_enable();
    return napi;
}

static void net_rx_action(void)
{
    uint64_t deadline_ns = clock_ns() + NET_RX_ROUND_NS;
    int budget = NAPI_BUDGET;
    struct napi_struct *napi;
    while ((napi = net_rx_next(budget, deadline_ns)) != NULL) {
        int weight = napi->weight;
        int done = napi->poll(napi, weight);
        trace(TRACE_NAPI_POLL, (uint32_t)done, (uint64_t)weight);
        budget -= done;
        if (done >= weight) {
            napi_requeue(napi); // otherwise it completed itself and may already be another CPU's
        }
    }
}

// ---- receiving ----------------------------------------------------------------------------------

void netif_receive_skb(struct sk_buff *skb)
{
    assert_in_softirq();
    trace(TRACE_NET_RX, skb->len, 0);
    this_cpu(softnet).processed++; // softirqs are not preempted: nobody else writes it
    netdev_count(&skb->dev->stats.rx_packets, 1);
    netdev_count(&skb->dev->stats.rx_bytes, skb->len);
    if (netdev_input == NULL) {
        kfree_skb(skb);
        return;
    }
    netdev_input(skb);
}

void netif_rx(struct sk_buff *skb)
{
    unsigned long flags = local_irq_save();
    struct softnet_data *data = &this_cpu(softnet);
    bool room = data->backlog_length < BACKLOG_MAX;
    if (room) {
        list_add_tail(&skb->link, &data->backlog);
        data->backlog_length++;
        napi_schedule(&data->backlog_napi);
    } else {
        data->dropped++;
        netdev_count(&skb->dev->stats.rx_dropped, 1);
    }
    local_irq_restore(flags);
    if (!room) {
        kfree_skb(skb);
    }
}

static struct sk_buff *backlog_take(void)
{
    struct sk_buff *skb = NULL;
    local_irq_disable();
    struct softnet_data *data = &this_cpu(softnet);
    if (!list_empty(&data->backlog)) {
        skb = list_first_entry(&data->backlog, struct sk_buff, link);
        list_del_init(&skb->link);
        data->backlog_length--;
    }
    local_irq_enable();
    return skb;
}

static int backlog_poll(struct napi_struct *napi, int budget)
{
    int done = 0;
    struct sk_buff *skb;
    while (done < budget && (skb = backlog_take()) != NULL) {
        netif_receive_skb(skb);
        done++;
    }
    if (done < budget) {
        napi_complete_done(napi, done);
    }
    return done;
}

// ---- sending ------------------------------------------------------------------------------------

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
        list_add_tail(&dev->tx_link, &this_cpu(softnet).tx_list);
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
    list_splice_tail_init(&this_cpu(softnet).tx_list, &list);
    local_irq_enable();
    while (!list_empty(&list)) {
        struct net_device *dev = list_first_entry(&list, struct net_device, tx_link);
        list_del_init(&dev->tx_link);
        netdev_send_waiting(dev);
    }
}

// With the device down: NET_TX has it on no list any more.
static void netdev_wait_unscheduled(struct net_device *dev)
{
    for (unsigned ms = 0; READ_ONCE(dev->tx_scheduled); ms++) {
        WARN_ON(ms == NAPI_DISABLE_MS);
        msleep(1);
    }
    spin_lock_irq(&dev->tx_lock); // and has let go of it
    spin_unlock_irq(&dev->tx_lock);
}

static void netdev_drop_waiting(struct net_device *dev)
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

void netif_carrier_on(struct net_device *dev)
{
    if (!__atomic_exchange_n(&dev->carrier, true, __ATOMIC_SEQ_CST)) {
        netdev_tell(dev, NETDEV_CARRIER);
    }
}

void netif_carrier_off(struct net_device *dev)
{
    if (__atomic_exchange_n(&dev->carrier, false, __ATOMIC_SEQ_CST)) {
        netdev_tell(dev, NETDEV_CARRIER);
    }
}

// ---- the devices --------------------------------------------------------------------------------

void rtnl_lock(void)
{
    mutex_lock(&rtnl_mutex);
}

void rtnl_unlock(void)
{
    police_might_sleep();
    mutex_unlock(&rtnl_mutex);
}

struct net_device *netdev_next(struct net_device *after)
{
    struct list_head *next =
        after == NULL ? rcu_dereference(netdev_list.next) : rcu_dereference(after->link.next);
    return next == &netdev_list ? NULL : list_entry(next, struct net_device, link);
}

struct net_device *netdev_find(const char *name)
{
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL && strcmp(dev->name, name) != 0) {
    }
    return dev;
}

void synchronize_net(void)
{
    synchronize_rcu();
}

// "eth" becomes the first free of eth0, eth1, ...; the loopback device has its name alone.
static int netdev_name(struct net_device *dev, const char *prefix)
{
    if (dev->loopback) {
        strscpy(dev->name, prefix, sizeof(dev->name));
        return netdev_find(dev->name) == NULL ? 0 : -EEXIST;
    }
    char name[sizeof(dev->name)];
    for (unsigned number = 0; number < MAX_CPUS; number++) {
        snprintf(name, sizeof(name), "%s%u", prefix, number);
        if (netdev_find(name) == NULL) {
            memcpy(dev->name, name, sizeof(name));
            return 0;
        }
    }
    return -ENOSPC;
}

int register_netdev(struct net_device *dev, const char *prefix)
{
    might_sleep();
    if (dev->ops == NULL || dev->mtu == 0) {
        return -EINVAL;
    }
    rtnl_lock();
    int error = netdev_name(dev, prefix);
    if (error == 0) {
        spin_lock_init(&dev->tx_lock, dev->name);
        INIT_LIST_HEAD(&dev->tx_waiting);
        if (dev->tx_waiting_max == 0) {
            dev->tx_waiting_max = TX_WAITING_DEFAULT;
        }
        dev->ifindex = ++netdev_last_ifindex;
        list_add_tail_rcu(&dev->link, &netdev_list);
    }
    rtnl_unlock();
    if (error == 0 && dev->parent != NULL) {
        const uint8_t *a = dev->dev_addr;
        dev_info(dev->parent, "%s is %02x:%02x:%02x:%02x:%02x:%02x", dev->name, a[0], a[1], a[2],
                 a[3], a[4], a[5]);
    }
    if (error == 0) {
        netdev_tell(dev,
                    NETDEV_REGISTER); // not under the lock: who hears of it may open the device
    }
    return error;
}

static int netdev_open_locked(struct net_device *dev)
{
    if (dev->up) {
        return 0;
    }
    // Up before the driver starts: its first interrupt may come before ndo_open returns.
    WRITE_ONCE(dev->up, true);
    int error = dev->ops->ndo_open(dev);
    if (error != 0) {
        WRITE_ONCE(dev->up, false);
        return error;
    }
    netdev_tell(dev, NETDEV_UP);
    return 0;
}

static void netdev_close_locked(struct net_device *dev)
{
    if (!dev->up) {
        return;
    }
    // Under tx_lock, so that afterwards nobody is inside ndo_start_xmit.
    local_bh_disable();
    spin_lock(&dev->tx_lock);
    WRITE_ONCE(dev->up, false);
    spin_unlock(&dev->tx_lock);
    local_bh_enable();
    netdev_wait_unscheduled(dev);
    netdev_tell(dev, NETDEV_DOWN);
    dev->ops->ndo_stop(dev);
    netdev_drop_waiting(dev);
}

int netdev_open(struct net_device *dev)
{
    rtnl_lock();
    int error = netdev_open_locked(dev);
    rtnl_unlock();
    return error;
}

void netdev_close(struct net_device *dev)
{
    rtnl_lock();
    netdev_close_locked(dev);
    rtnl_unlock();
}

int netdev_set_up(const char *name, bool up)
{
    int error = -ENODEV;
    rtnl_lock();
    struct net_device *dev = netdev_find(name);
    if (dev != NULL && up) {
        error = netdev_open_locked(dev);
    } else if (dev != NULL) {
        netdev_close_locked(dev);
        error = 0;
    }
    rtnl_unlock();
    return error;
}

void unregister_netdev(struct net_device *dev)
{
    rtnl_lock();
    netdev_close_locked(dev);
    list_del_rcu(&dev->link);
    rtnl_unlock();
    // Nobody comes upon it after this: what is forgotten then stays forgotten.
    synchronize_net();
    netdev_tell(dev, NETDEV_UNREGISTER);
}

void netdev_init(void)
{
    skb_init();
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
        struct softnet_data *data = &softnet[cpu];
        INIT_LIST_HEAD(&data->poll_list);
        INIT_LIST_HEAD(&data->backlog);
        INIT_LIST_HEAD(&data->tx_list);
        netif_napi_add(NULL, &data->backlog_napi, backlog_poll, NAPI_WEIGHT);
        napi_enable(&data->backlog_napi);
    }
    open_softirq(NET_TX_SOFTIRQ, net_tx_action);
    open_softirq(NET_RX_SOFTIRQ, net_rx_action);
}

// ---- /proc/net/dev, /proc/net/softnet_stat ------------------------------------------------------

static void netdev_show(struct text *t, unsigned long index)
{
    (void)index;
    text_puts(t, "Inter-|   Receive                                                |  Transmit\n"
                 " face |bytes    packets errs drop fifo frame compressed multicast"
                 "|bytes    packets errs drop fifo colls carrier compressed\n");
    rtnl_lock();
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL) {
        const struct net_device_stats *s = &dev->stats;
        text_printf(t, "%6s: %7llu %7llu %4llu %4llu %4llu %5llu %10llu %9llu", dev->name,
                    (unsigned long long)s->rx_bytes, (unsigned long long)s->rx_packets,
                    (unsigned long long)s->rx_errors, (unsigned long long)s->rx_dropped,
                    (unsigned long long)s->rx_fifo_errors, (unsigned long long)s->rx_frame_errors,
                    (unsigned long long)s->rx_compressed, (unsigned long long)s->multicast);
        text_printf(t, " %8llu %7llu %4llu %4llu %4llu %5llu %7llu %10llu\n",
                    (unsigned long long)s->tx_bytes, (unsigned long long)s->tx_packets,
                    (unsigned long long)s->tx_errors, (unsigned long long)s->tx_dropped,
                    (unsigned long long)s->tx_fifo_errors, (unsigned long long)s->collisions,
                    (unsigned long long)s->tx_carrier_errors, (unsigned long long)s->tx_compressed);
    }
    rtnl_unlock();
}

// Fifteen words as Linux 6 writes them; those for what we do not have (flow limit, RPS) are zero.
static void softnet_show(struct text *t, unsigned long index)
{
    (void)index;
    for_each_online_cpu (cpu) {
        const struct softnet_data *data = &softnet[cpu];
        text_printf(t,
                    "%08x %08x %08x %08x %08x %08x %08x %08x %08x %08x %08x %08x %08x %08x %08x\n",
                    data->processed, data->dropped, data->time_squeeze, 0, 0, 0, 0, 0, 0, 0, 0,
                    data->backlog_length, cpu, data->backlog_length, 0);
    }
}

PROC_FILE("net/dev", netdev_show);
PROC_FILE("net/softnet_stat", softnet_show);
