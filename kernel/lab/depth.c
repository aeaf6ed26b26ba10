// `lab queue-depth`: how many reads a second a disk does, by how many it is given at a time.
//
// With one command at a time a disk waits for the CPU and the CPU for the disk. With more, the disk
// has the next one at hand when one ends, one doorbell and one interrupt serve several, and what is
// left is the cost of a command. An old disk has one command, AHCI 32, NVMe up to 65,535 in each of
// up to 65,535 queues; the curve shows what of that is of use.
//
// Random reads of 4 KiB; each completion submits the next one, in softirq, so that no thread is
// woken meanwhile. Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <sched/completion.h>
#include <dev/block.h>

enum { DEPTH_SECTORS = PAGE_SIZE / SECTOR_SIZE, DEPTH_READS = 512, DEPTH_MOST = 1024 };

struct depth_run {
    struct gendisk *disk;
    struct request *requests;
    void **pages;
    uint32_t left;      // A: still to be submitted
    uint32_t under_way; // A
    uint32_t errors;    // A
    uint32_t seed;      // A, without care: any number will do
    struct completion over;
};

static const struct lab_column depth_columns[] = {
    {"disk", -10}, {"depth", 6}, {"IOPS", 10}, {"MB/s", 9}, {"us/read", 9}, {"gain", 6}, {NULL, 0}};

static void depth_done(struct request *request);

static void depth_submit(struct depth_run *run, struct request *request)
{
    size_t index = (size_t)(request - run->requests);
    run->seed = run->seed * 1103515245 + 12345;
    uint64_t blocks = run->disk->capacity / DEPTH_SECTORS;
    blk_request_init(request, run->disk, REQ_OP_READ, (run->seed >> 4) % blocks * DEPTH_SECTORS,
                     DEPTH_SECTORS, run->pages[index], depth_done, run);
    blk_submit(request);
}

// Takes one of those that are left. False: there are none.
static bool depth_take(struct depth_run *run)
{
    uint32_t left = __atomic_load_n(&run->left, __ATOMIC_RELAXED);
    while (left != 0 && !__atomic_compare_exchange_n(&run->left, &left, left - 1, true,
                                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return left != 0;
}

static void depth_done(struct request *request)
{
    struct depth_run *run = request->private_data;
    if (request->status != 0) {
        __atomic_fetch_add(&run->errors, 1, __ATOMIC_RELAXED);
    }
    if (depth_take(run)) {
        depth_submit(run, request);
    } else if (__atomic_sub_fetch(&run->under_way, 1, __ATOMIC_ACQ_REL) == 0) {
        complete(&run->over);
    }
}

// Nanoseconds that `reads` of them took, `depth` at a time.
static uint64_t depth_measure(struct depth_run *run, uint32_t depth, uint32_t reads)
{
    struct blk_plug plug;
    init_completion(&run->over);
    run->left = reads - depth;
    run->under_way = depth;
    uint64_t start_ns = clock_ns();
    blk_start_plug(&plug);
    for (uint32_t i = 0; i < depth; i++) {
        depth_submit(run, &run->requests[i]);
    }
    blk_finish_plug(&plug);
    wait_for_completion_io(&run->over);
    return max(clock_ns() - start_ns, (uint64_t)1);
}

// One line; the IOPS, in hundredths of what one at a time gave, go to *first.
static void depth_row(struct shell *sh, const struct depth_run *run, uint32_t depth, uint32_t reads,
                      uint64_t ns, uint64_t *first)
{
    char cells[5][24];
    uint64_t iops = (uint64_t)reads * 1000000000 / ns, kb = iops * PAGE_SIZE / 1000;
    if (*first == 0) {
        *first = max(iops, (uint64_t)1);
    }
    uint64_t gain = iops * 10 / *first;
    snprintf(cells[0], sizeof(cells[0]), "%u", depth);
    snprintf(cells[1], sizeof(cells[1]), "%llu", (unsigned long long)iops);
    snprintf(cells[2], sizeof(cells[2]), "%llu.%llu", (unsigned long long)kb / 1000,
             (unsigned long long)kb % 1000 / 100);
    lab_us(cells[3], ns * depth / reads);
    snprintf(cells[4], sizeof(cells[4]), "%llu.%llu", (unsigned long long)gain / 10,
             (unsigned long long)gain % 10);
    const char *const row[] = {run->disk->name, cells[0], cells[1], cells[2], cells[3], cells[4]};
    lab_row(sh, depth_columns, row);
}

static int depth_disk(struct shell *sh, struct depth_run *run)
{
    uint32_t most = min(run->disk->queue_depth, (uint32_t)DEPTH_MOST);
    uint64_t first = 0;
    for (uint32_t depth = 1; depth <= most && !shell_interrupted(sh); depth *= 2) {
        uint32_t reads = max((uint32_t)DEPTH_READS, depth * 4);
        uint64_t ns = depth_measure(run, depth, reads);
        if (run->errors != 0) {
            return shell_error(sh, "%s: %u reads failed", run->disk->name, run->errors);
        }
        depth_row(sh, run, depth, reads, ns, &first);
    }
    return 0;
}

static int depth_name(struct shell *sh, const char *name, bool must)
{
    struct depth_run run = {.disk = blk_find(name), .seed = 1};
    int status = 0;
    if (run.disk == NULL || run.disk->capacity < DEPTH_SECTORS || run.disk->queue_depth == 0) {
        status = must ? shell_error(sh, "%s: no such disk (lsblk lists them)", name) : 0;
        goto out;
    }
    uint32_t most = min(run.disk->queue_depth, (uint32_t)DEPTH_MOST);
    run.requests = kcalloc(most, sizeof(*run.requests), GFP_KERNEL);
    run.pages = kcalloc(most, sizeof(*run.pages), GFP_KERNEL);
    bool have = run.requests != NULL && run.pages != NULL;
    for (uint32_t i = 0; i < most && have; i++) {
        run.pages[i] = alloc_page(GFP_KERNEL);
        have = run.pages[i] != NULL;
    }
    status = have ? depth_disk(sh, &run) : shell_error(sh, "no memory for %u reads", most);
    for (uint32_t i = 0; i < most && run.pages != NULL; i++) {
        free_page(run.pages[i]);
    }
out:
    kfree(run.pages);
    kfree(run.requests);
    if (run.disk != NULL) {
        blk_put(run.disk);
    }
    return status;
}

static int lab_depth(struct shell *sh, int argc, char **argv)
{
    static const char *const usual[] = {"sda", "nvme0n1"};
    int status = 0;

    lab_table(sh, depth_columns);
    for (int i = 1; i < argc && status == 0; i++) {
        status = depth_name(sh, argv[i], true);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(usual) && argc == 1 && status == 0; i++) {
        status = depth_name(sh, usual[i], false);
    }
    return status;
}
LAB("queue-depth", lab_depth, "[DISK...]", "reads a second, by how many the disk has at a time");
