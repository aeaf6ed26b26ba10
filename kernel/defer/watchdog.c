// The watchdogs: four ways to stand still, and who notices.
//
//   soft lock-up   a CPU takes interrupts but does not switch threads: a loop with preemption off,
//                  or in a softirq. Its own tick notices: it has not met code that could be
//                  preempted, nor another thread, for 2 * watchdog_thresh seconds
//   hard lock-up   a CPU takes no interrupts. Its own tick is what is missing, so others look at it:
//                  CPUs 0 and 1 each have a timer that looks at all CPUs. One that has had
//                  interrupts off for watchdog_thresh seconds, or counts no interrupt though it is
//                  not idle, is asked by NMI what it is doing. The NMI sees the truth: with IF set
//                  in its frame the CPU is well. Without, it is asked once more after a while: a
//                  virtual CPU that its host had stopped has got on by then, and taken interrupts
//   late timer     a CPU takes interrupts, but not its timer's: an EOI was lost. The same two look,
//                  and get it going again (watchdog_late.c)
//   hung task      a thread blocks in state D, which nobody can interrupt, for
//                  hung_task_timeout_secs
//
// An idle CPU may take no interrupt for long, and is well: it has them on. So nothing here needs
// ticks from it, but for the two timers, two a threshold and far between.
//
// Each finding is a report; none stops anything. If the CPU or thread goes on, that is told, too.
// The names of the settings and the first lines are Linux's. Next: watchdog_late.c.
//
// Context: watchdog_tick hard irq; the timers softirq; the questioned CPU in NMI.
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/latency.h>
#include <core/lockdep.h>
#include <core/log.h>
#include <core/panic.h>
#include <lib/errno.h>
#include <lib/parse.h>
#include <x86/frame.h>
#include <irq/desc.h>
#include <irq/ipi.h>
#include <sched/thread.h>
#include <defer/timer.h>
#include <defer/watchdog.h>

#include "watchdog_late.h"

enum {
    WATCHDOG_THRESH_MAX = 60,
    HUNG_TASK_MAX = 3600,
    WATCHDOG_LOOKERS = 2,
    WATCHDOG_TRACE = 24,
    WATCHDOG_NMI_US = 500 * 1000,
    WATCHDOG_GAP_MS = 500, // ticks further apart than this were not missing: nobody wanted them
    WATCHDOG_AGAIN = 5,    // a fifth of the threshold, half of the time between two looks
    HUNG_TASKS = 32,
};

struct watchdog_cpu {
    uint64_t tick_ns;            // H: the last tick
    uint64_t well_ns;            // H: when the CPU could last switch threads
    const struct thread *thread; // H: who ran then: only compared
    uint64_t switches;           // H: of that thread
    uint64_t told_ns;            // H: when its soft lock-up was told last; 0: it has none

    uint64_t interrupts; // C of the looker, by the lock: count at the last change
    uint64_t changed_ns; // likewise
    uint64_t deaf_ns;    // likewise: when it was found deaf first, since that change; 0: it was not
    bool hard_told;      // likewise
} __aligned(64);

static struct watchdog_cpu watchdog_cpus[MAX_CPUS];
static struct timer_list watchdog_timers[WATCHDOG_LOOKERS];
static uint32_t watchdog_looking;        // A: 1 while one of the timers looks
static uint32_t watchdog_thresh = 10;    // A: seconds; 0: off
static uint32_t hung_task_timeout = 120; // A: seconds; 0: off

// What the questioned CPU answers; one question at a time.
static struct {
    struct frame frame;
    uintptr_t trace[WATCHDOG_TRACE];
    unsigned trace_count;
} watchdog_answer;

// ---- soft lock-up -------------------------------------------------------------------------------

static void watchdog_tell_soft(struct watchdog_cpu *dog, uint64_t now_ns)
{
    dog->told_ns = now_ns;
    pr_emerg("watchdog: BUG: soft lockup - CPU#%u stuck for %us! [%s:%d]", cpu_id(),
             (unsigned)((now_ns - dog->well_ns) / 1000000000), current->name, current->tid);
    lockdep_print_held(pr_warn_line);
    backtrace_print(NULL);
    warn_noted("soft lockup");
}

void watchdog_tick(void)
{
    lockdep_assert_irqs_disabled();
    struct watchdog_cpu *dog = &this_cpu(watchdog_cpus);
    const struct cpu *cpu = cpu_self();
    uint64_t now_ns = clock_ns(), limit_ns = READ_ONCE(watchdog_thresh) * 2000000000ull;
    bool could_switch = cpu->preempt_off == 0 && cpu->bh_disabled == 0 && !cpu->serving_softirq;

    if (could_switch || cpu->thread != dog->thread || cpu->thread->switches != dog->switches ||
        now_ns - dog->tick_ns > WATCHDOG_GAP_MS * 1000000ull) {
        if (dog->told_ns != 0) {
            pr_warn("watchdog: CPU#%u goes on, after %u s", cpu->id,
                    (unsigned)((now_ns - dog->well_ns) / 1000000000));
        }
        dog->told_ns = 0;
        dog->well_ns = now_ns;
        dog->thread = cpu->thread;
        dog->switches = cpu->thread->switches;
    } else if (limit_ns != 0 && now_ns - max(dog->well_ns, dog->told_ns) > limit_ns) {
        watchdog_tell_soft(dog, now_ns);
    }
    dog->tick_ns = now_ns;
}

// ---- hard lock-up -------------------------------------------------------------------------------

// On the questioned CPU, in an NMI: only writes down.
static void watchdog_question(const struct frame *frame)
{
    watchdog_answer.frame = *frame;
    watchdog_answer.trace_count =
        backtrace_collect(watchdog_answer.trace, WATCHDOG_TRACE, frame->rbp, frame->rip);
}

static void watchdog_print_answer(void)
{
    const struct frame *f = &watchdog_answer.frame;

    pr_warn("  rip %016lx rsp %016lx rflags %08lx rbp %016lx", f->rip, f->rsp, f->rflags, f->rbp);
    pr_warn("  rax %016lx rbx %016lx rcx %016lx rdx %016lx", f->rax, f->rbx, f->rcx, f->rdx);
    pr_warn("  rsi %016lx rdi %016lx r8  %016lx r9  %016lx", f->rsi, f->rdi, f->r8, f->r9);
    pr_warn("  backtrace:");
    for (unsigned i = 0; i < watchdog_answer.trace_count; i++) {
        char line[160];
        struct text t = TEXT_INIT(line);

        text_printf(&t, "    0x%016lx  ", watchdog_answer.trace[i]);
        text_symbol(&t, watchdog_answer.trace[i]);
        pr_warn("%s", line);
    }
}

static void watchdog_tell_hard(unsigned cpu, uint64_t off_ns, const void *begun_at)
{
    const struct thread *thread = cpus[cpu].thread;
    char line[160];
    struct text t = TEXT_INIT(line);

    pr_emerg("watchdog: Watchdog detected hard LOCKUP on cpu %u [%s:%d]", cpu, thread->name,
             thread->tid);
    if (off_ns != 0) {
        text_printf(&t, "  interrupts off for %llu ms, since ",
                    (unsigned long long)off_ns / 1000000);
        text_symbol(&t, (uintptr_t)begun_at);
        pr_warn("%s", line);
    }
    lockdep_print_cpu(cpu, pr_warn_line);
}

// A deaf CPU takes NMIs all the same, and is sent some.
static uint64_t watchdog_interrupts(unsigned cpu)
{
    uint64_t nmis = irq_stat_get(IRQ_STAT_NMI, cpu);

    return irq_total(cpu) - nmis;
}

// Suspicion is cheap, and may be wrong; the NMI decides.
static bool watchdog_suspects(unsigned cpu, uint64_t now_ns, uint64_t *off_ns,
                              const void **begun_at)
{
    struct watchdog_cpu *dog = &watchdog_cpus[cpu];
    uint64_t limit_ns = watchdog_thresh * 1000000000ull, interrupts = watchdog_interrupts(cpu);

    *off_ns = latency_irqs_off_ns(cpu, begun_at);
    if (interrupts != dog->interrupts) {
        dog->interrupts = interrupts;
        dog->changed_ns = now_ns;
        dog->deaf_ns = 0;
    }
    return *off_ns > limit_ns ||
           (now_ns - dog->changed_ns > limit_ns && cpus[cpu].thread->tid != 0);
}

static void watchdog_look_at(unsigned cpu, uint64_t now_ns)
{
    struct watchdog_cpu *dog = &watchdog_cpus[cpu];
    const void *begun_at;
    uint64_t off_ns;

    if (!watchdog_suspects(cpu, now_ns, &off_ns, &begun_at)) {
        dog->deaf_ns = 0;
        if (dog->hard_told) {
            pr_warn("watchdog: CPU %u takes interrupts again", cpu);
            dog->hard_told = false;
        }
        return;
    }
    if (dog->hard_told) {
        return;
    }
    bool answered = ipi_nmi_call(cpu, watchdog_question, WATCHDOG_NMI_US);
    if (answered && (watchdog_answer.frame.rflags & CPU_FLAGS_IF) != 0) {
        dog->changed_ns = now_ns; // it is well
        dog->deaf_ns = 0;
        return;
    }
    if (dog->deaf_ns == 0) {
        dog->deaf_ns = now_ns;
    }
    if (now_ns - dog->deaf_ns < watchdog_thresh * (1000000000ull / WATCHDOG_AGAIN)) {
        return; // it is asked again
    }
    dog->hard_told = true;
    watchdog_tell_hard(cpu, off_ns, begun_at);
    if (answered) {
        watchdog_print_answer();
    } else {
        pr_err("  it does not take an NMI either");
    }
    warn_noted("hard lockup");
}

// ---- hung task ----------------------------------------------------------------------------------

// Threads that were seen in state D, and since when.
static struct hung_task {
    int tid; // 0: free
    uint64_t switches;
    uint64_t since_ns;
    bool seen, told;
} hung_tasks[HUNG_TASKS]; // of whoever looks

static void hung_task_tell(const struct thread *thread, uint64_t ns)
{
    uintptr_t trace[WATCHDOG_TRACE];
    // What switch_stacks() leaves looks like a frame: rbp, return address.
    unsigned count = backtrace_collect(trace, WATCHDOG_TRACE, thread->saved_rsp, 0);

    pr_err("INFO: task %s:%d blocked for more than %u seconds, in %s", thread->name, thread->tid,
           (unsigned)(ns / 1000000000), thread->wait_channel != NULL ? thread->wait_channel : "?");
    for (unsigned i = 0; i < count; i++) {
        char line[160];
        struct text t = TEXT_INIT(line);

        text_printf(&t, "    0x%016lx  ", trace[i]);
        text_symbol(&t, trace[i]);
        pr_warn("%s", line);
    }
    lockdep_print_stack(&thread->locks, pr_warn_line);
}

static struct hung_task *hung_task_find(const struct thread *thread)
{
    struct hung_task *room = NULL;

    for (unsigned i = 0; i < HUNG_TASKS; i++) {
        if (hung_tasks[i].tid == thread->tid && hung_tasks[i].switches == thread->switches) {
            return &hung_tasks[i];
        }
        if (hung_tasks[i].tid == 0) {
            room = &hung_tasks[i];
        }
    }
    if (room != NULL) {
        *room = (struct hung_task){
            .tid = thread->tid, .switches = thread->switches, .since_ns = clock_ns()};
    }
    return room;
}

static void hung_task_visit(struct thread *thread, void *arg)
{
    uint64_t limit_ns = *(const uint64_t *)arg;
    struct hung_task *task;

    if ((thread->state != THREAD_BLOCKED && thread->state != THREAD_IOWAIT) || thread->on_queue) {
        return;
    }
    task = hung_task_find(thread);
    if (task == NULL) {
        return;
    }
    task->seen = true;
    uint64_t ns = clock_ns() - task->since_ns;
    if (!task->told && ns >= limit_ns) {
        task->told = true;
        hung_task_tell(thread, ns);
    }
}

static void hung_task_look(void)
{
    uint64_t limit_ns = READ_ONCE(hung_task_timeout) * 1000000000ull;

    if (limit_ns == 0) {
        return;
    }
    for (unsigned i = 0; i < HUNG_TASKS; i++) {
        hung_tasks[i].seen = false;
    }
    thread_for_each(hung_task_visit, &limit_ns);
    for (unsigned i = 0; i < HUNG_TASKS; i++) {
        if (hung_tasks[i].tid != 0 && !hung_tasks[i].seen) {
            if (hung_tasks[i].told) {
                pr_warn("hung_task: task %d goes on", hung_tasks[i].tid);
            }
            hung_tasks[i].tid = 0;
        }
    }
}

// ---- who looks ----------------------------------------------------------------------------------

// Twice and a half in a threshold, as in Linux.
static uint32_t watchdog_period(void)
{
    uint32_t seconds = READ_ONCE(watchdog_thresh), timeout = READ_ONCE(hung_task_timeout);

    seconds = seconds != 0 ? seconds : 10;
    return (timeout != 0 ? min(seconds, timeout) : seconds) * HZ * 2 / 5;
}

static void watchdog_timer(struct timer_list *timer)
{
    uint32_t nobody = 0;
    unsigned self = (unsigned)(timer - watchdog_timers);

    if (__atomic_compare_exchange_n(&watchdog_looking, &nobody, 1, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_RELAXED)) {
        uint64_t now_ns = clock_ns();

        for_each_online_cpu (cpu) {
            if (cpu != self && watchdog_thresh != 0) {
                watchdog_look_at(cpu, now_ns);
                watchdog_rouse(cpu);
            }
        }
        hung_task_look();
        __atomic_store_n(&watchdog_looking, 0, __ATOMIC_RELEASE);
    }
    mod_timer(timer, jiffies + watchdog_period());
}

void watchdog_init(void)
{
    for (unsigned i = 0; i < WATCHDOG_LOOKERS; i++) {
        if (cpumask_test(&cpu_online_mask, i)) {
            timer_setup(&watchdog_timers[i], watchdog_timer, 0);
            watchdog_timers[i].expires = jiffies + watchdog_period() + i * HZ;
            add_timer_on(&watchdog_timers[i], i);
        }
    }
}

// ---- settings -----------------------------------------------------------------------------------

// On the CPU that the timer is for: there it stays.
static void watchdog_restart(void *timer)
{
    mod_timer(timer, jiffies + watchdog_period());
}

static int watchdog_set(const char *line, uint32_t *setting, uint32_t most)
{
    uint32_t value;
    int err = kstrtou32(line, 10, &value);

    if (err != 0 || value > most) {
        return -EINVAL;
    }
    WRITE_ONCE(*setting, value);
    for (unsigned i = 0; i < WATCHDOG_LOOKERS; i++) { // the new period begins now
        smp_call_function_single(i, watchdog_restart, &watchdog_timers[i], false);
    }
    return 0;
}

static int watchdog_thresh_write(const char *line, unsigned long index __unused)
{
    return watchdog_set(line, &watchdog_thresh, WATCHDOG_THRESH_MAX);
}

static void watchdog_thresh_show(struct text *t, unsigned long index __unused)
{
    text_printf(t, "%u\n", watchdog_thresh);
}

static int hung_task_write(const char *line, unsigned long index __unused)
{
    return watchdog_set(line, &hung_task_timeout, HUNG_TASK_MAX);
}

static void hung_task_show(struct text *t, unsigned long index __unused)
{
    text_printf(t, "%u\n", hung_task_timeout);
}

PROC_FILE_RW("sys/kernel/watchdog_thresh", watchdog_thresh_show, watchdog_thresh_write);
PROC_FILE_RW("sys/kernel/hung_task_timeout_secs", hung_task_show, hung_task_write);
