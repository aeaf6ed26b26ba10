// What a controller says of itself and of its namespaces, and its status codes. Pure functions,
// tested and fuzzed on the host.
//
// A page comes from the device, so each number in it is checked or cut before it is used; a shift
// count that a device invents must not be shifted by.
//
// NVMe 1.4, 5.15.2 (Identify), 4.6.1 (status). Context: any. Next: nvme.c, which asks.
#include "nvme_cmd.h"

#include <lib/errno.h>
#include <lib/string.h>

enum { CMD_MIN_SHIFT = 9, CMD_MAX_SHIFT = NVME_PAGE_SHIFT };

const struct bit_name nvme_csts_names[] = {
    {NVME_CSTS_RDY, "RDY"},
    {NVME_CSTS_CFS, "CFS"},
    {1u << 2, "SHUTTING"},
    {2u << 2, "SHUTDOWN"},
    {NVME_CSTS_NSSRO, "NSSRO"},
    {NVME_CSTS_PP, "PP"},
    {0, NULL},
};

// ---- fields -------------------------------------------------------------------------------------

static uint64_t id_number(const uint8_t *page, unsigned offset, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = bytes; i > 0; i--) {
        value = value << 8 | page[offset + i - 1];
    }
    return value;
}

// Without blanks at both ends, and with nothing that a terminal would obey.
static void id_string(char *to, const uint8_t *page, unsigned offset, unsigned size)
{
    unsigned first = 0, end = size;
    while (first < end && (page[offset + first] == ' ' || page[offset + first] == '\0')) {
        first++;
    }
    while (end > first && (page[offset + end - 1] == ' ' || page[offset + end - 1] == '\0')) {
        end--;
    }
    for (unsigned i = first; i < end; i++) {
        uint8_t c = page[offset + i];
        *to++ = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    *to = '\0';
}

static bool id_size_fits(uint8_t range, unsigned shift)
{
    return (range & 0xfu) <= shift && shift <= (unsigned)(range >> 4);
}

// ---- the controller -----------------------------------------------------------------------------

int nvme_parse_controller(struct nvme_identity *identity, const void *data, unsigned page_shift,
                          const char **why)
{
    const uint8_t *page = data;

    memset(identity, 0, sizeof(*identity));
    *why = NULL;
    id_string(identity->model, page, NVME_IDC_MODEL, 40);
    id_string(identity->serial, page, NVME_IDC_SERIAL, 20);
    id_string(identity->firmware, page, NVME_IDC_FIRMWARE, 8);
    if (!id_size_fits(page[NVME_IDC_SQES], 6) || !id_size_fits(page[NVME_IDC_CQES], 4)) {
        *why = "its queue entries are not of 64 and 16 bytes";
        return -EOPNOTSUPP;
    }
    identity->namespaces = (uint32_t)id_number(page, NVME_IDC_NN, 4);
    if (identity->namespaces == 0) {
        *why = "it has no namespaces";
        return -ENODEV;
    }
    unsigned limit = page[NVME_IDC_MDTS] + page_shift;
    identity->max_bytes = page[NVME_IDC_MDTS] == 0 || limit > 31 ? 0 : 1u << limit;
    identity->events = (uint8_t)min(page[NVME_IDC_AERL] + 1u, 255u);
    identity->has_write_cache = (page[NVME_IDC_VWC] & 1) != 0;
    unsigned sgl = id_number(page, NVME_IDC_SGLS, 4) & 3;
    identity->sgl = (uint8_t)(sgl == 3 ? 0 : sgl); // 3 is reserved
    return 0;
}

// ---- a namespace --------------------------------------------------------------------------------

int nvme_parse_namespace(struct nvme_format *format, const void *data, const char **why)
{
    const uint8_t *page = data;
    // 1.4 has 16 formats, FLBAS 3:0; 2.0 has 64, with two more bits in 6:5 (5.17.2.1).
    unsigned index = (page[NVME_IDN_FLBAS] & 0xfu) | (page[NVME_IDN_FLBAS] >> 1 & 0x30u);

    memset(format, 0, sizeof(*format));
    *why = NULL;
    uint64_t blocks = id_number(page, NVME_IDN_NSZE, 8);
    if (blocks == 0) {
        *why = "it is empty";
        return -ENODEV;
    }
    if (index > page[NVME_IDN_NLBAF] || index >= 64) {
        *why = "it names a format that it does not have";
        return -ENODEV;
    }
    uint32_t lbaf = (uint32_t)id_number(page, NVME_IDN_LBAF + index * 4, 4);
    unsigned shift = lbaf >> 16 & 0xff;
    if (shift < CMD_MIN_SHIFT || shift > CMD_MAX_SHIFT) {
        *why = "its blocks are not of 512 to 4096 bytes";
        return -EOPNOTSUPP;
    }
    if ((lbaf & 0xffff) != 0 || (page[NVME_IDN_DPS] & 7) != 0) {
        *why = "it keeps metadata with its blocks";
        return -EOPNOTSUPP;
    }
    if (blocks >= BIT64(48) >> (shift - CMD_MIN_SHIFT)) {
        *why = "it claims more than 2^48 sectors";
        return -EOPNOTSUPP;
    }
    format->blocks = blocks;
    format->block_shift = (uint8_t)shift;
    format->read_only = (page[NVME_IDN_NSATTR] & 1) != 0;
    return 0;
}

// ---- status -------------------------------------------------------------------------------------

static const struct {
    uint16_t code;
    int error;
    const char *text;
} cmd_statuses[] = {
    {NVME_SC_SUCCESS, 0, "success"},
    {0x001, -EIO, "invalid opcode"},
    {0x002, -EIO, "invalid field"},
    {0x003, -EIO, "identifier in use"},
    {0x004, -EIO, "data transfer error"},
    {0x005, -EIO, "power loss"},
    {0x006, -EIO, "internal error"},
    {NVME_SC_ABORTED, -EIO, "aborted"},
    {NVME_SC_SQ_DELETED, -EIO, "queue deleted"},
    {0x00b, -EIO, "invalid namespace"},
    {0x013, -EIO, "invalid PRP offset"},
    {NVME_SC_WRITE_PROTECTED, -EROFS, "namespace is write protected"},
    {NVME_SC_LBA_RANGE, -EIO, "LBA out of range"},
    {NVME_SC_CAPACITY, -ENOSPC, "capacity exceeded"},
    {0x082, -EIO, "namespace not ready"},
    {0x108, -EIO, "invalid interrupt vector"},
    {NVME_SC_READ_ONLY, -EROFS, "attempted write to read only range"},
    {NVME_SC_WRITE_FAULT, -EIO, "write fault"},
    {NVME_SC_READ_ERROR, -EIO, "unrecovered read error"},
    {0x286, -EIO, "access denied"},
    {0x287, -EIO, "deallocated or unwritten block"},
};

int nvme_status_error(uint16_t status)
{
    uint16_t code = NVME_CQE_STATUS(status);
    for (unsigned i = 0; i < ARRAY_SIZE(cmd_statuses); i++) {
        if (cmd_statuses[i].code == code) {
            return cmd_statuses[i].error;
        }
    }
    return -EIO;
}

const char *nvme_status_text(uint16_t status)
{
    uint16_t code = NVME_CQE_STATUS(status);
    for (unsigned i = 0; i < ARRAY_SIZE(cmd_statuses); i++) {
        if (cmd_statuses[i].code == code) {
            return cmd_statuses[i].text;
        }
    }
    return "unknown status";
}
