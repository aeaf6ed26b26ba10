// How long was this CPU deaf? The longest sections with interrupts off, and with preemption off, on
// each CPU, with the two places in the code between which they lie.
//
//     local_irq_disable() ── begin: time and caller ──┐
//         ...                                         │  a section; nested ones are part of it
//     local_irq_enable()  ── end: is it the longest? ─┘
//
// A section begins where IF goes from 1 to 0 (or preempt_off from 0 to 1) and ends where it goes
// back. It belongs to the CPU, not to a thread: the scheduler begins one in the thread that goes
// and ends it in the thread that comes. An interrupt gate clears IF too, and IRET brings it back:
// the spine tells of both. Exceptions are not counted: they are short, and happen where IF may be
// either.
//
// Preemption that is turned off while interrupts are is no section of its own: nobody could have
// come anyway.
//
// Each end costs a read of the time stamp counter and a comparison: docs/decisions/0007-police.md
// has the figures. All fields are touched by their own CPU with interrupts off or preemption off,
// and only read by others, who may see a section that has just ended.
//
// Context: any but NMI, whose IF is off before and after.
#include <lib/errno.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/latency.h>

#include "police.h"

// ---- interrupts ---------------------------------------------------------------------------------

static inline unsigned long latency_irq_save(const void *at)
{
    unsigned long flags = raw_irq_save();

    if ((flags & CPU_FLAGS_IF) != 0) {
        latency_begin(&cpu_field(police)->irqs_off, at);
    }
    return flags;
}

void police_irq_disable(void)
{
    latency_irq_save(__builtin_return_address(0));
}

unsigned long police_irq_save(void)
{
    return latency_irq_save(__builtin_return_address(0));
}

void latency_longest(struct latency *latency, int64_t cycles, const void *at)
{
    latency->max_cycles = cycles;
    latency->max_begin_at = latency->begin_at;
    latency->max_end_at = at;
}

// With locks held, or after the longest section so far.
void latency_irqs_on_rarely(struct police_cpu *police, int64_t cycles, const void *at)
{
    if (police->stack.count != 0) {
        lockdep_interrupts_on(police);
    }
    if (cycles > police->irqs_off.max_cycles) {
        latency_longest(&police->irqs_off, cycles, at);
    }
}

static __noinline void latency_irq_enable_rarely(struct police_cpu *police, int64_t cycles,
                                                 const void *at)
{
    latency_irqs_on_rarely(police, cycles, at);
    raw_irq_enable();
}

void police_irqs_on(void)
{
    struct police_cpu *police = cpu_field(police);
    int64_t cycles;

    if (latency_irqs_on(police, &cycles)) {
        latency_irqs_on_rarely(police, cycles, __builtin_return_address(0));
    }
}

void police_irq_enable(void)
{
    struct police_cpu *police = cpu_field(police);
    int64_t cycles;

    if (latency_irqs_on(police, &cycles)) {
        latency_irq_enable_rarely(police, cycles, __builtin_return_address(0));
        return;
    }
    raw_irq_enable();
}

void latency_interrupt_begins(const void *at)
{
    latency_begin(&cpu_field(police)->irqs_off, at);
}

void latency_interrupt_ends(const void *at)
{
    latency_end(&cpu_field(police)->irqs_off, at);
}

// ---- preemption ---------------------------------------------------------------------------------

static inline void latency_preempt_disable(const void *at)
{
    raw_preempt_disable(); // from here on the CPU stays the same
    if (cpu_field(preempt_off) == 1 && !irqs_disabled()) {
        latency_begin(&cpu_field(police)->preempt_off, at);
    }
}

void police_preempt_disable(void)
{
    latency_preempt_disable(__builtin_return_address(0));
}

static __noinline void latency_preempt_enable_rarely(struct latency *latency, int64_t cycles,
                                                     const void *at)
{
    latency_longest(latency, cycles, at);
    raw_preempt_enable();
}

void police_preempt_enable(void)
{
    struct latency *latency = &cpu_field(police)->preempt_off;
    int64_t cycles;

    if (cpu_field(preempt_off) == 1 && !in_nmi() && latency_ends(latency, &cycles)) {
        latency_preempt_enable_rarely(latency, cycles, __builtin_return_address(0));
        return;
    }
    raw_preempt_enable();
}

// ---- what was found -----------------------------------------------------------------------------

uint64_t latency_irqs_off_ns(unsigned cpu, const void **begun_at)
{
    const struct latency *latency = &police_cpus[cpu].irqs_off;
    uint64_t begin_tsc = READ_ONCE(latency->begin_tsc), now = rdtsc();

    *begun_at = READ_ONCE(latency->begin_at);
    return now > begin_tsc ? clock_tsc_to_ns(now - begin_tsc) : 0;
}

uint64_t latency_max_irqs_off_ns(unsigned cpu)
{
    return clock_tsc_to_ns((uint64_t)READ_ONCE(police_cpus[cpu].irqs_off.max_cycles));
}

uint64_t latency_max_preempt_off_ns(unsigned cpu)
{
    return clock_tsc_to_ns((uint64_t)READ_ONCE(police_cpus[cpu].preempt_off.max_cycles));
}

void latency_reset(void)
{
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        WRITE_ONCE(police_cpus[cpu].irqs_off.max_cycles, 0);
        WRITE_ONCE(police_cpus[cpu].preempt_off.max_cycles, 0);
    }
}

static void latency_show_one(struct text *t, unsigned cpu, const char *what,
                             const struct latency *latency)
{
    uint64_t cycles = (uint64_t)READ_ONCE(latency->max_cycles);

    if (cycles == 0) {
        return;
    }
    text_printf(t, "%-4u %-12s %10llu  ", cpu, what,
                (unsigned long long)clock_tsc_to_ns(cycles) / 1000);
    text_symbol(t, (uintptr_t)latency->max_begin_at);
    text_puts(t, " -> ");
    text_symbol(t, (uintptr_t)latency->max_end_at);
    text_putc(t, '\n');
}

static void latency_show(struct text *t, unsigned long index __unused)
{
    text_puts(t, "CPU  section         max us  begun at -> ended at\n");
    for_each_online_cpu (cpu) {
        latency_show_one(t, cpu, "irqs-off", &police_cpus[cpu].irqs_off);
        latency_show_one(t, cpu, "preempt-off", &police_cpus[cpu].preempt_off);
    }
}

// "0" forgets.
static int latency_write(const char *line, unsigned long index __unused)
{
    if (line[0] != '0' || line[1] != '\0') {
        return -EINVAL;
    }
    latency_reset();
    return 0;
}

PROC_FILE_RW("latency", latency_show, latency_write);
