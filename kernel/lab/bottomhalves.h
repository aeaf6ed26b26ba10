// What `lab bottomhalves` measures (bottomhalves.c) and shows (bottomhalves_show.c).
#pragma once

#include <contract/lab.h>
#include <lib/types.h>

enum lab_bh_way {
    WAY_HANDLER,
    WAY_SOFTIRQ,
    WAY_TASKLET,
    WAY_IRQ_POLL,
    WAY_WORK,
    WAY_WORK_ELSEWHERE,
    WAY_THREAD,
    WAY_POLLING,
    WAY_COUNT,
};

// What one way has shown.
struct lab_bh_result {
    struct samples top, until, whole; // nanoseconds: t2 - t1, t3 - t1, t4 - t0
    char runs_in[24];
    bool may_sleep;
    uint64_t events_per_s;
    unsigned idle_percent; // of the line's CPU, with paced events
    unsigned lost;         // events that were never served
};

enum { LAB_BH_PACE_TICKS = 2 }; // between two events that are paced

// What the table says, way by way: as many as WAY_COUNT results. Context: thread.
void lab_bh_show(struct shell *sh, const struct lab_bh_result *results);
