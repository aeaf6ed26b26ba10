// Between acpi.c, which reads the tables, and acpi_aml.c, which finds constants in byte code.
#pragma once

#include <x86/acpi.h>

// A stretch of bytes that may be read: a whole table, an entry of it, a package.
struct acpi_span {
    const uint8_t *data;
    uint32_t size;
};

// Why something was refused, for the log. Notes beyond the last place are dropped.
void acpi_note(struct acpi_info *info, const char *format, ...) __printf(2, 3);

// Look into the DSDT's byte code (behind its header) and fill in what they find: the sleep type of
// soft-off, the wires of PCI slots. What is missing or not understood leaves a note, or nothing
// where most machines have nothing. Context: boot.
void acpi_find_s5(struct acpi_info *info, struct acpi_span aml);
void acpi_find_intx(struct acpi_info *info, struct acpi_span dsdt);
