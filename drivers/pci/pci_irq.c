// By which way a device interrupts: by messages, by its wire, or not at all, and a clock asks.
//
//   pci_alloc_irq_vectors ──> MSI-X ──> MSI ──> INTx ──> poll    the first that is allowed, that
//                             └─ pci_msi.c ─┘            pci_poll.c    the device has, and that is
//                                                                      to be had
//
// Allowed is what the driver can do with, what pci=nomsi and pci=noirq leave, and what was chosen
// for this device by hand (irq mode). That can be done while the device works: its handler is taken
// off the one irq and put on the other, and asked once, so that nothing is lost in between.
//
// PCI 3.0, 6.2.2, 6.8. Context: thread. Previous: pci.c. Next: pci_msi.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <core/log.h>
#include <irq/desc.h>
#include <defer/softirq.h>
#include <pci/pci.h>

#include "pci_config.h"
#include "pci_regs.h"

static bool msi_allowed = true;  // I: boot option pci=nomsi
static bool intx_allowed = true; // I: boot option pci=noirq

// ---- asking for them ----------------------------------------------------------------------------

int pci_alloc_irq_vectors(struct pci_dev *dev, unsigned least, unsigned most, unsigned types)
{
    might_sleep();
    if (least == 0 || most < least || dev->msi != NULL || dev->poll != NULL) {
        return -EINVAL;
    }
    types &= dev->irq_types != 0 ? dev->irq_types : PCI_IRQ_ALL_TYPES;
    int got = -ENOSPC;
    if ((types & PCI_IRQ_MSIX) && msi_allowed) {
        got = pci_msi_alloc(dev, true, least, most);
    }
    if (got < 0 && (types & PCI_IRQ_MSI) && msi_allowed) {
        got = pci_msi_alloc(dev, false, least, most);
    }
    if (got > 0) {
        pci_intx(dev, false);
    }
    if (got < 0 && (types & PCI_IRQ_INTX) && least == 1 && dev->irq >= 0 && intx_allowed) {
        pci_intx(dev, true);
        got = 1;
    }
    if (got < 0 && (types & PCI_IRQ_POLL) && least == 1) {
        got = pci_poll_alloc(dev);
    }
    if (got < 0) {
        dev_warn(&dev->dev, "cannot have %u interrupts: %s", least, strerror(got));
    }
    return got;
}

int pci_irq_vector(const struct pci_dev *dev, unsigned index)
{
    if (dev->msi == NULL) {
        int irq = dev->poll != NULL ? pci_poll_irq(dev) : dev->irq;
        return index == 0 && irq >= 0 ? irq : -EINVAL;
    }
    return pci_msi_irq(dev, index);
}

void pci_free_irq_vectors(struct pci_dev *dev)
{
    might_sleep();
    if (dev->msi != NULL) {
        pci_msi_free(dev);
    }
    if (dev->poll != NULL) {
        pci_poll_free(dev);
    }
}

const char *pci_irq_type_name(const struct pci_dev *dev)
{
    if (dev->msi == NULL) {
        return dev->poll != NULL ? "POLL" : "INTx";
    }
    return pci_msi_is_msix(dev) ? "MSI-X" : "MSI";
}

// ---- what it could do ---------------------------------------------------------------------------

void pci_irq_ability(const struct pci_dev *dev, struct pci_irq_ability *can)
{
    uint16_t msi = pci_find_capability(dev, PCI_CAP_MSI);
    uint16_t msix = pci_find_capability(dev, PCI_CAP_MSIX);

    *can = (struct pci_irq_ability){0};
    if (msi != 0) {
        uint16_t control = pci_read16(dev, (uint16_t)(msi + PCI_MSI_CONTROL));
        can->msi_vectors = 1u << min(control >> 1 & 7u, 5u);
        can->msi_wide = (control & PCI_MSI_64BIT) != 0;
        can->msi_masks = (control & PCI_MSI_MASKABLE) != 0;
    }
    if (msix != 0) {
        uint16_t control = pci_read16(dev, (uint16_t)(msix + PCI_MSIX_CONTROL));
        can->msix_vectors = (control & PCI_MSIX_SIZE_MASK) + 1u;
        can->msix_bar = pci_read32(dev, (uint16_t)(msix + PCI_MSIX_TABLE)) & PCI_MSIX_BIR;
    }
}

int pci_route_now(const struct pci_dev *dev)
{
    const char *source;
    return pci_route_intx(dev, &source);
}

// ---- from one to another, while it works --------------------------------------------------------

// Its type as a bit, and whether there is more than one of it.
static unsigned pci_irq_type_now(const struct pci_dev *dev)
{
    return dev->poll != NULL      ? PCI_IRQ_POLL
           : dev->msi == NULL     ? PCI_IRQ_INTX
           : pci_msi_is_msix(dev) ? PCI_IRQ_MSIX
                                  : PCI_IRQ_MSI;
}

// Gives it one interrupt of these types, whatever it was allowed before.
static int pci_irq_take(struct pci_dev *dev, unsigned types)
{
    unsigned allowed = dev->irq_types;

    dev->irq_types = types;
    int got = pci_alloc_irq_vectors(dev, 1, 1, types);
    if (got < 0) {
        dev->irq_types = allowed;
    }
    return got;
}

// Between the two the device speaks to nobody: its wire is cut, its message off. What it has to say
// stays in its cause register, and the replay at the end has the handler look there.
static int pci_irq_switch(struct pci_dev *dev, unsigned types)
{
    unsigned before = pci_irq_type_now(dev);
    int irq = pci_irq_vector(dev, 0);

    pci_intx(dev, false);
    struct irqaction *action =
        irq >= 0 ? irq_detach_action((unsigned)irq, pci_get_drvdata(dev)) : NULL;
    if (action == NULL) {
        pci_intx(dev, before == PCI_IRQ_INTX);
        return -EOPNOTSUPP;
    }
    pci_free_irq_vectors(dev);
    dev->irq = pci_route_now(dev); // somebody may have led its pin elsewhere
    int got = pci_irq_take(dev, types);
    int error = got < 0 ? got : irq_attach_action((unsigned)pci_irq_vector(dev, 0), action);
    if (error != 0) { // back to what it could: that one was its own a moment ago
        pci_free_irq_vectors(dev);
        if (pci_irq_take(dev, before) < 0 ||
            irq_attach_action((unsigned)pci_irq_vector(dev, 0), action) != 0) {
            dev_err(&dev->dev, "is left without any interrupt");
        }
    }
    dev->driver->irq_changed(dev, pci_irq_vector(dev, 0));
    local_bh_disable(); // what the handler raises runs at the end of this, as after an interrupt
    irq_replay((unsigned)pci_irq_vector(dev, 0));
    local_bh_enable();
    return error;
}

static void pci_irq_hold(struct pci_dev *dev, bool hold)
{
    if (dev->driver->irq_hold != NULL) {
        dev->driver->irq_hold(dev, hold);
    }
}

int pci_switch_irq(struct pci_dev *dev, unsigned types)
{
    int error = -EOPNOTSUPP;

    pci_lock_binding();
    if (dev->driver == NULL) {
        error = -ENODEV;
    } else if (dev->driver->irq_changed != NULL && (dev->msi == NULL || pci_msi_count(dev) == 1)) {
        pci_irq_hold(dev, true);
        error = pci_irq_switch(dev, types);
        pci_irq_hold(dev, false);
    }
    pci_unlock_binding();
    return error;
}

// ---- boot option --------------------------------------------------------------------------------

static int pci_irq_option(const char *value)
{
    bool noirq = strcmp(value, "noirq") == 0;

    if (!noirq && strcmp(value, "nomsi") != 0) {
        return -EINVAL;
    }
    msi_allowed = false;
    intx_allowed = intx_allowed && !noirq;
    return 0;
}
BOOT_OPTION("pci", pci_irq_option,
            "pci=nomsi: devices interrupt by their wires only; pci=noirq: not at all (polled)");
