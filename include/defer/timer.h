// Timers in ticks: a wheel per CPU, run in TIMER_SOFTIRQ.
#pragma once

#include <lib/list.h>
#include <lib/types.h>

struct timer_list {
    struct list_head link;                      // L of the wheel
    uint32_t expires;                           // L: jiffies
    void (*function)(struct timer_list *timer); // I
    int cpu;                                    // L: wheel it is on, -1 none
    bool running;                               // L
};

void timer_init_subsystem(void);
void timer_setup(struct timer_list *timer, void (*function)(struct timer_list *timer),
                 unsigned flags);
// Starts it or moves it; true when it was pending. Context: any.
int mod_timer(struct timer_list *timer, uint32_t expires_jiffies);
void add_timer(struct timer_list *timer);
bool timer_pending(const struct timer_list *timer);
int del_timer(
    struct timer_list
        *timer); // true when it was pending; the function may still be running. Context: any
int del_timer_sync(
    struct timer_list
        *timer); // and waits for the function. Context: thread; not from the function itself

// The tick of each CPU: jiffies (boot CPU only), wheel, scheduler. Context: hard irq. Tied to VECTOR_TIMER by kernel_main.
void timer_tick(void);
