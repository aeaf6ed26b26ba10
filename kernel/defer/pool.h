// Worker pools: what kernel/defer/work.c (the items) and kernel/defer/pool.c (the threads) know of
// each other.
#pragma once

#include <lib/list.h>
#include <core/spinlock.h>
#include <sched/wait.h>
#include <defer/work.h>

struct worker_pool {
    struct spinlock lock;
    int cpu;                         // I: -1: its workers run anywhere
    bool highpri;                    // I: nice -20
    struct list_head items;          // L: to be run, oldest first
    struct list_head idle;           // L: workers that sleep, the one that went last first
    struct list_head busy;           // L: workers that have an item
    unsigned workers, idle_count;    // L
    unsigned running;                // L: busy workers that are not asleep in their item
    unsigned next_id;                // L
    bool creating;                   // L: a worker is on its way
    uint64_t sequence;               // L: of the last item queued
    unsigned flushers;               // L: threads in `finished`
    uint64_t executed;               // L
    struct wait_queue_head finished; // woken when an item is done or cancelled
};

struct worker {
    struct list_head link; // L of the pool: idle or busy
    struct worker_pool *pool;
    struct thread *thread;
    int id;
    struct work_struct *item; // L: what runs now; may be freed: only compared, never followed
    work_func_t func;         // L
    uint64_t sequence;        // L: the item's
    struct list_head
        postponed; // L: the same item queued again meanwhile: it must not run twice at once
    bool asleep;   // L: not counted in pool->running
};

// A pool with its first worker. cpu -1: unbound. NULL when there is no memory. Context: thread.
struct worker_pool *pool_make(int cpu, bool highpri);
// With the pool's lock held: wakes a worker if the items that wait need one.
void pool_kick(struct worker_pool *pool);
// With the pool's lock held: who runs this item now, or NULL.
struct worker *pool_runner_of(const struct worker_pool *pool, const struct work_struct *work);

// work.c: the item's bookkeeping when it is done. With the pool's lock held.
void work_finished(struct workqueue_struct *wq, struct worker_pool *pool, uint8_t color);
