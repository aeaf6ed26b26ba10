// Spinlocks that know who holds them. A lock that interrupt handlers also take must be taken with
// interrupts off (spin_lock_irqsave), or the handler may spin for ever on the CPU that holds it:
// see docs/GLOSSARY.md, "irqsave".
//
// Context: any. spin_lock: where no handler takes the same lock. Holding one, sleeping is
// forbidden.
#pragma once

#include <core/cpu.h>
#include <lib/types.h>

struct spinlock {
    uint32_t holder;      // A: CPU + 1 that holds it, 0 when free: this is the lock
    const char *name;     // I
    const void *taken_at; // L: code address that took it
};

#define SPINLOCK_INIT(lock_name) \
    {                            \
        .name = (lock_name)      \
    }
#define DEFINE_SPINLOCK(lock) struct spinlock lock = SPINLOCK_INIT(#lock)

void spin_lock_init(struct spinlock *lock, const char *name);

void spin_lock(struct spinlock *lock);
void spin_unlock(struct spinlock *lock);
bool spin_trylock(struct spinlock *lock);
bool spin_is_held(const struct spinlock *lock); // by this CPU; for asserts

void spin_lock_irq(struct spinlock *lock);
void spin_unlock_irq(struct spinlock *lock);

// Disables interrupts on this CPU, takes the lock; the unlock restores the interrupt flag that was
// found, be it on or off.
unsigned long spin_lock_irqsave_flags(struct spinlock *lock);
void spin_unlock_irqrestore(struct spinlock *lock, unsigned long flags);
#define spin_lock_irqsave(lock, flags) ((flags) = spin_lock_irqsave_flags(lock))
