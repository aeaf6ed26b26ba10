// Brings an NVMe controller on the PCI bus together with the driver: the only file of it that knows
// PCI.
//
// A controller is known by its class, not by its maker: mass storage, non-volatile memory, NVMe
// (PCI Code and ID Assignment 1.11, 1.2). It is asked for a message for each CPU and one for the
// admin queue, before it is enabled: then what it gives is how many queues make sense. With one
// interrupt, whatever its kind, all queues share it.
//
// NVMe 1.4, 2 (PCI registers), 7.5.1. Context: thread. Next: nvme.c.
#include "nvme.h"

#include <lib/errno.h>
#include <lib/string.h>
#include <core/log.h>
#include <mm/slab.h>
#include <pci/pci.h>

static struct pci_dev *nvme_pci_dev(const struct nvme_ctrl *ctrl)
{
    return container_of(ctrl->dev, struct pci_dev, dev);
}

static void nvme_pci_dma_off(struct nvme_ctrl *ctrl)
{
    pci_clear_master(nvme_pci_dev(ctrl));
}

static int nvme_pci_irq(struct nvme_ctrl *ctrl, unsigned index)
{
    return pci_irq_vector(nvme_pci_dev(ctrl), index);
}

static int nvme_probe(struct pci_dev *dev, const struct pci_device_id *id)
{
    (void)id;
    int error;
    struct nvme_ctrl *ctrl = kzalloc(sizeof(*ctrl), GFP_KERNEL);
    if (ctrl == NULL) {
        return -ENOMEM;
    }
    error = pci_enable_device(dev);
    if (error != 0) {
        goto no_device;
    }
    ctrl->registers = pci_map_bar(dev, NVME_BAR, NVME_REGISTERS_SIZE + 16, dev->dev.driver);
    if (ctrl->registers == NULL) {
        dev_err(&dev->dev, "BAR %u does not hold the controller's registers", NVME_BAR);
        error = -ENODEV;
        goto no_registers;
    }
    ctrl->dev = &dev->dev;
    ctrl->dma_off = nvme_pci_dma_off;
    ctrl->vector_irq = nvme_pci_irq;
    pci_set_drvdata(dev, ctrl);
    unsigned queues = min(cpumask_weight(&cpu_online_mask), NVME_MAX_QUEUES + 0u);
    error = pci_alloc_irq_vectors(dev, 1, queues + 1, PCI_IRQ_ALL_TYPES);
    if (error < 0) {
        goto no_interrupt;
    }
    ctrl->vector_count = (unsigned)error;
    ctrl->level = strcmp(pci_irq_type_name(dev), "INTx") == 0;
    pci_set_master(dev); // before the start: its queues are read by DMA
    error = nvme_start(ctrl, dev->bars[NVME_BAR].size);
    if (error != 0) {
        goto no_start;
    }
    strscpy(dev->dev.alias, ctrl->name, sizeof(dev->dev.alias));
    return 0;

no_start:
    pci_clear_master(dev);
    pci_free_irq_vectors(dev);
no_interrupt:
    pci_unmap_bar(dev, NVME_BAR);
no_registers:
    pci_disable_device(dev);
no_device:
    if (!ctrl->stuck) {
        kfree(ctrl);
    }
    return error;
}

static void nvme_remove(struct pci_dev *dev)
{
    struct nvme_ctrl *ctrl = pci_get_drvdata(dev);
    bool clean = nvme_stop(ctrl);
    pci_clear_master(dev); // whatever happened, from here on it touches no memory
    pci_free_irq_vectors(dev);
    pci_unmap_bar(dev, NVME_BAR);
    pci_disable_device(dev);
    if (clean) {
        kfree(ctrl);
    }
}

// INTMS shows which vectors are masked; what asks is not in a register, but in the queues (7.5.1).
static void nvme_irq_state(struct pci_dev *dev, struct pci_irq_state *state)
{
    struct nvme_ctrl *ctrl = pci_get_drvdata(dev);
    bool enabled = (nvme_rd(ctrl, NVME_CC) & NVME_CC_EN) != 0;
    uint32_t masked = ctrl->level ? nvme_rd(ctrl, NVME_INTMS) : 0;
    *state = (struct pci_irq_state){.enabled = enabled ? ~masked : 0,
                                    .cause_name = "answers waiting",
                                    .enabled_name = "not INTMS, CC.EN"};
    for (unsigned i = 0; i < ctrl->queue_count; i++) {
        state->cause |= nvme_ring_has_answer(&ctrl->queues[i]->ring)
                            ? BIT(min(ctrl->queues[i]->vector, 31u))
                            : 0;
    }
}

static const struct pci_device_id nvme_ids[] = {
    {.vendor = PCI_ANY_ID, .device = PCI_ANY_ID, .class_code = 0x010802, .class_mask = 0xffffff},
    {.vendor = 0},
};

PCI_DRIVER(nvme_driver)
= {.name = "nvme",
   .ids = nvme_ids,
   .probe = nvme_probe,
   .remove = nvme_remove,
   .irq_state = nvme_irq_state};
