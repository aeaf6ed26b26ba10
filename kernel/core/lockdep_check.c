// What the lock validator sees for the first time: it is entered into the graph of all that was
// seen, and compared with the three rules (lockdep.c).
//
//   a class         a name that nobody has used for a lock before
//   an edge A, B    B is taken while A is held: a circle, if A can be reached from B; an inversion,
//                   if a lock that interrupts take reaches A, and B one that is held with them on
//   a usage of A    it is taken in an interrupt, or held with interrupts on: inconsistent, if it
//                   was seen to do the other; an inversion, as above
//
// Each happens once for what is new, so that this way may be long. The graph's own lock is a bare
// word, and is let go before anything is printed: printing takes locks. Whatever those are, they
// are not looked at (`blind`). Of each mistake against the rules there is one report, and of all
// 32.
//
// Context: any; interrupts are kept off meanwhile. Previous: lockdep.c. Next: lock_graph.c,
// lock_report.c.
#include <core/clock.h>
#include <core/sections.h>
#include <lib/string.h>

#include "lock_report.h"
#include "lockdep_internal.h"

enum {
    LOCKDEP_TOLD = 64,
    LOCKDEP_REPORT_MAX = 32,
    LOCKDEP_ANSWERS = 64,
    LOCKDEP_PAUSE_NS = 1000000000,
};

struct lock_graph lockdep_graph; // L by lockdep_word; bits and usages are read without
uint32_t lockdep_reports;

static uint32_t lockdep_word;               // A: the graph's lock
static uint32_t lockdep_told[LOCKDEP_TOLD]; // L: circles and inversions that were told
static unsigned lockdep_told_count;         // L
static struct lock_report lockdep_report;   // of whoever owns lockdep_reporting
static uint32_t lockdep_reporting;          // A: CPU + 1 that makes a report

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

// ---- a class ------------------------------------------------------------------------------------

static uint16_t lockdep_look_up_text(struct police_cpu *police, const char *name,
                                     enum lock_kind kind)
{
    unsigned long flags = lockdep_irq_save();

    police->blind = true;
    lockdep_lock_graph();
    unsigned class = lock_graph_class(&lockdep_graph, name, kind);
    lockdep_unlock_graph();
    police->blind = false;
    lockdep_irq_restore(flags);
    return (uint16_t) class;
}

// Locks that live for a moment (a completion on a stack) are looked up each time. A name that is
// one of the kernel's constants is the same text for ever: for those the last answer is kept at
// hand, in one word, as others write it meanwhile.
uint16_t lockdep_look_up(struct police_cpu *police, const char *name, enum lock_kind kind)
{
    static uint64_t answers[LOCKDEP_ANSWERS]; // A: class from bit 52, kind from 48, the address
    uint64_t *answer = &answers[((uintptr_t)name / 8 + kind) % LOCKDEP_ANSWERS];
    uint64_t key = (uint64_t)kind << 48 | ((uintptr_t)name & (BIT64(48) - 1));
    uint64_t last = READ_ONCE(*answer);

    if (likely((last & (BIT64(52) - 1)) == key && last >> 52 != 0)) {
        return (uint16_t)(last >> 52);
    }
    if (name == NULL || name[0] == '\0') {
        return 0;
    }
    uint16_t class = lockdep_look_up_text(police, name, kind);
    if (name >= rodata_start && name < rodata_end) {
        WRITE_ONCE(*answer, (uint64_t) class << 52 | key);
    }
    return class;
}

// ---- reports ------------------------------------------------------------------------------------

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

// Of a loop that makes one mistake again and again, one a second is told. Who makes a report asks.
static bool lockdep_told_lately(enum lock_finding finding, const void *at)
{
    static enum lock_finding last_finding; // of whoever owns lockdep_reporting, all three
    static const void *last_at;
    static uint64_t last_ns;
    uint64_t now_ns = clock_ns();

    if (finding == last_finding && at == last_at && now_ns - last_ns < LOCKDEP_PAUSE_NS) {
        return true;
    }
    last_finding = finding;
    last_at = at;
    last_ns = now_ns;
    return false;
}

// Mistakes that need no graph: a lock that its holder takes again, or gives back without having it.
// Each is counted.
void lockdep_tell(struct police_cpu *police, enum lock_finding finding,
                  const struct lock_held *wanted, const struct lock_held *held)
{
    unsigned long flags = lockdep_irq_save();
    struct lock_report *report;

    police->blind = true;
    report = lockdep_begin_report(finding);
    if (report != NULL && lockdep_told_lately(finding, wanted->at)) {
        __atomic_fetch_add(&lockdep_reports, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&lockdep_reporting, 0, __ATOMIC_RELEASE);
        report = NULL;
    }
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

// ---- a usage ------------------------------------------------------------------------------------

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

// ---- an edge ------------------------------------------------------------------------------------

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

void lockdep_add_edge(struct police_cpu *police, const struct lock_held *from,
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
