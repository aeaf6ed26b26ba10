// The commands that every console has: looking at files, saying things, waiting, and the three ways
// to end.
//
// Context: each runs in a thread of its own.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <contract/command.h>
#include <core/log.h>
#include <core/panic.h>
#include <x86/acpi.h>
#include <x86/clock.h>
#include <mm/slab.h>
#include <defer/hrtimer.h>
#include <dev/block.h>
#include <dev/tty.h>
#include <fs/vfs.h>
#include "console.h"
#include "job.h"
#include "stream.h"

LINKER_SET(command, command);
LINKER_SET(boot_option, boot_option);

// ---- help ---------------------------------------------------------------------------------------

// The records lie sorted by their functions' names; people look for the commands' names. The next
// one after `last`.
static const struct command *help_next(const char *last)
{
    const struct command *command, *best = NULL;
    set_for_each (command, command) {
        if (strcmp(command->name, last) > 0 && (!best || strcmp(command->name, best->name) < 0)) {
            best = command;
        }
    }
    return best;
}

static const struct boot_option *help_next_option(const char *last)
{
    const struct boot_option *option, *best = NULL;
    set_for_each (option, boot_option) {
        if (strcmp(option->name, last) > 0 && (!best || strcmp(option->name, best->name) < 0)) {
            best = option;
        }
    }
    return best;
}

static int help_boot(struct shell *sh)
{
    const struct boot_option *option = NULL;
    while ((option = help_next_option(option ? option->name : "")) != NULL) {
        shell_printf(sh, "%-14s %s\n", option->name, option->help);
    }
    return 0;
}

static int help_all(struct shell *sh)
{
    const struct command *command = NULL;
    while ((command = help_next(command ? command->name : "")) != NULL) {
        int length = (int)strcspn(command->help, "\n");
        shell_printf(sh, "%-10s %.*s\n", command->name, length, command->help);
    }
    shell_printf(
        sh,
        "\nhelp COMMAND says more, help boot lists the boot options. Keys: Tab completes, up and "
        "down recall,\n^R searches, ^C stops. a | b, > >> <, ; && || &, $? as in sh.\n");
    return 0;
}

static int cmd_help(struct shell *sh, int argc, char **argv)
{
    if (argc == 1) {
        return help_all(sh);
    }
    for (int i = 1; i < argc; i++) {
        const struct command *command = shell_find_command(argv[i]);
        if (command) {
            shell_printf(sh, "usage: %s\n%s\n", command->usage, command->help);
        } else if (strcmp(argv[i], "boot") == 0) {
            help_boot(sh);
        } else {
            return shell_error(sh, "%s: no such command (help lists them)", argv[i]);
        }
    }
    return 0;
}

// ---- files --------------------------------------------------------------------------------------

static int cat_file(struct shell *sh, const char *path)
{
    struct file *file;
    int error = vfs_open(path, OPEN_READ, &file);
    if (error != 0) {
        return shell_error(sh, "%s: %s", path, strerror(error));
    }
    char data[1024];
    long count;
    while ((count = vfs_read(file, data, sizeof(data))) > 0 && !shell_interrupted(sh)) {
        if (shell_write(sh, data, (size_t)count) != 0) {
            count = 0;
            break;
        }
    }
    vfs_close(file);
    return count < 0 && count != -EINTR ? shell_error(sh, "%s: %s", path, strerror((int)count)) : 0;
}

static int cat_input(struct shell *sh)
{
    char data[1024];
    long count;
    while ((count = shell_read(sh, data, sizeof(data))) > 0) {
        if (shell_write(sh, data, (size_t)count) != 0) {
            return 1;
        }
    }
    return count == 0 || count == -EINTR ? 0 : shell_error(sh, "%s", strerror((int)count));
}

static int cmd_cat(struct shell *sh, int argc, char **argv)
{
    int status = 0;
    for (int i = 1; i < argc && !shell_interrupted(sh); i++) {
        int one = strcmp(argv[i], "-") == 0 ? cat_input(sh) : cat_file(sh, argv[i]);
        status = one != 0 ? one : status;
    }
    return argc == 1 ? cat_input(sh) : status;
}

enum { LS_MAX_NAMES = 2048 };

struct ls {
    char (*names)[NAME_MAX_LENGTH];
    unsigned count;
    bool is_long;
};

// Numbers by value, everything else by bytes: irq 9 comes before irq 10.
static int ls_compare(const char *a, const char *b)
{
    uint32_t x, y;
    if (kstrtou32(a, 10, &x) == 0 && kstrtou32(b, 10, &y) == 0) {
        return x < y ? -1 : x > y;
    }
    return strcmp(a, b);
}

static void ls_insert(struct ls *ls, const char *name)
{
    unsigned at = ls->count++;
    while (at > 0 && ls_compare(ls->names[at - 1], name) > 0) {
        memcpy(ls->names[at], ls->names[at - 1], NAME_MAX_LENGTH);
        at--;
    }
    strscpy(ls->names[at], name, NAME_MAX_LENGTH);
}

static void ls_show_long(struct shell *sh, const char *name, const struct file_info *info)
{
    const char *mode = info->writable ? "rw-rw-rw-" : "r--r--r--";
    if (info->type == FILE_DIRECTORY) {
        shell_printf(sh, "dr-xr-xr-x %12s %s\n", "-", name);
    } else if (info->type == FILE_REGULAR) {
        shell_printf(sh, "-%s %12llu %s\n", mode, (unsigned long long)info->size, name);
    } else {
        shell_printf(sh, "%c%s %7u, %3u %s\n", info->type == FILE_BLOCK ? 'b' : 'c', mode,
                     info->major, info->minor, name);
    }
}

static void ls_show_list(struct shell *sh, const char *folder, const struct ls *ls)
{
    for (unsigned i = 0; i < ls->count && !shell_interrupted(sh); i++) {
        char path[PATH_MAX_LENGTH + NAME_MAX_LENGTH];
        struct file_info info;
        snprintf(path, sizeof(path), "%s/%s", folder, ls->names[i]);
        if (!ls->is_long) {
            shell_printf(sh, "%s\n", ls->names[i]);
        } else if (vfs_stat(path, &info) == 0) { // it may be gone by now
            ls_show_long(sh, ls->names[i], &info);
        }
    }
}

// For a person's eyes: as many columns as there is room for, sorted downwards.
static void ls_show_columns(struct shell *sh, const struct ls *ls)
{
    size_t width = 1;
    for (unsigned i = 0; i < ls->count; i++) {
        width = max(width, strlen(ls->names[i]) + 2);
    }
    unsigned columns = max(console_columns / (unsigned)width, 1u);
    unsigned rows = DIV_ROUND_UP(ls->count, columns);
    for (unsigned row = 0; row < rows && !shell_interrupted(sh); row++) {
        for (unsigned i = row; i < ls->count; i += rows) {
            bool last = i + rows >= ls->count;
            shell_printf(sh, "%-*s%s", last ? 0 : (int)width, ls->names[i], last ? "\n" : "");
        }
    }
}

static void ls_show(struct shell *sh, const char *folder, const struct ls *ls)
{
    if (ls->is_long || tty_plain || sh->out->kind != STREAM_CONSOLE) {
        ls_show_list(sh, folder, ls);
    } else {
        ls_show_columns(sh, ls);
    }
}

static int ls_folder(struct shell *sh, const char *path, bool is_long)
{
    struct ls ls = {.is_long = is_long};
    ls.names = kmalloc((size_t)LS_MAX_NAMES * NAME_MAX_LENGTH, GFP_KERNEL);
    if (!ls.names) {
        return shell_error(sh, "%s: %s", path, strerror(ENOMEM));
    }
    char name[NAME_MAX_LENGTH];
    int error = 0;
    for (unsigned k = 0; error == 0 && ls.count < LS_MAX_NAMES; k++) {
        error = vfs_list(path, k, name, sizeof(name));
        if (error == 0) {
            ls_insert(&ls, name);
        }
    }
    ls_show(sh, path, &ls);
    kfree(ls.names);
    return error == 0 ? shell_error(sh, "%s: more than %d names", path, LS_MAX_NAMES) : 0;
}

static int ls_path(struct shell *sh, const char *path, bool is_long)
{
    struct file_info info;
    int error = vfs_stat(path, &info);
    if (error != 0) {
        return shell_error(sh, "%s: %s", path, strerror(error));
    }
    if (info.type == FILE_DIRECTORY) {
        return ls_folder(sh, path, is_long);
    }
    if (is_long) {
        ls_show_long(sh, path, &info);
    } else {
        shell_printf(sh, "%s\n", path);
    }
    return 0;
}

static int cmd_ls(struct shell *sh, int argc, char **argv)
{
    bool is_long = false;
    int i = 1, status = 0;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "-l") != 0) {
            return shell_usage(sh, "%s: unknown option", argv[i]);
        }
        is_long = true;
    }
    if (i == argc) {
        return ls_path(sh, "/", is_long);
    }
    for (bool several = argc - i > 1; i < argc; i++) {
        if (several) {
            shell_printf(sh, "%s:\n", argv[i]);
        }
        int one = ls_path(sh, argv[i], is_long);
        status = one != 0 ? one : status;
    }
    return status;
}

static int cmd_rm(struct shell *sh, int argc, char **argv)
{
    int status = 0;
    if (argc == 1) {
        return shell_usage(sh, "which file?");
    }
    for (int i = 1; i < argc; i++) {
        int error = vfs_unlink(argv[i]);
        if (error != 0) {
            status = shell_error(sh, "%s: %s", argv[i], strerror(error));
        }
    }
    return status;
}

// ---- saying things ------------------------------------------------------------------------------

// One escape of echo -e; returns how many bytes of s it took. *stop: \c.
static size_t echo_escape(const char *s, struct text *t, bool *stop)
{
    static const char from[] = "abefnrtv\\", to[] = "\a\b\033\f\n\r\t\v\\";
    const char *which = s[1] != '\0' ? strchr(from, s[1]) : NULL;
    size_t used = 2, digits = 0;
    unsigned value = 0;
    if (which) {
        text_putc(t, to[which - from]);
    } else if (s[1] == 'c') {
        *stop = true;
    } else if (s[1] == '0' || s[1] == 'x') {
        unsigned base = s[1] == 'x' ? 16 : 8;
        for (; digits < (base == 16 ? 2 : 3) && s[used] != '\0'; digits++, used++) {
            const char *all = "0123456789abcdef0123456789ABCDEF";
            const char *digit = strchr(all, s[used]);
            if (!digit || (unsigned)(digit - all) % 16 >= base) {
                break;
            }
            value = value * base + (unsigned)(digit - all) % 16;
        }
        text_putc(t, (char)value);
    } else {
        text_putc(t, '\\');
        used = 1;
    }
    return used;
}

static void echo_word(const char *word, bool escapes, struct text *t, bool *stop)
{
    while (*word != '\0' && !*stop) {
        if (escapes && *word == '\\') {
            word += echo_escape(word, t, stop);
        } else {
            text_putc(t, *word++);
        }
    }
}

// Everything in one write: a line for a /proc file must arrive whole.
static int cmd_echo(struct shell *sh, int argc, char **argv)
{
    bool newline = true, escapes = false, stop = false;
    int i = 1;
    for (; i < argc && (strcmp(argv[i], "-n") == 0 || strcmp(argv[i], "-e") == 0); i++) {
        newline = newline && argv[i][1] != 'n';
        escapes = escapes || argv[i][1] == 'e';
    }
    size_t size = 16;
    for (int k = i; k < argc; k++) {
        size += strlen(argv[k]) + 1;
    }
    char *data = kmalloc(size, GFP_KERNEL);
    if (!data) {
        return shell_error(sh, "%s", strerror(ENOMEM));
    }
    struct text t;
    text_init(&t, data, size);
    for (int k = i; k < argc && !stop; k++) {
        echo_word(argv[k], escapes, &t, &stop);
        if (k + 1 < argc && !stop) {
            text_putc(&t, ' ');
        }
    }
    if (newline && !stop) {
        text_putc(&t, '\n');
    }
    int error = shell_write(sh, data, t.length);
    kfree(data);
    return error != 0;
}

static uint64_t dmesg_cleared; // A: lines before it are not shown any more

static void dmesg_show(struct shell *sh)
{
    struct log_line line;
    uint64_t next = READ_ONCE(dmesg_cleared), expected = next;
    while (log_read(&next, &line) && !shell_interrupted(sh)) {
        char text[320];
        if (line.sequence > expected && expected != 0) {
            shell_printf(sh, "(%llu lines were overwritten)\n",
                         (unsigned long long)(line.sequence - expected));
        }
        expected = next;
        log_format(&line, text, sizeof(text));
        shell_printf(sh, "%s\n", text);
    }
}

static int cmd_dmesg(struct shell *sh, int argc, char **argv)
{
    bool clear = false, show = true;
    for (int i = 1; i < argc; i++) {
        uint32_t level;
        if (strcmp(argv[i], "-c") == 0 || strcmp(argv[i], "-C") == 0) {
            clear = true;
            show = argv[i][1] == 'c';
        } else if (strcmp(argv[i], "-n") == 0 && i + 1 < argc) {
            if (kstrtou32(argv[++i], 10, &level) != 0 || level > LOG_DEBUG) {
                return shell_usage(sh, "%s: a level is 0 (emergencies) to 7 (everything)", argv[i]);
            }
            log_console_level = level;
            show = false;
        } else {
            return shell_usage(sh, "%s: unknown option", argv[i]);
        }
    }
    if (show) {
        dmesg_show(sh);
    }
    if (clear) {
        struct log_line line;
        uint64_t next = READ_ONCE(dmesg_cleared);
        while (log_read(&next, &line)) {
        }
        WRITE_ONCE(dmesg_cleared, next);
    }
    return 0;
}

static int cmd_clear(struct shell *sh, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    return tty_plain ? 0 : shell_write(sh, "\033[H\033[2J", 7) != 0;
}

// /proc/version says it all: "tophalf version 0.1 (...) ...".
static int version_read(struct shell *sh, char *to, size_t size)
{
    struct file *file;
    int error = vfs_open("/proc/version", OPEN_READ, &file);
    long count = error;
    if (error == 0) {
        count = vfs_read(file, to, size - 1);
        vfs_close(file);
    }
    if (count < 0) {
        return shell_error(sh, "/proc/version: %s", strerror((int)count));
    }
    to[count] = '\0';
    return 0;
}

static int cmd_version(struct shell *sh, int argc, char **argv)
{
    char text[256];
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments");
    }
    int status = version_read(sh, text, sizeof(text));
    if (status == 0) {
        shell_printf(sh, "%s", text);
    }
    return status;
}

static int cmd_uname(struct shell *sh, int argc, char **argv)
{
    char text[256];
    const char *option = argc > 1 ? argv[1] : "-s";
    if (argc > 2 || option[0] != '-' || strlen(option) != 2 || !strchr("asnrm", option[1])) {
        return shell_usage(sh, "%s: unknown option", argv[argc - 1]);
    }
    if (version_read(sh, text, sizeof(text)) != 0) {
        return STATUS_FAILED;
    }
    const char *at = strstr(text, "version ");
    const char *release = at ? at + strlen("version ") : text;
    int length = (int)strcspn(release, " \n");
    if (option[1] == 'a') {
        shell_printf(sh, "tophalf tophalf %.*s x86_64\n", length, release);
    } else if (option[1] == 'r') {
        shell_printf(sh, "%.*s\n", length, release);
    } else {
        shell_printf(sh, "%s\n", option[1] == 'm' ? "x86_64" : "tophalf");
    }
    return 0;
}

// Days since 1970 to a date of the Gregorian calendar, by counting whole years and months.
static void date_from_days(uint64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    static const uint8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    for (*year = 1970;; (*year)++) {
        bool leap = (*year % 4 == 0 && *year % 100 != 0) || *year % 400 == 0;
        if (days < 365u + leap) {
            for (*month = 0; days >= lengths[*month] + (leap && *month == 1 ? 1u : 0u);
                 (*month)++) {
                days -= lengths[*month] + (leap && *month == 1 ? 1u : 0u);
            }
            *day = (unsigned)days + 1;
            (*month)++;
            return;
        }
        days -= 365u + leap;
    }
}

static int cmd_date(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments: the clock is not set from here");
    }
    uint64_t now = clock_rtc_seconds();
    if (now == 0 || now / 86400 > 365000) {
        return shell_error(sh, "the machine's clock gives no sensible time");
    }
    unsigned year, month, day;
    date_from_days(now / 86400, &year, &month, &day);
    shell_printf(sh, "%04u-%02u-%02u %02u:%02u:%02u UTC\n", year, month, day,
                 (unsigned)(now / 3600 % 24), (unsigned)(now / 60 % 60), (unsigned)(now % 60));
    return 0;
}

// ---- waiting and jobs ---------------------------------------------------------------------------

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

// ---- endings ------------------------------------------------------------------------------------

// What was written reaches the disks, what was said reaches the screen.
static void end_prepare(struct shell *sh)
{
    for (struct gendisk *disk = blk_next(NULL); disk; disk = blk_next(disk)) {
        int error = disk->read_only ? 0 : blk_flush(disk);
        if (error != 0) {
            shell_error(sh, "%s: flushing its cache: %s", disk->name, strerror(error));
        }
    }
    tty_flush();
}

static int cmd_poweroff(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments");
    }
    end_prepare(sh);
    acpi_poweroff();
    return shell_error(sh, "the machine did not obey: switch it off by hand");
}

static int cmd_reboot(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        return shell_usage(sh, "no arguments");
    }
    end_prepare(sh);
    acpi_reboot();
    return shell_error(sh, "the machine did not obey: reset it by hand");
}

enum { EXIT_MAX = 127 };

// What the host sees is a single byte, and some values of it are taken: 0 is QEMU's own good end,
// and success and panic have codes (core/panic.h).
static int cmd_exit(struct shell *sh, int argc, char **argv)
{
    uint32_t number = 0;
    if (argc > 2) {
        return shell_usage(sh, "one number at most");
    }
    if (argc == 2 && (kstrtou32(argv[1], 10, &number) != 0 || number > EXIT_MAX ||
                      number == EXIT_OK || number == EXIT_PANIC || number == EXIT_EARLY_PANIC)) {
        return shell_usage(sh, "%s: 0 to %d, but not %d, %d and %d, which have a meaning", argv[1],
                           EXIT_MAX, EXIT_OK, EXIT_PANIC, EXIT_EARLY_PANIC);
    }
    end_prepare(sh);
    debug_exit(number == 0 ? EXIT_OK : (uint8_t)number);
    acpi_poweroff(); // no such device: end all the same
    return shell_error(sh, "the machine did not obey: switch it off by hand");
}

COMMAND("help", cmd_help, "help [COMMAND | boot]...",
        "what commands there are, and what one of them does");
COMMAND("cat", cmd_cat, "cat [FILE]...",
        "show files one after the other\nWithout a file, or for -, what is typed (^D ends it).");
COMMAND("ls", cmd_ls, "ls [-l] [PATH]...",
        "list a directory\n-l: with kind, permission, size (of devices: major and minor number).");
COMMAND("rm", cmd_rm, "rm FILE...", "remove files below /tmp");
COMMAND("echo", cmd_echo, "echo [-n] [-e] [WORD]...",
        "say the words\n-n: without a newline. -e: \\n \\t \\r \\a \\b \\e \\f \\v \\\\ \\0NNN "
        "\\xHH \\c "
        "mean what they do in sh.");
COMMAND(
    "dmesg", cmd_dmesg, "dmesg [-c | -C] [-n LEVEL]",
    "show the kernel's log\n-c: show and forget. -C: forget. -n: lines up to LEVEL appear on the "
    "console.");
COMMAND("clear", cmd_clear, "clear", "clear the screen");
COMMAND("version", cmd_version, "version", "which kernel this is");
COMMAND("uname", cmd_uname, "uname [-a | -s | -n | -r | -m]", "the kernel's name and version");
COMMAND("date", cmd_date, "date", "what the machine's clock says, in UTC");
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
COMMAND("poweroff", cmd_poweroff, "poweroff", "flush the disks and switch the machine off");
COMMAND("reboot", cmd_reboot, "reboot", "flush the disks and restart the machine");
COMMAND("exit", cmd_exit, "exit [N]",
        "end QEMU with a status for scripts (README.md); without isa-debug-exit, poweroff");
