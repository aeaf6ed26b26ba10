// Ethernet: the first and the last header of every packet.
//
//   0            6            12      14
//   | destination |   source   | type  | payload, at least 46 bytes with padding ...   (IEEE 802.3, 3.1.1)
//
// Input sorts frames: those for others, from nobody, too short or of an unknown type end here, each
// with its counter. Output pads with zeroes, so that no old memory leaves the machine behind a
// short packet.
//
// Context: eth_input in NET_RX softirq, called by netif_receive_skb. Previous: kernel/dev/napi.c.
// Next: ipv4.c or arp.c.
#include <lib/string.h>
#include <dev/netdev.h>
#include <dev/skbuff.h>

#include "inet.h"

const uint8_t eth_broadcast[ETH_ALEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

// For us: our own address or a group's. Which groups' frames are wanted, ip_input knows.
static bool eth_is_for_us(const struct net_device *dev, const uint8_t *destination)
{
    return dev->loopback || (destination[0] & 1) != 0 || eth_equal(destination, dev->dev_addr);
}

// A frame is sent by one station, and not by ourselves: our own coming back means a loop in the
// network.
static bool eth_source_is_good(const struct net_device *dev, const uint8_t *source)
{
    return dev->loopback || (eth_is_station(source) && !eth_equal(source, dev->dev_addr));
}

void eth_input(struct sk_buff *skb)
{
    assert_in_softirq();
    net_received();
    struct net_device *dev = skb->dev;
    if (!READ_ONCE(dev->up)) {
        net_end(skb, NET_DROP_DOWN);
        return;
    }
    uint8_t *header = skb->data;
    if (skb_pull(skb, ETH_HLEN) == NULL) {
        net_end(skb, NET_DROP_ETH_RUNT);
        return;
    }
    skb->mac_header = header;
    skb->network_header = skb->data;
    if (!eth_source_is_good(dev, header + ETH_SOURCE)) {
        net_end(skb, NET_DROP_ETH_SOURCE);
        return;
    }
    if (!eth_is_for_us(dev, header + ETH_DESTINATION)) {
        net_end(skb, NET_DROP_ETH_DESTINATION);
        return;
    }
    if ((header[ETH_DESTINATION] & 1) != 0) {
        netdev_count(&dev->stats.multicast, 1);
    }
    skb->protocol = get_be16(header + ETH_TYPE);
    switch (skb->protocol) {
    case ETH_P_IP:
        ip_input(skb);
        break;
    case ETH_P_ARP:
        arp_input(skb);
        break;
    default: // IPv6, and lengths of IEEE 802.3 (below 0x600), too
        net_end(skb, NET_DROP_ETH_TYPE);
        break;
    }
}

int eth_send(struct sk_buff *skb, struct net_device *dev, const uint8_t *destination, uint16_t type)
{
    uint8_t *header = skb_push(skb, ETH_HLEN);
    memcpy(header + ETH_DESTINATION, destination, ETH_ALEN);
    memcpy(header + ETH_SOURCE, dev->dev_addr, ETH_ALEN);
    put_be16(header + ETH_TYPE, type);
    if (skb->len < ETH_MIN && !dev->loopback) {
        uint32_t padding = ETH_MIN - skb->len;
        memset(skb_put(skb, padding), 0, padding);
    }
    skb->dev = dev;
    skb->mac_header = header;
    skb->protocol = type;
    return dev_queue_xmit(skb);
}
