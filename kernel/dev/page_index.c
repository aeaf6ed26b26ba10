// Finds a page by its number (page_index.h). Why a tree of nodes in the pages, and neither a hash
// nor a radix tree: nothing is allocated when a page comes, nothing is freed when an interrupt
// takes it away, and the neighbours, which write-back gathers into one request, are one step apart.
// docs/decisions/0008-page-cache.md has the numbers.
//
// Context: any, under the lock of whoever owns the tree.
#include "page_index.h"

static bool page_node_less(const struct rb_node *a, const struct rb_node *b)
{
    return rb_entry(a, struct page_node, rb)->index < rb_entry(b, struct page_node, rb)->index;
}

struct page_node *page_index_from(const struct rb_root_cached *tree, uint64_t index)
{
    struct rb_node *at = tree->root;
    struct page_node *found = NULL;

    while (at != NULL) {
        struct page_node *node = rb_entry(at, struct page_node, rb);
        if (node->index >= index) {
            found = node;
        }
        if (node->index == index) {
            break;
        }
        at = at->child[node->index < index];
    }
    return found;
}

struct page_node *page_index_find(const struct rb_root_cached *tree, uint64_t index)
{
    struct page_node *node = page_index_from(tree, index);

    return node != NULL && node->index == index ? node : NULL;
}

struct page_node *page_index_next(const struct page_node *node)
{
    struct rb_node *next = rb_next(&node->rb);

    return next != NULL ? rb_entry(next, struct page_node, rb) : NULL;
}

bool page_index_add(struct rb_root_cached *tree, struct page_node *node)
{
    if (page_index_find(tree, node->index) != NULL) {
        return false;
    }
    rb_add_cached(&node->rb, tree, page_node_less);
    return true;
}

void page_index_del(struct rb_root_cached *tree, struct page_node *node)
{
    rb_erase_cached(&node->rb, tree);
    RB_CLEAR_NODE(&node->rb);
}

uint64_t page_index_hole(const struct rb_root_cached *tree, uint64_t index, uint32_t most)
{
    const struct page_node *node = page_index_find(tree, index + 1);

    for (; node != NULL && node->index == index + 1 && most != 0; most--) {
        index++;
        node = page_index_next(node);
    }
    return index + 1;
}
