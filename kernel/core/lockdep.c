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
// locks in this sense: while a timer's function runs, it "holds" itself, and del_timer_sync()
// "takes" it. Work items and irq threads are entered as locks are. Timers and tasklets, which must
// be quick, leave their name in struct cpu, where the first lock that they take finds it.
//
//   what is held now   lock_stack: per CPU for spinlocks, which stay on the CPU that took them, be
//                      it in a thread, a softirq or a handler; per thread for mutexes
//   what was seen      the graph (lock_graph.c), shared, only ever growing
//
// The way when nothing new is seen takes no lock (police.h): it pushes an entry, and looks at one
// bit of the graph and one of the class. The graph's own lock is a bare word, and is let go before
// anything is printed: printing takes locks. Whatever those are, they are not looked at (`blind`).
//
// Order only counts within a level (thread, softirq, hard interrupt): that a handler takes B while
// the thread below it holds A makes no order A, B. An NMI is not looked at at all.
//
// Each finding is told once; then the kernel goes on. Intel SDM has nothing to say here; Linux's
// Documentation/locking/lockdep-design.rst explains the same rules.
//
// Context: any; never blocks, allocates nothing.
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/kallsyms.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <lib/format.h>
#include <lib/string.h>

#include "lock_graph.h"
#include "lock_report.h"
#include "police.h"

enum {
    LOCKDEP_TOLD = 64,
    LOCKDEP_FUNCTIONS = 256,
    LOCKDEP_REPORT_MAX = 32,
    LOCKDEP_ANSWERS = 64,
};

struct police_cpu police_cpus[MAX_CPUS];
struct lock_graph lockdep_graph; // L by lockdep_word; bits and usages are read without
uint32_t lockdep_reports;

static uint32_t lockdep_word;               // A: the graph's lock
static uint32_t lockdep_told[LOCKDEP_TOLD]; // L: circles and inversions that were told
static unsigned lockdep_told_count;         // L
static struct lock_report lockdep_report;   // of whoever owns lockdep_reporting
static uint32_t lockdep_reporting;          // A: CPU + 1 that makes a report

// Classes of functions, by address. Only ever grows.
static struct {
    uintptr_t fn;   // A: 0: free
    uint16_t class; // A
} lockdep_functions[LOCKDEP_FUNCTIONS];

struct police_cpu *police_set_up(unsigned cpu)
{
    struct police_cpu *police = &police_cpus[cpu];

    police->irqs_off.begin_halves[1] = police->preempt_off.begin_halves[1] = LATENCY_NONE;
    return police;
}

// ---- on this CPU --------------------------------------------------------------------------------

// Interrupts, without telling the police: this is the police.
static unsigned long lockdep_irq_save(void)
{
    unsigned long flags = local_irq_flags();

    __asm__ volatile("cli" ::: "memory");
    return flags;
}

static void lockdep_irq_restore(unsigned long flags)
{
    if ((flags & CPU_FLAGS_IF) != 0) {
        __asm__ volatile("sti" ::: "memory");
    }
}

static struct lock_held *lockdep_find(struct lock_stack *stack, const void *lock)
{
    for (unsigned i = stack->count; i-- > 0;) {
        if (stack->held[i].lock == lock && stack->held[i].class != 0) {
            return &stack->held[i];
        }
    }
    return NULL;
}

// ---- the slow way: something new ----------------------------------------------------------------

static void lockdep_lock_graph(void)
{
    uint32_t free = 0;

    while (!__atomic_compare_exchange_n(&lockdep_word, &free, cpu_id() + 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
        cpu_relax();
        free = 0;
    }
}

static void lockdep_unlock_graph(void)
{
    __atomic_store_n(&lockdep_word, 0, __ATOMIC_RELEASE);
}

// True the first time.
static bool lockdep_tell_once(enum lock_finding finding, unsigned from, unsigned to)
{
    uint32_t key = (uint32_t)finding << 28 | from << 14 | to;

    for (unsigned i = 0; i < lockdep_told_count; i++) {
        if (lockdep_told[i] == key) {
            return false;
        }
    }
    if (lockdep_told_count < LOCKDEP_TOLD) {
        lockdep_told[lockdep_told_count++] = key;
    }
    return lockdep_reports < LOCKDEP_REPORT_MAX;
}

// The place to write a report in; NULL while another CPU makes one: one mistake at a time.
static struct lock_report *lockdep_begin_report(enum lock_finding finding)
{
    uint32_t nobody = 0;

    if (!__atomic_compare_exchange_n(&lockdep_reporting, &nobody, cpu_id() + 1, false,
                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return NULL;
    }
    lockdep_report = (struct lock_report){.finding = finding};
    return &lockdep_report;
}

// Without the graph's lock. `blind` is set.
static void lockdep_end_report(struct lock_report *report)
{
    if (report != NULL) {
        __atomic_fetch_add(&lockdep_reports, 1, __ATOMIC_RELAXED);
        lock_report_print(&lockdep_graph, report);
        __atomic_store_n(&lockdep_reporting, 0, __ATOMIC_RELEASE);
    }
}

// An irq-safe class from which `from` can be reached, and an irq-unsafe one that `to` reaches.
static struct lock_report *lockdep_check_inversion(unsigned from, unsigned to, unsigned in_usage)
{
    uint16_t before[LOCK_PATH_MAX], after[LOCK_PATH_MAX];
    unsigned on_usage = in_usage << 2;
    unsigned a = lock_graph_path_from_usage(&lockdep_graph, from, in_usage, before, LOCK_PATH_MAX);
    unsigned b =
        a == 0 ? 0 : lock_graph_path_to_usage(&lockdep_graph, to, on_usage, after, LOCK_PATH_MAX);
    bool one = from == to;

    if (a == 0 || b == 0 || a > LOCK_PATH_MAX || b > LOCK_PATH_MAX || a + b - one > LOCK_PATH_MAX ||
        a + b - one < 2 || !lockdep_tell_once(LOCK_INVERSION, before[0], after[b - 1])) {
        return NULL;
    }
    struct lock_report *report = lockdep_begin_report(LOCK_INVERSION);
    if (report != NULL) {
        report->in_usage = in_usage;
        report->length = a + b - one;
        memcpy(report->path, before, a * sizeof(before[0]));
        memcpy(report->path + a - one, after, b * sizeof(after[0]));
    }
    return report;
}

static struct lock_report *lockdep_check_usage(unsigned class, unsigned new, unsigned in_usage)
{
    unsigned both = in_usage | in_usage << 2;

    if ((new &both) == 0) {
        return NULL;
    }
    if ((lockdep_graph.usage[class] & both) != both) {
        return lockdep_check_inversion(class, class, in_usage);
    }
    if (!lockdep_tell_once(LOCK_USAGE, class, in_usage)) {
        return NULL;
    }
    struct lock_report *report = lockdep_begin_report(LOCK_USAGE);
    if (report != NULL) {
        report->in_usage = in_usage;
        report->length = 1;
        report->path[0] = (uint16_t) class;
    }
    return report;
}

void lockdep_mark(struct police_cpu *police, struct lock_held *held, unsigned usage)
{
    unsigned long flags = lockdep_irq_save();
    struct lock_class *class = &lockdep_graph.classes[held->class];
    struct lock_report *report;

    if (held->class == 0) {
        lockdep_irq_restore(flags);
        return;
    }
    police->blind = true;
    lockdep_lock_graph();
    unsigned new = usage & ~lockdep_graph.usage[held->class];
    for (unsigned i = 0; i < LOCK_USAGES; i++) {
        if ((new &BIT(i)) != 0) {
            class->usage_at[i] = held->at;
        }
    }
    lockdep_graph.usage[held->class] |= (uint8_t) new;
    report = lockdep_check_usage(held->class, new, LOCK_IN_HARDIRQ);
    if (report == NULL) {
        report = lockdep_check_usage(held->class, new, LOCK_IN_SOFTIRQ);
    }
    lockdep_unlock_graph();
    if (report != NULL) {
        report->wanted = held->class;
        report->wanted_at = held->at;
    }
    lockdep_end_report(report);
    police->blind = false;
    lockdep_irq_restore(flags);
}

// The edge is new. A circle is told, and the edge left out: whoever comes later is compared with
// the order that was there first.
static struct lock_report *lockdep_check_edge(const struct lock_edge *edge)
{
    uint16_t path[LOCK_PATH_MAX];
    struct lock_report *report = NULL;

    if (lock_graph_has_edge(&lockdep_graph, edge->from, edge->to)) {
        return NULL; // another CPU was here meanwhile
    }
    unsigned length = lock_graph_path(&lockdep_graph, edge->to, edge->from, path, LOCK_PATH_MAX);
    if (length != 0) {
        enum lock_finding finding = length == 1 ? LOCK_RECURSION : LOCK_CIRCLE;

        if (lockdep_tell_once(finding, edge->from, edge->to)) {
            report = lockdep_begin_report(finding);
        }
        if (report != NULL) {
            report->length = length;
            memcpy(report->path, path, min(length, (unsigned)LOCK_PATH_MAX) * sizeof(path[0]));
        }
        return report;
    }
    lock_graph_add_edge(&lockdep_graph, edge);
    report = lockdep_check_inversion(edge->from, edge->to, LOCK_IN_HARDIRQ);
    return report != NULL ? report : lockdep_check_inversion(edge->from, edge->to, LOCK_IN_SOFTIRQ);
}

static void lockdep_add_edge(struct police_cpu *police, const struct lock_held *from,
                             const struct lock_held *to)
{
    struct lock_edge edge = {from->class, to->class, from->at, to->at};
    unsigned long flags = lockdep_irq_save();
    struct lock_report *report;

    police->blind = true;
    lockdep_lock_graph();
    report = lockdep_check_edge(&edge);
    lockdep_unlock_graph();
    if (report != NULL) {
        report->held = from->class;
        report->held_at = from->at;
        report->wanted = to->class;
        report->wanted_at = to->at;
    }
    lockdep_end_report(report);
    police->blind = false;
    lockdep_irq_restore(flags);
}

// Locks that live for a moment (a completion on a stack) are looked up each time: the last answer
// for this name is kept at hand, and checked.
uint16_t lockdep_look_up(struct police_cpu *police, const char *name, enum lock_kind kind)
{
    static uint16_t answers[LOCKDEP_ANSWERS]; // A
    uint16_t *answer = &answers[((uintptr_t)name / 8 + kind) % LOCKDEP_ANSWERS];
    unsigned class = READ_ONCE(*answer);

    if (name == NULL || name[0] == '\0') {
        return 0;
    }
    if (!lock_graph_is_class(&lockdep_graph, class, name, kind)) {
        unsigned long flags = lockdep_irq_save();

        police->blind = true;
        lockdep_lock_graph();
        class = lock_graph_class(&lockdep_graph, name, kind);
        lockdep_unlock_graph();
        police->blind = false;
        lockdep_irq_restore(flags);
        WRITE_ONCE(*answer, (uint16_t) class);
    }
    return (uint16_t) class;
}

// Mistakes that need no graph. At most one a second: a loop that makes one would make thousands.
static void lockdep_tell(struct police_cpu *police, enum lock_finding finding,
                         const struct lock_held *wanted, const struct lock_held *held)
{
    unsigned long flags = lockdep_irq_save();
    struct lock_report *report;

    police->blind = true;
    report = lockdep_begin_report(finding);
    if (report != NULL) {
        report->length = 1;
        report->path[0] = report->wanted = wanted->class;
        report->wanted_at = wanted->at;
        report->same_lock = true;
        if (held != NULL) {
            report->held = held->class;
            report->held_at = held->at;
        }
    }
    lockdep_end_report(report);
    police->blind = false;
    lockdep_irq_restore(flags);
}

// ---- taking -------------------------------------------------------------------------------------

static __noinline void lockdep_check_function(struct police_cpu *police, const void *fn,
                                              const struct lock_held *new);

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

void lockdep_check_order(struct police_cpu *police, const struct lock_held *new)
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

// The first lock of a softirq or a handler, while it calls no function that others wait for: what it
// is taken under is no matter (lockdep_check_order_above()). True: it says nothing new about its
// class either, and is entered.
static __always_inline bool lockdep_first_above(const struct cpu *cpu, struct police_cpu *police,
                                                const struct lock_held *new, bool interrupts_on)
{
    if (new->level == LOCK_THREAD || new->class == 0 || police->stack.count != 0 ||
        cpu->calls[new->level - LOCK_SOFTIRQ] != NULL ||
        (lockdep_usage(cpu, new, interrupts_on) & ~lockdep_graph.usage[new->class]) != 0) {
        return false;
    }
    lockdep_push(&police->stack, new);
    return true;
}

unsigned long lockdep_spin_taken_rarely(struct police_cpu *police, struct spinlock *lock,
                                        bool tried, bool interrupts_on, const void *at,
                                        unsigned long flags)
{
    const struct cpu *cpu = cpu_self();
    struct lock_held *held;

    if (!lockdep_sees(cpu, police)) {
        return flags;
    }
    if (unlikely(lock->class == 0)) {
        WRITE_ONCE(lock->class, lockdep_look_up(police, lock->name, LOCK_SPIN));
    }
    struct lock_held new = {
        .lock = lock, .at = at, .what = LOCK_WHAT(lock->class, lockdep_level(cpu), tried)};
    if (lockdep_first_above(cpu, police, &new, interrupts_on)) {
        return flags;
    }
    held = lockdep_push(&police->stack, &new);
    return held == NULL
               ? flags
               : lockdep_examine(police, held, lockdep_usage(cpu, held, interrupts_on), flags);
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

// ---- functions that are waited for --------------------------------------------------------------

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

static __noinline void lockdep_function_name(const void *fn, char name[LOCK_NAME_SIZE])
{
    uintptr_t offset;
    const char *symbol = kallsyms_lookup((uintptr_t)fn, &offset);

    snprintf(name, LOCK_NAME_SIZE, "fn:%s", symbol != NULL ? symbol : "?");
}

static void lockdep_function_acquire(const void *fn, uint16_t *class, const void *at)
{
    char name[LOCK_NAME_SIZE] = "fn:";

    if (unlikely(*class == 0)) {
        lockdep_function_name(fn, name);
    }
    lockdep_acquire(fn, class, name, LOCK_FUNCTION, false, at);
}

// The class of a function that is running, or that is waited for, as a lock. Class 0: no room.
static struct lock_held lockdep_function_lock(struct police_cpu *police, const void *fn)
{
    uint16_t *class = lockdep_function_class(fn);

    if (class != NULL && unlikely(*class == 0)) {
        char name[LOCK_NAME_SIZE];

        lockdep_function_name(fn, name);
        WRITE_ONCE(*class, lockdep_look_up(police, name, LOCK_FUNCTION));
    }
    return (struct lock_held){.lock = fn, .at = fn, .class = class != NULL ? *class : 0};
}

// The function that this softirq or interrupt calls comes before all that it takes.
static __noinline void lockdep_check_function(struct police_cpu *police, const void *fn,
                                              const struct lock_held *new)
{
    struct lock_held calls = lockdep_function_lock(police, fn);

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
        struct lock_held runs = lockdep_function_lock(police, fn);

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

// ---- showing ------------------------------------------------------------------------------------

const struct lock_stack *lockdep_cpu_stack(unsigned cpu)
{
    return &police_cpus[cpu].stack;
}

static const char *const lockdep_kinds[] = {"spinlock", "mutex", "function", "completion"};

static void lockdep_show_entry(struct text *t, const struct lock_held *held, unsigned number)
{
    static const char *const levels[] = {"thread", "softirq", "hardirq"};

    unsigned class = held->class < LOCK_CLASSES ? held->class : 0; // another CPU's: it may change

    text_printf(t, " #%u: (%s) %s, %s, taken at ", number,
                class != 0 ? lockdep_graph.classes[class].name : "?",
                lockdep_kinds[lockdep_graph.classes[class].kind], levels[held->level]);
    text_symbol(t, (uintptr_t)held->at);
}

void lockdep_show_held(struct text *t, const struct lock_stack *stack)
{
    unsigned count = min(READ_ONCE(stack->count), (unsigned)LOCKS_HELD_MAX);

    for (unsigned i = 0; i < count; i++) {
        lockdep_show_entry(t, &stack->held[i], i);
        text_putc(t, '\n');
    }
}

void lockdep_print_stack(const struct lock_stack *stack,
                         void (*print)(const char *format, ...) __printf(1, 2))
{
    unsigned count = min(READ_ONCE(stack->count), (unsigned)LOCKS_HELD_MAX);

    for (unsigned i = 0; i < count; i++) {
        char line[200];
        struct text t = TEXT_INIT(line);

        lockdep_show_entry(&t, &stack->held[i], i);
        print("  %s", line);
    }
}

void lockdep_print_cpu(unsigned cpu, void (*print)(const char *format, ...) __printf(1, 2))
{
    const struct lock_stack *stack = &police_cpus[cpu].stack;

    if (police_on && READ_ONCE(stack->count) != 0) {
        print("  spinlocks held by CPU %u:", cpu);
        lockdep_print_stack(stack, print);
    }
}

void lockdep_print_held(void (*print)(const char *format, ...) __printf(1, 2))
{
    const struct lock_stack *thread = lockdep_thread_stack();

    if (!police_on) {
        return;
    }
    if (thread != NULL && thread->count != 0) {
        print("  held by the thread:");
        lockdep_print_stack(thread, print);
    }
    lockdep_print_cpu(cpu_id(), print);
    if ((thread == NULL || thread->count == 0) && this_cpu(police_cpus).stack.count == 0) {
        print("  no locks held");
    }
}

// Two letters as Linux prints them: hard interrupts, softirqs; '+' held with them on, '-' taken in
// one, '?' both, '.' neither.
static void lockdep_usage_letters(char letters[3], unsigned usage)
{
    for (unsigned kind = 0; kind < 2; kind++) {
        bool in = (usage & (LOCK_IN_HARDIRQ << kind)) != 0;
        bool on = (usage & (LOCK_HARDIRQ_ON << kind)) != 0;

        letters[kind] = in ? (on ? '?' : '-') : (on ? '+' : '.');
    }
    letters[2] = '\0';
}

static void lockdep_show(struct text *t, unsigned long index __unused)
{
    const struct lock_graph *graph = &lockdep_graph;

    text_puts(t,
              "# class, kind, usage (hard interrupts, softirqs: - taken in, + held with them on), "
              "what was taken while it was held\n");
    for (unsigned class = 1; class < READ_ONCE(graph->class_count); class ++) {
        char letters[3];

        lockdep_usage_letters(letters, graph->usage[class]);
        text_printf(t, "%-32s %-8s %s", graph->classes[class].name,
                    lockdep_kinds[graph->classes[class].kind], letters);
        for (unsigned to = 1; to < graph->class_count; to++) {
            if (lock_graph_has_edge(graph, class, to)) {
                text_printf(t, " -> %s", graph->classes[to].name);
            }
        }
        text_putc(t, '\n');
    }
}

static void lockdep_stats_show(struct text *t, unsigned long index __unused)
{
    const struct lock_graph *graph = &lockdep_graph;
    unsigned used[LOCK_USAGES] = {0};

    for (unsigned class = 1; class < graph->class_count; class ++) {
        for (unsigned i = 0; i < LOCK_USAGES; i++) {
            used[i] += (graph->usage[class] >> i & 1);
        }
    }
    text_printf(t, " %-32s %8s\n", "police:", police_on ? "on" : "off");
    text_printf(t, " %-32s %8u [max: %u]\n",
                "lock-classes:", graph->class_count != 0 ? graph->class_count - 1 : 0,
                LOCK_CLASSES - 1);
    text_printf(t, " %-32s %8u [max: %u]\n", "direct dependencies:", graph->edge_count, LOCK_EDGES);
    text_printf(t, " %-32s %8u\n", "hardirq-safe locks:", used[0]);
    text_printf(t, " %-32s %8u\n", "hardirq-unsafe locks:", used[2]);
    text_printf(t, " %-32s %8u\n", "softirq-safe locks:", used[1]);
    text_printf(t, " %-32s %8u\n", "softirq-unsafe locks:", used[3]);
    text_printf(t, " %-32s %8u\n", "without room:", graph->dropped);
    text_printf(t, " %-32s %8u\n", "reports:", lockdep_reports);
}

PROC_FILE("lockdep", lockdep_show);
PROC_FILE("lockdep_stats", lockdep_stats_show);
