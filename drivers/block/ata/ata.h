// What every ATA disk understands, and what it says of itself: no bus, no registers, no memory
// management, tested on the host. Used by ahci and ide.
#pragma once

#include <lib/text.h>
#include <lib/types.h>

#include "ata_regs.h"

enum { ATA_IDENTIFY_WORDS = 256 };

// What IDENTIFY DEVICE said, checked. Strings are trimmed, printable and end with NUL.
struct ata_identity {
    char model[41], serial[21], firmware[9];
    uint64_t sectors;    // of 512 bytes each, 1 .. 2^48
    uint8_t block_shift; // what the disk counts in: blocks of 512 << 0 .. 3 bytes
    bool has_lba48, has_flush, has_write_cache, write_cache_on, has_fua, has_ncq, has_logs;
    bool by_pio;         // not the disk's: whoever wants the commands of old says so
    uint8_t queue_depth; // for NCQ, 1..32
    uint16_t rotation;   // per minute; 1: solid state; 0: not told
};

// A command's registers.
struct ata_registers {
    uint8_t command;
    uint64_t lba;   // blocks
    uint32_t count; // blocks; 65,536 (256 without LBA48) is written as 0
    bool lba48;
    bool queued; // FPDMA: the count goes where features are, the tag where the count is
    uint8_t tag;
};

// The registers of a read, write or flush of this disk. `lba` and `sectors` are sectors of 512
// bytes; the registers have the disk's blocks. 0; -EINVAL: does not fit into the disk's command
// set, or is not whole blocks.
int ata_build_rw(struct ata_registers *regs, const struct ata_identity *identity, bool write,
                 uint64_t lba, uint32_t sectors);
void ata_build_flush(struct ata_registers *regs, const struct ata_identity *identity);

// The same as queued commands: for disks with NCQ. 0, -EINVAL.
int ata_build_fpdma(struct ata_registers *regs, const struct ata_identity *identity, bool write,
                    uint64_t lba, uint32_t sectors, unsigned tag);
// READ LOG EXT of one page of 512 bytes.
void ata_build_read_log(struct ata_registers *regs, uint8_t log);

// What the log of queued errors says.
struct ata_ncq_error {
    uint8_t tag;           // 0..31: whose error it is
    uint8_t status, error; // task file
    uint64_t lba;          // blocks
};
// Reads 512 bytes. 0; -EINVAL: the checksum is wrong, or no queued command failed.
int ata_parse_ncq_log(struct ata_ncq_error *error, const void *page);

// Reads 256 words. 0; -ENODEV: not an ATA disk, or the page is nonsense; -EOPNOTSUPP: sectors of
// other sizes than 512 bytes to 4 KiB, no LBA or no DMA. *why says what in words.
int ata_parse_identity(struct ata_identity *identity, const void *page, const char **why);

// Of the page of 256 words, an ATA disk's or an ATAPI drive's (parts of ata_parse_identity): a
// word; a string of so many words, trimmed and made printable, into twice as many bytes and one;
// does its checksum fit, where it has one?
uint16_t ata_page_word(const void *page, unsigned word);
void ata_page_string(char *to, const void *page, unsigned word, unsigned words);
bool ata_page_is_whole(const void *page);

extern const struct bit_name ata_status_names[], ata_error_names[];
