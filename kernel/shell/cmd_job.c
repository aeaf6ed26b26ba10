// What belongs to the shell itself: waiting, jobs in the background, history, variables.
//
// Context: thread, each in one of its own.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/command.h>
#include <defer/hrtimer.h>
#include "console.h"
#include "job.h"
#include "stream.h"

static int cmd_true(struct shell *sh, int argc, char **argv)
{
    (void)sh;
    (void)argc;
    (void)argv;
    return 0;
}

static int cmd_false(struct shell *sh, int argc, char **argv)
{
    (void)sh;
    (void)argc;
    (void)argv;
    return 1;
}

enum { SLEEP_MAX_SECONDS = 1000000 };

// "1.25": seconds with up to three decimals, to milliseconds.
static int sleep_parse(const char *s, uint32_t *ms)
{
    char whole[16];
    size_t length = strcspn(s, ".");
    uint32_t seconds = 0, fraction = 0;
    if (length == 0 || length >= sizeof(whole)) {
        return -EINVAL;
    }
    memcpy(whole, s, length);
    whole[length] = '\0';
    if (kstrtou32(whole, 10, &seconds) != 0 || seconds > SLEEP_MAX_SECONDS) {
        return -EINVAL;
    }
    if (s[length] == '.') {
        size_t digits = strlen(s + length + 1);
        if (digits == 0 || digits > 3 || kstrtou32(s + length + 1, 10, &fraction) != 0) {
            return -EINVAL;
        }
        for (; digits < 3; digits++) {
            fraction *= 10;
        }
    }
    *ms = seconds * 1000 + fraction;
    return 0;
}

static int cmd_sleep(struct shell *sh, int argc, char **argv)
{
    uint32_t ms;
    if (argc != 2) {
        return shell_usage(sh, "how long?");
    }
    if (sleep_parse(argv[1], &ms) != 0) {
        return shell_usage(sh, "%s: seconds are 0 to %d, with up to three decimals", argv[1],
                           SLEEP_MAX_SECONDS);
    }
    return hrtimer_nanosleep(ms * 1000000ull) == 0 ? 0 : STATUS_INTERRUPTED;
}

static void jobs_show(int id, bool running, int status, const char *text, void *arg)
{
    if (running) {
        shell_printf(arg, "[%d] running          %s\n", id, text);
    } else {
        shell_printf(arg, "[%d] done, status %-3d %s\n", id, status, text);
    }
}

static int cmd_jobs(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments");
    }
    job_for_each(false, jobs_show, sh);
    return 0;
}

static int jobs_number(struct shell *sh, const char *s, int *id)
{
    uint32_t number;
    if (kstrtou32(s[0] == '%' ? s + 1 : s, 10, &number) != 0 || number == 0 || number > 1000) {
        return shell_usage(sh, "%s: a job's number is 1 to 1000 (jobs lists them)", s);
    }
    *id = (int)number;
    return 0;
}

static int cmd_wait(struct shell *sh, int argc, char **argv)
{
    int id = 0;
    if (argc > 2) {
        return shell_usage(sh, "one job at most");
    }
    if (argc == 2 && jobs_number(sh, argv[1], &id) != 0) {
        return STATUS_USAGE;
    }
    int result = job_wait(id);
    if (result == -ENOENT) {
        return shell_error(sh, "%s: no such job (jobs lists them)", argv[1]);
    }
    return result < 0 ? STATUS_INTERRUPTED : result;
}

static int cmd_stop(struct shell *sh, int argc, char **argv)
{
    int id;
    if (argc != 2) {
        return shell_usage(sh, "which job?");
    }
    if (jobs_number(sh, argv[1], &id) != 0) {
        return STATUS_USAGE;
    }
    return job_kill(id) == 0 ? 0
                             : shell_error(sh, "%s: no such job runs (jobs lists them)", argv[1]);
}

static void history_print(unsigned number, const char *line, void *arg)
{
    shell_printf(arg, "%5u  %s\n", number, line);
}

static int cmd_history(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments");
    }
    console_history_show(history_print, sh);
    return 0;
}

static int env_set(struct shell *sh, char *word)
{
    char *equals = strchr(word, '=');
    if (!equals) {
        return shell_usage(sh, "%s: NAME=value is wanted", word);
    }
    *equals = '\0';
    int error = shell_set_variable(word, equals + 1);
    return error == 0 ? 0 : shell_error(sh, "%s=%s: %s", word, equals + 1, strerror(error));
}

static int cmd_env(struct shell *sh, int argc, char **argv)
{
    int status = 0;
    for (int i = 1; i < argc; i++) {
        int one = env_set(sh, argv[i]);
        status = one != 0 ? one : status;
    }
    char text[320];
    for (unsigned k = 0; argc == 1 && shell_list_variable(k, text, sizeof(text)); k++) {
        shell_printf(sh, "%s\n", text);
    }
    return status;
}

static int cmd_export(struct shell *sh, int argc, char **argv)
{
    return argc == 1 ? shell_usage(sh, "NAME=value is wanted") : cmd_env(sh, argc, argv);
}

COMMAND("true", cmd_true, "true", "do nothing, with success");
COMMAND("false", cmd_false, "false", "do nothing, without success");
COMMAND("sleep", cmd_sleep, "sleep SECONDS", "wait; up to three decimals");
COMMAND("jobs", cmd_jobs, "jobs", "what runs in the background");
COMMAND("wait", cmd_wait, "wait [JOB]", "wait for one job in the background, or for all");
COMMAND("stop", cmd_stop, "stop JOB",
        "do to a job in the background what ^C does to the foreground");
COMMAND("history", cmd_history, "history", "the lines that were typed");
COMMAND("env", cmd_env, "env [NAME=VALUE]...",
        "show or set variables\nTERM=dumb: no escape sequences. COLUMNS=N: where the line that is "
        "typed wraps.");
COMMAND("export", cmd_export, "export NAME=VALUE...", "set variables, as env does");
