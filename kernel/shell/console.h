// The person at the console: lines in, text out, and the line that is being typed kept whole among
// it all. Context: thread.
#pragma once

#include <lib/types.h>

// Ties the line editor to the console's log thread. Context: thread, once.
void console_init(void);

// Shows the prompt, reads one line into `to` (LINE_MAX + 1 bytes) and returns its length; -EINTR
// (^C), -E2BIG (longer than LINE_MAX: said on the console), -EPIPE (^D on an empty line).
// `complete` may be NULL.
struct line;
long console_read_line(const char *prompt, char *to, void (*complete)(struct line *line));
// Forgets what was typed ahead: after ^C.
void console_discard_keys(void);
void console_history_add(const char *line);
void console_history_show(void (*show)(unsigned number, const char *line, void *arg), void *arg);

// A command's input: lines as they are typed, with their newline; 0 after ^D, -EINTR after ^C.
long console_read(char *to, size_t size);
// A command's output.
void console_write(const char *data, size_t size);
void console_printf(const char *format, ...) __printf(1, 2);

extern unsigned console_columns; // A: where the line editor wraps
