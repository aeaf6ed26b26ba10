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

void init_waitqueue_head(struct wait_queue_head *queue, const char *name)
{
    spin_lock_init(&queue->lock, name);
    INIT_LIST_HEAD(&queue->entries);
}

static bool wait_entry_queued(const struct wait_queue_entry *entry)
{
    return entry->link.next != NULL && !list_empty(&entry->link);
}

void prepare_to_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry,
                     enum thread_state state)
{
    struct thread *thread = current;

    spin_lock_irq(&queue->lock);
    if (!wait_entry_queued(entry)) {
        entry->thread = thread;
        if (entry->exclusive) { // behind those whom every wake_up() wakes
            list_add_tail(&entry->link, &queue->entries);
        } else {
            list_add(&entry->link, &queue->entries);
        }
    }
    thread->wait_channel = queue->lock.name;
    set_current_state(state);
    spin_unlock_irq(&queue->lock);
}

// The entry's last touch by a waker, and how the sleeper sees that it was.
static void wait_entry_release(struct wait_queue_entry *entry)
{
    struct list_head *link = &entry->link;

    link->next->prev = link->prev;
    WRITE_ONCE(link->prev->next, link->next);
    link->next = link;
    __atomic_store_n(&link->prev, link, __ATOMIC_RELEASE);
}

static bool wait_entry_released(const struct wait_queue_entry *entry)
{
    return __atomic_load_n(&entry->link.prev, __ATOMIC_ACQUIRE) == &entry->link;
}

void finish_wait(struct wait_queue_head *queue, struct wait_queue_entry *entry)
{
    struct thread *thread = current;

    WRITE_ONCE(thread->state, THREAD_RUNNING);
    thread->wait_channel = NULL;
    if (likely(wait_entry_released(entry))) {
        return;
    }
    spin_lock_irq(&queue->lock);
    if (wait_entry_queued(entry)) {
        list_del_init(&entry->link);
    }
    spin_unlock_irq(&queue->lock);
}

static void wake_up_some(struct wait_queue_head *queue, unsigned exclusive_max)
{
    struct wait_queue_entry *entry, *next;
    unsigned long flags;

    spin_lock_irqsave(&queue->lock, flags);
    list_for_each_entry_safe (entry, next, &queue->entries, link) {
        bool exclusive = entry->exclusive;
        bool woken = sched_wake_atomic(entry->thread);

        wait_entry_release(entry);
        // One who was already awake (a timeout, say) has not used up an exclusive wake-up.
        if (woken && exclusive && --exclusive_max == 0) {
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
