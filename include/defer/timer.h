// Timers in ticks: a wheel per CPU, run in TIMER_SOFTIRQ.
// Context: any, where a line does not say otherwise.
#pragma once

#include <lib/list.h>
#include <lib/types.h>

struct timer_list {
    struct list_head link; // L of the wheel; link.next is NULL when not pending
    uint32_t expires;      // L: jiffies
    void (*function)(struct timer_list *timer); // I; L: NULL once it is shut down
    unsigned flags;                             // I
    int cpu; // L: the wheel whose lock guards it, pending or not; -1: changing wheels
};

// Makes each CPU's wheel. Context: boot, once cpu_count is known.
void timer_init_subsystem(void);
// The function runs in softirq context, interrupts on; with TIMER_IRQSAFE off, so that no hard
// interrupt on this CPU sees the timer neither pending nor done. TIMER_DEFERRABLE: a CPU that
// sleeps is not woken for it, it runs when the CPU is awake again.
enum { TIMER_IRQSAFE = 1, TIMER_DEFERRABLE = 2 };
void timer_setup(struct timer_list *timer, void (*function)(struct timer_list *timer),
                 unsigned flags);
// Starts it, on this CPU, or moves it; 1 when it was pending. At most 2^31 - 1 ticks ahead.
// Context: any.
int mod_timer(struct timer_list *timer, uint32_t expires_jiffies);
// Starts it at timer->expires; it must not be pending. add_timer_on: its function runs on `cpu`.
void add_timer(struct timer_list *timer);
void add_timer_on(struct timer_list *timer, unsigned cpu);
bool timer_pending(const struct timer_list *timer);
// A timer that is pending and lies in this memory, or NULL: for a check before it is freed.
// Context: any.
struct timer_list *timer_find(const void *start, size_t size);
// 1 when it was pending; the function may still be running. Context: any.
int del_timer(struct timer_list *timer);
// The same, and waits for the function, by spinning. Not from the function itself, nor with a lock
// held that it takes. Context: thread or atomic.
int del_timer_sync(struct timer_list *timer);
// The same, and for good: who tries to start it afterwards is not heard. For timers that others, a
// work item say, start again while all is being taken down. Context: thread or atomic.
int timer_shutdown_sync(struct timer_list *timer);

// ---- for the tick (kernel/defer/tick.c) ----

// Raises TIMER_SOFTIRQ if something is due on this CPU. Context: hard irq.
void timer_tick(void);
// When this CPU's wheel next has something to do; false: it is empty. The CPU is about to sleep
// until then: who adds an earlier timer wakes it. Context: hard irq.
bool timer_next_event(uint32_t *at_jiffies);
// Has an earlier one been added since? Context: hard irq.
bool timer_idle_changed(void);
