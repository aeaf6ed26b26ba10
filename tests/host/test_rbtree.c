// Red-black trees against a sorted array: the order, the first, the rules that bound the depth.
//
// links: kernel/lib/rbtree.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include <lib/rbtree.h>

struct item {
    struct rb_node node;
    int key;
    unsigned stamp; // when it was added
};

static bool item_less(const struct rb_node *a, const struct rb_node *b)
{
    return rb_entry(a, struct item, node)->key < rb_entry(b, struct item, node)->key;
}

// Checks what is below a node; how many black nodes each way down has.
static int check_node(const struct rb_node *node, const struct rb_node *parent, unsigned *count)
{
    if (node == NULL) {
        return 1;
    }
    assert_ptr_equal(node->parent, parent);
    assert_false(node->red && (parent == NULL || parent->red));
    ++*count;
    int left = check_node(node->child[0], node, count);
    int right = check_node(node->child[1], node, count);
    assert_int_equal(left, right);
    return left + !node->red;
}

static void check_tree(const struct rb_root_cached *tree, unsigned expected)
{
    unsigned count = 0, walked = 0;
    const struct item *last = NULL;

    check_node(tree->root, NULL, &count);
    assert_int_equal(count, expected);
    for (const struct rb_node *n = rb_first_cached(tree); n != NULL; n = rb_next(n)) {
        const struct item *item = rb_entry(n, struct item, node);
        assert_true(last == NULL || last->key < item->key ||
                    (last->key == item->key && last->stamp < item->stamp));
        last = item;
        walked++;
    }
    assert_int_equal(walked, expected);
}

static void test_empty(void **state)
{
    struct rb_root_cached tree = RB_ROOT_CACHED;
    struct item item = {.key = 1};

    (void)state;
    RB_CLEAR_NODE(&item.node);
    assert_true(RB_EMPTY_NODE(&item.node));
    assert_null(rb_first_cached(&tree));
    assert_true(rb_add_cached(&item.node, &tree, item_less));
    assert_false(RB_EMPTY_NODE(&item.node));
    check_tree(&tree, 1);
    rb_erase_cached(&item.node, &tree);
    assert_true(RB_EMPTY_NODE(&item.node));
    check_tree(&tree, 0);
}

// In order, against the order, all equal: the cases that make a plain tree a list.
static void test_bad_orders(void **state)
{
    enum { ITEMS = 1000 };
    static struct item items[ITEMS];

    (void)state;
    for (int way = 0; way < 3; way++) {
        struct rb_root_cached tree = RB_ROOT_CACHED;

        for (int i = 0; i < ITEMS; i++) {
            items[i] = (struct item){.key = way == 0 ? i : way == 1 ? -i : 7, .stamp = (unsigned)i};
            assert_int_equal(rb_add_cached(&items[i].node, &tree, item_less), way == 1 || i == 0);
            check_tree(&tree, (unsigned)i + 1);
        }
        for (unsigned left = ITEMS; left > 0; left--) {
            rb_erase_cached(rb_first_cached(&tree), &tree);
            check_tree(&tree, left - 1);
        }
    }
}

static void test_against_array(void **state)
{
    enum { ITEMS = 200, STEPS = 20000 };
    static struct item items[ITEMS];
    struct rb_root_cached tree = RB_ROOT_CACHED;
    unsigned count = 0;

    (void)state;
    srand(3);
    for (int i = 0; i < ITEMS; i++) {
        RB_CLEAR_NODE(&items[i].node);
    }
    for (unsigned step = 0; step < STEPS; step++) {
        struct item *item = &items[rand() % ITEMS];

        if (RB_EMPTY_NODE(&item->node)) {
            item->key = rand() % 50;
            item->stamp = step;
            rb_add_cached(&item->node, &tree, item_less);
            count++;
        } else {
            rb_erase_cached(&item->node, &tree);
            count--;
        }
        check_tree(&tree, count);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_bad_orders),
        cmocka_unit_test(test_against_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
