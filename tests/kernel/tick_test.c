// The tick and its absence: idle CPUs take none, and miss nothing for it.
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <irq/desc.h>
#include <sched/completion.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/hrtimer.h>
#include <defer/tick.h>
#include <defer/timer.h>
#include <defer/work.h>

#include "eventually.h"
#include "every_cpu.h"
#include "wrap.h"

static unsigned get(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

// A CPU that is not this one and sleeps without a tick; MAX_CPUS: none came to rest.
static unsigned sleeping_cpu(void)
{
    unsigned found = MAX_CPUS;

    (void)EVENTUALLY(({
        preempt_disable();
        for_each_online_cpu (cpu) {
            if (cpu != cpu_id() && READ_ONCE(cpus[cpu].tick_stopped)) {
                found = cpu;
            }
        }
        preempt_enable();
        found != MAX_CPUS;
    }));
    return found;
}

struct counted {
    struct timer_list timer;
    unsigned fired, cpu; // A; of the last time
};

static void counted_function(struct timer_list *timer)
{
    struct counted *c = container_of(timer, struct counted, timer);

    c->cpu = cpu_id();
    __atomic_fetch_add(&c->fired, 1, __ATOMIC_SEQ_CST);
}

KTEST(tick, jiffies_begin_before_their_wrap)
{
    EXPECT_EQ((uint32_t)(INITIAL_JIFFIES + 300 * HZ), 0);
}

// Whoever runs sees jiffies advance, whichever CPU it is and whatever the others do.
static void tick_see_jiffies(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;

    for (unsigned i = 0; i < 5; i++) {
        uint32_t before = jiffies;
        EXPECT(wait_until(jiffies != before, 10 * 1000 * 1000));
        EXPECT(time_after(jiffies, before));
    }
}

KTEST(tick, jiffies_advance_on_every_cpu)
{
    EXPECT(every_cpu_run(ktest, tick_see_jiffies, NULL));
}

KTEST(tick, a_sleep_is_not_shorter_than_it_says)
{
    for (unsigned ms = 1; ms < 20; ms += 3) {
        uint64_t begin_ns = clock_ns();
        msleep(ms);
        EXPECT(clock_ns() - begin_ns >= ms * 1000000ull);
    }
}

KTEST(tick, an_idle_cpu_stops_its_tick)
{
    if (cpumask_weight(&cpu_online_mask) < 2) {
        SKIP("one CPU: it runs this test");
    }
    EXPECT(sleeping_cpu() != MAX_CPUS);
}

KTEST(tick, a_sleeping_cpu_is_woken_for_a_timer)
{
    if (cpumask_weight(&cpu_online_mask) < 2) {
        SKIP("one CPU: it runs this test");
    }
    for (unsigned round = 0; round < 10; round++) {
        struct counted c = {0};
        unsigned cpu = sleeping_cpu();

        REQUIRE(cpu != MAX_CPUS);
        timer_setup(&c.timer, counted_function, 0);
        c.timer.expires = jiffies + 2;
        add_timer_on(&c.timer, cpu);
        EXPECT(EVENTUALLY(get(&c.fired) == 1));
        EXPECT_EQ(c.cpu, cpu);
        del_timer_sync(&c.timer);
    }
}

// It is left asleep, unless something else woke it: then it has taken an interrupt.
static uint64_t tick_interrupts(unsigned cpu)
{
    return irq_total(cpu);
}

static void tick_nothing(void *arg)
{
    (void)arg;
}

KTEST(tick, a_sleeping_cpu_is_not_woken_for_a_deferrable_timer)
{
    struct counted c = {0};

    if (cpumask_weight(&cpu_online_mask) < 2) {
        SKIP("one CPU: it runs this test");
    }
    unsigned cpu = sleeping_cpu();
    REQUIRE(cpu != MAX_CPUS);
    uint64_t interrupts = tick_interrupts(cpu);
    timer_setup(&c.timer, counted_function, TIMER_DEFERRABLE);
    c.timer.expires = jiffies + 1;
    add_timer_on(&c.timer, cpu);
    msleep(40);
    EXPECT(get(&c.fired) == 0 || tick_interrupts(cpu) != interrupts);
    struct thread *thread = kthread_run_on(cpu, tick_nothing, NULL, "waker/%u", cpu);
    REQUIRE(thread != NULL);
    EXPECT(EVENTUALLY(get(&c.fired) == 1));
    EXPECT_EQ(c.cpu, cpu);
    thread_join(thread);
    del_timer_sync(&c.timer);
}

// ---- the wrap of jiffies -----------------------------------------------------------------------

struct wrap_work {
    struct delayed_work work;
    uint32_t at; // A: jiffies when it ran
    unsigned ran;
};

static void wrap_work_function(struct work_struct *work)
{
    struct wrap_work *w = container_of(work, struct wrap_work, work.work);

    w->at = jiffies;
    __atomic_fetch_add(&w->ran, 1, __ATOMIC_SEQ_CST);
}

static void wrap_delays(struct ktest_run *ktest, uint32_t delay)
{
    struct wrap_work w = {.ran = 0};
    struct completion never;
    uint32_t start = jiffies;

    INIT_DELAYED_WORK(&w.work, wrap_work_function);
    init_completion(&never);
    schedule_delayed_work(&w.work, delay);
    EXPECT_EQ(wait_for_completion_timeout(&never, delay), 0);
    EXPECT(jiffies - start >= delay && jiffies - start < 1000000);
    EXPECT(EVENTUALLY(get(&w.ran) == 1));
    EXPECT(w.at - start >= delay && w.at - start < 1000000);
    mod_delayed_work(system_wq, &w.work, 1);
    EXPECT(EVENTUALLY(get(&w.ran) == 2));
    cancel_delayed_work_sync(&w.work);
}

KTEST(tick, delayed_work_and_timeouts_cross_the_wrap)
{
    static const uint32_t delays[] = {1, 2, 4, 5, 6, 12};

    if (!wrap_is_near()) {
        SKIP("jiffies have wrapped long ago");
    }
    for (unsigned i = 0; i < ARRAY_SIZE(delays); i++) {
        wrap_begin(5);
        wrap_delays(ktest, delays[i]);
    }
    wrap_begin(3);
    uint32_t start = jiffies;
    msleep(20);
    EXPECT(jiffies - start >= 20 * HZ / 1000);
    EXPECT(jiffies < 1000000); // it has wrapped
}
