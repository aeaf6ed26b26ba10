// A CPU's high-resolution timers, as hrtimer.c keeps them and /proc/timer_list shows them.
#pragma once

#include <lib/rbtree.h>
#include <core/spinlock.h>
#include <defer/hrtimer.h>

enum { HRTIMER_QUEUE_HARD, HRTIMER_QUEUE_SOFT, HRTIMER_QUEUES };

struct hrtimer_queue {
    struct rb_root_cached tree; // L: by expires
    struct hrtimer *running;    // L: whose function runs now; only compared, never followed
};

struct hrtimer_base {
    struct spinlock lock;
    unsigned cpu; // I
    struct hrtimer_queue queues[HRTIMER_QUEUES];
    bool softirq_raised; // L: the softirq will look at the soft ones; no interrupt needed for them
    ktime_t programmed;  // L: what the hardware is set to; KTIME_MAX: nothing
    uint64_t events;     // L: interrupts taken
    uint64_t early;      // L: of these, too early: nothing was due yet
    uint64_t expired[HRTIMER_QUEUES]; // L: functions called
};

struct hrtimer_base *hrtimer_base_of(unsigned cpu);
