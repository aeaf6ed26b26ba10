// What time costs: starting timers that will not come, and reading the clock.
#include <contract/bench.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <defer/hrtimer.h>
#include <defer/timer.h>

enum { TIME_BENCH_LOOPS = 1000 };

static void time_bench_timer(struct timer_list *timer)
{
    (void)timer;
}

static enum hrtimer_restart time_bench_hrtimer(struct hrtimer *timer)
{
    (void)timer;
    return HRTIMER_NORESTART;
}

BENCH(time, clock_ns, "a look at the clock")
{
    bench_round(bench)
    {
        bench_start(bench);
        for (unsigned i = 0; i < TIME_BENCH_LOOPS; i++) {
            (void)clock_ns();
        }
        bench_stop(bench, TIME_BENCH_LOOPS);
    }
}

BENCH(time, mod_timer, "a time-out on the wheel started and taken back")
{
    struct timer_list timer;

    timer_setup(&timer, time_bench_timer, 0);
    bench_round(bench)
    {
        bench_start(bench);
        for (unsigned i = 0; i < TIME_BENCH_LOOPS; i++) {
            mod_timer(&timer, jiffies + 100 * HZ);
            del_timer(&timer);
        }
        bench_stop(bench, TIME_BENCH_LOOPS);
    }
    del_timer_sync(&timer);
}

BENCH(time, hrtimer, "a high-resolution timer, not the first, started and taken back")
{
    struct hrtimer timer;

    hrtimer_setup(&timer, time_bench_hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
    bench_round(bench)
    {
        bench_start(bench);
        for (unsigned i = 0; i < TIME_BENCH_LOOPS; i++) {
            hrtimer_start(&timer, ms_to_ktime(100 * 1000), HRTIMER_MODE_REL);
            hrtimer_try_to_cancel(&timer);
        }
        bench_stop(bench, TIME_BENCH_LOOPS);
    }
    hrtimer_cancel(&timer);
}
