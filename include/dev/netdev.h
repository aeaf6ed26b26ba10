// Network devices, between drivers (below) and protocols (above), which do not know each other.
//
//   wire ─DMA─> ring ─irq─> napi_schedule ─NET_RX softirq─> napi->poll(budget)
//                                                              │ netif_receive_skb
//                                          kernel/net <── netdev_input
//   kernel/net ─dev_queue_xmit─> ndo_start_xmit ─> ring ─DMA─> wire
// Context: any, where a line does not say otherwise.
#pragma once

#include <core/spinlock.h>
#include <dev/skbuff.h>
#include <lib/list.h>
#include <lib/text.h>
#include <lib/types.h>

enum { ETH_ALEN = 6, ETH_HLEN = 14, NET_MAX_MTU = 9000, NAPI_WEIGHT = 64, NAPI_BUDGET = 300 };

struct net_device;
struct device;

// Interrupt first, then polling while there is work: scheduled by the top half (device's interrupts
// masked), polled in NET_RX softirq, completed (interrupts unmasked) when a poll did less than its
// weight. Being scheduled while it is already scheduled is remembered: the completion then asks for
// one more poll, so what came in between is not forgotten.
enum { NAPI_SCHEDULED = 1, NAPI_MISSED = 2, NAPI_DISABLED = 4 };
struct napi_struct {
    struct list_head link; // C: poll list of the CPU it was scheduled on
    uint32_t state;        // A: NAPI_SCHEDULED, NAPI_MISSED, NAPI_DISABLED
    int weight;            // I
    int (*poll)(struct napi_struct *napi,
                int budget); // work done; < budget after napi_complete_done
    struct net_device *dev;
};
void netif_napi_add(struct net_device *dev, struct napi_struct *napi,
                    int (*poll)(struct napi_struct *, int), int weight);
void napi_enable(struct napi_struct *napi);   // it starts disabled
void napi_disable(struct napi_struct *napi);  // waits until it is not scheduled. Context: thread
bool napi_schedule(struct napi_struct *napi); // false when it already was. Context: any
// In poll, when it did less than its budget. True: unmask the device's interrupts now. False: leave
// them masked, another poll follows or the napi is being disabled. Context: softirq.
bool napi_complete_done(struct napi_struct *napi, int work_done);

enum netdev_tx { NETDEV_TX_OK, NETDEV_TX_BUSY };

struct net_device_ops {
    int (*ndo_open)(struct net_device *dev); // `ip link set up`; thread
    int (*ndo_stop)(struct net_device *dev);
    // Takes the packet, or says BUSY with the queue stopped. Called under tx_lock, softirqs off.
    enum netdev_tx (*ndo_start_xmit)(struct sk_buff *skb, struct net_device *dev);
};

struct net_device_stats { // A: order of /proc/net/dev
    uint64_t rx_bytes, rx_packets, rx_errors, rx_dropped, rx_fifo_errors, rx_frame_errors,
        rx_compressed, multicast;
    uint64_t tx_bytes, tx_packets, tx_errors, tx_dropped, tx_fifo_errors, collisions,
        tx_carrier_errors, tx_compressed;
};

struct net_device {
    char name[16];              // I: "eth0", "lo"
    int ifindex;                // I: 1, 2, ... in the order of registration
    uint8_t dev_addr[ETH_ALEN]; // I
    uint16_t mtu;               // L
    const struct net_device_ops *ops;
    struct device *parent; // I: NULL for lo
    struct spinlock tx_lock;
    bool up, carrier, loopback; // A
    bool queue_stopped;         // L of tx_lock
    bool tx_scheduled;          // L of tx_lock: NET_TX has it, by tx_link
    struct list_head tx_link;   // C of the CPU that scheduled it
    struct list_head
        tx_waiting; // L of tx_lock: packets held while the queue is stopped, at most tx_waiting_max
    uint32_t tx_waiting_count, tx_waiting_max;
    struct net_device_stats stats;
    // IPv4 of this device, host order; owned by kernel/net.
    uint32_t ip_address, ip_mask, ip_gateway; // A
    void *private_data;
    struct list_head link;
};

void netdev_init(void); // Context: boot
// "eth": the next free number. Context: thread.
int register_netdev(struct net_device *dev, const char *prefix);
// Closes it, waits for its packets. Context: thread.
void unregister_netdev(struct net_device *dev);
// Whoever walks the devices from a thread holds this lock meanwhile; it also orders register, open,
// close and unregister. Context: thread.
void rtnl_lock(void);
void rtnl_unlock(void);
// Under rtnl_lock, or as an RCU reader: in softirq, or between rcu_read_lock() and its unlock; then
// the device stays as long. Context: any.
struct net_device *netdev_find(const char *name);
struct net_device *netdev_next(struct net_device *after); // NULL: the first; by ifindex
// They take rtnl_lock. set_up: either, by name: -ENODEV, or what the driver says. Context: thread.
int netdev_open(struct net_device *dev);
void netdev_close(struct net_device *dev);
int netdev_set_up(const char *name, bool up);
// Returns when nobody can still hold what the caller took away: synchronize_rcu(). Context: thread.
void synchronize_net(void);

// Counters are added to from several CPUs at once.
static inline void netdev_count(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

void netif_carrier_on(struct net_device *dev);
void netif_carrier_off(struct net_device *dev);
void netif_stop_queue(struct net_device *dev);
void netif_wake_queue(struct net_device *dev); // sends what waited. Context: any but hard irq

void netif_receive_skb(struct sk_buff *skb); // takes the packet over. Context: softirq
// From elsewhere (loopback): queued to this CPU's backlog. Context: any.
void netif_rx(struct sk_buff *skb);
// Takes the packet over. 0, -ENETDOWN, -ENOBUFS. Context: any but hard irq.
int dev_queue_xmit(struct sk_buff *skb);

// Tied in kernel_main: where received packets go, and who hears of carrier and register events.
extern void (*netdev_input)(struct sk_buff *skb);
enum netdev_event { NETDEV_REGISTER, NETDEV_UNREGISTER, NETDEV_UP, NETDEV_DOWN, NETDEV_CARRIER };
extern void (*netdev_notify)(struct net_device *dev, enum netdev_event event);
