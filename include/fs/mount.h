// Disks mounted as trees of files. Context: thread.
#pragma once

#include <lib/types.h>

// Mounts a disk ("/dev/sr0") at a name below "/" ("/mnt"), which comes with it and goes with it.
// type: NULL tries each that there is. 0 or -errno: -ENOENT, -ENODEV (no such disk, type), -EBUSY
// (the place is taken), -EINVAL, -EINTR; *why, unless NULL, says what in words.
int vfs_mount(const char *source, const char *point, const char *type, const char **why);
// By either of the two names, the last one mounted first. 0; -EINVAL: nothing is mounted there;
// -EBUSY: somebody has a file of it open; -EINTR.
int vfs_umount(const char *name);
// Where a disk ("sr0") is mounted; "" nowhere.
void vfs_mount_point(const char *disk, char *to, size_t size);
