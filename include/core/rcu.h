// Read, copy, update: readers of a list or a pointer take no lock, write nothing, wait for nobody.
// Who takes something away waits until every reader who may have seen it has gone: a grace period
// (<defer/rcu.h>: synchronize_rcu, call_rcu).
//
//     reader                              updater
//     rcu_read_lock();                    new->next = old->next;
//     p = rcu_dereference(head);          rcu_assign_pointer(head, new);   readers see old or new
//     use(p);                             synchronize_rcu();               nobody sees old any more
//     rcu_read_unlock();                  kfree(old);
//
// A reader is whoever has preemption off: between rcu_read_lock and its unlock, under a spinlock,
// with bottom halves or interrupts off, in a softirq or an interrupt handler (not an NMI's). So a
// CPU that switches threads, idles, or is interrupted where preemption is on has no reader left: it
// has passed a quiescent state. This header is the half that readers and the scheduler see.
//
// Context: any but NMI. Between lock and unlock sleeping is forbidden, and is reported as anywhere
// else where preemption is off.
#pragma once

#include <core/cpu.h>
#include <lib/list.h>
#include <lib/types.h>

static inline void rcu_read_lock(void)
{
    preempt_disable();
}

static inline void rcu_read_unlock(void)
{
    preempt_enable();
}

// Reads a pointer that may be changed meanwhile, once. What it points to was written before it.
#define rcu_dereference(pointer) READ_ONCE(pointer)
// Lets readers see what `value` points to, which is complete.
#define rcu_assign_pointer(pointer, value) __atomic_store_n(&(pointer), (value), __ATOMIC_RELEASE)

// ---- lists that are read without a lock; those who change them hold one ------------------------

static inline void list_add_tail_rcu(struct list_head *item, struct list_head *head)
{
    item->next = head;
    item->prev = head->prev;
    rcu_assign_pointer(head->prev->next, item);
    head->prev = item;
}

// The item keeps its next pointer, for readers who stand on it: it may be freed, or put elsewhere,
// after a grace period.
static inline void list_del_rcu(struct list_head *item)
{
    item->next->prev = item->prev;
    WRITE_ONCE(item->prev->next, item->next);
    item->prev = (struct list_head *)0xdead000000000122ul;
}

#define list_for_each_entry_rcu(pos, head, member)                                  \
    for (pos = list_entry(rcu_dereference((head)->next), __typeof__(*pos), member); \
         &pos->member != (head);                                                    \
         pos = list_entry(rcu_dereference(pos->member.next), __typeof__(*pos), member))

// ---- for the scheduler, the idle loop and the spine ---------------------------------------------

// This CPU has no reader at this moment. A locked instruction, because it is a full barrier: what
// readers did before is over, and what they read from here on is not older than this.
// Interrupts off.
static inline void rcu_quiescent(void)
{
    __asm__ volatile("lock incw %%gs:%c0" ::"i"(offsetof(struct cpu, rcu_passes)) : "memory");
}

// From now until rcu_idle_end() this CPU has no readers at all: nobody need ask it. The idle loop
// begins; the first interrupt ends, and so does the idle loop when it looks for work.
static inline void rcu_idle_begin(void)
{
    __asm__ volatile("movb $1, %%gs:%c0" ::"i"(offsetof(struct cpu, rcu_idle)) : "memory");
}

static inline void rcu_idle_end(void)
{
    if (unlikely(cpu_field(rcu_idle))) {
        // An exchange: whoever looked and saw us idle has changed his list before what we read now.
        (void)__atomic_exchange_n(&cpu_self()->rcu_idle, false, __ATOMIC_SEQ_CST);
    }
}
