// Pages of a disk found by their number: a red-black tree of nodes that lie in the pages. Pure; the
// caller locks.
#pragma once

#include <lib/rbtree.h>
#include <lib/types.h>

struct page_node {
    struct rb_node rb;
    uint64_t index;
};

// The node of this page; NULL.
struct page_node *page_index_find(const struct rb_root_cached *tree, uint64_t index);
// The first node at or behind it; NULL.
struct page_node *page_index_from(const struct rb_root_cached *tree, uint64_t index);
struct page_node *page_index_next(const struct page_node *node);
// False: there is one already.
bool page_index_add(struct rb_root_cached *tree, struct page_node *node);
void page_index_del(struct rb_root_cached *tree, struct page_node *node);
// The first page behind `index` that is not there, at most `most` pages away.
uint64_t page_index_hole(const struct rb_root_cached *tree, uint64_t index, uint32_t most);
