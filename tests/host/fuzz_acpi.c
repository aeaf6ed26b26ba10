// The ACPI parser on memory that a fuzzer wrote: 64 KiB from address 0x1000 on, the RSDP at its
// beginning. Each window is a heap block of exactly its size. Checksums are put right on the way,
// or hardly an input would get past the first gate.
//
// links: kernel/x86/acpi.c kernel/x86/acpi_madt.c kernel/x86/acpi_fadt.c
// links: kernel/x86/acpi_aml.c

#include <x86/acpi.h>

#include "../../kernel/x86/acpi_regs.h"

#include "fuzz.h"

enum { BASE = 0x1000, MAX_WINDOWS = 1024 };

static const uint8_t *memory;
static size_t memory_size;
static void *windows[MAX_WINDOWS];
static unsigned window_count;

static void fix_sum(uint8_t *bytes, size_t size, size_t at)
{
    uint8_t sum = 0;
    bytes[at] = 0;
    for (size_t i = 0; i < size; i++) {
        sum = (uint8_t)(sum + bytes[i]);
    }
    bytes[at] = (uint8_t)-sum;
}

static void *fuzz_map(phys_t address, size_t size)
{
    if (address < BASE || address - BASE > memory_size || size > memory_size - (address - BASE) ||
        window_count == MAX_WINDOWS) {
        return NULL;
    }
    uint8_t *window = malloc(size);
    memcpy(window, memory + (address - BASE), size);
    if (address == BASE && size >= RSDP_SIZE_V1) {
        memcpy(window, "RSD PTR ", 8);
        fix_sum(window, RSDP_SIZE_V1, RSDP_CHECKSUM_V1);
        if (size >= RSDP_SIZE_V2) {
            fix_sum(window, RSDP_SIZE_V2, 32);
        }
    } else if (size > SDT_SIZE) {
        fix_sum(window, size, SDT_CHECKSUM);
    }
    return windows[window_count++] = window;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct boot_info boot = {.rsdp = BASE, .efi_system_table = 1};
    static struct acpi_info info;
    memory = data;
    memory_size = size;
    acpi_parse(&boot, fuzz_map, &info);

    // What the kernel indexes with must be in range, whatever came in.
    MUST(info.cpu_count <= MAX_CPUS && info.ioapic_count <= ACPI_MAX_IOAPICS &&
         info.override_count <= ACPI_MAX_OVERRIDES && info.nmi_count <= ACPI_MAX_NMIS &&
         info.mcfg_count <= ACPI_MAX_MCFG && info.table_count <= ACPI_MAX_TABLES &&
         info.intx_count <= ACPI_MAX_INTX && info.note_count <= 16);
    for (uint32_t i = 0; i < info.override_count; i++) {
        MUST(info.overrides[i].source <= 15);
    }
    for (uint32_t i = 0; i < info.intx_count; i++) {
        MUST(info.intx[i].slot <= 31 && info.intx[i].pin <= 3);
    }
    MUST(info.pm1a_control <= 0xffff && info.pm1b_control <= 0xffff && info.pm_timer <= 0xffff &&
         info.s5_type_a <= 7 && info.s5_type_b <= 7);
    while (window_count > 0) {
        free(windows[--window_count]);
    }
    return 0;
}
