// What those who read ACPI's tables share: acpi.c, which finds them, and those who know one each.
#pragma once

#include <x86/acpi.h>

// A stretch of bytes that may be read: a whole table, an entry of it, a package.
struct acpi_span {
    const uint8_t *data;
    uint32_t size;
};

// Why something was refused, for the log. Notes beyond the last place are dropped.
void acpi_note(struct acpi_info *info, const char *format, ...) __printf(2, 3);

// acpi_madt.c, acpi_fadt.c: fill in what a table says whose checksum is right. A second one of its
// kind, or one that is too short, leaves a note and is ignored; the FADT's is false then. *dsdt:
// where the FADT says that the DSDT is; nobody has looked there. Context: boot.
void acpi_parse_madt(struct acpi_info *info, struct acpi_span madt);
bool acpi_parse_fadt(struct acpi_info *info, struct acpi_span fadt, phys_t *dsdt);

// acpi_aml.c: look into the DSDT's byte code (behind its header) and fill in what they find: the
// sleep type of soft-off, the wires of PCI slots. What is missing or not understood leaves a note,
// or nothing where most machines have nothing. Context: boot.
void acpi_find_s5(struct acpi_info *info, struct acpi_span aml);
void acpi_find_intx(struct acpi_info *info, struct acpi_span dsdt);
