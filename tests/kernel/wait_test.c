// Wait queues and completions: no wake-up is lost, none is given twice.
#include <lib/errno.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/completion.h>
#include <sched/sleep.h>
#include <sched/wait.h>

#include "eventually.h"

static DECLARE_WAIT_QUEUE_HEAD(queue);
static unsigned value; // A
static unsigned woken; // A

static unsigned get(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void set(unsigned *p, unsigned v)
{
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

// ---- ping-pong ---------------------------------------------------------------------------------

enum { PING_PONG_ROUNDS = 3000, PING_PONG_LEAST = 100, PING_PONG_OVER = UINT32_MAX };
// Where each wake-up waits for the host to run a CPU, fewer rounds will do.
enum { PING_PONG_MS = 10 * 1000 };

static void pong_thread(void *arg)
{
    (void)arg;
    for (unsigned round = 0;; round++) {
        wait_event(&queue, get(&value) == 2 * round + 1 || get(&value) == PING_PONG_OVER);
        if (get(&value) == PING_PONG_OVER) {
            break;
        }
        set(&value, 2 * round + 2);
        wake_up(&queue);
    }
}

// Two threads wake each other in turn: one lost wake-up, and it would never end.
static void ping_pong(struct ktest_run *ktest, unsigned cpu)
{
    uint64_t enough_ns = clock_ns() + PING_PONG_MS * 1000000ull;
    struct thread *pong;

    set(&value, 0);
    pong = kthread_run_on(cpu, pong_thread, NULL, "pong");
    REQUIRE(pong != NULL);
    for (unsigned round = 0;
         round < PING_PONG_LEAST || (round < PING_PONG_ROUNDS && clock_ns() < enough_ns); round++) {
        set(&value, 2 * round + 1);
        wake_up(&queue);
        wait_event(&queue, get(&value) == 2 * round + 2);
    }
    set(&value, PING_PONG_OVER);
    wake_up(&queue);
    thread_join(pong);
    EXPECT(list_empty(&queue.entries));
}

KTEST(wait, ping_pong_on_one_cpu)
{
    struct cpumask only = {{1}}, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

    sched_setaffinity(current, &only);
    ping_pong(ktest, 0);
    sched_setaffinity(current, &all);
}

KTEST(wait, ping_pong_across_cpus)
{
    struct cpumask only = {{1}}, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

    if (!cpumask_test(&cpu_online_mask, 1)) {
        SKIP("one CPU");
    }
    sched_setaffinity(current, &only);
    ping_pong(ktest, 1);
    sched_setaffinity(current, &all);
}

// ---- timeouts ----------------------------------------------------------------------------------

KTEST(wait, timeout_without_the_condition)
{
    uint32_t start = jiffies;

    EXPECT_EQ(wait_event_timeout(&queue, false, 5), 0);
    EXPECT(jiffies - start >= 5);
    EXPECT(list_empty(&queue.entries));
    EXPECT_EQ(current->state, THREAD_RUNNING);
}

KTEST(wait, condition_already_true)
{
    EXPECT_EQ(wait_event_timeout(&queue, true, 0), 1);
    EXPECT_EQ(wait_event_interruptible(&queue, true), 1);
    EXPECT(list_empty(&queue.entries));
}

static void waiter_thread(void *arg)
{
    (void)arg;
    wait_event(&queue, get(&value) != 0);
    __atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
}

static unsigned queue_length(void)
{
    struct wait_queue_entry *entry;
    unsigned length = 0;
    unsigned long flags;

    spin_lock_irqsave(&queue.lock, flags);
    list_for_each_entry (entry, &queue.entries, link) {
        length++;
    }
    spin_unlock_irqrestore(&queue.lock, flags);
    return length;
}

KTEST(wait, wake_up_reaches_everybody)
{
    struct thread *threads[10];

    set(&value, 0);
    set(&woken, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        threads[i] = kthread_run(waiter_thread, NULL, "waiter/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    EXPECT(EVENTUALLY(queue_length() == ARRAY_SIZE(threads)));
    EXPECT(waitqueue_active(&queue));
    wake_up(&queue); // condition false: all look and sleep again
    EXPECT(EVENTUALLY(queue_length() == ARRAY_SIZE(threads)));
    EXPECT_EQ(get(&woken), 0);
    set(&value, 1);
    wake_up(&queue);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        thread_join(threads[i]);
    }
    EXPECT_EQ(get(&woken), ARRAY_SIZE(threads));
    EXPECT(!waitqueue_active(&queue));
}

static void exclusive_thread(void *arg)
{
    DEFINE_WAIT(entry);

    (void)arg;
    entry.exclusive = true;
    prepare_to_wait(&queue, &entry, THREAD_BLOCKED);
    schedule();
    finish_wait(&queue, &entry);
    __atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
}

KTEST(wait, exclusive_waiters_are_woken_one_by_one)
{
    struct thread *threads[4];

    set(&woken, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        threads[i] = kthread_run(exclusive_thread, NULL, "exclusive/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    EXPECT(EVENTUALLY(queue_length() == ARRAY_SIZE(threads)));
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        wake_up(&queue);
        EXPECT(EVENTUALLY(get(&woken) == i + 1));
        EXPECT_EQ(queue_length(), ARRAY_SIZE(threads) - i - 1);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        thread_join(threads[i]);
    }
}

KTEST(wait, interrupted_wait_says_so)
{
    thread_interrupt(current);
    EXPECT_EQ(wait_event_interruptible(&queue, false), -EINTR);
    EXPECT_EQ(wait_event_interruptible_timeout(&queue, false, 1000), -EINTR);
    EXPECT_EQ(msleep_interruptible(1000 * 1000), -EINTR);
    thread_clear_interrupt();
    EXPECT_EQ(wait_event_interruptible_timeout(&queue, false, 1), 0);
    EXPECT_EQ(msleep_interruptible(1), 0);
}

// Many sleepers with different ends: everybody wakes, nobody before his time.
static void timed_thread(void *arg)
{
    uint32_t ticks = (uint32_t)(uintptr_t)arg, start = jiffies;

    set_current_state(THREAD_BLOCKED);
    if (schedule_timeout(ticks) == 0 && jiffies - start >= ticks) {
        __atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
    }
}

KTEST(wait, sleepers_wake_in_their_time)
{
    struct thread *threads[30];

    set(&woken, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        threads[i] = kthread_run(timed_thread, (void *)(uintptr_t)(1 + i * 7 % 25), "timed/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
        thread_join(threads[i]);
    }
    EXPECT_EQ(get(&woken), ARRAY_SIZE(threads));
}

// ---- completions -------------------------------------------------------------------------------

KTEST(completion, counts)
{
    struct completion c;

    init_completion(&c);
    EXPECT_EQ(wait_for_completion_timeout(&c, 2), 0);
    complete(&c);
    complete(&c);
    wait_for_completion(&c);
    EXPECT(wait_for_completion_timeout(&c, 2) >= 1);
    EXPECT_EQ(wait_for_completion_timeout(&c, 0), 0);
    complete_all(&c);
    for (unsigned i = 0; i < 10; i++) {
        EXPECT(wait_for_completion_timeout(&c, 0) >= 1);
    }
    reinit_completion(&c);
    EXPECT_EQ(wait_for_completion_timeout(&c, 0), 0);
    thread_interrupt(current);
    EXPECT_EQ(wait_for_completion_interruptible(&c), -EINTR);
    thread_clear_interrupt();
}

// A completion on the waiter's stack, gone as soon as he returns: the signaller must have let go of
// it. If not, this soon writes into somebody's frame or hangs on a lock that is no more.
static struct completion *offered; // A

static void signal_thread(void *arg)
{
    (void)arg;
    while (!kthread_should_stop()) {
        struct completion *c = __atomic_exchange_n(&offered, NULL, __ATOMIC_SEQ_CST);
        if (c != NULL) {
            complete(c);
        }
    }
}

static __noinline void wait_on_stack(void)
{
    struct completion c;

    init_completion(&c);
    __atomic_store_n(&offered, &c, __ATOMIC_SEQ_CST);
    wait_for_completion(&c);
    *(volatile uint64_t *)&c.queue.lock = UINT64_MAX; // what the next frame would write there
}

KTEST(completion, lives_on_the_waiters_stack)
{
    struct thread *signaller = kthread_run(signal_thread, NULL, "signal");

    REQUIRE(signaller != NULL);
    for (unsigned i = 0; i < 300; i++) {
        wait_on_stack();
    }
    kthread_stop(signaller);
}
