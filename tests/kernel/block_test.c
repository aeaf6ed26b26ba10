// The block layer against a disk made of memory that does as it is told.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <mm/slab.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <dev/block.h>

#include "disk_case.h"
#include "eventually.h"
#include "fail_case.h"

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
    bool bad = fake->bad_sector >= blk_rq_pos(request) &&
               fake->bad_sector < blk_rq_pos(request) + blk_rq_sectors(request);

    if (!bad) {
        test_request_move(request, fake->memory);
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
    test_fill(out, 200 * SECTOR_SIZE, 1);
    EXPECT_EQ(blk_write(fake.disk, 17, 200, out), 0);
    EXPECT_EQ(memcmp(fake.memory + 17 * SECTOR_SIZE, out, 200 * SECTOR_SIZE), 0);
    EXPECT_EQ(fake.submits, 25); // 200 sectors by eights
    EXPECT_EQ(blk_read(fake.disk, 17, 200, in), 0);
    EXPECT_EQ(memcmp(in, out, 200 * SECTOR_SIZE), 0);
    EXPECT_EQ(blk_flush(fake.disk), 0);
    EXPECT_EQ(blk_read(fake.disk, 0, 0, in), 0);
    EXPECT_EQ(test_stats(fake.disk).ios[REQ_OP_WRITE], 25);
    EXPECT_EQ(test_stats(fake.disk).ios[REQ_OP_READ], 25);
    EXPECT_EQ(test_stats(fake.disk).ios[REQ_OP_FLUSH], 1);
    EXPECT_EQ(test_stats(fake.disk).sectors[REQ_OP_WRITE], 200);
    EXPECT_EQ(test_stats(fake.disk).in_flight, 0);
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
        EXPECT_EQ(test_request_do(t), cases[i].status);
        REQUIRE(t->dones == 1);
        EXPECT(t->in_softirq);
    }
    EXPECT_EQ(fake.submits, 1); // only the last one was for the driver

    // Segments that do not fit the request: odd, at an odd address, too short, too many.
    test_request_make(t, fake.disk, REQ_OP_READ, 0, 1, data + 1);
    EXPECT_EQ(test_request_do(t), -EINVAL);
    test_request_make(t, fake.disk, REQ_OP_READ, 0, 1, data);
    t->request.segments[0].length = 511;
    EXPECT_EQ(test_request_do(t), -EINVAL);
    test_request_make(t, fake.disk, REQ_OP_READ, 0, 2, data);
    t->request.segments[0].length = 512;
    EXPECT_EQ(test_request_do(t), -EINVAL);
    test_request_make(t, fake.disk, REQ_OP_READ, 0, 1, data);
    t->request.segment_count = 5;
    EXPECT_EQ(test_request_do(t), -EINVAL);
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
    test_fill(fake.memory, 4 * SECTOR_SIZE, 9);
    test_request_make(t, fake.disk, REQ_OP_READ, 0, 2, data);
    struct blk_segment segments[] = {
        {.data = data + 1000, .length = 2},
        {.data = data, .length = 600},
        {.data = data + 1002, .length = 422},
    };
    test_request_scatter(t, segments, ARRAY_SIZE(segments));
    REQUIRE(test_request_do(t) == 0);
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
    EXPECT_EQ(test_stats(fake.disk).in_flight, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        // One goes out, the next comes in, before its `done` has returned or soon after.
        REQUIRE(EVENTUALLY(READ_ONCE(fake.held_count) != 0) && fake_release(&fake));
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
    EXPECT_EQ(test_request_do(&t[0]), 0);
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
    EXPECT_EQ(test_request_do(&t[0]), -ENOMEM);
    EXPECT(fake.submits > 1); // how often in its time is the timers' affair
    unsigned before = fake.submits;
    test_request_make(&t[2], fake.disk, REQ_OP_READ, 4, 1, data); // its patience is at an end
    WRITE_ONCE(fake.disk->starved_until_ns, clock_ns());
    EXPECT_EQ(test_request_do(&t[2]), -ENOMEM);
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

static bool fake_is_listed(struct fake_disk *fake)
{
    struct gendisk *found = blk_find(fake->disk->name);

    if (found != NULL) {
        blk_put(found);
    }
    return found != NULL;
}

// Not before the disk is going: what is let go earlier makes room for those that still wait.
static void release_later(void *arg)
{
    struct fake_disk *fake = arg;

    (void)EVENTUALLY(!fake_is_listed(fake));
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
    test_fill(fake.memory, SIZE, 5);
    memcpy(model, fake.memory, SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(offsets); i++) {
        for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
            for (unsigned shift = 0; shift < 2;
                 shift++) { // an odd address cannot be given to a device
                test_fill(data + shift, sizes[k], i * 100 + k);
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

// ---- when memory runs out -----------------------------------------------------------------------

KTEST(block, long_transfer_without_memory_for_chunks)
{
    struct fake_disk fake;
    uint8_t *data = kzalloc(100 * SECTOR_SIZE, GFP_KERNEL);
    REQUIRE(fake_make(&fake, 8, 4) && data != NULL);
    test_fill(fake.memory, 100 * SECTOR_SIZE, 3);
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
