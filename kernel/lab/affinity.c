// `lab affinity`: what it costs that an interrupt is handled on another CPU than its consumer's.
//
//   same CPU     handler ──wakes──> thread, here: the run queue is its own, the caches are warm
//   other CPU    handler ──wakes──> thread there: its run queue's lock, and a message ("reschedule")
//                that gets that CPU out of its sleep
//
// That is what /proc/irq/N/smp_affinity is for. Measured from the handler to the thread's first
// instruction after its wait, a line without a device in the part of the device: nothing else
// differs between the rows. The books say 10 to 50 us for the wrong CPU; an emulator's IPI has a
// price of its own.
//
// Context: thread; lab_affinity_handler hard irq.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <mm/slab.h>
#include <irq/soft_line.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <sched/thread.h>

enum { LAB_AFFINITY_DEFAULT = 1000, LAB_AFFINITY_MOST = 100000 };

static DEFINE_MUTEX(lab_affinity_mutex); // one at a time

static struct {
    struct completion arrived; // the handler to the consumer
    struct completion seen;    // the consumer to the experimenter
    uint64_t handled_ns;       // when the handler woke it
    uint64_t took_ns;          // what the consumer measured
    bool stop;                 // A
} lab_affinity;                // L of the mutex

static irqreturn_t lab_affinity_handler(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    lab_affinity.handled_ns = clock_ns();
    complete(&lab_affinity.arrived);
    return IRQ_HANDLED;
}

static void lab_affinity_consumer(void *arg)
{
    (void)arg;
    while (!READ_ONCE(lab_affinity.stop)) {
        wait_for_completion(&lab_affinity.arrived);
        lab_affinity.took_ns = clock_ns() - lab_affinity.handled_ns;
        complete(&lab_affinity.seen);
    }
}

// Interrupts on `irq_cpu` for the consumer, one after the other. 0 or -EINTR, -ETIMEDOUT.
static int lab_affinity_run(struct shell *sh, int irq, unsigned irq_cpu, struct samples *samples)
{
    samples->count = 0;
    while (samples->count < samples->size) {
        if (shell_interrupted(sh)) {
            return -EINTR;
        }
        soft_line_send(irq, irq_cpu);
        if (wait_for_completion_timeout(&lab_affinity.seen, 10 * HZ) == 0) {
            return -ETIMEDOUT;
        }
        samples_add(samples, lab_affinity.took_ns);
    }
    samples_sort(samples);
    return 0;
}

static const struct lab_column lab_affinity_columns[] = {
    {"interrupt on", 12}, {"consumer on", 11}, LAB_SAMPLE_COLUMNS, {NULL, 0}};

static int lab_affinity_row(struct shell *sh, int irq, unsigned irq_cpu, unsigned consumer_cpu,
                            struct samples *samples)
{
    struct lab_sample_cells cells;
    char on[LAB_CELL_SIZE], to[LAB_CELL_SIZE];
    int error = lab_affinity_run(sh, irq, irq_cpu, samples);

    if (error != 0) {
        return error;
    }
    struct text first = TEXT_INIT(on), second = TEXT_INIT(to);
    text_printf(&first, "CPU %u", irq_cpu);
    text_printf(&second, "CPU %u", consumer_cpu);
    lab_sample_cells(&cells, samples);
    const char *const row[] = {on, to, cells.text[0], cells.text[1], cells.text[2], cells.text[3]};
    lab_row(sh, lab_affinity_columns, row);
    return 0;
}

static int lab_affinity_measure(struct shell *sh, int irq, struct samples *samples)
{
    unsigned home = cpumask_next(&cpu_online_mask, 0);
    unsigned other = cpumask_next(&cpu_online_mask, home + 1);
    struct thread *consumer = kthread_run_on(home, lab_affinity_consumer, NULL, "lab/consumer");

    if (consumer == NULL) {
        return -ENOMEM;
    }
    lab_table(sh, lab_affinity_columns);
    int error = lab_affinity_row(sh, irq, home, home, samples);
    uint64_t same_ns = samples_median(samples);
    if (error == 0 && other != MAX_CPUS) {
        error = lab_affinity_row(sh, irq, other, home, samples);
        uint64_t cross_ns = samples_median(samples);
        char us[LAB_CELL_SIZE];
        shell_printf(sh, "the other CPU costs %s us %s\n",
                     lab_us(us, cross_ns > same_ns ? cross_ns - same_ns : same_ns - cross_ns),
                     cross_ns > same_ns ? "more" : "less, today");
    } else if (error == 0) {
        shell_printf(sh, "there is no other CPU to compare with\n");
    }
    WRITE_ONCE(lab_affinity.stop, true);
    complete(&lab_affinity.arrived);
    thread_join(consumer);
    return error;
}

static int lab_affinity_command(struct shell *sh, int argc, char **argv)
{
    uint32_t count = LAB_AFFINITY_DEFAULT;

    if (argc > 2 || (argc == 2 && (kstrtou32(argv[1], 10, &count) != 0 || count == 0 ||
                                   count > LAB_AFFINITY_MOST))) {
        return shell_usage(sh, "how many interrupts? 1 to %u", LAB_AFFINITY_MOST);
    }
    struct samples samples = {.size = count, .values = kcalloc(count, 8, GFP_KERNEL)};
    if (samples.values == NULL) {
        return shell_error(sh, "no memory for %u samples", count);
    }
    mutex_lock(&lab_affinity_mutex);
    init_completion(&lab_affinity.arrived);
    init_completion(&lab_affinity.seen);
    lab_affinity.stop = false;
    int irq = soft_line_open(lab_affinity_handler, &lab_affinity, "lab-affinity");
    int error = irq < 0 ? irq : lab_affinity_measure(sh, irq, &samples);
    if (irq >= 0) {
        soft_line_close(irq, &lab_affinity);
    }
    mutex_unlock(&lab_affinity_mutex);
    kfree(samples.values);
    return error == 0        ? 0
           : error == -EINTR ? 130
                             : shell_error(sh, "the experiment failed: %s", strerror(error));
}

LAB("affinity", lab_affinity_command, "[COUNT]",
    "from the handler to the woken thread: on the interrupt's CPU, and on another");
