// `lab nvme-read`: the seven steps of one read from an NVMe disk, with the cycles between them.
//
//   1 command into the queue ─> 2 doorbell ─> 3 fetched ─> 4 data by DMA ─> 5 answer ─> 6 message
//     ─> 7 answer taken, head doorbell; the reader wakes
//
// Steps 1, 2, 6 and 7 are the driver's own time stamps; 4 and 5 are seen by watching memory
// (drivers/block/nvme/nvme_lab.c); 3 happens between 2 and 4 and cannot be seen by a CPU.
//
// Under an emulator the device's steps take as long as the emulator likes; their order is the
// lesson. NVMe 1.4, 7.2.1. Context: thread.
#include <lib/errno.h>
#include <lib/format.h>
#include <contract/lab.h>
#include <core/clock.h>
#include <block/nvme.h>

static const struct lab_column nvme_columns[] = {{"step", 4},     {"what", -48},  {"who", -7},
                                                 {"since us", 9}, {"cycles", 10}, {NULL, 0}};

// One line: cycles since the submit, microseconds since the step before.
static void nvme_row(struct shell *sh, const char *step, const char *what, const char *who,
                     uint64_t cycles, uint64_t before)
{
    char number[24] = "-", since[LAB_CELL_SIZE] = "-";

    if (cycles != 0) {
        snprintf(number, sizeof(number), "%llu", (unsigned long long)cycles);
        lab_us(since, clock_tsc_to_ns(cycles - before));
    }
    const char *const cells[] = {step, what, who, since, number};
    lab_row(sh, nvme_columns, cells);
}

static void nvme_table(struct shell *sh, const struct nvme_read_steps *s)
{
    const uint64_t at[] = {s->written,   s->doorbell, s->data, s->answer,
                           s->interrupt, s->reaped,   s->woken};
    uint64_t c[7];

    for (unsigned i = 0; i < 7; i++) {
        c[i] = at[i] - s->submitted;
    }
    lab_table(sh, nvme_columns);
    nvme_row(sh, "1", "the command is written into the submission queue", "CPU", c[0], 0);
    nvme_row(sh, "2", "the tail doorbell is rung", "CPU", c[1], c[0]);
    nvme_row(sh, "3", "the command is fetched (no CPU can see it)", "device", 0, 0);
    nvme_row(sh, "4", "the data has come by DMA", "device", c[2], c[1]);
    nvme_row(sh, "5", "the answer stands in the completion queue", "device", c[3], c[2]);
    nvme_row(sh, "6", "the queue's message interrupts", "CPU", c[4], c[3]);
    nvme_row(sh, "7", "the answer is taken, the head doorbell rung", "CPU", c[5], c[4]);
    nvme_row(sh, "", "the reader runs again", "CPU", c[6], c[5]);
}

static int lab_nvme_read(struct shell *sh, int argc, char **argv)
{
    struct nvme_read_steps steps;

    if (argc > 2) {
        return shell_usage(sh, "one disk is enough");
    }
    for (unsigned i = 0; i < 3; i++) { // the first ones warm the caches
        int error = nvme_watch_read(argc == 2 ? argv[1] : "", &steps);
        if (error == -ENODEV) {
            return shell_error(sh, "no %s (lsblk lists the disks; QEMU: -device nvme,drive=...)",
                               argc == 2 ? argv[1] : "NVMe disk");
        }
        if (error == -ENODATA) {
            return shell_error(sh, "the disk answers, but writes no data that could be seen coming "
                                   "(QEMU's null-co does with read-zeroes=on)");
        }
        if (error != 0) {
            return shell_error(sh, "the read: %s", strerror(error));
        }
    }
    shell_printf(sh, "4 KiB, queue %u, CPU %u with its interrupts off until step 5\n", steps.queue,
                 steps.cpu);
    nvme_table(sh, &steps);
    return 0;
}
LAB("nvme-read", lab_nvme_read, "[DISK]", "the seven steps of one read from an NVMe disk");
