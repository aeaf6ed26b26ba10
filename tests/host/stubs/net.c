// See net.h. This file is the lower half of the network for host tests: what kernel/net finds below
// and beside it.
#include <asm/prctl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <sanitizer/asan_interface.h>

#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <sched/wait.h>
#include <defer/softirq.h>
#include <defer/timer.h>
#include <defer/work.h>
#include <mm/slab.h>

#include "net.h"

// ---- packets: the real arithmetic, and memory that is poisoned where there is no data -----------

#define skb_put  real_skb_put
#define skb_push real_skb_push
#define skb_pull real_skb_pull
#define skb_trim real_skb_trim
#include "../../../kernel/dev/skbuff.c"
#undef skb_put
#undef skb_push
#undef skb_pull
#undef skb_trim

static unsigned live_packets;
bool host_no_memory;

void *skb_put(struct sk_buff *skb, uint32_t size)
{
    ASAN_UNPOISON_MEMORY_REGION(skb->tail, size);
    return real_skb_put(skb, size);
}

void *skb_push(struct sk_buff *skb, uint32_t size)
{
    return real_skb_push(skb, size);
}

void *skb_pull(struct sk_buff *skb, uint32_t size)
{
    return real_skb_pull(skb, size);
}

void skb_trim(struct sk_buff *skb, uint32_t length)
{
    uint8_t *before = skb->tail;
    real_skb_trim(skb, length);
    ASAN_POISON_MEMORY_REGION(skb->tail, (size_t)(before - skb->tail));
}

struct sk_buff *dev_alloc_skb(uint32_t size)
{
    if (host_no_memory || size > 16384 - SKB_HEADROOM) {
        return NULL;
    }
    uint32_t room = SKB_HEADROOM + (size > SKB_BUFFER_SIZE ? size : SKB_BUFFER_SIZE);
    struct sk_buff *skb = calloc(1, sizeof(*skb));
    skb->head = malloc(room);
    memset(skb->head, 0xa5, room);
    skb->end = skb->head + room;
    skb->data = skb->tail = skb->head + SKB_HEADROOM;
    INIT_LIST_HEAD(&skb->link);
    ASAN_POISON_MEMORY_REGION(skb->data, room - SKB_HEADROOM);
    live_packets++;
    return skb;
}

void kfree_skb(struct sk_buff *skb)
{
    if (skb == NULL) {
        return;
    }
    ASAN_UNPOISON_MEMORY_REGION(skb->head, skb->end - skb->head);
    free(skb->head);
    free(skb);
    live_packets--;
}

void *kmalloc(size_t size, enum gfp flags)
{
    (void)flags;
    return malloc(size);
}

void *kzalloc(size_t size, enum gfp flags)
{
    (void)flags;
    return calloc(1, size);
}

void kfree(const void *pointer)
{
    free((void *)pointer);
}

// ---- this CPU, its locks and its log ------------------------------------------------------------

static struct cpu host_cpu;

static void host_cpu_start(void)
{
    if (host_cpu.self == NULL) {
        host_cpu.self = &host_cpu;
        syscall(SYS_arch_prctl, ARCH_SET_GS, &host_cpu); // what cpu.h reads at %gs
    }
}

// The counters stand in cpu.h; no softirq is ever pending here, so only a mistake comes to this.
void softirq_bh_enabled(void)
{
    abort();
}

void preempt_enable_slow(void)
{
    abort();
}

bool log_limit_ok(struct log_limit *limit, uint32_t *held)
{
    (void)limit;
    *held = 0;
    return true;
}

// ---- time ---------------------------------------------------------------------------------------

volatile uint32_t jiffies;
static uint64_t now_ns;
static struct timer_list *timers[16];
static struct delayed_work *works[16];
static uint32_t works_due[16];
struct workqueue_struct *system_wq;

uint64_t clock_ns(void)
{
    return now_ns;
}

void timer_setup(struct timer_list *timer, void (*function)(struct timer_list *timer),
                 unsigned flags)
{
    (void)flags;
    *timer = (struct timer_list){.function = function, .cpu = -1};
}

bool timer_pending(const struct timer_list *timer)
{
    return timer->cpu >= 0;
}

int mod_timer(struct timer_list *timer, uint32_t expires)
{
    int was = timer->cpu >= 0;
    timer->expires = expires;
    timer->cpu = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(timers); i++) {
        if (timers[i] == timer || timers[i] == NULL) {
            timers[i] = timer;
            break;
        }
    }
    return was;
}

void delayed_work_init(struct delayed_work *work, work_func_t func)
{
    memset(work, 0, sizeof(*work));
    work->work.func = func;
}

bool mod_delayed_work(struct workqueue_struct *wq, struct delayed_work *work, uint32_t delay)
{
    (void)wq;
    bool was = work->work.pending != 0;
    for (unsigned i = 0; i < ARRAY_SIZE(works); i++) {
        if (works[i] == work || works[i] == NULL) {
            works[i] = work;
            works_due[i] = jiffies + delay;
            work->work.pending = 1;
            break;
        }
    }
    return was;
}

bool queue_delayed_work(struct workqueue_struct *wq, struct delayed_work *work, uint32_t delay)
{
    return work->work.pending == 0 && !mod_delayed_work(wq, work, delay);
}

bool cancel_delayed_work_sync(struct delayed_work *work)
{
    for (unsigned i = 0; i < ARRAY_SIZE(works); i++) {
        if (works[i] == work) {
            works[i] = NULL;
        }
    }
    bool was = work->work.pending != 0;
    work->work.pending = 0;
    return was;
}

static void host_run_due(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(timers); i++) {
        struct timer_list *timer = timers[i];
        if (timer != NULL && timer->cpu >= 0 && !time_after(timer->expires, jiffies)) {
            timer->cpu = -1;
            timer->function(timer);
        }
    }
    for (unsigned i = 0; i < ARRAY_SIZE(works); i++) {
        struct delayed_work *work = works[i];
        if (work != NULL && work->work.pending != 0 && !time_after(works_due[i], jiffies)) {
            work->work.pending = 0;
            work->work.func(&work->work);
        }
    }
}

// ---- threads: the test is the only one ----------------------------------------------------------

void (*host_while_asleep)(void);

void prepare_to_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry,
                     enum thread_state state)
{
    (void)queue;
    (void)entry;
    (void)state;
}

void finish_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry)
{
    (void)queue;
    (void)entry;
}

void wake_up(struct wait_queue_head *queue)
{
    (void)queue;
}

bool thread_interrupted(void)
{
    return false;
}

uint32_t schedule_timeout(uint32_t timeout)
{
    void (*act)(void) = host_while_asleep;
    host_while_asleep = NULL;
    if (act != NULL) {
        act();
        return timeout - 1;
    }
    for (; timeout != 0; timeout--) {
        host_pass(1000 / HZ);
    }
    return 0;
}

// ---- devices ------------------------------------------------------------------------------------

const uint8_t host_mac[ETH_ALEN] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
const uint8_t host_peer_mac[ETH_ALEN] = {0x52, 0x55, 0x0a, 0x00, 0x02, 0x02};
struct net_device host_eth;
void (*netdev_input)(struct sk_buff *skb);
void (*netdev_notify)(struct net_device *dev, enum netdev_event event);

static struct net_device *devices[4], *host_loopback;
static struct host_frame sent[4096];
static unsigned sent_count;
static LIST_HEAD(backlog);

int register_netdev(struct net_device *dev, const char *prefix)
{
    strcpy(dev->name, prefix);
    unsigned i = 0;
    while (devices[i] != NULL) {
        i++;
    }
    devices[i] = dev;
    dev->ifindex = (int)i + 1;
    return 0;
}

struct net_device *netdev_next(struct net_device *after)
{
    return devices[after == NULL ? 0 : after->ifindex];
}

struct net_device *netdev_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
        if (devices[i] != NULL && strcmp(devices[i]->name, name) == 0) {
            return devices[i];
        }
    }
    return NULL;
}

int netdev_open(struct net_device *dev)
{
    dev->up = true;
    int error = dev->ops != NULL ? dev->ops->ndo_open(dev) : 0;
    net_notify(dev, NETDEV_UP);
    return error;
}

void netif_carrier_on(struct net_device *dev)
{
    dev->carrier = true;
}

void netif_carrier_off(struct net_device *dev)
{
    dev->carrier = false;
}

void rtnl_lock(void)
{
}

void rtnl_unlock(void)
{
}

void netif_rx(struct sk_buff *skb)
{
    list_add_tail(&skb->link, &backlog);
}

int dev_queue_xmit(struct sk_buff *skb)
{
    struct net_device *dev = skb->dev;
    if (!dev->up || !dev->carrier) {
        kfree_skb(skb);
        return -ENETDOWN;
    }
    if (dev->ops != NULL) {
        dev->ops->ndo_start_xmit(skb, dev);
        return 0;
    }
    if (sent_count == ARRAY_SIZE(sent)) {
        host_forget_sent();
    }
    struct host_frame *frame = &sent[sent_count++];
    frame->length = skb->len;
    frame->data = malloc(skb->len);
    memcpy(frame->data, skb->data, skb->len); // poisoned padding would be seen here
    kfree_skb(skb);
    return 0;
}

static void host_run_backlog(void)
{
    while (!list_empty(&backlog)) {
        struct sk_buff *skb = list_first_entry(&backlog, struct sk_buff, link);
        list_del_init(&skb->link);
        eth_input(skb);
    }
}

void host_receive(const void *frame, size_t length)
{
    bool no_memory = host_no_memory;
    host_no_memory = false;
    struct sk_buff *skb = dev_alloc_skb((uint32_t)length);
    host_no_memory = no_memory;
    memcpy(skb_put(skb, (uint32_t)length), frame, length);
    skb->dev = &host_eth;
    skb->timestamp_ns = clock_ns();
    host_cpu.serving_softirq = true;
    eth_input(skb);
    host_run_backlog();
    host_cpu.serving_softirq = false;
}

unsigned host_sent(void)
{
    return sent_count;
}

const struct host_frame *host_frame(unsigned k)
{
    assert(k < sent_count);
    return &sent[k];
}

void host_forget_sent(void)
{
    while (sent_count != 0) {
        free(sent[--sent_count].data);
    }
}

void host_pass(uint32_t ms)
{
    for (; ms != 0; ms -= ms > 4 ? 4 : ms) {
        jiffies += 1;
        now_ns += 4000000;
        host_run_due();
        host_run_backlog();
    }
}

void host_net_start(uint32_t address)
{
    host_cpu_start();
    memset(devices, 0, sizeof(devices));
    jiffies = INITIAL_JIFFIES;
    now_ns = 1000000000;
    if (host_loopback == NULL) {
        net_init(); // the loopback device registers here, once
        host_loopback = devices[0];
    }
    devices[0] = host_loopback;
    host_eth = (struct net_device){.name = "eth0", .mtu = 1500, .up = true, .carrier = true};
    memcpy(host_eth.dev_addr, host_mac, ETH_ALEN);
    register_netdev(&host_eth, "eth0");
    if (address != 0) {
        route_set_address(&host_eth, address, 0xffffff00u, HOST_PEER);
    }
    host_forget_sent();
}

unsigned host_net_end(void)
{
    net_notify(&host_eth, NETDEV_UNREGISTER);
    host_run_backlog();
    host_forget_sent();
    host_no_memory = false;
    return live_packets;
}

// ---- frames -------------------------------------------------------------------------------------

size_t host_eth_frame(uint8_t *frame, const uint8_t *to, uint16_t type, size_t payload)
{
    memcpy(frame + ETH_DESTINATION, to, ETH_ALEN);
    memcpy(frame + ETH_SOURCE, host_peer_mac, ETH_ALEN);
    put_be16(frame + ETH_TYPE, type);
    return ETH_HLEN + payload;
}

size_t host_arp(uint8_t *frame, uint16_t operation, const uint8_t *mac, uint32_t sender,
                uint32_t target)
{
    uint8_t *p = frame + ETH_HLEN;
    memset(p, 0, ARP_LENGTH);
    put_be16(p + ARP_HARDWARE, 1);
    put_be16(p + ARP_PROTOCOL, ETH_P_IP);
    p[ARP_HARDWARE_LENGTH] = ETH_ALEN;
    p[ARP_PROTOCOL_LENGTH] = 4;
    put_be16(p + ARP_OPERATION, operation);
    memcpy(p + ARP_SENDER_MAC, mac, ETH_ALEN);
    put_be32(p + ARP_SENDER_IP, sender);
    put_be32(p + ARP_TARGET_IP, target);
    return host_eth_frame(frame, operation == ARP_REQUEST ? eth_broadcast : host_mac, ETH_P_ARP,
                          ARP_LENGTH);
}

// The sum as RFC 1071 writes it down, word by word in network order: not the code under test.
static uint16_t host_checksum(const uint8_t *p, size_t length, uint32_t sum)
{
    for (size_t i = 0; i < length; i++) {
        sum += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

void host_fix_ip_checksum(uint8_t *frame)
{
    uint8_t *p = frame + ETH_HLEN;
    put_be16(p + IP_CHECKSUM, 0);
    put_be16(p + IP_CHECKSUM, host_checksum(p, (p[0] & 15u) * 4, 0));
}

size_t host_ip(uint8_t *frame, uint32_t source, uint32_t destination, uint8_t protocol,
               size_t length)
{
    uint8_t *p = frame + ETH_HLEN;
    memset(p, 0, IP_HEADER);
    p[IP_VERSION_IHL] = 0x45;
    put_be16(p + IP_TOTAL_LENGTH, (uint16_t)(IP_HEADER + length));
    put_be16(p + IP_ID, 0x1234);
    p[IP_TTL] = 64;
    p[IP_PROTOCOL] = protocol;
    put_be32(p + IP_SOURCE, source);
    put_be32(p + IP_DESTINATION, destination);
    size_t size = host_eth_frame(frame, host_mac, ETH_P_IP, IP_HEADER + length);
    host_fix_ip_checksum(frame);
    return size;
}

size_t host_udp(uint8_t *frame, uint32_t source, uint16_t source_port, uint32_t destination,
                uint16_t port, const void *data, size_t length)
{
    uint8_t *p = frame + ETH_HLEN + IP_HEADER;
    put_be16(p + UDP_SOURCE, source_port);
    put_be16(p + UDP_DESTINATION, port);
    put_be16(p + UDP_LENGTH, (uint16_t)(UDP_HEADER + length));
    put_be16(p + UDP_CHECKSUM, 0);
    if (length != 0) {
        memcpy(p + UDP_HEADER, data, length);
    }
    uint32_t sum = (source >> 16) + (source & 0xffff) + (destination >> 16) +
                   (destination & 0xffff) + IPPROTO_UDP + UDP_HEADER + (uint32_t)length;
    uint16_t checksum = host_checksum(p, UDP_HEADER + length, sum);
    put_be16(p + UDP_CHECKSUM, checksum != 0 ? checksum : 0xffff);
    return host_ip(frame, source, destination, IPPROTO_UDP, UDP_HEADER + length);
}

size_t host_icmp(uint8_t *frame, uint32_t source, uint32_t destination, uint8_t type, uint8_t code,
                 uint32_t rest, const void *data, size_t length)
{
    uint8_t *p = frame + ETH_HLEN + IP_HEADER;
    p[ICMP_TYPE] = type;
    p[ICMP_CODE] = code;
    put_be16(p + ICMP_CHECKSUM, 0);
    put_be32(p + ICMP_ID, rest);
    if (length != 0) {
        memcpy(p + ICMP_HEADER, data, length);
    }
    put_be16(p + ICMP_CHECKSUM, host_checksum(p, ICMP_HEADER + length, 0));
    return host_ip(frame, source, destination, IPPROTO_ICMP, ICMP_HEADER + length);
}

void host_learn_peer(void)
{
    uint8_t frame[64];
    host_receive(frame, host_arp(frame, ARP_REQUEST, host_peer_mac, HOST_PEER, HOST_IP));
    host_forget_sent();
}

bool host_balanced(void)
{
    uint64_t ends = 0;
    for (unsigned end = 0; end < NET_END_COUNT; end++) {
        ends += net_end_count(end);
    }
    return ends == net_received_count();
}
