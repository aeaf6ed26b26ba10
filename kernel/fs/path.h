// Paths as text: pure, tested on the host.
#pragma once

#include <lib/types.h>

// Writes the path without doubled slashes, "." and "..", beginning with '/' and without one at its
// end ("/" alone excepted). A path that does not begin with '/' is taken as below "/"; ".." of "/"
// is "/". 0, -ENOENT (empty), -ENAMETOOLONG.
int path_normalize(const char *path, char *to, size_t size);

// When a normalized path is the mount point or below it: what follows it, without the slash ("" for
// the point itself). Else NULL.
const char *path_below(const char *path, const char *mount);
