// What the tests of disks share: a request whose end is waited for, the bytes of a disk of memory,
// and what the disk counted.
#pragma once

#include <sched/completion.h>
#include <dev/block.h>

struct test_request {
    struct request request;
    struct completion completion;
    uint32_t dones;    // A
    bool in_softirq;   // written before done
    unsigned sequence; // in which order they were done
};

// Makes it anew; blk_submit(&t->request) is the caller's. Context: any.
void test_request_make(struct test_request *t, struct gendisk *disk, enum req_op op,
                       uint64_t sector, uint32_t sectors, void *data);
// The memory is these pieces instead. They must stay until it is done.
void test_request_scatter(struct test_request *t, struct blk_segment *segments, uint32_t count);
// True: it was done in time. False: it is still somebody's, and must not be freed. Context: thread.
bool test_request_wait(struct test_request *t);
// Submits it and waits: its status, or -ETIMEDOUT when it is still somebody's. Context: thread.
int test_request_do(struct test_request *t);

// A driver's part of a disk that is made of memory: moves the request's bytes. Context: any.
void test_request_move(struct request *request, uint8_t *memory);

// Bytes that are the same each time for the same seed, 0 among them.
void test_fill(uint8_t *data, size_t size, uint32_t seed);
struct disk_stats test_stats(struct gendisk *disk);
