// Inside kernel/net: the wire formats, how the protocols call each other, and where every received
// frame is counted.
//
//   eth_input ─┬─ arp_input                              udp_send  icmp_ping  (replies)
//              └─ ip_input ─┬─ icmp_input                     └───────┴──────────┘
//                           └─ udp_input ─ socket                 ip_send ─ ip_route
//                                                                 ip_output
//                                                                 arp_output (next hop to address)
//                                                                 eth_send ─ dev_queue_xmit
//
// Headers are read and written byte by byte at the offsets below, in network order, wherever they
// lie: no struct is laid over a packet, so neither alignment nor byte order can be wrong in
// silence. A packet's `data` points at the header of the layer that has it; nothing beyond `len` is
// looked at.
#pragma once

#include <lib/text.h>
#include <lib/types.h>
#include <dev/netdev.h>
#include <net/net.h>

// ---- wire formats -------------------------------------------------------------------------------

static inline uint16_t get_be16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] << 8 | b[1]);
}

static inline uint32_t get_be32(const void *p)
{
    return (uint32_t)get_be16(p) << 16 | get_be16((const uint8_t *)p + 2);
}

static inline void put_be16(void *p, uint16_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)(v >> 8);
    b[1] = (uint8_t)v;
}

static inline void put_be32(void *p, uint32_t v)
{
    put_be16(p, (uint16_t)(v >> 16));
    put_be16((uint8_t *)p + 2, (uint16_t)v);
}

// checksum_internet() already returns the bytes in the order in which they are stored.
static inline void put_checksum(void *p, uint16_t v)
{
    __builtin_memcpy(p, &v, sizeof(v));
}

static inline bool eth_equal(const uint8_t *a, const uint8_t *b)
{
    return get_le32(a) == get_le32(b) && get_le16(a + 4) == get_le16(b + 4);
}
// One station's address: neither a group's nor nobody's.
static inline bool eth_is_station(const uint8_t *a)
{
    return (a[0] & 1) == 0 && (get_le32(a) | get_le16(a + 4)) != 0;
}

enum { ETH_DESTINATION = 0, ETH_SOURCE = 6, ETH_TYPE = 12, ETH_MIN = 60 };
enum { ETH_P_IP = 0x0800, ETH_P_ARP = 0x0806 };

enum { // RFC 826, for Ethernet and IPv4
    ARP_HARDWARE = 0,
    ARP_PROTOCOL = 2,
    ARP_HARDWARE_LENGTH = 4,
    ARP_PROTOCOL_LENGTH = 5,
    ARP_OPERATION = 6,
    ARP_SENDER_MAC = 8,
    ARP_SENDER_IP = 14,
    ARP_TARGET_MAC = 18,
    ARP_TARGET_IP = 24,
    ARP_LENGTH = 28,
};
enum { ARP_REQUEST = 1, ARP_REPLY = 2 };

enum { // RFC 791, 3.1
    IP_VERSION_IHL = 0,
    IP_TOS = 1,
    IP_TOTAL_LENGTH = 2,
    IP_ID = 4,
    IP_FRAGMENT = 6,
    IP_TTL = 8,
    IP_PROTOCOL = 9,
    IP_CHECKSUM = 10,
    IP_SOURCE = 12,
    IP_DESTINATION = 16,
    IP_HEADER = 20,
};
enum { IP_DF = 0x4000, IP_MF = 0x2000, IP_OFFSET = 0x1fff };
enum { IPPROTO_ICMP = 1, IPPROTO_TCP = 6, IPPROTO_UDP = 17 };
enum { IP_DEFAULT_TTL = 64 };

enum {
    ICMP_TYPE = 0,
    ICMP_CODE = 1,
    ICMP_CHECKSUM = 2,
    ICMP_ID = 4,
    ICMP_SEQUENCE = 6,
    ICMP_HEADER = 8
};
enum { // RFC 792
    ICMP_ECHO_REPLY = 0,
    ICMP_UNREACHABLE = 3,
    ICMP_SOURCE_QUENCH = 4,
    ICMP_REDIRECT = 5,
    ICMP_ECHO = 8,
    ICMP_TIME_EXCEEDED = 11,
    ICMP_PARAMETER_PROBLEM = 12,
};
enum { ICMP_PROTOCOL_UNREACHABLE = 2, ICMP_PORT_UNREACHABLE = 3 };

enum { UDP_SOURCE = 0, UDP_DESTINATION = 2, UDP_LENGTH = 4, UDP_CHECKSUM = 6, UDP_HEADER = 8 };

static inline bool ip_is_multicast(uint32_t address)
{
    return address >> 28 == 0xe;
}
static inline bool ip_is_loopback(uint32_t address)
{
    return address >> 24 == 127;
}
enum { IP_BROADCAST = 0xffffffffu };

// ---- where frames end
// ---------------------------------------------------------------------------- Each frame that
// reaches eth_input ends in exactly one of these. `received` is counted at the beginning, so in
// /proc/net/input received = accepted + dropped, to the frame; tests hold us to it.

#define NET_ENDS(X)                                                                        \
    X(ARP_REQUEST, "accepted.arp_request") /* for us: answered */                          \
    X(ARP_REPLY, "accepted.arp_reply")     /* to a question of ours */                     \
    X(ARP_UPDATE, "accepted.arp_update")   /* news of somebody we know */                  \
    X(ICMP_ECHO, "accepted.icmp_echo")     /* answered */                                  \
    X(ICMP_REPLY, "accepted.icmp_reply")   /* somebody here waited for it */               \
    X(ICMP_ERROR, "accepted.icmp_error")   /* about a packet of ours */                    \
    X(UDP_SOCKET, "accepted.udp_socket")   /* in a socket's queue */                       \
    X(UDP_SERVICE, "accepted.udp_service") /* echo, discard, DHCP */                       \
    X(DROP_DOWN, "dropped.device_down")                                                    \
    X(DROP_ETH_RUNT, "dropped.eth_runt")                                                   \
    X(DROP_ETH_SOURCE, "dropped.eth_source") /* a group, nobody, or ourselves */           \
    X(DROP_ETH_DESTINATION, "dropped.eth_destination")                                     \
    X(DROP_ETH_TYPE, "dropped.eth_type")                                                   \
    X(DROP_ARP_SHORT, "dropped.arp_short")                                                 \
    X(DROP_ARP_FORMAT, "dropped.arp_format")                                               \
    X(DROP_ARP_SENDER, "dropped.arp_sender")     /* an address nobody can have */          \
    X(DROP_ARP_CONFLICT, "dropped.arp_conflict") /* somebody else claims our address */    \
    X(DROP_ARP_OTHER, "dropped.arp_other")       /* between others, or unasked for */      \
    X(DROP_IP_SHORT, "dropped.ip_short")                                                   \
    X(DROP_IP_VERSION, "dropped.ip_version")                                               \
    X(DROP_IP_HEADER, "dropped.ip_header") /* header length */                             \
    X(DROP_IP_LENGTH, "dropped.ip_length") /* total length against header or frame */      \
    X(DROP_IP_CHECKSUM, "dropped.ip_checksum")                                             \
    X(DROP_IP_SOURCE, "dropped.ip_source")           /* not one host's address, or ours */ \
    X(DROP_IP_DESTINATION, "dropped.ip_destination") /* not ours */                        \
    X(DROP_IP_FRAGMENT, "dropped.ip_fragment")       /* not reassembled here */            \
    X(DROP_IP_PROTOCOL, "dropped.ip_protocol")                                             \
    X(DROP_ICMP_SHORT, "dropped.icmp_short")                                               \
    X(DROP_ICMP_CHECKSUM, "dropped.icmp_checksum")                                         \
    X(DROP_ICMP_BROADCAST, "dropped.icmp_broadcast") /* echo to everybody */               \
    X(DROP_ICMP_TYPE, "dropped.icmp_type")                                                 \
    X(DROP_ICMP_STRAY, "dropped.icmp_stray") /* a reply or error nobody waits for */       \
    X(DROP_UDP_SHORT, "dropped.udp_short")                                                 \
    X(DROP_UDP_LENGTH, "dropped.udp_length")                                               \
    X(DROP_UDP_CHECKSUM, "dropped.udp_checksum")                                           \
    X(DROP_UDP_PORT, "dropped.udp_port")       /* closed: port unreachable */              \
    X(DROP_UDP_FULL, "dropped.udp_full")       /* the socket's queue */                    \
    X(DROP_UDP_SERVICE, "dropped.udp_service") /* a service refuses: broadcast, loop, bad DHCP */

enum net_end {
#define X(name, text) NET_##name,
    NET_ENDS(X)
#undef X
        NET_END_COUNT,
};
enum { NET_FIRST_DROP = NET_DROP_DOWN };

// What else happened, for /proc/net/snmp.
enum net_event {
    NET_IP_OUT,
    NET_IP_OUT_NO_ROUTE,
    NET_IP_OUT_DISCARDED,
    NET_ICMP_OUT_ECHO,
    NET_ICMP_OUT_REPLY,
    NET_ICMP_OUT_UNREACHABLE,
    NET_ICMP_OUT_LIMITED, // errors not sent for the rate limit
    NET_ICMP_IN_UNREACHABLE,
    NET_ICMP_IN_TIME_EXCEEDED,
    NET_UDP_OUT,
    NET_ARP_OUT_REQUEST,
    NET_ARP_OUT_REPLY,
    NET_ARP_UNRESOLVED, // packets dropped because nobody answered for their next hop
    NET_EVENT_COUNT,
};

// Counts where the frame ended, and frees it (net_end) or leaves it to the caller, who sends it
// back as a reply (net_mark).
void net_end(struct sk_buff *skb, enum net_end end);
void net_mark(enum net_end end);
void net_received(void);
void net_event(enum net_event event);
uint64_t net_end_count(enum net_end end);
uint64_t net_received_count(void);

// ---- the protocols, from below
// ------------------------------------------------------------------- All input runs in NET_RX
// softirq and takes the packet over. All output: any but hard irq, takes the packet over, 0 or
// -errno.

// Pushes an Ethernet header, pads to the minimum and sends.
int eth_send(struct sk_buff *skb, struct net_device *dev, const uint8_t *destination,
             uint16_t type);
extern const uint8_t eth_broadcast[ETH_ALEN];

void arp_init(void);
void arp_input(struct sk_buff *skb);
// Sends an IP packet to next_hop's Ethernet address, now or when it is known.
int arp_output(struct sk_buff *skb, struct net_device *dev, uint32_t next_hop);
void arp_announce(struct net_device *dev); // gratuitous: this address is mine
void arp_flush(struct net_device *dev);    // forgets all that was learnt there, frees what waits

struct ip_info { // what ip_input has checked
    uint32_t source, destination;
    uint8_t protocol, ttl;
    bool to_many; // the frame or the packet was not for us alone
};
void ip_input(struct sk_buff *skb);
// As ip_send, but by this device and next hop; source may be 0 (DHCP).
int ip_output(struct sk_buff *skb, struct net_device *dev, uint32_t next_hop, uint32_t source,
              uint32_t destination, uint8_t protocol, uint8_t ttl);
uint32_t ip_pseudo_sum(uint32_t source, uint32_t destination, uint8_t protocol, uint16_t length);

bool route_is_local(uint32_t address);
bool route_is_broadcast(uint32_t address); // 255.255.255.255 or the broadcast of a network of ours
void route_init(void);
// address 0 takes it away. Announces, flushes ARP.
void route_set_address(struct net_device *dev, uint32_t address, uint32_t mask, uint32_t gateway);

// ip= : what to do with a device that appears.
enum ip_mode { IP_MODE_DHCP, IP_MODE_STATIC, IP_MODE_OFF };
struct ip_config {
    enum ip_mode mode;
    uint32_t address, mask, gateway;
};
void ip_config_for(const struct net_device *dev, struct ip_config *config);

void icmp_input(struct sk_buff *skb, const struct ip_info *ip);
// Tells the sender of the packet, whose `data` is behind its IP header, that it cannot be
// delivered. Rate-limited; keeps the rules of RFC 1122, 3.2.2 about when not to. Does not free the
// packet.
void icmp_send_unreachable(struct sk_buff *skb, const struct ip_info *ip, uint8_t code);
// A packet of ours (data at its IP header) could not be sent: wakes the ping that waits for it.
void icmp_output_failed(const struct sk_buff *skb, int error);

void udp_init(void);
void udp_input(struct sk_buff *skb, const struct ip_info *ip);
// A service in the kernel: called in softirq with data at the UDP payload, takes the packet over
// and ends it. 0 or -EADDRINUSE.
typedef void (*udp_service_t)(struct sk_buff *skb, const struct ip_info *ip, uint16_t source_port);
int udp_serve(uint16_t port, udp_service_t service);
// Pushes a UDP header (checksum included) for a packet between these addresses.
void udp_push_header(struct sk_buff *skb, uint32_t source, uint16_t source_port,
                     uint32_t destination, uint16_t destination_port);

void loopback_init(void);

void dhcp_init(void);
void dhcp_attach(struct net_device *dev); // NETDEV_REGISTER
void dhcp_detach(struct net_device *dev); // NETDEV_UNREGISTER
void dhcp_wake(struct net_device *dev);   // up or carrier changed
