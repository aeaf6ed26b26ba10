// Worker pools: what work.c (the items), workqueue.c (the queues), pool.c (the threads) and
// rescuer.c know of each other.
#pragma once

#include <lib/list.h>
#include <lib/text.h>
#include <core/cpu.h>
#include <core/spinlock.h>
#include <sched/mutex.h>
#include <sched/wait.h>
#include <defer/timer.h>
#include <defer/work.h>

// What a queue has in one pool.
struct wq_share {
    unsigned active;            // L of the pool: on its list or running
    struct list_head held_back; // L of the pool: over max_active
    bool mayday;                // A: the pool waits for the rescuer
};

struct workqueue_struct {
    const char *name;         // I: must stay valid
    unsigned flags;           // I
    unsigned max_active;      // I
    struct wq_share *shares;  // I: by pool->cpu + 1
    uint32_t color;           // A: 0 or 1, of items queued now
    uint32_t in_flight[2];    // A: by color: queued or running
    bool dying;               // A: takes no more items
    uint32_t draining;        // A: takes items from its own items only
    struct worker *rescuer;   // I: NULL without WQ_MEM_RECLAIM
    struct mutex flush_mutex; // one flush at a time
    struct wait_queue_head drained;
    struct list_head all_link; // L of work_mutex
};

struct worker_pool {
    struct spinlock lock;
    int cpu;                         // I: -1: its workers run anywhere
    bool highpri;                    // I: nice -20
    struct list_head items;          // L: to be run, oldest first
    struct list_head idle;           // L: workers that sleep, the one that went last first
    struct list_head busy;           // L: workers that have an item
    unsigned workers, idle_count;    // L
    unsigned busy_count;             // L: those on `busy`, but for rescuers
    unsigned running;                // L: busy workers, but for those asleep or intensive
    unsigned next_id;                // L
    bool creating;                   // L: a worker is on its way
    bool short_of_workers;           // L: the last attempt to make one failed
    uint64_t sequence;               // L: of the last item queued
    unsigned flushers;               // L: threads in `finished`
    struct timer_list reaper;        // runs while there are more idle workers than are kept
    uint64_t executed, rescued;      // L: items; those of them that rescuers ran
    uint64_t hogs;                   // L: items that were found to keep the CPU for long
    struct wait_queue_head finished; // woken when an item is done or cancelled
};

#define WORKER_NOT_BEGUN INT64_MAX // nobody has had the CPU for so little

struct worker {
    struct list_head link; // L of the pool: idle or busy
    struct worker_pool *pool;
    struct thread *thread;
    int id;
    struct work_struct *item; // L: what runs now; may be freed: only compared, never followed
    work_func_t func;         // L
    uint64_t sequence;        // L: the item's
    struct list_head
        postponed;       // L: the same item queued again meanwhile: it must not run twice at once
    bool asleep;         // L: not counted in pool->running
    bool dismissed;      // L: it has been idle for long and should end
    uint32_t idle_since; // L: jiffies
    bool intensive;      // L: its item computes for long: not counted in pool->running
    int64_t began;       // C: its thread's runtime when the item began, or woke; WORKER_NOT_BEGUN
    struct workqueue_struct *wq;     // L: the item's queue
    struct workqueue_struct *rescue; // I: a rescuer: the queue whose items it saves; else NULL
};

// A pool with its first worker. cpu -1: unbound. NULL when there is no memory. Context: thread.
struct worker_pool *pool_make(int cpu, bool highpri);
// With the pool's lock held: wakes a worker if the items that wait need one.
void pool_kick(struct worker_pool *pool);
// With the pool's lock held: who runs this item now, or NULL.
struct worker *pool_runner_of(const struct worker_pool *pool, const struct work_struct *work);

// The worker whose item the caller is, or NULL. Context: any.
struct worker *worker_self(void);
// A rescuer's turn in a pool that is short of workers: runs the items of its queue that wait there.
// Its thread is tied to the pool's CPU meanwhile.
void worker_rescue(struct worker *rescuer, struct worker_pool *pool);
// The thread of a rescuer.
void worker_become(struct worker *worker);

// intensive.c: has an item had too much that has run for so long without a sleep, in ticks of the
// time stamp counter? It has: counts it for its function, and tells. Context: any.
bool work_is_intensive(int64_t cycles);
void work_note_intensive(work_func_t func);
void work_show_intensive(struct text *t);

// work.c: the item's bookkeeping when it is done. With the pool's lock held.
void work_finished(struct workqueue_struct *wq, struct worker_pool *pool, uint8_t color);

// rescuer.c: the call for a queue's rescuer, if it has one, with the pool's lock held; and how a
// queue gets one. False: no memory. Context: thread.
void work_call_rescuer(struct workqueue_struct *wq, struct worker_pool *pool);
bool wq_make_rescuer(struct workqueue_struct *wq);

// workqueue.c: the pools, made when the first queue that needs them is; NULL before.
extern struct worker_pool *work_pools[MAX_CPUS][2]; // I: by CPU and whether high priority
extern struct worker_pool *work_unbound_pools[2];   // I

// All pools of a kind, 0 to cpu_count: the last is the unbound one.
static inline struct worker_pool *wq_pool_at(unsigned index, bool highpri)
{
    return index < cpu_count ? work_pools[index][highpri] : work_unbound_pools[highpri];
}

static inline struct wq_share *wq_share_of(struct workqueue_struct *wq,
                                           const struct worker_pool *pool)
{
    return &wq->shares[pool->cpu + 1];
}
