// The graph of lock classes against a model: the transitive closure of the same edges, by Warshall.
//
// links: kernel/core/lock_graph.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../kernel/core/lock_graph.h"

static struct lock_graph graph;

static int graph_clear(void **state)
{
    (void)state;
    memset(&graph, 0, sizeof(graph));
    return 0;
}

static unsigned class_of(unsigned n)
{
    char name[16];

    snprintf(name, sizeof(name), "lock %u", n);
    return lock_graph_class(&graph, name, 0);
}

static void edge(unsigned from, unsigned to)
{
    struct lock_edge it = {.from = (uint16_t)from, .to = (uint16_t)to};

    assert_true(lock_graph_add_edge(&graph, &it));
}

static void classes_are_names_and_kinds(void **state)
{
    (void)state;
    unsigned a = lock_graph_class(&graph, "a", 0), b = lock_graph_class(&graph, "b", 0);

    assert_int_not_equal(a, 0);
    assert_int_not_equal(a, b);
    assert_int_equal(lock_graph_class(&graph, "a", 0), a);
    assert_int_not_equal(lock_graph_class(&graph, "a", 1), a);
    assert_true(lock_graph_is_class(&graph, a, "a", 0));
    assert_false(lock_graph_is_class(&graph, a, "a", 1));
    // Longer names than there is room for are one class as far as they are the same.
    unsigned c = lock_graph_class(&graph, "a name of more than thirty-one letters, one", 0);
    assert_int_equal(lock_graph_class(&graph, "a name of more than thirty-one letters, two", 0), c);
    assert_int_equal(strlen(graph.classes[c].name), LOCK_NAME_SIZE - 1);
}

static void full_tables_are_said(void **state)
{
    (void)state;
    for (unsigned n = 1; n < LOCK_CLASSES; n++) {
        assert_int_equal(class_of(n), n);
    }
    assert_int_equal(class_of(LOCK_CLASSES), 0);
    assert_int_equal(class_of(1), 1); // those that are known stay known
    assert_int_equal(graph.dropped, 1);

    unsigned added = 0;
    for (unsigned from = 1; from < LOCK_CLASSES && added < LOCK_EDGES; from++) {
        for (unsigned to = from + 1; to < LOCK_CLASSES && added < LOCK_EDGES; to++) {
            edge(from, to);
            added++;
        }
    }
    struct lock_edge more = {.from = LOCK_CLASSES - 1, .to = 1};
    assert_false(lock_graph_add_edge(&graph, &more));
    assert_false(lock_graph_has_edge(&graph, more.from, more.to));
    assert_int_equal(graph.dropped, 2);
}

static void the_way_is_the_shortest(void **state)
{
    (void)state;
    uint16_t path[8];
    unsigned a = class_of(1), b = class_of(2), c = class_of(3), d = class_of(4), e = class_of(5);

    edge(a, b);
    edge(b, c);
    edge(c, d);
    edge(a, e);
    edge(e, d);
    assert_int_equal(lock_graph_path(&graph, a, d, path, 8), 3);
    assert_int_equal(path[0], a);
    assert_int_equal(path[1], e);
    assert_int_equal(path[2], d);
    assert_int_equal(lock_graph_path(&graph, d, a, path, 8), 0);
    assert_int_equal(lock_graph_path(&graph, b, b, path, 8), 1);
    assert_int_equal(lock_graph_path(&graph, a, d, path, 2), 3); // told, not written
}

static void ways_to_and_from_a_usage(void **state)
{
    (void)state;
    uint16_t path[8];
    unsigned a = class_of(1), b = class_of(2), c = class_of(3), d = class_of(4);

    edge(a, b);
    edge(b, c);
    edge(c, d);
    graph.usage[a] = LOCK_IN_HARDIRQ;
    graph.usage[d] = LOCK_HARDIRQ_ON;
    assert_int_equal(lock_graph_path_from_usage(&graph, c, LOCK_IN_HARDIRQ, path, 8), 3);
    assert_int_equal(path[0], a);
    assert_int_equal(path[1], b);
    assert_int_equal(path[2], c);
    assert_int_equal(lock_graph_path_to_usage(&graph, b, LOCK_HARDIRQ_ON, path, 8), 3);
    assert_int_equal(path[0], b);
    assert_int_equal(path[2], d);
    assert_int_equal(lock_graph_path_to_usage(&graph, a, LOCK_IN_HARDIRQ, path, 8), 1); // itself
    assert_int_equal(lock_graph_path_from_usage(&graph, a, LOCK_IN_SOFTIRQ, path, 8), 0);
}

enum { NODES = 24, GRAPHS = 300 };

static void check_path(const uint16_t *path, unsigned length, unsigned from, unsigned to)
{
    assert_int_equal(path[0], from);
    assert_int_equal(path[length - 1], to);
    for (unsigned i = 0; i + 1 < length; i++) {
        assert_true(lock_graph_has_edge(&graph, path[i], path[i + 1]));
        assert_non_null(lock_graph_edge(&graph, path[i], path[i + 1]));
    }
}

// Distances by Floyd and Warshall say whether there is a way, and how long the shortest is.
static void as_the_model_says(void **state)
{
    uint16_t path[NODES];

    srand(4);
    for (unsigned round = 0; round < GRAPHS; round++) {
        unsigned distance[NODES + 1][NODES + 1];

        graph_clear(state);
        for (unsigned i = 1; i <= NODES; i++) {
            assert_int_equal(class_of(i), i);
            for (unsigned j = 1; j <= NODES; j++) {
                distance[i][j] = i == j ? 0 : 1000;
            }
        }
        for (unsigned n = 0; n < round % 60; n++) {
            unsigned from = 1 + (unsigned)rand() % NODES, to = 1 + (unsigned)rand() % NODES;

            edge(from, to);
            distance[from][to] = from == to ? 0 : 1;
        }
        for (unsigned k = 1; k <= NODES; k++) {
            for (unsigned i = 1; i <= NODES; i++) {
                for (unsigned j = 1; j <= NODES; j++) {
                    if (distance[i][k] + distance[k][j] < distance[i][j]) {
                        distance[i][j] = distance[i][k] + distance[k][j];
                    }
                }
            }
        }
        for (unsigned i = 1; i <= NODES; i++) {
            for (unsigned j = 1; j <= NODES; j++) {
                unsigned length = lock_graph_path(&graph, i, j, path, NODES);

                assert_int_equal(length, distance[i][j] < 1000 ? distance[i][j] + 1 : 0);
                if (length != 0) {
                    check_path(path, length, i, j);
                }
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(classes_are_names_and_kinds, graph_clear),
        cmocka_unit_test_setup(full_tables_are_said, graph_clear),
        cmocka_unit_test_setup(the_way_is_the_shortest, graph_clear),
        cmocka_unit_test_setup(ways_to_and_from_a_usage, graph_clear),
        cmocka_unit_test_setup(as_the_model_says, graph_clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
