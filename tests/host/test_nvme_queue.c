// A pair of NVMe queues, against a device that this file plays: honest first, then not.
//
// links: drivers/block/nvme/nvme_queue.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <lib/string.h>

#include "../../drivers/block/nvme/nvme_queue.h"

enum { DEPTH = 8, TAGS = DEPTH - 1, QUEUE = 3 };

static struct nvme_sqe sq[NVME_MAX_DEPTH];
static struct nvme_cqe cq[NVME_MAX_DEPTH];
static struct nvme_tag memory[NVME_MAX_DEPTH];
static struct nvme_ring ring;
static struct nvme_tags tags;

// The device: reads commands at its head, writes answers at its tail, inverts the phase each round.
static struct {
    unsigned sq_head, cq_tail, depth;
    uint8_t phase;
} device;

static void start(unsigned depth, unsigned count)
{
    memset(sq, 0xee, sizeof(sq));
    memset(cq, 0xff, sizeof(cq)); // what lay there before has every phase
    nvme_ring_init(&ring, QUEUE, (uint16_t)depth, sq, cq);
    nvme_tags_init(&tags, memory, (uint16_t)count);
    memset(&device, 0, sizeof(device));
    device.depth = depth;
    device.phase = 1;
}

static int setup(void **state)
{
    (void)state;
    start(DEPTH, TAGS);
    return 0;
}

static void device_write(uint16_t queue, uint16_t cid, uint16_t status, uint32_t result)
{
    cq[device.cq_tail] = (struct nvme_cqe){.result = result,
                                           .sq_head = (uint16_t)device.sq_head,
                                           .sq_id = queue,
                                           .cid = cid,
                                           .status = (uint16_t)(status << 1 | device.phase)};
    if (++device.cq_tail == device.depth) {
        device.cq_tail = 0;
        device.phase ^= 1;
    }
}

// Fetches the next command; its identifier.
static uint16_t device_fetch(void)
{
    assert_int_not_equal(device.sq_head, ring.sq_tail); // the doorbell said there is one
    uint16_t cid = (uint16_t)(sq[device.sq_head].cdw0 >> 16);
    device.sq_head = (device.sq_head + 1) % device.depth;
    return cid;
}

static uint16_t submit(uint16_t tag)
{
    uint16_t cid = nvme_tag_issue(&tags, tag);
    struct nvme_sqe command = {.cdw0 = (uint32_t)cid << 16 | NVME_IO_READ, .cdw10 = tag};
    nvme_ring_push(&ring, &command);
    return cid;
}

static enum nvme_answer take(uint16_t *tag)
{
    struct nvme_cqe answer;
    *tag = 0xdead;
    return nvme_ring_take(&ring, &tags, &answer, tag);
}

static void test_nothing_at_first(void **state)
{
    (void)state;
    uint16_t tag;
    assert_false(nvme_ring_has_answer(&ring));
    assert_int_equal(take(&tag), NVME_ANSWER_NONE);
    assert_int_equal(take(&tag), NVME_ANSWER_NONE);
    assert_int_equal(ring.cq_head, 0);
}

static void test_one_command(void **state)
{
    (void)state;
    struct nvme_cqe answer;
    uint16_t tag = 99, cid = submit(5);
    assert_int_equal(ring.sq_tail, 1);
    assert_int_equal(cid & 1023, 5);
    assert_int_equal(device_fetch(), cid);
    device_write(QUEUE, cid, NVME_SC_READ_ERROR, 0x12345678);
    assert_true(nvme_ring_has_answer(&ring));
    assert_int_equal(nvme_ring_take(&ring, &tags, &answer, &tag), NVME_ANSWER_GOOD);
    assert_int_equal(tag, 5);
    assert_int_equal(NVME_CQE_STATUS(answer.status), NVME_SC_READ_ERROR);
    assert_int_equal(answer.result, 0x12345678);
    assert_false(nvme_ring_has_answer(&ring));
    assert_int_equal(take(&tag), NVME_ANSWER_NONE);
    assert_int_equal(ring.cq_head, 1);
}

// A thousand rounds, so that the phase and the generation turn many times; all tags at once, and
// answers in another order.
static void test_many_rounds(void **state)
{
    (void)state;
    uint16_t cids[TAGS], tag;
    for (unsigned round = 0; round < 1000; round++) {
        for (uint16_t i = 0; i < TAGS; i++) {
            cids[i] = submit(i);
            assert_int_not_equal(cids[i], 0xffff);
        }
        for (unsigned i = 0; i < TAGS; i++) {
            device_fetch();
        }
        assert_int_equal(device.sq_head, ring.sq_tail);
        for (unsigned i = 0; i < TAGS; i++) {
            unsigned which = (i * 3 + round) % TAGS;
            device_write(QUEUE, cids[which], 0, 0);
        }
        for (unsigned i = 0; i < TAGS; i++) {
            assert_int_equal(take(&tag), NVME_ANSWER_GOOD);
            assert_int_equal(tag, (i * 3 + round) % TAGS);
        }
        assert_int_equal(take(&tag), NVME_ANSWER_NONE);
    }
}

static void test_deepest_queue(void **state)
{
    (void)state;
    uint16_t tag;
    start(NVME_MAX_DEPTH, NVME_MAX_DEPTH - 1);
    for (unsigned round = 0; round < 70; round++) { // more rounds than there are generations
        for (uint16_t i = 0; i < NVME_MAX_DEPTH - 1; i++) {
            submit(i);
        }
        for (unsigned i = 0; i < NVME_MAX_DEPTH - 1; i++) {
            device_write(QUEUE, device_fetch(), 0, 0);
        }
        for (unsigned i = 0; i < NVME_MAX_DEPTH - 1; i++) {
            assert_int_equal(take(&tag), NVME_ANSWER_GOOD);
            assert_int_equal(tag, i);
        }
    }
}

static void test_short_way_writes_the_same(void **state)
{
    (void)state;
    struct nvme_io io = {.cdw0 = 0x12340002,
                         .nsid = 7,
                         .prp = {0x1122334455667788, 0x99aabbccddeeff00},
                         .block = 0xfedcba9876543210,
                         .cdw12 = 0xffff};
    struct nvme_sqe command = {.cdw0 = io.cdw0,
                               .nsid = io.nsid,
                               .prp = {io.prp[0], io.prp[1]},
                               .cdw10 = (uint32_t)io.block,
                               .cdw11 = (uint32_t)(io.block >> 32),
                               .cdw12 = io.cdw12};
    for (unsigned i = 0; i < DEPTH * 3; i++) {
        unsigned at = ring.sq_tail;
        memset(&sq[at], 0xff, sizeof(sq[at]));
        nvme_ring_push_io(&ring, &io);
        assert_memory_equal(&sq[at], &command, sizeof(command));
        assert_int_equal(ring.sq_tail, (at + 1) % DEPTH);
    }
}

// ---- a device that does not keep the rules ------------------------------------------------------

static void test_answers_twice(void **state)
{
    (void)state;
    uint16_t tag, cid = submit(2);
    device_fetch();
    device_write(QUEUE, cid, 0, 0);
    device_write(QUEUE, cid, 0, 0);
    assert_int_equal(take(&tag), NVME_ANSWER_GOOD);
    assert_int_equal(take(&tag), NVME_ANSWER_STALE);
    assert_int_equal(tag, 0xdead);
    // The same tag again, and then the answer to the command before comes a third time.
    uint16_t next = submit(2);
    assert_int_not_equal(next, cid);
    device_write(QUEUE, cid, 0, 0);
    assert_int_equal(take(&tag), NVME_ANSWER_STALE);
    device_write(QUEUE, next, 0, 0);
    assert_int_equal(take(&tag), NVME_ANSWER_GOOD);
    assert_int_equal(tag, 2);
}

static void test_wild_answers(void **state)
{
    (void)state;
    uint16_t tag, cid = submit(0);
    unsigned wild = 0, stale = 0, good = 0;
    for (unsigned other = 0; other < 0x10000; other++) {
        device_write(QUEUE, (uint16_t)other, 0, 0);
        enum nvme_answer kind = take(&tag);
        good += kind == NVME_ANSWER_GOOD;
        stale += kind == NVME_ANSWER_STALE;
        wild += kind == NVME_ANSWER_WILD;
        assert_true(kind == NVME_ANSWER_GOOD ? other == cid && tag == 0 : tag == 0xdead);
    }
    assert_int_equal(good, 1);
    assert_int_equal(wild, 64 * (1024 - TAGS));
    assert_int_equal(stale, 64 * TAGS - 1);
}

static void test_wrong_queue(void **state)
{
    (void)state;
    uint16_t tag, cid = submit(1);
    device_write(QUEUE + 1, cid, 0, 0);
    device_write(0, cid, 0, 0);
    assert_int_equal(take(&tag), NVME_ANSWER_WRONG_QUEUE);
    assert_int_equal(take(&tag), NVME_ANSWER_WRONG_QUEUE);
    device_write(QUEUE, cid, 0, 0); // it was not taken for an answer
    assert_int_equal(take(&tag), NVME_ANSWER_GOOD);
}

// Whatever the device claims of its head, nothing here follows it.
static void test_wild_head(void **state)
{
    (void)state;
    uint16_t tag;
    for (unsigned i = 0; i < 100; i++) {
        uint16_t cid = submit((uint16_t)(i % TAGS));
        device.sq_head = 0xfff0;
        device_write(QUEUE, cid, 0, 0);
        assert_int_equal(take(&tag), NVME_ANSWER_GOOD);
        assert_int_equal(ring.sq_tail, (i + 1) % DEPTH);
    }
}

static void test_late_after_revoke(void **state)
{
    (void)state;
    uint16_t tag, cid = submit(4);
    assert_true(nvme_tag_revoke(&tags, 4));
    assert_false(nvme_tag_revoke(&tags, 4));
    device_write(QUEUE, cid, 0, 0);
    assert_int_equal(take(&tag), NVME_ANSWER_STALE);
    // After a reset the queues are empty, and the command goes out anew under another identifier.
    nvme_ring_init(&ring, QUEUE, DEPTH, sq, cq);
    device.sq_head = device.cq_tail = 0;
    device.phase = 1;
    assert_int_equal(take(&tag), NVME_ANSWER_NONE);
    uint16_t again = submit(4);
    assert_int_not_equal(again, cid);
    device_write(QUEUE, cid, 0, 0);
    device_write(QUEUE, again, 0, 0);
    assert_int_equal(take(&tag), NVME_ANSWER_STALE);
    assert_int_equal(take(&tag), NVME_ANSWER_GOOD);
}

// A device that writes noise: every command is answered at most once, and the queue goes on.
static void test_noise(void **state)
{
    (void)state;
    unsigned answered = 0, issued = 0;
    bool out[TAGS] = {false};
    uint16_t tag;
    srand(1);
    for (unsigned i = 0; i < 200000; i++) {
        uint16_t t = (uint16_t)(rand() % TAGS);
        if (!out[t] && rand() % 4 == 0) {
            submit(t);
            out[t] = true;
            issued++;
        }
        uint16_t cid = rand() % 2 ? nvme_tag_cid(&tags, t) : (uint16_t)rand();
        device_write(rand() % 8 ? QUEUE : (uint16_t)rand(), cid, (uint16_t)(rand() & 0x7fff), 0);
        if (take(&tag) == NVME_ANSWER_GOOD) {
            assert_true(tag < TAGS && out[tag]);
            out[tag] = false;
            answered++;
        }
    }
    for (uint16_t t = 0; t < TAGS; t++) {
        answered += out[t] && nvme_tag_revoke(&tags, t);
    }
    assert_int_equal(answered, issued);
    assert_true(issued > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_nothing_at_first, setup),
        cmocka_unit_test_setup(test_one_command, setup),
        cmocka_unit_test_setup(test_many_rounds, setup),
        cmocka_unit_test_setup(test_deepest_queue, setup),
        cmocka_unit_test_setup(test_short_way_writes_the_same, setup),
        cmocka_unit_test_setup(test_answers_twice, setup),
        cmocka_unit_test_setup(test_wild_answers, setup),
        cmocka_unit_test_setup(test_wrong_queue, setup),
        cmocka_unit_test_setup(test_wild_head, setup),
        cmocka_unit_test_setup(test_late_after_revoke, setup),
        cmocka_unit_test_setup(test_noise, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
