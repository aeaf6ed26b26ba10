// From a vector to the handlers that asked for it: the interrupt core.
//
//   1 kernel/x86/entry.S     stub and save
//   2 kernel/interrupt.c     the spine                                             <- previous
//   3 <irq/desc.h>, flow.c   vector to descriptor, in line; when to mask and acknowledge, and the
//                            list of actions; this file, request.c and line.c are all around them
//   4 drivers/net/e1000/     the top half                                          <- next
//
// Three things that older kernels mixed are kept apart here, as in Linux's generic layer:
//
//   the chip      knows registers: mask, unmask, EOI. contract/irq_chip.h; kernel/x86/ioapic.c, MSI
//   the flow      knows when to do which of them: an edge is another story than a level. flow.c
//   the actions   know what to do about it: the drivers' handlers. request.c
//
// and a descriptor per irq ties one of each together; line.c starts, stills and moves it. Some
// vectors have no descriptor: the CPU's own timer and error inputs, and messages between CPUs. They
// are the kernel's, not a driver's; their handlers stand in a table of their own, below.
//
// Who may touch what: a descriptor is changed under its lock with interrupts off. The flow handlers
// take the same lock, but let go of it while handlers run, and read the action list without it;
// `in_progress` says so, and free_irq waits for it to fall to 0 between unlinking an action and
// freeing it. The counts are per CPU and written by that CPU alone.
//
// Context: irq_dispatch_system in hard irq; the rest: any. This layer knows no threads: what waits
// in it, spins. Next: flow.c, request.c, line.c.
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <x86/exception.h>
#include <x86/lapic.h>
#include <x86/pic.h>
#include <irq/desc.h>

enum { IRQ_PIC_FIRST = 0x20, IRQ_PIC_LAST = 0x2f };

struct irq_desc irq_descs[MAX_IRQS];
uint32_t irq_err_count;

struct irq_system {
    void (*fn)(void);   // I
    enum irq_stat stat; // I
};
static struct irq_system irq_system[256];
static uint32_t irq_stats[IRQ_STAT_COUNT][MAX_CPUS]; // C

// ---- descriptors and counts ----

struct irq_desc *irq_to_desc(unsigned irq)
{
    return irq < MAX_IRQS && READ_ONCE(irq_descs[irq].exists) ? &irq_descs[irq] : NULL;
}

unsigned irq_count(void)
{
    unsigned end = MAX_IRQS;
    while (end > 0 && !irq_descs[end - 1].exists) {
        end--;
    }
    return end;
}

uint64_t irq_desc_total(const struct irq_desc *desc)
{
    uint64_t total = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        total += READ_ONCE(desc->count[cpu]);
    }
    return total;
}

void irq_stat_inc(enum irq_stat stat)
{
    if (stat < IRQ_STAT_COUNT) {
        irq_stats[stat][cpu_id()]++;
    }
}

// NMI and machine check are exceptions by number, and counted where those are; retries of the
// command register are the APIC's.
uint32_t irq_stat_get(enum irq_stat stat, unsigned cpu)
{
    switch (stat) {
    case IRQ_STAT_NMI:
        return (uint32_t)exception_count(EXC_NMI, cpu);
    case IRQ_STAT_MCE:
        return (uint32_t)exception_count(EXC_MC, cpu);
    case IRQ_STAT_RTR:
        return lapic_icr_retries(cpu);
    default:
        return stat < IRQ_STAT_COUNT && cpu < MAX_CPUS ? READ_ONCE(irq_stats[stat][cpu]) : 0;
    }
}

uint64_t irq_total(unsigned cpu)
{
    return cpu < MAX_CPUS ? READ_ONCE(cpus[cpu].interrupts) + irq_stat_get(IRQ_STAT_NMI, cpu) +
                                irq_stat_get(IRQ_STAT_MCE, cpu)
                          : 0;
}

// ---- the way in ----

void irq_set_system_vector(uint8_t vector, enum irq_stat stat, void (*fn)(void))
{
    assert(irq_system[vector].fn == NULL || irq_system[vector].fn == fn);
    irq_system[vector].stat = stat;
    WRITE_ONCE(irq_system[vector].fn, fn); // last: the vector may come at once
}

// A vector that nobody asked for: a mistake of ours, a late message of a device that was just let
// go, or a chipset's. An EOI is owed exactly when the in-service bit is set: the spurious vector
// has none, and an 8259's comes past the local APIC.
static void irq_unexpected(uint8_t vector)
{
    bool in_service = lapic_isr_test(vector);
    if (in_service) {
        lapic_eoi();
    }
    if (vector == VECTOR_SPURIOUS && !in_service) {
        irq_stat_inc(IRQ_STAT_SPU); // a message was withdrawn on its way; harmless
        return;
    }
    __atomic_fetch_add(&irq_err_count, 1, __ATOMIC_RELAXED);
    if (!in_service && vector >= IRQ_PIC_FIRST && vector <= IRQ_PIC_LAST) {
        unsigned line = vector - IRQ_PIC_FIRST;
        bool real = pic_stray(line);
        pr_ratelimited(LOG_WARNING, "irq: CPU %u: %s interrupt %u from the 8259", cpu_id(),
                       real ? "stray" : "spurious", line);
        return;
    }
    pr_ratelimited(LOG_WARNING, "irq: CPU %u: no handler for vector 0x%02x", cpu_id(), vector);
}

// The kernel's own vectors: timer, messages between CPUs; and those that lead nowhere.
void irq_dispatch_system(struct cpu *cpu, uint8_t vector)
{
    cpu->interrupts++;
    void (*fn)(void) = READ_ONCE(irq_system[vector].fn);
    if (fn == NULL) {
        irq_unexpected(vector);
        return;
    }
    irq_stat_inc(irq_system[vector].stat);
    trace(TRACE_VECTOR_ENTRY, vector, 0);
    lapic_eoi();
    fn();
    trace(TRACE_VECTOR_EXIT, vector, 0);
}
