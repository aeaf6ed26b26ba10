// A red-black tree: sorted, with the first at hand, and never more than twice as deep as it has to
// be. The nodes lie in what they sort, so nothing is allocated. Names as in Linux. Pure.
#pragma once

#include <lib/types.h>

struct rb_node {
    struct rb_node *parent;   // NULL: the root; itself: in no tree
    struct rb_node *child[2]; // less, and not less
    bool red;
};

struct rb_root_cached {
    struct rb_node *root;
    struct rb_node *leftmost;
};

#define RB_ROOT_CACHED                 \
    (struct rb_root_cached)            \
    {                                  \
        .root = NULL, .leftmost = NULL \
    }
#define rb_entry(node, type, member) container_of(node, type, member)

static inline void RB_CLEAR_NODE(struct rb_node *node)
{
    node->parent = node;
}

// True for a node that is in no tree, if RB_CLEAR_NODE() has told so.
static inline bool RB_EMPTY_NODE(const struct rb_node *node)
{
    return node->parent == node;
}

static inline struct rb_node *rb_first_cached(const struct rb_root_cached *tree)
{
    return tree->leftmost;
}

// The next one in order, NULL behind the last.
struct rb_node *rb_next(const struct rb_node *node);
// Equal ones keep the order in which they were added. True when the node is now the first.
bool rb_add_cached(struct rb_node *node, struct rb_root_cached *tree,
                   bool (*less)(const struct rb_node *a, const struct rb_node *b));
void rb_erase_cached(struct rb_node *node, struct rb_root_cached *tree);
