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

void spin_lock_init(struct spinlock *lock, const char *name)
{
    *lock = (struct spinlock)SPINLOCK_INIT(name);
}

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
static __noinline void spin_lock_contended(struct cpu *cpu, struct police_cpu *police,
                                           struct spinlock *lock, bool interrupts_on,
                                           const void *at)
{
    if (spin_is_held(lock) && lockdep_spin_again(police, lock, at)) {
        return;
    }
    lockdep_spin_taken(cpu, police, lock, false, interrupts_on, at);
    spin_wait(lock);
    lock->taken_at = at;
}

// With preemption counted off, and interrupts as they shall be.
static __always_inline void spin_take_policed(struct cpu *cpu, struct spinlock *lock,
                                              bool interrupts_on, const void *at)
{
    struct police_cpu *police = &police_cpus[cpu->id];

    if (unlikely(!spin_try(lock))) {
        spin_lock_contended(cpu, police, lock, interrupts_on, at);
        return;
    }
    lockdep_spin_taken(cpu, police, lock, false, interrupts_on, at);
    lock->taken_at = at;
}

// Counts preemption off; that begins a section, unless interrupts are off anyway.
static __always_inline struct cpu *spin_begin(bool *interrupts_on, const void *at)
{
    struct cpu *cpu;

    raw_preempt_disable();
    cpu = cpu_self(); // from here on it stays the same
    *interrupts_on = !irqs_disabled();
    if (*interrupts_on && cpu->preempt_off == 1) {
        latency_begin(&police_cpus[cpu->id].preempt_off, at);
    }
    return cpu;
}

void spin_lock_policed(struct spinlock *lock)
{
    const void *at = __builtin_return_address(0);
    bool interrupts_on;
    struct cpu *cpu = spin_begin(&interrupts_on, at);

    spin_take_policed(cpu, lock, interrupts_on, at);
}

bool spin_trylock_policed(struct spinlock *lock)
{
    const void *at = __builtin_return_address(0);
    bool interrupts_on;
    struct cpu *cpu = spin_begin(&interrupts_on, at);

    if (!spin_try(lock)) {
        preempt_enable();
        return false;
    }
    lockdep_spin_taken(cpu, &police_cpus[cpu->id], lock, true, interrupts_on, at);
    lock->taken_at = at;
    return true;
}

static __always_inline unsigned long spin_irqsave_policed(struct spinlock *lock, const void *at)
{
    unsigned long flags = raw_irq_save();
    struct cpu *cpu = cpu_self();

    if ((flags & CPU_FLAGS_IF) != 0) {
        latency_begin(&police_cpus[cpu->id].irqs_off, at);
    }
    cpu->preempt_off++;
    spin_take_policed(cpu, lock, false, at);
    return flags;
}

unsigned long spin_lock_irqsave_policed(struct spinlock *lock)
{
    return spin_irqsave_policed(lock, __builtin_return_address(0));
}

void spin_lock_irq_policed(struct spinlock *lock)
{
    spin_irqsave_policed(lock, __builtin_return_address(0));
}

// What is not held is not given back; the caller will count preemption down all the same.
static __noinline void spin_give_other(struct police_cpu *police, struct spinlock *lock,
                                       const void *at)
{
    if (lockdep_release_other(police, &police->stack, lock, lock->class, lock->name, at)) {
        spin_give(lock);
    } else if (!spin_is_held(lock)) {
        raw_preempt_disable();
    }
}

static __always_inline void spin_give_policed(struct cpu *cpu, struct police_cpu *police,
                                              struct spinlock *lock, const void *at)
{
    if (unlikely(lockdep_sees(cpu, police) && !lockdep_pop(&police->stack, lock))) {
        spin_give_other(police, lock, at);
    } else {
        spin_give(lock);
    }
}

static __always_inline void spin_end(struct cpu *cpu, struct police_cpu *police, const void *at)
{
    if (cpu->preempt_off == 1) {
        latency_end(&police->preempt_off, at);
    }
    raw_preempt_enable();
}

void spin_unlock_policed(struct spinlock *lock)
{
    const void *at = __builtin_return_address(0);
    struct cpu *cpu = cpu_self();
    struct police_cpu *police = &police_cpus[cpu->id];

    spin_give_policed(cpu, police, lock, at);
    spin_end(cpu, police, at);
}

void spin_unlock_irqrestore_policed(struct spinlock *lock, unsigned long flags)
{
    const void *at = __builtin_return_address(0);
    struct cpu *cpu = cpu_self();
    struct police_cpu *police = &police_cpus[cpu->id];

    spin_give_policed(cpu, police, lock, at);
    if ((flags & CPU_FLAGS_IF) != 0) {
        latency_irqs_on(cpu, police, at);
        raw_irq_enable();
    }
    spin_end(cpu, police, at);
}
