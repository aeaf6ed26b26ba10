// What the files of the lock validator know of each other: lockdep.c (what is held),
// lockdep_check.c (what is new), lockdep_wait.c (functions and completions that are waited for),
// lockdep_show.c.
#pragma once

#include "lock_report.h"
#include "police.h"

// Interrupts, without telling the police: this is the police.
static inline unsigned long lockdep_irq_save(void)
{
    unsigned long flags = local_irq_flags();

    __asm__ volatile("cli" ::: "memory");
    return flags;
}

static inline void lockdep_irq_restore(unsigned long flags)
{
    if ((flags & CPU_FLAGS_IF) != 0) {
        __asm__ volatile("sti" ::: "memory");
    }
}

// lockdep_check.c. Each with interrupts on or off.

// The class of that name and kind; 0: without a name, or there is no room.
uint16_t lockdep_look_up(struct police_cpu *police, const char *name, enum lock_kind kind);
// A lock is held in a way (enum lock_usage) that its class was not.
void lockdep_mark(struct police_cpu *police, struct lock_held *held, unsigned usage);
// `to` is taken while `from` is held, which is new, too.
void lockdep_add_edge(struct police_cpu *police, const struct lock_held *from,
                      const struct lock_held *to);
// A mistake that needs no graph. `held` may be NULL.
void lockdep_tell(struct police_cpu *police, enum lock_finding finding,
                  const struct lock_held *wanted, const struct lock_held *held);

// lockdep_wait.c: the function that this softirq or interrupt calls comes before what it takes.
void lockdep_check_function(struct police_cpu *police, const void *fn, const struct lock_held *new);
