// /proc/stat and /proc/uptime: where the CPUs' time went and how often what happened, as Linux
// prints it.
//
// Times are measured at each transition (<sched/cputime.h>), not sampled by the tick: a CPU's row
// adds up to the uptime, and an interrupt of a microsecond counts as a microsecond of irq.
//
// Context: thread.
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <x86/clock.h>
#include <irq/desc.h>
#include <sched/cputime.h>
#include <sched/thread.h>
#include <defer/softirq.h>

#define NS_PER_USER_TICK (1000000000ull / USER_HZ)

// Linux has three more columns than we have kinds: steal, guest, guest_nice.
static void stat_show_times(struct text *t, const uint64_t ns[CPU_TIME_COUNT])
{
    for (unsigned what = 0; what < CPU_TIME_COUNT; what++) {
        text_printf(t, " %llu", (unsigned long long)(ns[what] / NS_PER_USER_TICK));
    }
    text_puts(t, " 0 0 0\n");
}

static void stat_show_cpus(struct text *t)
{
    uint64_t sum[CPU_TIME_COUNT] = {0};

    for_each_online_cpu (cpu) {
        uint64_t ns[CPU_TIME_COUNT];

        cputime_read(cpu, ns);
        for (unsigned what = 0; what < CPU_TIME_COUNT; what++) {
            sum[what] += ns[what];
        }
    }
    text_puts(t, "cpu ");
    stat_show_times(t, sum);
    for_each_online_cpu (cpu) {
        uint64_t ns[CPU_TIME_COUNT];

        cputime_read(cpu, ns);
        text_printf(t, "cpu%u", cpu);
        stat_show_times(t, ns);
    }
}

static void stat_show_interrupts(struct text *t)
{
    uint64_t total = 0;

    for_each_online_cpu (cpu) {
        total += irq_total(cpu);
    }
    text_printf(t, "intr %llu", (unsigned long long)total);
    for (unsigned irq = 0; irq < irq_count(); irq++) {
        const struct irq_desc *desc = irq_to_desc(irq);

        text_printf(t, " %llu", (unsigned long long)(desc != NULL ? irq_desc_total(desc) : 0));
    }
    text_putc(t, '\n');
}

static void stat_show_softirqs(struct text *t)
{
    uint64_t counts[NR_SOFTIRQS] = {0}, total = 0;

    for (unsigned nr = 0; nr < NR_SOFTIRQS; nr++) {
        for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
            counts[nr] += softirq_count(nr, cpu);
        }
        total += counts[nr];
    }
    text_printf(t, "softirq %llu", (unsigned long long)total);
    for (unsigned nr = 0; nr < NR_SOFTIRQS; nr++) {
        text_printf(t, " %llu", (unsigned long long)counts[nr]);
    }
    text_putc(t, '\n');
}

// When the kernel started, in seconds since 1970. The CMOS clock is slow and may tick between two
// looks, so it is asked once.
static uint64_t stat_boot_time(void)
{
    static uint64_t boot_time; // A
    uint64_t now;

    if (READ_ONCE(boot_time) == 0) {
        now = clock_rtc_seconds();
        WRITE_ONCE(boot_time, now != 0 ? now - clock_ns() / 1000000000 : 0);
    }
    return boot_time;
}

static void stat_show(struct text *t, unsigned long index)
{
    (void)index;
    stat_show_cpus(t);
    stat_show_interrupts(t);
    text_printf(t, "ctxt %llu\nbtime %llu\nprocesses %llu\nprocs_running %u\nprocs_blocked %u\n",
                (unsigned long long)sched_context_switches(), (unsigned long long)stat_boot_time(),
                (unsigned long long)sched_threads_created(), sched_running(), sched_iowait());
    stat_show_softirqs(t);
}

static void stat_show_seconds(struct text *t, uint64_t ns, char end)
{
    text_printf(t, "%llu.%02llu%c", (unsigned long long)(ns / 1000000000),
                (unsigned long long)(ns / 10000000 % 100), end);
}

static void uptime_show(struct text *t, unsigned long index)
{
    uint64_t idle = 0;

    (void)index;
    for_each_online_cpu (cpu) {
        idle += sched_cpu_time_ns(cpu, CPU_IDLE);
    }
    stat_show_seconds(t, clock_ns(), ' ');
    stat_show_seconds(t, idle, '\n');
}

PROC_FILE("stat", stat_show);
PROC_FILE("uptime", uptime_show);
