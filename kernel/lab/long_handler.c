// `lab long-handler`: what a long interrupt handler does to everybody else on its CPU.
//
//   line A   its handler works for 0, 0.1, 1, 10, 50 ms       the driver that does too much
//   line B   rises while A's handler runs                     any other device: timer, serial, disk
//
// Interrupts are off while a handler runs, so B waits until A has returned, whatever its priority:
// from B's rise to its handler's first instruction passes what was left of A. That is the reason
// for bottom halves: the same work in a softirq or a thread would not hold B up.
//
// Context: thread; the two handlers hard irq.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <irq/soft_line.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <sched/thread.h>

enum { LAB_LONG_SAMPLES = 20 };

static DEFINE_MUTEX(lab_long_mutex); // one at a time

static struct {
    uint64_t work_ns;          // what A's handler does
    bool inside;               // A: A's handler has begun
    uint64_t rose_ns, late_ns; // B: when it rose, and how late its handler was
    struct completion done;
} lab_long; // L of the mutex

static irqreturn_t lab_long_a(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    uint64_t end_ns = clock_ns() + lab_long.work_ns;

    WRITE_ONCE(lab_long.inside, true);
    while (clock_ns() < end_ns) {
        cpu_relax();
    }
    return IRQ_HANDLED;
}

static irqreturn_t lab_long_b(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    lab_long.late_ns = clock_ns() - lab_long.rose_ns;
    complete(&lab_long.done);
    return IRQ_HANDLED;
}

// One round: A on that CPU, then B while A's handler runs. From another CPU, if there is one; else
// both rise while interrupts are off here, and A, sent first, is not always first: it is the same
// class. 0 or -ETIMEDOUT.
static int lab_long_round(int a, int b, unsigned cpu)
{
    lab_long.inside = false;
    soft_line_send(a, cpu);
    uint64_t end_ns = clock_ns() + 1000000000;
    while (!READ_ONCE(lab_long.inside) && clock_ns() < end_ns) {
        cpu_relax();
    }
    lab_long.rose_ns = clock_ns();
    soft_line_send(b, cpu);
    return wait_for_completion_timeout(&lab_long.done, 10 * HZ) != 0 ? 0 : -ETIMEDOUT;
}

static const struct lab_column lab_long_columns[] = {
    {"A works ms", 10}, LAB_SAMPLE_COLUMNS, {NULL, 0}};

static int lab_long_measure(struct shell *sh, int a, int b, unsigned cpu)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } works[] = {{0, "0"}, {100000, "0.1"}, {1000000, "1"}, {10000000, "10"}, {40000000, "40"}};
    uint64_t values[LAB_LONG_SAMPLES];

    shell_printf(sh, "from B's rise to its handler, while A's handler runs on the same CPU:\n");
    lab_table(sh, lab_long_columns);
    for (unsigned i = 0; i < ARRAY_SIZE(works); i++) {
        struct samples samples = {.values = values, .size = LAB_LONG_SAMPLES};
        struct lab_sample_cells cells;

        lab_long.work_ns = works[i].ns;
        while (samples.count < samples.size) {
            int error = shell_interrupted(sh) ? -EINTR : lab_long_round(a, b, cpu);
            if (error != 0) {
                return error;
            }
            samples_add(&samples, lab_long.late_ns);
        }
        samples_sort(&samples);
        lab_sample_cells(&cells, &samples);
        const char *const row[] = {works[i].text, cells.text[0], cells.text[1], cells.text[2],
                                   cells.text[3]};
        lab_row(sh, lab_long_columns, row);
    }
    return 0;
}

// The experimenter must not be where the handlers are.
static int lab_long_run(struct shell *sh)
{
    unsigned cpu = cpumask_next(&cpu_online_mask, 1);
    struct cpumask here = {0};

    if (cpu == MAX_CPUS) {
        return shell_error(sh, "it takes a second CPU, from which to look");
    }
    cpumask_set(&here, cpumask_next(&cpu_online_mask, 0));
    sched_setaffinity(current, &here);
    init_completion(&lab_long.done);
    int a = soft_line_open(lab_long_a, &lab_long, "lab-long-A");
    int b = a < 0 ? a : soft_line_open(lab_long_b, &lab_long, "lab-long-B");
    int error = b < 0 ? b : lab_long_measure(sh, a, b, cpu);
    if (b >= 0) {
        soft_line_close(b, &lab_long);
    }
    if (a >= 0) {
        soft_line_close(a, &lab_long);
    }
    return error == 0        ? 0
           : error == -EINTR ? 130
                             : shell_error(sh, "the experiment failed: %s", strerror(error));
}

static int lab_long_command(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "it takes no arguments");
    }
    mutex_lock(&lab_long_mutex);
    int status = lab_long_run(sh);
    mutex_unlock(&lab_long_mutex);
    return status;
}

LAB("long-handler", lab_long_command, "", "a handler that works too long, and who waits for it");
