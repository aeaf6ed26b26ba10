// Reading for the text commands: a small buffer over a file or the command's own input.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <mm/slab.h>
#include "input.h"

int input_open(struct input *in, struct shell *sh, const char *name)
{
    in->sh = sh;
    in->name = name;
    in->stream = sh->in;
    in->at = in->count = 0;
    in->error = 0;
    if (!name || strcmp(name, "-") == 0) {
        return 0;
    }
    struct file *file;
    int error = vfs_open(name, OPEN_READ, &file);
    if (error != 0) {
        shell_result(sh, name, error);
        return 1;
    }
    in->own = (struct shell_stream){.kind = STREAM_FILE, .file = file};
    in->stream = &in->own;
    return 0;
}

void input_close(struct input *in)
{
    shell_result(in->sh, in->name ? in->name : "input", in->error);
    if (in->stream == &in->own) {
        stream_close_read(&in->own);
    }
}

int input_byte(struct input *in)
{
    if (in->at == in->count) {
        long count = shell_interrupted(in->sh)
                         ? -EINTR
                         : stream_read(in->stream, in->data, sizeof(in->data));
        if (count <= 0) {
            in->error = (int)count;
            return -1;
        }
        in->at = 0;
        in->count = (size_t)count;
    }
    return (unsigned char)in->data[in->at++];
}

bool input_line(struct input *in, char line[INPUT_LINE_MAX + 1], bool *newline)
{
    size_t length = 0;
    int byte = 0;
    *newline = false;
    bool any = false;
    while (length < INPUT_LINE_MAX && (byte = input_byte(in)) >= 0) {
        any = true;
        if (byte == '\n') {
            *newline = true;
            break;
        }
        if (byte != 0) {
            line[length++] = (char)byte;
        }
    }
    line[length] = '\0';
    return any;
}

// Doubles the memory; NULL frees the old one too.
static char *input_grow(char *data, size_t length, size_t *size)
{
    char *larger = *size < INPUT_WHOLE_MAX ? kmalloc(*size * 2, GFP_KERNEL) : NULL;
    if (larger) {
        memcpy(larger, data, length);
        *size *= 2;
    }
    kfree(data);
    return larger;
}

char *input_whole(struct input *in, size_t *length)
{
    size_t size = 4096;
    char *data = kmalloc(size, GFP_KERNEL);
    *length = 0;
    int byte;
    while (data && (byte = input_byte(in)) >= 0) {
        if (*length + 1 == size) {
            data = input_grow(data, *length, &size);
        }
        if (data) {
            data[(*length)++] = (char)byte;
        }
    }
    if (!data) {
        shell_error(in->sh, "%s: more than there is memory for (at most %d bytes)",
                    in->name ? in->name : "input", INPUT_WHOLE_MAX);
        return NULL;
    }
    data[*length] = '\0';
    return data;
}

int input_each(struct shell *sh, int argc, char **argv, int first,
               int (*fn)(struct input *in, void *arg), void *arg)
{
    int status = 0;
    struct input *in = kmalloc(sizeof(*in), GFP_KERNEL);
    if (!in) {
        return shell_error(sh, "%s", strerror(ENOMEM));
    }
    for (int i = first; (i < argc || (i == first && first == argc)) && !shell_interrupted(sh);
         i++) {
        int one = input_open(in, sh, i < argc ? argv[i] : NULL);
        if (one == 0) {
            one = fn(in, arg);
            one = in->error != 0 && in->error != -EINTR ? 1 : one;
            input_close(in);
        }
        status = one != 0 ? one : status;
    }
    kfree(in);
    return status;
}
