// Timers in ticks.
//
// Each CPU has a wheel (wheel.h). Its tick (tick.c) only looks whether the wheel has something due
// and raises TIMER_SOFTIRQ; timer functions run there, interrupts on, one after another. A CPU that
// sleeps without a tick is told of a timer that comes for it meanwhile. It has a second wheel for
// those that no sleeping CPU should be woken for; they run when it is awake anyway.
//
// A timer always belongs to one wheel, pending or not, and that wheel's lock guards it. mod_timer()
// brings a timer to the wheel of the CPU that calls it, except while its function runs elsewhere:
// then it stays, so that the function never runs on two CPUs at once. While a timer changes wheels
// its cpu is -1 for a few instructions, and whoever wants it spins.
//
//     del_timer       off the wheel; the function may be running right now
//     del_timer_sync  off the wheel, and then waits while wheel->running names it
//
// The function may free its timer or start it again: nothing touches the timer after the call.
//
// Context: timer_tick hard irq; timer_softirq softirq; the rest as <defer/timer.h> says.
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <core/trace.h>
#include <mm/slab.h>
#include <irq/ipi.h>
#include <defer/rcu.h>
#include <defer/softirq.h>
#include <defer/timer.h>

#include "wheel.h"

struct timer_wheel {
    struct spinlock lock;
    unsigned cpu;               // I: who turns it
    struct timer_list *running; // L: whose function runs now; only compared, never followed
    uint32_t idle_until;        // L: what its CPU sleeps for, if it does so without a tick
    bool idle_changed;          // L: a timer came that is earlier than that
    struct wheel wheel;         // L
    struct wheel deferrable;    // L: those that no sleeping CPU is woken for
};

static struct timer_wheel timer_boot_wheel;
static struct timer_wheel *timer_wheels[MAX_CPUS]; // I

// ---- starting and stopping ---------------------------------------------------------------------

void timer_setup(struct timer_list *timer, void (*function)(struct timer_list *timer),
                 unsigned flags)
{
    *timer = (struct timer_list){.function = function, .flags = flags, .cpu = (int)cpu_id()};
}

// The wheel that a timer belongs to, locked.
static struct timer_wheel *timer_lock(const struct timer_list *timer, unsigned long *flags)
{
    for (;;) {
        int cpu = READ_ONCE(timer->cpu);

        if (likely(cpu >= 0)) {
            struct timer_wheel *wheel = timer_wheels[cpu];

            spin_lock_irqsave(&wheel->lock, *flags);
            if (likely(timer->cpu == cpu)) {
                return wheel;
            }
            spin_unlock_irqrestore(&wheel->lock, *flags);
        }
        cpu_relax();
    }
}

bool timer_pending(const struct timer_list *timer)
{
    return READ_ONCE(timer->link.next) != NULL;
}

static struct wheel *timer_wheel_of(struct timer_wheel *wheel, const struct timer_list *timer)
{
    return (timer->flags & TIMER_DEFERRABLE) != 0 ? &wheel->deferrable : &wheel->wheel;
}

static bool timer_take_off(struct timer_wheel *wheel, struct timer_list *timer)
{
    if (!timer_pending(timer)) {
        return false;
    }
    wheel_remove(timer_wheel_of(wheel, timer), timer);
    return true;
}

// A CPU that sleeps without a tick hears of a timer that is earlier than what it waits for. It has
// set tick_stopped before it looked at the wheel: either that look saw this timer, or we see
// tick_stopped. On this CPU itself the end of the interrupt looks (tick_irq_exit).
static void timer_tell_idle(struct timer_wheel *wheel, const struct timer_list *timer)
{
    if (READ_ONCE(cpus[wheel->cpu].tick_stopped) && (timer->flags & TIMER_DEFERRABLE) == 0 &&
        time_after(wheel->idle_until, timer->expires)) {
        wheel->idle_until = timer->expires;
        WRITE_ONCE(wheel->idle_changed, true);
        if (wheel->cpu != cpu_id()) {
            ipi_reschedule(wheel->cpu);
        }
    }
}

// With the timer's wheel locked and the timer off it: starts it on `cpu` if possible.
static void timer_start_locked(struct timer_wheel *wheel, struct timer_list *timer,
                               uint32_t expires, unsigned cpu)
{
    struct timer_wheel *target = timer_wheels[cpu];

    if (target != wheel && wheel->running != timer) {
        WRITE_ONCE(timer->cpu, -1); // nobody else touches it now
        spin_unlock(&wheel->lock);
        spin_lock(&target->lock);
        WRITE_ONCE(timer->cpu, (int)cpu);
        wheel = target;
    }
    timer->expires = expires;
    wheel_skip(timer_wheel_of(wheel, timer), jiffies);
    wheel_add(timer_wheel_of(wheel, timer), timer);
    timer_tell_idle(wheel, timer);
    spin_unlock(&wheel->lock);
}

static bool timer_start(struct timer_list *timer, uint32_t expires, int cpu)
{
    unsigned long flags;
    struct timer_wheel *wheel;
    bool was_pending;

    preempt_disable();
    wheel = timer_lock(timer, &flags);
    was_pending = timer_take_off(wheel, timer);
    if (timer->function == NULL) { // shut down
        spin_unlock_irqrestore(&wheel->lock, flags);
        preempt_enable();
        return false;
    }
    timer_start_locked(wheel, timer, expires, cpu >= 0 ? (unsigned)cpu : cpu_id());
    local_irq_restore(flags);
    preempt_enable();
    return was_pending;
}

int mod_timer(struct timer_list *timer, uint32_t expires_jiffies)
{
    return timer_start(timer, expires_jiffies, -1);
}

void add_timer(struct timer_list *timer)
{
    WARN_ON(timer_pending(timer));
    timer_start(timer, timer->expires, -1);
}

void add_timer_on(struct timer_list *timer, unsigned cpu)
{
    WARN_ON(timer_pending(timer));
    timer_start(timer, timer->expires, (int)cpu);
}

int del_timer(struct timer_list *timer)
{
    unsigned long flags;
    struct timer_wheel *wheel = timer_lock(timer, &flags);
    bool was_pending = timer_take_off(wheel, timer);

    spin_unlock_irqrestore(&wheel->lock, flags);
    return was_pending;
}

// Says what is waited for; nothing, if the timer was shut down before.
static void timer_will_wait(const struct timer_list *timer)
{
    void (*function)(struct timer_list * timer) = READ_ONCE(timer->function);

    if (function != NULL && (timer->flags & TIMER_IRQSAFE) != 0) {
        lockdep_waits_for(function);
    } else if (function != NULL) {
        lockdep_waits_for_softirq(function);
    }
}

static int timer_stop_sync(struct timer_list *timer, bool for_good)
{
    bool was_pending = false;

    timer_will_wait(timer);
    for (;;) {
        unsigned long flags;
        struct timer_wheel *wheel = timer_lock(timer, &flags);
        bool running = wheel->running == timer;

        if (for_good) {
            timer->function = NULL; // timer_start() refuses from now on
        }
        // While it runs it may start itself again, so this is done in every round.
        was_pending |= timer_take_off(wheel, timer);
        spin_unlock_irqrestore(&wheel->lock, flags);
        // No thread of this CPU sees a function run here: that is the caller himself, or whom he
        // interrupted.
        if (!running || WARN_ON(wheel->cpu == cpu_id() && !in_task())) {
            return was_pending;
        }
        cpu_relax();
    }
}

int del_timer_sync(struct timer_list *timer)
{
    assert_context(CTX_THREAD | CTX_ATOMIC);
    return timer_stop_sync(timer, false);
}

int timer_shutdown_sync(struct timer_list *timer)
{
    assert_context(CTX_THREAD | CTX_ATOMIC);
    return timer_stop_sync(timer, true);
}

// ---- finding -----------------------------------------------------------------------------------

struct timer_search {
    uintptr_t start, end;
    struct timer_list *found;
};

static void timer_search_one(struct timer_list *timer, void *arg)
{
    struct timer_search *search = arg;

    if ((uintptr_t)timer >= search->start && (uintptr_t)timer < search->end) {
        search->found = timer;
    }
}

struct timer_list *timer_find(const void *start, size_t size)
{
    struct timer_search search = {.start = (uintptr_t)start, .end = (uintptr_t)start + size};

    for (unsigned cpu = 0; cpu < cpu_count && search.found == NULL; cpu++) {
        struct timer_wheel *wheel = timer_wheels[cpu];
        unsigned long flags;

        spin_lock_irqsave(&wheel->lock, flags);
        wheel_for_each(&wheel->wheel, timer_search_one, &search);
        wheel_for_each(&wheel->deferrable, timer_search_one, &search);
        spin_unlock_irqrestore(&wheel->lock, flags);
    }
    return search.found;
}

// ---- running -----------------------------------------------------------------------------------

// Takes a due timer off and calls its function. The wheel is locked on entry and exit, not in
// between.
static void timer_call(struct timer_wheel *wheel, struct timer_list *timer)
{
    void (*function)(struct timer_list * timer) = timer->function;
    bool irqsafe = (timer->flags & TIMER_IRQSAFE) != 0;

    wheel_remove(timer_wheel_of(wheel, timer), timer);
    wheel->running = timer;
    spin_unlock(&wheel->lock);
    trace(TRACE_TIMER, 0, (uintptr_t)function);
    lockdep_calls(LOCK_SOFTIRQ, function);
    if (irqsafe) {
        function(timer);
    } else {
        local_irq_enable();
        function(timer);
        local_irq_disable();
    }
    lockdep_calls(LOCK_SOFTIRQ, NULL);
    spin_lock(&wheel->lock);
    wheel->running = NULL;
}

static void timer_softirq(void)
{
    struct timer_wheel *wheel = this_cpu(timer_wheels);
    LIST_HEAD(due);

    spin_lock_irq(&wheel->lock);
    wheel_advance(&wheel->wheel, jiffies, &due);
    wheel_advance(&wheel->deferrable, jiffies, &due);
    while (!list_empty(&due)) {
        timer_call(wheel, list_first_entry(&due, struct timer_list, link));
    }
    spin_unlock_irq(&wheel->lock);
}

void timer_tick(void)
{
    lockdep_assert_irqs_disabled();
    struct timer_wheel *wheel = this_cpu(timer_wheels);

    rcu_tick();
    // A look without the lock: the tick after the next one will see what this one misses, and the
    // last one before a sleep looks with the lock.
    if (wheel->cpu == cpu_id() &&
        (wheel_has_work(&wheel->wheel, jiffies) || wheel_has_work(&wheel->deferrable, jiffies))) {
        raise_softirq_irqoff(TIMER_SOFTIRQ);
    }
}

bool timer_next_event(uint32_t *at)
{
    lockdep_assert_irqs_disabled();
    struct timer_wheel *wheel = this_cpu(timer_wheels);
    bool found = false;

    spin_lock(&wheel->lock);
    wheel->idle_changed = false;
    if (wheel->cpu == cpu_id()) {
        found = wheel_next_event(&wheel->wheel, at);
    }
    wheel->idle_until = found ? *at : jiffies + INT32_MAX;
    spin_unlock(&wheel->lock);
    return found;
}

bool timer_idle_changed(void)
{
    lockdep_assert_irqs_disabled();
    return READ_ONCE(this_cpu(timer_wheels)->idle_changed);
}

void timer_init_subsystem(void)
{
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        struct timer_wheel *wheel =
            cpu == 0 ? &timer_boot_wheel : kzalloc(sizeof(struct timer_wheel), GFP_KERNEL);

        if (wheel == NULL) {
            pr_err("timer: no memory for the wheel of CPU %u: it shares the boot CPU's", cpu);
            timer_wheels[cpu] = &timer_boot_wheel;
            continue;
        }
        spin_lock_init(&wheel->lock, "timer wheel");
        wheel->cpu = cpu;
        wheel_init(&wheel->wheel, jiffies);
        wheel_init(&wheel->deferrable, jiffies);
        timer_wheels[cpu] = wheel;
    }
    open_softirq(TIMER_SOFTIRQ, timer_softirq);
}

// ---- /proc/timers ------------------------------------------------------------------------------

static void timer_show_one(struct timer_list *timer, void *text)
{
    struct text *t = text;

    text_printf(t, "%4d %10d ", timer->cpu, (int32_t)(timer->expires - jiffies));
    text_symbol(t, (uintptr_t)timer->function);
    text_putc(t, '\n');
}

// The sink is bounded, and only the wheel that is being shown stands still.
static void timer_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "jiffies %u, %d a second\n", jiffies, HZ);
    text_puts(t, " CPU   TICKS TO FUNCTION\n");
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        struct timer_wheel *wheel = timer_wheels[cpu];

        if (wheel->cpu == cpu) {
            spin_lock_irq(&wheel->lock);
            wheel_for_each(&wheel->wheel, timer_show_one, t);
            wheel_for_each(&wheel->deferrable, timer_show_one, t);
            spin_unlock_irq(&wheel->lock);
        }
    }
}

PROC_FILE("timers", timer_show);
