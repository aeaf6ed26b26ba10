// QEMU's educational device: QEMU, docs/specs/edu.rst (version 7.2). Facts only.
#pragma once

#include <lib/types.h>

enum edu_register {
    EDU_ID = 0x00,        // 0xRRrr00ed: version RR.rr
    EDU_LIVENESS = 0x04,  // reads the inverse of what was written
    EDU_FACTORIAL = 0x08, // write n, wait until not busy, read n!
    EDU_STATUS = 0x20,
    EDU_IRQ_STATUS = 0x24, // causes that are raised; the wire is up while it is not 0
    EDU_IRQ_RAISE = 0x60,  // sets bits of it
    EDU_IRQ_ACK = 0x64,    // clears bits of it
};

#define EDU_ID_MASK  0x0000ffffu
#define EDU_ID_VALUE 0x000000edu

#define EDU_STATUS_BUSY BIT(0) // computing a factorial
#define EDU_STATUS_IRQ  BIT(7) // interrupt when it is done

#define EDU_CAUSE_FACTORIAL BIT(0) // by the device itself; other bits by EDU_IRQ_RAISE
