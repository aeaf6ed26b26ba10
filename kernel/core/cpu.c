// The CPUs' own structs, and the questions about context that every API asks.
//
// Context: any.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/section.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>

#include "police.h"

struct cpu cpus[MAX_CPUS];
unsigned cpu_count = 1;
struct cpumask cpu_online_mask;
struct cpumask cpu_isolated_mask;
void (*cpu_preempt_hook)(void);
bool police_on = true;

// What kernel/x86/entry.S and its like were written against.
_Static_assert(offsetof(struct cpu, self) == 0, "entry.S");
_Static_assert(offsetof(struct cpu, id) == 8, "entry.S");
_Static_assert(offsetof(struct cpu, thread) == 16, "entry.S");
_Static_assert(offsetof(struct cpu, kernel_rsp) == 24, "entry.S");
_Static_assert(offsetof(struct cpu, user_rsp) == 32, "entry.S");
_Static_assert(sizeof(struct cpu) % 64 == 0, "no cache line is two CPUs'");

void cpu_set_up(unsigned cpu)
{
    cpus[cpu].self = &cpus[cpu];
    cpus[cpu].id = cpu;
    cpus[cpu].lock_holder = cpu + 1;
    cpus[cpu].police = police_set_up(cpu);
    trace_set_up(cpu);
}

void preempt_enable_slow(void)
{
    if (cpu_preempt_hook != NULL && !in_atomic()) {
        cpu_preempt_hook();
    }
}

unsigned cpu_context(void)
{
    if (in_hardirq() || in_nmi()) {
        return CTX_HARDIRQ;
    }
    if (cpu_field(serving_softirq)) {
        return CTX_SOFTIRQ;
    }
    return in_atomic() ? CTX_ATOMIC : CTX_THREAD;
}

enum {
    FLAG_IRQS_OFF = 1,
    FLAG_RESCHED = 2,
    FLAG_HARDIRQ = 4,
    FLAG_SOFTIRQ = 8,
    FLAG_NMI = 16,
    FLAG_PREEMPT_SHIFT = 8,
};

uint32_t cpu_context_flags_of(const struct cpu *cpu, bool irqs_off)
{
    return (irqs_off ? FLAG_IRQS_OFF : 0u) | (cpu->want_resched ? FLAG_RESCHED : 0u) |
           (cpu->irq_depth != 0 ? FLAG_HARDIRQ : 0u) | (cpu->serving_softirq ? FLAG_SOFTIRQ : 0u) |
           (cpu->nmi_depth != 0 ? FLAG_NMI : 0u) | min(cpu->preempt_off, 9u) << FLAG_PREEMPT_SHIFT;
}

uint32_t cpu_context_flags(void)
{
    return cpu_context_flags_of(cpu_self(), irqs_disabled());
}

void cpu_context_letters(uint32_t flags, char letters[5])
{
    bool soft = (flags & FLAG_SOFTIRQ) != 0;
    uint32_t depth = flags >> FLAG_PREEMPT_SHIFT & 0xf;

    letters[0] = (flags & FLAG_IRQS_OFF) != 0 ? 'd' : '.';
    letters[1] = (flags & FLAG_RESCHED) != 0 ? 'N' : '.';
    letters[2] = soft ? 's' : '.';
    if ((flags & FLAG_HARDIRQ) != 0) {
        letters[2] = soft ? 'H' : 'h';
    }
    if ((flags & FLAG_NMI) != 0) {
        letters[2] = 'Z';
    }
    letters[3] = depth != 0 ? (char)('0' + depth) : '.';
    letters[4] = '\0';
}

static const char *cpu_context_name(unsigned context)
{
    switch (context) {
    case CTX_HARDIRQ:
        return "hard interrupt";
    case CTX_SOFTIRQ:
        return "softirq";
    case CTX_ATOMIC:
        return "atomic thread";
    default:
        return "thread";
    }
}

void assert_context_failed(unsigned allowed, const char *function)
{
    pr_err("BUG: %s() called in %s context (irq depth %u, softirq %u, bh off %u, preempt off %u, "
           "interrupts %s)",
           function, cpu_context_name(cpu_context()), cpu_field(irq_depth),
           cpu_field(serving_softirq), cpu_field(bh_disabled), cpu_field(preempt_off),
           irqs_disabled() ? "off" : "on");
    for (unsigned context = CTX_THREAD; context <= CTX_HARDIRQ; context <<= 1) {
        if (allowed & context) {
            pr_err("BUG: %s() may be called in %s context", function, cpu_context_name(context));
        }
    }
    warn_at(function, 0, "wrong context");
}

void police_assert_failed(const char *what, const char *function)
{
    pr_err("BUG: %s() called %s", function, what);
    warn_at(function, 0, "wrong context");
}

// The boot CPU cannot be isolated: somebody has to do the work.
static int cpu_option_isolate(const char *value)
{
    struct cpumask mask;
    int err = cpumask_parse_list(value, MAX_CPUS, &mask);

    if (err != 0 || cpumask_test(&mask, 0)) {
        return -EINVAL;
    }
    cpu_isolated_mask = mask;
    return 0;
}
BOOT_OPTION("isolcpus", cpu_option_isolate,
            "isolcpus=2-3: CPUs for nobody but who is put there by hand; not CPU 0");

// ---- the police's option ------------------------------------------------------------------------

static int police_set(const char *value)
{
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
        return -EINVAL;
    }
    police_on = strcmp(value, "on") == 0;
    return 0;
}

// A place where police_watches() is asked: how far it is from this record.
struct police_place {
    int32_t distance;
};
LINKER_SET(police_place, police_place);

// Intel SDM vol. 3, 9.1.3, self-modifying code: that the new instructions are reached by jumps and
// returns only is enough.
void police_settle(void)
{
    static const uint8_t nop[] = {0x0f, 0x1f, 0x44, 0x00, 0x00}; // of the jump's length; SDM vol. 2
    const struct police_place *place;

    if (police_on) {
        return;
    }
    set_for_each (place, police_place) {
        memcpy((uint8_t *)(uintptr_t)place + place->distance, nop, sizeof(nop));
    }
}

BOOT_OPTION("police", police_set,
            "police=off: no lock validator and no search for long sections, as for benchmarks");
