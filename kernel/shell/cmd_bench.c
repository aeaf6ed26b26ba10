// bench: what things cost, counted where they happen.
//
// The unit is the tick of the time stamp counter. On a real CPU that is about a cycle; under QEMU
// with `-icount shift=0` the counter advances by one with each instruction, so the same benchmark
// gives an instruction count that is the same on every host. `make bench` runs it like that and
// puts Linux's figures beside ours.
//
// A thread that waits for a device leaves its CPU idle, and for how long is the host's affair. The
// soaker below takes that time out of the figure: a thread of the lowest class that does nothing
// but read the counter. Two readings close together: the CPU was ours. A gap: somebody worked.
//
//   bench thread   |submit|                      |woken, submit|
//   interrupt                          |irq|
//   soaker                |spare spare|     |s|                 |spare ...
//
// `bench -t` is the other question: how long does it take, waiting included? Then there is no
// soaker, the CPU halts as it always does, and the unit is the nanosecond.
//
// Context: thread.
#include <lib/format.h>
#include <lib/string.h>
#include <contract/bench.h>
#include <contract/command.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <sched/thread.h>

LINKER_SET(bench, bench);

enum {
    // Ticks between two of the soaker's readings that are still its own: its loop is about ten
    // instructions, an interrupt is at least a hundred.
    BENCH_SOAK_GAP = 60,
    BENCH_HUNDREDTHS = 100,
};

struct bench_soaker {
    uint64_t spare; // A: ticks that nobody else wanted; written by the soaker only
    struct thread *thread;
};

static void bench_soaker_run(void *arg)
{
    struct bench_soaker *soaker = arg;
    uint64_t before = rdtsc();

    while (!kthread_should_stop()) {
        uint64_t now = rdtsc();
        if (now - before < BENCH_SOAK_GAP) {
            WRITE_ONCE(soaker->spare, soaker->spare + (now - before));
        }
        before = now;
    }
}

void bench_soak(struct bench_run *bench)
{
    if (bench->soaker || bench->elapsed) {
        return;
    }
    struct bench_soaker *soaker = kzalloc(sizeof(*soaker), GFP_KERNEL);
    if (soaker) {
        soaker->thread = kthread_run_on(cpu_id(), bench_soaker_run, soaker, "soaker");
    }
    if (!soaker || !soaker->thread) {
        kfree(soaker);
        bench->skip = "no memory";
        return;
    }
    sched_setscheduler(soaker->thread, SCHED_IDLE, 0);
    bench->soaker = soaker;
}

static void bench_soak_end(struct bench_run *bench)
{
    if (bench->soaker) {
        kthread_stop(bench->soaker->thread);
        kfree(bench->soaker);
        bench->soaker = NULL;
    }
}

static void bench_note(struct bench_run *bench, uint64_t amount, unsigned operations)
{
    if (bench->count < BENCH_ROUNDS) {
        bench->rounds[bench->count++] = amount * BENCH_HUNDREDTHS / max(operations, 1u);
    }
}

static uint64_t bench_now(const struct bench_run *bench)
{
    return bench->elapsed ? clock_ns() : rdtsc();
}

void bench_start(struct bench_run *bench)
{
    bench->spare_started = bench->soaker ? READ_ONCE(bench->soaker->spare) : 0;
    bench->started = bench_now(bench);
}

void bench_stop(struct bench_run *bench, unsigned operations)
{
    uint64_t ticks = bench_now(bench) - bench->started;
    uint64_t spare = bench->soaker ? READ_ONCE(bench->soaker->spare) - bench->spare_started : 0;

    bench_note(bench, ticks - min(spare, ticks), operations);
}

void bench_add(struct bench_run *bench, uint64_t ticks, unsigned operations)
{
    uint64_t per_us = max(clock_tsc_hz() / 1000000, 1ull);

    bench_note(bench, bench->elapsed ? ticks * 1000 / per_us : ticks, operations);
}

// ---- the command -------------------------------------------------------------------------------

// Few values: insertion.
static void bench_sort(uint64_t *values, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        uint64_t value = values[i];
        unsigned at = i;
        for (; at > 0 && values[at - 1] > value; at--) {
            values[at] = values[at - 1];
        }
        values[at] = value;
    }
}

static void bench_show(struct shell *sh, const struct bench *record, struct bench_run *bench)
{
    char name[64];
    char target[16] = "-";
    char linux_text[16] = "-";

    snprintf(name, sizeof(name), "%s.%s", record->suite, record->name);
    if (bench->skip || bench->count == 0) {
        shell_printf(sh, "%-28s skipped: %s\n", name, bench->skip ? bench->skip : "no round done");
        return;
    }
    bench_sort(bench->rounds, bench->count);
    if (record->target) {
        snprintf(target, sizeof(target), "%u", record->target);
    }
    if (record->on_linux) {
        snprintf(linux_text, sizeof(linux_text), "%u", record->on_linux);
    }
    uint64_t half = BENCH_HUNDREDTHS / 2;
    shell_printf(sh, "%-28s %8llu %8llu %8llu %8s %8s  %s\n", name,
                 (unsigned long long)((bench->rounds[bench->count / 2] + half) / BENCH_HUNDREDTHS),
                 (unsigned long long)((bench->rounds[0] + half) / BENCH_HUNDREDTHS),
                 (unsigned long long)((bench->rounds[bench->count - 1] + half) / BENCH_HUNDREDTHS),
                 target, linux_text, record->what);
}

struct bench_job {
    const struct bench *record;
    struct bench_run run;
    struct completion done;
};

static void bench_thread(void *arg)
{
    struct bench_job *job = arg;

    job->record->run(&job->run);
    bench_soak_end(&job->run);
    complete(&job->done);
}

static int bench_run_one(struct shell *sh, const struct bench *record, bool elapsed)
{
    struct bench_job *job = kzalloc(sizeof(*job), GFP_KERNEL);
    if (!job) {
        return shell_error(sh, "no memory");
    }
    job->record = record;
    job->run.elapsed = elapsed;
    init_completion(&job->done);
    struct thread *thread = kthread_run_on(0, bench_thread, job, "bench");
    if (!thread) {
        kfree(job);
        return shell_error(sh, "no memory");
    }
    wait_for_completion(&job->done);
    thread_join(thread);
    bench_show(sh, record, &job->run);
    kfree(job);
    return 0;
}

static int cmd_bench(struct shell *sh, int argc, char **argv)
{
    const struct bench *record;
    bool elapsed = argc > 1 && strcmp(argv[1], "-t") == 0;
    const char *pattern = argc == 2 + elapsed ? argv[1 + elapsed] : "";
    unsigned matched = 0;

    if (argc > 2 + elapsed || pattern[0] == '-') {
        return shell_usage(sh, "-t and one pattern at most");
    }
    shell_printf(sh, "%-28s %8s %8s %8s %8s %8s  one operation\n",
                 elapsed ? "ns per operation" : "ticks per operation", "median", "min", "max",
                 "target", "Linux");
    set_for_each (record, bench) {
        char name[64];
        snprintf(name, sizeof(name), "%s.%s", record->suite, record->name);
        if (!strstr(name, pattern)) {
            continue;
        }
        matched++;
        if (shell_interrupted(sh)) {
            return 130;
        }
        if (bench_run_one(sh, record, elapsed) != 0) {
            return 1;
        }
    }
    return matched ? 0 : shell_error(sh, "%s: no benchmark has this in its name", pattern);
}

COMMAND("bench", cmd_bench, "bench [-t] [PATTERN]",
        "what things cost, in ticks of the time stamp counter\nThose whose suite.name holds the "
        "pattern. Under QEMU with -icount shift=0 a tick is\nan instruction: `make bench`. The "
        "last columns are our own limit and Linux 6.1's, in instructions.\n-t: in nanoseconds "
        "that pass, time spent waiting included");
