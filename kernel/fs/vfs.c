// Paths to files. There is one directory of our own, "/", and its entries are the mount points of
// the filesystems that the linker collected (contract/filesystem.h) and of the disks that somebody
// mounted (mount.c); everything below belongs to one of them, which is asked with the rest of the
// path.
//
//   "/proc//irq/../version" ── path_normalize ──> "/proc/version"
//                                                      └── vfs_resolve ──> proc_filesystem, "version"
//
// A mounted disk that is asked something stays mounted until the answer, and for as long as one of
// its files is open.
//
// Context: thread; a filesystem may sleep.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/cpu.h>
#include <mm/slab.h>
#include <fs/vfs.h>
#include "mount.h"
#include "path.h"

LINKER_SET(filesystem, filesystem);

// Where a path leads to. Between vfs_resolve and vfs_leave.
struct vfs_place {
    char normal[PATH_MAX_LENGTH];
    const struct filesystem *fs; // NULL: "/" itself
    struct super_block *sb;      // of a mounted one, taken
    const char *below;           // what the path is called there
};

static int vfs_resolve(const char *path, struct vfs_place *place)
{
    const struct filesystem *fs;
    int error = path_normalize(path, place->normal, sizeof(place->normal));
    place->fs = NULL;
    place->sb = NULL;
    if (error != 0 || strcmp(place->normal, "/") == 0) {
        return error;
    }
    set_for_each (fs, filesystem) {
        place->below = path_below(place->normal, fs->mount);
        if (place->below) {
            place->fs = fs;
            return 0;
        }
    }
    place->sb = mount_get(place->normal, &place->below);
    if (!place->sb) {
        return -ENOENT;
    }
    place->fs = place->sb->type->operations;
    return 0;
}

static void vfs_leave(const struct vfs_place *place)
{
    if (place->sb) {
        mount_put(place->sb);
    }
}

// The file keeps the place, when that works.
static int vfs_open_place(const struct vfs_place *place, unsigned flags, struct file **file)
{
    if (!place->fs) {
        return -EISDIR;
    }
    if ((flags & OPEN_DIRECT) && !place->fs->can_direct) {
        return -EINVAL;
    }
    struct file *f = kzalloc(sizeof(*f), GFP_KERNEL);
    if (!f) {
        return -ENOMEM;
    }
    f->fs = place->fs;
    f->sb = place->sb;
    f->flags = flags;
    int error = f->fs->open(f, place->below);
    if (error != 0) {
        kfree(f);
        return error;
    }
    *file = f;
    return 0;
}

int vfs_open(const char *path, unsigned flags, struct file **file)
{
    might_sleep();
    struct vfs_place place;
    int error = vfs_resolve(path, &place);
    if (error == 0) {
        error = vfs_open_place(&place, flags, file);
        if (error != 0) {
            vfs_leave(&place);
        }
    }
    return error;
}

void vfs_close(struct file *file)
{
    might_sleep();
    if (file->fs->close) {
        file->fs->close(file);
    }
    if (file->sb) {
        mount_put(file->sb);
    }
    kfree(file);
}

long vfs_read(struct file *file, void *to, size_t size)
{
    police_might_sleep();
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
    police_might_sleep();
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
    might_sleep();
    if (position > INT64_MAX) {
        return -EINVAL;
    }
    int error = file->fs->seek ? file->fs->seek(file, position) : 0;
    if (error == 0) {
        file->position = position;
    }
    return error;
}

void vfs_end_direct(struct file *file)
{
    might_sleep();
    file->flags &= ~(unsigned)OPEN_DIRECT;
}

int vfs_sync(struct file *file)
{
    might_sleep();
    return file->fs->sync ? file->fs->sync(file) : 0;
}

int vfs_truncate(struct file *file, uint64_t size)
{
    might_sleep();
    if (!(file->flags & OPEN_WRITE) || !file->fs->truncate) {
        return -EINVAL;
    }
    return file->fs->truncate(file, size);
}

int vfs_stat(const char *path, struct file_info *info)
{
    might_sleep();
    struct vfs_place place;
    int error = vfs_resolve(path, &place);
    if (error != 0) {
        return error;
    }
    *info = (struct file_info){.type = FILE_DIRECTORY};
    error = place.fs ? place.fs->stat(place.sb, place.below, info) : 0;
    vfs_leave(&place);
    return error;
}

static int vfs_list_root(unsigned k, char *name, size_t size)
{
    unsigned fixed = (unsigned)(set_filesystem_end - set_filesystem_start);
    if (k >= fixed) {
        return mount_list(k - fixed, name, size);
    }
    return strscpy(name, set_filesystem_start[k].mount + 1, size) < 0 ? -ENAMETOOLONG : 0;
}

int vfs_list(const char *path, unsigned k, char *name, size_t size)
{
    might_sleep();
    struct vfs_place place;
    int error = vfs_resolve(path, &place);
    if (error != 0) {
        return error;
    }
    error = place.fs ? place.fs->list(place.sb, place.below, k, name, size)
                     : vfs_list_root(k, name, size);
    vfs_leave(&place);
    return error;
}

int vfs_unlink(const char *path)
{
    might_sleep();
    struct vfs_place place;
    int error = vfs_resolve(path, &place);
    if (error != 0) {
        return error;
    }
    error = place.fs && place.fs->unlink ? place.fs->unlink(place.sb, place.below) : -EPERM;
    vfs_leave(&place);
    return error;
}
