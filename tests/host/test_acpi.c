// The ACPI parser against tables that are right, cut, contradictory or malicious. Each window that
// the parser maps is a heap block of exactly that size, so AddressSanitizer sees a read of even one
// byte beyond what was asked for.
//
// links: kernel/x86/acpi.c kernel/x86/acpi_aml.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <lib/errno.h>
#include <x86/acpi.h>

#include "../../kernel/x86/acpi_regs.h"

// ---- a physical memory made of a few regions ----

enum { MAX_REGIONS = 32, MAX_WINDOWS = 512, REGION_BYTES = 1 << 17 };

static struct {
    phys_t base;
    size_t size;
    uint8_t bytes[REGION_BYTES];
} regions[MAX_REGIONS];
static unsigned region_count;
static void *windows[MAX_WINDOWS];
static unsigned window_count;
static struct boot_info boot;
static struct acpi_info info;

static void *map(phys_t address, size_t size)
{
    for (unsigned i = 0; i < region_count; i++) {
        if (address >= regions[i].base && address - regions[i].base + size <= regions[i].size) {
            assert_true(window_count < MAX_WINDOWS);
            void *window = malloc(size);
            memcpy(window, regions[i].bytes + (address - regions[i].base), size);
            return windows[window_count++] = window;
        }
    }
    return NULL;
}

static uint8_t *region(phys_t base, size_t size)
{
    assert_true(region_count < MAX_REGIONS && size <= REGION_BYTES);
    regions[region_count].base = base;
    regions[region_count].size = size;
    memset(regions[region_count].bytes, 0, sizeof(regions[0].bytes));
    return regions[region_count++].bytes;
}

static int setup(void **state)
{
    (void)state;
    region_count = 0;
    memset(&boot, 0, sizeof(boot));
    memset(&info, 0xa5, sizeof(info)); // what the parser does not fill shows
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    while (window_count > 0) {
        free(windows[--window_count]);
    }
    return 0;
}

// ---- tables ----

static void put(uint8_t *to, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static void fix_sum(uint8_t *table, size_t size, size_t at)
{
    uint8_t sum = 0;
    table[at] = 0;
    for (size_t i = 0; i < size; i++) {
        sum = (uint8_t)(sum + table[i]);
    }
    table[at] = (uint8_t)-sum;
}

// A table being written: grows by add(), is finished by done().
struct table {
    uint8_t *data;
    size_t size;
};

static struct table begin(phys_t address, const char *signature, uint8_t revision, size_t size)
{
    struct table t = {region(address, REGION_BYTES), size};
    memcpy(t.data, signature, 4);
    t.data[SDT_REVISION] = revision;
    memcpy(t.data + SDT_OEM, "TOPHLF", 6);
    return t;
}

static void add(struct table *t, const void *bytes, size_t size)
{
    memcpy(t->data + t->size, bytes, size);
    t->size += size;
}

static void done(struct table *t)
{
    put(t->data + SDT_LENGTH, 4, t->size);
    fix_sum(t->data, t->size, SDT_CHECKSUM);
    regions[region_count - 1].size = t->size; // not a byte more
}

static void rsdp_write(uint8_t *to, uint8_t revision, uint32_t rsdt, uint64_t xsdt)
{
    memcpy(to, "RSD PTR ", 8);
    to[RSDP_REVISION] = revision;
    put(to + RSDP_RSDT, 4, rsdt);
    fix_sum(to, RSDP_SIZE_V1, RSDP_CHECKSUM_V1);
    if (revision >= 2) {
        put(to + RSDP_LENGTH, 4, RSDP_SIZE_V2);
        put(to + RSDP_XSDT, 8, xsdt);
        fix_sum(to, RSDP_SIZE_V2, 32);
    }
}

static void rsdp_copy(uint8_t revision, uint32_t rsdt, uint64_t xsdt)
{
    rsdp_write(boot.rsdp_copy, revision, rsdt, xsdt);
    boot.rsdp_copy_size = revision >= 2 ? RSDP_SIZE_V2 : RSDP_SIZE_V1;
}

enum {
    RSDT_AT = 0x1000,
    MADT_AT = 0x20000,
    FADT_AT = 0x40000,
    DSDT_AT = 0x60000,
    OTHER_AT = 0x80000
};

// A root table that points at one other table.
static void root_with(phys_t address)
{
    struct table t = begin(RSDT_AT, "RSDT", 1, SDT_SIZE);
    uint8_t entry[4];
    put(entry, 4, address);
    add(&t, entry, 4);
    done(&t);
    rsdp_copy(0, RSDT_AT, 0);
}

static struct table madt_begin(void)
{
    root_with(MADT_AT);
    struct table t = begin(MADT_AT, "APIC", 1, MADT_ENTRIES);
    put(t.data + MADT_LAPIC_BASE, 4, 0xfee00000);
    put(t.data + MADT_FLAGS, 4, MADT_FLAG_PCAT);
    return t;
}

static void madt_lapic(struct table *t, uint8_t uid, uint8_t id, uint32_t flags)
{
    uint8_t e[8] = {MADT_LAPIC, 8, uid, id};
    put(e + 4, 4, flags);
    add(t, e, sizeof(e));
}

static void madt_x2apic(struct table *t, uint32_t uid, uint32_t id)
{
    uint8_t e[16] = {MADT_X2APIC, 16};
    put(e + 4, 4, id);
    put(e + 8, 4, LAPIC_FLAG_ENABLED);
    put(e + 12, 4, uid);
    add(t, e, sizeof(e));
}

static void madt_ioapic(struct table *t, uint8_t id, uint32_t base, uint32_t gsi)
{
    uint8_t e[12] = {MADT_IOAPIC, 12, id};
    put(e + 4, 4, base);
    put(e + 8, 4, gsi);
    add(t, e, sizeof(e));
}

static void madt_override(struct table *t, uint8_t bus, uint8_t source, uint32_t gsi,
                          uint16_t flags)
{
    uint8_t e[10] = {MADT_OVERRIDE, 10, bus, source};
    put(e + 4, 4, gsi);
    put(e + 8, 2, flags);
    add(t, e, sizeof(e));
}

static bool noted(const char *what)
{
    for (uint32_t i = 0; i < info.note_count; i++) {
        if (strstr(info.notes[i], what) != NULL) {
            return true;
        }
    }
    return false;
}

static int parse(void)
{
    return acpi_parse(&boot, map, &info);
}

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
    done(&t);
    memset(&boot, 0, sizeof(boot));   // madt_begin gave a copy; this machine gives none
    put(region(0x40e, 2), 2, 0x9fc0); // segment of the EBDA: 0x9fc00
    uint8_t *ebda = region(0x9fc00, 1024) + 1024 - 32;
    uint8_t *rom = region(0xe0000, 0x20000) + 0x20000 - 32; // the last place where one fits
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
    done(&t);
    memset(&boot, 0, sizeof(boot));
    rsdp_write(region(0x7000, RSDP_SIZE_V1), 0, RSDT_AT, 0); // 20 bytes and not one more
    boot.rsdp = 0x7000;
    assert_int_equal(parse(), 0);
    assert_true(info.present);
    assert_int_equal(info.revision, 0);
}

static void test_rsdp_copy_broken(void **state)
{
    (void)state;
    struct table t = madt_begin();
    done(&t);
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
    done(&madt);
    struct table xsdt = begin(OTHER_AT, "XSDT", 1, SDT_SIZE);
    uint8_t entries[24] = {0};
    put(entries + 8, 8, 0x123456789000); // nothing there; entry 0 is zero
    put(entries + 16, 8, MADT_AT);
    add(&xsdt, entries, sizeof(entries));
    done(&xsdt);
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
    done(&t);
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
    done(&madt);
    uint8_t *root = regions[0].bytes;
    put(root + SDT_LENGTH, 4, SDT_SIZE + 3); // three bytes are no entry
    fix_sum(root, SDT_SIZE + 3, SDT_CHECKSUM);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.table_count, 0);
}

static void test_many_tables(void **state)
{
    (void)state;
    struct table t = begin(RSDT_AT, "RSDT", 1, SDT_SIZE);
    uint8_t entry[4];
    put(entry, 4, OTHER_AT);
    for (unsigned i = 0; i < 100; i++) {
        add(&t, entry, 4);
    }
    done(&t);
    rsdp_copy(0, RSDT_AT, 0);
    struct table other = begin(OTHER_AT, "WAET", 1, 40);
    done(&other);
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
    add(&t, "\x04\x06\xff\x00\x00\x01", 6); // NMI: every CPU, LINT1
    add(&t, "\x04\x06\x01\x0f\x00\x00", 6); // uid 1, level and low, LINT0
    add(&t, "\x05\x0c\x00\x00\x00\x10\xe0\xfe\x01\x00\x00\x00", 12);
    add(&t, "\x7f\x03\x00", 3); // a type of the future
    done(&t);
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
    done(&t);
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
        setup(NULL);
        struct table t = madt_begin();
        madt_lapic(&t, 0, 7, 1);
        uint8_t bad[2] = {MADT_IOAPIC, wrong[i]};
        add(&t, bad, 2);
        madt_lapic(&t, 1, 8, 1);
        done(&t);
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
        setup(NULL);
        struct table t = madt_begin();
        uint8_t tiny[2] = {types[i], 2};
        add(&t, tiny, 2); // long enough to step over, too short to read
        madt_lapic(&t, 1, 8, 1);
        uint8_t cut[1] = {types[i]};
        add(&t, cut, 1); // not even a length
        done(&t);
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
    add(&t, "\x04\x06\xff\x00\x00\x02", 6); // LINT2
    done(&t);
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
        add(&t, "\x04\x06\xff\x00\x00\x01", 6);
    }
    done(&t);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.cpu_count, MAX_CPUS);
    assert_int_equal(info.cpu_total, 300);
    assert_int_equal(info.ioapic_count, ACPI_MAX_IOAPICS);
    assert_int_equal(info.nmi_count, ACPI_MAX_NMIS);
}

// ---- FADT and DSDT ----

static struct table fadt_begin(uint8_t revision, size_t size)
{
    root_with(FADT_AT);
    struct table t = begin(FADT_AT, "FACP", revision, size);
    put(t.data + FADT_DSDT, 4, DSDT_AT);
    put(t.data + FADT_SCI, 2, 9);
    put(t.data + FADT_SMI_COMMAND, 4, 0xb2);
    t.data[FADT_ACPI_ENABLE] = 2;
    put(t.data + FADT_PM1A_EVENT, 4, 0x600);
    put(t.data + FADT_PM1A_CONTROL, 4, 0x604);
    put(t.data + FADT_PM_TIMER, 4, 0x608);
    t.data[FADT_PM1_EVENT_LENGTH] = 4;
    return t;
}

static void dsdt(const void *aml, size_t size)
{
    struct table t = begin(DSDT_AT, "DSDT", 1, SDT_SIZE);
    add(&t, aml, size);
    done(&t);
}

static const uint8_t aml_s5[] = {AML_ZERO, AML_NAME, '_',      'S',     '5', '_', AML_PACKAGE, 6, 4,
                                 AML_ONE,  AML_ZERO, AML_ZERO, AML_ZERO};

// As -machine pc has it: 116 bytes end before the reset register, and so do the reads.
static void test_fadt_revision_1(void **state)
{
    (void)state;
    struct table t = fadt_begin(1, FADT_SIZE_V1);
    put(t.data + FADT_BOOT_ARCH, 2, 0); // reserved in this revision
    put(t.data + FADT_FLAGS, 4, FADT_FLAG_RESET);
    done(&t);
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
        setup(NULL);
        struct table t = fadt_begin(3, size > FADT_SIZE_V1 ? size : FADT_SIZE_V1);
        memset(t.data + FADT_FLAGS, 0xff, 200);
        t.size = size;
        done(&t);
        assert_int_equal(parse(), 0);
        assert_int_equal(info.has_fadt, size >= FADT_SIZE_V1);
        assert_false(info.has_reset); // all ones are no register
        teardown(NULL);
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
    done(&t);
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
    done(&t);
    assert_int_equal(parse(), 0);
    assert_true(info.has_fadt);
    assert_false(info.has_s5);
    assert_true(noted("DSDT: no table"));
    struct table wrong = begin(DSDT_AT, "SSDT", 1, SDT_SIZE);
    done(&wrong);
    assert_int_equal(parse(), 0);
    assert_true(noted("SSDT where DSDT should be"));
}

static bool s5_of(const void *aml, size_t size)
{
    setup(NULL);
    struct table t = fadt_begin(1, FADT_SIZE_V1);
    done(&t);
    dsdt(aml, size);
    assert_int_equal(parse(), 0);
    teardown(NULL);
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

// A DSDT of the form that q35's has: PRTA with all slots, and eight link devices with an extended
// interrupt each.
enum { LINKS = 8, SLOTS = 32 };

static size_t aml_intx(uint8_t *to)
{
    uint8_t *p = to, *length;
    for (unsigned i = 0; i < LINKS; i++) {
        *p++ = AML_EXTENDED;
        *p++ = AML_EXTENDED_DEVICE;
        length = p++;
        memcpy(p, "GSI", 3);
        p[3] = (uint8_t)('A' + i);
        p += 4;
        static const uint8_t uid[] = {AML_NAME, '_', 'U', 'I', 'D', AML_BYTE, 0x10};
        memcpy(p, uid, sizeof(uid));
        p += sizeof(uid);
        uint8_t crs[] = {AML_NAME,          '_', 'C',  'R',  'S',  AML_BUFFER, 14,
                         AML_BYTE,          11,  0x89, 0x06, 0,    9,          1,
                         (uint8_t)(16 + i), 0,   0,    0,    0x79, 0};
        memcpy(p, crs, sizeof(crs));
        p += sizeof(crs);
        *length = (uint8_t)(p - length);
    }
    static const uint8_t head[] = {AML_NAME, 'P', 'R', 'T', 'A', AML_PACKAGE};
    memcpy(p, head, sizeof(head));
    p += sizeof(head);
    length = p; // two bytes, filled in below
    p += 2;
    *p++ = SLOTS * 4;
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        for (unsigned pin = 0; pin < 4; pin++) {
            *p++ = AML_PACKAGE;
            uint8_t *inner = p++;
            *p++ = 4;
            *p++ = slot == 0 ? AML_WORD : AML_DWORD;
            put(p, slot == 0 ? 2 : 4, slot << 16 | 0xffff);
            p += slot == 0 ? 2 : 4;
            if (pin > 1) {
                *p++ = AML_BYTE;
            }
            *p++ = (uint8_t)pin;
            memcpy(p, "GSI", 3);
            p[3] = (uint8_t)((slot >= 25 && slot != 30 ? 'A' + pin : 'E' + ((slot + pin) & 3)));
            p += 4;
            *p++ = AML_ZERO;
            *inner = (uint8_t)(p - inner);
        }
    }
    unsigned size = (unsigned)(p - length);
    length[0] = (uint8_t)(0x40 | (size & 0xf));
    length[1] = (uint8_t)(size >> 4);
    memcpy(p, aml_s5, sizeof(aml_s5));
    return (size_t)(p - to) + sizeof(aml_s5);
}

static void parse_dsdt(const uint8_t *aml, size_t size)
{
    setup(NULL);
    struct table t = fadt_begin(1, FADT_SIZE_V1);
    done(&t);
    dsdt(aml, size);
    assert_int_equal(parse(), 0);
    teardown(NULL);
}

static void test_intx(void **state)
{
    (void)state;
    static uint8_t aml[8192];
    size_t size = aml_intx(aml);
    parse_dsdt(aml, size);
    assert_int_equal(info.intx_count, 128);
    assert_true(info.has_s5);
    for (unsigned i = 0; i < info.intx_count; i++) {
        const struct acpi_intx *intx = &info.intx[i];
        assert_int_equal(intx->slot, i / 4);
        assert_int_equal(intx->pin, i % 4);
        unsigned pci = intx->slot >= 25 && intx->slot != 30 ? 16u + intx->pin
                                                            : 20u + ((intx->slot + intx->pin) & 3u);
        assert_int_equal(intx->gsi, pci);
    }
}

// One byte of it changed: whatever it means then, all or nothing is taken, and nothing outside is
// read (the sanitizer watches).
static void test_intx_damaged(void **state)
{
    (void)state;
    static uint8_t aml[8192];
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
    static uint8_t aml[8192];
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

// ---- MCFG and HPET ----

static void test_mcfg(void **state)
{
    (void)state;
    root_with(OTHER_AT);
    struct table t = begin(OTHER_AT, "MCFG", 1, MCFG_ENTRIES);
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
        add(&t, e, 16);
    }
    add(&t, "fifteen bytes!!", 15);
    done(&t);
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
    struct table t = begin(OTHER_AT, "HPET", 1, HPET_SIZE);
    put(t.data + HPET_ADDRESS + GAS_ADDRESS, 8, 0xfed00000);
    done(&t);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.hpet_base, 0xfed00000);
    t.data[HPET_ADDRESS + GAS_SPACE] = GAS_SPACE_PORTS;
    done(&t);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.hpet_base, 0);
    t.size = HPET_SIZE - 1;
    t.data[HPET_ADDRESS + GAS_SPACE] = GAS_SPACE_MEMORY;
    done(&t);
    assert_int_equal(parse(), 0);
    assert_int_equal(info.hpet_base, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
        TEST(test_s5_forms),
        TEST(test_intx),
        TEST(test_intx_damaged),
        TEST(test_intx_cut),
        TEST(test_intx_direct),
        TEST(test_mcfg),
        TEST(test_hpet),
    };
    return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
