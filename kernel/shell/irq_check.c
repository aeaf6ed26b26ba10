// `irq check`: what the hardware will do with each interrupt, against what the kernel believes.
//
//   IO-APIC   every pin: vector, delivery and destination mode, CPU, polarity, trigger, mask; a pin
//             that nobody requested must be masked
//   PCI       every device: a message that is on must be the kernel's, to the bit; one that the
//             kernel did not turn on must be off
//
// Whoever can write to these registers (a device driver gone wild, another device's DMA, a rootkit)
// can send an interrupt where it does not belong: into another handler, to another CPU, or, as SMI
// or NMI or INIT, past every mask. Nothing in hardware notices that, as each entry is as good as
// any other; only whoever knows what was meant can tell.
//
// Each comparison is made under the descriptor's lock, so an irq that moves meanwhile is no
// difference. Intel 82093AA, 3.2.4; PCI 3.0, 6.8. Context: thread.
#include <contract/irq_chip.h>
#include <lib/format.h>
#include <x86/ioapic.h>
#include <x86/irq_remap.h>
#include <irq/desc.h>
#include <pci/pci.h>
#include "irq_check.h"

enum { // PCI 3.0, 6.8.1 and 6.8.2
    CAP_MSI = 0x05,
    CAP_MSIX = 0x11,
    CAP_CONTROL = 2,
    MSI_ENABLE = 0x0001,
    MSIX_ENABLE = 0x8000,
};
#define MESSAGE_ADDRESS 0xfee00000u // Intel SDM vol. 3, 11.11.1

// With interrupt remapping an entry or a message only names an entry of the kernel's table, and
// that one has to be right too.
static bool irq_check_table(struct shell *sh, const struct irq_data *data)
{
    uint8_t vector = 0;
    uint32_t apic_id = 0;

    if (irq_remap == NULL || (irq_remap->get(data->irq, &vector, &apic_id) &&
                              vector == data->vector && apic_id == data->apic_id)) {
        return true;
    }
    shell_printf(sh,
                 "irq %u: the remapping table sends vector 0x%02x to APIC %u, the kernel wrote "
                 "0x%02x and %u: CHANGED\n",
                 data->irq, vector, apic_id, data->vector, data->apic_id);
    return false;
}

// ---- wires --------------------------------------------------------------------------------------

static bool irq_check_wire(struct shell *sh, unsigned gsi)
{
    struct irq_desc *desc = irq_to_desc(gsi);
    struct irq_data data = {0};
    bool started = false;
    unsigned long flags;
    uint64_t want = 0, have;

    if (desc != NULL) {
        spin_lock_irqsave(&desc->lock, flags);
        started = desc->started;
        data = desc->data;
        want = ioapic_wanted_entry(&data, desc->masked);
        have = ioapic_read_entry(gsi);
        spin_unlock_irqrestore(&desc->lock, flags);
    } else {
        have = ioapic_read_entry(gsi);
    }
    have &= ~ioapic_status_bits;
    if (started ? have == want : ioapic_entry_is_masked(have)) {
        return !started || irq_check_table(sh, &data);
    }
    if (started) {
        shell_printf(sh, "GSI %u: its entry is 0x%016llx, the kernel wrote 0x%016llx: CHANGED\n",
                     gsi, (unsigned long long)have, (unsigned long long)want);
    } else {
        shell_printf(sh, "GSI %u: nobody requested it, and its entry 0x%016llx is open: CHANGED\n",
                     gsi, (unsigned long long)have);
    }
    return false;
}

// ---- messages -----------------------------------------------------------------------------------

static bool irq_check_message(struct shell *sh, const struct pci_dev *dev, unsigned index)
{
    struct irq_desc *desc = irq_to_desc((unsigned)pci_irq_vector(dev, index));
    uint64_t address = 0, want_address;
    uint32_t data = 0, want_data;
    bool masked = false, want_masked, started, has_mask;
    unsigned long flags;

    if (desc == NULL) {
        return true; // given back meanwhile
    }
    spin_lock_irqsave(&desc->lock, flags);
    bool held = pci_msi_read_message(dev, index, &address, &data, &masked);
    struct irq_data want = desc->data;
    want_masked = desc->masked;
    started = desc->started;
    spin_unlock_irqrestore(&desc->lock, flags);
    has_mask = pci_find_capability(dev, CAP_MSIX) != 0 && masked;
    want_address = irq_remap != NULL ? irq_remap_message(want.irq)
                                     : MESSAGE_ADDRESS | (uint64_t)want.apic_id << 12;
    want_data = irq_remap != NULL ? 0 : want.vector;
    if (!held || !started) {
        return true;
    }
    if (address == want_address && data == want_data && (!has_mask || want_masked)) {
        return irq_check_table(sh, &want);
    }
    shell_printf(sh,
                 "%s: message %u is 0x%x to 0x%llx%s, the kernel wrote 0x%x to 0x%llx: CHANGED\n",
                 dev->dev.name, index, data, (unsigned long long)address, masked ? ", masked" : "",
                 want_data, (unsigned long long)want_address);
    return false;
}

static bool irq_check_enabled(struct shell *sh, const struct pci_dev *dev, uint16_t capability,
                              uint16_t bit, const char *name)
{
    uint16_t offset = pci_find_capability(dev, capability);

    if (offset == 0 || (pci_read16(dev, (uint16_t)(offset + CAP_CONTROL)) & bit) == 0) {
        return true;
    }
    shell_printf(sh, "%s: %s is on, and the kernel did not turn it on: CHANGED\n", dev->dev.name,
                 name);
    return false;
}

static unsigned irq_check_device(struct shell *sh, const struct pci_dev *dev, unsigned *messages)
{
    unsigned bad = 0;

    if (dev->msi == NULL) {
        bad += !irq_check_enabled(sh, dev, CAP_MSI, MSI_ENABLE, "MSI");
        bad += !irq_check_enabled(sh, dev, CAP_MSIX, MSIX_ENABLE, "MSI-X");
        return bad;
    }
    for (unsigned index = 0; pci_irq_vector(dev, index) >= 0; index++) {
        bad += !irq_check_message(sh, dev, index);
        (*messages)++;
    }
    return bad;
}

unsigned irq_check_hardware(struct shell *sh, unsigned *wires, unsigned *messages)
{
    unsigned bad = 0;

    *wires = *messages = 0;
    for (unsigned gsi = 0; gsi < ioapic_gsi_end(); gsi++) {
        if (ioapic_has_gsi(gsi)) {
            bad += !irq_check_wire(sh, gsi);
            (*wires)++;
        }
    }
    for (const struct pci_dev *dev = pci_next(NULL); dev != NULL;
         dev = pci_next((struct pci_dev *)(uintptr_t)dev)) {
        pci_lock_binding();
        bad += irq_check_device(sh, dev, messages);
        pci_unlock_binding();
    }
    return bad;
}

int irq_check(struct shell *sh)
{
    unsigned wires, messages;
    unsigned bad = irq_check_hardware(sh, &wires, &messages);

    shell_printf(sh, "irq: %u wires and %u messages, %u differences\n", wires, messages, bad);
    return bad == 0 ? 0 : 1;
}
