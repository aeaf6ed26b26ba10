// Items of work that keep their CPU: since when one does, and who they are.
//
//   worker 1  |== an item that computes =========:================================|
//   worker 2                                     :|= next =|= next =|             |
//   tick           .        .        .           .        .
//   running   1                                   0 1               0     of pool.c
//                                                ^ wq_worker_tick(): it has had 10 ms without a
//                                                  sleep, and does not count from here to its end
//
// To be taken out of the count hurts nobody: both workers share the CPU as threads do. What it says
// is that the function belongs on a queue of another kind, so its items are counted, and from the
// fourth on told of: at the 4th, 5th, 7th, 11th, ... time. Linux waits for the fourth as well: a
// host that stops its guest makes anything look long once.
//
// Context: any; the report comes from the tick.
#include <lib/text.h>
#include <contract/boot_option.h>
#include <core/clock.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/spinlock.h>
#include <defer/work.h>

#include "pool.h"

enum { INTENSIVE_FUNCTIONS = 32, INTENSIVE_PATIENCE = 4 };

static uint32_t intensive_thresh_us = 10000; // I: 0: nobody looks

// Functions whose items were found, in the order of their first. Only ever grows.
static DEFINE_SPINLOCK(intensive_lock);
static struct {
    work_func_t func;
    uint64_t count;
} intensive_functions[INTENSIVE_FUNCTIONS]; // L
static unsigned intensive_known;            // L
static uint64_t intensive_without_room;     // L: items of functions beyond

bool work_is_intensive(int64_t cycles)
{
    return cycles > 0 && intensive_thresh_us != 0 &&
           clock_tsc_to_ns((uint64_t)cycles) >= intensive_thresh_us * 1000ull;
}

// The place of a function, or of the next new one.
static unsigned intensive_find(work_func_t func)
{
    unsigned i = 0;

    while (i < intensive_known && intensive_functions[i].func != func) {
        i++;
    }
    return i;
}

// Counts one more; returns how many there were of the function, 0 when there is no room for it.
static uint64_t intensive_count(work_func_t func)
{
    uint64_t count = 0;
    unsigned long flags;

    spin_lock_irqsave(&intensive_lock, flags);
    unsigned i = intensive_find(func);
    if (i < INTENSIVE_FUNCTIONS) {
        intensive_functions[i].func = func;
        count = ++intensive_functions[i].count;
        intensive_known = max(intensive_known, i + 1);
    } else {
        intensive_without_room++;
    }
    spin_unlock_irqrestore(&intensive_lock, flags);
    return count;
}

void work_note_intensive(work_func_t func)
{
    uint64_t count = intensive_count(func);
    uint64_t step = count + 1 - INTENSIVE_PATIENCE;
    char name[64];
    struct text t = TEXT_INIT(name);

    if (count < INTENSIVE_PATIENCE || (step & (step - 1)) != 0) {
        return;
    }
    text_symbol(&t, (uintptr_t)func);
    pr_warn("workqueue: %s kept its CPU for more than %u us, %llu times so far: let it sleep, or "
            "queue it on a WQ_UNBOUND queue",
            name, intensive_thresh_us, (unsigned long long)count);
}

uint64_t work_intensive_count(work_func_t func)
{
    unsigned long flags;

    spin_lock_irqsave(&intensive_lock, flags);
    unsigned i = intensive_find(func);
    uint64_t count = i < intensive_known ? intensive_functions[i].count : 0;
    spin_unlock_irqrestore(&intensive_lock, flags);
    return count;
}

// For /proc/workqueues.
void work_show_intensive(struct text *t)
{
    text_printf(t, "\nHOGS       FUNCTION THAT KEPT ITS CPU FOR %u US\n", intensive_thresh_us);
    spin_lock_irq(&intensive_lock);
    for (unsigned i = 0; i < intensive_known; i++) {
        text_printf(t, "%-10llu ", (unsigned long long)intensive_functions[i].count);
        text_symbol(t, (uintptr_t)intensive_functions[i].func);
        text_puts(t, "\n");
    }
    if (intensive_without_room != 0) {
        text_printf(t, "%-10llu others\n", (unsigned long long)intensive_without_room);
    }
    spin_unlock_irq(&intensive_lock);
}

BOOT_NUMBER("workqueue.cpu_intensive_thresh_us", intensive_thresh_us, 0, UINT32_MAX,
            "microseconds that an item may compute before those behind it go on (10000; 0: any)");
