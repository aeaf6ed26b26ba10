// What the NVMe driver shows of itself beyond a disk: one read, step by step.
#pragma once

#include <lib/types.h>

// Time stamps of one read, in the order in which its steps come. What the device does between the
// doorbell and the data, fetching the command, leaves no trace that a CPU could see.
struct nvme_read_steps {
    unsigned queue, cpu;
    uint64_t submitted; // the reader asks the block layer
    uint64_t written;   // 1 the command stands in the submission queue
    uint64_t doorbell;  // 2 the tail doorbell is rung; then 3: the device fetches the command
    uint64_t data;      // 4 the last word of the data has come by DMA
    uint64_t answer;    // 5 the answer stands in the completion queue
    uint64_t interrupt; // 6 the message's handler
    uint64_t reaped;    // 7 the answer is taken, the head doorbell rung
    uint64_t woken;     // the reader runs again
};

// Reads 4 KiB of the disk ("" for any NVMe disk) while this CPU, its interrupts off, watches the
// memory that the device writes. 0, -ENODEV (no such NVMe disk), -ENOMEM, -EIO, -ETIMEDOUT (the
// steps did not come within a second), -ENODATA (the device answered, but wrote nothing into the
// memory). Context: thread; one at a time.
int nvme_watch_read(const char *disk, struct nvme_read_steps *steps);
