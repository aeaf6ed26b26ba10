// The order in which runnable threads get a CPU. Pure: lists and numbers, no machine, tested on the
// host.
//
//   rt[1..99]   FIFO and RR by priority, a bit for each list that is not empty; the best one's head
//   fair        OTHER and IDLE, sorted by virtual run time: who has had least of his share runs
//   idle        the thread that runs when there is no other
//
// The running thread is on none of the lists. Context: the queue's lock is held, interrupts off.
#pragma once

#include <lib/list.h>
#include <lib/types.h>
#include <core/clock.h>
#include <core/spinlock.h>
#include <sched/thread.h>

enum {
    RT_PRIORITIES = 100,           // 1..99 are used
    RR_SLICE_TICKS = HZ / 10,      // 100 ms, as in Linux
    FAIR_SLICE_TICKS = 3,          // 12 ms
    FAIR_SLEEPER_NS = 3000 * 1000, // a sleeper wakes at most this far ahead of the others
    FAIR_PREEMPT_NS = 1000 * 1000, // and preempts when it is at least this far ahead
};

struct run_queue {
    struct spinlock lock;
    unsigned cpu;            // I
    unsigned waiting;        // L: threads on the lists
    unsigned blocked;        // L: threads that went to sleep here for ever, less those woken
    struct thread *running;  // L
    struct thread *idle;     // I
    struct thread *leftover; // C: what the next thread must see off, see sched_finish_switch()
    uint64_t rt_bits[2];     // L: bit 99 - priority, so that the lowest bit is the best
    struct list_head rt[RT_PRIORITIES]; // L
    struct list_head fair;              // L
    uint64_t min_vruntime;              // L: never decreases
    uint64_t switches;                  // L
    unsigned balance_ticks;             // C
    bool noted_waiting;                 // L: this CPU's bit is set in sched_waiting_mask
};

void run_queue_init(struct run_queue *queue, unsigned cpu);

// at_head: in front of its equals: an RT thread that was preempted keeps its turn.
void run_queue_add(struct run_queue *queue, struct thread *thread, bool at_head);
void run_queue_remove(struct run_queue *queue, struct thread *thread);
// Takes the best one off the lists; NULL when they are empty.
struct thread *run_queue_take(struct run_queue *queue);
// The same for another CPU that has nothing to do: the best one that may run on `cpu`.
struct thread *run_queue_take_for(struct run_queue *queue, unsigned cpu);

// Books run time and moves the queue's virtual time on. delta_ns: since the last booking.
void run_queue_charge(struct run_queue *queue, struct thread *thread, uint64_t delta_ns);
// A thread that slept, or comes from another queue whose virtual time was `origin`, gets its place
// in this queue's time.
void run_queue_place_woken(struct run_queue *queue, struct thread *thread);
void run_queue_place_moved(struct run_queue *queue, struct thread *thread, uint64_t origin);
// The thread gives way: in OTHER behind the first waiting one.
void run_queue_yield(struct run_queue *queue, struct thread *thread);

// Should `woken` have the CPU rather than `running`, which has it?
bool thread_preempts(const struct thread *woken, const struct thread *running);
// Its share of the CPU against others: 1024 at nice 0, times 1.25 for each nice level.
uint32_t thread_weight(const struct thread *thread);
uint32_t thread_slice(const struct thread *thread);
static inline bool thread_is_rt(const struct thread *thread)
{
    return thread->rt_priority != 0;
}
