// lo: what this machine sends to itself comes back in through the front door, Ethernet header and
// all, so that loopback tests exercise the same code as the wire does.
//
// Context: loopback_xmit under tx_lock, softirqs off; the packet comes in again in a later NET_RX
// round (netif_rx).
#include <core/panic.h>
#include <dev/netdev.h>
#include <dev/skbuff.h>

#include "inet.h"

static struct net_device loopback;

static int loopback_open(struct net_device *dev)
{
    netif_carrier_on(dev);
    return 0;
}

static int loopback_stop(struct net_device *dev)
{
    netif_carrier_off(dev);
    return 0;
}

static enum netdev_tx loopback_xmit(struct sk_buff *skb, struct net_device *dev)
{
    netdev_count(&dev->stats.tx_packets, 1);
    netdev_count(&dev->stats.tx_bytes, skb->len);
    netif_rx(skb);
    return NETDEV_TX_OK;
}

static const struct net_device_ops loopback_ops = {
    .ndo_open = loopback_open, .ndo_stop = loopback_stop, .ndo_start_xmit = loopback_xmit};

void loopback_init(void)
{
    loopback.ops = &loopback_ops;
    loopback.mtu = NET_MAX_MTU;
    loopback.loopback = true;
    int error = register_netdev(&loopback, "lo");
    assert(error == 0);
    route_set_address(&loopback, 127u << 24 | 1, 0xff000000u, 0);
    error = netdev_open(&loopback);
    assert(error == 0);
}
