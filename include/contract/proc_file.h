// A /proc file is declared where its data lives. `show` writes the whole text into a bounded sink,
// in thread context, and must not sleep while it holds a spinlock; it is called again with a larger
// sink when the text was cut.
//
// A path may hold one '*', standing for a number: "irq/*/spurious". `next` enumerates the numbers
// that exist, and the number goes to show and write as `index`. A record whose show is NULL is a
// directory that exists by itself; its names (say, the handlers of an irq) come from `names`.
#pragma once

#include <contract/section.h>
#include <lib/text.h>
#include <lib/types.h>

struct proc_file {
    const char *path; // below /proc, no leading slash
    void (*show)(struct text *t, unsigned long index);
    // One line written by a person, NUL-terminated, trailing newline removed. 0 or -errno. NULL:
    // read-only.
    int (*write)(const char *line, unsigned long index);
    // The smallest existing number >= from, or -1. NULL where the path has no '*'.
    long (*next)(unsigned long from);
    // For directories with names of their own: the k-th name or NULL.
    const char *(*names)(unsigned long index, unsigned k);
};

#define PROC_FILE(file_path, show_function)                                           \
    LINKER_RECORD(proc_file, proc_file, proc_##show_function) = {.path = (file_path), \
                                                                 .show = (show_function)}
#define PROC_FILE_RW(file_path, show_function, write_function)    \
    LINKER_RECORD(proc_file, proc_file, proc_##show_function) = { \
        .path = (file_path), .show = (show_function), .write = (write_function)}
#define PROC_FILE_EACH(file_path, next_function, show_function, write_function)             \
    LINKER_RECORD(proc_file, proc_file, proc_##show_function) = {.path = (file_path),       \
                                                                 .show = (show_function),   \
                                                                 .write = (write_function), \
                                                                 .next = (next_function)}
