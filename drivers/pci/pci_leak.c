// What a driver forgot when it was taken from its device, found before it does harm.
//
// A driver leaves in an order:
//
//   1 no new work      out of every list, so that nobody finds it        unregister, list_del
//   2 no interrupt     the device is told to be quiet, the handler goes  disable_irq, free_irq
//   3 nothing deferred what the handler had asked for comes to an end    tasklet_kill, napi_disable
//   4                                                                    del_timer_sync,
//                                                                        cancel_work_sync
//   5 no DMA           the device may touch no memory any more           pci_clear_master, unmap
//   6 no memory        drvdata NULL, the last reference frees it         kref_put
//
// One step left out, and something calls a function with a pointer to memory that is somebody
// else's. So while a driver leaves, each object that it frees is looked at first: does a handler, a
// timer of either kind, a tasklet or a work item still point into it? Then that is said, by name,
// and what was forgotten is done in the driver's place: the report is the point, the machine lives
// on. DMA mappings are counted by kernel/dma, per device.
//
// The look is by address, so it needs no help from the driver; and it is made only in this thread
// and only while a driver leaves, so nobody else pays for it. A leak of something that lies in no
// freed object is not seen.
//
// Context: thread, the binding lock held.
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>
#include <mm/slab.h>
#include <irq/desc.h>
#include <sched/thread.h>
#include <defer/hrtimer.h>
#include <defer/tasklet.h>
#include <defer/timer.h>
#include <defer/work.h>
#include <dma/dma.h>
#include <pci/pci.h>
#include "pci_config.h"

enum { LEAK_TRIES = 16 }; // of one kind in one object: a driver can forget only so much

static struct {
    const struct pci_dev *dev;   // L
    const char *driver;          // L
    const struct thread *leaver; // L: whose frees are looked at
    unsigned found;              // L
} leak;                          // L of the binding lock

static void leak_report(const char *kind, uintptr_t function, const char *done)
{
    char symbol[96];
    struct text t = TEXT_INIT(symbol);

    text_symbol(&t, function);
    leak.found++;
    pr_err("BUG: %s %s: leaves a %s behind: %s; %s", leak.driver, leak.dev->dev.name, kind, symbol,
           done);
}

static bool leak_irq(const void *object, size_t size)
{
    unsigned irq;
    const char *name;
    void *dev_id = irq_find_dev_id(object, size, &irq, &name);

    if (dev_id == NULL) {
        return false;
    }
    leak.found++;
    pr_err("BUG: %s %s: leaves a handler behind: \"%s\" on irq %u; freed", leak.driver,
           leak.dev->dev.name, name, irq);
    return free_irq(irq, dev_id) != NULL;
}

static bool leak_timer(const void *object, size_t size)
{
    struct timer_list *timer = timer_find(object, size);

    if (timer == NULL) {
        return false;
    }
    leak_report("timer", (uintptr_t)timer->function, "stopped");
    del_timer_sync(timer);
    return true;
}

static bool leak_hrtimer(const void *object, size_t size)
{
    struct hrtimer *timer = hrtimer_find(object, size);

    if (timer == NULL) {
        return false;
    }
    leak_report("high-resolution timer", (uintptr_t)timer->function, "stopped");
    hrtimer_cancel(timer);
    return true;
}

static bool leak_tasklet(const void *object, size_t size)
{
    struct tasklet_struct *tasklet = tasklet_find(object, size);

    if (tasklet == NULL) {
        return false;
    }
    leak_report("tasklet", (uintptr_t)tasklet->callback, "killed");
    tasklet_kill(tasklet);
    return true;
}

static bool leak_work(const void *object, size_t size)
{
    struct work_struct *work = work_find(object, size);

    if (work == NULL) {
        return false;
    }
    leak_report("work item", (uintptr_t)work->func, "cancelled");
    cancel_work_sync(work);
    return true;
}

// The order is that of the removal: a handler that still comes may ask for all the others.
static void leak_look(const void *object, size_t size)
{
    static bool (*const looks[])(const void *object, size_t size) = {
        leak_irq, leak_timer, leak_hrtimer, leak_tasklet, leak_work};

    if (current != leak.leaver) {
        return;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(looks); i++) {
        for (unsigned tries = 0; tries < LEAK_TRIES && looks[i](object, size); tries++) {
        }
    }
}

void pci_leak_begin(const struct pci_dev *dev)
{
    leak.dev = dev;
    leak.driver = dev->dev.driver;
    leak.leaver = current;
    leak.found = 0;
    WRITE_ONCE(slab_free_hook, leak_look);
}

void pci_leak_cancel(void)
{
    WRITE_ONCE(slab_free_hook, NULL);
    leak.leaver = NULL;
}

// A driver that has gone may have left nothing to the device: what it still holds, it may still
// write to.
unsigned pci_leak_end(const struct pci_dev *dev)
{
    unsigned held = dma_outstanding(&dev->dev);

    pci_leak_cancel();
    if (held != 0) {
        leak.found++;
        pr_err("BUG: %s %s: leaves %u DMA mappings behind (cat /proc/dma-map)", leak.driver,
               dev->dev.name, held);
    }
    if (leak.found != 0) {
        warn_at(__FILE__, __LINE__, "a driver left something behind");
    }
    return leak.found;
}
