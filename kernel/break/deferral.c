// Mistakes with deferred work, for `break`: a softirq that never ends, an item that keeps its CPU,
// an RCU reader that does not come to an end.
//
// Context: thread; the softirq's action softirq.
#include <lib/errno.h>
#include <contract/break.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/rcu.h>
#include <sched/sleep.h>
#include <defer/rcu.h>
#include <defer/softirq.h>
#include <defer/work.h>

enum { BREAK_DEFER_MOST_S = 300, BREAK_DEFER_MOST_MS = 10000 };

// ---- softirq-forever ----------------------------------------------------------------------------

static bool break_softirq_on; // A

static void break_softirq_again(void)
{
    if (READ_ONCE(break_softirq_on)) {
        raise_softirq(SPARE_SOFTIRQ);
    }
}

static int break_softirq_forever(const char *argument)
{
    uint32_t seconds;
    int error = break_number(argument, 4, BREAK_DEFER_MOST_S, &seconds);

    if (error != 0) {
        return error;
    }
    open_softirq(SPARE_SOFTIRQ, break_softirq_again);
    WRITE_ONCE(break_softirq_on, true);
    raise_softirq(SPARE_SOFTIRQ);
    error = msleep_interruptible(seconds * 1000); // on this very CPU, perhaps: it goes on
    WRITE_ONCE(break_softirq_on, false);
    return error;
}

BREAK("softirq-forever", "SECONDS [4]", "a softirq raises itself again and again",
      "has not caught up", true, break_softirq_forever);

// ---- work-hog -----------------------------------------------------------------------------------

enum { BREAK_HOG_TIMES = 4, BREAK_HOG_PATIENCE = 10 }; // nobody is told before the fourth

static uint32_t break_hog_ms;

// Until it is found, too: on a busy host the time may be over before the next tick.
static void break_hog_function(struct work_struct *work)
{
    uint64_t found = work_intensive_count(break_hog_function);
    uint64_t begin_ns = clock_ns(), passed_ns;

    (void)work;
    do {
        cpu_relax();
        passed_ns = clock_ns() - begin_ns;
    } while (passed_ns < break_hog_ms * 1000000ull ||
             (passed_ns < BREAK_HOG_PATIENCE * break_hog_ms * 1000000ull &&
              work_intensive_count(break_hog_function) == found));
}

static int break_work_hog(const char *argument)
{
    struct work_struct work;
    int error = break_number(argument, 50, BREAK_DEFER_MOST_MS, &break_hog_ms);

    INIT_WORK(&work, break_hog_function);
    for (unsigned i = 0; i < BREAK_HOG_TIMES && error == 0; i++) {
        schedule_work(&work);
        flush_work(&work);
    }
    return error;
}

BREAK("work-hog", "MS [50]", "an item of work keeps its CPU, four times", "kept its CPU", true,
      break_work_hog);

// ---- rcu-stall ----------------------------------------------------------------------------------

static void break_rcu_nothing(struct rcu_head *head)
{
    (void)head;
}

// Interrupts and softirqs go on, so this CPU's own RCU softirq finds out what holds it up.
static int break_rcu_stall(const char *argument)
{
    static struct rcu_head head;
    uint32_t seconds;
    int error = break_number(argument, 25, BREAK_DEFER_MOST_S, &seconds);

    if (error != 0) {
        return error;
    }
    rcu_read_lock(); // first: nobody's grace period is to be over before
    call_rcu(&head, break_rcu_nothing);
    for (uint64_t end_ns = clock_ns() + seconds * 1000000000ull; clock_ns() < end_ns;) {
        cpu_relax();
    }
    rcu_read_unlock();
    rcu_barrier();
    return 0;
}

BREAK("rcu-stall", "SECONDS [25]", "an RCU reader does not come to an end", "stalls grace period",
      true, break_rcu_stall);
