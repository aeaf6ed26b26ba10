// UDP (RFC 768): ports, sockets that threads read, and the two services that every kernel test
// needs: echo and discard.
//
//   0             2                  4        6          8
//   | source port | destination port | length | checksum | data ...
//
// A port belongs to a service, which is a function called in softirq, or to a socket, which has a
// bounded queue and a wait queue: the packet is queued, the reader woken. That wake-up is where an
// interrupt's way ends (docs/READING.md, the first story).
//
// Context: input in softirq; sockets in threads. Lock: one for the table and the queues; waking and
// copying happen outside or are short.
#include <lib/checksum.h>
#include <lib/errno.h>
#include <lib/list.h>
#include <lib/string.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <mm/slab.h>
#include <sched/wait.h>
#include <defer/softirq.h>
#include <dev/netdev.h>
#include <dev/skbuff.h>
#include <net/net.h>

#include "inet.h"

enum {
    UDP_QUEUE_MAX = 128, // packets
    UDP_SERVICES_MAX = 8,
    UDP_DATA_MAX = 16000,        // bytes that one packet buffer holds; the MTU is nearer
    UDP_EPHEMERAL_FIRST = 49152, // RFC 6335
    UDP_EPHEMERAL_COUNT = 16384,
    UDP_PORT_ECHO = 7,
    UDP_PORT_DISCARD = 9,
};

struct udp_socket {
    struct list_head link;     // L
    uint16_t port;             // I
    struct list_head received; // L: packets, data at the payload
    uint32_t received_count;   // L
    uint64_t dropped;          // L
    struct wait_queue_head readers;
};

struct udp_service {
    uint16_t port;
    udp_service_t function;
};

static DEFINE_SPINLOCK(udp_lock);
static LIST_HEAD(udp_sockets);                            // L
static struct udp_service udp_services[UDP_SERVICES_MAX]; // I after net_init
static unsigned udp_service_count;                        // I
static uint16_t udp_next_port;                            // L

static void udp_lock_bh(void)
{
    local_bh_disable();
    spin_lock(&udp_lock);
}

static void udp_unlock_bh(void)
{
    spin_unlock(&udp_lock);
    local_bh_enable();
}

// ---- input --------------------------------------------------------------------------------------

static udp_service_t udp_find_service(uint16_t port)
{
    for (unsigned i = 0; i < udp_service_count; i++) {
        if (udp_services[i].port == port) {
            return udp_services[i].function;
        }
    }
    return NULL;
}

static struct udp_socket *udp_find_locked(uint16_t port)
{
    struct udp_socket *socket;
    list_for_each_entry (socket, &udp_sockets, link) {
        if (socket->port == port) {
            return socket;
        }
    }
    return NULL;
}

// Cuts the packet to its length. NET_END_COUNT: it is good.
static enum net_end udp_check(struct sk_buff *skb, const struct ip_info *ip)
{
    if (skb->len < UDP_HEADER) {
        return NET_DROP_UDP_SHORT;
    }
    uint16_t length = get_be16(skb->data + UDP_LENGTH);
    if (length < UDP_HEADER || length > skb->len) {
        return NET_DROP_UDP_LENGTH;
    }
    skb_trim(skb, length);
    if (get_be16(skb->data + UDP_CHECKSUM) != 0 && // 0: the sender made none
        checksum_internet(skb->data, length,
                          ip_pseudo_sum(ip->source, ip->destination, IPPROTO_UDP, length)) != 0) {
        return NET_DROP_UDP_CHECKSUM;
    }
    return NET_END_COUNT;
}

void udp_input(struct sk_buff *skb, const struct ip_info *ip)
{
    enum net_end end = udp_check(skb, ip);
    if (end != NET_END_COUNT) {
        net_end(skb, end);
        return;
    }
    uint16_t source_port = get_be16(skb->data + UDP_SOURCE);
    uint16_t port = get_be16(skb->data + UDP_DESTINATION);
    udp_service_t service = udp_find_service(port);
    if (service != NULL) {
        skb_pull(skb, UDP_HEADER);
        service(skb, ip, source_port);
        return;
    }
    udp_lock_bh();
    struct udp_socket *socket = udp_find_locked(port);
    if (socket == NULL) {
        end = NET_DROP_UDP_PORT;
    } else if (socket->received_count == UDP_QUEUE_MAX) {
        socket->dropped++;
        end = NET_DROP_UDP_FULL;
    } else {
        skb_pull(skb, UDP_HEADER);
        net_mark(NET_UDP_SOCKET);
        list_add_tail(&skb->link, &socket->received);
        socket->received_count++;
        wake_up(&socket->readers);
    }
    udp_unlock_bh();
    if (end == NET_DROP_UDP_PORT) {
        icmp_send_unreachable(skb, ip, ICMP_PORT_UNREACHABLE);
    }
    if (end != NET_END_COUNT) {
        net_end(skb, end);
    }
}

// ---- output -------------------------------------------------------------------------------------

void udp_push_header(struct sk_buff *skb, uint32_t source, uint16_t source_port,
                     uint32_t destination, uint16_t destination_port)
{
    uint8_t *header = skb_push(skb, UDP_HEADER);
    put_be16(header + UDP_SOURCE, source_port);
    put_be16(header + UDP_DESTINATION, destination_port);
    put_be16(header + UDP_LENGTH, (uint16_t)skb->len);
    put_be16(header + UDP_CHECKSUM, 0);
    uint16_t sum = checksum_internet(
        header, skb->len, ip_pseudo_sum(source, destination, IPPROTO_UDP, (uint16_t)skb->len));
    put_checksum(header + UDP_CHECKSUM, sum != 0 ? sum : 0xffff); // 0 would mean: none made
    net_event(NET_UDP_OUT);
}

int udp_send(struct udp_socket *socket, uint32_t to, uint16_t port, const void *data, size_t size)
{
    police_context(CTX_THREAD | CTX_ATOMIC | CTX_SOFTIRQ);
    if (size > UDP_DATA_MAX) {
        return -EMSGSIZE;
    }
    struct sk_buff *skb = dev_alloc_skb((uint32_t)size);
    if (skb == NULL) {
        return -ENOBUFS;
    }
    memcpy(skb_put(skb, (uint32_t)size), data, size);
    local_bh_disable();
    uint32_t next_hop, source;
    int error = -ENETUNREACH;
    if (ip_route(to, &next_hop, &source) != NULL) {
        udp_push_header(skb, source, socket->port, to, port);
        error = ip_send(skb, source, to, IPPROTO_UDP, IP_DEFAULT_TTL);
    } else {
        net_event(NET_IP_OUT_NO_ROUTE);
        kfree_skb(skb);
    }
    local_bh_enable();
    return error;
}

// ---- sockets ------------------------------------------------------------------------------------

static bool udp_port_is_free_locked(uint16_t port)
{
    return udp_find_service(port) == NULL && udp_find_locked(port) == NULL;
}

// 0: all are taken.
static uint16_t udp_free_port_locked(void)
{
    for (unsigned i = 0; i < UDP_EPHEMERAL_COUNT; i++) {
        udp_next_port = (uint16_t)((udp_next_port + 1) % UDP_EPHEMERAL_COUNT);
        uint16_t port = (uint16_t)(UDP_EPHEMERAL_FIRST + udp_next_port);
        if (udp_port_is_free_locked(port)) {
            return port;
        }
    }
    return 0;
}

struct udp_socket *udp_open(uint16_t port)
{
    might_sleep();
    struct udp_socket *socket = kzalloc(sizeof(*socket), GFP_KERNEL);
    if (socket == NULL) {
        return NULL;
    }
    INIT_LIST_HEAD(&socket->received);
    init_waitqueue_head(&socket->readers, "udp_receive");
    udp_lock_bh();
    bool open = true;
    if (port == 0) {
        port = udp_free_port_locked();
        open = port != 0;
    } else {
        open = udp_port_is_free_locked(port);
    }
    if (open) {
        socket->port = port;
        list_add_tail(&socket->link, &udp_sockets);
    }
    udp_unlock_bh();
    if (!open) {
        kfree(socket);
        return NULL;
    }
    return socket;
}

void udp_close(struct udp_socket *socket)
{
    might_sleep();
    udp_lock_bh();
    list_del(&socket->link); // input finds it no more, and it works under the lock
    udp_unlock_bh();
    struct sk_buff *skb, *next;
    list_for_each_entry_safe (skb, next, &socket->received, link) {
        kfree_skb(skb);
    }
    kfree(socket);
}

static struct sk_buff *udp_take(struct udp_socket *socket)
{
    struct sk_buff *skb = NULL;
    udp_lock_bh();
    if (!list_empty(&socket->received)) {
        skb = list_first_entry(&socket->received, struct sk_buff, link);
        list_del_init(&skb->link);
        socket->received_count--;
    }
    udp_unlock_bh();
    return skb;
}

long udp_receive(struct udp_socket *socket, void *to, size_t size, uint32_t *from, uint16_t *port,
                 uint32_t timeout_ms)
{
    might_sleep();
    struct sk_buff *skb = NULL;
    long result = wait_event_interruptible_timeout(
        &socket->readers, (skb = udp_take(socket)) != NULL, msecs_to_jiffies(timeout_ms));
    if (skb == NULL) {
        return result < 0 ? result : -ETIMEDOUT;
    }
    // The headers are still in front of the data.
    if (from != NULL) {
        *from = get_be32(skb->network_header + IP_SOURCE);
    }
    if (port != NULL) {
        *port = get_be16(skb->data - UDP_HEADER + UDP_SOURCE);
    }
    size_t taken = min((size_t)skb->len, size);
    memcpy(to, skb->data, taken);
    kfree_skb(skb);
    return (long)taken;
}

// ---- services -----------------------------------------------------------------------------------

int udp_serve(uint16_t port, udp_service_t service)
{
    if (udp_find_service(port) != NULL) {
        return -EADDRINUSE;
    }
    assert(udp_service_count < UDP_SERVICES_MAX);
    udp_services[udp_service_count++] = (struct udp_service){.port = port, .function = service};
    return 0;
}

// The old small services answer whatever they get: two of them, once set on each other by a forged
// packet, never stop.
static bool udp_would_loop(uint16_t source_port)
{
    return source_port < 20;
}

// RFC 862: back to the sender, as it is, in the packet that it came in.
static void udp_echo(struct sk_buff *skb, const struct ip_info *ip, uint16_t source_port)
{
    if (ip->to_many || udp_would_loop(source_port)) {
        net_end(skb, NET_DROP_UDP_SERVICE);
        return;
    }
    // The checksum is a sum, which does not mind that addresses and ports change places: it is
    // still right.
    uint8_t *header = skb_push(skb, UDP_HEADER);
    put_be16(header + UDP_SOURCE, UDP_PORT_ECHO);
    put_be16(header + UDP_DESTINATION, source_port);
    net_mark(NET_UDP_SERVICE);
    net_event(NET_UDP_OUT);
    ip_send(skb, ip->destination, ip->source, IPPROTO_UDP, IP_DEFAULT_TTL);
}

// RFC 863.
static void udp_discard(struct sk_buff *skb, const struct ip_info *ip, uint16_t source_port)
{
    (void)ip;
    (void)source_port;
    net_end(skb, NET_UDP_SERVICE);
}

void udp_init(void)
{
    udp_serve(UDP_PORT_ECHO, udp_echo);
    udp_serve(UDP_PORT_DISCARD, udp_discard);
}

// ---- /proc/net/udp ------------------------------------------------------------------------------

static void udp_line(struct text *t, unsigned slot, uint16_t port, uint32_t queued,
                     uint64_t dropped)
{
    enum { TCP_CLOSE = 7 }; // what Linux shows for a socket without a peer
    text_printf(
        t, "%5u: %08X:%04X %08X:%04X %02X %08X:%08X %02X:%08lX %08X %5u %8d %lu %d %016lx %llu\n",
        slot, 0, port, 0, 0, TCP_CLOSE, 0, queued, 0, 0ul, 0, 0, 0, 0ul, 2, 0ul,
        (unsigned long long)dropped);
}

static void udp_show(struct text *t, unsigned long index)
{
    (void)index;
    unsigned slot = 0;
    text_puts(t, "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"
                 "   uid  timeout inode ref pointer drops\n");
    for (unsigned i = 0; i < udp_service_count; i++) {
        udp_line(t, slot++, udp_services[i].port, 0, 0);
    }
    udp_lock_bh();
    struct udp_socket *socket;
    list_for_each_entry (socket, &udp_sockets, link) {
        udp_line(t, slot++, socket->port, socket->received_count, socket->dropped);
    }
    udp_unlock_bh();
}

PROC_FILE("net/udp", udp_show);
