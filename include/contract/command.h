// A console command, declared by the file that implements it. Runs in a thread of its own; ^C makes
// its sleeps return -EINTR.
#pragma once

#include <contract/section.h>
#include <lib/types.h>

struct file;

// Where a command reads and writes: the console, a file, or a pipe. Opaque; the functions below are
// kernel/shell's.
struct shell_stream;
struct shell {
    struct shell_stream *in, *out, *err;
    int argc;
    char **argv;
};

struct command {
    const char *name;
    const char *usage; // "dd if=FILE of=FILE [bs=N] [count=N]"
    const char *help;  // one line for `help`; more lines for `help NAME`
    int (*run)(struct shell *sh, int argc, char **argv); // exit status 0..255
};
#define COMMAND(command_name, function, usage_text, help_text) \
    LINKER_RECORD(command, command, command_##function) = {    \
        .name = (command_name), .usage = (usage_text), .help = (help_text), .run = (function)}

// Formatted text to a command's output and error line. shell_error prints `command: ` before and a
// newline after, and returns 1; shell_usage prints the usage and returns 2.
void shell_printf(struct shell *sh, const char *format, ...) __printf(2, 3);
// The error of a write is also reported when the command ends: it need not, only stop.
int shell_write(struct shell *sh, const void *data, size_t size); // 0, -EPIPE, -EINTR, -errno
long shell_read(struct shell *sh, void *to, size_t size);         // 0 at the end, -EINTR
int shell_error(struct shell *sh, const char *format, ...) __printf(2, 3);
// What became of `what`, by its -errno: "cat: /tmp/x: No such file or directory". 1; 0 for 0, and
// for -EINTR, of which nothing is said: who typed ^C knows.
int shell_result(struct shell *sh, const char *what, int error);
int shell_usage(struct shell *sh, const char *format, ...) __printf(2, 3);
bool shell_interrupted(struct shell *sh); // ^C was typed: stop with status 130
