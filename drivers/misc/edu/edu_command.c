// /proc/driver/edu: what QEMU's edu device is and counted, and what a person can ask of it.
//
//   echo raise N          N interrupts, one after the other, each waited for
//   echo factorial N      has the device compute N! and interrupt when it is done
//   echo copy N           N bytes into the device and back by DMA, compared; through memory that both
//                         may always touch
//   echo stream N         the same through memory that happens to be free, lent for each way: where
//                         the device, which reaches 256 MiB, does not reach it, by a copy
//   echo engines          one interrupt of each engine
//   echo storm            raises the wire and stops answering for it: every handler says IRQ_NONE
//   echo calm             acknowledges; the wire falls, and the handler is the right one again
//   echo fault NAME       drives it with one mistake (edu_fault.c; cat /proc/driver/edu_faults)
//   echo tally N          N interrupts, handler and thread adding to one number; says what is lost
//   echo leave KIND       leaves something behind for the next unbind to find
//
// Where there are several, a number before it says which, from 0 in the order above: echo 1 storm.
//
// A storm is what a broken device or a driver's mistake looks like from the CPU: the level stays
// up, the CPU takes the same interrupt again after every EOI, and only the detector in
// kernel/irq/spurious.c ends it. Messages (MSI) cannot storm like that: they are edges.
//
// Context: thread.
#include "edu.h"

#include <lib/errno.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/log.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <pci/pci.h>
#include <misc/edu.h>

enum { EDU_MAX_RAISE = 10000000, EDU_MAX_TALLY = 100000, EDU_ANYWHERE_MAX = 64 };

// ---- the device's work --------------------------------------------------------------------------

// Waits for what the last write asked for.
static int edu_wait(struct edu *edu)
{
    return wait_for_completion_timeout(&edu->done, EDU_PATIENCE) != 0 ? 0 : -ETIMEDOUT;
}

static int edu_raise_one(struct edu *edu, uint32_t causes)
{
    reinit_completion(&edu->done);
    edu_wr(edu, EDU_IRQ_RAISE, causes);
    return edu_wait(edu);
}

static int edu_factorial(struct edu *edu, uint32_t n)
{
    reinit_completion(&edu->done);
    edu_wr(edu, EDU_STATUS, EDU_STATUS_IRQ);
    edu_wr(edu, EDU_FACTORIAL, n);
    int error = edu_wait(edu);
    edu_wr(edu, EDU_STATUS, 0);
    if (error == 0) {
        dev_info(&edu->pci->dev, "%u! is %u modulo 2^32", n, edu_rd(edu, EDU_FACTORIAL));
    }
    return error;
}

static int edu_transfer(struct edu *edu, uint64_t source, uint64_t destination, uint32_t size,
                        uint32_t direction)
{
    reinit_completion(&edu->done);
    edu_wr(edu, EDU_DMA_SOURCE, (uint32_t)source);
    edu_wr(edu, EDU_DMA_DESTINATION, (uint32_t)destination);
    edu_wr(edu, EDU_DMA_COUNT, size);
    dma_publish();
    edu_wr(edu, EDU_DMA_COMMAND, EDU_DMA_START | EDU_DMA_IRQ | direction);
    int error = edu_wait(edu);
    dma_observe();
    return error;
}

static uint8_t edu_pattern(uint32_t at)
{
    return (uint8_t)(at * 7 + 3);
}

static int edu_copy(struct edu *edu, uint32_t size)
{
    uint8_t *buffer = edu->buffer;

    if (size == 0 || size > EDU_COPY_MAX || buffer == NULL) {
        return buffer == NULL ? -ENOMEM : -ERANGE;
    }
    for (uint32_t i = 0; i < size; i++) {
        buffer[i] = edu_pattern(i);
    }
    int error = edu_transfer(edu, edu->buffer_bus.value, EDU_BUFFER, size, 0);
    if (error != 0) {
        return error;
    }
    memset(buffer, 0, size);
    error = edu_transfer(edu, EDU_BUFFER, edu->buffer_bus.value, size, EDU_DMA_TO_US);
    for (uint32_t i = 0; i < size && error == 0; i++) {
        error = buffer[i] == edu_pattern(i) ? 0 : -EIO;
    }
    return error;
}

// One way of a streamed buffer: lent, moved, taken back.
static int edu_stream_one(struct edu *edu, uint8_t *buffer, uint32_t size, bool out)
{
    struct device *dev = &edu->pci->dev;
    enum dma_data_direction direction = out ? DMA_TO_DEVICE : DMA_FROM_DEVICE;
    dma_addr_t bus = dma_map_single(dev, buffer, size, direction);

    if (dma_mapping_error(dev, bus)) {
        return -ENOMEM;
    }
    int error = out ? edu_transfer(edu, bus.value, EDU_BUFFER, size, 0)
                    : edu_transfer(edu, EDU_BUFFER, bus.value, size, EDU_DMA_TO_US);
    dma_unmap_single(dev, bus, size, direction);
    return error;
}

static int edu_stream(struct edu *edu, uint32_t size)
{
    if (size == 0 || size > EDU_COPY_MAX) {
        return -ERANGE;
    }
    uint8_t *buffer = kmalloc(size, GFP_KERNEL);
    if (buffer == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < size; i++) {
        buffer[i] = edu_pattern(i);
    }
    dev_info(&edu->pci->dev, "streams %u bytes at %#llx", size,
             (unsigned long long)virt_to_phys(buffer));
    int error = edu_stream_one(edu, buffer, size, true);
    memset(buffer, 0, size);
    error = error != 0 ? error : edu_stream_one(edu, buffer, size, false);
    for (uint32_t i = 0; i < size && error == 0; i++) {
        error = buffer[i] == edu_pattern(i) ? 0 : -EIO;
    }
    kfree(buffer);
    return error;
}

static int edu_engines(struct edu *edu)
{
    int error = edu_factorial(edu, 5);

    error = error != 0 ? error : edu_copy(edu, 64);
    error = error != 0 ? error : edu_raise_one(edu, EDU_CAUSE_RAISE);
    if (error == 0) {
        edu_wr(edu, EDU_IRQ_RAISE, EDU_CAUSE_FAULT); // nobody waits for bad news
    }
    return error;
}

// ---- commands -----------------------------------------------------------------------------------

// One step of a command with the device to itself; false when the device has gone meanwhile.
static bool edu_lock(struct edu *edu)
{
    mutex_lock(&edu->command);
    if (edu->gone) {
        mutex_unlock(&edu->command);
        return false;
    }
    return true;
}

// Lets go of the device between two interrupts, so that `driver unbind` need not wait for all.
static int edu_raise(struct edu *edu, uint32_t count, uint32_t causes)
{
    int error = count == 0 || count > EDU_MAX_RAISE ? -ERANGE : 0;

    for (uint32_t i = 0; i < count && error == 0; i++) {
        if (!edu_lock(edu)) {
            return -ENODEV;
        }
        error = edu_raise_one(edu, causes);
        mutex_unlock(&edu->command);
    }
    return error;
}

static int edu_storm(struct edu *edu)
{
    int error = edu_fault_set(edu, "dead");

    if (error == 0) {
        edu_wr(edu, EDU_IRQ_RAISE, EDU_CAUSE_RAISE);
    }
    return error;
}

static int edu_calm(struct edu *edu)
{
    edu_wr(edu, EDU_IRQ_ACK, UINT32_MAX);
    return edu_fault_set(edu, "none");
}

static int edu_show_tally(struct edu *edu, uint32_t count)
{
    if (count == 0 || count > EDU_MAX_TALLY) {
        return -ERANGE;
    }
    dev_info(&edu->pci->dev, "tally (%s): %llu additions were lost", edu_fault_name(edu),
             (unsigned long long)edu_tally_run(edu, count));
    return 0;
}

// Those that need the device for one step only.
static int edu_step(struct edu *edu, const char *word, const char *rest)
{
    uint32_t number = 0;
    bool is_number = kstrtou32(rest, 10, &number) == 0;

    if (strcmp(word, "storm") == 0) {
        return edu_storm(edu);
    }
    if (strcmp(word, "calm") == 0) {
        return edu_calm(edu);
    }
    if (strcmp(word, "engines") == 0) {
        return edu_engines(edu);
    }
    if (strcmp(word, "factorial") == 0 && is_number) {
        return edu_factorial(edu, number);
    }
    if (strcmp(word, "copy") == 0 && is_number) {
        return edu_copy(edu, number);
    }
    if (strcmp(word, "stream") == 0 && is_number) {
        return edu_stream(edu, number);
    }
    if (strcmp(word, "tally") == 0 && is_number) {
        return edu_show_tally(edu, number);
    }
    if (strcmp(word, "fault") == 0) {
        return edu_fault_set(edu, rest);
    }
    return strcmp(word, "leave") == 0 ? edu_mess_leave(edu, rest) : -EINVAL;
}

static int edu_command(struct edu *edu, const char *line)
{
    size_t length = strcspn(line, " ");
    const char *rest = line[length] == ' ' ? line + length + 1 : "";
    char word[16];
    uint32_t number;

    if (length >= sizeof(word)) {
        return -EINVAL;
    }
    memcpy(word, line, length);
    word[length] = '\0';
    bool is_number = kstrtou32(rest, 10, &number) == 0;
    if (strcmp(word, "raise") == 0) {
        return is_number ? edu_raise(edu, number, EDU_CAUSE_RAISE) : -EINVAL;
    }
    if (!edu_lock(edu)) {
        return -ENODEV;
    }
    int error = edu_step(edu, word, rest);
    mutex_unlock(&edu->command);
    return error;
}

// ---- /proc/driver/edu ---------------------------------------------------------------------------

static void edu_show(struct text *t, unsigned long index)
{
    struct edu *edu;

    (void)index;
    mutex_lock(&edu_mutex);
    list_for_each_entry (edu, &edu_list, link) {
        uint32_t id = edu_rd(edu, EDU_ID);

        text_printf(t, "%s: version %u.%u, %s irq %d, interrupts %llu, not ours %llu, status 0x%x",
                    edu->pci->dev.name, id >> 24, id >> 16 & 0xff, pci_irq_type_name(edu->pci),
                    edu_irq(edu), (unsigned long long)edu->interrupts,
                    (unsigned long long)edu->foreign, edu_rd(edu, EDU_IRQ_STATUS));
        if (edu->mistake != NULL) {
            text_printf(t, ", driven by mistake: %s", edu_fault_name(edu));
        }
        text_printf(
            t, "\n  engines: compute %llu, copy %llu, raise %llu, fault %llu; ",
            (unsigned long long)edu->events[EDU_COMPUTE], (unsigned long long)edu->events[EDU_COPY],
            (unsigned long long)edu->events[EDU_RAISE], (unsigned long long)edu->events[EDU_FAULT]);
        text_printf(t, "heartbeats %u, missed %u; references %u\n", READ_ONCE(edu->beats),
                    READ_ONCE(edu->missed_beats), kref_read(&edu->ref));
    }
    mutex_unlock(&edu_mutex);
}

// One of them, with a reference: it cannot be freed before we let go.
static struct edu *edu_get(uint32_t index)
{
    struct edu *edu, *found = NULL;

    mutex_lock(&edu_mutex);
    list_for_each_entry (edu, &edu_list, link) {
        if (index-- == 0) {
            kref_get(&edu->ref);
            found = edu;
            break;
        }
    }
    mutex_unlock(&edu_mutex);
    return found;
}

// ---- what no driver should do -------------------------------------------------------------------

struct device *edu_find_device(void)
{
    struct edu *edu = edu_get(0);
    if (edu == NULL) {
        return NULL;
    }
    struct device *dev = &edu->pci->dev; // the device stays, whatever becomes of its driver
    kref_put(&edu->ref, edu_release);
    return dev;
}

// Into the device from our own buffer, as it should be; and out to the address.
static int edu_write_out(struct edu *edu, uint64_t bus, const void *bytes, uint32_t size)
{
    if (edu->buffer == NULL) {
        return -ENOMEM;
    }
    memcpy(edu->buffer, bytes, size);
    int error = edu_transfer(edu, edu->buffer_bus.value, EDU_BUFFER, size, 0);
    return error != 0 ? error : edu_transfer(edu, EDU_BUFFER, bus, size, EDU_DMA_TO_US);
}

int edu_write_anywhere(uint64_t bus, const void *bytes, uint32_t size)
{
    struct edu *edu = edu_get(0);
    int error = -ENODEV;

    if (edu == NULL) {
        return error;
    }
    if (size == 0 || size > EDU_ANYWHERE_MAX || bus + size - 1 > UINT32_MAX) {
        error = -ERANGE;
    } else if (edu_lock(edu)) {
        error = edu_write_out(edu, bus, bytes, size);
        mutex_unlock(&edu->command);
    }
    kref_put(&edu->ref, edu_release);
    return error;
}

static int edu_write(const char *line, unsigned long index)
{
    bool numbered = line[0] >= '0' && line[0] <= '9' && line[1] == ' ';
    struct edu *edu = edu_get(numbered ? (uint32_t)(line[0] - '0') : 0);

    (void)index;
    line += numbered ? 2 : 0;
    if (edu == NULL) {
        return -ENODEV;
    }
    int error = edu_command(edu, line);
    kref_put(&edu->ref, edu_release);
    return error;
}

PROC_FILE_RW("driver/edu", edu_show, edu_write);
