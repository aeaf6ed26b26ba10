// The network device class: between drivers, which move frames, and protocols, which understand
// them.
//
//   napi.c        frames that arrive: from the top half to netif_receive_skb
//   netdev_tx.c   packets that leave: from dev_queue_xmit to the driver
//   this file     the devices themselves: registered, opened, closed, gone
//
//   register_netdev ──> down ── netdev_open ──> up ── netdev_close ──> down ──> unregister_netdev
//                       listed, found by name   its driver's interrupts come    no packet is on its
//                                                                               way to it any more
//
// The list of devices is changed under rtnl_lock and read by RCU (<core/rcu.h>): softirqs look up
// where a packet goes and take no lock. A removed device keeps its next pointer, and its memory,
// until synchronize_net() says that nobody can still stand on it.
//
// Context: as <dev/netdev.h> says. Next: napi.c, netdev_tx.c.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/device.h>
#include <contract/proc_file.h>
#include <core/cpu.h>
#include <core/log.h>
#include <sched/mutex.h>
#include <defer/rcu.h>
#include <dev/netdev.h>

#include "netdev_internal.h"

static LIST_HEAD(netdev_list); // L of rtnl_mutex for changes
static DEFINE_MUTEX(rtnl_mutex);
static int netdev_last_ifindex; // L of rtnl_mutex

void (*netdev_notify)(struct net_device *dev, enum netdev_event event);

static void netdev_tell(struct net_device *dev, enum netdev_event event)
{
    if (netdev_notify != NULL) {
        netdev_notify(dev, event);
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

// ---- the list -----------------------------------------------------------------------------------

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
        netdev_tx_setup(dev);
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

// ---- up and down --------------------------------------------------------------------------------

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
    netdev_tx_shut(dev);
    netdev_tell(dev, NETDEV_DOWN);
    dev->ops->ndo_stop(dev);
    netdev_tx_drop(dev);
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
    napi_init();
    netdev_tx_init();
}

// ---- /proc/net/dev ------------------------------------------------------------------------------

static void netdev_show(struct text *t, unsigned long index __unused)
{
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

PROC_FILE("net/dev", netdev_show);
