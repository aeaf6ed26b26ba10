// A physical memory made of a few regions, ACPI tables written into it, and the parser let loose on
// both. What it maps is copied out into a heap block of exactly that size.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "acpi_tables.h"

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
struct boot_info boot;
struct acpi_info info;

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

uint8_t *memory_region(phys_t base, size_t size)
{
    assert_true(region_count < MAX_REGIONS && size <= REGION_BYTES);
    regions[region_count].base = base;
    regions[region_count].size = size;
    memset(regions[region_count].bytes, 0, sizeof(regions[0].bytes));
    return regions[region_count++].bytes;
}

uint8_t *memory_at(phys_t base)
{
    for (unsigned i = 0; i < region_count; i++) {
        if (regions[i].base == base) {
            return regions[i].bytes;
        }
    }
    fail_msg("no region begins at %#llx", (unsigned long long)base);
    return NULL;
}

int acpi_setup(void **state)
{
    (void)state;
    region_count = 0;
    memset(&boot, 0, sizeof(boot));
    memset(&info, 0xa5, sizeof(info)); // what the parser does not fill shows
    return 0;
}

int acpi_teardown(void **state)
{
    (void)state;
    while (window_count > 0) {
        free(windows[--window_count]);
    }
    return 0;
}

// ---- tables in it ----

void put(uint8_t *to, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

void fix_sum(uint8_t *table, size_t size, size_t at)
{
    uint8_t sum = 0;
    table[at] = 0;
    for (size_t i = 0; i < size; i++) {
        sum = (uint8_t)(sum + table[i]);
    }
    table[at] = (uint8_t)-sum;
}

struct table table_begin(phys_t address, const char *signature, uint8_t revision, size_t size)
{
    struct table t = {memory_region(address, REGION_BYTES), size};
    memcpy(t.data, signature, 4);
    t.data[SDT_REVISION] = revision;
    memcpy(t.data + SDT_OEM, "TOPHLF", 6);
    return t;
}

void table_add(struct table *t, const void *bytes, size_t size)
{
    memcpy(t->data + t->size, bytes, size);
    t->size += size;
}

void table_done(struct table *t)
{
    put(t->data + SDT_LENGTH, 4, t->size);
    fix_sum(t->data, t->size, SDT_CHECKSUM);
    regions[region_count - 1].size = t->size; // not a byte more
}

void rsdp_write(uint8_t *to, uint8_t revision, uint32_t rsdt, uint64_t xsdt)
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

void rsdp_copy(uint8_t revision, uint32_t rsdt, uint64_t xsdt)
{
    rsdp_write(boot.rsdp_copy, revision, rsdt, xsdt);
    boot.rsdp_copy_size = revision >= 2 ? RSDP_SIZE_V2 : RSDP_SIZE_V1;
}

void root_with(phys_t address)
{
    struct table t = table_begin(RSDT_AT, "RSDT", 1, SDT_SIZE);
    uint8_t entry[4];
    put(entry, 4, address);
    table_add(&t, entry, 4);
    table_done(&t);
    rsdp_copy(0, RSDT_AT, 0);
}

struct table madt_begin(void)
{
    root_with(MADT_AT);
    struct table t = table_begin(MADT_AT, "APIC", 1, MADT_ENTRIES);
    put(t.data + MADT_LAPIC_BASE, 4, 0xfee00000);
    put(t.data + MADT_FLAGS, 4, MADT_FLAG_PCAT);
    return t;
}

void madt_lapic(struct table *t, uint8_t uid, uint8_t id, uint32_t flags)
{
    uint8_t e[8] = {MADT_LAPIC, 8, uid, id};
    put(e + 4, 4, flags);
    table_add(t, e, sizeof(e));
}

void madt_x2apic(struct table *t, uint32_t uid, uint32_t id)
{
    uint8_t e[16] = {MADT_X2APIC, 16};
    put(e + 4, 4, id);
    put(e + 8, 4, LAPIC_FLAG_ENABLED);
    put(e + 12, 4, uid);
    table_add(t, e, sizeof(e));
}

void madt_ioapic(struct table *t, uint8_t id, uint32_t base, uint32_t gsi)
{
    uint8_t e[12] = {MADT_IOAPIC, 12, id};
    put(e + 4, 4, base);
    put(e + 8, 4, gsi);
    table_add(t, e, sizeof(e));
}

void madt_override(struct table *t, uint8_t bus, uint8_t source, uint32_t gsi, uint16_t flags)
{
    uint8_t e[10] = {MADT_OVERRIDE, 10, bus, source};
    put(e + 4, 4, gsi);
    put(e + 8, 2, flags);
    table_add(t, e, sizeof(e));
}

struct table fadt_begin(uint8_t revision, size_t size)
{
    root_with(FADT_AT);
    struct table t = table_begin(FADT_AT, "FACP", revision, size);
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

void dsdt(const void *aml, size_t size)
{
    struct table t = table_begin(DSDT_AT, "DSDT", 1, SDT_SIZE);
    table_add(&t, aml, size);
    table_done(&t);
}

// ---- parsed ----

bool noted(const char *what)
{
    for (uint32_t i = 0; i < info.note_count; i++) {
        if (strstr(info.notes[i], what) != NULL) {
            return true;
        }
    }
    return false;
}

int parse(void)
{
    return acpi_parse(&boot, map, &info);
}
