// Tasklets: small functions to be run soon, once, in softirq context. A tasklet never runs on two
// CPUs at once; two tasklets may.
//
//   TASKLET_SCHEDULED  asked for: on a CPU's list, or parked
//   TASKLET_RUNNING    its function is being called on some CPU
//   TASKLET_PARKED     found disabled; tasklet_enable() puts it back on a list
//
// tasklet_schedule() sets SCHEDULED; who finds it set has nothing to do, the run to come will see
// what he has to show. The softirq clears SCHEDULED before it calls the function: asked for again
// from then on, even by the function itself, it runs exactly once more. If another CPU finds the
// tasklet on its list while it is still RUNNING here, it puts it back and tries again in the next
// round.
//
// Linux calls tasklets deprecated (threads and workqueues do more); they are here because everybody
// has to read them.
//
// Context: tasklet_action softirq; the rest as <defer/tasklet.h> says.
#include <lib/string.h>
#include <contract/proc_file.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/lockdep.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <core/trace.h>
#include <sched/wait.h>
#include <defer/softirq.h>
#include <defer/tasklet.h>

enum { TASKLET_SCHEDULED = 1, TASKLET_RUNNING = 2, TASKLET_PARKED = 4, TASKLET_HI = 8 };

// Tasklets with the same function, for /proc/tasklets. Tasklets come and go; this stays.
struct tasklet_kind {
    char name[16];                              // I: a copy, as the owner may go away
    void (*callback)(struct tasklet_struct *t); // I
    uint64_t runs;                              // A
};

enum { TASKLET_KINDS = 32 };

static DEFINE_SPINLOCK(tasklet_kinds_lock);
static struct tasklet_kind tasklet_kinds[TASKLET_KINDS]; // L
static unsigned tasklet_kind_count;                      // L
static struct tasklet_kind tasklet_kind_rest = {.name = "(others)"};

static struct tasklet_kind *tasklet_kind_of(void (*callback)(struct tasklet_struct *t),
                                            const char *name)
{
    struct tasklet_kind *kind = &tasklet_kind_rest;
    unsigned long flags;

    spin_lock_irqsave(&tasklet_kinds_lock, flags);
    for (unsigned i = 0; i < tasklet_kind_count && kind == &tasklet_kind_rest; i++) {
        if (tasklet_kinds[i].callback == callback) {
            kind = &tasklet_kinds[i];
        }
    }
    if (kind == &tasklet_kind_rest && tasklet_kind_count < TASKLET_KINDS) {
        kind = &tasklet_kinds[tasklet_kind_count++];
        kind->callback = callback;
        strscpy(kind->name, name, sizeof(kind->name));
    }
    spin_unlock_irqrestore(&tasklet_kinds_lock, flags);
    return kind;
}

void tasklet_setup(struct tasklet_struct *t, void (*callback)(struct tasklet_struct *t),
                   const char *name)
{
    *t = (struct tasklet_struct){
        .callback = callback, .name = name, .kind = tasklet_kind_of(callback, name)};
}

// Sets the bit; true when it was clear.
static bool tasklet_set(struct tasklet_struct *t, uint32_t bit)
{
    return (__atomic_fetch_or(&t->state, bit, __ATOMIC_SEQ_CST) & bit) == 0;
}

// Clears the bits; true when one was set.
static bool tasklet_clear(struct tasklet_struct *t, uint32_t bits)
{
    return (__atomic_fetch_and(&t->state, ~bits, __ATOMIC_SEQ_CST) & bits) != 0;
}

static uint32_t tasklet_state(const struct tasklet_struct *t)
{
    return __atomic_load_n(&t->state, __ATOMIC_SEQ_CST);
}

// Puts a tasklet, whose SCHEDULED the caller has set, on this CPU's list, the last one first: an
// interrupt may do the same between the look and the step, and it is tried again. The caller stays
// on this CPU.
static __always_inline void tasklet_push(struct tasklet_struct *t, bool hi)
{
    bool done;

    do {
        t->next = hi ? cpu_field(tasklets_hi) : cpu_field(tasklets);
        done = hi ? cpu_field_try(tasklets_hi, t->next, t) : cpu_field_try(tasklets, t->next, t);
    } while (unlikely(!done));
}

// In a thread, which might move to another CPU, and where nobody looks unless ksoftirqd is woken.
static __noinline void tasklet_enqueue_in_thread(struct tasklet_struct *t, bool hi)
{
    unsigned long flags = local_irq_save();

    tasklet_push(t, hi);
    raise_softirq_irqoff(hi ? HI_SOFTIRQ : TASKLET_SOFTIRQ);
    local_irq_restore(flags);
    if (unlikely(cpu_field_set(want_resched))) {
        preempt_enable_slow();
    }
}

static __always_inline void tasklet_enqueue(struct tasklet_struct *t, bool hi)
{
    if (unlikely(!cpu_field_set(above_thread))) {
        tasklet_enqueue_in_thread(t, hi);
    } else {
        tasklet_push(t, hi);
        softirq_mark(hi ? HI_SOFTIRQ : TASKLET_SOFTIRQ);
    }
}

static bool tasklet_is_hi(const struct tasklet_struct *t)
{
    return (tasklet_state(t) & TASKLET_HI) != 0;
}

void tasklet_schedule(struct tasklet_struct *t)
{
    if (tasklet_set(t, TASKLET_SCHEDULED)) {
        tasklet_enqueue(t, false);
    }
}

void tasklet_hi_schedule(struct tasklet_struct *t)
{
    if (tasklet_set(t, TASKLET_SCHEDULED)) {
        tasklet_set(t, TASKLET_HI); // for those who have to put it on a list again
        tasklet_enqueue(t, true);
    }
}

// Disabled: leaves it scheduled but on no list, so that nothing spins on it. Enabled in this very
// moment: somebody has to put it back, and whoever clears PARKED does.
static void tasklet_park(struct tasklet_struct *t)
{
    tasklet_set(t, TASKLET_PARKED);
    if (__atomic_load_n(&t->disabled, __ATOMIC_SEQ_CST) == 0 && tasklet_clear(t, TASKLET_PARKED)) {
        tasklet_enqueue(t, tasklet_is_hi(t));
    }
}

// On another CPU, right now: the next round tries again.
static void tasklet_put_back(struct tasklet_struct *t)
{
    tasklet_enqueue(t, tasklet_is_hi(t));
}

static void tasklet_found_disabled(struct tasklet_struct *t)
{
    tasklet_clear(t, TASKLET_RUNNING);
    tasklet_park(t);
}

// Not to be run just now; or it is of those that come first and was put back; or, a mistake of
// ours, it was on a list without a reason. True: it is RUNNING, and its function shall be called.
static __noinline bool tasklet_begin_rarely(struct tasklet_struct *t)
{
    if (!tasklet_set(t, TASKLET_RUNNING)) {
        tasklet_put_back(t);
        return false;
    }
    if (__atomic_load_n(&t->disabled, __ATOMIC_SEQ_CST) != 0) {
        tasklet_found_disabled(t);
        return false;
    }
    tasklet_clear(t, TASKLET_HI);
    WARN_ON(!tasklet_clear(t, TASKLET_SCHEDULED));
    return true;
}

// The usual case is one step: asked for, enabled, running nowhere; and from then on it is RUNNING,
// and may be asked for again.
static __always_inline void tasklet_run_one(struct tasklet_struct *t, bool hi)
{
    uint64_t asked = TASKLET_SCHEDULED | (hi ? TASKLET_HI : 0);

    if (unlikely(!__atomic_compare_exchange_n(&t->state_and_disabled, &asked, TASKLET_RUNNING,
                                              false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) &&
        !tasklet_begin_rarely(t)) {
        return;
    }
    void (*callback)(struct tasklet_struct * t) = t->callback;

    __atomic_fetch_add(&t->kind->runs, 1, __ATOMIC_RELAXED);
    trace(TRACE_TASKLET_ENTRY, 0, (uintptr_t)callback);
    lockdep_calls(LOCK_SOFTIRQ, callback);
    callback(t);
    lockdep_calls(LOCK_SOFTIRQ, NULL);
    tasklet_clear(t, TASKLET_RUNNING);
}

// Several: the first that was asked for is the last of the list.
static __noinline void tasklet_run_all(struct tasklet_struct *t, bool hi)
{
    struct tasklet_struct *first = NULL;

    while (t != NULL) {
        struct tasklet_struct *before = t->next;

        t->next = first;
        first = t;
        t = before;
    }
    while (first != NULL) {
        struct tasklet_struct *next = first->next; // before it may be scheduled again

        tasklet_run_one(first, hi);
        first = next;
    }
}

// The whole list is taken at once: what is scheduled from here on waits for the next round.
static __always_inline void tasklet_action(bool hi)
{
    struct tasklet_struct *t =
        hi ? cpu_field_xchg(tasklets_hi, NULL) : cpu_field_xchg(tasklets, NULL);

    if (unlikely(t == NULL)) {
        return;
    }
    if (likely(t->next == NULL)) {
        tasklet_run_one(t, hi);
    } else {
        tasklet_run_all(t, hi);
    }
}

static void tasklet_normal_softirq(void)
{
    tasklet_action(false);
}

static void tasklet_hi_softirq(void)
{
    tasklet_action(true);
}

void tasklet_disable_nosync(struct tasklet_struct *t)
{
    __atomic_fetch_add(&t->disabled, 1, __ATOMIC_SEQ_CST);
}

// It runs in a softirq of another CPU: not for long. If it is the caller himself, or whom the
// caller interrupted, that has been told, and it would be for ever.
static void tasklet_unlock_wait(struct tasklet_struct *t)
{
    while (tasklet_state(t) & TASKLET_RUNNING) {
        if (WARN_ON(!in_task() && cpu_self()->calls[0] == (const void *)(uintptr_t)t->callback)) {
            return;
        }
        cpu_relax();
    }
}

void tasklet_disable(struct tasklet_struct *t)
{
    assert_context(CTX_THREAD | CTX_ATOMIC);
    lockdep_waits_for_softirq(t->callback);
    tasklet_disable_nosync(t);
    tasklet_unlock_wait(t);
}

void tasklet_enable(struct tasklet_struct *t)
{
    if (WARN_ON(__atomic_load_n(&t->disabled, __ATOMIC_RELAXED) == 0)) {
        return;
    }
    if (__atomic_sub_fetch(&t->disabled, 1, __ATOMIC_SEQ_CST) == 0 &&
        tasklet_clear(t, TASKLET_PARKED)) {
        tasklet_enqueue(t, tasklet_is_hi(t));
    }
}

void tasklet_kill(struct tasklet_struct *t)
{
    might_sleep();
    lockdep_waits_for_softirq(t->callback);
    // Takes SCHEDULED for itself: nobody can put it on a list any more. One that is parked will not
    // run; taking PARKED takes over its SCHEDULED.
    while (!tasklet_clear(t, TASKLET_PARKED) && !tasklet_set(t, TASKLET_SCHEDULED)) {
        set_current_state(THREAD_BLOCKED);
        schedule_timeout(1);
    }
    tasklet_unlock_wait(t);
    tasklet_clear(t, TASKLET_SCHEDULED | TASKLET_HI); // HI: of one that was parked
}

// A tasklet that waits for its turn is on no list that others may walk. But memory that holds one
// holds a pointer to its kind, and those are few and known.
struct tasklet_struct *tasklet_find(const void *start, size_t size)
{
    const size_t at_kind = offsetof(struct tasklet_struct, kind);

    for (size_t at = at_kind; at + sizeof(void *) <= size; at += sizeof(void *)) {
        uintptr_t base = (uintptr_t)start + at - at_kind;
        struct tasklet_struct *t = (struct tasklet_struct *)base;
        const struct tasklet_kind *kind = t->kind;

        if (kind >= tasklet_kinds && kind < tasklet_kinds + TASKLET_KINDS &&
            t->callback == kind->callback && tasklet_state(t) != 0) {
            return t;
        }
    }
    return NULL;
}

void tasklet_init_subsystem(void)
{
    open_softirq(HI_SOFTIRQ, tasklet_hi_softirq);
    open_softirq(TASKLET_SOFTIRQ, tasklet_normal_softirq);
}

static void tasklet_show_kind(struct text *t, const struct tasklet_kind *kind)
{
    text_printf(t, "%10llu %-16s ", (unsigned long long)READ_ONCE(kind->runs), kind->name);
    if (kind->callback != NULL) {
        text_symbol(t, (uintptr_t)kind->callback);
    }
    text_putc(t, '\n');
}

static void tasklet_show(struct text *t, unsigned long index)
{
    (void)index;
    text_puts(t, "      RUNS NAME             FUNCTION\n");
    for (unsigned i = 0; i < READ_ONCE(tasklet_kind_count); i++) {
        tasklet_show_kind(t, &tasklet_kinds[i]);
    }
    if (READ_ONCE(tasklet_kind_rest.runs) != 0) {
        tasklet_show_kind(t, &tasklet_kind_rest);
    }
}

PROC_FILE("tasklets", tasklet_show);
