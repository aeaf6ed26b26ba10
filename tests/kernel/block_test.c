// The block layer against a disk made of memory that does as it is told, and against the real one.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/softirq.h>
#include <dma/dma.h>
#include <dev/block.h>
#include <pci/pci.h>

#include "../../kernel/mm/internal.h"

// ---- a disk of memory ---------------------------------------------------------------------------

enum { FAKE_SECTORS = 256, FAKE_HOLD_MAX = 32 };

struct fake_disk {
    struct gendisk *disk;
    uint8_t *memory;
    bool hold;           // keep requests until fake_release
    unsigned busy;       // so many times -EBUSY
    unsigned starved;    // so many times -ENOMEM
    uint64_t bad_sector; // whoever touches it gets -EIO
    struct spinlock lock;
    struct request *held[FAKE_HOLD_MAX]; // L
    unsigned held_count, submits, most;  // L
    uint64_t accepted[2];                // L: sectors of the first two that were taken
    unsigned accepted_count;             // L
};

static void fake_finish(struct fake_disk *fake, struct request *request)
{
    uint8_t *at = fake->memory + blk_rq_pos(request) * SECTOR_SIZE;
    bool bad = fake->bad_sector >= blk_rq_pos(request) &&
               fake->bad_sector < blk_rq_pos(request) + blk_rq_sectors(request);
    struct request *part;
    struct blk_segment *segment;
    rq_for_each_segment (segment, part, request) {
        if (bad) {
            break;
        }
        if (request->op == REQ_OP_WRITE) {
            memcpy(at, segment->data, segment->length);
        } else {
            memcpy(segment->data, at, segment->length);
        }
        at += segment->length;
    }
    blk_complete_request(request, bad ? -EIO : 0);
}

static int fake_queue_rq(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct fake_disk *fake = hctx->disk->private_data;
    (void)last;
    unsigned long flags;
    spin_lock_irqsave(&fake->lock, flags);
    fake->submits++;
    if (fake->busy != 0) {
        fake->busy--;
        spin_unlock_irqrestore(&fake->lock, flags);
        return -EBUSY;
    }
    if (fake->starved != 0) {
        fake->starved--;
        spin_unlock_irqrestore(&fake->lock, flags);
        return -ENOMEM;
    }
    if (fake->accepted_count < ARRAY_SIZE(fake->accepted)) {
        fake->accepted[fake->accepted_count++] = blk_rq_pos(request);
    }
    if (fake->hold) {
        fake->held[fake->held_count++] = request;
        fake->most = max(fake->most, fake->held_count);
        spin_unlock_irqrestore(&fake->lock, flags);
        return 0;
    }
    spin_unlock_irqrestore(&fake->lock, flags);
    fake_finish(fake, request);
    return 0;
}

// Completes the oldest that is held; false when there is none.
static bool fake_release(struct fake_disk *fake)
{
    unsigned long flags;
    struct request *request = NULL;
    spin_lock_irqsave(&fake->lock, flags);
    if (fake->held_count != 0) {
        request = fake->held[0];
        fake->held_count--;
        memmove(&fake->held[0], &fake->held[1], fake->held_count * sizeof(fake->held[0]));
    }
    spin_unlock_irqrestore(&fake->lock, flags);
    if (request != NULL) {
        fake_finish(fake, request);
    }
    return request != NULL;
}

static const struct blk_mq_ops fake_ops = {.queue_rq = fake_queue_rq};

static bool fake_make(struct fake_disk *fake, uint32_t max_sectors, uint32_t depth)
{
    memset(fake, 0, sizeof(*fake));
    fake->bad_sector = UINT64_MAX;
    spin_lock_init(&fake->lock, "fake disk");
    fake->memory = kzalloc(FAKE_SECTORS * SECTOR_SIZE, GFP_KERNEL);
    fake->disk = alloc_disk(&fake_ops, 1, depth);
    if (fake->memory == NULL || fake->disk == NULL) {
        return false;
    }
    fake->disk->capacity = FAKE_SECTORS;
    fake->disk->max_sectors = max_sectors;
    fake->disk->max_segments = 4;
    fake->disk->no_part = true;
    fake->disk->private_data = fake;
    return add_disk(fake->disk, "tst") == 0;
}

// Takes it away, as a driver does: gone, then put.
static bool fake_drop(struct fake_disk *fake)
{
    int error = del_gendisk(fake->disk);
    if (error == 0) {
        blk_put(fake->disk);
    }
    kfree(fake->memory);
    return error == 0;
}

static struct disk_stats fake_stats(struct gendisk *disk)
{
    struct disk_stats stats;
    blk_stats(disk, &stats);
    return stats;
}

static void fake_fill(uint8_t *data, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1103515245 + 12345;
        data[i] = (uint8_t)(seed >> 16);
    }
}

// ---- requests of our own ------------------------------------------------------------------------

struct test_request {
    struct request request;
    struct blk_segment segments[64]; // for more than one piece
    struct completion completion;
    uint32_t dones;    // A
    bool in_softirq;   // written before done
    unsigned sequence; // in which order they were done
};
static unsigned test_sequence; // A

static void test_request_done(struct request *request)
{
    struct test_request *t = request->private_data;
    t->in_softirq = cpu_context() == CTX_SOFTIRQ;
    t->sequence = __atomic_add_fetch(&test_sequence, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&t->dones, 1, __ATOMIC_RELAXED);
    complete(&t->completion);
}

static void test_request_make(struct test_request *t, struct gendisk *disk, enum req_op op,
                              uint64_t sector, uint32_t sectors, void *data)
{
    memset(t, 0, sizeof(*t));
    init_completion(&t->completion);
    blk_request_init(&t->request, disk, op, sector, sectors, data, test_request_done, t);
}

static bool test_request_wait(struct test_request *t)
{
    return wait_for_completion_timeout(&t->completion, msecs_to_jiffies(5000)) != 0;
}

static struct test_request *test_requests(unsigned count)
{
    return kcalloc(count, sizeof(struct test_request), GFP_KERNEL);
}

// ---- the layer ----------------------------------------------------------------------------------

KTEST(block, what_is_written_is_read)
{
    struct fake_disk fake;
    uint8_t *out = kmalloc(200 * SECTOR_SIZE, GFP_KERNEL);
    uint8_t *in = kzalloc(200 * SECTOR_SIZE, GFP_KERNEL);
    REQUIRE(fake_make(&fake, 8, 3));
    REQUIRE(out != NULL && in != NULL);
    fake_fill(out, 200 * SECTOR_SIZE, 1);
    EXPECT_EQ(blk_write(fake.disk, 17, 200, out), 0);
    EXPECT_EQ(memcmp(fake.memory + 17 * SECTOR_SIZE, out, 200 * SECTOR_SIZE), 0);
    EXPECT_EQ(fake.submits, 25); // 200 sectors by eights
    EXPECT_EQ(blk_read(fake.disk, 17, 200, in), 0);
    EXPECT_EQ(memcmp(in, out, 200 * SECTOR_SIZE), 0);
    EXPECT_EQ(blk_flush(fake.disk), 0);
    EXPECT_EQ(blk_read(fake.disk, 0, 0, in), 0);
    EXPECT_EQ(fake_stats(fake.disk).ios[REQ_OP_WRITE], 25);
    EXPECT_EQ(fake_stats(fake.disk).ios[REQ_OP_READ], 25);
    EXPECT_EQ(fake_stats(fake.disk).ios[REQ_OP_FLUSH], 1);
    EXPECT_EQ(fake_stats(fake.disk).sectors[REQ_OP_WRITE], 200);
    EXPECT_EQ(fake_stats(fake.disk).in_flight, 0);
    EXPECT(fake_drop(&fake));
    kfree(out);
    kfree(in);
}

KTEST(block, error_in_the_middle)
{
    struct fake_disk fake;
    uint8_t *data = kmalloc(64 * SECTOR_SIZE, GFP_KERNEL);
    REQUIRE(fake_make(&fake, 8, 4) && data != NULL);
    fake.bad_sector = 20;
    EXPECT_EQ(blk_read(fake.disk, 0, 64, data), -EIO);
    EXPECT_EQ(blk_read(fake.disk, 0, 16, data), 0);
    EXPECT_EQ(blk_read(fake.disk, 21, 8, data), 0);
    // By bytes: what came before the bad sector counts, then the error.
    EXPECT_EQ(blk_read_bytes(fake.disk, 19 * SECTOR_SIZE, data, 100), 100);
    EXPECT_EQ(blk_read_bytes(fake.disk, 20 * SECTOR_SIZE + 3, data, 100), -EIO);
    EXPECT_EQ(blk_write_bytes(fake.disk, 20 * SECTOR_SIZE + 3, data, 100), -EIO);
    EXPECT(fake_drop(&fake));
    kfree(data);
}

KTEST(block, refusals_are_done_once)
{
    struct fake_disk fake;
    uint8_t *data = kmalloc(64 * SECTOR_SIZE, GFP_KERNEL);
    struct test_request *t = test_requests(1);
    REQUIRE(fake_make(&fake, 8, 4) && data != NULL && t != NULL);
    static const struct {
        uint64_t sector;
        uint32_t sectors;
        enum req_op op;
        int status;
    } cases[] = {
        {FAKE_SECTORS, 1, REQ_OP_READ, -ENOSPC},
        {FAKE_SECTORS - 1, 2, REQ_OP_WRITE, -ENOSPC},
        {UINT64_MAX, 2, REQ_OP_READ, -ENOSPC},
        {0, 9, REQ_OP_READ, -EINVAL},
        {0, 0, REQ_OP_READ, -EINVAL},
        {0, 1, REQ_OP_FLUSH, -EINVAL},
        {0, 1, (enum req_op)7, -EINVAL},
        {FAKE_SECTORS - 1, 1, REQ_OP_READ, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        test_request_make(t, fake.disk, cases[i].op, cases[i].sector, cases[i].sectors, data);
        blk_submit(&t->request);
        REQUIRE(test_request_wait(t));
        EXPECT_EQ(t->request.status, cases[i].status);
        EXPECT_EQ(t->dones, 1);
        EXPECT(t->in_softirq);
    }
    EXPECT_EQ(fake.submits, 1); // only the last one was for the driver

    // Segments that do not fit the request: odd, at an odd address, too short, too many.
    test_request_make(t, fake.disk, REQ_OP_READ, 0, 1, data + 1);
    blk_submit(&t->request);
    EXPECT(test_request_wait(t) && t->request.status == -EINVAL);
    test_request_make(t, fake.disk, REQ_OP_READ, 0, 1, data);
    t->request.segments[0].length = 511;
    blk_submit(&t->request);
    EXPECT(test_request_wait(t) && t->request.status == -EINVAL);
    test_request_make(t, fake.disk, REQ_OP_READ, 0, 2, data);
    t->request.segments[0].length = 512;
    blk_submit(&t->request);
    EXPECT(test_request_wait(t) && t->request.status == -EINVAL);
    test_request_make(t, fake.disk, REQ_OP_READ, 0, 1, data);
    t->request.segment_count = 5;
    blk_submit(&t->request);
    EXPECT(test_request_wait(t) && t->request.status == -EINVAL);
    fake.disk->read_only = true;
    EXPECT_EQ(blk_write(fake.disk, 0, 1, data), -EROFS);
    EXPECT_EQ(fake.submits, 1);
    EXPECT(fake_drop(&fake));
    kfree(data);
    kfree(t);
}

KTEST(block, several_segments)
{
    struct fake_disk fake;
    uint8_t *data = kmalloc(4 * SECTOR_SIZE, GFP_KERNEL);
    struct test_request *t = test_requests(1);
    REQUIRE(fake_make(&fake, 8, 4) && data != NULL && t != NULL);
    fake_fill(fake.memory, 4 * SECTOR_SIZE, 9);
    test_request_make(t, fake.disk, REQ_OP_READ, 0, 2, data);
    t->request.segment_count = 3;
    t->request.segments = t->segments;
    t->request.segments[0] = (struct blk_segment){.data = data + 1000, .length = 2};
    t->request.segments[1] = (struct blk_segment){.data = data, .length = 600};
    t->request.segments[2] = (struct blk_segment){.data = data + 1002, .length = 422};
    blk_submit(&t->request);
    REQUIRE(test_request_wait(t));
    EXPECT_EQ(t->request.status, 0);
    EXPECT_EQ(memcmp(data + 1000, fake.memory, 2), 0);
    EXPECT_EQ(memcmp(data, fake.memory + 2, 600), 0);
    EXPECT_EQ(memcmp(data + 1002, fake.memory + 602, 422), 0);
    EXPECT(fake_drop(&fake));
    kfree(data);
    kfree(t);
}

KTEST(block, held_back_beyond_the_depth)
{
    struct fake_disk fake;
    enum { COUNT = 12 };
    uint8_t *data = kmalloc(COUNT * SECTOR_SIZE, GFP_KERNEL);
    struct test_request *t = test_requests(COUNT);
    REQUIRE(fake_make(&fake, 8, 3) && data != NULL && t != NULL);
    fake.hold = true;
    for (unsigned i = 0; i < COUNT; i++) {
        test_request_make(&t[i], fake.disk, REQ_OP_WRITE, 2 * i, 1, data + i * SECTOR_SIZE);
        blk_submit(&t[i].request);
    }
    EXPECT_EQ(fake.held_count, 3);
    EXPECT_EQ(fake_stats(fake.disk).in_flight, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        // One goes out, the next comes in, before its `done` has returned or soon after.
        bool released = false;
        for (unsigned tries = 0; tries < 1000 && !(released = fake_release(&fake)); tries++) {
            msleep(1);
        }
        REQUIRE(released);
        EXPECT(test_request_wait(&t[i]));
        EXPECT_EQ(t[i].dones, 1);
    }
    EXPECT_EQ(fake.most, 3);
    EXPECT_EQ(fake.submits, COUNT);
    for (unsigned i = 1; i < COUNT; i++) {
        EXPECT(t[i].sequence > t[i - 1].sequence); // first come, first served
    }
    EXPECT(fake_drop(&fake));
    kfree(data);
    kfree(t);
}

// Nothing is under way whose end would bring somebody: the block layer comes by itself.
KTEST(block, who_finds_no_memory_is_asked_again)
{
    struct fake_disk fake;
    uint8_t *data = kmalloc(SECTOR_SIZE, GFP_KERNEL);
    struct test_request *t = test_requests(1);
    REQUIRE(fake_make(&fake, 8, 4) && data != NULL && t != NULL);
    fake.starved = 3;
    test_request_make(&t[0], fake.disk, REQ_OP_READ, 0, 1, data);
    blk_submit(&t[0].request);
    EXPECT(test_request_wait(&t[0]));
    EXPECT_EQ(t[0].request.status, 0);
    EXPECT_EQ(fake.submits, 4);
    EXPECT(fake_drop(&fake));
    kfree(data);
    kfree(t);
}

KTEST(block, memory_is_not_waited_for_for_ever)
{
    struct fake_disk fake;
    uint8_t *data = kmalloc(SECTOR_SIZE, GFP_KERNEL);
    struct test_request *t = test_requests(3);
    REQUIRE(fake_make(&fake, 8, 4) && data != NULL && t != NULL);
    fake.starved = UINT32_MAX;
    test_request_make(&t[0], fake.disk, REQ_OP_READ, 0, 1, data);
    blk_submit(&t[0].request);
    EXPECT(test_request_wait(&t[0]));
    EXPECT_EQ(t[0].request.status, -ENOMEM);
    EXPECT(fake.submits > 10);
    unsigned before = fake.submits;
    test_request_make(&t[2], fake.disk, REQ_OP_READ, 4, 1, data); // its patience is at an end
    WRITE_ONCE(fake.disk->starved_until_ns, clock_ns());
    blk_submit(&t[2].request);
    EXPECT(test_request_wait(&t[2]));
    EXPECT_EQ(t[2].request.status, -ENOMEM);
    EXPECT_EQ(fake.submits, before + 1);
    WRITE_ONCE(fake.disk->starved_until_ns, 0);                   // another time
    test_request_make(&t[1], fake.disk, REQ_OP_READ, 0, 1, data); // and the disk goes meanwhile
    blk_submit(&t[1].request);
    EXPECT(fake_drop(&fake));
    EXPECT(test_request_wait(&t[1]));
    EXPECT_EQ(t[1].request.status, -ENXIO);
    kfree(data);
    kfree(t);
}

KTEST(block, busy_driver_is_asked_again)
{
    struct fake_disk fake;
    uint8_t *data = kmalloc(SECTOR_SIZE, GFP_KERNEL);
    struct test_request *t = test_requests(2);
    REQUIRE(fake_make(&fake, 8, 4) && data != NULL && t != NULL);
    fake.busy = 2;
    for (unsigned i = 0; i < 2; i++) {
        test_request_make(&t[i], fake.disk, REQ_OP_READ, 2 * i, 1, data);
        blk_submit(&t[i].request);
    }
    EXPECT_EQ(t[0].dones + t[1].dones, 0);
    EXPECT_EQ(fake.submits, 2); // asked once for each, not over and over
    blk_run_queue(fake.disk);
    EXPECT(test_request_wait(&t[0]));
    EXPECT(test_request_wait(&t[1]));
    EXPECT_EQ(fake.submits, 4);
    EXPECT_EQ(fake.accepted[0], 0); // in order
    EXPECT_EQ(fake.accepted[1], 2);
    EXPECT(fake_drop(&fake));
    kfree(data);
    kfree(t);
}

static void release_later(void *arg)
{
    struct fake_disk *fake = arg;
    msleep(20);
    while (fake_release(fake)) {
    }
}

KTEST(block, disk_that_goes)
{
    struct fake_disk fake;
    enum { COUNT = 5 };
    uint8_t *data = kmalloc(SECTOR_SIZE, GFP_KERNEL);
    struct test_request *t = test_requests(COUNT);
    REQUIRE(fake_make(&fake, 8, 2) && data != NULL && t != NULL);
    struct gendisk *user = blk_find(fake.disk->name);
    REQUIRE(user == fake.disk);
    char name[16];
    strscpy(name, user->name, sizeof(name));
    fake.hold = true;
    for (unsigned i = 0; i < COUNT; i++) {
        test_request_make(&t[i], fake.disk, REQ_OP_READ, i, 1, data);
        blk_submit(&t[i].request);
    }
    struct thread *thread = kthread_run(release_later, &fake, "release");
    REQUIRE(thread != NULL);
    EXPECT_EQ(del_gendisk(fake.disk), 0); // waits for the two that the driver has
    thread_join(thread);
    for (unsigned i = 0; i < COUNT; i++) {
        EXPECT(test_request_wait(&t[i]));
        EXPECT_EQ(t[i].dones, 1);
        EXPECT_EQ(t[i].request.status, i < 2 ? 0 : -ENXIO);
    }
    EXPECT(blk_find(name) == NULL);
    // Somebody still has it open: an error, not a crash.
    EXPECT_EQ(blk_read(user, 0, 1, data), -ENXIO);
    EXPECT_EQ(blk_write_bytes(user, 3, data, 5), -ENXIO);
    EXPECT_EQ(blk_flush(user), -ENXIO);
    EXPECT_EQ(fake.submits, 2);
    blk_put(fake.disk);
    blk_put(user);
    kfree(fake.memory);
    kfree(data);
    kfree(t);
}

KTEST(block, names_and_order)
{
    struct fake_disk a, b, c;
    REQUIRE(fake_make(&a, 8, 1) && fake_make(&b, 8, 1));
    EXPECT_EQ(strcmp(a.disk->name, "tst0"), 0);
    EXPECT_EQ(strcmp(b.disk->name, "tst1"), 0);
    EXPECT(fake_drop(&a));
    REQUIRE(fake_make(&c, 8, 1)); // takes the gap
    EXPECT_EQ(strcmp(c.disk->name, "tst0"), 0);
    const char *before = "";
    bool sorted = true;
    for (struct gendisk *disk = blk_next(NULL); disk != NULL; disk = blk_next(disk)) {
        sorted = sorted && strcmp(before, disk->name) < 0;
        before = disk->name; // the disk is not going away here
    }
    EXPECT(sorted);
    EXPECT_EQ(add_disk(c.disk, "tst"), -EINVAL); // it has its name
    EXPECT(fake_drop(&b));
    EXPECT(fake_drop(&c));
}

// ---- bytes --------------------------------------------------------------------------------------

KTEST(block, bytes_of_every_alignment)
{
    struct fake_disk fake;
    enum { SIZE = FAKE_SECTORS * SECTOR_SIZE };
    uint8_t *model = kmalloc(SIZE, GFP_KERNEL), *data = kmalloc(SIZE, GFP_KERNEL);
    REQUIRE(fake_make(&fake, 8, 2) && model != NULL && data != NULL);
    static const uint32_t offsets[] = {0, 1, 2, 511, 512, 513, 1024, 5000};
    static const uint32_t sizes[] = {0, 1, 2, 511, 512, 513, 1024, 1025, 4096, 9999, 70001};
    fake_fill(fake.memory, SIZE, 5);
    memcpy(model, fake.memory, SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++) {
        for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
            for (unsigned shift = 0; shift < 2;
                 shift++) { // an odd address cannot be given to a device
                fake_fill(data + shift, sizes[k], i * 100 + k);
                EXPECT_EQ(blk_write_bytes(fake.disk, offsets[i], data + shift, sizes[k]), sizes[k]);
                memcpy(model + offsets[i], data + shift, sizes[k]);
                memset(data, 0, SIZE);
                EXPECT_EQ(blk_read_bytes(fake.disk, offsets[i], data + shift, sizes[k]), sizes[k]);
                EXPECT_EQ(memcmp(data + shift, model + offsets[i], sizes[k]), 0);
            }
        }
    }
    EXPECT_EQ(memcmp(fake.memory, model, SIZE), 0); // and nothing beside
    EXPECT(fake_drop(&fake));
    kfree(model);
    kfree(data);
}

KTEST(block, bytes_at_the_end)
{
    struct fake_disk fake;
    enum { SIZE = FAKE_SECTORS * SECTOR_SIZE };
    uint8_t data[64]; // on the stack, where a device may not write
    REQUIRE(fake_make(&fake, 8, 2));
    EXPECT_EQ(blk_read_bytes(fake.disk, SIZE - 10, data, 64), 10);
    EXPECT_EQ(blk_read_bytes(fake.disk, SIZE, data, 64), 0);
    EXPECT_EQ(blk_read_bytes(fake.disk, UINT64_MAX, data, 64), 0);
    EXPECT_EQ(blk_write_bytes(fake.disk, SIZE - 10, data, 64), 10);
    EXPECT_EQ(blk_write_bytes(fake.disk, SIZE, data, 64), -ENOSPC);
    EXPECT_EQ(blk_write_bytes(fake.disk, UINT64_MAX - 5, data, 64), -ENOSPC);
    EXPECT_EQ(blk_write_bytes(fake.disk, SIZE, data, 0), 0);
    memset(data, 0x42, sizeof(data));
    EXPECT_EQ(blk_write_bytes(fake.disk, 700, data, 64), 64);
    EXPECT_EQ(memcmp(fake.memory + 700, data, 64), 0);
    EXPECT(fake_drop(&fake));
}

// ---- the real disk ------------------------------------------------------------------------------

static struct pci_dev *test_ahci(void)
{
    for (struct pci_dev *dev = pci_next(NULL); dev != NULL; dev = pci_next(dev)) {
        if (dev->dev.driver != NULL && strcmp(dev->dev.driver, "ahci") == 0) {
            return dev;
        }
    }
    return NULL;
}

KTEST(ahci, same_sectors_same_bytes)
{
    struct gendisk *disk = blk_find("sda");
    if (disk == NULL) {
        SKIP("no disk");
    }
    enum { SECTORS = 1024 };
    uint8_t *whole = kmalloc(SECTORS * SECTOR_SIZE, GFP_KERNEL);
    uint8_t *piece = kmalloc(8 * SECTOR_SIZE, GFP_KERNEL);
    REQUIRE(whole != NULL && piece != NULL);
    EXPECT_EQ(blk_read(disk, 0, SECTORS, whole), 0);
    for (uint32_t sector = 0; sector + 8 <= SECTORS; sector += 37) {
        memset(piece, 0xa5, 8 * SECTOR_SIZE);
        EXPECT_EQ(blk_read(disk, sector, 8, piece), 0);
        EXPECT_EQ(memcmp(piece, whole + (size_t)sector * SECTOR_SIZE, 8 * SECTOR_SIZE), 0);
    }
    EXPECT_EQ(blk_read(disk, disk->capacity, 1, piece), -ENOSPC);
    EXPECT_EQ(blk_read(disk, disk->capacity - 1, 1, piece), 0);
    EXPECT_EQ(blk_flush(disk), 0);
    kfree(whole);
    kfree(piece);
    blk_put(disk);
}

KTEST(ahci, scatter_list_of_many_pieces)
{
    struct gendisk *disk = blk_find("sda");
    if (disk == NULL) {
        SKIP("no disk");
    }
    enum { PIECES = 56, SECTORS = 28 };
    struct test_request *t = test_requests(1);
    uint8_t *plain = kmalloc(SECTORS * SECTOR_SIZE, GFP_KERNEL);
    uint8_t *pieces = kzalloc(PIECES * 1024, GFP_KERNEL);
    REQUIRE(t != NULL && plain != NULL && pieces != NULL);
    REQUIRE(disk->max_segments >= PIECES);
    EXPECT_EQ(blk_read(disk, 3, SECTORS, plain), 0);
    test_request_make(t, disk, REQ_OP_READ, 3, SECTORS, NULL);
    t->request.segment_count = PIECES;
    t->request.segments = t->segments;
    for (unsigned i = 0; i < PIECES; i++) { // 254 and 258 bytes by turns
        t->request.segments[i].data = pieces + i * 1024;
        t->request.segments[i].length = i % 2 == 0 ? 254 : 258;
    }
    blk_submit(&t->request);
    REQUIRE(test_request_wait(t));
    EXPECT_EQ(t->request.status, 0);
    const uint8_t *expected = plain;
    for (unsigned i = 0; i < PIECES; i++) {
        EXPECT_EQ(memcmp(pieces + i * 1024, expected, t->request.segments[i].length), 0);
        EXPECT_EQ(pieces[i * 1024 + t->request.segments[i].length], 0); // and no byte more
        expected += t->request.segments[i].length;
    }
    kfree(pieces);
    kfree(plain);
    kfree(t);
    blk_put(disk);
}

// As many commands as there are slots, and more, from every CPU at once.
struct crowd {
    struct gendisk *disk;
    const uint8_t *expected;
    uint32_t errors, reads; // A
};
enum { CROWD_SECTORS = 256, CROWD_READS = 100 };

static void crowd_thread(void *arg)
{
    struct crowd *crowd = arg;
    uint8_t *data = kmalloc(8 * SECTOR_SIZE, GFP_KERNEL);
    uint32_t seed = (uint32_t)(uintptr_t)data >> 6;
    for (unsigned i = 0; i < CROWD_READS && data != NULL; i++) {
        seed = seed * 1103515245 + 12345;
        uint32_t sector = (seed >> 8) % (CROWD_SECTORS - 8), sectors = 1 + (seed >> 4) % 8;
        bool good = blk_read(crowd->disk, sector, sectors, data) == 0 &&
                    memcmp(data, crowd->expected + (size_t)sector * SECTOR_SIZE,
                           (size_t)sectors * SECTOR_SIZE) == 0;
        __atomic_fetch_add(good ? &crowd->reads : &crowd->errors, 1, __ATOMIC_RELAXED);
    }
    kfree(data);
}

KTEST(ahci, crowd_of_readers)
{
    enum { THREADS = 40 };
    struct thread *threads[THREADS];
    struct gendisk *disk = blk_find("sda");
    if (disk == NULL) {
        SKIP("no disk");
    }
    uint8_t *expected = kmalloc(CROWD_SECTORS * SECTOR_SIZE, GFP_KERNEL);
    REQUIRE(expected != NULL);
    EXPECT_EQ(blk_read(disk, 0, CROWD_SECTORS, expected), 0);
    struct crowd crowd = {.disk = disk, .expected = expected};
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = kthread_run(crowd_thread, &crowd, "crowd/%u", i);
    }
    unsigned started = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        if (threads[i] != NULL) {
            thread_join(threads[i]);
            started++;
        }
    }
    EXPECT_EQ(started, THREADS);
    EXPECT_EQ(crowd.errors, 0);
    EXPECT_EQ(crowd.reads, THREADS * CROWD_READS);
    EXPECT_EQ(fake_stats(disk).in_flight, 0);
    kfree(expected);
    blk_put(disk);
}

KTEST(ahci, unbind_leaves_nothing)
{
    struct pci_dev *dev = test_ahci();
    struct gendisk *disk = blk_find("sda");
    if (dev == NULL || disk == NULL) {
        SKIP("no AHCI disk");
    }
    uint8_t *before = kmalloc(8 * SECTOR_SIZE, GFP_KERNEL);
    uint8_t *after = kmalloc(8 * SECTOR_SIZE, GFP_KERNEL);
    REQUIRE(before != NULL && after != NULL);
    EXPECT_EQ(blk_read(disk, 0, 8, before), 0);
    EXPECT(dma_outstanding(&dev->dev) > 0);
    for (unsigned i = 0; i < 5; i++) {
        EXPECT_EQ(pci_unbind(dev), 0);
        EXPECT_EQ(dma_outstanding(&dev->dev), 0);
        EXPECT(dev->driver == NULL && dev->dev.driver == NULL);
        EXPECT(dev->bars[5].mapped == NULL);
        EXPECT(blk_find("sda") == NULL);
        EXPECT_EQ(pci_read16(dev, 4) & 4, 0); // touches no memory
        EXPECT_EQ(blk_read(disk, 0, 8, after), -ENXIO);
        blk_put(disk);
        EXPECT_EQ(pci_bind(dev), 0);
        disk = blk_find("sda");
        REQUIRE(disk != NULL);
        memset(after, 0, 8 * SECTOR_SIZE);
        EXPECT_EQ(blk_read(disk, 0, 8, after), 0);
        EXPECT_EQ(memcmp(before, after, 8 * SECTOR_SIZE), 0);
    }
    blk_put(disk);
    kfree(before);
    kfree(after);
}

static void unbind_reader(void *arg)
{
    uint32_t *bad = arg;
    uint8_t *data = kmalloc(64 * SECTOR_SIZE, GFP_KERNEL);
    struct gendisk *disk = blk_find("sda");
    while (disk != NULL && data != NULL) {
        int error = blk_read(disk, 0, 64, data);
        if (error != 0) {
            *bad = error != -ENXIO;
            break;
        }
    }
    if (disk != NULL) {
        blk_put(disk);
    }
    kfree(data);
}

KTEST(ahci, unbind_under_load)
{
    enum { THREADS = 4 };
    struct pci_dev *dev = test_ahci();
    if (dev == NULL || pci_next(NULL) == NULL) {
        SKIP("no AHCI controller");
    }
    struct thread *threads[THREADS];
    uint32_t bad[THREADS] = {0};
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = kthread_run(unbind_reader, &bad[i], "reader/%u", i);
        REQUIRE(threads[i] != NULL);
    }
    msleep(20);
    EXPECT_EQ(pci_unbind(dev), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        thread_join(threads[i]);
        EXPECT_EQ(bad[i], 0); // either data or "no such device", never anything else
    }
    EXPECT_EQ(dma_outstanding(&dev->dev), 0);
    EXPECT_EQ(pci_bind(dev), 0);
}

// ---- when memory runs out -----------------------------------------------------------------------

// Lets the number-th allocation from here on fail, and says whether it came to that.
static void fail_start(uint32_t number)
{
    __atomic_store_n(&fail_countdown, number, __ATOMIC_RELAXED);
}

static bool fail_stop(void)
{
    return __atomic_exchange_n(&fail_countdown, 0, __ATOMIC_RELAXED) == 0;
}

KTEST(block, long_transfer_without_memory_for_chunks)
{
    struct fake_disk fake;
    uint8_t *data = kzalloc(100 * SECTOR_SIZE, GFP_KERNEL);
    REQUIRE(fake_make(&fake, 8, 4) && data != NULL);
    fake_fill(fake.memory, 100 * SECTOR_SIZE, 3);
    fail_start(1);
    EXPECT_EQ(blk_read(fake.disk, 0, 100, data), 0);
    EXPECT(fail_stop());
    EXPECT_EQ(memcmp(data, fake.memory, 100 * SECTOR_SIZE), 0);
    EXPECT_EQ(fake.submits, 13);
    fake.bad_sector = 50;
    fail_start(1);
    EXPECT_EQ(blk_read(fake.disk, 0, 100, data), -EIO);
    EXPECT(fail_stop());
    EXPECT_EQ(fake.submits, 13 + 7); // nothing after the bad one
    EXPECT(fake_drop(&fake));
    kfree(data);
}

KTEST(ahci, each_allocation_of_the_probe_may_fail)
{
    enum { MOST = 200 };
    struct pci_dev *dev = test_ahci();
    struct gendisk *disk = blk_find("sda");
    if (dev == NULL || disk == NULL) {
        SKIP("no AHCI disk");
    }
    blk_put(disk);
    bool hit = true;
    unsigned number = 0, refused = 0;
    while (hit && ++number < MOST) {
        EXPECT_EQ(pci_unbind(dev), 0);
        EXPECT_EQ(dma_outstanding(&dev->dev), 0);
        fail_start(number);
        int error = pci_bind(dev);
        hit = fail_stop();
        if (error != 0) { // nothing is left behind, and the next try works
            refused++;
            EXPECT(dev->driver == NULL);
            EXPECT(dev->bars[5].mapped == NULL);
            EXPECT_EQ(dma_outstanding(&dev->dev), 0);
            EXPECT_EQ(pci_bind(dev), 0);
        }
    }
    EXPECT(number > 5 && number < MOST);
    EXPECT(refused > 0);
    // The last round was not hit, so the disk is there.
    disk = blk_find("sda");
    REQUIRE(disk != NULL);
    uint8_t *data = kmalloc(SECTOR_SIZE, GFP_KERNEL);
    REQUIRE(data != NULL);
    EXPECT_EQ(blk_read(disk, 0, 1, data), 0);
    kfree(data);
    blk_put(disk);
}

KTEST(ahci, each_allocation_of_a_read_may_fail)
{
    enum { MOST = 50 };
    struct gendisk *disk = blk_find("sda");
    if (disk == NULL) {
        SKIP("no disk");
    }
    static uint8_t scrap[1000]; // not memory for a device: a bounce buffer is needed
    uint8_t *data = vmalloc(1 << 20);
    REQUIRE(data != NULL);
    bool hit = true;
    unsigned number = 0, failures = 0;
    while (hit && ++number < MOST) {
        fail_start(number);
        long got = blk_read_bytes(disk, 100, scrap, sizeof(scrap));
        hit = fail_stop();
        EXPECT(got == sizeof(scrap) || got < 0 || hit);
        failures += got != sizeof(scrap);
        EXPECT_EQ(blk_read_bytes(disk, 512, data, 1 << 20), 1 << 20);
    }
    EXPECT(number > 1 && number < MOST);
    EXPECT(failures > 0);
    EXPECT_EQ(fake_stats(disk).in_flight, 0);
    vfree(data);
    blk_put(disk);
}
