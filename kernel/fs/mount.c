// Which disks are mounted where.
//
//   vfs_mount ──> blk_open ──> type->fill_super ──> in the list: paths find it ──┐
//   vfs_umount <── blk_close <── type->kill_sb <── out of the list, users == 0 <─┘
//
// "/" has no directories of its own, so a mount point need not be there before: it is any one name
// below "/" that no other tree has, and it is gone when the disk is unmounted. Who has a file open,
// or looks at a name just now, is a user and keeps it mounted. A disk that goes away underneath
// stays mounted until somebody unmounts it; reading then fails.
//
// Context: thread. Previous: vfs.c. Next: iso9660.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/proc_file.h>
#include <core/spinlock.h>
#include <mm/slab.h>
#include <sched/mutex.h>
#include <dev/block.h>
#include <fs/mount.h>
#include <fs/vfs.h>
#include "mount.h"
#include "path.h"

LINKER_SET(filesystem, filesystem);
LINKER_SET(file_system_type, file_system_type);

static DEFINE_MUTEX(mount_mutex); // held over a mount, and over an unmount
static DEFINE_SPINLOCK(mount_lock);
static LIST_HEAD(mounts); // L of mount_lock, in the order in which they came

// ---- for paths ----------------------------------------------------------------------------------

struct super_block *mount_get(const char *path, const char **below)
{
    struct super_block *sb, *found = NULL;
    spin_lock(&mount_lock);
    list_for_each_entry (sb, &mounts, link) {
        const char *rest = path_below(path, sb->point);
        if (rest != NULL) {
            *below = rest;
            sb->users++;
            found = sb;
            break;
        }
    }
    spin_unlock(&mount_lock);
    return found;
}

void mount_put(struct super_block *sb)
{
    spin_lock(&mount_lock);
    sb->users--;
    spin_unlock(&mount_lock);
}

int mount_list(unsigned k, char *name, size_t size)
{
    const struct super_block *sb;
    int error = -ENOENT;
    spin_lock(&mount_lock);
    list_for_each_entry (sb, &mounts, link) {
        if (k-- == 0) {
            error = strscpy(name, sb->point + 1, size) < 0 ? -ENAMETOOLONG : 0;
            break;
        }
    }
    spin_unlock(&mount_lock);
    return error;
}

// ---- mount --------------------------------------------------------------------------------------

// A name that /proc/mounts and a terminal can show.
static bool mount_point_is_plain(const char *point)
{
    for (; *point != '\0'; point++) {
        if (*point <= ' ' || *point > '~' || *point == '\\') {
            return false;
        }
    }
    return true;
}

// Is it one name below "/", free, and to be shown?
static int mount_check_point(const char *point, const char **why)
{
    const struct filesystem *fs;
    const struct super_block *sb;
    const char *below;
    *why = "a mount point is one name below /, such as /mnt";
    if (strlen(point) < 2 || strchr(point + 1, '/') != NULL) {
        return -EINVAL;
    }
    *why = "a mount point has no blanks and at most 30 letters";
    if (strlen(point) >= sizeof(sb->point) || !mount_point_is_plain(point)) {
        return -EINVAL;
    }
    *why = "already in use";
    set_for_each (fs, filesystem) {
        if (path_below(point, fs->mount) != NULL) {
            return -EBUSY;
        }
    }
    struct super_block *other = mount_get(point, &below);
    if (other != NULL) {
        mount_put(other);
        return -EBUSY;
    }
    *why = NULL;
    return 0;
}

// The first kind that knows what is on the disk, or the one that is wanted.
static int mount_fill(struct super_block *sb, const char *wanted, const char **why)
{
    const struct file_system_type *type;
    int error = -ENODEV;
    *why = "unknown filesystem type";
    set_for_each (type, file_system_type) {
        if (wanted == NULL || strcmp(wanted, type->name) == 0) {
            sb->type = type;
            error = type->fill_super(sb, why);
            if (error != -EINVAL) {
                break;
            }
        }
    }
    return error;
}

static struct gendisk *mount_find_disk(const char *source, const char **why)
{
    const char *name = path_below(source, "/dev");
    struct gendisk *disk = name == NULL ? NULL : blk_find(name);
    struct file_info info;
    *why = disk != NULL                         ? NULL
           : vfs_stat(source, &info) == -ENOENT ? "special device does not exist"
                                                : "not a block device";
    return disk;
}

// The disk is the super block's from here on, when that works.
static int mount_disk(struct super_block *sb, struct gendisk *disk, const char *type,
                      const char **why)
{
    int error = blk_open(disk);
    if (error != 0) {
        return error;
    }
    sb->disk = disk;
    strscpy(sb->source, "/dev/", sizeof(sb->source));
    strscpy(sb->source + 5, disk->name, sizeof(sb->source) - 5);
    error = mount_fill(sb, type, why);
    if (error != 0) {
        blk_close(disk);
        return error;
    }
    spin_lock(&mount_lock);
    list_add_tail(&sb->link, &mounts);
    spin_unlock(&mount_lock);
    return 0;
}

int vfs_mount(const char *source, const char *point, const char *type, const char **why)
{
    might_sleep();
    const char *unused = NULL, **said = why != NULL ? why : &unused;
    struct super_block *sb = kzalloc(sizeof(*sb), GFP_KERNEL);
    char normal[PATH_MAX_LENGTH];
    *said = NULL;
    if (sb == NULL) {
        return -ENOMEM;
    }
    if (mutex_lock_interruptible(&mount_mutex) != 0) { // who has it may wait for a drive
        kfree(sb);
        return -EINTR;
    }
    int error = path_normalize(point, normal, sizeof(normal));
    if (error == 0) {
        error = mount_check_point(normal, said);
    }
    if (error == 0) {
        strscpy(sb->point, normal, sizeof(sb->point));
        error = path_normalize(source, normal, sizeof(normal));
    }
    if (error == 0) {
        struct gendisk *disk = mount_find_disk(normal, said);
        error = disk == NULL ? -ENODEV : mount_disk(sb, disk, type, said);
        if (error != 0 && disk != NULL) {
            blk_put(disk);
        }
    }
    mutex_unlock(&mount_mutex);
    if (error != 0) {
        kfree(sb);
    }
    if (error == -ENOMEM || error == -EINTR) {
        *said = NULL; // it says nothing of the disk
    }
    return error;
}

// ---- umount -------------------------------------------------------------------------------------

// Takes it out of the list, when nobody uses it. 0, -EINVAL, -EBUSY.
static int mount_unlink(const char *name, struct super_block **found)
{
    struct super_block *sb;
    *found = NULL;
    spin_lock(&mount_lock);
    list_for_each_entry (sb, &mounts, link) {
        if (strcmp(sb->point, name) == 0 || strcmp(sb->source, name) == 0) {
            *found = sb;
        }
    }
    int error = *found == NULL ? -EINVAL : (*found)->users != 0 ? -EBUSY : 0;
    if (error == 0) {
        list_del(&(*found)->link);
    }
    spin_unlock(&mount_lock);
    return error;
}

int vfs_umount(const char *name)
{
    might_sleep();
    struct super_block *sb;
    char normal[PATH_MAX_LENGTH];
    int error = path_normalize(name, normal, sizeof(normal));
    if (error != 0) {
        return error;
    }
    if (mutex_lock_interruptible(&mount_mutex) != 0) {
        return -EINTR;
    }
    error = mount_unlink(normal, &sb);
    if (error == 0) {
        sb->type->kill_sb(sb);
        blk_close(sb->disk);
        blk_put(sb->disk);
        kfree(sb);
    }
    mutex_unlock(&mount_mutex);
    return error;
}

// ---- shown --------------------------------------------------------------------------------------

void vfs_mount_point(const char *disk, char *to, size_t size)
{
    might_sleep();
    const struct super_block *sb;
    *to = '\0';
    spin_lock(&mount_lock);
    list_for_each_entry (sb, &mounts, link) {
        if (strcmp(sb->source + strlen("/dev/"), disk) == 0) {
            strscpy(to, sb->point, size);
            break;
        }
    }
    spin_unlock(&mount_lock);
}

// proc(5): device, place, kind, options, and two numbers that nobody uses.
static void mounts_show(struct text *t, unsigned long index)
{
    const struct filesystem *fs;
    const struct super_block *sb;
    (void)index;
    set_for_each (fs, filesystem) {
        text_printf(t, "%s %s %s %s 0 0\n", fs->name, fs->mount, fs->name,
                    fs->write != NULL ? "rw" : "ro");
    }
    spin_lock(&mount_lock);
    list_for_each_entry (sb, &mounts, link) {
        text_printf(t, "%s %s %s %s 0 0\n", sb->source, sb->point, sb->type->name,
                    sb->type->operations->write != NULL ? "rw" : "ro");
    }
    spin_unlock(&mount_lock);
}

static void filesystems_show(struct text *t, unsigned long index)
{
    const struct filesystem *fs;
    const struct file_system_type *type;
    (void)index;
    set_for_each (fs, filesystem) {
        text_printf(t, "nodev\t%s\n", fs->name);
    }
    set_for_each (type, file_system_type) {
        text_printf(t, "\t%s\n", type->name);
    }
}

PROC_FILE("mounts", mounts_show);
PROC_FILE("filesystems", filesystems_show);
