// What a disk's first sectors say of its partitions. Pure: whoever calls gives the sectors.
#pragma once

#include <lib/types.h>

enum { PARTITION_MOST = 64 };

struct partition {
    unsigned number;         // 1 ..: sda1; 5 and up are logical ones of an MBR
    uint64_t start, sectors; // of 512 bytes; whole blocks within the disk, never empty
    uint8_t type;            // of an MBR; 0xee of a GPT
    char name[37];           // of a GPT: printable ASCII, '?' for the rest
};

struct partition_table {
    const char *kind; // "mbr", "gpt"; NULL: none
    unsigned count;
    struct partition partitions[PARTITION_MOST];
};

// Reads one block of the disk; 0 or -errno.
typedef int (*partition_read_t)(void *context, uint64_t block, uint8_t *data);

struct partition_disk {
    uint64_t blocks;
    uint32_t block_size; // bytes, a power of two, 512 or more
    uint8_t *block;      // memory for one: `read` is asked to fill nothing else
    partition_read_t read;
    void *context;
};

// Fills the table. 0, with kind NULL where the disk has none; -errno of the reads; -EINVAL: a table
// that contradicts itself, *why says how (and it is left empty). *why may also be set with 0: what
// was passed over. Context: that of read.
int partition_parse(struct partition_table *table, const struct partition_disk *disk,
                    const char **why);
