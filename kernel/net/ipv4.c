// IPv4 (RFC 791) for a host (RFC 1122, 3.2): what comes in is checked field by field before
// anything is believed; what goes out carries "don't fragment" and is refused when it does not fit.
//
//   0        1        2                 4        6           8     9         10        12        16            20
//   |ver ihl | tos    | total length    | id     | fragment  | ttl | protocol| checksum| source  | destination | options ... data
//
// Not here, on purpose: fragments are dropped and counted (nothing that this kernel speaks needs
// them), options are skipped unread, nothing is forwarded. A host does not look at TTL on input
// (RFC 1122, 3.2.1.7).
//
// Context: ip_input in NET_RX softirq; ip_send in any but hard irq. Previous: eth.c. Next: icmp.c,
// udp.c, their consumers.
#include <lib/checksum.h>
#include <lib/errno.h>
#include <lib/string.h>
#include <defer/softirq.h>
#include <dev/netdev.h>
#include <dev/skbuff.h>
#include <net/net.h>

#include "inet.h"

// ---- input --------------------------------------------------------------------------------------

// Checks the header and cuts the packet to its total length (Ethernet pads short ones).
// NET_END_COUNT: it is good.
static enum net_end ip_check_header(struct sk_buff *skb)
{
    const uint8_t *header = skb->data;
    if (skb->len < IP_HEADER) {
        return NET_DROP_IP_SHORT;
    }
    if (header[IP_VERSION_IHL] >> 4 != 4) {
        return NET_DROP_IP_VERSION;
    }
    uint32_t header_length = (header[IP_VERSION_IHL] & 15u) * 4;
    if (header_length < IP_HEADER || header_length > skb->len) {
        return NET_DROP_IP_HEADER;
    }
    uint32_t total = get_be16(header + IP_TOTAL_LENGTH);
    if (total < header_length || total > skb->len) {
        return NET_DROP_IP_LENGTH;
    }
    if (checksum_internet(header, header_length, 0) != 0) {
        return NET_DROP_IP_CHECKSUM;
    }
    skb_trim(skb, total);
    return NET_END_COUNT;
}

// Whoever answers must be one host, and not ourselves (RFC 1122, 3.2.1.3); 127.x.x.x never crosses
// a wire.
static bool ip_source_is_good(const struct net_device *dev, uint32_t source)
{
    if (dev->loopback) {
        return route_is_local(source);
    }
    return source >> 24 != 0 && source >> 28 < 0xe && !route_is_local(source) &&
           !route_is_broadcast(source);
}

static bool ip_destination_is_good(const struct net_device *dev, uint32_t destination)
{
    if (ip_is_loopback(destination)) {
        return dev->loopback;
    }
    return route_is_local(destination) || route_is_broadcast(destination);
}

void ip_input(struct sk_buff *skb)
{
    enum net_end bad = ip_check_header(skb);
    if (bad != NET_END_COUNT) {
        net_end(skb, bad);
        return;
    }
    const uint8_t *header = skb->data;
    struct ip_info ip = {
        .source = get_be32(header + IP_SOURCE),
        .destination = get_be32(header + IP_DESTINATION),
        .protocol = header[IP_PROTOCOL],
        .ttl = header[IP_TTL],
    };
    if (!ip_source_is_good(skb->dev, ip.source)) {
        net_end(skb, NET_DROP_IP_SOURCE);
        return;
    }
    bool frame_to_many = !skb->dev->loopback && (skb->mac_header[ETH_DESTINATION] & 1) != 0;
    bool packet_to_many = route_is_broadcast(ip.destination);
    // One host's packet in a frame for everybody is somebody's trick (RFC 1122, 3.3.6).
    if (!ip_destination_is_good(skb->dev, ip.destination) || (frame_to_many && !packet_to_many)) {
        net_end(skb, NET_DROP_IP_DESTINATION);
        return;
    }
    ip.to_many = frame_to_many || packet_to_many;
    if ((get_be16(header + IP_FRAGMENT) & (IP_MF | IP_OFFSET)) != 0) {
        net_end(skb, NET_DROP_IP_FRAGMENT);
        return;
    }
    skb->network_header = skb->data;
    skb_pull(skb, (header[IP_VERSION_IHL] & 15u) * 4);
    switch (ip.protocol) {
    case IPPROTO_ICMP:
        icmp_input(skb, &ip);
        break;
    case IPPROTO_UDP:
        udp_input(skb, &ip);
        break;
    default: // TCP, too: there are no listeners to refuse for
        icmp_send_unreachable(skb, &ip, ICMP_PROTOCOL_UNREACHABLE);
        net_end(skb, NET_DROP_IP_PROTOCOL);
        break;
    }
}

// ---- output -------------------------------------------------------------------------------------

// What the checksums of UDP cover beside the packet itself (RFC 768): a partial sum to go on from.
uint32_t ip_pseudo_sum(uint32_t source, uint32_t destination, uint8_t protocol, uint16_t length)
{
    uint8_t pseudo[12];
    put_be32(pseudo, source);
    put_be32(pseudo + 4, destination);
    pseudo[8] = 0;
    pseudo[9] = protocol;
    put_be16(pseudo + 10, length);
    return checksum_partial(pseudo, sizeof(pseudo), 0);
}

int ip_output(struct sk_buff *skb, struct net_device *dev, uint32_t next_hop, uint32_t source,
              uint32_t destination, uint8_t protocol, uint8_t ttl)
{
    if (skb->len + IP_HEADER > dev->mtu) {
        net_event(NET_IP_OUT_DISCARDED);
        kfree_skb(skb);
        return -EMSGSIZE;
    }
    uint8_t *header = skb_push(skb, IP_HEADER);
    header[IP_VERSION_IHL] = 4 << 4 | IP_HEADER / 4;
    header[IP_TOS] = 0;
    put_be16(header + IP_TOTAL_LENGTH, (uint16_t)skb->len);
    put_be16(header + IP_ID, 0); // never fragmented, so it needs no identity (RFC 6864, 4.1)
    put_be16(header + IP_FRAGMENT, IP_DF);
    header[IP_TTL] = ttl;
    header[IP_PROTOCOL] = protocol;
    put_be16(header + IP_CHECKSUM, 0);
    put_be32(header + IP_SOURCE, source);
    put_be32(header + IP_DESTINATION, destination);
    put_checksum(header + IP_CHECKSUM, checksum_internet(header, IP_HEADER, 0));
    skb->network_header = header;
    net_event(NET_IP_OUT);
    if (dev->loopback) {
        return eth_send(skb, dev, dev->dev_addr, ETH_P_IP);
    }
    if (route_is_broadcast(destination)) {
        return eth_send(skb, dev, eth_broadcast, ETH_P_IP);
    }
    return arp_output(skb, dev, next_hop);
}

int ip_send(struct sk_buff *skb, uint32_t source, uint32_t destination, uint8_t protocol,
            uint8_t ttl)
{
    police_context(CTX_THREAD | CTX_ATOMIC | CTX_SOFTIRQ);
    local_bh_disable(); // the device that the route names stays as long as these are off
    uint32_t next_hop, own;
    struct net_device *dev = ip_route(destination, &next_hop, &own);
    int error = -ENETUNREACH;
    if (dev != NULL) {
        error =
            ip_output(skb, dev, next_hop, source != 0 ? source : own, destination, protocol, ttl);
    } else {
        net_event(NET_IP_OUT_NO_ROUTE);
        kfree_skb(skb);
    }
    local_bh_enable();
    return error;
}
