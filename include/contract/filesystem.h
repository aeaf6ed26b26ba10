// A tree of files mounted at a fixed place ("/proc", "/dev", "/tmp"), found by kernel/fs through
// this record.
#pragma once

#include <contract/section.h>
#include <lib/types.h>

enum file_type { FILE_REGULAR, FILE_DIRECTORY, FILE_BLOCK, FILE_CHAR };

struct file_info {
    enum file_type type;
    uint64_t size;
    bool writable;
    uint16_t major, minor;
};

// An open file; the filesystem keeps what it needs in node and state.
struct file {
    const struct filesystem *fs;
    unsigned flags; // OPEN_*
    uint64_t position;
    void *node;
    void *state;
};
enum {
    OPEN_READ = 1,
    OPEN_WRITE = 2,
    OPEN_CREATE = 4,
    OPEN_TRUNCATE = 8,
    OPEN_APPEND = 16,
    OPEN_DIRECT = 32, // past the page cache: offset and size whole blocks; as Linux's O_DIRECT
    OPEN_SYNC = 64,   // a write returns when the medium has it; as Linux's O_SYNC and O_DSYNC
};

// Paths are below the mount point, "" for its root, without leading or trailing slash. Context:
// thread; all may sleep. -errno.
struct filesystem {
    const char *mount; // "/proc"
    int (*open)(struct file *file, const char *path);
    void (*close)(struct file *file);
    long (*read)(struct file *file, void *to,
                 size_t size); // from file->position, which vfs advances
    long (*write)(struct file *file, const void *from, size_t size); // likewise
    int (*stat)(const char *path, struct file_info *info);
    // The k-th name in a directory: 0, or -ENOENT past the end.
    int (*list)(const char *path, unsigned k, char *name, size_t size);
    int (*unlink)(const char *path); // NULL: read-only names
    int (*sync)(struct file *file);  // NULL: nothing to do
    bool can_direct;                 // of some of its files: open refuses OPEN_DIRECT for others
};
#define FILESYSTEM(name) LINKER_RECORD(filesystem, filesystem, name)
// Use: FILESYSTEM(proc_filesystem) = {.mount = "/proc", ...};
