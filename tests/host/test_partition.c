// Partition tables: right ones of both kinds, and those that contradict themselves.
//
// links: kernel/dev/partition_table.c kernel/lib/checksum.c kernel/lib/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <lib/checksum.h>
#include <lib/errno.h>
#include <lib/string.h>

#include "../../kernel/dev/partition_table.h"

enum { SECTORS = 2048, BLOCK_MOST = 4096 };
static uint8_t disk[SECTORS][BLOCK_MOST]; // of a block so much as there is
static uint32_t block_size = 512;
static struct partition_table table;
static const char *why;

static int disk_read(void *context, uint64_t block, uint8_t *data)
{
    (void)context;
    assert_true(block < SECTORS);
    memcpy(data, disk[block], block_size);
    return 0;
}

static int parse_blocks(uint64_t blocks)
{
    uint8_t *block = malloc(block_size); // so that a byte too far is seen
    const struct partition_disk of = {
        .blocks = blocks, .block_size = block_size, .block = block, .read = disk_read};
    int error = partition_parse(&table, &of, &why);
    free(block);
    return error;
}

static int parse(void)
{
    return parse_blocks(SECTORS);
}

static void put32(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static void put64(uint8_t *to, uint64_t value)
{
    put32(to, (uint32_t)value);
    put32(to + 4, (uint32_t)(value >> 32));
}

static void mbr_put(unsigned sector, unsigned index, uint8_t type, uint32_t start, uint32_t count)
{
    uint8_t *at = disk[sector] + 446 + 16 * index;
    at[4] = type;
    put32(at + 8, start);
    put32(at + 12, count);
    disk[sector][510] = 0x55;
    disk[sector][511] = 0xaa;
}

static int wipe(void **state)
{
    (void)state;
    memset(disk, 0, sizeof(disk));
    block_size = 512;
    return 0;
}

static void test_no_table(void **state)
{
    (void)state;
    assert_int_equal(parse(), 0);
    assert_null(table.kind);
    // A boot sector of a file system: the signature, and code where entries would be.
    memset(disk[0], 0xf4, 512);
    disk[0][510] = 0x55;
    disk[0][511] = 0xaa;
    assert_int_equal(parse(), 0);
    assert_null(table.kind);
    assert_int_equal(table.count, 0);
    assert_int_equal(parse_blocks(0), 0);
}

static void test_mbr(void **state)
{
    (void)state;
    mbr_put(0, 0, 0x83, 64, 100);
    mbr_put(0, 2, 0x0c, 200, SECTORS - 200);
    mbr_put(0, 3, 0x83, 200, SECTORS); // beyond the end
    assert_int_equal(parse(), 0);
    assert_string_equal(table.kind, "mbr");
    assert_int_equal(table.count, 2);
    assert_int_equal(table.partitions[0].number, 1);
    assert_int_equal(table.partitions[0].start, 64);
    assert_int_equal(table.partitions[0].sectors, 100);
    assert_int_equal(table.partitions[1].number, 3);
    assert_int_equal(table.partitions[1].sectors, SECTORS - 200);
    assert_non_null(why);
}

static void test_logical(void **state)
{
    (void)state;
    mbr_put(0, 0, 0x83, 10, 10);
    mbr_put(0, 1, 0x05, 100, 900);
    mbr_put(100, 0, 0x83, 1, 50);
    mbr_put(100, 1, 0x05, 100, 100);
    mbr_put(200, 0, 0x82, 2, 60);
    assert_int_equal(parse(), 0);
    assert_null(why);
    assert_int_equal(table.count, 3);
    assert_int_equal(table.partitions[1].number, 5);
    assert_int_equal(table.partitions[1].start, 101);
    assert_int_equal(table.partitions[2].number, 6);
    assert_int_equal(table.partitions[2].start, 202);
    // A chain that turns back ends.
    mbr_put(200, 1, 0x05, 100, 100);
    assert_int_equal(parse(), 0);
    assert_string_equal(why, "the chain of logical partitions turns back");
    assert_int_equal(table.count, 3);
    // One that leaves the disk, too.
    mbr_put(200, 1, 0x05, 0xfffffff0, 100);
    assert_int_equal(parse(), 0);
    assert_string_equal(why, "the chain of logical partitions leaves the disk");
}

// A GPT of 8 entries of 128 bytes, two of them used.
static void gpt_make(uint64_t at, uint64_t entries_at)
{
    uint8_t *e = disk[entries_at], *h = disk[at];
    mbr_put(0, 0, 0xee, 1, SECTORS - 1);
    for (unsigned i = 0; i < 2; i++, e += 256) { // entries 1 and 3
        memset(e, 0x11 * (i + 1), 32);
        put64(e + 32, 100 + 200 * i);
        put64(e + 40, 199 + 200 * i);
        e[56] = 'p';
        e[58] = (uint8_t)('0' + i);
        e[60] = 0xe9; // not ASCII
        e[61] = 0x01;
    }
    memcpy(h, "EFI PART", 8);
    put32(h + 8, 0x10000);
    put32(h + 12, 92);
    put64(h + 24, at);
    put64(h + 40, 34);
    put64(h + 48, SECTORS - 34);
    put64(h + 72, entries_at);
    put32(h + 80, 8);
    put32(h + 84, 128);
    put32(h + 88, crc32(disk[entries_at], 8 * 128));
    put32(h + 16, 0);
    put32(h + 16, crc32(h, 92));
}

static void test_gpt(void **state)
{
    (void)state;
    gpt_make(1, 2);
    assert_int_equal(parse(), 0);
    assert_null(why);
    assert_string_equal(table.kind, "gpt");
    assert_int_equal(table.count, 2);
    assert_int_equal(table.partitions[0].number, 1);
    assert_int_equal(table.partitions[1].number, 3);
    assert_int_equal(table.partitions[1].start, 300);
    assert_int_equal(table.partitions[1].sectors, 100);
    assert_string_equal(table.partitions[1].name, "p1?");
}

static void test_gpt_second(void **state)
{
    (void)state;
    gpt_make(1, 2);
    gpt_make(SECTORS - 1, SECTORS - 10);
    disk[1][60] ^= 1; // one bit
    assert_int_equal(parse(), 0);
    assert_int_equal(table.count, 2);
    assert_string_equal(why, "the first GPT is broken, the second one is used");
    disk[SECTORS - 10][0] ^= 1; // an entry of the second
    assert_int_equal(parse(), -EINVAL);
    assert_string_equal(why, "GPT entries with a wrong CRC");
    assert_int_equal(table.count, 0);
    assert_null(table.kind);
}

static void test_gpt_contradictions(void **state)
{
    (void)state;
    static const struct {
        unsigned offset;
        uint32_t value;
    } cases[] = {{12, 91},         {12, 513},        {24, 2},          {48, SECTORS},
                 {72, SECTORS},    {80, 0},          {80, 0xffffffff}, {84, 127},
                 {84, 0},          {84, 0x80000000}, {84, 1024},       {84, 192},
                 {72, 0xffffffff}, {40, SECTORS},    {80, 1025},       {76, 1}};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(disk, 0, sizeof(disk));
        gpt_make(1, 2);
        put32(disk[1] + cases[i].offset, cases[i].value);
        put32(disk[1] + 16, 0);
        put32(disk[1] + 16, crc32(disk[1], 92));
        assert_int_equal(parse(), -EINVAL);
        assert_int_equal(table.count, 0);
        assert_non_null(why);
    }
}

// Blocks of 4 KiB: the tables count those, and what is found is told in sectors.
static void test_large_blocks(void **state)
{
    (void)state;
    block_size = 4096;
    mbr_put(0, 0, 0x83, 64, 100);
    mbr_put(0, 1, 0x05, 1000, 900);
    mbr_put(1000, 0, 0x83, 1, 50);
    mbr_put(1000, 1, 0x05, 100, 100);
    mbr_put(1100, 0, 0x83, 2, SECTORS - 1102);
    assert_int_equal(parse(), 0);
    assert_null(why);
    assert_int_equal(table.count, 3);
    assert_int_equal(table.partitions[0].start, 64 * 8);
    assert_int_equal(table.partitions[0].sectors, 100 * 8);
    assert_int_equal(table.partitions[1].start, 1001 * 8);
    assert_int_equal(table.partitions[2].start, 1102 * 8);
    assert_int_equal(table.partitions[2].sectors, (SECTORS - 1102) * 8);
    memset(disk, 0, sizeof(disk));
    gpt_make(1, 2);
    assert_int_equal(parse(), 0);
    assert_null(why);
    assert_int_equal(table.count, 2);
    assert_int_equal(table.partitions[0].start, 100 * 8);
    assert_int_equal(table.partitions[1].start, 300 * 8);
    assert_int_equal(table.partitions[1].sectors, 100 * 8);
}

// In blocks of 4 KiB there is room for larger headers and entries than in sectors.
static void test_large_entries(void **state)
{
    (void)state;
    block_size = 4096;
    gpt_make(1, 2);
    put32(disk[1] + 84, 1024); // 8 entries of 1,024 bytes: two blocks
    memset(disk[2] + 256, 0, 256);
    memset(disk[3] + 1024, 0x55, 32); // the sixth
    put64(disk[3] + 1024 + 32, 500);
    put64(disk[3] + 1024 + 40, 500);
    uint32_t crc = crc32(disk[2], 4096);
    put32(disk[1] + 88, crc32_update(crc, disk[3], 4096));
    put32(disk[1] + 12, 4096);
    put32(disk[1] + 16, 0);
    put32(disk[1] + 16, crc32(disk[1], 4096));
    assert_int_equal(parse(), 0);
    assert_null(why);
    assert_int_equal(table.count, 2);
    assert_int_equal(table.partitions[1].number, 6);
    assert_int_equal(table.partitions[1].start, 500 * 8);
    assert_int_equal(table.partitions[1].sectors, 8);
    put32(disk[1] + 12, 4097);
    put32(disk[1] + 16, 0);
    assert_int_equal(parse(), -EINVAL);
}

static void test_crc32(void **state)
{
    (void)state;
    assert_int_equal(crc32("123456789", 9), 0xcbf43926);
    assert_int_equal(crc32("", 0), 0);
    assert_int_equal(crc32_update(crc32("1234", 4), "56789", 5), 0xcbf43926);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_no_table, wipe),
        cmocka_unit_test_setup(test_mbr, wipe),
        cmocka_unit_test_setup(test_logical, wipe),
        cmocka_unit_test_setup(test_gpt, wipe),
        cmocka_unit_test_setup(test_gpt_second, wipe),
        cmocka_unit_test_setup(test_gpt_contradictions, wipe),
        cmocka_unit_test_setup(test_large_blocks, wipe),
        cmocka_unit_test_setup(test_large_entries, wipe),
        cmocka_unit_test(test_crc32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
