// What deferring costs, in instructions (`bench defer`, `make bench`): from asking to the first
// instruction of the work itself.
//
//   hard irq handler   t0 ask ──> flow ends, EOI, spine: softirq_run ──> t1 softirq, tasklet
//                      t0 ask ──> ... ──> interrupt ends: switch ─────> t1 worker, irq thread
//   thread             t0 ask ──> local_bh_enable ────────────────────> t1 softirq, tasklet
//                      t0 ask ──> it goes to sleep: switch ───────────> t1 worker
//
// Context: thread, of `bench`.
#include <contract/bench.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <irq/soft_line.h>
#include <sched/completion.h>
#include <defer/softirq.h>
#include <defer/tasklet.h>
#include <defer/work.h>

enum { BENCH_DEFER_WAIT_US = 1000 * 1000 };

static struct {
    void (*ask)(void);              // I: what the hard handler does
    uint64_t asked, began;          // C: time stamps
    uint32_t runs;                  // A
    struct tasklet_struct tasklet;  //
    struct work_struct work;        //
    struct workqueue_struct *queue; // I: for the work
    struct completion done;         //
} bench_defer;

static void bench_defer_begin(void)
{
    bench_defer.began = rdtsc();
    __atomic_fetch_add(&bench_defer.runs, 1, __ATOMIC_SEQ_CST);
}

static void bench_defer_tasklet_function(struct tasklet_struct *t)
{
    (void)t;
    bench_defer_begin();
}

static void bench_defer_work_function(struct work_struct *work)
{
    (void)work;
    bench_defer_begin();
    complete(&bench_defer.done);
}

// The ways to ask: each takes the time itself, as the last thing before.
static void bench_defer_raise(void)
{
    bench_defer.asked = rdtsc();
    raise_softirq_irqoff(SPARE_SOFTIRQ);
}

static void bench_defer_schedule(void)
{
    bench_defer.asked = rdtsc();
    tasklet_schedule(&bench_defer.tasklet);
}

static void bench_defer_queue(void)
{
    bench_defer.asked = rdtsc();
    queue_work(bench_defer.queue, &bench_defer.work);
}

static void bench_defer_set_up(void (*ask)(void))
{
    bench_defer.ask = ask;
    bench_defer.queue = system_wq;
    open_softirq(SPARE_SOFTIRQ, bench_defer_begin);
    tasklet_setup(&bench_defer.tasklet, bench_defer_tasklet_function, "bench");
    INIT_WORK(&bench_defer.work, bench_defer_work_function);
    init_completion(&bench_defer.done);
}

// ---- asked by an interrupt ----------------------------------------------------------------------

static irqreturn_t bench_defer_handler(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    if (bench_defer.ask == NULL) {
        bench_defer.asked = rdtsc();
        return IRQ_WAKE_THREAD;
    }
    bench_defer.ask();
    return IRQ_HANDLED;
}

static irqreturn_t bench_defer_thread(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    bench_defer_begin();
    return IRQ_HANDLED;
}

// The interrupt strikes a thread that computes; what it asked for has run when this thread goes on,
// or runs now that it waits.
static void bench_defer_interrupt(struct bench_run *bench, int irq)
{
    bench_round(bench)
    {
        uint32_t runs = bench_defer.runs;

        soft_line_send(irq, cpu_id());
        if (!wait_until(READ_ONCE(bench_defer.runs) != runs, BENCH_DEFER_WAIT_US)) {
            bench->skip = "it did not run";
            break;
        }
        bench_add(bench, bench_defer.began - bench_defer.asked, 1);
    }
}

static void bench_defer_from_irq(struct bench_run *bench, void (*ask)(void))
{
    int irq = soft_line_open(bench_defer_handler, &bench_defer, "bench");

    if (irq < 0) {
        BENCH_SKIP("no vector to be had");
    }
    bench_defer_set_up(ask);
    bench_defer_interrupt(bench, irq);
    soft_line_close(irq, &bench_defer);
    cancel_work_sync(&bench_defer.work);
    tasklet_kill(&bench_defer.tasklet);
}

BENCH(defer, irq_softirq, "a handler's raise_softirq to the softirq's first instruction",
      .target = 120)
{
    bench_defer_from_irq(bench, bench_defer_raise);
}

BENCH(defer, irq_tasklet, "a handler's tasklet_schedule to the tasklet's first instruction",
      .target = 150)
{
    bench_defer_from_irq(bench, bench_defer_schedule);
}

BENCH(defer, irq_thread, "a hard handler to its irq thread's first instruction", .target = 600)
{
    int irq =
        soft_line_open_threaded(bench_defer_handler, bench_defer_thread, &bench_defer, "bench");

    if (irq < 0) {
        BENCH_SKIP("no vector to be had");
    }
    bench_defer_set_up(NULL);
    bench_defer_interrupt(bench, irq);
    soft_line_close(irq, &bench_defer);
}

// ---- asked by a thread --------------------------------------------------------------------------

static void bench_defer_from_thread(struct bench_run *bench, void (*ask)(void))
{
    bench_defer_set_up(ask);
    bench_round(bench)
    {
        unsigned long flags;

        local_bh_disable();
        flags = local_irq_save();
        ask();
        local_irq_restore(flags);
        local_bh_enable();
        bench_add(bench, bench_defer.began - bench_defer.asked, 1);
    }
    tasklet_kill(&bench_defer.tasklet);
}

BENCH(defer, bh_softirq, "raise_softirq and local_bh_enable to the first instruction",
      .target = 120)
{
    bench_defer_from_thread(bench, bench_defer_raise);
}

BENCH(defer, bh_tasklet, "tasklet_schedule and local_bh_enable to the first instruction",
      .target = 150)
{
    bench_defer_from_thread(bench, bench_defer_schedule);
}

// The worker sleeps; this thread goes to sleep as soon as it has asked.
BENCH(defer, work, "queue_work to the function's first instruction, worker asleep", .target = 600)
{
    bench_defer_set_up(bench_defer_queue);
    bench_round(bench)
    {
        bench_defer_queue();
        wait_for_completion(&bench_defer.done);
        bench_add(bench, bench_defer.began - bench_defer.asked, 1);
    }
    cancel_work_sync(&bench_defer.work);
}
