// High-resolution timers: kept in order of expiry, served by an interrupt that comes just then.
//
//   hrtimer_start ──> tree of this CPU ──> earliest of all: lapic_timer_deadline()
//                                                │
//   hrtimer_interrupt  <─────────────────────────┘ the moment has come
//     hard ones: their functions, here
//     soft ones due: raise HRTIMER_SOFTIRQ ──> hrtimer_softirq: theirs, interrupts on
//     the hardware is set to what is earliest now
//
// A CPU has two trees, one for each kind, and one lock. A timer always belongs to one CPU, pending
// or not. hrtimer_start() brings it to the CPU that calls, except while its function runs
// elsewhere; while it changes, its cpu is -1 for a few instructions, and whoever wants it spins.
// The hardware of another CPU cannot be set from here, and need not be: a timer that stays there
// does so because that CPU is in the loop that runs functions, behind which it sets its hardware
// anew. A timer that is taken away from another CPU leaves an interrupt that finds nothing.
//
// In the interrupt a bounded number of functions run: the hardware brings us back at once for the
// rest, with whatever else is waiting served in between.
//
// Context: as <defer/hrtimer.h> says.
#include <core/clock.h>
#include <core/cpu.h>
#include <core/lockdep.h>
#include <core/panic.h>
#include <core/trace.h>
#include <x86/lapic.h>
#include <defer/hrtimer.h>
#include <defer/softirq.h>

#include "hrtimer_base.h"

enum { HRTIMER_HARD_BATCH = 8 };

static struct hrtimer_base hrtimer_bases[MAX_CPUS];

struct hrtimer_base *hrtimer_base_of(unsigned cpu)
{
    return &hrtimer_bases[cpu];
}

// ---- the trees and the hardware ----------------------------------------------------------------

static struct hrtimer_queue *hrtimer_queue_of(struct hrtimer_base *base,
                                              const struct hrtimer *timer)
{
    return &base->queues[timer->hard ? HRTIMER_QUEUE_HARD : HRTIMER_QUEUE_SOFT];
}

static struct hrtimer *hrtimer_first(const struct hrtimer_queue *queue)
{
    struct rb_node *node = rb_first_cached(&queue->tree);

    return node != NULL ? rb_entry(node, struct hrtimer, node) : NULL;
}

static bool hrtimer_less(const struct rb_node *a, const struct rb_node *b)
{
    return rb_entry(a, struct hrtimer, node)->expires < rb_entry(b, struct hrtimer, node)->expires;
}

static void hrtimer_enqueue(struct hrtimer_base *base, struct hrtimer *timer)
{
    rb_add_cached(&timer->node, &hrtimer_queue_of(base, timer)->tree, hrtimer_less);
}

static bool hrtimer_dequeue(struct hrtimer_base *base, struct hrtimer *timer)
{
    if (RB_EMPTY_NODE(&timer->node)) {
        return false;
    }
    rb_erase_cached(&timer->node, &hrtimer_queue_of(base, timer)->tree);
    return true;
}

static ktime_t hrtimer_next(const struct hrtimer_base *base)
{
    const struct hrtimer *hard = hrtimer_first(&base->queues[HRTIMER_QUEUE_HARD]);
    const struct hrtimer *soft = hrtimer_first(&base->queues[HRTIMER_QUEUE_SOFT]);
    ktime_t next = hard != NULL ? hard->expires : KTIME_MAX;

    if (soft != NULL && !base->softirq_raised && soft->expires < next) {
        next = soft->expires;
    }
    return next;
}

static void hrtimer_set_hardware(struct hrtimer_base *base, ktime_t next)
{
    WRITE_ONCE(base->programmed, next);
    lapic_timer_deadline(next == KTIME_MAX ? LAPIC_TIMER_NEVER : (uint64_t)max(next, (ktime_t)0));
}

// Sets this CPU's hardware to what is earliest. The base is this CPU's, and locked.
static void hrtimer_program(struct hrtimer_base *base)
{
    ktime_t next = hrtimer_next(base);

    if (next != base->programmed) {
        hrtimer_set_hardware(base, next);
    }
}

// The base that a timer belongs to, locked.
static struct hrtimer_base *hrtimer_lock(const struct hrtimer *timer, unsigned long *flags)
{
    for (;;) {
        int cpu = READ_ONCE(timer->cpu);

        if (likely(cpu >= 0)) {
            struct hrtimer_base *base = &hrtimer_bases[cpu];

            spin_lock_irqsave(&base->lock, *flags);
            if (likely(timer->cpu == cpu)) {
                return base;
            }
            spin_unlock_irqrestore(&base->lock, *flags);
        }
        cpu_relax();
    }
}

// ---- starting and stopping ---------------------------------------------------------------------

void hrtimer_setup(struct hrtimer *timer, enum hrtimer_restart (*function)(struct hrtimer *timer),
                   int clock, enum hrtimer_mode mode)
{
    WARN_ON(clock != CLOCK_MONOTONIC);
    *timer = (struct hrtimer){
        .function = function, .hard = (mode & HRTIMER_MODE_HARD) != 0, .cpu = (int)cpu_id()};
    RB_CLEAR_NODE(&timer->node);
}

// The timer is off its tree and its base locked: brings it to this CPU if possible. The base that
// it now belongs to, locked.
static struct hrtimer_base *hrtimer_bring(struct hrtimer_base *base, struct hrtimer *timer)
{
    struct hrtimer_base *here = &this_cpu(hrtimer_bases);

    if (base == here || hrtimer_queue_of(base, timer)->running == timer) {
        return base;
    }
    WRITE_ONCE(timer->cpu, -1); // nobody else touches it now
    spin_unlock(&base->lock);
    spin_lock(&here->lock);
    WRITE_ONCE(timer->cpu, (int)here->cpu);
    return here;
}

static ktime_t hrtimer_sum(ktime_t a, uint64_t b)
{
    return a < 0 || b <= (uint64_t)(KTIME_MAX - a) ? a + (ktime_t)b : KTIME_MAX;
}

void hrtimer_start_range_ns(struct hrtimer *timer, ktime_t time, uint64_t delta_ns,
                            enum hrtimer_mode mode)
{
    unsigned long flags;
    struct hrtimer_base *base = hrtimer_lock(timer, &flags);

    hrtimer_dequeue(base, timer);
    base = hrtimer_bring(base, timer);
    if ((mode & HRTIMER_MODE_REL) != 0) {
        time = hrtimer_sum(ktime_get(), (uint64_t)max(time, (ktime_t)0));
    }
    timer->soft_expires = time;
    timer->expires = hrtimer_sum(time, delta_ns);
    hrtimer_enqueue(base, timer);
    if (base == &this_cpu(hrtimer_bases)) {
        hrtimer_program(base);
    }
    spin_unlock_irqrestore(&base->lock, flags);
}

int hrtimer_try_to_cancel(struct hrtimer *timer)
{
    unsigned long flags;
    struct hrtimer_base *base = hrtimer_lock(timer, &flags);
    int result = -1;

    if (hrtimer_queue_of(base, timer)->running != timer) {
        result = hrtimer_dequeue(base, timer);
        if (base == &this_cpu(hrtimer_bases)) {
            hrtimer_program(base);
        }
    }
    spin_unlock_irqrestore(&base->lock, flags);
    return result;
}

int hrtimer_cancel(struct hrtimer *timer)
{
    int result;

    assert_context(CTX_THREAD | CTX_ATOMIC | CTX_SOFTIRQ);
    if (timer->hard) {
        lockdep_waits_for(timer->function);
    } else {
        lockdep_waits_for_softirq(timer->function);
    }
    while ((result = hrtimer_try_to_cancel(timer)) < 0) {
        // Functions run with preemption off. One that runs on this CPU is the caller himself.
        if (WARN_ON(READ_ONCE(timer->cpu) == (int)cpu_id() && cpu_context() != CTX_THREAD)) {
            return 0;
        }
        cpu_relax();
    }
    return result;
}

bool hrtimer_is_queued(const struct hrtimer *timer)
{
    return !RB_EMPTY_NODE(&timer->node);
}

struct hrtimer *hrtimer_find(const void *start, size_t size)
{
    struct hrtimer *found = NULL;

    for (unsigned i = 0; i < cpu_count * HRTIMER_QUEUES && found == NULL; i++) {
        struct hrtimer_base *base = &hrtimer_bases[i / HRTIMER_QUEUES];
        struct hrtimer_queue *queue = &base->queues[i % HRTIMER_QUEUES];
        unsigned long flags;

        spin_lock_irqsave(&base->lock, flags);
        if ((uintptr_t)queue->running - (uintptr_t)start < size) {
            found = queue->running;
        }
        for (struct rb_node *node = rb_first_cached(&queue->tree); node != NULL && found == NULL;
             node = rb_next(node)) {
            if ((uintptr_t)rb_entry(node, struct hrtimer, node) - (uintptr_t)start < size) {
                found = rb_entry(node, struct hrtimer, node);
            }
        }
        spin_unlock_irqrestore(&base->lock, flags);
    }
    return found;
}

bool hrtimer_callback_running(const struct hrtimer *timer)
{
    unsigned long flags;
    struct hrtimer_base *base = hrtimer_lock(timer, &flags);
    bool running = hrtimer_queue_of(base, timer)->running == timer;

    spin_unlock_irqrestore(&base->lock, flags);
    return running;
}

uint64_t hrtimer_forward(struct hrtimer *timer, ktime_t now, ktime_t interval)
{
    ktime_t late = now - timer->expires;

    if (late < 0 || WARN_ON(hrtimer_is_queued(timer))) {
        return 0;
    }
    interval = max(interval, (ktime_t)1);
    uint64_t intervals = (uint64_t)(late / interval) + 1;
    timer->expires = hrtimer_sum(timer->expires, intervals * (uint64_t)interval);
    timer->soft_expires = hrtimer_sum(timer->soft_expires, intervals * (uint64_t)interval);
    return intervals;
}

// ---- running -----------------------------------------------------------------------------------

// Takes a due timer off and calls its function. The base is locked on entry and exit, not in
// between. Interrupts are off for a hard one, on for a soft one while its function runs.
static void hrtimer_call(struct hrtimer_base *base, struct hrtimer_queue *queue,
                         struct hrtimer *timer)
{
    enum hrtimer_restart (*function)(struct hrtimer * timer) = timer->function;
    bool soft = queue == &base->queues[HRTIMER_QUEUE_SOFT];
    ktime_t due = timer->expires;

    hrtimer_dequeue(base, timer);
    queue->running = timer;
    base->expired[queue - base->queues]++;
    spin_unlock(&base->lock);
    trace(TRACE_TIMER, 1, (uintptr_t)function);
    if (soft) {
        lockdep_calls(LOCK_SOFTIRQ, function);
        local_irq_enable();
    } else {
        lockdep_calls(LOCK_HARDIRQ, function);
    }
    enum hrtimer_restart restart = function(timer);
    if (soft) {
        local_irq_disable();
        lockdep_calls(LOCK_SOFTIRQ, NULL);
    } else {
        lockdep_calls(LOCK_HARDIRQ, NULL);
    }
    spin_lock(&base->lock);
    // Somebody may have started it meanwhile: that holds. And if it is done it may be gone. One
    // that was not moved on would keep this CPU here for ever.
    if (restart == HRTIMER_RESTART && RB_EMPTY_NODE(&timer->node) &&
        !WARN_ON(timer->expires <= due)) {
        hrtimer_enqueue(base, timer);
    }
    queue->running = NULL;
}

static struct hrtimer *hrtimer_due(const struct hrtimer_queue *queue, ktime_t now)
{
    struct hrtimer *timer = hrtimer_first(queue);

    return timer != NULL && timer->soft_expires <= now ? timer : NULL;
}

void hrtimer_interrupt(void)
{
    lockdep_assert_irqs_disabled();
    struct hrtimer_base *base = &this_cpu(hrtimer_bases);
    struct hrtimer_queue *hard = &base->queues[HRTIMER_QUEUE_HARD];
    struct hrtimer *timer;
    ktime_t now = ktime_get();

    spin_lock(&base->lock);
    base->events++;
    base->early += hrtimer_next(base) > now;
    WRITE_ONCE(base->programmed, KTIME_MAX); // it has fired, and does so once
    for (unsigned n = 0; n < HRTIMER_HARD_BATCH && (timer = hrtimer_due(hard, now)) != NULL; n++) {
        hrtimer_call(base, hard, timer);
    }
    if (!base->softirq_raised && hrtimer_due(&base->queues[HRTIMER_QUEUE_SOFT], now) != NULL) {
        base->softirq_raised = true;
        raise_softirq_irqoff(HRTIMER_SOFTIRQ);
    }
    hrtimer_program(base);
    spin_unlock(&base->lock);
}

static void hrtimer_softirq(void)
{
    struct hrtimer_base *base = &this_cpu(hrtimer_bases);
    struct hrtimer_queue *soft = &base->queues[HRTIMER_QUEUE_SOFT];
    struct hrtimer *timer;
    ktime_t now = ktime_get();

    spin_lock_irq(&base->lock);
    while ((timer = hrtimer_due(soft, now)) != NULL) {
        hrtimer_call(base, soft, timer);
    }
    base->softirq_raised = false;
    hrtimer_program(base);
    spin_unlock_irq(&base->lock);
}

void hrtimer_reprogram(void)
{
    unsigned long flags = local_irq_save();
    struct hrtimer_base *base = &this_cpu(hrtimer_bases);

    spin_lock(&base->lock);
    hrtimer_set_hardware(base, hrtimer_next(base));
    spin_unlock(&base->lock);
    local_irq_restore(flags);
}

ktime_t hrtimer_programmed(unsigned cpu)
{
    return READ_ONCE(hrtimer_bases[cpu].programmed);
}

void hrtimers_init(void)
{
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        struct hrtimer_base *base = &hrtimer_bases[cpu];

        spin_lock_init(&base->lock, "hrtimers");
        base->cpu = cpu;
        base->programmed = KTIME_MAX;
    }
    open_softirq(HRTIMER_SOFTIRQ, hrtimer_softirq);
}
