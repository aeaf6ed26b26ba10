// The load average's arithmetic. Pure, tested on the host.
#pragma once

#include <lib/types.h>

enum {
    LOAD_SHIFT = 11, // fixed point: 1.0 is 2,048
    LOAD_ONE = 1 << LOAD_SHIFT,
    LOAD_EXP_1 = 1884, // e^(-5 s / 60 s) and so on: what is left of the past after 5 s
    LOAD_EXP_5 = 2014,
    LOAD_EXP_15 = 2037,
};

// One five-second step towards `active` threads. Rounds towards the new value, so that it is
// reached.
static inline uint64_t load_step(uint64_t load, uint64_t left, uint64_t active)
{
    uint64_t target = active << LOAD_SHIFT;
    uint64_t sum = load * left + target * (LOAD_ONE - left);

    return (sum + (target >= load ? LOAD_ONE - 1 : 0)) >> LOAD_SHIFT;
}
