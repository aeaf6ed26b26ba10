// Saying things: what was typed (echo), what the kernel logged (dmesg), which kernel this is, and
// what the clock says.
//
// Context: thread, each in one of its own.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/command.h>
#include <core/log.h>
#include <x86/clock.h>
#include <mm/slab.h>
#include <dev/tty.h>
#include <fs/vfs.h>
#include "job.h"
#include "stream.h"

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
