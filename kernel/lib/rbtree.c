// Red-black trees. Four rules keep the longest way from the root at most twice the shortest:
//
//   every node is red or black         the root is black
//   a red node's children are black    every way from a node down to a missing child passes equally
//                                      many black nodes
//
// A new node is red and may break only the third rule, with its parent; a node that leaves may take
// a black one from the ways through its place. Both are mended on the way up, by recolouring as
// long as that moves the trouble, and then by at most three rotations:
//
//         x                           y
//        / \     rotate(x, left)     / \       the order a x b y c stays
//       a   y    ───────────────>   x   c
//          / \                     / \         rotate(y, right) leads back
//         b   c                   a   b
//
// Left and right are 0 and 1, so each case is written once for both sides.
//
// Context: any; whoever owns the tree locks it.
#include <lib/rbtree.h>

enum { LEFT, RIGHT };

static bool rb_is_red(const struct rb_node *node)
{
    return node != NULL && node->red;
}

static int rb_side(const struct rb_node *node)
{
    return node->parent != NULL && node->parent->child[RIGHT] == node ? RIGHT : LEFT;
}

// Puts `node`, which may be NULL, where `old` hangs.
static void rb_replace(struct rb_root_cached *tree, struct rb_node *old, struct rb_node *node)
{
    if (old->parent == NULL) {
        tree->root = node;
    } else {
        old->parent->child[rb_side(old)] = node;
    }
    if (node != NULL) {
        node->parent = old->parent;
    }
}

// `node` goes down to `side`, its child of the other side takes its place.
static void rb_rotate(struct rb_root_cached *tree, struct rb_node *node, int side)
{
    struct rb_node *up = node->child[!side];

    node->child[!side] = up->child[side];
    if (up->child[side] != NULL) {
        up->child[side]->parent = node;
    }
    rb_replace(tree, node, up);
    up->child[side] = node;
    node->parent = up;
}

struct rb_node *rb_next(const struct rb_node *node)
{
    struct rb_node *next = node->child[RIGHT];

    if (next != NULL) {
        while (next->child[LEFT] != NULL) {
            next = next->child[LEFT];
        }
        return next;
    }
    while (node->parent != NULL && rb_side(node) == RIGHT) {
        node = node->parent;
    }
    return node->parent;
}

// ---- adding ------------------------------------------------------------------------------------

// `node` is red, and so perhaps is its parent.
static void rb_mend_red(struct rb_root_cached *tree, struct rb_node *node)
{
    while (rb_is_red(node->parent)) {
        struct rb_node *parent = node->parent;
        struct rb_node *grandparent = parent->parent; // is there: a red node is not the root
        int side = rb_side(parent);
        struct rb_node *uncle = grandparent->child[!side];

        if (rb_is_red(uncle)) {
            parent->red = false;
            uncle->red = false;
            grandparent->red = true;
            node = grandparent;
            continue;
        }
        if (rb_side(node) != side) { // the inner grandchild: make it the outer one
            rb_rotate(tree, parent, side);
            parent = node;
        }
        parent->red = false;
        grandparent->red = true;
        rb_rotate(tree, grandparent, !side);
        break;
    }
    tree->root->red = false;
}

bool rb_add_cached(struct rb_node *node, struct rb_root_cached *tree,
                   bool (*less)(const struct rb_node *a, const struct rb_node *b))
{
    struct rb_node *parent = NULL, **link = &tree->root;
    bool first = true;

    while (*link != NULL) {
        parent = *link;
        int side = less(node, parent) ? LEFT : RIGHT;
        first = first && side == LEFT;
        link = &parent->child[side];
    }
    *node = (struct rb_node){.parent = parent, .red = true};
    *link = node;
    if (first) {
        tree->leftmost = node;
    }
    rb_mend_red(tree, node);
    return first;
}

// ---- removing ----------------------------------------------------------------------------------

// The ways through parent->child[side] lack a black node.
static void rb_mend_black(struct rb_root_cached *tree, struct rb_node *parent, int side)
{
    while (parent != NULL && !rb_is_red(parent->child[side])) {
        struct rb_node *sibling = parent->child[!side]; // is there, with a black node or more

        if (sibling->red) {
            sibling->red = false;
            parent->red = true;
            rb_rotate(tree, parent, side);
            sibling = parent->child[!side];
        }
        if (!rb_is_red(sibling->child[LEFT]) && !rb_is_red(sibling->child[RIGHT])) {
            sibling->red = true; // now both sides lack one: so does the parent
            side = rb_side(parent);
            parent = parent->parent;
            continue;
        }
        if (!rb_is_red(sibling->child[!side])) {
            sibling->child[side]->red = false;
            sibling->red = true;
            rb_rotate(tree, sibling, !side);
            sibling = parent->child[!side];
        }
        sibling->red = parent->red;
        parent->red = false;
        sibling->child[!side]->red = false;
        rb_rotate(tree, parent, side);
        return;
    }
    struct rb_node *node = parent != NULL ? parent->child[side] : tree->root;
    if (node != NULL) {
        node->red = false; // a red one there makes up for it
    }
}

void rb_erase_cached(struct rb_node *node, struct rb_root_cached *tree)
{
    struct rb_node *parent = node->parent;
    int side = rb_side(node);
    bool was_red = node->red;

    if (tree->leftmost == node) {
        tree->leftmost = rb_next(node);
    }
    if (node->child[LEFT] == NULL || node->child[RIGHT] == NULL) {
        rb_replace(tree, node, node->child[LEFT] != NULL ? node->child[LEFT] : node->child[RIGHT]);
    } else {
        // The next one in order has no left child. It leaves its place and takes this one, colour
        // and all.
        struct rb_node *next = rb_next(node);

        was_red = next->red;
        side = rb_side(next);
        parent = next->parent != node ? next->parent : next;
        rb_replace(tree, next, next->child[RIGHT]);
        rb_replace(tree, node, next);
        next->red = node->red;
        for (int i = LEFT; i <= RIGHT; i++) {
            next->child[i] = node->child[i];
            if (next->child[i] != NULL) {
                next->child[i]->parent = next;
            }
        }
    }
    if (!was_red) {
        rb_mend_black(tree, parent, side);
    }
    RB_CLEAR_NODE(node);
}
