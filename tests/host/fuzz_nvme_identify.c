// What a controller says of itself, from one that lies: whatever the pages, strings end and are
// printable, numbers are in range, and a namespace that is taken can be reached to its last sector.
//
// links: drivers/block/nvme/nvme_cmd.c kernel/lib/string.c
#include <stdlib.h>

#include <lib/string.h>

#include "../../drivers/block/nvme/nvme_cmd.h"

static void check(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void check_text(const char *s, size_t size)
{
    check(strnlen(s, size) < size);
    for (; *s != '\0'; s++) {
        check(*s >= 0x20 && *s < 0x7f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t page[NVME_IDENTIFY_SIZE] = {0};
    struct nvme_identity identity;
    struct nvme_format format;
    const char *why;

    memcpy(page, data, size < sizeof(page) ? size : sizeof(page));
    int error = nvme_parse_controller(&identity, page, size % 28, &why);
    check((error == 0) == (why == NULL));
    check_text(identity.model, sizeof(identity.model));
    check_text(identity.serial, sizeof(identity.serial));
    check_text(identity.firmware, sizeof(identity.firmware));
    if (error == 0) {
        check(identity.namespaces >= 1 && identity.events >= 1 && identity.sgl <= 2);
        check(identity.max_bytes == 0 || IS_POWER_OF_2(identity.max_bytes));
    }
    error = nvme_parse_namespace(&format, page, &why);
    check((error == 0) == (why == NULL));
    if (error == 0) {
        check(format.block_shift >= 9 && format.block_shift <= 12);
        check(format.blocks >= 1 && format.blocks << (format.block_shift - 9) < BIT64(48));
    }
    return 0;
}
