// The block layer's way to the AHCI disk that is really there: the same bytes however they are
// asked for, a crowd of readers, a driver that comes and goes, and too little memory.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <mm/slab.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <dma/dma.h>
#include <dev/block.h>
#include <pci/pci.h>

#include "disk_case.h"
#include "fail_case.h"

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
    struct test_request *t = kzalloc(sizeof(*t), GFP_KERNEL);
    struct blk_segment *segments = kcalloc(PIECES, sizeof(*segments), GFP_KERNEL);
    uint8_t *plain = kmalloc(SECTORS * SECTOR_SIZE, GFP_KERNEL);
    uint8_t *pieces = kzalloc(PIECES * 1024, GFP_KERNEL);
    REQUIRE(t != NULL && segments != NULL && plain != NULL && pieces != NULL);
    REQUIRE(disk->max_segments >= PIECES);
    EXPECT_EQ(blk_read(disk, 3, SECTORS, plain), 0);
    test_request_make(t, disk, REQ_OP_READ, 3, SECTORS, NULL);
    for (unsigned i = 0; i < PIECES; i++) { // 254 and 258 bytes by turns
        segments[i].data = pieces + i * 1024;
        segments[i].length = i % 2 == 0 ? 254 : 258;
    }
    test_request_scatter(t, segments, PIECES);
    REQUIRE(test_request_do(t) == 0);
    const uint8_t *expected = plain;
    for (unsigned i = 0; i < PIECES; i++) {
        EXPECT_EQ(memcmp(pieces + i * 1024, expected, segments[i].length), 0);
        EXPECT_EQ(pieces[i * 1024 + segments[i].length], 0); // and no byte more
        expected += segments[i].length;
    }
    kfree(pieces);
    kfree(plain);
    kfree(segments);
    kfree(t);
    blk_put(disk);
}

// ---- a crowd ------------------------------------------------------------------------------------

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
    EXPECT_EQ(test_stats(disk).in_flight, 0);
    kfree(expected);
    blk_put(disk);
}

// ---- a driver that comes and goes ---------------------------------------------------------------

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
    EXPECT_EQ(test_stats(disk).in_flight, 0);
    vfree(data);
    blk_put(disk);
}
