// The shapes that a command may have, on the disks that are really there: the smallest pieces of
// memory, the most sectors, as many at a time as a queue has room for. One story for AHCI, NVMe and
// IDE: what differs is how much fits into a command, and that the disk says itself.
//
// Each leaves the disk as it was, so that the host can compare its image
// (tests/console/test_disk_matrix.py). A disk that keeps nothing (QEMU's null-co) is left out where
// that matters.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <mm/slab.h>
#include <dev/block.h>

#include "disk_case.h"

// Waits for one request of many segments. 0 or its error.
static int shape_do(struct gendisk *disk, enum req_op op, uint64_t sector, uint32_t sectors,
                    struct blk_segment *segments, unsigned count)
{
    struct test_request *t = kmalloc(sizeof(*t), GFP_KERNEL);
    int status;

    if (t == NULL) {
        return -ENOMEM;
    }
    test_request_make(t, disk, op, sector, sectors, NULL);
    test_request_scatter(t, segments, count);
    status = test_request_do(t);
    if (status != -ETIMEDOUT) { // or it is still somebody's
        kfree(t);
    }
    return status;
}

// ---- pieces of 32 bytes -------------------------------------------------------------------------

enum { PIECES_SECTORS = 8, PIECE = 32, PIECES = PIECES_SECTORS * SECTOR_SIZE / PIECE, STRIDE = 96 };

struct pieces {
    struct blk_segment *segments;
    uint8_t *plain;     // the sectors as one piece
    uint8_t *scattered; // and in pieces, with room between them that nobody may touch
};

static void pieces_at(struct ktest_run *ktest, struct gendisk *disk, struct pieces *p,
                      uint64_t sector)
{
    unsigned wrong = 0;

    EXPECT_EQ(blk_read(disk, sector, PIECES_SECTORS, p->plain), 0);
    memset(p->scattered, 0xa5, PIECES * STRIDE);
    for (unsigned i = 0; i < PIECES; i++) {
        p->segments[i] = (struct blk_segment){.data = p->scattered + i * STRIDE, .length = PIECE};
    }
    EXPECT_EQ(shape_do(disk, REQ_OP_READ, sector, PIECES_SECTORS, p->segments, PIECES), 0);
    for (unsigned i = 0; i < PIECES; i++) {
        wrong += memcmp(p->scattered + i * STRIDE, p->plain + i * PIECE, PIECE) != 0;
        wrong += p->scattered[i * STRIDE + PIECE] != 0xa5; // and no byte more
    }
    EXPECT_EQ(wrong, 0);
    // What is written in pieces is there as a whole.
    EXPECT_EQ(shape_do(disk, REQ_OP_WRITE, sector, PIECES_SECTORS, p->segments, PIECES), 0);
    memset(p->scattered, 0, PIECES_SECTORS * SECTOR_SIZE);
    EXPECT_EQ(blk_read(disk, sector, PIECES_SECTORS, p->scattered), 0);
    EXPECT_EQ(memcmp(p->scattered, p->plain, PIECES_SECTORS * SECTOR_SIZE), 0);
}

static void pieces_test(struct ktest_run *ktest, const char *name)
{
    struct gendisk *disk = blk_find(name);

    if (disk == NULL) {
        SKIP("no such disk");
    }
    struct pieces p = {
        .segments = kcalloc(PIECES, sizeof(*p.segments), GFP_KERNEL),
        .plain = kmalloc(PIECES_SECTORS * SECTOR_SIZE, GFP_KERNEL),
        .scattered = kzalloc(PIECES * STRIDE, GFP_KERNEL),
    };
    REQUIRE(p.segments != NULL && p.plain != NULL && p.scattered != NULL);
    REQUIRE(disk->max_segments >= PIECES);
    uint64_t sectors[] = {0, 1, disk->capacity - PIECES_SECTORS};
    for (unsigned i = 0; i < ARRAY_SIZE(sectors); i++) {
        pieces_at(ktest, disk, &p, sectors[i]);
    }
    kfree(p.segments);
    kfree(p.plain);
    kfree(p.scattered);
    blk_put(disk);
}

KTEST(ahci, pieces_of_32_bytes)
{
    pieces_test(ktest, "sda");
}

KTEST(nvme, pieces_of_32_bytes)
{
    pieces_test(ktest, "nvme0n1");
}

KTEST(ide, pieces_of_32_bytes)
{
    pieces_test(ktest, "hda");
}

// ---- as many sectors as one command can move ----------------------------------------------------

enum { MOST_SECTORS = 65535, MOST_PIECE = 4 << 20, MOST_PIECES = 64 };

struct most {
    struct blk_segment segments[MOST_PIECES];
    unsigned count;
    uint32_t sectors, piece; // of the command; bytes
};

// Memory for it, in as few pieces as the disk allows. False: there is not so much.
static bool most_take_memory(struct most *most, const struct gendisk *disk)
{
    size_t left = (size_t)most->sectors * SECTOR_SIZE;

    most->piece = MOST_PIECE;
    if (disk->max_segment_size != 0) {
        most->piece = min(most->piece, disk->max_segment_size);
    }
    while (left > 0 && most->count < min((unsigned)MOST_PIECES, disk->max_segments)) {
        struct blk_segment *segment = &most->segments[most->count];

        segment->length = (uint32_t)min(left, (size_t)most->piece);
        segment->data = kmalloc(most->piece, GFP_KERNEL);
        if (segment->data == NULL) {
            return false;
        }
        most->count++;
        left -= segment->length;
    }
    return left == 0;
}

// One sector after the other, now and then, by a read of its own.
static unsigned most_compare(const struct most *most, struct gendisk *disk)
{
    unsigned wrong = 0;
    uint8_t probe[8];

    for (uint32_t i = 0; i < most->sectors; i += i + 900 < most->sectors ? 887 : 1) {
        size_t at = (size_t)i * SECTOR_SIZE;
        const uint8_t *there =
            (const uint8_t *)most->segments[at / most->piece].data + at % most->piece;

        wrong += blk_read_bytes(disk, at + SECTOR_SIZE, probe, sizeof(probe)) != sizeof(probe);
        wrong += memcmp(there, probe, sizeof(probe)) != 0;
    }
    return wrong;
}

static void most_test(struct ktest_run *ktest, const char *name)
{
    struct gendisk *disk = blk_find(name);
    struct most *most = kzalloc(sizeof(*most), GFP_KERNEL);

    REQUIRE(most != NULL);
    most->sectors = disk != NULL ? min(disk->max_sectors, (uint32_t)MOST_SECTORS) : 0;
    if (disk == NULL || disk->capacity < most->sectors + 1) {
        if (disk != NULL) {
            blk_put(disk);
        }
        kfree(most);
        SKIP("no such disk, or it is smaller than its largest command");
    }
    if (most_take_memory(most, disk)) {
        uint64_t before = test_stats(disk).ios[REQ_OP_READ];

        EXPECT_EQ(shape_do(disk, REQ_OP_READ, 1, most->sectors, most->segments, most->count), 0);
        EXPECT_EQ(test_stats(disk).ios[REQ_OP_READ], before + 1);
        EXPECT_EQ(most_compare(most, disk), 0);
        EXPECT_EQ(shape_do(disk, REQ_OP_WRITE, 1, most->sectors, most->segments, most->count), 0);
    } else {
        ktest->skip = "no memory for so much";
    }
    while (most->count > 0) {
        kfree(most->segments[--most->count].data);
    }
    kfree(most);
    blk_put(disk);
}

KTEST(ahci, most_sectors_in_one_command) // 65,535
{
    most_test(ktest, "sda");
}

KTEST(nvme, most_sectors_in_one_command) // 1 MiB
{
    most_test(ktest, "nvme0n1");
}

KTEST(ide, most_sectors_in_one_command) // 256
{
    most_test(ktest, "hda");
}

// ---- random places, many at a time --------------------------------------------------------------

// Each slot is a place of its own, which one request at a time has; what should stand there is
// known.
enum { RANDOM_SLOTS = 64, RANDOM_SECTORS = 16, RANDOM_AT_ONCE = 32, RANDOM_ROUNDS = 3000 };
enum { RANDOM_BYTES = RANDOM_SECTORS * SECTOR_SIZE, RANDOM_ALL = RANDOM_SLOTS * RANDOM_BYTES };

struct random_io {
    struct gendisk *disk;
    struct test_request *requests;
    uint8_t *before, *model, *data;  // a slot each
    uint8_t slot_of[RANDOM_AT_ONCE]; // which slot a request has
    uint64_t busy;                   // a bit a slot
    uint32_t seed;
    unsigned errors, wrong;
};

static uint32_t random_next(struct random_io *io)
{
    io->seed = io->seed * 1103515245 + 12345;
    return io->seed >> 8;
}

static uint64_t random_sector(unsigned slot)
{
    return 64 + slot * (RANDOM_SECTORS + 5);
}

static void random_start(struct random_io *io, unsigned index)
{
    unsigned slot = random_next(io) % RANDOM_SLOTS;

    while ((io->busy & BIT64(slot)) != 0) {
        slot = (slot + 1) % RANDOM_SLOTS;
    }
    io->busy |= BIT64(slot);
    io->slot_of[index] = (uint8_t)slot;
    bool write = random_next(io) % 2 == 0;
    uint8_t *data = io->data + slot * RANDOM_BYTES;
    if (write) {
        test_fill(io->model + slot * RANDOM_BYTES, RANDOM_BYTES, random_next(io));
        memcpy(data, io->model + slot * RANDOM_BYTES, RANDOM_BYTES);
    } else {
        memset(data, 0, RANDOM_BYTES);
    }
    test_request_make(&io->requests[index], io->disk, write ? REQ_OP_WRITE : REQ_OP_READ,
                      random_sector(slot), RANDOM_SECTORS, data);
    blk_submit(&io->requests[index].request);
}

static void random_end(struct random_io *io, unsigned index)
{
    size_t at = (size_t)io->slot_of[index] * RANDOM_BYTES;

    bool done = test_request_wait(&io->requests[index]);

    io->errors += !done || io->requests[index].request.status != 0;
    io->wrong += memcmp(io->data + at, io->model + at, RANDOM_BYTES) != 0;
    io->busy &= ~BIT64(io->slot_of[index]);
}

static void random_transfer(struct random_io *io, enum req_op op, uint8_t *from)
{
    for (unsigned slot = 0; slot < RANDOM_SLOTS; slot++) {
        uint8_t *data = from + (size_t)slot * RANDOM_BYTES;
        int error = op == REQ_OP_READ
                        ? blk_read(io->disk, random_sector(slot), RANDOM_SECTORS, data)
                        : blk_write(io->disk, random_sector(slot), RANDOM_SECTORS, data);

        io->errors += error != 0;
    }
}

// Does it read what was written? Its first slot is lost.
static bool random_disk_remembers(struct random_io *io)
{
    test_fill(io->data, RANDOM_BYTES, 1);
    memcpy(io->model, io->data, RANDOM_BYTES);
    io->errors += blk_write(io->disk, random_sector(0), RANDOM_SECTORS, io->data) != 0;
    memset(io->data, 0, RANDOM_BYTES);
    io->errors += blk_read(io->disk, random_sector(0), RANDOM_SECTORS, io->data) != 0;
    return memcmp(io->data, io->model, RANDOM_BYTES) == 0;
}

static void random_run(struct ktest_run *ktest, struct random_io *io)
{
    random_transfer(io, REQ_OP_READ, io->before);
    if (!random_disk_remembers(io) && io->errors == 0) {
        SKIP("a disk that keeps nothing");
    }
    memcpy(io->model + RANDOM_BYTES, io->before + RANDOM_BYTES, RANDOM_ALL - RANDOM_BYTES);
    for (unsigned round = 0; round < RANDOM_ROUNDS; round++) {
        unsigned index = round % RANDOM_AT_ONCE;
        if (round >= RANDOM_AT_ONCE) {
            random_end(io, index);
        }
        random_start(io, index);
    }
    for (unsigned index = 0; index < RANDOM_AT_ONCE; index++) {
        random_end(io, index);
    }
    EXPECT_EQ(io->wrong, 0);
    random_transfer(io, REQ_OP_READ, io->data);
    EXPECT_EQ(memcmp(io->data, io->model, RANDOM_ALL), 0);
    random_transfer(io, REQ_OP_WRITE, io->before); // as it was
    EXPECT_EQ(io->errors, 0);
    EXPECT_EQ(test_stats(io->disk).in_flight, 0);
}

static void random_test(struct ktest_run *ktest, const char *name)
{
    struct random_io io = {.disk = blk_find(name), .seed = 7};

    if (io.disk == NULL) {
        SKIP("no such disk");
    }
    io.before = kmalloc(RANDOM_ALL, GFP_KERNEL);
    io.model = kmalloc(RANDOM_ALL, GFP_KERNEL);
    io.data = kmalloc(RANDOM_ALL, GFP_KERNEL);
    io.requests = kcalloc(RANDOM_AT_ONCE, sizeof(*io.requests), GFP_KERNEL);
    REQUIRE(io.before != NULL && io.model != NULL && io.data != NULL && io.requests != NULL);
    random_run(ktest, &io);
    REQUIRE(io.errors == 0); // else one may still be somebody's
    kfree(io.before);
    kfree(io.model);
    kfree(io.data);
    kfree(io.requests);
    blk_put(io.disk);
}

KTEST(ahci, random_at_full_depth)
{
    random_test(ktest, "sda");
}

KTEST(nvme, random_at_full_depth)
{
    random_test(ktest, "nvme0n1");
}

KTEST(ide, random_at_full_depth) // 32 requests wait for a disk that does one at a time
{
    random_test(ktest, "hda");
}
