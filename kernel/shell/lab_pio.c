// What the CPU pays for a byte: by PIO it carries each one itself, by DMA it says once where they
// shall go. The same reads from the same IDE disk, both ways, by size of the request.
//
//   PIO   an interrupt and a rep insw for each sector: the cost grows with the bytes
//   DMA   a list, a command, an interrupt: the cost is that of the request, however large
//
// Busy is the time in which the CPUs did anything but wait (the sums of /proc/stat), so what the
// interrupts cost is in it. Needs an IDE disk: QEMU's -M pc with -drive if=ide. Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <mm/page.h>
#include <sched/cputime.h>
#include <dev/block.h>
#include <fs/vfs.h>

enum { PIO_READS = 64, PIO_LARGEST = 128 * 1024 };

static const struct lab_column pio_columns[] = {
    {"request", 9},          {"way", -4},          {"busy us", 9},
    {"cycles per byte", 15}, {"bytes per us", 12}, {NULL, 0},
};

static int pio_set_mode(const char *mode)
{
    struct file *file;
    int error = vfs_open("/proc/driver/ide", OPEN_WRITE, &file);

    if (error == 0) {
        long written = vfs_write(file, mode, strlen(mode));
        error = written < 0 ? (int)written : 0;
        vfs_close(file);
    }
    return error;
}

static uint64_t pio_busy_ns(void)
{
    uint64_t idle = 0;

    for_each_online_cpu (cpu) {
        idle += sched_cpu_time_ns(cpu, CPU_IDLE) + sched_cpu_time_ns(cpu, CPU_IOWAIT);
    }
    return clock_ns() * cpumask_weight(&cpu_online_mask) - idle;
}

static int pio_measure(struct shell *sh, struct gendisk *disk, void *buffer, uint32_t bytes,
                       const char *mode)
{
    char request[16], busy[LAB_CELL_SIZE], cycles[16], rate[16];
    uint64_t start_ns = clock_ns(), start_busy = pio_busy_ns();

    for (unsigned i = 0; i < PIO_READS; i++) {
        int error = blk_read(disk, 0, bytes / SECTOR_SIZE, buffer);
        if (error != 0) {
            return shell_error(sh, "%s: reading failed: error %d", disk->name, error);
        }
    }
    uint64_t busy_ns = (pio_busy_ns() - start_busy) / PIO_READS;
    uint64_t passed_ns = max((clock_ns() - start_ns) / PIO_READS, 1ull);
    uint64_t hundredths = busy_ns * (clock_tsc_hz() / 1000000) / 10 / bytes;

    snprintf(request, sizeof(request), "%u", bytes);
    snprintf(cycles, sizeof(cycles), "%llu.%02llu", (unsigned long long)hundredths / 100,
             (unsigned long long)hundredths % 100);
    snprintf(rate, sizeof(rate), "%llu", (unsigned long long)(bytes * 1000ull / passed_ns));
    lab_row(sh, pio_columns,
            (const char *const[]){request, mode, lab_us(busy, busy_ns), cycles, rate});
    return 0;
}

static int pio_compare(struct shell *sh, struct gendisk *disk, void *buffer)
{
    static const char *const modes[] = {"pio", "dma"};
    int status = 0;

    lab_table(sh, pio_columns);
    for (uint32_t bytes = SECTOR_SIZE; bytes <= PIO_LARGEST && status == 0; bytes *= 4) {
        for (unsigned i = 0; i < ARRAY_SIZE(modes) && status == 0; i++) {
            int error = shell_interrupted(sh) ? -EINTR : pio_set_mode(modes[i]);

            status = error == -EINTR ? 130
                     : error != 0    ? shell_error(sh, "/proc/driver/ide: error %d", error)
                                     : pio_measure(sh, disk, buffer, bytes, modes[i]);
        }
    }
    pio_set_mode("dma");
    return status;
}

static int lab_pio(struct shell *sh, int argc, char **argv)
{
    (void)argv;
    if (argc != 1) {
        return shell_usage(sh, "no arguments");
    }
    struct gendisk *disk = blk_find("hda");
    if (disk == NULL) {
        return shell_error(sh, "no IDE disk: `make run MACHINE=pc` has one; else start QEMU "
                               "with -M pc -drive if=ide,file=...");
    }
    void *buffer = alloc_pages(GFP_KERNEL, page_order(PIO_LARGEST));
    int status = disk->capacity * SECTOR_SIZE < PIO_LARGEST
                     ? shell_error(sh, "%s is smaller than %d bytes", disk->name, PIO_LARGEST)
                 : buffer == NULL ? shell_error(sh, "no memory")
                                  : pio_compare(sh, disk, buffer);
    if (buffer != NULL) {
        free_pages(buffer, page_order(PIO_LARGEST));
    }
    blk_put(disk);
    return status;
}

LAB("pio-dma", lab_pio, "", "what a byte from an IDE disk costs the CPU: carried by it, or by DMA");
