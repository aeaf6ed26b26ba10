// The graph of lock classes: nodes, edges, and the shortest way from one to another.
//
// The edges are kept twice: as a matrix of bits, which answers "is it known?" in one instruction
// and is what searches run over, and as a list with the code addresses, which only reports read.
// A search is breadth first, so what it finds is the shortest story that can be told. It visits
// each class once: at most LOCK_CLASSES rows of LOCK_WORDS words.
//
// Context: as <kernel/core/lock_graph.h> says.
#include <lib/string.h>

#include "lock_graph.h"

bool lock_graph_is_class(const struct lock_graph *graph, unsigned class, const char *name,
                         unsigned kind)
{
    return graph->classes[class].kind == kind &&
           strncmp(graph->classes[class].name, name, LOCK_NAME_SIZE - 1) == 0;
}

unsigned lock_graph_class(struct lock_graph *graph, const char *name, unsigned kind)
{
    unsigned class;

    if (graph->class_count == 0) {
        graph->class_count = 1; // class 0: not known
    }
    for (class = 1; class < graph->class_count; class ++) {
        if (lock_graph_is_class(graph, class, name, kind)) {
            return class;
        }
    }
    if (class == LOCK_CLASSES) {
        graph->dropped++;
        return 0;
    }
    struct lock_class *new = &graph->classes[class];
    memcpy(new->name, name, strnlen(name, LOCK_NAME_SIZE - 1));
    new->kind = (uint8_t)kind;
    // Readers without the lock see the class whole.
    __atomic_store_n(&graph->class_count, class + 1, __ATOMIC_RELEASE);
    return class;
}

bool lock_graph_add_edge(struct lock_graph *graph, const struct lock_edge *edge)
{
    uint64_t *word = &graph->next[edge->from][edge->to / 64];

    if (lock_graph_has_edge(graph, edge->from, edge->to)) {
        return true;
    }
    if (graph->edge_count == LOCK_EDGES) {
        graph->dropped++;
        return false;
    }
    graph->edges[graph->edge_count++] = *edge;
    __atomic_store_n(word, *word | BIT64(edge->to % 64), __ATOMIC_RELEASE);
    return true;
}

const struct lock_edge *lock_graph_edge(const struct lock_graph *graph, unsigned from, unsigned to)
{
    for (unsigned i = 0; i < graph->edge_count; i++) {
        if (graph->edges[i].from == from && graph->edges[i].to == to) {
            return &graph->edges[i];
        }
    }
    return NULL;
}

// ---- searching ----------------------------------------------------------------------------------

// Where a search may end: at one class, or at any with a usage.
struct lock_goal {
    unsigned class; // 0: any
    unsigned usage; // 0: any
};

static bool lock_goal_reached(const struct lock_graph *graph, const struct lock_goal *goal,
                              unsigned class)
{
    return goal->class != 0 ? class == goal->class : (graph->usage[class] & goal->usage) != 0;
}

// Whether the search steps from `at` to `to`: along an edge, or against it.
static bool lock_graph_steps(const struct lock_graph *graph, unsigned at, unsigned to,
                             bool backward)
{
    return backward ? lock_graph_has_edge(graph, to, at) : lock_graph_has_edge(graph, at, to);
}

// Breadth first from `start`; the class where it ended, or 0. graph->parent leads back.
static unsigned lock_graph_search(struct lock_graph *graph, unsigned start,
                                  const struct lock_goal *goal, bool backward)
{
    unsigned head = 0, tail = 0;

    memset(graph->parent, 0, sizeof(graph->parent));
    graph->parent[start] = (uint16_t)start;
    graph->queue[tail++] = (uint16_t)start;
    while (head != tail) {
        unsigned at = graph->queue[head++];

        if (lock_goal_reached(graph, goal, at)) {
            return at;
        }
        for (unsigned to = 1; to < graph->class_count; to++) {
            if (graph->parent[to] == 0 && lock_graph_steps(graph, at, to, backward)) {
                graph->parent[to] = (uint16_t)at;
                graph->queue[tail++] = (uint16_t)to;
            }
        }
    }
    return 0;
}

static unsigned lock_graph_find(struct lock_graph *graph, unsigned start, struct lock_goal goal,
                                bool backward, uint16_t *path, unsigned max)
{
    unsigned end = lock_graph_search(graph, start, &goal, backward);
    unsigned length = 1;

    if (end == 0) {
        return 0;
    }
    for (unsigned at = end; at != start; at = graph->parent[at]) {
        length++;
    }
    if (length > max) {
        return length;
    }
    // The parents lead from the end to the start: the order of the edges when searched backward.
    for (unsigned i = 0, at = end; i < length; i++, at = graph->parent[at]) {
        path[backward ? i : length - 1 - i] = (uint16_t)at;
    }
    return length;
}

unsigned lock_graph_path(struct lock_graph *graph, unsigned from, unsigned to, uint16_t *path,
                         unsigned max)
{
    return lock_graph_find(graph, from, (struct lock_goal){.class = to}, false, path, max);
}

unsigned lock_graph_path_to_usage(struct lock_graph *graph, unsigned from, unsigned usage,
                                  uint16_t *path, unsigned max)
{
    return lock_graph_find(graph, from, (struct lock_goal){.usage = usage}, false, path, max);
}

unsigned lock_graph_path_from_usage(struct lock_graph *graph, unsigned to, unsigned usage,
                                    uint16_t *path, unsigned max)
{
    return lock_graph_find(graph, to, (struct lock_goal){.usage = usage}, true, path, max);
}
