// Threads: who runs, where, in which order, and how they end.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/cpu.h>
#include <mm/page.h>
#include <sched/completion.h>
#include <sched/sleep.h>
#include <sched/thread.h>

#include "eventually.h"
#include "rt_limit.h"

static struct rt_limit limit_before;

// The test's own thread, tied to one CPU and raised above those that it makes, without a limit to
// that; undone by sched_test_end().
static void sched_test_begin(unsigned cpu, int priority)
{
    struct cpumask only = {0};

    limit_before = rt_limit_off();
    cpumask_set(&only, cpu);
    sched_setaffinity(current, &only);
    if (priority != 0) {
        sched_setscheduler(current, SCHED_FIFO, priority);
    }
}

static void sched_test_end(void)
{
    struct cpumask all;

    memset(&all, 0xff, sizeof(all));
    sched_setscheduler(current, SCHED_OTHER, 0);
    sched_setaffinity(current, &all);
    rt_limit_on(limit_before);
}

static unsigned count;
static char order[64]; // letters of who ran, in order
static unsigned order_length;

static void note(char letter)
{
    order[__atomic_fetch_add(&order_length, 1, __ATOMIC_SEQ_CST) % (sizeof(order) - 1)] = letter;
}

// A letter as a thread's argument.
#define LETTER(letter) ((void *)(uintptr_t)(letter))

static void note_begin(void)
{
    memset(order, 0, sizeof(order));
    order_length = 0;
}

static void count_thread(void *arg)
{
    __atomic_fetch_add(&count, *(unsigned *)arg, __ATOMIC_SEQ_CST);
}

KTEST(sched, threads_run_and_end)
{
    struct thread *threads[40];
    unsigned one = 1;

    count = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        threads[i] = kthread_run(count_thread, &one, "count/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        EXPECT(i == 0 || threads[i]->tid != threads[i - 1]->tid);
        thread_join(threads[i]);
    }
    EXPECT_EQ(count, ARRAY_SIZE(threads));
}

// Stacks and structs come back: many threads one after another take no more memory than a few did.
KTEST(sched, ended_threads_leave_nothing)
{
    struct page_stats before, after;
    unsigned one = 1;

    for (unsigned i = 0; i < 300; i++) {
        if (i == 50) {
            page_stats(&before);
        }
        struct thread *thread = kthread_run(count_thread, &one, "brief");
        REQUIRE(thread != NULL);
        thread_join(thread);
    }
    page_stats(&after);
    EXPECT(after.free_bytes + 16 * PAGE_SIZE >= before.free_bytes);
}

static void letter_thread(void *arg)
{
    note((char)(uintptr_t)arg);
}

// Three realtime threads and an ordinary one become runnable while a better one has the CPU: they
// run by priority.
KTEST(sched, priority_order)
{
    static const struct {
        char letter;
        int priority;
    } made[] = {{'c', 10}, {'a', 30}, {'d', 0}, {'b', 20}};
    struct thread *threads[ARRAY_SIZE(made)];

    note_begin();
    sched_test_begin(0, 90);
    for (unsigned i = 0; i < ARRAY_SIZE(made); i++) {
        threads[i] = kthread_run_on(0, letter_thread, LETTER(made[i].letter), "prio");
        REQUIRE(threads[i] != NULL);
        sched_setscheduler(threads[i], made[i].priority != 0 ? SCHED_FIFO : SCHED_OTHER,
                           made[i].priority);
    }
    EXPECT_EQ(order_length, 0); // nobody has passed us
    for (unsigned i = 0; i < ARRAY_SIZE(made); i++) {
        thread_join(threads[i]);
    }
    sched_test_end();
    EXPECT(strcmp(order, "abcd") == 0);
}

// Of equal priority: in the order in which they became runnable.
KTEST(sched, fifo_keeps_its_turn)
{
    static const char letters[] = {'a', 'b', 'c', 'd', 'e'};
    struct thread *threads[ARRAY_SIZE(letters)];

    note_begin();
    sched_test_begin(0, 90);
    for (unsigned i = 0; i < ARRAY_SIZE(letters); i++) {
        threads[i] = kthread_run_on(0, letter_thread, LETTER(letters[i]), "fifo");
        REQUIRE(threads[i] != NULL);
        sched_setscheduler(threads[i], SCHED_FIFO, 20);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(letters); i++) {
        thread_join(threads[i]);
    }
    sched_test_end();
    EXPECT(strcmp(order, "abcde") == 0);
}

static struct completion go;

static void wait_and_note(void *arg)
{
    wait_for_completion(&go);
    note((char)(uintptr_t)arg);
}

// Waking a better thread takes effect before the waker's next statement; waking a worse one does
// not.
KTEST(sched, better_thread_preempts_at_once)
{
    struct thread *better, *worse;

    note_begin();
    init_completion(&go);
    sched_test_begin(0, 50);
    better = kthread_run_on(0, wait_and_note, LETTER('b'), "better");
    REQUIRE(better != NULL);
    sched_setscheduler(better, SCHED_FIFO, 60); // runs at once, and waits
    EXPECT_EQ(better->state, THREAD_BLOCKED);
    complete(&go);
    EXPECT(strcmp(order, "b") == 0);
    thread_join(better);

    worse = kthread_run_on(0, wait_and_note, LETTER('w'), "worse");
    REQUIRE(worse != NULL);
    sched_setscheduler(worse, SCHED_FIFO, 40);
    EXPECT(EVENTUALLY(READ_ONCE(worse->state) == THREAD_BLOCKED));
    complete(&go);
    note('m');
    thread_join(worse);
    sched_test_end();
    EXPECT(strcmp(order, "bmw") == 0);
}

// Preemption waits for the last preempt_enable().
KTEST(sched, preempt_disable_holds_it_off)
{
    struct thread *better;

    note_begin();
    init_completion(&go);
    sched_test_begin(0, 50);
    better = kthread_run_on(0, wait_and_note, LETTER('b'), "better");
    REQUIRE(better != NULL);
    sched_setscheduler(better, SCHED_FIFO, 60);
    preempt_disable();
    preempt_disable();
    complete(&go);
    preempt_enable();
    note('m');
    preempt_enable();
    note('n');
    thread_join(better);
    sched_test_end();
    EXPECT(strcmp(order, "mbn") == 0);
}

static void yielding_thread(void *arg)
{
    for (unsigned i = 0; i < 8; i++) {
        note((char)(uintptr_t)arg);
        yield();
    }
}

KTEST(sched, yield_takes_turns)
{
    struct thread *a, *b;

    note_begin();
    sched_test_begin(0, 90);
    a = kthread_run_on(0, yielding_thread, LETTER('a'), "yield/a");
    b = kthread_run_on(0, yielding_thread, LETTER('b'), "yield/b");
    REQUIRE(a != NULL && b != NULL);
    sched_setscheduler(a, SCHED_FIFO, 20);
    sched_setscheduler(b, SCHED_FIFO, 20);
    thread_join(a);
    thread_join(b);
    sched_test_end();
    EXPECT(strcmp(order, "abababababababab") == 0);
}

static uint32_t seen_cpus; // A: bit n: a thread ran on CPU n

static void spin_until_stopped(void *arg)
{
    (void)arg;
    while (!kthread_should_stop()) {
        __atomic_fetch_or(&seen_cpus, BIT(cpu_id() % 32), __ATOMIC_SEQ_CST);
    }
}

// A thread that never gives the CPU away is moved by a change of its affinity, to every CPU in
// turn.
KTEST(sched, affinity_moves_a_running_thread)
{
    struct thread *thread = kthread_run(spin_until_stopped, NULL, "spinner");

    REQUIRE(thread != NULL);
    for_each_online_cpu (cpu) {
        struct cpumask only = {0};

        cpumask_set(&only, cpu);
        EXPECT_EQ(sched_setaffinity(thread, &only), 0);
        EXPECT(EVENTUALLY(READ_ONCE(thread->cpu) == cpu));
        seen_cpus = 0;
        EXPECT(EVENTUALLY(seen_cpus != 0));
        EXPECT_EQ(seen_cpus, BIT(cpu % 32));
    }
    kthread_stop(thread);
}

KTEST(sched, affinity_refuses_no_cpu)
{
    struct cpumask none = {0}, absent = {0};

    cpumask_set(&absent, MAX_CPUS - 1);
    EXPECT_EQ(sched_setaffinity(current, &none), -EINVAL);
    if (!cpumask_test(&cpu_online_mask, MAX_CPUS - 1)) {
        EXPECT_EQ(sched_setaffinity(current, &absent), -EINVAL);
        EXPECT(kthread_run_on(MAX_CPUS - 1, spin_until_stopped, NULL, "nowhere") == NULL);
    }
}

KTEST(sched, policy_refuses_nonsense)
{
    EXPECT_EQ(sched_setscheduler(current, SCHED_FIFO, 0), -EINVAL);
    EXPECT_EQ(sched_setscheduler(current, SCHED_RR, 100), -EINVAL);
    EXPECT_EQ(sched_setscheduler(current, SCHED_FIFO, -1), -EINVAL);
    EXPECT_EQ(sched_setscheduler(current, SCHED_OTHER, 1), -EINVAL);
    EXPECT_EQ(sched_setscheduler(current, (enum sched_policy)77, 0), -EINVAL);
}

// Work spreads: as many busy threads as CPUs reach every CPU by themselves, and so they do when all
// began on one.
KTEST(sched, busy_threads_spread)
{
    struct thread *threads[64];
    unsigned cpus_up = cpumask_weight(&cpu_online_mask);
    struct cpumask all, first = {0};
    uint32_t expected = cpus_up >= 32 ? UINT32_MAX : BIT(cpus_up) - 1;

    cpus_up = min(cpus_up, (unsigned)ARRAY_SIZE(threads));
    memset(&all, 0xff, sizeof(all));
    cpumask_set(&first, 0);
    seen_cpus = 0;
    for (unsigned i = 0; i < cpus_up; i++) {
        threads[i] = kthread_run_on(0, spin_until_stopped, NULL, "busy/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    EXPECT(EVENTUALLY(seen_cpus != 0));
    EXPECT_EQ(seen_cpus, 1);
    for (unsigned i = 0; i < cpus_up; i++) {
        sched_setaffinity(threads[i], &all);
    }
    EXPECT(EVENTUALLY((seen_cpus & expected) == expected));
    for (unsigned i = 0; i < cpus_up; i++) {
        kthread_stop(threads[i]);
    }
}

// More busy threads than CPUs, on one CPU: the tick shares it out, everybody gets on.
static unsigned progress[4];

static void progress_thread(void *arg)
{
    while (!kthread_should_stop()) {
        __atomic_fetch_add((unsigned *)arg, 1, __ATOMIC_RELAXED);
    }
}

KTEST(sched, tick_shares_a_cpu)
{
    struct thread *threads[ARRAY_SIZE(progress)];
    static const enum sched_policy policies[] = {SCHED_OTHER, SCHED_RR};

    for (unsigned p = 0; p < ARRAY_SIZE(policies); p++) {
        memset(progress, 0, sizeof(progress));
        sched_setscheduler(current, SCHED_FIFO, 20); // or the RR threads would keep us out
        for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
            threads[i] =
                kthread_run_on(cpu_count - 1, progress_thread, &progress[i], "share/%u", i);
            REQUIRE(threads[i] != NULL);
            sched_setscheduler(threads[i], policies[p], policies[p] == SCHED_RR ? 10 : 0);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
            EXPECT(EVENTUALLY(READ_ONCE(progress[i]) > 1000));
        }
        for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
            kthread_stop(threads[i]);
        }
        sched_setscheduler(current, SCHED_OTHER, 0);
    }
}

static int sleep_result;

static void sleep_interruptibly(void *arg)
{
    (void)arg;
    sleep_result = msleep_interruptible(1000 * 1000);
    EVENTUALLY(kthread_should_stop());
}

KTEST(sched, interrupt_ends_an_interruptible_sleep)
{
    struct thread *thread;

    sleep_result = 1;
    thread = kthread_run(sleep_interruptibly, NULL, "sleeper");
    REQUIRE(thread != NULL);
    EXPECT(EVENTUALLY(READ_ONCE(thread->state) == THREAD_SLEEPING));
    thread_interrupt(thread);
    EXPECT(EVENTUALLY(READ_ONCE(sleep_result) == -EINTR));
    kthread_stop(thread);
}

static void wait_for_go(void *arg)
{
    (void)arg;
    wait_for_completion(&go);
}

KTEST(sched, interrupt_leaves_a_blocked_thread_alone)
{
    struct thread *thread;

    init_completion(&go);
    thread = kthread_run(wait_for_go, NULL, "blocked");
    REQUIRE(thread != NULL);
    EXPECT(EVENTUALLY(READ_ONCE(thread->state) == THREAD_BLOCKED));
    thread_interrupt(thread);
    msleep(20);
    EXPECT_EQ(thread->state, THREAD_BLOCKED);
    complete(&go);
    thread_join(thread);
}

static void find_thread(struct thread *thread, void *arg)
{
    count += thread == arg;
}

// Who holds a reference may look at a thread that has ended; it leaves the table with the last one.
KTEST(sched, a_reference_keeps_the_struct)
{
    unsigned one = 1;
    struct thread *thread = kthread_run(count_thread, &one, "held");

    REQUIRE(thread != NULL);
    thread_get(thread);
    thread_join(thread);
    EXPECT(EVENTUALLY(READ_ONCE(thread->stack) == 0));
    EXPECT_EQ(thread->state, THREAD_DEAD);
    EXPECT(strcmp(thread->name, "held") == 0);
    EXPECT(!wake_up_process(thread));
    count = 0;
    thread_for_each(find_thread, thread);
    EXPECT_EQ(count, 1);
    thread_put(thread);
    count = 0;
    thread_for_each(find_thread, thread);
    EXPECT_EQ(count, 0);
}

KTEST(sched, switches_and_run_time_are_counted)
{
    uint64_t switches = sched_context_switches(), own = current->switches;
    uint64_t created = sched_threads_created();
    unsigned one = 1;
    struct thread *thread;

    sched_test_begin(0, 0);
    thread = kthread_run_on(0, count_thread, &one, "counted");
    REQUIRE(thread != NULL);
    thread_get(thread);
    thread_join(thread);
    sched_test_end();
    EXPECT_EQ(sched_threads_created(), created + 1);
    EXPECT(sched_context_switches() >= switches + 2);
    EXPECT(current->switches > own);
    EXPECT(thread->switches >= 1);
    EXPECT(thread->runtime > 0);
    thread_put(thread);
}

// ---- waking ------------------------------------------------------------------------------------

static unsigned sleeper_cpu; // A: where it was awake last

static void sleeper(void *arg)
{
    (void)arg;
    while (!kthread_should_stop()) {
        __atomic_store_n(&sleeper_cpu, cpu_id(), __ATOMIC_SEQ_CST);
        set_current_state(THREAD_SLEEPING);
        if (!kthread_should_stop()) {
            schedule();
        }
    }
    set_current_state(THREAD_RUNNING);
}

// It is told where it may run while it sleeps elsewhere, and wakes there at once.
KTEST(sched, a_sleeper_wakes_where_it_may)
{
    struct thread *thread = kthread_run(sleeper, NULL, "sleeper");
    struct cpumask only;

    REQUIRE(thread != NULL);
    for (unsigned round = 0; round < 20; round++) {
        for_each_online_cpu (cpu) {
            memset(&only, 0, sizeof(only));
            cpumask_set(&only, cpu);
            EXPECT(EVENTUALLY(READ_ONCE(thread->state) == THREAD_SLEEPING &&
                              !READ_ONCE(thread->on_queue)));
            EXPECT_EQ(sched_setaffinity(thread, &only), 0);
            EXPECT(wake_up_process(thread));
            EXPECT(EVENTUALLY(__atomic_load_n(&sleeper_cpu, __ATOMIC_SEQ_CST) == cpu));
            EXPECT_EQ(READ_ONCE(thread->cpu), cpu);
            EXPECT(!READ_ONCE(thread->misplaced));
        }
    }
    kthread_stop(thread);
}
