// ARP (RFC 826): which Ethernet address an IPv4 neighbour has.
//
//               first packet for it                answer                  60 s
//       (free) ────────────────────> INCOMPLETE ──────────> REACHABLE ─────────────> STALE ── 10 min unused ──> (free)
//                                       │ 3 questions, 1 s apart    ^                  │ used again
//                                       v                           │ answer           v
//                                    (free), packets dropped        └────────────── PROBE ── 3 questions ──> (free)
//
// STALE and PROBE entries are still used: the questions of PROBE go to the known address, so a
// neighbour that lives is never asked for by broadcast twice. While an entry is INCOMPLETE, at most
// ARP_WAITING_MAX packets wait for it.
//
// What may change the cache: an answer or question from a neighbour that we know, or a question to
// us. Never an address that nobody can have, never our own address (that is a conflict, RFC 5227,
// 2.4: said in the log and defended).
//
// Context: input and the timer in softirq; output in any but hard irq. One lock, never held while a
// waiting packet is sent.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/spinlock.h>
#include <defer/softirq.h>
#include <defer/timer.h>
#include <dev/netdev.h>
#include <dev/skbuff.h>
#include <net/net.h>

#include "inet.h"

enum {
    ARP_BUCKETS = 64,
    ARP_WAITING_MAX = 16,
    ARP_TRIES = 3,
    ARP_TICK_MS = 1000,
    ARP_REACHABLE_MS = 60000,
    ARP_STALE_MS = 600000,
    ARP_DEFEND_MS = 10000, // RFC 5227, DEFEND_INTERVAL
};

struct arp_neighbour {
    struct list_head link;  // L: its bucket, or the free list
    struct net_device *dev; // L
    uint32_t address;       // L: host order
    uint8_t mac[ETH_ALEN];  // L: unless INCOMPLETE
    enum arp_state state;   // L
    uint32_t since; // L: jiffies; when it was confirmed, last used (STALE) or last asked for
    uint32_t tries; // L: questions asked
    struct list_head waiting; // L: packets, INCOMPLETE only
    uint32_t waiting_count;   // L
};

static DEFINE_SPINLOCK(arp_lock);
static struct arp_neighbour arp_table[ARP_ENTRIES];
static struct list_head arp_buckets[ARP_BUCKETS], arp_free_list; // L
static struct timer_list arp_timer;
static uint32_t arp_defended; // L: jiffies of the last defence

static void arp_lock_bh(void)
{
    local_bh_disable();
    spin_lock(&arp_lock);
}

static void arp_unlock_bh(void)
{
    spin_unlock(&arp_lock);
    local_bh_enable();
}

static bool arp_is_older(uint32_t since, uint32_t ms)
{
    return !time_after(since + msecs_to_jiffies(ms), jiffies);
}

// ---- messages -----------------------------------------------------------------------------------

static void arp_write(uint8_t *p, uint16_t operation, const struct net_device *dev, uint32_t sender,
                      const uint8_t *target_mac, uint32_t target)
{
    put_be16(p + ARP_HARDWARE, 1); // Ethernet
    put_be16(p + ARP_PROTOCOL, ETH_P_IP);
    p[ARP_HARDWARE_LENGTH] = ETH_ALEN;
    p[ARP_PROTOCOL_LENGTH] = 4;
    put_be16(p + ARP_OPERATION, operation);
    memcpy(p + ARP_SENDER_MAC, dev->dev_addr, ETH_ALEN);
    put_be32(p + ARP_SENDER_IP, sender);
    memcpy(p + ARP_TARGET_MAC, target_mac, ETH_ALEN);
    put_be32(p + ARP_TARGET_IP, target);
}

// Asks everybody, or (PROBE) the one who had the address.
static void arp_ask(struct net_device *dev, uint32_t address, const uint8_t *to)
{
    static const uint8_t unknown[ETH_ALEN];
    struct sk_buff *skb = dev_alloc_skb(ARP_LENGTH);
    if (skb == NULL) {
        return; // the next try will do
    }
    arp_write(skb_put(skb, ARP_LENGTH), ARP_REQUEST, dev, READ_ONCE(dev->ip_address), unknown,
              address);
    net_event(NET_ARP_OUT_REQUEST);
    eth_send(skb, dev, to, ETH_P_ARP);
}

void arp_announce(struct net_device *dev)
{
    arp_ask(dev, READ_ONCE(dev->ip_address), eth_broadcast);
}

// ---- the cache ----------------------------------------------------------------------------------

static struct list_head *arp_bucket(uint32_t address)
{
    return &arp_buckets[(address ^ address >> 8) % ARP_BUCKETS];
}

static struct arp_neighbour *arp_find_locked(const struct net_device *dev, uint32_t address)
{
    struct arp_neighbour *n;
    list_for_each_entry (n, arp_bucket(address), link) {
        if (n->address == address && n->dev == dev) {
            return n;
        }
    }
    return NULL;
}

// Its packets go to `dropped`, for whoever unlocks.
static void arp_release_locked(struct arp_neighbour *n, struct list_head *dropped)
{
    list_splice_tail_init(&n->waiting, dropped);
    n->waiting_count = 0;
    n->state = ARP_FREE;
    n->dev = NULL;
    list_del(&n->link);
    list_add(&n->link, &arp_free_list);
}

// A full cache gives up the entry that was confirmed or used longest ago; not one that packets wait
// for.
static struct arp_neighbour *arp_oldest_locked(void)
{
    struct arp_neighbour *oldest = NULL;
    for (unsigned i = 0; i < ARP_ENTRIES; i++) {
        struct arp_neighbour *n = &arp_table[i];
        if (n->state != ARP_INCOMPLETE && (oldest == NULL || time_after(oldest->since, n->since))) {
            oldest = n;
        }
    }
    return oldest;
}

static struct arp_neighbour *arp_create_locked(struct net_device *dev, uint32_t address)
{
    if (list_empty(&arp_free_list)) {
        struct arp_neighbour *oldest = arp_oldest_locked();
        if (oldest == NULL) {
            return NULL;
        }
        LIST_HEAD(none);
        arp_release_locked(oldest, &none);
    }
    struct arp_neighbour *n = list_first_entry(&arp_free_list, struct arp_neighbour, link);
    list_del(&n->link);
    list_add(&n->link, arp_bucket(address));
    n->dev = dev;
    n->address = address;
    n->state = ARP_INCOMPLETE;
    n->since = jiffies;
    n->tries = 0;
    if (!timer_pending(&arp_timer)) {
        mod_timer(&arp_timer, jiffies + msecs_to_jiffies(ARP_TICK_MS));
    }
    return n;
}

// Somebody said where the neighbour lives; what waited for it goes to `ready`.
static void arp_confirm_locked(struct arp_neighbour *n, const uint8_t *mac, struct list_head *ready)
{
    memcpy(n->mac, mac, ETH_ALEN);
    n->state = ARP_REACHABLE;
    n->since = jiffies;
    n->tries = 0;
    list_splice_tail_init(&n->waiting, ready);
    n->waiting_count = 0;
}

static void arp_send_ready(struct list_head *ready, const uint8_t *mac)
{
    struct sk_buff *skb, *next;
    list_for_each_entry_safe (skb, next, ready, link) {
        list_del_init(&skb->link);
        eth_send(skb, skb->dev, mac, ETH_P_IP);
    }
}

static void arp_drop_waiting(struct list_head *dropped)
{
    struct sk_buff *skb, *next;
    list_for_each_entry_safe (skb, next, dropped, link) {
        list_del_init(&skb->link);
        net_event(NET_ARP_UNRESOLVED);
        icmp_output_failed(skb, -EHOSTUNREACH);
        kfree_skb(skb);
    }
}

// ---- output -------------------------------------------------------------------------------------

// The packet waits, and the question is asked if it is the first.
static int arp_wait_locked(struct arp_neighbour *n, struct sk_buff *skb)
{
    if (n == NULL || n->waiting_count == ARP_WAITING_MAX) {
        return -ENOBUFS;
    }
    list_add_tail(&skb->link, &n->waiting);
    n->waiting_count++;
    if (n->tries == 0) {
        n->tries = 1;
        n->since = jiffies;
        arp_ask(n->dev, n->address, eth_broadcast);
    }
    return 0;
}

int arp_output(struct sk_buff *skb, struct net_device *dev, uint32_t next_hop)
{
    uint8_t mac[ETH_ALEN];
    int error = 0;
    skb->dev = dev;
    arp_lock_bh();
    struct arp_neighbour *n = arp_find_locked(dev, next_hop);
    bool known = n != NULL && n->state != ARP_INCOMPLETE;
    if (likely(known)) {
        memcpy(mac, n->mac, ETH_ALEN);
        if (n->state == ARP_STALE) {
            n->state = ARP_PROBE; // the timer asks
            n->tries = 0;
            n->since = jiffies;
        }
    } else {
        error = arp_wait_locked(n != NULL ? n : arp_create_locked(dev, next_hop), skb);
    }
    arp_unlock_bh();
    if (likely(known)) {
        return eth_send(skb, dev, mac, ETH_P_IP);
    }
    if (error != 0) {
        net_event(NET_ARP_UNRESOLVED);
        kfree_skb(skb);
    }
    return error;
}

// ---- the timer ----------------------------------------------------------------------------------

static void arp_age_locked(struct arp_neighbour *n, struct list_head *dropped)
{
    switch (n->state) {
    case ARP_REACHABLE:
        if (arp_is_older(n->since, ARP_REACHABLE_MS)) {
            n->state = ARP_STALE;
            n->since = jiffies;
        }
        break;
    case ARP_STALE:
        if (arp_is_older(n->since, ARP_STALE_MS)) {
            arp_release_locked(n, dropped);
        }
        break;
    case ARP_INCOMPLETE:
    case ARP_PROBE:
        if (n->tries == ARP_TRIES) {
            arp_release_locked(n, dropped);
        } else {
            n->tries++;
            arp_ask(n->dev, n->address, n->state == ARP_PROBE ? n->mac : eth_broadcast);
        }
        break;
    case ARP_FREE:
        break;
    }
}

static void arp_tick(struct timer_list *timer)
{
    LIST_HEAD(dropped);
    bool any = false;
    arp_lock_bh();
    for (unsigned i = 0; i < ARP_ENTRIES; i++) {
        arp_age_locked(&arp_table[i], &dropped);
        any |= arp_table[i].state != ARP_FREE;
    }
    if (any) {
        mod_timer(timer, jiffies + msecs_to_jiffies(ARP_TICK_MS));
    }
    arp_unlock_bh();
    arp_drop_waiting(&dropped);
}

void arp_flush(struct net_device *dev)
{
    LIST_HEAD(dropped);
    arp_lock_bh();
    for (unsigned i = 0; i < ARP_ENTRIES; i++) {
        if (arp_table[i].state != ARP_FREE && arp_table[i].dev == dev) {
            arp_release_locked(&arp_table[i], &dropped);
        }
    }
    arp_unlock_bh();
    arp_drop_waiting(&dropped);
}

// ---- input --------------------------------------------------------------------------------------

struct arp_message {
    uint16_t operation;
    uint32_t sender, target;
    const uint8_t *mac;
};

// NET_END_COUNT: it is good.
static enum net_end arp_parse(const struct sk_buff *skb, struct arp_message *m)
{
    const uint8_t *p = skb->data;
    if (skb->len < ARP_LENGTH) {
        return NET_DROP_ARP_SHORT;
    }
    m->operation = get_be16(p + ARP_OPERATION);
    if (get_be16(p + ARP_HARDWARE) != 1 || get_be16(p + ARP_PROTOCOL) != ETH_P_IP ||
        p[ARP_HARDWARE_LENGTH] != ETH_ALEN || p[ARP_PROTOCOL_LENGTH] != 4 ||
        (m->operation != ARP_REQUEST && m->operation != ARP_REPLY)) {
        return NET_DROP_ARP_FORMAT;
    }
    m->mac = p + ARP_SENDER_MAC;
    m->sender = get_be32(p + ARP_SENDER_IP);
    m->target = get_be32(p + ARP_TARGET_IP);
    // 0.0.0.0 asks whether an address is free (RFC 5227); in an answer it means nothing.
    bool probe = m->sender == 0 && m->operation == ARP_REQUEST;
    bool host = m->sender >> 24 != 0 && m->sender >> 28 < 0xe && !ip_is_loopback(m->sender) &&
                !route_is_broadcast(m->sender);
    bool station = eth_is_station(m->mac) && !eth_equal(m->mac, skb->dev->dev_addr);
    return station && (probe || host) ? NET_END_COUNT : NET_DROP_ARP_SENDER;
}

// Somebody else uses our address: say so, and once in a while that it is ours.
static void arp_conflict(struct net_device *dev, const struct arp_message *m)
{
    const uint8_t *a = m->mac;
    pr_ratelimited(LOG_WARNING, "%s: %02x:%02x:%02x:%02x:%02x:%02x uses our address", dev->name,
                   a[0], a[1], a[2], a[3], a[4], a[5]);
    arp_lock_bh();
    bool defend = arp_is_older(arp_defended, ARP_DEFEND_MS);
    if (defend) {
        arp_defended = jiffies;
    }
    arp_unlock_bh();
    if (defend) {
        arp_announce(dev);
    }
}

// Turns the question into the answer, in place.
static void arp_answer(struct sk_buff *skb, const struct arp_message *m, uint32_t own)
{
    uint8_t mac[ETH_ALEN];
    memcpy(mac, m->mac, ETH_ALEN);
    skb_trim(skb, ARP_LENGTH);
    arp_write(skb->data, ARP_REPLY, skb->dev, own, mac, m->sender);
    net_event(NET_ARP_OUT_REPLY);
    eth_send(skb, skb->dev, mac, ETH_P_ARP);
}

void arp_input(struct sk_buff *skb)
{
    struct net_device *dev = skb->dev;
    struct arp_message m;
    enum net_end bad = dev->loopback ? NET_DROP_ARP_OTHER : arp_parse(skb, &m);
    if (bad != NET_END_COUNT) {
        net_end(skb, bad);
        return;
    }
    uint32_t own = READ_ONCE(dev->ip_address), mask = READ_ONCE(dev->ip_mask);
    if (own != 0 && m.sender == own) {
        arp_conflict(dev, &m);
        net_end(skb, NET_DROP_ARP_CONFLICT);
        return;
    }
    bool question = m.operation == ARP_REQUEST && own != 0 && m.target == own;
    bool neighbour = own != 0 && m.sender != 0 && ((m.sender ^ own) & mask) == 0;

    LIST_HEAD(ready);
    arp_lock_bh();
    struct arp_neighbour *n = arp_find_locked(dev, m.sender);
    bool known = n != NULL;
    if (!known && question && neighbour) {
        n = arp_create_locked(dev, m.sender); // who asks for us will hear from us
    }
    if (n != NULL) {
        arp_confirm_locked(n, m.mac, &ready);
    }
    arp_unlock_bh();
    arp_send_ready(&ready, m.mac);

    if (question) {
        net_mark(NET_ARP_REQUEST);
        arp_answer(skb, &m, own);
    } else if (known) {
        net_end(skb, m.operation == ARP_REPLY ? NET_ARP_REPLY : NET_ARP_UPDATE);
    } else {
        net_end(skb, NET_DROP_ARP_OTHER);
    }
}

// ---- views --------------------------------------------------------------------------------------

bool arp_entry(unsigned k, struct arp_view *view)
{
    arp_lock_bh();
    const struct arp_neighbour *n = &arp_table[k];
    bool used = n->state != ARP_FREE;
    if (used) {
        view->address = n->address;
        view->state = n->state;
        memset(view->mac, 0, ETH_ALEN);
        if (n->state != ARP_INCOMPLETE) {
            memcpy(view->mac, n->mac, ETH_ALEN);
        }
        strscpy(view->device, n->dev->name, sizeof(view->device));
    }
    arp_unlock_bh();
    return used;
}

static void arp_show(struct text *t, unsigned long index)
{
    enum { ATF_COM = 2 };
    (void)index;
    text_puts(t,
              "IP address       HW type     Flags       HW address            Mask     Device\n");
    for (unsigned k = 0; k < ARP_ENTRIES; k++) {
        struct arp_view v;
        if (!arp_entry(k, &v)) {
            continue;
        }
        char address[16];
        net_format_address(address, v.address);
        text_printf(t, "%-16s 0x%-10x0x%-10x%02x:%02x:%02x:%02x:%02x:%02x     *        %s\n",
                    address, 1, v.state == ARP_INCOMPLETE ? 0 : ATF_COM, v.mac[0], v.mac[1],
                    v.mac[2], v.mac[3], v.mac[4], v.mac[5], v.device);
    }
}

void arp_init(void)
{
    INIT_LIST_HEAD(&arp_free_list);
    for (unsigned i = 0; i < ARP_BUCKETS; i++) {
        INIT_LIST_HEAD(&arp_buckets[i]);
    }
    for (unsigned i = 0; i < ARP_ENTRIES; i++) {
        INIT_LIST_HEAD(&arp_table[i].waiting);
        list_add_tail(&arp_table[i].link, &arp_free_list);
    }
    arp_defended = jiffies - msecs_to_jiffies(ARP_DEFEND_MS);
    timer_setup(&arp_timer, arp_tick, 0);
}

PROC_FILE("net/arp", arp_show);
