// What the lock validator knows, for people: who holds what, in `locks`, in a panic and in the
// report of a lock-up; every class, how it is used and what was taken while it was held, in
// /proc/lockdep; how much of everything there is, in /proc/lockdep_stats.
//
// Reads without a lock: what a CPU or a thread holds may change meanwhile. A number that becomes an
// index is therefore read once, and checked.
//
// Context: any. Previous: lockdep.c.
#include <contract/proc_file.h>
#include <core/kallsyms.h>

#include "lockdep_internal.h"

const struct lock_stack *lockdep_cpu_stack(unsigned cpu)
{
    return &police_cpus[cpu].stack;
}

static const char *const lockdep_kinds[] = {"spinlock", "mutex", "function", "completion"};

static void lockdep_show_entry(struct text *t, const struct lock_held *held, unsigned number)
{
    static const char *const levels[] = {"thread", "softirq", "hardirq"};

    unsigned class = READ_ONCE(held->class);

    class = class < LOCK_CLASSES ? class : 0;
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
