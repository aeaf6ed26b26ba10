// Sets of CPUs, and Linux's two ways to write them: hex groups ("3", "ff,ffffffff") and lists
// ("0-1,4").
#pragma once

#include <lib/text.h>
#include <lib/types.h>

#define MAX_CPUS 256 // xAPIC identifiers end at 254; asserted against the per-CPU arrays

struct cpumask {
    uint64_t bits[MAX_CPUS / 64];
};

static inline bool cpumask_test(const struct cpumask *m, unsigned cpu)
{
    return cpu < MAX_CPUS && (READ_ONCE(m->bits[cpu / 64]) >> (cpu % 64) & 1);
}

static inline void cpumask_set(struct cpumask *m, unsigned cpu)
{
    __atomic_fetch_or(&m->bits[cpu / 64], BIT64(cpu % 64), __ATOMIC_SEQ_CST);
}

static inline void cpumask_clear(struct cpumask *m, unsigned cpu)
{
    __atomic_fetch_and(&m->bits[cpu / 64], ~BIT64(cpu % 64), __ATOMIC_SEQ_CST);
}

// First set CPU at or above `from`; MAX_CPUS when there is none.
unsigned cpumask_next(const struct cpumask *m, unsigned from);
unsigned cpumask_weight(const struct cpumask *m);
bool cpumask_empty(const struct cpumask *m);
bool cpumask_equal(const struct cpumask *a, const struct cpumask *b);
void cpumask_and(struct cpumask *to, const struct cpumask *a, const struct cpumask *b);

#define for_each_cpu(cpu, mask) \
    for (unsigned cpu = cpumask_next(mask, 0); cpu < MAX_CPUS; cpu = cpumask_next(mask, cpu + 1))

// Print with as many digits as `count` CPUs need, as %*pb and %*pbl do.
void cpumask_show(struct text *t, const struct cpumask *m, unsigned count);
void cpumask_show_list(struct text *t, const struct cpumask *m);

// Parse what a person wrote into /proc. 0, -EINVAL (syntax), -EOVERFLOW (a bit at or above
// `count`).
int cpumask_parse(const char *s, unsigned count, struct cpumask *m);
int cpumask_parse_list(const char *s, unsigned count, struct cpumask *m);
