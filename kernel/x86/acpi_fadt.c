// The FADT: the ports that power the machine off, its reset register, what of an old PC is there;
// and where the DSDT lies.
//
// The table has grown with each revision, so a field counts only where the table reaches. Newer
// ones are wider and stand at its end; the old ones before them are still filled in, or zero.
//
// ACPI Specification 6.4, 5.2.9. Context: boot, one CPU. Pure. Previous: acpi.c. Next: acpi_aml.c
// (the DSDT), power.c.
#include <lib/string.h>

#include "acpi_internal.h"
#include "acpi_regs.h"

// Fields behind the table's end read as zero, which is what absent ones mean.
static uint32_t acpi_field(const struct acpi_span *table, uint32_t offset, uint32_t size)
{
    if (offset + size > table->size) {
        return 0;
    }
    const uint8_t *p = table->data + offset;
    return size == 1 ? p[0] : size == 2 ? get_le16(p) : get_le32(p);
}

// A register block's port: the 32-bit field, or the extended one (0: there is none) where that is
// empty. 0 for none and for what is not a port.
static uint32_t acpi_fadt_port(struct acpi_info *info, const struct acpi_span *table,
                               uint32_t offset, uint32_t extended)
{
    uint64_t port = acpi_field(table, offset, 4);
    if (port == 0 && extended != 0 && extended + GAS_SIZE <= table->size) {
        const uint8_t *gas = table->data + extended;
        port = get_le64(gas + GAS_ADDRESS);
        if (port != 0 && gas[GAS_SPACE] != GAS_SPACE_PORTS) {
            acpi_note(info, "FADT: register block at %u is not in port space", extended);
            return 0;
        }
    }
    if (port > 0xffff) {
        acpi_note(info, "FADT: 0x%llx is not a port", (unsigned long long)port);
        return 0;
    }
    return (uint32_t)port;
}

static void acpi_fadt_reset(struct acpi_info *info, const struct acpi_span *table)
{
    if ((acpi_field(table, FADT_FLAGS, 4) & FADT_FLAG_RESET) == 0 ||
        table->size <= FADT_RESET_VALUE) {
        return;
    }
    const uint8_t *gas = table->data + FADT_RESET;
    info->reset_space = gas[GAS_SPACE];
    info->reset_address = get_le64(gas + GAS_ADDRESS);
    info->reset_value = table->data[FADT_RESET_VALUE];
    info->has_reset = (info->reset_space == GAS_SPACE_PORTS && info->reset_address != 0 &&
                       info->reset_address <= 0xffff) ||
                      (info->reset_space == GAS_SPACE_MEMORY && info->reset_address != 0);
    if (!info->has_reset) {
        acpi_note(info, "FADT: reset register in space %u at 0x%llx is not usable",
                  info->reset_space, (unsigned long long)info->reset_address);
    }
}

bool acpi_parse_fadt(struct acpi_info *info, struct acpi_span table, phys_t *dsdt)
{
    if (info->has_fadt || table.size < FADT_SIZE_V1) {
        acpi_note(info, "FACP: %s, ignored", info->has_fadt ? "a second one" : "too short");
        return false;
    }
    info->has_fadt = true;
    info->sci_irq = (uint16_t)acpi_field(&table, FADT_SCI, 2);
    info->smi_command = acpi_fadt_port(info, &table, FADT_SMI_COMMAND, 0);
    info->acpi_enable = (uint8_t)acpi_field(&table, FADT_ACPI_ENABLE, 1);
    info->pm1a_event = acpi_fadt_port(info, &table, FADT_PM1A_EVENT, FADT_X_PM1A_EVENT);
    info->pm1a_control = acpi_fadt_port(info, &table, FADT_PM1A_CONTROL, FADT_X_PM1A_CONTROL);
    info->pm1b_control = acpi_fadt_port(info, &table, FADT_PM1B_CONTROL, FADT_X_PM1B_CONTROL);
    info->pm_timer = acpi_fadt_port(info, &table, FADT_PM_TIMER, FADT_X_PM_TIMER);
    info->pm1_event_length = (uint8_t)acpi_field(&table, FADT_PM1_EVENT_LENGTH, 1);
    // The boot flags came with revision 2 (5.2.9.3); before, a PC had it all.
    info->boot_arch_flags = table.data[SDT_REVISION] >= 2
                                ? (uint16_t)acpi_field(&table, FADT_BOOT_ARCH, 2)
                                : BOOT_ARCH_LEGACY | BOOT_ARCH_8042;
    acpi_fadt_reset(info, &table);

    *dsdt = acpi_field(&table, FADT_DSDT, 4);
    if (table.size >= FADT_X_DSDT + 8 && get_le64(table.data + FADT_X_DSDT) != 0) {
        *dsdt = get_le64(table.data + FADT_X_DSDT);
    }
    return true;
}
