// Items of work that compute: they hold up nobody for long, are counted, and can be waited for,
// cancelled and queued again as others can.
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/work.h>

#include "eventually.h"

static unsigned get(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void put(unsigned *p, unsigned value)
{
    __atomic_store_n(p, value, __ATOMIC_SEQ_CST);
}

static unsigned hog_stop, hog_inside, hog_overlaps, hog_executed; // A
static unsigned hog_ms;                                           // A: its thread's time on its CPU
static unsigned executed;                                         // A

// Computes until it is told to stop.
static void hog_function(struct work_struct *work)
{
    uint64_t before = READ_ONCE(current->runtime);
    unsigned inside = __atomic_add_fetch(&hog_inside, 1, __ATOMIC_SEQ_CST);

    (void)work;
    __atomic_fetch_add(&hog_overlaps, inside != 1, __ATOMIC_SEQ_CST);
    while (get(&hog_stop) == 0) {
        put(&hog_ms, (unsigned)(clock_tsc_to_ns(READ_ONCE(current->runtime) - before) / 1000000));
        cpu_relax();
    }
    __atomic_fetch_sub(&hog_inside, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&hog_executed, 1, __ATOMIC_SEQ_CST);
}

static void counting_function(struct work_struct *work)
{
    (void)work;
    __atomic_fetch_add(&executed, 1, __ATOMIC_SEQ_CST);
}

static void hog_begin(struct work_struct *hog, struct work_struct *other)
{
    hog_stop = hog_inside = hog_overlaps = hog_executed = hog_ms = executed = 0;
    INIT_WORK(hog, hog_function);
    INIT_WORK(other, counting_function);
}

KTEST(intensive, a_hog_holds_up_nobody)
{
    uint64_t before = work_intensive_count(hog_function);
    struct work_struct hog, other;

    for_each_online_cpu (cpu) {
        hog_begin(&hog, &other);
        EXPECT(schedule_work_on(cpu, &hog));
        EXPECT(schedule_work_on(cpu, &other));
        EXPECT(EVENTUALLY(get(&executed) == 1));
        EXPECT_EQ(get(&hog_inside), 1);
        EXPECT_EQ(work_intensive_count(hog_function), ++before);
        EXPECT(schedule_work_on(cpu, &other)); // and not only once
        EXPECT(EVENTUALLY(get(&executed) == 2));
        EXPECT_EQ(get(&hog_inside), 1);
        put(&hog_stop, 1);
        flush_work(&hog);
        EXPECT_EQ(get(&hog_executed), 1);
        EXPECT_EQ(work_intensive_count(hog_function), before); // once for each run
    }
}

// Its items do not count from the start: there is nothing to find out.
KTEST(intensive, a_queue_says_so_in_advance)
{
    struct workqueue_struct *wq = alloc_workqueue("test_intensive", WQ_CPU_INTENSIVE, 0);
    uint64_t before = work_intensive_count(hog_function);
    struct work_struct hog, other;

    REQUIRE(wq != NULL);
    hog_begin(&hog, &other);
    EXPECT(queue_work_on(0, wq, &hog));
    EXPECT(schedule_work_on(0, &other));
    EXPECT(EVENTUALLY(get(&executed) == 1));
    EXPECT(EVENTUALLY(get(&hog_ms) >= 50));
    EXPECT_EQ(get(&hog_inside), 1);
    put(&hog_stop, 1);
    flush_workqueue(wq);
    EXPECT_EQ(get(&hog_executed), 1);
    EXPECT_EQ(work_intensive_count(hog_function), before);
    destroy_workqueue(wq);
}

// What computes elsewhere than in a CPU's pool holds up nobody, and is not counted.
KTEST(intensive, unbound_items_are_not_looked_at)
{
    uint64_t before = work_intensive_count(hog_function);
    struct work_struct hog, other;

    hog_begin(&hog, &other);
    EXPECT(queue_work(system_unbound_wq, &hog));
    EXPECT(EVENTUALLY(get(&hog_ms) >= 50));
    put(&hog_stop, 1);
    flush_work(&hog);
    EXPECT_EQ(work_intensive_count(hog_function), before);
}

static unsigned waited; // A

static void flushing_thread(void *arg)
{
    flush_work(arg);
    put(&waited, 1);
}

static void cancelling_thread(void *arg)
{
    put(&waited, cancel_work_sync(arg) ? 2 : 1);
}

// A thread that waits for the item, once it does; NULL when there is no memory.
static struct thread *waiter_start(void (*fn)(void *arg), struct work_struct *work)
{
    struct thread *thread;

    put(&waited, 0);
    thread = kthread_run(fn, work, "hog waiter");
    return thread != NULL && EVENTUALLY(READ_ONCE(thread->state) == THREAD_BLOCKED) ? thread : NULL;
}

// Queued again while it runs, from another CPU: the worker that took its place on the CPU leaves it
// to the one that runs it. Cancelled then, it was pending, and the run that is on is waited for.
KTEST(intensive, a_hog_is_flushed_and_cancelled_and_never_run_twice_at_once)
{
    uint64_t before = work_intensive_count(hog_function);
    struct work_struct hog, other;
    struct thread *thread;

    hog_begin(&hog, &other);
    EXPECT(schedule_work_on(0, &hog));
    EXPECT(EVENTUALLY(work_intensive_count(hog_function) > before));
    thread = waiter_start(flushing_thread, &hog);
    EXPECT(thread != NULL && get(&waited) == 0);
    EXPECT(schedule_work_on(cpu_count - 1, &hog));
    EXPECT(!schedule_work_on(0, &hog));
    EXPECT(schedule_work_on(0, &other)); // behind the second run
    EXPECT(EVENTUALLY(get(&executed) == 1));
    EXPECT_EQ(get(&hog_inside), 1);
    put(&hog_stop, 1);
    if (thread != NULL) {
        thread_join(thread);
    }
    flush_work(&hog);
    EXPECT_EQ(get(&hog_executed), 2);
    EXPECT_EQ(get(&hog_overlaps), 0);

    hog_begin(&hog, &other);
    before = work_intensive_count(hog_function);
    EXPECT(schedule_work_on(0, &hog));
    EXPECT(EVENTUALLY(work_intensive_count(hog_function) > before));
    EXPECT(schedule_work_on(0, &hog));
    thread = waiter_start(cancelling_thread, &hog);
    EXPECT(thread != NULL && get(&waited) == 0);
    put(&hog_stop, 1);
    if (thread != NULL) {
        thread_join(thread);
    }
    EXPECT_EQ(get(&waited), 2);
    EXPECT_EQ(get(&hog_executed), 1);
    EXPECT_EQ(hog.pending, 0);
}

// Taken out of the count it sleeps and wakes, and the count is right when it ends: were it one too
// many, or one too few, nobody on this CPU would begin anything any more.
static void sleeping_hog_function(struct work_struct *work)
{
    uint64_t before = work_intensive_count(sleeping_hog_function);
    uint64_t end_ns = clock_ns() + 10000000000ull; // a hang

    (void)work;
    msleep(1);
    while (work_intensive_count(sleeping_hog_function) == before && clock_ns() < end_ns) {
        cpu_relax();
    }
    msleep(1);
    udelay(20000);
    msleep(1);
    __atomic_fetch_add(&hog_executed, 1, __ATOMIC_SEQ_CST);
}

KTEST(intensive, a_hog_that_sleeps_leaves_the_count_right)
{
    uint64_t before = work_intensive_count(sleeping_hog_function);
    struct work_struct hog, other;

    hog_begin(&hog, &other);
    INIT_WORK(&hog, sleeping_hog_function);
    for (unsigned i = 1; i <= 5; i++) {
        EXPECT(schedule_work_on(0, &hog));
        EXPECT(schedule_work_on(0, &other));
        EXPECT(EVENTUALLY(get(&hog_executed) == i && get(&executed) == i));
        flush_work(&hog);
        EXPECT_EQ(work_intensive_count(sleeping_hog_function), before + i);
    }
}
