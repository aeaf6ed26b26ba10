// QEMU's edu device: an interrupt on demand. The second party on a shared wire, a storm at will,
// and the smallest complete driver of this kernel.
//
//   /proc/driver/edu      what it is and what it counted
//   echo raise N          N interrupts, one after the other, each waited for
//   echo storm            raises the wire and stops answering for it: every handler says IRQ_NONE
//   echo calm             acknowledges; the wire falls
//   echo factorial N      has the device compute N! and interrupt when it is done
//
// A storm is what a broken device or a driver's mistake looks like from the CPU: the level stays
// up, the CPU takes the same interrupt again after every EOI, and only the detector in
// kernel/irq/spurious.c ends it. Messages (MSI) cannot storm like that: they are edges.
//
// QEMU, docs/specs/edu.rst. Context: probe, remove, write: thread; edu_interrupt: hard irq.
// Previous: kernel/irq/flow.c.
#include <lib/errno.h>
#include <lib/list.h>
#include <lib/parse.h>
#include <lib/string.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/io.h>
#include <core/log.h>
#include <mm/slab.h>
#include <irq/irq.h>
#include <sched/completion.h>
#include <sched/mutex.h>
#include <pci/pci.h>
#include "edu_regs.h"

enum { EDU_BAR = 0, EDU_BAR_SIZE = 0x100, EDU_PATIENCE = 2 * HZ, EDU_MAX_RAISE = 1000000 };

#define EDU_CAUSE_RAISED BIT(8)

struct edu {
    struct pci_dev *pci;          // I
    volatile void __iomem *regs;  // I
    struct list_head link;        // L of edu_mutex
    bool storming;                // A: edu_interrupt plays dead
    uint64_t interrupts, foreign; // H: ours, and calls that were not for us
    struct completion arrived;
};

static DEFINE_MUTEX(edu_mutex); // the list, and one command at a time
static LIST_HEAD(edu_list);

static uint32_t edu_rd(const struct edu *edu, enum edu_register reg)
{
    return readl((const volatile uint8_t __iomem *)edu->regs + reg);
}

static void edu_wr(struct edu *edu, enum edu_register reg, uint32_t value)
{
    writel(value, (volatile uint8_t __iomem *)edu->regs + reg);
}

// ---- top half -----------------------------------------------------------------------------------

static irqreturn_t edu_interrupt(int irq, void *dev_id)
{
    (void)irq;
    struct edu *edu = dev_id;
    uint32_t cause = edu_rd(edu, EDU_IRQ_STATUS);

    if (cause == 0 || cause == UINT32_MAX || READ_ONCE(edu->storming)) {
        edu->foreign++;
        return IRQ_NONE;
    }
    edu_wr(edu, EDU_IRQ_ACK, cause); // acknowledge, then look
    edu->interrupts++;
    complete(&edu->arrived);
    return IRQ_HANDLED;
}

// ---- commands -----------------------------------------------------------------------------------

// Waits for the interrupt that the last write asked for.
static int edu_wait(struct edu *edu)
{
    return wait_for_completion_timeout(&edu->arrived, EDU_PATIENCE) != 0 ? 0 : -ETIMEDOUT;
}

static int edu_raise(struct edu *edu, uint32_t count)
{
    if (count == 0 || count > EDU_MAX_RAISE) {
        return -ERANGE;
    }
    for (uint32_t i = 0; i < count; i++) {
        reinit_completion(&edu->arrived);
        edu_wr(edu, EDU_IRQ_RAISE, EDU_CAUSE_RAISED);
        int error = edu_wait(edu);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

static int edu_factorial(struct edu *edu, uint32_t n)
{
    reinit_completion(&edu->arrived);
    edu_wr(edu, EDU_STATUS, EDU_STATUS_IRQ);
    edu_wr(edu, EDU_FACTORIAL, n);
    int error = edu_wait(edu);
    edu_wr(edu, EDU_STATUS, 0);
    if (error == 0) {
        dev_info(&edu->pci->dev, "%u! is %u modulo 2^32", n, edu_rd(edu, EDU_FACTORIAL));
    }
    return error;
}

static void edu_storm(struct edu *edu, bool on)
{
    WRITE_ONCE(edu->storming, on);
    if (on) {
        edu_wr(edu, EDU_IRQ_RAISE, EDU_CAUSE_RAISED);
    } else {
        edu_wr(edu, EDU_IRQ_ACK, UINT32_MAX);
    }
}

static int edu_command(struct edu *edu, const char *line)
{
    uint32_t number;

    if (strcmp(line, "storm") == 0 || strcmp(line, "calm") == 0) {
        edu_storm(edu, line[0] == 's');
        return 0;
    }
    if (str_starts(line, "raise ") && kstrtou32(line + 6, 10, &number) == 0) {
        return edu_raise(edu, number);
    }
    if (str_starts(line, "factorial ") && kstrtou32(line + 10, 10, &number) == 0) {
        return edu_factorial(edu, number);
    }
    return -EINVAL;
}

// ---- attach and detach --------------------------------------------------------------------------

static int edu_check(struct edu *edu)
{
    uint32_t id = edu_rd(edu, EDU_ID);

    edu_wr(edu, EDU_LIVENESS, 0x12345678);
    if ((id & EDU_ID_MASK) != EDU_ID_VALUE || edu_rd(edu, EDU_LIVENESS) != ~0x12345678u) {
        dev_err(&edu->pci->dev, "does not behave like one: id 0x%08x", id);
        return -ENODEV;
    }
    edu_wr(edu, EDU_STATUS, 0);
    edu_wr(edu, EDU_IRQ_ACK, UINT32_MAX);
    return 0;
}

static int edu_probe(struct pci_dev *dev, const struct pci_device_id *id)
{
    (void)id;
    struct edu *edu = kzalloc(sizeof(*edu), GFP_KERNEL);
    if (edu == NULL) {
        return -ENOMEM;
    }
    edu->pci = dev;
    init_completion(&edu->arrived);
    int error = pci_enable_device(dev);
    if (error != 0) {
        goto free_state;
    }
    edu->regs = pci_map_bar(dev, EDU_BAR, EDU_BAR_SIZE, dev->dev.driver);
    if (edu->regs == NULL) {
        error = -ENODEV;
        goto disable;
    }
    error = edu_check(edu);
    if (error != 0) {
        goto unmap;
    }
    // Its wire is what it is for; `irq mode` gives it a message.
    error = pci_alloc_irq_vectors(
        dev, 1, 1, dev->irq_types == 0 ? PCI_IRQ_INTX | PCI_IRQ_POLL : PCI_IRQ_ALL_TYPES);
    if (error < 0) {
        goto unmap;
    }
    error = request_irq((unsigned)pci_irq_vector(dev, 0), edu_interrupt, IRQF_SHARED, "edu", edu);
    if (error != 0) {
        goto free_vectors;
    }
    pci_set_drvdata(dev, edu);
    pci_set_master(dev); // messages are writes
    mutex_lock(&edu_mutex);
    list_add_tail(&edu->link, &edu_list);
    mutex_unlock(&edu_mutex);
    return 0;

free_vectors:
    pci_free_irq_vectors(dev);
unmap:
    pci_unmap_bar(dev, EDU_BAR);
disable:
    pci_disable_device(dev);
free_state:
    kfree(edu);
    return error;
}

static void edu_remove(struct pci_dev *dev)
{
    struct edu *edu = pci_get_drvdata(dev);

    mutex_lock(&edu_mutex); // no command is under way, none will find it
    list_del(&edu->link);
    mutex_unlock(&edu_mutex);
    edu_wr(edu, EDU_STATUS, 0);
    edu_wr(edu, EDU_IRQ_ACK, UINT32_MAX);
    free_irq((unsigned)pci_irq_vector(dev, 0), edu);
    pci_free_irq_vectors(dev);
    pci_clear_master(dev);
    pci_unmap_bar(dev, EDU_BAR);
    pci_disable_device(dev);
    kfree(edu);
}

static void edu_irq_state(struct pci_dev *dev, struct pci_irq_state *state)
{
    struct edu *edu = pci_get_drvdata(dev);

    *state = (struct pci_irq_state){.cause = edu_rd(edu, EDU_IRQ_STATUS),
                                    .enabled = UINT32_MAX, // it has no mask
                                    .cause_name = "IRQ status",
                                    .enabled_name = "mask (none)"};
}

// ---- /proc/driver/edu ---------------------------------------------------------------------------

static void edu_show(struct text *t, unsigned long index)
{
    struct edu *edu;

    (void)index;
    mutex_lock(&edu_mutex);
    list_for_each_entry (edu, &edu_list, link) {
        uint32_t id = edu_rd(edu, EDU_ID);

        text_printf(t,
                    "%s: version %u.%u, %s irq %d, interrupts %llu, not ours %llu, status 0x%x%s\n",
                    edu->pci->dev.name, id >> 24, id >> 16 & 0xff, pci_irq_type_name(edu->pci),
                    pci_irq_vector(edu->pci, 0), (unsigned long long)edu->interrupts,
                    (unsigned long long)edu->foreign, edu_rd(edu, EDU_IRQ_STATUS),
                    READ_ONCE(edu->storming) ? ", storming" : "");
    }
    mutex_unlock(&edu_mutex);
}

// To the first one: there is hardly ever a second.
static int edu_write(const char *line, unsigned long index)
{
    int error = -ENODEV;

    (void)index;
    mutex_lock(&edu_mutex);
    if (!list_empty(&edu_list)) {
        error = edu_command(list_first_entry(&edu_list, struct edu, link), line);
    }
    mutex_unlock(&edu_mutex);
    return error;
}

PROC_FILE_RW("driver/edu", edu_show, edu_write);

static const struct pci_device_id edu_ids[] = {
    {.vendor = 0x1234, .device = 0x11e8},
    {.vendor = 0},
};

PCI_DRIVER(edu_driver)
= {.name = "edu",
   .ids = edu_ids,
   .probe = edu_probe,
   .remove = edu_remove,
   .irq_state = edu_irq_state};
