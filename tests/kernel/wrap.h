// The wrap of jiffies, brought near. It begins 300 s before, so that every long run crosses it;
// tests put the clock forward to it, as if the machine had been stopped for a while: whoever was
// waiting for something earlier is just late.
#pragma once

#include <core/clock.h>
#include <irq/ipi.h>

// From behind the wrap it is a step back, by which whoever waits then waits longer: a short one
// does no harm, and lets one test follow the other.
static inline bool wrap_is_near(void)
{
    return jiffies >= INITIAL_JIFFIES || jiffies < HZ;
}

static inline void wrap_look_again(void *arg)
{
    (void)arg;
}

// A CPU that sleeps without a tick is woken, to see by the new time for what it is due.
static inline void wrap_begin(uint32_t ticks_before)
{
    jiffies = -ticks_before;
    on_each_cpu(wrap_look_again, NULL);
}
