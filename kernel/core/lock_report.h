// A finding of the lock validator, gathered while nobody changes the graph and told afterwards.
#pragma once

#include <core/lockdep.h>

#include "lock_graph.h"

enum { LOCK_PATH_MAX = 10 };

enum lock_finding {
    LOCK_CIRCLE,     // path: from the lock that is wanted to the one that is held
    LOCK_RECURSION,  // held and wanted are of one class, or one lock
    LOCK_USAGE,      // path[0] is irq-safe and irq-unsafe at once
    LOCK_INVERSION,  // path: from an irq-safe class to an irq-unsafe one
    LOCK_UNBALANCED, // path[0] is given back but not held
};

struct lock_report {
    enum lock_finding finding;
    unsigned in_usage; // LOCK_USAGE, LOCK_INVERSION: LOCK_IN_HARDIRQ or LOCK_IN_SOFTIRQ
    unsigned length;   // of path; may be more than there is room for
    uint16_t path[LOCK_PATH_MAX];
    uint16_t held, wanted; // classes
    const void *held_at, *wanted_at;
    bool same_lock; // LOCK_RECURSION: the very same, not only the same kind
};

// Into the log. Context: any.
void lock_report_print(const struct lock_graph *graph, const struct lock_report *report);
