// Frames that arrive: NAPI, an interrupt first and polling while there is work.
//
// The first frame interrupts; the top half masks the device and puts its napi_struct on this CPU's
// poll list; NET_RX softirq then calls poll() again and again, at most NAPI_WEIGHT frames a time,
// until the device has no more, and only then is the device unmasked. Under load there are no
// interrupts at all, and a frame that cannot be dealt with is dropped by the device, where it costs
// nothing.
//
//   top half ── napi_schedule ──> poll list of this CPU ── net_rx_action ──> napi->poll(64) ──> netif_receive_skb ──> kernel/net
//                                   ^                            │
//                                   └── did 64: to the end ──────┤ did less: napi_complete_done, unmask
//
// One softirq round is bounded three ways: NAPI_BUDGET frames, 2 ms, and each device's weight, so
// that devices take turns and the rest of the machine lives. A round that was cut short counts as
// time_squeeze in /proc/net/softnet_stat.
//
// Frames of a device without interrupts (the loopback) wait in a backlog, which is polled likewise.
//
// Context: napi_schedule, netif_rx: any; polls: NET_RX softirq. Previous:
// drivers/net/e1000/e1000.c. Next: kernel/net/eth.c.
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/panic.h>
#include <core/trace.h>
#include <sched/sleep.h>
#include <defer/softirq.h>
#include <dev/netdev.h>

#include "netdev_internal.h"

enum { NET_RX_ROUND_NS = 2000000, BACKLOG_MAX = 1000 };

// What a CPU's NET_RX softirq works on.
struct softnet_data {
    struct list_head poll_list; // C: napi_structs that want to be polled
    struct list_head backlog;   // C: packets from netif_rx
    uint32_t backlog_length;    // C
    struct napi_struct backlog_napi;
    uint32_t processed, dropped, time_squeeze; // C
};

static struct softnet_data softnet[MAX_CPUS];

void (*netdev_input)(struct sk_buff *skb);

// ---- who is polled ------------------------------------------------------------------------------

void netif_napi_add(struct net_device *dev, struct napi_struct *napi,
                    int (*poll)(struct napi_struct *, int), int weight)
{
    *napi =
        (struct napi_struct){.state = NAPI_DISABLED, .weight = weight, .poll = poll, .dev = dev};
    INIT_LIST_HEAD(&napi->link);
}

static void napi_enqueue_irqoff(struct napi_struct *napi)
{
    list_add_tail(&napi->link, &this_cpu(softnet).poll_list);
    raise_softirq_irqoff(NET_RX_SOFTIRQ);
}

bool napi_schedule(struct napi_struct *napi)
{
    uint32_t old = __atomic_load_n(&napi->state, __ATOMIC_RELAXED), new;
    do {
        if (old & NAPI_DISABLED) {
            return false;
        }
        new = old | NAPI_SCHEDULED | (old & NAPI_SCHEDULED ? NAPI_MISSED : 0);
    } while (!__atomic_compare_exchange_n(&napi->state, &old, new, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    if (old & NAPI_SCHEDULED) {
        return false;
    }
    unsigned long flags = local_irq_save();
    napi_enqueue_irqoff(napi);
    local_irq_restore(flags);
    return true;
}

bool napi_complete_done(struct napi_struct *napi, int work_done)
{
    assert_in_softirq();
    (void)work_done;
    uint32_t old = __atomic_load_n(&napi->state, __ATOMIC_RELAXED), new;
    do {
        bool again = (old & (NAPI_MISSED | NAPI_DISABLED)) == NAPI_MISSED;
        new = again ? old & ~NAPI_MISSED : old & ~(NAPI_SCHEDULED | NAPI_MISSED);
    } while (!__atomic_compare_exchange_n(&napi->state, &old, new, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_RELAXED));
    if (new &NAPI_SCHEDULED) {
        unsigned long flags = local_irq_save();
        napi_enqueue_irqoff(napi);
        local_irq_restore(flags);
        return false;
    }
    return (new &NAPI_DISABLED) == 0;
}

void napi_enable(struct napi_struct *napi)
{
    __atomic_store_n(&napi->state, 0, __ATOMIC_SEQ_CST);
}

void napi_disable(struct napi_struct *napi)
{
    might_sleep();
    __atomic_fetch_or(&napi->state, NAPI_DISABLED, __ATOMIC_SEQ_CST);
    for (unsigned ms = 0; __atomic_load_n(&napi->state, __ATOMIC_SEQ_CST) & NAPI_SCHEDULED; ms++) {
        WARN_ON(ms == NETDEV_WAIT_MS);
        msleep(1);
    }
}

// ---- NET_RX softirq -----------------------------------------------------------------------------

// The poll used its whole weight: there is more. Back to the end of the list, unless somebody waits
// for it to stop.
static void napi_requeue(struct napi_struct *napi)
{
    if (__atomic_load_n(&napi->state, __ATOMIC_SEQ_CST) & NAPI_DISABLED) {
        __atomic_fetch_and(&napi->state, ~(uint32_t)(NAPI_SCHEDULED | NAPI_MISSED),
                           __ATOMIC_SEQ_CST);
        return;
    }
    local_irq_disable();
    napi_enqueue_irqoff(napi);
    local_irq_enable();
}

// The next napi_struct to poll, taken off the list; NULL when there is none, or when this round has
// had its share.
static struct napi_struct *net_rx_next(int budget, uint64_t deadline_ns)
{
    struct napi_struct *napi = NULL;
    local_irq_disable();
    struct softnet_data *data = &this_cpu(softnet);
    if (!list_empty(&data->poll_list)) {
        if (budget > 0 && clock_ns() < deadline_ns) {
            napi = list_first_entry(&data->poll_list, struct napi_struct, link);
            list_del_init(&napi->link);
        } else {
            data->time_squeeze++;
            raise_softirq_irqoff(NET_RX_SOFTIRQ);
        }
    }
    local_irq_enable();
    return napi;
}

static void net_rx_action(void)
{
    uint64_t deadline_ns = clock_ns() + NET_RX_ROUND_NS;
    int budget = NAPI_BUDGET;
    struct napi_struct *napi;
    while ((napi = net_rx_next(budget, deadline_ns)) != NULL) {
        int weight = napi->weight;
        int done = napi->poll(napi, weight);
        trace(TRACE_NAPI_POLL, (uint32_t)done, (uint64_t)weight);
        budget -= done;
        if (done >= weight) {
            napi_requeue(napi); // otherwise it completed itself and may already be another CPU's
        }
    }
}

// ---- into the protocols, and from the backlog ---------------------------------------------------

void netif_receive_skb(struct sk_buff *skb)
{
    assert_in_softirq();
    trace(TRACE_NET_RX, skb->len, 0);
    this_cpu(softnet).processed++; // softirqs are not preempted: nobody else writes it
    netdev_count(&skb->dev->stats.rx_packets, 1);
    netdev_count(&skb->dev->stats.rx_bytes, skb->len);
    if (netdev_input == NULL) {
        kfree_skb(skb);
        return;
    }
    netdev_input(skb);
}

void netif_rx(struct sk_buff *skb)
{
    unsigned long flags = local_irq_save();
    struct softnet_data *data = &this_cpu(softnet);
    bool room = data->backlog_length < BACKLOG_MAX;
    if (room) {
        list_add_tail(&skb->link, &data->backlog);
        data->backlog_length++;
        napi_schedule(&data->backlog_napi);
    } else {
        data->dropped++;
        netdev_count(&skb->dev->stats.rx_dropped, 1);
    }
    local_irq_restore(flags);
    if (!room) {
        kfree_skb(skb);
    }
}

static struct sk_buff *backlog_take(void)
{
    struct sk_buff *skb = NULL;
    local_irq_disable();
    struct softnet_data *data = &this_cpu(softnet);
    if (!list_empty(&data->backlog)) {
        skb = list_first_entry(&data->backlog, struct sk_buff, link);
        list_del_init(&skb->link);
        data->backlog_length--;
    }
    local_irq_enable();
    return skb;
}

static int backlog_poll(struct napi_struct *napi, int budget)
{
    int done = 0;
    struct sk_buff *skb;
    while (done < budget && (skb = backlog_take()) != NULL) {
        netif_receive_skb(skb);
        done++;
    }
    if (done < budget) {
        napi_complete_done(napi, done);
    }
    return done;
}

void napi_init(void)
{
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
        struct softnet_data *data = &softnet[cpu];
        INIT_LIST_HEAD(&data->poll_list);
        INIT_LIST_HEAD(&data->backlog);
        netif_napi_add(NULL, &data->backlog_napi, backlog_poll, NAPI_WEIGHT);
        napi_enable(&data->backlog_napi);
    }
    open_softirq(NET_RX_SOFTIRQ, net_rx_action);
}

// ---- /proc/net/softnet_stat ---------------------------------------------------------------------

// Fifteen words as Linux 6 writes them; those for what we do not have (flow limit, RPS) are zero.
static void softnet_show(struct text *t, unsigned long index __unused)
{
    for_each_online_cpu (cpu) {
        const struct softnet_data *data = &softnet[cpu];
        text_printf(t,
                    "%08x %08x %08x %08x %08x %08x %08x %08x %08x %08x %08x %08x %08x %08x %08x\n",
                    data->processed, data->dropped, data->time_squeeze, 0, 0, 0, 0, 0, 0, 0, 0,
                    data->backlog_length, cpu, data->backlog_length, 0);
    }
}

PROC_FILE("net/softnet_stat", softnet_show);
