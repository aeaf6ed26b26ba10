// The arithmetic of packets: a protocol's header is pushed on in front or pulled off, data is put
// at the end.
//
//   head         data              tail          end
//    |<-headroom->|<----- len ----->|<-tailroom-->|
//                 push <- | -> pull      put -> | <- trim
//
// A push or put that does not fit is a mistake in this kernel and ends it: the neighbour's memory
// would be next. A pull that does not fit is a short packet, which anybody may send: NULL, and the
// caller counts it. Memory: skb_alloc.c. Context: any; whoever holds the packet is alone with it.
#include <core/panic.h>
#include <dev/skbuff.h>

void *skb_put(struct sk_buff *skb, uint32_t size)
{
    if (unlikely(size > skb_tailroom(skb))) {
        panic("skb_put: %u bytes do not fit, tailroom is %u", size, skb_tailroom(skb));
    }
    uint8_t *at = skb->tail;
    skb->tail += size;
    skb->len += size;
    return at;
}

void *skb_push(struct sk_buff *skb, uint32_t size)
{
    if (unlikely(size > (uint32_t)(skb->data - skb->head))) {
        panic("skb_push: %u bytes do not fit, headroom is %u", size,
              (uint32_t)(skb->data - skb->head));
    }
    skb->data -= size;
    skb->len += size;
    return skb->data;
}

void *skb_pull(struct sk_buff *skb, uint32_t size)
{
    if (size > skb->len) {
        return NULL;
    }
    skb->data += size;
    skb->len -= size;
    return skb->data;
}

void skb_trim(struct sk_buff *skb, uint32_t length)
{
    if (length < skb->len) {
        skb->len = length;
        skb->tail = skb->data + length;
    }
}
