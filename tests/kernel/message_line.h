// An interrupt line without a device: a message irq whose vector the test sends by IPI. What
// arrives takes the whole way of a real one, from the stub in entry.S to the action list.
#pragma once

#include <contract/irq_chip.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <x86/lapic.h>
#include <irq/desc.h>
#include <irq/irq.h>
#include <irq/route.h>

enum { MESSAGE_LINE_WAIT_US = 5 * 1000 * 1000 };

static inline void message_line_nothing(struct irq_data *data)
{
    (void)data;
}

static inline int message_line_moved(struct irq_data *data)
{
    (void)data;
    return 0;
}

static const struct irq_chip message_line_chip = {
    .name = "TEST",
    .irq_startup = message_line_nothing,
    .irq_shutdown = message_line_nothing,
    .irq_mask = message_line_nothing,
    .irq_unmask = message_line_nothing,
    .irq_eoi = lapic_irq_eoi,
    .irq_retrigger = lapic_irq_retrigger,
    .irq_set_affinity = message_line_moved,
};

// Allocated and requested, or -errno.
static inline int message_line_open(irq_handler_t handler, void *dev_id)
{
    int irq = route_alloc_message(&message_line_chip, NULL, 0);
    int err = irq < 0 ? irq : request_irq((unsigned)irq, handler, 0, "ktest", dev_id);
    if (irq >= 0 && err != 0) {
        route_free_message((unsigned)irq);
    }
    return err != 0 ? err : irq;
}

static inline void message_line_close(int irq, void *dev_id)
{
    free_irq((unsigned)irq, dev_id);
    route_free_message((unsigned)irq);
}

static inline uint8_t message_line_vector(int irq)
{
    return irq_to_desc((unsigned)irq)->data.vector;
}

static inline void message_line_send(int irq, unsigned cpu)
{
    lapic_ipi(cpus[cpu].apic_id, message_line_vector(irq));
}

// Waits until a counter that a handler advances has come to a value.
static inline bool message_line_reached(const uint32_t *counter, uint32_t value)
{
    return wait_until(READ_ONCE(*counter) >= value, MESSAGE_LINE_WAIT_US);
}
