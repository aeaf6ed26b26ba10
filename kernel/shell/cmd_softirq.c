// `softirq`: what each of the ten is for, how often it runs, and what it means when it runs often.
//
// The rates are of the last second (or as long as one says); /proc/softirqs has the sums since the
// boot, /proc/softirq_stat how the bounds work out.
//
// Context: thread.
#include <lib/parse.h>
#include <contract/command.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <sched/sleep.h>
#include <defer/softirq.h>

enum {
    SOFTIRQ_CMD_MOST_S = 3600,
    SOFTIRQ_CMD_BUSY = 10,    // per cent of a CPU: somebody should know why
    SOFTIRQ_CMD_OFTEN = 2000, // a second and CPU: the same
};

// Who raises it, and what it means when it is high.
static const struct {
    const char *duty, *high;
} softirq_cmd_notes[NR_SOFTIRQS] = {
    [HI_SOFTIRQ] = {"tasklets that come first", "a driver's urgent tasklet: see /proc/tasklets"},
    [TIMER_SOFTIRQ] = {"timers that are due", "many short timers: see /proc/timers"},
    [NET_TX_SOFTIRQ] = {"packets that were sent",
                        "heavy sending: larger packets, fewer interrupts"},
    [NET_RX_SOFTIRQ] =
        {"packets that came (NAPI)",
         "heavy receiving: see /proc/net/softnet_stat, spread the queues' interrupts"},
    [BLOCK_SOFTIRQ] = {"requests that are done", "heavy disk traffic: see /proc/diskstats"},
    [IRQ_POLL_SOFTIRQ] = {"completions by budget", "a disk faster than its interrupts"},
    [TASKLET_SOFTIRQ] = {"tasklets", "see /proc/tasklets for whose"},
    [SCHED_SOFTIRQ] = {"balancing run queues", "CPUs without work look for some: see top"},
    [HRTIMER_SOFTIRQ] = {"high-resolution timers", "a program that sleeps in microseconds"},
    [RCU_SOFTIRQ] = {"RCU callbacks", "lists change often: see /proc/rcu"},
};

struct softirq_cmd_sum {
    uint64_t runs, ns;
};

static void softirq_cmd_look(struct softirq_cmd_sum sums[NR_SOFTIRQS])
{
    for (unsigned nr = 0; nr < NR_SOFTIRQS; nr++) {
        sums[nr] = (struct softirq_cmd_sum){0};
        for_each_online_cpu (cpu) {
            sums[nr].runs += softirq_count(nr, cpu);
            sums[nr].ns += softirq_time_ns(nr, cpu);
        }
    }
}

static void softirq_cmd_show(struct shell *sh, const struct softirq_cmd_sum *before,
                             const struct softirq_cmd_sum *after, uint64_t ns)
{
    unsigned cpus_online = cpumask_weight(&cpu_online_mask);
    bool any_high = false;

    shell_printf(sh, "%-9s %10s %9s %7s  %-26s\n", "SOFTIRQ", "RUNS/S", "AVG_US", "CPU%",
                 "WHAT FOR");
    for (unsigned nr = 0; nr < NR_SOFTIRQS; nr++) {
        uint64_t runs = after[nr].runs - before[nr].runs, spent = after[nr].ns - before[nr].ns;
        uint64_t rate = runs * 1000000000 / ns, percent = spent * 100 / ns;
        uint64_t average = runs != 0 ? spent / runs : 0;
        bool high = percent >= SOFTIRQ_CMD_BUSY || rate >= SOFTIRQ_CMD_OFTEN * cpus_online;

        shell_printf(sh, "%-9s %10llu %5llu.%03llu %6llu%%  %s%s%s\n", softirq_name(nr),
                     (unsigned long long)rate, (unsigned long long)(average / 1000),
                     (unsigned long long)(average % 1000), (unsigned long long)percent,
                     softirq_cmd_notes[nr].duty, high ? "; HIGH: " : "",
                     high ? softirq_cmd_notes[nr].high : "");
        any_high |= high;
    }
    if (!any_high) {
        shell_printf(sh, "None is high (%u runs a second and CPU, or %u%% of a CPU).\n",
                     SOFTIRQ_CMD_OFTEN, SOFTIRQ_CMD_BUSY);
    }
}

static void softirq_cmd_hints(struct shell *sh)
{
    for (unsigned nr = 0; nr < NR_SOFTIRQS; nr++) {
        shell_printf(sh, "%-9s %-26s high: %s\n", softirq_name(nr), softirq_cmd_notes[nr].duty,
                     softirq_cmd_notes[nr].high);
    }
    shell_printf(
        sh, "The pending word has 32 bits, Linux and we use %u; they are served in this order.\n",
        NR_SOFTIRQS);
}

static int cmd_softirq(struct shell *sh, int argc, char **argv)
{
    struct softirq_cmd_sum before[NR_SOFTIRQS], after[NR_SOFTIRQS];
    uint32_t seconds = 1;

    if (argc == 2 && argv[1][0] == 'h') {
        softirq_cmd_hints(sh);
        return 0;
    }
    if (argc > 2 || (argc == 2 && (kstrtou32(argv[1], 10, &seconds) != 0 || seconds == 0 ||
                                   seconds > SOFTIRQ_CMD_MOST_S))) {
        return shell_usage(sh, "for how many seconds?");
    }
    uint64_t start_ns = clock_ns();
    softirq_cmd_look(before);
    if (msleep_interruptible(seconds * 1000) != 0) {
        return 130;
    }
    softirq_cmd_look(after);
    softirq_cmd_show(sh, before, after, clock_ns() - start_ns);
    return 0;
}

COMMAND("softirq", cmd_softirq, "softirq [SECONDS | hints]",
        "how often each softirq runs, what it costs, and what it means when that is high\n"
        "over one second, or as many as one says; `hints` explains all ten");
