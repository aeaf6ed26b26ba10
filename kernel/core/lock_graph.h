// The order of locks as a graph: pure, without a machine, so that host tests can ask it anything.
//
// A node is a class of locks: all those of one name and one kind (a mutex and the queue of those
// who wait for it share a name). An edge A -> B says: somebody took B while it held A. A circle in
// it is a deadlock that waits for its moment; a way from a lock that interrupts take to one that is
// held with interrupts on is another (kernel/core/lockdep.c tells why).
//
// Everything has a fixed size: the validator may be called where nothing may be allocated, by the
// allocator's own locks, too. Context: any; the caller excludes others while it changes something.
#pragma once

#include <lib/types.h>

enum {
    LOCK_CLASSES = 384,
    LOCK_EDGES = 2048,
    LOCK_NAME_SIZE = 32,
    LOCK_WORDS = 8, // (LOCK_CLASSES + 63) / 64, and a power of two
};

// What a class has been seen to do. irq-safe: taken in interrupts. irq-unsafe: held while they were
// on, so that one could come and want it.
enum lock_usage {
    LOCK_IN_HARDIRQ = 1,
    LOCK_IN_SOFTIRQ = 2,
    LOCK_HARDIRQ_ON = 4,
    LOCK_SOFTIRQ_ON = 8,
};
enum { LOCK_USAGES = 4 };

struct lock_class {
    char name[LOCK_NAME_SIZE];         // "" for class 0, which is nobody's
    uint8_t kind;                      // part of its identity: whatever the caller tells apart
    const void *usage_at[LOCK_USAGES]; // code address that did it first
};

struct lock_edge {
    uint16_t from, to;
    const void *from_at, *to_at; // code addresses of the two takings, the first time
};

struct lock_graph {
    struct lock_class classes[LOCK_CLASSES];
    unsigned class_count;        // 0 is not used: "not known"
    uint8_t usage[LOCK_CLASSES]; // enum lock_usage, by class
    struct lock_edge edges[LOCK_EDGES];
    unsigned edge_count;
    unsigned dropped;                        // classes and edges for which there was no room
    uint64_t next[LOCK_CLASSES][LOCK_WORDS]; // the edges again, as bits
    uint16_t parent[LOCK_CLASSES];           // of the search under way
    uint16_t queue[LOCK_CLASSES];            // likewise
};

// The class of that name and kind, made if need be. 0 when there is no room.
unsigned lock_graph_class(struct lock_graph *graph, const char *name, unsigned kind);
// Whether a class is that one.
bool lock_graph_is_class(const struct lock_graph *graph, unsigned class, const char *name,
                         unsigned kind);

static inline bool lock_graph_has_edge(const struct lock_graph *graph, unsigned from, unsigned to)
{
    return (graph->next[from][to / 64] >> (to % 64) & 1) != 0;
}

// False when there is no room; true also when it was there.
bool lock_graph_add_edge(struct lock_graph *graph, const struct lock_edge *edge);
// NULL: no such edge.
const struct lock_edge *lock_graph_edge(const struct lock_graph *graph, unsigned from, unsigned to);

// The shortest way, written to path[] with both its ends; its length in classes, or 0 when there is
// none. A class reaches itself in a way of length 1. `path` has room for `max`; a longer way is not
// written but its length is told.
unsigned lock_graph_path(struct lock_graph *graph, unsigned from, unsigned to, uint16_t *path,
                         unsigned max);
// The same to the nearest class with that usage, and (backward) from the nearest such class.
unsigned lock_graph_path_to_usage(struct lock_graph *graph, unsigned from, unsigned usage,
                                  uint16_t *path, unsigned max);
unsigned lock_graph_path_from_usage(struct lock_graph *graph, unsigned to, unsigned usage,
                                    uint16_t *path, unsigned max);
