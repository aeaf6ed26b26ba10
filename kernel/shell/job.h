// What was asked to run: from a parsed line to threads. Context: thread, except
// job_interrupt_foreground.
#pragma once

#include <contract/command.h>

enum { STATUS_FAILED = 1, STATUS_USAGE = 2, STATUS_NOT_FOUND = 127, STATUS_INTERRUPTED = 130 };

// Runs one line in the calling thread; returns its status. A part that ends with '&' goes on by
// itself.
int job_run_line(const char *line);

// Interrupts what runs in the foreground, all of it or the line that was begun last; false when
// nothing does. Context: any but NMI.
bool job_interrupt_foreground(bool only_newest);

// The background's jobs: calls visit for each, or only for those that have ended and were not
// visited since. Their text is printable and cut.
void job_for_each(bool only_news,
                  void (*visit)(int id, bool running, int status, const char *text, void *arg),
                  void *arg);
// Sleeps until job `id` (0: all) has ended; its status (0 for all), -ENOENT, -EINTR.
int job_wait(int id);
int job_kill(int id); // as ^C; 0 or -ENOENT: none that runs

// Variables, for $NAME. TERM=dumb and COLUMNS= have an effect on the console.
const char *shell_get_variable(const char *name, char *to, size_t size); // NULL: not set
int shell_set_variable(const char *name, const char *value); // 0, -EINVAL, -E2BIG, -ENOSPC
bool shell_list_variable(unsigned k, char *to, size_t size); // "NAME=value"

const struct command *shell_find_command(const char *name);
