// chrt, taskset, nice, renice: a thread's class, its CPUs, its share; of one that runs, or of a
// command that is started so. Options and output as util-linux's and coreutils'.
//
// Context: each runs in a thread of its own, which for `chrt 50 COMMAND` is also the command's.
#include <lib/cpumask.h>
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/command.h>
#include <core/cpu.h>
#include <sched/info.h>
#include <sched/thread.h>

#include "job.h"

// Runs what follows on the line in this thread.
static int prefix_run(struct shell *sh, int argc, char **argv)
{
    const struct command *command = shell_find_command(argv[0]);

    if (command == NULL) {
        shell_error(sh, "failed to execute %s: %s", argv[0], strerror(-ENOENT));
        return STATUS_NOT_FOUND;
    }
    sh->argc = argc;
    sh->argv = argv;
    return command->run(sh, argc, argv);
}

static struct thread *pid_thread(struct shell *sh, const char *text, const char *what)
{
    int32_t tid;
    struct thread *thread;

    if (kstrtos32(text, 10, &tid) != 0 || tid <= 0) {
        shell_error(sh, "invalid PID argument: '%s'", text);
        return NULL;
    }
    thread = thread_find(tid);
    if (thread == NULL) {
        shell_error(sh, "failed to %s pid %d: No such process (ps lists them)", what, (int)tid);
    }
    return thread;
}

// ---- chrt --------------------------------------------------------------------------------------

struct chrt_options {
    enum sched_policy policy;
    bool of_pid, verbose, limits;
    int first; // argument behind the options
};

static void chrt_print(struct shell *sh, const struct thread *thread, const char *which)
{
    shell_printf(sh, "pid %d's %s scheduling policy: %s\n", thread->tid, which,
                 sched_policy_name(thread->policy));
    shell_printf(sh, "pid %d's %s scheduling priority: %u\n", thread->tid, which,
                 thread->rt_priority);
}

static int chrt_limits(struct shell *sh)
{
    shell_printf(sh, "SCHED_OTHER min/max priority\t: 0/0\nSCHED_FIFO min/max priority\t: 1/99\n"
                     "SCHED_RR min/max priority\t: 1/99\nSCHED_IDLE min/max priority\t: 0/0\n");
    return 0;
}

static bool chrt_option(struct chrt_options *options, char letter)
{
    switch (letter) {
    case 'f':
        options->policy = SCHED_FIFO;
        return true;
    case 'r':
        options->policy = SCHED_RR;
        return true;
    case 'o':
        options->policy = SCHED_OTHER;
        return true;
    case 'i':
        options->policy = SCHED_IDLE;
        return true;
    case 'p':
        options->of_pid = true;
        return true;
    case 'v':
        options->verbose = true;
        return true;
    case 'm':
        options->limits = true;
        return true;
    default:
        return false;
    }
}

// 0, or the letter that is no option.
static char chrt_parse(struct chrt_options *options, int argc, char **argv)
{
    *options = (struct chrt_options){.policy = SCHED_RR, .first = 1};
    for (;
         options->first < argc && argv[options->first][0] == '-' && argv[options->first][1] != '\0';
         options->first++) {
        for (const char *letter = argv[options->first] + 1; *letter != '\0'; letter++) {
            if (!chrt_option(options, *letter)) {
                return *letter;
            }
        }
    }
    return 0;
}

static int chrt_set(struct shell *sh, const struct chrt_options *options, struct thread *thread,
                    const char *priority)
{
    int32_t value;

    if (kstrtos32(priority, 10, &value) != 0) {
        return shell_error(sh, "invalid priority argument: '%s'", priority);
    }
    if (sched_setscheduler(thread, options->policy, value) != 0) {
        return shell_error(
            sh, "unsupported priority value for the policy: %d: see -m for the range", (int)value);
    }
    if (options->verbose) {
        chrt_print(sh, thread, "new");
    }
    return 0;
}

static int chrt_pid(struct shell *sh, const struct chrt_options *options, int count, char **argv)
{
    struct thread *thread = pid_thread(sh, argv[count - 1], count == 1 ? "get" : "set");
    int status = 0;

    if (thread == NULL) {
        return 1;
    }
    if (count == 1) {
        chrt_print(sh, thread, "current");
    } else {
        status = chrt_set(sh, options, thread, argv[0]);
    }
    thread_put(thread);
    return status;
}

static int cmd_chrt(struct shell *sh, int argc, char **argv)
{
    struct chrt_options options;
    char bad = chrt_parse(&options, argc, argv);
    int count = argc - options.first;

    if (bad != 0) {
        return shell_usage(sh, "invalid option -- '%c'", bad);
    }
    if (options.limits) {
        return chrt_limits(sh);
    }
    if (count < 1 || (options.of_pid && count > 2) || (!options.of_pid && count < 2)) {
        return shell_usage(sh, "%s",
                           options.of_pid ? "-p wants [PRIORITY] PID"
                                          : "a priority and a command are wanted");
    }
    argv += options.first;
    if (options.of_pid) {
        return chrt_pid(sh, &options, count, argv);
    }
    int status = chrt_set(sh, &options, current, argv[0]);
    return status != 0 ? status : prefix_run(sh, count - 1, argv + 1);
}

COMMAND("chrt", cmd_chrt, "chrt [-f|-r|-o|-i] [-v] PRIORITY COMMAND | -p [PRIORITY] PID | -m",
        "shows or sets a thread's scheduling class and priority\n"
        "  -f FIFO   -r RR, 100 ms in turn (the default)   -o OTHER   -i IDLE\n"
        "  -p PID shows, -p PRIORITY PID sets, -m tells the ranges, -v tells what was set\n"
        "FIFO and RR have priorities 1 to 99, the others 0. Interrupt threads are FIFO 50.");

// ---- taskset -----------------------------------------------------------------------------------

struct taskset_options {
    bool of_pid, lists;
    int first;
};

static char taskset_parse(struct taskset_options *options, int argc, char **argv)
{
    *options = (struct taskset_options){.first = 1};
    for (; options->first < argc && argv[options->first][0] == '-'; options->first++) {
        for (const char *letter = argv[options->first] + 1; *letter != '\0'; letter++) {
            options->of_pid |= *letter == 'p';
            options->lists |= *letter == 'c';
            if (*letter != 'p' && *letter != 'c') {
                return *letter;
            }
        }
    }
    return 0;
}

static void taskset_print(struct shell *sh, const struct taskset_options *options,
                          const struct thread *thread, const char *which)
{
    char buffer[MAX_CPUS * 4]; // "0,2,4,...": the longest there is
    struct cpumask possible = {0};
    struct text t = TEXT_INIT(buffer);

    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        if (cpumask_test(&thread->allowed, cpu)) {
            cpumask_set(&possible, cpu);
        }
    }
    if (options->lists) {
        cpumask_show_list(&t, &possible);
    } else {
        cpumask_show(&t, &possible, cpu_count);
    }
    shell_printf(sh, "pid %d's %s affinity %s: %s\n", thread->tid, which,
                 options->lists ? "list" : "mask", buffer);
}

static int taskset_set(struct shell *sh, const struct taskset_options *options,
                       struct thread *thread, const char *cpus_text)
{
    struct cpumask mask;
    int err = 0;

    if (!options->lists && cpus_text[0] == '0' && (cpus_text[1] == 'x' || cpus_text[1] == 'X')) {
        cpus_text += 2;
    }
    err = options->lists ? cpumask_parse_list(cpus_text, MAX_CPUS, &mask)
                         : cpumask_parse(cpus_text, MAX_CPUS, &mask);
    if (err != 0) {
        return shell_error(sh, "failed to parse CPU %s: %s", options->lists ? "list" : "mask",
                           cpus_text);
    }
    err = sched_setaffinity(thread, &mask);
    if (err != 0) {
        return shell_error(sh,
                           "failed to set pid %d's affinity: %s (none of these CPUs is online, "
                           "or it serves its CPU)",
                           thread->tid, strerror(err));
    }
    return 0;
}

static int taskset_pid(struct shell *sh, const struct taskset_options *options, int count,
                       char **argv)
{
    struct thread *thread = pid_thread(sh, argv[count - 1], count == 1 ? "get" : "set");
    int status = 0;

    if (thread == NULL) {
        return 1;
    }
    taskset_print(sh, options, thread, "current");
    if (count == 2) {
        status = taskset_set(sh, options, thread, argv[0]);
        if (status == 0) {
            taskset_print(sh, options, thread, "new");
        }
    }
    thread_put(thread);
    return status;
}

static int cmd_taskset(struct shell *sh, int argc, char **argv)
{
    struct taskset_options options;
    char bad = taskset_parse(&options, argc, argv);
    int count = argc - options.first;

    if (bad != 0) {
        return shell_usage(sh, "invalid option -- '%c'", bad);
    }
    if (count < 1 || (options.of_pid && count > 2) || (!options.of_pid && count < 2)) {
        return shell_usage(
            sh, "%s", options.of_pid ? "-p wants [MASK] PID" : "a mask and a command are wanted");
    }
    argv += options.first;
    if (options.of_pid) {
        return taskset_pid(sh, &options, count, argv);
    }
    int status = taskset_set(sh, &options, current, argv[0]);
    return status != 0 ? status : prefix_run(sh, count - 1, argv + 1);
}

COMMAND("taskset", cmd_taskset, "taskset [-c] MASK COMMAND | [-c] -p [MASK] PID",
        "shows or sets on which CPUs a thread may run\n"
        "  MASK is hexadecimal (3 is CPUs 0 and 1), with -c a list: 0,2-3");

// ---- nice, renice ------------------------------------------------------------------------------

static int cmd_nice(struct shell *sh, int argc, char **argv)
{
    int32_t by = 10;
    int first = 1;

    if (argc == 1) {
        shell_printf(sh, "%d\n", current->nice);
        return 0;
    }
    if (strcmp(argv[1], "-n") == 0) {
        if (argc < 3 || kstrtos32(argv[2], 10, &by) != 0) {
            return shell_usage(sh, "-n wants a number, -20 to 19");
        }
        first = 3;
    }
    if (first >= argc) {
        return shell_usage(sh, "a command must be given with an adjustment");
    }
    sched_set_nice(current, current->nice + max(-40, min(by, 40)));
    return prefix_run(sh, argc - first, argv + first);
}

COMMAND("nice", cmd_nice, "nice [-n N] [COMMAND]",
        "runs a command with another share of the CPU: 19 is least, -20 most\n"
        "alone it tells the shell's; without -n the share is lowered by 10 levels");

static int cmd_renice(struct shell *sh, int argc, char **argv)
{
    int32_t nice;
    int status = 0, first = argc > 1 && strcmp(argv[1], "-n") == 0 ? 2 : 1;

    if (first >= argc || kstrtos32(argv[first], 10, &nice) != 0) {
        return shell_usage(sh, "a number is wanted, -20 to 19");
    }
    first++;
    first += first < argc && strcmp(argv[first], "-p") == 0;
    if (first >= argc) {
        return shell_usage(sh, "whose? a PID is wanted");
    }
    for (; first < argc; first++) {
        struct thread *thread = pid_thread(sh, argv[first], "set");
        if (thread == NULL) {
            status = 1;
            continue;
        }
        int before = thread->nice;
        sched_set_nice(thread, nice);
        shell_printf(sh, "%d (process ID) old priority %d, new priority %d\n", thread->tid, before,
                     thread->nice);
        thread_put(thread);
    }
    return status;
}

COMMAND("renice", cmd_renice, "renice [-n] N [-p] PID...",
        "changes the share of threads that run: 19 is least, -20 most");
