// The commands of a CD drive as bytes, and what it answers. A drive on an ATA cable takes SCSI's
// commands: twelve bytes of packet, which one ATA command, PACKET, carries to it.
//
//   ATA_PACKET ──> [ 28 | | LBA, high byte first | | count | 0 0 ] ──> data, or an error
//                                                                       └──> REQUEST SENSE: why
//
// A drive that has news (another medium, a reset) lets the next command fail to say so (UNIT
// ATTENTION), so an error here is often only a message: atapi_judge tells them apart.
//
// MMC-5, 6; SPC-3, 4.5 and 6; ATA8-ACS, 7.17. Numbers of more than a byte are high byte first,
// other than ATA's own. Context: any. Next: cdrom.c; drivers/block/ahci/ahci_atapi.c.
#include "atapi.h"

#include <lib/errno.h>
#include <lib/string.h>

#include "ata.h"

enum identify_packet_word { // ATA8-ACS, table 42
    ID_GENERAL = 0,
    ID_SERIAL = 10,
    ID_FIRMWARE = 23,
    ID_MODEL = 27,
    ID_CAPABILITIES = 49,
    ID_DIRECTION = 62,
};

static uint32_t get_be32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

// ---- commands -----------------------------------------------------------------------------------

static void packet_start(struct atapi_packet *packet, enum atapi_operation operation,
                         uint32_t length)
{
    memset(packet, 0, sizeof(*packet));
    packet->bytes[0] = (uint8_t)operation;
    packet->length = length;
}

void atapi_build_test_unit_ready(struct atapi_packet *packet)
{
    packet_start(packet, ATAPI_TEST_UNIT_READY, 0);
}

void atapi_build_request_sense(struct atapi_packet *packet)
{
    packet_start(packet, ATAPI_REQUEST_SENSE, ATAPI_SENSE_SIZE);
    packet->bytes[4] = ATAPI_SENSE_SIZE;
}

void atapi_build_inquiry(struct atapi_packet *packet)
{
    packet_start(packet, ATAPI_INQUIRY, ATAPI_INQUIRY_SIZE);
    packet->bytes[4] = ATAPI_INQUIRY_SIZE;
}

void atapi_build_read_capacity(struct atapi_packet *packet)
{
    packet_start(packet, ATAPI_READ_CAPACITY, ATAPI_CAPACITY_SIZE);
}

int atapi_build_read(struct atapi_packet *packet, uint64_t sector, uint32_t sectors)
{
    uint64_t block = sector / CD_BLOCK_SECTORS;
    uint32_t count = sectors / CD_BLOCK_SECTORS;
    if (sector % CD_BLOCK_SECTORS != 0 || sectors % CD_BLOCK_SECTORS != 0 || count == 0 ||
        count > UINT16_MAX || block > UINT32_MAX || block + count - 1 > UINT32_MAX) {
        return -EINVAL;
    }
    packet_start(packet, ATAPI_READ_10, count * CD_BLOCK_SIZE);
    for (unsigned i = 0; i < 4; i++) {
        packet->bytes[2 + i] = (uint8_t)(block >> (24 - 8 * i));
    }
    packet->bytes[7] = (uint8_t)(count >> 8);
    packet->bytes[8] = (uint8_t)count;
    return 0;
}

// ---- answers ------------------------------------------------------------------------------------

int atapi_parse_identity(struct atapi_identity *identity, const void *page, const char **why)
{
    uint16_t general = ata_page_word(page, ID_GENERAL);
    memset(identity, 0, sizeof(*identity));
    *why = NULL;
    if (!ata_page_is_whole(page)) {
        *why = "the checksum of its IDENTIFY page is wrong";
    } else if (general >> 14 != 2) {
        *why = "its IDENTIFY page is not that of an ATAPI device";
    } else if ((general >> 8 & 0x1f) != ATAPI_TYPE_CD) {
        *why = "an ATAPI device, but not a CD drive";
    } else if ((general & 3) > 1) {
        *why = "its packets are neither of 12 nor of 16 bytes";
    }
    if (*why != NULL) {
        return -ENODEV;
    }
    uint16_t direction = ata_page_word(page, ID_DIRECTION);
    ata_page_string(identity->model, page, ID_MODEL, 20);
    ata_page_string(identity->serial, page, ID_SERIAL, 10);
    ata_page_string(identity->firmware, page, ID_FIRMWARE, 4);
    identity->packet_size = (general & 3) == 1 ? ATAPI_PACKET_MOST : ATAPI_PACKET_LEAST;
    identity->needs_direction = (direction & BIT(15)) != 0;
    // Who must be told the direction says in the same word that it can DMA (7.17.7.18).
    identity->has_dma = identity->needs_direction
                            ? (direction & BIT(10)) != 0
                            : (ata_page_word(page, ID_CAPABILITIES) & BIT(8)) != 0;
    return 0;
}

// SPC-3, 6.4.2: the product in bytes 16..31, padded with blanks.
int atapi_parse_inquiry(char model[17], const void *data, size_t size, const char **why)
{
    const uint8_t *d = data;
    *why = NULL;
    if (size < ATAPI_INQUIRY_SIZE) {
        *why = "its answer to INQUIRY is too short";
    } else if (d[0] != ATAPI_TYPE_CD) { // with a qualifier of 0: it is there
        *why = "INQUIRY names another kind of device than a CD drive";
    } else if ((d[1] & BIT(7)) == 0) {
        *why = "INQUIRY says that its medium cannot be removed";
    }
    if (*why != NULL) {
        return -ENODEV;
    }
    size_t length = 0;
    for (unsigned i = 0; i < 16; i++) {
        uint8_t c = d[16 + i];
        model[i] = c >= 0x20 && c < 0x7f ? (char)c : c == 0 ? ' ' : '?';
        length = model[i] != ' ' ? i + 1 : length;
    }
    model[length] = '\0';
    return 0;
}

int atapi_parse_capacity(uint64_t *sectors, const void *data, size_t size, const char **why)
{
    const uint8_t *d = data;
    *why = NULL;
    *sectors = 0;
    if (size < ATAPI_CAPACITY_SIZE) {
        *why = "its answer to READ CAPACITY is too short";
    } else if (get_be32(d + 4) != CD_BLOCK_SIZE) {
        *why = "its blocks are not of 2048 bytes";
    } else if (get_be32(d) == UINT32_MAX) {
        *why = "it is larger than READ CAPACITY can say";
    }
    if (*why != NULL) {
        return -EINVAL;
    }
    *sectors = ((uint64_t)get_be32(d) + 1) * CD_BLOCK_SECTORS; // it names the last block
    return 0;
}

// ---- errors -------------------------------------------------------------------------------------

// SPC-3, 4.5.3: the fixed format, of a command just now (70h) or of one before (71h).
int atapi_parse_sense(struct atapi_sense *sense, const void *data, size_t size)
{
    const uint8_t *d = data;
    *sense = (struct atapi_sense){0};
    if (size < 8 || ((d[0] & 0x7f) != 0x70 && (d[0] & 0x7f) != 0x71)) {
        return -EINVAL;
    }
    size_t valid = min(size, (size_t)8 + d[7]);
    sense->key = d[2] & 0x0f;
    sense->asc = valid > 12 ? d[12] : 0;
    sense->ascq = valid > 13 ? d[13] : 0;
    return 0;
}

enum atapi_verdict atapi_judge(const struct atapi_sense *sense)
{
    switch (sense->key) {
    case SENSE_NOT_READY:
        return sense->asc == ASC_NO_MEDIUM                          ? ATAPI_NO_MEDIUM
               : sense->asc == ASC_NOT_READY && sense->ascq == 0x01 ? ATAPI_WAIT
                                                                    : ATAPI_FAILED;
    case SENSE_UNIT_ATTENTION:
        return sense->asc == ASC_MEDIUM_CHANGED ? ATAPI_CHANGED : ATAPI_RETRY;
    case SENSE_ILLEGAL_REQUEST:
    case SENSE_DATA_PROTECT:
    case SENSE_BLANK_CHECK:
    case SENSE_VENDOR:
    case SENSE_COPY_ABORTED:
        return ATAPI_FAILED;
    default:
        return ATAPI_RETRY;
    }
}

static const char *sense_key_name(uint8_t key)
{
    static const char *const names[] = {
        "NO SENSE",       "RECOVERED ERROR", "NOT READY",      "MEDIUM ERROR",
        "HARDWARE ERROR", "ILLEGAL REQUEST", "UNIT ATTENTION", "DATA PROTECT",
        "BLANK CHECK",    "VENDOR SPECIFIC", "COPY ABORTED",   "ABORTED COMMAND",
    };
    return key < ARRAY_SIZE(names) ? names[key] : "RESERVED KEY";
}

// SPC-3, table D.2: what a drive that reads may say. ascq 0xff: any.
static const struct {
    uint8_t asc, ascq;
    const char *text;
} sense_texts[] = {
    {0x04, 0x01, "the drive is getting ready"},
    {0x04, 0xff, "the drive is not ready"},
    {0x08, 0xff, "it does not answer on the cable"},
    {0x11, 0xff, "a read error that cannot be corrected"},
    {0x15, 0xff, "the head is not where it should be"},
    {0x20, 0xff, "it does not know this command"},
    {0x21, 0xff, "the block is out of range"},
    {0x24, 0xff, "the packet has a field that it does not take"},
    {0x28, 0xff, "the medium may have changed"},
    {0x29, 0xff, "power on or reset"},
    {0x2a, 0xff, "its parameters changed"},
    {0x30, 0xff, "it cannot read this medium"},
    {0x3a, 0xff, "no medium"},
    {0x3e, 0xff, "it is not configured yet"},
    {0x44, 0xff, "something in the drive is broken"},
    {0x53, 0xff, "the tray does not move"},
    {0x57, 0xff, "the table of contents cannot be read"},
    {0x5a, 0xff, "somebody wants the medium out"},
    {0x64, 0xff, "the track is not one of data"},
    {0x6f, 0xff, "the medium is protected against copying"},
};

void atapi_show_sense(struct text *t, const struct atapi_sense *sense)
{
    text_puts(t, sense_key_name(sense->key));
    for (unsigned i = 0; i < ARRAY_SIZE(sense_texts); i++) {
        if (sense_texts[i].asc == sense->asc &&
            (sense_texts[i].ascq == sense->ascq || sense_texts[i].ascq == 0xff)) {
            text_printf(t, ": %s", sense_texts[i].text);
            break;
        }
    }
    text_printf(t, " (%x/%02x/%02x)", sense->key, sense->asc, sense->ascq);
}
