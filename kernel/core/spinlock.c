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
#include <core/latency.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>

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

// The validator is asked before the lock is waited for, so that a deadlock is told before it
// happens. It also says when this CPU has the lock already: then there is nothing to wait for.
void spin_lock_policed(struct spinlock *lock)
{
    const void *at = __builtin_return_address(0);

    latency_preempt_disable(at);
    if (unlikely(lockdep_acquire(lock, &lock->class, lock->name, LOCK_SPIN, false, at))) {
        return;
    }
    if (unlikely(!spin_try(lock))) {
        spin_wait(lock);
    }
    lock->taken_at = at;
}

bool spin_trylock_policed(struct spinlock *lock)
{
    const void *at = __builtin_return_address(0);

    latency_preempt_disable(at);
    if (!spin_try(lock)) {
        preempt_enable();
        return false;
    }
    lockdep_acquire(lock, &lock->class, lock->name, LOCK_SPIN, true, at);
    lock->taken_at = at;
    return true;
}

// What is not held is not given back; the caller will count preemption down all the same.
void spin_unlock_policed(struct spinlock *lock)
{
    if (likely(lockdep_release(lock, lock->name, LOCK_SPIN, __builtin_return_address(0)))) {
        __atomic_store_n(&lock->holder, 0, __ATOMIC_RELEASE);
    } else if (!spin_is_held(lock)) {
        preempt_disable();
    }
}
