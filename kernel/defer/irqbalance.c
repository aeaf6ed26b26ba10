// Spreads interrupts over the CPUs: the busiest irq goes to the CPU that has least to do, then the
// next, and so on, by the counts of the last interval.
//
//   irq   /interval         CPU 0      CPU 1
//   eth0   18,000   ──────> 18,000
//   ahci    5,000   ──────>             5,000
//   ttyS0     200   ──────>             5,200
//
// An irq that hardly ever comes stays where it is, and so does one whose move would not make the
// busiest CPU less busy: a move costs the caches that its handler has warmed. What the service
// decides is written as smp_affinity, so it overrides what a person wrote there; an irq that is
// banned is left alone, and so is one whose driver gave it an affinity hint, as its queue belongs
// to that CPU; isolated CPUs (isolcpus=) get nothing.
//
// Context: a thread of its own, "irqbalance"; a mutex keeps a round from meeting another.
#include <lib/errno.h>
#include <lib/string.h>
#include <core/clock.h>
#include <core/log.h>
#include <irq/desc.h>
#include <sched/mutex.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <defer/irqbalance.h>

enum { BALANCE_IDLE = 10 }; // interrupts an interval below which an irq is not worth a move

static DEFINE_MUTEX(balance_mutex);
static struct thread *balance_thread;                       // L
static uint32_t balance_interval_s = IRQBALANCE_INTERVAL_S; // L
static uint64_t balance_rounds, balance_moves;              // L
static uint64_t balance_seen[MAX_IRQS];                     // L: counts at the last round
static uint64_t balance_load[MAX_CPUS];                     // L
static bool balance_banned[MAX_IRQS];                       // L

struct balance_irq {
    unsigned irq;
    uint64_t count; // since the last round
};

// The irqs that may move, busiest first. How many.
static unsigned balance_collect(struct balance_irq *list, unsigned room)
{
    unsigned count = 0;

    for (unsigned irq = 0; irq < irq_count() && count < room; irq++) {
        struct irq_desc *desc = irq_to_desc(irq);

        if (desc == NULL || !desc->started) {
            continue;
        }
        uint64_t total = irq_desc_total(desc);
        uint64_t since = total - min(balance_seen[irq], total);
        balance_seen[irq] = total;
        if (desc->data.chip->irq_set_affinity == NULL || !cpumask_empty(&desc->affinity_hint)) {
            continue; // cannot move, or belongs where it is: a queue's to its CPU
        }
        unsigned place = count++;
        for (; place > 0 && list[place - 1].count < since; place--) { // insertion sort: dozens
            list[place] = list[place - 1];
        }
        list[place] = (struct balance_irq){.irq = irq, .count = since};
    }
    return count;
}

static unsigned balance_least_loaded(void)
{
    unsigned best = 0;

    for_each_online_cpu (cpu) {
        if (!cpumask_test(&cpu_isolated_mask, cpu) && balance_load[cpu] < balance_load[best]) {
            best = cpu;
        }
    }
    return best;
}

// Places one irq; true when it moved.
static bool balance_place(const struct balance_irq *item)
{
    struct irq_desc *desc = irq_to_desc(item->irq);

    if (desc == NULL) {
        return false;
    }
    unsigned here = desc->data.cpu, there = balance_least_loaded();
    bool stay = balance_banned[item->irq] || item->count < BALANCE_IDLE || here == there ||
                balance_load[here] <= balance_load[there];
    if (!stay) {
        struct cpumask mask = {0};

        cpumask_set(&mask, there);
        stay = irq_set_affinity(item->irq, &mask) != 0;
    }
    balance_load[stay ? here : there] += item->count;
    return !stay;
}

static unsigned balance_round_locked(void)
{
    static struct balance_irq list[MAX_IRQS]; // L: too large for a stack
    unsigned count = balance_collect(list, MAX_IRQS), moved = 0;

    memset(balance_load, 0, sizeof(balance_load));
    for (unsigned i = 0; i < count; i++) {
        moved += balance_place(&list[i]);
    }
    balance_rounds++;
    balance_moves += moved;
    return moved;
}

unsigned irqbalance_once(void)
{
    mutex_lock(&balance_mutex);
    unsigned moved = balance_round_locked();
    mutex_unlock(&balance_mutex);
    return moved;
}

static void balance_main(void *arg)
{
    (void)arg;
    while (!kthread_should_stop()) {
        msleep_interruptible(READ_ONCE(balance_interval_s) * 1000);
        if (!kthread_should_stop()) {
            irqbalance_once();
        }
    }
}

int irqbalance_start(uint32_t interval_s)
{
    int error = 0;

    might_sleep();
    if (interval_s == 0 || interval_s > 3600) {
        return -ERANGE;
    }
    mutex_lock(&balance_mutex);
    if (balance_thread != NULL) {
        error = -EBUSY;
    } else {
        balance_interval_s = interval_s;
        balance_thread = kthread_run(balance_main, NULL, "irqbalance");
        error = balance_thread == NULL ? -ENOMEM : 0;
    }
    mutex_unlock(&balance_mutex);
    return error;
}

void irqbalance_stop(void)
{
    mutex_lock(&balance_mutex);
    struct thread *thread = balance_thread;
    balance_thread = NULL;
    mutex_unlock(&balance_mutex);
    if (thread != NULL) { // outside of the mutex, which its round may be waiting for
        kthread_stop(thread);
    }
}

int irqbalance_ban(unsigned irq, bool ban)
{
    might_sleep();
    if (irq_to_desc(irq) == NULL) {
        return -EINVAL;
    }
    mutex_lock(&balance_mutex);
    balance_banned[irq] = ban;
    mutex_unlock(&balance_mutex);
    return 0;
}

bool irqbalance_is_banned(unsigned irq)
{
    might_sleep();
    return irq < MAX_IRQS && READ_ONCE(balance_banned[irq]);
}

void irqbalance_status(struct irqbalance_status *status)
{
    mutex_lock(&balance_mutex);
    status->running = balance_thread != NULL;
    status->interval_s = balance_interval_s;
    status->rounds = balance_rounds;
    status->moves = balance_moves;
    memcpy(status->load, balance_load, sizeof(status->load));
    mutex_unlock(&balance_mutex);
}
