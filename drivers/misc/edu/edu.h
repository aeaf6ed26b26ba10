// QEMU's edu device: what its files know of each other.
//
//   edu.c           probe, top half, bottom halves, remove          │ hard irq; softirq; thread
//   edu_command.c   /proc/driver/edu: what a person can ask of it   │ thread
//   edu_fault.c     the same driver with one mistake at a time      │ hard irq; thread
#pragma once

#include <lib/list.h>
#include <contract/device.h>
#include <core/clock.h>
#include <core/io.h>
#include <core/kref.h>
#include <irq/irq.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <defer/tasklet.h>
#include <defer/timer.h>
#include <defer/work.h>
#include <dma/dma.h>
#include <misc/edu_regs.h>

struct pci_dev;
struct edu_mistake;
struct edu_mess;

// What the device's causes mean to this driver: as if each were a part of its own, as on a graphics
// card.
enum edu_engine {
    EDU_COMPUTE, // factorials
    EDU_COPY,    // transfers
    EDU_RAISE,   // an interrupt for its own sake
    EDU_FAULT,   // "something went wrong in there": wants a thread
    EDU_ENGINES,
};
#define EDU_CAUSE_RAISE BIT(16)
#define EDU_CAUSE_FAULT BIT(17)

enum { EDU_PATIENCE = 2 * HZ };

struct edu {
    struct kref ref;              // its list's, and one for each command under way
    struct pci_dev *pci;          // I
    volatile void __iomem *regs;  // I: mapped until `gone`
    struct list_head link;        // L of edu_mutex
    struct mutex command;         // one at a time speaks to the device
    bool gone;                    // L of command: the device is no longer ours
    uint32_t causes;              // A: from the handler to the tasklet
    uint64_t interrupts, foreign; // H: ours, and calls that were not for us
    uint64_t events[EDU_ENGINES]; // A: taken by the bottom half
    struct completion done;       // an engine's work, or a raised interrupt
    struct tasklet_struct tasklet;
    struct work_struct fault_work;
    struct timer_list heartbeat;
    uint32_t beats, missed_beats;      // C of the timer
    void *buffer;                      // I: one page within its reach; NULL: there was none
    dma_addr_t buffer_bus;             // I
    const struct edu_mistake *mistake; // L of command: NULL: none, it is driven as it should be
    struct edu_mess *mess;             // L of command: what a demonstration leaves lying about
};

extern struct mutex edu_mutex; // the list
extern struct list_head edu_list;

static inline uint32_t edu_rd(const struct edu *edu, enum edu_register reg)
{
    return readl((const volatile uint8_t __iomem *)edu->regs + reg);
}

static inline void edu_wr(struct edu *edu, enum edu_register reg, uint32_t value)
{
    writel(value, (volatile uint8_t __iomem *)edu->regs + reg);
}

void edu_release(struct kref *ref);
irqreturn_t edu_interrupt(int irq, void *dev_id); // the handler as it should be
int edu_irq(const struct edu *edu);
// What a handler has taken goes to the bottom half. Context: hard irq.
void edu_pass_on(struct edu *edu, uint32_t causes);

// edu_fault.c. Replaces the handler by one with this mistake ("none": by the right one). 0, -EINVAL
// (no such mistake) or what request_irq says. Context: thread, edu->command held.
int edu_fault_set(struct edu *edu, const char *name);
const char *edu_fault_name(const struct edu *edu);
// `count` interrupts whose handler and this thread add to one number; how many additions were lost.
// Only with the faults "unlocked" and "locked".
uint64_t edu_tally_run(struct edu *edu, uint32_t count);
// Leaves something behind for the next unbind to find: "irq", "timer", "hrtimer",
// "tasklet", "work", "dma".
int edu_mess_leave(struct edu *edu, const char *kind);
