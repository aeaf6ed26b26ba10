// Streams. The interesting one is the pipe: 4 KiB between two threads, each of which sleeps when
// the other is behind.
//
//   writer ── data[tail % size] ──>  [ head ... tail )  ──> reader
//     sleeps while full                                     sleeps while empty
//     -EPIPE when the reader has gone                       0, the end, when the writer has gone too
//
// A pipe lives until both ends are closed. Both sleeps end with -EINTR at ^C.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/spinlock.h>
#include <mm/slab.h>
#include <sched/wait.h>
#include "console.h"
#include "stream.h"

enum { PIPE_SIZE = 4096 };

struct shell_pipe {
    struct spinlock lock;
    uint32_t head, tail; // L: free-running
    bool reader, writer; // L: which ends are open
    struct wait_queue_head changed;
    char data[PIPE_SIZE]; // L
};

int stream_make_pipe(struct shell_stream *reader, struct shell_stream *writer)
{
    struct shell_pipe *pipe = kzalloc(sizeof(*pipe), GFP_KERNEL);
    if (!pipe) {
        return -ENOMEM;
    }
    spin_lock_init(&pipe->lock, "pipe.lock");
    init_waitqueue_head(&pipe->changed, "pipe");
    pipe->reader = true;
    pipe->writer = true;
    *reader = (struct shell_stream){.kind = STREAM_PIPE, .pipe = pipe};
    *writer = (struct shell_stream){.kind = STREAM_PIPE, .pipe = pipe};
    return 0;
}

static bool pipe_can_read(struct shell_pipe *pipe)
{
    spin_lock(&pipe->lock);
    bool can = pipe->head != pipe->tail || !pipe->writer;
    spin_unlock(&pipe->lock);
    return can;
}

static bool pipe_can_write(struct shell_pipe *pipe)
{
    spin_lock(&pipe->lock);
    bool can = pipe->tail - pipe->head < PIPE_SIZE || !pipe->reader;
    spin_unlock(&pipe->lock);
    return can;
}

static long pipe_read(struct shell_pipe *pipe, char *to, size_t size)
{
    if (wait_event_interruptible(&pipe->changed, pipe_can_read(pipe)) < 0) {
        return -EINTR;
    }
    spin_lock(&pipe->lock);
    size_t count = min(size, (size_t)(pipe->tail - pipe->head));
    for (size_t i = 0; i < count; i++) {
        to[i] = pipe->data[pipe->head++ % PIPE_SIZE];
    }
    spin_unlock(&pipe->lock);
    wake_up_all(&pipe->changed);
    return (long)count;
}

static int pipe_write(struct shell_pipe *pipe, const char *from, size_t size)
{
    while (size != 0) {
        if (wait_event_interruptible(&pipe->changed, pipe_can_write(pipe)) < 0) {
            return -EINTR;
        }
        spin_lock(&pipe->lock);
        bool reader = pipe->reader;
        size_t count = min(size, (size_t)(PIPE_SIZE - (pipe->tail - pipe->head)));
        for (size_t i = 0; reader && i < count; i++) {
            pipe->data[pipe->tail++ % PIPE_SIZE] = from[i];
        }
        spin_unlock(&pipe->lock);
        if (!reader) {
            return -EPIPE;
        }
        wake_up_all(&pipe->changed);
        from += count;
        size -= count;
    }
    return 0;
}

static void pipe_close(struct shell_pipe *pipe, bool *end)
{
    spin_lock(&pipe->lock);
    *end = false;
    bool last = !pipe->reader && !pipe->writer;
    if (!last) {
        wake_up_all(
            &pipe->changed); // under the lock: the other end may free the pipe as soon as it can
    }
    spin_unlock(&pipe->lock);
    if (last) {
        kfree(pipe);
    }
}

static int file_write(struct file *file, const char *from, size_t size)
{
    while (size != 0) {
        long count = vfs_write(file, from, size);
        if (count < 0) {
            return (int)count;
        }
        if (count == 0) {
            return -ENOSPC;
        }
        from += count;
        size -= (size_t)count;
    }
    return 0;
}

static void console_flush(struct shell_stream *s)
{
    console_write(s->part, s->part_length);
    s->part_length = 0;
}

// From the background, among what is typed and what others write, only whole lines are written; the
// typed one is taken away before each write, and shown again behind it.
static void console_write_lines(struct shell_stream *s, const char *from, size_t size)
{
    while (size != 0) {
        size_t whole = s->part_length == 0 ? size : 0;
        while (whole != 0 && from[whole - 1] != '\n') {
            whole--;
        }
        if (whole != 0) {
            console_write(from, whole);
            from += whole;
            size -= whole;
            continue;
        }
        s->part[s->part_length++] = *from;
        if (*from == '\n' || s->part_length == STREAM_PART) {
            console_flush(s);
        }
        from++;
        size--;
    }
}

long stream_read(struct shell_stream *s, void *to, size_t size)
{
    switch (s->kind) {
    case STREAM_CONSOLE:
        return console_read(to, size);
    case STREAM_FILE:
        return vfs_read(s->file, to, size);
    case STREAM_PIPE:
        return pipe_read(s->pipe, to, size);
    default:
        return 0;
    }
}

int stream_write(struct shell_stream *s, const void *from, size_t size)
{
    int error = 0;
    if (s->broken) {
        return -EPIPE;
    }
    if (s->kind == STREAM_CONSOLE) {
        if (s->background) {
            console_write_lines(s, from, size);
        } else {
            console_write(from, size);
        }
    } else if (s->kind == STREAM_FILE) {
        error = file_write(s->file, from, size);
    } else if (s->kind == STREAM_PIPE) {
        error = pipe_write(s->pipe, from, size);
    }
    s->broken = error != 0;
    s->error = error == -EPIPE || error == -EINTR ? 0 : error;
    return error;
}

static void stream_close(struct shell_stream *s, bool reading)
{
    if (s->kind == STREAM_CONSOLE && s->part_length != 0) {
        console_flush(s);
    } else if (s->kind == STREAM_FILE) {
        vfs_close(s->file);
    } else if (s->kind == STREAM_PIPE) {
        pipe_close(s->pipe, reading ? &s->pipe->reader : &s->pipe->writer);
    }
    s->kind = STREAM_NOTHING;
}

void stream_close_read(struct shell_stream *stream)
{
    stream_close(stream, true);
}

void stream_close_write(struct shell_stream *stream)
{
    stream_close(stream, false);
}
