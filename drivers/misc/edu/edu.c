// QEMU's edu device: an interrupt on demand. The second party on a shared wire, a storm at will,
// and the smallest driver of this kernel that has all its parts.
//
//   edu_interrupt   top half: what is it? ours; acknowledge; note it; ask for the rest; return
//         │ causes (atomic or)                                      hard interrupt, < 1 us
//   edu_tasklet     bottom half: takes all that was noted at once   softirq
//         │ done            │ fault_work
//   the command that waits  edu_fault_work: may sleep               thread
//
// The device computes factorials, copies memory and raises interrupts for their own sake; a cause
// bit tells which. One interrupt for several engines is what a graphics card has too: the handler
// does not care, the bottom half sorts.
//
// Who may hold a pointer to struct edu: the list and each command under way count as one reference
// each. A command that is slower than `driver unbind` finds `gone` when it gets its turn, touches
// nothing and lets go; the last one frees. The order of edu_remove is told in
// drivers/pci/pci_leak.c.
//
// QEMU, docs/specs/edu.rst. Context: probe, remove: thread; edu_interrupt: hard irq. Previous:
// kernel/irq/flow.c. Next: kernel/defer/tasklet.c.
#include "edu.h"

#include <lib/errno.h>
#include <core/clock.h>
#include <core/log.h>
#include <mm/slab.h>
#include <pci/pci.h>

enum { EDU_BAR = 0, EDU_BAR_SIZE = 0x100 };

DEFINE_MUTEX(edu_mutex);
LIST_HEAD(edu_list);

int edu_irq(const struct edu *edu)
{
    return pci_irq_vector(edu->pci, 0);
}

// ---- top half -----------------------------------------------------------------------------------

// The order of the two lines is the driver's half of a bargain with the bottom half, which takes
// the causes first and looks afterwards: nothing is lost between them.
void edu_pass_on(struct edu *edu, uint32_t causes)
{
    __atomic_fetch_or(&edu->causes, causes, __ATOMIC_RELEASE);
    tasklet_schedule(&edu->tasklet);
}

irqreturn_t edu_interrupt(int irq, void *dev_id)
{
    (void)irq;
    struct edu *edu = dev_id;
    uint32_t causes = edu_rd(edu, EDU_IRQ_STATUS);

    if (causes == 0 || causes == UINT32_MAX) { // somebody else's on this wire; or it is gone
        edu->foreign++;
        return IRQ_NONE;
    }
    edu_wr(edu, EDU_IRQ_ACK, causes); // those that were seen and no others
    edu->interrupts++;
    edu_pass_on(edu, causes);
    return IRQ_HANDLED;
}

// ---- bottom halves ------------------------------------------------------------------------------

static void edu_tasklet(struct tasklet_struct *t)
{
    struct edu *edu = container_of(t, struct edu, tasklet);
    uint32_t causes = __atomic_exchange_n(&edu->causes, 0, __ATOMIC_ACQUIRE);
    static const uint32_t engines[EDU_ENGINES] = {
        [EDU_COMPUTE] = EDU_CAUSE_COMPUTE,
        [EDU_COPY] = EDU_CAUSE_COPY,
        [EDU_RAISE] = EDU_CAUSE_RAISE,
        [EDU_FAULT] = EDU_CAUSE_FAULT,
    };

    for (unsigned i = 0; i < EDU_ENGINES; i++) {
        edu->events[i] += (causes & engines[i]) != 0;
    }
    if (causes & EDU_CAUSE_FAULT) {
        schedule_work(&edu->fault_work);
    }
    if (causes & ~EDU_CAUSE_FAULT) {
        complete(&edu->done);
    }
}

static void edu_fault_work(struct work_struct *work)
{
    struct edu *edu = container_of(work, struct edu, fault_work);

    dev_info(&edu->pci->dev, "its fault engine has reported %llu faults",
             (unsigned long long)edu->events[EDU_FAULT]);
}

// Once a second: is anybody there? It answers with the inverse of what it is told.
static void edu_heartbeat(struct timer_list *timer)
{
    struct edu *edu = container_of(timer, struct edu, heartbeat);
    uint32_t question = ++edu->beats;

    edu_wr(edu, EDU_LIVENESS, question);
    if (edu_rd(edu, EDU_LIVENESS) != ~question && edu->missed_beats++ == 0) {
        dev_warn(&edu->pci->dev, "does not answer any more");
    }
    mod_timer(timer, jiffies + HZ);
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

void edu_release(struct kref *ref)
{
    kfree(container_of(ref, struct edu, ref));
}

static struct edu *edu_make(struct pci_dev *dev)
{
    struct edu *edu = kzalloc(sizeof(*edu), GFP_KERNEL);

    if (edu == NULL) {
        return NULL;
    }
    kref_init(&edu->ref);
    edu->pci = dev;
    mutex_init(&edu->command, "edu");
    init_completion(&edu->done);
    tasklet_setup(&edu->tasklet, edu_tasklet, "edu");
    INIT_WORK(&edu->fault_work, edu_fault_work);
    timer_setup(&edu->heartbeat, edu_heartbeat, 0);
    return edu;
}

// Its reach ends at 256 MiB: where no page is left below, it copies nothing.
static void edu_get_buffer(struct edu *edu)
{
    struct device *dev = &edu->pci->dev;

    if (dma_set_mask(dev, DMA_BIT_MASK(EDU_DMA_BITS)) == 0) {
        edu->buffer = dma_alloc_coherent(dev, EDU_BUFFER_SIZE, &edu->buffer_bus);
    }
    if (edu->buffer == NULL) {
        dev_warn(dev, "no memory below 256 MiB is left: it will not copy");
    }
}

static int edu_probe(struct pci_dev *dev, const struct pci_device_id *id)
{
    (void)id;
    // 1. its state
    struct edu *edu = edu_make(dev);
    if (edu == NULL) {
        return -ENOMEM;
    }
    // 2. its registers
    int error = pci_enable_device(dev);
    if (error != 0) {
        goto free_state;
    }
    edu->regs = pci_map_bar(dev, EDU_BAR, EDU_BAR_SIZE, dev->dev.driver);
    if (edu->regs == NULL) {
        error = -ENODEV;
        goto disable;
    }
    // 3. is it one? And quiet
    error = edu_check(edu);
    if (error != 0) {
        goto unmap;
    }
    // 4. its interrupt. Its wire is what it is for; `irq mode` gives it a message
    error = pci_alloc_irq_vectors(
        dev, 1, 1, dev->irq_types == 0 ? PCI_IRQ_INTX | PCI_IRQ_POLL : PCI_IRQ_ALL_TYPES);
    if (error < 0) {
        goto unmap;
    }
    error = request_irq((unsigned)edu_irq(edu), edu_interrupt, IRQF_SHARED, "edu", edu);
    if (error != 0) {
        goto free_vectors;
    }
    // 5. memory, and leave to write to it: messages are writes too
    edu_get_buffer(edu);
    pci_set_drvdata(dev, edu);
    pci_set_master(dev);
    // 6. people may find it
    mod_timer(&edu->heartbeat, jiffies + HZ);
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
    kref_put(&edu->ref, edu_release);
    return error;
}

static void edu_remove(struct pci_dev *dev)
{
    struct edu *edu = pci_get_drvdata(dev);

    // 1. nobody finds it any more, and a command that has found it comes too late
    mutex_lock(&edu_mutex);
    list_del(&edu->link);
    mutex_unlock(&edu_mutex);
    mutex_lock(&edu->command);
    edu->gone = true;
    // 2. no interrupt: the device is quiet, and its handler comes to an end
    edu_wr(edu, EDU_STATUS, 0);
    edu_wr(edu, EDU_IRQ_ACK, UINT32_MAX);
    free_irq((unsigned)edu_irq(edu), edu);
    // 3. what handler and timer asked for: in the order in which they ask for one another
    del_timer_sync(&edu->heartbeat);
    tasklet_kill(&edu->tasklet);
    cancel_work_sync(&edu->fault_work);
    // 4. no DMA
    pci_clear_master(dev);
    if (edu->buffer != NULL) {
        dma_free_coherent(&dev->dev, EDU_BUFFER_SIZE, edu->buffer, edu->buffer_bus);
    }
    // 5. the rest, in the reverse order of the probe
    pci_free_irq_vectors(dev);
    pci_unmap_bar(dev, EDU_BAR);
    pci_disable_device(dev);
    pci_set_drvdata(dev, NULL);
    mutex_unlock(&edu->command);
    // 6. the memory goes with the last who has a pointer to it
    kfree(edu->mess);
    kref_put(&edu->ref, edu_release);
}

static void edu_irq_state(struct pci_dev *dev, struct pci_irq_state *state)
{
    struct edu *edu = pci_get_drvdata(dev);

    *state = (struct pci_irq_state){.cause = edu_rd(edu, EDU_IRQ_STATUS),
                                    .enabled = UINT32_MAX, // it has no mask
                                    .cause_name = "IRQ status",
                                    .enabled_name = "mask (none)"};
}

// Nothing to remember: edu_irq() asks each time.
static void edu_irq_changed(struct pci_dev *dev, int irq)
{
    (void)dev;
    (void)irq;
}

static const struct pci_device_id edu_ids[] = {
    {.vendor = EDU_VENDOR, .device = EDU_DEVICE},
    {.vendor = 0},
};

PCI_DRIVER(edu_driver)
= {.name = "edu",
   .ids = edu_ids,
   .probe = edu_probe,
   .remove = edu_remove,
   .irq_state = edu_irq_state,
   .irq_changed = edu_irq_changed};
