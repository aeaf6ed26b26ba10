// ICMP (RFC 792, RFC 1122 3.2.2): echo both ways, and "unreachable".
//
//   0      1      2          4      6          8
//   | type | code | checksum | id   | sequence | data ...     (echo and its reply)
//   | type | code | checksum | unused          | IP header and 8 bytes of the packet it is about   (errors)
//
// A question is turned into the answer where it lies, and only the checksum's difference is
// computed (RFC 1624). Nobody is answered who asked everybody, and errors are sent at a bounded
// rate, never about what was for many.
//
// A ping waits in a list; the softirq that brings the answer takes the time, checks that it is this
// ping's data, and wakes it.
//
// Context: input in softirq; icmp_ping in a thread.
#include <lib/checksum.h>
#include <lib/errno.h>
#include <lib/list.h>
#include <core/clock.h>
#include <core/spinlock.h>
#include <sched/wait.h>
#include <defer/softirq.h>
#include <dev/netdev.h>
#include <dev/skbuff.h>
#include <net/net.h>

#include "inet.h"

enum {
    ICMP_ERRORS_BURST = 20, // errors that may be sent at once ...
    ICMP_ERROR_MS = 10,     // ... and how long one more takes to be allowed: 100 a second
    ICMP_QUOTED = 8,        // bytes behind the IP header that an error quotes
    ICMP_PING_MAX = 16000,  // bytes of data: what one packet buffer holds
};

// One echo request on its way.
struct icmp_waiter {
    struct list_head link;
    uint32_t to;
    uint16_t id, sequence;
    uint32_t size;
    bool done;                 // L
    int error;                 // L
    uint64_t received_ns;      // L
    struct icmp_answer answer; // L
    struct wait_queue_head queue;
};

static DEFINE_SPINLOCK(icmp_lock);
static LIST_HEAD(icmp_waiters); // L

static uint32_t icmp_tokens = ICMP_ERRORS_BURST; // L
static uint32_t icmp_token_jiffies;              // L: when tokens were last given out

// ---- pings of ours ------------------------------------------------------------------------------

static uint8_t icmp_pattern(uint32_t i)
{
    return (uint8_t)i;
}

static bool icmp_is_pattern(const uint8_t *data, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        if (data[i] != icmp_pattern(i)) {
            return false;
        }
    }
    return true;
}

static struct icmp_waiter *icmp_find_locked(uint32_t to, uint16_t id, uint16_t sequence)
{
    struct icmp_waiter *w;
    list_for_each_entry (w, &icmp_waiters, link) {
        if (w->to == to && w->id == id && w->sequence == sequence && !w->done) {
            return w;
        }
    }
    return NULL;
}

// Ends the wait of the ping to `to`; false when nobody waits. reply: its data (after the header)
// must be what was sent.
static bool icmp_finish(uint32_t to, const uint8_t *header, const struct sk_buff *reply,
                        struct icmp_answer answer, int error)
{
    bool found = false;
    local_bh_disable();
    spin_lock(&icmp_lock);
    struct icmp_waiter *w =
        icmp_find_locked(to, get_be16(header + ICMP_ID), get_be16(header + ICMP_SEQUENCE));
    if (w != NULL && (reply == NULL || (reply->len == ICMP_HEADER + w->size &&
                                        icmp_is_pattern(reply->data + ICMP_HEADER, w->size)))) {
        w->received_ns =
            reply != NULL && reply->timestamp_ns != 0 ? reply->timestamp_ns : clock_ns();
        w->answer = answer;
        w->error = error;
        w->done = true;
        wake_up(&w->queue);
        found = true;
    }
    spin_unlock(&icmp_lock);
    local_bh_enable();
    return found;
}

// A packet of ours that is quoted or that could not be sent: an echo request? Its destination and
// ICMP header.
static const uint8_t *icmp_own_echo(const uint8_t *ip, uint32_t length, uint32_t *to)
{
    if (length < IP_HEADER || ip[IP_VERSION_IHL] >> 4 != 4) {
        return NULL;
    }
    uint32_t header_length = (ip[IP_VERSION_IHL] & 15u) * 4;
    if (header_length < IP_HEADER || length < header_length + ICMP_QUOTED ||
        ip[IP_PROTOCOL] != IPPROTO_ICMP || !route_is_local(get_be32(ip + IP_SOURCE)) ||
        ip[header_length + ICMP_TYPE] != ICMP_ECHO) {
        return NULL;
    }
    *to = get_be32(ip + IP_DESTINATION);
    return ip + header_length;
}

void icmp_output_failed(const struct sk_buff *skb, int error)
{
    uint32_t to;
    const uint8_t *echo = icmp_own_echo(skb->data, skb->len, &to);
    if (echo != NULL) {
        icmp_finish(to, echo, NULL, (struct icmp_answer){.from = get_be32(skb->data + IP_SOURCE)},
                    error);
    }
}

static struct sk_buff *icmp_echo_request(uint16_t id, uint16_t sequence, uint32_t size)
{
    struct sk_buff *skb = dev_alloc_skb(ICMP_HEADER + size);
    if (skb == NULL) {
        return NULL;
    }
    uint8_t *header = skb_put(skb, ICMP_HEADER + size);
    header[ICMP_TYPE] = ICMP_ECHO;
    header[ICMP_CODE] = 0;
    put_be16(header + ICMP_CHECKSUM, 0);
    put_be16(header + ICMP_ID, id);
    put_be16(header + ICMP_SEQUENCE, sequence);
    for (uint32_t i = 0; i < size; i++) {
        header[ICMP_HEADER + i] = icmp_pattern(i);
    }
    put_checksum(header + ICMP_CHECKSUM, checksum_internet(header, skb->len, 0));
    return skb;
}

static void icmp_forget(struct icmp_waiter *w)
{
    local_bh_disable();
    spin_lock(&icmp_lock);
    list_del(&w->link);
    spin_unlock(&icmp_lock);
    local_bh_enable();
}

int64_t icmp_ping(uint32_t to, uint16_t id, uint16_t sequence, size_t size, uint32_t timeout_ms,
                  struct icmp_answer *answer)
{
    might_sleep();
    if (size > ICMP_PING_MAX) {
        return -EMSGSIZE;
    }
    struct sk_buff *skb = icmp_echo_request(id, sequence, (uint32_t)size);
    if (skb == NULL) {
        return -ENOBUFS;
    }
    struct icmp_waiter w = {.to = to, .id = id, .sequence = sequence, .size = (uint32_t)size};
    init_waitqueue_head(&w.queue, "icmp_ping");
    local_bh_disable();
    spin_lock(&icmp_lock);
    list_add_tail(&w.link, &icmp_waiters);
    spin_unlock(&icmp_lock);
    local_bh_enable();

    uint64_t sent_ns = clock_ns();
    net_event(NET_ICMP_OUT_ECHO);
    long result = ip_send(skb, 0, to, IPPROTO_ICMP, IP_DEFAULT_TTL);
    if (result == 0) {
        result = wait_event_interruptible_timeout(&w.queue, READ_ONCE(w.done),
                                                  msecs_to_jiffies(timeout_ms));
        result = result == 0 ? -ETIMEDOUT : result < 0 ? result : 0;
    }
    icmp_forget(&w); // after this no softirq knows of w
    if (!w.done) {
        return result;
    }
    if (answer != NULL) {
        *answer = w.answer;
    }
    if (w.error != 0) {
        return w.error;
    }
    return w.received_ns > sent_ns ? (int64_t)(w.received_ns - sent_ns) : 0;
}

// ---- errors that we send ------------------------------------------------------------------------

static bool icmp_error_allowed(void)
{
    local_bh_disable();
    spin_lock(&icmp_lock);
    uint32_t step = msecs_to_jiffies(ICMP_ERROR_MS);
    uint32_t earned = (jiffies - icmp_token_jiffies) / step;
    if (earned != 0) {
        icmp_token_jiffies = jiffies;
        uint32_t room = ICMP_ERRORS_BURST - icmp_tokens;
        icmp_tokens += min(earned, room);
    }
    bool allowed = icmp_tokens != 0;
    if (allowed) {
        icmp_tokens--;
    }
    spin_unlock(&icmp_lock);
    local_bh_enable();
    return allowed;
}

void icmp_send_unreachable(struct sk_buff *skb, const struct ip_info *ip, uint8_t code)
{
    if (ip->to_many) {
        return;
    }
    if (!icmp_error_allowed()) {
        net_event(NET_ICMP_OUT_LIMITED);
        return;
    }
    uint32_t quoted =
        (uint32_t)(skb->data - skb->network_header) + min(skb->len, (uint32_t)ICMP_QUOTED);
    struct sk_buff *error = dev_alloc_skb(ICMP_HEADER + quoted);
    if (error == NULL) {
        return;
    }
    uint8_t *header = skb_put(error, ICMP_HEADER + quoted);
    header[ICMP_TYPE] = ICMP_UNREACHABLE;
    header[ICMP_CODE] = code;
    put_be16(header + ICMP_CHECKSUM, 0);
    put_be32(header + ICMP_ID, 0);
    __builtin_memcpy(header + ICMP_HEADER, skb->network_header, quoted);
    put_checksum(header + ICMP_CHECKSUM, checksum_internet(header, error->len, 0));
    net_event(NET_ICMP_OUT_UNREACHABLE);
    ip_send(error, ip->destination, ip->source, IPPROTO_ICMP, IP_DEFAULT_TTL);
}

// ---- input --------------------------------------------------------------------------------------

static void icmp_echo(struct sk_buff *skb, const struct ip_info *ip)
{
    uint8_t *header = skb->data;
    if (header[ICMP_CODE] != 0) {
        net_end(skb, NET_DROP_ICMP_TYPE);
        return;
    }
    if (ip->to_many) {
        net_end(skb, NET_DROP_ICMP_BROADCAST);
        return;
    }
    // The type falls from 8 to 0, so the one's complement sum falls by 0x0800 and its complement
    // rises: RFC 1624, eqn. 3.
    uint32_t sum = (uint16_t)~get_be16(header + ICMP_CHECKSUM) + (uint32_t)(uint16_t)~0x0800;
    sum = (sum & 0xffff) + (sum >> 16);
    header[ICMP_TYPE] = ICMP_ECHO_REPLY;
    put_be16(header + ICMP_CHECKSUM, (uint16_t) ~((sum & 0xffff) + (sum >> 16)));
    net_mark(NET_ICMP_ECHO);
    net_event(NET_ICMP_OUT_REPLY);
    ip_send(skb, ip->destination, ip->source, IPPROTO_ICMP, IP_DEFAULT_TTL);
}

static void icmp_error(struct sk_buff *skb, const struct ip_info *ip)
{
    uint8_t type = skb->data[ICMP_TYPE];
    if (type == ICMP_UNREACHABLE) {
        net_event(NET_ICMP_IN_UNREACHABLE);
    } else if (type == ICMP_TIME_EXCEEDED) {
        net_event(NET_ICMP_IN_TIME_EXCEEDED);
    }
    uint32_t to;
    const uint8_t *echo = icmp_own_echo(skb->data + ICMP_HEADER, skb->len - ICMP_HEADER, &to);
    bool ours =
        echo != NULL &&
        icmp_finish(to, echo, NULL, (struct icmp_answer){.from = ip->source}, -EHOSTUNREACH);
    net_end(skb, ours ? NET_ICMP_ERROR : NET_DROP_ICMP_STRAY);
}

void icmp_input(struct sk_buff *skb, const struct ip_info *ip)
{
    if (skb->len < ICMP_HEADER) {
        net_end(skb, NET_DROP_ICMP_SHORT);
        return;
    }
    if (checksum_internet(skb->data, skb->len, 0) != 0) {
        net_end(skb, NET_DROP_ICMP_CHECKSUM);
        return;
    }
    switch (skb->data[ICMP_TYPE]) {
    case ICMP_ECHO:
        icmp_echo(skb, ip);
        break;
    case ICMP_ECHO_REPLY: {
        struct icmp_answer answer = {.from = ip->source, .ttl = ip->ttl};
        bool awaited = icmp_finish(ip->source, skb->data, skb, answer, 0);
        net_end(skb, awaited ? NET_ICMP_REPLY : NET_DROP_ICMP_STRAY);
        break;
    }
    case ICMP_UNREACHABLE:
    case ICMP_TIME_EXCEEDED:
    case ICMP_PARAMETER_PROBLEM:
        icmp_error(skb, ip);
        break;
    default: // redirects (routes are not learnt from strangers), source quench (RFC 6633), timestamps
        net_end(skb, NET_DROP_ICMP_TYPE);
        break;
    }
}
