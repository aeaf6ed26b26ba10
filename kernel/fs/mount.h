// What vfs.c asks of the list of mounted disks.
#pragma once

#include <contract/filesystem.h>

// What is mounted at a normalized path, or above it, and what the path is called there. Taken: it
// stays until mount_put. NULL: nothing. Context: thread.
struct super_block *mount_get(const char *path, const char **below);
void mount_put(struct super_block *sb);
// The k-th mount point's name, without its slash. 0, -ENOENT, -ENAMETOOLONG.
int mount_list(unsigned k, char *name, size_t size);
