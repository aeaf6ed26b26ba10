// Finds every PCI function and reads what it says of itself.
//
// The scan starts at a host bridge's first bus and follows PCI-to-PCI bridges as the firmware
// numbered them:
//
//   bus 0 ── 00.0 host bridge
//         ── 02.0 e1000
//         ── 08.0 bridge ── bus 1 ── 00.0 ...   a bus number above the bridge's own, none twice
//
// What a function says is checked before it is believed; what was refused is said in one line a
// function. A function that claims a header type which nobody knows is left out; so is whatever a
// bridge with nonsense in its bus numbers hides.
//
// It knows configuration space only through pci_read and pci_write, so the host test puts it on a
// bus full of lies. PCI Local Bus 3.0, chapter 6; PCI-to-PCI Bridge Architecture 1.2, 3.2.5.
// Context: boot thread. Previous: pci_access.c. Next: pci.c.
#include <pci/pci.h>

#include <lib/format.h>
#include <core/log.h>
#include <mm/slab.h>

#include "pci_config.h"
#include "pci_regs.h"

enum { PCI_MAX_DEVICES = 512, PCI_MAX_BUSES = 256 };

// ---- one function -------------------------------------------------------------------------------

static uint32_t pci_config_read32(void *context, uint16_t offset)
{
    return pci_read32(context, offset);
}

static void pci_config_write32(void *context, uint16_t offset, uint32_t value)
{
    pci_write32(context, offset, value);
}

static void pci_read_header(struct pci_dev *dev)
{
    dev->vendor = pci_read16(dev, PCI_VENDOR_ID);
    dev->device = pci_read16(dev, PCI_DEVICE_ID);
    dev->revision = pci_read8(dev, PCI_REVISION);
    dev->class_code = pci_read32(dev, PCI_REVISION) >> 8;
    dev->header_type = pci_read8(dev, PCI_HEADER_TYPE);
    dev->pin = pci_read8(dev, PCI_INTERRUPT_PIN);
    dev->interrupt_line = pci_read8(dev, PCI_INTERRUPT_LINE);
    if ((dev->header_type & PCI_HEADER_TYPE_MASK) == PCI_HEADER_TYPE_NORMAL) {
        dev->subsystem_vendor = pci_read16(dev, PCI_SUBSYSTEM_VENDOR);
        dev->subsystem_device = pci_read16(dev, PCI_SUBSYSTEM_ID);
    } else {
        dev->bus_secondary = pci_read8(dev, PCI_SECONDARY_BUS);
        dev->bus_subordinate = pci_read8(dev, PCI_SUBORDINATE_BUS);
    }
}

// A firmware's driver may have left message interrupts on, to a vector of its own; and while they
// are on, the function is silent on its wire.
static void pci_messages_off(const struct pci_dev *dev)
{
    uint16_t msi = pci_find_capability(dev, PCI_CAP_MSI);
    uint16_t msix = pci_find_capability(dev, PCI_CAP_MSIX);
    if (msi != 0) {
        uint16_t at = (uint16_t)(msi + PCI_MSI_CONTROL);
        pci_write16(dev, at, (uint16_t)(pci_read16(dev, at) & ~PCI_MSI_ENABLE));
    }
    if (msix != 0) {
        uint16_t at = (uint16_t)(msix + PCI_MSIX_CONTROL);
        pci_write16(dev, at, (uint16_t)(pci_read16(dev, at) & ~PCI_MSIX_ENABLE));
    }
}

// ---- the scan -----------------------------------------------------------------------------------

// Buses of one segment still to be looked at, in the order they were found. Each is entered once,
// so the scan ends.
struct bus_scan {
    uint16_t segment;
    uint8_t last;
    uint64_t seen[PCI_MAX_BUSES / 64];
    struct {
        uint8_t number;
        struct pci_dev *bridge;
    } queue[PCI_MAX_BUSES];
    unsigned head, tail;
    struct list_head *devices; // where what is found is added
    unsigned *count;
};

// Reads everything about a function that answers. NULL: left out, said why.
static struct pci_dev *scan_add_function(struct bus_scan *scan, const struct pci_dev *where)
{
    unsigned type = where->header_type & PCI_HEADER_TYPE_MASK;
    if (type > PCI_HEADER_TYPE_BRIDGE) {
        pr_warn("pci %s: header type 0x%x is unknown here, function left out", where->dev.name,
                type);
        return NULL;
    }
    struct pci_dev *dev = *scan->count < PCI_MAX_DEVICES ? kzalloc(sizeof(*dev), GFP_KERNEL) : NULL;
    if (dev == NULL) {
        pr_err("pci %s: no room for another function, left out", where->dev.name);
        return NULL;
    }
    *dev = *where;
    dev->irq = -1;
    dev->dev.dma_mask = BIT64(32) - 1;
    char buffer[160];
    struct text notes = TEXT_INIT(buffer);
    struct pci_config config = {
        .read32 = pci_config_read32,
        .write32 = pci_config_write32,
        .context = dev,
        .size = pci_access_size(dev->segment, dev->bus),
    };
    pci_read_bars(dev, &config, type == PCI_HEADER_TYPE_BRIDGE ? 2 : PCI_BAR_COUNT, &notes);
    pci_read_capabilities(dev, &config, &notes);
    pci_messages_off(dev);
    if (notes.length != 0) {
        pr_warn("pci %s: %s", dev->dev.name, buffer);
    }
    list_add_tail(&dev->link, scan->devices);
    ++*scan->count;
    return dev;
}

static bool scan_add_bus(struct bus_scan *scan, uint8_t bus, struct pci_dev *bridge)
{
    if (bus > scan->last || (scan->seen[bus / 64] >> (bus % 64) & 1)) {
        return false;
    }
    scan->seen[bus / 64] |= BIT64(bus % 64);
    scan->queue[scan->tail].number = bus;
    scan->queue[scan->tail++].bridge = bridge;
    return true;
}

static void scan_bridge(struct bus_scan *scan, struct pci_dev *bridge)
{
    uint8_t first = bridge->bus_secondary, last = bridge->bus_subordinate;
    if (first <= bridge->bus || last < first || !scan_add_bus(scan, first, bridge)) {
        pr_warn("pci %s: bridge to buses %u to %u makes no sense, not followed", bridge->dev.name,
                first, last);
        bridge->bus_secondary = 0;
        bridge->bus_subordinate = 0;
    }
}

// As whom a function's accesses arrive at the root. PCI Express carries the requester with each
// packet; conventional PCI has no such thing, so the bridge that makes packets of its cycles puts
// itself there: a PCI bridge its own identifier, a PCI Express to PCI bridge the first of the bus
// behind it (PCI Express to PCI/PCI-X Bridge 1.0, 2.3; VT-d 3.4.1).
static uint16_t scan_source(uint16_t requester, const struct pci_dev *bridge)
{
    uint16_t source = requester;

    for (; bridge != NULL; bridge = bridge->bridge) {
        uint16_t express = pci_find_capability(bridge, PCI_CAP_EXPRESS);
        uint16_t flags =
            express != 0 ? pci_read16(bridge, (uint16_t)(express + PCI_EXPRESS_FLAGS)) : 0;
        unsigned type = PCI_EXPRESS_TYPE(flags);

        if (express == 0 || type == PCI_EXPRESS_FROM_PCI) {
            source = bridge->dev.requester;
        } else if (type == PCI_EXPRESS_TO_PCI) {
            source = (uint16_t)(bridge->bus_secondary << 8);
        }
    }
    return source;
}

// Returns false when there is no such function.
static bool scan_function(struct bus_scan *scan, uint8_t bus, struct pci_dev *bridge, uint8_t slot,
                          uint8_t function, bool *multi)
{
    struct pci_dev found = {
        .segment = scan->segment, .bus = bus, .slot = slot, .function = function, .bridge = bridge};
    uint16_t vendor = pci_read16(&found, PCI_VENDOR_ID);
    if (vendor == 0xffff || vendor == 0) { // 0 is no vendor either, but old hardware answers so
        return false;
    }
    snprintf(found.dev.name, sizeof(found.dev.name), "%04x:%02x:%02x.%u", scan->segment, bus, slot,
             function);
    found.dev.segment = scan->segment;
    found.dev.requester = (uint16_t)(bus << 8 | slot << 3 | function);
    found.dev.upstream = bridge != NULL ? bridge->dev.upstream : found.dev.requester;
    found.dev.source = scan_source(found.dev.requester, bridge);
    pci_read_header(&found);
    if (function == 0) {
        *multi = (found.header_type & PCI_HEADER_MULTI) != 0;
    }
    struct pci_dev *dev = scan_add_function(scan, &found);
    if (dev != NULL && (dev->header_type & PCI_HEADER_TYPE_MASK) == PCI_HEADER_TYPE_BRIDGE) {
        scan_bridge(scan, dev);
    }
    return true;
}

static void scan_bus(struct bus_scan *scan, uint8_t bus, struct pci_dev *bridge)
{
    if (!pci_access_add_bus(scan->segment, bus)) {
        pr_warn("pci: cannot reach bus %04x:%02x, its devices are left out", scan->segment, bus);
        return;
    }
    for (uint8_t slot = 0; slot < 32; slot++) {
        bool multi = false;
        if (!scan_function(scan, bus, bridge, slot, 0, &multi)) {
            continue; // every device has a function 0 (PCI 3.0, 3.2.2.3.4)
        }
        for (uint8_t function = 1; multi && function < 8; function++) {
            scan_function(scan, bus, bridge, slot, function, &multi);
        }
    }
}

void pci_scan(uint16_t segment, uint8_t first, uint8_t last, struct list_head *devices,
              unsigned *count)
{
    static struct bus_scan scan; // too large for a stack
    scan = (struct bus_scan){.segment = segment, .last = last, .devices = devices, .count = count};
    scan_add_bus(&scan, first, NULL);
    while (scan.head < scan.tail) {
        unsigned i = scan.head++;
        scan_bus(&scan, scan.queue[i].number, scan.queue[i].bridge);
    }
}
