// Ring arithmetic of the e1000: see e1000_ring.h for the picture.
//
// The order inside each function is the lesson. Handing over: write the descriptor, publish, then
// move the tail (the doorbell follows later and publishes again). Taking back: read the status,
// observe, only then read the rest. SDM 3.2.3, 3.2.6, 3.3.3, 3.4.
//
// Context: the caller serialises each ring; receive in NAPI poll, transmit under tx_lock.
#include <lib/string.h>
#include <dma/dma.h>

#include "e1000_ring.h"

void e1000_ring_init(struct e1000_ring *ring, void *descriptors, struct e1000_slot *slots,
                     uint32_t count)
{
    *ring = (struct e1000_ring){.rx = descriptors, .slots = slots, .count = count};
    // All ones: if the device runs before it is told to, it finds addresses that nothing answers.
    memset(descriptors, 0xff, count * sizeof(struct e1000_rx_desc));
    memset(slots, 0, count * sizeof(*slots));
}

static uint32_t e1000_ring_next(const struct e1000_ring *ring, uint32_t index)
{
    return index + 1 == ring->count ? 0 : index + 1;
}

uint32_t e1000_ring_used(const struct e1000_ring *ring)
{
    return ring->tail >= ring->head ? ring->tail - ring->head
                                    : ring->count - ring->head + ring->tail;
}

bool e1000_ring_full(const struct e1000_ring *ring)
{
    return e1000_ring_next(ring, ring->tail) == ring->head;
}

static void e1000_ring_take(struct e1000_ring *ring, struct e1000_slot *slot)
{
    *slot = ring->slots[ring->head];
    ring->slots[ring->head].cookie = NULL;
    ring->head = e1000_ring_next(ring, ring->head);
}

void *e1000_ring_cancel(struct e1000_ring *ring, struct e1000_slot *slot)
{
    if (ring->head == ring->tail) {
        return NULL;
    }
    e1000_ring_take(ring, slot);
    return slot->cookie;
}

// ---- receive ------------------------------------------------------------------------------------

bool e1000_rx_post(struct e1000_ring *ring, void *cookie, dma_addr_t bus, uint32_t length)
{
    if (e1000_ring_full(ring)) {
        return false;
    }
    ring->slots[ring->tail] = (struct e1000_slot){.cookie = cookie, .bus = bus, .length = length};
    volatile struct e1000_rx_desc *desc = &ring->rx[ring->tail];
    desc->address = bus.value;
    desc->length = 0;
    desc->errors = 0;
    desc->status = 0; // not done
    dma_publish();
    ring->tail = e1000_ring_next(ring, ring->tail);
    return true;
}

bool e1000_rx_ready(const struct e1000_ring *ring)
{
    return ring->head != ring->tail && (ring->rx[ring->head].status & E1000_RXD_DD) != 0;
}

enum e1000_rx_verdict e1000_rx_reap(struct e1000_ring *ring, struct e1000_slot *slot,
                                    uint32_t *length)
{
    if (ring->head == ring->tail) {
        return E1000_RX_NONE;
    }
    volatile struct e1000_rx_desc *desc = &ring->rx[ring->head];
    uint8_t status = desc->status;
    if ((status & E1000_RXD_DD) == 0) {
        return E1000_RX_NONE;
    }
    dma_observe();
    uint32_t claimed = desc->length;
    uint8_t errors = desc->errors;
    e1000_ring_take(ring, slot);

    // A frame of several buffers is dropped whole: every part up to and including the one with EOP.
    bool last = (status & E1000_RXD_EOP) != 0;
    if (ring->skipping || !last) {
        ring->skipping = !last;
        return E1000_RX_TOO_LONG;
    }
    if ((errors & E1000_RXD_ERRORS) != 0 || claimed == 0 || claimed > slot->length) {
        return E1000_RX_ERROR;
    }
    *length = claimed;
    return E1000_RX_FRAME;
}

// ---- transmit -----------------------------------------------------------------------------------

bool e1000_tx_post(struct e1000_ring *ring, void *cookie, dma_addr_t bus, uint32_t length,
                   uint32_t jiffies)
{
    if (e1000_ring_full(ring)) {
        return false;
    }
    ring->slots[ring->tail] =
        (struct e1000_slot){.cookie = cookie, .bus = bus, .length = length, .jiffies = jiffies};
    volatile struct e1000_tx_desc *desc = &ring->tx[ring->tail];
    desc->address = bus.value;
    desc->length = (uint16_t)length;
    desc->cso = 0;
    desc->command = E1000_TXD_EOP | E1000_TXD_IFCS | E1000_TXD_RS;
    desc->css = 0;
    desc->special = 0;
    desc->status = 0; // not sent
    dma_publish();
    ring->tail = e1000_ring_next(ring, ring->tail);
    return true;
}

bool e1000_tx_ready(const struct e1000_ring *ring)
{
    return ring->head != ring->tail && (ring->tx[ring->head].status & E1000_TXD_DD) != 0;
}

bool e1000_tx_reap(struct e1000_ring *ring, struct e1000_slot *slot)
{
    if (!e1000_tx_ready(ring)) {
        return false;
    }
    dma_observe();
    e1000_ring_take(ring, slot);
    return true;
}
