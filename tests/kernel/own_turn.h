// Softirqs that are to run in the very local_bh_enable() that allows them: not where something is
// left to ksoftirqd, as then it is that thread's turn, and it takes all.
#pragma once

#include <core/cpu.h>
#include <sched/sleep.h>
#include <defer/softirq.h>

enum { OWN_TURN_MS = 20000 }; // only detects a hang

// Turns bottom halves off, on a CPU whose ksoftirqd has nothing to do. False, and not turned off:
// it always has.
static inline bool own_turn_bh_disable(void)
{
    for (unsigned ms = 0; ms < OWN_TURN_MS; ms++) {
        local_bh_disable();
        if ((cpu_self()->softirq_pending & SOFTIRQ_LEFT_TO_THREAD) == 0) {
            return true;
        }
        local_bh_enable();
        msleep(1);
    }
    return false;
}
