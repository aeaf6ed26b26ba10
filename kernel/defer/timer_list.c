// /proc/timer_list: each CPU's high-resolution timers, its tick, and the hardware behind both, in
// the words and the order of Linux's file. Lines that tell of clocks and modes that this kernel
// does not have are left out.
//
// Context: thread.
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <x86/lapic.h>
#include <defer/hrtimer.h>
#include <defer/tick.h>

#include "hrtimer_base.h"

enum { TIMER_LIST_MAX = 64 }; // timers shown for each CPU: the list is walked under its lock

static void timer_list_one(struct text *t, const struct hrtimer *timer, unsigned number,
                           ktime_t now)
{
    text_printf(t, " #%u: <%016llx>, ", number, (unsigned long long)(uintptr_t)timer);
    text_symbol(t, (uintptr_t)timer->function);
    text_printf(t, ", %s\n", timer->hard ? "hard" : "soft");
    text_printf(t, " # expires at %lld-%lld nsecs [in %lld to %lld nsecs]\n",
                (long long)timer->soft_expires, (long long)timer->expires,
                (long long)(timer->soft_expires - now), (long long)(timer->expires - now));
}

static unsigned timer_list_queue(struct text *t, const struct hrtimer_queue *queue, unsigned number,
                                 ktime_t now)
{
    for (const struct rb_node *node = rb_first_cached(&queue->tree);
         node != NULL && number < TIMER_LIST_MAX; node = rb_next(node)) {
        timer_list_one(t, rb_entry(node, struct hrtimer, node), number++, now);
    }
    return number;
}

static void timer_list_base(struct text *t, struct hrtimer_base *base, ktime_t now)
{
    unsigned long flags;
    unsigned shown;

    text_printf(t, "\ncpu: %u\n clock 0:\n  .resolution: 1 nsecs\n  .get_time:   ktime_get\n",
                base->cpu);
    text_puts(t, "active timers:\n");
    spin_lock_irqsave(&base->lock, flags);
    shown = timer_list_queue(t, &base->queues[HRTIMER_QUEUE_HARD], 0, now);
    timer_list_queue(t, &base->queues[HRTIMER_QUEUE_SOFT], shown, now);
    ktime_t next = base->programmed;
    uint64_t events = base->events, early = base->early;
    uint64_t hard = base->expired[HRTIMER_QUEUE_HARD], soft = base->expired[HRTIMER_QUEUE_SOFT];
    spin_unlock_irqrestore(&base->lock, flags);

    text_printf(t, "  .expires_next   : %lld nsecs\n  .hres_active    : 1\n", (long long)next);
    text_printf(t, "  .nr_events      : %llu\n  .nr_early       : %llu\n",
                (unsigned long long)events, (unsigned long long)early);
    text_printf(t, "  .nr_hard        : %llu\n  .nr_soft        : %llu\n", (unsigned long long)hard,
                (unsigned long long)soft);
}

static void timer_list_tick(struct text *t, unsigned cpu)
{
    struct tick_show tick;

    tick_read(cpu, &tick);
    text_printf(t, "  .next_tick      : %lld nsecs\n  .tick_stopped   : %u\n",
                (long long)tick.next_ns, tick.stopped);
    text_printf(t, "  .idle_sleeps    : %llu\n  .idle_entrytime : %llu nsecs\n",
                (unsigned long long)tick.stops, (unsigned long long)tick.stopped_ns);
    text_printf(t, "jiffies: %u\n", jiffies);
}

static void timer_list_device(struct text *t, unsigned cpu, ktime_t next)
{
    text_printf(t, "\nTick Device: mode:     1\nPer CPU device: %u\n", cpu);
    text_printf(t, "Clock Event Device: %s\n",
                lapic_timer_is_deadline() ? "lapic-deadline" : "lapic");
    text_puts(t, " mode:           3\n"); // CLOCK_EVT_STATE_ONESHOT
    text_printf(t, " next_event:     %lld nsecs\n", (long long)next);
    text_puts(t, " set_next_event: lapic_timer_deadline\n event_handler:  hrtimer_interrupt\n");
}

static void timer_list_show(struct text *t, unsigned long index)
{
    ktime_t now = ktime_get();

    (void)index;
    text_printf(t, "Timer List Version: v0.10\nHRTIMER_MAX_CLOCK_BASES: 1\nnow at %lld nsecs\n",
                (long long)now);
    for_each_online_cpu (cpu) {
        timer_list_base(t, hrtimer_base_of(cpu), now);
        timer_list_tick(t, cpu);
    }
    for_each_online_cpu (cpu) {
        timer_list_device(t, cpu, READ_ONCE(hrtimer_base_of(cpu)->programmed));
    }
}

PROC_FILE("timer_list", timer_list_show);
