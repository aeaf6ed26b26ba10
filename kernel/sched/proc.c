// /proc/PID, in Linux's formats as far as a kernel thread has something to say there; the run
// queues as /proc/sched_debug and /proc/schedstat; the limit of realtime threads.
//
// Context: thread.
#include <lib/errno.h>
#include <lib/parse.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/kallsyms.h>
#include <core/panic.h>
#include <sched/cputime.h>
#include <sched/info.h>
#include <sched/thread.h>

#include "internal.h"

#define NS_PER_USER_TICK (1000000000ull / USER_HZ)

// ---- /proc/PID ---------------------------------------------------------------------------------

struct proc_next {
    int from, best;
};

static void proc_next_visit(struct thread *thread, void *arg)
{
    struct proc_next *next = arg;

    if (thread->tid >= next->from && thread->tid != 0 &&
        (next->best < 0 || thread->tid < next->best)) {
        next->best = thread->tid;
    }
}

static long proc_next_thread(unsigned long from)
{
    struct proc_next next = {.from = (int)from, .best = -1};

    thread_for_each(proc_next_visit, &next);
    return next.best;
}

// False: it has ended since its directory was found. A file that is then empty is what Linux shows.
static bool proc_thread(unsigned long tid, struct thread_info *info)
{
    struct thread *thread = thread_find((int)tid);

    if (thread != NULL) {
        thread_info(thread, info);
        thread_put(thread);
    }
    return thread != NULL;
}

static void proc_comm_show(struct text *t, unsigned long tid)
{
    struct thread_info info;

    if (proc_thread(tid, &info)) {
        text_printf(t, "%s\n", info.name);
    }
}

static void proc_wchan_show(struct text *t, unsigned long tid)
{
    struct thread_info info;

    if (proc_thread(tid, &info)) {
        text_puts(t, info.wait_channel != NULL ? info.wait_channel : "0");
    }
}

// The 52 fields of proc(5). What a kernel thread has not got is 0, as in Linux.
static void proc_stat_show(struct text *t, unsigned long tid)
{
    struct thread_info i;

    if (!proc_thread(tid, &i)) {
        return;
    }
    int prio = thread_info_prio(&i) - 100;
    unsigned long long ticks = i.runtime_ns / NS_PER_USER_TICK;
    unsigned long long started = i.started_ns / NS_PER_USER_TICK;
    text_printf(t, "%d (%s) %c 0 0 0 0 -1 2097152 0 0 0 0 %llu %llu 0 0 %d %d 1 0 %llu", i.tid,
                i.name, i.state, i.program ? ticks : 0ull, i.program ? 0ull : ticks, prio, i.nice,
                started);
    // vsize rss rsslim ... exit_signal, then processor rt_priority policy ... exit_code
    text_puts(t, " 0 0 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17");
    text_printf(t, " %u %u %d 0 0 0 0 0 0 0 0 0 0 0\n", i.cpu, i.rt_priority, (int)i.policy);
}

static const char *proc_state_name(char state)
{
    switch (state) {
    case 'R':
        return "running";
    case 'S':
        return "sleeping";
    case 'D':
        return "disk sleep";
    case 'I':
        return "idle";
    default:
        return "zombie";
    }
}

static void proc_status_show(struct text *t, unsigned long tid)
{
    struct thread_info i;

    if (!proc_thread(tid, &i)) {
        return;
    }
    text_printf(t, "Name:\t%s\nState:\t%c (%s)\nTgid:\t%d\nPid:\t%d\nPPid:\t0\nThreads:\t1\n",
                i.name, i.state, proc_state_name(i.state), i.tid, i.tid);
    text_puts(t, "Cpus_allowed:\t");
    cpumask_show(t, &i.allowed, cpu_count);
    text_puts(t, "\nCpus_allowed_list:\t");
    struct cpumask possible = {0};
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        cpumask_set(&possible, cpu);
    }
    cpumask_and(&possible, &possible, &i.allowed);
    cpumask_show_list(t, &possible);
    text_printf(t, "\nvoluntary_ctxt_switches:\t%llu\nnonvoluntary_ctxt_switches:\t%llu\n",
                (unsigned long long)(i.switches - min(i.preemptions, i.switches)),
                (unsigned long long)i.preemptions);
}

static void proc_ms(struct text *t, const char *name, uint64_t ns)
{
    text_printf(t, "%-45s:%21llu.%06llu\n", name, (unsigned long long)(ns / 1000000),
                (unsigned long long)(ns % 1000000));
}

static void proc_number(struct text *t, const char *name, long long value)
{
    text_printf(t, "%-45s:%21lld\n", name, value);
}

static void proc_sched_show(struct text *t, unsigned long tid)
{
    struct thread *thread = thread_find((int)tid);
    struct thread_info i;

    if (thread == NULL) {
        return;
    }
    thread_info(thread, &i);
    text_printf(t, "%s (%d, #threads: 1)\n", i.name, i.tid);
    text_puts(t, "-------------------------------------------------------------------\n");
    proc_ms(t, "se.exec_start", clock_tsc_to_ns(READ_ONCE(thread->switched_in)));
    proc_ms(t, "se.vruntime", clock_tsc_to_ns(READ_ONCE(thread->vruntime)));
    proc_ms(t, "se.sum_exec_runtime", i.runtime_ns);
    proc_number(t, "nr_switches", (long long)i.switches);
    proc_number(t, "nr_voluntary_switches", (long long)(i.switches - i.preemptions));
    proc_number(t, "nr_involuntary_switches", (long long)i.preemptions);
    proc_number(t, "se.load.weight", READ_ONCE(thread->weight));
    proc_number(t, "policy", i.policy);
    proc_number(t, "prio", thread_info_prio(&i));
    proc_number(t, "rt_priority", i.rt_priority);
    proc_number(t, "rt_boost", READ_ONCE(thread->rt_boost));
    thread_put(thread);
}

// Where a thread that does not run stands. Its queue's lock keeps it from running meanwhile.
static unsigned proc_collect_stack(struct thread *thread, uintptr_t *addresses, unsigned max)
{
    unsigned long flags;
    struct run_queue *queue = queue_lock_of(thread, &flags);
    unsigned count = 0;

    if (queue->running != thread && thread->stack != 0 && thread->state != THREAD_DEAD) {
        const uintptr_t *saved = (const uintptr_t *)thread->saved_rsp; // kernel/x86/switch.S

        count = backtrace_collect(addresses, max, saved[0], saved[1]);
    }
    queue_unlock_of(queue, flags);
    return count;
}

static void proc_stack_show(struct text *t, unsigned long tid)
{
    struct thread *thread = thread_find((int)tid);
    uintptr_t addresses[16];

    if (thread == NULL) {
        return;
    }
    unsigned count = proc_collect_stack(thread, addresses, ARRAY_SIZE(addresses));
    for (unsigned i = 0; i < count; i++) {
        text_puts(t, "[<0>] ");
        text_symbol(t, addresses[i]);
        text_putc(t, '\n');
    }
    thread_put(thread);
}

PROC_FILE_EACH("*/comm", proc_next_thread, proc_comm_show, NULL);
PROC_FILE_EACH("*/sched", proc_next_thread, proc_sched_show, NULL);
PROC_FILE_EACH("*/stack", proc_next_thread, proc_stack_show, NULL);
PROC_FILE_EACH("*/stat", proc_next_thread, proc_stat_show, NULL);
PROC_FILE_EACH("*/status", proc_next_thread, proc_status_show, NULL);
PROC_FILE_EACH("*/wchan", proc_next_thread, proc_wchan_show, NULL);

// ---- the queues --------------------------------------------------------------------------------

static void proc_queue_thread(struct text *t, char mark, const struct thread *thread)
{
    text_printf(t, "%c%16s %5d %12lld.%06llu %9llu %5d\n", mark, thread->name, thread->tid,
                (long long)(clock_tsc_to_ns(thread->vruntime) / 1000000),
                (unsigned long long)(clock_tsc_to_ns(thread->vruntime) % 1000000),
                (unsigned long long)thread->switches,
                thread->rt_effective != 0 ? 99 - thread->rt_effective : 120 + thread->nice);
}

static void proc_queue_lists(struct text *t, const struct run_queue *queue)
{
    const struct thread *thread;

    text_puts(t, "\nrunnable tasks:\n S            task   PID       tree-key  switches  prio\n");
    text_puts(t, "-------------------------------------------------------\n");
    if (queue->running != queue->idle) {
        proc_queue_thread(t, '>', queue->running);
    }
    for (unsigned priority = RT_PRIORITIES - 1; priority > 0; priority--) {
        list_for_each_entry (thread, &queue->rt[priority], queue_link) {
            proc_queue_thread(t, ' ', thread);
        }
    }
    list_for_each_entry (thread, &queue->fair, queue_link) {
        proc_queue_thread(t, ' ', thread);
    }
}

static void proc_queue_numbers(struct text *t, const struct run_queue *queue)
{
    text_printf(t, "\ncpu#%u\n", queue->cpu);
    text_printf(t, "  .%-30s: %u\n", "nr_running",
                queue->waiting + (queue->running != queue->idle));
    text_printf(t, "  .%-30s: %llu\n", "nr_switches", (unsigned long long)queue->switches);
    text_printf(t, "  .%-30s: %d\n", "nr_uninterruptible",
                (int)(queue->asleep[THREAD_BLOCKED] + queue->asleep[THREAD_IOWAIT]));
    text_printf(t, "  .%-30s: %d\n", "curr->pid", queue->running->tid);
    text_printf(t, "  .%-30s: %llu.%06llu\n", "cfs_rq.min_vruntime",
                (unsigned long long)(clock_tsc_to_ns(queue->min_vruntime) / 1000000),
                (unsigned long long)(clock_tsc_to_ns(queue->min_vruntime) % 1000000));
    text_printf(t, "  .%-30s: %d\n", "rt_rq.rt_throttled", queue->rt_throttled);
    text_printf(t, "  .%-30s: %llu\n", "rt_rq.rt_time",
                (unsigned long long)clock_tsc_to_ns(queue->rt_used));
    text_printf(t, "  .%-30s: %llu\n", "rt_rq.throttles",
                (unsigned long long)queue->rt_throttled_count);
    text_printf(t, "  .%-30s: %llu\n", "taken from others", (unsigned long long)queue->stolen);
    text_printf(t, "  .%-30s: %llu\n", "idle CPUs woken to take",
                (unsigned long long)queue->pushed);
    text_printf(t, "  .%-30s: %llu\n", "balancing runs", (unsigned long long)queue->balances);
    text_printf(t, "  .%-30s: %llu, %llu elsewhere\n", "wake-ups",
                (unsigned long long)queue->wakeups, (unsigned long long)queue->wakeups_elsewhere);
}

static void proc_sched_debug_show(struct text *t, unsigned long index)
{
    (void)index;
    for_each_cpu (cpu, &sched_mask) {
        struct run_queue *queue = run_queues[cpu];
        unsigned long flags;

        spin_lock_irqsave(&queue->lock, flags);
        proc_queue_numbers(t, queue);
        proc_queue_lists(t, queue);
        spin_unlock_irqrestore(&queue->lock, flags);
    }
}

// Linux's version 15: what is not counted here is 0 (yields, the time threads have waited).
static void proc_schedstat_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "version 15\ntimestamp %u\n", jiffies);
    for_each_cpu (cpu, &sched_mask) {
        const struct run_queue *queue = run_queues[cpu];
        uint64_t ns[CPU_TIME_COUNT], busy = 0;

        cputime_read(cpu, ns);
        for (unsigned what = 0; what < CPU_TIME_COUNT; what++) {
            busy += what == CPU_IDLE || what == CPU_IOWAIT ? 0 : ns[what];
        }
        text_printf(t, "cpu%u 0 0 %llu %llu %llu %llu %llu 0 %llu\n", cpu,
                    (unsigned long long)READ_ONCE(queue->switches),
                    (unsigned long long)READ_ONCE(queue->idle->switches),
                    (unsigned long long)READ_ONCE(queue->wakeups),
                    (unsigned long long)(queue->wakeups - queue->wakeups_elsewhere),
                    (unsigned long long)busy, (unsigned long long)READ_ONCE(queue->switches));
    }
}

PROC_FILE("sched_debug", proc_sched_debug_show);
PROC_FILE("schedstat", proc_schedstat_show);

// ---- the realtime limit ------------------------------------------------------------------------

static void proc_rt_runtime_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "%lld\n", (long long)READ_ONCE(rt_limit.runtime_us));
}

static void proc_rt_period_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "%lld\n", (long long)READ_ONCE(rt_limit.period_us));
}

static int proc_rt_set(int64_t runtime_us, int64_t period_us)
{
    if (period_us <= 0 || runtime_us < -1 || runtime_us > period_us) {
        return -EINVAL;
    }
    rt_limit_set(runtime_us, period_us, clock_tsc_hz());
    return 0;
}

static int proc_rt_runtime_write(const char *line, unsigned long index)
{
    int32_t value;

    (void)index;
    return kstrtos32(line, 10, &value) != 0 ? -EINVAL : proc_rt_set(value, rt_limit.period_us);
}

static int proc_rt_period_write(const char *line, unsigned long index)
{
    int32_t value;

    (void)index;
    return kstrtos32(line, 10, &value) != 0 ? -EINVAL : proc_rt_set(rt_limit.runtime_us, value);
}

PROC_FILE_RW("sys/kernel/sched_rt_runtime_us", proc_rt_runtime_show, proc_rt_runtime_write);
PROC_FILE_RW("sys/kernel/sched_rt_period_us", proc_rt_period_show, proc_rt_period_write);
