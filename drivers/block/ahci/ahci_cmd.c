// Builds the bytes of a command. Pure functions, tested on the host.
//
//   header (32 bytes, one a slot)           table (128-byte aligned)
//   [ flags | transferred | table ] ──────> [ command FIS | ... | PRD 0 | PRD 1 | ... ]
//                                                                  |       └──> memory
//                                                                  └──────────> memory
//
// AHCI 1.3.1, 4.2; SATA 3.0, 10.3.4. Context: any. Previous: drivers/block/ata/ata.c. Next:
// ahci_port.c, which owns the memory these are written to.
#include "ahci_cmd.h"

#include <lib/errno.h>
#include <lib/string.h>

const struct bit_name ahci_pxis_names[] = {
    {AHCI_PXIS_DHRS, "DHRS"}, {AHCI_PXIS_PSS, "PSS"},   {AHCI_PXIS_DSS, "DSS"},
    {AHCI_PXIS_SDBS, "SDBS"}, {AHCI_PXIS_UFS, "UFS"},   {AHCI_PXIS_DPS, "DPS"},
    {AHCI_PXIS_PCS, "PCS"},   {AHCI_PXIS_DMPS, "DMPS"}, {AHCI_PXIS_PRCS, "PRCS"},
    {AHCI_PXIS_IPMS, "IPMS"}, {AHCI_PXIS_OFS, "OFS"},   {AHCI_PXIS_INFS, "INFS"},
    {AHCI_PXIS_IFS, "IFS"},   {AHCI_PXIS_HBDS, "HBDS"}, {AHCI_PXIS_HBFS, "HBFS"},
    {AHCI_PXIS_TFES, "TFES"}, {AHCI_PXIS_CPDS, "CPDS"}, {0, NULL},
};

// SATA 3.0, 14.1.2; AHCI 1.3.1, 3.3.12
const struct bit_name ahci_serr_names[] = {
    {BIT(0), "I"},  {BIT(1), "M"},  {BIT(8), "T"},  {BIT(9), "C"},  {BIT(10), "P"}, {BIT(11), "E"},
    {BIT(16), "N"}, {BIT(17), "I"}, {BIT(18), "W"}, {BIT(19), "B"}, {BIT(20), "D"}, {BIT(21), "C"},
    {BIT(22), "H"}, {BIT(23), "S"}, {BIT(24), "T"}, {BIT(25), "F"}, {BIT(26), "X"}, {0, NULL},
};

static void put_le32(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

// Five words, low byte first: as the wire has them.
void ahci_build_fis(uint8_t *fis, const struct ata_registers *regs)
{
    uint64_t lba = regs->lba;
    uint32_t count = regs->count, features = 0, device = ATA_DEVICE_LBA;
    if (regs->queued) { // SATA 3.0, 13.6.4.1
        features = count;
        count = (uint32_t)regs->tag << 3;
    }
    if (!regs->lba48) {
        device |= lba >> 24 & 0x0f;
        lba &= 0xffffff;
        count &= 0xff;
    }
    put_le32(fis, FIS_REG_H2D | FIS_H2D_COMMAND << 8 | (uint32_t)regs->command << 16 |
                      (features & 0xff) << 24);
    put_le32(fis + 4, (uint32_t)(lba & 0xffffff) | device << 24);
    put_le32(fis + 8, (uint32_t)(lba >> 24 & 0xffffff) | (features >> 8 & 0xff) << 24);
    put_le32(fis + 12, count & 0xffff); // 65,536 leaves both bytes 0, which is what it means
    put_le32(fis + 16, 0);
}

void ahci_build_packet(uint8_t *table, const struct atapi_packet *packet,
                       const struct atapi_identity *drive)
{
    uint32_t features =
        packet->length == 0
            ? 0
            : ATAPI_FEATURE_DMA | (drive->needs_direction ? ATAPI_FEATURE_TO_MEMORY : 0);
    memset(table, 0, AHCI_TABLE_ACMD);
    put_le32(table + AHCI_TABLE_FIS,
             FIS_REG_H2D | FIS_H2D_COMMAND << 8 | (uint32_t)ATA_PACKET << 16 | features << 24);
    memcpy(table + AHCI_TABLE_ACMD, packet->bytes, sizeof(packet->bytes));
}

int ahci_build_prd(struct ahci_prd *prd, uint64_t bus_address, uint32_t bytes)
{
    if ((bus_address & 1) != 0 || (bytes & 1) != 0 || bytes == 0 || bytes > AHCI_PRD_MAX_BYTES) {
        return -EINVAL;
    }
    prd->base_low = (uint32_t)bus_address;
    prd->base_high = (uint32_t)(bus_address >> 32);
    prd->reserved = 0;
    prd->count = bytes - 1;
    return 0;
}

void ahci_build_header(struct ahci_command_header *header, uint64_t table, unsigned prd_count,
                       bool write)
{
    header->flags =
        AHCI_HEADER_PRDTL(prd_count) | (write ? AHCI_HEADER_WRITE : 0) | AHCI_FIS_DWORDS;
    header->transferred = 0;
    header->table_low = (uint32_t)table;
    header->table_high = (uint32_t)(table >> 32);
}
