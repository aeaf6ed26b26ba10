// A function's configuration space as a table of four words: the scan works on any, so that tests
// can put lies in it.
#pragma once

#include <pci/pci.h>

// Access to one function's configuration space. read32 at an aligned offset; all ones where there
// is nothing.
struct pci_config {
    uint32_t (*read32)(void *context, uint16_t offset);
    void (*write32)(void *context, uint16_t offset, uint32_t value);
    void *context;
    uint16_t size; // 256, or 4096 through ECAM
};

// What was refused while a function was read: bounded text, one note after the other, separated by
// "; ". Fills dev->caps. Walks both lists once: at most as many steps as there are places, a place
// never twice. pci_caps.c
void pci_read_capabilities(struct pci_dev *dev, const struct pci_config *config,
                           struct text *notes);

// Fills dev->bars[0 .. count). Decoding is off while sizes are asked for, and then as it was found.
// pci_bars.c
void pci_read_bars(struct pci_dev *dev, const struct pci_config *config, unsigned count,
                   struct text *notes);

// The real thing. pci_access.c
void pci_access_init(void);
// The buses that may be looked at: the k-th host bridge's segment, first and last bus. False past
// the last.
bool pci_access_root(unsigned k, uint16_t *segment, uint8_t *first, uint8_t *last);
// Makes a bus reachable (maps its ECAM window). False: no memory, or not below a host bridge.
// Context: boot.
bool pci_access_add_bus(uint16_t segment, uint8_t bus);
uint16_t pci_access_size(uint16_t segment, uint8_t bus); // 256 or 4096

// The irq of a device's wire, -1 when there is none; *source says how it is known. pci_route.c;
// after the scan.
int pci_route_intx(const struct pci_dev *dev, const char **source);

// Around a driver's remove, or its probe: looks at what it frees, and says what it forgot. end: how
// many things that were; cancel: the probe went well, nothing was to be given back. pci_leak.c;
// context: thread, the binding lock held.
void pci_leak_begin(const struct pci_dev *dev);
unsigned pci_leak_end(const struct pci_dev *dev);
void pci_leak_cancel(void);

// Adds every function on the buses first .. last that can be reached from the first to the list, in
// the order of the buses, and counts them. pci_scan.c; boot thread.
void pci_scan(uint16_t segment, uint8_t first, uint8_t last, struct list_head *devices,
              unsigned *count);

// Messages of a device, by MSI or MSI-X. pci_msi.c; context: thread. Gives how many irqs it has
// now, `least` to `most`, or -errno with nothing left behind; undo. While it has some: the irq of
// each, -EINVAL past the last; how many; of which of the two.
int pci_msi_alloc(struct pci_dev *dev, bool msix, unsigned least, unsigned most);
void pci_msi_free(struct pci_dev *dev);
int pci_msi_irq(const struct pci_dev *dev, unsigned index);
unsigned pci_msi_count(const struct pci_dev *dev);
bool pci_msi_is_msix(const struct pci_dev *dev);

// Interrupts of a device that has none: a clock's. pci_poll.c; context: thread. Gives 1 or -errno;
// its irq; undo.
int pci_poll_alloc(struct pci_dev *dev);
int pci_poll_irq(const struct pci_dev *dev);
void pci_poll_free(struct pci_dev *dev);
