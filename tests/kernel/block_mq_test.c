// The block layer's queues against a disk that completes from its reap: merging, time-outs,
// requeue, standing still, and who finds out that a request is done.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/slab.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/softirq.h>
#include <dev/block.h>

#include "disk_case.h"
#include "eventually.h"

enum { MQ_SECTORS = 512, MQ_DEPTH = 8, MQ_QUEUES = 4, MQ_TESTS = 40 };
enum { MQ_TIMEOUT_MS = 100, MQ_ENDLESS_MS = 1000 * 1000 };

struct mq_disk {
    struct gendisk *disk;
    uint8_t *memory;
    uint64_t bad_sector;
    bool hold;                          // commands stay until hold is off and reap is asked for
    enum blk_eh_timer_return answer;    // of timeout
    bool requeue;                       // timeout gives the request back
    uint32_t commands, doorbells;       // A
    uint32_t timeouts, reaps, contexts; // A
    uint32_t pending[MQ_QUEUES];        // A: a bit a tag
    uint32_t together, most_together;   // A: CPUs inside reap of queue 0
};

static int mq_queue_rq(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct mq_disk *mq = hctx->private_data;
    __atomic_fetch_add(&mq->commands, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&mq->doorbells, last, __ATOMIC_RELAXED);
    __atomic_fetch_or(&mq->pending[hctx->index], BIT(request->tag), __ATOMIC_SEQ_CST);
    if (last && !READ_ONCE(mq->hold)) {
        blk_mq_reap(hctx);
    }
    return 0;
}

static void mq_commit(struct blk_mq_hw_ctx *hctx)
{
    struct mq_disk *mq = hctx->private_data;
    __atomic_fetch_add(&mq->doorbells, 1, __ATOMIC_RELAXED);
}

static int mq_do(struct mq_disk *mq, struct request *request)
{
    uint64_t first = blk_rq_pos(request), end = first + blk_rq_sectors(request);
    if (mq->bad_sector >= first && mq->bad_sector < end) {
        return -EIO;
    }
    test_request_move(request, mq->memory);
    return 0;
}

static unsigned mq_reap(struct blk_mq_hw_ctx *hctx, unsigned budget)
{
    struct mq_disk *mq = hctx->private_data;
    unsigned count = 0;
    __atomic_fetch_add(&mq->reaps, 1, __ATOMIC_RELAXED);
    __atomic_fetch_or(&mq->contexts, cpu_context(), __ATOMIC_RELAXED);
    if (hctx->index == 0) {
        uint32_t together = __atomic_add_fetch(&mq->together, 1, __ATOMIC_SEQ_CST);
        mq->most_together = max(mq->most_together, together);
    }
    uint32_t done = READ_ONCE(mq->hold)
                        ? 0
                        : __atomic_exchange_n(&mq->pending[hctx->index], 0, __ATOMIC_SEQ_CST);
    for (; done != 0 && count < budget; done &= done - 1, count++) {
        struct request *request = blk_mq_tag_to_rq(hctx, (uint32_t)__builtin_ctz(done));
        if (request != NULL) {
            blk_complete_request(request, mq_do(mq, request));
        }
    }
    if (hctx->index == 0) {
        __atomic_fetch_sub(&mq->together, 1, __ATOMIC_SEQ_CST);
    }
    return count;
}

static enum blk_eh_timer_return mq_timeout(struct request *request)
{
    struct mq_disk *mq = request->hctx->private_data;
    __atomic_fetch_add(&mq->timeouts, 1, __ATOMIC_RELAXED);
    if (READ_ONCE(mq->requeue)) {
        WRITE_ONCE(mq->hold, false);
        mq->disk->timeout_ms = MQ_ENDLESS_MS; // its second try is not late, however slow the host
        __atomic_fetch_and(&mq->pending[request->hctx->index], ~BIT(request->tag),
                           __ATOMIC_SEQ_CST);
        blk_requeue_request(request);
        blk_run_queue(mq->disk);
        msleep(20); // it is completed meanwhile, and must not be told of before we return
        return BLK_EH_DONE;
    }
    if (mq->answer == BLK_EH_DONE) {
        __atomic_fetch_and(&mq->pending[request->hctx->index], ~BIT(request->tag),
                           __ATOMIC_SEQ_CST);
        blk_complete_request(request, -ETIMEDOUT);
    }
    return mq->answer;
}

static const struct blk_mq_ops mq_ops = {
    .queue_rq = mq_queue_rq, .commit_rqs = mq_commit, .reap = mq_reap, .timeout = mq_timeout};

struct mq_test {
    struct mq_disk mq;
    struct test_request requests[MQ_TESTS];
    uint8_t *data;
};

static struct mq_test *mq_make(unsigned queues, uint32_t timeout_ms)
{
    struct mq_test *t = kzalloc(sizeof(*t), GFP_KERNEL);
    struct gendisk *disk = alloc_disk(&mq_ops, queues, MQ_DEPTH);
    if (t == NULL || disk == NULL) {
        return NULL;
    }
    t->mq.disk = disk;
    t->mq.bad_sector = UINT64_MAX;
    t->mq.memory = kzalloc(MQ_SECTORS * SECTOR_SIZE, GFP_KERNEL);
    t->data = kzalloc(MQ_SECTORS * SECTOR_SIZE, GFP_KERNEL);
    disk->capacity = MQ_SECTORS;
    disk->max_sectors = 64;
    disk->max_segments = 16;
    disk->timeout_ms = timeout_ms;
    disk->no_part = true;
    for (unsigned i = 0; i < queues; i++) {
        disk->queues[i].private_data = &t->mq;
    }
    return t->mq.memory == NULL || t->data == NULL || add_disk(disk, "tmq") != 0 ? NULL : t;
}

static bool mq_drop(struct mq_test *t)
{
    bool gone = del_gendisk(t->mq.disk) == 0;
    if (gone) {
        blk_put(t->mq.disk);
        kfree(t->mq.memory);
        kfree(t->data);
        kfree(t);
    }
    return gone;
}

static struct test_request *mq_submit(struct mq_test *t, unsigned index, enum req_op op,
                                      uint64_t sector, uint32_t sectors)
{
    struct test_request *r = &t->requests[index];
    test_request_make(r, t->mq.disk, op, sector, sectors, t->data + sector * SECTOR_SIZE);
    blk_submit(&r->request);
    return r;
}

// ---- merging ------------------------------------------------------------------------------------

KTEST(blkmq, neighbours_become_one_command)
{
    struct mq_test *t = mq_make(1, 0);
    struct blk_plug plug;
    // At the back, at the front, past another one, and into the middle of two.
    static const uint8_t sectors[] = {16, 24, 32, 8, 0, 100, 40, 116, 108};
    REQUIRE(t != NULL);
    for (unsigned i = 0; i < MQ_SECTORS * SECTOR_SIZE; i++) {
        t->data[i] = (uint8_t)(i * 7 + (i >> 9));
    }
    blk_start_plug(&plug);
    for (unsigned i = 0; i < ARRAY_SIZE(sectors); i++) {
        mq_submit(t, i, REQ_OP_WRITE, sectors[i], 8);
    }
    EXPECT_EQ(t->mq.commands, 0);
    blk_finish_plug(&plug);
    for (unsigned i = 0; i < ARRAY_SIZE(sectors); i++) {
        EXPECT(test_request_wait(&t->requests[i]));
        EXPECT_EQ(t->requests[i].request.status, 0);
        EXPECT_EQ(t->requests[i].dones, 1);
    }
    // 0..47; 100..123
    EXPECT_EQ(t->mq.commands, 2);
    EXPECT_EQ(t->mq.doorbells, 1);
    EXPECT_EQ(memcmp(t->mq.memory, t->data, 48 * SECTOR_SIZE), 0);
    EXPECT_EQ(
        memcmp(t->mq.memory + 100 * SECTOR_SIZE, t->data + 100 * SECTOR_SIZE, 24 * SECTOR_SIZE), 0);
    struct disk_stats stats = test_stats(t->mq.disk);
    EXPECT_EQ(stats.ios[REQ_OP_WRITE], 2);
    EXPECT_EQ(stats.merges[REQ_OP_WRITE], 7);
    EXPECT_EQ(stats.sectors[REQ_OP_WRITE], 72);
    EXPECT_EQ(stats.in_flight, 0);
    EXPECT(mq_drop(t));
}

KTEST(blkmq, what_may_not_be_merged)
{
    struct mq_test *t = mq_make(1, 0);
    struct blk_plug plug;
    REQUIRE(t != NULL);
    blk_start_plug(&plug);
    mq_submit(t, 0, REQ_OP_WRITE, 0, 8);
    mq_submit(t, 1, REQ_OP_READ, 8, 8);   // another direction
    mq_submit(t, 2, REQ_OP_READ, 17, 8);  // a gap
    mq_submit(t, 3, REQ_OP_READ, 25, 60); // too long together
    mq_submit(t, 4, REQ_OP_FLUSH, 0, 0);
    blk_finish_plug(&plug);
    for (unsigned i = 0; i < 5; i++) {
        EXPECT(test_request_wait(&t->requests[i]));
        EXPECT_EQ(t->requests[i].request.status, 0);
    }
    EXPECT_EQ(t->mq.commands, 5);
    EXPECT_EQ(test_stats(t->mq.disk).merges[REQ_OP_READ] +
                  test_stats(t->mq.disk).merges[REQ_OP_WRITE],
              0);
    // Where segments must begin on pages: the seam between these two would not.
    t->mq.disk->virt_boundary = 4095;
    blk_start_plug(&plug);
    mq_submit(t, 0, REQ_OP_READ, 0, 1);
    mq_submit(t, 1, REQ_OP_READ, 1, 1);
    blk_finish_plug(&plug);
    EXPECT(test_request_wait(&t->requests[0]) && test_request_wait(&t->requests[1]));
    EXPECT_EQ(t->mq.commands, 7);
    EXPECT(mq_drop(t));
}

KTEST(blkmq, a_merged_error_hits_only_its_own)
{
    struct mq_test *t = mq_make(1, 0);
    struct blk_plug plug;
    REQUIRE(t != NULL);
    t->mq.bad_sector = 21;
    blk_start_plug(&plug);
    for (unsigned i = 0; i < 6; i++) {
        mq_submit(t, i, REQ_OP_READ, i * 8, 8);
    }
    blk_finish_plug(&plug);
    for (unsigned i = 0; i < 6; i++) {
        EXPECT(test_request_wait(&t->requests[i]));
        EXPECT_EQ(t->requests[i].dones, 1);
        EXPECT_EQ(t->requests[i].request.status, i == 2 ? -EIO : 0);
    }
    EXPECT_EQ(t->mq.commands, 1 + 6); // together, then each alone
    EXPECT_EQ(test_stats(t->mq.disk).in_flight, 0);
    EXPECT(mq_drop(t));
}

// ---- time ---------------------------------------------------------------------------------------

KTEST(blkmq, overdue_is_asked_about)
{
    struct mq_test *t = mq_make(1, MQ_TIMEOUT_MS);
    REQUIRE(t != NULL);
    t->mq.hold = true;
    t->mq.answer = BLK_EH_DONE;
    struct test_request *r = mq_submit(t, 0, REQ_OP_READ, 0, 8);
    EXPECT(test_request_wait(r));
    EXPECT_EQ(r->request.status, -ETIMEDOUT);
    EXPECT_EQ(r->dones, 1);
    EXPECT_EQ(t->mq.timeouts, 1);
    EXPECT_EQ(test_stats(t->mq.disk).timeouts, 1);
    // Once more, after the timer had nothing to do for a while.
    msleep(3 * MQ_TIMEOUT_MS);
    EXPECT_EQ(t->mq.timeouts, 1);
    r = mq_submit(t, 1, REQ_OP_READ, 0, 8);
    EXPECT(test_request_wait(r));
    EXPECT_EQ(t->mq.timeouts, 2);
    EXPECT(mq_drop(t));
}

KTEST(blkmq, more_time_for_a_slow_one)
{
    struct mq_test *t = mq_make(1, MQ_TIMEOUT_MS);
    REQUIRE(t != NULL);
    t->mq.hold = true;
    t->mq.answer = BLK_EH_RESET_TIMER;
    struct test_request *r = mq_submit(t, 0, REQ_OP_READ, 0, 8);
    EXPECT(EVENTUALLY(READ_ONCE(t->mq.timeouts) >= 2)); // asked again after the time it was given
    EXPECT_EQ(r->dones, 0);
    WRITE_ONCE(t->mq.hold, false);
    blk_mq_reap(&t->mq.disk->queues[0]);
    EXPECT(test_request_wait(r));
    EXPECT_EQ(r->request.status, 0);
    EXPECT(mq_drop(t));
}

KTEST(blkmq, completed_while_it_is_examined)
{
    struct mq_test *t = mq_make(1, MQ_TIMEOUT_MS);
    REQUIRE(t != NULL);
    t->mq.hold = true;
    t->mq.requeue = true;
    struct test_request *r = mq_submit(t, 0, REQ_OP_READ, 0, 8);
    EXPECT(test_request_wait(r));
    EXPECT_EQ(r->request.status, 0);
    EXPECT_EQ(r->dones, 1);
    EXPECT_EQ(t->mq.timeouts, 1);
    EXPECT_EQ(t->mq.commands, 2);
    EXPECT_EQ(test_stats(t->mq.disk).requeues, 1);
    EXPECT_EQ(test_stats(t->mq.disk).in_flight, 0);
    EXPECT(mq_drop(t));
}

KTEST(blkmq, nothing_starts_while_quiesced)
{
    struct mq_test *t = mq_make(1, 0);
    REQUIRE(t != NULL);
    blk_mq_quiesce_queue(t->mq.disk);
    blk_mq_quiesce_queue(t->mq.disk); // nests
    struct test_request *r = mq_submit(t, 0, REQ_OP_READ, 0, 8);
    blk_run_queue(t->mq.disk);
    EXPECT_EQ(t->mq.commands, 0);
    blk_mq_unquiesce_queue(t->mq.disk);
    EXPECT_EQ(t->mq.commands, 0);
    blk_mq_unquiesce_queue(t->mq.disk);
    EXPECT(test_request_wait(r));
    EXPECT_EQ(t->mq.commands, 1);
    EXPECT(mq_drop(t));
}

// ---- who finds out ------------------------------------------------------------------------------

KTEST(blkmq, tags_are_checked_before_they_are_believed)
{
    struct mq_test *t = mq_make(1, 0);
    REQUIRE(t != NULL);
    struct blk_mq_hw_ctx *hctx = &t->mq.disk->queues[0];
    static const uint32_t wrong[] = {MQ_DEPTH, MQ_DEPTH + 1, 0xffff, UINT32_MAX, 0x80000000};
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        EXPECT(blk_mq_tag_to_rq(hctx, wrong[i]) == NULL);
    }
    for (uint32_t tag = 0; tag < MQ_DEPTH; tag++) {
        EXPECT(blk_mq_tag_to_rq(hctx, tag) == NULL);
    }
    t->mq.hold = true;
    struct test_request *r = mq_submit(t, 0, REQ_OP_READ, 0, 8);
    EXPECT(blk_mq_tag_to_rq(hctx, r->request.tag) == &r->request);
    WRITE_ONCE(t->mq.hold, false);
    blk_mq_reap(hctx);
    EXPECT(test_request_wait(r));
    EXPECT(mq_drop(t));
}

struct mq_crowd {
    struct mq_test *t;
    uint32_t errors; // A
};

static void mq_crowd_thread(void *arg)
{
    struct mq_crowd *crowd = arg;
    uint8_t *data = kmalloc(SECTOR_SIZE * 4, GFP_KERNEL);
    for (unsigned i = 0; i < 200 && data != NULL; i++) {
        if (blk_read(crowd->t->mq.disk, i * 4 % (MQ_SECTORS - 4), 4, data) != 0) {
            __atomic_fetch_add(&crowd->errors, 1, __ATOMIC_RELAXED);
        }
    }
    kfree(data);
}

static void mq_crowd(struct mq_test *t, uint32_t *errors)
{
    enum { THREADS = 12 };
    struct thread *threads[THREADS];
    struct mq_crowd crowd = {.t = t};
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = kthread_run(mq_crowd_thread, &crowd, "mq/%u", i);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        if (threads[i] != NULL) {
            thread_join(threads[i]);
        }
    }
    *errors = crowd.errors;
}

KTEST(blkmq, a_queue_is_reaped_by_one_at_a_time)
{
    struct mq_test *t = mq_make(1, 0);
    uint32_t errors;
    REQUIRE(t != NULL);
    mq_crowd(t, &errors);
    EXPECT_EQ(errors, 0);
    EXPECT_EQ(t->mq.most_together, 1);
    EXPECT_EQ(t->mq.contexts, CTX_SOFTIRQ);
    EXPECT_EQ(test_stats(t->mq.disk).in_flight, 0);
    EXPECT(mq_drop(t));
}

KTEST(blkmq, polled_a_budget_at_a_time)
{
    struct mq_test *t = mq_make(1, 0);
    uint32_t errors;
    REQUIRE(t != NULL);
    uint64_t polls = 0, after = 0;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        polls += softirq_count(IRQ_POLL_SOFTIRQ, cpu);
    }
    t->mq.disk->completion = BLK_COMPLETE_IRQ_POLL;
    mq_crowd(t, &errors);
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        after += softirq_count(IRQ_POLL_SOFTIRQ, cpu);
    }
    EXPECT_EQ(errors, 0);
    EXPECT(after > polls);
    EXPECT_EQ(t->mq.most_together, 1);
    EXPECT_EQ(t->mq.contexts, CTX_SOFTIRQ);
    EXPECT_EQ(test_stats(t->mq.disk).ios[REQ_OP_READ] + test_stats(t->mq.disk).merges[REQ_OP_READ],
              12 * 200);
    EXPECT_EQ(test_stats(t->mq.disk).in_flight, 0);
    EXPECT(mq_drop(t));
}

KTEST(blkmq, a_queue_for_each_cpu)
{
    struct mq_test *t = mq_make(MQ_QUEUES, 0);
    uint32_t errors;
    REQUIRE(t != NULL);
    mq_crowd(t, &errors);
    EXPECT_EQ(errors, 0);
    unsigned used = 0;
    for (unsigned i = 0; i < MQ_QUEUES; i++) {
        used += t->mq.disk->queues[i].counts.ios[REQ_OP_READ] != 0;
    }
    EXPECT(used >= 1 && used <= cpu_count);
    EXPECT_EQ(test_stats(t->mq.disk).ios[REQ_OP_READ] + test_stats(t->mq.disk).merges[REQ_OP_READ],
              12 * 200);
    EXPECT(mq_drop(t));
}
