// Sleeping more finely than a tick: a high-resolution timer on the sleeper's own stack, whose
// function wakes him. Sleeping for milliseconds and more is <sched/sleep.h>'s.
//
//     schedule_hrtimeout_range   HRTIMER_SOFTIRQ
//     start the timer            forget the sleeper, as the sign that the time has come; wake him
//     schedule()
//     cancel it, which waits until the function has let go of the stack
//
// Context: thread.
#include <lib/errno.h>
#include <sched/thread.h>
#include <defer/hrtimer.h>

struct hrtimer_sleeper {
    struct hrtimer timer;
    struct thread *thread; // A: NULL: the time has come
};

static enum hrtimer_restart hrtimer_wake(struct hrtimer *timer)
{
    struct hrtimer_sleeper *sleeper = container_of(timer, struct hrtimer_sleeper, timer);
    struct thread *thread = sleeper->thread;

    WRITE_ONCE(sleeper->thread, NULL);
    wake_up_process(thread);
    return HRTIMER_NORESTART;
}

int schedule_hrtimeout_range(const ktime_t *expires, uint64_t delta_ns, enum hrtimer_mode mode)
{
    struct hrtimer_sleeper sleeper = {.thread = current};

    if (expires == NULL) {
        schedule();
        return -EINTR;
    }
    hrtimer_setup(&sleeper.timer, hrtimer_wake, CLOCK_MONOTONIC, mode);
    hrtimer_start_range_ns(&sleeper.timer, *expires, delta_ns, mode);
    if (READ_ONCE(sleeper.thread) != NULL) {
        schedule();
    }
    hrtimer_cancel(&sleeper.timer);
    set_current_state(THREAD_RUNNING);
    return READ_ONCE(sleeper.thread) == NULL ? 0 : -EINTR;
}

void usleep_range(uint32_t min_us, uint32_t max_us)
{
    ktime_t until = ktime_get() + us_to_ktime(min_us);
    uint64_t delta_ns = max_us > min_us ? (uint64_t)(max_us - min_us) * 1000 : 0;

    might_sleep();
    current->wait_channel = "usleep_range";
    do {
        set_current_state(THREAD_BLOCKED);
    } while (schedule_hrtimeout_range(&until, delta_ns, HRTIMER_MODE_ABS) != 0);
    current->wait_channel = NULL;
}

int hrtimer_nanosleep(uint64_t ns)
{
    uint64_t longest = (uint64_t)(KTIME_MAX - ktime_get());
    ktime_t until = ktime_get() + (ktime_t)min(ns, longest / 2);
    int result = 0;

    might_sleep();
    current->wait_channel = "nanosleep";
    do {
        set_current_state(THREAD_SLEEPING);
        if (thread_interrupted()) {
            set_current_state(THREAD_RUNNING);
            result = -EINTR;
            break;
        }
    } while (schedule_hrtimeout_range(&until, 0, HRTIMER_MODE_ABS) != 0);
    current->wait_channel = NULL;
    return result;
}
