// /proc/bus/pci/devices: every function, its irq, BARs and driver, as Linux prints it
// (drivers/pci/proc.c there), for scripts.
//
// One line a function, tab-separated: bus and devfn, vendor and device, irq, seven bases with their
// flag bits (six BARs and the expansion ROM, which is not used here), seven sizes, the driver's
// name.
//
// Context: thread.
#include <lib/text.h>
#include <contract/proc_file.h>
#include <pci/pci.h>

#include "pci_regs.h"

enum { PCI_PROC_BASES = 7 };

static unsigned long long bar_with_flags(const struct pci_bar *bar)
{
    uint64_t flags = 0;
    if (bar->size == 0) {
        return 0;
    }
    if (bar->is_port) {
        flags = PCI_BAR_PORT;
    } else {
        flags |= bar->is_64bit ? PCI_BAR_TYPE_64 : PCI_BAR_TYPE_32;
        flags |= bar->is_prefetchable ? PCI_BAR_PREFETCHABLE : 0;
    }
    return bar->base | flags;
}

static void pci_devices_show(struct text *t, unsigned long index)
{
    (void)index;
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        text_printf(t, "%02x%02x\t%04x%04x\t%x", dev->bus, dev->slot << 3 | dev->function,
                    dev->vendor, dev->device, dev->irq < 0 ? 0 : (unsigned)dev->irq);
        for (unsigned i = 0; i < PCI_PROC_BASES; i++) {
            text_printf(t, "\t%16llx", i < PCI_BAR_COUNT ? bar_with_flags(&dev->bars[i]) : 0);
        }
        for (unsigned i = 0; i < PCI_PROC_BASES; i++) {
            text_printf(t, "\t%16llx",
                        i < PCI_BAR_COUNT ? (unsigned long long)dev->bars[i].size : 0);
        }
        const char *driver = READ_ONCE(dev->dev.driver);
        text_printf(t, "\t%s\n", driver == NULL ? "" : driver);
    }
}

PROC_FILE("bus/pci/devices", pci_devices_show);
