// Who owns which physical addresses and ports: the two trees behind /proc/iomem and /proc/ioports.
// Nodes come from a static pool, so the tree exists before memory management. Context: thread or
// boot; takes a spinlock.
#pragma once

#include <lib/types.h>

enum resource_kind { RESOURCE_MEMORY, RESOURCE_PORTS };

// Registers [start, end] inclusive under the smallest node that holds it; nodes that it covers
// become its children. The name is copied (cut at 47). 0, -EINVAL (end < start), -EBUSY (crosses
// another node's edge), -ENOSPC (pool empty).
int resource_add(enum resource_kind kind, uint64_t start, uint64_t end, const char *name);
// Removes the node with exactly this range and name; its children move up. 0 or -ENOENT.
int resource_remove(enum resource_kind kind, uint64_t start, uint64_t end, const char *name);
// Renames, e.g. when a driver takes a BAR. Calls `visit` for each node, depth first, in address
// order.
void resource_walk(enum resource_kind kind,
                   void (*visit)(uint64_t start, uint64_t end, const char *name, unsigned depth,
                                 void *arg),
                   void *arg);
