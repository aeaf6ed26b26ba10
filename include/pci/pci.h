// Part of the driver door: PCI functions. PCI Local Bus 3.0; PCI Express Base 3.0 for ECAM.
// Context: any, where a line does not say otherwise.
#pragma once

#include <contract/device.h>
#include <contract/section.h>
#include <core/io.h>
#include <lib/list.h>
#include <lib/text.h>
#include <lib/types.h>

enum { PCI_BAR_COUNT = 6, PCI_MAX_CAPS = 48 };

struct pci_bar {
    uint64_t base; // I: 0 when not there or not assigned
    uint64_t size; // I: bytes; 0: not there
    bool is_port, is_64bit, is_prefetchable;
    volatile void __iomem *mapped; // L: by pci_map_bar
};

struct pci_device_id {
    uint16_t vendor, device;         // PCI_ANY_ID: any
    uint32_t class_code, class_mask; // 24 bits: class, subclass, interface
    uintptr_t driver_data;
};
#define PCI_ANY_ID 0xffff

struct pci_driver;
struct pci_msi;
struct pci_poll;

struct pci_dev {
    struct device dev; // name "0000:00:03.0"
    uint16_t segment;
    uint8_t bus, slot, function;
    uint16_t vendor, device, subsystem_vendor, subsystem_device;
    uint32_t class_code;                // 24 bits
    uint8_t revision, header_type, pin; // pin 1 = INTA .. 4 = INTD, 0 none
    uint8_t interrupt_line;             // as firmware left it
    int irq;                            // L: of its wire, -1 when none is known
    struct pci_bar bars[PCI_BAR_COUNT];
    struct pci_dev *bridge;                 // I: the bridge above, NULL on the root bus
    uint8_t bus_secondary, bus_subordinate; // of a bridge
    struct pci_cap {
        uint16_t id; // extended ones + 0x1000
        uint16_t offset;
    } caps[PCI_MAX_CAPS];
    unsigned cap_count;
    const struct pci_driver *driver; // L
    struct pci_msi *msi;             // L: its message interrupts; NULL: it uses its wire
    struct pci_poll *poll;           // L: it has neither, and is polled
    unsigned irq_types;              // L: PCI_IRQ_* that a person allows it, 0: all
    struct list_head link;
};

// What a driver can read of its device's own interrupt registers without changing them.
struct pci_irq_state {
    uint32_t cause, enabled;               // bits that ask for an interrupt, and those that may
    const char *cause_name, *enabled_name; // the registers, as the datasheet calls them
};

struct pci_driver {
    const char *name;
    const struct pci_device_id *ids; // ends with vendor 0
    int (*probe)(
        struct pci_dev *dev,
        const struct pci_device_id *id); // thread context; 0 or -errno, then nothing is left behind
    void (*remove)(struct pci_dev *dev);
    // Optional, for `irq why`. Context: thread, the device bound.
    void (*irq_state)(struct pci_dev *dev, struct pci_irq_state *state);
    // Optional: the driver can be switched to another kind of interrupt while it works
    // (pci_switch_irq). Its one handler has its drvdata for dev_id; here it learns the new irq.
    // Context: thread.
    void (*irq_changed)(struct pci_dev *dev, int irq);
    // For one that requests and frees its interrupt not only in probe and remove: does neither from
    // irq_hold(true) to irq_hold(false), which are around a switch. Context: thread.
    void (*irq_hold)(struct pci_dev *dev, bool hold);
};
#define PCI_DRIVER(name) LINKER_RECORD(pci_driver, pci_driver, name)
// Use: PCI_DRIVER(e1000_driver) = {.name = "e1000", ...};

// Scans everything below every host bridge (MCFG, else CF8/CFC bus 0 and its bridges), reads BARs
// and capabilities, routes INTx. Context: boot thread.
void pci_init(void);
// Gives every device to the first driver whose ids match. Context: thread.
void pci_probe_all(void);
// Bind and unbind by hand. 0; -EBUSY: has a driver; -ENODEV: nobody wants it, or has none; or what
// the probe said. unbind: how many things the driver left behind (said in the log; they were
// cleared away, but for DMA mappings). Context: thread.
int pci_bind(struct pci_dev *dev);
int pci_unbind(struct pci_dev *dev);
// Held while a device is given to a driver, taken away, or switched to another kind of interrupt.
// Who looks from outside at what a bound device has, its irq_state, its messages, holds it
// meanwhile. Context: thread.
void pci_lock_binding(void);
void pci_unlock_binding(void);

uint8_t pci_read8(const struct pci_dev *dev,
                  uint16_t offset); // all ones beyond the end or when it is gone
uint16_t pci_read16(const struct pci_dev *dev, uint16_t offset);
uint32_t pci_read32(const struct pci_dev *dev, uint16_t offset);
void pci_write8(const struct pci_dev *dev, uint16_t offset, uint8_t value);
void pci_write16(const struct pci_dev *dev, uint16_t offset, uint16_t value);
void pci_write32(const struct pci_dev *dev, uint16_t offset, uint32_t value);

// Offset of a capability, 0 when it has none. Walked once at scan, bounded, loops refused.
uint16_t pci_find_capability(const struct pci_dev *dev, uint16_t id);

// Context: thread.
int pci_enable_device(struct pci_dev *dev);   // memory and port decoding on; 0 or -EIO
void pci_disable_device(struct pci_dev *dev); // may do no DMA; its registers can still be read
void pci_set_master(struct pci_dev *dev);     // may do DMA: last line of a probe
void pci_clear_master(struct pci_dev *dev);   // first line of a remove
void pci_intx(struct pci_dev *dev, bool enable);

// Maps a memory BAR and names it in /proc/iomem; NULL: not there, a port BAR, smaller than
// min_size, no memory. Context: thread.
volatile void __iomem *pci_map_bar(struct pci_dev *dev, unsigned bar, size_t min_size,
                                   const char *name);
void pci_unmap_bar(struct pci_dev *dev, unsigned bar);

static inline void pci_set_drvdata(struct pci_dev *dev, void *data)
{
    dev->dev.driver_data = data;
}
static inline void *pci_get_drvdata(const struct pci_dev *dev)
{
    return dev->dev.driver_data;
}

// How a device may interrupt, in the order in which they are tried. Linux's names and meaning; POLL
// is ours: a timer asks in the device's place (pci_poll.c).
#define PCI_IRQ_MSIX      BIT(2)
#define PCI_IRQ_MSI       BIT(1)
#define PCI_IRQ_INTX      BIT(0)
#define PCI_IRQ_POLL      BIT(3)
#define PCI_IRQ_ALL_TYPES (PCI_IRQ_INTX | PCI_IRQ_MSI | PCI_IRQ_MSIX | PCI_IRQ_POLL)

// Gives the device between min and max interrupts of one of the allowed types: MSI-X, else MSI
// (one), else its wire, else a clock's (said in the log). The device's other types are off then.
// Returns how many; -ENOSPC: it can have none of them (said in the log), -EINVAL, -ENOMEM. Boot
// option pci=nomsi leaves the last two, pci=noirq the last. Context: thread, in probe, before the
// device may interrupt (NVMe: before it is enabled).
int pci_alloc_irq_vectors(struct pci_dev *dev, unsigned min, unsigned max, unsigned types);
// The irq of the index-th of them, for request_irq; -EINVAL.
int pci_irq_vector(const struct pci_dev *dev, unsigned index);
// Undo, after every free_irq. Context: thread.
void pci_free_irq_vectors(struct pci_dev *dev);
// Switches a bound device to the first of these types that it can have; its driver goes on working,
// and what it said meanwhile is not lost. Where it can have none of them it keeps what it had. 0;
// -EOPNOTSUPP: the driver has no irq_changed, or more than one interrupt, or a thread; -ENODEV: no
// driver; -ENOSPC: it cannot. Context: thread.
int pci_switch_irq(struct pci_dev *dev, unsigned types);
// How a device could interrupt, by its capabilities; 0 vectors: it lacks it. Context: any.
struct pci_irq_ability {
    unsigned msi_vectors; // up to 32
    bool msi_wide, msi_masks;
    unsigned msix_vectors; // up to 2048
    unsigned msix_bar;     // where its table is
};
void pci_irq_ability(const struct pci_dev *dev, struct pci_irq_ability *can);
// The irq that the chipset leads its pin to, asked anew; -1: none.
int pci_route_now(const struct pci_dev *dev);
// "MSI-X", "MSI", "INTx" or "POLL": what it uses now. And the message of an index as the device
// holds it: false when it has none. And whether one waits behind its mask, where the device tells.
const char *pci_irq_type_name(const struct pci_dev *dev);
bool pci_msi_is_on(const struct pci_dev *dev); // in the device's capability, now
bool pci_msi_read_message(const struct pci_dev *dev, unsigned index, uint64_t *address,
                          uint32_t *data, bool *masked);
bool pci_msi_is_pending(const struct pci_dev *dev, unsigned index);

struct pci_dev *
pci_next(struct pci_dev *after); // NULL: first; in bus order. The list is fixed after pci_init
struct pci_dev *pci_find(unsigned bus, unsigned slot, unsigned function);
