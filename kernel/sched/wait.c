// Wait queues: the two steps that make sleeping safe.
//
//     sleeper                              waker
//     1 prepare_to_wait: on the queue,     a make the condition true
//       state := sleeping                  b wake_up: everyone on the queue gets state := running
//     2 condition? then done
//     3 schedule()
//     4 finish_wait: off the queue
//
// Steps 1 and b hold the queue's lock. If b comes first, 2 sees what a wrote; if 1 comes first, b
// finds the sleeper, and if he has not reached 3 yet, then 3 returns at once, as his state says
// running. There is no third order.
//
// An entry lies on its sleeper's stack. The waker wakes first and then takes the entry off the
// queue as the last thing that he does with it, his very last store being link.prev; the sleeper,
// in finish_wait(), leaves without the lock only when he sees that store. Otherwise he takes the
// lock, which the waker still holds.
//
// Context: wake_up and wake_up_all any; the rest thread.
#include <core/spinlock.h>
#include <sched/wait.h>

#include "internal.h"

void prepare_to_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry,
                     enum thread_state state)
{
    spin_lock_irq(&queue->lock);
    if (likely(list_empty(&entry->link))) {
        if (unlikely(entry->exclusive)) { // behind those whom every wake_up() wakes
            list_add_tail(&entry->link, &queue->entries);
        } else {
            list_add(&entry->link, &queue->entries);
        }
    }
    entry->thread->wait_channel = queue->lock.name;
    set_current_state(state);
    spin_unlock_irq(&queue->lock);
}

// The entry's last touch by a waker, and how the sleeper sees that it was.
static void wait_entry_release(struct wait_queue_entry *entry)
{
    struct list_head *link = &entry->link, *next = link->next, *prev = link->prev;

    next->prev = prev;
    WRITE_ONCE(prev->next, next);
    link->next = link;
    __atomic_store_n(&link->prev, link, __ATOMIC_RELEASE);
}

// The rest of finish_wait().
void wait_entry_remove(struct wait_queue_head *queue, struct wait_queue_entry *entry)
{
    police_might_sleep();
    spin_lock_irq(&queue->lock);
    if (!list_empty(&entry->link)) {
        list_del_init(&entry->link);
    }
    spin_unlock_irq(&queue->lock);
}

static __always_inline void wake_up_some(struct wait_queue_head *queue, unsigned exclusive_max)
{
    unsigned long flags;

    spin_lock_irqsave(&queue->lock, flags);
    while (!list_empty(&queue->entries)) {
        struct wait_queue_entry *entry =
            list_first_entry(&queue->entries, struct wait_queue_entry, link);
        // One who was already awake (a timeout, say) has not used up an exclusive wake-up.
        bool used_up = sched_wake_atomic(entry->thread) && entry->exclusive;

        wait_entry_release(entry);
        if (used_up && --exclusive_max == 0) {
            break;
        }
    }
    spin_unlock_irqrestore(&queue->lock, flags);
}

void wake_up(struct wait_queue_head *queue)
{
    wake_up_some(queue, 1);
}

void wake_up_all(struct wait_queue_head *queue)
{
    wake_up_some(queue, UINT32_MAX);
}

bool waitqueue_active(struct wait_queue_head *queue)
{
    // The caller has just made a condition true; that must be visible before we look for sleepers.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return !list_empty(&queue->entries);
}
