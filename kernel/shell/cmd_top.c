// top: who has the CPUs. Each round compares two looks at the books of the CPUs
// (<sched/cputime.h>) and of the threads; the first compares with the beginning.
//
// On the console it goes on until q or ^C, a screen at a time; with -b, or when its output goes
// elsewhere, it prints one round after another.
//
// Context: a thread of its own.
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/command.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <sched/cputime.h>
#include <sched/info.h>
#include <sched/sleep.h>
#include <dev/tty.h>

#include "stream.h"
#include "uptime.h"

enum { TOP_SCREEN_ROWS = 16, TOP_PER_MILLE = 1000 };

struct top {
    bool batch;
    uint32_t delay_ms;
    uint32_t rounds;                 // left; 0: for ever
    uint64_t at_ns;                  // of the look before this one
    uint64_t cpu_ns[CPU_TIME_COUNT]; // then, all CPUs together
    struct thread_table *before;     // NULL: there was none
};

// ---- measuring ---------------------------------------------------------------------------------

static uint64_t top_runtime_before(const struct top *top, const struct thread_info *info)
{
    for (unsigned i = 0; top->before != NULL && i < top->before->count; i++) {
        if (top->before->rows[i].tid == info->tid) {
            return top->before->rows[i].runtime_ns;
        }
    }
    return 0;
}

// Of one CPU's time, in tenths of a percent, since the last look or its beginning.
static unsigned top_share(const struct top *top, const struct thread_info *info, uint64_t now_ns)
{
    uint64_t since = max(top->at_ns, info->started_ns);
    uint64_t used = info->runtime_ns - min(info->runtime_ns, top_runtime_before(top, info));

    return now_ns > since ? (unsigned)(used * TOP_PER_MILLE / (now_ns - since)) : 0;
}

// Threads by what they used, those who used nothing by their number. runtime_ns is the share from
// here on.
static void top_sort(struct thread_table *table)
{
    for (unsigned i = 1; i < table->count; i++) {
        struct thread_info info = table->rows[i];
        unsigned at = i;

        for (; at > 0 && table->rows[at - 1].runtime_ns < info.runtime_ns; at--) {
            table->rows[at] = table->rows[at - 1];
        }
        table->rows[at] = info;
    }
}

// ---- printing ----------------------------------------------------------------------------------

static void top_print_tasks(struct shell *sh, const struct thread_table *table)
{
    unsigned running = 0, zombies = 0;

    for (unsigned i = 0; i < table->count; i++) {
        running += table->rows[i].state == 'R';
        zombies += table->rows[i].state == 'Z';
    }
    shell_printf(sh, "Tasks: %3u total, %3u running, %3u sleeping,   0 stopped, %3u zombie\n",
                 table->count, running, table->count - running - zombies, zombies);
}

static void top_print_cpus(struct shell *sh, struct top *top)
{
    static const struct {
        enum cpu_time what;
        const char *name;
    } columns[] = {{CPU_USER, "us"},   {CPU_SYSTEM, "sy"}, {CPU_NICE, "ni"},   {CPU_IDLE, "id"},
                   {CPU_IOWAIT, "wa"}, {CPU_IRQ, "hi"},    {CPU_SOFTIRQ, "si"}};
    uint64_t ns[CPU_TIME_COUNT] = {0}, all = 0;

    for_each_online_cpu (cpu) {
        uint64_t one[CPU_TIME_COUNT];

        cputime_read(cpu, one);
        for (unsigned what = 0; what < CPU_TIME_COUNT; what++) {
            ns[what] += one[what];
        }
    }
    for (unsigned what = 0; what < CPU_TIME_COUNT; what++) {
        all += ns[what] - top->cpu_ns[what];
    }
    shell_printf(sh, "%%Cpu(s):");
    for (unsigned i = 0; i < ARRAY_SIZE(columns); i++) {
        uint64_t used = ns[columns[i].what] - top->cpu_ns[columns[i].what];
        unsigned share = (unsigned)(used * TOP_PER_MILLE / max(all, (uint64_t)1));

        shell_printf(sh, " %2u.%u %s, ", share / 10, share % 10, columns[i].name);
    }
    shell_printf(sh, " 0.0 st\n");
    memcpy(top->cpu_ns, ns, sizeof(ns));
}

static void top_print_memory(struct shell *sh)
{
    static const uint64_t tenth = 1024 * 1024 / 10;
    struct page_stats stats;

    page_stats(&stats);
    uint64_t total = stats.total_bytes / tenth, free = stats.free_bytes / tenth;
    shell_printf(sh, "MiB Mem : %6llu.%llu total, %6llu.%llu free, %6llu.%llu used\n\n",
                 (unsigned long long)total / 10, (unsigned long long)total % 10,
                 (unsigned long long)free / 10, (unsigned long long)free % 10,
                 (unsigned long long)(total - free) / 10, (unsigned long long)(total - free) % 10);
}

static const char *top_class(enum sched_policy policy)
{
    return policy == SCHED_FIFO   ? "FF"
           : policy == SCHED_RR   ? "RR"
           : policy == SCHED_IDLE ? "IDL"
                                  : "TS";
}

static void top_print_thread(struct shell *sh, const struct thread_info *info, uint64_t runtime_ns)
{
    unsigned share = (unsigned)info->runtime_ns;
    char time[24], priority[8];

    snprintf(time, sizeof(time), "%llu:%02llu.%02llu",
             (unsigned long long)(runtime_ns / 60000000000),
             (unsigned long long)(runtime_ns / 1000000000 % 60),
             (unsigned long long)(runtime_ns / 10000000 % 100));
    if (info->rt_effective == 99) {
        strscpy(priority, "rt", sizeof(priority));
    } else {
        snprintf(priority, sizeof(priority), "%d", thread_info_prio(info) - 100);
    }
    shell_printf(sh, "%7d %3s %3d %-3s %3u %c %3u.%u %10s %-15s %s\n", info->tid, priority,
                 info->nice, top_class(info->policy), info->cpu, info->state, share / 10,
                 share % 10, time, info->name,
                 info->wait_channel != NULL ? info->wait_channel : "-");
}

static void top_print(struct shell *sh, struct top *top, struct thread_table *table,
                      uint64_t now_ns)
{
    unsigned rows = top->batch ? table->count : min(table->count, (unsigned)TOP_SCREEN_ROWS);

    shell_printf(sh, "top - ");
    uptime_print(sh);
    top_print_tasks(sh, table);
    top_print_cpus(sh, top);
    top_print_memory(sh);
    shell_printf(sh, "    PID  PR  NI CLS PSR S  %%CPU      TIME+ COMMAND         WCHAN\n");
    for (unsigned i = 0; i < table->count; i++) { // the share takes the place of the time ...
        table->rows[i].switches = table->rows[i].runtime_ns;
        table->rows[i].runtime_ns = top_share(top, &table->rows[i], now_ns);
    }
    top_sort(table);
    for (unsigned i = 0; i < rows && !shell_interrupted(sh); i++) {
        top_print_thread(sh, &table->rows[i], table->rows[i].switches);
    }
    for (unsigned i = 0; i < table->count; i++) { // ... until it is printed
        table->rows[i].runtime_ns = table->rows[i].switches;
    }
}

static int top_round(struct shell *sh, struct top *top)
{
    struct thread_table *table = thread_table_copy();
    uint64_t now_ns = clock_ns();

    if (table == NULL) {
        return shell_error(sh, "no memory for the list");
    }
    if (!top->batch && !tty_plain) {
        shell_printf(sh, "\033[H\033[2J");
    }
    top_print(sh, top, table, now_ns);
    kfree(top->before);
    top->before = table;
    top->at_ns = now_ns;
    return 0;
}

// ---- the command -------------------------------------------------------------------------------

static bool top_parse(struct shell *sh, struct top *top, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        bool counted = option[0] == '-' && (option[1] == 'n' || option[1] == 'd');
        const char *value = !counted         ? NULL
                            : option[2] != 0 ? option + 2
                            : i + 1 < argc   ? argv[++i]
                                             : "";
        uint32_t number;

        if (strcmp(option, "-b") == 0) {
            top->batch = true;
        } else if (!counted || kstrtou32(value, 10, &number) != 0 || number == 0 ||
                   number > 1000000) {
            shell_usage(sh, "-b, -n ROUNDS, -d SECONDS");
            return false;
        } else if (option[1] == 'n') {
            top->rounds = number;
        } else {
            top->delay_ms = number * 1000;
        }
    }
    return true;
}

// Until the next round; false: no more are wanted.
static bool top_wait(struct shell *sh, const struct top *top)
{
    char key = 0;

    if (top->batch) {
        return msleep_interruptible(top->delay_ms) == 0 && !shell_interrupted(sh);
    }
    long length = tty_read(&key, 1, top->delay_ms);
    return length >= 0 && !shell_interrupted(sh) && (length == 0 || (key != 'q' && key != 'Q'));
}

static int cmd_top(struct shell *sh, int argc, char **argv)
{
    struct top top = {.delay_ms = 3000};
    int status;

    if (!top_parse(sh, &top, argc, argv)) {
        return 2;
    }
    top.batch |= sh->out->kind != STREAM_CONSOLE || sh->in->kind != STREAM_CONSOLE;
    do {
        status = top_round(sh, &top);
    } while (status == 0 && (top.rounds == 0 || --top.rounds != 0) && top_wait(sh, &top));
    kfree(top.before);
    return status;
}

COMMAND("top", cmd_top, "top [-b] [-n ROUNDS] [-d SECONDS]",
        "who has the CPUs, every three seconds until q or ^C\n"
        "  %Cpu(s)  programs, kernel, programs with nice, idle, idle for a disk,\n"
        "           hard interrupts, softirqs\n"
        "  PR       lower is better: 20 at nice 0, below 0 realtime, with what it borrows\n"
        "  %CPU     of one CPU, since the last round\n"
        "  -b       one round after another, as text");
