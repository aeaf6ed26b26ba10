// `lab disk-mix DISK [SECONDS]`: random reads and writes by many threads, each byte checked. It
// overwrites the first 4 MiB of the disk.
//
// Each block of 4 KiB holds a pattern of its number and of how often it was written; how often is
// remembered here, so that a read tells a lost write, a torn one, and one that went elsewhere. A
// block belongs to one thread at a time.
//
//   block   free ──one atomic exchange──> a thread's: read and compare, or write and count ──> free
//
// The disk may go and come back meanwhile (driver unbind, driver bind): who was reading or writing
// gets an error, waits for the disk, and does it again. Any other error, and any wrong byte, is a
// failure.
//
// Context: threads of its own, THREAD_COUNT of them, on all CPUs.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <dev/block.h>

enum {
    MIX_THREADS = 32,
    MIX_BLOCKS = 1024,
    MIX_BLOCK = 4096,
    MIX_RUN = 8, // blocks of one transfer, at most
    MIX_AWAY_MS = 20000,
};

struct mix {
    const char *disk;
    uint64_t end_ns;
    uint32_t blocks;
    uint32_t written[MIX_BLOCKS];                 // of the thread that has the block
    bool taken[MIX_BLOCKS];                       // A
    bool stop;                                    // A
    uint32_t seed;                                // A
    uint64_t reads, writes, again, wrong, failed; // A
    uint32_t running;                             // A
    struct completion over;
};

static struct mix mix; // L of mix_mutex, but for what is atomic
static DEFINE_MUTEX(mix_mutex);

static void mix_count(uint64_t *counter, uint64_t more)
{
    __atomic_fetch_add(counter, more, __ATOMIC_RELAXED);
}

static bool mix_is_over(void)
{
    return READ_ONCE(mix.stop) || clock_ns() >= mix.end_ns;
}

// ---- what stands in a block ---------------------------------------------------------------------

static uint64_t mix_word(uint32_t block, uint32_t written, unsigned index)
{
    return ((uint64_t)block << 32 | written) * 0x9e3779b97f4a7c15 + index;
}

static void mix_fill(uint64_t *data, uint32_t block, uint32_t written)
{
    for (unsigned i = 0; i < MIX_BLOCK / 8; i++) {
        data[i] = mix_word(block, written, i);
    }
}

static bool mix_is_right(const uint64_t *data, uint32_t block, uint32_t written)
{
    for (unsigned i = 0; i < MIX_BLOCK / 8; i++) {
        if (data[i] != mix_word(block, written, i)) {
            return false;
        }
    }
    return true;
}

// ---- transfers ----------------------------------------------------------------------------------

// Until it is done, across the disk's absences. 0 or -errno.
static int mix_transfer(struct gendisk **disk, bool write, uint32_t block, uint32_t count,
                        void *data)
{
    uint64_t sector = (uint64_t)block * (MIX_BLOCK / SECTOR_SIZE);
    uint32_t sectors = count * (MIX_BLOCK / SECTOR_SIZE);
    unsigned away_ms = 0;

    for (;;) {
        int error = *disk == NULL ? -ENXIO
                    : write       ? blk_write(*disk, sector, sectors, data)
                                  : blk_read(*disk, sector, sectors, data);
        if (error != -ENXIO || away_ms >= MIX_AWAY_MS) {
            return error;
        }
        if (*disk != NULL) {
            mix_count(&mix.again, 1);
            blk_put(*disk);
        }
        msleep(10);
        away_ms += 10;
        *disk = blk_find(mix.disk);
    }
}

static uint32_t mix_random(uint32_t below)
{
    uint32_t x = __atomic_add_fetch(&mix.seed, 0x9e3779b9, __ATOMIC_RELAXED);
    x = (x ^ x >> 16) * 0x85ebca6b;
    x = (x ^ x >> 13) * 0xc2b2ae35;
    return (x ^ x >> 16) % below;
}

// As many blocks in a row, from a random one, as nobody has.
static uint32_t mix_take(uint32_t *first)
{
    uint32_t wanted = 1 + mix_random(MIX_RUN), count = 0;
    *first = mix_random(mix.blocks);
    while (count < wanted && *first + count < mix.blocks &&
           !__atomic_exchange_n(&mix.taken[*first + count], true, __ATOMIC_ACQUIRE)) {
        count++;
    }
    return count;
}

static void mix_give(uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        __atomic_store_n(&mix.taken[first + i], false, __ATOMIC_RELEASE);
    }
}

static void mix_check(const uint8_t *data, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t *block = (const uint64_t *)(const void *)(data + (size_t)i * MIX_BLOCK);
        if (!mix_is_right(block, first + i, mix.written[first + i])) {
            mix_count(&mix.wrong, 1);
            WRITE_ONCE(mix.stop, true);
        }
    }
}

// A write that failed for good leaves the block's content unknown: the lab ends then.
static void mix_step(struct gendisk **disk, uint8_t *data)
{
    uint32_t first, count = mix_take(&first);
    bool write = mix_random(2) == 0;
    if (count == 0) {
        cpu_relax();
        return;
    }
    for (uint32_t i = 0; i < count && write; i++) {
        mix_fill((uint64_t *)(void *)(data + (size_t)i * MIX_BLOCK), first + i,
                 ++mix.written[first + i]);
    }
    int error = mix_transfer(disk, write, first, count, data);
    if (error != 0) {
        mix_count(&mix.failed, 1);
        WRITE_ONCE(mix.stop, true);
    } else if (write) {
        mix_count(&mix.writes, count);
    } else {
        mix_check(data, first, count);
        mix_count(&mix.reads, count);
    }
    mix_give(first, count);
}

static void mix_thread(void *arg)
{
    struct gendisk *disk = blk_find(mix.disk);
    uint8_t *data = kmalloc((size_t)MIX_RUN * MIX_BLOCK, GFP_KERNEL);
    (void)arg;
    while (data != NULL && !mix_is_over()) {
        mix_step(&disk, data);
    }
    kfree(data);
    if (disk != NULL) {
        blk_put(disk);
    }
    if (__atomic_sub_fetch(&mix.running, 1, __ATOMIC_ACQ_REL) == 0) {
        complete(&mix.over);
    }
}

// ---- the whole ----------------------------------------------------------------------------------

// Every block once, written or read, by this thread.
static int mix_all(bool write)
{
    struct gendisk *disk = blk_find(mix.disk);
    uint8_t *data = kmalloc(MIX_BLOCK, GFP_KERNEL);
    int error = data == NULL ? -ENOMEM : 0;
    for (uint32_t block = 0; block < mix.blocks && error == 0; block++) {
        if (write) {
            mix_fill((uint64_t *)(void *)data, block, 0);
        }
        error = mix_transfer(&disk, write, block, 1, data);
        if (error == 0 && !write) {
            mix_check(data, block, 1);
        }
    }
    kfree(data);
    if (disk != NULL) {
        blk_put(disk);
    }
    return error;
}

static void mix_run(struct shell *sh)
{
    struct thread *threads[MIX_THREADS];
    unsigned count = 0;

    mix.running = 1; // ours, so that it does not reach 0 while threads are made
    for (; count < MIX_THREADS; count++) {
        __atomic_fetch_add(&mix.running, 1, __ATOMIC_RELAXED);
        threads[count] = kthread_run(mix_thread, NULL, "mix");
        if (threads[count] == NULL) { // fewer will do
            __atomic_fetch_sub(&mix.running, 1, __ATOMIC_RELAXED);
            break;
        }
    }
    if (__atomic_sub_fetch(&mix.running, 1, __ATOMIC_ACQ_REL) == 0) {
        complete(&mix.over);
    }
    while (wait_for_completion_timeout(&mix.over, msecs_to_jiffies(100)) == 0) {
        if (shell_interrupted(sh)) {
            WRITE_ONCE(mix.stop, true);
        }
    }
    while (count > 0) {
        thread_join(threads[--count]);
    }
}

static int mix_disk(struct shell *sh, struct gendisk *disk, uint32_t seconds)
{
    memset(&mix, 0, sizeof(mix));
    mix.disk = disk->name;
    uint64_t blocks = disk->capacity / (MIX_BLOCK / SECTOR_SIZE);
    mix.blocks = (uint32_t)min(blocks, (uint64_t)MIX_BLOCKS);
    init_completion(&mix.over);
    int error = mix_all(true);
    if (error == 0) {
        mix.end_ns = clock_ns() + (uint64_t)seconds * 1000000000;
        mix_run(sh);
        error = mix.failed == 0 ? mix_all(false) : 0;
    }
    if (error != 0) {
        return shell_error(sh, "%s: %s", disk->name, strerror(error));
    }
    shell_printf(sh, "%llu blocks read, %llu written, %llu done again as the disk had gone, ",
                 (unsigned long long)mix.reads, (unsigned long long)mix.writes,
                 (unsigned long long)mix.again);
    shell_printf(sh, "%llu failed, %llu wrong\n", (unsigned long long)mix.failed,
                 (unsigned long long)mix.wrong);
    return mix.failed != 0 || mix.wrong != 0 ? 1 : 0;
}

static int lab_mix(struct shell *sh, int argc, char **argv)
{
    uint32_t seconds = 5;
    if (argc < 2 || argc > 3) {
        return shell_usage(sh, "which disk? Its first 4 MiB are overwritten");
    }
    if (argc == 3 && (kstrtou32(argv[2], 10, &seconds) != 0 || seconds == 0 || seconds > 86400)) {
        return shell_usage(sh, "not a number of seconds: %s", argv[2]);
    }
    struct gendisk *disk = blk_find(argv[1]);
    if (disk == NULL || disk->capacity < MIX_BLOCK / SECTOR_SIZE) {
        if (disk != NULL) {
            blk_put(disk);
        }
        return shell_error(sh, "%s: no such disk (lsblk lists them)", argv[1]);
    }
    mutex_lock(&mix_mutex);
    int status = mix_disk(sh, disk, seconds);
    mutex_unlock(&mix_mutex);
    blk_put(disk);
    return status;
}
LAB("disk-mix", lab_mix, "DISK [SECONDS]",
    "random reads and writes by 32 threads, all checked; OVERWRITES the first 4 MiB");
