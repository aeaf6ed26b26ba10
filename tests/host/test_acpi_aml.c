// What is read out of a DSDT's byte code without an interpreter: the value that powers off, and
// which wire each slot's pins are on. Byte code of every form that is known, cut anywhere, and
// damaged.
//
// links: kernel/x86/acpi.c kernel/x86/acpi_madt.c kernel/x86/acpi_fadt.c
// links: kernel/x86/acpi_aml.c tests/host/acpi_tables.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "acpi_tables.h"

static void parse_dsdt(const uint8_t *aml, size_t size)
{
    acpi_setup(NULL);
    struct table t = fadt_begin(1, FADT_SIZE_V1);
    table_done(&t);
    dsdt(aml, size);
    assert_int_equal(parse(), 0);
    acpi_teardown(NULL);
}

// ---- power: _S5 ----

static bool s5_of(const void *aml, size_t size)
{
    parse_dsdt(aml, size);
    return info.has_s5;
}
#define S5_OF(...) s5_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void test_s5_forms(void **state)
{
    (void)state;
    assert_true(
        S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 7, 4, AML_BYTE, 7, AML_BYTE, 5, 0));
    assert_int_equal(info.s5_type_a, 7);
    assert_int_equal(info.s5_type_b, 5);
    assert_true(
        S5_OF(0x99, AML_NAME, AML_ROOT, '_', 'S', '5', '_', AML_PACKAGE, 4, 1, AML_BYTE, 3));
    assert_int_equal(info.s5_type_b, 3); // one value serves both
    // A two-byte PkgLength.
    assert_true(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 0x45, 0, 2, AML_ONE, AML_ONE));

    assert_false(S5_OF(0x99));
    assert_false(S5_OF('_', 'S', '5', '_', AML_PACKAGE, 4, 1, AML_ONE)); // no NameOp before it
    assert_false(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE));      // cut at every place
    assert_false(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 0x40));
    assert_false(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 0)); // shorter than itself
    assert_false(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 1));
    assert_false(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 2, 0)); // no elements
    assert_false(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 2, 4));
    assert_false(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 3, 4, AML_BYTE));
    assert_false(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 4, 2, AML_BYTE, 8)); // four bits
    assert_false(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 0x3f, 4, AML_ONE,
                       AML_ONE)); // longer than all
    assert_false(S5_OF(AML_NAME, '_', 'S', '5', '_', AML_PACKAGE, 4, 1, 'A', 'B')); // not constant
    assert_true(noted("not made of constants"));
}

// ---- wires: PRTA, and the link devices that it names ----

enum { LINKS = 8, SLOTS = 32, AML_MAX = 8192 };

// A link device with one extended interrupt, the wire 16 + number.
static uint8_t *aml_link(uint8_t *p, unsigned number)
{
    static const uint8_t uid[] = {AML_NAME, '_', 'U', 'I', 'D', AML_BYTE, 0x10};
    const uint8_t crs[] = {AML_NAME,   '_', 'C',      'R',  'S',
                           AML_BUFFER, 14,  AML_BYTE, 11,   0x89,
                           0x06,       0,   9,        1,    (uint8_t)(16 + number),
                           0,          0,   0,        0x79, 0};
    uint8_t *length;

    *p++ = AML_EXTENDED;
    *p++ = AML_EXTENDED_DEVICE;
    length = p++;
    memcpy(p, "GSI", 3);
    p[3] = (uint8_t)('A' + number);
    p += 4;
    memcpy(p, uid, sizeof(uid));
    p += sizeof(uid);
    memcpy(p, crs, sizeof(crs));
    p += sizeof(crs);
    *length = (uint8_t)(p - length);
    return p;
}

// Which link a pin is on: by the pin, or by slot and pin in turn.
static unsigned link_of(unsigned slot, unsigned pin)
{
    return slot >= 25 && slot != 30 ? pin : 4 + ((slot + pin) & 3);
}

// One entry of PRTA, its numbers in each form that byte code has.
static uint8_t *aml_pin(uint8_t *p, unsigned slot, unsigned pin)
{
    uint8_t *length;

    *p++ = AML_PACKAGE;
    length = p++;
    *p++ = 4;
    *p++ = slot == 0 ? AML_WORD : AML_DWORD;
    put(p, slot == 0 ? 2 : 4, slot << 16 | 0xffff);
    p += slot == 0 ? 2 : 4;
    if (pin > 1) {
        *p++ = AML_BYTE;
    }
    *p++ = (uint8_t)pin;
    memcpy(p, "GSI", 3);
    p[3] = (uint8_t)('A' + link_of(slot, pin));
    p += 4;
    *p++ = AML_ZERO;
    *length = (uint8_t)(p - length);
    return p;
}

// A DSDT of the form that q35's has: eight link devices, PRTA with all slots, and _S5.
static size_t aml_intx(uint8_t *to)
{
    static const uint8_t head[] = {AML_NAME, 'P', 'R', 'T', 'A', AML_PACKAGE};
    uint8_t *p = to, *length;

    for (unsigned i = 0; i < LINKS; i++) {
        p = aml_link(p, i);
    }
    memcpy(p, head, sizeof(head));
    p += sizeof(head);
    length = p; // two bytes, filled in below
    p += 2;
    *p++ = SLOTS * 4;
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            p = aml_pin(p, slot, pin);
        }
    }
    unsigned size = (unsigned)(p - length);
    length[0] = (uint8_t)(0x40 | (size & 0xf));
    length[1] = (uint8_t)(size >> 4);
    memcpy(p, aml_s5, sizeof(aml_s5));
    return (size_t)(p - to) + sizeof(aml_s5);
}

static void test_intx(void **state)
{
    (void)state;
    static uint8_t aml[AML_MAX];
    size_t size = aml_intx(aml);
    parse_dsdt(aml, size);
    assert_int_equal(info.intx_count, 128);
    assert_true(info.has_s5);
    for (unsigned i = 0; i < info.intx_count; i++) {
        const struct acpi_intx *intx = &info.intx[i];
        assert_int_equal(intx->slot, i / 4);
        assert_int_equal(intx->pin, i % 4);
        assert_int_equal(intx->gsi, 16 + link_of(intx->slot, intx->pin));
    }
}

// One byte of it changed: whatever it means then, all or nothing is taken, and nothing outside is
// read (the sanitizer watches).
static void test_intx_damaged(void **state)
{
    (void)state;
    static uint8_t aml[AML_MAX];
    size_t size = aml_intx(aml);
    unsigned refused = 0;
    for (size_t at = 0; at < size; at += 3) {
        uint8_t was = aml[at];
        aml[at] ^= 0xff;
        parse_dsdt(aml, size);
        aml[at] = was;
        assert_true(info.intx_count == 0 || info.intx_count >= 127);
        refused += info.intx_count == 0;
    }
    assert_true(refused > 100);
}

static void test_intx_cut(void **state)
{
    (void)state;
    static uint8_t aml[AML_MAX];
    size_t size = aml_intx(aml);
    for (size_t end = 0; end < size - sizeof(aml_s5); end += 7) {
        parse_dsdt(aml, end);
        assert_int_equal(info.intx_count, 0);
    }
}

static void test_intx_direct(void **state)
{
    (void)state;
    static const uint8_t aml[] = {
        AML_NAME, 'P',       'R',  'T',  'A', AML_PACKAGE, 14,      1,        AML_PACKAGE, 11,
        4,        AML_DWORD, 0xff, 0xff, 3,   0,           AML_ONE, AML_ZERO, AML_BYTE,    19};
    parse_dsdt(aml, sizeof(aml));
    assert_int_equal(info.intx_count, 1);
    assert_int_equal(info.intx[0].slot, 3);
    assert_int_equal(info.intx[0].pin, 1);
    assert_int_equal(info.intx[0].gsi, 19);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, acpi_setup, acpi_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_s5_forms), TEST(test_intx),        TEST(test_intx_damaged),
        TEST(test_intx_cut), TEST(test_intx_direct),
    };
    return cmocka_run_group_tests_name("acpi_aml", tests, NULL, NULL);
}
