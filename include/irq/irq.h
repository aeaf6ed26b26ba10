// Part of the driver door: how a driver asks for its interrupt. Names, arguments and refusals are
// Linux's.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/cpumask.h>
#include <lib/types.h>

typedef enum {
    IRQ_NONE = 0, // not from my device: somebody else on this line, or spurious
    IRQ_HANDLED = 1,
    IRQ_WAKE_THREAD = 2, // only with a threaded handler
} irqreturn_t;

// Hard interrupt context, interrupts off. Reads the device's cause, quiets the device, asks for
// later work, returns.
typedef irqreturn_t (*irq_handler_t)(int irq, void *dev_id);

enum {
    IRQF_TRIGGER_RISING = 0x1,
    IRQF_TRIGGER_FALLING = 0x2,
    IRQF_TRIGGER_HIGH = 0x4,
    IRQF_TRIGGER_LOW = 0x8,
    IRQF_SHARED = 0x80,
    IRQF_ONESHOT = 0x2000,
    IRQF_NO_THREAD = 0x10000,
};

// Adds a handler to an irq and starts the irq when it is the first. `name` shows in
// /proc/interrupts and must stay valid. Context: thread. 0; -EINVAL (no such irq, NULL handler,
// shared without dev_id), -EBUSY (already taken and one of the two does not share, or triggers
// differ; said in the log), -ENOMEM.
int request_irq(unsigned irq, irq_handler_t handler, unsigned long flags, const char *name,
                void *dev_id);

// The same with a part that may sleep: `handler` looks at the device in hard interrupt context and
// returns IRQ_WAKE_THREAD, then `thread_fn` runs in the thread irq/N-name (SCHED_FIFO 50), on the
// irq's CPU. NULL handler: every interrupt wakes the thread; a wire must then stay masked until the
// thread is done, so IRQF_ONESHOT is needed ("Threaded irq requested with handler=NULL and
// !ONESHOT", -EINVAL), while a message needs it not. Boot option threadirqs moves every handler
// without IRQF_NO_THREAD into such a thread. Results as request_irq. Context: thread.
int request_threaded_irq(unsigned irq, irq_handler_t handler, irq_handler_t thread_fn,
                         unsigned long flags, const char *name, void *dev_id);

// Removes the handler with this dev_id, waits until no CPU and no thread is in it, shuts the irq
// down when it was the last. Returns the name given at the request, or NULL with a warning when
// there was none. Context: thread.
const char *free_irq(unsigned irq, void *dev_id);

// Depth-counted. disable_irq also waits for running handlers, so never from the handler itself, nor
// with a lock held that it takes; _nosync does not. One enable_irq too many warns "Unbalanced
// enable for IRQ n".
void disable_irq(unsigned irq);        // Context: thread
void disable_irq_nosync(unsigned irq); // Context: any
void enable_irq(unsigned irq);
// Returns when no CPU is running a handler of this irq and its threads are idle. No lock may be
// held that those take. Context: thread.
void synchronize_irq(unsigned irq);

// 0; -EINVAL (no online CPU in the mask, no such irq), -EIO (the chip cannot).
int irq_set_affinity(unsigned irq, const struct cpumask *mask);
// By a driver whose interrupt belongs to certain CPUs (a queue's, to its own): goes there now, and
// says so in /proc/irq/N/affinity_hint, which irqbalance heeds. NULL: no hint any more. Results as
// irq_set_affinity.
int irq_set_affinity_and_hint(unsigned irq, const struct cpumask *mask);
