// Reads partition tables: the PC's old one (MBR) with its chain of logical partitions, and GPT.
//
//   block 0    [ code ... | 4 entries at 446 | 55 aa ]     one of type ee: a GPT protects itself
//      type 5, f: extended ──> [ logical | next ] ──> [ logical | next ] ...
//   GPT        block 1 header ──> entries, both with a CRC; the same again at the disk's end,
//              for the case that the first is broken
//
// All numbers count the disk's own blocks, of 512 bytes or of 4 KiB; what is found is told in
// sectors of 512 bytes, as the rest of the kernel counts.
//
// Nothing here is believed: a start or an end beyond the disk, a chain that turns back on itself, a
// header that says it is larger than a block. What does not fit is passed over or refused by name.
// Every loop ends: at most PARTITION_MOST partitions, as many links of the chain, and a bounded
// number of entries.
//
// UEFI 2.10, chapter 5 (GPT, protective MBR); the MBR's layout is de facto. Context: that of the
// reader. Next: partition.c.
#include <lib/checksum.h>
#include <lib/errno.h>
#include <lib/string.h>

#include "partition_table.h"

enum {
    SECTOR = 512, // what an MBR is, whatever the block
    MBR_ENTRIES = 446,
    MBR_ENTRY_SIZE = 16,
    MBR_SIGNATURE = 510,
    MBR_FIRST_LOGICAL = 5,
    TYPE_GPT = 0xee,
    GPT_HEADER_LEAST = 92, // bytes
    GPT_MOST_ENTRIES = 1024,
    GPT_ENTRY_LEAST = 128,
    GPT_NAME = 56, // of an entry: 36 UTF-16 units
    GPT_NAME_UNITS = 36,
};

struct parser {
    struct partition_table *table;
    const struct partition_disk *disk;
    const char **why;
    uint8_t *block; // the disk's
};

static int parser_read(struct parser *p, uint64_t block)
{
    return p->disk->read(p->disk->context, block, p->block);
}

static void parser_add(struct parser *p, unsigned number, uint64_t start, uint64_t blocks,
                       uint8_t type)
{
    struct partition_table *table = p->table;
    uint32_t sectors = p->disk->block_size / SECTOR;
    if (blocks == 0 || start >= p->disk->blocks || blocks > p->disk->blocks - start) {
        *p->why = "a partition reaches beyond the disk, passed over";
    } else if (table->count == PARTITION_MOST) {
        *p->why = "more partitions than are looked at";
    } else {
        table->partitions[table->count++] = (struct partition){
            .number = number, .start = start * sectors, .sectors = blocks * sectors, .type = type};
    }
}

// ---- MBR ----------------------------------------------------------------------------------------

struct mbr_entry {
    uint8_t status, type;
    uint32_t start, blocks;
};

static struct mbr_entry mbr_entry(const uint8_t *block, unsigned index)
{
    const uint8_t *at = block + MBR_ENTRIES + index * MBR_ENTRY_SIZE;
    return (struct mbr_entry){
        .status = at[0], .type = at[4], .start = get_le32(at + 8), .blocks = get_le32(at + 12)};
}

static bool mbr_is_extended(uint8_t type)
{
    return type == 0x05 || type == 0x0f || type == 0x85;
}

// A boot sector of a file system ends in 55 aa too, and has code where entries would be.
static bool mbr_looks_right(const uint8_t *block)
{
    bool any = false;
    if (block[MBR_SIGNATURE] != 0x55 || block[MBR_SIGNATURE + 1] != 0xaa) {
        return false;
    }
    for (unsigned i = 0; i < 4; i++) {
        struct mbr_entry entry = mbr_entry(block, i);
        if ((entry.status & 0x7f) != 0) {
            return false;
        }
        any = any || entry.type != 0;
    }
    return any;
}

// Each link tells one logical partition, relative to itself, and the next link, relative to the
// extended partition.
static int mbr_logical(struct parser *p, struct mbr_entry extended)
{
    uint64_t base = extended.start, at = base;
    for (unsigned number = MBR_FIRST_LOGICAL; number < PARTITION_MOST; number++) {
        if (at >= p->disk->blocks) {
            *p->why = "the chain of logical partitions leaves the disk";
            return 0;
        }
        int error = parser_read(p, at);
        if (error != 0) {
            return error;
        }
        if (p->block[MBR_SIGNATURE] != 0x55 || p->block[MBR_SIGNATURE + 1] != 0xaa) {
            *p->why = "the chain of logical partitions breaks off";
            return 0;
        }
        struct mbr_entry logical = mbr_entry(p->block, 0), next = mbr_entry(p->block, 1);
        if (logical.type != 0 && logical.blocks != 0) {
            parser_add(p, number, at + logical.start, logical.blocks, logical.type);
        }
        if (!mbr_is_extended(next.type) || next.start == 0) {
            return 0;
        }
        if (base + next.start <= at) { // only forward, or it could go round for ever
            *p->why = "the chain of logical partitions turns back";
            return 0;
        }
        at = base + next.start;
    }
    *p->why = "more logical partitions than are looked at";
    return 0;
}

static int mbr_parse(struct parser *p)
{
    struct mbr_entry entries[4];
    for (unsigned i = 0; i < 4; i++) {
        entries[i] = mbr_entry(p->block, i);
    }
    p->table->kind = "mbr";
    for (unsigned i = 0; i < 4; i++) {
        if (entries[i].type != 0 && entries[i].blocks != 0 && !mbr_is_extended(entries[i].type)) {
            parser_add(p, i + 1, entries[i].start, entries[i].blocks, entries[i].type);
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        if (mbr_is_extended(entries[i].type)) {
            return mbr_logical(p, entries[i]);
        }
    }
    return 0;
}

// ---- GPT ----------------------------------------------------------------------------------------

struct gpt {
    uint64_t first_usable, last_usable, entries_at;
    uint32_t count, entry_size, entries_crc;
};

// The header in p->block, which was read from `at`. 0, -EINVAL.
static int gpt_header(struct parser *p, uint64_t at, struct gpt *gpt)
{
    uint8_t *h = p->block;
    uint32_t size = get_le32(h + 12), crc = get_le32(h + 16);
    *p->why = "no GPT header where one should be";
    if (memcmp(h, "EFI PART", 8) != 0) {
        return -EINVAL;
    }
    *p->why = "a GPT header with a wrong CRC";
    memset(h + 16, 0, 4);
    if (size < GPT_HEADER_LEAST || size > p->disk->block_size || crc32(h, size) != crc) {
        return -EINVAL;
    }
    *gpt = (struct gpt){.first_usable = get_le64(h + 40),
                        .last_usable = get_le64(h + 48),
                        .entries_at = get_le64(h + 72),
                        .count = get_le32(h + 80),
                        .entry_size = get_le32(h + 84),
                        .entries_crc = get_le32(h + 88)};
    *p->why = "a GPT header that contradicts itself";
    uint32_t block = p->disk->block_size;
    uint64_t table_blocks = // both factors are checked below
        DIV_ROUND_UP((uint64_t)gpt->count * gpt->entry_size, block);
    if (get_le64(h + 24) != at || gpt->count == 0 || gpt->count > GPT_MOST_ENTRIES ||
        gpt->entry_size < GPT_ENTRY_LEAST || gpt->entry_size > block ||
        block % gpt->entry_size != 0 || gpt->last_usable >= p->disk->blocks ||
        gpt->first_usable > gpt->last_usable || gpt->entries_at >= p->disk->blocks ||
        table_blocks > p->disk->blocks - gpt->entries_at) {
        return -EINVAL;
    }
    *p->why = NULL;
    return 0;
}

static void gpt_name(char *to, const uint8_t *units)
{
    unsigned length = 0;
    for (; length < GPT_NAME_UNITS; length++) {
        unsigned unit = units[length * 2] | (unsigned)units[length * 2 + 1] << 8;
        if (unit == 0) {
            break;
        }
        to[length] = unit >= 0x20 && unit < 0x7f ? (char)unit : '?';
    }
    to[length] = '\0';
}

static void gpt_entry(struct parser *p, const struct gpt *gpt, unsigned number,
                      const uint8_t *entry)
{
    static const uint8_t unused[16];
    uint64_t first = get_le64(entry + 32), last = get_le64(entry + 40);
    unsigned before = p->table->count;
    if (memcmp(entry, unused, sizeof(unused)) == 0) {
        return;
    }
    if (first < gpt->first_usable || last > gpt->last_usable || first > last) {
        *p->why = "a partition outside of what the GPT calls usable, passed over";
        return;
    }
    parser_add(p, number, first, last - first + 1, TYPE_GPT);
    if (p->table->count > before) {
        gpt_name(p->table->partitions[before].name, entry + GPT_NAME);
    }
}

// The table is read twice: whether it is what was written shows only at its end.
static int gpt_entries(struct parser *p, const struct gpt *gpt)
{
    uint32_t per_block = p->disk->block_size / gpt->entry_size, crc = 0;
    for (unsigned pass = 0; pass < 2; pass++) {
        uint32_t left = gpt->count;
        for (uint64_t block = gpt->entries_at; left != 0; block++) {
            uint32_t here = left < per_block ? left : per_block;
            int error = parser_read(p, block);
            if (error != 0) {
                return error;
            }
            for (uint32_t i = 0; pass == 1 && i < here; i++) {
                gpt_entry(p, gpt, gpt->count - left + i + 1, p->block + i * gpt->entry_size);
            }
            if (pass == 0) {
                crc = crc32_update(crc, p->block, here * gpt->entry_size);
            }
            left -= here;
        }
        if (pass == 0 && crc != gpt->entries_crc) {
            *p->why = "GPT entries with a wrong CRC";
            return -EINVAL;
        }
    }
    return 0;
}

static int gpt_parse_at(struct parser *p, uint64_t at)
{
    struct gpt gpt;
    int error = parser_read(p, at);
    if (error == 0) {
        error = gpt_header(p, at, &gpt);
    }
    return error != 0 ? error : gpt_entries(p, &gpt);
}

static int gpt_parse(struct parser *p)
{
    p->table->kind = "gpt";
    int error = gpt_parse_at(p, 1);
    if (error != 0 && p->disk->blocks > 2) {
        p->table->count = 0;
        int second = gpt_parse_at(p, p->disk->blocks - 1);
        if (second == 0) {
            *p->why = "the first GPT is broken, the second one is used";
            return 0;
        }
    }
    return error;
}

int partition_parse(struct partition_table *table, const struct partition_disk *disk,
                    const char **why)
{
    struct parser p = {.table = table, .disk = disk, .why = why, .block = disk->block};
    table->kind = NULL;
    table->count = 0;
    *why = NULL;
    if (disk->blocks < 2 || disk->block_size < SECTOR ||
        disk->blocks > UINT64_MAX / disk->block_size) {
        return 0;
    }
    int error = parser_read(&p, 0);
    if (error != 0 || !mbr_looks_right(p.block)) {
        return error;
    }
    bool protective = false;
    for (unsigned i = 0; i < 4; i++) {
        protective = protective || mbr_entry(p.block, i).type == TYPE_GPT;
    }
    error = protective ? gpt_parse(&p) : mbr_parse(&p);
    if (error != 0) {
        table->count = 0;
        table->kind = NULL;
    }
    return error;
}
