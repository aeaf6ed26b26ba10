// The tick: what every CPU that is not idle does HZ times a second, and jiffies. An idle CPU takes
// none: its timer is set to what it has to do next, be that in a second or never.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/types.h>

// Ties the scheduler to the tick. Context: boot, after hrtimers_init() and timer_init_subsystem().
void tick_init(void);
// Starts this CPU's tick. Context: once per CPU, when it is ready for interrupts.
void tick_start(void);

// The spine's calls around an interrupt that came to a CPU without a tick (cpu->tick_stopped). The
// first brings jiffies up to date, the second looks whether there is something earlier to do now.
// Context: hard irq; interrupts off.
void tick_irq_enter(void);
void tick_irq_exit(void);

// How often CPUs went to sleep without a tick, for /proc/timer_list.
struct tick_show {
    bool stopped;
    uint64_t stops;      // how often the tick was stopped
    int64_t next_ns;     // the next tick, or what takes its place
    uint64_t stopped_ns; // clock_ns() when it was stopped last
};
void tick_read(unsigned cpu, struct tick_show *show);
