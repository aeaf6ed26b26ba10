// lab wakeup: what it costs to wake a thread, and where it runs then.
//
//   waker, CPU 0    |wake_up()|····                     the sleeper's first instruction
//   same CPU            switch ──> |woken|              one switch of stacks, warm cache
//   another CPU, busy   interrupt ──> |woken|           a message, an interrupt, a switch
//   another CPU, idle   interrupt ──> leave HLT ──> |woken|    and a CPU that has to wake as well
//
// The books say: the wrong CPU costs 10 to 50 us. Much of that is the message and the sleep of the
// CPU; under an emulator the message goes through the host's scheduler, and costs what that costs.
//
// Context: a thread of its own, bound to CPU 0 while it measures.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/samples.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <sched/thread.h>
#include <sched/wait.h>

enum { WAKEUP_COUNT = 500, WAKEUP_MAX = 100000, WAKEUP_PATIENCE_MS = 10000 };

struct wakeup {
    struct wait_queue_head queue;
    bool wanted, stop; // A
    bool asleep;       // A: it is about to
    uint64_t woken_at; // A: time stamp of its first instruction after the sleep; 0: not yet
};

// Sleeps until it is woken, notes when, and over again.
static void wakeup_sleeper(void *arg)
{
    struct wakeup *w = arg;

    while (!READ_ONCE(w->stop)) {
        WRITE_ONCE(w->asleep, true);
        wait_event(&w->queue, READ_ONCE(w->wanted));
        WRITE_ONCE(w->woken_at, rdtsc());
        WRITE_ONCE(w->wanted, false);
    }
}

// Keeps a CPU from idling, and gives way at once.
static void wakeup_spinner(void *arg)
{
    while (!READ_ONCE(*(bool *)arg)) {
        cpu_relax();
    }
}

// One wake-up in nanoseconds; 0: it did not come in time.
static uint64_t wakeup_once(struct wakeup *w, const struct thread *sleeper)
{
    uint64_t patience = clock_ns() + WAKEUP_PATIENCE_MS * 1000000ull;

    while (READ_ONCE(sleeper->on_queue) || !READ_ONCE(w->asleep)) {
        if (clock_ns() > patience) {
            return 0;
        }
        yield();
    }
    WRITE_ONCE(w->asleep, false);
    WRITE_ONCE(w->woken_at, 0);
    WRITE_ONCE(w->wanted, true);
    uint64_t start = rdtsc();
    wake_up(&w->queue);
    while (READ_ONCE(w->woken_at) == 0) {
        if (clock_ns() > patience) {
            return 0;
        }
        yield();
    }
    uint64_t end = READ_ONCE(w->woken_at);
    return end > start ? max(clock_tsc_to_ns(end - start), (uint64_t)1) : 1;
}

static int wakeup_measure(struct shell *sh, struct samples *samples, unsigned cpu)
{
    struct wakeup *w = kzalloc(sizeof(*w), GFP_KERNEL);
    int err = 0;

    if (w == NULL) {
        return -ENOMEM;
    }
    init_waitqueue_head(&w->queue, "lab wakeup");
    struct thread *sleeper = kthread_run_on(cpu, wakeup_sleeper, w, "sleeper/%u", cpu);
    if (sleeper == NULL) {
        kfree(w);
        return -ENOMEM;
    }
    sched_setscheduler(sleeper, SCHED_FIFO, 10); // it runs as soon as it can
    samples->count = 0;
    while (err == 0 && samples->count < samples->size && !shell_interrupted(sh)) {
        uint64_t ns = wakeup_once(w, sleeper);

        err = ns == 0 ? -ETIMEDOUT : 0;
        if (err == 0) {
            samples_add(samples, ns);
        }
    }
    WRITE_ONCE(w->stop, true);
    WRITE_ONCE(w->wanted, true);
    wake_up_all(&w->queue);
    thread_join(sleeper);
    kfree(w);
    samples_sort(samples);
    return shell_interrupted(sh) ? -EINTR : err;
}

// clang-format off
static const struct lab_column wakeup_columns[] = {
    {"woken on", -22}, LAB_SAMPLE_COLUMNS, {"switches by", -1}, {NULL, 0}};
// clang-format on

static void wakeup_row(struct shell *sh, const char *where, const struct samples *samples,
                       const char *how)
{
    struct lab_sample_cells cells;

    lab_sample_cells(&cells, samples);
    lab_row(sh, wakeup_columns,
            (const char *const[]){where, cells.text[0], cells.text[1], cells.text[2], cells.text[3],
                                  how});
}

static int wakeup_rows(struct shell *sh, struct samples *samples)
{
    unsigned other = cpumask_next(&cpu_online_mask, 1);
    uint64_t same, cross;
    int err = wakeup_measure(sh, samples, 0);

    if (err != 0) {
        return err;
    }
    same = samples_median(samples);
    wakeup_row(sh, "the same CPU", samples, "the waker's unlock");
    if (other >= MAX_CPUS) {
        shell_printf(sh, "there is no other CPU: start with CPUS=2 to compare\n");
        return 0;
    }
    err = wakeup_measure(sh, samples, other);
    if (err != 0) {
        return err;
    }
    cross = samples_median(samples);
    wakeup_row(sh, "another CPU, idle", samples, "interrupt out of HLT");

    bool stop = false;
    struct thread *spinner = kthread_run_on(other, wakeup_spinner, &stop, "spinner");
    if (spinner == NULL) {
        return -ENOMEM;
    }
    sched_setscheduler(spinner, SCHED_IDLE, 0);
    err = wakeup_measure(sh, samples, other);
    WRITE_ONCE(stop, true);
    thread_join(spinner);
    if (err != 0) {
        return err;
    }
    wakeup_row(sh, "another CPU, busy", samples, "interrupt");
    shell_printf(sh,
                 "\nmedian of another, idle CPU against the same: %llu.%llu times\n"
                 "the books: 10 to 50 us for the wrong CPU; here: an emulator, whose CPUs are the "
                 "host's threads\n",
                 (unsigned long long)(cross / same), (unsigned long long)(cross * 10 / same % 10));
    return 0;
}

static int lab_wakeup(struct shell *sh, int argc, char **argv)
{
    struct cpumask only = {0}, allowed = current->allowed;
    struct samples samples = {.size = WAKEUP_COUNT};
    uint32_t count;

    if (argc > 2 ||
        (argc == 2 && (kstrtou32(argv[1], 10, &count) != 0 || count == 0 || count > WAKEUP_MAX))) {
        return shell_usage(sh, "a number of wake-ups, 1 to %d", WAKEUP_MAX);
    }
    if (argc == 2) {
        samples.size = count;
    }
    samples.values = kcalloc(samples.size, sizeof(samples.values[0]), GFP_KERNEL);
    if (samples.values == NULL) {
        return shell_error(sh, "no memory for %zu samples", samples.size);
    }
    cpumask_set(&only, 0);
    sched_setaffinity(current, &only);
    lab_table(sh, wakeup_columns);
    int err = wakeup_rows(sh, &samples);
    sched_setaffinity(current, &allowed);
    kfree(samples.values);
    if (err == -ETIMEDOUT) {
        return shell_error(sh, "a thread was not woken within %d s", WAKEUP_PATIENCE_MS / 1000);
    }
    return err == -EINTR ? 130 : err != 0 ? shell_error(sh, "no memory") : 0;
}

LAB("wakeup", lab_wakeup, "[COUNT]", "waking a thread: on this CPU, on another");
