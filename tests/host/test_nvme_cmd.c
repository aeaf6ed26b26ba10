// What a controller and its namespaces say of themselves: good pages, and wrong ones.
//
// links: drivers/block/nvme/nvme_cmd.c kernel/lib/string.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lib/errno.h>
#include <lib/string.h>

#include "../../drivers/block/nvme/nvme_cmd.h"

static uint8_t page[NVME_IDENTIFY_SIZE];

static void put(unsigned offset, unsigned bytes, uint64_t value)
{
    for (unsigned i = 0; i < bytes; i++) {
        page[offset + i] = (uint8_t)(value >> i * 8);
    }
}

static void put_string(unsigned offset, unsigned size, const char *s)
{
    memset(page + offset, ' ', size);
    memcpy(page + offset, s, strlen(s));
}

static int setup_controller(void **state)
{
    (void)state;
    memset(page, 0, sizeof(page));
    put_string(NVME_IDC_SERIAL, 20, "deadbeef");
    put_string(NVME_IDC_MODEL, 40, "QEMU NVMe Ctrl");
    put_string(NVME_IDC_FIRMWARE, 8, "7.2.22");
    put(NVME_IDC_MDTS, 1, 7);
    put(NVME_IDC_AERL, 1, 3);
    put(NVME_IDC_SQES, 1, 0x66);
    put(NVME_IDC_CQES, 1, 0x44);
    put(NVME_IDC_NN, 4, 256);
    put(NVME_IDC_VWC, 1, 7);
    put(NVME_IDC_SGLS, 4, 1);
    return 0;
}

static int parse_controller(struct nvme_identity *identity, unsigned page_shift)
{
    const char *why;
    int error = nvme_parse_controller(identity, page, page_shift, &why);
    assert_true((error == 0) == (why == NULL));
    return error;
}

static void test_controller(void **state)
{
    (void)state;
    struct nvme_identity identity;
    assert_int_equal(parse_controller(&identity, 12), 0);
    assert_string_equal(identity.model, "QEMU NVMe Ctrl");
    assert_string_equal(identity.serial, "deadbeef");
    assert_string_equal(identity.firmware, "7.2.22");
    assert_int_equal(identity.max_bytes, 512 << 10);
    assert_int_equal(identity.namespaces, 256);
    assert_int_equal(identity.events, 4);
    assert_true(identity.has_write_cache);
    assert_int_equal(identity.sgl, 1);
}

static void test_limits(void **state)
{
    (void)state;
    struct nvme_identity identity;
    put(NVME_IDC_MDTS, 1, 0);
    assert_int_equal(parse_controller(&identity, 12), 0);
    assert_int_equal(identity.max_bytes, 0);
    put(NVME_IDC_MDTS, 1, 255); // no shift by 267
    assert_int_equal(parse_controller(&identity, 12), 0);
    assert_int_equal(identity.max_bytes, 0);
    put(NVME_IDC_MDTS, 1, 19);
    assert_int_equal(parse_controller(&identity, 12), 0);
    assert_int_equal(identity.max_bytes, 1u << 31);
    put(NVME_IDC_AERL, 1, 255);
    put(NVME_IDC_SGLS, 4, 3);
    assert_int_equal(parse_controller(&identity, 12), 0);
    assert_int_equal(identity.events, 255);
    assert_int_equal(identity.sgl, 0);
    put_string(NVME_IDC_MODEL, 40, "  \x1b[31mred\x80");
    assert_int_equal(parse_controller(&identity, 12), 0);
    assert_string_equal(identity.model, "?[31mred?");
}

static void test_controller_refused(void **state)
{
    (void)state;
    struct nvme_identity identity;
    put(NVME_IDC_SQES, 1, 0x77);
    assert_int_equal(parse_controller(&identity, 12), -EOPNOTSUPP);
    setup_controller(NULL);
    put(NVME_IDC_CQES, 1, 0x33);
    assert_int_equal(parse_controller(&identity, 12), -EOPNOTSUPP);
    setup_controller(NULL);
    put(NVME_IDC_NN, 4, 0);
    assert_int_equal(parse_controller(&identity, 12), -ENODEV);
    memset(page, 0, sizeof(page));
    assert_int_equal(parse_controller(&identity, 12), -EOPNOTSUPP);
}

static int setup_namespace(void **state)
{
    (void)state;
    memset(page, 0, sizeof(page));
    put(NVME_IDN_NSZE, 8, 8192);
    put(NVME_IDN_NLBAF, 1, 7);
    put(NVME_IDN_FLBAS, 1, 0);
    put(NVME_IDN_LBAF, 4, 9 << 16);
    put(NVME_IDN_LBAF + 4 * 4, 4, 12 << 16);
    return 0;
}

static int parse_namespace(struct nvme_format *format)
{
    const char *why;
    int error = nvme_parse_namespace(format, page, &why);
    assert_true((error == 0) == (why == NULL));
    return error;
}

static void test_namespace(void **state)
{
    (void)state;
    struct nvme_format format;
    assert_int_equal(parse_namespace(&format), 0);
    assert_int_equal(format.blocks, 8192);
    assert_int_equal(format.block_shift, 9);
    assert_false(format.read_only);
    put(NVME_IDN_FLBAS, 1, 4);
    put(NVME_IDN_NSATTR, 1, 1);
    assert_int_equal(parse_namespace(&format), 0);
    assert_int_equal(format.block_shift, 12);
    assert_true(format.read_only);
}

static void test_namespace_refused(void **state)
{
    (void)state;
    struct nvme_format format;
    put(NVME_IDN_NSZE, 8, 0);
    assert_int_equal(parse_namespace(&format), -ENODEV);
    setup_namespace(NULL);
    put(NVME_IDN_FLBAS, 1, 8); // of 8 formats
    assert_int_equal(parse_namespace(&format), -ENODEV);
    setup_namespace(NULL);
    put(NVME_IDN_LBAF, 4, 8 << 16);
    assert_int_equal(parse_namespace(&format), -EOPNOTSUPP);
    put(NVME_IDN_LBAF, 4, 255u << 16);
    assert_int_equal(parse_namespace(&format), -EOPNOTSUPP);
    put(NVME_IDN_LBAF, 4, 9 << 16 | 8); // 8 bytes of metadata
    assert_int_equal(parse_namespace(&format), -EOPNOTSUPP);
    setup_namespace(NULL);
    put(NVME_IDN_DPS, 1, 1);
    assert_int_equal(parse_namespace(&format), -EOPNOTSUPP);
    setup_namespace(NULL);
    put(NVME_IDN_NSZE, 8, BIT64(48) - 1);
    assert_int_equal(parse_namespace(&format), 0);
    put(NVME_IDN_NSZE, 8, BIT64(48));
    assert_int_equal(parse_namespace(&format), -EOPNOTSUPP);
    put(NVME_IDN_FLBAS, 1, 4);
    put(NVME_IDN_NSZE, 8, BIT64(45) - 1);
    assert_int_equal(parse_namespace(&format), 0);
    put(NVME_IDN_NSZE, 8, BIT64(45)); // 2^48 sectors of 512 bytes
    assert_int_equal(parse_namespace(&format), -EOPNOTSUPP);
    memset(page, 0xff, sizeof(page));
    assert_true(parse_namespace(&format) != 0);
}

static void test_status(void **state)
{
    (void)state;
    assert_int_equal(nvme_status_error(1), 0); // the phase bit says nothing of it
    assert_int_equal(nvme_status_error(NVME_SC_READ_ERROR << 1), -EIO);
    assert_int_equal(nvme_status_error(NVME_SC_READ_ONLY << 1 | NVME_CQE_DNR), -EROFS);
    assert_int_equal(nvme_status_error(NVME_SC_WRITE_PROTECTED << 1), -EROFS);
    assert_int_equal(nvme_status_error(0x7ff << 1), -EIO);
    for (unsigned code = 0; code < 0x800; code++) {
        assert_non_null(nvme_status_text((uint16_t)(code << 1)));
        assert_true((nvme_status_error((uint16_t)(code << 1)) == 0) == (code == 0));
    }
    assert_string_equal(nvme_status_text(NVME_SC_READ_ERROR << 1), "unrecovered read error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_controller, setup_controller),
        cmocka_unit_test_setup(test_limits, setup_controller),
        cmocka_unit_test_setup(test_controller_refused, setup_controller),
        cmocka_unit_test_setup(test_namespace, setup_namespace),
        cmocka_unit_test_setup(test_namespace_refused, setup_namespace),
        cmocka_unit_test(test_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
