// Data pointers of NVMe commands: whatever the pieces, walking the PRPs as a controller does gives
// the same bytes in the same order; and what PRPs cannot say is refused.
//
// links: drivers/block/nvme/nvme_prp.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <lib/errno.h>
#include <lib/string.h>

#include "../../drivers/block/nvme/nvme_prp.h"

enum { LIST_BUS = 0x7000000, PIECES = 256 };

struct piece {
    uint64_t bus;
    uint32_t length;
};

static uint64_t prp[2], list[NVME_LIST_PRPS];

static int build(const struct piece *pieces, unsigned count, bool with_list)
{
    struct nvme_prp_builder b;
    memset(list, 0xcc, sizeof(list));
    nvme_prp_begin(&b, prp, with_list ? list : NULL, with_list ? LIST_BUS : 0);
    for (unsigned i = 0; i < count; i++) {
        int error = nvme_prp_add(&b, pieces[i].bus, pieces[i].length);
        if (error != 0) {
            return error;
        }
    }
    nvme_prp_end(&b);
    return 0;
}

// Walks the pointers for `total` bytes, as the controller would (4.3), and compares with the
// pieces.
static void check_walk(const struct piece *pieces, unsigned count)
{
    uint64_t total = 0, done = 0;
    unsigned piece = 0, page = 0;
    uint32_t at = 0;
    for (unsigned i = 0; i < count; i++) {
        total += pieces[i].length;
    }
    uint64_t first = NVME_PAGE_SIZE - prp[0] % NVME_PAGE_SIZE;
    bool uses_list = total > first + NVME_PAGE_SIZE;
    while (done < total) {
        uint64_t bus = page == 0 ? prp[0] : uses_list ? list[page - 1] : prp[1];
        assert_true(page == 0 || bus % NVME_PAGE_SIZE == 0);
        assert_true(page - 1 < NVME_LIST_PRPS || page == 0);
        uint64_t length = NVME_PAGE_SIZE - bus % NVME_PAGE_SIZE;
        for (uint64_t i = 0; i < length && done < total; i += 2, done += 2) {
            assert_int_equal(bus + i, pieces[piece].bus + at);
            at += 2;
            if (at == pieces[piece].length) {
                piece++;
                at = 0;
            }
        }
        page++;
    }
    if (uses_list) {
        assert_int_equal(prp[1], LIST_BUS);
    }
    if (total <= first) {
        assert_int_equal(prp[1], 0);
    }
}

static void test_one_page(void **state)
{
    (void)state;
    const struct piece p = {0x1234000, 512};
    assert_int_equal(build(&p, 1, false), 0);
    assert_int_equal(prp[0], 0x1234000);
    assert_int_equal(prp[1], 0);
    const struct piece q = {0x1234e00, 512};
    assert_int_equal(build(&q, 1, false), 0);
    assert_int_equal(prp[0], 0x1234e00);
    assert_int_equal(prp[1], 0);
}

static void test_two_pages(void **state)
{
    (void)state;
    const struct piece p = {0x1234e00, 1024};
    assert_int_equal(build(&p, 1, false), 0);
    assert_int_equal(prp[1], 0x1235000);
    const struct piece q = {0x1234000, 8192};
    assert_int_equal(build(&q, 1, true), 0); // a list at hand is not used for it
    assert_int_equal(prp[1], 0x1235000);
    check_walk(&q, 1);
    const struct piece apart[] = {{0x1234800, 2048}, {0x9999000, 4096}};
    assert_int_equal(build(apart, 2, false), 0);
    assert_int_equal(prp[1], 0x9999000);
}

static void test_list(void **state)
{
    (void)state;
    const struct piece p = {0x1234e00, 8192};
    assert_int_equal(build(&p, 1, false), -E2BIG);
    assert_int_equal(build(&p, 1, true), 0);
    assert_int_equal(prp[0], 0x1234e00);
    assert_int_equal(prp[1], LIST_BUS);
    assert_int_equal(list[0], 0x1235000);
    assert_int_equal(list[1], 0x1236000);
    assert_int_equal(list[2], 0xcccccccccccccccc);
    assert_true(nvme_prp_needs_list(p.bus, p.length));
    assert_false(nvme_prp_needs_list(0x1234000, 8192));
    assert_true(nvme_prp_needs_list(0x1234004, 8192));
}

static void test_short_way_is_the_same(void **state)
{
    (void)state;
    uint64_t other[2];
    for (uint64_t offset = 0; offset < NVME_PAGE_SIZE; offset += 4) {
        for (uint32_t length = 2; length <= 2 * NVME_PAGE_SIZE; length += 510) {
            const struct piece p = {0x5000 + offset, length};
            if (!nvme_prp_needs_list(p.bus, p.length)) {
                assert_int_equal(build(&p, 1, false), 0);
                nvme_prp_short(other, p.bus, p.length);
                assert_memory_equal(other, prp, sizeof(prp));
            }
        }
    }
}

static void test_longest(void **state)
{
    (void)state;
    const struct piece p = {0x1234000, 513 * NVME_PAGE_SIZE};
    assert_int_equal(build(&p, 1, true), 0);
    check_walk(&p, 1);
    const struct piece q = {0x1234000, 513 * NVME_PAGE_SIZE + 512};
    assert_int_equal(build(&q, 1, true), -E2BIG);
}

static void test_refused(void **state)
{
    (void)state;
    const struct piece odd = {0x1234002, 512};
    assert_int_equal(build(&odd, 1, true), -EINVAL);
    const struct piece hole[] = {{0x1000, 512}, {0x3000, 512}};
    assert_int_equal(build(hole, 2, true), -EINVAL);
    const struct piece begins_late[] = {{0x1000, 4096}, {0x3200, 512}};
    assert_int_equal(build(begins_late, 2, true), -EINVAL);
    const struct piece follows[] = {{0x1000, 512}, {0x1200, 512}};
    assert_int_equal(build(follows, 2, false), 0);
    check_walk(follows, 2);
}

static void test_random_pieces(void **state)
{
    (void)state;
    struct piece pieces[PIECES];
    srand(2);
    for (unsigned round = 0; round < 3000; round++) {
        unsigned count = 1 + (unsigned)rand() % 20;
        for (unsigned i = 0; i < count; i++) {
            uint64_t page = (uint64_t)(rand() % 0x100000) << 12;
            uint32_t start = i == 0 ? (uint32_t)(rand() % 1024) * 4 : 0;
            uint32_t pages = 1 + (uint32_t)rand() % 16;
            uint32_t end = i + 1 == count ? (uint32_t)(1 + rand() % 1024) * 4 : NVME_PAGE_SIZE;
            if (pages == 1 && end <= start) {
                end = NVME_PAGE_SIZE;
            }
            pieces[i].bus = page + start;
            pieces[i].length = (pages - 1) * NVME_PAGE_SIZE + end - start;
        }
        assert_int_equal(build(pieces, count, true), 0);
        check_walk(pieces, count);
    }
}

static void test_sgl(void **state)
{
    (void)state;
    struct nvme_sgl table[4], whole;
    nvme_sgl_add(table, 0, 0x1002, 30);
    nvme_sgl_end(prp, table, LIST_BUS, 1);
    memcpy(&whole, prp, sizeof(whole));
    assert_int_equal(whole.address, 0x1002);
    assert_int_equal(whole.length, 30);
    assert_int_equal(whole.type, NVME_SGL_DATA);
    nvme_sgl_add(table, 1, 0x5000, 482);
    nvme_sgl_end(prp, table, LIST_BUS, 2);
    memcpy(&whole, prp, sizeof(whole));
    assert_int_equal(whole.address, LIST_BUS);
    assert_int_equal(whole.length, 32);
    assert_int_equal(whole.type, NVME_SGL_LAST_SEGMENT);
    assert_int_equal(table[1].address, 0x5000);
    assert_int_equal(table[1].type, NVME_SGL_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_page), cmocka_unit_test(test_two_pages),
        cmocka_unit_test(test_list),     cmocka_unit_test(test_longest),
        cmocka_unit_test(test_refused),  cmocka_unit_test(test_random_pieces),
        cmocka_unit_test(test_sgl),      cmocka_unit_test(test_short_way_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
