// Which record a path below /proc means: pure, tested on the host.
#pragma once

#include <contract/proc_file.h>

struct proc_set { // the records, wherever they lie
    const struct proc_file *start, *end;
};

enum proc_kind {
    PROC_NOTHING,
    PROC_DIRECTORY,
    PROC_REGULAR,
    PROC_NAME, // an empty directory that a record's names() tells of: the handlers of an irq
};

struct proc_node {
    enum proc_kind kind;
    const struct proc_file *record; // of PROC_REGULAR, PROC_NAME
    unsigned long index;            // the number that stood where the record's path has its '*'
};

void proc_lookup(const struct proc_set *set, const char *path, struct proc_node *node);

// The k-th name in a directory, each once: names first, then numbers. 0, -ENOENT (past the end, or
// nothing there), -ENOTDIR, -ENAMETOOLONG.
int proc_list(const struct proc_set *set, const char *path, unsigned k, char *name, size_t size);
