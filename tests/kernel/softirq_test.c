// Softirqs: run where they were raised, never nested, bounded. On the two numbers that are kept for
// such experiments.
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <irq/ipi.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/softirq.h>

#include "eventually.h"
#include "own_turn.h"

static struct {
    unsigned runs;                      // A
    unsigned cpu;                       // of the last run
    bool in_task, in_hardirq, irqs_off; // what the last run found
    unsigned context;
    bool by_thread;            // A: some run was in ksoftirqd
    unsigned again;            // A: raise itself so many times
    bool endless;              // A: raise itself until this is taken back
    unsigned nested;           // A
    unsigned inside[MAX_CPUS]; // C
} seen;

static unsigned runs(void)
{
    return __atomic_load_n(&seen.runs, __ATOMIC_SEQ_CST);
}

static void softirq_test_action(void)
{
    unsigned cpu = cpu_id();

    seen.nested += seen.inside[cpu]++ != 0;
    seen.cpu = cpu;
    seen.in_task = in_task();
    seen.in_hardirq = in_hardirq();
    seen.irqs_off = irqs_disabled();
    seen.context = cpu_context();
    if (str_starts(current->name, "ksoftirqd/")) {
        seen.by_thread = true;
    }
    if (seen.again != 0 || READ_ONCE(seen.endless)) {
        seen.again -= seen.again != 0;
        raise_softirq(SPARE_SOFTIRQ);
    }
    seen.inside[cpu]--;
    __atomic_fetch_add(&seen.runs, 1, __ATOMIC_SEQ_CST);
}

static void softirq_test_begin(void)
{
    memset(&seen, 0, sizeof(seen));
    open_softirq(SPARE_SOFTIRQ, softirq_test_action);
}

KTEST(softirq, context)
{
    softirq_test_begin();
    raise_softirq(SPARE_SOFTIRQ);
    EXPECT(EVENTUALLY(runs() == 1));
    EXPECT(!seen.in_task);
    EXPECT(!seen.in_hardirq);
    EXPECT(!seen.irqs_off);
    EXPECT_EQ(seen.context, CTX_SOFTIRQ);
}

// With bottom halves off nothing runs; enabling them runs it before the next statement.
KTEST(softirq, bh_disable_holds_off_and_enable_runs)
{
    softirq_test_begin();
    REQUIRE(own_turn_bh_disable());
    local_bh_disable();
    raise_softirq(SPARE_SOFTIRQ);
    for (volatile unsigned i = 0; i < 3000000; i++) { // some ticks come and go
    }
    EXPECT_EQ(runs(), 0);
    local_bh_enable();
    EXPECT_EQ(runs(), 0);
    local_bh_enable();
    EXPECT_EQ(runs(), 1);
    EXPECT(!softirq_pending() || runs() == 1);
}

// Raised twice before it runs: it runs once. Raised while it runs: it runs again.
KTEST(softirq, raising_is_a_bit)
{
    softirq_test_begin();
    REQUIRE(own_turn_bh_disable());
    raise_softirq(SPARE_SOFTIRQ);
    raise_softirq(SPARE_SOFTIRQ);
    local_bh_enable();
    EXPECT_EQ(runs(), 1);
    seen.again = 3;
    local_bh_disable();
    raise_softirq(SPARE_SOFTIRQ);
    local_bh_enable();
    EXPECT(EVENTUALLY(runs() == 5));
    msleep(20);
    EXPECT_EQ(runs(), 5);
    EXPECT_EQ(seen.nested, 0);
}

KTEST(softirq, counted_on_the_cpu_that_raised_it)
{
    for_each_online_cpu (cpu) {
        struct cpumask only = {0}, all;
        uint64_t before = softirq_count(SPARE_SOFTIRQ, cpu);

        softirq_test_begin();
        memset(&all, 0xff, sizeof(all));
        cpumask_set(&only, cpu);
        sched_setaffinity(current, &only);
        raise_softirq(SPARE_SOFTIRQ);
        sched_setaffinity(current, &all);
        EXPECT(EVENTUALLY(runs() == 1));
        EXPECT_EQ(seen.cpu, cpu);
        EXPECT_EQ(softirq_count(SPARE_SOFTIRQ, cpu), before + 1);
    }
}

static void raise_in_interrupt(void *arg)
{
    (void)arg;
    raise_softirq_irqoff(SPARE_SOFTIRQ);
}

KTEST(softirq, raised_by_a_hard_interrupt)
{
    unsigned other = cpu_id() == 0 ? 1 : 0;

    if (!cpumask_test(&cpu_online_mask, other)) {
        SKIP("one CPU: nobody to send the interrupt");
    }
    softirq_test_begin();
    for (unsigned i = 1; i <= 100; i++) {
        other = cpu_id() == 0 ? 1 : 0;
        REQUIRE(smp_call_function_single(other, raise_in_interrupt, NULL, true) == 0);
        EXPECT(EVENTUALLY(runs() == i));
    }
    EXPECT_EQ(seen.nested, 0);
}

// The same softirq on two CPUs at once: each waits inside for the other.
static unsigned together, met; // A

static void meeting_action(void)
{
    __atomic_fetch_add(&together, 1, __ATOMIC_SEQ_CST);
    // Bounded: the other may not come.
    (void)wait_until(__atomic_load_n(&together, __ATOMIC_SEQ_CST) >= 2, 10 * 1000 * 1000);
    __atomic_fetch_add(&met, __atomic_load_n(&together, __ATOMIC_SEQ_CST) >= 2, __ATOMIC_SEQ_CST);
}

KTEST(softirq, on_two_cpus_at_once)
{
    if (!cpumask_test(&cpu_online_mask, 1)) {
        SKIP("one CPU");
    }
    together = met = 0;
    open_softirq(SPARE_SOFTIRQ, meeting_action);
    preempt_disable(); // both on other CPUs, or one on ours
    smp_call_function_single(0, raise_in_interrupt, NULL, false);
    smp_call_function_single(1, raise_in_interrupt, NULL, false);
    preempt_enable();
    // A third may have been left raised by the test before: it meets them, and is counted.
    EXPECT(EVENTUALLY(__atomic_load_n(&met, __ATOMIC_SEQ_CST) >= 2));
}

// How the bounds work out is counted.
KTEST(softirq, rounds_and_hand_overs_are_counted)
{
    struct cpumask only = {{1}}, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

    softirq_test_begin();
    sched_setaffinity(current, &only);
    struct softirq_stat before = *softirq_stat(0);
    uint64_t time_before = softirq_time_ns(SPARE_SOFTIRQ, 0);
    seen.again = 3 * SOFTIRQ_MAX_ROUNDS;
    local_bh_disable();
    raise_softirq(SPARE_SOFTIRQ);
    local_bh_enable();
    EXPECT(EVENTUALLY(runs() == 3 * SOFTIRQ_MAX_ROUNDS + 1));
    const struct softirq_stat *after = softirq_stat(0);
    EXPECT(after->rounds >= before.rounds + 3 * SOFTIRQ_MAX_ROUNDS + 1);
    EXPECT(after->servings > before.servings);
    EXPECT(after->out_of_rounds + after->out_of_time + after->thread_waits >
           before.out_of_rounds + before.out_of_time + before.thread_waits);
    EXPECT(after->handed_over > before.handed_over);
    EXPECT(softirq_time_ns(SPARE_SOFTIRQ, 0) > time_before);
    sched_setaffinity(current, &all);
}

// What is handed over runs, wherever ksoftirqd was just then: on its way to sleep, too, which is
// where it is when another CPU sees the last run and sends the next interrupt.
KTEST(softirq, what_is_handed_over_is_not_forgotten)
{
    struct cpumask only = {{2}}, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    uint64_t before = softirq_stat(0)->handed_over;

    if (!cpumask_test(&cpu_online_mask, 1)) {
        SKIP("one CPU");
    }
    sched_setaffinity(current, &only);
    for (unsigned i = 0; i < 3000; i++) {
        softirq_test_begin();
        seen.again = SOFTIRQ_MAX_ROUNDS;
        smp_call_function_single(0, raise_in_interrupt, NULL, true);
        REQUIRE(wait_until(runs() == SOFTIRQ_MAX_ROUNDS + 1, 10 * 1000 * 1000));
    }
    EXPECT(softirq_stat(0)->handed_over > before);
    sched_setaffinity(current, &all);
}

// As when a handler sleeps, which it may not: others run on its CPU meanwhile, and leave something
// to ksoftirqd. The turn that it comes back to has another round, and must not take that mark for
// work.
static void handing_over_action(void)
{
    if (__atomic_fetch_add(&seen.runs, 1, __ATOMIC_SEQ_CST) == 0) {
        local_irq_disable();
        cpu_self()->softirq_pending |= SOFTIRQ_LEFT_TO_THREAD;
        raise_softirq_irqoff(SPARE_SOFTIRQ);
        softirq_wake_thread();
        local_irq_enable();
    }
}

KTEST(softirq, a_mark_that_comes_in_a_turn_is_not_work)
{
    softirq_test_begin();
    open_softirq(SPARE_SOFTIRQ, handing_over_action);
    raise_softirq(SPARE_SOFTIRQ);
    EXPECT(EVENTUALLY(runs() == 2));
    raise_softirq(SPARE_SOFTIRQ); // and ksoftirqd has taken the mark away
    EXPECT(EVENTUALLY(runs() == 3));
}

// The mark again, when that turn has run what there was, and before ksoftirqd takes it away: a
// realtime thread, which does not wait for ksoftirqd, has nothing to run either.
KTEST(softirq, the_mark_alone_is_nothing_to_take_back)
{
    bool due;

    softirq_test_begin();
    REQUIRE(sched_setscheduler(current, SCHED_FIFO, 1) == 0);
    local_irq_disable();
    if (softirq_pending()) {
        local_irq_enable(); // runs it, or wakes who does
        EXPECT(EVENTUALLY(!softirq_pending()));
        local_irq_disable();
    }
    cpu_self()->softirq_pending |= SOFTIRQ_LEFT_TO_THREAD;
    due = softirq_due(cpu_self());
    cpu_self()->softirq_pending &= ~SOFTIRQ_LEFT_TO_THREAD;
    local_irq_enable();
    REQUIRE(sched_setscheduler(current, SCHED_OTHER, 0) == 0);
    EXPECT(!due);
    raise_softirq(SPARE_SOFTIRQ);
    EXPECT(EVENTUALLY(runs() == 1));
}

// The recorder says which, also of number 0.
KTEST(softirq, the_first_is_recorded_by_its_number)
{
    struct cpu *cpu;
    const struct trace_ring *ring;
    struct trace_record record;

    local_irq_disable();
    cpu = cpu_self();
    ring = (const void *)((cpu->trace_ring & ~(uint64_t)UINT8_MAX) << TRACE_RECORD_SHIFT);
    for (unsigned i = 0; i < TRACE_RECORDS; i++) {
        trace(TRACE_IPI, UINT32_MAX, UINT64_MAX);
    }
    uint8_t next = cpu->trace_next;
    softirq_mark(HI_SOFTIRQ); // nothing is on its list
    record = ring->records[next];
    local_irq_enable();
    EXPECT_EQ(record.event, TRACE_SOFTIRQ_RAISE);
    EXPECT_EQ(record.a, HI_SOFTIRQ);
}

// A softirq that raises itself for ever: every round is followed by the next, and yet threads on
// that CPU get on, because the rest goes to ksoftirqd, which is a thread like them.
static unsigned progress; // A

static void progress_thread(void *arg)
{
    (void)arg;
    while (!kthread_should_stop()) {
        __atomic_fetch_add(&progress, 1, __ATOMIC_RELAXED);
    }
}

KTEST(softirq, endless_softirq_leaves_threads_alive)
{
    struct thread *thread;
    unsigned runs_before, progress_before;

    softirq_test_begin();
    progress = 0;
    thread = kthread_run_on(cpu_count - 1, progress_thread, NULL, "progress");
    REQUIRE(thread != NULL);
    EXPECT(EVENTUALLY(READ_ONCE(progress) > 0));
    WRITE_ONCE(seen.endless, true);
    if (cpu_count > 1) {
        smp_call_function_single(cpu_count - 1, raise_in_interrupt, NULL, true);
    } else {
        raise_softirq(SPARE_SOFTIRQ);
    }
    EXPECT(EVENTUALLY(READ_ONCE(seen.by_thread)));
    for (unsigned i = 0; i < 5; i++) {
        runs_before = runs();
        progress_before = READ_ONCE(progress);
        EXPECT(EVENTUALLY(runs() > runs_before + 100));
        EXPECT(EVENTUALLY(READ_ONCE(progress) > progress_before + 100));
    }
    WRITE_ONCE(seen.endless, false);
    kthread_stop(thread);
    EXPECT_EQ(seen.nested, 0);
    // It ends when nobody raises it: two looks that see no run between them.
    EXPECT(EVENTUALLY(({
        runs_before = runs();
        msleep(20);
        runs() == runs_before;
    })));
}

// Those of higher rank first, whatever the order of raising.
static char order[8];
static unsigned order_length;

static void first_action(void)
{
    order[order_length++ % 7] = 'h';
}

static void second_action(void)
{
    order[order_length++ % 7] = 'r';
}

KTEST(softirq, served_in_the_order_of_their_numbers)
{
    memset(order, 0, sizeof(order));
    order_length = 0;
    open_softirq(SPARE_SOFTIRQ, first_action);
    open_softirq(SPARE2_SOFTIRQ, second_action);
    REQUIRE(own_turn_bh_disable());
    raise_softirq(SPARE2_SOFTIRQ);
    raise_softirq(SPARE_SOFTIRQ);
    local_bh_enable();
    EXPECT(strcmp(order, "hr") == 0);
}
