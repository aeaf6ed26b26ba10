// Paths to files. There is one directory of our own, "/", and its entries are the mount points of
// the filesystems that the linker collected (contract/filesystem.h); everything below belongs to
// one of them, which is asked with the rest of the path.
//
//   "/proc//irq/../version" ── path_normalize ──> "/proc/version"
//                                                      └── vfs_find ──> proc_filesystem, "version"
//
// Context: thread; a filesystem may sleep.
#include <lib/errno.h>
#include <lib/string.h>
#include <mm/slab.h>
#include <fs/vfs.h>
#include "path.h"

LINKER_SET(filesystem, filesystem);

// The filesystem of a normalized path and what it is called there; NULL: "/" itself, or nothing.
static const struct filesystem *vfs_find(const char *path, const char **below)
{
    const struct filesystem *fs;
    set_for_each (fs, filesystem) {
        *below = path_below(path, fs->mount);
        if (*below) {
            return fs;
        }
    }
    return NULL;
}

static int vfs_resolve(const char *path, char *normal, const struct filesystem **fs,
                       const char **below)
{
    int error = path_normalize(path, normal, PATH_MAX_LENGTH);
    if (error != 0) {
        return error;
    }
    *fs = vfs_find(normal, below);
    return *fs || strcmp(normal, "/") == 0 ? 0 : -ENOENT;
}

int vfs_open(const char *path, unsigned flags, struct file **file)
{
    char normal[PATH_MAX_LENGTH];
    const struct filesystem *fs;
    const char *below;
    int error = vfs_resolve(path, normal, &fs, &below);
    if (error != 0) {
        return error;
    }
    if (!fs) {
        return -EISDIR;
    }
    if ((flags & OPEN_DIRECT) && !fs->can_direct) {
        return -EINVAL;
    }
    struct file *f = kzalloc(sizeof(*f), GFP_KERNEL);
    if (!f) {
        return -ENOMEM;
    }
    f->fs = fs;
    f->flags = flags;
    error = fs->open(f, below);
    if (error != 0) {
        kfree(f);
        return error;
    }
    *file = f;
    return 0;
}

void vfs_close(struct file *file)
{
    if (file->fs->close) {
        file->fs->close(file);
    }
    kfree(file);
}

long vfs_read(struct file *file, void *to, size_t size)
{
    if (!(file->flags & OPEN_READ) || !file->fs->read) {
        return -EINVAL;
    }
    long count = file->fs->read(file, to, size);
    if (count > 0) {
        file->position += (uint64_t)count;
    }
    return count;
}

long vfs_write(struct file *file, const void *from, size_t size)
{
    if (!(file->flags & OPEN_WRITE) || !file->fs->write) {
        return -EINVAL;
    }
    long count = file->fs->write(file, from, size);
    if (count > 0) {
        file->position += (uint64_t)count;
    }
    return count;
}

int vfs_seek(struct file *file, uint64_t position)
{
    if (position > INT64_MAX) {
        return -EINVAL;
    }
    file->position = position;
    return 0;
}

void vfs_end_direct(struct file *file)
{
    file->flags &= ~(unsigned)OPEN_DIRECT;
}

int vfs_sync(struct file *file)
{
    return file->fs->sync ? file->fs->sync(file) : 0;
}

int vfs_stat(const char *path, struct file_info *info)
{
    char normal[PATH_MAX_LENGTH];
    const struct filesystem *fs;
    const char *below;
    int error = vfs_resolve(path, normal, &fs, &below);
    if (error != 0) {
        return error;
    }
    *info = (struct file_info){.type = FILE_DIRECTORY};
    return fs ? fs->stat(below, info) : 0;
}

int vfs_list(const char *path, unsigned k, char *name, size_t size)
{
    char normal[PATH_MAX_LENGTH];
    const struct filesystem *fs;
    const char *below;
    int error = vfs_resolve(path, normal, &fs, &below);
    if (error != 0) {
        return error;
    }
    if (fs) {
        return fs->list(below, k, name, size);
    }
    if (k >= (unsigned)(set_filesystem_end - set_filesystem_start)) {
        return -ENOENT;
    }
    return strscpy(name, set_filesystem_start[k].mount + 1, size) < 0 ? -ENAMETOOLONG : 0;
}

int vfs_unlink(const char *path)
{
    char normal[PATH_MAX_LENGTH];
    const struct filesystem *fs;
    const char *below;
    int error = vfs_resolve(path, normal, &fs, &below);
    if (error != 0) {
        return error;
    }
    return fs && fs->unlink ? fs->unlink(below) : -EPERM;
}
