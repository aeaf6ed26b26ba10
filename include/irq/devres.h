// Part of the driver door: handlers that belong to a device. What a driver requests so is given
// back by itself when its probe fails or its remove has run, in the reverse order. Linux's devm_
// family, for irqs.
#pragma once

#include <contract/device.h>
#include <irq/irq.h>

// As request_irq and request_threaded_irq; -ENOMEM also when there is no memory for the note.
// Context: thread.
int devm_request_irq(struct device *dev, unsigned irq, irq_handler_t handler, unsigned long flags,
                     const char *name, void *dev_id);
int devm_request_threaded_irq(struct device *dev, unsigned irq, irq_handler_t handler,
                              irq_handler_t thread_fn, unsigned long flags, const char *name,
                              void *dev_id);
// Earlier than by itself, where the order matters: as free_irq. A handler that was not requested
// so is left alone, with a warning. Context: thread.
void devm_free_irq(struct device *dev, unsigned irq, void *dev_id);

// By the bus, when the driver has gone: gives back what is left. How many. Context: thread.
unsigned devm_release_irqs(struct device *dev);
