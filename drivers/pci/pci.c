// The PCI bus: finds every function, reads what it says of itself, and brings it together with a
// driver.
//
// The scan starts at each host bridge's first bus and follows PCI-to-PCI bridges as the firmware
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
// Resources: every BAR is in /proc/iomem or /proc/ioports under its bus, a claimed one with the
// driver's name below it.
//
// PCI Local Bus 3.0, chapter 6; PCI-to-PCI Bridge Architecture 1.2, 3.2.5. Context: boot thread for
// the scan; threads for binding. The list of devices does not change after pci_init. Previous:
// pci_access.c. Next: a driver's record, drivers/block/ahci/ahci.c.
#include <pci/pci.h>

#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/resource.h>
#include <mm/map.h>
#include <mm/slab.h>
#include <sched/mutex.h>
#include <dma/dma.h>

#include "pci_config.h"
#include "pci_regs.h"

enum { PCI_MAX_DEVICES = 512, PCI_MAX_BUSES = 256 };

static LIST_HEAD(pci_devices); // I after the scan: in bus order
static unsigned pci_device_count;
static DEFINE_MUTEX(pci_bind_mutex);

LINKER_SET(pci_driver, pci_driver);

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

// A firmware's driver may have left message interrupts on, to a vector of its own; and while they are
// on, the function is silent on its wire.
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

// Reads everything about a function that answers. NULL: left out, said why.
static struct pci_dev *pci_add_function(const struct pci_dev *where)
{
    unsigned type = where->header_type & PCI_HEADER_TYPE_MASK;
    if (type > PCI_HEADER_TYPE_BRIDGE) {
        pr_warn("pci %s: header type 0x%x is unknown here, function left out", where->dev.name,
                type);
        return NULL;
    }
    struct pci_dev *dev =
        pci_device_count < PCI_MAX_DEVICES ? kzalloc(sizeof(*dev), GFP_KERNEL) : NULL;
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
    list_add_tail(&dev->link, &pci_devices);
    pci_device_count++;
    return dev;
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
};

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
    pci_read_header(&found);
    if (function == 0) {
        *multi = (found.header_type & PCI_HEADER_MULTI) != 0;
    }
    struct pci_dev *dev = pci_add_function(&found);
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

static void pci_scan_root(struct bus_scan *scan, uint8_t first)
{
    scan_add_bus(scan, first, NULL);
    while (scan->head < scan->tail) {
        unsigned i = scan->head++;
        scan_bus(scan, scan->queue[i].number, scan->queue[i].bridge);
    }
}

// ---- resources ----------------------------------------------------------------------------------

static void pci_add_bar_resource(struct pci_dev *dev, unsigned number)
{
    struct pci_bar *bar = &dev->bars[number];
    if (bar->size == 0 || bar->base == 0) {
        return;
    }
    int error = resource_add(bar->is_port ? RESOURCE_PORTS : RESOURCE_MEMORY, bar->base,
                             bar->base + bar->size - 1, dev->dev.name);
    if (error == -EBUSY) {
        pr_warn("pci %s: BAR %u at 0x%llx overlaps something else", dev->dev.name, number,
                (unsigned long long)bar->base);
    }
}

// The k-th window of a bridge: ports, memory, prefetchable memory. False: closed (its limit is below
// its base, or it was never set).
static bool pci_bridge_window(const struct pci_dev *bridge, unsigned k, uint64_t *start,
                              uint64_t *end)
{
    if (k == 0) {
        uint16_t word = pci_read16(bridge, PCI_IO_BASE);
        uint32_t high = pci_read32(bridge, PCI_IO_HIGH);
        *start = (word & 0xf0u) << 8 | (uint64_t)(high & 0xffff) << 16;
        *end = (word & 0xf000u) | 0xfff | (uint64_t)(high >> 16) << 16;
        return *start != 0 && *start < *end && *end <= 0xffff;
    }
    uint32_t word = pci_read32(bridge, k == 1 ? PCI_MEMORY_BASE : PCI_PREFETCH_BASE);
    *start = (uint64_t)(word & 0xfff0) << 16;
    *end = (word & 0xfff00000) | 0xfffff;
    if (k == 2 && (word & 0xf) == 1) { // 64 bits
        *start |= (uint64_t)pci_read32(bridge, PCI_PREFETCH_BASE_HIGH) << 32;
        *end |= (uint64_t)pci_read32(bridge, PCI_PREFETCH_LIMIT_HIGH) << 32;
    }
    return *start != 0 && *start < *end;
}

static void pci_add_bridge_resources(const struct pci_dev *bridge)
{
    char name[48];
    uint64_t start, end;
    snprintf(name, sizeof(name), "PCI Bus %04x:%02x", bridge->segment, bridge->bus_secondary);
    for (unsigned k = 0; k < 3; k++) {
        if (pci_bridge_window(bridge, k, &start, &end)) {
            resource_add(k == 0 ? RESOURCE_PORTS : RESOURCE_MEMORY, start, end, name);
        }
    }
}

struct pci_span {
    uint64_t start, end;
};

static void span_add(struct pci_span *span, uint64_t start, uint64_t end)
{
    if (end < BIT64(32)) {
        span->start = min(span->start, start);
        span->end = max(span->end, end);
    }
}

// The window of a root bus is written in byte code that is not read here. What is shown instead is
// what the bus was seen to use: the span of its memory BARs and its bridges' windows below 4 GiB,
// rounded to megabytes; and all ports, as on every PC.
static void pci_add_root_resources(uint16_t segment, uint8_t bus)
{
    struct pci_span span = {.start = UINT64_MAX};
    char name[48];
    struct pci_dev *dev;

    snprintf(name, sizeof(name), "PCI Bus %04x:%02x", segment, bus);
    list_for_each_entry (dev, &pci_devices, link) {
        if (dev->segment != segment) {
            continue;
        }
        for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
            const struct pci_bar *bar = &dev->bars[i];
            if (bar->size != 0 && bar->base != 0 && !bar->is_port) {
                span_add(&span, bar->base, bar->base + bar->size - 1);
            }
        }
        uint64_t start, end;
        for (unsigned k = 1; k < 3 && dev->bus_secondary != 0; k++) {
            if (pci_bridge_window(dev, k, &start, &end)) {
                span_add(&span, start, end);
            }
        }
    }
    if (span.start < span.end) {
        resource_add(RESOURCE_MEMORY, ALIGN_DOWN(span.start, 1ull << 20),
                     ALIGN_UP(span.end + 1, 1ull << 20) - 1, name);
    }
    if (segment == 0 && bus == 0) {
        resource_add(RESOURCE_PORTS, 0, PCI_CF8_ADDRESS - 1, name);
        resource_add(RESOURCE_PORTS, PCI_CF8_DATA + 4, 0xffff, name);
    }
}

// ---- the whole ----------------------------------------------------------------------------------

static void pci_route_all(void)
{
    struct pci_dev *dev;
    list_for_each_entry (dev, &pci_devices, link) {
        const char *source;
        dev->irq = pci_route_intx(dev, &source);
        if (source == NULL) {
            pr_debug("pci %s: %04x:%04x class %06x", dev->dev.name, dev->vendor, dev->device,
                     dev->class_code);
        } else {
            pr_info("pci %s: %04x:%04x class %06x, INT%c is irq %d by %s", dev->dev.name,
                    dev->vendor, dev->device, dev->class_code, 'A' + dev->pin - 1, dev->irq,
                    source);
        }
    }
}

void pci_init(void)
{
    static struct bus_scan scan; // too large for a stack
    uint16_t segment;
    uint8_t first, last;

    pci_access_init();
    for (unsigned k = 0; pci_access_root(k, &segment, &first, &last); k++) {
        scan = (struct bus_scan){.segment = segment, .last = last};
        pci_scan_root(&scan, first);
        pci_add_root_resources(segment, first);
    }
    struct pci_dev *dev;
    list_for_each_entry (dev, &pci_devices, link) { // a bridge before what is behind it
        if (dev->bus_secondary != 0) {
            pci_add_bridge_resources(dev);
        }
        for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
            pci_add_bar_resource(dev, i);
        }
    }
    pci_route_all();
}

struct pci_dev *pci_next(struct pci_dev *after)
{
    struct list_head *link = after == NULL ? pci_devices.next : after->link.next;
    return link == &pci_devices ? NULL : list_entry(link, struct pci_dev, link);
}

struct pci_dev *pci_find(unsigned bus, unsigned slot, unsigned function)
{
    struct pci_dev *dev;
    list_for_each_entry (dev, &pci_devices, link) {
        if (dev->segment == 0 && dev->bus == bus && dev->slot == slot &&
            dev->function == function) {
            return dev;
        }
    }
    return NULL;
}

// ---- drivers ------------------------------------------------------------------------------------

static bool pci_id_matches(const struct pci_device_id *id, const struct pci_dev *dev)
{
    return (id->vendor == PCI_ANY_ID || id->vendor == dev->vendor) &&
           (id->device == PCI_ANY_ID || id->device == dev->device) &&
           ((dev->class_code ^ id->class_code) & id->class_mask) == 0;
}

static const struct pci_device_id *pci_match(const struct pci_driver *driver,
                                             const struct pci_dev *dev)
{
    for (const struct pci_device_id *id = driver->ids; id->vendor != 0; id++) {
        if (pci_id_matches(id, dev)) {
            return id;
        }
    }
    return NULL;
}

// A driver that has gone may have left nothing to the device: what it still holds, it may still write to.
static void pci_check_dma(const struct pci_dev *dev, const char *driver)
{
    unsigned held = dma_outstanding(&dev->dev);

    if (held != 0) {
        pr_err("BUG: %s %s: leaves %u DMA mappings behind (cat /proc/dma-map)", driver,
               dev->dev.name, held);
        warn_at(__FILE__, __LINE__, "DMA mappings leak");
    }
}

static int pci_bind_locked(struct pci_dev *dev)
{
    const struct pci_driver *driver;
    if (dev->driver != NULL) {
        return -EBUSY;
    }
    set_for_each (driver, pci_driver) {
        const struct pci_device_id *id = pci_match(driver, dev);
        if (id == NULL) {
            continue;
        }
        dev->driver = driver;
        dev->dev.driver = driver->name;
        int error = driver->probe(dev, id);
        if (error == 0) {
            return 0;
        }
        pci_check_dma(dev, driver->name);
        dev->driver = NULL;
        dev->dev.driver = NULL;
        pci_set_drvdata(dev, NULL);
        pr_warn("%s %s: no: %s", driver->name, dev->dev.name, strerror(error));
        if (error != -ENODEV) {
            return error; // -ENODEV: not one of mine after all, another driver may try
        }
    }
    return -ENODEV;
}

int pci_bind(struct pci_dev *dev)
{
    mutex_lock(&pci_bind_mutex);
    int error = pci_bind_locked(dev);
    mutex_unlock(&pci_bind_mutex);
    return error;
}

int pci_unbind(struct pci_dev *dev)
{
    int error = -ENODEV;
    mutex_lock(&pci_bind_mutex);
    if (dev->driver != NULL) {
        dev->driver->remove(dev);
        pci_check_dma(dev, dev->driver->name);
        pci_set_drvdata(dev, NULL);
        dev->driver = NULL;
        dev->dev.driver = NULL;
        error = 0;
    }
    mutex_unlock(&pci_bind_mutex);
    return error;
}

void pci_probe_all(void)
{
    struct pci_dev *dev;
    list_for_each_entry (dev, &pci_devices, link) {
        pci_bind(dev);
    }
}

// ---- the driver's verbs -------------------------------------------------------------------------

// Sets and clears bits of the command register; returns what it reads back.
static uint16_t pci_change_command(struct pci_dev *dev, uint16_t clear, uint16_t set)
{
    uint16_t command = pci_read16(dev, PCI_COMMAND);
    if (command == UINT16_MAX) {
        return command; // the device is gone
    }
    pci_write16(dev, PCI_COMMAND, (uint16_t)((command & ~clear) | set));
    return pci_read16(dev, PCI_COMMAND);
}

int pci_enable_device(struct pci_dev *dev)
{
    uint16_t want = 0;
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        if (dev->bars[i].size != 0 && dev->bars[i].base != 0) {
            want |= dev->bars[i].is_port ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
        }
    }
    uint16_t command = pci_change_command(dev, 0, want);
    return command != UINT16_MAX && (command & want) == want ? 0 : -EIO;
}

void pci_disable_device(struct pci_dev *dev)
{
    pci_change_command(dev, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
}

void pci_set_master(struct pci_dev *dev)
{
    pci_change_command(dev, 0, PCI_COMMAND_MASTER);
}

void pci_clear_master(struct pci_dev *dev)
{
    pci_change_command(dev, PCI_COMMAND_MASTER, 0);
}

void pci_intx(struct pci_dev *dev, bool enable)
{
    pci_change_command(dev, enable ? PCI_COMMAND_INTX_DISABLE : 0,
                       enable ? 0 : PCI_COMMAND_INTX_DISABLE);
}

volatile void __iomem *pci_map_bar(struct pci_dev *dev, unsigned number, size_t min_size,
                                   const char *name)
{
    if (number >= PCI_BAR_COUNT) {
        return NULL;
    }
    struct pci_bar *bar = &dev->bars[number];
    if (bar->is_port || bar->base == 0 || bar->size < min_size || bar->size == 0 ||
        WARN_ON(bar->mapped != NULL)) {
        return NULL;
    }
    bar->mapped = ioremap(bar->base, bar->size);
    if (bar->mapped != NULL) {
        resource_add(RESOURCE_MEMORY, bar->base, bar->base + bar->size - 1, name);
    }
    return bar->mapped;
}

void pci_unmap_bar(struct pci_dev *dev, unsigned number)
{
    if (number >= PCI_BAR_COUNT || dev->bars[number].mapped == NULL) {
        return;
    }
    struct pci_bar *bar = &dev->bars[number];
    iounmap(bar->mapped);
    bar->mapped = NULL;
    // Named by the driver that maps; the node above it with the device's own name stays.
    if (dev->driver != NULL) {
        resource_remove(RESOURCE_MEMORY, bar->base, bar->base + bar->size - 1, dev->driver->name);
    }
}
