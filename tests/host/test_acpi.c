// The ACPI parser against tables that are right, cut, contradictory or malicious: where they are
// found, and what is believed of the MADT, the FADT, the MCFG and the HPET's. Each window that the
// parser maps is a heap block of exactly that size, so AddressSanitizer sees a read of even one
// byte beyond what was asked for (acpi_tables.c). The byte code of the DSDT: test_acpi_aml.c.
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

#include <lib/errno.h>

#include "acpi_tables.h"

// ---- finding the root ----

static void assert_assumed_pc(void)
{
    assert_int_equal(info.cpu_count, 0);
    assert_int_equal(info.ioapic_count, 1);
    assert_int_equal(info.ioapics[0].base, 0xfec00000);
    assert_int_equal(info.lapic_base, 0xfee00000);
    assert_int_equal(info.overrides[0].gsi, 2);
    assert_true(info.has_8259);
}

static void test_no_rsdp(void **state)
{
    (void)state;
    assert_int_equal(parse(), -ENODEV);
    assert_false(info.present);
    assert_assumed_pc();
    assert_true(noted("no tables"));
}

static void test_scan_ebda_and_rom(void **state)
{
    (void)state;
    struct table t = madt_begin();
    table_done(&t);
    memset(&boot, 0, sizeof(boot));          // madt_begin gave a copy; this machine gives none
    put(memory_region(0x40e, 2), 2, 0x9fc0); // segment of the EBDA: 0x9fc00
    uint8_t *ebda = memory_region(0x9fc00, 1024) + 1024 - 32;
    uint8_t *rom = memory_region(0xe0000, 0x20000) + 0x20000 - 32; // the last place where one fits
    assert_int_equal(parse(), -ENODEV);
    rsdp_write(ebda, 0, RSDT_AT, 0);
    assert_int_equal(parse(), 0);
    ebda[RSDP_OEM]++;
    assert_int_equal(parse(), -ENODEV);
    rsdp_write(rom, 0, RSDT_AT, 0);
    assert_int_equal(parse(), 0);
    memmove(rom + 8, rom, RSDP_SIZE_V1); // not on a 16-byte boundary
    memset(rom, 0, 8);
    assert_int_equal(parse(), -ENODEV);
    memmove(rom, rom + 8, RSDP_SIZE_V1);
    assert_int_equal(parse(), 0);
    boot.efi_system_table = 0x1234; // there are no such areas on UEFI
    assert_int_equal(parse(), -ENODEV);
}

static void test_rsdp_by_address(void **state)
{
    (void)state;
    struct table t = madt_begin();
    table_done(&t);
    memset(&boot, 0, sizeof(boot));
    rsdp_write(memory_region(0x7000, RSDP_SIZE_V1), 0, RSDT_AT, 0); // 20 bytes and not one more
    boot.rsdp = 0x7000;
    assert_int_equal(parse(), 0);
    assert_true(info.present);
    assert_int_equal(info.revision, 0);
}

static void test_rsdp_copy_broken(void **state)
{
    (void)state;
    struct table t = madt_begin();
    table_done(&t);
    boot.rsdp_copy[RSDP_OEM]++;
    assert_int_equal(parse(), -ENODEV);
    assert_true(noted("not one"));
    boot.rsdp_copy[RSDP_OEM]--;
    boot.rsdp_copy_size = RSDP_SIZE_V1 - 1;
    assert_int_equal(parse(), -ENODEV);
    rsdp_copy(2, RSDT_AT, 0);
    boot.rsdp_copy_size = RSDP_SIZE_V1; // a revision 2 in 20 bytes
    assert_int_equal(parse(), -ENODEV);
    boot.rsdp_copy_size = 4000000000u; // the copy has 36
    assert_int_equal(parse(), 0);
}

static void test_xsdt_wins_and_falls_back(void **state)
{
    (void)state;
    struct table madt = madt_begin();
    madt_lapic(&madt, 0, 0, 1);
    table_done(&madt);
    struct table xsdt = table_begin(OTHER_AT, "XSDT", 1, SDT_SIZE);
    uint8_t entries[24] = {0};
    put(entries + 8, 8, 0x123456789000); // nothing there; entry 0 is zero
    put(entries + 16, 8, MADT_AT);
    table_add(&xsdt, entries, sizeof(entries));
    table_done(&xsdt);
    rsdp_copy(2, 0, OTHER_AT);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.revision, 2);
    assert_int_equal(info.cpu_count, 1);
    assert_true(noted("no table at 0x0"));
    assert_true(noted("no table at 0x123456789000"));

    xsdt.data[SDT_CHECKSUM]++;
    assert_int_equal(parse(), -ENODEV); // and no RSDT
    assert_true(noted("XSDT: wrong checksum"));
    rsdp_copy(2, RSDT_AT, OTHER_AT);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpu_count, 1);
}

static void test_table_length(void **state)
{
    (void)state;
    static const uint32_t wrong[] = {0, 35, 0x80000000, 0xffffffff, (4 << 20) + 1};
    struct table t = madt_begin();
    table_done(&t);
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        put(t.data + SDT_LENGTH, 4, wrong[i]);
        assert_int_equal(parse(), 0);
        assert_false(info.has_madt);
        assert_true(noted("makes no sense"));
        assert_assumed_pc();
    }
    put(t.data + SDT_LENGTH, 4, MADT_ENTRIES + 1); // one byte more than there is
    assert_int_equal(parse(), 0);
    assert_true(noted("cannot map"));
}

static void test_root_entries_cut(void **state)
{
    (void)state;
    struct table madt = madt_begin();
    table_done(&madt);
    uint8_t *root = memory_at(RSDT_AT);
    put(root + SDT_LENGTH, 4, SDT_SIZE + 3); // three bytes are no entry
    fix_sum(root, SDT_SIZE + 3, SDT_CHECKSUM);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.table_count, 0);
}

static void test_many_tables(void **state)
{
    (void)state;
    struct table t = table_begin(RSDT_AT, "RSDT", 1, SDT_SIZE);
    uint8_t entry[4];
    put(entry, 4, OTHER_AT);
    for (unsigned i = 0; i < 100; i++) {
        table_add(&t, entry, 4);
    }
    table_done(&t);
    rsdp_copy(0, RSDT_AT, 0);
    struct table other = table_begin(OTHER_AT, "WAET", 1, 40);
    table_done(&other);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.table_count, ACPI_MAX_TABLES);
    assert_string_equal(info.tables[0].signature, "WAET");
    assert_string_equal(info.tables[0].oem_id, "TOPHLF");
    assert_int_equal(info.tables[0].length, 40);
    assert_int_equal(info.note_count, 16); // as many as there is room for
}

// ---- MADT ----

static void test_madt(void **state)
{
    (void)state;
    struct table t = madt_begin();
    madt_lapic(&t, 0, 0, 1);
    madt_lapic(&t, 1, 4, 1);
    madt_lapic(&t, 2, 6, 0);    // switched off
    madt_lapic(&t, 3, 0xff, 0); // an empty socket
    madt_x2apic(&t, 9, 0x12345);
    madt_ioapic(&t, 2, 0xfec00000, 0);
    madt_ioapic(&t, 3, 0xfec01000, 24);
    madt_override(&t, 0, 0, 2, 0);
    madt_override(&t, 0, 9, 20, 0xd);
    madt_override(&t, 0, 10, 10, 0xf);
    table_add(&t, "\x04\x06\xff\x00\x00\x01", 6); // NMI: every CPU, LINT1
    table_add(&t, "\x04\x06\x01\x0f\x00\x00", 6); // uid 1, level and low, LINT0
    table_add(&t, "\x05\x0c\x00\x00\x00\x10\xe0\xfe\x01\x00\x00\x00", 12);
    table_add(&t, "\x7f\x03\x00", 3); // a type of the future
    table_done(&t);
    assert_int_equal(parse(), 0);
    assert_true(info.has_8259);
    assert_int_equal(info.cpu_count, 3);
    assert_int_equal(info.cpu_total, 3);
    assert_int_equal(info.cpus[1].apic_id, 4);
    assert_int_equal(info.cpus[1].acpi_uid, 1);
    assert_int_equal(info.cpus[2].apic_id, 0x12345);
    assert_int_equal(info.cpus[2].acpi_uid, 9);
    assert_int_equal(info.ioapic_count, 2);
    assert_int_equal(info.ioapics[1].gsi_base, 24);
    assert_int_equal(info.override_count, 3);
    assert_int_equal(info.overrides[0].gsi, 2);
    assert_false(info.overrides[0].level);
    assert_true(info.overrides[1].level);
    assert_false(info.overrides[1].active_low);
    assert_true(info.overrides[2].level);
    assert_true(info.overrides[2].active_low);
    assert_int_equal(info.nmi_count, 2);
    assert_int_equal(info.nmis[0].acpi_uid, UINT32_MAX);
    assert_int_equal(info.nmis[0].lint, 1);
    assert_true(info.nmis[1].active_low);
    assert_int_equal(info.lapic_base, 0x1fee01000);
    assert_int_equal(info.note_count, 0);
}

static void test_madt_checksum(void **state)
{
    (void)state;
    struct table t = madt_begin();
    madt_lapic(&t, 0, 0, 1);
    table_done(&t);
    t.data[SDT_CHECKSUM]++;
    assert_int_equal(parse(), 0);
    assert_false(info.has_madt);
    assert_true(noted("APIC: wrong checksum"));
    assert_assumed_pc();
}

// Lengths that would walk off, stand still or lie: what came before them counts, what comes after
// does not.
static void test_madt_entry_lengths(void **state)
{
    (void)state;
    static const uint8_t wrong[] = {0, 1, 255};
    for (unsigned i = 0; i < sizeof(wrong); i++) {
        acpi_setup(NULL);
        struct table t = madt_begin();
        madt_lapic(&t, 0, 7, 1);
        uint8_t bad[2] = {MADT_IOAPIC, wrong[i]};
        table_add(&t, bad, 2);
        madt_lapic(&t, 1, 8, 1);
        table_done(&t);
        assert_int_equal(parse(), 0);
        assert_int_equal(info.cpu_count, 1);
        assert_true(noted("the rest is ignored"));
    }
}

static void test_madt_entry_short_or_cut(void **state)
{
    (void)state;
    static const uint8_t types[] = {MADT_LAPIC,         MADT_IOAPIC, MADT_OVERRIDE,  MADT_LAPIC_NMI,
                                    MADT_LAPIC_ADDRESS, MADT_X2APIC, MADT_X2APIC_NMI};
    for (unsigned i = 0; i < sizeof(types); i++) {
        acpi_setup(NULL);
        struct table t = madt_begin();
        uint8_t tiny[2] = {types[i], 2};
        table_add(&t, tiny, 2); // long enough to step over, too short to read
        madt_lapic(&t, 1, 8, 1);
        uint8_t cut[1] = {types[i]};
        table_add(&t, cut, 1); // not even a length
        table_done(&t);
        assert_int_equal(parse(), 0);
        assert_int_equal(info.cpu_count, 1);
        assert_true(noted("is only 2 long"));
        assert_true(noted("with 1 left"));
    }
}

static void test_madt_contradictions(void **state)
{
    (void)state;
    struct table t = madt_begin();
    madt_lapic(&t, 0, 5, 1);
    madt_lapic(&t, 1, 5, 1);    // the same CPU
    madt_x2apic(&t, 2, 5);      // once more
    madt_lapic(&t, 3, 0xff, 1); // the broadcast address
    madt_ioapic(&t, 0, 0xfec00000, 0);
    madt_ioapic(&t, 1, 0xfec00000, 24); // the same registers
    madt_ioapic(&t, 2, 0xfec10000, 0);  // the same wires
    madt_ioapic(&t, 3, 0, 48);
    madt_override(&t, 7, 1, 1, 0);   // no such bus
    madt_override(&t, 0, 16, 1, 0);  // no such line
    madt_override(&t, 0, 3, 3, 0xa); // reserved polarity and trigger
    madt_override(&t, 0, 3, 4, 0);
    table_add(&t, "\x04\x06\xff\x00\x00\x02", 6); // LINT2
    table_done(&t);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpu_count, 1);
    assert_int_equal(info.ioapic_count, 1);
    assert_int_equal(info.override_count, 1);
    assert_int_equal(info.overrides[0].gsi, 3);
    assert_false(info.overrides[0].level);
    assert_int_equal(info.nmi_count, 1); // the usual one, as none is named
    assert_int_equal(info.nmis[0].lint, 1);
    assert_int_equal(info.nmis[0].acpi_uid, UINT32_MAX);
    assert_true(noted("listed twice"));
    assert_true(noted("255"));
    assert_true(noted("overlap"));
    assert_true(noted("bus 7"));
    assert_true(noted("line 16"));
    assert_true(noted("reserved flags"));
    assert_true(noted("overridden twice"));
    assert_true(noted("local input 2"));
}

static void test_madt_crowd(void **state)
{
    (void)state;
    struct table t = madt_begin();
    for (unsigned i = 0; i < 300; i++) {
        madt_x2apic(&t, i, i);
    }
    for (unsigned i = 0; i < 40; i++) {
        madt_ioapic(&t, (uint8_t)i, 0xfec00000 + i * 0x1000, i * 24);
        table_add(&t, "\x04\x06\xff\x00\x00\x01", 6);
    }
    table_done(&t);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpu_count, MAX_CPUS);
    assert_int_equal(info.cpu_total, 300);
    assert_int_equal(info.ioapic_count, ACPI_MAX_IOAPICS);
    assert_int_equal(info.nmi_count, ACPI_MAX_NMIS);
}

// ---- FADT ----

// As -machine pc has it: 116 bytes end before the reset register, and so do the reads.
static void test_fadt_revision_1(void **state)
{
    (void)state;
    struct table t = fadt_begin(1, FADT_SIZE_V1);
    put(t.data + FADT_BOOT_ARCH, 2, 0); // reserved in this revision
    put(t.data + FADT_FLAGS, 4, FADT_FLAG_RESET);
    table_done(&t);
    dsdt(aml_s5, sizeof(aml_s5));
    assert_int_equal(parse(), 0);
    assert_true(info.has_fadt);
    assert_int_equal(info.sci_irq, 9);
    assert_int_equal(info.pm1a_control, 0x604);
    assert_int_equal(info.pm1b_control, 0);
    assert_int_equal(info.pm_timer, 0x608);
    assert_int_equal(info.smi_command, 0xb2);
    assert_int_equal(info.acpi_enable, 2);
    assert_int_equal(info.boot_arch_flags & BOOT_ARCH_8042, BOOT_ARCH_8042);
    assert_false(info.has_reset);
    assert_true(info.has_s5);
    assert_int_equal(info.s5_type_a, 1);
    assert_int_equal(info.s5_type_b, 0);
    assert_string_equal(info.tables[1].signature, "DSDT");
}

static void test_fadt_every_length(void **state)
{
    (void)state;
    for (size_t size = SDT_SIZE; size <= 276; size++) {
        acpi_setup(NULL);
        struct table t = fadt_begin(3, size > FADT_SIZE_V1 ? size : FADT_SIZE_V1);
        memset(t.data + FADT_FLAGS, 0xff, 200);
        t.size = size;
        table_done(&t);
        assert_int_equal(parse(), 0);
        assert_int_equal(info.has_fadt, size >= FADT_SIZE_V1);
        assert_false(info.has_reset); // all ones are no register
        acpi_teardown(NULL);
    }
}

static void test_fadt_reset_and_extended(void **state)
{
    (void)state;
    struct table t = fadt_begin(3, 244);
    put(t.data + FADT_FLAGS, 4, FADT_FLAG_RESET);
    t.data[FADT_RESET + GAS_SPACE] = GAS_SPACE_PORTS;
    put(t.data + FADT_RESET + GAS_ADDRESS, 8, 0xcf9);
    t.data[FADT_RESET_VALUE] = 0xf;
    put(t.data + FADT_DSDT, 4, 0xdead0000); // the 64-bit one counts
    put(t.data + FADT_X_DSDT, 8, DSDT_AT);
    put(t.data + FADT_PM1A_CONTROL, 4, 0);
    t.data[FADT_X_PM1A_CONTROL + GAS_SPACE] = GAS_SPACE_PORTS;
    put(t.data + FADT_X_PM1A_CONTROL + GAS_ADDRESS, 8, 0x1804);
    put(t.data + FADT_PM1B_CONTROL, 4, 0x10000); // no port
    put(t.data + FADT_PM_TIMER, 4, 0);
    put(t.data + FADT_X_PM_TIMER + GAS_ADDRESS, 8, 0xfed00000); // in memory
    put(t.data + FADT_BOOT_ARCH, 2, BOOT_ARCH_LEGACY);
    table_done(&t);
    dsdt(aml_s5, sizeof(aml_s5));
    assert_int_equal(parse(), 0);
    assert_true(info.has_reset);
    assert_int_equal(info.reset_address, 0xcf9);
    assert_int_equal(info.reset_value, 0xf);
    assert_int_equal(info.pm1a_control, 0x1804);
    assert_int_equal(info.pm1b_control, 0);
    assert_int_equal(info.pm_timer, 0);
    assert_int_equal(info.boot_arch_flags, BOOT_ARCH_LEGACY);
    assert_true(info.has_s5);
    assert_true(noted("not a port"));
    assert_true(noted("not in port space"));
}

static void test_dsdt_missing_or_not_one(void **state)
{
    (void)state;
    struct table t = fadt_begin(1, FADT_SIZE_V1);
    table_done(&t);
    assert_int_equal(parse(), 0);
    assert_true(info.has_fadt);
    assert_false(info.has_s5);
    assert_true(noted("DSDT: no table"));
    struct table wrong = table_begin(DSDT_AT, "SSDT", 1, SDT_SIZE);
    table_done(&wrong);
    assert_int_equal(parse(), 0);
    assert_true(noted("SSDT where DSDT should be"));
}

// ---- MCFG and HPET ----

static void test_mcfg(void **state)
{
    (void)state;
    root_with(OTHER_AT);
    struct table t = table_begin(OTHER_AT, "MCFG", 1, MCFG_ENTRIES);
    static const struct {
        uint64_t base;
        uint16_t segment;
        uint8_t first, last;
    } windows_in[] = {
        {0xb0000000, 0, 0, 255}, {0x3000000000, 1, 0, 15},        {0, 2, 0, 1},
        {0xb0000001, 0, 0, 1},                                    // not aligned
        {0xc0000000, 0, 2, 1},   {0xffffffffff000000, 0, 0, 255}, // backwards; wraps
    };
    for (unsigned i = 0; i < sizeof(windows_in) / sizeof(windows_in[0]); i++) {
        uint8_t e[16] = {0};
        put(e, 8, windows_in[i].base);
        put(e + 8, 2, windows_in[i].segment);
        e[10] = windows_in[i].first;
        e[11] = windows_in[i].last;
        table_add(&t, e, 16);
    }
    table_add(&t, "fifteen bytes!!", 15);
    table_done(&t);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.mcfg_count, 2);
    assert_int_equal(info.mcfg[0].base, 0xb0000000);
    assert_int_equal(info.mcfg[1].segment, 1);
    assert_int_equal(info.mcfg[1].bus_last, 15);
}

static void test_hpet(void **state)
{
    (void)state;
    root_with(OTHER_AT);
    struct table t = table_begin(OTHER_AT, "HPET", 1, HPET_SIZE);
    put(t.data + HPET_ADDRESS + GAS_ADDRESS, 8, 0xfed00000);
    table_done(&t);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.hpet_base, 0xfed00000);
    t.data[HPET_ADDRESS + GAS_SPACE] = GAS_SPACE_PORTS;
    table_done(&t);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.hpet_base, 0);
    t.size = HPET_SIZE - 1;
    t.data[HPET_ADDRESS + GAS_SPACE] = GAS_SPACE_MEMORY;
    table_done(&t);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.hpet_base, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, acpi_setup, acpi_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_no_rsdp),
        TEST(test_scan_ebda_and_rom),
        TEST(test_rsdp_by_address),
        TEST(test_rsdp_copy_broken),
        TEST(test_xsdt_wins_and_falls_back),
        TEST(test_table_length),
        TEST(test_root_entries_cut),
        TEST(test_many_tables),
        TEST(test_madt),
        TEST(test_madt_checksum),
        TEST(test_madt_entry_lengths),
        TEST(test_madt_entry_short_or_cut),
        TEST(test_madt_contradictions),
        TEST(test_madt_crowd),
        TEST(test_fadt_revision_1),
        TEST(test_fadt_every_length),
        TEST(test_fadt_reset_and_extended),
        TEST(test_dsdt_missing_or_not_one),
        TEST(test_mcfg),
        TEST(test_hpet),
    };
    return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
