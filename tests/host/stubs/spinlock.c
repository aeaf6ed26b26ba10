// Spinlocks for host tests, which have one thread: taking a lock twice, or giving back one that is
// free, is the mistake to catch.
#include <core/panic.h>
#include <core/spinlock.h>

void spin_lock_init(struct spinlock *lock, const char *name)
{
    *lock = (struct spinlock)SPINLOCK_INIT(name);
}

void spin_lock(struct spinlock *lock)
{
    assert(lock->holder == 0);
    lock->holder = 1;
}

void spin_unlock(struct spinlock *lock)
{
    assert(lock->holder == 1);
    lock->holder = 0;
}

bool spin_is_held(const struct spinlock *lock)
{
    return lock->holder == 1;
}

unsigned long spin_lock_irqsave_flags(struct spinlock *lock)
{
    spin_lock(lock);
    return CPU_FLAGS_IF;
}

void spin_unlock_irqrestore(struct spinlock *lock, unsigned long flags)
{
    assert(flags == CPU_FLAGS_IF);
    spin_unlock(lock);
}
