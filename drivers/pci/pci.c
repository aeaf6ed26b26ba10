// The PCI bus: the list of its functions, what they take of the address spaces, and which driver
// has which.
//
//   pci_init        pci_access.c  how configuration space is reached
//                   pci_scan.c    which functions there are, and what they say of themselves
//                   here          their windows in /proc/iomem and /proc/ioports
//                   pci_route.c   which irq their wires are
//   pci_probe_all   each function to the first driver whose record matches it
//
// A claimed window has the driver's name below the function's.
//
// PCI Local Bus 3.0, chapter 6; PCI-to-PCI Bridge Architecture 1.2, 3.2.5. Context: boot thread for
// pci_init; threads for binding. The list of devices does not change after pci_init. Previous:
// pci_scan.c. Next: a driver's record, drivers/block/ahci/ahci_pci.c.
#include <irq/devres.h>
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

#include "pci_config.h"
#include "pci_regs.h"

static LIST_HEAD(pci_devices);    // I after the scan: in bus order
static unsigned pci_device_count; // I after the scan
static DEFINE_MUTEX(pci_bind_mutex);

LINKER_SET(pci_driver, pci_driver);

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

// The k-th window of a bridge: ports, memory, prefetchable memory. False: closed (its limit is
// below its base, or it was never set).
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
    uint16_t segment;
    uint8_t first, last;

    pci_access_init();
    for (unsigned k = 0; pci_access_root(k, &segment, &first, &last); k++) {
        pci_scan(segment, first, last, &pci_devices, &pci_device_count);
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

static void pci_forget_driver(struct pci_dev *dev)
{
    dev->driver = NULL;
    dev->dev.driver = NULL;
    dev->dev.alias[0] = '\0';
    pci_set_drvdata(dev, NULL);
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
        pci_leak_begin(dev);
        int error = driver->probe(dev, id);
        if (error == 0) {
            pci_leak_cancel();
            return 0;
        }
        devm_release_irqs(&dev->dev);
        pci_leak_end(dev);
        pci_forget_driver(dev);
        pr_warn("%s %s: no: %s", driver->name, dev->dev.name, strerror(error));
        if (error != -ENODEV) {
            return error; // -ENODEV: not one of mine after all, another driver may try
        }
    }
    return -ENODEV;
}

void pci_lock_binding(void)
{
    mutex_lock(&pci_bind_mutex);
}

void pci_unlock_binding(void)
{
    police_might_sleep();
    mutex_unlock(&pci_bind_mutex);
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
    int leaks = -ENODEV;
    mutex_lock(&pci_bind_mutex);
    if (dev->driver != NULL) {
        pci_leak_begin(dev);
        dev->driver->remove(dev);
        devm_release_irqs(&dev->dev);
        leaks = (int)pci_leak_end(dev);
        pci_forget_driver(dev);
    }
    mutex_unlock(&pci_bind_mutex);
    return leaks;
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
    might_sleep();
    uint16_t want = 0;
    for (unsigned i = 0; i < PCI_BAR_COUNT; i++) {
        if (dev->bars[i].size != 0 && dev->bars[i].base != 0) {
            want |= dev->bars[i].is_port ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
        }
    }
    uint16_t command = pci_change_command(dev, 0, want);
    return command != UINT16_MAX && (command & want) == want ? 0 : -EIO;
}

// The windows stay open, as in Linux: a read by somebody late finds a register, not a bus error.
// And on QEMU closing one moves the map under the other CPUs' feet (docs/CAVEATS.md).
void pci_disable_device(struct pci_dev *dev)
{
    might_sleep();
    pci_change_command(dev, PCI_COMMAND_MASTER, 0);
}

void pci_set_master(struct pci_dev *dev)
{
    might_sleep();
    pci_change_command(dev, 0, PCI_COMMAND_MASTER);
}

void pci_clear_master(struct pci_dev *dev)
{
    might_sleep();
    pci_change_command(dev, PCI_COMMAND_MASTER, 0);
}

void pci_intx(struct pci_dev *dev, bool enable)
{
    might_sleep();
    pci_change_command(dev, enable ? PCI_COMMAND_INTX_DISABLE : 0,
                       enable ? 0 : PCI_COMMAND_INTX_DISABLE);
}

volatile void __iomem *pci_map_bar(struct pci_dev *dev, unsigned number, size_t min_size,
                                   const char *name)
{
    might_sleep();
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
    might_sleep();
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
