// An interrupt line without a device: an irq whose vector software sends, by a message from a CPU
// to itself or to another. What arrives takes the whole way of a device's, from the stub in entry.S
// through the flow to the action list: for demonstrations, benchmarks and tests.
// Context: any, where a line does not say otherwise.
#pragma once

#include <contract/irq_chip.h>
#include <irq/irq.h>

// For route_alloc_message, where the number alone is wanted and no handler.
extern const struct irq_chip soft_line_chip;

// Takes a number and a vector, and requests the irq. Its number, or -errno. Context: thread.
int soft_line_open(irq_handler_t handler, void *dev_id, const char *name);
// The same with a thread, which the handler asks for by IRQ_WAKE_THREAD. Context: thread.
int soft_line_open_threaded(irq_handler_t handler, irq_handler_t thread_fn, void *dev_id,
                            const char *name);
// Context: thread.
void soft_line_close(int irq, void *dev_id);

uint8_t soft_line_vector(int irq);
// One rise of the line, on a CPU of the caller's choice. Context: any.
void soft_line_send(int irq, unsigned cpu);
