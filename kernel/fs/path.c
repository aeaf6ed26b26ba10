// Paths as text. A path is a walk: each component goes one step down, ".." one up, and the result
// is written as we walk, so no stack is needed; a step up cuts what is written so far back to its
// last slash.
//
// Context: any; pure.
#include <lib/errno.h>
#include <lib/string.h>
#include "path.h"

// Cuts the last component off; "" stands for the root while we walk.
static size_t path_up(const char *to, size_t length)
{
    while (length > 0 && to[--length] != '/') {
    }
    return length;
}

int path_normalize(const char *path, char *to, size_t size)
{
    size_t length = 0;
    if (*path == '\0') {
        return -ENOENT;
    }
    while (*path != '\0') {
        size_t part = strcspn(path, "/");
        if (part == 2 && path[0] == '.' && path[1] == '.') {
            length = path_up(to, length);
        } else if (part != 0 && !(part == 1 && path[0] == '.')) {
            if (length + 1 + part + 1 > size) {
                return -ENAMETOOLONG;
            }
            to[length++] = '/';
            memcpy(to + length, path, part);
            length += part;
        }
        path += part;
        path += strspn(path, "/");
    }
    if (length == 0) {
        to[length++] = '/';
    }
    to[length] = '\0';
    return 0;
}

const char *path_below(const char *path, const char *mount)
{
    size_t length = strlen(mount);
    if (strncmp(path, mount, length) != 0) {
        return NULL;
    }
    if (path[length] == '\0') {
        return path + length;
    }
    return path[length] == '/' ? path + length + 1 : NULL;
}
