// Commands as bytes, and IDENTIFY pages: good ones, old ones, wrong ones.
//
// links: drivers/block/ahci/ahci_cmd.c drivers/block/ata/ata.c kernel/lib/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lib/errno.h>
#include <lib/string.h>

#include "../../drivers/block/ahci/ahci_cmd.h"

static struct ata_identity modern = {.has_lba48 = true, .has_flush = true};
static struct ata_identity old = {.has_lba48 = false, .has_flush = true};

// ---- commands -----------------------------------------------------------------------------------

static void test_read_fis(void **state)
{
    (void)state;
    struct ata_registers regs;
    uint8_t fis[20];
    assert_int_equal(ata_build_rw(&regs, &modern, false, 0x123456789abc, 0x1234), 0);
    ahci_build_fis(fis, &regs);
    const uint8_t expected[20] = {0x27, 0x80, 0x25, 0,    0xbc, 0x9a, 0x78, 0x40, 0x56, 0x34,
                                  0x12, 0,    0x34, 0x12, 0,    0,    0,    0,    0,    0};
    assert_memory_equal(fis, expected, sizeof(fis));
}

static void test_write_fis_most_sectors(void **state)
{
    (void)state;
    struct ata_registers regs;
    uint8_t fis[20];
    assert_int_equal(ata_build_rw(&regs, &modern, true, 1, 65536), 0);
    ahci_build_fis(fis, &regs);
    assert_int_equal(fis[2], 0x35);
    assert_int_equal(fis[12], 0); // 65,536 is written as 0
    assert_int_equal(fis[13], 0);
}

static void test_old_disk(void **state)
{
    (void)state;
    struct ata_registers regs;
    uint8_t fis[20];
    assert_int_equal(ata_build_rw(&regs, &old, false, 0xabcdef1, 256), 0);
    ahci_build_fis(fis, &regs);
    assert_int_equal(fis[2], 0xc8);
    assert_int_equal(fis[4], 0xf1);
    assert_int_equal(fis[5], 0xde);
    assert_int_equal(fis[6], 0xbc);
    assert_int_equal(fis[7], 0x4a); // LBA, and bits 27:24
    assert_int_equal(fis[8], 0);
    assert_int_equal(fis[12], 0);
    assert_int_equal(fis[13], 0);
    assert_int_equal(ata_build_rw(&regs, &old, false, 0, 257), -EINVAL);
    assert_int_equal(ata_build_rw(&regs, &old, false, (1 << 28) - 1, 1), 0);
    assert_int_equal(ata_build_rw(&regs, &old, false, (1 << 28) - 1, 2), -EINVAL);
    ata_build_flush(&regs, &old);
    assert_int_equal(regs.command, 0xe7);
}

static void test_refused(void **state)
{
    (void)state;
    struct ata_registers regs;
    assert_int_equal(ata_build_rw(&regs, &modern, false, 0, 0), -EINVAL);
    assert_int_equal(ata_build_rw(&regs, &modern, false, 0, 65537), -EINVAL);
    assert_int_equal(ata_build_rw(&regs, &modern, false, BIT64(48), 1), -EINVAL);
    assert_int_equal(ata_build_rw(&regs, &modern, false, BIT64(48) - 1, 1), 0);
    assert_int_equal(ata_build_rw(&regs, &modern, false, BIT64(48) - 1, 2), -EINVAL);
    assert_int_equal(ata_build_rw(&regs, &modern, false, UINT64_MAX, 2), -EINVAL);
}

static void test_queued_fis(void **state)
{
    (void)state;
    struct ata_identity disk = {.has_lba48 = true, .has_ncq = true};
    struct ata_registers regs;
    uint8_t fis[20];
    assert_int_equal(ata_build_fpdma(&regs, &disk, false, 0x123456789abc, 0x1234, 21), 0);
    ahci_build_fis(fis, &regs);
    // The count stands where features are, the tag in bits 7:3 of the count.
    const uint8_t expected[20] = {0x27, 0x80, 0x60,    0x34, 0xbc, 0x9a, 0x78, 0x40, 0x56, 0x34,
                                  0x12, 0x12, 21 << 3, 0,    0,    0,    0,    0,    0,    0};
    assert_memory_equal(fis, expected, sizeof(fis));
    assert_int_equal(ata_build_fpdma(&regs, &disk, true, 1, 65536, 31), 0);
    ahci_build_fis(fis, &regs);
    assert_int_equal(fis[2], 0x61);
    assert_int_equal(fis[3], 0); // 65,536 is written as 0
    assert_int_equal(fis[11], 0);
    assert_int_equal(fis[12], 31 << 3);
    assert_int_equal(ata_build_fpdma(&regs, &disk, false, 0, 1, 32), -EINVAL);
    assert_int_equal(ata_build_fpdma(&regs, &disk, false, 0, 0, 0), -EINVAL);
    assert_int_equal(ata_build_fpdma(&regs, &disk, false, BIT64(48) - 1, 2, 0), -EINVAL);
    assert_int_equal(ata_build_fpdma(&regs, &modern, false, 0, 1, 0), -EINVAL); // without NCQ
}

static void test_pio_commands(void **state)
{
    (void)state;
    struct ata_identity disk = {.has_lba48 = true, .by_pio = true};
    struct ata_registers regs;
    assert_int_equal(ata_build_rw(&regs, &disk, false, 1, 1), 0);
    assert_int_equal(regs.command, 0x24);
    assert_int_equal(ata_build_rw(&regs, &disk, true, 1, 1), 0);
    assert_int_equal(regs.command, 0x34);
    disk.has_lba48 = false;
    assert_int_equal(ata_build_rw(&regs, &disk, false, 1, 1), 0);
    assert_int_equal(regs.command, 0x20);
    assert_int_equal(ata_build_rw(&regs, &disk, true, 1, 1), 0);
    assert_int_equal(regs.command, 0x30);
}

static void test_ncq_log(void **state)
{
    (void)state;
    struct ata_ncq_error error;
    struct ata_registers regs;
    uint8_t page[512] = {[0] = 13,   [2] = 0x41, [3] = 0x40, [4] = 0xbc, [5] = 0x9a,
                         [6] = 0x78, [8] = 0x56, [9] = 0x34, [10] = 0x12};
    uint8_t sum = 0;
    for (unsigned i = 0; i < 511; i++) {
        sum = (uint8_t)(sum + page[i]);
    }
    page[511] = (uint8_t)-sum;
    assert_int_equal(ata_parse_ncq_log(&error, page), 0);
    assert_int_equal(error.tag, 13);
    assert_int_equal(error.status, 0x41);
    assert_int_equal(error.error, 0x40);
    assert_true(error.lba == 0x123456789abc);
    page[0] |= 0x60; // reserved bits are no part of the tag
    page[511] = (uint8_t)(page[511] - 0x60);
    assert_int_equal(ata_parse_ncq_log(&error, page), 0);
    assert_int_equal(error.tag, 13);
    page[100] ^= 1; // the sum
    assert_int_equal(ata_parse_ncq_log(&error, page), -EINVAL);
    page[100] ^= 1;
    page[0] |= 0x80; // not of a queued command
    page[511] = (uint8_t)(page[511] - 0x80);
    assert_int_equal(ata_parse_ncq_log(&error, page), -EINVAL);
    ata_build_read_log(&regs, 0x10);
    assert_int_equal(regs.command, 0x2f);
    assert_int_equal(regs.count, 1);
    assert_true(regs.lba == 0x10);
}

static void test_flush_fis(void **state)
{
    (void)state;
    struct ata_registers regs;
    uint8_t fis[20];
    ata_build_flush(&regs, &modern);
    ahci_build_fis(fis, &regs);
    const uint8_t expected[20] = {0x27, 0x80, 0xea, 0, 0, 0, 0, 0x40};
    assert_memory_equal(fis, expected, sizeof(fis));
}

static void test_header(void **state)
{
    (void)state;
    struct ahci_command_header header;
    memset(&header, 0xff, sizeof(header));
    ahci_build_header(&header, 0x123456780, 56, true);
    assert_int_equal(header.flags, 56u << 16 | 0x40 | 5);
    assert_int_equal(header.transferred, 0);
    assert_int_equal(header.table_low, 0x23456780);
    assert_int_equal(header.table_high, 1);
    ahci_build_header(&header, 0x1000, 0, false);
    assert_int_equal(header.flags, 5);
}

static void test_prd(void **state)
{
    (void)state;
    struct ahci_prd prd;
    assert_int_equal(ahci_build_prd(&prd, 0xfedcba9876, 512), 0);
    assert_int_equal(prd.base_low, 0xdcba9876);
    assert_int_equal(prd.base_high, 0xfe);
    assert_int_equal(prd.count, 511);
    assert_int_equal(ahci_build_prd(&prd, 0x1000, 4 << 20), 0);
    assert_int_equal(prd.count, 0x3fffff);
    assert_int_equal(ahci_build_prd(&prd, 0x1000, 2), 0);
    assert_int_equal(prd.count, 1);
    assert_int_equal(ahci_build_prd(&prd, 0x1001, 512), -EINVAL);
    assert_int_equal(ahci_build_prd(&prd, 0x1000, 511), -EINVAL);
    assert_int_equal(ahci_build_prd(&prd, 0x1000, 0), -EINVAL);
    assert_int_equal(ahci_build_prd(&prd, 0x1000, (4 << 20) + 2), -EINVAL);
}

// ---- IDENTIFY -----------------------------------------------------------------------------------

static uint8_t page[512];

static void put_word(unsigned word, uint16_t value)
{
    page[word * 2] = (uint8_t)value;
    page[word * 2 + 1] = (uint8_t)(value >> 8);
}

// As disks do it: the bytes of each word exchanged, padded with blanks.
static void put_string(unsigned word, unsigned words, const char *s)
{
    for (unsigned i = 0; i < words * 2; i++) {
        char c = i < strlen(s) ? s[i] : ' ';
        page[word * 2 + (i ^ 1)] = (uint8_t)c;
    }
}

static int setup(void **state)
{
    (void)state;
    memset(page, 0, sizeof(page));
    put_word(0, 0x0040);
    put_string(10, 10, "  QM00001");
    put_string(23, 4, "2.5+");
    put_string(27, 20, "QEMU HARDDISK");
    put_word(49, BIT(9) | BIT(8));
    put_word(60, 0x0000);
    put_word(61, 0x0002); // 131,072
    put_word(75, 31);
    put_word(76, BIT(8));
    put_word(82, BIT(5));
    put_word(83, 0x4000 | BIT(10) | BIT(12) | BIT(13));
    put_word(84, 0x4000);
    put_word(85, BIT(5));
    put_word(100, 0);
    put_word(101, 2);
    put_word(106, 0x6000);
    put_word(217, 1);
    return 0;
}

static int parse(struct ata_identity *identity)
{
    const char *why;
    int error = ata_parse_identity(identity, page, &why);
    assert_true((error == 0) == (why == NULL)); // a refusal says why
    return error;
}

static void test_identify(void **state)
{
    (void)state;
    struct ata_identity identity;
    assert_int_equal(parse(&identity), 0);
    assert_string_equal(identity.model, "QEMU HARDDISK");
    assert_string_equal(identity.serial, "QM00001"); // blanks in front are cut, too
    assert_string_equal(identity.firmware, "2.5+");
    assert_int_equal(identity.sectors, 131072);
    assert_true(identity.has_lba48 && identity.has_flush && identity.has_ncq);
    assert_true(identity.has_write_cache && identity.write_cache_on);
    assert_false(identity.has_fua);
    assert_int_equal(identity.queue_depth, 32);
    assert_int_equal(identity.rotation, 1);
}

static void test_identify_strings(void **state)
{
    (void)state;
    struct ata_identity identity;
    put_string(27, 20, "0123456789012345678901234567890123456789");
    put_string(10, 10, "                    ");
    put_string(23, 4, "a\x1b[2J\x80");
    assert_int_equal(parse(&identity), 0);
    assert_int_equal(strlen(identity.model), 40);
    assert_string_equal(identity.serial, "");
    assert_string_equal(identity.firmware, "a?[2J?"); // no escape sequence reaches the console
}

static void test_identify_large(void **state)
{
    (void)state;
    struct ata_identity identity;
    put_word(100, 0);
    put_word(101, 0);
    put_word(102, 1); // 2^32 sectors: 2 TiB
    assert_int_equal(parse(&identity), 0);
    assert_int_equal(identity.sectors, BIT64(32));
    put_word(103, 0xffff); // more than 48 bits can address
    assert_int_equal(parse(&identity), 0);
    assert_int_equal(identity.sectors, BIT64(48));
}

static void test_identify_old(void **state)
{
    (void)state;
    struct ata_identity identity;
    put_word(83, 0xffff); // not valid: bits 15:14 are not 01
    put_word(101, 99);
    assert_int_equal(parse(&identity), 0);
    assert_false(identity.has_lba48);
    assert_false(identity.has_flush);
    assert_int_equal(identity.sectors, 131072);
    put_word(61, 0xffff);
    assert_int_equal(parse(&identity), 0);
    assert_int_equal(identity.sectors, BIT64(28));
}

static void test_identify_sector_size(void **state)
{
    (void)state;
    struct ata_identity identity;
    put_word(106, 0x4000 | BIT(12));
    put_word(117, 256);
    assert_int_equal(parse(&identity), 0); // 256 words are 512 bytes
    assert_int_equal(identity.block_shift, 0);
    put_word(117, 0); // a number that would overflow, and is 512 when it does
    put_word(118, 0xffff);
    assert_int_equal(parse(&identity), -EOPNOTSUPP);
    static const uint16_t odd[] = {0, 1, 128, 255, 257, 260, 264, 1000, 2049, 4096, 0xffff};
    put_word(118, 0);
    for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
        put_word(117, odd[i]);
        assert_int_equal(parse(&identity), -EOPNOTSUPP);
    }
    put_word(118, 1); // 65,792 words
    put_word(117, 256);
    assert_int_equal(parse(&identity), -EOPNOTSUPP);
    put_word(118, 0);
    put_word(117, 2048);
    put_word(106, 0x4000 | BIT(13) | 3); // eight logical in a physical one: that is none of ours
    assert_int_equal(parse(&identity), 0);
    assert_int_equal(identity.block_shift, 0);
    put_word(106, 0x8000 | BIT(12)); // not valid: bits 15:14 are not 01
    assert_int_equal(parse(&identity), 0);
    assert_int_equal(identity.block_shift, 0);
}

// The disk counts blocks, everybody else sectors of 512 bytes.
static void test_blocks_of_4_kib(void **state)
{
    (void)state;
    struct ata_identity disk;
    struct ata_registers regs;
    put_word(106, 0x4000 | BIT(12));
    put_word(117, 2048);
    put_word(101, 0xffff);
    put_word(102, 0xffff);
    put_word(103, 0xffff); // more than 48 bits can address
    assert_int_equal(parse(&disk), 0);
    assert_int_equal(disk.block_shift, 3);
    assert_true(disk.sectors == BIT64(48)); // as far as the rest of the kernel counts
    assert_int_equal(ata_build_rw(&regs, &disk, false, BIT64(51) - 8, 8), 0);
    assert_true(regs.lba == BIT64(48) - 1 && regs.count == 1);
    assert_int_equal(ata_build_rw(&regs, &disk, false, BIT64(51) - 8, 16), -EINVAL);
    assert_int_equal(ata_build_rw(&regs, &disk, false, BIT64(51), 8), -EINVAL);
    assert_int_equal(ata_build_rw(&regs, &disk, true, 8, 8 * 65536), 0);
    assert_true(regs.lba == 1 && regs.count == 65536);
    assert_int_equal(ata_build_rw(&regs, &disk, true, 8, 8 * 65537), -EINVAL);
    for (unsigned i = 1; i < 8; i++) { // a block is written whole, or what lies beside is lost
        assert_int_equal(ata_build_rw(&regs, &disk, true, i, 8), -EINVAL);
        assert_int_equal(ata_build_rw(&regs, &disk, true, 8, i), -EINVAL);
        assert_int_equal(ata_build_rw(&regs, &disk, true, 8, 8 + i), -EINVAL);
        assert_int_equal(ata_build_fpdma(&regs, &disk, true, i, 8, 0), -EINVAL);
        assert_int_equal(ata_build_fpdma(&regs, &disk, true, 8, 8 + i, 0), -EINVAL);
    }
    assert_int_equal(ata_build_fpdma(&regs, &disk, false, 24, 40, 5), 0);
    assert_true(regs.lba == 3 && regs.count == 5 && regs.tag == 5);
    assert_int_equal(ata_build_fpdma(&regs, &disk, false, 24, 0, 5), -EINVAL);
}

static void test_identify_refused(void **state)
{
    (void)state;
    struct ata_identity identity;
    put_word(0, 0x8580); // ATAPI
    assert_int_equal(parse(&identity), -ENODEV);
    setup(NULL);
    put_word(49, BIT(8));
    assert_int_equal(parse(&identity), -EOPNOTSUPP);
    setup(NULL);
    put_word(61, 0);
    put_word(101, 0);
    assert_int_equal(parse(&identity), -ENODEV);
    memset(page, 0, sizeof(page));
    assert_int_equal(parse(&identity), -ENODEV);
    memset(page, 0xff, sizeof(page));
    assert_int_equal(parse(&identity), -ENODEV);
}

static void test_identify_checksum(void **state)
{
    (void)state;
    struct ata_identity identity;
    page[510] = 0xa5;
    uint8_t sum = 0;
    for (unsigned i = 0; i < 511; i++) {
        sum = (uint8_t)(sum + page[i]);
    }
    page[511] = (uint8_t)-sum;
    assert_int_equal(parse(&identity), 0);
    page[200] ^= 1;
    assert_int_equal(parse(&identity), -ENODEV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_fis),
        cmocka_unit_test(test_write_fis_most_sectors),
        cmocka_unit_test(test_old_disk),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_queued_fis),
        cmocka_unit_test(test_pio_commands),
        cmocka_unit_test(test_ncq_log),
        cmocka_unit_test(test_flush_fis),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_prd),
        cmocka_unit_test_setup(test_identify, setup),
        cmocka_unit_test_setup(test_identify_strings, setup),
        cmocka_unit_test_setup(test_identify_large, setup),
        cmocka_unit_test_setup(test_identify_old, setup),
        cmocka_unit_test_setup(test_identify_sector_size, setup),
        cmocka_unit_test_setup(test_blocks_of_4_kib, setup),
        cmocka_unit_test_setup(test_identify_refused, setup),
        cmocka_unit_test_setup(test_identify_checksum, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
