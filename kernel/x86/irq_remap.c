// What an interrupt on its way says: read from a wire's entry or a message, straight or through the
// remapping table.
//
// Context: any. The hardware behind it: drivers/iommu/vtd_remap.c.
#include <x86/irq_remap.h>
#include <x86/lapic.h>

const struct irq_remap_ops *irq_remap; // I

bool irq_message_decode(uint64_t address, uint32_t data, uint8_t *vector, uint32_t *apic_id)
{
    if ((address & ~0xfffffull) != MSI_ADDRESS_BASE) {
        return false;
    }
    if ((address & IRQ_REMAP_MESSAGE) != 0) {
        unsigned index = (unsigned)(address >> 5 & 0x7fff) | (unsigned)(address >> 2 & 1) << 15;
        return irq_remap != NULL && data == 0 && irq_remap->get(index, vector, apic_id);
    }
    *vector = (uint8_t)data;
    *apic_id = (uint32_t)(address >> MSI_ADDRESS_CPU_SHIFT & 0xff);
    return true;
}
