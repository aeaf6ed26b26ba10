// A CD drive that spins up for as long as it is told: whoever waits for it can have enough of that,
// by whichever way he came, and leaves nothing behind.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <sched/completion.h>
#include <sched/thread.h>
#include <fs/mount.h>
#include <fs/vfs.h>

#include "../../drivers/block/ata/cdrom.h"
#include "../../kernel/shell/job.h"
#include "eventually.h"

enum { CD_BLOCKS = 16, CD_ALL_TRIES = 50 };

struct cd {
    struct gendisk *disk;
    bool spins_up; // A
    uint32_t asks; // A: TEST UNIT READY
    char path[32];
};

static int cd_queue_rq(struct blk_mq_hw_ctx *hctx, struct request *request, bool last)
{
    struct cd *cd = hctx->disk->private_data;
    struct atapi_packet built;
    const struct atapi_packet *packet = cdrom_packet_of(request, &built);
    int status = -EIO;
    (void)last;
    if (packet != NULL && packet->bytes[0] == ATAPI_TEST_UNIT_READY) {
        __atomic_fetch_add(&cd->asks, 1, __ATOMIC_RELAXED);
        status = READ_ONCE(cd->spins_up) ? -EAGAIN : 0;
    } else if (packet != NULL && packet->length == ATAPI_CAPACITY_SIZE) {
        const uint8_t answer[ATAPI_CAPACITY_SIZE] = {0, 0, 0, CD_BLOCKS - 1, 0, 0, 8, 0};
        memcpy(request->segment.data, answer, sizeof(answer));
        status = 0;
    }
    blk_complete_request(request, status);
    return 0;
}

static const struct blk_mq_ops cd_ops = {.queue_rq = cd_queue_rq, .open = cdrom_open};

static bool cd_make(struct cd *cd)
{
    *cd = (struct cd){.spins_up = true, .disk = alloc_disk(&cd_ops, 1, 1)};
    if (cd->disk == NULL) {
        return false;
    }
    cdrom_describe(cd->disk, &(struct atapi_identity){0});
    cd->disk->max_segments = 1;
    cd->disk->private_data = cd;
    int error = add_disk(cd->disk, "tcd");
    snprintf(cd->path, sizeof(cd->path), "/dev/%s", cd->disk->name);
    return error == 0;
}

static bool cd_drop(struct cd *cd)
{
    bool gone = del_gendisk(cd->disk) == 0;
    if (gone) {
        blk_put(cd->disk);
    }
    return gone;
}

// ---- who waits ----------------------------------------------------------------------------------

enum cd_way { CD_OPEN, CD_MOUNT, CD_UMOUNT, CD_REDIRECT };

struct cd_waiter {
    struct cd *cd;
    enum cd_way way;
    int result;
    struct thread *thread;
    struct completion done;
};

static void cd_waiter_thread(void *arg)
{
    struct cd_waiter *w = arg;
    struct file *file;
    char line[64];
    switch (w->way) {
    case CD_OPEN:
        w->result = vfs_open(w->cd->path, OPEN_READ, &file);
        if (w->result == 0) {
            vfs_close(file);
        }
        break;
    case CD_MOUNT:
        w->result = vfs_mount(w->cd->path, "/ktest_cd", NULL, NULL);
        break;
    case CD_UMOUNT:
        w->result = vfs_umount("/ktest_cd");
        break;
    case CD_REDIRECT:
        snprintf(line, sizeof(line), "cat < %s", w->cd->path);
        w->result = job_run_line(line);
        break;
    }
    complete(&w->done);
}

static bool cd_waiter_start(struct cd_waiter *w, struct cd *cd, enum cd_way way)
{
    *w = (struct cd_waiter){.cd = cd, .way = way, .result = 1};
    init_completion(&w->done);
    w->thread = kthread_run(cd_waiter_thread, w, "cd waiter");
    return w->thread != NULL;
}

// It sleeps, and has not come back.
static bool cd_waiter_waits(struct cd_waiter *w, const char *channel)
{
    const char *now = READ_ONCE(w->thread->wait_channel);
    return now != NULL && strcmp(now, channel) == 0;
}

static bool cd_waiter_join(struct cd_waiter *w)
{
    if (wait_for_completion_timeout(&w->done, 50 * HZ) == 0) {
        return false;
    }
    thread_join(w->thread);
    return true;
}

// ---- the tests ----------------------------------------------------------------------------------

KTEST(cdrom, who_opens_a_drive_that_spins_up_can_have_enough)
{
    static struct cd cd;
    static struct cd_waiter first, second;
    REQUIRE(cd_make(&cd));
    REQUIRE(cd_waiter_start(&first, &cd, CD_OPEN));
    EXPECT(EVENTUALLY(cd_waiter_waits(&first, "msleep")));
    REQUIRE(cd_waiter_start(&second, &cd, CD_OPEN)); // behind the first, who asks the drive
    EXPECT(EVENTUALLY(cd_waiter_waits(&second, "disk open")));
    thread_interrupt(second.thread);
    EXPECT(cd_waiter_join(&second));
    EXPECT_EQ(second.result, -EINTR);
    EXPECT_EQ(first.result, 1); // goes on
    thread_interrupt(first.thread);
    EXPECT(cd_waiter_join(&first));
    EXPECT_EQ(first.result, -EINTR);
    EXPECT(cd.asks < CD_ALL_TRIES);
    EXPECT_EQ(cd.disk->openers, 0);
    EXPECT_EQ(cd.disk->capacity, 0); // nobody knows what lies in it
    WRITE_ONCE(cd.spins_up, false);
    REQUIRE(cd_waiter_start(&first, &cd, CD_OPEN));
    EXPECT(cd_waiter_join(&first));
    EXPECT_EQ(first.result, 0);
    EXPECT_EQ(cd.disk->capacity, CD_BLOCKS * CD_BLOCK_SECTORS);
    EXPECT(cd_drop(&cd));
}

KTEST(cdrom, mount_of_a_drive_that_spins_up_ends_and_holds_up_nobody)
{
    static struct cd cd;
    static struct cd_waiter mount, umount;
    REQUIRE(cd_make(&cd));
    REQUIRE(cd_waiter_start(&mount, &cd, CD_MOUNT));
    EXPECT(EVENTUALLY(cd_waiter_waits(&mount, "msleep")));
    REQUIRE(cd_waiter_start(&umount, &cd, CD_UMOUNT));
    EXPECT(EVENTUALLY(cd_waiter_waits(&umount, "mount_mutex")));
    thread_interrupt(umount.thread);
    EXPECT(cd_waiter_join(&umount));
    EXPECT_EQ(umount.result, -EINTR);
    thread_interrupt(mount.thread);
    EXPECT(cd_waiter_join(&mount));
    EXPECT_EQ(mount.result, -EINTR);
    EXPECT(cd.asks < CD_ALL_TRIES);
    EXPECT_EQ(cd.disk->openers, 0);
    EXPECT_EQ(vfs_umount("/ktest_cd"), -EINVAL);
    EXPECT(cd_drop(&cd));
}

// The files of a line are opened before its commands run, by whoever runs the line. ^C is for the
// line; he goes on.
KTEST(cdrom, interrupt_ends_a_line_that_waits_for_its_input)
{
    static struct cd cd;
    static struct cd_waiter line;
    REQUIRE(cd_make(&cd));
    REQUIRE(cd_waiter_start(&line, &cd, CD_REDIRECT));
    EXPECT(EVENTUALLY(cd_waiter_waits(&line, "msleep")));
    EXPECT(job_interrupt_foreground(true));
    EXPECT(cd_waiter_join(&line));
    EXPECT_EQ(line.result, STATUS_INTERRUPTED);
    EXPECT(cd.asks < CD_ALL_TRIES);
    EXPECT_EQ(cd.disk->openers, 0);
    EXPECT(cd_drop(&cd));
}
