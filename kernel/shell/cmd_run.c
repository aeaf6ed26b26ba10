// run: a program in ring 3, as a command.
//
//   the command's thread              the program's thread
//   process_start ──────────────────> ring 3
//   waits                             write ──> run_write ──> this command's output
//   ^C: process_kill ───────────────> ends on its way back into ring 3
//   process_end  <─────────────────── thread_exit
//
// The streams are used by the program's thread while this one waits: by one at a time.
//
// Context: a command's thread; run_read and run_write the program's.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/command.h>
#include <user/process.h>

#include "job.h"
#include "stream.h"

static long run_read(void *arg, void *to, size_t size)
{
    struct shell *sh = arg;

    return shell_read(sh, to, size);
}

static int run_write(void *arg, int fd, const void *from, size_t size)
{
    struct shell *sh = arg;

    return fd == 2 ? stream_write(sh->err, from, size) : shell_write(sh, from, size);
}

static int run_list(struct shell *sh)
{
    const struct program *program;

    for (unsigned k = 0; (program = program_list(k)) != NULL; k++) {
        shell_printf(sh, "%s\n", program->name);
    }
    return 0;
}

static int cmd_run(struct shell *sh, int argc, char **argv)
{
    const struct process_io io = {.read = run_read, .write = run_write, .arg = sh};
    struct process *process;
    int err, signal, status;

    if (argc < 2) {
        return run_list(sh);
    }
    const struct program *program = program_find(argv[1]);
    if (program == NULL) {
        shell_error(sh, "%s: no such program (run alone lists them)", argv[1]);
        return STATUS_NOT_FOUND;
    }
    err = process_start(program, argc - 1, argv + 1, &io, &process);
    if (err != 0) {
        return shell_error(sh, "%s: %s", argv[1], strerror(err));
    }
    if (process_wait(process) == -EINTR) {
        process_kill(process);
    }
    signal = process_end(process, &status);
    const char *text = process_signal_text(signal);
    if (text != NULL) {
        stream_write(sh->err, text, strlen(text));
        stream_write(sh->err, "\n", 1);
    }
    return signal != 0 ? 128 + signal : status;
}

COMMAND("run", cmd_run, "run [NAME [ARGUMENT]...]",
        "runs a program in ring 3; alone lists them\n"
        "Its status is the program's, or 128 + the signal that ended it: 132 illegal instruction,\n"
        "133 breakpoint or single step, 135 bus error, 136 arithmetic, 139 bad address or right.");
