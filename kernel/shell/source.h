// Where a command's bytes come from: a file by its path, or what is typed or piped in. Context:
// thread.
#pragma once

#include <contract/command.h>
#include <fs/vfs.h>

struct source {
    struct shell *sh;
    struct file *file; // NULL: the command's input
    const char *name;  // for messages
};

// A NULL path or "-" is the command's input. 0 or -errno.
int source_open(struct source *source, struct shell *sh, const char *path);
// With OPEN_DIRECT, -EINVAL: what is typed or piped in is no disk.
int source_open_flags(struct source *source, struct shell *sh, const char *path, unsigned flags);
void source_close(struct source *source);
// Fills `to` as far as there is something: less than size only at the end. 0 at the end; -EINTR,
// -errno.
long source_read(struct source *source, void *to, size_t size);
// One read as it comes: possibly less than size.
long source_read_some(struct source *source, void *to, size_t size);
// Leaves out the first bytes. 0; SOURCE_ENDED: there are not so many; -errno: -EINVAL: a disk has
// not so many.
enum { SOURCE_ENDED = 1 };
int source_skip(struct source *source, uint64_t bytes);
