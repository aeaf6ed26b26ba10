// What a disk says of itself, from a disk that lies: whatever the page, strings end and are
// printable, numbers are in range, and a disk that is taken has a command set that reaches it all.
//
// links: drivers/block/ahci/ahci_cmd.c drivers/block/ata/ata.c kernel/lib/string.c

#include <lib/string.h>

#include "../../drivers/block/ahci/ahci_cmd.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t page[ATA_IDENTIFY_WORDS * 2] = {0};
    struct ata_identity identity;
    struct ata_registers regs;
    const char *why;

    memcpy(page, data, size < sizeof(page) ? size : sizeof(page));
    int error = ata_parse_identity(&identity, page, &why);
    MUST((error == 0) == (why == NULL));
    must_be_text(identity.model, sizeof(identity.model));
    must_be_text(identity.serial, sizeof(identity.serial));
    must_be_text(identity.firmware, sizeof(identity.firmware));
    if (error == 0) {
        uint32_t block = 1u << identity.block_shift;
        MUST(block <= 8 && identity.sectors % block == 0);
        MUST(identity.sectors >= block && identity.sectors <= BIT64(48));
        MUST(identity.queue_depth >= 1 && identity.queue_depth <= 32);
        MUST(ata_build_rw(&regs, &identity, false, identity.sectors - block, block) == 0);
        MUST(regs.lba == identity.sectors / block - 1 && regs.count == 1);
        MUST(ata_build_rw(&regs, &identity, true, identity.sectors - block, 0) != 0);
    }
    return 0;
}
