// The only program on the Linux machine that `make bench` compares with: it is /init, loads the
// drivers, does the same things as our own benchmarks do, prints their cost, and ends the machine.
//
//   figure yield_pair 3143          one line each round; tools/peer.py takes the median
//
// Boot options: work=sched,/dev/sda,/dev/nvme0n1   what to measure
//               unit=ticks                         instructions, where QEMU runs with -icount
//               unit=ns                            time that passes, waiting included
//
// In ticks, a thread of class SCHED_IDLE soaks up the time that the CPU has to spare, exactly as
// kernel/shell/cmd_bench.c does: it reads the time stamp counter, and two readings close together
// mean that nobody else wanted the CPU.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    ROUNDS = 9,
    LOOPS = 1000,       // of the cheap things in a round
    SOAK_GAP = 60,      // ticks: as BENCH_SOAK_GAP
    MAX_DEPTH = 32,
    DEVICE_WAIT_S = 20, // until a driver has found its disk
};

static bool in_ticks;
static volatile uint64_t spare; // written by the soaker only

static void give_up(const char *what)
{
    printf("peer: %s: %s\n", what, strerror(errno));
    sync();
    reboot(RB_AUTOBOOT);
    exit(1);
}

// ---- the measure -------------------------------------------------------------------------------

static void *soaker(void *unused)
{
    struct sched_param none = {0};
    sched_setscheduler(0, SCHED_IDLE, &none);
    uint64_t before = __builtin_ia32_rdtsc();
    for (;;) {
        uint64_t now = __builtin_ia32_rdtsc();
        if (now - before < SOAK_GAP) {
            spare += now - before;
        }
        before = now;
    }
    return unused;
}

static uint64_t started, spare_started;
static double tick_share; // of the time: the timer's tick, which is nobody's operation

static uint64_t now(void)
{
    struct timespec time;
    if (in_ticks) {
        return __builtin_ia32_rdtsc();
    }
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void start(void)
{
    spare_started = spare;
    started = now();
}

static void stop(const char *prefix, const char *name, unsigned operations)
{
    uint64_t passed = now() - started, soaked = spare - spare_started;
    double amount = (double)(passed - soaked) - tick_share * (double)passed;
    printf("figure %s%s %.2f\n", prefix, name, amount / operations);
}

// Starts the soaker, and measures what an idle machine does beside it.
static void soak(void)
{
    pthread_t thread;
    struct timespec pause = {.tv_nsec = 200000000};

    if (pthread_create(&thread, NULL, soaker, NULL) != 0) {
        give_up("soaker");
    }
    nanosleep(&pause, NULL);
    start();
    nanosleep(&pause, NULL);
    uint64_t passed = now() - started, soaked = spare - spare_started;
    tick_share = (double)(passed - soaked) / (double)passed;
    printf("figure tick_permille %.3f\n", tick_share * 1000);
}

// ---- system calls and switches -----------------------------------------------------------------

static void measure_syscall(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        start();
        for (int i = 0; i < LOOPS; i++) {
            syscall(SYS_getppid);
        }
        stop("", "syscall", LOOPS);
    }
}

static void *yield_partner(void *unused)
{
    for (int i = 0; i < ROUNDS * LOOPS + LOOPS; i++) {
        sched_yield();
    }
    return unused;
}

static void measure_yield(void)
{
    pthread_t partner;
    if (pthread_create(&partner, NULL, yield_partner, NULL) != 0) {
        give_up("pthread_create");
    }
    for (int round = 0; round < ROUNDS; round++) {
        start();
        for (int i = 0; i < LOOPS; i++) {
            sched_yield();
        }
        stop("", "yield_pair", LOOPS);
    }
    pthread_join(partner, NULL);
}

static int turn; // whose it is: 0 or 1; a futex

static void turn_give(int to)
{
    __atomic_store_n(&turn, to, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void turn_await(int mine)
{
    while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) != mine) {
        syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !mine, NULL, NULL, 0);
    }
}

static void *ping_pong_partner(void *unused)
{
    for (int i = 0; i < ROUNDS * LOOPS; i++) {
        turn_await(1);
        turn_give(0);
    }
    return unused;
}

static void measure_ping_pong(void)
{
    pthread_t partner;
    if (pthread_create(&partner, NULL, ping_pong_partner, NULL) != 0) {
        give_up("pthread_create");
    }
    for (int round = 0; round < ROUNDS; round++) {
        start();
        for (int i = 0; i < LOOPS; i++) {
            turn_give(1);
            turn_await(0);
        }
        stop("", "ping_pong", LOOPS);
    }
    pthread_join(partner, NULL);
}

// ---- disks -------------------------------------------------------------------------------------

struct disk {
    int file;
    const char *prefix; // "sda."
    uint64_t size;
    char *buffer;
};

static uint64_t random_state = 1;

static uint64_t random_block(const struct disk *disk, unsigned size)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % (disk->size / size) * size;
}

static void measure_one_at_a_time(struct disk *disk, const char *name, unsigned size, int count)
{
    for (int round = 0; round < ROUNDS; round++) {
        start();
        for (int i = 0; i < count; i++) {
            if (pread(disk->file, disk->buffer, size, (off_t)random_block(disk, size)) !=
                (ssize_t)size) {
                give_up("pread");
            }
        }
        stop(disk->prefix, name, (unsigned)count);
    }
}

static void submit(aio_context_t context, struct iocb **requests, int count)
{
    if (count > 0 && syscall(SYS_io_submit, context, count, requests) != count) {
        give_up("io_submit");
    }
}

// As many as `depth` under way at any time.
static void queued_reads(struct disk *disk, aio_context_t context, unsigned size, int depth,
                         int count)
{
    struct iocb blocks[MAX_DEPTH], *again[MAX_DEPTH];
    struct io_event events[MAX_DEPTH];
    int submitted = depth, done = 0;

    for (int i = 0; i < depth; i++) {
        blocks[i] = (struct iocb){
            .aio_data = (uint64_t)i,
            .aio_lio_opcode = IOCB_CMD_PREAD,
            .aio_fildes = (uint32_t)disk->file,
            .aio_buf = (uintptr_t)disk->buffer + (uintptr_t)i * size,
            .aio_nbytes = size,
            .aio_offset = (int64_t)random_block(disk, size)};
        again[i] = &blocks[i];
    }
    submit(context, again, depth);
    while (done < count) {
        int got = (int)syscall(SYS_io_getevents, context, 1, depth, events, NULL), more = 0;
        if (got < 0) {
            give_up("io_getevents");
        }
        for (int i = 0; i < got; i++) {
            if (events[i].res != (int64_t)size) {
                give_up("queued read");
            }
            if (submitted < count) {
                struct iocb *block = &blocks[events[i].data];
                block->aio_offset = (int64_t)random_block(disk, size);
                again[more++] = block;
                submitted++;
            }
        }
        submit(context, again, more);
        done += got;
    }
}

static void measure_queued(struct disk *disk, const char *name, unsigned size, int count)
{
    aio_context_t context = 0;

    if (syscall(SYS_io_setup, MAX_DEPTH, &context) != 0) {
        give_up("io_setup");
    }
    for (int round = 0; round < ROUNDS; round++) {
        start();
        queued_reads(disk, context, size, MAX_DEPTH, count);
        stop(disk->prefix, name, (unsigned)count);
    }
    syscall(SYS_io_destroy, context);
}

// The first 1 MiB in a row through the page cache, which is emptied before each round, or only
// once.
static void measure_buffered(const struct disk *disk, const char *path, const char *name, int cold)
{
    int file = open(path, O_RDONLY);

    if (file < 0 || ioctl(file, BLKFLSBUF, 0) != 0) {
        give_up(path);
    }
    for (int round = 0; round <= ROUNDS; round++) {
        if (cold && ioctl(file, BLKFLSBUF, 0) != 0) {
            give_up("BLKFLSBUF");
        }
        lseek(file, 0, SEEK_SET);
        start();
        for (int i = 0; i < 256; i++) {
            if (read(file, disk->buffer, 4096) != 4096) {
                give_up("read");
            }
        }
        if (round != 0) { // the first one fills the cache
            stop(disk->prefix, name, 256);
        }
    }
    close(file);
}

// The fastest that Linux can: a disk without seeks needs no order of requests.
static void no_scheduler(const char *disk)
{
    char path[64];

    snprintf(path, sizeof(path), "/sys/block/%s/queue/scheduler", disk);
    int file = open(path, O_WRONLY);
    if (file < 0 || write(file, "none", 4) != 4) {
        give_up(path);
    }
    close(file);
}

static void measure_disk(const char *path)
{
    char prefix[32];
    struct disk disk = {.file = -1, .prefix = prefix};

    for (int i = 0; i < DEVICE_WAIT_S * 10 && disk.file < 0; i++) {
        disk.file = open(path, O_RDONLY | O_DIRECT);
        usleep(disk.file < 0 ? 100000 : 0);
    }
    if (disk.file < 0 || ioctl(disk.file, BLKGETSIZE64, &disk.size) != 0) {
        give_up(path);
    }
    snprintf(prefix, sizeof(prefix), "%s.", path + strlen("/dev/"));
    no_scheduler(path + strlen("/dev/"));
    disk.buffer = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (disk.buffer == MAP_FAILED) {
        give_up("mmap");
    }
    measure_one_at_a_time(&disk, "read_4k", 4096, in_ticks ? 200 : 2000);
    measure_queued(&disk, "read_4k_qd32", 4096, in_ticks ? 1000 : 10000);
    measure_one_at_a_time(&disk, "read_1m", 1 << 20, in_ticks ? 20 : 200);
    measure_buffered(&disk, path, "read_4k_cold", 1);
    measure_buffered(&disk, path, "read_4k_warm", 0);
}

// ---- the machine -------------------------------------------------------------------------------

static void load_modules(void)
{
    char path[256], line[200];
    FILE *order = fopen("/modules/order", "r");

    if (!order) {
        give_up("/modules/order");
    }
    while (fgets(line, sizeof(line), order)) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(path, sizeof(path), "/modules/%s", line);
        int file = open(path, O_RDONLY);
        if (file < 0 || (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST)) {
            give_up(path);
        }
        close(file);
    }
    fclose(order);
}

static void measure(char *work)
{
    for (char *what = strtok(work, ","); what; what = strtok(NULL, ",")) {
        if (strcmp(what, "sched") == 0) {
            measure_syscall();
            measure_yield();
            measure_ping_pong();
        } else {
            if (in_ticks && tick_share == 0) {
                soak(); // only now: it would take part in every yield
            }
            measure_disk(what);
        }
    }
}

int main(void)
{
    const char *unit = getenv("unit"); // the kernel hands over what it does not know itself
    char *work = getenv("work");

    setvbuf(stdout, NULL, _IOLBF, 0);
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    load_modules();
    in_ticks = unit && strcmp(unit, "ticks") == 0;
    measure(work ? work : "");
    printf("peer: done\n");
    reboot(RB_AUTOBOOT);
}
