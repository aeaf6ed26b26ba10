// An interrupt line without a device (irq/soft_line.h), and how a test waits for what comes of it.
#pragma once

#include <contract/irq_chip.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <x86/lapic.h>
#include <irq/desc.h>
#include <irq/irq.h>
#include <irq/route.h>
#include <irq/soft_line.h>
#include <defer/line_poll.h>

enum { MESSAGE_LINE_WAIT_US = 20 * 1000 * 1000 }; // only detects a hang

// Allocated and requested, or -errno.
static inline int message_line_open(irq_handler_t handler, void *dev_id)
{
    return soft_line_open(handler, dev_id, "ktest");
}

static inline void message_line_close(int irq, void *dev_id)
{
    soft_line_close(irq, dev_id);
}

static inline uint8_t message_line_vector(int irq)
{
    return soft_line_vector(irq);
}

static inline void message_line_send(int irq, unsigned cpu)
{
    soft_line_send(irq, cpu);
}

// NULL; or why a handler's calls say little: it is asked besides, ten times a second.
static inline const char *message_line_polled(void)
{
    return line_poll_asks_all() ? "irqpoll: handlers are asked besides" : NULL;
}

#define MESSAGE_LINE_COUNTS()                    \
    do {                                         \
        const char *why = message_line_polled(); \
        if (why != NULL) {                       \
            SKIP(why);                           \
        }                                        \
    } while (0)

// Waits until a counter that a handler advances has come to a value.
static inline bool message_line_reached(const uint32_t *counter, uint32_t value)
{
    return wait_until(READ_ONCE(*counter) >= value, MESSAGE_LINE_WAIT_US);
}
