// iostat: how busy the disks are and how long their requests take, as sysstat prints it.
//
// Everything is a difference of two readings of the counters that /proc/diskstats shows, over the
// time between them; the first report is since the boot:
//
//   await    what requests spent between submit and done, by their number
//   aqu-sz   the same sum, by the time: how many were under way on average (Little's law)
//   %util    how much of the time there was anything to do
//
// A disk that does 32 requests at a time is not full at 100 %util: that is why svctm is gone. Who
// wants it all the same says `-o old`, and gets the columns of old: util by requests.
//
// Figures are whole hundredths, as the kernel has no floating point.
//
// Context: the command's thread.
#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <lib/text.h>
#include <contract/command.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/slab.h>
#include <sched/cputime.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <dev/block.h>

enum { IOSTAT_DISKS = 32, IOSTAT_INTERRUPTED = 130 };

struct iostat_disk {
    char name[16];
    struct disk_stats stats;
};

struct iostat_sample {
    uint64_t at_ns, cpu_ns[CPU_TIME_COUNT];
    unsigned count;
    struct iostat_disk disks[IOSTAT_DISKS];
};

struct iostat {
    struct shell *sh;
    bool extended, old, no_cpu, no_disks, skip_first, only_active, megabytes;
    uint32_t interval_s, reports; // 0: for ever
    const char *only[8];
    unsigned only_count;
    struct iostat_sample before, now;
};

// ---- readings -----------------------------------------------------------------------------------

static bool iostat_wanted(const struct iostat *io, const struct gendisk *disk)
{
    if (io->only_count == 0) {
        return disk->partition == 0;
    }
    for (unsigned i = 0; i < io->only_count; i++) {
        if (strcmp(io->only[i], disk->name) == 0) {
            return true;
        }
    }
    return false;
}

static void iostat_read(struct iostat *io, struct iostat_sample *sample)
{
    sample->at_ns = clock_ns();
    sample->count = 0;
    for (unsigned what = 0; what < CPU_TIME_COUNT; what++) {
        sample->cpu_ns[what] = 0;
        for_each_online_cpu (cpu) {
            sample->cpu_ns[what] += sched_cpu_time_ns(cpu, (enum cpu_time)what);
        }
    }
    for (struct gendisk *disk = blk_next(NULL); disk != NULL; disk = blk_next(disk)) {
        if (sample->count < IOSTAT_DISKS && iostat_wanted(io, disk)) {
            struct iostat_disk *d = &sample->disks[sample->count++];
            strscpy(d->name, disk->name, sizeof(d->name));
            blk_stats(disk, &d->stats);
        }
    }
}

// The same disk in the reading before; one that was not there began with zeroes, and so did one
// whose counters went down: it was taken away and came back.
static struct disk_stats iostat_earlier(const struct iostat *io, const struct iostat_disk *disk)
{
    for (unsigned i = 0; i < io->before.count; i++) {
        const struct iostat_disk *other = &io->before.disks[i];
        bool down = false;
        for (unsigned op = 0; op < REQ_OP_COUNT; op++) {
            down = down || other->stats.ios[op] > disk->stats.ios[op];
        }
        if (strcmp(other->name, disk->name) == 0 && !down) {
            return other->stats;
        }
    }
    return (struct disk_stats){0};
}

// ---- figures ------------------------------------------------------------------------------------

// 100 * a / b, rounded; 0 when b is.
static uint64_t hundredths(uint64_t a, uint64_t b)
{
    while (a > UINT64_MAX / 1000) { // too long a time: a loss below a millionth does not show
        a >>= 1;
        b >>= 1;
    }
    return b == 0 ? 0 : (a * 100 + b / 2) / b;
}

// Right-aligned, two decimals.
static void iostat_cell(struct text *t, unsigned width, uint64_t value)
{
    char buffer[32];
    struct text cell = TEXT_INIT(buffer);
    text_printf(&cell, "%llu.%02llu", (unsigned long long)(value / 100),
                (unsigned long long)(value % 100));
    text_printf(t, "%*s", (int)width, buffer);
}

// What happened to a disk between two readings.
struct iostat_delta {
    uint64_t elapsed_ns;
    uint64_t ios[REQ_OP_COUNT], sectors[REQ_OP_COUNT], merges[REQ_OP_COUNT], ticks_ns[REQ_OP_COUNT];
    uint64_t io_ns, all_ios, all_ticks_ns;
};

static struct iostat_delta iostat_delta(const struct iostat *io, const struct iostat_disk *disk)
{
    struct disk_stats earlier = iostat_earlier(io, disk);
    struct iostat_delta d = {.elapsed_ns = io->now.at_ns - io->before.at_ns,
                             .io_ns = disk->stats.io_ns - earlier.io_ns};
    for (unsigned op = 0; op < REQ_OP_COUNT; op++) {
        d.ios[op] = disk->stats.ios[op] - earlier.ios[op];
        d.sectors[op] = disk->stats.sectors[op] - earlier.sectors[op];
        d.merges[op] = disk->stats.merges[op] - earlier.merges[op];
        d.ticks_ns[op] = disk->stats.ticks_ns[op] - earlier.ticks_ns[op];
        d.all_ios += d.ios[op];
        d.all_ticks_ns += d.ticks_ns[op];
    }
    d.io_ns = min(d.io_ns, d.elapsed_ns);
    return d;
}

static uint64_t iostat_rate(const struct iostat_delta *d, uint64_t count)
{
    return hundredths(count * 1000, d->elapsed_ns / 1000000);
}

// Milliseconds of one request.
static uint64_t iostat_await(uint64_t ticks_ns, uint64_t ios)
{
    return hundredths(ticks_ns / 1000, ios * 1000);
}

// ---- rows ---------------------------------------------------------------------------------------

static void iostat_row_extended(const struct iostat *io, struct text *t,
                                const struct iostat_delta *d)
{
    for (unsigned op = REQ_OP_READ; op <= REQ_OP_WRITE; op++) {
        iostat_cell(t, 8, iostat_rate(d, d->ios[op]));
        iostat_cell(t, 10, iostat_rate(d, d->sectors[op]) / (io->megabytes ? 2048 : 2));
        iostat_cell(t, 9, iostat_rate(d, d->merges[op]));
        iostat_cell(t, 7, hundredths(d->merges[op] * 100, d->merges[op] + d->ios[op]));
        iostat_cell(t, 8, iostat_await(d->ticks_ns[op], d->ios[op]));
        iostat_cell(t, 9, hundredths(d->sectors[op], d->ios[op] * 2));
    }
    static const uint8_t discards[] = {8, 10, 9, 7, 8, 9}; // there are none here
    for (unsigned i = 0; i < ARRAY_SIZE(discards); i++) {
        iostat_cell(t, discards[i], 0);
    }
    iostat_cell(t, 8, iostat_rate(d, d->ios[REQ_OP_FLUSH]));
    iostat_cell(t, 8, iostat_await(d->ticks_ns[REQ_OP_FLUSH], d->ios[REQ_OP_FLUSH]));
    iostat_cell(t, 8, hundredths(d->all_ticks_ns, d->elapsed_ns));
    iostat_cell(t, 7, hundredths(d->io_ns * 100, d->elapsed_ns));
}

static void iostat_row_old(const struct iostat *io, struct text *t, const struct iostat_delta *d)
{
    uint64_t ios = d->ios[REQ_OP_READ] + d->ios[REQ_OP_WRITE];
    uint64_t ticks_ns = d->ticks_ns[REQ_OP_READ] + d->ticks_ns[REQ_OP_WRITE];
    iostat_cell(t, 9, iostat_rate(d, d->merges[REQ_OP_READ]));
    iostat_cell(t, 9, iostat_rate(d, d->merges[REQ_OP_WRITE]));
    iostat_cell(t, 8, iostat_rate(d, d->ios[REQ_OP_READ]));
    iostat_cell(t, 8, iostat_rate(d, d->ios[REQ_OP_WRITE]));
    iostat_cell(t, 9, iostat_rate(d, d->sectors[REQ_OP_READ]) / (io->megabytes ? 2048 : 2));
    iostat_cell(t, 9, iostat_rate(d, d->sectors[REQ_OP_WRITE]) / (io->megabytes ? 2048 : 2));
    iostat_cell(t, 9, hundredths(d->sectors[REQ_OP_READ] + d->sectors[REQ_OP_WRITE], ios));
    iostat_cell(t, 9, hundredths(d->all_ticks_ns, d->elapsed_ns));
    iostat_cell(t, 8, iostat_await(ticks_ns, ios));
    iostat_cell(t, 8, iostat_await(d->ticks_ns[REQ_OP_READ], d->ios[REQ_OP_READ]));
    iostat_cell(t, 8, iostat_await(d->ticks_ns[REQ_OP_WRITE], d->ios[REQ_OP_WRITE]));
    iostat_cell(t, 7, iostat_await(d->io_ns, ios));
    iostat_cell(t, 7, hundredths(d->io_ns * 100, d->elapsed_ns));
}

static void iostat_row_basic(const struct iostat *io, struct text *t, const struct iostat_delta *d)
{
    unsigned unit = io->megabytes ? 2048 : 2;
    iostat_cell(t, 9, iostat_rate(d, d->all_ios));
    iostat_cell(t, 13, iostat_rate(d, d->sectors[REQ_OP_READ]) / unit);
    iostat_cell(t, 13, iostat_rate(d, d->sectors[REQ_OP_WRITE]) / unit);
    iostat_cell(t, 13, 0);
    text_printf(t, "%11llu%11llu%11u", (unsigned long long)(d->sectors[REQ_OP_READ] / unit),
                (unsigned long long)(d->sectors[REQ_OP_WRITE] / unit), 0);
}

static const char *iostat_heading(const struct iostat *io)
{
    if (io->old) {
        return io->megabytes
                   ? "Device:         rrqm/s   wrqm/s     r/s     w/s    rMB/s    wMB/s avgrq-sz "
                     "avgqu-sz   await r_await w_await  svctm  %util\n"
                   : "Device:         rrqm/s   wrqm/s     r/s     w/s    rkB/s    wkB/s avgrq-sz "
                     "avgqu-sz   await r_await w_await  svctm  %util\n";
    }
    if (io->extended) {
        return io->megabytes
                   ? "Device            r/s     rMB/s   rrqm/s  %rrqm r_await rareq-sz     w/s     "
                     "wMB/s   wrqm/s  %wrqm w_await wareq-sz     d/s     dMB/s   drqm/s  %drqm "
                     "d_await dareq-sz     f/s f_await  aqu-sz  %util\n"
                   : "Device            r/s     rkB/s   rrqm/s  %rrqm r_await rareq-sz     w/s     "
                     "wkB/s   wrqm/s  %wrqm w_await wareq-sz     d/s     dkB/s   drqm/s  %drqm "
                     "d_await dareq-sz     f/s f_await  aqu-sz  %util\n";
    }
    return io->megabytes ? "Device             tps    MB_read/s    MB_wrtn/s    MB_dscd/s    "
                           "MB_read    MB_wrtn    MB_dscd\n"
                         : "Device             tps    kB_read/s    kB_wrtn/s    kB_dscd/s    "
                           "kB_read    kB_wrtn    kB_dscd\n";
}

static void iostat_report_cpu(const struct iostat *io)
{
    char buffer[160];
    struct text t = TEXT_INIT(buffer);
    uint64_t total = 0, d[CPU_TIME_COUNT];
    for (unsigned what = 0; what < CPU_TIME_COUNT; what++) {
        d[what] = io->now.cpu_ns[what] - io->before.cpu_ns[what];
        total += d[what];
    }
    uint64_t columns[] = {d[CPU_USER],   d[CPU_NICE], d[CPU_SYSTEM] + d[CPU_IRQ] + d[CPU_SOFTIRQ],
                          d[CPU_IOWAIT], 0,           d[CPU_IDLE]};
    text_puts(&t, "avg-cpu:  %user   %nice %system %iowait  %steal   %idle\n       ");
    for (unsigned i = 0; i < ARRAY_SIZE(columns); i++) {
        iostat_cell(&t, 8, hundredths(columns[i] / 1000 * 100, total / 1000));
    }
    shell_printf(io->sh, "%s\n\n", buffer);
}

static void iostat_report_disks(const struct iostat *io)
{
    shell_printf(io->sh, "%s", iostat_heading(io));
    for (unsigned i = 0; i < io->now.count; i++) {
        char buffer[256];
        struct text t = TEXT_INIT(buffer);
        struct iostat_delta d = iostat_delta(io, &io->now.disks[i]);
        if (io->only_active && d.all_ios == 0) {
            continue;
        }
        text_printf(&t, "%-13s", io->now.disks[i].name);
        if (io->old) {
            iostat_row_old(io, &t, &d);
        } else if (io->extended) {
            iostat_row_extended(io, &t, &d);
        } else {
            iostat_row_basic(io, &t, &d);
        }
        shell_printf(io->sh, "%s\n", buffer);
    }
    shell_printf(io->sh, "\n");
}

// ---- the command --------------------------------------------------------------------------------

static int iostat_run(struct iostat *io)
{
    for (uint32_t shown = 0; io->reports == 0 || shown < io->reports;) {
        iostat_read(io, &io->now);
        if (io->skip_first) {
            io->skip_first = false;
        } else {
            shown++;
            if (!io->no_cpu) {
                iostat_report_cpu(io);
            }
            if (!io->no_disks) {
                iostat_report_disks(io);
            }
        }
        io->before = io->now;
        if (io->reports != 0 && shown >= io->reports) {
            break;
        }
        if (msleep_interruptible(io->interval_s * 1000) != 0 || shell_interrupted(io->sh)) {
            return IOSTAT_INTERRUPTED;
        }
    }
    return 0;
}

static int iostat_option(struct iostat *io, const char *letters)
{
    for (; *letters != '\0'; letters++) {
        switch (*letters) {
        case 'x':
            io->extended = true;
            break;
        case 'd':
            io->no_cpu = true;
            break;
        case 'c':
            io->no_disks = true;
            break;
        case 'y':
            io->skip_first = true;
            break;
        case 'z':
            io->only_active = true;
            break;
        case 'm':
            io->megabytes = true;
            break;
        case 'k':
            io->megabytes = false;
            break;
        default:
            return shell_usage(io->sh, "no such option: -%c", *letters);
        }
    }
    return 0;
}

// A number is the interval, then the count; anything else a disk. 0, or the exit status.
static int iostat_word(struct iostat *io, const char *word)
{
    uint32_t number;
    if (*word >= '0' && *word <= '9') {
        if (kstrtou32(word, 10, &number) != 0 || number == 0 || number > 86400) {
            return shell_error(io->sh, "%s: seconds and reports are 1 to 86400", word);
        }
        *(io->interval_s == 0 ? &io->interval_s : &io->reports) = number;
        return 0;
    }
    word += str_starts(word, "/dev/") ? 5 : 0;
    struct gendisk *disk = blk_find(word);
    if (disk == NULL || io->only_count == ARRAY_SIZE(io->only)) {
        return shell_error(io->sh, "%s: %s", word,
                           disk == NULL ? "no such disk" : "too many disks");
    }
    blk_put(disk);
    io->only[io->only_count++] = word;
    return 0;
}

static int cmd_iostat(struct shell *sh, int argc, char **argv)
{
    struct iostat *io = kzalloc(sizeof(*io), GFP_KERNEL); // too large for a stack
    int status = 0;
    if (io == NULL) {
        return shell_error(sh, "%s", strerror(-ENOMEM));
    }
    io->sh = sh;
    for (int i = 1; i < argc && status == 0; i++) {
        if (strcmp(argv[i], "-o") == 0) {
            if (++i == argc || strcmp(argv[i], "old") != 0) {
                status = shell_usage(sh, "-o wants the word old");
            }
            io->old = true;
        } else if (argv[i][0] == '-') {
            status = iostat_option(io, argv[i] + 1);
        } else {
            status = iostat_word(io, argv[i]);
        }
    }
    if (io->interval_s == 0) {
        io->interval_s = 1;
        io->reports = 1;
        io->skip_first = false;
    }
    if (status == 0) {
        status = iostat_run(io);
    }
    kfree(io);
    return status;
}

COMMAND(
    "iostat", cmd_iostat, "iostat [-xdcykmz] [-o old] [DISK...] [SECONDS [REPORTS]]",
    "how busy the disks are, and how long requests take\n-x: all columns. -o old: those of old, "
    "with svctm. -d, -c: only disks, only CPUs. -z: only disks that did something.\n"
    "-y: not the first report, which is since the boot. -m: megabytes. ^C ends it.");
