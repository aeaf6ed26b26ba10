// The ACPI table DMAR, as a fuzzer writes it.
//
// links: drivers/iommu/dmar.c kernel/lib/format.c

#include "drivers/iommu/dmar.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dmar dmar;
    uint8_t *table = malloc(size + 4); // exactly as large: a read behind it is seen

    memcpy(table, "DMAR", 4);
    memcpy(table + 4, data, size);
    if (dmar_parse(table, size + 4, &dmar) == 0) {
        for (unsigned id = 0; id < 0x10000; id += 0x11) {
            MUST(dmar_unit_of(&dmar, 0, (uint16_t)id, 0x20) < (int)dmar.unit_count);
            dmar_reserved_of(&dmar, 0, (uint16_t)id, 0);
        }
    }
    free(table);
    return 0;
}
