// IPv4 on Ethernet: ARP, ICMP echo, UDP with echo and discard servers, DHCP. Byte order of addresses in arguments is the host's.
#pragma once

#include <dev/netdev.h>
#include <lib/types.h>

void net_init(void); // before drivers; registers lo
// What netdev_input and netdev_notify are tied to. Softirq; any.
void eth_input(struct sk_buff *skb);
void net_notify(struct net_device *dev, enum netdev_event event);

// Next hop and device for a destination; NULL: no route.
struct net_device *ip_route(uint32_t destination, uint32_t *next_hop, uint32_t *source);
// Adds IPv4 and Ethernet headers and sends, asking ARP when the next hop is unknown (the packet waits, bounded). Takes the packet over. 0, -ENETUNREACH, -EMSGSIZE, ...
int ip_send(struct sk_buff *skb, uint32_t source, uint32_t destination, uint8_t protocol,
            uint8_t ttl);

// Sockets of the datagram kind, for DHCP, servers and commands.
struct udp_socket;
struct udp_socket *udp_open(uint16_t port); // 0: any free one; NULL: taken or no memory
void udp_close(struct udp_socket *socket);
int udp_send(struct udp_socket *socket, uint32_t to, uint16_t port, const void *data, size_t size);
// Sleeps; bytes, -EINTR, -ETIMEDOUT.
long udp_receive(struct udp_socket *socket, void *to, size_t size, uint32_t *from, uint16_t *port,
                 uint32_t timeout_ms);

// One echo request and its reply. ns of round trip, -ETIMEDOUT, -EHOSTUNREACH, -EINTR, -ENETUNREACH.
int64_t icmp_ping(uint32_t to, uint16_t id, uint16_t sequence, size_t size, uint32_t timeout_ms,
                  uint8_t *ttl);
