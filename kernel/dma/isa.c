// Who has which channel of the two 8237 DMA controllers of the ISA bus: a table, and /proc/dma.
//
//   controller 1: channels 0 1 2 3 (8 bit)          controller 2: channels 4 5 6 7 (16 bit)
//                    \______________ request line ________________/
//                                                     ^ channel 4 carries it: "cascade"
//
// The first controller's request to the CPU runs through channel 4 of the second (Intel 8237A data
// sheet, cascade mode), so that no device can have it: it is taken from the start. No driver here
// uses ISA DMA; a PCI device brings its own DMA engine.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/string.h>
#include <lib/text.h>
#include <lib/types.h>
#include <contract/proc_file.h>
#include <core/log.h>
#include <core/spinlock.h>
#include <dma/dma.h>

enum { ISA_CHANNELS = 8, ISA_CASCADE = 4 };

static DEFINE_SPINLOCK(isa_lock);
static char isa_users[ISA_CHANNELS][16] = {[ISA_CASCADE] = "cascade"}; // L: "" is free

int request_dma(unsigned channel, const char *name)
{
    unsigned long flags;
    int err = -EBUSY;

    might_sleep();
    if (channel >= ISA_CHANNELS || name == NULL || name[0] == '\0') {
        return -EINVAL;
    }
    spin_lock_irqsave(&isa_lock, flags);
    if (isa_users[channel][0] == '\0') {
        strscpy(isa_users[channel], name, sizeof(isa_users[channel]));
        err = 0;
    }
    spin_unlock_irqrestore(&isa_lock, flags);
    return err;
}

void free_dma(unsigned channel)
{
    unsigned long flags;
    bool was_taken = false;

    might_sleep();
    if (channel < ISA_CHANNELS && channel != ISA_CASCADE) {
        spin_lock_irqsave(&isa_lock, flags);
        was_taken = isa_users[channel][0] != '\0';
        isa_users[channel][0] = '\0';
        spin_unlock_irqrestore(&isa_lock, flags);
    }
    if (!was_taken) {
        pr_warn("free_dma(%u): nobody has this channel", channel);
    }
}

static void isa_show_dma(struct text *t, unsigned long index)
{
    unsigned long flags;

    (void)index;
    spin_lock_irqsave(&isa_lock, flags);
    for (unsigned i = 0; i < ISA_CHANNELS; i++) {
        if (isa_users[i][0] != '\0') {
            text_printf(t, "%2u: %s\n", i, isa_users[i]);
        }
    }
    spin_unlock_irqrestore(&isa_lock, flags);
}
PROC_FILE("dma", isa_show_dma);
