// The last resort: a device that cannot interrupt at all is asked ten times a second whether it
// would have.
//
//   MSI-X ──none──> MSI ──none──> wire ──none known──> here
//
//   timer, each HZ/10 ──the kernel's own message──> vector ──> flow_edge ──> driver's handler
//
// To the driver nothing is different: it has an irq, and its handler is called in hard interrupt
// context. It reads its device's cause and mostly finds none (`is_polled` tells the detector of
// spurious interrupts that this is no fault). What differs is the time it takes, 50 ms on the
// average; so it is never done silently: a line in the log, PCI-POLL in /proc/interrupts, POLL in
// `driver list`.
//
// This is one chip (contract/irq_chip.h), whose device is a timer. A person may ask for it, to see
// what it costs: irq mode DEVICE poll. How often is /proc/irq/poll_hz.
//
// Context: the chip's functions under the descriptor's lock, interrupts off; the timer in softirq;
// the rest thread. Previous: pci_msi.c.
#include <lib/errno.h>
#include <lib/format.h>
#include <contract/irq_chip.h>
#include <core/clock.h>
#include <core/log.h>
#include <x86/lapic.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <irq/route.h>
#include <defer/line_poll.h>
#include <defer/timer.h>
#include <pci/pci.h>

#include "pci_config.h"

struct pci_poll {
    struct pci_dev *dev;     // I
    struct timer_list timer; // runs while the irq is started
    int irq;                 // I
};

static void poll_startup(struct irq_data *data)
{
    struct pci_poll *poll = data->chip_data;
    mod_timer(&poll->timer, jiffies + line_poll_interval());
}

static void poll_shutdown(struct irq_data *data)
{
    struct pci_poll *poll = data->chip_data;
    del_timer(&poll->timer); // one that is running looks at `started`
}

// A masked irq is not asked for, and what was missed meanwhile is seen with the next one.
static void poll_nothing(struct irq_data *data)
{
    (void)data;
}

static int poll_set_affinity(struct irq_data *data)
{
    (void)data; // the next message goes where data->apic_id says
    return 0;
}

static void poll_show(const struct irq_data *data, char *to, size_t size)
{
    const struct pci_poll *poll = data->chip_data;
    snprintf(to, size, "PCI-POLL-%s", poll->dev->dev.name);
}

static const struct irq_chip poll_chip = {
    .oneshot_safe = true,
    .is_polled = true,
    .name = "PCI-POLL",
    .irq_startup = poll_startup,
    .irq_shutdown = poll_shutdown,
    .irq_mask = poll_nothing,
    .irq_unmask = poll_nothing,
    .irq_set_affinity = poll_set_affinity,
    .irq_retrigger = lapic_irq_retrigger,
    .irq_show = poll_show,
};

static void poll_tick(struct timer_list *timer)
{
    struct pci_poll *poll = container_of(timer, struct pci_poll, timer);
    struct irq_desc *desc = irq_to_desc((unsigned)poll->irq);
    unsigned long flags;

    spin_lock_irqsave(&desc->lock, flags);
    if (desc->started) {
        if (!desc->masked && desc->depth == 0) {
            lapic_irq_retrigger(&desc->data);
        }
        mod_timer(timer, jiffies + line_poll_interval());
    }
    spin_unlock_irqrestore(&desc->lock, flags);
}

int pci_poll_alloc(struct pci_dev *dev)
{
    struct pci_poll *poll = kzalloc(sizeof(*poll), GFP_KERNEL);
    if (poll == NULL) {
        return -ENOMEM;
    }
    poll->dev = dev;
    timer_setup(&poll->timer, poll_tick, 0);
    poll->irq = route_alloc_message(&poll_chip, poll, 0);
    if (poll->irq < 0) {
        int error = poll->irq;
        kfree(poll);
        return error;
    }
    dev->poll = poll;
    pci_intx(dev, false);
    dev_warn(&dev->dev, "has no interrupt, and is asked %d times a second instead",
             HZ / (int)line_poll_interval());
    return 1;
}

int pci_poll_irq(const struct pci_dev *dev)
{
    return dev->poll->irq;
}

void pci_poll_free(struct pci_dev *dev)
{
    struct pci_poll *poll = dev->poll;
    del_timer_sync(&poll->timer);
    route_free_message((unsigned)poll->irq);
    dev->poll = NULL;
    kfree(poll);
}
