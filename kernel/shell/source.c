// Reads a command's bytes from a file or from its input. Context: the command's thread.
#include "source.h"

#include <lib/errno.h>
#include <lib/string.h>

int source_open_flags(struct source *source, struct shell *sh, const char *path, unsigned flags)
{
    source->sh = sh;
    source->file = NULL;
    source->name = path == NULL ? "-" : path;
    if (strcmp(source->name, "-") == 0) {
        return flags & OPEN_DIRECT ? -EINVAL : 0; // no disk
    }
    return vfs_open(path, OPEN_READ | flags, &source->file);
}

int source_open(struct source *source, struct shell *sh, const char *path)
{
    return source_open_flags(source, sh, path, 0);
}

void source_close(struct source *source)
{
    if (source->file != NULL) {
        vfs_close(source->file);
    }
}

long source_read_some(struct source *source, void *to, size_t size)
{
    if (shell_interrupted(source->sh)) {
        return -EINTR;
    }
    return source->file == NULL ? shell_read(source->sh, to, size)
                                : vfs_read(source->file, to, size);
}

long source_read(struct source *source, void *to, size_t size)
{
    size_t length = 0;
    while (length < size) {
        long count = source_read_some(source, (uint8_t *)to + length, size - length);
        if (count < 0) {
            // What was read before the error is given out first; the error comes again.
            return length != 0 && count != -EINTR ? (long)length : count;
        }
        if (count == 0) {
            break;
        }
        length += (size_t)count;
    }
    return (long)length;
}

// Where a file was sought to, does it have anything there, or end there? What has a size says so;
// /proc's files have none, and are tried.
static int source_skip_file(const struct source *source, uint64_t bytes)
{
    struct file_info info;
    char next;
    int error = vfs_seek(source->file, bytes);
    if (error != 0) {
        return error;
    }
    error = vfs_stat(source->name, &info);
    if (error != 0 || info.type != FILE_REGULAR || bytes <= info.size) {
        return 0;
    }
    long count = vfs_read(source->file, &next, 1);
    error = vfs_seek(source->file, bytes);
    return count == 0 && error == 0 ? SOURCE_ENDED : error;
}

int source_skip(struct source *source, uint64_t bytes)
{
    if (source->file != NULL) {
        return source_skip_file(source, bytes);
    }
    char scrap[256];
    while (bytes != 0) {
        long count = source_read_some(source, scrap, (size_t)min(bytes, (uint64_t)sizeof(scrap)));
        if (count <= 0) {
            return count == 0 ? SOURCE_ENDED : (int)count;
        }
        bytes -= (uint64_t)count;
    }
    return 0;
}
