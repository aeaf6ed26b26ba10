// The bus master's list: cut at 64 KiB, nothing lost, nothing beyond its room.
//
// links: drivers/block/ide/ide_prd.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <lib/errno.h>
#include "drivers/block/ide/ide_prd.h"

enum { MOST = 8 };
static struct ide_prd table[MOST];

static uint32_t bytes_of(const struct ide_prd *prd)
{
    return prd->bytes == 0 ? 0x10000 : prd->bytes;
}

static void one_piece(void **state)
{
    (void)state;
    assert_int_equal(ide_prd_add(table, 0, MOST, 0x12340, 512), 1);
    ide_prd_end(table, 1);
    assert_int_equal(table[0].base, 0x12340);
    assert_int_equal(table[0].bytes, 512);
    assert_int_equal(table[0].flags, IDE_PRD_LAST);
}

static void whole_64k_is_written_as_0(void **state)
{
    (void)state;
    assert_int_equal(ide_prd_add(table, 0, MOST, 0x20000, 0x10000), 1);
    assert_int_equal(table[0].bytes, 0);
}

// Every offset and many lengths: the pieces follow each other, none crosses, the sum is right.
static void no_piece_crosses(void **state)
{
    (void)state;
    for (uint64_t bus = 0xfff0; bus < 0x10010; bus += 2) {
        for (uint32_t bytes = 2; bytes <= 0x30000; bytes += 4094) {
            int count = ide_prd_add(table, 0, MOST, bus, bytes);
            uint64_t at = bus;
            assert_true(count > 0);
            for (int i = 0; i < count; i++) {
                assert_int_equal(table[i].base, at);
                assert_int_equal(at >> 16, (at + bytes_of(&table[i]) - 1) >> 16);
                at += bytes_of(&table[i]);
            }
            assert_int_equal(at, bus + bytes);
        }
    }
}

static void what_does_not_fit(void **state)
{
    (void)state;
    assert_int_equal(ide_prd_add(table, 0, MOST, 1, 512), -EINVAL);
    assert_int_equal(ide_prd_add(table, 0, MOST, 0, 511), -EINVAL);
    assert_int_equal(ide_prd_add(table, 0, MOST, 0, 0), -EINVAL);
    assert_int_equal(ide_prd_add(table, 0, MOST, 0xfffffe00, 1024), -EINVAL);
    assert_int_equal(ide_prd_add(table, 0, MOST, 0xfffffe00, 512), 1);
    assert_int_equal(ide_prd_add(table, MOST, MOST, 0, 512), -EINVAL);
    assert_int_equal(ide_prd_add(table, MOST - 1, MOST, 0xff00, 512), -EINVAL); // needs two
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_piece),
        cmocka_unit_test(whole_64k_is_written_as_0),
        cmocka_unit_test(no_piece_crosses),
        cmocka_unit_test(what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
