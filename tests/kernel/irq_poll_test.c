// Completion polling: weights, turns, the budget, and disabling one that never ends. The "disk" is
// a counter of completions.
#include <contract/ktest.h>
#include <core/cpu.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/irq_poll.h>
#include <defer/softirq.h>

#include "eventually.h"

struct poll_disk {
    struct irq_poll iop;
    unsigned waiting; // A: completions that the device has ready
    unsigned reaped;  // A
    unsigned calls;   // A
    unsigned most;    // in one call
    bool in_softirq;
    bool endless;
};

static unsigned get(const unsigned *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static char turns[16]; // who was asked, in order
static unsigned turn;

static int poll_disk_poll(struct irq_poll *iop, int budget)
{
    struct poll_disk *disk = container_of(iop, struct poll_disk, iop);
    unsigned done = 0;

    disk->in_softirq = !in_task() && !in_hardirq();
    turns[turn++ % (sizeof(turns) - 1)] = budget == 4 ? 'a' : 'b';
    while (done < (unsigned)budget && (disk->endless || get(&disk->waiting) > 0)) {
        if (!disk->endless) {
            __atomic_fetch_sub(&disk->waiting, 1, __ATOMIC_SEQ_CST);
        }
        done++;
    }
    __atomic_fetch_add(&disk->calls, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&disk->reaped, done, __ATOMIC_SEQ_CST);
    disk->most = max(disk->most, done);
    if (done < (unsigned)budget) {
        irq_poll_complete(iop);
    }
    return (int)done;
}

KTEST(irq_poll, takes_turns_by_weight)
{
    static struct poll_disk a, b;

    a = (struct poll_disk){.waiting = 10};
    b = (struct poll_disk){.waiting = 3};
    turn = 0;
    irq_poll_init(&a.iop, 4, poll_disk_poll);
    irq_poll_init(&b.iop, 8, poll_disk_poll);
    local_bh_disable();
    irq_poll_sched(&a.iop);
    irq_poll_sched(&a.iop); // once is enough
    irq_poll_sched(&b.iop);
    EXPECT_EQ(turn, 0);
    local_bh_enable();
    EXPECT(EVENTUALLY(get(&a.reaped) == 10 && get(&b.reaped) == 3));
    EXPECT_EQ(a.calls, 3);
    EXPECT_EQ(a.most, 4);
    EXPECT_EQ(b.calls, 1);
    EXPECT(a.in_softirq);
    EXPECT(turns[0] == 'a' && turns[1] == 'b' && turns[2] == 'a' && turns[3] == 'a');
    irq_poll_sched(&a.iop); // finished: may be asked for again
    EXPECT(EVENTUALLY(get(&a.calls) == 4));
    irq_poll_disable(&a.iop);
    irq_poll_disable(&b.iop);
}

// A device that always has more: others on that CPU live, and disabling gets through.
KTEST(irq_poll, one_that_never_ends_can_be_disabled)
{
    static struct poll_disk disk;

    disk = (struct poll_disk){.endless = true};
    irq_poll_init(&disk.iop, IRQ_POLL_MAX_WEIGHT, poll_disk_poll);
    irq_poll_sched(&disk.iop);
    EXPECT(EVENTUALLY(get(&disk.reaped) > 4 * IRQ_POLL_BUDGET));
    irq_poll_disable(&disk.iop);
    unsigned reaped = get(&disk.reaped);
    irq_poll_sched(&disk.iop); // disabled: ignored
    msleep(10);
    EXPECT_EQ(get(&disk.reaped), reaped);
    disk.endless = false;
    __atomic_store_n(&disk.waiting, 2, __ATOMIC_SEQ_CST);
    irq_poll_enable(&disk.iop);
    irq_poll_sched(&disk.iop);
    EXPECT(EVENTUALLY(get(&disk.reaped) == reaped + 2));
    irq_poll_disable(&disk.iop);
}
