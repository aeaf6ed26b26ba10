// The e1000 on PCI: finds the chip, maps its registers, knows its interrupt, and gives it to the
// chip part, which knows no bus.
//
// Probe, in order; each step is undone by a label of its own, last first:
//   1. memory decoding on                   5. the chip: reset, address
//   2. state                                6. bus mastering: from here on it may do DMA
//   3. registers (BAR 0)                    7. ethN appears
//   4. its interrupt: a wire, or polled
//
// Context: thread.
#include <lib/errno.h>
#include <core/log.h>
#include <mm/slab.h>
#include <dma/dma.h>
#include <pci/pci.h>

#include "e1000.h"

enum { PCI_VENDOR_INTEL = 0x8086 };

static int e1000_probe(struct pci_dev *pci, const struct pci_device_id *id)
{
    int error = pci_enable_device(pci);
    if (error != 0) {
        dev_err(&pci->dev, "memory decoding does not turn on");
        return error;
    }
    struct e1000 *e = kzalloc(sizeof(*e), GFP_KERNEL);
    if (e == NULL) {
        error = -ENOMEM;
        goto disable;
    }
    e->dev = &pci->dev;
    e->features = (unsigned)id->driver_data;
    e->regs = pci_map_bar(pci, 0, E1000_BAR_SIZE, "e1000");
    if (e->regs == NULL) {
        dev_err(&pci->dev, "BAR 0 is not %u KiB of memory", E1000_BAR_SIZE / 1024);
        error = -EIO;
        goto free_state;
    }
    error = dma_set_mask(&pci->dev, DMA_BIT_MASK(64));
    if (error != 0) {
        goto unmap;
    }
    error = pci_alloc_irq_vectors(pci, 1, 1, PCI_IRQ_ALL_TYPES);
    if (error < 0) {
        goto unmap;
    }
    e->irq = pci_irq_vector(pci, 0);
    error = e1000_attach(e);
    if (error != 0) {
        goto free_irq;
    }
    pci_set_drvdata(pci, e);
    pci_set_master(pci);
    error = e1000_register(e);
    if (error != 0) {
        dev_err(&pci->dev, "cannot be registered: error %d", error);
        goto clear_master;
    }
    return 0;

clear_master:
    pci_clear_master(pci);
    pci_set_drvdata(pci, NULL);
free_irq:
    pci_free_irq_vectors(pci);
unmap:
    pci_unmap_bar(pci, 0);
free_state:
    kfree(e);
disable:
    pci_disable_device(pci);
    return error;
}

static void e1000_remove(struct pci_dev *pci)
{
    struct e1000 *e = pci_get_drvdata(pci);
    pci_clear_master(pci);
    e1000_detach(e);
    pci_free_irq_vectors(pci);
    pci_unmap_bar(pci, 0);
    pci_set_drvdata(pci, NULL);
    kfree(e);
    pci_disable_device(pci);
}

// ICS is a register to write causes to; read, it shows them without clearing what a read of ICR
// would (13.4.19 calls it write-only, chips and emulators answer).
static void e1000_irq_state(struct pci_dev *pci, struct pci_irq_state *state)
{
    struct e1000 *e = pci_get_drvdata(pci);
    *state = (struct pci_irq_state){.cause = e1000_rd(e, E1000_ICS),
                                    .enabled = e1000_rd(e, E1000_IMS),
                                    .cause_name = "ICR",
                                    .enabled_name = "IMS"};
}

static void e1000_irq_changed(struct pci_dev *pci, int irq)
{
    struct e1000 *e = pci_get_drvdata(pci);
    WRITE_ONCE(e->irq, irq);
}

// It is requested when the card is opened, and freed when it is closed: `ip link set eth0 down`.
static void e1000_irq_hold(struct pci_dev *pci, bool hold)
{
    (void)pci;
    if (hold) {
        rtnl_lock();
    } else {
        rtnl_unlock();
    }
}

static const struct pci_device_id e1000_ids[] = {
    {PCI_VENDOR_INTEL, 0x100e, 0, 0, E1000_HAS_EERD | E1000_HAS_ITR}, // 82540EM: QEMU's e1000
    {PCI_VENDOR_INTEL, 0x100f, 0, 0,
     E1000_HAS_EERD | E1000_HAS_ITR},    // 82545EM: QEMU's e1000-82545em, VMware
    {PCI_VENDOR_INTEL, 0x1008, 0, 0, 0}, // 82544EI
    {PCI_VENDOR_INTEL, 0x100c, 0, 0, 0}, // 82544GC: QEMU's e1000-82544gc
    {0},
};

PCI_DRIVER(e1000_driver)
= {.name = "e1000",
   .ids = e1000_ids,
   .probe = e1000_probe,
   .remove = e1000_remove,
   .irq_state = e1000_irq_state,
   .irq_changed = e1000_irq_changed,
   .irq_hold = e1000_irq_hold};
