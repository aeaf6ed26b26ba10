// Partition tables from a disk that lies: whatever its sectors say, nothing beyond the disk is read,
// and every partition that is found lies within it. CRCs are made right, so that what follows them is
// reached.
//
// links: kernel/dev/partition_table.c kernel/lib/checksum.c kernel/lib/string.c
#include <stdlib.h>

#include <lib/checksum.h>
#include <lib/string.h>

#include "../../kernel/dev/partition_table.h"

enum { SECTORS = 64 };
static uint8_t disk[SECTORS][512];
static unsigned reads;

static void check(bool condition)
{
    if (!condition) {
        abort();
    }
}

static int disk_read(void *context, uint64_t sector, uint8_t *data)
{
    (void)context;
    check(sector < SECTORS);
    check(++reads < 10000);
    memcpy(data, disk[sector], 512);
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
    if (at < SECTORS && (uint64_t)count * size <= (SECTORS - at) * 512ull) {
        put32(h + 88, crc32(disk[at], (size_t)count * size));
    }
    put32(h + 16, 0);
    if (header <= 512) {
        put32(h + 16, crc32(h, header));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct partition_table table;
    const char *why;
    if (size < 2) {
        return 0;
    }
    memset(disk, 0, sizeof(disk));
    memcpy(disk, data + 1, size - 1 < sizeof(disk) ? size - 1 : sizeof(disk));
    disk[0][510] = 0x55;
    disk[0][511] = 0xaa;
    if (data[0] & 1) { // a protective MBR before a header that looks right
        memset(disk[0] + 446, 0, 64);
        disk[0][450] = 0xee;
        mend(disk[1]);
    }
    reads = 0;
    int error = partition_parse(&table, SECTORS, disk_read, NULL, &why);
    check(table.count <= PARTITION_MOST);
    check(error == 0 || (table.count == 0 && why != NULL));
    for (unsigned i = 0; i < table.count; i++) {
        const struct partition *p = &table.partitions[i];
        check(p->sectors != 0 && p->start < SECTORS && p->sectors <= SECTORS - p->start);
        check(p->number != 0 && strnlen(p->name, sizeof(p->name)) < sizeof(p->name));
    }
    return 0;
}
