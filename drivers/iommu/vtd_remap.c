// Interrupt remapping: the table in which a wire or a message is looked up before it reaches a CPU.
//
//   IO-APIC entry | MSI message           table (only the kernel writes it)
//     index n  ───────────────────>  n: [ present | vector | CPU | level? | whose it must be ]
//
// The index is the kernel's own number of the irq, so /proc/interrupts is also the table's key. An
// entry names the one requester that may use it; a message from anybody else is dropped. One table
// serves all units.
//
// Limits of QEMU 7.2: it does not check the requester of an IO-APIC's interrupts, lets interrupts
// in the old format through although they are not allowed, and writes no fault records for refused
// interrupts.
//
// VT-d specification rev. 3.3, 5.1 and 9.9. Context: any; a lock of its own, interrupts off.
// Previous: vtd_fault.c.
#include <lib/errno.h>
#include <core/log.h>
#include <x86/irq_remap.h>
#include <x86/lapic.h>
#include <mm/page.h>
#include <irq/desc.h>

#include "vtd.h"

enum { REMAP_LOG2 = 9, REMAP_ENTRIES = 1 << REMAP_LOG2 };
_Static_assert((int)MAX_IRQS <= (int)REMAP_ENTRIES, "each irq has an entry");

static struct vtd_irte *remap_table; // I; entries under the irq descriptors' locks
static struct vtd_unit *remap_units; // I
static unsigned remap_unit_count;    // I

static void remap_forget(unsigned index)
{
    struct vtd_descriptor work = {VTD_INV_INTERRUPT | VTD_INV_INDEX(index), 0};

    for (unsigned i = 0; i < remap_unit_count; i++) {
        vtd_unit_invalidate(&remap_units[i], &work, 1);
    }
}

// The half with the present bit last, when an entry is made, and first, when it changes hands: a
// unit that reads it in between sees it absent or whole. A change of vector or CPU alone is one
// write.
static void remap_set(const struct irq_data *data, int source)
{
    struct vtd_irte *entry = &remap_table[data->irq];
    uint64_t high = source >= 0 ? VTD_IRTE_CHECK_SOURCE | (uint16_t)source : 0;
    uint64_t low =
        VTD_PRESENT | VTD_IRTE_VECTOR(data->vector) | (data->level ? VTD_IRTE_LEVEL : 0) |
        (lapic_is_x2apic() ? VTD_IRTE_X2APIC(data->apic_id) : VTD_IRTE_XAPIC(data->apic_id));

    if (entry->high != high) {
        WRITE_ONCE(entry->low, 0);
        WRITE_ONCE(entry->high, high);
    }
    WRITE_ONCE(entry->low, low);
    remap_forget(data->irq);
}

static void remap_clear(const struct irq_data *data)
{
    WRITE_ONCE(remap_table[data->irq].low, 0);
    remap_forget(data->irq);
}

static bool remap_get(unsigned index, uint8_t *vector, uint32_t *apic_id)
{
    uint64_t low = index < REMAP_ENTRIES ? READ_ONCE(remap_table[index].low) : 0;

    *vector = (uint8_t)(low >> 16);
    *apic_id = (uint32_t)(lapic_is_x2apic() ? low >> 32 : low >> 40 & 0xff);
    return (low & VTD_PRESENT) != 0;
}

static const struct irq_remap_ops remap_ops = {
    .set = remap_set,
    .clear = remap_clear,
    .get = remap_get,
    .ioapic_source = vtd_ioapic_source,
};

// All units or none: a device behind one that does not remap could send what it likes.
static bool remap_possible(const struct vtd_unit *units, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        bool wide = (units[i].ecap & VTD_ECAP_EIM) != 0;

        if ((units[i].ecap & VTD_ECAP_IR) == 0 || (lapic_is_x2apic() && !wide)) {
            return false;
        }
    }
    return true;
}

static int remap_turn_on(struct vtd_unit *unit)
{
    struct vtd_descriptor all = {VTD_INV_INTERRUPTS_ALL, 0};

    vtd_wr64(unit, VTD_IRTA,
             virt_to_phys(remap_table) | VTD_IRTA_SIZE(REMAP_LOG2) |
                 (lapic_is_x2apic() ? VTD_IRTA_X2APIC : 0));
    int err = vtd_unit_command(unit, VTD_IRTP, true);
    if (err != 0) {
        return err;
    }
    vtd_unit_invalidate(unit, &all, 1);
    return vtd_unit_command(unit, VTD_IRE, true); // with CFI off: the old format is refused
}

int vtd_remap_start(struct vtd_unit *units, unsigned count)
{
    if (!remap_possible(units, count)) {
        pr_info("DMAR: interrupt remapping is not offered by all units: off");
        return -ENODEV;
    }
    // A block of pages is aligned to its size, and a page at least is what the unit wants.
    remap_table =
        alloc_pages(GFP_KERNEL | GFP_ZERO, page_order(REMAP_ENTRIES * sizeof(struct vtd_irte)));
    if (remap_table == NULL) {
        return -ENOMEM;
    }
    remap_units = units;
    remap_unit_count = count;
    for (unsigned i = 0; i < count; i++) {
        int err = remap_turn_on(&units[i]);
        if (err != 0) {
            while (i-- > 0) {
                vtd_unit_command(&units[i], VTD_IRE, false);
            }
            return err;
        }
    }
    irq_remap = &remap_ops;
    return 0;
}
