// Ticket spinlocks.
//
//   next   the ticket that the next comer draws      next == owner: free
//   owner  the ticket that is served now              comers are served in the order in which they came
//
// A lock remembers who holds it (CPU and code address), so a CPU that waits absurdly long can say for whom. Taking a lock that
// this very CPU holds can never end: it is a panic at once, not a hang.
//
// Context: any. In a hard interrupt use locks that are always taken with interrupts off.
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>

// Spinning for this many rounds (a second or more) is reported, once per wait; under an emulator a holder's CPU may be descheduled for long.
enum { SPIN_REPORT_ROUNDS = 200u * 1000 * 1000 };

void spin_lock_init(struct spinlock *lock, const char *name)
{
    *lock = (struct spinlock)SPINLOCK_INIT(name);
}

static __noinline void spin_wait(struct spinlock *lock, uint32_t ticket)
{
    if (READ_ONCE(lock->holder) == cpu_id() + 1) {
        panic("spinlock %s: CPU %u takes it twice (taken at %p)", lock->name, cpu_id(),
              lock->taken_at);
    }
    for (unsigned rounds = 0; __atomic_load_n(&lock->owner, __ATOMIC_ACQUIRE) != ticket; rounds++) {
        cpu_relax();
        if (rounds == SPIN_REPORT_ROUNDS) {
            pr_err("BUG: spinlock %s: CPU %u waits for CPU %u, which took it at %p", lock->name,
                   cpu_id(), READ_ONCE(lock->holder) - 1, READ_ONCE(lock->taken_at));
        }
    }
}

// Preemption is off (at least) while a spinlock is held.
static inline __attribute__((always_inline)) void spin_take(struct spinlock *lock, const void *from)
{
    uint32_t ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_RELAXED);

    if (unlikely(__atomic_load_n(&lock->owner, __ATOMIC_ACQUIRE) != ticket)) {
        spin_wait(lock, ticket);
    }
    lock->holder = cpu_id() + 1;
    lock->taken_at = from;
}

static inline __attribute__((always_inline)) void spin_give(struct spinlock *lock)
{
    lock->holder = 0;
    __atomic_store_n(&lock->owner, lock->owner + 1, __ATOMIC_RELEASE);
}

void spin_lock(struct spinlock *lock)
{
    preempt_disable();
    spin_take(lock, __builtin_return_address(0));
}

void spin_unlock(struct spinlock *lock)
{
    spin_give(lock);
    preempt_enable();
}

bool spin_trylock(struct spinlock *lock)
{
    uint32_t owner;

    preempt_disable();
    owner = __atomic_load_n(&lock->owner, __ATOMIC_RELAXED);
    if (!__atomic_compare_exchange_n(&lock->next, &owner, owner + 1, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED)) {
        preempt_enable();
        return false;
    }
    lock->holder = cpu_id() + 1;
    lock->taken_at = __builtin_return_address(0);
    return true;
}

bool spin_is_held(const struct spinlock *lock)
{
    return READ_ONCE(lock->holder) == cpu_id() + 1;
}

void spin_lock_irq(struct spinlock *lock)
{
    local_irq_disable();
    preempt_disable();
    spin_take(lock, __builtin_return_address(0));
}

void spin_unlock_irq(struct spinlock *lock)
{
    spin_give(lock);
    local_irq_enable();
    preempt_enable();
}

unsigned long spin_lock_irqsave_flags(struct spinlock *lock)
{
    unsigned long flags = local_irq_save();

    preempt_disable();
    spin_take(lock, __builtin_return_address(0));
    return flags;
}

void spin_unlock_irqrestore(struct spinlock *lock, unsigned long flags)
{
    spin_give(lock);
    local_irq_restore(flags);
    preempt_enable();
}
