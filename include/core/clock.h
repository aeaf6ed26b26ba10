// Time: a nanosecond clock on the TSC, the tick counter, and bounded waiting. kernel/x86/clock.c
// measures the TSC against HPET, PM timer or PIT and tells the rate here; until then clock_ns()
// counts as if it ran at 8 GHz. Context: any.
#pragma once

#include <core/cpu.h>
#include <lib/types.h>

#define HZ      250 // ticks a second
#define USER_HZ 100 // the unit of /proc/stat

// Starts 300 s before its 32-bit wrap, so that wrong comparisons show in the first five minutes.
#define INITIAL_JIFFIES ((uint32_t)(-300 * HZ))
extern volatile uint32_t jiffies; // A: advanced by whoever ticks first

// True when tick a is later than tick b, across the wrap.
static inline bool time_after(uint32_t a, uint32_t b)
{
    return (int32_t)(b - a) < 0;
}

static inline uint32_t msecs_to_jiffies(uint32_t ms)
{
    return (uint32_t)(((uint64_t)ms * HZ + 999) / 1000);
}

// Nanoseconds since kernel entry; monotonic, the same on all CPUs as far as their TSCs are.
uint64_t clock_ns(void);

// The TSC when clock_ns() was 0; never 0 itself.
uint64_t clock_start_tsc(void);

// The rate the clock now runs at, and its setter (kernel/x86/clock.c, once).
uint64_t clock_tsc_hz(void);
// The CPUs' TSCs do not agree: from now on the clock remembers the latest that it has told anybody.
void clock_set_unstable(void);
void clock_set_tsc_hz(uint64_t hz);
uint64_t clock_tsc_to_ns(uint64_t tsc_delta);
// The TSC when clock_ns() will be ns, or a little more; of what has passed, the TSC now.
uint64_t clock_ns_to_tsc(uint64_t ns);

// What schedulers count in: the same clock, by Linux's name.
static inline uint64_t sched_clock(void)
{
    return clock_ns();
}

// Busy-wait; for hardware that needs microseconds. Anything longer sleeps (msleep in
// <sched/sleep.h>).
void udelay(uint32_t us);
void ndelay(uint32_t ns);

// Spins until the condition holds or timeout_us have passed; true when it held. Every wait on
// hardware goes through this or through a sleeping wait with a timeout: there is no unbounded one.
#define wait_until(condition, timeout_us)                                       \
    ({                                                                          \
        uint64_t wait_deadline_ns_ = clock_ns() + (uint64_t)(timeout_us)*1000;  \
        bool wait_held_;                                                        \
        while (!(wait_held_ = (condition)) && clock_ns() < wait_deadline_ns_) { \
            cpu_relax();                                                        \
        }                                                                       \
        wait_held_ || (condition);                                              \
    })
