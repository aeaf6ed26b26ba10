// Threads for interrupt handlers: what kernel_main ties irq_threads to. Drivers use
// request_threaded_irq in <irq/irq.h>.
#pragma once

#include <irq/desc.h>

extern const struct irq_thread_ops irq_thread_ops;
