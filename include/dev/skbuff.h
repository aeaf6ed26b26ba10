// A packet: one buffer and the part of it that is data at the moment. As it goes up, each protocol
// pulls its header off; as it goes down, each pushes one on.
//
//   head ........ data ................ tail ........ end
//        headroom      len bytes of data     tailroom
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/list.h>
#include <lib/types.h>

struct net_device;

enum { SKB_HEADROOM = 64, SKB_BUFFER_SIZE = 2048 };

struct sk_buff {
    struct list_head link;
    struct net_device *dev; // that it came in by or goes out by
    uint8_t *head, *data, *tail, *end;
    uint32_t len;      // tail - data
    uint16_t protocol; // EtherType, host order
    uint8_t *mac_header, *network_header;
    uint64_t timestamp_ns; // taken at the driver's poll
};

void skb_init(void); // by netdev_init. Context: boot

// size: bytes of room behind SKB_HEADROOM, at most what fits 16 KiB. The buffer may be handed to
// dma_map_single. NULL: no memory. Context: any.
struct sk_buff *dev_alloc_skb(uint32_t size) __must_check;
void kfree_skb(struct sk_buff *skb);
extern uint32_t
    skb_fail_every; // A: for tests: every n-th dev_alloc_skb finds no memory; 0: none does

void *skb_put(struct sk_buff *skb,
              uint32_t size); // grows at the tail; panics when our own arithmetic is wrong
void *skb_push(struct sk_buff *skb, uint32_t size); // grows at the front
void *skb_pull(struct sk_buff *skb,
               uint32_t size); // NULL when there is less than size: the sender's mistake, not ours
void skb_trim(struct sk_buff *skb, uint32_t length);
static inline uint32_t skb_tailroom(const struct sk_buff *skb)
{
    return (uint32_t)(skb->end - skb->tail);
}
