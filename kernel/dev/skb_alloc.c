// Where packets come from: a struct from one cache and a buffer from another, kept together as a
// pair while they are in use again and again.
//
//   dev_alloc_skb <── this CPU's pool of free pairs <── kfree_skb
//        │ (empty)                  (SKB_POOL_MAX) │
//        └── slab: sk_buff + buffer ───────────────┘
//
// A received packet is allocated and freed on the same CPU some microseconds apart, so the pool
// makes both a list operation of a few instructions: no lock, no poison over 2 KiB. The struct
// never lies beside the buffer: what a device may write to (even through an IOMMU, which protects
// whole pages) holds no pointer of ours. A free packet's pointers are NULL, so that whoever still
// uses it faults at once. Larger packets than SKB_BUFFER_SIZE take their buffer from kmalloc and
// are not pooled.
//
// Context: any. The pool is touched with interrupts off.
#include <lib/list.h>
#include <core/cpu.h>
#include <core/panic.h>
#include <mm/slab.h>
#include <dev/skbuff.h>

enum {
    SKB_POOL_MAX = 128,   // pairs kept per CPU: two polls' worth of packets
    SKB_MAX_SIZE = 16384, // headroom included
};

struct skb_pool {
    struct sk_buff *first; // C: linked by link.next
    uint32_t count;        // C
};

static struct skb_pool skb_pools[MAX_CPUS];
static struct kmem_cache *skb_struct_cache; // I
static struct kmem_cache *skb_buffer_cache; // I

uint32_t skb_fail_every;
static uint32_t skb_fail_turn; // A

void skb_init(void)
{
    skb_struct_cache = kmem_cache_create("sk_buff", sizeof(struct sk_buff), 64);
    skb_buffer_cache = kmem_cache_create("skb_buffer", SKB_HEADROOM + SKB_BUFFER_SIZE, 64);
    assert(skb_struct_cache != NULL && skb_buffer_cache != NULL);
}

static bool skb_is_pooled_size(const struct sk_buff *skb)
{
    return skb->end - skb->head == SKB_HEADROOM + SKB_BUFFER_SIZE;
}

static struct sk_buff *skb_pool_take(void)
{
    unsigned long flags = local_irq_save();
    struct skb_pool *pool = &this_cpu(skb_pools);
    struct sk_buff *skb = pool->first;
    if (skb != NULL) {
        pool->first = (struct sk_buff *)skb->link.next;
        pool->count--;
    }
    local_irq_restore(flags);
    return skb;
}

static bool skb_pool_give(struct sk_buff *skb)
{
    unsigned long flags = local_irq_save();
    struct skb_pool *pool = &this_cpu(skb_pools);
    bool room = pool->count < SKB_POOL_MAX;
    if (room) {
        skb->link.next = (struct list_head *)pool->first;
        pool->first = skb;
        pool->count++;
    }
    local_irq_restore(flags);
    return room;
}

static struct sk_buff *skb_new(uint32_t room)
{
    struct sk_buff *skb = kmem_cache_alloc(skb_struct_cache, GFP_ATOMIC);
    if (skb == NULL) {
        return NULL;
    }
    bool pooled = room == SKB_HEADROOM + SKB_BUFFER_SIZE;
    skb->head = pooled ? kmem_cache_alloc(skb_buffer_cache, GFP_ATOMIC) : kmalloc(room, GFP_ATOMIC);
    if (skb->head == NULL) {
        kmem_cache_free(skb_struct_cache, skb);
        return NULL;
    }
    skb->end = skb->head + room;
    return skb;
}

static bool skb_must_fail(uint32_t every)
{
    return every != 0 && __atomic_add_fetch(&skb_fail_turn, 1, __ATOMIC_RELAXED) % every == 0;
}

struct sk_buff *dev_alloc_skb(uint32_t size)
{
    struct sk_buff *skb = NULL;
    if (unlikely(skb_must_fail(READ_ONCE(skb_fail_every)))) {
        return NULL;
    }
    if (likely(size <= SKB_BUFFER_SIZE)) {
        skb = skb_pool_take();
        if (unlikely(skb == NULL)) {
            skb = skb_new(SKB_HEADROOM + SKB_BUFFER_SIZE);
        }
    } else if (size <= SKB_MAX_SIZE - SKB_HEADROOM) {
        skb = skb_new(SKB_HEADROOM + size);
    }
    if (unlikely(skb == NULL)) {
        return NULL;
    }
    skb->data = skb->tail = skb->head + SKB_HEADROOM;
    skb->len = 0;
    skb->dev = NULL;
    skb->protocol = 0;
    skb->mac_header = skb->network_header = NULL;
    skb->timestamp_ns = 0;
    INIT_LIST_HEAD(&skb->link);
    return skb;
}

void kfree_skb(struct sk_buff *skb)
{
    if (skb == NULL || WARN_ON(skb->data == NULL)) {
        return; // the second: freed twice. Leak it rather than hand it out to two
    }
    skb->data = skb->tail = skb->mac_header = skb->network_header = NULL;
    bool pooled_size = skb_is_pooled_size(skb);
    if (likely(pooled_size && skb_pool_give(skb))) {
        return;
    }
    if (pooled_size) {
        kmem_cache_free(skb_buffer_cache, skb->head);
    } else {
        kfree(skb->head);
    }
    kmem_cache_free(skb_struct_cache, skb);
}
