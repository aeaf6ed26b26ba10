// The console's shell: reads a line, runs it, shows the prompt again; and what its commands are
// given to speak with.
//
// At boot it first runs the tests that the option ktest= names and then the script that the boot
// loader or QEMU handed over. Who types at the prompt gets an editor (console.c), what they type is
// taken apart (parse.c) and becomes threads (job.c). A command is a record (contract/command.h) in
// whatever layer knows its subject best to serve it; help lists them.
//
// Context: a thread of its own; the shell_* functions in the thread of a command.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/boot_option.h>
#include <core/log.h>
#include <mm/slab.h>
#include <sched/thread.h>
#include <dev/tty.h>
#include <shell/shell.h>
#include "complete.h"
#include "console.h"
#include "job.h"
#include "line.h"
#include "stream.h"

#define SHELL_PROMPT "tophalf# "

static char shell_ktest_pattern[64];
static bool shell_ktest_wanted;

// ---- what commands speak with -------------------------------------------------------------------

int shell_write(struct shell *sh, const void *data, size_t size)
{
    return stream_write(sh->out, data, size);
}

long shell_read(struct shell *sh, void *to, size_t size)
{
    return stream_read(sh->in, to, size);
}

// Most texts fit a small buffer on the stack; a longer one gets memory of its own, or is cut when
// there is none.
static void shell_vprintf(struct shell_stream *stream, const char *format, va_list args)
{
    char small[256];
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(small, sizeof(small), format, args);
    if (length < (int)sizeof(small)) {
        stream_write(stream, small, (size_t)max(length, 0));
    } else {
        char *large = kmalloc((size_t)length + 1, GFP_KERNEL);
        if (large) {
            vsnprintf(large, (size_t)length + 1, format, again);
        }
        stream_write(stream, large ? large : small, large ? (size_t)length : sizeof(small) - 1);
        kfree(large);
    }
    va_end(again);
}

void shell_printf(struct shell *sh, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    shell_vprintf(sh->out, format, args);
    va_end(args);
}

// One write for the whole line, so that nothing comes between its parts.
static void shell_complain(struct shell *sh, const char *format, va_list args, const char *tail)
{
    char line[320];
    int at = snprintf(line, sizeof(line), "%s: ", sh->argv[0]);
    at = min(at, 200);
    at += vsnprintf(line + at, sizeof(line) - (size_t)at, format, args);
    at = min(at, (int)sizeof(line) - 1);
    at += snprintf(line + at, sizeof(line) - (size_t)at, "%s\n", tail);
    at = min(at, (int)sizeof(line) - 1);
    line[at - 1] = '\n';
    stream_write(sh->err, line, (size_t)at);
}

int shell_error(struct shell *sh, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    shell_complain(sh, format, args, "");
    va_end(args);
    return STATUS_FAILED;
}

int shell_result(struct shell *sh, const char *what, int error)
{
    return error == 0 || error == -EINTR ? 0 : shell_error(sh, "%s: %s", what, strerror(error));
}

int shell_usage(struct shell *sh, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    shell_complain(sh, format, args, "");
    va_end(args);
    const struct command *command = shell_find_command(sh->argv[0]);
    if (command) {
        char line[256];
        int length = snprintf(line, sizeof(line), "usage: %s\n", command->usage);
        stream_write(sh->err, line, min((size_t)length, sizeof(line) - 1));
    }
    return STATUS_USAGE;
}

// ---- the loop -----------------------------------------------------------------------------------

static void shell_run_script(char *script)
{
    char *line = script;
    while (*line != '\0') {
        char *end = line + strcspn(line, "\n");
        bool last = *end == '\0';
        *end = '\0';
        job_run_line(line);
        line = last ? end : end + 1;
    }
}

static void shell_report_job(int id, bool running, int status, const char *text, void *arg)
{
    (void)running;
    (void)arg;
    console_printf("[%d] done, status %d: %s\n", id, status, text);
}

static __noreturn void shell_loop(void)
{
    static char line[LINE_MAX + 1];
    for (;;) {
        if (!tty_plain) { // a script hears what it asks for (jobs, wait), and nothing in between
            job_for_each(true, shell_report_job, NULL);
        }
        long length = console_read_line(SHELL_PROMPT, line, complete_line);
        if (length == -E2BIG) {
            job_run_line("false"); // $? tells
        } else if (length > 0) {
            console_history_add(line);
            if (job_run_line(line) == STATUS_INTERRUPTED) {
                console_discard_keys();
            }
        }
    }
}

// ^C was typed: every line that runs is stopped.
static bool shell_interrupt(void)
{
    return job_interrupt_foreground(false);
}

bool shell_interrupt_newest(void)
{
    return job_interrupt_foreground(true);
}

static void shell_thread(void *arg)
{
    char *script = arg;
    tty_interrupt_hook = shell_interrupt;
    if (shell_ktest_wanted) {
        ktest_run_all(shell_ktest_pattern);
    }
    if (script) {
        shell_run_script(script);
        kfree(script);
    }
    tty_log_settle();
    shell_loop();
}

void shell_init(void)
{
    console_init();
}

void shell_start(const char *script)
{
    char *copy = NULL;
    if (script && *script != '\0') {
        size_t size = strlen(script) + 1;
        copy = kmalloc(size, GFP_KERNEL);
        if (copy) {
            memcpy(copy, script, size);
        } else {
            pr_err("shell: no memory for the boot script, it is not run");
        }
    }
    struct thread *thread = kthread_run(shell_thread, copy, "sh");
    if (thread) {
        thread_put(thread);
    } else {
        pr_err("shell: no memory for its thread, there is no prompt");
    }
}

int shell_run_line(const char *line)
{
    return job_run_line(line);
}

static int shell_set_ktest(const char *value)
{
    shell_ktest_wanted = true;
    return strscpy(shell_ktest_pattern, value, sizeof(shell_ktest_pattern)) < 0 ? -EINVAL : 0;
}

BOOT_OPTION("ktest", shell_set_ktest,
            "run the kernel's tests whose name holds this, before the script");
