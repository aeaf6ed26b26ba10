// What a controller says of itself, from one that lies: whatever the pages, strings end and are
// printable, numbers are in range, and a namespace that is taken can be reached to its last sector.
//
// links: drivers/block/nvme/nvme_cmd.c kernel/lib/string.c

#include <lib/string.h>

#include "../../drivers/block/nvme/nvme_cmd.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t page[NVME_IDENTIFY_SIZE] = {0};
    struct nvme_identity identity;
    struct nvme_format format;
    const char *why;

    memcpy(page, data, size < sizeof(page) ? size : sizeof(page));
    int error = nvme_parse_controller(&identity, page, size % 28, &why);
    MUST((error == 0) == (why == NULL));
    must_be_text(identity.model, sizeof(identity.model));
    must_be_text(identity.serial, sizeof(identity.serial));
    must_be_text(identity.firmware, sizeof(identity.firmware));
    if (error == 0) {
        MUST(identity.namespaces >= 1 && identity.events >= 1 && identity.sgl <= 2);
        MUST(identity.max_bytes == 0 || IS_POWER_OF_2(identity.max_bytes));
    }
    error = nvme_parse_namespace(&format, page, &why);
    MUST((error == 0) == (why == NULL));
    if (error == 0) {
        MUST(format.block_shift >= 9 && format.block_shift <= 12);
        MUST(format.blocks >= 1 && format.blocks << (format.block_shift - 9) < BIT64(48));
    }
    return 0;
}
