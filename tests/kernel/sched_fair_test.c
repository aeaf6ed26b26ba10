// Shares of a CPU, measured in what each had, not in how long it took; and a thousand threads.
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <sched/thread.h>

#include "eventually.h"

enum { SHARE_LOOKS = 40 };

static void spin_until_stopped(void *arg)
{
    (void)arg;
    while (!kthread_should_stop()) {
        cpu_relax();
    }
}

// Lets two threads compete for a CPU, and looks each half second that they have had at how much
// more the first had, in percent of the second: true as soon as that lies between the two. A slice
// is 12 ms: what is begun weighs little then. But a busy host takes the virtual CPU away in the
// midst of somebody's slice, who then seems to have had it, and whom the scheduler lets wait for
// that later. What the host makes wrong is right after some more half seconds, what a wrong weight
// makes wrong stays so.
static bool share_lies_between(struct ktest_run *ktest, int nice_b, unsigned least, unsigned most)
{
    unsigned cpu = cpu_count - 1, percent = 0;
    struct thread *a = kthread_run_on(cpu, spin_until_stopped, NULL, "fair/a");
    struct thread *b = kthread_run_on(cpu, spin_until_stopped, NULL, "fair/b");
    bool good = false;

    if (a == NULL || b == NULL) {
        ktest_fail(ktest, __FILE__, __LINE__, "no memory");
        return false;
    }
    sched_setscheduler(current, SCHED_FIFO, 20); // to be there when it is over
    sched_set_nice(b, nice_b);
    uint64_t begin_a = READ_ONCE(a->runtime), begin_b = READ_ONCE(b->runtime);
    for (unsigned look = 1; look <= SHARE_LOOKS && !good; look++) {
        uint64_t enough = look * clock_tsc_hz() / 2;
        EXPECT(
            EVENTUALLY(READ_ONCE(a->runtime) - begin_a + READ_ONCE(b->runtime) - begin_b > enough));
        uint64_t had_a = READ_ONCE(a->runtime) - begin_a, had_b = READ_ONCE(b->runtime) - begin_b;
        percent = (unsigned)(had_a * 100 / max(had_b, (uint64_t)1));
        good = percent > least && percent < most;
    }
    kthread_stop(a);
    kthread_stop(b);
    sched_setscheduler(current, SCHED_OTHER, 0);
    if (!good) {
        pr_err("sched_fair: nice 0 had %u %% of what nice %d had", percent, nice_b);
    }
    return good;
}

// 1024 to 1024, and 1024 to 336: a nice level is a factor of 1.25.
KTEST(sched_fair, shares_follow_the_weights)
{
    EXPECT(share_lies_between(ktest, 0, 70, 140));
    EXPECT(share_lies_between(ktest, 5, 200, 450));
}

static unsigned ended;

static void brief_thread(void *arg)
{
    (void)arg;
    __atomic_fetch_add(&ended, 1, __ATOMIC_RELAXED);
}

KTEST(sched_fair, a_thousand_threads)
{
    enum { AT_ONCE = 50, ROUNDS = 20 };
    struct thread *threads[AT_ONCE];

    ended = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < AT_ONCE; i++) {
            threads[i] = kthread_run(brief_thread, NULL, "brief/%u", i);
            REQUIRE(threads[i] != NULL);
        }
        for (unsigned i = 0; i < AT_ONCE; i++) {
            thread_join(threads[i]);
        }
    }
    EXPECT_EQ(ended, AT_ONCE * ROUNDS);
}
