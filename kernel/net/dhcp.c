// The DHCP client (RFC 2131, 4.4): one state machine per network card, in the background from the
// moment its link is up. The prompt never waits for it.
//
//            DISCOVER                 REQUEST                ACK
//   INIT ──────────────> SELECTING ────────────> REQUESTING ─────> BOUND ── T1 ──> RENEWING ── T2 ──> REBINDING
//    ^                   (an offer)                  │ NAK           ^  (unicast)     │ ACK  (broadcast)   │ ACK
//    │                                               │               └────────────────┴────────────────────┤
//    └───────────────────────────────────────────────┴───────────────────────── NAK, or the lease ends ────┘
//
// The machine moves in a delayed work item: when its time has come, when an answer has arrived,
// when the link returns. Messages are repeated after 4, 8, 16, 32, 64 s, each give or take one
// (4.1). The softirq only checks a message and leaves it for the work item. The random wait of 1 to
// 10 s before the first DISCOVER is left out: this is one machine, not a building after a power
// cut. The address is not probed by ARP first; a conflict shows in the log (arp.c).
//
// Context: dhcp_input in softirq; everything else in threads and work items.
#include <lib/errno.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/spinlock.h>
#include <mm/slab.h>
#include <defer/softirq.h>
#include <defer/work.h>
#include <dev/netdev.h>
#include <dev/skbuff.h>
#include <net/net.h>

#include "dhcp.h"
#include "inet.h"

enum {
    DHCP_CLIENTS_MAX = 16,
    DHCP_FIRST_WAIT_S = 4,
    DHCP_WAIT_DOUBLINGS = 4, // 4 s << 4 = 64 s
    DHCP_REQUEST_TRIES = 4,
    DHCP_RENEW_WAIT_S = 60, // least time between renewals, 4.4.5
    DHCP_STEP_MAX_S = 3600, // longest sleep of the work item: jiffies wrap
};

enum dhcp_state {
    DHCP_INIT,
    DHCP_SELECTING,
    DHCP_REQUESTING,
    DHCP_BOUND,
    DHCP_RENEWING,
    DHCP_REBINDING
};

struct dhcp_client {
    struct net_device *dev; // I
    struct delayed_work work;
    bool link; // work: the link was up when it last looked

    // work item only, except where a letter says otherwise
    enum dhcp_state state;
    unsigned tries;
    uint64_t due_ns;   // when to do something without an answer
    uint64_t began_ns; // of asking
    uint64_t asked_ns; // of the last REQUEST: the lease counts from there (4.4.5)
    struct dhcp_answer offer;
    uint64_t t1_ns, t2_ns;
    uint64_t end_ns;           // A: of the lease, 0 none
    uint32_t xid;              // L: of dhcp_lock
    bool has_answer;           // L
    struct dhcp_answer answer; // L
};

static DEFINE_SPINLOCK(dhcp_lock);
static struct dhcp_client *dhcp_clients[DHCP_CLIENTS_MAX]; // L

static struct dhcp_client *dhcp_find_locked(const struct net_device *dev)
{
    for (unsigned i = 0; i < DHCP_CLIENTS_MAX; i++) {
        if (dhcp_clients[i] != NULL && dhcp_clients[i]->dev == dev) {
            return dhcp_clients[i];
        }
    }
    return NULL;
}

static void dhcp_lock_bh(void)
{
    local_bh_disable();
    spin_lock(&dhcp_lock);
}

static void dhcp_unlock_bh(void)
{
    spin_unlock(&dhcp_lock);
    local_bh_enable();
}

// ---- messages -----------------------------------------------------------------------------------

// By broadcast from nobody, or (RENEWING) to the server that gave the lease, or (REBINDING) by
// broadcast from our address.
static void dhcp_send(struct dhcp_client *c, const struct dhcp_query *query, bool unicast)
{
    struct sk_buff *skb = dev_alloc_skb(DHCP_MESSAGE_SIZE);
    if (skb == NULL) {
        return; // repeated later
    }
    dhcp_write(skb_put(skb, DHCP_MESSAGE_SIZE), query);
    uint32_t to = unicast ? c->offer.server : IP_BROADCAST;
    udp_push_header(skb, query->client, DHCP_CLIENT_PORT, to, DHCP_SERVER_PORT);
    if (unicast) {
        ip_send(skb, query->client, to, IPPROTO_UDP, IP_DEFAULT_TTL);
        return;
    }
    local_bh_disable();
    ip_output(skb, c->dev, to, query->client, to, IPPROTO_UDP, IP_DEFAULT_TTL);
    local_bh_enable();
}

static void dhcp_discover(struct dhcp_client *c)
{
    struct dhcp_query query = {.type = DHCP_DISCOVER,
                               .xid = c->xid,
                               .seconds = (uint16_t)((clock_ns() - c->began_ns) / 1000000000),
                               .mac = c->dev->dev_addr};
    dhcp_send(c, &query, false);
}

// RFC 2131, table 4: who is named how in which state.
static void dhcp_request(struct dhcp_client *c)
{
    bool asking = c->state == DHCP_REQUESTING;
    struct dhcp_query query = {.type = DHCP_REQUEST,
                               .xid = c->xid,
                               .seconds = (uint16_t)((clock_ns() - c->began_ns) / 1000000000),
                               .mac = c->dev->dev_addr,
                               .client = asking ? 0 : c->offer.address,
                               .requested = asking ? c->offer.address : 0,
                               .server = asking ? c->offer.server : 0};
    c->asked_ns = clock_ns();
    dhcp_send(c, &query, c->state == DHCP_RENEWING);
}

static void dhcp_input(struct sk_buff *skb, const struct ip_info *ip, uint16_t source_port)
{
    (void)ip;
    bool wanted = false;
    dhcp_lock_bh();
    struct dhcp_client *c = dhcp_find_locked(skb->dev);
    struct dhcp_answer answer;
    if (c != NULL && source_port == DHCP_SERVER_PORT && !c->has_answer &&
        dhcp_read(skb->data, skb->len, c->xid, c->dev->dev_addr, &answer) == NULL) {
        c->answer = answer;
        c->has_answer = wanted = true;
        mod_delayed_work(system_wq, &c->work, 0);
    }
    dhcp_unlock_bh();
    net_end(skb, wanted ? NET_UDP_SERVICE : NET_DROP_UDP_SERVICE);
}

// ---- the state machine --------------------------------------------------------------------------

// Not secret, only unlikely to be another's: time and address, stirred.
static uint32_t dhcp_random(const struct dhcp_client *c)
{
    uint64_t x = clock_ns() ^ (uint64_t)get_be32(c->dev->dev_addr + 2) << 20;
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    return (uint32_t)x;
}

// 4 s << tries, give or take a second.
static void dhcp_wait_longer(struct dhcp_client *c)
{
    uint64_t ms = (uint64_t)DHCP_FIRST_WAIT_S * 1000
                  << min(c->tries, (unsigned)DHCP_WAIT_DOUBLINGS);
    c->due_ns = clock_ns() + (ms - 1000 + dhcp_random(c) % 2000) * 1000000;
    c->tries++;
}

static void dhcp_enter(struct dhcp_client *c, enum dhcp_state state)
{
    c->state = state;
    c->tries = 0;
    c->due_ns = 0; // at once
    if (state == DHCP_INIT) {
        uint32_t xid = dhcp_random(c);
        dhcp_lock_bh();
        c->xid = xid;
        c->has_answer = false;
        dhcp_unlock_bh();
        c->began_ns = clock_ns();
    }
}

static void dhcp_lose(struct dhcp_client *c, const char *why)
{
    if (c->end_ns != 0) {
        pr_warn("%s: DHCP: %s, giving up the address", c->dev->name, why);
        WRITE_ONCE(c->end_ns, 0);
        route_set_address(c->dev, 0, 0, 0);
    }
    dhcp_enter(c, DHCP_INIT);
}

static void dhcp_bind(struct dhcp_client *c, const struct dhcp_answer *a)
{
    char address[16], gateway[16], server[16];
    bool renewed = c->state != DHCP_REQUESTING && a->address == c->offer.address;
    c->offer = *a;
    c->t1_ns = c->asked_ns + a->t1 * 1000000000ull;
    c->t2_ns = c->asked_ns + a->t2 * 1000000000ull;
    WRITE_ONCE(c->end_ns, a->lease == DHCP_LEASE_FOREVER ? UINT64_MAX
                                                         : c->asked_ns + a->lease * 1000000000ull);
    route_set_address(c->dev, a->address, a->mask, a->gateway);
    dhcp_enter(c, DHCP_BOUND);
    c->due_ns = a->lease == DHCP_LEASE_FOREVER ? UINT64_MAX : c->t1_ns;
    net_format_address(address, a->address);
    net_format_address(gateway, a->gateway);
    net_format_address(server, a->server);
    if (!renewed) {
        pr_info("%s: DHCP: %s/%d, gateway %s, from %s for %u s", c->dev->name, address,
                __builtin_popcount(a->mask), a->gateway != 0 ? gateway : "none", server, a->lease);
    }
}

static void dhcp_answered(struct dhcp_client *c, const struct dhcp_answer *a)
{
    bool confirming =
        c->state == DHCP_REQUESTING || c->state == DHCP_RENEWING || c->state == DHCP_REBINDING;
    if (c->state == DHCP_SELECTING && a->type == DHCP_OFFER) {
        c->offer = *a; // the first is as good as any
        dhcp_enter(c, DHCP_REQUESTING);
    } else if (confirming && a->type == DHCP_ACK) {
        dhcp_bind(c, a);
    } else if (confirming && a->type == DHCP_NAK) {
        dhcp_lose(c, "the server refuses the lease");
    }
}

// Nobody has answered in time, or it is time to ask.
static void dhcp_is_due(struct dhcp_client *c)
{
    uint64_t now = clock_ns();
    if (c->state == DHCP_BOUND) {
        dhcp_enter(c, DHCP_RENEWING);
        c->began_ns = now;
    }
    if (c->state == DHCP_RENEWING && now >= c->t2_ns) {
        dhcp_enter(c, DHCP_REBINDING);
    }
    if (c->end_ns != 0 && now >= c->end_ns) {
        dhcp_lose(c, "the lease has ended");
    }
    if (c->state == DHCP_REQUESTING && c->tries == DHCP_REQUEST_TRIES) {
        dhcp_enter(c, DHCP_INIT);
    }
    switch (c->state) {
    case DHCP_INIT:
        c->state = DHCP_SELECTING;
        fallthrough;
    case DHCP_SELECTING:
        dhcp_discover(c);
        dhcp_wait_longer(c);
        break;
    case DHCP_REQUESTING:
        dhcp_request(c);
        dhcp_wait_longer(c);
        break;
    default: { // half of what is left, but not less than a minute
        dhcp_request(c);
        uint64_t next = c->state == DHCP_RENEWING ? c->t2_ns : c->end_ns;
        uint64_t half = now < next ? (next - now) / 2 : 0;
        c->due_ns = min(next, now + max(half, (uint64_t)DHCP_RENEW_WAIT_S * 1000000000));
        break;
    }
    }
}

static void dhcp_step(struct work_struct *work)
{
    struct dhcp_client *c = container_of(work, struct dhcp_client, work.work);
    bool link = READ_ONCE(c->dev->up) && READ_ONCE(c->dev->carrier);
    bool returned = link && !c->link;
    c->link = link;
    if (!link) {
        return; // dhcp_wake comes with it
    }
    if (returned) {
        // A new link may be a new network: ask anew at once, or ask the old server whether all is
        // as it was.
        dhcp_enter(c, c->end_ns != 0 ? DHCP_RENEWING : DHCP_INIT);
        c->began_ns = clock_ns();
    }
    dhcp_lock_bh();
    struct dhcp_answer answer = c->answer;
    bool answered = c->has_answer;
    c->has_answer = false;
    dhcp_unlock_bh();
    if (answered) {
        dhcp_answered(c, &answer);
    }
    if (clock_ns() >= c->due_ns) {
        dhcp_is_due(c);
    }
    uint64_t now = clock_ns();
    uint64_t ms = c->due_ns > now ? (c->due_ns - now) / 1000000 + 1 : 1;
    queue_delayed_work(system_wq, &c->work,
                       msecs_to_jiffies((uint32_t)min(ms, (uint64_t)DHCP_STEP_MAX_S * 1000)));
}

// ---- clients come and go ------------------------------------------------------------------------

void dhcp_attach(struct net_device *dev)
{
    struct dhcp_client *c = kzalloc(sizeof(*c), GFP_KERNEL);
    bool attached = false;
    if (c != NULL) {
        c->dev = dev;
        INIT_DELAYED_WORK(&c->work, dhcp_step);
        dhcp_lock_bh();
        for (unsigned i = 0; i < DHCP_CLIENTS_MAX && !attached; i++) {
            if (dhcp_clients[i] == NULL) {
                dhcp_clients[i] = c;
                attached = true;
            }
        }
        dhcp_unlock_bh();
    }
    if (!attached) {
        pr_err("%s: no DHCP: no memory or too many cards; give it an address with ip addr add",
               dev->name);
        kfree(c);
    }
}

void dhcp_detach(struct net_device *dev)
{
    dhcp_lock_bh();
    struct dhcp_client *c = dhcp_find_locked(dev);
    for (unsigned i = 0; i < DHCP_CLIENTS_MAX; i++) {
        if (c != NULL && dhcp_clients[i] == c) {
            dhcp_clients[i] = NULL;
        }
    }
    dhcp_unlock_bh();
    if (c != NULL) {
        cancel_delayed_work_sync(&c->work); // nobody finds it any more, so nobody queues it again
        kfree(c);
    }
}

void dhcp_wake(struct net_device *dev)
{
    dhcp_lock_bh();
    struct dhcp_client *c = dhcp_find_locked(dev);
    if (c != NULL) {
        mod_delayed_work(system_wq, &c->work, 0);
    }
    dhcp_unlock_bh();
}

bool dhcp_lease_left(const struct net_device *dev, uint32_t *seconds)
{
    dhcp_lock_bh();
    struct dhcp_client *c = dhcp_find_locked(dev);
    uint64_t end = c != NULL ? READ_ONCE(c->end_ns) : 0, now = clock_ns();
    dhcp_unlock_bh();
    *seconds = end == UINT64_MAX ? DHCP_LEASE_FOREVER
               : end > now       ? (uint32_t)((end - now) / 1000000000)
                                 : 0;
    return end != 0;
}

void dhcp_init(void)
{
    udp_serve(DHCP_CLIENT_PORT, dhcp_input);
}
