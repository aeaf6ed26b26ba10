// The lock validator: finds deadlocks that have not happened.
//
// A deadlock needs bad luck: two CPUs at the same place at the same moment. The mistake that makes
// it possible needs none, it is there each time the code runs. So every taking of a lock is
// compared with what has been seen since boot, by kinds of locks (classes: all of one name), and
// three mistakes are told the first time that the second half of them is seen:
//
//   order      somebody took B while he held A; now somebody wants A while he holds B, or B and C
//              and A after each other: a circle
//   usage      an interrupt handler took A; somebody held A with interrupts on. The handler may
//              come just then, on that CPU, and wait for ever
//   inversion  a handler takes A; A is held while B is taken; B is held with interrupts on.
//              The handler waits for A, whose holder waits for B, whose holder was interrupted
//
// Softirqs count as interrupts, too, with switches of their own. Functions that are waited for are
// locks in this sense (lockdep_wait.c).
//
//   what is held now   lock_stack: per CPU for spinlocks, which stay on the CPU that took them, be
//                      it in a thread, a softirq or a handler; per thread for mutexes
//   what was seen      the graph (lock_graph.c), shared, only ever growing
//
// This file keeps the first up to date, taking by taking. The way when nothing new is seen takes no
// lock (police.h): it pushes an entry, and looks at one bit of the graph and one of the class. What
// is new goes to lockdep_check.c.
//
// Order only counts within a level (thread, softirq, hard interrupt): that a handler takes B while
// the thread below it holds A makes no order A, B. An NMI is not looked at at all.
//
// Each finding is told once; then the kernel goes on. Intel SDM has nothing to say here; Linux's
// Documentation/locking/lockdep-design.rst explains the same rules.
//
// Context: any; never blocks, allocates nothing. Previous: spinlock.c. Next: lockdep_check.c (what
// is new), lockdep_wait.c (functions and completions), lockdep_show.c.
#include "lockdep_internal.h"

struct police_cpu police_cpus[MAX_CPUS];

struct police_cpu *police_set_up(unsigned cpu)
{
    struct police_cpu *police = &police_cpus[cpu];

    police->irqs_off.begin_halves[1] = police->preempt_off.begin_halves[1] = LATENCY_NONE;
    return police;
}

// ---- the order of what is held ------------------------------------------------------------------

// From each lock of a stack to the new one; those below the last one that was waited for were
// compared when that one was taken. False: go on below.
static bool lockdep_check_stack(struct police_cpu *police, const struct lock_stack *stack,
                                const struct lock_held *new)
{
    for (unsigned i = stack->count; i-- > 0;) {
        const struct lock_held *held = &stack->held[i];

        if (held == new || held->level != new->level || held->class == 0) {
            continue;
        }
        if (unlikely(!lock_graph_has_edge(&lockdep_graph, held->class, new->class))) {
            lockdep_add_edge(police, held, new);
        }
        if (!held->tried) {
            return true;
        }
    }
    return false;
}

// In a softirq or a hard interrupt. What the thread below it holds is no matter; but it may be
// calling a function that others wait for.
static void lockdep_check_order_above(struct police_cpu *police, const struct lock_held *new)
{
    const void *calls = cpu_self()->calls[new->level - LOCK_SOFTIRQ];

    if (new == police->stack.held && calls == NULL) {
        return; // the first of a handler's or a softirq's: there is no other
    }
    if (new->class != 0 && !lockdep_check_stack(police, &police->stack, new) && calls != NULL) {
        lockdep_check_function(police, calls, new);
    }
}

static void lockdep_check_order(struct police_cpu *police, const struct lock_held *new)
{
    if (new->level != LOCK_THREAD) {
        lockdep_check_order_above(police, new);
        return;
    }
    const struct lock_stack *thread = lockdep_thread_stack();
    if (new->class != 0 && !lockdep_check_stack(police, &police->stack, new) && thread != NULL) {
        lockdep_check_stack(police, thread, new);
    }
}

// ---- taking -------------------------------------------------------------------------------------

static struct lock_held *lockdep_find(struct lock_stack *stack, const void *lock)
{
    for (unsigned i = stack->count; i-- > 0;) {
        if (stack->held[i].lock == lock && stack->held[i].class != 0) {
            return &stack->held[i];
        }
    }
    return NULL;
}

// What taking a lock here says about its class. A trylock cannot make an interrupt wait.
static unsigned lockdep_usage(const struct cpu *cpu, const struct lock_held *held,
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

// The next entry of a stack; NULL when there is no room. The order of the steps is told in
// police.h.
static struct lock_held *lockdep_push(struct lock_stack *stack, const struct lock_held *new)
{
    unsigned count = stack->count;
    struct lock_held *held = &stack->held[count];

    if (unlikely(count == LOCKS_HELD_MAX)) {
        stack->lost++;
        return NULL;
    }
    WRITE_ONCE(stack->count, count + 1);
    barrier();
    held->lock = new->lock;
    held->at = new->at;
    barrier();
    WRITE_ONCE(held->what, new->what);
    return held;
}

unsigned long lockdep_examine(struct police_cpu *police, struct lock_held *held, unsigned usage,
                              unsigned long flags)
{
    if ((usage & ~lockdep_graph.usage[held->class]) != 0) {
        lockdep_mark(police, held, usage);
    }
    if (!held->tried) {
        lockdep_check_order(police, held);
    }
    return flags;
}

// Is its order known? Looked at is the topmost lock of the same level, which is mostly the only
// one. What a softirq or a handler takes first is in order with all, unless it calls a function
// that others wait for (lockdep_check_order_above()).
static __always_inline bool lockdep_is_in_order(const struct cpu *cpu, struct police_cpu *police,
                                                const struct lock_held *new)
{
    unsigned count = police->stack.count;
    const struct lock_held *place = &police->stack.held[count], *top = place - 1;

    if (new->tried) {
        return true;
    }
    if (new->level == LOCK_THREAD) {
        return lockdep_spin_order_is_known(place, count, new->class);
    }
    if (count == 0 || top->level != new->level) {
        return cpu->calls[new->level - LOCK_SOFTIRQ] == NULL;
    }
    return !top->tried && lock_graph_has_edge(&lockdep_graph, top->class, new->class);
}

// The same ways as lockdep_spin_taken()'s, for every level. True: it says nothing new, and is
// entered.
static __always_inline bool lockdep_says_nothing_new(const struct cpu *cpu,
                                                     struct police_cpu *police,
                                                     const struct lock_held *new,
                                                     bool interrupts_on)
{
    if (new->class == 0 || police->stack.count == LOCKS_HELD_MAX ||
        (lockdep_usage(cpu, new, interrupts_on) & ~lockdep_graph.usage[new->class]) != 0 ||
        !lockdep_is_in_order(cpu, police, new)) {
        return false;
    }
    lockdep_push(&police->stack, new);
    return true;
}

// The first of its name, or something new about its class; or a lock that was made a moment ago,
// and whose class is looked up.
static __noinline unsigned long lockdep_spin_taken_new(struct police_cpu *police,
                                                       struct spinlock *lock, bool tried,
                                                       bool interrupts_on, const void *at,
                                                       unsigned long flags)
{
    const struct cpu *cpu = cpu_self();

    if (lock->class == 0) {
        WRITE_ONCE(lock->class, lockdep_look_up(police, lock->name, LOCK_SPIN));
        if (lock->class != 0) {
            return lockdep_spin_taken_rarely(police, lock, tried, interrupts_on, at, flags);
        }
    }
    struct lock_held new = {
        .lock = lock, .at = at, .what = LOCK_WHAT(lock->class, lockdep_level(cpu), tried)};
    struct lock_held *held = lockdep_push(&police->stack, &new);
    return held == NULL
               ? flags
               : lockdep_examine(police, held, lockdep_usage(cpu, held, interrupts_on), flags);
}

unsigned long lockdep_spin_taken_rarely(struct police_cpu *police, struct spinlock *lock,
                                        bool tried, bool interrupts_on, const void *at,
                                        unsigned long flags)
{
    const struct cpu *cpu = cpu_self();
    struct lock_held new = {
        .lock = lock, .at = at, .what = LOCK_WHAT(lock->class, lockdep_level(cpu), tried)};

    if (!lockdep_sees(cpu, police) ||
        likely(lockdep_says_nothing_new(cpu, police, &new, interrupts_on))) {
        return flags;
    }
    return lockdep_spin_taken_new(police, lock, tried, interrupts_on, at, flags);
}

bool lockdep_spin_again(struct police_cpu *police, struct spinlock *lock, const void *at)
{
    struct lock_held *held = lockdep_find(&police->stack, lock);

    if (held == NULL || held->level != lockdep_level(cpu_self())) {
        return false;
    }
    struct lock_held again = {.at = at, .class = held->class};
    lockdep_tell(police, LOCK_RECURSION, &again, held);
    held->nested++;
    return true;
}

// Mutexes and functions: a thread's, unless a function runs in a softirq or a handler.
static struct lock_stack *lockdep_stack(struct police_cpu *police)
{
    return lockdep_level(cpu_self()) == LOCK_THREAD ? lockdep_thread_stack() : &police->stack;
}

static void lockdep_enter(struct police_cpu *police, struct lock_stack *stack,
                          const struct lock_held *new, bool is_function, bool interrupts_on)
{
    struct lock_held *held = lockdep_push(stack, new);

    if (held != NULL) {
        unsigned usage = is_function ? 0 : lockdep_usage(cpu_self(), held, interrupts_on);

        lockdep_examine(police, held, usage, 0);
    }
}

// A thread that softirqs may interrupt, and that holds nothing: its first mutex is in order with
// everything, and cannot be one that it has. Says it anything new about its class? True: it does
// not, and the mutex is entered. With interrupts on, as lockdep_spin_taken(): the stack is the
// thread's, wherever it goes on, and who holds a spinlock of a CPU stays there.
static bool lockdep_first_of_thread(const void *lock, unsigned class, bool tried, const void *at)
{
    const struct police_cpu *police = cpu_field(police);
    struct lock_stack *stack = lockdep_thread_stack();
    const unsigned usage = LOCK_HARDIRQ_ON | LOCK_SOFTIRQ_ON; // at most

    if (unlikely(cpu_field_set(above_thread) || stack == NULL || stack->count != 0 || class == 0 ||
                 police->stack.count != 0 || police->blind ||
                 (usage & ~lockdep_graph.usage[class]) != 0)) {
        return false;
    }
    struct lock_held new = {.lock = lock, .at = at, .what = LOCK_WHAT(class, LOCK_THREAD, tried)};
    lockdep_push(stack, &new);
    return true;
}

bool lockdep_acquire(const void *lock, uint16_t *class, const char *name, enum lock_kind kind,
                     bool tried, const void *at)
{
    if (kind == LOCK_MUTEX && likely(lockdep_first_of_thread(lock, *class, tried, at))) {
        return false;
    }
    unsigned long flags = lockdep_irq_save();
    struct police_cpu *police = &this_cpu(police_cpus);
    struct lock_stack *stack = lockdep_stack(police);
    struct lock_held *held = NULL;

    if (stack != NULL && lockdep_sees(cpu_self(), police)) {
        held = lockdep_find(stack, lock);
        if (*class == 0) {
            WRITE_ONCE(*class, lockdep_look_up(police, name, kind));
        }
        struct lock_held new = {.lock = lock,
                                .at = at,
                                .class = *class,
                                .level = lockdep_level(cpu_self()),
                                .tried = tried};
        if (unlikely(held != NULL)) {
            lockdep_tell(police, LOCK_RECURSION, &new, held);
            held->nested++;
        } else {
            lockdep_enter(police, stack, &new, kind >= LOCK_FUNCTION, (flags & CPU_FLAGS_IF) != 0);
        }
    }
    lockdep_irq_restore(flags);
    return held != NULL;
}

// ---- giving back --------------------------------------------------------------------------------

// Not the topmost, or not once only, or not at all.
bool lockdep_release_other(struct police_cpu *police, struct lock_stack *stack, const void *lock,
                           uint16_t class, const char *name, const void *at)
{
    struct lock_held *held = lockdep_find(stack, lock);

    if (held == NULL && stack->lost != 0) {
        stack->lost--;
        return true;
    }
    if (held == NULL) {
        struct lock_held stray = {
            .at = at, .class = class != 0 ? class : lockdep_look_up(police, name, LOCK_SPIN)};

        lockdep_tell(police, LOCK_UNBALANCED, &stray, NULL);
        return false;
    }
    if (held->nested != 0) {
        held->nested--;
        return false;
    }
    unsigned long flags = lockdep_irq_save();
    for (struct lock_held *last = &stack->held[stack->count - 1]; held < last; held++) {
        *held = held[1];
    }
    held->what = 0;
    stack->count--;
    lockdep_irq_restore(flags);
    return true;
}

// The topmost of a thread's own, as it is nearly always.
static bool lockdep_release_of_thread(const void *lock)
{
    struct lock_stack *stack = lockdep_thread_stack();

    return likely(!cpu_field_set(above_thread) && stack != NULL && !cpu_field(police)->blind) &&
           lockdep_pop(stack, lock);
}

bool lockdep_release(const void *lock, uint16_t class, const void *at)
{
    if (likely(lockdep_release_of_thread(lock))) {
        return true;
    }
    unsigned long flags = lockdep_irq_save();
    struct police_cpu *police = &this_cpu(police_cpus);
    struct lock_stack *stack = lockdep_stack(police);
    bool gives = true;

    if (stack != NULL && lockdep_sees(cpu_self(), police) && !lockdep_pop(stack, lock)) {
        gives = lockdep_release_other(police, stack, lock, class, NULL, at);
    }
    lockdep_irq_restore(flags);
    return gives;
}

// ---- locks that are taken unseen ----------------------------------------------------------------

void lockdep_taken_by_interrupts(struct spinlock *lock, const void *at)
{
    if (!police_on) {
        return;
    }
    unsigned long flags = lockdep_irq_save();
    struct police_cpu *police = &this_cpu(police_cpus);
    struct lock_held held = {.lock = lock, .at = at, .level = LOCK_HARDIRQ};

    if (lock->class == 0) {
        lock->class = lockdep_look_up(police, lock->name, LOCK_SPIN);
    }
    held.class = lock->class;
    if ((LOCK_IN_HARDIRQ & ~lockdep_graph.usage[held.class]) != 0) {
        lockdep_mark(police, &held, LOCK_IN_HARDIRQ);
    }
    lockdep_irq_restore(flags);
}

// ---- interrupts, panics, sleep ------------------------------------------------------------------

// Interrupts are about to be turned on, and this CPU holds something: an interrupt may want it.
void lockdep_interrupts_on(struct police_cpu *police)
{
    const struct cpu *cpu = cpu_self();
    uint8_t level = lockdep_level(cpu);

    for (unsigned i = 0; i < police->stack.count && lockdep_sees(cpu, police); i++) {
        struct lock_held *held = &police->stack.held[i];
        unsigned usage = lockdep_usage(cpu, held, true);

        if (held->level == level && held->class != 0 &&
            lockdep_graph.classes[held->class].kind < LOCK_FUNCTION &&
            (usage & ~lockdep_graph.usage[held->class]) != 0) {
            lockdep_mark(police, held, usage);
        }
    }
}

void lockdep_look_away(void)
{
    this_cpu(police_cpus).blind = true;
}

void lockdep_set_aside(struct lock_stack *saved)
{
    struct lock_stack *stack = &this_cpu(police_cpus).stack;

    *saved = *stack;
    stack->count = 0;
    stack->lost = 0;
}

void lockdep_bring_back(const struct lock_stack *saved)
{
    this_cpu(police_cpus).stack = *saved;
}
