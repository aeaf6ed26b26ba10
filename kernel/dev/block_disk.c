// Which disks there are: made, named, found, and taken away under the feet of whoever uses them.
//
//   alloc_disk ──> add_disk ──> in the list: /dev, lsblk ──> del_gendisk ──> blk_put ──> freed
//   driver's reference ───────────────────────────────────────────────────────┘
//   blk_find's references ─────────────── may live longer: -ENXIO for every request ───┘
//
// The list is in the order in which people read it: sda, sda1, sda2, sdb, sr0.
//
// Context: thread. Previous: block.c. Next: partition.c.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <mm/slab.h>
#include <sched/sleep.h>
#include <dev/block.h>

#include "block_internal.h"
#include "page_cache_internal.h"

enum {
    BLK_DRAIN_MS = 60000,
    BLK_GOODBYE_MS = 10000,
    BLK_MAX_DISKS_OF_A_KIND = 128,
    BLK_EXTENDED_MAJOR = 259
};

static DEFINE_SPINLOCK(blk_disks_lock);
static LIST_HEAD(blk_disks); // L

// ---- made and freed -----------------------------------------------------------------------------

static void disk_free(struct gendisk *disk)
{
    for (unsigned i = 0; disk->queues != NULL && i < disk->queue_count; i++) {
        kfree(disk->queues[i].by_tag);
        kfree(disk->queues[i].free_tags);
    }
    kfree(disk->queues);
    page_cache_del_partition(disk);
    page_cache_free(disk);
    kfree(disk);
}

static bool disk_make_queue(struct gendisk *disk, unsigned index)
{
    struct blk_mq_hw_ctx *hctx = &disk->queues[index];
    unsigned depth = disk->queue_depth;
    hctx->disk = disk;
    hctx->index = index;
    spin_lock_init(&hctx->lock, "block queue");
    INIT_LIST_HEAD(&hctx->waiting);
    irq_poll_init(&hctx->iop, IRQ_POLL_MAX_WEIGHT, blk_irq_poll);
    hctx->by_tag = kcalloc(depth, sizeof(*hctx->by_tag), GFP_KERNEL);
    hctx->free_tags = kcalloc(depth, sizeof(*hctx->free_tags), GFP_KERNEL);
    if (hctx->by_tag == NULL || hctx->free_tags == NULL) {
        return false;
    }
    for (unsigned i = 0; i < depth; i++) { // tag 0 on top
        hctx->free_tags[i] = (uint16_t)(depth - 1 - i);
    }
    hctx->free_count = depth;
    return true;
}

// A partition has no queues of its own.
struct gendisk *blk_alloc_disk(const struct blk_mq_ops *ops, unsigned queues, unsigned depth)
{
    struct gendisk *disk = kzalloc(sizeof(*disk), GFP_KERNEL);
    if (disk == NULL) {
        return NULL;
    }
    mutex_init(&disk->write_mutex, "disk write");
    mutex_init(&disk->open_mutex, "disk open");
    INIT_LIST_HEAD(&disk->link);
    INIT_LIST_HEAD(&disk->cached);
    disk->references = 1;
    disk->ops = ops;
    disk->queue_count = queues;
    disk->queue_depth = depth;
    if (queues != 0) {
        disk->queues = kcalloc(queues, sizeof(*disk->queues), GFP_KERNEL);
        for (unsigned i = 0; i < queues; i++) {
            if (disk->queues == NULL || !disk_make_queue(disk, i)) {
                disk_free(disk);
                return NULL;
            }
        }
    }
    return disk;
}

struct gendisk *alloc_disk(const struct blk_mq_ops *ops, unsigned queues, unsigned depth)
{
    might_sleep();
    if (WARN_ON(queues == 0 || depth == 0 || depth > BLK_MAX_DEPTH || ops->queue_rq == NULL)) {
        return NULL;
    }
    return blk_alloc_disk(ops, queues, depth);
}

// ---- names --------------------------------------------------------------------------------------

// Their disks are numbered by letters.
static bool prefix_has_letters(const char *prefix)
{
    return strcmp(prefix, "sd") == 0 || strcmp(prefix, "hd") == 0;
}

static bool ends_in_digit(const char *name)
{
    char last = name[strlen(name) - 1];
    return last >= '0' && last <= '9';
}

// Caller holds the list's lock.
static uint16_t disk_free_extended_minor(void)
{
    const struct gendisk *other;
    uint32_t minor = 0;
    list_for_each_entry (other, &blk_disks, link) {
        if (other->major == BLK_EXTENDED_MAJOR && other->minor >= minor) {
            minor = other->minor + 1u;
        }
    }
    return (uint16_t)minor;
}

// Device numbers as Linux assigns them (Documentation/admin-guide/devices.txt): 16 minors an sd
// disk, 64 an hd disk, and "block extended" for what has no numbers of its own.
static void disk_set_numbers(struct gendisk *disk)
{
    static const uint8_t sd_majors[] = {8, 65, 66, 67, 68, 69, 70, 71};
    if (strcmp(disk->prefix, "sd") == 0 && disk->partition < 16) {
        disk->major = sd_majors[disk->order / 16];
        disk->minor = (uint16_t)(disk->order % 16 * 16 + disk->partition);
    } else if (strcmp(disk->prefix, "hd") == 0 && disk->order < 2 && disk->partition < 64) {
        disk->major = 3;
        disk->minor = (uint16_t)(disk->order * 64 + disk->partition);
    } else if (strcmp(disk->prefix, "sr") == 0 && disk->partition == 0) {
        disk->major = 11;
        disk->minor = (uint16_t)disk->order;
    } else {
        disk->major = BLK_EXTENDED_MAJOR;
        disk->minor = disk_free_extended_minor();
    }
}

// "sd" and 0..127 to "sda" .. "sdz", "sdaa" ..; "sr" and a number to "sr0"; "nvme0n1" stays.
static void disk_set_name(struct gendisk *disk)
{
    const char *prefix = disk->prefix;
    unsigned order = disk->order;
    if (disk->whole != NULL) { // sda1, nvme0n1p1
        snprintf(disk->name, sizeof(disk->name), "%s%s%u", disk->whole->name,
                 ends_in_digit(disk->whole->name) ? "p" : "", disk->partition);
    } else if (ends_in_digit(prefix)) {
        strscpy(disk->name, prefix, sizeof(disk->name));
    } else if (!prefix_has_letters(prefix)) {
        snprintf(disk->name, sizeof(disk->name), "%s%u", prefix, order);
    } else if (order < 26) {
        snprintf(disk->name, sizeof(disk->name), "%s%c", prefix, 'a' + order);
    } else {
        snprintf(disk->name, sizeof(disk->name), "%s%c%c", prefix, 'a' + order / 26 - 1,
                 'a' + order % 26);
    }
}

// Below 0: a stands before b in the list.
static int disk_compare(const struct gendisk *a, const struct gendisk *b)
{
    int order = strcmp(a->prefix, b->prefix);
    if (order == 0) {
        order = a->order != b->order ? (a->order < b->order ? -1 : 1)
                                     : (int)a->partition - (int)b->partition;
    }
    return order;
}

// Caller holds the list's lock. 0, -EEXIST.
static int disk_insert(struct gendisk *disk)
{
    struct list_head *place = &blk_disks;
    struct gendisk *other;
    list_for_each_entry (other, &blk_disks, link) {
        int order = disk_compare(other, disk);
        if (order == 0) {
            return -EEXIST;
        }
        if (order > 0) {
            break;
        }
        place = &other->link;
    }
    disk_set_name(disk);
    disk_set_numbers(disk);
    list_add(&disk->link, place);
    return 0;
}

// The first number that no disk of this prefix has. Caller holds the list's lock.
static unsigned disk_free_order(const char *prefix)
{
    const struct gendisk *other;
    unsigned order = 0;
    if (ends_in_digit(prefix)) {
        return 0;
    }
    list_for_each_entry (other, &blk_disks, link) { // they come in order
        if (strcmp(other->prefix, prefix) == 0 && other->partition == 0 && other->order == order) {
            order++;
        }
    }
    return order;
}

int blk_insert_partition(struct gendisk *disk)
{
    spin_lock(&blk_disks_lock);
    int error = list_empty(&disk->whole->link) ? -ENXIO : disk_insert(disk);
    spin_unlock(&blk_disks_lock);
    return error;
}

int add_disk(struct gendisk *disk, const char *prefix)
{
    might_sleep();
    if (!list_empty(&disk->link) || *prefix == '\0' || strlen(prefix) > 11 ||
        (disk->capacity == 0 && disk->ops->open == NULL) || disk->max_sectors == 0 ||
        disk->max_segments == 0 || disk->max_segments > BLK_MAX_SEGMENTS) {
        return -EINVAL;
    }
    if (disk->dma_alignment == 0) {
        disk->dma_alignment = 1;
    }
    if (disk->logical_block_size == 0) {
        disk->logical_block_size = SECTOR_SIZE;
    }
    blk_timeout_setup(disk);
    if (page_cache_make(disk) != 0) {
        return -ENOMEM;
    }
    spin_lock(&blk_disks_lock);
    disk->order = disk_free_order(prefix);
    strscpy(disk->prefix, prefix, sizeof(disk->prefix));
    int error = disk->order >= BLK_MAX_DISKS_OF_A_KIND ? -ENOSPC : disk_insert(disk);
    spin_unlock(&blk_disks_lock);
    if (error == 0 && !disk->no_part && !disk->removable) {
        blk_add_partitions(disk);
    }
    return error;
}

// ---- gone ---------------------------------------------------------------------------------------

// No new requests; the list forgets it. False: it did not become quiet.
static bool disk_end(struct gendisk *disk)
{
    for (unsigned waited_ms = 0; waited_ms < BLK_DRAIN_MS; waited_ms++) {
        blk_refuse_waiting(disk); // in the loop: a queue_rq that answers -EBUSY puts its own back
        if (blk_is_quiet(disk)) {
            return true;
        }
        msleep(1);
    }
    pr_err("%s: %u requests were never given back by the driver", disk->name, disk->in_flight);
    return false;
}

// Takes a partition of this disk, or the disk when `whole` is NULL, out of the list; NULL: none
// left.
static struct gendisk *disk_unlink(struct gendisk *disk, struct gendisk *whole)
{
    struct gendisk *other, *found = NULL;
    spin_lock(&blk_disks_lock);
    list_for_each_entry (other, &blk_disks, link) {
        if (whole != NULL ? other->whole == whole : other == disk) {
            found = other;
            list_del_init(&other->link);
            __atomic_fetch_or(&other->stopped, BLK_GONE, __ATOMIC_SEQ_CST);
            break;
        }
    }
    spin_unlock(&blk_disks_lock);
    return found;
}

int del_gendisk(struct gendisk *disk)
{
    struct gendisk *partition;
    might_sleep();
    if (page_cache_dirty_bytes(disk) != 0) {
        page_cache_sync(disk, BLK_GOODBYE_MS); // what of it cannot be written is told below
    }
    disk_unlink(disk, NULL);
    __atomic_fetch_or(&disk->stopped, BLK_GONE, __ATOMIC_SEQ_CST);
    while ((partition = disk_unlink(NULL, disk)) != NULL) {
        blk_put(partition); // its requests are this disk's
    }
    if (!disk_end(disk)) {
        return -ETIMEDOUT;
    }
    blk_timeout_stop(disk);
    page_cache_leave(disk);
    return 0;
}

// ---- found --------------------------------------------------------------------------------------

struct gendisk *blk_find(const char *name)
{
    struct gendisk *disk, *found = NULL;
    spin_lock(&blk_disks_lock);
    list_for_each_entry (disk, &blk_disks, link) {
        if (strcmp(disk->name, name) == 0) {
            blk_get(disk);
            found = disk;
            break;
        }
    }
    spin_unlock(&blk_disks_lock);
    return found;
}

struct gendisk *blk_next(struct gendisk *after)
{
    struct gendisk *next = NULL;
    spin_lock(&blk_disks_lock);
    struct list_head *link = after == NULL ? &blk_disks : &after->link;
    if (link->next != &blk_disks && link->next != link) { // a disk that went links to itself
        next = list_entry(link->next, struct gendisk, link);
        blk_get(next);
    }
    spin_unlock(&blk_disks_lock);
    if (after != NULL) {
        blk_put(after);
    }
    return next;
}

void blk_get(struct gendisk *disk)
{
    __atomic_fetch_add(&disk->references, 1, __ATOMIC_RELAXED);
}

void blk_put(struct gendisk *disk)
{
    uint32_t before = __atomic_fetch_sub(&disk->references, 1, __ATOMIC_ACQ_REL);
    if (WARN_ON(before == 0)) {
        return;
    }
    if (before == 1) {
        struct gendisk *whole = disk->whole;
        disk_free(disk);
        if (whole != NULL) {
            blk_put(whole);
        }
    }
}

// ---- counted ------------------------------------------------------------------------------------

static void stats_add(struct disk_stats *sum, const struct disk_counts *part)
{
    for (unsigned op = 0; op < REQ_OP_COUNT; op++) {
        sum->ios[op] += part->ios[op];
        sum->sectors[op] += part->sectors[op];
        sum->merges[op] += part->merges[op];
        sum->ticks_ns[op] += clock_tsc_to_ns(part->ticks_tsc[op]);
    }
    sum->requeues += part->requeues;
    sum->timeouts += part->timeouts;
}

void blk_stats(struct gendisk *disk, struct disk_stats *stats)
{
    unsigned long flags;
    *stats = (struct disk_stats){0};
    stats_add(stats, &disk->counts); // of a partition
    for (unsigned i = 0; i < disk->queue_count; i++) {
        struct blk_mq_hw_ctx *hctx = &disk->queues[i];
        spin_lock_irqsave(&hctx->lock, flags);
        stats_add(stats, &hctx->counts);
        spin_unlock_irqrestore(&hctx->lock, flags);
    }
    stats->in_flight = __atomic_load_n(&disk->in_flight, __ATOMIC_RELAXED);
    uint64_t io_tsc = __atomic_load_n(&disk->io_tsc, __ATOMIC_RELAXED);
    uint64_t since_tsc = READ_ONCE(disk->io_stamp_tsc), now_tsc = rdtsc();
    if (stats->in_flight != 0 && now_tsc > since_tsc) { // busy at this moment, and not counted yet
        io_tsc += now_tsc - since_tsc;
    }
    stats->io_ns = clock_tsc_to_ns(io_tsc);
}
