// Timers to the nanosecond. Each CPU keeps its own, sorted, and its local APIC's timer is set to
// the earliest: no tick is waited for. Names and meanings are Linux's.
//
//   soft (the rule)         the function runs in HRTIMER_SOFTIRQ, interrupts on
//   HRTIMER_MODE_HARD       in the timer's interrupt itself: for what must not wait behind softirqs,
//                           and is short. The tick is one.
//
// The rule is that of Linux's realtime kernels, where a function that does not say otherwise is
// kept out of the interrupt. Use timer_list (<defer/timer.h>) for time-outs, which nearly never
// come: a wheel is cheaper where a tick is exact enough.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/rbtree.h>
#include <lib/types.h>
#include <core/clock.h>

typedef int64_t ktime_t; // nanoseconds on clock_ns()'s scale, or a distance on it
#define KTIME_MAX INT64_MAX

static inline ktime_t ktime_get(void)
{
    return (ktime_t)clock_ns();
}

static inline ktime_t us_to_ktime(uint64_t us)
{
    return (ktime_t)(us * 1000);
}

static inline ktime_t ms_to_ktime(uint64_t ms)
{
    return (ktime_t)(ms * 1000000);
}

enum { CLOCK_MONOTONIC = 1 }; // the only one

enum hrtimer_mode {
    HRTIMER_MODE_ABS = 0,
    HRTIMER_MODE_REL = 1, // the time is a distance from now
    HRTIMER_MODE_HARD = 8,
    HRTIMER_MODE_ABS_HARD = HRTIMER_MODE_ABS | HRTIMER_MODE_HARD,
    HRTIMER_MODE_REL_HARD = HRTIMER_MODE_REL | HRTIMER_MODE_HARD,
};

enum hrtimer_restart {
    HRTIMER_NORESTART, // done; the function may have freed the timer
    HRTIMER_RESTART,   // again: the function has moved its expiry (hrtimer_forward)
};

struct hrtimer {
    struct rb_node node;  // L of the base
    ktime_t expires;      // L: not later than this, if the CPU can
    ktime_t soft_expires; // L: not earlier
    enum hrtimer_restart (*function)(struct hrtimer *timer); // I
    bool hard;                                               // I
    int cpu; // L: the CPU whose base it belongs to, pending or not; -1: changing bases
};

// Context: any. The clock is CLOCK_MONOTONIC; of the mode only HARD is kept. hrtimer_init is the
// older name; the function is then set by hand.
void hrtimer_setup(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *timer),
                   int clock, enum hrtimer_mode mode);
static inline void hrtimer_init(struct hrtimer *timer, int clock, enum hrtimer_mode mode)
{
    hrtimer_setup(timer, NULL, clock, mode);
}

// Starts it on this CPU, or moves it. While its function runs on another CPU it stays there, so
// that the function never runs twice at once. With a range it may come up to delta_ns later, so
// that one interrupt can serve several. Context: any.
void hrtimer_start_range_ns(struct hrtimer *timer, ktime_t time, uint64_t delta_ns,
                            enum hrtimer_mode mode);
static inline void hrtimer_start(struct hrtimer *timer, ktime_t time, enum hrtimer_mode mode)
{
    hrtimer_start_range_ns(timer, time, 0, mode);
}

// 1 when it was pending, 0 when not, -1 when its function is running just now: then nothing was
// done. Context: any.
int hrtimer_try_to_cancel(struct hrtimer *timer);
// The same, but waits for the function to end. 1 or 0. Context: thread or softirq; not from the
// function itself, nor with a lock held that it takes.
int hrtimer_cancel(struct hrtimer *timer);

// Moves the expiry on by as many intervals as it takes to be behind `now`; how many those were: one
// is normal, more are overruns. Not while it is pending: by its function, or before a start.
// Context: any.
uint64_t hrtimer_forward(struct hrtimer *timer, ktime_t now, ktime_t interval);
static inline uint64_t hrtimer_forward_now(struct hrtimer *timer, ktime_t interval)
{
    return hrtimer_forward(timer, ktime_get(), interval);
}

bool hrtimer_is_queued(const struct hrtimer *timer);
// One that lies in [start, start + size) and is pending or runs, on any CPU; NULL: none. For
// whoever frees the memory. Context: any.
struct hrtimer *hrtimer_find(const void *start, size_t size);
bool hrtimer_callback_running(const struct hrtimer *timer);
static inline bool hrtimer_active(const struct hrtimer *timer)
{
    return hrtimer_is_queued(timer) || hrtimer_callback_running(timer);
}
static inline ktime_t hrtimer_get_expires(const struct hrtimer *timer)
{
    return READ_ONCE(timer->expires);
}
static inline ktime_t hrtimer_get_remaining(const struct hrtimer *timer)
{
    return hrtimer_get_expires(timer) - ktime_get();
}

// ---- sleeping ----

// Sleeps at least min_us and at most max_us, if the CPU is free then. Context: thread.
void usleep_range(uint32_t min_us, uint32_t max_us);
// Sleeps for `ns`. 0, or -EINTR. Context: thread.
int hrtimer_nanosleep(uint64_t ns);
// The caller has set his state; sleeps until somebody wakes him (-EINTR) or the time has come (0).
// Without a time, only the former. Context: thread.
int schedule_hrtimeout_range(const ktime_t *expires, uint64_t delta_ns, enum hrtimer_mode mode);

// ---- for the tick and the boot ----

void hrtimers_init(void); // context: boot, before the first tick
// VECTOR_TIMER's function. Context: hard irq.
void hrtimer_interrupt(void);
// Sets this CPU's timer hardware again, after somebody used it for something else. Context: any.
void hrtimer_reprogram(void);
// When a CPU's next timer interrupt should come, or should have; KTIME_MAX: none is wanted.
// Context: any.
ktime_t hrtimer_programmed(unsigned cpu);
