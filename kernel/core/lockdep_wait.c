// Waiting for somebody to end, or to tell, is a lock in the validator's sense: holding what he
// needs to get there is a deadlock.
//
//   functions     while a timer's function runs it "holds" itself, and del_timer_sync() "takes" it.
//                 Work items and irq threads are entered as locks are. Timers and tasklets, which
//                 must be quick, leave their name in struct cpu (lockdep_calls()), where the first
//                 lock that they take finds it
//   completions   who waits for one takes it, who tells one shows what comes before
//
// Context: any; completions: thread. Previous: lockdep.c. Next: lockdep_check.c.
#include <core/kallsyms.h>
#include <lib/format.h>

#include "lockdep_internal.h"

enum { LOCKDEP_FUNCTIONS = 256 };

// Classes of functions, by address. Only ever grows.
static struct {
    uintptr_t fn;   // A: 0: free
    uint16_t class; // A
} lockdep_functions[LOCKDEP_FUNCTIONS];

// ---- functions ----------------------------------------------------------------------------------

// The class of a function: "fn:NAME". Looked up by address, without a lock when it is known. NULL
// when there is no room.
static uint16_t *lockdep_function_class(const void *fn)
{
    uintptr_t key = (uintptr_t)fn;
    unsigned slot = (unsigned)(key >> 4) % LOCKDEP_FUNCTIONS;

    for (unsigned tries = 0; tries < LOCKDEP_FUNCTIONS; tries++) {
        uintptr_t there = 0;

        if (READ_ONCE(lockdep_functions[slot].fn) == key ||
            __atomic_compare_exchange_n(&lockdep_functions[slot].fn, &there, key, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
            there == key) {
            return &lockdep_functions[slot].class;
        }
        slot = (slot + 1) % LOCKDEP_FUNCTIONS;
    }
    return NULL;
}

// The first time: its name becomes its class.
static __noinline void lockdep_function_learn(const void *fn, uint16_t *class)
{
    unsigned long flags = lockdep_irq_save();
    struct police_cpu *police = &this_cpu(police_cpus);
    char name[LOCK_NAME_SIZE];
    uintptr_t offset;

    if (lockdep_sees(cpu_self(), police)) {
        const char *symbol = kallsyms_lookup((uintptr_t)fn, &offset);

        snprintf(name, sizeof(name), "fn:%s", symbol != NULL ? symbol : "?");
        WRITE_ONCE(*class, lockdep_look_up(police, name, LOCK_FUNCTION));
    }
    lockdep_irq_restore(flags);
}

static void lockdep_function_acquire(const void *fn, uint16_t *class, const void *at)
{
    if (unlikely(*class == 0)) {
        lockdep_function_learn(fn, class);
    }
    lockdep_acquire(fn, class, NULL, LOCK_FUNCTION, false, at);
}

// The class of a function that is running, or that is waited for, as a lock. Class 0: no room.
static struct lock_held lockdep_function_lock(const void *fn)
{
    uint16_t *class = lockdep_function_class(fn);

    if (class != NULL && unlikely(*class == 0)) {
        lockdep_function_learn(fn, class);
    }
    return (struct lock_held){.lock = fn, .at = fn, .class = class != NULL ? *class : 0};
}

// The function that this softirq or interrupt calls comes before all that it takes.
void lockdep_check_function(struct police_cpu *police, const void *fn, const struct lock_held *new)
{
    struct lock_held calls = lockdep_function_lock(fn);

    if (calls.class != 0 && !lock_graph_has_edge(&lockdep_graph, calls.class, new->class)) {
        lockdep_add_edge(police, &calls, new);
    }
}

void police_function_begins(const void *fn)
{
    uint16_t *class = lockdep_function_class(fn);

    if (class != NULL) {
        lockdep_function_acquire(fn, class, fn);
    }
}

void police_function_ends(const void *fn)
{
    uint16_t *class = lockdep_function_class(fn);

    if (class != NULL) {
        lockdep_release(fn, *class, fn);
    }
}

static void lockdep_waits(const void *fn, const void *at)
{
    uint16_t *class = lockdep_function_class(fn);

    if (class != NULL) {
        lockdep_function_acquire(fn, class, at);
        lockdep_release(fn, *class, fn);
    }
}

void police_waits_for(const void *fn)
{
    lockdep_waits(fn, __builtin_return_address(0));
}

// That it runs with interrupts on is said here, where it matters, and not each time it does.
void police_waits_for_softirq(const void *fn)
{
    unsigned long flags = lockdep_irq_save();
    struct police_cpu *police = &this_cpu(police_cpus);

    if (lockdep_sees(cpu_self(), police)) {
        struct lock_held runs = lockdep_function_lock(fn);

        if ((lockdep_graph.usage[runs.class] & LOCK_HARDIRQ_ON) == 0) {
            lockdep_mark(police, &runs, LOCK_HARDIRQ_ON);
        }
    }
    lockdep_irq_restore(flags);
    lockdep_waits(fn, __builtin_return_address(0));
}

// ---- completions --------------------------------------------------------------------------------

// Who will tell a completion is not known when one waits for it. But who has told one of its kind,
// with a mutex held, had to get that mutex first; and who waits for one with that mutex held keeps
// it from him. Mutexes that were given back before the telling are not known here: that they had to
// be taken first, nobody says. Neither are waits with a bound, or that ^C ends.
void police_waits_for_completion(const void *c, uint16_t *class, const char *name, const void *at)
{
    const struct lock_stack *thread = lockdep_thread_stack();

    if (thread != NULL && thread->count != 0 && in_task()) {
        lockdep_acquire(c, class, name, LOCK_COMPLETION, false, at);
        lockdep_release(c, *class, at);
    }
}

void police_completes(const void *c, uint16_t *class, const char *name, const void *at)
{
    const struct lock_stack *thread = lockdep_thread_stack();

    if (thread == NULL || thread->count == 0 || !in_task()) {
        return;
    }
    unsigned long flags = lockdep_irq_save();
    struct police_cpu *police = &this_cpu(police_cpus);
    struct lock_held told = {.lock = c, .at = at};

    if (lockdep_sees(cpu_self(), police)) {
        if (*class == 0) {
            WRITE_ONCE(*class, lockdep_look_up(police, name, LOCK_COMPLETION));
        }
        told.class = *class;
        for (unsigned i = 0; i < thread->count && told.class != 0; i++) {
            const struct lock_held *held = &thread->held[i];

            if (held->class != 0 && lockdep_graph.classes[held->class].kind == LOCK_MUTEX &&
                !lock_graph_has_edge(&lockdep_graph, told.class, held->class)) {
                lockdep_add_edge(police, &told, held);
            }
        }
    }
    lockdep_irq_restore(flags);
}
