// QEMU's educational device: QEMU, docs/specs/edu.rst (version 7.2). Facts only.
#pragma once

#include <lib/types.h>

enum { EDU_VENDOR = 0x1234, EDU_DEVICE = 0x11e8 };

enum edu_register {
    EDU_ID = 0x00,        // 0xRRrr00ed: version RR.rr
    EDU_LIVENESS = 0x04,  // reads the inverse of what was written
    EDU_FACTORIAL = 0x08, // write n, wait until not busy, read n!
    EDU_STATUS = 0x20,
    EDU_IRQ_STATUS = 0x24, // causes that are raised; the wire is up while it is not 0
    EDU_IRQ_RAISE = 0x60,  // sets bits of it
    EDU_IRQ_ACK = 0x64,    // clears bits of it
    EDU_DMA_SOURCE = 0x80, // 64 bits each from here on: an address of ours, or of its buffer
    EDU_DMA_DESTINATION = 0x88,
    EDU_DMA_COUNT = 0x90, // bytes
    EDU_DMA_COMMAND = 0x98,
};

#define EDU_ID_MASK  0x0000ffffu
#define EDU_ID_VALUE 0x000000edu

#define EDU_STATUS_BUSY BIT(0) // computing a factorial
#define EDU_STATUS_IRQ  BIT(7) // interrupt when it is done

#define EDU_DMA_START BIT(0) // reads 1 until it is done
#define EDU_DMA_TO_US BIT(1) // from its buffer into memory; 0: the other way
#define EDU_DMA_IRQ   BIT(2) // interrupt when it is done

enum {
    EDU_BUFFER = 0x40000, // its own memory, as it numbers it
    EDU_BUFFER_SIZE = 4096,
    EDU_COPY_MAX = 4095, // a transfer that ends with the buffer is refused (and ends QEMU 7.2)
    EDU_DMA_BITS = 28,   // how far it reaches
};

// Causes: two are the device's own; EDU_IRQ_RAISE can set any.
#define EDU_CAUSE_COMPUTE BIT(0) // a factorial is done
#define EDU_CAUSE_COPY    BIT(8) // a transfer is done
