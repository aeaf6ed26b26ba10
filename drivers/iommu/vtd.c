// Intel VT-d: translation hardware between devices and memory. What page tables are to programs,
// this is to devices: each reaches only what it was given, and only while it was given.
//
//                      requester (bus, slot, function) picks
//   device ── bus address ──> [ roots ]──>[ contexts ]──> domain's tables ──> memory
//                              by bus      by slot,           |
//                                          function           +--> nothing there: the access is
//                                                                  stopped, a fault is told
//   device ── write to 0xfee..... ──> [ interrupt table ] ──> vector, CPU   (vtd_remap.c)
//
// Every device gets a domain of its own when it first asks kernel/dma for an address; those behind
// a bridge to conventional PCI, which all arrive under the bridge's name, one together. Before, and
// for a device that never asks, there is no context, and every access is a fault. That is the
// point: a driver's mistake or a device gone mad meets a hole instead of the kernel.
//
//   intel_iommu=on   use it (as in Linux it is off unless asked for)
//   iommu=pt         pass-through: domains that translate nothing; interrupts are remapped still
//   iommu.strict=0   lazy unmapping (vtd_domain.c)
//   intremap=off     no interrupt remapping
//
// VT-d specification rev. 3.3, 3.4 and 9.1 to 9.4. Context: map and unmap: any; the rest as each
// says. Next: vtd_unit.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/log.h>
#include <x86/irq_remap.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <defer/timer.h>
#include <dma/iommu.h>
#include <iommu/iommu.h>

#include "dmar.h"
#include "vtd.h"

enum { VTD_LAZY_TICKS = HZ / 100 + 1 }; // how long an unmapped range may wait

static struct dmar vtd_dmar;                            // I
static struct vtd_unit vtd_units[DMAR_MAX_UNITS];       // I: [0, vtd_unit_count)
static unsigned vtd_unit_count;                         // I: 0: off
static struct vtd_domain *vtd_domains[VTD_MAX_DOMAINS]; // L of vtd_attach_lock; index is the id
static DEFINE_SPINLOCK(vtd_attach_lock);
static struct timer_list vtd_lazy_timer;

static bool vtd_wanted, vtd_pass, vtd_lazy; // I: boot options
static bool vtd_no_remap;                   // I

// ---- attaching a device -------------------------------------------------------------------------

static struct vtd_context_entry *vtd_context_locked(struct vtd_unit *unit, uint16_t requester)
{
    struct vtd_root_entry *root = &unit->roots[requester >> 8];

    if ((root->low & VTD_PRESENT) == 0) {
        void *table = alloc_page(GFP_ATOMIC | GFP_ZERO);
        if (table == NULL) {
            return NULL;
        }
        WRITE_ONCE(root->low, virt_to_phys(table) | VTD_PRESENT);
    }
    struct vtd_context_entry *table = phys_to_virt(root->low & VTD_PTE_ADDRESS);
    return &table[requester & 0xff];
}

// The present bit is in the low half: it is written last, and taken first.
static int vtd_set_context(struct vtd_domain *domain, bool present)
{
    struct vtd_unit *unit = domain->unit;
    unsigned long flags;

    spin_lock_irqsave(&unit->lock, flags);
    struct vtd_context_entry *entry = vtd_context_locked(unit, domain->requester);
    if (entry != NULL) {
        WRITE_ONCE(entry->low, 0);
        WRITE_ONCE(entry->high, VTD_CONTEXT_DOMAIN(domain->id) | VTD_CONTEXT_WIDTH(unit->levels));
        if (present) {
            WRITE_ONCE(entry->low,
                       (domain->passes ? VTD_CONTEXT_PASS : virt_to_phys(domain->root)) |
                           VTD_PRESENT);
        }
        domain->denied = !present;
    }
    spin_unlock_irqrestore(&unit->lock, flags);
    if (entry == NULL) {
        return -ENOMEM;
    }
    struct vtd_descriptor work[] = {
        {VTD_INV_CONTEXT_DEVICE | VTD_INV_DOMAIN(domain->id) | VTD_INV_SOURCE(domain->requester),
         0},
        {VTD_INV_IOTLB_DOMAIN | VTD_INV_IOTLB_DRAIN | VTD_INV_DOMAIN(domain->id), 0},
    };
    vtd_unit_invalidate(unit, work, ARRAY_SIZE(work));
    return 0;
}

static int vtd_map_reserved(struct vtd_domain *domain, const struct device *dev)
{
    const struct dmar_reserved *reserved;
    int err = 0;

    for (unsigned i = 0;
         err == 0 && (reserved = dmar_reserved_of(&vtd_dmar, domain->segment, dev->requester, i));
         i++) {
        err = vtd_domain_map_same(domain, reserved->start, reserved->end);
    }
    return err;
}

static struct vtd_domain *vtd_make_domain_locked(struct device *dev, struct vtd_unit *unit)
{
    uint16_t id = 1;

    while (id < VTD_MAX_DOMAINS && vtd_domains[id] != NULL) {
        id++;
    }
    if (id == VTD_MAX_DOMAINS || id >= 16u << 2 * (unit->cap & VTD_CAP_DOMAINS)) {
        pr_err("DMAR: no domain is left for %s: it cannot do DMA", dev->name);
        return NULL;
    }
    struct vtd_domain *domain = vtd_domain_create(unit, id);
    if (domain == NULL) {
        return NULL;
    }
    strscpy(domain->name, dev->name, sizeof(domain->name));
    domain->segment = dev->segment;
    domain->requester = dev->source;
    domain->passes = vtd_pass && (unit->ecap & VTD_ECAP_PT) != 0;
    vtd_domains[id] = domain;
    return domain;
}

// The domain stays when the driver goes, as the device does.
static struct vtd_domain *vtd_attach(struct device *dev)
{
    int index = dmar_unit_of(&vtd_dmar, dev->segment, dev->requester, dev->upstream);
    unsigned long flags;

    if (index < 0 || (unsigned)index >= vtd_unit_count) {
        pr_ratelimited(LOG_ERR, "DMAR: no unit serves %s: it cannot do DMA", dev->name);
        return NULL;
    }
    spin_lock_irqsave(&vtd_attach_lock, flags);
    // Somebody may have been faster, or another device arrives under the same name.
    struct vtd_domain *domain = vtd_domain_of_requester(&vtd_units[index], dev->source);
    if (domain == NULL) {
        domain = vtd_make_domain_locked(dev, &vtd_units[index]);
        if (domain != NULL &&
            (vtd_map_reserved(domain, dev) != 0 || vtd_set_context(domain, true) != 0)) {
            pr_err("DMAR: no memory for the tables of %s", dev->name); // it faults, and says why
        }
    }
    __atomic_store_n(&dev->translation, domain, __ATOMIC_RELEASE);
    spin_unlock_irqrestore(&vtd_attach_lock, flags);
    return domain;
}

static struct vtd_domain *vtd_domain_of(struct device *dev)
{
    struct vtd_domain *domain = __atomic_load_n(&dev->translation, __ATOMIC_ACQUIRE);

    return likely(domain != NULL) ? domain : vtd_attach(dev);
}

struct vtd_domain *vtd_domain_of_requester(const struct vtd_unit *unit, uint16_t requester)
{
    for (unsigned id = 1; id < VTD_MAX_DOMAINS; id++) {
        struct vtd_domain *domain = READ_ONCE(vtd_domains[id]);

        if (domain != NULL && domain->unit == unit && domain->requester == requester) {
            return domain;
        }
    }
    return NULL;
}

// ---- what kernel/dma asks for -------------------------------------------------------------------

const char *iommu_mode(struct device *dev)
{
    const struct vtd_domain *domain = iommu_is_on() ? vtd_domain_of(dev) : NULL;

    return domain == NULL ? "none" : domain->passes ? "pass-through" : vtd_lazy ? "lazy" : "strict";
}

static uint64_t vtd_map(struct device *dev, phys_t phys, size_t size,
                        enum dma_data_direction direction)
{
    static const uint8_t bits[] = {
        [DMA_BIDIRECTIONAL] = VTD_PTE_READ | VTD_PTE_WRITE,
        [DMA_TO_DEVICE] = VTD_PTE_READ, // the device reads
        [DMA_FROM_DEVICE] = VTD_PTE_WRITE,
    };
    struct vtd_domain *domain = vtd_domain_of(dev);

    if (unlikely(domain == NULL)) {
        return DMA_NO_ADDRESS;
    }
    return domain->passes ? phys
                          : vtd_domain_map(domain, phys, size, bits[direction], dev->dma_mask);
}

static void vtd_unmap(struct device *dev, uint64_t bus, size_t size)
{
    struct vtd_domain *domain = vtd_domain_of(dev);

    if (unlikely(domain == NULL || domain->passes)) {
        return;
    }
    vtd_domain_unmap(domain, bus, size, !vtd_lazy);
    if (vtd_lazy && !timer_pending(&vtd_lazy_timer)) {
        mod_timer(&vtd_lazy_timer, jiffies + VTD_LAZY_TICKS);
    }
}

static bool vtd_translates(struct device *dev)
{
    const struct vtd_domain *domain = vtd_domain_of(dev);

    return domain != NULL && !domain->passes;
}

static uint64_t vtd_translate(struct device *dev, uint64_t bus)
{
    struct vtd_domain *domain = vtd_domain_of(dev);

    if (unlikely(domain == NULL)) {
        return DMA_NO_ADDRESS;
    }
    return domain->passes ? bus : vtd_domain_translate(domain, bus);
}

static const struct iommu_ops vtd_ops = {
    .map = vtd_map,
    .unmap = vtd_unmap,
    .translates = vtd_translates,
    .translate = vtd_translate,
};

// Context: softirq.
static void vtd_flush_lazy(struct timer_list *timer)
{
    (void)timer;
    for (unsigned id = 1; id < VTD_MAX_DOMAINS; id++) {
        struct vtd_domain *domain = READ_ONCE(vtd_domains[id]);

        if (domain != NULL) {
            vtd_domain_flush_lazy(domain);
        }
    }
}

// ---- a person's word ----------------------------------------------------------------------------

bool iommu_is_on(void)
{
    return vtd_unit_count > 0;
}

int iommu_deny(struct device *dev, bool deny)
{
    might_sleep();
    struct vtd_domain *domain = __atomic_load_n(&dev->translation, __ATOMIC_ACQUIRE);

    if (domain == NULL) {
        return -ENODEV;
    }
    return vtd_set_context(domain, !deny);
}

uint64_t iommu_fault_count(const struct device *dev)
{
    const struct vtd_domain *domain = __atomic_load_n(&dev->translation, __ATOMIC_ACQUIRE);

    return domain != NULL ? READ_ONCE(domain->faults) : 0;
}

static void vtd_show_unit(struct text *t, const struct vtd_unit *unit)
{
    uint32_t status = vtd_rd(unit, VTD_GSTS);

    text_printf(t, "dmar%u: %u levels, translation %s, interrupt remapping %s, %s unmapping\n",
                unit->index, unit->levels, (status & VTD_TE) != 0 ? "on" : "off",
                (status & VTD_IRE) != 0 ? "on" : "off", vtd_lazy ? "lazy" : "strict");
    text_printf(t, "  flushes %llu, faults %llu, times that faults were lost %llu%s\n",
                (unsigned long long)unit->flushes, (unsigned long long)unit->faults,
                (unsigned long long)unit->faults_lost,
                unit->broken ? ", DOES NOT ANSWER INVALIDATIONS" : "");
}

static void vtd_show_domain(struct text *t, const struct vtd_domain *domain)
{
    text_printf(t, "%6u  %-14s %-8s %8u %6u %10llu %10llu %7llu\n", domain->id, domain->name,
                domain->denied   ? "denied"
                : domain->passes ? "passes"
                                 : "own",
                domain->pages, domain->tables, (unsigned long long)domain->maps,
                (unsigned long long)domain->unmaps, (unsigned long long)domain->faults);
}

void iommu_show(struct text *t)
{
    if (!iommu_is_on()) {
        text_puts(t, vtd_wanted ? "off: no unit was found that can be used\n"
                                : "off: boot with intel_iommu=on to use it\n");
        return;
    }
    for (unsigned i = 0; i < vtd_unit_count; i++) {
        vtd_show_unit(t, &vtd_units[i]);
    }
    text_puts(t, "domain  device         memory      pages tables       maps     unmaps  faults\n");
    for (unsigned id = 1; id < VTD_MAX_DOMAINS; id++) {
        if (READ_ONCE(vtd_domains[id]) != NULL) {
            vtd_show_domain(t, vtd_domains[id]);
        }
    }
}

// Runs of pages that follow each other on both sides are one line.
void iommu_show_mappings(struct text *t, const struct device *dev)
{
    struct vtd_domain *domain = __atomic_load_n(&dev->translation, __ATOMIC_ACQUIRE);
    uint64_t start = 0, phys_start = 0, length = 0;

    if (domain == NULL || domain->passes) {
        text_puts(t, domain == NULL ? "it has no domain: it never asked for DMA\n"
                                    : "every address goes through as it is (iommu=pt)\n");
        return;
    }
    text_puts(t, "bus address          physical address     bytes\n");
    for (uint64_t bus = VTD_FIRST_ADDRESS; bus <= VTD_END_ADDRESS; bus += PAGE_SIZE) {
        uint64_t phys = bus < VTD_END_ADDRESS ? vtd_domain_translate(domain, bus) : UINT64_MAX;

        if (length > 0 && phys != phys_start + length) {
            text_printf(t, "%#018llx   %#018llx   %llu\n", (unsigned long long)start,
                        (unsigned long long)phys_start, (unsigned long long)length);
            length = 0;
        }
        if (phys != UINT64_MAX) {
            start = length == 0 ? bus : start;
            phys_start = length == 0 ? phys : phys_start;
            length += PAGE_SIZE;
        }
    }
}

static void vtd_proc_show(struct text *t, unsigned long index)
{
    (void)index;
    iommu_show(t);
}
PROC_FILE("iommu", vtd_proc_show);

// ---- the start ----------------------------------------------------------------------------------

int vtd_ioapic_source(uint32_t ioapic_id)
{
    for (unsigned i = 0; i < vtd_dmar.scope_count; i++) {
        const struct dmar_scope *scope = &vtd_dmar.scopes[i];

        if (scope->type == DMAR_IOAPIC && !scope->reserved && scope->id == ioapic_id) {
            return scope->bus << 8 | scope->slot << 3 | scope->function;
        }
    }
    return IRQ_REMAP_ANY_SOURCE;
}

// All or none: a unit that stays off would let its devices reach everything.
static int vtd_turn_on(void)
{
    struct vtd_descriptor all[] = {{VTD_INV_CONTEXT_ALL, 0},
                                   {VTD_INV_IOTLB_ALL | VTD_INV_IOTLB_DRAIN, 0}};
    int err = 0;

    for (unsigned i = 0; i < vtd_dmar.unit_count && err == 0; i++) {
        err = vtd_unit_init(&vtd_units[i], i, vtd_dmar.units[i].base);
    }
    for (unsigned i = 0; i < vtd_dmar.unit_count && err == 0; i++) {
        struct vtd_unit *unit = &vtd_units[i];

        vtd_wr64(unit, VTD_RTADDR, virt_to_phys(unit->roots));
        err = vtd_unit_command(unit, VTD_RTP, true);
        vtd_unit_invalidate(unit, all, ARRAY_SIZE(all));
        if (err == 0) {
            err = vtd_unit_command(unit, VTD_TE, true);
        }
    }
    return err;
}

static void vtd_turn_off(void)
{
    for (unsigned i = 0; i < vtd_dmar.unit_count; i++) {
        if (vtd_units[i].regs != NULL) {
            vtd_unit_command(&vtd_units[i], VTD_TE, false);
        }
    }
}

void iommu_init(const void *table, size_t size)
{
    if (!vtd_wanted) {
        return;
    }
    int err = table != NULL ? dmar_parse(table, size, &vtd_dmar) : -ENODEV;
    dmar_refuse_reserved(&vtd_dmar, page_overlaps_ram);
    for (unsigned i = 0; i < vtd_dmar.note_count; i++) {
        pr_warn("%s", vtd_dmar.notes[i]);
    }
    if (err == 0) {
        err = vtd_turn_on();
        if (err != 0) {
            vtd_turn_off();
        }
    }
    if (err != 0) {
        pr_warn("DMAR: intel_iommu=on, but there is no unit that can be used (error %d): devices "
                "reach all of memory (QEMU: -device intel-iommu before the other devices)",
                err);
        return;
    }
    vtd_unit_count = vtd_dmar.unit_count;
    timer_setup(&vtd_lazy_timer, vtd_flush_lazy, 0);
    dma_iommu = &vtd_ops;
    if (!vtd_no_remap && vtd_dmar.can_remap_interrupts &&
        vtd_remap_start(vtd_units, vtd_unit_count) == 0) {
        pr_info("DMAR: interrupts are remapped");
    }
}

void iommu_start(void)
{
    might_sleep();
    for (unsigned i = 0; i < vtd_unit_count; i++) {
        int err = vtd_fault_start(&vtd_units[i]);
        if (err != 0) {
            pr_err("DMAR: dmar%u has no interrupt (error %d): its faults are not told", i, err);
        }
    }
}

static int vtd_option(const char *value)
{
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
        return -EINVAL;
    }
    vtd_wanted = strcmp(value, "on") == 0;
    return 0;
}
BOOT_OPTION("intel_iommu", vtd_option, "intel_iommu=on: devices reach only what they were given");

static int vtd_option_pass(const char *value)
{
    vtd_pass = strcmp(value, "pt") == 0;
    return vtd_pass ? 0 : -EINVAL;
}
BOOT_OPTION("iommu", vtd_option_pass, "iommu=pt: addresses go through as they are");

static int vtd_option_strict(const char *value)
{
    if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0) {
        return -EINVAL;
    }
    vtd_lazy = value[0] == '0';
    return 0;
}
BOOT_OPTION("iommu.strict", vtd_option_strict,
            "iommu.strict=0: unmapped ranges wait for one flush");

static int vtd_option_remap(const char *value)
{
    vtd_no_remap = strcmp(value, "off") == 0;
    return vtd_no_remap ? 0 : -EINVAL;
}
BOOT_OPTION("intremap", vtd_option_remap, "intremap=off: interrupts are not remapped");
