// What the scheduler costs: giving the CPU away, waking, waiting, and a mutex that nobody else
// wants.
//
// Context: as contract/bench.h says; the partners are threads on the same CPU, except where a
// benchmark is about another one.
#include <contract/bench.h>
#include <core/cpu.h>
#include <sched/mutex.h>
#include <sched/thread.h>
#include <sched/wait.h>

enum { BENCH_SCHED_OPERATIONS = 200 };

static struct thread *bench_partner(struct bench_run *bench, unsigned cpu, void (*fn)(void *arg),
                                    void *arg)
{
    struct thread *partner = kthread_run_on(cpu, fn, arg, "partner");

    if (partner == NULL) {
        bench->skip = "no memory";
    }
    return partner;
}

// ---- yield -------------------------------------------------------------------------------------

static void bench_yielder(void *arg)
{
    (void)arg;
    while (!kthread_should_stop()) {
        yield();
    }
}

BENCH(sched, yield_pair, "two threads yield once each", .target = 350, .on_linux = 3143)
{
    struct thread *partner = bench_partner(bench, cpu_id(), bench_yielder, NULL);

    bench_round(bench)
    {
        yield(); // the partner is now in its loop
        bench_start(bench);
        for (unsigned i = 0; i < BENCH_SCHED_OPERATIONS; i++) {
            yield();
        }
        bench_stop(bench, BENCH_SCHED_OPERATIONS);
    }
    if (partner != NULL) {
        kthread_stop(partner);
    }
}

// ---- wait queues -------------------------------------------------------------------------------

// A ball between two threads, each of which waits for it in a queue of its own.
struct bench_ball {
    struct wait_queue_head here, there;
    bool is_there; // A
    bool stop;     // A
};

static void bench_ball_init(struct bench_ball *ball)
{
    init_waitqueue_head(&ball->here, "bench here");
    init_waitqueue_head(&ball->there, "bench there");
    ball->is_there = ball->stop = false;
}

static void bench_ball_returner(void *arg)
{
    struct bench_ball *ball = arg;

    for (;;) {
        wait_event(&ball->there, READ_ONCE(ball->is_there));
        if (READ_ONCE(ball->stop)) {
            return;
        }
        WRITE_ONCE(ball->is_there, false);
        wake_up(&ball->here);
    }
}

static void bench_ball_throw(struct bench_ball *ball)
{
    WRITE_ONCE(ball->is_there, true);
    wake_up(&ball->there);
    wait_event(&ball->here, !READ_ONCE(ball->is_there));
}

static void bench_ball_play(struct bench_run *bench, unsigned cpu)
{
    static struct bench_ball ball;

    bench_ball_init(&ball);
    struct thread *partner = bench_partner(bench, cpu, bench_ball_returner, &ball);
    bench_round(bench)
    {
        bench_ball_throw(&ball);
        bench_start(bench);
        for (unsigned i = 0; i < BENCH_SCHED_OPERATIONS; i++) {
            bench_ball_throw(&ball);
        }
        bench_stop(bench, BENCH_SCHED_OPERATIONS);
    }
    if (partner != NULL) {
        WRITE_ONCE(ball.stop, true);
        WRITE_ONCE(ball.is_there, true);
        wake_up(&ball.there);
        thread_join(partner);
    }
}

BENCH(sched, wait_queue_round, "two threads wake each other in turn, one CPU", .target = 700,
      .on_linux = 9277)
{
    bench_ball_play(bench, cpu_id());
}

BENCH(sched, wait_queue_round_two_cpus, "the same, the partner on another CPU")
{
    unsigned other = cpumask_next(&cpu_online_mask, cpu_id() + 1);

    if (other >= MAX_CPUS) {
        BENCH_SKIP("one CPU");
    }
    bench_ball_play(bench, other);
}

// ---- waking ------------------------------------------------------------------------------------

static void bench_sleeper(void *arg)
{
    (void)arg;
    while (!kthread_should_stop()) {
        set_current_state(THREAD_SLEEPING);
        if (!kthread_should_stop()) {
            schedule();
        }
    }
    set_current_state(THREAD_RUNNING);
}

// The waker's part: the woken thread runs after the round, or elsewhere.
BENCH(sched, wake_up, "wake_up_process() of a sleeper, without its run")
{
    struct thread *partner = bench_partner(bench, cpu_id(), bench_sleeper, NULL);

    bench_round(bench)
    {
        while (READ_ONCE(partner->state) != THREAD_SLEEPING) {
            yield();
        }
        preempt_disable();
        bench_start(bench);
        wake_up_process(partner);
        bench_stop(bench, 1);
        preempt_enable();
    }
    if (partner != NULL) {
        kthread_stop(partner);
    }
}

// ---- mutex -------------------------------------------------------------------------------------

BENCH(mutex, uncontended, "lock and unlock a mutex that nobody wants")
{
    static DEFINE_MUTEX(mutex);

    bench_round(bench)
    {
        bench_start(bench);
        for (unsigned i = 0; i < BENCH_SCHED_OPERATIONS; i++) {
            mutex_lock(&mutex);
            mutex_unlock(&mutex);
        }
        bench_stop(bench, BENCH_SCHED_OPERATIONS);
    }
}
