// Timers: each fires once, not before its tick, on one CPU at a time, and across the wrap of
// jiffies.
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/softirq.h>
#include <defer/timer.h>

#include "eventually.h"
#include "wrap.h"

struct counted_timer {
    struct timer_list timer;
    unsigned fired;   // A
    uint32_t at;      // jiffies of the last time
    unsigned cpu;     // of the last time
    bool in_softirq;  // of the last time
    unsigned restart; // A: start itself so many times
};

static unsigned get(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void counted_function(struct timer_list *timer)
{
    struct counted_timer *t = container_of(timer, struct counted_timer, timer);

    t->at = jiffies;
    t->cpu = cpu_id();
    t->in_softirq = cpu_context() == CTX_SOFTIRQ;
    if (t->restart != 0) {
        t->restart--;
        mod_timer(timer, jiffies + 1);
    }
    __atomic_fetch_add(&t->fired, 1, __ATOMIC_SEQ_CST);
}

static void counted_init(struct counted_timer *t)
{
    *t = (struct counted_timer){0};
    timer_setup(&t->timer, counted_function, 0);
}

KTEST(timer, fires_once_and_not_early)
{
    struct counted_timer t;
    uint32_t expires;

    counted_init(&t);
    EXPECT(!timer_pending(&t.timer));
    EXPECT_EQ(del_timer(&t.timer), 0);
    expires = jiffies + 10;
    EXPECT_EQ(mod_timer(&t.timer, expires), 0);
    EXPECT(timer_pending(&t.timer));
    EXPECT(EVENTUALLY(get(&t.fired) == 1));
    EXPECT(!time_after(expires, t.at));
    EXPECT(t.in_softirq);
    EXPECT(!timer_pending(&t.timer));
    msleep(50);
    EXPECT_EQ(get(&t.fired), 1);
}

KTEST(timer, moved_and_deleted)
{
    struct counted_timer t;

    counted_init(&t);
    mod_timer(&t.timer, jiffies + 1000000);
    EXPECT_EQ(mod_timer(&t.timer, jiffies + 2), 1);
    EXPECT(EVENTUALLY(get(&t.fired) == 1));
    local_bh_disable(); // however late we are, it does not fire in between
    mod_timer(&t.timer, jiffies + 5);
    EXPECT_EQ(del_timer_sync(&t.timer), 1);
    local_bh_enable();
    EXPECT_EQ(del_timer_sync(&t.timer), 0);
    msleep(40);
    EXPECT_EQ(get(&t.fired), 1);
    mod_timer(&t.timer, jiffies - 5); // past: at the next tick
    EXPECT(EVENTUALLY(get(&t.fired) == 2));
}

KTEST(timer, starts_itself_until_deleted)
{
    struct counted_timer t;
    unsigned fired;

    counted_init(&t);
    t.restart = UINT32_MAX;
    mod_timer(&t.timer, jiffies + 1);
    EXPECT(EVENTUALLY(get(&t.fired) >= 5));
    del_timer_sync(&t.timer);
    fired = get(&t.fired);
    msleep(30);
    EXPECT_EQ(get(&t.fired), fired);
    EXPECT(!timer_pending(&t.timer));
}

KTEST(timer, shut_down_for_good)
{
    struct counted_timer t;

    counted_init(&t);
    t.restart = UINT32_MAX;
    mod_timer(&t.timer, jiffies + 1);
    EXPECT(EVENTUALLY(get(&t.fired) >= 2));
    timer_shutdown_sync(&t.timer);
    unsigned fired = get(&t.fired);
    EXPECT_EQ(mod_timer(&t.timer, jiffies + 1), 0);
    EXPECT(!timer_pending(&t.timer));
    msleep(20);
    EXPECT_EQ(get(&t.fired), fired);
    EXPECT_EQ(timer_shutdown_sync(&t.timer), 0);
}

KTEST(timer, runs_on_the_cpu_it_was_started_on)
{
    struct counted_timer t;

    for_each_online_cpu (cpu) {
        counted_init(&t);
        t.timer.expires = jiffies + 2;
        add_timer_on(&t.timer, cpu);
        EXPECT(EVENTUALLY(get(&t.fired) == 1));
        EXPECT_EQ(t.cpu, cpu);
    }
}

// Everybody pulls at the same few timers; each run is counted, and no function runs on two CPUs at
// once.
enum { PULL_TIMERS = 4, PULL_ROUNDS = 5000, PULL_THREADS_MAX = 4 };

struct pulled {
    struct timer_list timer;
    unsigned inside, overlaps, fired; // A
};
static struct pulled pulled[PULL_TIMERS];

static void pulled_function(struct timer_list *timer)
{
    struct pulled *p = container_of(timer, struct pulled, timer);

    if (__atomic_fetch_add(&p->inside, 1, __ATOMIC_SEQ_CST) != 0) {
        __atomic_fetch_add(&p->overlaps, 1, __ATOMIC_SEQ_CST);
    }
    __atomic_fetch_add(&p->fired, 1, __ATOMIC_SEQ_CST);
    for (volatile unsigned i = 0; i < 100; i++) {
    }
    __atomic_fetch_sub(&p->inside, 1, __ATOMIC_SEQ_CST);
}

static void pulling_thread(void *arg)
{
    uint32_t random = (uint32_t)(uintptr_t)arg;

    for (unsigned i = 0; i < PULL_ROUNDS; i++) {
        random = random * 1664525 + 1013904223;
        struct pulled *p = &pulled[(random >> 16) % PULL_TIMERS];
        if (random >> 30 == 0) {
            del_timer_sync(&p->timer);
        } else {
            mod_timer(&p->timer, jiffies + (random >> 20) % 3);
        }
    }
}

KTEST(timer, pulled_at_from_all_cpus)
{
    struct thread *threads[PULL_THREADS_MAX];
    unsigned count = min(cpumask_weight(&cpu_online_mask), (unsigned)PULL_THREADS_MAX);

    for (unsigned i = 0; i < PULL_TIMERS; i++) {
        pulled[i] = (struct pulled){0};
        timer_setup(&pulled[i].timer, pulled_function, 0);
    }
    for (unsigned i = 0; i < count; i++) {
        threads[i] = kthread_run_on(i, pulling_thread, (void *)(uintptr_t)(i + 1), "pull/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    for (unsigned i = 0; i < count; i++) {
        thread_join(threads[i]);
    }
    for (unsigned i = 0; i < PULL_TIMERS; i++) {
        del_timer_sync(&pulled[i].timer);
        EXPECT_EQ(pulled[i].inside, 0);
        EXPECT_EQ(pulled[i].overlaps, 0);
        unsigned fired = pulled[i].fired;
        mod_timer(&pulled[i].timer, jiffies + 1);
        EXPECT(EVENTUALLY(get(&pulled[i].fired) == fired + 1));
    }
}

// Timers and sleepers on both sides of the wrap come in their order. By its name it follows the
// other test of the wrap, tick.delayed_work_and_timeouts_cross_the_wrap.
KTEST(tick, each_timer_crosses_the_wrap_in_its_order)
{
    static struct counted_timer timers[6];
    static const uint32_t distances[] = {3, 10, 24, 25, 40, 90};
    uint32_t start, slept_from;

    if (!wrap_is_near()) {
        SKIP("jiffies have wrapped long ago");
    }
    wrap_begin(25);
    start = jiffies;
    for (unsigned i = 0; i < ARRAY_SIZE(timers); i++) { // on one CPU: others have their own order
        counted_init(&timers[i]);
        timers[i].timer.expires = start + distances[i];
        add_timer_on(&timers[i].timer, 0);
    }
    slept_from = jiffies;
    msleep(60 * 1000 / HZ);
    EXPECT(jiffies - slept_from >= 60);
    EXPECT(jiffies < 1000000);
    for (unsigned i = 0; i < ARRAY_SIZE(timers); i++) {
        EXPECT(EVENTUALLY(get(&timers[i].fired) == 1));
        EXPECT(!time_after(start + distances[i], timers[i].at));
        EXPECT(i == 0 || !time_after(timers[i - 1].at, timers[i].at));
    }
}
