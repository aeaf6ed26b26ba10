// What cmd_irq.c and irq_why.c know of each other.
#pragma once

#include <contract/command.h>
#include <irq/desc.h>
#include <pci/pci.h>

// What the chain is walked with.
struct irq_walk {
    struct shell *sh;
    unsigned irq;
    struct pci_dev *dev; // NULL: not a PCI device's, or not known
    struct irq_desc *desc;
    bool brief; // one of several: only what is broken is said
    unsigned broken;
    char verdict[192], cure[128]; // of the first broken link
};

const char *irq_flow_text(const struct irq_desc *desc); // "level", "edge", "percpu"

// Walks the chain from the device to the handler, says each link, and the first broken one with its
// cure. 0: the chain is whole, 1: it is not. Context: thread.
int irq_why(struct irq_walk *walk);
