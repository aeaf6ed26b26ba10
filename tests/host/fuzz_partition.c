// Partition tables from a disk that lies: whatever its sectors say, nothing beyond the disk is
// read, and every partition that is found lies within it. CRCs are made right, so that what follows
// them is reached.
//
// links: kernel/dev/partition_table.c kernel/lib/checksum.c kernel/lib/string.c

#include <lib/checksum.h>
#include <lib/string.h>

#include "../../kernel/dev/partition_table.h"

#include "fuzz.h"

enum { DISK_SIZE = 32 << 10 };
static uint8_t disk[DISK_SIZE];
static uint32_t block_size; // 512 or 4,096
static unsigned reads;

static uint8_t *disk_block(uint64_t block)
{
    return disk + block * block_size;
}

static int disk_read(void *context, uint64_t block, uint8_t *data)
{
    (void)context;
    MUST(block < DISK_SIZE / block_size);
    MUST(++reads < 10000);
    memcpy(data, disk_block(block), block_size);
    return 0;
}

static void put32(uint8_t *to, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        to[i] = (uint8_t)(value >> (8 * i));
    }
}

static void mend(uint8_t *h)
{
    uint32_t count = get_le32(h + 80), size = get_le32(h + 84), at = get_le32(h + 72);
    uint32_t header = get_le32(h + 12);
    memcpy(h, "EFI PART", 8);
    uint64_t start = (uint64_t)at * block_size;
    if (start < DISK_SIZE && (uint64_t)count * size <= DISK_SIZE - start) {
        put32(h + 88, crc32(disk_block(at), (size_t)count * size));
    }
    put32(h + 16, 0);
    if (header <= block_size) {
        put32(h + 16, crc32(h, header));
    }
}

// The first two pieces of the input begin the first two blocks, whatever their size; the rest
// follows from the third on.
static void fill(const uint8_t *data, size_t size)
{
    for (unsigned block = 0; block < 3; block++) {
        size_t room = block < 2 ? 512 : DISK_SIZE - 2 * block_size;
        size_t piece = min(size, room);
        memcpy(disk_block(block), data, piece);
        data += piece;
        size -= piece;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct partition_table table;
    const char *why;
    if (size < 2) {
        return 0;
    }
    block_size = data[0] & 2 ? 4096 : 512;
    memset(disk, 0, sizeof(disk));
    fill(data + 1, size - 1);
    disk[510] = 0x55;
    disk[511] = 0xaa;
    if (data[0] & 1) { // a protective MBR before a header that looks right
        memset(disk + 446, 0, 64);
        disk[450] = 0xee;
        mend(disk_block(1));
    }
    reads = 0;
    uint8_t *block = malloc(block_size);
    const struct partition_disk of = {.blocks = DISK_SIZE / block_size,
                                      .block_size = block_size,
                                      .block = block,
                                      .read = disk_read};
    int error = partition_parse(&table, &of, &why);
    free(block);
    MUST(table.count <= PARTITION_MOST);
    MUST(error == 0 || (table.count == 0 && why != NULL));
    for (unsigned i = 0; i < table.count; i++) {
        const struct partition *p = &table.partitions[i];
        MUST(p->sectors != 0 && p->start < DISK_SIZE / 512 &&
             p->sectors <= DISK_SIZE / 512 - p->start);
        MUST((p->start * 512 | p->sectors * 512) % block_size == 0);
        MUST(p->number != 0 && strnlen(p->name, sizeof(p->name)) < sizeof(p->name));
    }
    return 0;
}
