// What the tests of the ACPI parser share: a physical memory, and tables to be written into it.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <x86/acpi.h>

#include "../../kernel/x86/acpi_regs.h"

extern struct boot_info boot; // what the boot loader says
extern struct acpi_info info; // what the parser found

// For each test: nothing anywhere, and no window left open.
int acpi_setup(void **state);
int acpi_teardown(void **state);

// Memory of this size, all zero, from here on; the bytes of one made before.
uint8_t *memory_region(phys_t base, size_t size);
uint8_t *memory_at(phys_t base);

void put(uint8_t *to, unsigned size, uint64_t value); // little endian
// Makes the bytes add up to zero, by the one at `at`.
void fix_sum(uint8_t *table, size_t size, size_t at);

// A table being written: grows by table_add(), is finished by table_done().
struct table {
    uint8_t *data;
    size_t size;
};
struct table table_begin(phys_t address, const char *signature, uint8_t revision, size_t size);
void table_add(struct table *t, const void *bytes, size_t size);
void table_done(struct table *t);

enum {
    RSDT_AT = 0x1000,
    MADT_AT = 0x20000,
    FADT_AT = 0x40000,
    DSDT_AT = 0x60000,
    OTHER_AT = 0x80000
};

void rsdp_write(uint8_t *to, uint8_t revision, uint32_t rsdt, uint64_t xsdt);
void rsdp_copy(uint8_t revision, uint32_t rsdt, uint64_t xsdt); // handed over by the boot loader
void root_with(phys_t address); // a root table that points at one other table

// A MADT, with the root that points at it, and what may stand in it.
struct table madt_begin(void);
void madt_lapic(struct table *t, uint8_t uid, uint8_t id, uint32_t flags);
void madt_x2apic(struct table *t, uint32_t uid, uint32_t id);
void madt_ioapic(struct table *t, uint8_t id, uint32_t base, uint32_t gsi);
void madt_override(struct table *t, uint8_t bus, uint8_t source, uint32_t gsi, uint16_t flags);

// A FADT, with the root that points at it, that names a DSDT; the DSDT with this byte code.
struct table fadt_begin(uint8_t revision, size_t size);
void dsdt(const void *aml, size_t size);
// Byte code that says how to power off: _S5, with 1 and 0.
static const uint8_t aml_s5[] = {AML_ZERO, AML_NAME, '_',      'S',     '5', '_', AML_PACKAGE, 6, 4,
                                 AML_ONE,  AML_ZERO, AML_ZERO, AML_ZERO};

int parse(void);
bool noted(const char *what); // by the parser, for people
