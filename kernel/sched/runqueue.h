// The order in which runnable threads get a CPU. Pure: lists and numbers, no machine, tested on the
// host.
//
//   rt[1..99]   FIFO and RR by priority, a bit for each list that is not empty; the best one's head
//   fair        OTHER and IDLE, sorted by virtual run time: who has had least of his share runs
//   idle        the thread that runs when there is no other
//
// The running thread is on none of the lists. What every switch needs is in line here; all times
// are ticks of the time stamp counter. Context: the queue's lock is held, interrupts off.
#pragma once

#include <lib/list.h>
#include <lib/types.h>
#include <core/clock.h>
#include <core/spinlock.h>
#include <sched/thread.h>

enum {
    RT_PRIORITIES = 100,        // 1..99 are used
    RR_SLICE_TICKS = HZ / 10,   // 100 ms, as in Linux
    FAIR_SLICE_TICKS = 3,       // 12 ms
    FAIR_SLEEPER_US = 3 * 1000, // a sleeper wakes at most this far ahead of the others
    FAIR_PREEMPT_US = 1 * 1000, // and preempts when it is at least this far ahead
    WEIGHT_NICE_0 = 1024,
};

struct run_queue {
    struct spinlock lock;
    uint16_t cpu;                   // I
    unsigned waiting;               // L: threads on the lists
    unsigned asleep[THREAD_STATES]; // L: by state: went to sleep here, less those woken
    struct thread *running;         // L
    struct thread *idle;            // I
    struct thread *leftover; // C: what the next thread must see off, see sched_finish_switch()
    uint64_t rt_bits[2];     // L: bit 99 - priority, so that the lowest bit is the best
    struct list_head rt[RT_PRIORITIES]; // L
    struct list_head fair;              // L
    uint64_t min_vruntime;              // L: never decreases
    uint64_t rt_used;                   // L: by realtime threads in this period
    uint64_t rt_period_began;           // L
    bool rt_throttled;                  // L: the fair ones go first until the period ends
    uint64_t rt_throttled_count;        // L
    uint64_t switches;                  // L
    uint64_t stolen;                    // L: threads taken from other queues by this one
    uint64_t pushed;                    // L: idle CPUs woken to take one
    uint64_t balances;                  // L: runs of the SCHED softirq
    uint64_t wakeups;                   // L: of threads that had run here last
    uint64_t wakeups_elsewhere;         // L: and went to another CPU
    unsigned balance_ticks;             // C
    bool noted_waiting;                 // L: this CPU's bit is set in sched_waiting_mask
};

// I: the two times above, in ticks of the time stamp counter.
extern uint64_t fair_sleeper_cycles, fair_preempt_cycles;

// Realtime threads may have runtime_us of each period_us while others wait; as Linux's
// /proc/sys/kernel/sched_rt_*_us. A runtime of -1: no limit.
struct rt_limit {
    int64_t runtime_us, period_us;          // A
    uint64_t runtime_cycles, period_cycles; // A
};
extern struct rt_limit rt_limit;
void rt_limit_set(int64_t runtime_us, int64_t period_us, uint64_t tsc_hz);

void run_queue_init_times(uint64_t tsc_hz);
void run_queue_init(struct run_queue *queue, unsigned cpu);

// A thread's class: policy, priority 1..99 (0 outside FIFO and RR), nice. Whoever calls it has the
// thread off the lists.
void thread_set_class(struct thread *thread, enum sched_policy policy, unsigned priority, int nice);
// The realtime priority that the queues go by: its own or, if that is more, what a waiter lends it.
void thread_set_boost(struct thread *thread, unsigned boost);

// at_head: in front of its equals: an RT thread that was preempted keeps its turn.
void run_queue_add(struct run_queue *queue, struct thread *thread, bool at_head);
// A realtime thread gives the CPU away: to a better one (it keeps its turn, and what is left of its
// slice), or because its turn is over.
void run_queue_put_rt(struct run_queue *queue, struct thread *thread, bool preempted);
void run_queue_remove(struct run_queue *queue, struct thread *thread);
struct thread *run_queue_take_rt(struct run_queue *queue); // for run_queue_take()
// As run_queue_take(), for another CPU that has nothing to do: the best one that may run on `cpu`.
struct thread *run_queue_find_for(const struct run_queue *queue, unsigned cpu);
struct thread *run_queue_take_for(struct run_queue *queue, unsigned cpu);

// For run_queue_book(): all but ordinary threads of nice 0.
void run_queue_book_weighted(struct run_queue *queue, struct thread *thread, uint64_t delta);
// Moves the queue's virtual time on where no fair thread is chosen: to the first of those who wait,
// or to the running one.
void run_queue_catch_up(struct run_queue *queue);
// A thread that slept, or comes from another queue whose virtual time was `origin`, gets its place
// in this queue's time.
void run_queue_place_moved(struct run_queue *queue, struct thread *thread, uint64_t origin);

// For run_queue_preempts(): where classes differ.
bool run_queue_preempts_by_class(const struct run_queue *queue, const struct thread *woken);
// The tick: begins a new period of realtime threads' share and says whether, for that or because
// its slice is used up, the running thread should be looked at again.
bool run_queue_tick(struct run_queue *queue, uint64_t now);

static inline bool thread_is_rt(const struct thread *thread)
{
    return thread->rt_effective != 0;
}

static inline uint32_t thread_slice(const struct thread *thread)
{
    return thread->policy == SCHED_RR ? RR_SLICE_TICKS : FAIR_SLICE_TICKS;
}

// Virtual times are compared by their difference, so they may wrap.
static inline bool vruntime_before(uint64_t a, uint64_t b)
{
    return (int64_t)(a - b) < 0;
}

static inline void run_queue_advance(struct run_queue *queue, uint64_t vruntime)
{
    if (vruntime_before(queue->min_vruntime, vruntime)) {
        queue->min_vruntime = vruntime;
    }
}

static inline struct thread *run_queue_first_fair(const struct run_queue *queue)
{
    return list_first_entry(&queue->fair, struct thread, queue_link);
}

static inline struct thread *run_queue_take_fair(struct run_queue *queue)
{
    struct thread *thread = run_queue_first_fair(queue);

    queue->waiting--;
    list_del_init(&thread->queue_link);
    run_queue_advance(queue, thread->vruntime);
    return thread;
}

// Takes the best one off the lists; NULL when they are empty.
static inline struct thread *run_queue_take(struct run_queue *queue)
{
    if (unlikely(queue->waiting == 0)) {
        return NULL;
    }
    if (unlikely((queue->rt_bits[0] | queue->rt_bits[1]) != 0)) {
        return run_queue_take_rt(queue);
    }
    return run_queue_take_fair(queue);
}

// Sorted by virtual time. Who comes back from running has nearly always more than the others, so
// the search for its place starts at the end.
static inline void run_queue_add_fair(struct run_queue *queue, struct thread *thread)
{
    struct list_head *after = queue->fair.prev;

    queue->waiting++;
    while (
        after != &queue->fair &&
        vruntime_before(thread->vruntime, list_entry(after, struct thread, queue_link)->vruntime)) {
        after = after->prev;
    }
    list_add(&thread->queue_link, after);
}

// Books the time since the last booking. For who is about to choose the next one: the choice moves
// the queue's virtual time on.
static inline void run_queue_book(struct run_queue *queue, struct thread *thread, uint64_t now)
{
    uint64_t delta = now - thread->switched_in;

    if (unlikely((int64_t)delta <= 0)) { // the TSCs of two CPUs may differ by a little
        return;
    }
    thread->switched_in = now;
    thread->runtime += delta;
    if (likely(thread->weight == WEIGHT_NICE_0)) {
        thread->vruntime += delta;
    } else {
        run_queue_book_weighted(queue, thread, delta);
    }
}

// The same for who goes on with the running thread.
static inline void run_queue_charge(struct run_queue *queue, uint64_t now)
{
    run_queue_book(queue, queue->running, now);
    if (list_empty(&queue->fair)) {
        run_queue_catch_up(queue);
    }
}

static inline void run_queue_place_woken(struct run_queue *queue, struct thread *thread)
{
    uint64_t earliest = queue->min_vruntime - fair_sleeper_cycles;

    if (vruntime_before(thread->vruntime, earliest)) {
        thread->vruntime = earliest;
    }
}

// A fair thread gives way: behind the first waiting one.
static inline void run_queue_yield(struct run_queue *queue, struct thread *thread)
{
    if (!list_empty(&queue->fair)) {
        uint64_t first = run_queue_first_fair(queue)->vruntime;

        if (vruntime_before(thread->vruntime, first)) {
            thread->vruntime = first;
        }
    }
}

// Should `woken`, an ordinary thread of nice 0, have the CPU rather than the one that has it?
static inline bool run_queue_preempts_fair(const struct run_queue *queue,
                                           const struct thread *woken)
{
    const struct thread *running = queue->running;

    if (likely(running->weight == WEIGHT_NICE_0)) {
        return (int64_t)(running->vruntime - woken->vruntime) > (int64_t)fair_preempt_cycles;
    }
    return run_queue_preempts_by_class(queue, woken);
}

// The same for any thread.
static inline bool run_queue_preempts(const struct run_queue *queue, const struct thread *woken)
{
    return likely(woken->weight == WEIGHT_NICE_0) ? run_queue_preempts_fair(queue, woken)
                                                  : run_queue_preempts_by_class(queue, woken);
}
