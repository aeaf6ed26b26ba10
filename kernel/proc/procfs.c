// /proc: every mechanism's numbers as text, in Linux's formats. The files are records
// (contract/proc_file.h) that stand where their data lives; this file only finds them, gives them
// room to write, and hands out what they wrote.
//
// The text is made when a reader begins at the start, whole, and then read from: a table does not
// change under its reader. Room begins with a page and doubles while the text does not fit, up to 4
// MiB.
//
// Each write is one or more lines, and each line goes to the record as a person typed it. The first
// error ends it.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/filesystem.h>
#include <mm/slab.h>
#include "lookup.h"

LINKER_SET(proc_file, proc_file);

enum { PROC_MAX_TEXT = 4 << 20, PROC_MAX_LINE = 1024 };

struct proc_open {
    struct proc_node node;
    char *data; // NULL: not made yet
    size_t length;
};

static const struct proc_set proc_records = {set_proc_file_start, set_proc_file_end};

static int proc_open(struct file *file, const char *path)
{
    struct proc_node node;
    proc_lookup(&proc_records, path, &node);
    if (node.kind != PROC_REGULAR) {
        return node.kind == PROC_NOTHING ? -ENOENT : -EISDIR;
    }
    if ((file->flags & OPEN_WRITE) && !node.record->write) {
        return -EPERM;
    }
    struct proc_open *open = kzalloc(sizeof(*open), GFP_KERNEL);
    if (!open) {
        return -ENOMEM;
    }
    open->node = node;
    file->state = open;
    return 0;
}

static void proc_close(struct file *file)
{
    struct proc_open *open = file->state;
    kfree(open->data);
    kfree(open);
}

static int proc_make_text(struct proc_open *open)
{
    size_t size = PAGE_SIZE;
    for (;;) {
        char *data = kmalloc(size, GFP_KERNEL);
        if (!data) {
            return -ENOMEM;
        }
        struct text t;
        text_init(&t, data, size);
        open->node.record->show(&t, open->node.index);
        if (!text_is_cut(&t)) {
            open->data = data;
            open->length = t.length;
            return 0;
        }
        kfree(data);
        while (size <= t.needed) {
            size *= 2;
        }
        if (size > PROC_MAX_TEXT) {
            return -EFBIG;
        }
    }
}

static long proc_read(struct file *file, void *to, size_t size)
{
    struct proc_open *open = file->state;
    if (file->position == 0 && open->data) {
        kfree(open->data);
        open->data = NULL;
    }
    if (!open->data) {
        int error = proc_make_text(open);
        if (error != 0) {
            return error;
        }
    }
    if (file->position >= open->length) {
        return 0;
    }
    size = min(size, open->length - (size_t)file->position);
    memcpy(to, open->data + file->position, size);
    return (long)size;
}

static long proc_write(struct file *file, const void *from, size_t size)
{
    const struct proc_open *open = file->state;
    const char *text = from;
    char line[PROC_MAX_LINE];
    for (size_t at = 0; at < size;) {
        const char *newline = memchr(text + at, '\n', size - at);
        size_t length = newline ? (size_t)(newline - (text + at)) : size - at;
        if (length >= sizeof(line) || memchr(text + at, '\0', length)) {
            return -EINVAL;
        }
        memcpy(line, text + at, length);
        line[length] = '\0';
        int error = open->node.record->write(line, open->node.index);
        if (error != 0) {
            return error;
        }
        at += length + (newline != NULL);
    }
    return (long)size;
}

static int proc_stat(struct super_block *sb, const char *path, struct file_info *info)
{
    struct proc_node node;
    (void)sb;
    proc_lookup(&proc_records, path, &node);
    if (node.kind == PROC_NOTHING) {
        return -ENOENT;
    }
    *info = (struct file_info){.type = FILE_DIRECTORY};
    if (node.kind == PROC_REGULAR) {
        info->type = FILE_REGULAR;
        info->writable = node.record->write != NULL;
    }
    return 0;
}

static int proc_list_names(struct super_block *sb, const char *path, unsigned k, char *name,
                           size_t size)
{
    (void)sb;
    return proc_list(&proc_records, path, k, name, size);
}

FILESYSTEM(proc_filesystem)
= {
    .mount = "/proc",
    .name = "proc",
    .open = proc_open,
    .close = proc_close,
    .read = proc_read,
    .write = proc_write,
    .stat = proc_stat,
    .list = proc_list_names,
};
