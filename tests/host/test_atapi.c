// Packets for a CD drive as bytes, and its answers: good ones, short ones, wrong ones.
//
// links: drivers/block/ahci/ahci_cmd.c drivers/block/ata/ata.c drivers/block/ata/atapi.c
// links: kernel/lib/string.c kernel/lib/text.c kernel/lib/format.c tests/host/stubs/panic.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lib/errno.h>
#include <lib/string.h>

#include "../../drivers/block/ahci/ahci_cmd.h"
#include "../../drivers/block/ata/atapi.h"

static const char *why;

// ---- commands -----------------------------------------------------------------------------------

static void test_read(void **state)
{
    (void)state;
    struct atapi_packet packet;
    assert_int_equal(atapi_build_read(&packet, 0x12345678ull * 4, 0x1234 * 4), 0);
    const uint8_t expected[16] = {0x28, 0, 0x12, 0x34, 0x56, 0x78, 0, 0x12, 0x34};
    assert_memory_equal(packet.bytes, expected, sizeof(expected));
    assert_int_equal(packet.length, 0x1234 * 2048);
    assert_int_equal(atapi_build_read(&packet, 0xffffffffull * 4, 4), 0);
    assert_int_equal(atapi_build_read(&packet, 0, 65535 * 4), 0);
    assert_int_equal(packet.length, 65535 * 2048);
}

static void test_read_refused(void **state)
{
    (void)state;
    struct atapi_packet packet;
    assert_int_equal(atapi_build_read(&packet, 0, 0), -EINVAL);
    assert_int_equal(atapi_build_read(&packet, 1, 4), -EINVAL); // not where a block begins
    assert_int_equal(atapi_build_read(&packet, 4, 5), -EINVAL); // not whole blocks
    assert_int_equal(atapi_build_read(&packet, 0, 65536 * 4), -EINVAL);
    assert_int_equal(atapi_build_read(&packet, 0xffffffffull * 4, 8), -EINVAL);
    assert_int_equal(atapi_build_read(&packet, BIT64(34), 4), -EINVAL);
    assert_int_equal(atapi_build_read(&packet, UINT64_MAX - 3, 4), -EINVAL);
}

static void test_small_packets(void **state)
{
    (void)state;
    struct atapi_packet packet;
    const uint8_t ready[16] = {0}, sense[16] = {0x03, 0, 0, 0, 18};
    const uint8_t inquiry[16] = {0x12, 0, 0, 0, 36}, capacity[16] = {0x25};
    memset(&packet, 0xff, sizeof(packet));
    atapi_build_test_unit_ready(&packet);
    assert_memory_equal(packet.bytes, ready, 16);
    assert_int_equal(packet.length, 0);
    atapi_build_request_sense(&packet);
    assert_memory_equal(packet.bytes, sense, 16);
    assert_int_equal(packet.length, 18);
    atapi_build_inquiry(&packet);
    assert_memory_equal(packet.bytes, inquiry, 16);
    assert_int_equal(packet.length, 36);
    atapi_build_read_capacity(&packet);
    assert_memory_equal(packet.bytes, capacity, 16);
    assert_int_equal(packet.length, 8);
}

static void test_ahci_table(void **state)
{
    (void)state;
    uint8_t table[AHCI_TABLE_PRDT + 16];
    struct atapi_packet packet;
    struct atapi_identity drive = {.packet_size = 12, .has_dma = true};
    memset(table, 0xcc, sizeof(table));
    atapi_build_read_capacity(&packet);
    ahci_build_packet(table, &packet, &drive);
    const uint8_t fis[20] = {0x27, 0x80, 0xa0, 0x01};
    assert_memory_equal(table, fis, sizeof(fis));
    assert_memory_equal(table + 0x40, packet.bytes, 16);
    assert_int_equal(table[AHCI_TABLE_PRDT], 0xcc); // nothing of the list behind it
    drive.needs_direction = true;
    ahci_build_packet(table, &packet, &drive);
    assert_int_equal(table[3], 0x05);
    atapi_build_test_unit_ready(&packet); // without data no DMA
    ahci_build_packet(table, &packet, &drive);
    assert_int_equal(table[3], 0);
}

// ---- identity -----------------------------------------------------------------------------------

static uint8_t page[512];

static void put_word(unsigned word, uint16_t value)
{
    page[word * 2] = (uint8_t)value;
    page[word * 2 + 1] = (uint8_t)(value >> 8);
}

static void put_string(unsigned word, unsigned words, const char *text)
{
    for (unsigned i = 0; i < words * 2; i++) {
        page[word * 2 + (i ^ 1)] = (uint8_t)(*text != '\0' ? *text++ : ' ');
    }
}

static int setup(void **state)
{
    (void)state;
    memset(page, 0, sizeof(page));
    put_word(0, 0x8580); // ATAPI, CD, removable, packets of 12 bytes
    put_string(10, 10, "  QM00005");
    put_string(23, 4, "2.5+");
    put_string(27, 20, "QEMU DVD-ROM");
    put_word(49, 0x0300);
    return 0;
}

static void test_identity(void **state)
{
    (void)state;
    struct atapi_identity identity;
    assert_int_equal(atapi_parse_identity(&identity, page, &why), 0);
    assert_null(why);
    assert_string_equal(identity.model, "QEMU DVD-ROM");
    assert_string_equal(identity.serial, "QM00005");
    assert_string_equal(identity.firmware, "2.5+");
    assert_int_equal(identity.packet_size, 12);
    assert_true(identity.has_dma);
    assert_false(identity.needs_direction);
    put_word(0, 0x8581);
    put_word(62, 0x8400); // must be told the direction, and can DMA
    put_word(49, 0x0200);
    assert_int_equal(atapi_parse_identity(&identity, page, &why), 0);
    assert_int_equal(identity.packet_size, 16);
    assert_true(identity.needs_direction && identity.has_dma);
    put_word(62, 0x8000);
    assert_int_equal(atapi_parse_identity(&identity, page, &why), 0);
    assert_false(identity.has_dma);
}

static void test_identity_refused(void **state)
{
    (void)state;
    struct atapi_identity identity;
    put_word(0, 0x0040); // a disk
    assert_int_equal(atapi_parse_identity(&identity, page, &why), -ENODEV);
    assert_non_null(strstr(why, "not that of an ATAPI"));
    put_word(0, 0x8180); // a tape
    assert_int_equal(atapi_parse_identity(&identity, page, &why), -ENODEV);
    assert_non_null(strstr(why, "not a CD"));
    put_word(0, 0x8582);
    assert_int_equal(atapi_parse_identity(&identity, page, &why), -ENODEV);
    assert_non_null(strstr(why, "packets"));
    put_word(0, 0x8580);
    put_word(255, 0x00a5); // a checksum, and not the right one
    assert_int_equal(atapi_parse_identity(&identity, page, &why), -ENODEV);
    assert_non_null(strstr(why, "checksum"));
}

static void test_inquiry(void **state)
{
    (void)state;
    char model[17];
    uint8_t data[36] = {0x05, 0x80};
    memcpy(data + 8, "QEMU    QEMU DVD-ROM    2.5+", 28);
    assert_int_equal(atapi_parse_inquiry(model, data, sizeof(data), &why), 0);
    assert_string_equal(model, "QEMU DVD-ROM");
    memcpy(data + 16, "A\x01  b\0\0\0\0\0\0\0\0\0\0\0", 16); // odd letters
    assert_int_equal(atapi_parse_inquiry(model, data, sizeof(data), &why), 0);
    assert_string_equal(model, "A?  b");
    memset(data + 16, 'x', 16);
    assert_int_equal(atapi_parse_inquiry(model, data, sizeof(data), &why), 0);
    assert_string_equal(model, "xxxxxxxxxxxxxxxx");
    memset(data + 8, ' ', 24);
    assert_int_equal(atapi_parse_inquiry(model, data, sizeof(data), &why), 0);
    assert_string_equal(model, "");
    assert_int_equal(atapi_parse_inquiry(model, data, 35, &why), -ENODEV);
    data[1] = 0;
    assert_int_equal(atapi_parse_inquiry(model, data, sizeof(data), &why), -ENODEV);
    data[0] = 0x25; // the right kind, but nothing is connected
    assert_int_equal(atapi_parse_inquiry(model, data, sizeof(data), &why), -ENODEV);
}

static void test_capacity(void **state)
{
    (void)state;
    uint64_t sectors;
    uint8_t data[8] = {0, 0, 0x0c, 0x34, 0, 0, 0x08, 0};
    assert_int_equal(atapi_parse_capacity(&sectors, data, 8, &why), 0);
    assert_int_equal(sectors, (0xc34 + 1) * 4);
    memset(data, 0xff, 4);
    assert_int_equal(atapi_parse_capacity(&sectors, data, 8, &why), -EINVAL);
    data[3] = 0xfe;
    assert_int_equal(atapi_parse_capacity(&sectors, data, 8, &why), 0);
    assert_true(sectors == 0xffffffffull * 4);
    data[6] = 0x09; // 2,304 bytes
    assert_int_equal(atapi_parse_capacity(&sectors, data, 8, &why), -EINVAL);
    assert_int_equal(sectors, 0);
    data[6] = 0x08;
    assert_int_equal(atapi_parse_capacity(&sectors, data, 7, &why), -EINVAL);
}

// ---- errors -------------------------------------------------------------------------------------

static enum atapi_verdict judged(uint8_t key, uint8_t asc, uint8_t ascq)
{
    return atapi_judge(&(struct atapi_sense){.key = key, .asc = asc, .ascq = ascq});
}

static void test_sense(void **state)
{
    (void)state;
    struct atapi_sense sense;
    uint8_t data[18] = {0xf0, 0, 0x66, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x28, 0x01};
    assert_int_equal(atapi_parse_sense(&sense, data, 18), 0);
    assert_int_equal(sense.key, 6); // without the flags above it
    assert_int_equal(sense.asc, 0x28);
    assert_int_equal(sense.ascq, 1);
    data[7] = 5; // it says that it ends before the code
    assert_int_equal(atapi_parse_sense(&sense, data, 18), 0);
    assert_int_equal(sense.asc, 0x28);
    assert_int_equal(sense.ascq, 0);
    data[7] = 255;
    assert_int_equal(atapi_parse_sense(&sense, data, 12), 0); // cut short
    assert_int_equal(sense.key, 6);
    assert_int_equal(sense.asc, 0);
    assert_int_equal(atapi_parse_sense(&sense, data, 7), -EINVAL);
    assert_int_equal(sense.key, 0);
    data[0] = 0x72; // the other format
    assert_int_equal(atapi_parse_sense(&sense, data, 18), -EINVAL);
}

static void test_verdicts(void **state)
{
    (void)state;
    assert_int_equal(judged(0, 0, 0), ATAPI_RETRY);
    assert_int_equal(judged(1, 0x17, 0), ATAPI_RETRY);
    assert_int_equal(judged(2, 0x3a, 0), ATAPI_NO_MEDIUM);
    assert_int_equal(judged(2, 0x3a, 2), ATAPI_NO_MEDIUM); // tray open
    assert_int_equal(judged(2, 0x04, 1), ATAPI_WAIT);
    assert_int_equal(judged(2, 0x04, 3), ATAPI_FAILED); // somebody has to do something
    assert_int_equal(judged(3, 0x11, 0), ATAPI_RETRY);
    assert_int_equal(judged(4, 0x44, 0), ATAPI_RETRY);
    assert_int_equal(judged(5, 0x21, 0), ATAPI_FAILED);
    assert_int_equal(judged(6, 0x28, 0), ATAPI_CHANGED);
    assert_int_equal(judged(6, 0x29, 0), ATAPI_RETRY);
    assert_int_equal(judged(7, 0x27, 0), ATAPI_FAILED);
    assert_int_equal(judged(0xb, 0, 0), ATAPI_RETRY);
}

static void check_text(uint8_t key, uint8_t asc, uint8_t ascq, const char *expected)
{
    char buffer[96];
    struct text t = TEXT_INIT(buffer);
    atapi_show_sense(&t, &(struct atapi_sense){.key = key, .asc = asc, .ascq = ascq});
    assert_string_equal(buffer, expected);
    assert_false(text_is_cut(&t));
}

static void test_words(void **state)
{
    (void)state;
    check_text(6, 0x28, 0, "UNIT ATTENTION: the medium may have changed (6/28/00)");
    check_text(2, 0x3a, 1, "NOT READY: no medium (2/3a/01)");
    check_text(2, 0x04, 1, "NOT READY: the drive is getting ready (2/04/01)");
    check_text(2, 0x04, 7, "NOT READY: the drive is not ready (2/04/07)");
    check_text(5, 0x24, 0,
               "ILLEGAL REQUEST: the packet has a field that it does not take (5/24/00)");
    check_text(0xf, 0x99, 9, "RESERVED KEY (f/99/09)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_refused),
        cmocka_unit_test(test_small_packets),
        cmocka_unit_test(test_ahci_table),
        cmocka_unit_test_setup(test_identity, setup),
        cmocka_unit_test_setup(test_identity_refused, setup),
        cmocka_unit_test(test_inquiry),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_sense),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
