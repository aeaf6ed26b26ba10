// Real sources in every order of their steps: a scheduler that may switch CPUs at each step, and
// tries all ways to do so, depth first.
//
// Each actor is a CPU's thread, or a softirq or an interrupt on a CPU, and a coroutine here. A step
// ends where another CPU's doing could make a difference: before and after a lock, before a
// wake-up, at each look at a condition, where a thread goes to sleep, and, where a test asks for
// it, before each atomic access. A way is a row of choices, one at each step; it is run again from
// the start with the last choice that has an alternative changed, until there is none. More than
// switches_max switches away from somebody who could have gone on, or out of turn from somebody who
// spins, are not tried: mistakes of this kind need two. Who spins is not asked again before
// somebody else has made a step.
//
// What is told: ways that do not come to an end (a lost wake-up, a deadlock), threads that are made
// runnable twice, what the scene's own checks count, and what AddressSanitizer sees.
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <asm/prctl.h>
#include <cmocka.h>

#include "interleave.h"

enum { STACK_SIZE = 64 << 10, WAY_STEPS_MAX = 3000, IN_VAIN_MAX = 20 };

struct search search;
struct cpu cpus[MAX_CPUS]; // what %gs leads to

static struct actor actors[ACTORS_MAX];
static unsigned actor_count, running; // the actor that has the host's CPU
static ucontext_t chooser;
static bool on_the_way; // an actor has it

// ---- the ways ----

// Which of `options` possibilities: as before where this way repeats the last one, else the first.
static unsigned choose(unsigned options)
{
    unsigned at = search.depth++;

    assert_true(at < STEPS_MAX);
    if (at >= search.length) {
        search.choice[at] = 0;
        search.options[at] = (uint8_t)options;
        search.length = at + 1;
    }
    assert_int_equal(search.options[at], options);
    return search.choice[at];
}

// The next way; false: all were gone.
static bool next_way(void)
{
    while (search.length != 0) {
        unsigned last = search.length - 1;

        if (++search.choice[last] < search.options[last]) {
            return true;
        }
        search.length--;
    }
    return false;
}

// ---- the machine ----

static bool under_way(const struct actor *a)
{
    return a->begun && !a->done;
}

// Is it kept from going on, or from beginning, by what else its CPU does?
static bool held_up(const struct actor *a)
{
    for (unsigned k = 0; k < actor_count; k++) {
        const struct actor *other = &actors[k];

        if (other == a || other->cpu != a->cpu || !under_way(other)) {
            continue;
        }
        if (other->level > a->level ||
            (!a->begun && (other->level == a->level || other->irqs_off))) {
            return true;
        }
    }
    return false;
}

static void take_cpu(unsigned cpu)
{
    static unsigned taken = MAX_CPUS;

    if (cpu != taken) {
        taken = cpu;
        syscall(SYS_arch_prctl, ARCH_SET_GS, &cpus[cpu]); // programs do not use it here
    }
}

static bool may_run(unsigned i)
{
    const struct actor *a = &actors[i];

    if (a->done || a->asleep || a->spins || held_up(a) ||
        (a->wants != NULL && a->wants->holder != 0)) {
        return false;
    }
    if (a->begun || a->ready == NULL) {
        return true;
    }
    take_cpu(a->cpu);
    return a->ready();
}

void step(void)
{
    if (on_the_way) { // a set-up takes no steps
        swapcontext(&actors[running].context, &chooser);
    }
}

void looked_in_vain(void)
{
    actors[running].spins = true;
}

void spin(void)
{
    looked_in_vain();
    step();
}

void step_irqs_off(void)
{
    actors[running].irqs_off++;
}

void step_irqs_on(void)
{
    assert_true(actors[running].irqs_off != 0);
    actors[running].irqs_off--;
    step();
}

const struct actor *actor_running(void)
{
    return &actors[running];
}

static void actor_main(void)
{
    for (;;) {
        struct actor *a = &actors[running];

        a->fn();
        if (a->ready != NULL) {
            a->begun = false;
        } else {
            a->done = true;
        }
        step();
    }
}

static void run_actor(unsigned i)
{
    take_cpu(actors[i].cpu);
    running = i;
    actors[i].begun = true;
    for (unsigned k = 0; k < actor_count; k++) {
        actors[k].spins = actors[k].spins && k == i;
    }
    on_the_way = true;
    swapcontext(&chooser, &actors[i].context);
    on_the_way = false;
}

// Who can make the next step. `last` is the first, as to go on is the first choice. If he spins it
// is the next in turn, so that others than those who spin have theirs. `may_switch`: the rest, too.
static unsigned candidates(unsigned last, bool may_switch, unsigned *can)
{
    bool spun = last < actor_count && actors[last].spins;
    unsigned count = 0;

    if (last < actor_count && may_run(last)) {
        can[count++] = last;
    }
    for (unsigned k = 0; k < actor_count; k++) {
        unsigned i = spun ? (last + 1 + k) % actor_count : k;

        if (count != 0 && !may_switch && (spun || can[0] == last)) {
            break;
        }
        if (i != last && may_run(i)) {
            can[count++] = i;
        }
    }
    return count;
}

// Nobody can go on, but some only because they have looked in vain: all of them once more.
static bool let_spin_again(void)
{
    bool any = false;

    for (unsigned i = 0; i < actor_count; i++) {
        any |= actors[i].spins;
        actors[i].spins = false;
    }
    return any;
}

// One way to its end; false: it had none.
static bool run_way(void)
{
    unsigned last = ACTORS_MAX, switches = 0, in_vain = 0, can[ACTORS_MAX];

    search.depth = 0;
    for (unsigned steps = 0; steps < WAY_STEPS_MAX; steps++) {
        bool spun = last < actor_count && actors[last].spins;
        unsigned count = candidates(last, switches < search.switches_max, can);

        if (count == 0 && (in_vain++ == IN_VAIN_MAX || !let_spin_again())) {
            break;
        }
        if (count == 0) {
            continue;
        }
        unsigned chosen = count == 1 ? 0 : choose(count);
        switches += (spun || can[0] == last) && chosen != 0;
        last = can[chosen];
        run_actor(last);
    }
    for (unsigned i = 0; i < actor_count; i++) {
        const struct actor *a = &actors[i];

        if (!a->done && !(a->serves && a->asleep) && (a->ready == NULL || a->begun || may_run(i))) {
            return false;
        }
    }
    return true;
}

void actor_add(void (*fn)(void), unsigned cpu, enum actor_level level, bool (*ready)(void))
{
    assert_true(actor_count < ACTORS_MAX);
    struct actor *a = &actors[actor_count++];
    uint8_t *stack = a->stack != NULL ? a->stack : malloc(STACK_SIZE);

    *a = (struct actor){.fn = fn, .cpu = cpu, .level = level, .ready = ready, .stack = stack};
    if (level == ACTOR_THREAD) { // in an interrupt `current` is who was interrupted
        cpus[cpu] = (struct cpu){.self = &cpus[cpu], .id = cpu, .thread = &a->thread};
    }
    getcontext(&a->context);
    a->context.uc_stack.ss_sp = stack;
    a->context.uc_stack.ss_size = STACK_SIZE;
    makecontext(&a->context, actor_main, 0);
}

static void actor_run_thread(void)
{
    current->fn(current->arg);
}

struct thread *actor_spawn(void (*fn)(void *arg), void *arg, unsigned cpu)
{
    unsigned i = actor_count;

    actor_add(actor_run_thread, i, ACTOR_THREAD, NULL);
    actors[i].serves = true;
    actors[i].thread.fn = fn;
    actors[i].thread.arg = arg;
    cpus[i].id = cpu; // as the source knows it; what it shares with others there is memory only
    return &actors[i].thread;
}

void explore(void (*set_up)(void), void (*at_end)(void), unsigned switches_max)
{
    memset(&search, 0, sizeof(search));
    search.switches_max = switches_max;
    do {
        actor_count = 0;
        set_up();
        if (!run_way()) {
            search.lost++;
        } else if (at_end != NULL) {
            at_end();
        }
        search.ways++;
    } while (next_way());
}

void explore_mistake(int mistake, void (*set_up)(void), void (*at_end)(void), unsigned switches_max)
{
    explore(set_up, at_end, switches_max);
    print_message("mistake %d: %u of %llu ways are wrong, %u do not end\n", mistake, search.wrong,
                  (unsigned long long)search.ways, search.lost);
    assert_true(search.wrong + search.lost > 0);
    assert_true(search.wrong + search.lost < search.ways); // most go well: luck does not find it
}

void interleave_begin(void)
{
    cpus[0].self = &cpus[0];
    take_cpu(0);
}

int interleave_end(int failed)
{
    for (unsigned i = 0; i < ACTORS_MAX; i++) {
        free(actors[i].stack);
    }
    return failed;
}

// ---- what sources ask for ----

void spin_lock_init(struct spinlock *lock, const char *name)
{
    *lock = (struct spinlock)SPINLOCK_INIT(name);
}

void spin_lock(struct spinlock *lock)
{
    struct actor *a = &actors[running];

    a->wants = lock;
    step();
    assert_int_equal(lock->holder, 0);
    a->wants = NULL;
    lock->holder = running + 1;
}

void spin_unlock(struct spinlock *lock)
{
    assert_int_equal(lock->holder, running + 1);
    lock->holder = 0;
    step();
}

void spin_lock_irq(struct spinlock *lock)
{
    step_irqs_off();
    spin_lock(lock);
}

void spin_unlock_irq(struct spinlock *lock)
{
    actors[running].irqs_off--;
    spin_unlock(lock);
}

unsigned long spin_lock_irqsave_flags(struct spinlock *lock)
{
    spin_lock_irq(lock);
    return CPU_FLAGS_IF;
}

void spin_unlock_irqrestore(struct spinlock *lock, unsigned long flags)
{
    assert_int_equal(flags, CPU_FLAGS_IF);
    spin_unlock_irq(lock);
}

bool sched_wake_atomic(struct thread *thread)
{
    struct actor *sleeper = container_of(thread, struct actor, thread);

    step();
    if (thread->state == THREAD_RUNNING) {
        return false;
    }
    thread->state = THREAD_RUNNING;
    if (sleeper->asleep) {
        search.doubles += thread->on_queue;
        thread->on_queue = true;
        sleeper->asleep = false;
    }
    return true;
}

void schedule(void)
{
    struct actor *a = &actors[running];
    bool told = a->thread.state != THREAD_RUNNING && a->thread.sleep_hook != NULL;

    assert_int_equal(a->irqs_off, 0);
    if (told) {
        a->thread.sleep_hook(&a->thread, true);
    }
    step();
    if (a->thread.state != THREAD_RUNNING) {
        a->thread.on_queue = false;
        a->asleep = true;
        step(); // until somebody wakes it
        assert_int_equal(a->thread.state, THREAD_RUNNING);
    }
    if (told) {
        a->thread.sleep_hook(&a->thread, false);
    }
}
