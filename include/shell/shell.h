// The console's shell.
#pragma once
#include <lib/types.h>

// Ties the line editor to the console. Before the log has a thread: it hides and shows the typed
// line in pairs, and a pair must not begin without the one and end with the other. Context: boot.
void shell_init(void);

// Starts the shell thread: runs `script` (lines, may be NULL), then the prompt, for ever. Context:
// thread.
void shell_start(const char *script);

// Runs one line as if typed; returns its status. For tests. Context: thread.
int shell_run_line(const char *line);

// As ^C, but only for the line that was begun last; false when none runs. For tests, which run
// inside a line themselves. Context: any but NMI.
bool shell_interrupt_newest(void);

// Runs the in-kernel tests whose "suite.name" contains the pattern ("" all) and writes KTAP to COM2
// if there is one, else to the console. Returns the number of failures.
unsigned ktest_run_all(const char *pattern);
