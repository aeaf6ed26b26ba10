// Interrupts without a wire: the device writes a word to an address that the CPUs listen to.
//
//   MSI     address, data   in configuration space; one message here (PCI allows up to 32)
//   MSI-X   [ address | data | mask ]   a table in a BAR, up to 2,048 entries, each with a CPU of its
//           [ address | data | mask ]   own and a mask of its own
//
//   device ── write of `vector` to 0xfee00000 | CPU << 12 ──> local APIC of that CPU ──> vector
//
// A message cannot be shared, needs no pin, no IO-APIC and no look at the device to find out whose
// it is; and it comes after the data that the device wrote before it, because both are writes. It
// is an edge: the flow is flow_edge, the EOI the local APIC's.
//
// This file is two chips (contract/irq_chip.h), and what comes before and after them. The table's
// place is the device's word: it is checked against the BAR before anything is mapped.
//
// PCI 3.0, 6.8; Intel SDM vol. 3, 11.11. Context: thread; the chips' functions under the
// descriptor's lock, interrupts off. Moving an irq changes the address alone: a vector is good on
// every CPU. Previous: pci_irq.c. Next: pci_poll.c, where neither message nor wire is to be had.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/irq_chip.h>
#include <core/io.h>
#include <core/log.h>
#include <x86/irq_remap.h>
#include <x86/lapic.h>
#include <mm/map.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <irq/route.h>
#include <pci/pci.h>

#include "pci_config.h"
#include "pci_regs.h"

enum { MSI_MAX_VECTORS = 64 };

struct pci_msi {
    struct pci_dev *dev;       // I
    bool is_msix;              // I
    uint16_t offset;           // I: of the capability
    uint16_t data, mask;       // I: MSI: offsets of data and mask in it; mask 0: it has none
    uint8_t __iomem *table;    // I: MSI-X
    uint8_t __iomem *pending;  // I: MSI-X: a bit an entry; NULL: not to be had
    unsigned entries;          // I: MSI-X: of the whole table
    unsigned count;            // I: irqs in use
    int irqs[MSI_MAX_VECTORS]; // I
};

// ---- MSI: the registers of one message ----------------------------------------------------------

static struct pci_msi *msi_of(const struct irq_data *data)
{
    return data->chip_data;
}

// With remapping the message names an entry of the kernel's table, and the table the CPU.
static uint32_t msi_address(const struct irq_data *data)
{
    if (irq_remap != NULL) {
        irq_remap->set(data, msi_of(data)->dev->dev.source);
        return irq_remap_message(data->irq);
    }
    return MSI_ADDRESS_BASE | data->apic_id << MSI_ADDRESS_CPU_SHIFT;
}

static uint32_t msi_data(const struct irq_data *data)
{
    return irq_remap != NULL ? 0 : MSI_DATA_FIXED_EDGE(data->vector);
}

static void msi_remap_clear(const struct irq_data *data)
{
    if (irq_remap != NULL) {
        irq_remap->clear(data);
    }
}

static void msi_change_control(const struct pci_msi *msi, uint16_t clear, uint16_t set)
{
    uint16_t at = (uint16_t)(msi->offset + (msi->is_msix ? PCI_MSIX_CONTROL : PCI_MSI_CONTROL));
    uint16_t control = pci_read16(msi->dev, at);

    pci_write16(msi->dev, at, (uint16_t)((control & ~clear) | set));
}

// A device without a mask cannot be held back; flow_edge remembers what comes meanwhile.
static void msi_set_mask(struct irq_data *data, bool masked)
{
    struct pci_msi *msi = msi_of(data);

    if (msi->mask != 0) {
        pci_write32(msi->dev, (uint16_t)(msi->offset + msi->mask), masked);
    }
}

static void msi_mask(struct irq_data *data)
{
    msi_set_mask(data, true);
}

static void msi_unmask(struct irq_data *data)
{
    msi_set_mask(data, false);
}

// Moving a live message changes nothing but the low word of the address: one write, nothing torn.
static int msi_set_affinity(struct irq_data *data)
{
    struct pci_msi *msi = msi_of(data);

    pci_write32(msi->dev, (uint16_t)(msi->offset + PCI_MSI_ADDRESS), msi_address(data));
    return 0;
}

static void msi_startup(struct irq_data *data)
{
    struct pci_msi *msi = msi_of(data);

    msi_set_affinity(data);
    if (msi->data == PCI_MSI_DATA_64) {
        pci_write32(msi->dev, (uint16_t)(msi->offset + PCI_MSI_ADDRESS_HIGH), 0);
    }
    pci_write16(msi->dev, (uint16_t)(msi->offset + msi->data), (uint16_t)msi_data(data));
    msi_unmask(data);
    msi_change_control(msi, PCI_MSI_MULTIPLE_MASK, PCI_MSI_ENABLE);
}

static void msi_shutdown(struct irq_data *data)
{
    msi_mask(data);
    msi_change_control(msi_of(data), PCI_MSI_ENABLE, 0);
    msi_remap_clear(data);
}

static void msi_show(const struct irq_data *data, char *to, size_t size)
{
    const struct pci_msi *msi = data->chip_data;

    snprintf(to, size, "%sPCI-%s-%s", irq_remap != NULL ? "IR-" : "", msi->is_msix ? "MSIX" : "MSI",
             msi->dev->dev.name);
}

static const struct irq_chip msi_chip = {
    .oneshot_safe = true,
    .name = "PCI-MSI",
    .irq_startup = msi_startup,
    .irq_shutdown = msi_shutdown,
    .irq_mask = msi_mask,
    .irq_unmask = msi_unmask,
    .irq_set_affinity = msi_set_affinity,
    .irq_retrigger = lapic_irq_retrigger,
    .irq_show = msi_show,
};

// ---- MSI-X: entries of a table ------------------------------------------------------------------

static uint8_t __iomem *msix_entry(const struct pci_msi *msi, unsigned index)
{
    return msi->table + index * PCI_MSIX_ENTRY_SIZE;
}

static void msix_set_mask(struct irq_data *data, bool masked)
{
    uint8_t __iomem *entry = msix_entry(msi_of(data), data->hwirq);

    writel(masked ? PCI_MSIX_ENTRY_MASKED : 0, entry + PCI_MSIX_ENTRY_CONTROL);
    (void)readl(entry + PCI_MSIX_ENTRY_CONTROL); // a posted write: from here on it holds
}

static void msix_mask(struct irq_data *data)
{
    msix_set_mask(data, true);
}

static void msix_unmask(struct irq_data *data)
{
    msix_set_mask(data, false);
}

// An entry may be changed only while it is masked (6.8.2.9); a message that comes meanwhile is kept
// as pending by the device and sent at the unmask.
static int msix_set_affinity(struct irq_data *data)
{
    uint8_t __iomem *entry = msix_entry(msi_of(data), data->hwirq);
    bool masked = (readl(entry + PCI_MSIX_ENTRY_CONTROL) & PCI_MSIX_ENTRY_MASKED) != 0;

    msix_set_mask(data, true);
    writel(msi_address(data), entry + PCI_MSIX_ENTRY_ADDRESS);
    writel(0, entry + PCI_MSIX_ENTRY_ADDRESS_HIGH);
    writel(msi_data(data), entry + PCI_MSIX_ENTRY_DATA);
    msix_set_mask(data, masked);
    return 0;
}

static void msix_startup(struct irq_data *data)
{
    msix_set_affinity(data);
    msix_unmask(data);
}

static void msix_shutdown(struct irq_data *data)
{
    msix_mask(data);
    msi_remap_clear(data);
}

static const struct irq_chip msix_chip = {
    .oneshot_safe = true,
    .name = "PCI-MSIX",
    .irq_startup = msix_startup,
    .irq_shutdown = msix_shutdown,
    .irq_mask = msix_mask,
    .irq_unmask = msix_unmask,
    .irq_set_affinity = msix_set_affinity,
    .irq_retrigger = lapic_irq_retrigger,
    .irq_show = msi_show,
};

// ---- taking them into use, and giving them back -------------------------------------------------

// Where a structure lies, by the device's word, which must hold within its BAR. NULL: it does not,
// or no memory to map it.
static uint8_t __iomem *msix_map(const struct pci_dev *dev, uint32_t word, uint32_t size,
                                 const char *what)
{
    unsigned number = word & PCI_MSIX_BIR;
    uint32_t offset = word & ~PCI_MSIX_BIR;
    const struct pci_bar *bar = &dev->bars[min(number, PCI_BAR_COUNT - 1u)];

    if (number >= PCI_BAR_COUNT || bar->is_port || bar->base == 0 ||
        (uint64_t)offset + size > bar->size) {
        dev_warn(&dev->dev, "MSI-X %s of %u bytes at 0x%x of BAR %u is not within it: not used",
                 what, size, offset, number);
        return NULL;
    }
    return ioremap(bar->base + offset, size);
}

static int msix_setup(struct pci_msi *msi)
{
    struct pci_dev *dev = msi->dev;
    uint16_t control = pci_read16(dev, (uint16_t)(msi->offset + PCI_MSIX_CONTROL));

    msi->entries = (control & PCI_MSIX_SIZE_MASK) + 1u;
    msi->table = msix_map(dev, pci_read32(dev, (uint16_t)(msi->offset + PCI_MSIX_TABLE)),
                          msi->entries * PCI_MSIX_ENTRY_SIZE, "table");
    if (msi->table == NULL) {
        return -ENODEV;
    }
    msi->pending = msix_map(dev, pci_read32(dev, (uint16_t)(msi->offset + PCI_MSIX_PBA)),
                            ALIGN_UP(msi->entries, 64) / 8, "pending bits");
    // On, but every entry masked: the table can be written only once the function decodes it.
    msi_change_control(msi, 0, PCI_MSIX_ENABLE | PCI_MSIX_FUNCTION_MASK);
    for (unsigned i = 0; i < msi->entries; i++) {
        writel(PCI_MSIX_ENTRY_MASKED, msix_entry(msi, i) + PCI_MSIX_ENTRY_CONTROL);
    }
    msi_change_control(msi, PCI_MSIX_FUNCTION_MASK, 0);
    return 0;
}

static void msi_setup(struct pci_msi *msi)
{
    uint16_t control = pci_read16(msi->dev, (uint16_t)(msi->offset + PCI_MSI_CONTROL));
    bool wide = (control & PCI_MSI_64BIT) != 0;

    msi->entries = 1;
    msi->data = wide ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32;
    if (control & PCI_MSI_MASKABLE) {
        msi->mask = wide ? PCI_MSI_MASK_64 : PCI_MSI_MASK_32;
    }
    msi_change_control(msi, PCI_MSI_ENABLE, 0); // irq_startup turns it on
}

static void msi_teardown(struct pci_msi *msi)
{
    while (msi->count > 0) {
        route_free_message((unsigned)msi->irqs[--msi->count]);
    }
    msi_change_control(msi, msi->is_msix ? PCI_MSIX_ENABLE : PCI_MSI_ENABLE, 0);
    if (msi->table != NULL) {
        iounmap(msi->table);
    }
    if (msi->pending != NULL) {
        iounmap(msi->pending);
    }
    kfree(msi);
}

int pci_msi_alloc(struct pci_dev *dev, bool msix, unsigned least, unsigned most)
{
    uint16_t offset = pci_find_capability(dev, msix ? PCI_CAP_MSIX : PCI_CAP_MSI);
    if (offset == 0) {
        return -ENOSPC;
    }
    struct pci_msi *msi = kzalloc(sizeof(*msi), GFP_KERNEL);
    if (msi == NULL) {
        return -ENOMEM;
    }
    msi->dev = dev;
    msi->is_msix = msix;
    msi->offset = offset;
    int error = 0;
    if (msix) {
        error = msix_setup(msi);
    } else {
        msi_setup(msi);
    }
    most = min(most, (unsigned)MSI_MAX_VECTORS);
    while (error == 0 && msi->count < most && msi->count < msi->entries) {
        int irq = route_alloc_message(msix ? &msix_chip : &msi_chip, msi, msi->count);
        if (irq < 0) {
            break;
        }
        msi->irqs[msi->count++] = irq;
    }
    if (error == 0 && msi->count < max(least, 1u)) {
        error = -ENOSPC;
    }
    if (error != 0) {
        msi_teardown(msi);
        return error;
    }
    dev->msi = msi;
    return (int)msi->count;
}

void pci_msi_free(struct pci_dev *dev)
{
    msi_teardown(dev->msi);
    dev->msi = NULL;
}

int pci_msi_irq(const struct pci_dev *dev, unsigned index)
{
    return index < dev->msi->count ? dev->msi->irqs[index] : -EINVAL;
}

unsigned pci_msi_count(const struct pci_dev *dev)
{
    return dev->msi->count;
}

bool pci_msi_is_msix(const struct pci_dev *dev)
{
    return dev->msi->is_msix;
}

// ---- looking at them ----------------------------------------------------------------------------

bool pci_msi_read_message(const struct pci_dev *dev, unsigned index, uint64_t *address,
                          uint32_t *data, bool *masked)
{
    const struct pci_msi *msi = dev->msi;

    if (msi == NULL || index >= msi->count) {
        return false;
    }
    if (msi->is_msix) {
        const uint8_t __iomem *entry = msix_entry(msi, index);
        *address = readl(entry + PCI_MSIX_ENTRY_ADDRESS) |
                   (uint64_t)readl(entry + PCI_MSIX_ENTRY_ADDRESS_HIGH) << 32;
        *data = readl(entry + PCI_MSIX_ENTRY_DATA);
        *masked = (readl(entry + PCI_MSIX_ENTRY_CONTROL) & PCI_MSIX_ENTRY_MASKED) != 0;
        return true;
    }
    *address = pci_read32(dev, (uint16_t)(msi->offset + PCI_MSI_ADDRESS));
    if (msi->data == PCI_MSI_DATA_64) {
        *address |= (uint64_t)pci_read32(dev, (uint16_t)(msi->offset + PCI_MSI_ADDRESS_HIGH)) << 32;
    }
    *data = pci_read16(dev, (uint16_t)(msi->offset + msi->data));
    *masked = msi->mask != 0 && (pci_read32(dev, (uint16_t)(msi->offset + msi->mask)) & 1) != 0;
    return true;
}

bool pci_msi_is_on(const struct pci_dev *dev)
{
    const struct pci_msi *msi = dev->msi;

    if (msi == NULL) {
        return false;
    }
    uint16_t at = (uint16_t)(msi->offset + (msi->is_msix ? PCI_MSIX_CONTROL : PCI_MSI_CONTROL));
    return (pci_read16(dev, at) & (msi->is_msix ? PCI_MSIX_ENABLE : PCI_MSI_ENABLE)) != 0;
}

bool pci_msi_is_pending(const struct pci_dev *dev, unsigned index)
{
    const struct pci_msi *msi = dev->msi;

    return msi != NULL && index < msi->count && msi->pending != NULL &&
           (readl(msi->pending + index / 32 * 4) >> (index % 32) & 1) != 0;
}
