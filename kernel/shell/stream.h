// Where a command reads and writes: the console, a file, a pipe. Context: thread.
#pragma once

#include <contract/command.h>
#include <fs/vfs.h>

enum shell_stream_kind { STREAM_NOTHING, STREAM_CONSOLE, STREAM_FILE, STREAM_PIPE };

struct shell_pipe;

enum { STREAM_PART = 120 }; // a line longer than that is written in parts

struct shell_stream {
    enum shell_stream_kind kind;
    struct file *file;       // of STREAM_FILE; closed with the stream
    struct shell_pipe *pipe; // of STREAM_PIPE: one end of it
    bool background;         // of STREAM_CONSOLE: only whole lines are written
    char part[STREAM_PART];  // then: the beginning of one
    size_t part_length;
    bool broken; // nothing more can be written: the reader has gone, the disk is full, ^C
    int error;   // why, when it is for the user to know: neither -EPIPE nor -EINTR
};

long stream_read(struct shell_stream *stream, void *to,
                 size_t size); // 0 at the end, -EINTR, -errno
int stream_write(struct shell_stream *stream, const void *from,
                 size_t size); // 0, -EPIPE, -EINTR, -errno
int stream_make_pipe(struct shell_stream *reader, struct shell_stream *writer); // 0 or -ENOMEM
void stream_close_read(struct shell_stream *stream);
void stream_close_write(struct shell_stream *stream);
