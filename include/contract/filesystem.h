// Trees of files, found by kernel/fs through records: those at a fixed place ("/proc", "/dev",
// "/tmp"), and kinds of file system that a disk can be mounted with.
#pragma once

#include <contract/section.h>
#include <lib/list.h>
#include <lib/types.h>

enum file_type { FILE_REGULAR, FILE_DIRECTORY, FILE_BLOCK, FILE_CHAR };

struct file_info {
    enum file_type type;
    uint64_t size;
    bool writable;
    uint16_t major, minor;
};

struct super_block;

// An open file; the filesystem keeps what it needs in node and state.
struct file {
    const struct filesystem *fs;
    struct super_block *sb; // NULL: of a filesystem at a fixed place
    unsigned flags;         // OPEN_*
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

// Paths are below the mount point, "" for its root, without leading or trailing slash. `sb` as in
// struct file. Context: thread; all may sleep. -errno.
struct filesystem {
    const char *mount; // "/proc"; NULL: mounted by hand
    const char *name;  // as /proc/mounts has it
    int (*open)(struct file *file, const char *path);
    void (*close)(struct file *file);
    long (*read)(struct file *file, void *to,
                 size_t size); // from file->position, which vfs advances
    long (*write)(struct file *file, const void *from, size_t size); // likewise
    int (*seek)(struct file *file, uint64_t position); // may it go there? NULL: anywhere
    int (*stat)(struct super_block *sb, const char *path, struct file_info *info);
    // The k-th name in a directory: 0, or -ENOENT past the end.
    int (*list)(struct super_block *sb, const char *path, unsigned k, char *name, size_t size);
    int (*unlink)(struct super_block *sb, const char *path); // NULL: read-only names
    int (*sync)(struct file *file);                          // NULL: nothing to do
    // Cuts a file, or makes it longer by zeroes. NULL: none has a size that could be set.
    int (*truncate)(struct file *file, uint64_t size);
    bool can_direct; // of some of its files: open refuses OPEN_DIRECT for others
};
#define FILESYSTEM(name) LINKER_RECORD(filesystem, filesystem, name)
// Use: FILESYSTEM(proc_filesystem) = {.mount = "/proc", .name = "proc", ...};

// A file system that is mounted from a disk.
struct super_block {
    const struct file_system_type *type; // I
    struct gendisk *disk;                // I: open, as long as it is mounted
    void *s_fs_info;                     // I: of the file system, from fill_super to kill_sb
    char source[24], point[32];          // I: "/dev/sr0", "/mnt"
    unsigned users;                      // L of kernel/fs/mount.c: open files, and who looks now
    struct list_head link;               // L
};

// A kind of it.
struct file_system_type {
    const char *name; // "iso9660"
    const struct filesystem *operations;
    // Looks whether sb->disk holds one. 0; -EINVAL: it does not, *why says what in words; -errno.
    int (*fill_super)(struct super_block *sb, const char **why);
    void (*kill_sb)(struct super_block *sb); // after a fill_super that worked; nobody uses it
};
#define FILE_SYSTEM_TYPE(name) LINKER_RECORD(file_system_type, file_system_type, name)
