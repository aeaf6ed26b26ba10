// What the CPU pays for a byte: by PIO it carries each one itself, by DMA it says once where they
// shall go. The same reads from the same IDE disk, both ways, by size of the request.
//
//   PIO   an interrupt and a rep insw for each sector: the cost grows with the bytes
//   DMA   a list, a command, an interrupt: the cost is that of the request, however large
//
// What the CPU did is counted by the driver: words that it carried through the data port, or
// descriptors that it wrote, and interrupts. A page is 2,048 words by PIO, and one descriptor by
// DMA. Busy is the time in which the CPUs did anything but wait (the sums of /proc/stat), so what
// the interrupts cost is in it. Needs an IDE disk: QEMU's -M pc with -drive if=ide. Context:
// thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <lib/string.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <mm/page.h>
#include <dev/block.h>
#include <fs/vfs.h>

enum { PIO_READS = 64, PIO_LARGEST = 128 * 1024 };

static const struct lab_column pio_columns[] = {
    {"request", 9},          {"way", -4},          {"words", 7},
    {"descriptors", 11},     {"irqs", 5},          {"busy us", 9},
    {"cycles per byte", 15}, {"bytes per us", 12}, {NULL, 0},
};

// Of the first channel, since boot.
struct pio_counts {
    uint64_t interrupts, words, descriptors;
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

// As /proc/driver/ide tells. 0 or -errno.
static int pio_get_counts(struct pio_counts *counts)
{
    static const char path[] = "/proc/driver/ide";
    int error = lab_proc_number(path, "interrupts ", &counts->interrupts);

    error = error != 0 ? error : lab_proc_number(path, "words ", &counts->words);
    return error != 0 ? error : lab_proc_number(path, "descriptors ", &counts->descriptors);
}

// What one of PIO_READS cost on average; `passed_ns` from its start to its end.
struct pio_cost {
    struct pio_counts counts;
    uint64_t busy_ns, passed_ns;
};

static int pio_measure(struct gendisk *disk, void *buffer, uint32_t bytes, struct pio_cost *cost)
{
    struct pio_counts before, after;
    int error = pio_get_counts(&before);
    uint64_t start_ns = clock_ns(), start_busy = lab_busy_ns();

    for (unsigned i = 0; i < PIO_READS && error == 0; i++) {
        error = blk_read(disk, 0, bytes / SECTOR_SIZE, buffer);
    }
    cost->busy_ns = (lab_busy_ns() - start_busy) / PIO_READS;
    cost->passed_ns = max((clock_ns() - start_ns) / PIO_READS, 1ull);
    error = error != 0 ? error : pio_get_counts(&after);
    if (error == 0) {
        cost->counts = (struct pio_counts){
            .interrupts = (after.interrupts - before.interrupts) / PIO_READS,
            .words = (after.words - before.words) / PIO_READS,
            .descriptors = (after.descriptors - before.descriptors) / PIO_READS};
    }
    return error;
}

static void pio_row(struct shell *sh, uint32_t bytes, const char *mode, const struct pio_cost *cost)
{
    char cells[8][LAB_CELL_SIZE];
    const char *row[ARRAY_SIZE(cells)];
    uint64_t hundredths = cost->busy_ns * (clock_tsc_hz() / 1000000) / 10 / bytes;
    const uint64_t counts[] = {cost->counts.words, cost->counts.descriptors,
                               cost->counts.interrupts};

    snprintf(cells[0], LAB_CELL_SIZE, "%u", bytes);
    strscpy(cells[1], mode, LAB_CELL_SIZE);
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
        snprintf(cells[2 + i], LAB_CELL_SIZE, "%llu", (unsigned long long)counts[i]);
    }
    lab_us(cells[5], cost->busy_ns);
    snprintf(cells[6], LAB_CELL_SIZE, "%llu.%02llu", (unsigned long long)hundredths / 100,
             (unsigned long long)hundredths % 100);
    snprintf(cells[7], LAB_CELL_SIZE, "%llu",
             (unsigned long long)(bytes * 1000ull / cost->passed_ns));
    for (unsigned i = 0; i < ARRAY_SIZE(cells); i++) {
        row[i] = cells[i];
    }
    lab_row(sh, pio_columns, row);
}

// One size, one way. The command's status.
static int pio_one(struct shell *sh, struct gendisk *disk, void *buffer, uint32_t bytes,
                   const char *mode)
{
    struct pio_cost cost;
    int error = shell_interrupted(sh) ? -EINTR : pio_set_mode(mode);

    if (error == -EINTR) {
        return 130;
    }
    error = error != 0 ? error : pio_measure(disk, buffer, bytes, &cost);
    if (error != 0) {
        return shell_error(sh, "%s: %u bytes by %s: %s", disk->name, bytes, mode, strerror(-error));
    }
    pio_row(sh, bytes, mode, &cost);
    return 0;
}

static int pio_compare(struct shell *sh, struct gendisk *disk, void *buffer)
{
    static const char *const modes[] = {"pio", "dma"};
    static const uint32_t sizes[] = {SECTOR_SIZE, PAGE_SIZE, 16384, 65536, PIO_LARGEST};
    int status = 0;

    lab_table(sh, pio_columns);
    for (unsigned i = 0; i < ARRAY_SIZE(sizes) * ARRAY_SIZE(modes) && status == 0; i++) {
        status =
            pio_one(sh, disk, buffer, sizes[i / ARRAY_SIZE(modes)], modes[i % ARRAY_SIZE(modes)]);
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
