// A benchmark that runs inside the kernel: BENCH(suite, name, ...) { ... }. Run by the console
// command `bench [pattern]`, in a thread bound to one CPU, and by `make bench` with QEMU's
// `-icount shift=0`, where the time stamp counter counts instructions: then the figures are exact.
//
//   BENCH(sched, yield, "a thread yields and is back", .target = 350, .on_linux = 3143)
//   {
//       bench_round (bench) {          // each round gives one figure: the table shows the median
//           bench_start(bench);
//           for (unsigned i = 0; i < 1000; i++) {
//               yield();
//           }
//           bench_stop(bench, 1000);   // operations in the round
//       }
//   }
//
// A benchmark whose CPU waits for a device says bench_soak() first: a thread that runs only when
// nothing else does counts the time that the CPU had to spare, and the figure is without it.
#pragma once

#include <contract/section.h>
#include <lib/types.h>

enum { BENCH_ROUNDS = 15 };

struct bench_run {
    uint64_t started;              // time stamp of bench_start()
    uint64_t spare_started;        // what the soaker had counted then
    uint64_t rounds[BENCH_ROUNDS]; // ticks of one operation, in hundredths
    unsigned count;                // rounds done
    bool elapsed;                  // `bench -t`: nanoseconds that pass, waiting included
    struct bench_soaker *soaker;   // NULL: idle time is not expected
    const char *skip;              // reason, or NULL: no device, no memory
};

struct bench {
    const char *suite, *name;
    const char *what;  // what one operation is, a few words
    uint32_t target;   // instructions that it should not exceed; 0: none is set
    uint32_t on_linux; // Linux 6.1's in the same QEMU (`make bench`); 0: not known
    void (*run)(struct bench_run *bench);
};

#define BENCH(suite_name, bench_name, what_text, ...)                         \
    static void bench_##suite_name##_##bench_name(struct bench_run *bench);   \
    LINKER_RECORD(bench, bench, bench_record_##suite_name##_##bench_name) = { \
        .suite = #suite_name,                                                 \
        .name = #bench_name,                                                  \
        .what = (what_text),                                                  \
        .run = bench_##suite_name##_##bench_name,                             \
        __VA_ARGS__};                                                         \
    static void bench_##suite_name##_##bench_name(struct bench_run *bench)

// Ends the benchmark where it makes no sense: `bench_skip("no NVMe disk"); return;`
#define BENCH_SKIP(reason)      \
    do {                        \
        bench->skip = (reason); \
        return;                 \
    } while (0)

#define bench_round(bench) while ((bench)->count < BENCH_ROUNDS && !(bench)->skip)

// All of these: context thread, on the benchmark's own CPU (interrupt handlers may call bench_add).
// Defined by the runner (kernel/shell/cmd_bench.c).
void bench_soak(struct bench_run *bench);
void bench_start(struct bench_run *bench);
void bench_stop(struct bench_run *bench, unsigned operations);
// A round whose ticks were taken by other means: two time stamps on either side of an event.
void bench_add(struct bench_run *bench, uint64_t ticks, unsigned operations);
