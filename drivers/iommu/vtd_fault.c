// A device did what it may not. The unit stops the access, writes a record, and interrupts:
//
//   DMAR: [DMA Write] Request device [00:04.0] fault addr 16ab000 [fault reason 0x05] PTE Write
//   access is not set
//
// Records are read and freed by a thread, a bounded number at a time. The unit drops what it has no
// record for and says so in a bit, which is counted: a device that faults without end costs some
// lines a second, not the machine.
//
// The message is sent when the first of it all comes, a record or that bit, and not again before
// all of it has been cleared (7.3.1):
//
//   nothing ──fault──> message ──> records taken, bit cleared ──> anything left? ──no──> nothing
//                                        ^────────── after a pause, if it is many ──yes──┘
//
// So the thread ends when the unit says that there is nothing left, and not before: what came
// between its look and its end would never be heard of, nor anything after it.
//
// VT-d specification rev. 3.3, 7.2 and 10.4.9 to 10.4.14. Context: see each function. Previous:
// vtd_domain.c. Next: vtd_remap.c.
#include <lib/errno.h>
#include <contract/irq_chip.h>
#include <core/log.h>
#include <x86/lapic.h>
#include <irq/irq.h>
#include <irq/route.h>
#include <sched/sleep.h>

#include "vtd.h"

enum { FAULT_ROUNDS = 256, FAULT_PAUSE_MS = 10 }; // a storm: so many records between two pauses

static const char *const fault_reasons[] = {
    [0x01] = "Present bit in root entry is clear",
    [0x02] = "Present bit in context entry is clear",
    [0x03] = "Invalid context entry",
    [0x04] = "Access beyond MGAW",
    [0x05] = "PTE Write access is not set",
    [0x06] = "PTE Read access is not set",
    [0x07] = "Next page table ptr is invalid",
    [0x08] = "Root table address invalid",
    [0x09] = "Context table ptr is invalid",
    [0x0a] = "non-zero reserved fields in RTP",
    [0x0b] = "non-zero reserved fields in CTP",
    [0x0c] = "non-zero reserved fields in PTE",
    [0x0d] = "PCE for translation request specifies blocking",
    [0x20] = "Detected reserved fields in the decoded IRTE index",
    [0x21] = "Interrupt index exceeded the interrupt-remapping table size",
    [0x22] = "Present field in the IRTE entry is clear",
    [0x23] = "Error accessing interrupt-remapping table pointed by IRTA_REG",
    [0x24] = "Detected reserved fields in the IRTE entry",
    [0x25] = "Blocked a compatibility format interrupt request",
    [0x26] = "Blocked an interrupt request due to source-id verification failure",
};

static const char *fault_reason(uint8_t reason)
{
    const char *known = reason < ARRAY_SIZE(fault_reasons) ? fault_reasons[reason] : NULL;

    return known != NULL ? known : "Unknown";
}

static void fault_say(const struct vtd_unit *unit, uint64_t low, uint64_t high)
{
    unsigned source = VTD_FAULT_SOURCE(high), reason = VTD_FAULT_REASON(high);

    if (reason >= VTD_REASON_INTERRUPT) {
        pr_ratelimited(LOG_ERR,
                       "DMAR: [INTR-REMAP] Request device [%02x:%02x.%u] fault index 0x%x [fault "
                       "reason 0x%02x] %s (dmar%u)",
                       source >> 8, source >> 3 & 0x1f, source & 7, VTD_FAULT_INDEX(low), reason,
                       fault_reason((uint8_t)reason), unit->index);
        return;
    }
    pr_ratelimited(LOG_ERR,
                   "DMAR: [DMA %s] Request device [%02x:%02x.%u] fault addr %llx [fault reason "
                   "0x%02x] %s",
                   (high & VTD_FAULT_READ) != 0 ? "Read" : "Write", source >> 8, source >> 3 & 0x1f,
                   source & 7, (unsigned long long)VTD_FAULT_ADDRESS(low), reason,
                   fault_reason((uint8_t)reason));
}

// A word of a record, which is registers too.
static enum vtd_register fault_register(const struct vtd_unit *unit, unsigned index, unsigned at)
{
    return (enum vtd_register)(VTD_CAP_FRO(unit->cap) + index * VTD_FAULT_SIZE + at);
}

static void fault_count(struct vtd_unit *unit, uint16_t requester)
{
    unsigned long flags;

    spin_lock_irqsave(&unit->lock, flags);
    unit->faults++;
    struct vtd_domain *domain = vtd_domain_of_requester(unit, requester);
    if (domain != NULL) {
        domain->faults++;
    }
    spin_unlock_irqrestore(&unit->lock, flags);
}

// One record, if there is one: read it, free it, tell of it.
static bool fault_take(struct vtd_unit *unit, unsigned index)
{
    uint64_t high = vtd_rd64(unit, fault_register(unit, index, 8));

    if ((high & VTD_FAULT_VALID) == 0) {
        return false;
    }
    uint64_t low = vtd_rd64(unit, fault_register(unit, index, 0));
    vtd_wr(unit, fault_register(unit, index, 12), VTD_FAULT_VALID_HIGH);
    fault_count(unit, VTD_FAULT_SOURCE(high));
    fault_say(unit, low, high);
    return true;
}

// Takes what there is, up to FAULT_ROUNDS in *taken. True: more has come meanwhile.
static bool fault_look(struct vtd_unit *unit, unsigned *taken)
{
    unsigned records = (unsigned)VTD_CAP_NFR(unit->cap), before = *taken;
    unsigned index = VTD_FSTS_RECORD(vtd_rd(unit, VTD_FSTS)) % records; // its word: held in range

    while (*taken < FAULT_ROUNDS && fault_take(unit, index)) {
        index = (index + 1) % records;
        (*taken)++;
    }
    // Looked at behind the records: it may have come up while they were read, and as long as it
    // stands the unit records nothing.
    if ((vtd_rd(unit, VTD_FSTS) & VTD_FSTS_OVERFLOW) != 0) {
        unit->faults_lost++;
        vtd_wr(unit, VTD_FSTS, VTD_FSTS_OVERFLOW);
        (*taken)++;
    }
    // A unit that says so, and has nothing, is not asked for ever.
    return *taken != before &&
           (vtd_rd(unit, VTD_FSTS) & (VTD_FSTS_OVERFLOW | VTD_FSTS_PENDING)) != 0;
}

// Context: thread irq/N-dmar0.
static irqreturn_t fault_thread(int irq, void *dev_id)
{
    (void)irq;
    struct vtd_unit *unit = dev_id;
    unsigned taken = 0;

    while (fault_look(unit, &taken)) {
        if (taken >= FAULT_ROUNDS) {
            msleep(FAULT_PAUSE_MS);
            taken = 0;
        }
    }
    return IRQ_HANDLED;
}

void vtd_fault_clear(struct vtd_unit *unit)
{
    for (unsigned i = 0; i < VTD_CAP_NFR(unit->cap); i++) {
        vtd_wr(unit, fault_register(unit, i, 12), VTD_FAULT_VALID_HIGH);
    }
    vtd_wr(unit, VTD_FSTS, VTD_FSTS_OVERFLOW | VTD_FSTS_QUEUE_ERRORS);
}

// ---- its interrupt: a message of the unit's own, which no remapping touches ---------------------

static void fault_irq_mask(struct irq_data *data)
{
    vtd_wr(data->chip_data, VTD_FECTL, VTD_FECTL_MASKED);
}

static void fault_irq_unmask(struct irq_data *data)
{
    vtd_wr(data->chip_data, VTD_FECTL, 0);
}

static int fault_irq_set_affinity(struct irq_data *data)
{
    vtd_wr(data->chip_data, VTD_FEADDR, MSI_ADDRESS_BASE | data->apic_id << MSI_ADDRESS_CPU_SHIFT);
    return 0;
}

static void fault_irq_startup(struct irq_data *data)
{
    const struct vtd_unit *unit = data->chip_data;

    vtd_wr(unit, VTD_FEDATA, MSI_DATA_FIXED_EDGE(data->vector));
    vtd_wr(unit, VTD_FEUADDR, 0);
    fault_irq_set_affinity(data);
    fault_irq_unmask(data);
}

static const struct irq_chip fault_chip = {
    .oneshot_safe = true,
    .name = "DMAR-MSI",
    .irq_startup = fault_irq_startup,
    .irq_shutdown = fault_irq_mask,
    .irq_mask = fault_irq_mask,
    .irq_unmask = fault_irq_unmask,
    .irq_set_affinity = fault_irq_set_affinity,
    .irq_retrigger = lapic_irq_retrigger,
};

int vtd_fault_start(struct vtd_unit *unit)
{
    static const char *const names[] = {"dmar0", "dmar1", "dmar2", "dmar3",
                                        "dmar4", "dmar5", "dmar6", "dmar7"};
    int irq = route_alloc_message(&fault_chip, unit, unit->index);

    if (irq < 0) {
        return irq;
    }
    int err = request_threaded_irq((unsigned)irq, NULL, fault_thread, 0, names[unit->index], unit);
    if (err != 0) {
        route_free_message((unsigned)irq);
        return err;
    }
    unit->irq = irq;
    fault_thread(irq, unit); // what came before anybody listened: a record in use sends no message
    return 0;
}
