// One remapping unit: its registers, its commands, and the queue by which it is told to forget.
//
// The unit caches what it read from the tables. After a table was changed, it must be told: that is
// done by descriptors in a ring in memory, which it reads in order.
//
//   slot     0        1        2        3
//        [ forget | wait  |        |        ...      ]
//          ^ head: the unit reads here      ^ tail: software writes here
//
// Slots [head, tail) belong to the unit. Each batch ends with a wait descriptor, for which the unit
// writes a sequence number to memory when all before it is done; that is what we wait for.
//
// VT-d specification rev. 3.3, 6.5.2 and 10.4. Context: any; the unit's lock, interrupts off.
// Previous: vtd.c. Next: vtd_domain.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/io.h>
#include <core/log.h>
#include <mm/map.h>
#include <mm/page.h>

#include "vtd.h"

#define VTD_PATIENCE_NS 1000000000ull // for one answer; a hang detector

uint32_t vtd_rd(const struct vtd_unit *unit, enum vtd_register reg)
{
    return readl(unit->regs + reg);
}

uint64_t vtd_rd64(const struct vtd_unit *unit, enum vtd_register reg)
{
    return readq(unit->regs + reg);
}

void vtd_wr(const struct vtd_unit *unit, enum vtd_register reg, uint32_t value)
{
    writel(value, unit->regs + reg);
}

void vtd_wr64(const struct vtd_unit *unit, enum vtd_register reg, uint64_t value)
{
    writeq(value, unit->regs + reg);
}

// ---- commands -----------------------------------------------------------------------------------

int vtd_unit_command(struct vtd_unit *unit, uint32_t bit, bool on)
{
    uint32_t keep = vtd_rd(unit, VTD_GSTS) & ~VTD_GSTS_ONCE & ~bit;
    uint64_t end = clock_ns() + VTD_PATIENCE_NS;

    vtd_wr(unit, VTD_GCMD, keep | (on ? bit : 0));
    while (((vtd_rd(unit, VTD_GSTS) & bit) != 0) != on) {
        if (clock_ns() > end) {
            pr_err("DMAR: dmar%u does not carry out command 0x%x (status 0x%x)", unit->index, bit,
                   vtd_rd(unit, VTD_GSTS));
            return -ETIMEDOUT;
        }
        cpu_relax();
    }
    return 0;
}

// ---- the queue ----------------------------------------------------------------------------------

static void vtd_queue_put_locked(struct vtd_unit *unit, uint64_t low, uint64_t high)
{
    unit->queue[unit->tail] = (struct vtd_descriptor){low, high};
    unit->tail = (unit->tail + 1) % VTD_QUEUE_SIZE;
}

// A unit that refused a descriptor stops reading: the error must be cleared, or it never goes on.
static void vtd_queue_give_up_locked(struct vtd_unit *unit)
{
    uint32_t status = vtd_rd(unit, VTD_FSTS) & VTD_FSTS_QUEUE_ERRORS;

    if (!unit->broken) {
        unit->broken = true;
        pr_err("DMAR: dmar%u does not answer invalidations (status 0x%x, head 0x%llx, tail "
               "0x%llx): what devices may reach can be out of date",
               unit->index, status, (unsigned long long)vtd_rd64(unit, VTD_IQH),
               (unsigned long long)vtd_rd64(unit, VTD_IQT));
    }
    vtd_wr(unit, VTD_FSTS, status);
}

// Everything before is done when the number arrives. One batch is under way at a time, so the queue
// never fills.
static void vtd_queue_wait_locked(struct vtd_unit *unit)
{
    uint64_t end = 0;
    unsigned rounds = 0;

    unit->sequence++;
    vtd_queue_put_locked(unit, VTD_INV_WAIT | VTD_INV_WAIT_DATA(unit->sequence),
                         virt_to_phys(unit->done));
    vtd_wr64(unit, VTD_IQT, (uint64_t)unit->tail * sizeof(struct vtd_descriptor));
    while (READ_ONCE(*unit->done) != unit->sequence) {
        cpu_relax();
        if (++rounds % 1024 != 0) {
            continue; // the clock is dearer than the look
        }
        uint64_t now = clock_ns();
        end = end != 0 ? end : now + VTD_PATIENCE_NS;
        if (now > end) {
            vtd_queue_give_up_locked(unit);
            return;
        }
    }
}

void vtd_unit_invalidate(struct vtd_unit *unit, const struct vtd_descriptor *work, unsigned count)
{
    unsigned long flags;

    spin_lock_irqsave(&unit->lock, flags);
    if (!unit->broken) {
        for (unsigned i = 0; i < count; i++) {
            vtd_queue_put_locked(unit, work[i].low, work[i].high);
        }
        unit->flushes++;
        vtd_queue_wait_locked(unit);
    }
    spin_unlock_irqrestore(&unit->lock, flags);
}

// ---- the start ----------------------------------------------------------------------------------

static int vtd_unit_check(struct vtd_unit *unit)
{
    if (unit->cap == UINT64_MAX || unit->cap == 0) {
        pr_warn("DMAR: nothing answers where dmar%u should be: not used", unit->index);
        return -ENODEV;
    }
    unit->levels = (unit->cap & VTD_CAP_SAGAW_39) != 0 ? 3 : 4;
    if ((unit->cap & (VTD_CAP_SAGAW_39 | VTD_CAP_SAGAW_48)) == 0 ||
        (unit->ecap & VTD_ECAP_QI) == 0 ||
        VTD_CAP_FRO(unit->cap) + VTD_CAP_NFR(unit->cap) * VTD_FAULT_SIZE > VTD_MEMORY_SIZE) {
        pr_warn("DMAR: dmar%u lacks three- or four-level tables or the invalidation queue "
                "(cap 0x%llx, ecap 0x%llx): not used",
                unit->index, (unsigned long long)unit->cap, (unsigned long long)unit->ecap);
        return -ENODEV;
    }
    return 0;
}

// Off with what firmware or an earlier kernel left on: its tables are not ours.
static int vtd_unit_quiet(struct vtd_unit *unit)
{
    static const uint32_t bits[] = {VTD_TE, VTD_IRE, VTD_QIE};
    int err = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(bits) && err == 0; i++) {
        if ((vtd_rd(unit, VTD_GSTS) & bits[i]) != 0) {
            err = vtd_unit_command(unit, bits[i], false);
        }
    }
    return err;
}

// The roots, the queue and the word that it answers with: one page each, the last one shared with
// nobody.
static int vtd_unit_alloc(struct vtd_unit *unit)
{
    unit->roots = alloc_page(GFP_KERNEL | GFP_ZERO);
    unit->queue = alloc_page(GFP_KERNEL | GFP_ZERO);
    unit->done = alloc_page(GFP_KERNEL | GFP_ZERO);
    if (unit->roots != NULL && unit->queue != NULL && unit->done != NULL) {
        return 0;
    }
    void *pages[] = {unit->roots, unit->queue, unit->done};
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
        if (pages[i] != NULL) {
            free_page(pages[i]);
        }
    }
    return -ENOMEM;
}

int vtd_unit_init(struct vtd_unit *unit, unsigned index, uint64_t base)
{
    int err = -ENOMEM;

    unit->index = index;
    unit->irq = -1;
    spin_lock_init(&unit->lock, "dmar unit");
    unit->regs = ioremap(base, VTD_MEMORY_SIZE);
    if (unit->regs == NULL) {
        return err;
    }
    unit->cap = vtd_rd64(unit, VTD_CAP);
    unit->ecap = vtd_rd64(unit, VTD_ECAP);
    err = vtd_unit_check(unit);
    if (err == 0) {
        err = vtd_unit_quiet(unit);
    }
    if (err == 0) {
        err = vtd_unit_alloc(unit);
    }
    if (err != 0) {
        iounmap(unit->regs);
        unit->regs = NULL; // nobody turns off what is not there
        return err;
    }
    vtd_fault_clear(unit);
    vtd_wr64(unit, VTD_IQT, 0);
    vtd_wr64(unit, VTD_IQA, virt_to_phys(unit->queue));
    err = vtd_unit_command(unit, VTD_QIE, true);
    pr_info("DMAR: dmar%u at 0x%llx, version %u.%u, %u bits, %u levels%s%s", index,
            (unsigned long long)base, vtd_rd(unit, VTD_VER) >> 4 & 0xf, vtd_rd(unit, VTD_VER) & 0xf,
            (unsigned)VTD_CAP_MGAW(unit->cap), unit->levels,
            (unit->ecap & VTD_ECAP_PT) != 0 ? ", pass-through" : "",
            (unit->ecap & VTD_ECAP_IR) != 0 ? ", interrupt remapping" : "");
    return err;
}
