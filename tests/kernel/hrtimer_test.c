// High-resolution timers: in order, never early, in the context they were made for, on one CPU at a
// time, and gone when they were cancelled.
#include <lib/errno.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/thread.h>
#include <defer/hrtimer.h>

#include "eventually.h"
#include "every_cpu.h"

struct noted {
    struct hrtimer timer;
    unsigned fired; // A
    ktime_t at;     // of the last time, as are the rest
    unsigned context, cpu, turn;
    unsigned restarts; // how often it asks to run again
    uint64_t overruns; // what hrtimer_forward() told it
};

static unsigned noted_turns; // A

static unsigned get(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static enum hrtimer_restart noted_function(struct hrtimer *timer)
{
    struct noted *n = container_of(timer, struct noted, timer);
    bool again = n->restarts != 0;

    n->at = ktime_get();
    n->context = cpu_context();
    n->cpu = cpu_id();
    n->turn = __atomic_fetch_add(&noted_turns, 1, __ATOMIC_SEQ_CST);
    if (again) {
        n->restarts--;
        n->overruns += hrtimer_forward_now(timer, us_to_ktime(50));
    }
    __atomic_fetch_add(&n->fired, 1, __ATOMIC_SEQ_CST); // last: the test may go on
    return again ? HRTIMER_RESTART : HRTIMER_NORESTART;
}

static void noted_init(struct noted *n, enum hrtimer_mode mode)
{
    *n = (struct noted){0};
    hrtimer_setup(&n->timer, noted_function, CLOCK_MONOTONIC, mode);
}

KTEST(hrtimer, fires_once_and_not_early)
{
    for (unsigned hard = 0; hard < 2; hard++) {
        struct noted n;

        noted_init(&n, hard ? HRTIMER_MODE_REL_HARD : HRTIMER_MODE_REL);
        EXPECT(!hrtimer_active(&n.timer));
        EXPECT_EQ(hrtimer_cancel(&n.timer), 0);
        ktime_t not_before = ktime_get() + us_to_ktime(300);
        hrtimer_start(&n.timer, us_to_ktime(300), HRTIMER_MODE_REL);
        EXPECT(EVENTUALLY(get(&n.fired) == 1));
        EXPECT(n.at >= not_before);
        EXPECT_EQ(n.context, hard ? CTX_HARDIRQ : CTX_SOFTIRQ);
        EXPECT_EQ(hrtimer_cancel(&n.timer), 0);
        EXPECT(!hrtimer_active(&n.timer));
        EXPECT_EQ(get(&n.fired), 1);
    }
}

KTEST(hrtimer, in_order_of_expiry)
{
    enum { TIMERS = 16 };
    static struct noted timers[TIMERS];

    unsigned long flags = local_irq_save(); // all on one CPU, and none before all are there
    ktime_t base = ktime_get() + ms_to_ktime(2);
    for (unsigned i = 0; i < TIMERS; i++) {
        unsigned place = i * 7 % TIMERS;
        noted_init(&timers[place], HRTIMER_MODE_ABS);
        hrtimer_start(&timers[place].timer, base + us_to_ktime(place), HRTIMER_MODE_ABS);
    }
    local_irq_restore(flags);
    for (unsigned i = 0; i < TIMERS; i++) {
        EXPECT(EVENTUALLY(get(&timers[i].fired) == 1));
        EXPECT(timers[i].at >= base + us_to_ktime(i));
        EXPECT(i == 0 || timers[i].turn > timers[i - 1].turn);
        EXPECT_EQ(timers[i].cpu, timers[0].cpu);
        hrtimer_cancel(&timers[i].timer);
    }
}

KTEST(hrtimer, moved_and_cancelled)
{
    struct noted n;

    noted_init(&n, HRTIMER_MODE_REL);
    hrtimer_start(&n.timer, ms_to_ktime(1000 * 1000), HRTIMER_MODE_REL);
    EXPECT(hrtimer_is_queued(&n.timer));
    EXPECT(hrtimer_get_remaining(&n.timer) > ms_to_ktime(1000));
    hrtimer_start(&n.timer, us_to_ktime(100), HRTIMER_MODE_REL);
    EXPECT(EVENTUALLY(get(&n.fired) == 1));
    hrtimer_start(&n.timer, ms_to_ktime(1000 * 1000), HRTIMER_MODE_REL);
    EXPECT_EQ(hrtimer_cancel(&n.timer), 1);
    EXPECT_EQ(hrtimer_try_to_cancel(&n.timer), 0);
    hrtimer_start(&n.timer, -5, HRTIMER_MODE_ABS); // past: at once
    EXPECT(EVENTUALLY(get(&n.fired) == 2));
    hrtimer_cancel(&n.timer);
}

KTEST(hrtimer, found_by_where_it_lies)
{
    for (unsigned hard = 0; hard < 2; hard++) {
        enum hrtimer_mode mode = hard ? HRTIMER_MODE_REL_HARD : HRTIMER_MODE_REL;
        struct noted n[3];

        for (unsigned i = 0; i < ARRAY_SIZE(n); i++) {
            noted_init(&n[i], mode);
        }
        hrtimer_start(&n[1].timer, ms_to_ktime(100000), mode);
        EXPECT(hrtimer_find(&n[0], sizeof(n[0])) == NULL);
        EXPECT(hrtimer_find(&n[2], sizeof(n[2])) == NULL);
        EXPECT(hrtimer_find(n, sizeof(n)) == &n[1].timer);
        EXPECT_EQ(hrtimer_cancel(&n[1].timer), 1);
        EXPECT(hrtimer_find(n, sizeof(n)) == NULL);
    }
}

KTEST(hrtimer, restarts_itself)
{
    struct noted n;

    noted_init(&n, HRTIMER_MODE_REL);
    n.restarts = 20;
    ktime_t begin = ktime_get();
    hrtimer_start(&n.timer, us_to_ktime(50), HRTIMER_MODE_REL);
    EXPECT(EVENTUALLY(get(&n.fired) == 21));
    EXPECT_EQ(hrtimer_cancel(&n.timer), 0);
    EXPECT(n.overruns >= 20);
    EXPECT(n.at - begin >= us_to_ktime(50) * (ktime_t)n.overruns);
}

// The arithmetic alone: how often the interval fits, and that the next expiry is behind `now`.
KTEST(hrtimer, forward_counts_overruns)
{
    struct noted n;

    noted_init(&n, HRTIMER_MODE_ABS);
    n.timer.expires = n.timer.soft_expires = 1000;
    EXPECT_EQ(hrtimer_forward(&n.timer, 999, 100), 0);
    EXPECT_EQ(hrtimer_get_expires(&n.timer), 1000);
    EXPECT_EQ(hrtimer_forward(&n.timer, 1000, 100), 1);
    EXPECT_EQ(hrtimer_get_expires(&n.timer), 1100);
    EXPECT_EQ(hrtimer_forward(&n.timer, 1199, 100), 1);
    EXPECT_EQ(hrtimer_get_expires(&n.timer), 1200);
    EXPECT_EQ(hrtimer_forward(&n.timer, 1750, 100), 6);
    EXPECT_EQ(hrtimer_get_expires(&n.timer), 1800);
    EXPECT_EQ(hrtimer_forward(&n.timer, 1000000001800, 1), 1000000000001);
    EXPECT_EQ(hrtimer_get_expires(&n.timer), 1000000001801);
    EXPECT_EQ(hrtimer_forward(&n.timer, KTIME_MAX - 1, KTIME_MAX), 1);
    EXPECT_EQ(hrtimer_get_expires(&n.timer), KTIME_MAX);
}

// ---- cancelling what is running ----

struct slow {
    struct hrtimer timer;
    bool inside, leave, left; // A
};

static enum hrtimer_restart slow_function(struct hrtimer *timer)
{
    struct slow *s = container_of(timer, struct slow, timer);

    WRITE_ONCE(s->inside, true);
    wait_until(READ_ONCE(s->leave), 10 * 1000 * 1000);
    udelay(200); // whoever does not wait for us is gone before this
    WRITE_ONCE(s->left, true);
    hrtimer_forward_now(timer, ms_to_ktime(1000 * 1000));
    return HRTIMER_RESTART; // in vain: it is being cancelled
}

static void slow_start(void *arg)
{
    struct slow *s = arg;

    hrtimer_start(&s->timer, 0, HRTIMER_MODE_REL);
}

KTEST(hrtimer, cancel_waits_for_the_function)
{
    struct slow s = {.inside = false};
    struct thread *thread;

    if (cpumask_weight(&cpu_online_mask) < 2) {
        SKIP("one CPU: nobody could cancel while it runs");
    }
    preempt_disable();
    unsigned other = cpu_id() == 0 ? 1 : 0;
    preempt_enable();
    hrtimer_setup(&s.timer, slow_function, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
    thread = kthread_run_on(other, slow_start, &s, "slow/%u", other);
    REQUIRE(thread != NULL);
    struct cpumask mask = {0}, all = current->allowed;
    cpumask_set(&mask, other == 0 ? 1 : 0); // stay where we are: it runs on the other one
    sched_setaffinity(current, &mask);
    EXPECT(wait_until(READ_ONCE(s.inside), 10 * 1000 * 1000));
    EXPECT(hrtimer_callback_running(&s.timer));
    EXPECT(hrtimer_active(&s.timer));
    EXPECT_EQ(hrtimer_try_to_cancel(&s.timer), -1);
    WRITE_ONCE(s.leave, true);
    EXPECT_EQ(hrtimer_cancel(&s.timer), 1); // it had asked to be restarted
    EXPECT(READ_ONCE(s.left));
    EXPECT(!hrtimer_active(&s.timer));
    thread_join(thread);
    sched_setaffinity(current, &all);
}

// ---- everybody pulls at the same few timers ----

enum { PULL_TIMERS = 6, PULL_ROUNDS = 10000 };

struct pulled {
    struct hrtimer timer;
    unsigned inside, overlaps, fired; // A
};
static struct pulled pulled[PULL_TIMERS];

static enum hrtimer_restart pulled_function(struct hrtimer *timer)
{
    struct pulled *p = container_of(timer, struct pulled, timer);

    if (__atomic_fetch_add(&p->inside, 1, __ATOMIC_SEQ_CST) != 0) {
        __atomic_fetch_add(&p->overlaps, 1, __ATOMIC_SEQ_CST);
    }
    if (__atomic_add_fetch(&p->fired, 1, __ATOMIC_SEQ_CST) % 3 == 0) {
        hrtimer_start(timer, us_to_ktime(20), HRTIMER_MODE_REL); // others may do so just now
    }
    __atomic_fetch_sub(&p->inside, 1, __ATOMIC_SEQ_CST);
    return HRTIMER_NORESTART;
}

static void pulling(struct every_cpu *self)
{
    for (unsigned i = 0; i < PULL_ROUNDS; i++) {
        unsigned random = every_cpu_random(self);
        struct hrtimer *timer = &pulled[random % PULL_TIMERS].timer;

        switch (random >> 16 & 7) {
        case 0:
            hrtimer_cancel(timer);
            break;
        case 1:
            hrtimer_try_to_cancel(timer);
            break;
        default:
            hrtimer_start(timer, us_to_ktime(random >> 20 & 63), HRTIMER_MODE_REL);
            break;
        }
    }
}

KTEST(hrtimer, pulled_at_from_all_cpus)
{
    for (unsigned i = 0; i < PULL_TIMERS; i++) {
        pulled[i] = (struct pulled){0};
        hrtimer_setup(&pulled[i].timer, pulled_function, CLOCK_MONOTONIC,
                      i % 2 ? HRTIMER_MODE_REL_HARD : HRTIMER_MODE_REL);
    }
    EXPECT(every_cpu_run(ktest, pulling, NULL));
    for (unsigned i = 0; i < PULL_TIMERS; i++) {
        hrtimer_cancel(&pulled[i].timer);
        EXPECT(!hrtimer_active(&pulled[i].timer));
        EXPECT_EQ(pulled[i].inside, 0);
        EXPECT_EQ(pulled[i].overlaps, 0);
        unsigned fired = get(&pulled[i].fired);
        hrtimer_start(&pulled[i].timer, us_to_ktime(10), HRTIMER_MODE_REL);
        EXPECT(EVENTUALLY(get(&pulled[i].fired) > fired));
        hrtimer_cancel(&pulled[i].timer);
    }
}

// ---- sleeping ----

static void sleeping(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;

    for (unsigned i = 0; i < 20; i++) {
        ktime_t before = ktime_get();

        if (i % 2) {
            usleep_range(100, 200);
        } else {
            EXPECT_EQ(hrtimer_nanosleep(100000), 0);
        }
        EXPECT(ktime_get() - before >= us_to_ktime(100));
    }
}

KTEST(hrtimer, sleeps_at_least_so_long)
{
    EXPECT(every_cpu_run(ktest, sleeping, NULL));
}

static int interrupted_result; // A

static void interrupted_sleeper(void *arg)
{
    (void)arg;
    WRITE_ONCE(interrupted_result, hrtimer_nanosleep(1000000000000));
}

KTEST(hrtimer, a_sleeper_can_be_interrupted)
{
    interrupted_result = 0;
    struct thread *thread = kthread_run(interrupted_sleeper, NULL, "sleeper");
    REQUIRE(thread != NULL);
    EXPECT(EVENTUALLY(READ_ONCE(thread->state) == THREAD_SLEEPING));
    kthread_stop(thread);
    EXPECT_EQ(READ_ONCE(interrupted_result), -EINTR);
}
