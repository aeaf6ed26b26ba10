// Where each CPU's time goes, exactly: the clock is read whenever a CPU begins something of another
// kind, once each time.
//
//   interrupt          kernel/interrupt.c      CPU_IRQ, taken out of what it interrupted, at its end
//   softirqs           kernel/defer/softirq.c  CPU_SOFTIRQ, then back
//   program, kernel    kernel/interrupt.c      CPU_USER or CPU_NICE, CPU_SYSTEM
//   idle thread        kernel/sched/sched.c    CPU_IDLE; CPU_IOWAIT, when a thread that ran here
//                                              last waits for a disk
//
// A CPU writes its own books with interrupts off and waits for nobody. Others who read them look at
// the number of the entry before and after: odd, or another one, and they read again.
//
// NMIs are not counted: they may strike in the middle of this. Whether an idle CPU waits for a disk
// is asked when it begins to idle: who wakes the waiter, wakes it there, and that ends it. Context:
// any, where a line does not say otherwise.
#pragma once

#include <core/cpu.h>
#include <lib/types.h>

// In the order of /proc/stat.
enum cpu_time {
    CPU_USER,
    CPU_NICE,
    CPU_SYSTEM,
    CPU_IDLE,
    CPU_IOWAIT,
    CPU_IRQ,
    CPU_SOFTIRQ,
    CPU_TIME_COUNT
};

struct cputime {
    uint32_t sequence;            // C: odd while the rest is being written
    enum cpu_time kind;           // C: what it does now ...
    uint64_t since;               // C: ... and since when; cycles, as all here
    uint64_t tsc[CPU_TIME_COUNT]; // C: what was finished before
} __aligned(64);

extern struct cputime cputimes[MAX_CPUS];

// To what was finished; the difference was found first, which the compiler would put off.
static __always_inline void cputime_add(struct cputime *time, enum cpu_time kind, uint64_t cycles)
{
    __asm__("" : "+r"(cycles));
    time->tsc[kind] += cycles;
}

// This CPU, whose books these are, begins something of another kind, at the time that is returned.
// `before`: what it did until now. Context: interrupts off.
static __always_inline uint64_t cputime_change(struct cputime *time, enum cpu_time kind,
                                               enum cpu_time *before)
{
    *before = time->kind;
    time->sequence++;
    barrier();
    uint64_t now = rdtsc();
    cputime_add(time, *before, now - time->since);
    time->since = now;
    time->kind = kind;
    barrier();
    time->sequence++;
    return now;
}

// The same for who wants to know only what it did before.
static inline enum cpu_time cputime_enter(struct cputime *time, enum cpu_time kind)
{
    enum cpu_time before;

    cputime_change(time, kind, &before);
    return before;
}

// A hard interrupt begins and is over: its time is its own, and not of what it interrupted. The
// beginning is noted only, so that the handler is reached soon; who reads meanwhile looks at the
// note. Context: interrupts off.
static inline void cputime_irq_begin(struct cpu *cpu)
{
    cpu->irq_since = rdtsc();
}

// Context: interrupts off.
static inline void cputime_irq_end(struct cpu *cpu)
{
    struct cputime *time = cpu->books;

    time->sequence++;
    barrier();
    uint64_t spent = rdtsc() - cpu->irq_since;
    cputime_add(time, CPU_IRQ, spent);
    time->since += spent;
    WRITE_ONCE(cpu->irq_since, 0);
    barrier();
    time->sequence++;
}

// It is over, and the CPU begins something of another kind than what it interrupted: both with one
// look at the clock, which is returned. `before`: what was interrupted.
static __always_inline uint64_t cputime_irq_end_change(struct cpu *cpu, enum cpu_time kind,
                                                       enum cpu_time *before)
{
    struct cputime *time = cpu->books;

    time->sequence++;
    barrier();
    uint64_t now = rdtsc(), irq_since = cpu->irq_since;
    cputime_add(time, CPU_IRQ, now - irq_since);
    *before = time->kind;
    cputime_add(time, *before, irq_since - time->since);
    time->since = now;
    time->kind = kind;
    WRITE_ONCE(cpu->irq_since, 0);
    barrier();
    time->sequence++;
    return now;
}

// Opens the books of a CPU that has just come up: it was idle until now, or was booting the machine
// if it is the first. Context: once per CPU, interrupts off.
void cputime_init_cpu(unsigned cpu);
// What a CPU has spent on each kind so far, in nanoseconds; together that is the time since boot.
// Context: any.
void cputime_read(unsigned cpu, uint64_t ns[CPU_TIME_COUNT]);
uint64_t sched_cpu_time_ns(unsigned cpu, enum cpu_time what);
