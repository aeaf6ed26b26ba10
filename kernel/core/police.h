// What the context police keeps for each CPU, and the steps that are taken each time: in line,
// since they are part of every spinlock (kernel/core/spinlock.c). The rest of the story is in
// kernel/core/lockdep.c (order of locks) and kernel/core/latency.c (long sections).
//
// Context: any; preemption off, at least.
#pragma once

#include <core/cpu.h>
#include <core/lockdep.h>
#include <core/spinlock.h>

#include "lock_graph.h"

// One kind of section. While none is under way its beginning lies far in the future: only the upper
// half says so, which is one instruction, and an end without a beginning is shorter than any other.
struct latency {
    union {
        uint64_t begin_tsc;       // C
        uint32_t begin_halves[2]; // C
    };
    const void *begin_at;                  // C
    int64_t max_cycles;                    // C
    const void *max_begin_at, *max_end_at; // C
};
enum { LATENCY_NONE = INT32_MAX };

struct police_cpu {
    struct latency irqs_off, preempt_off;
    bool blind; // C: inside of a report, or of a panic: what is locked now is not looked at
    struct lock_stack stack;
} __aligned(64);

extern struct police_cpu police_cpus[MAX_CPUS];
extern struct lock_graph lockdep_graph;

struct police_cpu *police_set_up(unsigned cpu); // context: boot, as cpu_set_up()

// Each rare case is a call at the very end of the common one: then that needs no register that has
// to be saved first. Whoever has something to return hands it through (`flags`).

// ---- long sections ------------------------------------------------------------------------------

void latency_longest(struct latency *latency, int64_t cycles, const void *at);

static __always_inline void latency_begin(struct latency *latency, const void *at)
{
    latency->begin_at = at;
    WRITE_ONCE(latency->begin_tsc, rdtsc());
}

// True: the longest so far, which latency_longest() notes.
static __always_inline bool latency_ends(struct latency *latency, int64_t *cycles)
{
    *cycles = (int64_t)(rdtsc() - latency->begin_tsc);
    WRITE_ONCE(latency->begin_halves[1], LATENCY_NONE);
    return unlikely(*cycles > latency->max_cycles);
}

static inline void latency_end(struct latency *latency, const void *at)
{
    int64_t cycles;

    if (latency_ends(latency, &cycles)) {
        latency_longest(latency, cycles, at);
    }
}

// Interrupts are about to be turned on. True: a rare case, for latency_irqs_on_rarely().
static __always_inline bool latency_irqs_on(struct police_cpu *police, int64_t *cycles)
{
    return latency_ends(&police->irqs_off, cycles) || unlikely(police->stack.count != 0);
}
void latency_irqs_on_rarely(struct police_cpu *police, int64_t cycles, const void *at);

// ---- locks --------------------------------------------------------------------------------------

// lockdep.c: the ways that are not taken each time.
void lockdep_interrupts_on(struct police_cpu *police);
// lockdep_spin_taken() in a handler or a softirq, or with softirqs kept off, or where nobody looks,
// or of a lock whose class is not known yet.
unsigned long lockdep_spin_taken_rarely(struct police_cpu *police, struct spinlock *lock,
                                        bool tried, bool interrupts_on, const void *at,
                                        unsigned long flags);
// A lock that has just been entered says something new about its class, perhaps.
unsigned long lockdep_examine(struct police_cpu *police, struct lock_held *held, unsigned usage,
                              unsigned long flags);
// True when it is a mistake to be told and survived: as many unlocks belong to it.
bool lockdep_spin_again(struct police_cpu *police, struct spinlock *lock, const void *at);
bool lockdep_release_other(struct police_cpu *police, struct lock_stack *stack, const void *lock,
                           uint16_t class, const char *name, const void *at);

static inline uint8_t lockdep_level(const struct cpu *cpu)
{
    return cpu->irq_depth != 0 ? LOCK_HARDIRQ : cpu->serving_softirq ? LOCK_SOFTIRQ : LOCK_THREAD;
}

// An NMI may come at any place in here: it is not looked at.
static inline bool lockdep_sees(const struct cpu *cpu, const struct police_cpu *police)
{
    return (cpu->nmi_depth | police->blind) == 0;
}

// Is it in order that it was taken while that one is held? True: yes, and nothing below need be
// looked at.
static __always_inline bool lockdep_order_is_known(const struct lock_held *below, unsigned class)
{
    return below->what < LOCK_WHAT(0, LOCK_THREAD + 1, false) &&
           lock_graph_has_edge(&lockdep_graph, below->class, class);
}

// The same for a thread's spinlock of this CPU: `count` were taken before it, or none.
static __always_inline bool lockdep_spin_order_is_known(const struct lock_held *held,
                                                        unsigned count, unsigned class)
{
    const struct lock_stack *thread;

    if (count != 0) {
        return lockdep_order_is_known(held - 1, class);
    }
    thread = lockdep_thread_stack();
    return thread == NULL || thread->count == 0 ||
           lockdep_order_is_known(&thread->held[thread->count - 1], class);
}

// A spinlock that this CPU has, or is going to have: enters it, and compares it with what is known.
// Here for a thread that softirqs may interrupt. With interrupts off it says nothing about its
// class that could be dangerous. Returns `flags`.
static __always_inline unsigned long lockdep_spin_taken(struct police_cpu *police,
                                                        struct spinlock *lock, bool tried,
                                                        bool interrupts_on, const void *at,
                                                        unsigned long flags)
{
    unsigned usage = interrupts_on ? LOCK_HARDIRQ_ON | LOCK_SOFTIRQ_ON : 0;
    unsigned count = police->stack.count, class = lock->class;
    struct lock_held *held = &police->stack.held[count];

    if (unlikely(cpu_field_set(above_thread) || police->blind || class == 0 ||
                 count == LOCKS_HELD_MAX)) {
        return lockdep_spin_taken_rarely(police, lock, tried, interrupts_on, at, flags);
    }
    // An interrupt may come between these steps: it finds an entry without a class, which it passes
    // over, and leaves the stack as it was.
    WRITE_ONCE(police->stack.count, count + 1);
    barrier();
    held->lock = lock;
    held->at = at;
    barrier();
    WRITE_ONCE(held->what, LOCK_WHAT(class, LOCK_THREAD, tried));
    if (unlikely((usage & ~lockdep_graph.usage[class]) != 0 ||
                 (!tried && !lockdep_spin_order_is_known(held, count, class)))) {
        return lockdep_examine(police, held, usage, flags);
    }
    return flags;
}

// True when it was the topmost and is gone: as it is nearly always.
static __always_inline bool lockdep_pop(struct lock_stack *stack, const void *lock)
{
    unsigned count = stack->count;
    struct lock_held *top = &stack->held[count - 1];

    if (unlikely(count == 0 || top->lock != lock || top->nested != 0)) {
        return false;
    }
    WRITE_ONCE(top->what, 0);
    barrier();
    WRITE_ONCE(stack->count, count - 1);
    return true;
}
