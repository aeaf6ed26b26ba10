// Partitions as disks of their own: sda1 is a range of sda.
//
// A partition has no queue: blk_submit moves a request by where the partition starts, and it goes
// through the whole disk's (struct gendisk.whole). It counts for itself, in the same columns.
//
// Context: thread, from add_disk and del_gendisk. Previous: block_disk.c. Next: partition_table.c.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/log.h>
#include <mm/slab.h>
#include <dev/block.h>

#include "block_internal.h"
#include "page_cache_internal.h"
#include "partition_table.h"

static int partition_read(void *context, uint64_t block, uint8_t *data)
{
    struct gendisk *whole = context;
    uint32_t sectors = whole->logical_block_size / SECTOR_SIZE;
    return blk_read(whole, block * sectors, sectors, data);
}

static int partition_add(struct gendisk *whole, const struct partition *partition)
{
    struct gendisk *disk = blk_alloc_disk(whole->ops, 0, 0);
    if (disk == NULL) {
        return -ENOMEM;
    }
    blk_get(whole);
    disk->whole = whole;
    disk->partition = partition->number;
    disk->start = partition->start;
    disk->capacity = partition->sectors;
    disk->read_only = whole->read_only;
    disk->removable = whole->removable;
    disk->rotational = whole->rotational;
    disk->transport = whole->transport;
    disk->order = whole->order;
    strscpy(disk->prefix, whole->prefix, sizeof(disk->prefix));
    page_cache_add_partition(disk);
    int error = blk_insert_partition(disk);
    if (error != 0) {
        blk_put(disk);
    }
    return error;
}

void blk_add_partitions(struct gendisk *whole)
{
    struct partition_table *table = kmalloc(sizeof(*table), GFP_KERNEL);
    struct partition_disk disk = {
        .blocks = whole->capacity / (whole->logical_block_size / SECTOR_SIZE),
        .block_size = whole->logical_block_size,
        .block = kmalloc(whole->logical_block_size, GFP_KERNEL),
        .read = partition_read,
        .context = whole,
    };
    const char *why = NULL;
    int error = table == NULL || disk.block == NULL ? -ENOMEM : partition_parse(table, &disk, &why);
    if (error != 0) {
        pr_warn("%s: partitions not read: %s", whole->name, why != NULL ? why : strerror(error));
    } else if (why != NULL) {
        pr_warn("%s: %s", whole->name, why);
    }
    for (unsigned i = 0; error == 0 && i < table->count; i++) {
        error = partition_add(whole, &table->partitions[i]);
    }
    if (error == 0 && table->kind != NULL) {
        pr_info("%s: %u partitions (%s)", whole->name, table->count, table->kind);
    }
    kfree(disk.block);
    kfree(table);
}
