// What `lab bottomhalves` found, beside what the books say.
//
// The claims are those of textbooks about real machines. Under an emulator the figures are the
// emulator's; what remains true is the order.
//
// Context: thread. Previous: bottomhalves.c.
#include <lib/format.h>
#include <core/clock.h>
#include <x86/cpuid.h>

#include "bottomhalves.h"

// What the books say about each way. claim_ns: what it should stay below; of a handler its own
// length, of the others the time until they run.
static const struct {
    const char *name, *at_once, *claim;
    uint32_t claim_ns;
} lab_bh_ways[WAY_COUNT] = {
    [WAY_HANDLER] = {"handler", "one a line", "< 1 us long", 1000},
    [WAY_SOFTIRQ] = {"softirq", "every CPU", "< 10 us", 10000},
    [WAY_TASKLET] = {"tasklet", "one", "< 10 us", 10000},
    [WAY_IRQ_POLL] = {"irq_poll", "one", "< 10 us", 10000},
    [WAY_WORK] = {"work", "one an item", "10-100 us", 100000},
    [WAY_WORK_ELSEWHERE] = {"work elsewhere", "one an item", "10-100 us", 100000},
    [WAY_THREAD] = {"irq thread", "one a line", "10-100 us", 100000},
    [WAY_POLLING] = {"polling", "who polls", "no interrupt", 0},
};

static const char *lab_bh_verdict(enum lab_bh_way way, const struct lab_bh_result *result)
{
    uint64_t ns = samples_median(way == WAY_HANDLER ? &result->top : &result->until);

    if (lab_bh_ways[way].claim_ns == 0 || result->whole.count == 0) {
        return "-";
    }
    if (ns < lab_bh_ways[way].claim_ns) {
        return "kept";
    }
    return cpu_has(FEATURE_HYPERVISOR) ? "not here (emulated)" : "NOT KEPT";
}

static void lab_bh_show_latency(struct shell *sh, const struct lab_bh_result *results)
{
    static const struct lab_column columns[] = {
        {"served by", -14}, {"runs in", -15},   {"sleeps", -6},  {"at once", -11},
        LAB_SAMPLE_COLUMNS, {"the books", -12}, {"verdict", -1}, {NULL, 0}};

    shell_printf(sh, "From the top half's first instruction to the work's (t3 - t1):\n");
    lab_table(sh, columns);
    for (unsigned way = 0; way < WAY_COUNT; way++) {
        const struct lab_bh_result *r = &results[way];
        struct lab_sample_cells c;

        lab_sample_cells(&c, &r->until);
        lab_row(sh, columns,
                (const char *const[]){
                    lab_bh_ways[way].name, r->runs_in, r->may_sleep ? "yes" : "no",
                    lab_bh_ways[way].at_once, c.text[0], c.text[1], c.text[2], c.text[3],
                    lab_bh_ways[way].claim, lab_bh_verdict((enum lab_bh_way)way, r)});
    }
}

static void lab_bh_show_cost(struct shell *sh, const struct lab_bh_result *results)
{
    static const struct lab_column columns[] = {
        {"served by", -14}, {"top half us", 11}, {"event us", 9}, {"cycles", 9},
        {"events/s", 9},    {"idle %", 6},       {"lost", 4},     {NULL, 0}};
    uint64_t mhz = clock_tsc_hz() / 1000000;

    shell_printf(
        sh,
        "\nWhat an event costs, from the request until its requester goes on (t4 - t0), and "
        "how much\nof the CPU is left with %d events a second:\n",
        HZ / LAB_BH_PACE_TICKS);
    lab_table(sh, columns);
    for (unsigned way = 0; way < WAY_COUNT; way++) {
        const struct lab_bh_result *r = &results[way];
        char top[LAB_CELL_SIZE], event[LAB_CELL_SIZE], cycles[LAB_CELL_SIZE];
        char rate[LAB_CELL_SIZE], idle[LAB_CELL_SIZE], lost[LAB_CELL_SIZE];

        lab_us(top, samples_median(&r->top));
        lab_us(event, samples_median(&r->whole));
        snprintf(cycles, sizeof(cycles), "%llu",
                 (unsigned long long)(samples_median(&r->whole) * mhz / 1000));
        snprintf(rate, sizeof(rate), "%llu", (unsigned long long)r->events_per_s);
        snprintf(idle, sizeof(idle), "%u", r->idle_percent);
        snprintf(lost, sizeof(lost), "%u", r->lost);
        lab_row(sh, columns,
                (const char *const[]){lab_bh_ways[way].name, top, event, cycles, rate, idle, lost});
    }
}

static void lab_bh_show_order(struct shell *sh, const struct lab_bh_result *results)
{
    uint64_t handler = samples_median(&results[WAY_HANDLER].until);
    uint64_t softirq = samples_median(&results[WAY_SOFTIRQ].until);
    uint64_t tasklet = samples_median(&results[WAY_TASKLET].until);
    uint64_t work = samples_median(&results[WAY_WORK].until);
    uint64_t thread = samples_median(&results[WAY_THREAD].until);
    bool ordered = handler <= softirq && softirq <= tasklet && tasklet <= min(work, thread);

    shell_printf(sh, "\nThe order handler, softirq, tasklet, then what may sleep: %s\n",
                 ordered ? "as in the books" : "NOT as in the books (a busy host? once more)");
    shell_printf(sh,
                 "Polling answers without an interrupt and leaves nothing of its CPU to others; "
                 "work and irq\nthreads may sleep and pay for it with a switch of threads; "
                 "a handler that does it all is\nthe fastest, and while it runs nobody else "
                 "on its CPU is served.\n");
    if (cpu_has(FEATURE_HYPERVISOR)) {
        shell_printf(sh, "This machine is emulated or a guest: compare the rows, do not believe "
                         "the microseconds.\n");
    }
}

void lab_bh_show(struct shell *sh, const struct lab_bh_result *results)
{
    lab_bh_show_latency(sh, results);
    lab_bh_show_cost(sh, results);
    lab_bh_show_order(sh, results);
}
