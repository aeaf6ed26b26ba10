// IPv4 on Ethernet: ARP, ICMP echo, UDP with echo and discard servers, DHCP. Byte order of
// addresses in arguments is the host's.
// Context: any, where a line does not say otherwise.
#pragma once

#include <dev/netdev.h>
#include <lib/types.h>

void net_init(void); // before drivers; registers lo. Context: thread
// What netdev_input and netdev_notify are tied to.
void eth_input(struct sk_buff *skb); // Context: softirq
void net_notify(struct net_device *dev, enum netdev_event event);

// Next hop, device and our own address for a destination; NULL: no route. Context: softirq, or
// bottom halves off for as long as the device is used.
struct net_device *ip_route(uint32_t destination, uint32_t *next_hop, uint32_t *source);
// Adds IPv4 and Ethernet headers and sends, asking ARP when the next hop is unknown (the packet
// waits, bounded). Takes the packet over. 0, -ENETUNREACH, -EMSGSIZE, ... Context: any but hard
// irq.
int ip_send(struct sk_buff *skb, uint32_t source, uint32_t destination, uint8_t protocol,
            uint8_t ttl);

// Sockets of the datagram kind, for DHCP, servers and commands. Context: thread.
struct udp_socket;
struct udp_socket *udp_open(uint16_t port); // 0: any free one; NULL: taken or no memory
void udp_close(struct udp_socket *socket);
// Context: any but hard irq.
int udp_send(struct udp_socket *socket, uint32_t to, uint16_t port, const void *data, size_t size);
// Sleeps; bytes, -EINTR, -ETIMEDOUT. Context: thread.
long udp_receive(struct udp_socket *socket, void *to, size_t size, uint32_t *from, uint16_t *port,
                 uint32_t timeout_ms);

// One echo request and its reply. ns of round trip, -ETIMEDOUT, -EHOSTUNREACH (nobody there, or a
// router says so), -EINTR, -ENETUNREACH,
// -EMSGSIZE, -ENOBUFS, -ENETDOWN. answer may be NULL; after -EHOSTUNREACH its `from` is who said
// so. Context: thread.
struct icmp_answer {
    uint32_t from;
    uint8_t ttl;
};
int64_t icmp_ping(uint32_t to, uint16_t id, uint16_t sequence, size_t size, uint32_t timeout_ms,
                  struct icmp_answer *answer);

// ---- for commands and /proc ---------------------------------------------------------------------

// "a.b.c.d" or "a.b.c.d/n" that a host may have: 0 or -EINVAL. Without /n the mask is all ones.
int net_parse_address(const char *text, uint32_t *address, uint32_t *mask);
// "a.b.c.d" into 16 bytes.
void net_format_address(char to[16], uint32_t address);
// Gives a device an address by hand (0 takes it away) and ends DHCP there. 0, -EINVAL (gateway is
// no neighbour). Context: thread, rtnl_lock held.
int net_set_address(struct net_device *dev, uint32_t address, uint32_t mask, uint32_t gateway);
// Seconds that the address of a device is still leased by DHCP; false: it is not leased.
bool dhcp_lease_left(const struct net_device *dev, uint32_t *seconds);

enum arp_state { ARP_FREE, ARP_INCOMPLETE, ARP_REACHABLE, ARP_STALE, ARP_PROBE };
struct arp_view {
    uint32_t address;
    uint8_t mac[ETH_ALEN];
    enum arp_state state;
    char device[16];
};
enum { ARP_ENTRIES = 256 };
// The k-th slot of the cache, k < ARP_ENTRIES; false when it is free.
bool arp_entry(unsigned k, struct arp_view *view);
