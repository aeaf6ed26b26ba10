// The realtime limit (/proc/sys/kernel/sched_rt_runtime_us) off, and on again: for tests that say
// who runs before whom. A host's pause is charged to whoever ran, and once it is 0.95 s the limit
// would let ordinary threads go first.
#pragma once

#include <core/clock.h>

#include "../../kernel/sched/runqueue.h"

static inline struct rt_limit rt_limit_off(void)
{
    struct rt_limit before = rt_limit;

    rt_limit_set(-1, before.period_us, clock_tsc_hz());
    return before;
}

static inline void rt_limit_on(struct rt_limit before)
{
    rt_limit_set(before.runtime_us, before.period_us, clock_tsc_hz());
}
