// Where frames ended and what was sent: the counters of kernel/net, as /proc/net/input (ours: every
// frame is in exactly one line) and as /proc/net/snmp (Linux's names, for tools).
//
// Context: counting in any; showing in a thread.
#include <lib/text.h>
#include <contract/proc_file.h>
#include <dev/skbuff.h>

#include "inet.h"

static uint64_t net_received_frames;         // A
static uint64_t net_ends[NET_END_COUNT];     // A
static uint64_t net_events[NET_EVENT_COUNT]; // A

static const char *const net_end_names[NET_END_COUNT] = {
#define X(name, text) text,
    NET_ENDS(X)
#undef X
};

void net_received(void)
{
    netdev_count(&net_received_frames, 1);
}

void net_mark(enum net_end end)
{
    netdev_count(&net_ends[end], 1);
}

void net_end(struct sk_buff *skb, enum net_end end)
{
    net_mark(end);
    kfree_skb(skb);
}

void net_event(enum net_event event)
{
    netdev_count(&net_events[event], 1);
}

uint64_t net_end_count(enum net_end end)
{
    return __atomic_load_n(&net_ends[end], __ATOMIC_RELAXED);
}

uint64_t net_received_count(void)
{
    return __atomic_load_n(&net_received_frames, __ATOMIC_RELAXED);
}

static uint64_t net_event_count(enum net_event event)
{
    return __atomic_load_n(&net_events[event], __ATOMIC_RELAXED);
}

// The sum of the ends from `first` up to and including `last`.
static uint64_t net_end_sum(enum net_end first, enum net_end last)
{
    uint64_t sum = 0;
    for (unsigned end = first; end <= last; end++) {
        sum += net_end_count(end);
    }
    return sum;
}

static void net_input_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "received %llu\n", (unsigned long long)net_received_count());
    for (unsigned end = 0; end < NET_END_COUNT; end++) {
        text_printf(t, "%s %llu\n", net_end_names[end], (unsigned long long)net_end_count(end));
    }
}

// One protocol's two lines: names, then numbers in the same order.
struct net_snmp {
    const char *name;
    uint64_t value;
};

static void net_snmp_lines(struct text *t, const char *protocol, const struct net_snmp *values,
                           unsigned count)
{
    text_printf(t, "%s:", protocol);
    for (unsigned i = 0; i < count; i++) {
        text_printf(t, " %s", values[i].name);
    }
    text_printf(t, "\n%s:", protocol);
    for (unsigned i = 0; i < count; i++) {
        text_printf(t, " %llu", (unsigned long long)values[i].value);
    }
    text_putc(t, '\n');
}

static void net_snmp_ip(struct text *t)
{
    uint64_t delivered = net_end_sum(NET_ICMP_ECHO, NET_UDP_SERVICE) +
                         net_end_sum(NET_DROP_ICMP_SHORT, NET_DROP_UDP_SERVICE);
    uint64_t header_errors = net_end_sum(NET_DROP_IP_SHORT, NET_DROP_IP_CHECKSUM);
    uint64_t address_errors = net_end_sum(NET_DROP_IP_SOURCE, NET_DROP_IP_DESTINATION);
    uint64_t fragments = net_end_count(NET_DROP_IP_FRAGMENT);
    uint64_t unknown = net_end_count(NET_DROP_IP_PROTOCOL);
    const struct net_snmp values[] = {
        {"Forwarding", 2}, // RFC 4293: no
        {"DefaultTTL", IP_DEFAULT_TTL},
        {"InReceives", delivered + header_errors + address_errors + fragments + unknown},
        {"InHdrErrors", header_errors},
        {"InAddrErrors", address_errors},
        {"ForwDatagrams", 0},
        {"InUnknownProtos", unknown},
        {"InDiscards", 0},
        {"InDelivers", delivered},
        {"OutRequests", net_event_count(NET_IP_OUT)},
        {"OutDiscards", net_event_count(NET_IP_OUT_DISCARDED)},
        {"OutNoRoutes", net_event_count(NET_IP_OUT_NO_ROUTE)},
        {"ReasmTimeout", 0},
        {"ReasmReqds", fragments},
        {"ReasmOKs", 0},
        {"ReasmFails", fragments},
        {"FragOKs", 0},
        {"FragFails", 0},
        {"FragCreates", 0},
    };
    net_snmp_lines(t, "Ip", values, ARRAY_SIZE(values));
}

static void net_snmp_icmp(struct text *t)
{
    uint64_t errors = net_end_sum(NET_DROP_ICMP_SHORT, NET_DROP_ICMP_CHECKSUM);
    uint64_t out = net_event_count(NET_ICMP_OUT_ECHO) + net_event_count(NET_ICMP_OUT_REPLY) +
                   net_event_count(NET_ICMP_OUT_UNREACHABLE);
    const struct net_snmp values[] = {
        {"InMsgs", net_end_sum(NET_ICMP_ECHO, NET_ICMP_ERROR) +
                       net_end_sum(NET_DROP_ICMP_SHORT, NET_DROP_ICMP_STRAY)},
        {"InErrors", errors},
        {"InCsumErrors", net_end_count(NET_DROP_ICMP_CHECKSUM)},
        {"InDestUnreachs", net_event_count(NET_ICMP_IN_UNREACHABLE)},
        {"InTimeExcds", net_event_count(NET_ICMP_IN_TIME_EXCEEDED)},
        {"InEchos", net_end_count(NET_ICMP_ECHO) + net_end_count(NET_DROP_ICMP_BROADCAST)},
        {"InEchoReps", net_end_count(NET_ICMP_REPLY)},
        {"OutMsgs", out},
        {"OutErrors", 0},
        {"OutRateLimitGlobal", net_event_count(NET_ICMP_OUT_LIMITED)},
        {"OutDestUnreachs", net_event_count(NET_ICMP_OUT_UNREACHABLE)},
        {"OutEchos", net_event_count(NET_ICMP_OUT_ECHO)},
        {"OutEchoReps", net_event_count(NET_ICMP_OUT_REPLY)},
    };
    net_snmp_lines(t, "Icmp", values, ARRAY_SIZE(values));
}

static void net_snmp_udp(struct text *t)
{
    uint64_t checksum = net_end_count(NET_DROP_UDP_CHECKSUM);
    uint64_t full = net_end_count(NET_DROP_UDP_FULL);
    const struct net_snmp values[] = {
        {"InDatagrams", net_end_sum(NET_UDP_SOCKET, NET_UDP_SERVICE)},
        {"NoPorts", net_end_count(NET_DROP_UDP_PORT)},
        {"InErrors", net_end_sum(NET_DROP_UDP_SHORT, NET_DROP_UDP_LENGTH) + checksum + full},
        {"OutDatagrams", net_event_count(NET_UDP_OUT)},
        {"RcvbufErrors", full},
        {"SndbufErrors", 0},
        {"InCsumErrors", checksum},
        {"IgnoredMulti", net_end_count(NET_DROP_UDP_SERVICE)},
    };
    net_snmp_lines(t, "Udp", values, ARRAY_SIZE(values));
}

static void net_snmp_show(struct text *t, unsigned long index)
{
    (void)index;
    net_snmp_ip(t);
    net_snmp_icmp(t);
    net_snmp_udp(t);
}

PROC_FILE("net/input", net_input_show);
PROC_FILE("net/snmp", net_snmp_show);
