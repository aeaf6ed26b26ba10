// Work: a function to be run later in a thread, where it may sleep. Pools of kworker/N:M threads,
// one pool per CPU; when a worker sleeps another takes over, so one slow item does not hold up the
// rest.
// Context: any, where a line does not say otherwise.
#pragma once

#include <defer/timer.h>
#include <lib/list.h>
#include <lib/types.h>

struct workqueue_struct;
struct worker_pool;
struct work_struct;
typedef void (*work_func_t)(struct work_struct *work);

struct work_struct {
    struct list_head link; // L of the pool; empty while it is not queued
    uint32_t pending;      // A: 0 idle, 1 queued and not yet started, 2 somebody is cancelling it
    work_func_t func;      // I
    struct workqueue_struct *wq; // L: where it was queued last
    struct worker_pool *pool;    // L of that pool: the one it was given to last
    uint64_t sequence;           // L: its number in that pool, for flush_work()
    uint8_t color;               // L: for flush_workqueue()
    bool active;                 // L: counts against max_active
};
struct delayed_work {
    struct work_struct work;
    struct timer_list timer;
    struct workqueue_struct *wq; // L: where it goes when the timer fires
};

#define INIT_WORK(w, f)         work_init((w), (f))
#define INIT_DELAYED_WORK(w, f) delayed_work_init((w), (f))
void work_init(struct work_struct *work, work_func_t func);
void delayed_work_init(struct delayed_work *work, work_func_t func);

void workqueue_init(void); // after the scheduler runs. Context: thread

// False when it was already pending. Context: any.
bool queue_work(struct workqueue_struct *wq, struct work_struct *work);
bool queue_work_on(unsigned cpu, struct workqueue_struct *wq, struct work_struct *work);
bool schedule_work(struct work_struct *work); // on system_wq, this CPU
bool schedule_work_on(unsigned cpu, struct work_struct *work);
bool queue_delayed_work(struct workqueue_struct *wq, struct delayed_work *work,
                        uint32_t delay_jiffies);
bool schedule_delayed_work(struct delayed_work *work, uint32_t delay_jiffies);
bool mod_delayed_work(struct workqueue_struct *wq, struct delayed_work *work,
                      uint32_t delay_jiffies);

// Wait for an item to finish; cancel it and wait: true when it was pending. Context: thread; not
// from the item itself (cancel). An item that starts itself again is waited for once by flush,
// stopped for good by cancel. The item must not free itself.
bool flush_work(struct work_struct *work);
bool flush_delayed_work(struct delayed_work *work); // without its delay, if that is still on
bool cancel_work_sync(struct work_struct *work);
bool cancel_delayed_work_sync(struct delayed_work *work);
void flush_workqueue(struct workqueue_struct *wq);
// Flushes until the queue is empty. Meanwhile it takes items only from items of its own (a chain
// comes to its end); others are refused with a warning. Context: thread.
void drain_workqueue(struct workqueue_struct *wq);
// An item that is queued, or runs, and lies in this memory, or NULL: for a check before it is
// freed. (A delayed one that waits is a timer: timer_find.) Context: any.
struct work_struct *work_find(const void *start, size_t size);

// max_active: how many of its items may be under way in one pool at a time, 0 for the default. An
// unbound queue with 1 runs its items strictly one after another. WQ_HIGHPRI: workers of nice -20.
// WQ_MEM_RECLAIM: a rescuer, a thread called as the queue, made now: it runs the queue's items when
// there is no memory for a worker. For what memory may be waiting for. WQ_CPU_INTENSIVE: its items
// compute for long; those behind them on the CPU do not wait. NULL when there is no memory.
// Context: thread.
enum { WQ_UNBOUND = 2, WQ_MEM_RECLAIM = 8, WQ_HIGHPRI = 16, WQ_CPU_INTENSIVE = 32 };
struct workqueue_struct *alloc_workqueue(const char *name, unsigned flags, int max_active);
// Drains it, then frees it. Context: thread.
void destroy_workqueue(struct workqueue_struct *wq);

// For everybody: short items on their CPU; the same before other threads (nice -20); anywhere, and
// long ones; items of either kind that may take long.
extern struct workqueue_struct *system_wq, *system_highpri_wq, *system_unbound_wq, *system_long_wq;

// At each tick: an item that has had its CPU for workqueue.cpu_intensive_thresh_us without a sleep
// is taken for WQ_CPU_INTENSIVE until it ends. Context: hard irq; interrupts off.
void wq_worker_tick(void);
// How often that was so of a function's items.
uint64_t work_intensive_count(work_func_t func);
// For tests: so many attempts to make a worker fail, as if there were no memory. A.
extern uint32_t worker_make_failures;
