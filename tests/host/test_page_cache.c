// The pure parts of the page cache: pages found by number against an array, and what read-ahead
// decides for readers of every kind.
//
// links: kernel/dev/page_index.c kernel/dev/page_cache_ra.c kernel/lib/rbtree.c
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/dev/page_cache_ra.h"
#include "kernel/dev/page_index.h"

// ---- the index ----------------------------------------------------------------------------------

enum { PAGES = 500, STEPS = 200000 };

static struct page_node nodes[PAGES];
static bool there[PAGES];

static long first_from(uint64_t index)
{
    for (; index < PAGES; index++) {
        if (there[index]) {
            return (long)index;
        }
    }
    return -1;
}

static void check_from(const struct rb_root_cached *tree, uint64_t index)
{
    const struct page_node *node = page_index_from(tree, index);
    long expected = first_from(index);
    assert_int_equal(node == NULL ? -1 : (long)node->index, expected);
    assert_ptr_equal(page_index_find(tree, index), expected == (long)index ? &nodes[index] : NULL);
    if (node != NULL) {
        const struct page_node *next = page_index_next(node);
        assert_int_equal(next == NULL ? -1 : (long)next->index, first_from(node->index + 1));
    }
}

static void check_hole(const struct rb_root_cached *tree, uint64_t index, uint32_t most)
{
    uint64_t expected = index + 1;
    while (expected < PAGES && there[expected] && expected - index <= most) {
        expected++;
    }
    assert_int_equal(page_index_hole(tree, index, most), expected);
}

static void random_pages(void **state)
{
    (void)state;
    struct rb_root_cached tree = RB_ROOT_CACHED;
    srand(1);
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = (unsigned)rand() % PAGES;
        nodes[i].index = i;
        if (!there[i]) {
            assert_true(page_index_add(&tree, &nodes[i]));
            there[i] = true;
        } else if (rand() % 2 == 0) {
            struct page_node twin = {.index = i};
            assert_false(page_index_add(&tree, &twin));
        } else {
            page_index_del(&tree, &nodes[i]);
            there[i] = false;
        }
        check_from(&tree, (unsigned)rand() % PAGES);
        check_hole(&tree, (unsigned)rand() % PAGES, (unsigned)rand() % 40);
    }
    assert_null(page_index_from(&tree, PAGES));
}

static void far_pages(void **state)
{
    (void)state;
    struct rb_root_cached tree = RB_ROOT_CACHED;
    struct page_node last = {.index = UINT64_MAX}, first = {.index = 0};
    assert_null(page_index_from(&tree, 0));
    assert_int_equal(page_index_hole(&tree, 7, 100), 8);
    assert_true(page_index_add(&tree, &last) && page_index_add(&tree, &first));
    assert_ptr_equal(page_index_from(&tree, 1), &last);
    assert_ptr_equal(page_index_next(&first), &last);
    assert_null(page_index_next(&last));
}

// ---- read-ahead ---------------------------------------------------------------------------------

// A reader with a cache that keeps everything; what it read, and what the disk was asked for.
struct reader {
    struct file_ra_state ra;
    uint32_t max;
    uint8_t cached[4096];
    uint64_t marker;
    struct ra_window asked[256];
    unsigned count, misses;
};

static void reader_start(struct reader *r, uint32_t max)
{
    memset(r, 0, sizeof(*r));
    r->ra.prev_index = UINT64_MAX;
    r->max = max;
    r->marker = UINT64_MAX;
}

static void reader_ask(struct reader *r, struct ra_window w)
{
    assert_true(w.start + w.size <= sizeof(r->cached));
    assert_true(w.marker == UINT64_MAX || (w.marker >= w.start && w.marker < w.start + w.size));
    memset(r->cached + w.start, 1, w.size);
    r->marker = w.marker != UINT64_MAX ? w.marker : r->marker;
    r->asked[r->count++] = w;
}

static uint64_t hole_behind(const struct reader *r, uint64_t index)
{
    do {
        index++;
    } while (r->cached[index]);
    return index;
}

// Reads `count` pages, as page_cache_read does.
static void reader_read(struct reader *r, uint64_t index, uint32_t count)
{
    for (; count != 0; index++, count--) {
        if (!r->cached[index]) {
            r->misses++;
            reader_ask(r, ra_on_miss(&r->ra, index, count, r->max));
            assert_true(r->cached[index]);
        }
        if (r->marker == index) {
            r->marker = UINT64_MAX;
            reader_ask(r, ra_on_marker(&r->ra, index, count, hole_behind(r, index), r->max));
        }
        r->ra.prev_index = index;
    }
}

static void sequential_windows_double(void **state)
{
    (void)state;
    static struct reader r;
    static const struct {
        uint64_t start;
        uint32_t size;
    } expected[] = {{0, 4}, {4, 8}, {12, 16}, {28, 32}, {60, 32}, {92, 32}};
    reader_start(&r, 32);
    for (uint64_t i = 0; i < 64; i++) {
        reader_read(&r, i, 1);
    }
    assert_int_equal(r.misses, 1); // after that the disk is always ahead
    assert_int_equal(r.count, 6);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(r.asked[i].start, expected[i].start);
        assert_int_equal(r.asked[i].size, expected[i].size);
    }
}

static void a_window_is_asked_for_before_it_is_needed(void **state)
{
    (void)state;
    static struct reader r;
    reader_start(&r, 32);
    for (uint64_t i = 0; i < 1000; i++) {
        unsigned before = r.count;
        reader_read(&r, i, 1);
        if (i != 0 && r.count != before) { // as many pages are still to be read as were just asked
            assert_int_equal(before + 1, r.count);
            assert_true(r.asked[before].start > i);
        }
    }
    assert_int_equal(r.misses, 1);
}

static void random_readers_get_what_they_ask_for(void **state)
{
    (void)state;
    static struct reader r;
    reader_start(&r, 32);
    srand(2);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t index = 40 * i + 3 + (unsigned)rand() % 20;
        uint32_t count = 1 + (uint32_t)rand() % 8;
        unsigned before = r.count;
        reader_read(&r, index, count);
        assert_int_equal(r.count, before + 1);
        assert_int_equal(r.asked[before].start, index);
        assert_int_equal(r.asked[before].size, count);
        assert_int_equal(r.asked[before].marker, UINT64_MAX);
    }
}

static void a_look_elsewhere_does_not_end_a_stream(void **state)
{
    (void)state;
    static struct reader r;
    reader_start(&r, 32);
    for (uint64_t i = 0; i < 40; i++) {
        reader_read(&r, i, 1);
    }
    unsigned before = r.count;
    reader_read(&r, 2000, 1);
    assert_int_equal(r.count, before + 1);
    assert_int_equal(r.asked[before].size, 1);
    for (uint64_t i = 40; i < 100; i++) {
        reader_read(&r, i, 1);
    }
    assert_int_equal(r.misses, 2); // the first page, and the look elsewhere
    assert_int_equal(r.asked[r.count - 1].size, 32);
}

static void large_reads_are_whole_windows(void **state)
{
    (void)state;
    static struct reader r;
    reader_start(&r, 32);
    reader_read(&r, 1000, 256);
    for (unsigned i = 0; i < r.count; i++) {
        assert_int_equal(r.asked[i].size, 32);
    }
    assert_int_equal(r.misses, 1);
    reader_start(&r, 32);
    reader_read(&r, 0, 16); // half a window: the other half comes along
    assert_int_equal(r.asked[0].size, 32);
    assert_int_equal(r.asked[0].marker, 16);
}

static void a_stream_that_begins_anywhere(void **state)
{
    (void)state;
    static struct reader r;
    reader_start(&r, 32);
    reader_read(&r, 700, 1); // nothing says yet that this is one
    reader_read(&r, 701, 1); // now something does
    assert_int_equal(r.count, 2);
    assert_int_equal(r.asked[0].size, 1);
    assert_int_equal(r.asked[1].size, 4);
    for (uint64_t i = 702; i < 800; i++) {
        reader_read(&r, i, 1);
    }
    assert_int_equal(r.misses, 2);
}

static void another_ones_marker(void **state)
{
    (void)state;
    static struct reader r;
    reader_start(&r, 32);
    memset(r.cached + 100, 1, 20); // another reader was here, and left a mark
    r.marker = 104;
    for (uint64_t i = 100; i < 130; i++) {
        reader_read(&r, i, 1);
    }
    assert_int_equal(r.misses, 0);
    assert_int_equal(r.asked[0].start, 120);
    assert_int_equal(r.asked[0].size, 32); // 17 pages were ahead: twice that, as far as allowed
}

static void turned_off(void **state)
{
    (void)state;
    static struct reader r;
    reader_start(&r, 0);
    for (uint64_t i = 0; i < 50; i++) {
        reader_read(&r, i * 2, 2);
    }
    assert_int_equal(r.count, 50);
    assert_int_equal(r.asked[49].size, 2);
    assert_int_equal(ra_on_marker(&r.ra, 3, 1, 7, 0).size, 0); // a mark from before
}

// Whatever comes, a window is not larger than allowed unless the reader wants more, and never
// empty.
static void any_reader(void **state)
{
    (void)state;
    srand(3);
    struct file_ra_state ra = {.prev_index = UINT64_MAX};
    for (unsigned i = 0; i < 100000; i++) {
        uint32_t max = (uint32_t)rand() % 300, count = 1 + (uint32_t)rand() % 300;
        uint64_t index = rand() % 3 == 0 ? (uint64_t)rand() << 20 : ra.prev_index + 1;
        struct ra_window w = rand() % 2 == 0 || max == 0
                                 ? ra_on_miss(&ra, index, count, max)
                                 : ra_on_marker(&ra, index, count, index + 1 + rand() % 40, max);
        assert_true(w.size != 0 && w.size <= (max > count ? max : count));
        assert_true(w.marker == UINT64_MAX || w.marker - w.start < w.size);
        ra.prev_index = index;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_pages),
        cmocka_unit_test(far_pages),
        cmocka_unit_test(sequential_windows_double),
        cmocka_unit_test(a_window_is_asked_for_before_it_is_needed),
        cmocka_unit_test(random_readers_get_what_they_ask_for),
        cmocka_unit_test(a_look_elsewhere_does_not_end_a_stream),
        cmocka_unit_test(large_reads_are_whole_windows),
        cmocka_unit_test(a_stream_that_begins_anywhere),
        cmocka_unit_test(another_ones_marker),
        cmocka_unit_test(turned_off),
        cmocka_unit_test(any_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
