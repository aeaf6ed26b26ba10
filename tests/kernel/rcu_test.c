// RCU: readers never see what was freed, grace periods wait for readers and for nobody else.
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/rcu.h>
#include <irq/ipi.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/rcu.h>
#include <defer/softirq.h>

#include "eventually.h"

static unsigned get(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static unsigned called, called_in_order; // A

struct counted_head {
    struct rcu_head head;
    unsigned number;
    bool in_softirq;
};

static void counting_callback(struct rcu_head *head)
{
    struct counted_head *h = container_of(head, struct counted_head, head);

    h->in_softirq = cpu_context() == CTX_SOFTIRQ;
    called_in_order += h->number == called;
    __atomic_fetch_add(&called, 1, __ATOMIC_SEQ_CST);
}

// More than are called in one run of the softirq; in their order; the barrier waits for all.
KTEST(rcu, barrier_waits_for_every_callback)
{
    static struct counted_head heads[200];
    struct cpumask only = {{1}}, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

    called = called_in_order = 0;
    sched_setaffinity(current, &only); // one list, so one order
    for (unsigned i = 0; i < ARRAY_SIZE(heads); i++) {
        heads[i].number = i;
        call_rcu(&heads[i].head, counting_callback);
    }
    sched_setaffinity(current, &all);
    rcu_barrier();
    EXPECT_EQ(get(&called), ARRAY_SIZE(heads));
    EXPECT_EQ(called_in_order, ARRAY_SIZE(heads));
    EXPECT(heads[0].in_softirq && heads[ARRAY_SIZE(heads) - 1].in_softirq);
}

// A reader on another CPU: the grace period does not end before he has.
static unsigned reading, let_go, synchronized; // A

static void reading_thread(void *arg)
{
    (void)arg;
    rcu_read_lock();
    __atomic_store_n(&reading, 1, __ATOMIC_SEQ_CST);
    while (get(&let_go) == 0) { // ticks come and go meanwhile
        cpu_relax();
    }
    __atomic_store_n(&reading, 0, __ATOMIC_SEQ_CST);
    rcu_read_unlock();
}

static void synchronizing_thread(void *arg)
{
    (void)arg;
    synchronize_rcu();
    __atomic_store_n(&synchronized, 1 + get(&reading), __ATOMIC_SEQ_CST);
}

KTEST(rcu, waits_for_a_reader_on_another_cpu)
{
    struct thread *reader, *writer;

    if (!cpumask_test(&cpu_online_mask, 1)) {
        SKIP("one CPU: the reader would keep it");
    }
    reading = let_go = synchronized = 0;
    reader = kthread_run_on(1, reading_thread, NULL, "reader");
    REQUIRE(reader != NULL);
    EXPECT(EVENTUALLY(get(&reading) == 1));
    writer = kthread_run_on(0, synchronizing_thread, NULL, "writer");
    REQUIRE(writer != NULL);
    msleep(60); // 15 ticks, time for several grace periods
    EXPECT_EQ(get(&synchronized), 0);
    __atomic_store_n(&let_go, 1, __ATOMIC_SEQ_CST);
    thread_join(writer);
    thread_join(reader);
    EXPECT_EQ(get(&synchronized), 1); // and nobody was reading then
}

// A thread that runs on and on with preemption on is no reader: the ticks find that out.
static void busy_thread(void *arg)
{
    (void)arg;
    while (!kthread_should_stop()) {
        cpu_relax();
    }
}

KTEST(rcu, does_not_wait_for_who_only_computes)
{
    struct thread *busy = kthread_run_on(cpu_count - 1, busy_thread, NULL, "busy");

    REQUIRE(busy != NULL);
    synchronize_rcu();
    synchronize_rcu();
    kthread_stop(busy);
}

// Readers on every CPU, one of them in softirqs and interrupts, follow a pointer that a writer
// changes; what was taken away is poisoned after a grace period. A reader that sees poison, or an
// object from before the last that was retired, has found a mistake.
enum { OBJECTS = 4, READERS_MAX = 4, RENEWALS = 20, LIVE = 0x11fe, POISON = 0xdead };

struct object {
    unsigned life; // A
    unsigned birth;
};
static struct object objects[OBJECTS];
static struct object *published; // RCU
static unsigned bad, reads;      // A

static void read_once(void)
{
    rcu_read_lock();
    const struct object *o = rcu_dereference(published);
    for (unsigned i = 0; i < 50; i++) {
        if (get(&o->life) != LIVE) {
            __atomic_fetch_add(&bad, 1, __ATOMIC_SEQ_CST);
        }
        cpu_relax();
    }
    rcu_read_unlock();
    __atomic_fetch_add(&reads, 1, __ATOMIC_SEQ_CST);
}

static void read_in_interrupt(void *arg)
{
    (void)arg;
    read_once();
}

static void stress_reader(void *arg)
{
    unsigned other = (unsigned)(uintptr_t)arg;

    for (unsigned i = 0; !kthread_should_stop(); i++) {
        read_once();
        if (i % 16 == 0) {
            smp_call_function_single(other, read_in_interrupt, NULL, true); // also of idle CPUs
            yield();
        }
        if (i % 64 == 0) {
            msleep(1); // the CPU goes idle and comes back
        }
    }
}

KTEST(rcu, readers_never_see_what_was_freed)
{
    struct thread *readers[READERS_MAX];
    unsigned count = min(cpumask_weight(&cpu_online_mask), (unsigned)READERS_MAX);

    bad = reads = 0;
    memset(objects, 0, sizeof(objects));
    objects[0].life = LIVE;
    rcu_assign_pointer(published, &objects[0]);
    for (unsigned i = 0; i < count; i++) {
        readers[i] =
            kthread_run_on(i, stress_reader, (void *)(uintptr_t)((i + 1) % count), "rcu/%u", i);
        REQUIRE(readers[i] != NULL);
    }
    for (unsigned i = 1; i <= RENEWALS; i++) {
        struct object *old = published, *new = &objects[i % OBJECTS];

        __atomic_store_n(&new->life, LIVE, __ATOMIC_SEQ_CST);
        rcu_assign_pointer(published, new);
        synchronize_rcu();
        __atomic_store_n(&old->life, POISON, __ATOMIC_SEQ_CST);
    }
    for (unsigned i = 0; i < count; i++) {
        kthread_stop(readers[i]);
    }
    EXPECT_EQ(bad, 0);
    EXPECT(reads > RENEWALS);
}

// Has a reader seen it?
static bool replaced_too_early(void)
{
    struct object *old = published;

    rcu_assign_pointer(published, old == &objects[0] ? &objects[1] : &objects[0]);
    __atomic_store_n(&old->life, POISON, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < 100; i++) {
        cpu_relax();
    }
    __atomic_store_n(&old->life, LIVE, __ATOMIC_SEQ_CST);
    return get(&bad) != 0;
}

// The opposite, so that the test above is known to be able to fail: without a grace period the
// readers do see poison.
KTEST(rcu, without_a_grace_period_readers_are_caught)
{
    struct thread *reader;

    if (!cpumask_test(&cpu_online_mask, 1)) {
        SKIP("one CPU: nobody reads while it writes");
    }
    bad = reads = 0;
    objects[0].life = objects[1].life = LIVE;
    rcu_assign_pointer(published, &objects[0]);
    reader = kthread_run_on(1, stress_reader, (void *)(uintptr_t)1, "careless");
    REQUIRE(reader != NULL);
    // For some milliseconds on end: the reader sleeps by ticks, as we do, and two who only look in
    // at each tick may never meet.
    EXPECT(EVENTUALLY(wait_until(replaced_too_early(), 5000)));
    kthread_stop(reader);
}
