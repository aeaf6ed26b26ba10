// The tick, and its absence.
//
// A tick is a hard hrtimer of each CPU, HZ times a second: it advances jiffies, looks at the timer
// wheel, and lets the scheduler and the workqueues look at the thread that runs. The CPUs' ticks
// are spread over the period, so that they do not all want the same locks at once.
//
//   thread runs    tick . tick . tick . tick
//   idle                                 tick: nothing to do here: the next one is when the wheel's
//                                     .  first timer or the first sleeper is due, or never
//                                     .............................. that moment
//   interrupt                                          | jiffies first, then its handler; then: is
//                                                      | there something earlier to do now?
//   thread runs                                        tick . tick . tick
//
// So it is the tick itself that finds the CPU idle and stops: a CPU that idles for less than a tick
// never touches the hardware for it. What starts the tick again is the switch from the idle thread
// to another (kernel/sched/sched.c), through a pointer that it was given.
//
// jiffies belongs to nobody: whoever finds that time has passed advances it. Every CPU that runs
// something ticks, and one that wakes looks first, so it is never found more than a tick old, but
// where interrupts were off for long or a host did not run its guest: so who goes to sleep for so
// many ticks looks, too. When all CPUs sleep it stands still, and catches up by the clock.
//
// Context: hard irq, interrupts off.
#include <core/clock.h>
#include <core/cpu.h>
#include <core/spinlock.h>
#include <sched/thread.h>
#include <defer/hrtimer.h>
#include <defer/tick.h>
#include <defer/timer.h>
#include <defer/watchdog.h>
#include <defer/work.h>

#define TICK_NS (1000000000ull / HZ)

struct tick_cpu {
    struct hrtimer timer;
    ktime_t spread;      // I: how far behind jiffies this CPU ticks
    uint64_t stops;      // C
    uint64_t stopped_ns; // C
};

static struct tick_cpu tick_cpus[MAX_CPUS];

static DEFINE_SPINLOCK(tick_lock);
static uint64_t
    tick_next_jiffy_ns; // A: when jiffies is due to be advanced; written under tick_lock

// ---- jiffies -----------------------------------------------------------------------------------

static void tick_advance_jiffies(uint64_t now_ns)
{
    if (likely(now_ns < READ_ONCE(tick_next_jiffy_ns))) {
        return;
    }
    spin_lock(&tick_lock);
    if (now_ns >= tick_next_jiffy_ns) {
        uint64_t ticks = (now_ns - tick_next_jiffy_ns) / TICK_NS + 1;

        WRITE_ONCE(tick_next_jiffy_ns, tick_next_jiffy_ns + ticks * TICK_NS);
        jiffies += (uint32_t)ticks;
        sched_load_tick();
    }
    spin_unlock(&tick_lock);
}

// When jiffies will have come to a value; now, if it is past.
static ktime_t tick_when(uint32_t at_jiffies)
{
    spin_lock(&tick_lock);
    uint32_t ahead = time_after(at_jiffies, jiffies) ? at_jiffies - jiffies : 1;
    ktime_t when = (ktime_t)(tick_next_jiffy_ns + (ahead - 1) * TICK_NS);
    spin_unlock(&tick_lock);
    return when;
}

// ---- with and without --------------------------------------------------------------------------

// The next moment at which this CPU would tick.
static ktime_t tick_next(const struct tick_cpu *tick, ktime_t now)
{
    ktime_t next = (ktime_t)READ_ONCE(tick_next_jiffy_ns) + tick->spread;

    return next - now > (ktime_t)TICK_NS ? next - (ktime_t)TICK_NS : next;
}

// When this idle CPU has something to do again that was planned: KTIME_MAX: never. From here on who
// adds a timer for it tells it.
static ktime_t tick_next_event(void)
{
    uint32_t at, sleeper_at;
    bool timer = timer_next_event(&at);

    if (sched_next_sleeper(&sleeper_at) && (!timer || time_after(at, sleeper_at))) {
        at = sleeper_at;
        timer = true;
    }
    return timer ? tick_when(at) : KTIME_MAX;
}

static enum hrtimer_restart tick_fire(struct hrtimer *timer)
{
    struct tick_cpu *tick = &this_cpu(tick_cpus);
    struct cpu *cpu = cpu_self();
    ktime_t now = ktime_get();

    tick_advance_jiffies((uint64_t)now);
    timer_tick();
    sched_tick();
    wq_worker_tick();
    watchdog_tick();

    ktime_t next = tick_next(tick, now);
    bool stopped = cpu->tick_stopped;
    cpu->tick_stopped = sched_can_stop_tick(); // before the look at the timers: see timer.c
    if (cpu->tick_stopped) {
        ktime_t event = tick_next_event();

        if (event <= next) {
            cpu->tick_stopped = false;
        } else {
            next = event;
        }
    }
    if (cpu->tick_stopped && !stopped) {
        tick->stops++;
        tick->stopped_ns = (uint64_t)now;
    }
    timer->expires = timer->soft_expires = next;
    return HRTIMER_RESTART;
}

// The idle thread makes room for another. The run queue's lock is held.
static void tick_restart(void)
{
    struct tick_cpu *tick = &this_cpu(tick_cpus);
    ktime_t now = ktime_get();

    cpu_self()->tick_stopped = false;
    tick_advance_jiffies((uint64_t)now);
    hrtimer_start(&tick->timer, tick_next(tick, now), HRTIMER_MODE_ABS_HARD);
}

void tick_irq_enter(void)
{
    lockdep_assert_irqs_disabled();
    tick_advance_jiffies(clock_ns());
}

void tick_irq_exit(void)
{
    lockdep_assert_irqs_disabled();
    struct tick_cpu *tick = &this_cpu(tick_cpus);

    if (timer_idle_changed()) {
        hrtimer_start(&tick->timer, tick_next_event(), HRTIMER_MODE_ABS_HARD);
    }
}

// ---- start -------------------------------------------------------------------------------------

void tick_init(void)
{
    tick_next_jiffy_ns = clock_ns() + TICK_NS;
    sched_tick_restart = tick_restart;
    sched_update_jiffies = tick_irq_enter;
}

void tick_start(void)
{
    unsigned long flags = local_irq_save();
    struct tick_cpu *tick = &this_cpu(tick_cpus);

    tick->spread = (ktime_t)(cpu_id() * TICK_NS / cpu_count);
    hrtimer_setup(&tick->timer, tick_fire, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_HARD);
    hrtimer_start(&tick->timer, tick_next(tick, ktime_get()), HRTIMER_MODE_ABS_HARD);
    local_irq_restore(flags);
}

void tick_read(unsigned cpu, struct tick_show *show)
{
    const struct tick_cpu *tick = &tick_cpus[cpu];

    *show = (struct tick_show){.stopped = READ_ONCE(cpus[cpu].tick_stopped),
                               .stops = READ_ONCE(tick->stops),
                               .next_ns = hrtimer_get_expires(&tick->timer),
                               .stopped_ns = READ_ONCE(tick->stopped_ns)};
}
