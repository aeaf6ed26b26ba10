// Finds out which interrupt a device's INTx pin arrives at, without an interpreter for ACPI's byte
// code.
//
// A pin is a wire on a board, and only the firmware knows the board; it tells in four ways, tried
// in this order:
//
//   1. the DSDT's static _PRT package (acpi.intx): slot and pin to GSI. q35 has one: GSI 16..23.
//   2. the PIIX3's PIRQ registers on -M pc and Bochs: slot and pin to PIRQA..D, the register to an
//      8259 line, which is the GSI.
//   3. INTERRUPT_LINE in the device's header, which the firmware filled in with the 8259's line.
//   4. nothing: the device gets no interrupt, and its driver says so.
//
// q35 raises each pin twice, on GSI 16..23 and on GSI 10 or 11. Taking the first leaves the twin
// masked for good, which is right: a wire that nobody unmasks interrupts nobody.
//
// A device behind bridges: each bridge turns the pins by the slot ("swizzle", PCI-to-PCI Bridge
// 1.2, 9.1):
//
//   pin at the bridge = (pin + slot of the device) mod 4      so four cards in a row use four wires
//
// Intel 290550 (PIIX3), 2.2.10 PIRQRC; PCI 3.0, 2.2.6. Context: boot thread, after the scan.
#include "pci_config.h"
#include "pci_regs.h"

#include <lib/errno.h>
#include <core/log.h>
#include <x86/acpi.h>
#include <irq/route.h>

// A pin (0 = INTA) at the root bus.
struct root_wire {
    uint8_t slot, pin;
};

static struct root_wire route_swizzle(const struct pci_dev *dev)
{
    struct root_wire wire = {.slot = dev->slot, .pin = (uint8_t)(dev->pin - 1)};
    // Bounded: a bridge's bus number is above its parent's.
    for (const struct pci_dev *bridge = dev->bridge; bridge != NULL; bridge = bridge->bridge) {
        wire.pin = (wire.pin + wire.slot) % 4;
        wire.slot = bridge->slot;
    }
    return wire;
}

static int route_by_prt(struct root_wire wire)
{
    for (unsigned i = 0; i < acpi.intx_count; i++) {
        if (acpi.intx[i].slot == wire.slot && acpi.intx[i].pin == wire.pin) {
            return route_gsi_pci(acpi.intx[i].gsi);
        }
    }
    return -ENOENT;
}

// The PIIX's ISA bridge, or NULL on other machines.
static const struct pci_dev *route_find_piix(void)
{
    static const uint16_t isa_bridges[] = {0x122e, 0x7000, 0x7110}; // PIIX, PIIX3, PIIX4
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        for (unsigned i = 0; i < ARRAY_SIZE(isa_bridges); i++) {
            if (dev->vendor == 0x8086 && dev->device == isa_bridges[i] && dev->bridge == NULL) {
                return dev;
            }
        }
    }
    return NULL;
}

static int route_by_piix(const struct pci_dev *dev, struct root_wire wire)
{
    const struct pci_dev *piix = route_find_piix();
    // Functions of the PIIX itself are wired inside the chip (power management to IRQ 9), not
    // through slot wires.
    if (piix == NULL || (dev->bus == piix->bus && dev->slot == piix->slot)) {
        return -ENOENT;
    }
    // The board: slot 1 is the PIIX, from there on the four wires are shifted by one a slot.
    unsigned pirq = (wire.slot + 3u + wire.pin) % 4;
    uint8_t route = pci_read8(piix, (uint16_t)(PIIX_PIRQ_ROUTE + pirq));
    if (route & PIIX_PIRQ_OFF) {
        return -ENOENT;
    }
    return route_gsi_pci(route & PIIX_PIRQ_IRQ);
}

static int route_by_line(const struct pci_dev *dev)
{
    if (dev->interrupt_line == 0 || dev->interrupt_line >= 16) {
        return -ENOENT; // 0 is the timer, 255 means "not connected" (PCI 3.0, 6.2.4)
    }
    int irq = route_isa(dev->interrupt_line);
    return irq < 0 ? irq : route_gsi_pci((unsigned)irq);
}

int pci_route_intx(const struct pci_dev *dev, const char **source)
{
    if (dev->pin < 1 || dev->pin > 4) {
        *source = NULL;
        return -1;
    }
    struct root_wire wire = route_swizzle(dev);
    int irq = route_by_prt(wire);
    *source = "DSDT";
    if (irq < 0) {
        irq = route_by_piix(dev, wire);
        *source = "PIIX";
    }
    if (irq < 0) {
        irq = route_by_line(dev);
        *source = "INTERRUPT_LINE";
    }
    if (irq < 0) {
        *source = "nothing: it can raise no interrupt";
        return -1;
    }
    return irq;
}
