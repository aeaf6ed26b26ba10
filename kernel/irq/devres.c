// Handlers that are given back by themselves. A driver whose probe has six steps has six ways to
// fail, and each must undo what came before: what the bus undoes, no driver can forget.
//
//   probe   devm_request_irq ──note──> list of all notes
//   remove  (nothing)                        |
//   bus     devm_release_irqs <──────────────+  free_irq for each note of this device
//
// The price is that the handler lives until remove has returned: whatever it touches must live as
// long. Where it does not, devm_free_irq comes first.
//
// Context: thread.
#include <irq/devres.h>

#include <lib/errno.h>
#include <lib/list.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <mm/slab.h>

struct devres_irq {
    struct list_head link; // L
    struct device *dev;    // I
    unsigned irq;          // I
    void *dev_id;          // I
};

static DEFINE_SPINLOCK(devres_lock);
static LIST_HEAD(devres_irqs); // L: the newest first

int devm_request_threaded_irq(struct device *dev, unsigned irq, irq_handler_t handler,
                              irq_handler_t thread_fn, unsigned long flags, const char *name,
                              void *dev_id)
{
    might_sleep();
    struct devres_irq *note = kmalloc(sizeof(*note), GFP_KERNEL);
    unsigned long irq_flags;

    if (note == NULL) {
        return -ENOMEM;
    }
    int error = request_threaded_irq(irq, handler, thread_fn, flags, name, dev_id);
    if (error != 0) {
        kfree(note);
        return error;
    }
    *note = (struct devres_irq){.dev = dev, .irq = irq, .dev_id = dev_id};
    spin_lock_irqsave(&devres_lock, irq_flags);
    list_add(&note->link, &devres_irqs);
    spin_unlock_irqrestore(&devres_lock, irq_flags);
    return 0;
}

int devm_request_irq(struct device *dev, unsigned irq, irq_handler_t handler, unsigned long flags,
                     const char *name, void *dev_id)
{
    might_sleep();
    return devm_request_threaded_irq(dev, irq, handler, NULL, flags, name, dev_id);
}

// The note that is meant, off the list; any of this device's when `irq` is negative.
static struct devres_irq *devres_take(const struct device *dev, int irq, const void *dev_id)
{
    struct devres_irq *note, *found = NULL;
    unsigned long flags;

    spin_lock_irqsave(&devres_lock, flags);
    list_for_each_entry (note, &devres_irqs, link) {
        if (note->dev == dev &&
            (irq < 0 || (note->irq == (unsigned)irq && note->dev_id == dev_id))) {
            found = note;
            break;
        }
    }
    if (found != NULL) {
        list_del(&found->link);
    }
    spin_unlock_irqrestore(&devres_lock, flags);
    return found;
}

static void devres_give_back(struct devres_irq *note)
{
    free_irq(note->irq, note->dev_id);
    kfree(note);
}

void devm_free_irq(struct device *dev, unsigned irq, void *dev_id)
{
    might_sleep();
    struct devres_irq *note = devres_take(dev, (int)irq, dev_id);

    if (!WARN_ON(note == NULL)) {
        devres_give_back(note);
    }
}

unsigned devm_release_irqs(struct device *dev)
{
    struct devres_irq *note;
    unsigned count = 0;

    might_sleep();
    while ((note = devres_take(dev, -1, NULL)) != NULL) {
        devres_give_back(note);
        count++;
    }
    return count;
}
