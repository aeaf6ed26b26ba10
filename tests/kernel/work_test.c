// Work: every item queued is executed or cancelled, once; items that sleep hold nobody up.
#include <lib/format.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/completion.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/work.h>

#include "eventually.h"
#include "rt_limit.h"

static unsigned get(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static unsigned executed; // A
static unsigned run_cpu;
static bool run_in_thread;
static char run_name[16];

static void counting_function(struct work_struct *work)
{
    (void)work;
    run_cpu = cpu_id();
    run_in_thread = cpu_context() == CTX_THREAD;
    for (unsigned i = 0; i < sizeof(run_name); i++) {
        run_name[i] = current->name[i];
    }
    __atomic_fetch_add(&executed, 1, __ATOMIC_SEQ_CST);
}

KTEST(work, runs_in_a_worker_of_its_cpu)
{
    struct work_struct work;

    INIT_WORK(&work, counting_function);
    EXPECT(!flush_work(&work)); // never queued
    for_each_online_cpu (cpu) {
        char expected[16];

        executed = 0;
        EXPECT(schedule_work_on(cpu, &work));
        flush_work(&work);
        EXPECT_EQ(get(&executed), 1);
        EXPECT_EQ(run_cpu, cpu);
        EXPECT(run_in_thread);
        snprintf(expected, sizeof(expected), "kworker/%u:", cpu);
        EXPECT(str_starts(run_name, expected));
    }
}

static struct completion go;
static unsigned holding; // A

static void holding_function(struct work_struct *work)
{
    (void)work;
    __atomic_fetch_add(&holding, 1, __ATOMIC_SEQ_CST);
    wait_for_completion(&go);
    __atomic_fetch_sub(&holding, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&executed, 1, __ATOMIC_SEQ_CST);
}

static void releasing_function(struct work_struct *work)
{
    (void)work;
    complete_all(&go);
}

// Five items that sleep, and behind them, on the same CPU, the one that they wait for.
KTEST(work, sleeping_items_hold_up_nobody)
{
    struct work_struct sleepers[5], release;

    executed = holding = 0;
    init_completion(&go);
    for (unsigned i = 0; i < ARRAY_SIZE(sleepers); i++) {
        INIT_WORK(&sleepers[i], holding_function);
        EXPECT(schedule_work_on(0, &sleepers[i]));
    }
    INIT_WORK(&release, releasing_function);
    EXPECT(schedule_work_on(0, &release));
    for (unsigned i = 0; i < ARRAY_SIZE(sleepers); i++) {
        flush_work(&sleepers[i]);
    }
    EXPECT_EQ(get(&executed), ARRAY_SIZE(sleepers));
    flush_work(&release);
}

KTEST(work, queued_twice_before_it_runs_is_once)
{
    struct work_struct hold, work;

    executed = holding = 0;
    init_completion(&go);
    INIT_WORK(&hold, holding_function);
    INIT_WORK(&work, counting_function);
    preempt_disable(); // the worker of this CPU cannot run meanwhile
    EXPECT(schedule_work(&work));
    EXPECT(!schedule_work(&work));
    preempt_enable();
    flush_work(&work);
    EXPECT_EQ(get(&executed), 1);

    // While it runs it may be queued again: it runs twice, but not at once.
    executed = 0;
    EXPECT(schedule_work_on(0, &hold));
    EXPECT(EVENTUALLY(get(&holding) == 1));
    EXPECT(schedule_work_on(cpu_count - 1, &hold));
    EXPECT(!schedule_work_on(0, &hold));
    msleep(20);
    EXPECT_EQ(get(&holding), 1);
    complete_all(&go);
    flush_work(&hold);
    EXPECT_EQ(get(&executed), 2);
}

KTEST(work, cancel_before_it_runs)
{
    struct work_struct hold, work;
    struct cpumask only = {{1}}, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

    executed = 0;
    INIT_WORK(&hold, counting_function);
    INIT_WORK(&work, counting_function);
    EXPECT(!cancel_work_sync(&work));
    sched_setaffinity(current, &only);
    struct rt_limit limit = rt_limit_off();
    sched_setscheduler(current, SCHED_FIFO, 50); // no worker of this CPU comes in between
    EXPECT(schedule_work_on(0, &work));
    EXPECT(cancel_work_sync(&work));
    EXPECT(!cancel_work_sync(&work));
    EXPECT(schedule_work_on(0, &work)); // not for good
    sched_setscheduler(current, SCHED_OTHER, 0);
    rt_limit_on(limit);
    sched_setaffinity(current, &all);
    flush_work(&work);
    EXPECT_EQ(get(&executed), 1);
}

static unsigned flushed; // A

static void flushing_thread(void *arg)
{
    flush_work(arg);
    __atomic_store_n(&flushed, 1, __ATOMIC_SEQ_CST);
}

// Somebody waits for an item that has not begun; it is cancelled: he need not wait any longer, not
// even for the item before it.
KTEST(work, cancel_releases_those_who_flush)
{
    struct workqueue_struct *wq = alloc_workqueue("test_ordered", WQ_UNBOUND, 1);
    struct work_struct hold, work;
    struct thread *flusher;

    REQUIRE(wq != NULL);
    executed = holding = flushed = 0;
    init_completion(&go);
    INIT_WORK(&hold, holding_function);
    INIT_WORK(&work, counting_function);
    EXPECT(queue_work(wq, &hold));
    EXPECT(queue_work(wq, &work)); // held back: the queue runs one at a time
    EXPECT(EVENTUALLY(get(&holding) == 1));
    flusher = kthread_run(flushing_thread, &work, "flusher");
    REQUIRE(flusher != NULL);
    EXPECT(EVENTUALLY(READ_ONCE(flusher->state) == THREAD_BLOCKED));
    EXPECT_EQ(get(&flushed), 0);
    EXPECT(cancel_work_sync(&work));
    EXPECT(EVENTUALLY(get(&flushed) == 1));
    complete_all(&go);
    thread_join(flusher);
    destroy_workqueue(wq);
    EXPECT_EQ(get(&executed), 1);
}

static void requeueing_function(struct work_struct *work)
{
    __atomic_fetch_add(&executed, 1, __ATOMIC_SEQ_CST);
    schedule_work(work);
}

KTEST(work, cancel_stops_one_that_queues_itself)
{
    struct work_struct work;
    unsigned count;

    executed = 0;
    INIT_WORK(&work, requeueing_function);
    schedule_work(&work);
    EXPECT(EVENTUALLY(get(&executed) > 100));
    flush_work(&work); // comes back although the item goes on
    cancel_work_sync(&work);
    count = get(&executed);
    msleep(20);
    EXPECT_EQ(get(&executed), count);
    EXPECT_EQ(work.pending, 0);
}

KTEST(work, delayed)
{
    struct delayed_work work;

    executed = 0;
    INIT_DELAYED_WORK(&work, counting_function);
    EXPECT(schedule_delayed_work(&work, 3));
    EXPECT(EVENTUALLY(get(&executed) == 1));
    EXPECT(schedule_delayed_work(&work, 1000000));
    EXPECT(!schedule_delayed_work(&work, 3)); // it has its time
    EXPECT(cancel_delayed_work_sync(&work));
    EXPECT(!cancel_delayed_work_sync(&work));
    EXPECT(!mod_delayed_work(system_wq, &work, 1000000));
    EXPECT(mod_delayed_work(system_wq, &work, 2));
    EXPECT(EVENTUALLY(get(&executed) == 2));
    EXPECT(schedule_delayed_work(&work, 0)); // at once
    EXPECT(EVENTUALLY(get(&executed) == 3));
    msleep(30);
    EXPECT_EQ(get(&executed), 3);
}

// An unbound queue with max_active 1: strictly one after another.
static unsigned inside, overlaps; // A

static void alone_function(struct work_struct *work)
{
    (void)work;
    if (__atomic_fetch_add(&inside, 1, __ATOMIC_SEQ_CST) != 0) {
        __atomic_fetch_add(&overlaps, 1, __ATOMIC_SEQ_CST);
    }
    msleep(1);
    __atomic_fetch_sub(&inside, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&executed, 1, __ATOMIC_SEQ_CST);
}

KTEST(work, ordered_queue_runs_one_at_a_time)
{
    struct work_struct works[8];
    struct workqueue_struct *wq = alloc_workqueue("test_ordered", WQ_UNBOUND, 1);

    REQUIRE(wq != NULL);
    executed = inside = overlaps = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(works); i++) {
        INIT_WORK(&works[i], alone_function);
        EXPECT(queue_work(wq, &works[i]));
    }
    EXPECT(cancel_work_sync(&works[6])); // held back, behind the others
    flush_workqueue(wq);
    EXPECT_EQ(get(&executed), ARRAY_SIZE(works) - 1);
    EXPECT_EQ(get(&overlaps), 0);
    destroy_workqueue(wq);
}

KTEST(work, unbound_and_highpri_queues)
{
    struct work_struct work;
    struct workqueue_struct *unbound = alloc_workqueue("test_unbound", WQ_UNBOUND, 0);
    struct workqueue_struct *high = alloc_workqueue("test_high", WQ_HIGHPRI, 0);

    REQUIRE(unbound != NULL && high != NULL);
    executed = 0;
    INIT_WORK(&work, counting_function);
    EXPECT(queue_work(unbound, &work));
    flush_workqueue(unbound);
    EXPECT_EQ(get(&executed), 1);
    EXPECT(run_name[8] == 'u');
    EXPECT(queue_work(high, &work));
    flush_workqueue(high);
    EXPECT_EQ(get(&executed), 2);
    destroy_workqueue(unbound);
    destroy_workqueue(high);
}

KTEST(work, system_queues_and_their_workers)
{
    struct work_struct work;

    INIT_WORK(&work, counting_function);
    executed = 0;
    EXPECT(queue_work_on(0, system_highpri_wq, &work));
    flush_work(&work);
    EXPECT(str_starts(run_name, "kworker/0:") && strchr(run_name, 'H') != NULL);
    EXPECT(queue_work(system_unbound_wq, &work));
    flush_work(&work);
    EXPECT(str_starts(run_name, "kworker/u"));
    EXPECT(queue_work(system_long_wq, &work));
    flush_work(&work);
    EXPECT_EQ(get(&executed), 3);
}

KTEST(work, flushing_ends_the_delay)
{
    struct delayed_work work;

    executed = 0;
    INIT_DELAYED_WORK(&work, counting_function);
    EXPECT(schedule_delayed_work(&work, 1000 * HZ));
    EXPECT(flush_delayed_work(&work));
    EXPECT_EQ(get(&executed), 1);
    EXPECT(!flush_delayed_work(&work));
}

// A chain: an item queues the next on its own queue. Draining waits for all of it and refuses
// others.
static struct workqueue_struct *chain_queue;
static unsigned chain_left; // A

static void chain_function(struct work_struct *work)
{
    __atomic_fetch_add(&executed, 1, __ATOMIC_SEQ_CST);
    msleep(1);
    if (__atomic_fetch_sub(&chain_left, 1, __ATOMIC_SEQ_CST) > 1) {
        queue_work(chain_queue, work);
    }
}

KTEST(work, draining_waits_for_a_chain_and_refuses_others)
{
    struct work_struct chain, other;

    chain_queue = alloc_workqueue("test_chain", 0, 0);
    REQUIRE(chain_queue != NULL);
    executed = 0;
    chain_left = 10;
    INIT_WORK(&chain, chain_function);
    INIT_WORK(&other, counting_function);
    EXPECT(queue_work(chain_queue, &chain));
    drain_workqueue(chain_queue);
    EXPECT_EQ(get(&executed), 10);
    EXPECT(queue_work(chain_queue, &other)); // open again
    drain_workqueue(chain_queue);
    chain_left = 5;
    EXPECT(queue_work(chain_queue, &chain));
    destroy_workqueue(chain_queue);
    EXPECT_EQ(get(&executed), 16);
}

// No memory for a worker, and every worker of the CPU asleep in an item that waits: the queue with
// a rescuer gets on, the others wait until there is memory again.
static void rescued_function(struct work_struct *work)
{
    counting_function(work);
    complete_all(&go);
}

KTEST(work, rescuer_runs_what_no_worker_can)
{
    static struct work_struct sleepers[8];
    static struct work_struct rescued;
    struct workqueue_struct *wq = alloc_workqueue("test_reclaim", WQ_MEM_RECLAIM, 0);

    REQUIRE(wq != NULL);
    executed = holding = 0;
    init_completion(&go);
    INIT_WORK(&rescued, rescued_function);
    __atomic_store_n(&worker_make_failures, UINT32_MAX, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < ARRAY_SIZE(sleepers); i++) { // more than the pool keeps idle
        INIT_WORK(&sleepers[i], holding_function);
        EXPECT(schedule_work_on(0, &sleepers[i]));
    }
    EXPECT(queue_work_on(0, wq, &rescued));
    EXPECT(EVENTUALLY(get(&executed) > 0)); // it lets those go that sleep
    EXPECT(strcmp(run_name, "test_reclaim") == 0);
    EXPECT_EQ(run_cpu, 0);
    EXPECT(run_in_thread);
    __atomic_store_n(&worker_make_failures, 0, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < ARRAY_SIZE(sleepers); i++) {
        flush_work(&sleepers[i]);
    }
    EXPECT_EQ(get(&executed), ARRAY_SIZE(sleepers) + 1);
    destroy_workqueue(wq);
}

// Threads on every CPU queue, delay, cancel and flush the same items at random. Each success of
// queueing must be matched by an execution or by a cancellation that found it pending. Some sleep,
// some compute until they are taken for intensive.
enum { STRESS_ITEMS = 6, STRESS_ROUNDS = 3000, STRESS_THREADS_MAX = 4, STRESS_HOG_US = 30000 };

struct stress_item {
    struct delayed_work delayed;
    unsigned executed, inside, overlaps; // A
};
static struct stress_item stress_items[STRESS_ITEMS];
static unsigned stress_queued, stress_cancelled; // A

static void stress_function(struct work_struct *work)
{
    struct stress_item *item = container_of(work, struct stress_item, delayed.work);

    if (__atomic_fetch_add(&item->inside, 1, __ATOMIC_SEQ_CST) != 0) {
        __atomic_fetch_add(&item->overlaps, 1, __ATOMIC_SEQ_CST);
    }
    unsigned runs = __atomic_add_fetch(&item->executed, 1, __ATOMIC_SEQ_CST);
    if (runs % 16 == 0) {
        yield();
    }
    if (runs % 64 == 0) {
        udelay(STRESS_HOG_US);
    }
    if (runs % 5 == 0 && schedule_work(work)) {
        __atomic_fetch_add(&stress_queued, 1, __ATOMIC_SEQ_CST);
    }
    __atomic_fetch_sub(&item->inside, 1, __ATOMIC_SEQ_CST);
}

static void stress_thread(void *arg)
{
    uint32_t random = 99 + (uint32_t)(uintptr_t)arg;

    for (unsigned i = 0; i < STRESS_ROUNDS; i++) {
        random = random * 1664525 + 1013904223;
        struct stress_item *item = &stress_items[(random >> 16) % STRESS_ITEMS];
        unsigned what = (random >> 24) % 64;
        bool queued = false, cancelled = false;

        if (what < 40) {
            queued = queue_work_on((random >> 8) % cpu_count, system_wq, &item->delayed.work);
        } else if (what < 55) {
            queued = schedule_delayed_work(&item->delayed, what % 3);
        } else if (what < 62) {
            cancelled = cancel_delayed_work_sync(&item->delayed);
        } else {
            flush_work(&item->delayed.work);
        }
        __atomic_fetch_add(&stress_queued, queued, __ATOMIC_SEQ_CST);
        __atomic_fetch_add(&stress_cancelled, cancelled, __ATOMIC_SEQ_CST);
    }
}

KTEST(work, executed_and_cancelled_make_queued)
{
    struct thread *threads[STRESS_THREADS_MAX];
    unsigned count = min(cpumask_weight(&cpu_online_mask), (unsigned)STRESS_THREADS_MAX);
    unsigned runs = 0;

    stress_queued = stress_cancelled = 0;
    for (unsigned i = 0; i < STRESS_ITEMS; i++) {
        stress_items[i] = (struct stress_item){0};
        INIT_DELAYED_WORK(&stress_items[i].delayed, stress_function);
    }
    for (unsigned i = 0; i < count; i++) {
        threads[i] = kthread_run_on(i, stress_thread, (void *)(uintptr_t)i, "wstress/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    for (unsigned i = 0; i < count; i++) {
        thread_join(threads[i]);
    }
    for (unsigned i = 0; i < STRESS_ITEMS; i++) {
        stress_cancelled += cancel_delayed_work_sync(&stress_items[i].delayed);
        runs += stress_items[i].executed;
        EXPECT_EQ(stress_items[i].overlaps, 0);
        EXPECT_EQ(stress_items[i].delayed.work.pending, 0);
    }
    EXPECT(runs > 0);
    EXPECT_EQ(runs + stress_cancelled, stress_queued);
}
