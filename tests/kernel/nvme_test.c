// An NVMe disk below the file systems: memory in pieces, many sizes, and its queues afterwards.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <dev/block.h>

#include "disk_case.h"

enum { NVME_TEST_PIECES = 37, NVME_TEST_GUARD = 16, NVME_TEST_LARGE = 48 };

static struct gendisk *nvme_test_disk(void)
{
    return blk_find("nvme0n1");
}

struct nvme_test_read {
    struct test_request t;
    struct blk_segment segments[NVME_TEST_PIECES];
};

// Pieces that begin and end anywhere: PRPs cannot say this, an SGL can. Between them lie bytes that
// the device must leave alone.
KTEST(nvme, memory_in_odd_pieces)
{
    struct gendisk *disk = nvme_test_disk();
    if (disk == NULL || disk->virt_boundary != 0) {
        if (disk != NULL) {
            blk_put(disk);
        }
        SKIP("no NVMe disk with SGLs");
    }
    struct nvme_test_read *read = kzalloc(sizeof(*read), GFP_KERNEL);
    uint8_t *whole = alloc_pages(GFP_KERNEL, 1), *memory = alloc_pages(GFP_KERNEL, 2);
    REQUIRE(read != NULL && whole != NULL && memory != NULL);
    uint32_t bytes = 8 * SECTOR_SIZE, left = bytes, at = NVME_TEST_GUARD, count = 0;

    EXPECT_EQ(blk_read(disk, 16, 8, whole), 0);
    memset(memory, 0xa5, 4 * PAGE_SIZE);
    while (left != 0 && count < NVME_TEST_PIECES) {
        uint32_t length = count + 1 == NVME_TEST_PIECES ? left : min(left, 8 + count * 12 % 220);
        length = ALIGN_UP(length, 4);
        read->segments[count++] = (struct blk_segment){.data = memory + at, .length = length};
        at += length + NVME_TEST_GUARD;
        left -= length;
    }
    REQUIRE(left == 0 && at < 4 * PAGE_SIZE);
    test_request_make(&read->t, disk, REQ_OP_READ, 16, 8, NULL);
    test_request_scatter(&read->t, read->segments, count);
    REQUIRE(test_request_do(&read->t) == 0);
    uint32_t done = 0;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *piece = read->segments[i].data;
        EXPECT_EQ(memcmp(piece, whole + done, read->segments[i].length), 0);
        EXPECT_EQ(piece[-1], 0xa5);
        EXPECT_EQ(piece[read->segments[i].length], 0xa5);
        done += read->segments[i].length;
    }
    free_pages(memory, 2);
    free_pages(whole, 1);
    kfree(read);
    blk_put(disk);
}

// One command of each size that needs another form of data pointer, at offsets within the page.
KTEST(nvme, every_size_from_any_offset)
{
    struct gendisk *disk = nvme_test_disk();
    if (disk == NULL) {
        SKIP("no NVMe disk");
    }
    uint8_t *memory = alloc_pages(GFP_KERNEL, 6);
    REQUIRE(memory != NULL);
    for (uint32_t sectors = 1; sectors <= 256; sectors += sectors < 20 ? 1 : 59) {
        for (uint32_t offset = 0; offset < PAGE_SIZE; offset += 1364) {
            uint8_t *to = memory + PAGE_SIZE + offset;
            size_t size = (size_t)sectors * SECTOR_SIZE;
            to[-1] = to[size] = 0xa5;
            EXPECT_EQ(blk_read(disk, sectors, sectors, to), 0);
            EXPECT_EQ(to[-1], 0xa5);
            EXPECT_EQ(to[size], 0xa5);
        }
    }
    free_pages(memory, 6);
    blk_put(disk);
}

// Two pieces of memory with a hole between them, each of whole pages: it takes a list to say that.
static void nvme_test_in_two(struct nvme_test_read *read, uint8_t *data)
{
    read->segments[0] = (struct blk_segment){.data = data, .length = 5 * PAGE_SIZE};
    read->segments[1] = (struct blk_segment){.data = data + 8 * PAGE_SIZE, .length = 3 * PAGE_SIZE};
    test_request_scatter(&read->t, read->segments, 2);
}

// More commands with lists at a time than the queue has such: those that are turned away come
// later, and all come.
KTEST(nvme, more_commands_than_lists)
{
    struct gendisk *disk = nvme_test_disk();
    if (disk == NULL) {
        SKIP("no NVMe disk");
    }
    struct nvme_test_read *reads = kcalloc(NVME_TEST_LARGE, sizeof(*reads), GFP_KERNEL);
    REQUIRE(reads != NULL);
    preempt_disable(); // into one queue
    unsigned count = 0;
    for (; count < NVME_TEST_LARGE; count++) {
        struct nvme_test_read *read = &reads[count];
        void *data = alloc_pages(GFP_ATOMIC, 4);
        if (data == NULL) {
            break;
        }
        test_request_make(&read->t, disk, REQ_OP_READ, count * 64, 64, data);
        nvme_test_in_two(read, data);
        blk_submit(&read->t.request);
    }
    preempt_enable();
    EXPECT_EQ(count, NVME_TEST_LARGE);
    for (unsigned i = 0; i < count; i++) {
        REQUIRE(test_request_wait(&reads[i].t));
        EXPECT_EQ(reads[i].t.request.status, 0);
        free_pages(reads[i].t.request.segment.data, 4);
    }
    kfree(reads);
    blk_put(disk);
}
