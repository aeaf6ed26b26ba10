// Which irq is which wire, and which vector on which CPU it becomes.
//
//   ISA line 4 ──MADT override or 1:1──> GSI 4  = irq 4  ──start──> vector 0x31 ──> CPU 0
//   PCI INTA   ──kernel's PCI bus──────> GSI 20 = irq 20 ──start──> vector 0x41 ──> CPU 1
//   MSI                                 irq 24 (after the last wire) ──────────> vector 0x51 ──> CPU 0
//
// One vector table for all CPUs: a vector means the same irq everywhere, so moving an irq to
// another CPU changes a destination and nothing else, and no CPU has a table of its own to keep in
// step. The price is 188 device vectors for the whole machine rather than for each CPU, which suits
// a kernel with dozens of irqs. (Linux has one table per CPU since large machines ran out.)
//
// The upper half of a vector is its priority at the local APIC, and early APICs kept only two
// interrupts a class: so vectors are dealt out class by class (0x31, 0x41, ... 0xe1, 0x32 ...), and
// a freed one is the last to be dealt again, which gives a late message time to show up as what it
// is.
//
// ACPI 6.4, 5.2.12.5; Intel SDM vol. 3, 11.8.3. Context: boot, then thread; the locks are its own.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <x86/acpi.h>
#include <x86/ioapic.h>
#include <x86/lapic.h>
#include <x86/segments.h>
#include <irq/desc.h>
#include <irq/ipi.h>
#include <irq/route.h>

enum {
    ROUTE_ISA_LINES = 16,
    ROUTE_CASCADE = 2, // joins the 8259s, and no device
    ROUTE_CLASS = 16,
    ROUTE_NONE = 0xffff,
    ROUTE_DRAIN_TRIES = 1000,
};

static DEFINE_SPINLOCK(route_lock);
struct irq_desc *route_vectors[256];
static uint8_t route_last = VECTOR_FIRST_DEVICE + 1 - ROUTE_CLASS; // L: dealt last
static uint16_t route_isa_gsi[ROUTE_ISA_LINES];                    // I
static bool route_fixed[MAX_IRQS]; // I: trigger and polarity come from the MADT

struct cpumask irq_default_affinity;

// ---- vectors ----

static uint8_t route_next_vector(uint8_t vector)
{
    unsigned next = vector + ROUTE_CLASS;
    if (next > VECTOR_LAST_DEVICE) { // the next place in each class
        next = VECTOR_FIRST_DEVICE + (vector + 1) % ROUTE_CLASS;
    }
    return (uint8_t)next;
}

uint8_t route_vector_alloc(unsigned irq)
{
    unsigned long flags;
    uint8_t found = 0;
    spin_lock_irqsave(&route_lock, flags);
    for (unsigned tries = VECTOR_LAST_DEVICE - VECTOR_FIRST_DEVICE + 1; tries > 0; tries--) {
        route_last = route_next_vector(route_last);
        if (route_vectors[route_last] == NULL && route_last != VECTOR_SYSCALL) {
            found = route_last;
            WRITE_ONCE(route_vectors[found], &irq_descs[irq]);
            break;
        }
    }
    spin_unlock_irqrestore(&route_lock, flags);
    return found;
}

void route_vector_free(uint8_t vector)
{
    unsigned long flags;
    spin_lock_irqsave(&route_lock, flags);
    WRITE_ONCE(route_vectors[vector], NULL);
    spin_unlock_irqrestore(&route_lock, flags);
}

unsigned route_vector_irq(uint8_t vector)
{
    const struct irq_desc *desc = READ_ONCE(route_vectors[vector]);
    return desc != NULL ? (unsigned)(desc - irq_descs) : (unsigned)MAX_IRQS;
}

// ---- CPUs ----

unsigned route_pick_cpu(const struct cpumask *mask)
{
    uint16_t load[MAX_CPUS] = {0};
    for (unsigned irq = 0; irq < MAX_IRQS; irq++) {
        if (irq_descs[irq].started) {
            load[irq_descs[irq].data.cpu]++;
        }
    }
    unsigned best = MAX_CPUS;
    for_each_cpu (cpu, mask) {
        if (cpumask_test(&cpu_online_mask, cpu) && (best == MAX_CPUS || load[cpu] < load[best])) {
            best = cpu;
        }
    }
    return best;
}

// ---- wires ----

// Firmware that gives a GSI to an ISA line also says how it is triggered; the first word on a GSI
// stands.
static void route_init_isa(const struct acpi_info *tables)
{
    for (unsigned line = 0; line < ROUTE_ISA_LINES; line++) {
        route_isa_gsi[line] = (uint16_t)(line == ROUTE_CASCADE ? ROUTE_NONE : line);
    }
    for (uint32_t i = 0; i < tables->override_count; i++) {
        const struct acpi_override *override = &tables->overrides[i];
        if (override->gsi >= MAX_IRQS || !irq_descs[override->gsi].exists) {
            pr_warn("irq: ISA line %u goes to GSI %u, which no IO-APIC has", override->source,
                    override->gsi);
            route_isa_gsi[override->source] = ROUTE_NONE;
            continue;
        }
        route_isa_gsi[override->source] = (uint16_t) override->gsi;
        // A line that gives way to another one's wire has none of its own: line 2 when line 0 sits
        // on GSI 2.
        for (unsigned line = 0; line < ROUTE_ISA_LINES; line++) {
            if (line != override->source && route_isa_gsi[line] == override->gsi) {
                route_isa_gsi[line] = ROUTE_NONE;
            }
        }
        struct irq_data *data = &irq_descs[override->gsi].data;
        data->level = override->level;
        data->active_low = override->active_low;
        route_fixed[override->gsi] = override->level;
    }
}

// PCI wires that the DSDT names with their trigger; ISA's, where a chipset routes PCI to them, have
// had their word already.
static void route_init_pci(const struct acpi_info *tables)
{
    for (uint32_t i = 0; i < tables->intx_count; i++) {
        const struct acpi_intx *intx = &tables->intx[i];
        struct irq_desc *desc = irq_to_desc(intx->gsi);
        if (desc != NULL && intx->gsi >= ROUTE_ISA_LINES) {
            desc->data.level = intx->level;
            desc->data.active_low = intx->active_low;
            route_fixed[intx->gsi] = true;
        }
    }
}

static void route_init_desc(struct irq_desc *desc, unsigned irq)
{
    spin_lock_init(&desc->lock, "irq_desc");
    lockdep_taken_by_interrupts(&desc->lock, (const void *)(uintptr_t)flow_edge);
    desc->data.irq = irq;
    desc->flow = flow_edge;
    desc->masked = true;
    desc->depth = 1;
}

void route_init(const struct acpi_info *tables)
{
    unsigned wires = ioapic_gsi_end();
    if (wires == 0) {
        pr_err("irq: no IO-APIC: devices can interrupt by message (MSI) only");
    }
    if (wires > MAX_IRQS / 2) {
        pr_warn("irq: %u wires, %d are used", wires, MAX_IRQS / 2);
        wires = MAX_IRQS / 2; // messages want numbers too
    }
    for (unsigned irq = 0; irq < MAX_IRQS; irq++) {
        route_init_desc(&irq_descs[irq], irq);
    }
    for (unsigned gsi = 0; gsi < wires; gsi++) {
        struct irq_desc *desc = &irq_descs[gsi];
        // ISA wires are edges, active high; PCI's are levels, active low (ACPI 6.4, 5.2.12.5; PCI
        // 3.0, 2.2.6).
        desc->data.level = gsi >= ROUTE_ISA_LINES;
        desc->data.active_low = gsi >= ROUTE_ISA_LINES;
        desc->exists = ioapic_irq_data(gsi, &desc->data) == 0;
    }
    route_init_isa(tables);
    route_init_pci(tables);
    for (unsigned gsi = 0; gsi < wires; gsi++) {
        irq_descs[gsi].flow = irq_descs[gsi].data.level ? flow_level : flow_edge;
    }
    if (cpumask_empty(&irq_default_affinity)) {
        memset(&irq_default_affinity, 0xff, sizeof(irq_default_affinity));
        for_each_cpu (cpu, &cpu_isolated_mask) {
            cpumask_clear(&irq_default_affinity, cpu);
        }
    }
}

int route_isa(unsigned line)
{
    if (line >= ROUTE_ISA_LINES || route_isa_gsi[line] == ROUTE_NONE ||
        irq_to_desc(route_isa_gsi[line]) == NULL) {
        return -ENOENT;
    }
    return route_isa_gsi[line];
}

int route_gsi_pci(unsigned gsi)
{
    struct irq_desc *desc = irq_to_desc(gsi);
    if (desc == NULL || desc->data.chip != &ioapic_chip) {
        return -ENOENT;
    }
    unsigned long flags;
    spin_lock_irqsave(&desc->lock, flags);
    if (!route_fixed[gsi] && desc->action == NULL) {
        desc->data.level = true;
        desc->data.active_low = true;
        desc->flow = flow_level;
    }
    spin_unlock_irqrestore(&desc->lock, flags);
    return (int)gsi;
}

// ---- messages ----

static struct irq_desc *route_free_desc(void)
{
    for (unsigned irq = max(ioapic_gsi_end(), (unsigned)ROUTE_ISA_LINES); irq < MAX_IRQS; irq++) {
        if (!irq_descs[irq].exists) {
            return &irq_descs[irq];
        }
    }
    return NULL;
}

int route_alloc_message(const struct irq_chip *chip, void *chip_data, unsigned hwirq)
{
    static DEFINE_SPINLOCK(route_message_lock); // two at once must not take the same number
    unsigned long flags;
    int result = -ENOSPC;
    spin_lock_irqsave(&route_message_lock, flags);
    struct irq_desc *desc = route_free_desc();
    if (desc != NULL) {
        unsigned irq = (unsigned)(desc - irq_descs);
        uint8_t vector = route_vector_alloc(irq);
        if (vector != 0) {
            spin_lock(&desc->lock);
            desc->data = (struct irq_data){
                .irq = irq, .hwirq = hwirq, .vector = vector, .chip = chip, .chip_data = chip_data};
            desc->affinity = desc->affinity_hint = desc->effective_affinity = (struct cpumask){0};
            irq_note_anew(desc);
            desc->last_unhandled_jiffies = 0;
            memset(desc->count, 0, sizeof(desc->count));
            WRITE_ONCE(desc->exists, true);
            spin_unlock(&desc->lock);
            result = (int)irq;
        }
    }
    spin_unlock_irqrestore(&route_message_lock, flags);
    return result;
}

struct route_drain {
    uint8_t vector;
    bool waiting; // it is in that CPU's IRR
};

static void route_look_at_irr(void *arg)
{
    struct route_drain *drain = arg;
    drain->waiting = lapic_irr_test(drain->vector);
}

// A message that the device sent before it was shut may still wait at the CPU. It is let through
// while the vector has its descriptor; afterwards nobody would know whose it was.
static void route_drain_message(const struct irq_desc *desc)
{
    struct route_drain drain = {.vector = desc->data.vector};
    for (unsigned tries = 0; tries < ROUTE_DRAIN_TRIES; tries++) {
        int err = smp_call_function_single(desc->data.cpu, route_look_at_irr, &drain, true);
        if (err != 0 || !drain.waiting) {
            return;
        }
        cpu_relax();
    }
}

// The descriptor keeps its lock, flow and chip: a CPU that was on its way in (and an emulated one
// may be held up there for long) finds a line without handlers, not a hole.
void route_free_message(unsigned irq)
{
    might_sleep();
    struct irq_desc *desc = irq_to_desc(irq);
    if (desc == NULL || desc->data.chip == &ioapic_chip || WARN_ON(desc->action != NULL)) {
        return;
    }
    route_drain_message(desc);
    WRITE_ONCE(desc->exists, false);
    route_vector_free(desc->data.vector);
    desc->data.vector = 0;
}

// ---- records ----

static int route_option_affinity(const char *value)
{
    struct cpumask mask;
    int err = cpumask_parse_list(value, MAX_CPUS, &mask);
    if (err == 0) {
        cpumask_set(&mask, 0); // the boot CPU at least is there
        irq_default_affinity = mask;
    }
    return err;
}
BOOT_OPTION("irqaffinity", route_option_affinity,
            "irqaffinity=0-1,4: the CPUs that interrupts go to unless told otherwise");
