// ATA commands as the registers of a command, and the page in which a disk describes itself. Pure
// functions, tested on the host.
//
// ATA8-ACS, 7.16 (IDENTIFY DEVICE), 4.13 (48-bit commands); SATA 3.0, 13.6 (queued commands).
// Context: any. Next: drivers/block/ahci/ahci_cmd.c or drivers/block/ide/ide.c, which bring the
// registers to the disk.
#include "ata.h"

#include <lib/errno.h>
#include <lib/string.h>

enum { ATA_MAX_TAGS = 32, ATA_MAX_BLOCK_SHIFT = 3 };

// Words of the IDENTIFY page: ATA8-ACS, table 29.
enum identify_word {
    ID_GENERAL = 0,
    ID_SERIAL = 10,
    ID_FIRMWARE = 23,
    ID_MODEL = 27,
    ID_CAPABILITIES = 49,
    ID_SECTORS28 = 60,
    ID_QUEUE_DEPTH = 75,
    ID_SATA_CAPABILITIES = 76,
    ID_SUPPORTED_82 = 82,
    ID_SUPPORTED_83 = 83,
    ID_SUPPORTED_84 = 84,
    ID_ENABLED_85 = 85,
    ID_SECTORS48 = 100,
    ID_SECTOR_SIZE = 106,
    ID_LOGICAL_WORDS = 117,
    ID_ROTATION = 217,
    ID_INTEGRITY = 255,
};

// ATA8-ACS, 6.2 (status) and 6.3 (error)
const struct bit_name ata_status_names[] = {
    {0x80, "BSY"}, {0x40, "DRDY"}, {0x20, "DF"}, {0x10, "DSC"},
    {0x08, "DRQ"}, {0x01, "ERR"},  {0, NULL},
};
const struct bit_name ata_error_names[] = {
    {0x80, "ICRC"}, {0x40, "UNC"}, {0x10, "IDNF"}, {0x04, "ABRT"}, {0, NULL},
};

// ---- commands -----------------------------------------------------------------------------------

// Sectors of 512 bytes become blocks. False: not whole ones, or none.
static bool ata_to_blocks(const struct ata_identity *identity, uint64_t *lba, uint32_t *count)
{
    uint64_t part = BIT64(identity->block_shift) - 1;
    bool whole = *count != 0 && ((*lba | *count) & part) == 0;
    *lba >>= identity->block_shift;
    *count >>= identity->block_shift;
    return whole;
}

int ata_build_rw(struct ata_registers *regs, const struct ata_identity *identity, bool write,
                 uint64_t lba, uint32_t sectors)
{
    uint32_t most = identity->has_lba48 ? 65536 : 256;
    uint64_t end = identity->has_lba48 ? BIT64(48) : BIT64(28);
    if (!ata_to_blocks(identity, &lba, &sectors) || sectors > most || lba >= end ||
        sectors > end - lba) {
        return -EINVAL;
    }
    *regs = (struct ata_registers){.lba = lba, .count = sectors, .lba48 = identity->has_lba48};
    static const uint8_t commands[2][2][2] = {
        // by PIO, 48 bits, write
        {{ATA_READ_DMA, ATA_WRITE_DMA}, {ATA_READ_DMA_EXT, ATA_WRITE_DMA_EXT}},
        {{ATA_READ_SECTORS, ATA_WRITE_SECTORS}, {ATA_READ_SECTORS_EXT, ATA_WRITE_SECTORS_EXT}},
    };
    regs->command = commands[identity->by_pio][identity->has_lba48][write];
    return 0;
}

void ata_build_flush(struct ata_registers *regs, const struct ata_identity *identity)
{
    *regs = (struct ata_registers){.lba48 = identity->has_lba48};
    regs->command = identity->has_lba48 ? ATA_FLUSH_CACHE_EXT : ATA_FLUSH_CACHE;
}

int ata_build_fpdma(struct ata_registers *regs, const struct ata_identity *identity, bool write,
                    uint64_t lba, uint32_t sectors, unsigned tag)
{
    if (!identity->has_ncq || tag >= ATA_MAX_TAGS || !ata_to_blocks(identity, &lba, &sectors) ||
        sectors > 65536 || lba >= BIT64(48) || sectors > BIT64(48) - lba) {
        return -EINVAL;
    }
    *regs = (struct ata_registers){
        .command = write ? ATA_WRITE_FPDMA_QUEUED : ATA_READ_FPDMA_QUEUED,
        .lba = lba,
        .count = sectors,
        .lba48 = true,
        .queued = true,
        .tag = (uint8_t)tag,
    };
    return 0;
}

// The log's address is in the lowest byte of the LBA, the page in the next (ATA8-ACS, READ LOG
// EXT).
void ata_build_read_log(struct ata_registers *regs, uint8_t log)
{
    *regs =
        (struct ata_registers){.command = ATA_READ_LOG_EXT, .lba = log, .count = 1, .lba48 = true};
}

// SATA 3.0, 13.7.1: byte 0 the tag, bit 7 set when the error is not of a queued command; the task
// file from byte 2 on; the last byte makes the sum of all 0.
int ata_parse_ncq_log(struct ata_ncq_error *error, const void *data)
{
    const uint8_t *page = data;
    uint8_t sum = 0;
    for (unsigned i = 0; i < 512; i++) {
        sum = (uint8_t)(sum + page[i]);
    }
    if (sum != 0 || (page[0] & BIT(7)) != 0) {
        return -EINVAL;
    }
    error->tag = page[0] & 0x1f;
    error->status = page[2];
    error->error = page[3];
    error->lba = page[4] | (uint64_t)page[5] << 8 | (uint64_t)page[6] << 16 |
                 (uint64_t)page[8] << 24 | (uint64_t)page[9] << 32 | (uint64_t)page[10] << 40;
    return 0;
}

// ---- IDENTIFY DEVICE ----------------------------------------------------------------------------

uint16_t ata_page_word(const void *page, unsigned word)
{
    return get_le16((const uint8_t *)page + (size_t)word * 2);
}

// Strings are stored with the two bytes of each word exchanged, padded with blanks (ATA8-ACS,
// 3.4.9).
void ata_page_string(char *to, const void *data, unsigned word, unsigned words)
{
    const uint8_t *page = data;
    size_t length = 0;
    for (unsigned i = 0; i < words * 2; i++) {
        uint8_t c = page[word * 2 + (i ^ 1)];
        to[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
        if (c == 0) {
            to[i] = ' '; // some pad with zeroes
        }
        if (to[i] != ' ') {
            length = i + 1;
        }
    }
    to[length] = '\0';
    size_t blanks = strspn(to, " ");
    memmove(to, to + blanks, length - blanks + 1);
}

// Words 83, 84, 87 say in bits 15:14 whether they mean anything (01 does).
static bool id_valid(uint16_t word)
{
    return (word & 0xc000) == 0x4000;
}

// Where the page carries a checksum (word 255, ATA8-ACS 7.16.7.89), it must be right.
bool ata_page_is_whole(const void *data)
{
    const uint8_t *page = data;
    uint8_t sum = 0;
    for (unsigned i = 0; i < ATA_IDENTIFY_WORDS * 2; i++) {
        sum = (uint8_t)(sum + page[i]);
    }
    return page[ID_INTEGRITY * 2] != 0xa5 || sum == 0;
}

// A logical sector's size; of the physical one, which word 106 has too, nothing depends. False: not
// one that we take.
static bool id_block_shift(uint8_t *shift, const uint8_t *page)
{
    uint16_t size = ata_page_word(page, ID_SECTOR_SIZE);
    *shift = 0;
    if (!id_valid(size) || (size & BIT(12)) == 0) {
        return true;
    }
    uint32_t words = get_le32(page + ID_LOGICAL_WORDS * 2);
    while (*shift < ATA_MAX_BLOCK_SHIFT && words > 256u << *shift) {
        ++*shift;
    }
    return words == 256u << *shift;
}

static uint64_t id_blocks(const uint8_t *page, bool lba48)
{
    uint64_t sectors = lba48 ? get_le64(page + ID_SECTORS48 * 2) : 0;
    if (sectors == 0) {
        sectors = get_le32(page + ID_SECTORS28 * 2);
    }
    uint64_t most = lba48 ? BIT64(48) : BIT64(28);
    return sectors < most ? sectors : most;
}

static void id_features(struct ata_identity *identity, const uint8_t *page)
{
    uint16_t w82 = ata_page_word(page, ID_SUPPORTED_82), w83 = ata_page_word(page, ID_SUPPORTED_83);
    uint16_t w84 = ata_page_word(page, ID_SUPPORTED_84),
             w76 = ata_page_word(page, ID_SATA_CAPABILITIES);
    bool valid = id_valid(w83);
    identity->has_lba48 = valid && (w83 & BIT(10)) != 0;
    identity->has_flush = valid && (w83 & (identity->has_lba48 ? BIT(13) : BIT(12))) != 0;
    identity->has_write_cache = valid && (w82 & BIT(5)) != 0;
    identity->write_cache_on =
        identity->has_write_cache && (ata_page_word(page, ID_ENABLED_85) & BIT(5)) != 0;
    identity->has_fua = id_valid(w84) && (w84 & BIT(6)) != 0;
    // Queued commands have 48-bit addresses always.
    identity->has_ncq = identity->has_lba48 && w76 != 0xffff && (w76 & BIT(8)) != 0;
    identity->has_logs = id_valid(w84) && (w84 & BIT(5)) != 0;
    identity->queue_depth = (uint8_t)((ata_page_word(page, ID_QUEUE_DEPTH) & 0x1f) + 1);
    identity->rotation = ata_page_word(page, ID_ROTATION);
}

int ata_parse_identity(struct ata_identity *identity, const void *data, const char **why)
{
    const uint8_t *page = data;
    memset(identity, 0, sizeof(*identity));
    *why = NULL;
    if (!ata_page_is_whole(page)) {
        *why = "the checksum of its IDENTIFY page is wrong";
        return -ENODEV;
    }
    uint16_t general = ata_page_word(page, ID_GENERAL);
    if ((general & BIT(15)) != 0 || general == 0) {
        *why = "its IDENTIFY page is not that of an ATA disk";
        return -ENODEV;
    }
    ata_page_string(identity->model, page, ID_MODEL, 20);
    ata_page_string(identity->serial, page, ID_SERIAL, 10);
    ata_page_string(identity->firmware, page, ID_FIRMWARE, 4);
    id_features(identity, page);
    uint16_t capabilities = ata_page_word(page, ID_CAPABILITIES);
    if ((capabilities & BIT(9)) == 0 || (capabilities & BIT(8)) == 0) {
        *why = "it has no LBA or no DMA";
        return -EOPNOTSUPP;
    }
    if (!id_block_shift(&identity->block_shift, page)) {
        *why = "its logical sectors are not of 512, 1024, 2048 or 4096 bytes";
        return -EOPNOTSUPP;
    }
    identity->sectors =
        min(id_blocks(page, identity->has_lba48) << identity->block_shift, BIT64(48));
    if (identity->sectors == 0) {
        *why = "it has no sectors";
        return -ENODEV;
    }
    return 0;
}
