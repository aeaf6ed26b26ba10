// Mistakes with locks, for `break`. None of them hangs: each is the first half of a deadlock, or
// the second half without the bad luck, and the lock validator (kernel/core/lockdep.c) knows the
// rest. It tells each order and each inversion once; a second time the command is silent.
//
// Context: thread.
#include <lib/errno.h>
#include <contract/break.h>
#include <core/cpu.h>
#include <core/spinlock.h>
#include <irq/desc.h>
#include <irq/soft_line.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <defer/work.h>

// One after the other, never at once: nothing waits, and yet it could.
static int break_lock_order(const char *argument __unused)
{
    static DEFINE_SPINLOCK(break_lock_a);
    static DEFINE_SPINLOCK(break_lock_b);

    spin_lock(&break_lock_a);
    spin_lock(&break_lock_b);
    spin_unlock(&break_lock_b);
    spin_unlock(&break_lock_a);

    spin_lock(&break_lock_b);
    spin_lock(&break_lock_a);
    spin_unlock(&break_lock_a);
    spin_unlock(&break_lock_b);
    return 0;
}

// A circle of three, by mutexes.
static int break_lock_circle(const char *argument __unused)
{
    static DEFINE_MUTEX(break_mutex_a);
    static DEFINE_MUTEX(break_mutex_b);
    static DEFINE_MUTEX(break_mutex_c);
    struct mutex *const circle[] = {&break_mutex_a, &break_mutex_b, &break_mutex_c, &break_mutex_a};

    for (unsigned i = 0; i < 3; i++) {
        mutex_lock(circle[i]);
        mutex_lock(circle[i + 1]);
        mutex_unlock(circle[i + 1]);
        mutex_unlock(circle[i]);
    }
    return 0;
}

static DEFINE_SPINLOCK(break_irq_lock);

static void break_take_irq_lock(void)
{
    spin_lock(&break_irq_lock);
    spin_unlock(&break_irq_lock);
}

static int break_lock_usage(const char *argument __unused)
{
    break_in_interrupt(break_take_irq_lock);
    break_take_irq_lock(); // with interrupts on
    return 0;
}

static DEFINE_SPINLOCK(break_safe_lock);

static void break_take_safe_lock(void)
{
    spin_lock(&break_safe_lock);
    spin_unlock(&break_safe_lock);
}

static int break_lock_inversion(const char *argument __unused)
{
    static DEFINE_SPINLOCK(break_unsafe_lock);
    unsigned long flags;

    break_in_interrupt(break_take_safe_lock);
    spin_lock(&break_unsafe_lock); // with interrupts on: right, as no handler takes this one
    spin_unlock(&break_unsafe_lock);

    spin_lock_irqsave(&break_safe_lock, flags); // right, too
    spin_lock(&break_unsafe_lock);              // and that makes it wrong
    spin_unlock(&break_unsafe_lock);
    spin_unlock_irqrestore(&break_safe_lock, flags);
    return 0;
}

static int break_double_lock(const char *argument __unused)
{
    static DEFINE_SPINLOCK(break_twice);

    spin_lock(&break_twice);
    spin_lock(&break_twice);
    spin_unlock(&break_twice);
    spin_unlock(&break_twice);
    return 0;
}

static int break_unbalanced(const char *argument __unused)
{
    static DEFINE_SPINLOCK(break_never_taken);

    spin_unlock(&break_never_taken);
    return 0;
}

static DEFINE_MUTEX(break_work_mutex);

static void break_work_function(struct work_struct *work __unused)
{
    mutex_lock(&break_work_mutex);
    mutex_unlock(&break_work_mutex);
}

// The second flush finds nothing to wait for. Had the item been queued once more, it would wait for
// the mutex, and the flush for the item, for ever.
static int break_flush(const char *argument __unused)
{
    struct work_struct work;

    INIT_WORK(&work, break_work_function);
    schedule_work(&work);
    flush_work(&work);
    mutex_lock(&break_work_mutex);
    flush_work(&work);
    mutex_unlock(&break_work_mutex);
    return 0;
}

// ---- who waits for what -------------------------------------------------------------------------

static DEFINE_MUTEX(break_told_mutex);
static struct completion break_told;

static void break_tell(struct work_struct *work __unused)
{
    mutex_lock(&break_told_mutex);
    complete(&break_told);
    mutex_unlock(&break_told_mutex);
}

// The second wait finds it told already. Had it to be told by the item once more, that would want
// the mutex.
static int break_completion(const char *argument __unused)
{
    struct work_struct work;

    init_completion(&break_told);
    INIT_WORK(&work, break_tell);
    schedule_work(&work);
    wait_for_completion(&break_told);
    flush_work(&work);
    complete(&break_told);
    mutex_lock(&break_told_mutex);
    wait_for_completion(&break_told);
    mutex_unlock(&break_told_mutex);
    return 0;
}

enum { BREAK_THREAD_MS = 5000 };

static DEFINE_MUTEX(break_thread_mutex);
static uint32_t break_thread_ran; // A

static irqreturn_t break_thread_wake(int irq __unused, void *dev_id __unused)
{
    return IRQ_WAKE_THREAD;
}

static irqreturn_t break_thread_function(int irq __unused, void *dev_id __unused)
{
    mutex_lock(&break_thread_mutex);
    mutex_unlock(&break_thread_mutex);
    __atomic_store_n(&break_thread_ran, 1, __ATOMIC_RELEASE);
    return IRQ_HANDLED;
}

// The thread is idle when it is waited for. Had its interrupt just come, it would want the mutex.
static int break_irq_thread(const char *argument __unused)
{
    int irq = soft_line_open_threaded(break_thread_wake, break_thread_function, &break_thread_ran,
                                      "break");

    if (irq < 0) {
        return irq;
    }
    WRITE_ONCE(break_thread_ran, 0);
    soft_line_send(irq, 0);
    uint32_t ran = 0;
    for (unsigned ms = 0; ran == 0 && ms < BREAK_THREAD_MS; ms++) {
        msleep(1);
        ran = __atomic_load_n(&break_thread_ran, __ATOMIC_ACQUIRE);
    }
    mutex_lock(&break_thread_mutex);
    if (ran != 0) { // else it would want the mutex yet
        synchronize_irq((unsigned)irq);
    }
    mutex_unlock(&break_thread_mutex);
    soft_line_close(irq, &break_thread_ran);
    return ran != 0 ? 0 : -ETIMEDOUT;
}

// What every interrupt of this line takes on its way to the handlers.
static int break_flow_lock(const char *argument __unused)
{
    int irq = soft_line_open(break_thread_wake, &break_thread_ran, "break");

    if (irq < 0) {
        return irq;
    }
    struct irq_desc *desc = irq_to_desc((unsigned)irq);
    spin_lock(&desc->lock); // with interrupts on
    spin_unlock(&desc->lock);
    soft_line_close(irq, &break_thread_ran);
    return 0;
}

BREAK("wait-under-mutex", NULL,
      "a completion is waited for with a mutex held that its teller takes",
      "WARNING: possible circular locking dependency detected", true, break_completion);
BREAK("sync-irq-under-mutex", NULL, "an irq is waited for with a mutex held that its thread takes",
      "WARNING: possible circular locking dependency detected", true, break_irq_thread);
BREAK("flow-lock-irqs-on", NULL, "the lock of an irq's own flow is held with interrupts on",
      "WARNING: inconsistent lock state", true, break_flow_lock);
BREAK("lock-order", NULL, "two spinlocks are taken in one order, then in the other",
      "WARNING: possible circular locking dependency detected", true, break_lock_order);
BREAK("lock-circle", NULL, "three mutexes are taken in a circle",
      "WARNING: possible circular locking dependency detected", true, break_lock_circle);
BREAK("lock-irq-usage", NULL, "a lock that a handler takes is held with interrupts on",
      "WARNING: inconsistent lock state", true, break_lock_usage);
BREAK("lock-irq-inversion", NULL, "a lock that handlers take waits for one that they interrupt",
      "WARNING: possible irq lock inversion dependency detected", true, break_lock_inversion);
BREAK("double-lock", NULL, "a spinlock is taken by the CPU that has it",
      "WARNING: possible recursive locking detected", true, break_double_lock);
BREAK("unbalanced-unlock", NULL, "a spinlock is given back that nobody took",
      "WARNING: bad unlock balance detected!", true, break_unbalanced);
BREAK("flush-under-mutex", NULL, "a work item is waited for with a mutex held that it takes",
      "WARNING: possible circular locking dependency detected", true, break_flush);
