// What the lock validator found, told so that one can see it happen: who wants what, what is known
// already, and the scenario, CPU by CPU, that ends in a deadlock. Titles and scenarios look as
// Linux's, since that is what people know and scripts look for.
//
// Context: any.
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>
#include <lib/text.h>

#include "lock_report.h"

static const char report_rule[] = "======================================================";

static const char *report_titles[] = {
    [LOCK_CIRCLE] = "WARNING: possible circular locking dependency detected",
    [LOCK_RECURSION] = "WARNING: possible recursive locking detected",
    [LOCK_USAGE] = "WARNING: inconsistent lock state",
    [LOCK_INVERSION] = "WARNING: possible irq lock inversion dependency detected",
    [LOCK_UNBALANCED] = "WARNING: bad unlock balance detected!",
};

static const char *report_name(const struct lock_graph *graph, unsigned class)
{
    return class != 0 ? graph->classes[class].name : "a lock without a name";
}

// "what (lock) at symbol+0x1".
static void report_lock(const struct lock_graph *graph, const char *what, unsigned class,
                        const void *at)
{
    char line[200];
    struct text t = TEXT_INIT(line);

    text_printf(&t, "%s (%s), at: ", what, report_name(graph, class));
    text_symbol(&t, (uintptr_t)at);
    pr_warn("%s", line);
}

// ---- the evidence -------------------------------------------------------------------------------

// The steps of the path, each with the two places in the code that made it.
static void report_chain(const struct lock_graph *graph, const struct lock_report *report)
{
    unsigned length = min(report->length, (unsigned)LOCK_PATH_MAX);

    if (report->length > LOCK_PATH_MAX) {
        pr_warn("  (the way has %u steps, too many to tell)", report->length - 1);
        return;
    }
    for (unsigned i = 0; i + 1 < length; i++) {
        const struct lock_edge *edge = lock_graph_edge(graph, report->path[i], report->path[i + 1]);

        if (edge != NULL) {
            char line[200];
            struct text t = TEXT_INIT(line);

            text_printf(&t, "-> #%u (%s) was taken at ", i + 1, report_name(graph, edge->to));
            text_symbol(&t, (uintptr_t)edge->to_at);
            text_printf(&t, " while (%s) was held, from ", report_name(graph, edge->from));
            text_symbol(&t, (uintptr_t)edge->from_at);
            pr_warn("%s", line);
        }
    }
}

static void report_usage(const struct lock_graph *graph, unsigned class, unsigned usage)
{
    static const char *const what[LOCK_USAGES] = {
        "taken in a hard interrupt",
        "taken in a softirq",
        "held with interrupts on",
        "held with softirqs on",
    };
    const struct lock_class *it = &graph->classes[class];

    for (unsigned i = 0; i < LOCK_USAGES; i++) {
        if ((usage & graph->usage[class] & BIT(i)) != 0) {
            report_lock(graph, what[i], class, it->usage_at[i]);
        }
    }
}

// ---- the scenario -------------------------------------------------------------------------------

enum { SCENARIO_COLUMN = 24, SCENARIO_CPUS = 4 };

static void __printf(2, 3) scenario_line(unsigned column, const char *format, ...)
{
    char line[200];
    struct text t = TEXT_INIT(line);
    va_list args;

    text_printf(&t, "%*s", (int)(1 + column * SCENARIO_COLUMN), "");
    va_start(args, format);
    text_vprintf(&t, format, args);
    va_end(args);
    pr_warn("%s", line);
}

static void scenario_head(const char *title, unsigned columns)
{
    char line[200], rule[200];
    struct text t = TEXT_INIT(line), r = TEXT_INIT(rule);

    for (unsigned cpu = 0; cpu < columns; cpu++) {
        text_printf(&t, "       CPU%-14u", cpu);
        text_printf(&r, "       %-17s", "----");
    }
    pr_warn(" %s", title);
    pr_warn("%s", line);
    pr_warn("%s", rule);
}

// Each CPU holds one lock of the circle and wants the next one's: held, path[0], path[1] ...
static void scenario_circle(const struct lock_graph *graph, const struct lock_report *report)
{
    unsigned columns = report->length;

    if (columns < 2 || columns > SCENARIO_CPUS) {
        pr_warn(" Possible unsafe locking scenario: %u CPUs, each with one lock of the circle",
                columns);
        return;
    }
    scenario_head("Possible unsafe locking scenario:", columns);
    for (unsigned cpu = 0; cpu < columns; cpu++) {
        unsigned has = cpu == 0 ? report->held : report->path[cpu - 1];
        scenario_line(cpu, "lock(%s);", report_name(graph, has));
    }
    for (unsigned cpu = columns; cpu-- > 0;) {
        scenario_line(cpu, "lock(%s);", report_name(graph, report->path[cpu]));
    }
}

// A lock that interrupts take, up to one during which they may come.
static void scenario_inversion(const struct lock_graph *graph, const struct lock_report *report)
{
    unsigned last = min(report->length, (unsigned)LOCK_PATH_MAX) - 1;
    bool hard = report->in_usage == LOCK_IN_HARDIRQ;

    scenario_head("Possible interrupt unsafe locking scenario:", 2);
    scenario_line(0, "lock(%s);", report_name(graph, report->path[last]));
    scenario_line(1, "%s", hard ? "local_irq_disable();" : "local_bh_disable();");
    for (unsigned i = 0; i <= last; i++) {
        scenario_line(1, "lock(%s);", report_name(graph, report->path[i]));
    }
    scenario_line(0, "%s", hard ? "<Interrupt>" : "<Softirq>");
    scenario_line(0, "  lock(%s);", report_name(graph, report->path[0]));
}

static void scenario_self(const struct lock_graph *graph, const struct lock_report *report,
                          const char *between)
{
    scenario_head("Possible unsafe locking scenario:", 1);
    scenario_line(0, "lock(%s);", report_name(graph, report->path[0]));
    if (between != NULL) {
        scenario_line(0, "%s", between);
    }
    scenario_line(0, "%slock(%s);", between != NULL ? "  " : "",
                  report_name(graph, report->path[0]));
}

// ---- the whole ----------------------------------------------------------------------------------

static void report_body(const struct lock_graph *graph, const struct lock_report *report)
{
    switch (report->finding) {
    case LOCK_CIRCLE:
        pr_warn("the lock that is wanted comes before the one that is held, as was seen earlier:");
        report_chain(graph, report);
        scenario_circle(graph, report);
        break;
    case LOCK_RECURSION:
        pr_warn(report->same_lock ? "it is the same lock: this would never return"
                                  : "they are of one kind, and nobody said in which order");
        scenario_self(graph, report, NULL);
        break;
    case LOCK_USAGE:
        report_usage(graph, report->path[0], ~0u);
        scenario_self(graph, report,
                      report->in_usage == LOCK_IN_HARDIRQ ? "<Interrupt>" : "<Softirq>");
        break;
    case LOCK_INVERSION:
        report_usage(graph, report->path[0], report->in_usage);
        report_chain(graph, report);
        if (report->length <= LOCK_PATH_MAX) {
            report_usage(graph, report->path[report->length - 1], report->in_usage << 2);
            scenario_inversion(graph, report);
        }
        break;
    case LOCK_UNBALANCED:
        return;
    }
    pr_warn("  *** DEADLOCK ***");
}

void lock_report_print(const struct lock_graph *graph, const struct lock_report *report)
{
    const char *thread = panic_thread_name ? panic_thread_name() : NULL;
    bool gives = report->finding == LOCK_UNBALANCED;

    pr_warn("%s", report_rule);
    pr_warn("%s", report_titles[report->finding]);
    pr_warn("CPU %u, thread %s", cpu_id(), thread ? thread : "(none yet)");
    report_lock(graph, gives ? "gives back what is not held here:" : "wants lock", report->wanted,
                report->wanted_at);
    if (report->held != 0) {
        report_lock(graph, "holds lock", report->held, report->held_at);
    }
    report_body(graph, report);
    lockdep_print_held(pr_warn_line);
    backtrace_print(NULL);
    pr_warn("%s", report_rule);
    warn_noted("lock validator");
}
