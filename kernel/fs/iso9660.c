// CDs as trees of files, read-only. What lies where is read by iso9660_dir.c; here is what it needs
// of a kernel: the disk's bytes, memory, and one reader of directories at a time.
//
//   vfs ──path──> iso_lookup ──> struct iso_entry: start, size ──> file
//   vfs ──read──> [start + position, ...) of the disk ──> page_cache_read
//
// A file's bytes lie in one piece, so an open file is two numbers, and what the page cache wants to
// know of a reader. Who lists a directory asks for its names one after the other; that walk is kept
// where it was, so each takes one step.
//
// Whatever is wrong with the disk under a mounted file system is -EIO, as it is in Linux.
//
// Context: thread. Previous: mount.c. Next: kernel/dev/page_cache.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/filesystem.h>
#include <core/log.h>
#include <mm/slab.h>
#include <sched/mutex.h>
#include <sched/thread.h>
#include <dev/block.h>
#include <dev/page_cache.h>
#include <fs/vfs.h>
#include "iso9660_dir.h"

struct iso_info {
    struct iso_volume volume; // I
    struct mutex mutex;
    struct page_cache_file disk;     // L: for all but the files' own bytes
    struct iso_walk walk;            // L: for lookups
    struct iso_entry entry;          // L: room for one
    struct iso_walk list;            // L: a directory that somebody lists,
    char list_path[PATH_MAX_LENGTH]; // L: this one,
    unsigned list_next;              // L: and which of its names comes next; 0: in none
};

struct iso_file {
    uint64_t start, size; // I: bytes of the disk, within the volume
    struct page_cache_file disk;
};

// What it means that so few bytes came, or this error.
static int iso_read_error(long count)
{
    return count == -EINTR || count == -ENOMEM ? (int)count : -EIO;
}

// Caller holds the mutex, or nobody else knows of it yet. A search asks for sector after sector, as
// many as the disc says that there are: ^C ends it between two.
static int iso_read_disk(void *context, uint64_t offset, void *to, size_t size)
{
    struct iso_info *info = context;
    if (thread_interrupted()) {
        return -EINTR;
    }
    long count = page_cache_read(&info->disk, offset, to, size);
    return count == (long)size ? 0 : iso_read_error(count);
}

// A directory that contradicts itself is the disk's fault, not the caller's.
static int iso_error(int error)
{
    return error == -EINVAL ? -EIO : error;
}

// ---- names --------------------------------------------------------------------------------------

// What a path leads to is in info->entry. Caller holds the mutex.
static int iso_find_locked(struct iso_info *info, const char *path)
{
    return iso_error(iso_lookup(&info->walk, &info->volume, path, &info->entry));
}

static int iso_stat(struct super_block *sb, const char *path, struct file_info *to)
{
    struct iso_info *info = sb->s_fs_info;
    const struct iso_entry *entry = &info->entry;
    mutex_lock(&info->mutex);
    int error = iso_find_locked(info, path);
    if (error == 0) {
        *to = (struct file_info){
            .type = entry->kind == ISO_DIRECTORY ? FILE_DIRECTORY : FILE_REGULAR,
            .size = entry->kind == ISO_REGULAR ? entry->size : 0,
        };
    }
    mutex_unlock(&info->mutex);
    return error;
}

static int iso_list_start_locked(struct iso_info *info, const char *path)
{
    int error = iso_find_locked(info, path);
    if (error != 0) {
        return error;
    }
    if (info->entry.kind != ISO_DIRECTORY || !info->entry.readable) {
        return info->entry.kind != ISO_DIRECTORY ? -ENOTDIR : -EIO;
    }
    iso_walk_start(&info->list, &info->volume, &info->entry);
    strscpy(info->list_path, path, sizeof(info->list_path));
    info->list_next = 0;
    return 0;
}

// The k-th name is in info->entry. Caller holds the mutex.
static int iso_list_locked(struct iso_info *info, const char *path, unsigned k)
{
    int error = 0;
    if (k == 0 || k < info->list_next || info->list_next == 0 ||
        strcmp(path, info->list_path) != 0) {
        error = iso_list_start_locked(info, path);
    }
    for (; error == 0 && info->list_next <= k; info->list_next++) {
        error = iso_error(iso_walk_next(&info->list, &info->entry));
    }
    if (error != 0) {
        info->list_next = 0;
    }
    return error;
}

static int iso_list(struct super_block *sb, const char *path, unsigned k, char *name, size_t size)
{
    struct iso_info *info = sb->s_fs_info;
    mutex_lock(&info->mutex);
    int error = iso_list_locked(info, path, k);
    if (error == 0 && strscpy(name, info->entry.name, size) < 0) {
        error = -ENAMETOOLONG;
    }
    mutex_unlock(&info->mutex);
    return error;
}

static int iso_unlink(struct super_block *sb, const char *path)
{
    struct file_info info;
    int error = iso_stat(sb, path, &info);
    return error != 0 ? error : -EROFS;
}

// ---- files --------------------------------------------------------------------------------------

// Finds a file's bytes. Caller holds the mutex.
static int iso_open_locked(struct iso_info *info, const char *path, unsigned flags,
                           struct iso_file *file)
{
    const struct iso_entry *entry = &info->entry;
    int error = iso_find_locked(info, path);
    if ((flags & OPEN_WRITE) != 0 && (error == 0 || error == -ENOENT)) {
        return error == 0 && entry->kind == ISO_DIRECTORY ? -EISDIR : -EROFS;
    }
    if (error != 0) {
        return error;
    }
    if (entry->kind != ISO_REGULAR) {
        return entry->kind == ISO_DIRECTORY ? -EISDIR : -EOPNOTSUPP;
    }
    *file = (struct iso_file){.start = entry->start, .size = entry->size};
    return entry->readable ? 0 : -EIO;
}

static int iso_open(struct file *file, const char *path)
{
    struct iso_info *info = file->sb->s_fs_info;
    struct iso_file *opened = kzalloc(sizeof(*opened), GFP_KERNEL);
    if (opened == NULL) {
        return -ENOMEM;
    }
    mutex_lock(&info->mutex);
    int error = iso_open_locked(info, path, file->flags, opened);
    mutex_unlock(&info->mutex);
    if (error != 0) {
        kfree(opened);
        return error;
    }
    page_cache_open(&opened->disk, file->sb->disk);
    file->state = opened;
    return 0;
}

static void iso_close(struct file *file)
{
    kfree(file->state);
}

static long iso_read(struct file *file, void *to, size_t size)
{
    struct iso_file *opened = file->state;
    if (file->position >= opened->size) {
        return 0;
    }
    size = (size_t)min((uint64_t)size, opened->size - file->position);
    long count = page_cache_read(&opened->disk, opened->start + file->position, to, size);
    return count <= 0 && size != 0 ? iso_read_error(count) : count;
}

// ---- mounted ------------------------------------------------------------------------------------

static int iso_fill_super(struct super_block *sb, const char **why)
{
    struct iso_info *info = kzalloc(sizeof(*info), GFP_KERNEL);
    if (info == NULL) {
        return -ENOMEM;
    }
    page_cache_open(&info->disk, sb->disk);
    int error = iso_find_volume(&info->volume, READ_ONCE(sb->disk->capacity) * SECTOR_SIZE,
                                iso_read_disk, info, why);
    if (error != 0) {
        kfree(info);
        return error;
    }
    mutex_init(&info->mutex, "iso9660");
    sb->s_fs_info = info;
    pr_info("%s: ISO 9660 volume \"%s\", %llu blocks of %u bytes, %s", sb->disk->name,
            info->volume.label, (unsigned long long)(info->volume.size / info->volume.block_size),
            info->volume.block_size,
            info->volume.rock_ridge ? "Rock Ridge names" : "names of its own");
    return 0;
}

static void iso_kill_sb(struct super_block *sb)
{
    kfree(sb->s_fs_info);
}

static const struct filesystem iso_operations = {
    .name = "iso9660",
    .open = iso_open,
    .close = iso_close,
    .read = iso_read,
    .stat = iso_stat,
    .list = iso_list,
    .unlink = iso_unlink,
};

FILE_SYSTEM_TYPE(iso9660_type) = {
    .name = "iso9660",
    .operations = &iso_operations,
    .fill_super = iso_fill_super,
    .kill_sb = iso_kill_sb,
};
