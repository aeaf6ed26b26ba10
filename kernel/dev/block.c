// The block layer's core: who has a request, who is told when it is done, which disks there are.
//
// A disk accepts `queue_depth` requests at a time; the rest wait in its list. A request changes
// hands four times, and each step is made under the disk's lock or by one atomic exchange, so "done
// exactly once" is not a hope:
//
//    maker            block layer                       driver
//   IDLE ──blk_submit──> WAITING ──room in the queue──> STARTED
//     ^                     └── the disk goes: -ENXIO ──┐   │ blk_complete_request, any context:
//     │                                                 v   v a list insertion, a raised softirq
//     └────── request->done, in BLOCK_SOFTIRQ ────────── DONE
//
// Completions are put on a list of the CPU that took the interrupt; the softirq counts them
// (/proc/diskstats), calls `done`, and feeds the driver from the waiting list. Merging and sorting
// are left out on purpose: what an emulated disk and an SSD gain from an elevator is nothing, and
// the path stays short enough to read.
//
// Context: blk_submit from threads and softirqs; blk_complete_request from anywhere; the list of
// disks from threads. Next: kernel/dev/block_io.c (whole transfers that sleep),
// drivers/block/ahci/ahci_port.c (a driver).
#include <dev/block.h>

#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <mm/slab.h>
#include <sched/sleep.h>
#include <defer/softirq.h>

enum { BLK_DRAIN_MS = 60000, BLK_MAX_DISKS_OF_A_KIND = 128 };

static struct list_head blk_done[MAX_CPUS]; // C: completed, waiting for this CPU's softirq
static DEFINE_SPINLOCK(blk_disks_lock);
static LIST_HEAD(blk_disks); // L: in the order of their names

// ---- accounting ---------------------------------------------------------------------------------

// Time in which the disk had something to do, and the same weighted with how much: brought up to
// date before in_flight changes.
static void blk_account_time(struct disk_stats *stats, uint64_t now_ns)
{
    uint64_t elapsed_ns = now_ns - stats->stamp_ns;
    if (stats->in_flight != 0) {
        stats->io_ns += elapsed_ns;
        stats->weighted_ns += elapsed_ns * stats->in_flight;
    }
    stats->stamp_ns = now_ns;
}

static void blk_account_done(struct gendisk *disk, const struct request *request)
{
    struct disk_stats *stats = &disk->stats;
    uint64_t now_ns = clock_ns();
    blk_account_time(stats, now_ns);
    stats->in_flight--;
    stats->ios[request->op]++;
    stats->ticks_ns[request->op] += now_ns - request->start_ns;
    if (request->op != REQ_OP_FLUSH && request->status == 0) {
        stats->sectors[request->op] += request->sectors;
    }
}

static uint32_t blk_trace_device(const struct gendisk *disk)
{
    return (uint32_t)disk->major << 20 | disk->minor;
}

// ---- down: to the driver ------------------------------------------------------------------------

// What a driver need not check again. Returns 0, -EINVAL, -ENOSPC (beyond the end), -EROFS.
static int blk_check(const struct gendisk *disk, const struct request *request)
{
    uint64_t bytes = 0;
    if (request->op == REQ_OP_FLUSH) {
        return request->sectors == 0 && request->segment_count == 0 ? 0 : -EINVAL;
    }
    if (request->op != REQ_OP_READ && request->op != REQ_OP_WRITE) {
        return -EINVAL;
    }
    if (request->op == REQ_OP_WRITE && disk->read_only) {
        return -EROFS;
    }
    if (request->sectors == 0 || request->sectors > disk->max_sectors ||
        request->segment_count == 0 || request->segment_count > disk->max_segments) {
        return -EINVAL;
    }
    if (request->sector >= disk->capacity || request->sectors > disk->capacity - request->sector) {
        return -ENOSPC;
    }
    for (unsigned i = 0; i < request->segment_count; i++) {
        const struct blk_segment *segment = &request->segments[i];
        if (segment->length == 0 || (segment->length & 1) != 0 ||
            ((uintptr_t)segment->data & 1) != 0) {
            return -EINVAL;
        }
        bytes += segment->length;
    }
    return bytes == (uint64_t)request->sectors * SECTOR_SIZE ? 0 : -EINVAL;
}

// Takes the next request for the driver, if it has room. Caller holds the lock and must call
// blk_start for what it gets.
static struct request *blk_take_locked(struct gendisk *disk)
{
    struct request *request = list_first_entry_or_null(&disk->waiting, struct request, link);
    if (request == NULL || disk->started >= disk->queue_depth) {
        return NULL;
    }
    list_del_init(&request->link);
    WRITE_ONCE(request->state, REQUEST_STARTED);
    disk->started++;
    __atomic_fetch_add(&disk->submitting, 1, __ATOMIC_RELAXED);
    return request;
}

// Takes the request back that the driver had no room for. When a completion came between its "no"
// and this, nobody else would look at the list again: then the result is the request to try next.
static struct request *blk_put_back(struct gendisk *disk, struct request *request, uint32_t kicks)
{
    unsigned long flags;
    struct request *next = NULL;
    spin_lock_irqsave(&disk->lock, flags);
    WRITE_ONCE(request->state, REQUEST_WAITING);
    disk->started--;
    list_add(&request->link, &disk->waiting);
    if (disk->kicks != kicks && !disk->gone) {
        next = blk_take_locked(disk);
    }
    spin_unlock_irqrestore(&disk->lock, flags);
    return next;
}

static struct request *blk_take(struct gendisk *disk)
{
    unsigned long flags;
    spin_lock_irqsave(&disk->lock, flags);
    struct request *request = disk->gone ? NULL : blk_take_locked(disk);
    spin_unlock_irqrestore(&disk->lock, flags);
    return request;
}

// Hands a taken request to the driver, outside the lock, and goes on while there are more and it
// has room. A request may be done, and freed, before submit returns. The disk may not: del_gendisk
// waits until nobody is submitting.
static void blk_start(struct gendisk *disk, struct request *request)
{
    while (request != NULL) {
        struct request *next = NULL;
        uint32_t kicks = READ_ONCE(disk->kicks);
        trace(TRACE_BLOCK_SUBMIT, blk_trace_device(disk), request->sector);
        int error = disk->submit(disk, request);
        if (unlikely(error == -EBUSY)) {
            next = blk_put_back(disk, request, kicks);
        } else {
            if (unlikely(error != 0)) {
                blk_complete_request(request, error);
            }
            if (unlikely(!list_empty(&disk->waiting))) {
                next = blk_take(disk);
            }
        }
        __atomic_fetch_sub(&disk->submitting, 1, __ATOMIC_RELEASE);
        request = next;
    }
}

void blk_run_queue(struct gendisk *disk)
{
    unsigned long flags;
    spin_lock_irqsave(&disk->lock, flags);
    disk->kicks++;
    struct request *request = disk->gone ? NULL : blk_take_locked(disk);
    spin_unlock_irqrestore(&disk->lock, flags);
    blk_start(disk, request);
}

void blk_submit(struct request *request)
{
    struct gendisk *disk = request->disk;
    unsigned long flags;

    request->status = 0;
    int error = blk_check(disk, request);
    request->start_ns = clock_ns();
    spin_lock_irqsave(&disk->lock, flags);
    blk_account_time(&disk->stats, request->start_ns);
    disk->stats.in_flight++;
    if (disk->gone) {
        error = -ENXIO;
    }
    if (error != 0) { // never the driver's, but completed like any other
        WRITE_ONCE(request->state, REQUEST_STARTED);
        disk->started++;
    } else {
        WRITE_ONCE(request->state, REQUEST_WAITING);
        list_add_tail(&request->link, &disk->waiting);
        request = blk_take_locked(disk); // in order: an older one goes first
    }
    spin_unlock_irqrestore(&disk->lock, flags);
    if (error != 0) {
        blk_complete_request(request, error);
    } else {
        blk_start(disk, request);
    }
}

// ---- up: from the driver ------------------------------------------------------------------------

void blk_complete_request(struct request *request, int status)
{
    uint32_t state = __atomic_exchange_n(&request->state, REQUEST_DONE, __ATOMIC_RELAXED);
    if (WARN_ON(state != REQUEST_STARTED)) { // not the driver's: a completion too many
        __atomic_store_n(&request->state, state, __ATOMIC_RELAXED);
        return;
    }
    request->status = status;
    unsigned long flags = local_irq_save();
    list_add_tail(&request->link, &this_cpu(blk_done));
    raise_softirq_irqoff(BLOCK_SOFTIRQ);
    local_irq_restore(flags);
}

static void blk_finish(struct request *request)
{
    struct gendisk *disk = request->disk;
    unsigned long flags;

    trace(TRACE_BLOCK_DONE, blk_trace_device(disk), request->sector);
    spin_lock_irqsave(&disk->lock, flags);
    blk_account_done(disk, request);
    disk->started--;
    disk->kicks++;
    struct request *next = disk->gone ? NULL : blk_take_locked(disk);
    spin_unlock_irqrestore(&disk->lock, flags);

    // From here on the disk may be freed, unless there is a next request, whose maker keeps it.
    request->done(request);
    blk_start(disk, next);
}

// The handler of BLOCK_SOFTIRQ. What is completed while it runs raises it again.
static void blk_softirq(void)
{
    LIST_HEAD(done);
    unsigned long flags = local_irq_save();
    list_splice_tail_init(&this_cpu(blk_done), &done);
    local_irq_restore(flags);
    while (!list_empty(&done)) {
        struct request *request = list_first_entry(&done, struct request, link);
        list_del_init(&request->link);
        blk_finish(request);
    }
}

void blk_init(void)
{
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
        INIT_LIST_HEAD(&blk_done[cpu]);
    }
    open_softirq(BLOCK_SOFTIRQ, blk_softirq);
}

// ---- disks --------------------------------------------------------------------------------------

struct gendisk *alloc_disk(void)
{
    struct gendisk *disk = kzalloc(sizeof(*disk), GFP_KERNEL);
    if (disk != NULL) {
        spin_lock_init(&disk->lock, "disk");
        mutex_init(&disk->write_mutex, "disk write");
        INIT_LIST_HEAD(&disk->waiting);
        INIT_LIST_HEAD(&disk->link);
        disk->references = 1;
    }
    return disk;
}

// Device numbers as Linux assigns them (Documentation/admin-guide/devices.txt): 16 minors a disk.
static void blk_set_numbers(struct gendisk *disk, const char *prefix)
{
    static const uint8_t sd_majors[] = {8, 65, 66, 67, 68, 69, 70, 71};
    if (strcmp(prefix, "sd") == 0) {
        disk->major = sd_majors[disk->order / 16];
        disk->minor = (uint16_t)(disk->order % 16 * 16);
    } else if (strcmp(prefix, "sr") == 0) {
        disk->major = 11;
        disk->minor = (uint16_t)disk->order;
    } else {
        disk->major = 259; // "block extended", where Linux puts what has no numbers of its own
        disk->minor = (uint16_t)disk->order;
    }
}

// "sd" and 0..127 to "sda" .. "sdz", "sdaa" ..; "sr" and a number to "sr0".
static void blk_set_name(struct gendisk *disk, const char *prefix)
{
    if (strcmp(prefix, "sd") != 0) {
        snprintf(disk->name, sizeof(disk->name), "%s%u", prefix, disk->order);
    } else if (disk->order < 26) {
        snprintf(disk->name, sizeof(disk->name), "sd%c", 'a' + disk->order);
    } else {
        snprintf(disk->name, sizeof(disk->name), "sd%c%c", 'a' + disk->order / 26 - 1,
                 'a' + disk->order % 26);
    }
}

static bool blk_has_prefix(const struct gendisk *disk, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(disk->name, prefix, length) == 0 &&
           (strcmp(prefix, "sd") != 0 || disk->name[length] >= 'a');
}

int add_disk(struct gendisk *disk, const char *prefix)
{
    size_t length = strlen(prefix);
    if (length == 0 || length > 4 || disk->submit == NULL || disk->capacity == 0 ||
        disk->queue_depth == 0 || disk->max_sectors == 0 || disk->max_segments == 0 ||
        disk->max_segments > BLK_MAX_SEGMENTS) {
        return -EINVAL;
    }
    // The list is in order, so the first gap among the disks of this kind is both the number and
    // the place.
    struct list_head *place = &blk_disks;
    struct gendisk *other;
    disk->order = 0;
    spin_lock(&blk_disks_lock);
    list_for_each_entry (other, &blk_disks, link) {
        if (blk_has_prefix(other, prefix)) {
            if (other->order != disk->order) {
                break;
            }
            disk->order++;
        } else if (strcmp(other->name, prefix) > 0) {
            break;
        }
        place = &other->link;
    }
    if (disk->order >= BLK_MAX_DISKS_OF_A_KIND) {
        spin_unlock(&blk_disks_lock);
        return -ENOSPC;
    }
    blk_set_name(disk, prefix);
    blk_set_numbers(disk, prefix);
    list_add(&disk->link, place);
    spin_unlock(&blk_disks_lock);
    return 0;
}

// Nothing of the driver's is with the hardware, and nobody is inside its submit.
static bool blk_is_quiet(struct gendisk *disk)
{
    unsigned long flags;
    spin_lock_irqsave(&disk->lock, flags);
    bool quiet = disk->stats.in_flight == 0;
    spin_unlock_irqrestore(&disk->lock, flags);
    return quiet && __atomic_load_n(&disk->submitting, __ATOMIC_ACQUIRE) == 0;
}

int del_gendisk(struct gendisk *disk)
{
    LIST_HEAD(refused);
    unsigned long flags;

    spin_lock(&blk_disks_lock);
    list_del_init(&disk->link);
    spin_unlock(&blk_disks_lock);

    for (unsigned waited_ms = 0;; waited_ms++) {
        // In the loop: a submit that answers -EBUSY puts its request back.
        spin_lock_irqsave(&disk->lock, flags);
        disk->gone = true;
        struct request *request;
        list_for_each_entry (request, &disk->waiting, link) {
            WRITE_ONCE(request->state, REQUEST_STARTED);
            disk->started++;
        }
        list_splice_tail_init(&disk->waiting, &refused);
        spin_unlock_irqrestore(&disk->lock, flags);
        while (!list_empty(&refused)) {
            request = list_first_entry(&refused, struct request, link);
            list_del_init(&request->link);
            blk_complete_request(request, -ENXIO);
        }
        if (blk_is_quiet(disk)) {
            blk_put(disk);
            return 0;
        }
        if (waited_ms >= BLK_DRAIN_MS) {
            pr_err("%s: %u requests were never given back by the driver", disk->name,
                   disk->stats.in_flight);
            return -ETIMEDOUT;
        }
        msleep(1);
    }
}

struct gendisk *blk_find(const char *name)
{
    struct gendisk *disk, *found = NULL;
    spin_lock(&blk_disks_lock);
    list_for_each_entry (disk, &blk_disks, link) {
        if (strcmp(disk->name, name) == 0) {
            __atomic_fetch_add(&disk->references, 1, __ATOMIC_RELAXED);
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
        __atomic_fetch_add(&next->references, 1, __ATOMIC_RELAXED);
    }
    spin_unlock(&blk_disks_lock);
    if (after != NULL) {
        blk_put(after);
    }
    return next;
}

void blk_put(struct gendisk *disk)
{
    uint32_t before = __atomic_fetch_sub(&disk->references, 1, __ATOMIC_ACQ_REL);
    if (WARN_ON(before == 0)) {
        return;
    }
    if (before == 1) {
        kfree(disk);
    }
}
