// Packets, NAPI and queues with a card that exists only here, and sockets over the loopback device
// with real softirqs and sleepers. The protocols field by field: tests/host. The real card:
// tests/console/test_net.py.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/panic.h>
#include <sched/completion.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/softirq.h>
#include <dma/dma.h>
#include <dev/netdev.h>
#include <dev/skbuff.h>
#include <net/net.h>
#include <pci/pci.h>

#include "eventually.h"
#include "every_cpu.h"

enum { ANSWER_MS = 20 * 1000 }; // only detects a hang

#define LOCALHOST (127u << 24 | 1)

// ---- a card of ours -----------------------------------------------------------------------------

struct fake_card {
    struct net_device netdev;
    struct napi_struct napi;
    int frames;       // A: that poll still finds
    int polls;        // A
    int longest_poll; // A: most that one poll was asked for
    bool unmasked;    // A
    int room;         // L of tx_lock: slots left in the "ring"
    int sent;         // L of tx_lock
    int events[NETDEV_CARRIER + 1];
    int received; // A
    int opened, stopped;
};

static struct fake_card fake;
static void (*real_notify)(struct net_device *dev, enum netdev_event event);
static void (*real_input)(struct sk_buff *skb);

// The protocols are not to hear of our card.
static void fake_notify(struct net_device *dev, enum netdev_event event)
{
    if (dev == &fake.netdev) {
        fake.events[event]++;
    } else {
        real_notify(dev, event);
    }
}

static void fake_input(struct sk_buff *skb)
{
    if (skb->dev == &fake.netdev) {
        __atomic_fetch_add(&fake.received, 1, __ATOMIC_SEQ_CST);
        kfree_skb(skb);
    } else {
        real_input(skb);
    }
}

static int fake_poll(struct napi_struct *napi, int budget)
{
    int done = 0;
    fake.polls++;
    fake.longest_poll = max(fake.longest_poll, budget);
    while (done < budget && __atomic_load_n(&fake.frames, __ATOMIC_SEQ_CST) > 0) {
        struct sk_buff *skb = dev_alloc_skb(64);
        if (skb == NULL) {
            break;
        }
        __atomic_fetch_sub(&fake.frames, 1, __ATOMIC_SEQ_CST);
        memset(skb_put(skb, 64), 0, 64);
        skb->dev = &fake.netdev;
        netif_receive_skb(skb);
        done++;
    }
    if (done < budget && napi_complete_done(napi, done)) {
        __atomic_store_n(&fake.unmasked, true, __ATOMIC_SEQ_CST);
    }
    return done;
}

static enum netdev_tx fake_xmit(struct sk_buff *skb, struct net_device *dev)
{
    if (fake.room == 0) {
        netif_stop_queue(dev);
        return NETDEV_TX_BUSY;
    }
    fake.room--;
    fake.sent++;
    kfree_skb(skb);
    return NETDEV_TX_OK;
}

static int fake_open(struct net_device *dev)
{
    (void)dev;
    fake.opened++;
    napi_enable(&fake.napi);
    return 0;
}

static int fake_stop(struct net_device *dev)
{
    fake.stopped++;
    napi_disable(&fake.napi);
    netif_carrier_off(dev);
    return 0;
}

static const struct net_device_ops fake_ops = {
    .ndo_open = fake_open, .ndo_stop = fake_stop, .ndo_start_xmit = fake_xmit};

static int fake_begin(void)
{
    fake = (struct fake_card){.room = 1000};
    fake.netdev.mtu = 1500;
    fake.netdev.ops = &fake_ops;
    fake.netdev.tx_waiting_max = 10;
    netif_napi_add(&fake.netdev, &fake.napi, fake_poll, NAPI_WEIGHT);
    real_notify = netdev_notify;
    real_input = netdev_input;
    netdev_notify = fake_notify;
    netdev_input = fake_input;
    int error = register_netdev(&fake.netdev, "fake");
    if (error == 0) {
        error = netdev_open(&fake.netdev);
        netif_carrier_on(&fake.netdev);
    }
    return error;
}

static void fake_end(void)
{
    unregister_netdev(&fake.netdev);
    netdev_notify = real_notify;
    netdev_input = real_input;
}

static int fake_send(void)
{
    struct sk_buff *skb = dev_alloc_skb(100);
    if (skb == NULL) {
        return -ENOMEM;
    }
    skb_put(skb, 100);
    skb->dev = &fake.netdev;
    return dev_queue_xmit(skb);
}

KTEST(net, a_device_comes_and_goes)
{
    REQUIRE(fake_begin() == 0);
    EXPECT_EQ(strcmp(fake.netdev.name, "fake0"), 0);
    rtnl_lock();
    EXPECT(netdev_find("fake0") == &fake.netdev);
    rtnl_unlock();
    EXPECT_EQ(netdev_open(&fake.netdev), 0); // already: nothing happens
    EXPECT_EQ(fake.opened, 1);
    netif_carrier_on(&fake.netdev); // already, too
    EXPECT_EQ(fake.events[NETDEV_CARRIER], 1);
    fake_end();
    EXPECT_EQ(fake.stopped, 1);
    EXPECT_EQ(fake.events[NETDEV_REGISTER], 1);
    EXPECT_EQ(fake.events[NETDEV_UP], 1);
    EXPECT_EQ(fake.events[NETDEV_DOWN], 1);
    EXPECT_EQ(fake.events[NETDEV_UNREGISTER], 1);
    rtnl_lock();
    EXPECT(netdev_find("fake0") == NULL);
    rtnl_unlock();
}

KTEST(net, napi_polls_until_there_is_no_more)
{
    REQUIRE(fake_begin() == 0);
    fake.frames = 1000;
    EXPECT(napi_schedule(&fake.napi));
    EXPECT(EVENTUALLY(__atomic_load_n(&fake.unmasked, __ATOMIC_SEQ_CST)));
    EXPECT_EQ(fake.received, 1000);
    EXPECT_EQ(fake.longest_poll, NAPI_WEIGHT);
    EXPECT(fake.polls >= 1000 / NAPI_WEIGHT + 1);
    EXPECT_EQ(fake.netdev.stats.rx_packets, 1000);
    EXPECT_EQ(fake.netdev.stats.rx_bytes, 64000);
    fake_end();
}

// Scheduled while it is scheduled: one more poll, and only then is the device unmasked.
KTEST(net, napi_remembers_what_it_missed)
{
    REQUIRE(fake_begin() == 0);
    local_bh_disable();
    EXPECT(napi_schedule(&fake.napi));
    EXPECT(!napi_schedule(&fake.napi));
    local_bh_enable();
    EXPECT(EVENTUALLY(__atomic_load_n(&fake.unmasked, __ATOMIC_SEQ_CST)));
    EXPECT_EQ(fake.polls, 2);
    fake_end();
}

KTEST(net, napi_disabled_is_quiet)
{
    REQUIRE(fake_begin() == 0);
    fake.frames = 100000; // busy
    napi_schedule(&fake.napi);
    napi_disable(&fake.napi);
    int polls = fake.polls;
    EXPECT(!napi_schedule(&fake.napi));
    msleep(20);
    EXPECT_EQ(fake.polls, polls);
    EXPECT(!fake.unmasked || fake.received == 100000);
    fake.frames = 5;
    fake.unmasked = false;
    int received = fake.received;
    napi_enable(&fake.napi);
    EXPECT(napi_schedule(&fake.napi));
    EXPECT(EVENTUALLY(__atomic_load_n(&fake.unmasked, __ATOMIC_SEQ_CST)));
    EXPECT_EQ(fake.received, received + 5);
    fake_end();
}

static void fake_hammer(struct every_cpu *self)
{
    (void)self;
    for (int i = 0; i < 2000; i++) {
        __atomic_fetch_add(&fake.frames, 1, __ATOMIC_SEQ_CST);
        napi_schedule(&fake.napi); // the "interrupt" of this frame, on this CPU
    }
}

// Every CPU brings frames and interrupts at once: none is left lying.
KTEST(net, napi_from_every_cpu)
{
    REQUIRE(fake_begin() == 0);
    REQUIRE(every_cpu_run(ktest, fake_hammer, NULL));
    int total = (int)cpumask_weight(&cpu_online_mask) * 2000;
    EXPECT(EVENTUALLY(__atomic_load_n(&fake.received, __ATOMIC_SEQ_CST) == total));
    EXPECT_EQ(fake.frames, 0);
    fake_end();
}

KTEST(net, a_full_ring_holds_packets_back_and_drops_by_count)
{
    REQUIRE(fake_begin() == 0);
    fake.room = 3;
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(fake_send(), 0);
    }
    for (int i = 0; i < 10; i++) {
        EXPECT_EQ(fake_send(), 0); // waits
    }
    EXPECT_EQ(fake_send(), -ENOBUFS);
    EXPECT_EQ(fake.sent, 3);
    EXPECT_EQ(fake.netdev.tx_waiting_count, 10);
    EXPECT_EQ(fake.netdev.stats.tx_dropped, 1);
    fake.room = 4;
    netif_wake_queue(&fake.netdev);
    EXPECT_EQ(fake.sent, 7);
    EXPECT_EQ(fake.netdev.tx_waiting_count, 6);
    fake.room = 100;
    EXPECT_EQ(fake_send(), 0); // behind those that wait
    EXPECT_EQ(fake.sent, 7);
    netif_wake_queue(&fake.netdev);
    EXPECT_EQ(fake.sent, 14);
    EXPECT_EQ(fake_send(), 0);
    EXPECT_EQ(fake.sent, 15);
    fake_end();
}

KTEST(net, nothing_leaves_without_link_or_when_down)
{
    REQUIRE(fake_begin() == 0);
    netif_carrier_off(&fake.netdev);
    EXPECT_EQ(fake_send(), -ENETDOWN);
    netif_carrier_on(&fake.netdev);
    fake.room = 0;
    EXPECT_EQ(fake_send(), 0); // held back
    netdev_close(&fake.netdev);
    EXPECT_EQ(fake.netdev.tx_waiting_count, 0); // and freed
    EXPECT_EQ(fake_send(), -ENETDOWN);
    EXPECT_EQ(fake.sent, 0);
    fake_end();
}

// ---- packets ------------------------------------------------------------------------------------

KTEST(net, packets_push_pull_put_trim)
{
    struct sk_buff *skb = dev_alloc_skb(100);
    REQUIRE(skb != NULL);
    EXPECT_EQ(skb->data - skb->head, SKB_HEADROOM);
    EXPECT(skb_tailroom(skb) >= 100);
    uint8_t *data = skb_put(skb, 10);
    EXPECT_EQ(skb->len, 10);
    EXPECT(skb_push(skb, 20) == data - 20);
    EXPECT_EQ(skb->len, 30);
    EXPECT(skb_pull(skb, 31) == NULL);
    EXPECT_EQ(skb->len, 30);
    EXPECT(skb_pull(skb, 25) == data + 5);
    skb_trim(skb, 3);
    EXPECT_EQ(skb->len, 3);
    EXPECT(skb->tail == data + 8);
    skb_trim(skb, 100); // never grows
    EXPECT_EQ(skb->len, 3);
    kfree_skb(skb);
    EXPECT(dev_alloc_skb(16384) == NULL);
    skb = dev_alloc_skb(16384 - SKB_HEADROOM);
    REQUIRE(skb != NULL);
    skb_put(skb, 16384 - SKB_HEADROOM);
    kfree_skb(skb);
}

KTEST(net, packets_come_back_from_the_pool_clean)
{
    preempt_disable(); // one CPU's pool
    struct sk_buff *first = dev_alloc_skb(1);
    uint8_t *head = first->head;
    skb_put(first, 100);
    first->protocol = 0x800;
    kfree_skb(first);
    struct sk_buff *second = dev_alloc_skb(2048);
    EXPECT(second == first && second->head == head);
    EXPECT_EQ(second->len, 0);
    EXPECT_EQ(second->protocol, 0);
    EXPECT_EQ(second->data - second->head, SKB_HEADROOM);
    kfree_skb(second);
    preempt_enable();
}

// ---- sockets over lo ----------------------------------------------------------------------------

KTEST(net, udp_over_lo_wakes_its_reader)
{
    struct udp_socket *a = udp_open(0), *b = udp_open(40001);
    REQUIRE(a != NULL && b != NULL);
    uint32_t from = 0;
    uint16_t port = 0;
    char data[16];
    for (int i = 0; i < 100; i++) {
        REQUIRE(udp_send(a, LOCALHOST, 40001, "question", 8) == 0);
        REQUIRE(udp_receive(b, data, sizeof(data), &from, &port, ANSWER_MS) == 8);
        EXPECT_EQ(from, LOCALHOST);
        REQUIRE(udp_send(b, from, port, "answer", 6) == 0);
        REQUIRE(udp_receive(a, data, sizeof(data), NULL, NULL, ANSWER_MS) == 6);
        EXPECT_EQ(memcmp(data, "answer", 6), 0);
    }
    EXPECT_EQ(udp_receive(a, data, sizeof(data), NULL, NULL, 20), -ETIMEDOUT);
    udp_close(a);
    udp_close(b);
}

static uint32_t answered; // A

static void ask_echo(struct every_cpu *self)
{
    struct udp_socket *socket = udp_open(0);
    uint32_t sent, got = 0;
    for (sent = 0; socket != NULL && sent < 200; sent++) {
        uint32_t question = sent << 8 | self->cpu;
        if (udp_send(socket, LOCALHOST, 7, &question, 4) == 0 &&
            udp_receive(socket, &got, 4, NULL, NULL, ANSWER_MS) == 4 && got == question) {
            __atomic_fetch_add(&answered, 1, __ATOMIC_SEQ_CST);
        }
    }
    if (socket != NULL) {
        udp_close(socket);
    }
}

KTEST(net, the_echo_service_from_every_cpu)
{
    answered = 0;
    REQUIRE(every_cpu_run(ktest, ask_echo, NULL));
    EXPECT_EQ(answered, cpumask_weight(&cpu_online_mask) * 200);
}

KTEST(net, ping_ourselves)
{
    struct icmp_answer answer = {0};
    EXPECT(icmp_ping(LOCALHOST, 1, 1, 56, ANSWER_MS, &answer) >= 0);
    EXPECT_EQ(answer.from, LOCALHOST);
    EXPECT_EQ(answer.ttl, 64);
    EXPECT(icmp_ping(LOCALHOST, 1, 2, 8000, ANSWER_MS, NULL) >= 0);
    EXPECT_EQ(icmp_ping(LOCALHOST, 1, 3, 9000, ANSWER_MS, NULL), -EMSGSIZE);
    EXPECT_EQ(icmp_ping(0xe0000001, 1, 4, 56, ANSWER_MS, NULL), -ENETUNREACH);
}

KTEST(net, a_closed_socket_leaves_no_packet)
{
    struct cpumask only = {{1}}, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    struct udp_socket *a = udp_open(0), *b = udp_open(40002), *last = udp_open(40003);
    char byte;
    REQUIRE(a != NULL && b != NULL && last != NULL);
    sched_setaffinity(current, &only); // what one CPU sends to itself arrives in its order
    for (int i = 0; i < 200; i++) {    // more than a queue takes
        EXPECT_EQ(udp_send(a, LOCALHOST, 40002, "x", 1), 0);
    }
    EXPECT_EQ(udp_send(a, LOCALHOST, 40003, "x", 1), 0);
    EXPECT_EQ(udp_receive(last, &byte, 1, NULL, NULL, ANSWER_MS), 1); // all others have come
    sched_setaffinity(current, &all);
    udp_close(last);
    udp_close(b);
    b = udp_open(40002); // the port is free again, its queue empty
    REQUIRE(b != NULL);
    EXPECT_EQ(udp_receive(b, &byte, 1, NULL, NULL, 20), -ETIMEDOUT);
    udp_close(b);
    udp_close(a);
}

// ---- the real card, where there is one ----------------------------------------------------------

static struct pci_dev *test_e1000(void)
{
    struct pci_dev *dev = NULL;
    while ((dev = pci_next(dev)) != NULL &&
           (dev->dev.driver == NULL || strcmp(dev->dev.driver, "e1000") != 0)) {
    }
    return dev;
}

// The card of a PCI function; NULL while it has none.
static bool test_has_card(const struct pci_dev *pci)
{
    rtnl_lock();
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL && dev->parent != &pci->dev) {
    }
    rtnl_unlock();
    return dev != NULL;
}

KTEST(e1000, unbind_leaves_nothing)
{
    struct pci_dev *pci = test_e1000();
    if (pci == NULL) {
        SKIP("no e1000");
    }
    for (int i = 0; i < 10; i++) {
        EXPECT(test_has_card(pci));
        EXPECT(dma_outstanding(&pci->dev) >= 256);
        EXPECT_EQ(pci_unbind(pci), 0);
        EXPECT(!test_has_card(pci));
        EXPECT_EQ(dma_outstanding(&pci->dev), 0);
        EXPECT(pci->bars[0].mapped == NULL);
        EXPECT_EQ(pci_read16(pci, 4) & 4, 0); // touches no memory
        REQUIRE(pci_bind(pci) == 0);
    }
}

static bool test_address(const struct pci_dev *pci, uint32_t address)
{
    bool good = false;
    rtnl_lock();
    struct net_device *dev = NULL;
    while ((dev = netdev_next(dev)) != NULL && dev->parent != &pci->dev) {
    }
    if (dev != NULL) {
        good = net_set_address(dev, address, 0xffffff00, 0) == 0;
    }
    rtnl_unlock();
    return good;
}

// Every third, then every second packet is not to be had, for sending and for refilling the ring;
// when memory is back, all is as before. Needs QEMU's user network, which answers for 10.0.2.2.
KTEST(e1000, lives_without_memory)
{
    enum { ROUTER = 0x0a000202 };
    struct pci_dev *pci = test_e1000();
    if (pci == NULL || !test_address(pci, 0x0a00020f)) {
        SKIP("no e1000");
    }
    bool there = false;
    for (int i = 0; i < 20 && !there; i++) {
        there = icmp_ping(ROUTER, 2, (uint16_t)i, 56, 200, NULL) >= 0;
    }
    if (!there) {
        SKIP("nobody answers for 10.0.2.2");
    }
    unsigned lost = 0, refused = 0, good = 0;
    for (int i = 0; i < 60; i++) {
        skb_fail_every = i < 30 ? 3 : 2;
        int64_t result = icmp_ping(ROUTER, 3, (uint16_t)i, 56, 20, NULL);
        good += result >= 0;
        refused += result == -ENOBUFS;
        lost += result == -ETIMEDOUT;
    }
    skb_fail_every = 0;
    EXPECT(refused > 0); // no packet to send
    EXPECT(lost > 0);    // no fresh buffer for the answer
    EXPECT_EQ(good + refused + lost, 60);
    for (int i = 0; i < 300; i++) { // more than once around the ring
        EXPECT(icmp_ping(ROUTER, 4, (uint16_t)i, 56, ANSWER_MS, NULL) >= 0);
    }
    EXPECT(EVENTUALLY(dma_outstanding(&pci->dev) ==
                      255 + 2)); // a full receive ring, and the two rings themselves
}

static bool flood_stop; // A

// Broadcasts need no answer from anybody.
static void flood(void *arg)
{
    uint32_t *sent = arg;
    struct udp_socket *socket = udp_open(0);
    static const uint8_t data[1000];
    while (socket != NULL && !__atomic_load_n(&flood_stop, __ATOMIC_SEQ_CST)) {
        *sent += udp_send(socket, 0x0a0909ff, 9, data, sizeof(data)) == 0;
    }
    if (socket != NULL) {
        udp_close(socket);
    }
}

// Threads send as fast as they can while the card is taken away under them, again and again.
KTEST(e1000, unbind_under_load)
{
    enum { THREADS = 4, ROUNDS = 20 };
    struct pci_dev *pci = test_e1000();
    if (pci == NULL) {
        SKIP("no e1000");
    }
    struct thread *threads[THREADS];
    uint32_t sent[THREADS] = {0}, warnings = warn_count, total = 0;
    flood_stop = false;
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = kthread_run(flood, &sent[i], "flood/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        EXPECT(test_address(pci, 0x0a090902));
        msleep(5 + i % 4);
        EXPECT_EQ(pci_unbind(pci), 0);
        EXPECT_EQ(dma_outstanding(&pci->dev), 0);
        EXPECT_EQ(pci_bind(pci), 0);
    }
    flood_stop = true;
    for (unsigned i = 0; i < THREADS; i++) {
        thread_join(threads[i]);
        total += sent[i];
    }
    EXPECT(total > 0);
    EXPECT_EQ(warn_count, warnings);
}
