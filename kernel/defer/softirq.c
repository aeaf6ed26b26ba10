// Softirqs: the work that top halves asked for, done with interrupts on. Stop 5 of an interrupt's
// way.
//
//   4 the driver's top half   raise_softirq_irqoff(NET_RX_SOFTIRQ)                <- previous (drivers/net/e1000/)
//   2 kernel/interrupt.c      outermost hard interrupt over, something pending: softirq_run()
//   5 this file               each pending softirq's handler, bounded
//   6 poll, protocol, reader  net_rx_action in kernel/dev/napi.c, drivers/net/e1000/ <- next
//
// Each CPU has a word of pending bits (cpu.softirq_pending), which only this CPU touches, with
// interrupts off: a softirq runs on the CPU that raised it. Handlers of one kind may run on several
// CPUs at once; on one CPU softirqs never nest, and no thread runs between two of them.
//
// Three places run them, all through softirq_serve(): the end of an interrupt, the last
// local_bh_enable(), and ksoftirqd/N, a thread like any other. Serving is bounded:
// SOFTIRQ_MAX_ROUNDS rounds, SOFTIRQ_MAX_MS, or until a thread should run. What is left then goes
// to ksoftirqd, which the scheduler lets have its share beside the other threads; and until
// ksoftirqd has caught up, the end of an interrupt leaves everything to it. That is why a flood of
// packets, or a softirq that raises itself for ever, slows threads down but does not starve them.
//
// Context: as <defer/softirq.h> says.
#include <lib/string.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/trace.h>
#include <sched/cputime.h>
#include <sched/thread.h>
#include <defer/softirq.h>

#define SOFTIRQ_FLOOD_NS 1000000000ull

struct softirq_cpu {
    struct thread *ksoftirqd;      // I
    uint32_t rounds;               // C: of the serving that is under way
    uint64_t end_ns;               // C: when that serving should come to an end
    struct softirq_stat stat;      // C: read by others
    uint64_t count[SOFTIRQ_SLOTS]; // C
    uint64_t tsc[SOFTIRQ_SLOTS];   // C: time spent in each
} __aligned(64);

static struct softirq_cpu softirq_cpus[MAX_CPUS];

static const char *const softirq_names[SOFTIRQ_SLOTS] = {
    "HI",       "TIMER",   "NET_TX", "NET_RX",  "BLOCK", //
    "IRQ_POLL", "TASKLET", "SCHED",  "HRTIMER", "RCU",   //
    "SPARE",    "SPARE2",
};

// What must not happen.
static void softirq_unopened(void)
{
    pr_ratelimited(LOG_ERR, "BUG: a softirq was raised that nobody has opened (/proc/trace)");
}

static void (*softirq_actions[SOFTIRQ_SLOTS])(void) = { // I
    [0 ... SOFTIRQ_SLOTS - 1] = softirq_unopened};

void softirq_init_subsystem(void)
{
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
        cpus[cpu].softirqs = &softirq_cpus[cpu];
    }
}

void open_softirq(enum softirq nr, void (*action)(void))
{
    softirq_actions[nr] = action;
}

// ---- raising -----------------------------------------------------------------------------------

void softirq_wake_thread(void)
{
    lockdep_assert_irqs_disabled();
    struct thread *ksoftirqd = this_cpu(softirq_cpus).ksoftirqd;

    if (ksoftirqd != NULL) {
        wake_up_process(ksoftirqd);
    }
}

void raise_softirq(enum softirq nr)
{
    unsigned long flags = local_irq_save();

    raise_softirq_irqoff(nr);
    local_irq_restore(flags);
    // The thread that was woken is better than us, perhaps.
    if (unlikely(cpu_field(want_resched))) {
        preempt_enable_slow();
    }
}

// ---- running -----------------------------------------------------------------------------------

// One stay in softirq context: on the stack of who serves. So no register has to be saved for it on
// the way to the first handler.
struct softirq_turn {
    uint64_t bits;        // what is to run in this round, lowest first, from ...
    uint64_t called_tsc;  // ... the handler that runs on, and when that was called
    enum cpu_time before; // what the CPU's books said
    uint32_t preempt_off; // before
};

static __noinline void softirq_unbalanced(unsigned nr, uint32_t preempt_off)
{
    pr_err("BUG: softirq %s came back with preempt_off %u, went with %u", softirq_names[nr],
           cpu_field(preempt_off), preempt_off);
    cpu_self()->preempt_off = preempt_off;
    WARN_ON(true);
}

static __always_inline unsigned long softirq_lowest(const struct softirq_turn *turn)
{
    unsigned long nr;

    __asm__("bsfq %1, %0" : "=r"(nr) : "rm"(turn->bits) : "cc"); // there is one
    return nr;
}

// Nothing is left to ksoftirqd now: whoever begins a turn has looked, or is ksoftirqd.
static __always_inline void softirq_take(struct cpu *cpu, struct softirq_turn *turn)
{
    turn->bits = cpu->softirq_pending;
    cpu->softirq_pending = 0;
}

// A handler that slept, which it may not, let others in: they may have left something to ksoftirqd.
static __always_inline uint32_t softirq_asked(const struct cpu *cpu)
{
    return cpu->softirq_pending & ~SOFTIRQ_LEFT_TO_THREAD;
}

static __always_inline void softirq_take_more(struct cpu *cpu, struct softirq_turn *turn)
{
    turn->bits = softirq_asked(cpu);
    cpu->softirq_pending &= SOFTIRQ_LEFT_TO_THREAD;
}

static __always_inline void softirq_call(struct softirq_cpu *self, const struct softirq_turn *turn)
{
    unsigned long nr = softirq_lowest(turn);

    self->count[nr]++;
    trace_at(turn->called_tsc, TRACE_SOFTIRQ_ENTRY, (uint32_t)nr, 0);
    softirq_actions[nr]();
}

// Behind a handler. Each one's end is the next one's beginning: one look at the clock.
static __always_inline void softirq_called(struct softirq_cpu *self, struct softirq_turn *turn)
{
    unsigned long nr = softirq_lowest(turn);
    uint64_t now = rdtsc();

    trace_at(now, TRACE_SOFTIRQ_EXIT, (uint32_t)nr, 0);
    self->tsc[nr] += now - turn->called_tsc;
    turn->called_tsc = now;
    turn->bits &= turn->bits - 1;
    if (unlikely(cpu_field(preempt_off) != turn->preempt_off + 1)) {
        softirq_unbalanced((unsigned)nr, turn->preempt_off + 1);
    }
}

// May there be another round? The clock is read only when there was a first one: most often one is
// all.
static __noinline bool softirq_go_on(const struct cpu *cpu, struct softirq_cpu *self)
{
    uint64_t now_ns = clock_ns();

    if (self->rounds++ == 0) {
        self->end_ns = now_ns + SOFTIRQ_MAX_MS * 1000000ull;
    }
    if (self->rounds >= SOFTIRQ_MAX_ROUNDS) {
        self->stat.out_of_rounds++;
        return false;
    }
    if (now_ns >= self->end_ns) {
        self->stat.out_of_time++;
        return false;
    }
    if (READ_ONCE(cpu->want_resched)) {
        self->stat.thread_waits++;
        return false;
    }
    return true;
}

// From the end of the first handler on: the others of the round, further rounds, the end. True when
// it stopped with something left.
static __noinline bool softirq_serve_on(struct softirq_turn *turn)
{
    struct cpu *cpu = cpu_self();
    struct softirq_cpu *self = cpu->softirqs;

    for (;;) {
        softirq_called(self, turn);
        if (turn->bits == 0) {
            local_irq_disable();
            self->stat.rounds++;
            if (likely(softirq_asked(cpu) == 0) || !softirq_go_on(cpu, self)) {
                break;
            }
            softirq_take_more(cpu, turn);
            local_irq_enable();
        }
        softirq_call(self, turn);
    }
    self->rounds = 0;
    self->stat.servings++;
    cputime_enter(cpu->books, turn->before);
    cpu->serving_softirq = false;
    cpu->preempt_off--;
    return softirq_asked(cpu) != 0;
}

// Serves what is pending, in rounds. True when it stopped with something left. Interrupts are off
// on entry and exit, on while handlers run. Preemption stays off: the CPU is in softirq context all
// the time. The CPU's books say CPU_SOFTIRQ already.
static __always_inline bool softirq_serve(struct cpu *cpu, struct softirq_turn *turn)
{
    turn->preempt_off = cpu->preempt_off;
    raw_preempt_disable();
    softirq_take(cpu, turn);
    local_irq_enable();
    __asm__ volatile("" : "+m"(*turn)); // what the call needs is there: no register to save for it
    softirq_call(cpu_field(softirqs), turn);
    return softirq_serve_on(turn);
}

// Woken even if it is what was interrupted: it may be on its way to sleep.
static __noinline void softirq_hand_over(void)
{
    struct cpu *cpu = cpu_self();

    if (cpu->softirqs->ksoftirqd != NULL) {
        cpu->softirq_pending |= SOFTIRQ_LEFT_TO_THREAD;
        cpu->softirqs->stat.handed_over++;
        softirq_wake_thread();
    }
}

// ksoftirqd cannot catch up while a realtime thread runs; then softirqs go on without it, bounded.
// The mark may be all there is: a turn went on after a handler of it had slept, and took the rest.
bool softirq_take_back(struct cpu *cpu)
{
    lockdep_assert_irqs_disabled();
    if (current->rt_priority == 0) {
        return false;
    }
    cpu->softirq_pending &= ~SOFTIRQ_LEFT_TO_THREAD;
    return cpu->softirq_pending != 0;
}

__no_stack_protector void softirq_run(void)
{
    struct cpu *cpu = cpu_self();
    struct softirq_turn turn;

    turn.called_tsc = cputime_irq_end_change(cpu, CPU_SOFTIRQ, &turn.before);
    cpu->above_thread = ABOVE_IS_SOFTIRQ; // one store for both: there was nothing but the interrupt
    if (unlikely(softirq_serve(cpu, &turn))) {
        softirq_hand_over();
    }
}

// The same where no interrupt ends; what is left, the caller sees to.
static __always_inline bool softirq_run_in_thread(struct cpu *cpu)
{
    struct softirq_turn turn;

    turn.called_tsc = cputime_change(cpu->books, CPU_SOFTIRQ, &turn.before);
    cpu->serving_softirq = true;
    return softirq_serve(cpu, &turn);
}

// ---- bottom halves off and on ------------------------------------------------------------------

static __noinline void softirq_bh_unbalanced(struct cpu *cpu)
{
    cpu->bh_disabled = 0;
    preempt_disable(); // the caller gives back what was never taken
    pr_err("BUG: local_bh_enable() without a local_bh_disable()");
    WARN_ON(true);
}

// What became pending meanwhile runs here and now, if this is a place for it. Handlers need
// interrupts on; where the caller wants them off, ksoftirqd runs them, or the end of the interrupt.
__no_stack_protector void softirq_bh_enabled(void)
{
    police_context(CTX_THREAD | CTX_ATOMIC | CTX_SOFTIRQ);
    struct cpu *cpu = cpu_self();
    unsigned long flags = local_irq_save();

    if (unlikely((int16_t)cpu->bh_disabled < 0)) {
        softirq_bh_unbalanced(cpu);
    } else if (unlikely((flags & CPU_FLAGS_IF) == 0)) {
        if (cpu->irq_depth == 0 && !cpu->serving_softirq) {
            softirq_wake_thread();
        }
    } else if (!cpu->serving_softirq && softirq_due(cpu) && softirq_run_in_thread(cpu)) {
        softirq_hand_over();
    }
    local_irq_restore(flags);
}

// ---- ksoftirqd/N -------------------------------------------------------------------------------

// Since when ksoftirqd has had no rest, and what kept it: a flood that nobody reins in, or a
// softirq that raises itself for ever. Told after 1, 2, 4, ... seconds.
struct softirq_flood {
    uint64_t since_ns, tell_ns;
    uint64_t tsc[SOFTIRQ_SLOTS]; // what each had used by then
};

static void softirq_flood_begin(const struct softirq_cpu *self, struct softirq_flood *flood)
{
    flood->since_ns = clock_ns();
    flood->tell_ns = flood->since_ns + SOFTIRQ_FLOOD_NS;
    memcpy(flood->tsc, self->tsc, sizeof(flood->tsc));
}

static void softirq_flood_look(const struct softirq_cpu *self, struct softirq_flood *flood)
{
    uint64_t now_ns = clock_ns();
    unsigned worst = 0;

    if (now_ns < flood->tell_ns) {
        return;
    }
    for (unsigned nr = 1; nr < SOFTIRQ_SLOTS; nr++) {
        if (self->tsc[nr] - flood->tsc[nr] > self->tsc[worst] - flood->tsc[worst]) {
            worst = nr;
        }
    }
    pr_warn("softirq: %s has not caught up for %llu s; %s took %llu ms of it", current->name,
            (unsigned long long)((now_ns - flood->since_ns) / 1000000000), softirq_names[worst],
            (unsigned long long)(clock_tsc_to_ns(self->tsc[worst] - flood->tsc[worst]) / 1000000));
    flood->tell_ns = now_ns + (now_ns - flood->since_ns);
}

static void softirq_thread(void *arg)
{
    struct softirq_cpu *self = arg;

    struct softirq_flood flood;

    current->wait_channel = "softirq";
    softirq_flood_begin(self, &flood);
    for (;;) {
        local_irq_disable(); // whoever raises on this CPU comes after the test and finds us asleep
        struct cpu *cpu = cpu_self();

        cpu->softirq_pending &= ~SOFTIRQ_LEFT_TO_THREAD;
        if (!softirq_pending()) {
            set_current_state(THREAD_SLEEPING);
            local_irq_enable();
            schedule();
            softirq_flood_begin(self, &flood);
        } else {
            self->stat.by_thread++;
            if (softirq_run_in_thread(cpu)) {
                cpu->softirq_pending |= SOFTIRQ_LEFT_TO_THREAD; // it has it still
            }
            local_irq_enable();
            sched_preempt();
            softirq_flood_look(self, &flood);
        }
    }
}

void softirq_start_threads(void)
{
    might_sleep();
    for_each_online_cpu (cpu) {
        struct softirq_cpu *self = &softirq_cpus[cpu];

        if (self->ksoftirqd == NULL) {
            self->ksoftirqd = kthread_run_on(cpu, softirq_thread, self, "ksoftirqd/%u", cpu);
            if (self->ksoftirqd == NULL) {
                pr_err("softirq: no memory for ksoftirqd/%u: overload will not be deferred", cpu);
            } else {
                kthread_bind(self->ksoftirqd);
            }
        }
    }
}

// ---- counts ------------------------------------------------------------------------------------

uint64_t softirq_count(enum softirq nr, unsigned cpu)
{
    return READ_ONCE(softirq_cpus[cpu].count[nr]);
}

const char *softirq_name(enum softirq nr)
{
    return softirq_names[nr];
}

uint64_t softirq_time_ns(enum softirq nr, unsigned cpu)
{
    return clock_tsc_to_ns(READ_ONCE(softirq_cpus[cpu].tsc[nr]));
}

const struct softirq_stat *softirq_stat(unsigned cpu)
{
    return &softirq_cpus[cpu].stat;
}

// As Linux prints it: a column for each CPU that the machine has.
static void softirq_show(struct text *t, unsigned long index)
{
    (void)index;
    text_printf(t, "%20s", "");
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        text_printf(t, "CPU%-8u", cpu);
    }
    text_putc(t, '\n');
    for (unsigned nr = 0; nr < NR_SOFTIRQS; nr++) {
        text_printf(t, "%12s:", softirq_names[nr]);
        for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
            text_printf(t, " %10u", (uint32_t)softirq_count(nr, cpu));
        }
        text_putc(t, '\n');
    }
}

// What Linux has no file for: how the bounds work out. Times include the interrupts that struck
// meanwhile.
static void softirq_stat_show(struct text *t, unsigned long index)
{
    (void)index;
    text_puts(t, " CPU     SERVINGS       ROUNDS  BY_KSOFTIRQD  HANDED_OVER  ENDED_BY: "
                 "ROUNDS     TIME  THREAD\n");
    for_each_online_cpu (cpu) {
        const struct softirq_stat *stat = softirq_stat(cpu);

        text_printf(t, "%4u %12llu %12llu %13llu %12llu %17llu %8llu %7llu\n", cpu,
                    (unsigned long long)stat->servings, (unsigned long long)stat->rounds,
                    (unsigned long long)stat->by_thread, (unsigned long long)stat->handed_over,
                    (unsigned long long)stat->out_of_rounds, (unsigned long long)stat->out_of_time,
                    (unsigned long long)stat->thread_waits);
    }
    text_printf(t, "\n%-9s %12s %14s %8s\n", "SOFTIRQ", "RUNS", "TIME_US", "AVG_NS");
    for (unsigned nr = 0; nr < NR_SOFTIRQS; nr++) {
        uint64_t runs = 0, ns = 0;

        for_each_online_cpu (cpu) {
            runs += softirq_count(nr, cpu);
            ns += softirq_time_ns(nr, cpu);
        }
        text_printf(t, "%-9s %12llu %14llu %8llu\n", softirq_names[nr], (unsigned long long)runs,
                    (unsigned long long)(ns / 1000),
                    (unsigned long long)(runs != 0 ? ns / runs : 0));
    }
}

PROC_FILE("softirqs", softirq_show);
PROC_FILE("softirq_stat", softirq_stat_show);
