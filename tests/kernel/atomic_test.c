// Sleeping where that is forbidden: reported, and survived.
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <irq/ipi.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <sched/wait.h>
#include <defer/softirq.h>

#include "eventually.h"
#include "own_turn.h"

static unsigned returned; // A

// One sleep, one report.
static void sleep_here(void)
{
    set_current_state(THREAD_BLOCKED);
    schedule_timeout(3);
}

KTEST(atomic, sleeping_with_preemption_off)
{
    unsigned cpu;

    ktest->warnings_expected = 1;
    preempt_disable();
    preempt_disable();
    cpu = cpu_id();
    sleep_here();
    EXPECT_EQ(cpu_field(preempt_off), 2);
    EXPECT_EQ(cpu_id(), cpu); // others may hold on to this CPU's data: it is not moved
    preempt_enable();
    preempt_enable();
    EXPECT(!in_atomic());
}

KTEST(atomic, sleeping_with_interrupts_off)
{
    ktest->warnings_expected = 1;
    local_irq_disable();
    sleep_here();
    EXPECT(irqs_disabled());
    local_irq_enable();
    EXPECT(!in_atomic());
}

KTEST(atomic, sleeping_with_bottom_halves_off)
{
    ktest->warnings_expected = 1;
    local_bh_disable();
    sleep_here();
    EXPECT_EQ(cpu_field(bh_disabled), 1);
    local_bh_enable();
    EXPECT(!in_atomic());
}

static void sleeping_softirq(void)
{
    sleep_here();
    returned += cpu_context() == CTX_SOFTIRQ;
}

KTEST(atomic, sleeping_in_a_softirq)
{
    ktest->warnings_expected = 1;
    returned = 0;
    open_softirq(SPARE_SOFTIRQ, sleeping_softirq);
    REQUIRE(own_turn_bh_disable());
    raise_softirq(SPARE_SOFTIRQ);
    local_bh_enable();
    EXPECT_EQ(returned, 1);
    EXPECT(!in_atomic());
}

static void sleeping_interrupt(void *arg)
{
    (void)arg;
    sleep_here();
    returned += in_hardirq() && irqs_disabled();
}

static void spin_until_stopped(void *arg)
{
    (void)arg;
    while (!kthread_should_stop()) {
        cpu_relax();
    }
}

// The interrupted thread is put to sleep, handler and all, and comes back.
KTEST(atomic, sleeping_in_an_interrupt_of_a_thread)
{
    struct cpumask only = {{1}}, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    struct thread *victim;

    if (!cpumask_test(&cpu_online_mask, 1)) {
        SKIP("one CPU: nobody to send the interrupt");
    }
    ktest->warnings_expected = 1;
    returned = 0;
    sched_setaffinity(current, &only);
    victim = kthread_run_on(1, spin_until_stopped, NULL, "victim");
    REQUIRE(victim != NULL);
    EXPECT(EVENTUALLY(READ_ONCE(cpus[1].thread) == victim));
    smp_call_function_single(1, sleeping_interrupt, NULL, true);
    EXPECT_EQ(returned, 1);
    kthread_stop(victim);
    sched_setaffinity(current, &all);
}

// An idle thread cannot sleep: it halts until something happens, and goes on.
KTEST(atomic, sleeping_in_an_interrupt_of_an_idle_cpu)
{
    struct cpumask only = {{1}}, all = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

    if (!cpumask_test(&cpu_online_mask, 1)) {
        SKIP("one CPU: nobody to send the interrupt");
    }
    ktest->warnings_expected = 1;
    returned = 0;
    sched_setaffinity(current, &only);
    smp_call_function_single(1, sleeping_interrupt, NULL, true);
    EXPECT_EQ(returned, 1);
    sched_setaffinity(current, &all);
}

KTEST(atomic, might_sleep_tells_before_it_happens)
{
    ktest->warnings_expected = 1;
    preempt_disable();
    might_sleep();
    preempt_enable();
}

static DEFINE_MUTEX(test_lock);

KTEST(atomic, mutex_taken_twice)
{
    ktest->warnings_expected = 1;
    mutex_lock(&test_lock);
    mutex_lock(&test_lock); // would never return
    mutex_unlock(&test_lock);
    if (police_on) { // the validator counts
        EXPECT(!mutex_trylock(&test_lock));
        mutex_unlock(&test_lock);
    }
    EXPECT(mutex_trylock(&test_lock));
    mutex_unlock(&test_lock);
}

static void unlocking_thread(void *arg)
{
    (void)arg;
    mutex_unlock(&test_lock);
}

KTEST(atomic, mutex_unlocked_by_another)
{
    struct thread *thread;

    ktest->warnings_expected = 1;
    mutex_lock(&test_lock);
    thread = kthread_run(unlocking_thread, NULL, "stranger");
    REQUIRE(thread != NULL);
    thread_join(thread);
    EXPECT(!mutex_trylock(&test_lock)); // still ours
    mutex_unlock(&test_lock);
}
