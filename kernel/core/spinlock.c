// Spinlocks: one word, which is the number of the CPU that holds the lock, or 0.
//
// A taker tries to swap 0 for its own number; while it cannot, it only reads (the cache line stays
// shared) and pauses. That is not fair, and on purpose: a queue of tickets hands the lock to one
// particular CPU next, and when CPUs are threads of an emulator and there are more of them than the
// host has cores, that CPU is often not running. docs/decisions/0003-spinlocks.md has the figures.
//
// A lock says who holds it (CPU and code address), so a CPU that waits absurdly long can say for
// whom. Taking a lock that this very CPU holds can never end: it is a panic at once, not a hang.
//
// Context: any. In a hard interrupt use locks that are always taken with interrupts off.
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>

#include "police.h"

// Spinning for this many rounds (a second or more) is reported, once per wait; under an emulator a
// holder's CPU may be descheduled for long.
enum { SPIN_REPORT_ROUNDS = 200u * 1000 * 1000 };

__noinline void spin_wait(struct spinlock *lock)
{
    unsigned rounds = 0;

    if (spin_is_held(lock)) {
        panic("spinlock %s: CPU %u takes it twice (taken at %p)", lock->name, cpu_id(),
              lock->taken_at);
    }
    do {
        while (__atomic_load_n(&lock->holder, __ATOMIC_RELAXED) != 0) {
            cpu_relax();
            if (++rounds == SPIN_REPORT_ROUNDS) {
                pr_err("BUG: spinlock %s: CPU %u waits for CPU %u, which took it at %p", lock->name,
                       cpu_id(), READ_ONCE(lock->holder) - 1, READ_ONCE(lock->taken_at));
            }
        }
    } while (!spin_try(lock));
}

// ---- under the eyes of the police ---------------------------------------------------------------

// One who has to wait is entered before he does, so that a deadlock is told before it happens. What
// this CPU has already it cannot wait for: told, and counted.
static __noinline unsigned long spin_lock_contended(struct police_cpu *police,
                                                    struct spinlock *lock, bool interrupts_on,
                                                    const void *at, unsigned long flags)
{
    if (spin_is_held(lock) && lockdep_spin_again(police, lock, at)) {
        return flags;
    }
    lockdep_spin_taken(police, lock, false, interrupts_on, at, 0);
    spin_wait(lock);
    lock->taken_at = at;
    return flags;
}

// With preemption counted off, or interrupts off. Returns `flags`.
static __always_inline unsigned long spin_take_policed(struct police_cpu *police,
                                                       struct spinlock *lock, bool interrupts_on,
                                                       const void *at, unsigned long flags)
{
    if (unlikely(!spin_try(lock))) {
        return spin_lock_contended(police, lock, interrupts_on, at, flags);
    }
    lock->taken_at = at;
    return lockdep_spin_taken(police, lock, false, interrupts_on, at, flags);
}

// Counts preemption off; that begins a section, unless interrupts are off anyway.
static __always_inline struct police_cpu *spin_begin(bool *interrupts_on, const void *at)
{
    struct police_cpu *police;

    raw_preempt_disable();
    police = cpu_field(police); // from here on it stays the same
    *interrupts_on = !irqs_disabled();
    if (*interrupts_on && cpu_field(preempt_off) == 1) {
        latency_begin(&police->preempt_off, at);
    }
    return police;
}

void spin_lock_policed(struct spinlock *lock)
{
    const void *at = __builtin_return_address(0);
    bool interrupts_on;
    struct police_cpu *police = spin_begin(&interrupts_on, at);

    spin_take_policed(police, lock, interrupts_on, at, 0);
}

bool spin_trylock_policed(struct spinlock *lock)
{
    const void *at = __builtin_return_address(0);
    bool interrupts_on;
    struct police_cpu *police = spin_begin(&interrupts_on, at);

    if (!spin_try(lock)) {
        preempt_enable();
        return false;
    }
    lock->taken_at = at;
    return lockdep_spin_taken(police, lock, true, interrupts_on, at, true) != 0;
}

void spin_lock_irqs_off_policed(struct spinlock *lock)
{
    spin_take_policed(cpu_field(police), lock, false, __builtin_return_address(0), 0);
}

unsigned long spin_lock_irqsave_policed(struct spinlock *lock)
{
    const void *at = __builtin_return_address(0);
    unsigned long flags = raw_irq_save();
    struct police_cpu *police = cpu_field(police);

    if ((flags & CPU_FLAGS_IF) != 0) {
        latency_begin(&police->irqs_off, at);
    }
    raw_preempt_disable();
    return spin_take_policed(police, lock, false, at, flags);
}

void spin_lock_irq_policed(struct spinlock *lock)
{
    const void *at = __builtin_return_address(0);
    struct police_cpu *police;

    raw_irq_disable();
    police = cpu_field(police);
    latency_begin(&police->irqs_off, at);
    raw_preempt_disable();
    spin_take_policed(police, lock, false, at, 0);
}

// What is not held is not given back; a caller who counts will count preemption down all the same.
static void spin_give_other(struct police_cpu *police, struct spinlock *lock, bool counts,
                            const void *at)
{
    if (!lockdep_sees(cpu_self(), police) ||
        lockdep_release_other(police, &police->stack, lock, lock->class, lock->name, at)) {
        spin_give(lock);
    } else if (counts && !spin_is_held(lock)) {
        raw_preempt_disable();
    }
}

// An NMI leaves alone what it finds: it may be an entry whose lock is yet to be had.
static __always_inline bool spin_pop(struct police_cpu *police, struct spinlock *lock)
{
    return likely(!cpu_field_set(nmi_depth) && lockdep_pop(&police->stack, lock));
}

static __noinline void spin_unlock_other(struct spinlock *lock, const void *at)
{
    struct police_cpu *police = cpu_field(police);

    spin_give_other(police, lock, true, at);
    if (cpu_field(preempt_off) == 1) {
        latency_end(&police->preempt_off, at);
    }
    raw_preempt_enable();
}

static __noinline void spin_unlock_longest(struct latency *latency, int64_t cycles, const void *at)
{
    latency_longest(latency, cycles, at);
    raw_preempt_enable();
}

void spin_unlock_policed(struct spinlock *lock)
{
    const void *at = __builtin_return_address(0);
    struct police_cpu *police = cpu_field(police);
    int64_t cycles;

    if (unlikely(!spin_pop(police, lock))) {
        spin_unlock_other(lock, at);
        return;
    }
    spin_give(lock);
    if (cpu_field(preempt_off) == 1 && latency_ends(&police->preempt_off, &cycles)) {
        spin_unlock_longest(&police->preempt_off, cycles, at);
        return;
    }
    raw_preempt_enable();
}

void spin_unlock_irqs_off_policed(struct spinlock *lock)
{
    struct police_cpu *police = cpu_field(police);

    if (unlikely(!spin_pop(police, lock))) {
        spin_give_other(police, lock, false, __builtin_return_address(0));
        return;
    }
    spin_give(lock);
}

static __noinline void spin_unlock_irqrestore_other(struct spinlock *lock, unsigned long flags,
                                                    const void *at)
{
    struct police_cpu *police = cpu_field(police);
    int64_t cycles;

    spin_give_other(police, lock, true, at);
    if ((flags & CPU_FLAGS_IF) != 0) {
        if (latency_irqs_on(police, &cycles)) {
            latency_irqs_on_rarely(police, cycles, at);
        }
        raw_irq_enable();
    }
    raw_preempt_enable();
}

static __noinline void spin_irq_enable_rarely(struct police_cpu *police, int64_t cycles,
                                              const void *at)
{
    latency_irqs_on_rarely(police, cycles, at);
    raw_irq_enable();
    raw_preempt_enable();
}

// Preemption that goes on together with interrupts was no section of its own.
void spin_unlock_irqrestore_policed(struct spinlock *lock, unsigned long flags)
{
    const void *at = __builtin_return_address(0);
    struct police_cpu *police = cpu_field(police);
    int64_t cycles;

    if (unlikely(!spin_pop(police, lock))) {
        spin_unlock_irqrestore_other(lock, flags, at);
        return;
    }
    spin_give(lock);
    if ((flags & CPU_FLAGS_IF) != 0) {
        if (latency_irqs_on(police, &cycles)) {
            spin_irq_enable_rarely(police, cycles, at);
            return;
        }
        raw_irq_enable();
    }
    raw_preempt_enable();
}
