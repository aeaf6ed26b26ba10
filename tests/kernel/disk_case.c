// What the tests of disks share (disk_case.h).
//
// Context: as disk_case.h says; test_request_done: softirq, or whoever completes.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/cpu.h>

#include "disk_case.h"

enum { REQUEST_WAIT_MS = 60000 }; // longer than any driver takes to give a command up

static unsigned test_sequence; // A

static void test_request_done(struct request *request)
{
    struct test_request *t = request->private_data;

    t->in_softirq = cpu_context() == CTX_SOFTIRQ;
    t->sequence = __atomic_add_fetch(&test_sequence, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&t->dones, 1, __ATOMIC_RELAXED);
    complete(&t->completion);
}

void test_request_make(struct test_request *t, struct gendisk *disk, enum req_op op,
                       uint64_t sector, uint32_t sectors, void *data)
{
    memset(t, 0, sizeof(*t));
    init_completion(&t->completion);
    blk_request_init(&t->request, disk, op, sector, sectors, data, test_request_done, t);
}

void test_request_scatter(struct test_request *t, struct blk_segment *segments, uint32_t count)
{
    t->request.segments = segments;
    t->request.segment_count = count;
}

bool test_request_wait(struct test_request *t)
{
    return wait_for_completion_timeout(&t->completion, msecs_to_jiffies(REQUEST_WAIT_MS)) != 0;
}

int test_request_do(struct test_request *t)
{
    blk_submit(&t->request);
    return test_request_wait(t) ? t->request.status : -ETIMEDOUT;
}

void test_request_move(struct request *request, uint8_t *memory)
{
    uint8_t *at = memory + blk_rq_pos(request) * SECTOR_SIZE;
    bool writes = request->op == REQ_OP_WRITE;
    struct request *part;
    struct blk_segment *segment;

    rq_for_each_segment (segment, part, request) {
        memcpy(writes ? at : segment->data, writes ? segment->data : at, segment->length);
        at += segment->length;
    }
}

void test_fill(uint8_t *data, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1103515245 + 12345;
        data[i] = (uint8_t)(seed >> 16);
    }
}

struct disk_stats test_stats(struct gendisk *disk)
{
    struct disk_stats stats;

    blk_stats(disk, &stats);
    return stats;
}
