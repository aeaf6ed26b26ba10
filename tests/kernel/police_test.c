// The context police: what the lock validator tells and what it does not, how long sections are
// timed, what context it is.
#include <contract/break.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/latency.h>
#include <core/lockdep.h>
#include <core/spinlock.h>
#include <lib/format.h>
#include <lib/string.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <defer/hrtimer.h>
#include <defer/softirq.h>
#include <defer/tasklet.h>
#include <defer/timer.h>

#include "eventually.h"

#define NEEDS_POLICE()          \
    do {                        \
        if (!police_on) {       \
            SKIP("police=off"); \
        }                       \
    } while (0)

// Each finding is told once since boot, and a test may be run again: new names each time.
static const char *fresh_name(void)
{
    static char names[8][24];
    static unsigned count; // tests run one at a time

    snprintf(names[count % 8], sizeof(names[0]), "test %u", count);
    return names[count++ % 8];
}

static struct spinlock lock_a, lock_b;

static void fresh_locks(void)
{
    spin_lock_init(&lock_a, fresh_name());
    spin_lock_init(&lock_b, fresh_name());
}

static void take_in_order(struct spinlock *first, struct spinlock *second)
{
    spin_lock(first);
    spin_lock(second);
    spin_unlock(second);
    spin_unlock(first);
}

// What the boot option said has become code: asked in several places, each patched by itself.
KTEST(police, the_code_says_what_the_option_said)
{
    EXPECT_EQ(police_watches(), police_on);
    fresh_locks();
    preempt_disable(); // what a CPU holds is asked twice
    unsigned before = lockdep_cpu_stack(cpu_id())->count;
    spin_lock(&lock_a);
    unsigned held = lockdep_cpu_stack(cpu_id())->count - before;
    spin_unlock(&lock_a);
    preempt_enable();
    EXPECT_EQ(held, police_on ? 1 : 0);
}

KTEST(lockdep, an_order_turned_round_is_told_once)
{
    uint32_t before = lockdep_reports;

    NEEDS_POLICE();
    ktest->warnings_expected = 1;
    fresh_locks();
    take_in_order(&lock_a, &lock_b);
    take_in_order(&lock_a, &lock_b);
    EXPECT_EQ(lockdep_reports, before);
    take_in_order(&lock_b, &lock_a); // nobody waits: told all the same
    EXPECT_EQ(lockdep_reports, before + 1);
    take_in_order(&lock_b, &lock_a);
    EXPECT_EQ(lockdep_reports, before + 1);
}

KTEST(lockdep, a_trylock_makes_no_order)
{
    uint32_t before = lockdep_reports;

    fresh_locks();
    spin_lock(&lock_a);
    EXPECT(spin_trylock(&lock_b)); // could not have waited
    spin_unlock(&lock_b);
    spin_unlock(&lock_a);
    take_in_order(&lock_b, &lock_a);
    EXPECT_EQ(lockdep_reports, before);
}

KTEST(lockdep, locks_may_be_given_back_in_any_order)
{
    uint32_t before = lockdep_reports;

    fresh_locks();
    spin_lock(&lock_a);
    spin_lock(&lock_b);
    spin_unlock(&lock_a);
    EXPECT(spin_is_held(&lock_b) && !spin_is_held(&lock_a));
    spin_unlock(&lock_b);
    EXPECT(!in_atomic());
    EXPECT_EQ(lockdep_reports, before);
}

static void take_a(void)
{
    spin_lock(&lock_a);
    spin_unlock(&lock_a);
}

KTEST(lockdep, a_handlers_lock_held_with_interrupts_on)
{
    unsigned long flags;

    NEEDS_POLICE();
    ktest->warnings_expected = 1;
    fresh_locks();
    break_in_interrupt(take_a);
    spin_lock_irqsave(&lock_a, flags);
    spin_unlock_irqrestore(&lock_a, flags); // right
    take_a();                               // wrong
}

KTEST(lockdep, interrupts_turned_on_under_a_handlers_lock)
{
    NEEDS_POLICE();
    ktest->warnings_expected = 1;
    fresh_locks();
    break_in_interrupt(take_a);
    spin_lock_irq(&lock_a);
    local_irq_enable();
    spin_unlock(&lock_a);
}

KTEST(lockdep, an_inversion_needs_all_three_parts)
{
    uint32_t before = lockdep_reports;
    unsigned long flags;

    NEEDS_POLICE();
    ktest->warnings_expected = 1;
    fresh_locks();
    break_in_interrupt(take_a);
    spin_lock_irqsave(&lock_a, flags);
    spin_lock(&lock_b);
    spin_unlock(&lock_b);
    spin_unlock_irqrestore(&lock_a, flags);
    EXPECT_EQ(lockdep_reports, before);
    spin_lock(&lock_b); // the third
    spin_unlock(&lock_b);
    EXPECT_EQ(lockdep_reports, before + 1);
}

KTEST(lockdep, a_lock_taken_twice_is_given_back_twice)
{
    NEEDS_POLICE();
    ktest->warnings_expected = 1;
    fresh_locks();
    spin_lock(&lock_a);
    spin_lock(&lock_a);
    spin_unlock(&lock_a);
    EXPECT(spin_is_held(&lock_a));
    spin_unlock(&lock_a);
    EXPECT(!spin_is_held(&lock_a));
    EXPECT(!in_atomic());
}

KTEST(lockdep, what_nobody_took_is_not_given_back)
{
    NEEDS_POLICE();
    ktest->warnings_expected = 1;
    fresh_locks();
    spin_unlock(&lock_a);
    EXPECT(!in_atomic()); // the count of preemption is right, too
}

KTEST(lockdep, mutexes_and_spinlocks_are_one_graph)
{
    struct mutex mutex_a, mutex_b;
    uint32_t before = lockdep_reports;

    NEEDS_POLICE();
    ktest->warnings_expected = 1;
    mutex_init(&mutex_a, fresh_name());
    mutex_init(&mutex_b, fresh_name());
    mutex_lock(&mutex_a);
    mutex_lock(&mutex_b);
    mutex_unlock(&mutex_b);
    mutex_unlock(&mutex_a);
    mutex_lock(&mutex_b);
    EXPECT_EQ(lockdep_thread_stack()->count, 1);
    mutex_lock(&mutex_a);
    mutex_unlock(&mutex_a);
    mutex_unlock(&mutex_b);
    EXPECT_EQ(lockdep_thread_stack()->count, 0);
    EXPECT_EQ(lockdep_reports, before + 1);
}

// Who sleeps with a spinlock takes it out of the CPU's books, or others would seem to hold it.
KTEST(lockdep, a_sleeper_takes_its_locks_along)
{
    NEEDS_POLICE();
    ktest->warnings_expected = 2; // msleep's, and the scheduler's
    fresh_locks();
    spin_lock(&lock_a);
    msleep(1);
    EXPECT_EQ(lockdep_cpu_stack(cpu_id())->count, 1);
    spin_unlock(&lock_a);
    EXPECT(!in_atomic());
}

// ---- long sections ------------------------------------------------------------------------------

enum { SPIN_MS = 3 };

static void spin_a_while(void)
{
    uint64_t end_ns = clock_ns() + SPIN_MS * 1000000ull;

    while (clock_ns() < end_ns) {
        cpu_relax();
    }
}

KTEST(latency, nested_sections_are_one)
{
    unsigned long flags;
    unsigned cpu;

    NEEDS_POLICE();
    preempt_disable();
    cpu = cpu_id();
    latency_reset();
    local_irq_disable();
    spin_a_while();
    flags = local_irq_save();
    spin_a_while();
    local_irq_restore(flags); // still off
    EXPECT(irqs_disabled());
    spin_a_while();
    local_irq_enable();
    EXPECT(latency_max_irqs_off_ns(cpu) >= 3 * SPIN_MS * 1000000ull);
    preempt_enable();
    EXPECT(latency_max_preempt_off_ns(cpu) >= latency_max_irqs_off_ns(cpu));
}

KTEST(latency, a_section_under_way_can_be_seen)
{
    const void *begun_at;
    unsigned long flags;

    NEEDS_POLICE();
    flags = local_irq_save();
    spin_a_while();
    EXPECT(latency_irqs_off_ns(cpu_id(), &begun_at) >= SPIN_MS * 1000000ull);
    EXPECT((uintptr_t)begun_at > (uintptr_t)ktest_latency_a_section_under_way_can_be_seen);
    local_irq_restore(flags);
    preempt_disable();
    EXPECT_EQ(latency_irqs_off_ns(cpu_id(), &begun_at), 0);
    preempt_enable();
}

// ---- context ------------------------------------------------------------------------------------

static char letters[5];

static void note_letters(void)
{
    cpu_context_letters(cpu_context_flags(), letters);
}

KTEST(context, four_letters_say_where_we_are)
{
    note_letters();
    EXPECT_EQ(letters[0], '.');
    EXPECT_EQ(letters[2], '.');
    EXPECT_EQ(letters[3], '.');
    preempt_disable();
    preempt_disable();
    note_letters();
    EXPECT_EQ(letters[3], '2');
    preempt_enable();
    preempt_enable();
    local_irq_disable();
    note_letters();
    EXPECT_EQ(letters[0], 'd');
    local_irq_enable();
    break_in_interrupt(note_letters);
    EXPECT_EQ(letters[0], 'd');
    EXPECT_EQ(letters[2], 'h');
}

KTEST(context, predicates_agree_with_each_other)
{
    EXPECT(in_task() && !in_atomic() && !in_softirq() && !in_hardirq() && !in_nmi());
    EXPECT_EQ(cpu_context(), CTX_THREAD);
    preempt_disable();
    EXPECT(in_task() && in_atomic());
    EXPECT_EQ(cpu_context(), CTX_ATOMIC);
    preempt_enable();
}

// ---- waiting for timers and tasklets ------------------------------------------------------------

static unsigned waited_runs; // A

static void waited_timer_function(struct timer_list *timer)
{
    (void)timer;
    take_a();
    __atomic_fetch_add(&waited_runs, 1, __ATOMIC_SEQ_CST);
}

static void waited_tasklet_function(struct tasklet_struct *t)
{
    (void)t;
    take_a();
    __atomic_fetch_add(&waited_runs, 1, __ATOMIC_SEQ_CST);
}

static enum hrtimer_restart waited_hrtimer_function(struct hrtimer *timer)
{
    (void)timer;
    __atomic_fetch_add(&waited_runs, 1, __ATOMIC_SEQ_CST);
    return HRTIMER_NORESTART;
}

// The functions take lock a; they are waited for under lock b, which nobody else takes.
KTEST(lockdep, a_wait_under_a_lock_that_the_function_does_not_take)
{
    uint32_t before = lockdep_reports;
    struct tasklet_struct tasklet;
    struct timer_list timer;
    unsigned long flags;

    fresh_locks();
    waited_runs = 0;
    timer_setup(&timer, waited_timer_function, 0);
    tasklet_setup(&tasklet, waited_tasklet_function, "waited");
    mod_timer(&timer, jiffies);
    tasklet_schedule(&tasklet);
    EXPECT(EVENTUALLY(READ_ONCE(waited_runs) == 2));
    spin_lock_irqsave(&lock_b, flags);
    del_timer_sync(&timer);
    tasklet_disable(&tasklet);
    spin_unlock_irqrestore(&lock_b, flags);
    tasklet_enable(&tasklet);
    tasklet_kill(&tasklet);
    EXPECT_EQ(lockdep_reports, before);
}

// A function that runs in a hard interrupt is interrupted by no other.
KTEST(lockdep, a_hard_timer_may_be_waited_for_under_a_handlers_lock)
{
    uint32_t before = lockdep_reports;
    struct hrtimer timer;
    unsigned long flags;

    fresh_locks();
    waited_runs = 0;
    break_in_interrupt(take_a);
    hrtimer_setup(&timer, waited_hrtimer_function, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
    hrtimer_start(&timer, 0, HRTIMER_MODE_REL_HARD);
    EXPECT(EVENTUALLY(READ_ONCE(waited_runs) == 1));
    spin_lock_irqsave(&lock_a, flags);
    hrtimer_cancel(&timer);
    spin_unlock_irqrestore(&lock_a, flags);
    EXPECT_EQ(lockdep_reports, before);
}

// What softirqs take when the function is over is none of the function's.
static void take_b_in_softirq(void)
{
    spin_lock(&lock_b);
    spin_unlock(&lock_b);
    __atomic_fetch_add(&waited_runs, 1, __ATOMIC_SEQ_CST);
}

KTEST(lockdep, what_the_next_softirq_takes_is_not_the_tasklets)
{
    uint32_t before = lockdep_reports;
    struct tasklet_struct tasklet;
    unsigned long flags;

    fresh_locks();
    waited_runs = 0;
    tasklet_setup(&tasklet, waited_tasklet_function, "waited");
    open_softirq(SPARE_SOFTIRQ, take_b_in_softirq);
    local_bh_disable(); // one round runs both, in this order
    tasklet_schedule(&tasklet);
    raise_softirq(SPARE_SOFTIRQ);
    local_bh_enable();
    EXPECT(EVENTUALLY(READ_ONCE(waited_runs) == 2));
    spin_lock_irqsave(&lock_b, flags);
    tasklet_disable(&tasklet);
    spin_unlock_irqrestore(&lock_b, flags);
    tasklet_enable(&tasklet);
    tasklet_kill(&tasklet);
    EXPECT_EQ(lockdep_reports, before);
}
