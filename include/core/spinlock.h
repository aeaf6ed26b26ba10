// Spinlocks that know who holds them. A lock that interrupt handlers also take must be taken with
// interrupts off (spin_lock_irqsave), or the handler may spin for ever on the CPU that holds it:
// see docs/GLOSSARY.md, "irqsave".
//
// Taken and given back in line, eight and six instructions when nobody else wants the lock and the
// context police is off; with it on (police_on, the default) both go through kernel/core/lockdep.c,
// which checks that this lock may be taken here, before it is taken.
//
// Context: any. spin_lock: where no handler takes the same lock. Holding one, sleeping is
// forbidden.
#pragma once

#include <core/cpu.h>
#include <lib/types.h>

struct spinlock {
    uint32_t holder;      // A: CPU + 1 that holds it, 0 when free: this is the lock
    uint16_t class;       // A: which kind of lock this is, for the police; 0: not looked up yet
    const char *name;     // I
    const void *taken_at; // L: code address that took it, as far as the police was on
};

#define SPINLOCK_INIT(lock_name) \
    {                            \
        .name = (lock_name)      \
    }
#define DEFINE_SPINLOCK(lock) struct spinlock lock = SPINLOCK_INIT(#lock)

#ifdef HOST_TEST // tests bring locks of their own (tests/host/stubs)

void spin_lock_init(struct spinlock *lock, const char *name);
void spin_lock(struct spinlock *lock);
void spin_unlock(struct spinlock *lock);
bool spin_trylock(struct spinlock *lock);
bool spin_is_held(const struct spinlock *lock);
void spin_lock_irq(struct spinlock *lock);
void spin_unlock_irq(struct spinlock *lock);
unsigned long spin_lock_irqsave_flags(struct spinlock *lock);
void spin_unlock_irqrestore(struct spinlock *lock, unsigned long flags);
#define spin_lock_hardirq   spin_lock
#define spin_unlock_hardirq spin_unlock

#else

static inline void spin_lock_init(struct spinlock *lock, const char *name)
{
    *lock = (struct spinlock)SPINLOCK_INIT(name);
}

// For this file: the ways with the police, each asked for once, and the wait for a lock that is not
// free.
void spin_lock_policed(struct spinlock *lock);
void spin_lock_irq_policed(struct spinlock *lock);
unsigned long spin_lock_irqsave_policed(struct spinlock *lock);
bool spin_trylock_policed(struct spinlock *lock);
void spin_unlock_policed(struct spinlock *lock);
void spin_lock_irqs_off_policed(struct spinlock *lock);
void spin_unlock_irqs_off_policed(struct spinlock *lock);
void spin_unlock_irqrestore_policed(struct spinlock *lock, unsigned long flags);
void spin_wait(struct spinlock *lock);

static inline bool spin_try(struct spinlock *lock)
{
    uint32_t free = 0;

    return __atomic_compare_exchange_n(&lock->holder, &free, cpu_field(lock_holder), false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline bool spin_is_held(const struct spinlock *lock) // by this CPU; for asserts
{
    return READ_ONCE(lock->holder) == cpu_field(lock_holder);
}

// Preemption is off (at least) while a spinlock is held.
static inline void spin_take(struct spinlock *lock)
{
    raw_preempt_disable();
    if (unlikely(!spin_try(lock))) {
        spin_wait(lock);
    }
}

static inline void spin_give(struct spinlock *lock)
{
    __atomic_store_n(&lock->holder, 0, __ATOMIC_RELEASE);
}

static inline void spin_lock(struct spinlock *lock)
{
    if (unlikely(police_watches())) {
        spin_lock_policed(lock);
        return;
    }
    spin_take(lock);
}

static inline bool spin_trylock(struct spinlock *lock)
{
    if (unlikely(police_watches())) {
        return spin_trylock_policed(lock);
    }
    raw_preempt_disable();
    if (!spin_try(lock)) {
        raw_preempt_enable();
        return false;
    }
    return true;
}

static inline void spin_unlock(struct spinlock *lock)
{
    if (unlikely(police_watches())) {
        spin_unlock_policed(lock);
        return;
    }
    spin_give(lock);
    raw_preempt_enable();
}

static inline void spin_lock_irq(struct spinlock *lock)
{
    if (unlikely(police_watches())) {
        spin_lock_irq_policed(lock);
        return;
    }
    raw_irq_disable();
    spin_take(lock);
}

static inline void spin_unlock_irq(struct spinlock *lock)
{
    if (unlikely(police_watches())) {
        spin_unlock_irqrestore_policed(lock, CPU_FLAGS_IF);
        return;
    }
    spin_give(lock);
    raw_irq_enable();
    raw_preempt_enable();
}

// For who has interrupts off and keeps them off until the unlock, as the scheduler with its queues:
// nothing can preempt there, so nothing is counted.
static inline void spin_lock_irqs_off(struct spinlock *lock)
{
    if (unlikely(police_watches())) {
        spin_lock_irqs_off_policed(lock);
    } else if (unlikely(!spin_try(lock))) {
        spin_wait(lock);
    }
}

static inline void spin_unlock_irqs_off(struct spinlock *lock)
{
    if (unlikely(police_watches())) {
        spin_unlock_irqs_off_policed(lock);
        return;
    }
    __atomic_store_n(&lock->holder, 0, __ATOMIC_RELEASE);
}

// For a hard interrupt's own way to its handlers (kernel/irq/flow.c), where each instruction
// counts: interrupts are off, so nothing preempts; the police meets this lock wherever else it is
// taken.
static inline void spin_lock_hardirq(struct spinlock *lock)
{
    if (unlikely(!spin_try(lock))) {
        spin_wait(lock);
    }
}

static inline void spin_unlock_hardirq(struct spinlock *lock)
{
    __atomic_store_n(&lock->holder, 0, __ATOMIC_RELEASE);
}

// Disables interrupts on this CPU, takes the lock; the unlock restores the interrupt flag that was
// found, be it on or off.
static inline unsigned long spin_lock_irqsave_flags(struct spinlock *lock)
{
    if (unlikely(police_watches())) {
        return spin_lock_irqsave_policed(lock);
    }
    unsigned long flags = raw_irq_save();

    spin_take(lock);
    return flags;
}

static inline void spin_unlock_irqrestore(struct spinlock *lock, unsigned long flags)
{
    if (unlikely(police_watches())) {
        spin_unlock_irqrestore_policed(lock, flags);
        return;
    }
    spin_give(lock);
    raw_irq_restore(flags);
    raw_preempt_enable();
}

#endif

// For functions whose caller has the lock.
#define lockdep_assert_held(lock) police_assert(spin_is_held(lock), "without " #lock " held")

#define spin_lock_irqsave(lock, flags) ((flags) = spin_lock_irqsave_flags(lock))
