// The books of the CPUs' time: opening and reading them. How they are kept is told in
// <sched/cputime.h>.
//
// Context: as each function says.
#include <lib/string.h>
#include <core/clock.h>
#include <sched/cputime.h>

// A CPU writes for a dozen instructions. Only an emulated one that its host has put aside in the
// middle keeps a reader longer; he takes what he sees then.
enum { CPUTIME_READ_TRIES = 100000 };

struct cputime cputimes[MAX_CPUS];

void cputime_init_cpu(unsigned cpu)
{
    struct cputime *time = &cputimes[cpu];

    cpus[cpu].books = time;
    time->kind = cpu == 0 ? CPU_SYSTEM : CPU_IDLE;
    time->since = clock_start_tsc();
    cputime_enter(time, CPU_SYSTEM);
}

// The books as they stand now; a hard interrupt that has not ended yet is in its own row.
static struct cputime cputime_copy(unsigned cpu)
{
    const struct cputime *from = &cputimes[cpu];

    for (unsigned tries = 0;; tries++) {
        uint32_t sequence = __atomic_load_n(&from->sequence, __ATOMIC_ACQUIRE);
        uint64_t irq_since = READ_ONCE(cpus[cpu].irq_since);
        struct cputime copy = *(const volatile struct cputime *)from;

        uint64_t now = rdtsc();
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if ((sequence % 2 == 0 && READ_ONCE(from->sequence) == sequence &&
             READ_ONCE(cpus[cpu].irq_since) == irq_since) ||
            tries == CPUTIME_READ_TRIES) {
            uint64_t until = irq_since != 0 ? min(irq_since, now) : now;

            copy.tsc[copy.kind] += until > copy.since && copy.since != 0 ? until - copy.since : 0;
            copy.tsc[CPU_IRQ] += now - until;
            return copy;
        }
        cpu_relax();
    }
}

void cputime_read(unsigned cpu, uint64_t ns[CPU_TIME_COUNT])
{
    struct cputime time = cputime_copy(cpu);

    for (unsigned what = 0; what < CPU_TIME_COUNT; what++) {
        ns[what] = clock_tsc_to_ns(time.tsc[what]);
    }
}

uint64_t sched_cpu_time_ns(unsigned cpu, enum cpu_time what)
{
    uint64_t ns[CPU_TIME_COUNT];

    if (cpu >= MAX_CPUS) {
        return 0;
    }
    cputime_read(cpu, ns);
    return ns[what];
}
