// Brings an AHCI controller on the PCI bus together with the driver: the only file of it that knows
// PCI.
//
// A controller is known by its class, not by its maker: mass storage, SATA, AHCI (PCI Code and ID
// Assignment 1.11, 1.2). AHCI 1.3.1, chapter 2. Context: thread. Next: ahci.c.
#include "ahci.h"

#include <lib/errno.h>
#include <core/log.h>
#include <mm/slab.h>
#include <pci/pci.h>

static void ahci_pci_dma_off(struct ahci_hba *hba)
{
    pci_clear_master(container_of(hba->dev, struct pci_dev, dev));
}

static int ahci_probe(struct pci_dev *dev, const struct pci_device_id *id)
{
    (void)id;
    int error;
    struct ahci_hba *hba = kzalloc(sizeof(*hba), GFP_KERNEL);
    if (hba == NULL) {
        return -ENOMEM;
    }
    error = pci_enable_device(dev);
    if (error != 0) {
        goto no_device;
    }
    hba->registers = pci_map_bar(dev, AHCI_BAR, AHCI_PORT_BASE + AHCI_PORT_SIZE, dev->dev.driver);
    if (hba->registers == NULL) {
        dev_err(&dev->dev, "BAR %u does not hold the controller's registers", AHCI_BAR);
        error = -ENODEV;
        goto no_registers;
    }
    hba->dev = &dev->dev;
    hba->dma_off = ahci_pci_dma_off;
    pci_set_drvdata(dev, hba);
    error = pci_alloc_irq_vectors(dev, 1, 1, PCI_IRQ_ALL_TYPES);
    if (error < 0) {
        dev_err(&dev->dev, "its disks cannot be used");
        goto no_interrupt;
    }
    pci_set_master(dev); // before the start: looking for disks is done by DMA
    error = ahci_hba_start(hba, dev->bars[AHCI_BAR].size, pci_irq_vector(dev, 0));
    if (error != 0) {
        goto no_start;
    }
    return 0;

no_start:
    pci_clear_master(dev);
    pci_free_irq_vectors(dev);
no_interrupt:
    pci_unmap_bar(dev, AHCI_BAR);
no_registers:
    pci_disable_device(dev);
no_device:
    kfree(hba);
    return error;
}

static void ahci_remove(struct pci_dev *dev)
{
    struct ahci_hba *hba = pci_get_drvdata(dev);
    bool clean = ahci_hba_stop(hba);
    pci_clear_master(dev); // whatever happened, from here on it touches no memory
    pci_free_irq_vectors(dev);
    pci_unmap_bar(dev, AHCI_BAR);
    pci_disable_device(dev);
    if (clean) {
        kfree(hba);
    }
}

static void ahci_irq_changed(struct pci_dev *dev, int irq)
{
    struct ahci_hba *hba = pci_get_drvdata(dev);
    WRITE_ONCE(hba->irq, irq);
}

// Causes of the ports as the controller gathers them; whether they come out is one bit for all.
static void ahci_irq_state(struct pci_dev *dev, struct pci_irq_state *state)
{
    const struct ahci_hba *hba = pci_get_drvdata(dev);
    uint32_t open = 0, disks = 0;
    for (unsigned i = 0; i < AHCI_MAX_PORTS; i++) {
        if (hba->ports[i] != NULL && hba->ports[i]->disk != NULL) {
            disks |= BIT(i);
            open |= port_rd(hba->ports[i], AHCI_PXIE) != 0 ? BIT(i) : 0;
        }
    }
    bool on = (ahci_rd(hba, AHCI_GHC) & AHCI_GHC_IE) != 0;
    *state = (struct pci_irq_state){.cause = ahci_rd(hba, AHCI_IS),
                                    .enabled = !on          ? 0
                                               : disks == 0 ? hba->implemented
                                                            : open,
                                    .cause_name = "IS",
                                    .enabled_name = "ports open by GHC.IE and PxIE"};
}

static const struct pci_device_id ahci_ids[] = {
    {.vendor = PCI_ANY_ID, .device = PCI_ANY_ID, .class_code = 0x010601, .class_mask = 0xffffff},
    {.vendor = 0},
};

PCI_DRIVER(ahci_driver)
= {.name = "ahci",
   .ids = ahci_ids,
   .probe = ahci_probe,
   .remove = ahci_remove,
   .irq_state = ahci_irq_state,
   .irq_changed = ahci_irq_changed};
