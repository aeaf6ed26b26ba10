// `health`: is the machine well? And `watch`: a command again and again.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/command.h>
#include <dev/tty.h>
#include <sched/sleep.h>

#include "job.h"
#include "source.h"

// ---- health -------------------------------------------------------------------------------------

// The exit status is the worst level: 0 OK, 1 WARN, 2 ALERT.
static int cmd_health(struct shell *sh, int argc, char **argv)
{
    struct source source;
    char buffer[512], first = '\0';
    long count;

    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "it takes no arguments");
    }
    int error = source_open(&source, sh, "/proc/health");
    if (error != 0) {
        return shell_error(sh, "/proc/health: %s", strerror(error));
    }
    while ((count = source_read_some(&source, buffer, sizeof(buffer))) > 0) {
        first = first == '\0' ? buffer[0] : first;
        if (shell_write(sh, buffer, (size_t)count) != 0) {
            break;
        }
    }
    source_close(&source);
    return first == 'O' ? 0 : first == 'W' ? 1 : 2;
}

COMMAND("health", cmd_health, "health",
        "how the machine is: OK, WARN or ALERT for each measure (/proc/health)\n"
        "the exit status is the worst of them: 0, 1, 2; watch health shows it as it changes");

// ---- watch --------------------------------------------------------------------------------------

struct watch_options {
    uint32_t interval_ms, count; // count 0: for ever
    int command;                 // where it begins in argv
};

// "2" or "0.5" seconds.
static int watch_parse_seconds(const char *text, uint32_t *ms)
{
    uint32_t seconds, tenths = 0;
    char whole[12];
    size_t length = strcspn(text, ".");

    if (length == 0 || length >= sizeof(whole)) {
        return -EINVAL;
    }
    memcpy(whole, text, length);
    whole[length] = '\0';
    int error = kstrtou32(whole, 10, &seconds);
    if (error == 0 && text[length] == '.') {
        error =
            strlen(text + length + 1) == 1 ? kstrtou32(text + length + 1, 10, &tenths) : -EINVAL;
    }
    if (error != 0 || seconds > 3600 || (seconds == 0 && tenths == 0)) {
        return -EINVAL;
    }
    *ms = seconds * 1000 + tenths * 100;
    return 0;
}

static bool watch_parse(int argc, char **argv, struct watch_options *options)
{
    *options = (struct watch_options){.interval_ms = 2000, .command = 1};
    for (; options->command + 1 < argc && argv[options->command][0] == '-'; options->command += 2) {
        const char *value = argv[options->command + 1];

        if (strcmp(argv[options->command], "-n") == 0) {
            if (watch_parse_seconds(value, &options->interval_ms) != 0) {
                return false;
            }
        } else if (strcmp(argv[options->command], "-c") != 0 ||
                   kstrtou32(value, 10, &options->count) != 0 || options->count == 0) {
            return false;
        }
    }
    return options->command < argc && argv[options->command][0] != '-';
}

static int cmd_watch(struct shell *sh, int argc, char **argv)
{
    struct watch_options options;

    if (!watch_parse(argc, argv, &options)) {
        return shell_usage(sh, "what, and how often? Tenths of a second at least");
    }
    const struct command *command = shell_find_command(argv[options.command]);
    if (command == NULL || command->run == cmd_watch) {
        return shell_error(sh, "%s: no command to be watched", argv[options.command]);
    }
    int status = 0;
    for (uint32_t round = 1;; round++) {
        if (!tty_plain) {
            shell_printf(sh, "\033[H\033[2J");
        }
        shell_printf(sh, "Every %u.%us: %s (%u)\n", options.interval_ms / 1000,
                     options.interval_ms / 100 % 10, argv[options.command], round);
        status = command->run(sh, argc - options.command, argv + options.command);
        if (round == options.count) {
            return status;
        }
        if (shell_interrupted(sh) || msleep_interruptible(options.interval_ms) != 0) {
            return 130;
        }
    }
}

COMMAND("watch", cmd_watch, "watch [-n SECONDS] [-c COUNT] COMMAND [ARGUMENT...]",
        "a command again and again, every two seconds unless told otherwise, until ^C\n"
        "-n 0.5: every half a second; -c 3: three times; its status is the last one's");
