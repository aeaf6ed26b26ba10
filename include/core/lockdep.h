// The lock validator: sees every lock that is taken, remembers in which order and in which contexts
// kinds of locks were, and reports a deadlock that could happen before it does. How, tells
// kernel/core/lockdep.c.
//
// Called by the locks themselves (kernel/core/spinlock.c, kernel/sched/mutex.c) and by what waits
// for a function to end (work items, timers, handlers). All of it does nothing with police=off.
// Context: any, except where a line says otherwise.
#pragma once

#include <core/cpu.h>
#include <lib/text.h>
#include <lib/types.h>

enum { LOCKS_HELD_MAX = 16 };

// The last two are not held: they are waited for.
enum lock_kind { LOCK_SPIN, LOCK_MUTEX, LOCK_FUNCTION, LOCK_COMPLETION };
enum lock_level { LOCK_THREAD, LOCK_SOFTIRQ, LOCK_HARDIRQ };

// One lock that is held, or one function that runs and that others may wait for.
struct lock_held {
    const void *lock; // its address: only compared
    const void *at;   // code address that took it
    union {
        struct {
            uint16_t class;  // 0: not known, or being entered
            uint8_t level;   // enum lock_level
            bool tried;      // by a trylock, which cannot wait for anybody
            uint32_t nested; // taken again so often by its own holder: a mistake, told and survived
        };
        uint64_t what; // all of these, to be written and compared at once
    };
};
#define LOCK_WHAT(class, level, tried) \
    ((uint64_t)(class) | (uint64_t)(level) << 16 | (uint64_t)(tried) << 24)

// In the order of taking. A CPU has one for what it holds without being able to sleep, a thread one
// for the rest.
struct lock_stack {
    unsigned count;
    unsigned lost; // more were taken than have room
    struct lock_held held[LOCKS_HELD_MAX];
};

// What the running thread holds: a struct thread begins with it. NULL before there are threads.
static inline struct lock_stack *lockdep_thread_stack(void)
{
    return (struct lock_stack *)cpu_current();
}

// Before a mutex is waited for; true: the caller has it already (reported) and must not wait.
// `class` is the lock's own, looked up by its name once.
bool lockdep_acquire(const void *lock, uint16_t *class, const char *name, enum lock_kind kind,
                     bool tried, const void *at);
// Before it is given back; false: it must not be, as it was taken more often, or not at all
// (reported).
bool lockdep_release(const void *lock, uint16_t class, const void *at);

// A function that others wait for (flush_work, synchronize_irq) begins and ends in a thread. A
// waiter says for what, before it waits: holding a lock that the function takes is a deadlock.
// fn is a function pointer of any type.
#define lockdep_function_begins(fn)                                \
    do {                                                           \
        if (unlikely(police_watches())) {                          \
            police_function_begins((const void *)(uintptr_t)(fn)); \
        }                                                          \
    } while (0)
#define lockdep_function_ends(fn)                                \
    do {                                                         \
        if (unlikely(police_watches())) {                        \
            police_function_ends((const void *)(uintptr_t)(fn)); \
        }                                                        \
    } while (0)
#define lockdep_waits_for(fn)                                \
    do {                                                     \
        if (unlikely(police_watches())) {                    \
            police_waits_for((const void *)(uintptr_t)(fn)); \
        }                                                    \
    } while (0)
// The same for a softirq's function that runs with interrupts on (timer, tasklet, soft hrtimer):
// holding a lock that hard interrupts take is a deadlock, too, whatever the function takes: the
// interrupt may come while it runs, and spin for ever for what the waiter holds.
#define lockdep_waits_for_softirq(fn)                                \
    do {                                                             \
        if (unlikely(police_watches())) {                            \
            police_waits_for_softirq((const void *)(uintptr_t)(fn)); \
        }                                                            \
    } while (0)
// Such a function begins, and (NULL) ends, in a softirq or in a hard interrupt: one instruction.
// What it takes is compared when it takes it.
#define lockdep_calls(level, fn)                                                   \
    __asm__ volatile("movq %0, %%gs:%c1" ::"re"((const void *)(uintptr_t)(fn)),    \
                     "i"(offsetof(struct cpu, calls) + ((level)-LOCK_SOFTIRQ) * 8) \
                     : "memory")
// A completion is waited for without a bound by a thread, or is told while a thread holds mutexes:
// who waits with such a mutex held keeps it from being told. `class` as above.
#define lockdep_waits_for_completion(c)                                                            \
    do {                                                                                           \
        if (unlikely(police_watches())) {                                                          \
            police_waits_for_completion((c), &(c)->class, (c)->name, __builtin_return_address(0)); \
        }                                                                                          \
    } while (0)
#define lockdep_completes(c)                                                            \
    do {                                                                                \
        if (unlikely(police_watches())) {                                               \
            police_completes((c), &(c)->class, (c)->name, __builtin_return_address(0)); \
        }                                                                               \
    } while (0)
void police_waits_for_completion(const void *c, uint16_t *class, const char *name, const void *at);
void police_completes(const void *c, uint16_t *class, const char *name, const void *at);
// A lock that handlers' own way takes unseen (spin_lock_hardirq): its class is one that interrupts
// take, from the start. Context: any.
struct spinlock;
#ifdef HOST_TEST
#define lockdep_taken_by_interrupts(lock, at) ((void)(lock), (void)(at))
#else
void lockdep_taken_by_interrupts(struct spinlock *lock, const void *at);
#endif
void police_function_begins(const void *fn);
void police_function_ends(const void *fn);
void police_waits_for(const void *fn);
void police_waits_for_softirq(const void *fn);

// The panic's: from here on this CPU's locks are not looked at.
void lockdep_look_away(void);

// A thread that sleeps where it must not takes what its CPU holds away with it, and brings it back.
// Context: interrupts off.
void lockdep_set_aside(struct lock_stack *saved);
void lockdep_bring_back(const struct lock_stack *saved);

// What a CPU, or a thread, holds, one line each; "" when it is nothing. It may change meanwhile.
void lockdep_show_held(struct text *t, const struct lock_stack *stack);
const struct lock_stack *lockdep_cpu_stack(unsigned cpu);
// The same line by line, for panics and lock-up reports: this CPU's and its thread's; another
// CPU's.
void lockdep_print_held(void (*print)(const char *format, ...) __printf(1, 2));
void lockdep_print_stack(const struct lock_stack *stack,
                         void (*print)(const char *format, ...) __printf(1, 2));
void lockdep_print_cpu(unsigned cpu, void (*print)(const char *format, ...) __printf(1, 2));

extern uint32_t lockdep_reports; // A: how many there were
