// How the machine is: a few measures, each with the range in which it is healthy and the one in
// which somebody should look. /proc/health; `health` says the same and has it for exit status.
//
// Once a second the counts are read and their differences kept. A line's usual rate is a moving
// average of its own past: ten times that, and more than a handful, is a WARN, whatever the line
// is; what it costs the CPU is another row. The names and limits are those of the books:
//
//   irq rate     each line against its own past          WARN  above 10 times
//   interrupts   all of a CPU                            WARN  above 50,000/s, ALERT above 100,000/s
//   softirq      of the CPU's time                       WARN  above 30 %,     ALERT above 60 %
//   hard irq     of the CPU's time                       WARN  above 30 %,     ALERT above 60 %
//   NMI          since the last second                   WARN  one,            ALERT 10
//   shut lines   "nobody cared"                          ALERT one
//   strays       vectors nobody asked for (ERR)          WARN  one
//   long handler since boot                              WARN  above 1 ms,     ALERT above 50 ms
//
// Context: health_tick softirq; health_show thread.
#include <lib/format.h>
#include <lib/string.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/spinlock.h>
#include <irq/desc.h>
#include <sched/cputime.h>
#include <defer/health.h>
#include <defer/timer.h>

enum {
    HEALTH_WEIGHT = 8,      // seconds that the moving average looks back
    HEALTH_RATE_TIMES = 10, // what is unusual for a line
    HEALTH_RATE_LEAST = 1000,
};

enum health_level { HEALTH_OK, HEALTH_WARN, HEALTH_ALERT };

// One measure as it was in the last second.
struct health_measure {
    const char *name;
    const char *unit;
    uint64_t warn, alert; // above which; 0 for alert: it never is
    uint64_t value;       // L: the worst there was
    char where[40];       // L: of whom
};

enum health_row {
    HEALTH_IRQ_RATE,
    HEALTH_INTERRUPTS,
    HEALTH_SOFTIRQ,
    HEALTH_HARDIRQ,
    HEALTH_NMI,
    HEALTH_SHUT,
    HEALTH_STRAYS,
    HEALTH_HANDLER,
    HEALTH_ROWS,
};

static struct health_measure health[HEALTH_ROWS] = {
    [HEALTH_IRQ_RATE] = {"irq rate", "times its usual", 10, 0, 0, ""},
    [HEALTH_INTERRUPTS] = {"interrupts", "a second", 50000, 100000, 0, ""},
    [HEALTH_SOFTIRQ] = {"softirq", "% of a CPU", 30, 60, 0, ""},
    [HEALTH_HARDIRQ] = {"hard irq", "% of a CPU", 30, 60, 0, ""},
    [HEALTH_NMI] = {"NMI", "more", 0, 9, 0, ""},
    [HEALTH_SHUT] = {"shut lines", "", 0, 0, 0, ""},
    [HEALTH_STRAYS] = {"strays", "more", 0, 0, 0, ""},
    [HEALTH_HANDLER] = {"long handler", "us", 1000, 50000, 0, ""},
};

static DEFINE_SPINLOCK(health_lock);
static struct timer_list health_timer;
static uint64_t health_seconds;                // L: rounds so far
static uint64_t health_then_ns;                // C of the timer, as all below
static uint64_t health_irq_seen[MAX_IRQS];     // counts at the last round
static uint64_t health_irq_usual[MAX_IRQS];    // a second, times HEALTH_WEIGHT
static uint64_t health_total_seen[MAX_CPUS];   // interrupts
static uint64_t health_time_seen[MAX_CPUS][2]; // ns in hard interrupts and softirqs
static uint64_t health_nmi_seen, health_err_seen;

// ---- measuring ----------------------------------------------------------------------------------

static void __printf(3, 4) health_note(enum health_row row, uint64_t value, const char *format, ...)
{
    struct health_measure *m = &health[row];
    va_list args;

    if (value <= m->value) {
        return;
    }
    m->value = value;
    va_start(args, format);
    vsnprintf(m->where, sizeof(m->where), format, args);
    va_end(args);
}

// Of a line that began in this second nothing is usual yet.
static void health_irq(struct irq_desc *desc, uint64_t per_mille_s)
{
    unsigned irq = desc->data.irq;
    uint64_t total = irq_desc_total(desc), usual = health_irq_usual[irq] / HEALTH_WEIGHT;
    uint64_t since = total - min(health_irq_seen[irq], total);
    uint64_t rate = since * 1000 / per_mille_s;
    unsigned long flags;

    health_irq_seen[irq] = total;
    health_irq_usual[irq] += rate - usual;
    spin_lock_irqsave(&desc->lock, flags);
    const char *name = desc->action != NULL ? desc->action->name : "-";
    if (rate >= HEALTH_RATE_LEAST) {
        health_note(HEALTH_IRQ_RATE, rate / max(usual, (uint64_t)HEALTH_RATE_LEAST / 10),
                    "irq %u (%s), %llu a second", irq, name, (unsigned long long)rate);
    }
    if (desc->killed) {
        health_note(HEALTH_SHUT, 1, "irq %u (%s)", irq, name);
    }
    for (const struct irqaction *action = desc->action; action != NULL; action = action->next) {
        health_note(HEALTH_HANDLER, clock_tsc_to_ns(action->cycles_max) / 1000, "irq %u (%s)", irq,
                    action->name);
    }
    spin_unlock_irqrestore(&desc->lock, flags);
}

static void health_cpu(unsigned cpu, uint64_t passed_ns)
{
    uint64_t total = irq_total(cpu), since = total - health_total_seen[cpu];
    uint64_t ns[CPU_TIME_COUNT];

    cputime_read(cpu, ns);
    uint64_t hard = ns[CPU_IRQ] - min(health_time_seen[cpu][0], ns[CPU_IRQ]);
    uint64_t soft = ns[CPU_SOFTIRQ] - min(health_time_seen[cpu][1], ns[CPU_SOFTIRQ]);

    health_total_seen[cpu] = total;
    health_time_seen[cpu][0] = ns[CPU_IRQ];
    health_time_seen[cpu][1] = ns[CPU_SOFTIRQ];
    health_note(HEALTH_INTERRUPTS, since * 1000 / (passed_ns / 1000000), "CPU %u", cpu);
    health_note(HEALTH_HARDIRQ, min(hard * 100 / passed_ns, (uint64_t)100), "CPU %u", cpu);
    health_note(HEALTH_SOFTIRQ, min(soft * 100 / passed_ns, (uint64_t)100), "CPU %u", cpu);
}

static void health_take(uint64_t passed_ns)
{
    uint64_t nmi = 0, err = READ_ONCE(irq_err_count);

    for (unsigned row = 0; row < HEALTH_ROWS; row++) {
        health[row].value = 0;
        strscpy(health[row].where, "", sizeof(health[row].where));
    }
    for (unsigned irq = 0; irq < irq_count(); irq++) {
        struct irq_desc *desc = irq_to_desc(irq);
        if (desc != NULL) {
            health_irq(desc, passed_ns / 1000000);
        }
    }
    for_each_online_cpu (cpu) {
        health_cpu(cpu, passed_ns);
        nmi += irq_stat_get(IRQ_STAT_NMI, cpu);
    }
    health_note(HEALTH_NMI, nmi - health_nmi_seen, "all CPUs");
    health_note(HEALTH_STRAYS, err - health_err_seen, "all CPUs");
    health_nmi_seen = nmi;
    health_err_seen = err;
}

static void health_tick(struct timer_list *timer)
{
    uint64_t now_ns = clock_ns(), passed_ns = now_ns - health_then_ns;
    unsigned long flags;

    if (passed_ns >= 1000000) { // a division below is by milliseconds
        spin_lock_irqsave(&health_lock, flags);
        health_then_ns = now_ns;
        health_take(passed_ns);
        health_seconds++;
        spin_unlock_irqrestore(&health_lock, flags);
    }
    mod_timer(timer, jiffies + HZ);
}

void health_init(void)
{
    health_then_ns = clock_ns();
    timer_setup(&health_timer, health_tick, 0);
    mod_timer(&health_timer, jiffies + HZ);
}

// ---- /proc/health -------------------------------------------------------------------------------

static enum health_level health_judge(enum health_row row, const struct health_measure *m)
{
    if (row == HEALTH_SHUT) {
        return m->value > 0 ? HEALTH_ALERT : HEALTH_OK;
    }
    return m->alert != 0 && m->value > m->alert ? HEALTH_ALERT
           : m->value > m->warn                 ? HEALTH_WARN
                                                : HEALTH_OK;
}

// The first word of the first line is the worst of all: for scripts.
static void health_show(struct text *t, unsigned long index)
{
    static const char *const words[] = {"OK", "WARN", "ALERT"};
    struct health_measure copy[HEALTH_ROWS];
    enum health_level worst = HEALTH_OK;
    unsigned long flags;

    (void)index;
    spin_lock_irqsave(&health_lock, flags);
    memcpy(copy, health, sizeof(copy));
    uint64_t seconds = health_seconds;
    spin_unlock_irqrestore(&health_lock, flags);
    for (unsigned row = 0; row < HEALTH_ROWS; row++) {
        worst = max(worst, health_judge(row, &copy[row]));
    }
    text_printf(t, "%s after %llu s\n", words[worst], (unsigned long long)seconds);
    text_printf(t, "%-5s %-13s %9s %-16s %8s %8s  %s\n", "", "measure", "value", "", "WARN >",
                "ALERT >", "where");
    for (unsigned row = 0; row < HEALTH_ROWS; row++) {
        const struct health_measure *m = &copy[row];
        char alert[16] = "-";

        if (m->alert != 0 || row == HEALTH_SHUT) {
            snprintf(alert, sizeof(alert), "%llu", (unsigned long long)m->alert);
        }
        text_printf(t, "%-5s %-13s %9llu %-16s %8llu %8s  %s\n", words[health_judge(row, m)],
                    m->name, (unsigned long long)m->value, m->unit, (unsigned long long)m->warn,
                    alert, m->where);
    }
}

PROC_FILE("health", health_show);
