// What the text commands read: files that are named, or else the command's input; by lines or
// whole. Context: thread.
#pragma once

#include <contract/command.h>
#include "stream.h"

enum { INPUT_LINE_MAX = 4096, INPUT_WHOLE_MAX = 4 << 20 };

struct input {
    struct shell *sh;
    const char *name;
    struct shell_stream *stream;
    struct shell_stream own; // of a file
    size_t at, count;
    int error; // that ended it, 0 at its end
    char data[1024];
};

// name NULL or "-": the command's own input. 0, or 1 after a message.
int input_open(struct input *in, struct shell *sh, const char *name);
void input_close(struct input *in);
// One byte, or -1 at the end or after an error.
int input_byte(struct input *in);
// One line without its newline, NUL-terminated; false at the end. NUL bytes in it are dropped. A
// line longer than INPUT_LINE_MAX comes in pieces, *newline is false for all but the last.
bool input_line(struct input *in, char line[INPUT_LINE_MAX + 1], bool *newline);
// Everything, in memory of its own (kfree), NUL-terminated; NULL after a message.
char *input_whole(struct input *in, size_t *length);

// Calls fn for each file of argv[first..argc), or for the command's input when there is none; 0, or
// the last status that was not.
int input_each(struct shell *sh, int argc, char **argv, int first,
               int (*fn)(struct input *in, void *arg), void *arg);
