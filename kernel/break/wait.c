// Mistakes in waiting for a timer or a tasklet, for `break`. Each function has run, and is over,
// when it is waited for, so none of them hangs; had it just begun on another CPU, it would. The
// lock validator (kernel/core/lockdep.c) knows from the run what the function takes, and tells of
// each once.
//
// Context: thread.
#include <lib/errno.h>
#include <contract/break.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/spinlock.h>
#include <sched/sleep.h>
#include <defer/hrtimer.h>
#include <defer/tasklet.h>
#include <defer/timer.h>

enum { BREAK_WAIT_MS = 5000 };

static unsigned break_wait_runs; // A

// Lets what was started come to its end. 0, -ETIMEDOUT.
static int break_wait_for_run(void)
{
    for (unsigned ms = 0; ms < BREAK_WAIT_MS; ms++) {
        if (__atomic_exchange_n(&break_wait_runs, 0, __ATOMIC_ACQUIRE) != 0) {
            return 0;
        }
        msleep(1);
    }
    return -ETIMEDOUT;
}

static void break_wait_ran(void)
{
    __atomic_store_n(&break_wait_runs, 1, __ATOMIC_RELEASE);
}

// ---- timers -------------------------------------------------------------------------------------

static DEFINE_SPINLOCK(break_timer_lock);

static void break_timer_function(struct timer_list *timer __unused)
{
    spin_lock(&break_timer_lock);
    spin_unlock(&break_timer_lock);
    break_wait_ran();
}

static int break_timer_under_lock(const char *argument __unused)
{
    struct timer_list timer;
    unsigned long flags;
    int error;

    timer_setup(&timer, break_timer_function, 0);
    mod_timer(&timer, jiffies);
    error = break_wait_for_run();
    spin_lock_irqsave(&break_timer_lock, flags); // right, as far as the lock alone is concerned
    del_timer_sync(&timer);
    spin_unlock_irqrestore(&break_timer_lock, flags);
    return error;
}

static DEFINE_SPINLOCK(break_handler_lock);

static void break_take_handler_lock(void)
{
    spin_lock(&break_handler_lock);
    spin_unlock(&break_handler_lock);
}

static void break_idle_function(struct timer_list *timer __unused)
{
    break_wait_ran();
}

// The function takes no lock at all. But while it runs, the handler may come, and wait for whom
// waits for the function.
static int break_timer_under_irq_lock(const char *argument __unused)
{
    struct timer_list timer;
    unsigned long flags;

    break_in_interrupt(break_take_handler_lock);
    timer_setup(&timer, break_idle_function, 0);
    spin_lock_irqsave(&break_handler_lock, flags);
    del_timer_sync(&timer);
    spin_unlock_irqrestore(&break_handler_lock, flags);
    return 0;
}

static struct timer_list break_isr_timer;

static void break_sync_in_isr(void)
{
    del_timer_sync(&break_isr_timer);
}

static int break_timer_in_isr(const char *argument __unused)
{
    timer_setup(&break_isr_timer, break_idle_function, 0);
    break_in_interrupt(break_sync_in_isr);
    return 0;
}

static void break_own_function(struct timer_list *timer)
{
    del_timer_sync(timer);
    break_wait_ran();
}

static int break_timer_in_itself(const char *argument __unused)
{
    static struct timer_list timer;

    timer_setup(&timer, break_own_function, 0);
    mod_timer(&timer, jiffies);
    return break_wait_for_run();
}

BREAK("timer-sync-under-lock", NULL, "a timer is waited for with a spinlock held that it takes",
      "WARNING: possible circular locking dependency detected", true, break_timer_under_lock);
BREAK("timer-sync-under-irq-lock", NULL,
      "a timer is waited for with a lock held that a handler takes, which may interrupt the timer",
      "WARNING: possible irq lock inversion dependency detected", true, break_timer_under_irq_lock);
BREAK("timer-sync-in-isr", NULL,
      "a hard interrupt waits for a timer, which it may have interrupted",
      "del_timer_sync() called in hard interrupt context", true, break_timer_in_isr);
BREAK("timer-sync-in-itself", NULL, "a timer's function waits for its own end",
      "WARNING: possible recursive locking detected", true, break_timer_in_itself);

// ---- hrtimers -----------------------------------------------------------------------------------

static DEFINE_SPINLOCK(break_hrtimer_lock);

static enum hrtimer_restart break_hrtimer_function(struct hrtimer *timer __unused)
{
    spin_lock(&break_hrtimer_lock);
    spin_unlock(&break_hrtimer_lock);
    break_wait_ran();
    return HRTIMER_NORESTART;
}

static int break_hrtimer_under_lock(const char *argument __unused)
{
    struct hrtimer timer;
    unsigned long flags;
    int error;

    hrtimer_setup(&timer, break_hrtimer_function, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
    hrtimer_start(&timer, 0, HRTIMER_MODE_REL_HARD);
    error = break_wait_for_run();
    spin_lock_irqsave(&break_hrtimer_lock, flags);
    hrtimer_cancel(&timer);
    spin_unlock_irqrestore(&break_hrtimer_lock, flags);
    return error;
}

BREAK("hrtimer-cancel-under-lock", NULL,
      "a high-resolution timer is waited for with a spinlock held that it takes",
      "WARNING: possible circular locking dependency detected", true, break_hrtimer_under_lock);

// ---- tasklets -----------------------------------------------------------------------------------

static DEFINE_SPINLOCK(break_tasklet_lock);

static void break_tasklet_function(struct tasklet_struct *t __unused)
{
    spin_lock(&break_tasklet_lock);
    spin_unlock(&break_tasklet_lock);
    break_wait_ran();
}

static int break_tasklet_under_lock(const char *argument __unused)
{
    struct tasklet_struct tasklet;
    unsigned long flags;
    int error;

    tasklet_setup(&tasklet, break_tasklet_function, "break");
    tasklet_schedule(&tasklet);
    error = break_wait_for_run();
    spin_lock_irqsave(&break_tasklet_lock, flags);
    tasklet_disable(&tasklet);
    spin_unlock_irqrestore(&break_tasklet_lock, flags);
    tasklet_enable(&tasklet);
    tasklet_kill(&tasklet);
    return error;
}

static void break_disable_itself(struct tasklet_struct *t)
{
    tasklet_disable(t);
    tasklet_enable(t);
    break_wait_ran();
}

static int break_tasklet_in_itself(const char *argument __unused)
{
    static struct tasklet_struct tasklet;
    int error;

    tasklet_setup(&tasklet, break_disable_itself, "break");
    tasklet_schedule(&tasklet);
    error = break_wait_for_run();
    tasklet_kill(&tasklet);
    return error;
}

BREAK("tasklet-disable-under-lock", NULL,
      "a tasklet is waited for with a spinlock held that it takes",
      "WARNING: possible circular locking dependency detected", true, break_tasklet_under_lock);
BREAK("tasklet-disable-in-itself", NULL, "a tasklet's function waits for its own end",
      "WARNING: possible recursive locking detected", true, break_tasklet_in_itself);
