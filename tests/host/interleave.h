// A small scheduler for host tests, which runs real sources in every order of their steps: see
// tests/host/interleave.c.
#pragma once

#include <core/spinlock.h>
#include <sched/thread.h>
#include <ucontext.h>

enum { ACTORS_MAX = 8, STEPS_MAX = 400 };

// What may interrupt what on a CPU: the greater the lesser.
enum actor_level { ACTOR_THREAD, ACTOR_SOFTIRQ, ACTOR_HARDIRQ };

struct actor {
    ucontext_t context;
    uint8_t *stack;
    void (*fn)(void);
    struct thread thread;
    struct spinlock *wants; // it cannot go on before that is free
    unsigned cpu;
    enum actor_level level;
    // Begins when this says so, and again whenever it does after it has come to its end. NULL:
    // begins once, at any moment.
    bool (*ready)(void);
    unsigned irqs_off; // nesting
    bool serves;       // asleep it is at its end: a thread that waits for work
    bool begun, asleep, done;
    bool spins; // it has looked in vain: others first
};

struct search {
    uint8_t choice[STEPS_MAX], options[STEPS_MAX];
    unsigned length, depth;
    unsigned switches_max; // away from somebody who could have gone on, in one way
    uint64_t ways;
    // Ways in which nobody could go on, or all only spun; threads made runnable that were; and what
    // a scene itself found wrong.
    unsigned lost, doubles, wrong;
};
extern struct search search;

// For set-ups: one more actor. A thread needs a CPU of its own.
void actor_add(void (*fn)(void), unsigned cpu, enum actor_level level, bool (*ready)(void));
// The same for a thread that a source makes, and that ends when it sleeps for good.
struct thread *actor_spawn(void (*fn)(void *arg), void *arg, unsigned cpu);
const struct actor *actor_running(void);

// Every way of a scene, which its set_up lays out anew each time. `at_end` (or NULL) looks at how a
// way ended in which all went on to their end.
void explore(void (*set_up)(void), void (*at_end)(void), unsigned switches_max);
// The same where the caller has put a mistake in: some ways must show it.
void explore_mistake(int mistake, void (*set_up)(void), void (*at_end)(void),
                     unsigned switches_max);

// For the sources under test, and the scenes. A step ends: another CPU's doing could make a
// difference here. After a look in vain nothing changes before somebody else has made a step;
// spin() is both.
void step(void);
void looked_in_vain(void);
void spin(void);
void step_irqs_off(void);
void step_irqs_on(void);

// Instead of running the tests directly: %gs leads to a struct cpu of each actor's CPU.
#define interleave_run_tests(tests) \
    (interleave_begin(), interleave_end(cmocka_run_group_tests(tests, NULL, NULL)))
void interleave_begin(void);
int interleave_end(int failed);
