// What every CD drive understands, and what it says of itself: commands in packets, whatever bus
// they travel on. Pure, tested on the host and fuzzed. Used by ahci, ide and cdrom.c.
#pragma once

#include <lib/text.h>
#include <lib/types.h>

#include "atapi_regs.h"

enum { CD_BLOCK_SIZE = 2048, CD_BLOCK_SECTORS = CD_BLOCK_SIZE / 512 };

// What IDENTIFY PACKET DEVICE said, checked. Strings are trimmed, printable and end with NUL.
struct atapi_identity {
    char model[41], serial[21], firmware[9];
    uint8_t packet_size; // bytes: 12, or 16 of which the last four are 0
    bool has_dma;
    bool needs_direction; // in the features register, of a DMA command
};

struct atapi_packet {
    uint8_t bytes[ATAPI_PACKET_MOST];
    uint32_t length; // bytes of data, from the drive; 0: none
};

void atapi_build_test_unit_ready(struct atapi_packet *packet);
void atapi_build_request_sense(struct atapi_packet *packet);
void atapi_build_inquiry(struct atapi_packet *packet);
void atapi_build_read_capacity(struct atapi_packet *packet);
// READ(10) of sectors of 512 bytes. 0; -EINVAL: not whole blocks, none, or more than the command
// can say.
int atapi_build_read(struct atapi_packet *packet, uint64_t sector, uint32_t sectors);

// Reads 256 words. 0; -ENODEV: not a CD drive, or the page is nonsense; *why says what in words.
int atapi_parse_identity(struct atapi_identity *identity, const void *page, const char **why);
// The product's name from what INQUIRY said, `size` bytes of it. 0; -ENODEV: not a CD drive, *why
// says what in words.
int atapi_parse_inquiry(char model[17], const void *data, size_t size, const char **why);
// READ CAPACITY(10), `size` bytes: sectors of 512 bytes. 0; -EINVAL: blocks of another size than
// 2,048 bytes, or nonsense; *why says what in words.
int atapi_parse_capacity(uint64_t *sectors, const void *data, size_t size, const char **why);

// Why a command failed.
struct atapi_sense {
    uint8_t key, asc, ascq; // SPC-3, 4.5.6 and annex D
};
// REQUEST SENSE, `size` bytes. 0; -EINVAL: no sense that can be read (and *sense is all zero).
int atapi_parse_sense(struct atapi_sense *sense, const void *data, size_t size);

// What to make of it.
enum atapi_verdict {
    ATAPI_RETRY,     // nothing that lasts: the same command again may work
    ATAPI_WAIT,      // the drive is getting ready
    ATAPI_NO_MEDIUM, // the tray is empty, or open
    ATAPI_CHANGED,   // another medium than before lies in it
    ATAPI_FAILED,    // and will again
};
enum atapi_verdict atapi_judge(const struct atapi_sense *sense);
// "UNIT ATTENTION: the medium may have changed (6/28/00)"
void atapi_show_sense(struct text *t, const struct atapi_sense *sense);
