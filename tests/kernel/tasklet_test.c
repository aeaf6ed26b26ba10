// Tasklets: never two at once, none lost, exactly once more when asked for while running.
#include <contract/ktest.h>
#include <core/cpu.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/softirq.h>
#include <defer/tasklet.h>

#include "eventually.h"

static unsigned get(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static unsigned calls; // A
static unsigned again; // A

static void counting_callback(struct tasklet_struct *t)
{
    __atomic_fetch_add(&calls, 1, __ATOMIC_SEQ_CST);
    if (get(&again) != 0) {
        __atomic_fetch_sub(&again, 1, __ATOMIC_SEQ_CST);
        tasklet_schedule(t);
        tasklet_schedule(t); // changes nothing
    }
}

KTEST(tasklet, runs_once_for_each_schedule)
{
    struct tasklet_struct t;

    calls = again = 0;
    tasklet_setup(&t, counting_callback, "once");
    for (unsigned i = 1; i <= 20; i++) {
        tasklet_schedule(&t);
        EXPECT(EVENTUALLY(get(&calls) == i));
    }
    tasklet_hi_schedule(&t);
    EXPECT(EVENTUALLY(get(&calls) == 21));
    tasklet_kill(&t);
}

enum { ORDER_TASKLETS = 5 };
static struct tasklet_struct order[ORDER_TASKLETS]; // one CPU's, bottom halves off or in a softirq
static unsigned order_ran[2 * ORDER_TASKLETS], order_count;

static void order_callback(struct tasklet_struct *t)
{
    if (order_count < ARRAY_SIZE(order_ran)) {
        order_ran[order_count++] = (unsigned)(t - order);
    }
    if (order_count == 3) { // itself, while the list is worked off: behind all of it
        tasklet_schedule(&order[0]);
    }
}

// In the order in which they were asked for; one that was asked for already keeps its place, and
// tasklet_hi_schedule() comes first.
KTEST(tasklet, run_in_the_order_of_asking)
{
    static const unsigned expected[] = {4, 2, 0, 1, 3, 0};

    order_count = 0;
    for (unsigned i = 0; i < ORDER_TASKLETS; i++) {
        tasklet_setup(&order[i], order_callback, "order");
    }
    local_bh_disable();
    tasklet_schedule(&order[2]);
    tasklet_schedule(&order[0]);
    tasklet_schedule(&order[1]);
    tasklet_schedule(&order[2]);
    tasklet_hi_schedule(&order[4]);
    tasklet_schedule(&order[3]);
    EXPECT_EQ(order_count, 0);
    local_bh_enable();
    EXPECT(EVENTUALLY(READ_ONCE(order_count) >= ARRAY_SIZE(expected)));
    for (unsigned i = 0; i < ARRAY_SIZE(expected); i++) {
        EXPECT_EQ(order_ran[i], expected[i]);
    }
    for (unsigned i = 0; i < ORDER_TASKLETS; i++) {
        tasklet_kill(&order[i]);
    }
    EXPECT_EQ(order_count, ARRAY_SIZE(expected));
}

KTEST(tasklet, schedules_itself)
{
    struct tasklet_struct t;

    calls = 0;
    again = 50;
    tasklet_setup(&t, counting_callback, "again");
    tasklet_schedule(&t);
    EXPECT(EVENTUALLY(get(&calls) == 51));
    msleep(20);
    EXPECT_EQ(get(&calls), 51);
    tasklet_kill(&t);
}

KTEST(tasklet, disabled_waits_without_spinning)
{
    struct tasklet_struct t;

    calls = again = 0;
    tasklet_setup(&t, counting_callback, "disabled");
    tasklet_disable(&t);
    tasklet_disable(&t);
    tasklet_schedule(&t);
    tasklet_schedule(&t);
    tasklet_enable(&t);
    msleep(30);
    EXPECT_EQ(get(&calls), 0);
    tasklet_enable(&t);
    EXPECT(EVENTUALLY(get(&calls) == 1));
    msleep(20);
    EXPECT_EQ(get(&calls), 1);

    tasklet_disable(&t);
    tasklet_schedule(&t);
    msleep(20);
    tasklet_kill(&t); // scheduled and disabled: killed without having run
    tasklet_enable(&t);
    msleep(20);
    EXPECT_EQ(get(&calls), 1);
    tasklet_schedule(&t); // alive again
    EXPECT(EVENTUALLY(get(&calls) == 2));
    tasklet_kill(&t);

    tasklet_disable(&t);
    tasklet_hi_schedule(&t);
    EXPECT(EVENTUALLY(!softirq_pending()));
    tasklet_kill(&t); // nobody has asked for it any more, in either softirq
    EXPECT(tasklet_find(&t, sizeof(t)) == NULL);
    tasklet_enable(&t);
}

// Asked for three times while it runs on another CPU: exactly one more run.
static unsigned entered, released; // A

static void holding_callback(struct tasklet_struct *t)
{
    (void)t;
    __atomic_fetch_add(&calls, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&entered, 1, __ATOMIC_SEQ_CST);
    while (get(&released) == 0) {
        cpu_relax();
    }
}

static void schedule_thread(void *arg)
{
    tasklet_schedule(arg);
}

KTEST(tasklet, schedule_while_running_runs_exactly_once_more)
{
    struct cpumask only = {{1}}, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    struct tasklet_struct t;
    struct thread *thread;

    if (!cpumask_test(&cpu_online_mask, 1)) {
        SKIP("one CPU");
    }
    calls = entered = released = 0;
    tasklet_setup(&t, holding_callback, "hold");
    sched_setaffinity(current, &only);
    thread = kthread_run_on(1, schedule_thread, &t, "schedule");
    REQUIRE(thread != NULL);
    while (get(&entered) == 0) {
        cpu_relax();
    }
    tasklet_schedule(&t);
    tasklet_schedule(&t);
    tasklet_schedule(&t);
    EXPECT_EQ(get(&calls), 1);
    __atomic_store_n(&released, 1, __ATOMIC_SEQ_CST);
    EXPECT(EVENTUALLY(get(&calls) == 2));
    msleep(20);
    EXPECT_EQ(get(&calls), 2);
    thread_join(thread);
    tasklet_kill(&t);
    sched_setaffinity(current, &all);
}

// 100,000 random operations from every CPU on a few tasklets. `wanted` is set before each schedule
// and taken by the run: what is still set at the end was lost. `inside` counts runs at the same
// time.
enum { STRESS_TASKLETS = 5, STRESS_OPS = 100000, STRESS_THREADS_MAX = 8 };

struct stress {
    struct tasklet_struct tasklet;
    uint32_t runs;             // A
    unsigned inside, overlaps; // A
    unsigned wanted;           // A
};
static struct stress stress[STRESS_TASKLETS];

static void stress_callback(struct tasklet_struct *t)
{
    struct stress *s = container_of(t, struct stress, tasklet);

    if (__atomic_fetch_add(&s->inside, 1, __ATOMIC_SEQ_CST) != 0) {
        __atomic_fetch_add(&s->overlaps, 1, __ATOMIC_SEQ_CST);
    }
    __atomic_fetch_add(&s->runs, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&s->wanted, 0, __ATOMIC_SEQ_CST);
    __atomic_fetch_sub(&s->inside, 1, __ATOMIC_SEQ_CST);
}

static void stress_operation(struct stress *s, unsigned what)
{
    if (what < 70) {
        __atomic_store_n(&s->wanted, 1, __ATOMIC_SEQ_CST);
        tasklet_schedule(&s->tasklet);
    } else if (what < 90) {
        __atomic_store_n(&s->wanted, 1, __ATOMIC_SEQ_CST);
        tasklet_hi_schedule(&s->tasklet);
    } else {
        tasklet_disable(&s->tasklet);
        if (__atomic_load_n(&s->inside, __ATOMIC_SEQ_CST) != 0) { // disabled means: not running
            __atomic_fetch_add(&s->overlaps, 1, __ATOMIC_SEQ_CST);
        }
        tasklet_enable(&s->tasklet);
    }
}

static void stress_thread(void *arg)
{
    uint32_t random = 12345 + (uint32_t)(uintptr_t)arg * 977;
    unsigned threads = min(cpumask_weight(&cpu_online_mask), (unsigned)STRESS_THREADS_MAX);

    for (unsigned i = 0; i < STRESS_OPS / threads; i++) {
        random = random * 1664525 + 1013904223;
        stress_operation(&stress[(random >> 16) % STRESS_TASKLETS], (random >> 24) % 100);
    }
}

KTEST(tasklet, stress_from_all_cpus)
{
    struct thread *threads[STRESS_THREADS_MAX];
    unsigned count = min(cpumask_weight(&cpu_online_mask), (unsigned)STRESS_THREADS_MAX);

    for (unsigned i = 0; i < STRESS_TASKLETS; i++) {
        stress[i] = (struct stress){0};
        tasklet_setup(&stress[i].tasklet, stress_callback, "stress");
    }
    for (unsigned i = 0; i < count; i++) {
        threads[i] = kthread_run_on(i, stress_thread, (void *)(uintptr_t)i, "stress/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    for (unsigned i = 0; i < count; i++) {
        thread_join(threads[i]);
    }
    for (unsigned i = 0; i < STRESS_TASKLETS; i++) {
        EXPECT(EVENTUALLY(get(&stress[i].wanted) == 0));
        tasklet_kill(&stress[i].tasklet);
        EXPECT_EQ(stress[i].overlaps, 0);
        EXPECT(get(&stress[i].runs) > 0);
        EXPECT_EQ(stress[i].tasklet.state & 3, 0);
    }
}
