// Reaches configuration space: by ECAM where ACPI's MCFG names a window, else through the ports
// 0xcf8 and 0xcfc.
//
//   ECAM     one load or store at base + (bus << 20 | slot << 15 | function << 12 | offset); 4,096
//            bytes a function
//   CF8/CFC  address to one port, data through the other, under a lock; 256 bytes a function
//
// A bus's megabyte of ECAM is mapped when the scan first comes to it; the table of mappings does
// not change after that, so reading it needs no lock. The window is believed only if it shows the
// same host bridge as the ports do.
//
// PCI Express Base 3.0, 7.2.2; PCI Local Bus 3.0, 3.2.2.3.2; PCI Firmware Specification 3.2, 4.1.2
// (MCFG). Context: any, except pci_access_init and pci_access_add_bus: boot thread.
#include "pci_config.h"
#include "pci_regs.h"

#include <lib/format.h>
#include <core/log.h>
#include <core/resource.h>
#include <core/spinlock.h>
#include <x86/acpi.h>
#include <mm/map.h>
#include <mm/slab.h>

enum { ECAM_BUS_SIZE = 1 << 20 };

static DEFINE_SPINLOCK(cf8_lock);

static struct ecam_window {
    phys_t base; // I: of bus_first
    uint16_t segment;
    uint8_t bus_first, bus_last;
    volatile void __iomem **buses; // I after the scan: mapping of each bus, NULL: not looked at
} ecam_windows[ACPI_MAX_MCFG];
static unsigned ecam_window_count; // I: 0: use the ports

// ---- where it is --------------------------------------------------------------------------------

static struct ecam_window *ecam_find(uint16_t segment, uint8_t bus)
{
    for (unsigned i = 0; i < ecam_window_count; i++) {
        struct ecam_window *window = &ecam_windows[i];
        if (window->segment == segment && bus >= window->bus_first && bus <= window->bus_last) {
            return window;
        }
    }
    return NULL;
}

static volatile void __iomem *ecam_bus(uint16_t segment, uint8_t bus)
{
    struct ecam_window *window = ecam_find(segment, bus);
    return window == NULL ? NULL : window->buses[bus - window->bus_first];
}

static volatile void __iomem *ecam_address(const struct pci_dev *dev, uint16_t offset)
{
    volatile uint8_t __iomem *base = ecam_bus(dev->segment, dev->bus);
    return base == NULL ? NULL
                        : base + ((size_t)dev->slot << 15 | (size_t)dev->function << 12 | offset);
}

static uint32_t cf8_address(const struct pci_dev *dev, uint16_t offset)
{
    return PCI_CF8_ENABLE | (uint32_t)dev->bus << 16 | (uint32_t)dev->slot << 11 |
           (uint32_t)dev->function << 8 | (offset & 0xfc);
}

// Is this an access that the hardware can make: inside the function, aligned to its width, in a
// place that exists?
static bool pci_access_ok(const struct pci_dev *dev, uint16_t offset, unsigned width)
{
    return IS_ALIGNED(offset, width) && offset < pci_access_size(dev->segment, dev->bus) &&
           dev->slot < 32 && dev->function < 8 && (ecam_window_count != 0 || dev->segment == 0);
}

uint16_t pci_access_size(uint16_t segment, uint8_t bus)
{
    return ecam_bus(segment, bus) != NULL ? PCI_CONFIG_EXTENDED_SIZE : PCI_CONFIG_SIZE;
}

// ---- the six accesses ---------------------------------------------------------------------------

// With ECAM in use, a bus that is not mapped does not exist: the ports are not a second way to it.
#define PCI_READ(type, suffix, port_read)                                \
    type pci_read##suffix(const struct pci_dev *dev, uint16_t offset)    \
    {                                                                    \
        type value = (type)~0;                                           \
        if (!pci_access_ok(dev, offset, sizeof(type))) {                 \
            return value;                                                \
        }                                                                \
        if (ecam_window_count != 0) {                                    \
            volatile void __iomem *address = ecam_address(dev, offset);  \
            return address == NULL ? value : ecam_read##suffix(address); \
        }                                                                \
        unsigned long flags;                                             \
        spin_lock_irqsave(&cf8_lock, flags);                             \
        outl(cf8_address(dev, offset), PCI_CF8_ADDRESS);                 \
        value = port_read((uint16_t)(PCI_CF8_DATA + (offset & 3)));      \
        spin_unlock_irqrestore(&cf8_lock, flags);                        \
        return value;                                                    \
    }

#define PCI_WRITE(type, suffix, port_write)                                        \
    void pci_write##suffix(const struct pci_dev *dev, uint16_t offset, type value) \
    {                                                                              \
        if (!pci_access_ok(dev, offset, sizeof(type))) {                           \
            return;                                                                \
        }                                                                          \
        if (ecam_window_count != 0) {                                              \
            volatile void __iomem *address = ecam_address(dev, offset);            \
            if (address != NULL) {                                                 \
                ecam_write##suffix(value, address);                                \
            }                                                                      \
            return;                                                                \
        }                                                                          \
        unsigned long flags;                                                       \
        spin_lock_irqsave(&cf8_lock, flags);                                       \
        outl(cf8_address(dev, offset), PCI_CF8_ADDRESS);                           \
        port_write(value, (uint16_t)(PCI_CF8_DATA + (offset & 3)));                \
        spin_unlock_irqrestore(&cf8_lock, flags);                                  \
    }

#define ecam_read8   readb
#define ecam_read16  readw
#define ecam_read32  readl
#define ecam_write8  writeb
#define ecam_write16 writew
#define ecam_write32 writel

PCI_READ(uint8_t, 8, inb)
PCI_READ(uint16_t, 16, inw)
PCI_READ(uint32_t, 32, inl)
PCI_WRITE(uint8_t, 8, outb)
PCI_WRITE(uint16_t, 16, outw)
PCI_WRITE(uint32_t, 32, outl)

// ---- setting up ---------------------------------------------------------------------------------

bool pci_access_add_bus(uint16_t segment, uint8_t bus)
{
    struct ecam_window *window = ecam_find(segment, bus);
    if (window == NULL) {
        return ecam_window_count == 0 && segment == 0;
    }
    unsigned index = bus - window->bus_first;
    if (window->buses[index] == NULL) {
        window->buses[index] =
            ioremap(window->base + (uint64_t)index * ECAM_BUS_SIZE, ECAM_BUS_SIZE);
    }
    return window->buses[index] != NULL;
}

bool pci_access_root(unsigned k, uint16_t *segment, uint8_t *first, uint8_t *last)
{
    if (ecam_window_count == 0) {
        *segment = 0;
        *first = 0;
        *last = 255;
        return k == 0;
    }
    if (k >= ecam_window_count) {
        return false;
    }
    *segment = ecam_windows[k].segment;
    *first = ecam_windows[k].bus_first;
    *last = ecam_windows[k].bus_last;
    return true;
}

static bool ecam_add_window(const struct acpi_mcfg *mcfg)
{
    struct ecam_window *window = &ecam_windows[ecam_window_count];
    if (mcfg->bus_last < mcfg->bus_first) {
        pr_warn("pci: MCFG entry with buses %u to %u ignored", mcfg->bus_first, mcfg->bus_last);
        return false;
    }
    unsigned buses = (unsigned)(mcfg->bus_last - mcfg->bus_first) + 1;
    window->buses = kcalloc(buses, sizeof(*window->buses), GFP_KERNEL);
    if (window->buses == NULL) {
        return false;
    }
    // MCFG gives the address of bus 0, whatever the first bus is (Firmware 3.2, table 4-3).
    window->base = mcfg->base + (uint64_t)mcfg->bus_first * ECAM_BUS_SIZE;
    window->segment = mcfg->segment;
    window->bus_first = mcfg->bus_first;
    window->bus_last = mcfg->bus_last;
    ecam_window_count++;
    return true;
}

// Does the window show what the ports show? Compared: vendor and device of 00:00.0, which every PC
// has.
static bool ecam_agrees(const struct acpi_mcfg *mcfg)
{
    static const struct pci_dev host; // 0000:00:00.0
    if (mcfg->segment != 0 || mcfg->bus_first != 0) {
        return true; // not reachable through the ports: nothing to compare
    }
    uint32_t by_port = pci_read32(&host, PCI_VENDOR_ID); // no window is in use yet
    volatile void __iomem *bus = ioremap(mcfg->base, PAGE_SIZE);
    if (bus == NULL) {
        return false;
    }
    uint32_t by_window = readl(bus);
    iounmap(bus);
    return by_window == by_port;
}

void pci_access_init(void)
{
    bool good = true;
    for (unsigned i = 0; i < acpi.mcfg_count && good; i++) {
        good = ecam_agrees(&acpi.mcfg[i]);
    }
    if (!good) {
        pr_warn("pci: the MCFG window does not show the host bridge, using ports 0xcf8 and 0xcfc");
    }
    resource_add(RESOURCE_PORTS, PCI_CF8_ADDRESS, PCI_CF8_DATA + 3, "PCI conf1");
    for (unsigned i = 0; i < acpi.mcfg_count && good; i++) {
        const struct acpi_mcfg *mcfg = &acpi.mcfg[i];
        if (ecam_add_window(mcfg)) {
            const struct ecam_window *window = &ecam_windows[ecam_window_count - 1];
            char name[48];
            snprintf(name, sizeof(name), "PCI MMCONFIG %04x [bus %02x-%02x]", window->segment,
                     window->bus_first, window->bus_last);
            uint64_t size = ((uint64_t)(window->bus_last - window->bus_first) + 1) * ECAM_BUS_SIZE;
            resource_add(RESOURCE_MEMORY, window->base, window->base + size - 1, name);
        }
    }
    pr_info("pci: configuration space through %s",
            ecam_window_count != 0 ? "ECAM" : "ports 0xcf8 and 0xcfc");
}
