// Paths to files: finds the filesystem that a path belongs to and asks it. Context: thread.
#pragma once

#include <contract/filesystem.h>

enum { PATH_MAX_LENGTH = 512, NAME_MAX_LENGTH = 256 };

// "/" holds the mount points (contract/filesystem.h, fs/mount.h). "." and ".." and doubled slashes
// are resolved; paths are absolute or relative to "/".
int vfs_open(const char *path, unsigned flags, struct file **file);
void vfs_close(struct file *file);
long vfs_read(struct file *file, void *to, size_t size); // 0 at the end
long vfs_write(struct file *file, const void *from, size_t size);
int vfs_seek(struct file *file, uint64_t position); // -EINVAL: behind the end of a disk
int vfs_sync(struct file *file);
int vfs_truncate(struct file *file,
                 uint64_t size);        // -EINVAL: no file whose size can be set; -EFBIG
void vfs_end_direct(struct file *file); // as fcntl(F_SETFL) without O_DIRECT

int vfs_stat(const char *path, struct file_info *info);
int vfs_list(const char *path, unsigned k, char *name, size_t size);
int vfs_unlink(const char *path);
