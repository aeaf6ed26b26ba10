// The ACPI table DMAR: what is right is understood, what is wrong is left out with a note, and no
// length is believed.
//
// links: drivers/iommu/dmar.c kernel/lib/format.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <lib/errno.h>
#include "drivers/iommu/dmar.h"

// Built by hand: q35 with one unit, an IO-APIC at ff:00.0, two endpoints, a bridge, and reserved
// memory for the second endpoint.
static uint8_t table[512];
static size_t size;
static struct dmar dmar;

static void put(const void *bytes, size_t length)
{
    memcpy(table + size, bytes, length);
    size += length;
}

static void begin(void)
{
    memset(table, 0, sizeof(table));
    memcpy(table, "DMAR", 4);
    table[36] = 38; // 39 bits
    table[37] = 1;
    size = 48;
}

static size_t open_structure(uint8_t type, const uint8_t *head, size_t length)
{
    size_t at = size;
    put(head, length);
    table[at] = type;
    return at;
}

static void close_structure(size_t at)
{
    table[at + 2] = (uint8_t)(size - at);
}

static void scope(uint8_t type, uint8_t id, uint8_t bus, uint8_t slot, uint8_t function)
{
    put((const uint8_t[]){type, 8, 0, 0, id, bus, slot, function}, 8);
}

static size_t unit(uint8_t flags, uint64_t base)
{
    uint8_t head[16] = {0};
    head[4] = flags;
    memcpy(head + 8, &base, 8);
    return open_structure(0, head, sizeof(head));
}

static size_t reserved(uint64_t start, uint64_t end)
{
    uint8_t head[24] = {0};
    memcpy(head + 8, &start, 8);
    memcpy(head + 16, &end, 8);
    return open_structure(1, head, sizeof(head));
}

static void whole_table(void)
{
    begin();
    size_t at = unit(0, 0xfed90000);
    scope(DMAR_IOAPIC, 2, 0xff, 0, 0);
    scope(DMAR_ENDPOINT, 0, 0, 2, 0);
    scope(DMAR_ENDPOINT, 0, 0, 0x1f, 2);
    scope(DMAR_BRIDGE, 0, 0, 4, 0);
    close_structure(at);
    at = reserved(0x7000000, 0x7001fff);
    scope(DMAR_ENDPOINT, 0, 0, 0x1f, 2);
    close_structure(at);
}

static void a_whole_table(void **state)
{
    (void)state;
    whole_table();
    assert_int_equal(dmar_parse(table, size, &dmar), 0);
    assert_int_equal(dmar.unit_count, 1);
    assert_int_equal(dmar.address_bits, 39);
    assert_true(dmar.can_remap_interrupts);
    assert_int_equal(dmar.units[0].base, 0xfed90000);
    assert_int_equal(dmar.scope_count, 5);
    assert_int_equal(dmar.note_count, 0);
    assert_int_equal(dmar_unit_of(&dmar, 0, 0x0010, 0x0010), 0);
    assert_int_equal(dmar_unit_of(&dmar, 0, 0x00fa, 0x00fa), 0);
    assert_int_equal(dmar_unit_of(&dmar, 0, 0x0108, 0x0020), 0); // 01:01.0 behind the bridge
    assert_int_equal(dmar_unit_of(&dmar, 0, 0x0108, 0x0028), -1);
    assert_int_equal(dmar_unit_of(&dmar, 1, 0x0010, 0x0010), -1);
    assert_int_equal(dmar_unit_of(&dmar, 0, 0x0018, 0x0018), -1);
    assert_int_equal(dmar_reserved_of(&dmar, 0, 0x00fa, 0)->start, 0x7000000);
    assert_null(dmar_reserved_of(&dmar, 0, 0x00fa, 1));
    assert_null(dmar_reserved_of(&dmar, 0, 0x0010, 0));
}

static void one_that_takes_all(void **state)
{
    (void)state;
    begin();
    size_t at = unit(0, 0xfed90000);
    scope(DMAR_ENDPOINT, 0, 0, 2, 0);
    close_structure(at);
    at = unit(1, 0xfed91000);
    close_structure(at);
    assert_int_equal(dmar_parse(table, size, &dmar), 0);
    assert_int_equal(dmar_unit_of(&dmar, 0, 0x0010, 0x0010), 0);
    assert_int_equal(dmar_unit_of(&dmar, 0, 0x0018, 0x0018), 1);
}

static void what_is_no_table(void **state)
{
    (void)state;
    whole_table();
    assert_int_equal(dmar_parse(table, 47, &dmar), -EINVAL);
    assert_int_equal(dmar_parse(table, 48, &dmar), -EINVAL); // no unit
    table[0] = 'X';
    assert_int_equal(dmar_parse(table, size, &dmar), -EINVAL);
}

// Cut after each byte: nothing is read beyond (the sanitizer watches), and what is there counts.
static void a_table_that_is_cut(void **state)
{
    (void)state;
    whole_table();
    for (size_t cut = 0; cut <= size; cut++) {
        uint8_t exact[512];
        memcpy(exact, table, cut);
        struct dmar parsed;
        int err = dmar_parse(exact, cut, &parsed);
        assert_true(err == 0 || err == -EINVAL);
        assert_true(parsed.unit_count <= 1);
    }
}

static void lengths_that_lie(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        const char *note;
    } lies[] = {
        {48 + 2, 0, "a structure of 0 bytes"},
        {48 + 2, 3, "a structure of 3 bytes"},
        {48 + 3, 9, "bytes, "},
        {64 + 1, 0, "entry is 0 bytes long"},
        {64 + 1, 7, "entry is 7 bytes long"},
        {64 + 1, 200, "entry is 200 bytes long"},
        {48 + 2, 12, "a unit of 12 bytes"},
        {48 + 9, 1, "which is no page"},
        {64 + 1, 10, "behind 1 bridges"},
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        whole_table();
        table[48 + 8] = lies[i].at == 48 + 9 ? 0x10 : table[48 + 8];
        table[lies[i].at] = lies[i].value;
        dmar_parse(table, size, &dmar);
        assert_true(dmar.note_count > 0);
        if (strstr(dmar.notes[0], lies[i].note) == NULL) {
            fail_msg("'%s' does not say '%s'", dmar.notes[0], lies[i].note);
        }
    }
}

static void reserved_memory_that_makes_no_sense(void **state)
{
    (void)state;
    whole_table();
    size_t at = reserved(0x2000, 0x1fff);
    close_structure(at);
    at = reserved(0x2001, 0x3fff);
    close_structure(at);
    at = reserved(0, UINT64_MAX);
    close_structure(at);
    at = reserved(0x1000, 0x1000 + (1 << 30)); // a byte too many to be mapped page by page
    close_structure(at);
    assert_int_equal(dmar_parse(table, size, &dmar), 0);
    assert_int_equal(dmar.reserved_count, 1);
    assert_int_equal(dmar.note_count, 4);
}

static bool is_below_128_mib(phys_t start, uint64_t bytes)
{
    assert_true(start + bytes > start);
    return start < 0x8000000;
}

static void reserved_memory_that_is_ours(void **state)
{
    (void)state;
    whole_table();
    size_t at = reserved(0x8000000, 0x8000fff);
    scope(DMAR_ENDPOINT, 0, 0, 0x1f, 2);
    close_structure(at);
    assert_int_equal(dmar_parse(table, size, &dmar), 0);
    assert_int_equal(dmar_reserved_of(&dmar, 0, 0x00fa, 0)->start, 0x7000000);
    dmar_refuse_reserved(&dmar, is_below_128_mib);
    assert_int_equal(dmar_reserved_of(&dmar, 0, 0x00fa, 0)->start, 0x8000000);
    assert_null(dmar_reserved_of(&dmar, 0, 0x00fa, 1));
    assert_int_equal(dmar.note_count, 1);
    assert_non_null(strstr(dmar.notes[0], "0x7000000 to 0x7001fff is in use"));
}

static void two_units_at_one_place(void **state)
{
    (void)state;
    begin();
    close_structure(unit(0, 0xfed90000));
    close_structure(unit(1, 0xfed90000));
    close_structure(unit(1, 0xfed91000));
    assert_int_equal(dmar_parse(table, size, &dmar), 0);
    assert_int_equal(dmar.unit_count, 2);
    assert_int_equal(dmar.units[1].base, 0xfed91000);
    assert_non_null(strstr(dmar.notes[0], "two units at 0xfed90000"));
}

static void more_than_there_is_room_for(void **state)
{
    (void)state;
    static uint8_t large[65536];
    memset(large, 0, sizeof(large));
    memcpy(large, "DMAR", 4);
    size_t at = 48;
    for (unsigned i = 0; i < 20; i++) { // units with 100 devices each
        size_t start = at;
        large[at + 9] = (uint8_t)(0x10 + 0x10 * (i % 10));
        large[at + 10] = (uint8_t)(i / 10);
        at += 16;
        for (unsigned j = 0; j < 100; j++, at += 8) {
            large[at] = DMAR_ENDPOINT;
            large[at + 1] = 8;
        }
        large[start + 2] = (uint8_t)(at - start);
        large[start + 3] = (uint8_t)((at - start) >> 8);
    }
    assert_int_equal(dmar_parse(large, at, &dmar), 0);
    assert_int_equal(dmar.unit_count, DMAR_MAX_UNITS);
    assert_int_equal(dmar.scope_count, DMAR_MAX_SCOPES);
    assert_int_equal(dmar.note_count, DMAR_NOTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_table),
        cmocka_unit_test(one_that_takes_all),
        cmocka_unit_test(what_is_no_table),
        cmocka_unit_test(a_table_that_is_cut),
        cmocka_unit_test(lengths_that_lie),
        cmocka_unit_test(reserved_memory_that_makes_no_sense),
        cmocka_unit_test(reserved_memory_that_is_ours),
        cmocka_unit_test(two_units_at_one_place),
        cmocka_unit_test(more_than_there_is_room_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
