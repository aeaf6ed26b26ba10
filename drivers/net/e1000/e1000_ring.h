// The two descriptor rings of an e1000 as pure bookkeeping: who owns which slot, what lies in it,
// and what the device said. Nothing here touches a register, maps memory or allocates:
// tests/host/test_e1000_ring.c plays the device.
//
//   receive:   0        head                    tail         count
//              |  ours   |  the device's: empty  |   ours     |
//              The device fills slots from head on; software takes them at head and puts empty ones back at tail.
//              Slots [head, tail) belong to the device. head == tail: it has none and drops what arrives.
//
//   transmit:  0        head                    tail         count
//              |  ours   |  the device's: to send |   ours    |
//              Software fills slots at tail; the device sends from head on and marks them done.
//              Slots [head, tail) belong to the device. head == tail: nothing to send.
//
// One slot always stays ours, so that full and empty differ (SDM 3.2.6, 3.4). Indices and buffers
// are taken from the shadow array, which the device cannot write; of a descriptor the device wrote,
// only status, errors and length are read, each once.
#pragma once

#include <lib/types.h>

#include "e1000_regs.h"

// What we know of a slot, whatever its descriptor says by now.
struct e1000_slot {
    void *cookie;     // the packet; NULL: empty
    dma_addr_t bus;   // as it was mapped
    uint32_t length;  // bytes that may be read or written there
    uint32_t jiffies; // transmit: when it was handed over
};

struct e1000_ring {
    union {
        volatile struct e1000_rx_desc *rx; // D in parts
        volatile struct e1000_tx_desc *tx; // D in parts
    };
    struct e1000_slot *slots; // I: the shadow, `count` of them
    uint32_t count;           // I: a multiple of 8
    uint32_t head, tail;      // L
    bool skipping;            // L, receive: within a frame that takes several buffers
};

void e1000_ring_init(struct e1000_ring *ring, void *descriptors, struct e1000_slot *slots,
                     uint32_t count);
// How many slots the device owns.
uint32_t e1000_ring_used(const struct e1000_ring *ring);
bool e1000_ring_full(const struct e1000_ring *ring);
// Takes the oldest slot back without asking the device, which has been reset: NULL when none is
// left.
void *e1000_ring_cancel(struct e1000_ring *ring, struct e1000_slot *slot);

// Receive: gives the device an empty buffer. False when full. The doorbell (RDT) is the caller's.
bool e1000_rx_post(struct e1000_ring *ring, void *cookie, dma_addr_t bus, uint32_t length);

enum e1000_rx_verdict {
    E1000_RX_NONE,     // the device still has the oldest slot
    E1000_RX_FRAME,    // a whole good frame
    E1000_RX_TOO_LONG, // part of a frame that did not fit one buffer: drop
    E1000_RX_ERROR,    // the device found an error in it, or claims a length that cannot be: drop
};
// Takes the oldest slot back if the device is done with it; *slot is our own copy of what lay
// there, *length the frame's bytes.
enum e1000_rx_verdict e1000_rx_reap(struct e1000_ring *ring, struct e1000_slot *slot,
                                    uint32_t *length);
bool e1000_rx_ready(const struct e1000_ring *ring); // the device is done with the oldest slot

// Transmit: hands a packet over. False when full. The doorbell (TDT) is the caller's.
bool e1000_tx_post(struct e1000_ring *ring, void *cookie, dma_addr_t bus, uint32_t length,
                   uint32_t jiffies);
// Takes the oldest slot back if it was sent: true and *slot.
bool e1000_tx_reap(struct e1000_ring *ring, struct e1000_slot *slot);
bool e1000_tx_ready(const struct e1000_ring *ring);
