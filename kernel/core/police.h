// What the context police keeps for each CPU, and the steps that are taken each time: in line, since
// they are part of every spinlock (kernel/core/spinlock.c). The rest of the story is in
// kernel/core/lockdep.c (order of locks) and kernel/core/latency.c (long sections).
//
// Context: any; preemption off, at least.
#pragma once

#include <core/cpu.h>
#include <core/lockdep.h>
#include <core/spinlock.h>

#include "lock_graph.h"

// One kind of section.
struct latency {
    uint64_t begin_tsc;                    // C: 0: none is under way
    const void *begin_at;                  // C
    uint64_t max_cycles;                   // C
    const void *max_begin_at, *max_end_at; // C
};

struct police_cpu {
    struct latency irqs_off, preempt_off;
    bool blind; // C: inside of a report, or of a panic: what is locked now is not looked at
    struct lock_stack stack;
} __aligned(64);

extern struct police_cpu police_cpus[MAX_CPUS];
extern struct lock_graph lockdep_graph;

// ---- long sections ------------------------------------------------------------------------------

static inline void latency_begin(struct latency *latency, const void *at)
{
    latency->begin_at = at;
    WRITE_ONCE(latency->begin_tsc, rdtsc());
}

static inline void latency_end(struct latency *latency, const void *at)
{
    uint64_t begin_tsc = latency->begin_tsc;

    if (begin_tsc == 0) {
        return;
    }
    uint64_t cycles = rdtsc() - begin_tsc;
    WRITE_ONCE(latency->begin_tsc, 0);
    if (unlikely(cycles > latency->max_cycles)) {
        latency->max_cycles = cycles;
        latency->max_begin_at = latency->begin_at;
        latency->max_end_at = at;
    }
}

// ---- locks --------------------------------------------------------------------------------------

// For lockdep.c: the ways that are not taken each time.
void lockdep_mark(struct police_cpu *police, struct lock_held *held, unsigned usage);
void lockdep_check_order(struct police_cpu *police, const struct lock_held *new);
uint16_t lockdep_look_up(struct police_cpu *police, const char *name, enum lock_kind kind);
void lockdep_interrupts_on(struct cpu *cpu, struct police_cpu *police);
// True when it is a mistake to be told and survived: as many unlocks belong to it.
bool lockdep_spin_again(struct police_cpu *police, struct spinlock *lock, const void *at);
bool lockdep_release_other(struct police_cpu *police, struct lock_stack *stack, const void *lock,
                           uint16_t class, const char *name, const void *at);

// Interrupts are about to be turned on.
static inline void latency_irqs_on(struct cpu *cpu, struct police_cpu *police, const void *at)
{
    if (unlikely(police->stack.count != 0)) {
        lockdep_interrupts_on(cpu, police);
    }
    latency_end(&police->irqs_off, at);
}

static inline uint8_t lockdep_level(const struct cpu *cpu)
{
    return cpu->irq_depth != 0 ? LOCK_HARDIRQ : cpu->serving_softirq ? LOCK_SOFTIRQ : LOCK_THREAD;
}

// An NMI may come at any place in here: it is not looked at.
static inline bool lockdep_sees(const struct cpu *cpu, const struct police_cpu *police)
{
    return (cpu->nmi_depth | police->blind) == 0;
}

// What taking a lock here says about its class. A trylock cannot make an interrupt wait.
static inline unsigned lockdep_usage(const struct cpu *cpu, const struct lock_held *held,
                                     bool interrupts_on)
{
    unsigned usage = 0;

    if (held->level != LOCK_THREAD) {
        usage = held->tried ? 0 : held->level == LOCK_HARDIRQ ? LOCK_IN_HARDIRQ : LOCK_IN_SOFTIRQ;
    } else if (interrupts_on && cpu->bh_disabled == 0) {
        usage = LOCK_SOFTIRQ_ON;
    }
    return interrupts_on ? usage | LOCK_HARDIRQ_ON : usage;
}

// The next entry of a stack; NULL when there is no room. An interrupt may come between these steps:
// it finds an entry without a class, which it passes over, and leaves the stack as it was.
static inline struct lock_held *lockdep_push(struct lock_stack *stack)
{
    if (unlikely(stack->count == LOCKS_HELD_MAX)) {
        stack->lost++;
        return NULL;
    }
    struct lock_held *held = &stack->held[stack->count];
    WRITE_ONCE(stack->count, stack->count + 1);
    barrier();
    return held;
}

// A spinlock that this CPU is going to hold: enters it, and compares it with what is known.
static inline void lockdep_spin_taken(struct cpu *cpu, struct police_cpu *police,
                                      struct spinlock *lock, bool tried, bool interrupts_on,
                                      const void *at)
{
    struct lock_held *held;
    unsigned class = lock->class;

    if (unlikely(!lockdep_sees(cpu, police)) || (held = lockdep_push(&police->stack)) == NULL) {
        return;
    }
    if (unlikely(class == 0)) {
        lock->class = lockdep_look_up(police, lock->name, LOCK_SPIN);
        class = lock->class;
    }
    held->lock = lock;
    held->at = at;
    held->level = lockdep_level(cpu);
    held->tried = tried;
    held->nested = 0;
    barrier();
    WRITE_ONCE(held->class, (uint16_t) class);

    unsigned usage = lockdep_usage(cpu, held, interrupts_on);
    if (unlikely((usage & ~lockdep_graph.usage[class]) != 0)) {
        lockdep_mark(police, held, usage);
    }
    const struct lock_stack *thread = lockdep_thread_stack();
    if (!tried && (police->stack.count != 1 || (thread != NULL && thread->count != 0))) {
        lockdep_check_order(police, held);
    }
}

// True when it was the topmost and is gone: as it is nearly always.
static inline bool lockdep_pop(struct lock_stack *stack, const void *lock)
{
    unsigned count = stack->count;
    struct lock_held *top = &stack->held[count - 1];

    if (unlikely(count == 0 || top->lock != lock || top->nested != 0)) {
        return false;
    }
    WRITE_ONCE(top->class, 0);
    barrier();
    WRITE_ONCE(stack->count, count - 1);
    return true;
}
