// Messages between CPUs. A vector carries no data, so each kind has its own place in memory that
// says what is wanted:
//
//   reschedule      nothing more to say: the target's want_resched is set, and the way out of the
//                   interrupt does the rest
//   function call   each CPU has one slot for the call that it is making; the target's `from` mask
//                   says whose slots to look into
//   shoot-down      one at a time for the machine: a range and its number. Each CPU has the number
//                   that it is asked for, and writes it down when it has dropped the range. Who
//                   waits for his turn answers meanwhile; his interrupt finds nothing then, or is
//                   one with the next
//   stop            an NMI, because a CPU that hangs with interrupts off must stop too
//
//   CPU s                                       CPU t
//   slot[s] = fn, arg; offered[t], running[t]
//   from[t] |= s; IPI ─────────────────────>    takes from[t]; takes offered[t]; fn(arg); clears running[t]
//   waits until running is empty
//
// A CPU that never answers must not hang the one that asks. Whoever clears the `offered` bit
// decides: the target runs the call, or the sender withdraws it when it has waited long enough (an
// emulated CPU may be scheduled away for seconds); never both, so a withdrawn call's argument may
// go away. A call that was begun is waited for.
//
// Two CPUs that wait for each other with interrupts off would wait for ever. For shoot-downs, which
// are harmless anywhere, a waiting CPU serves its own while it waits; function calls could be
// anything, so waiting for those with interrupts off is refused with a warning.
//
// Intel SDM vol. 3, 11.6. Context: as <irq/ipi.h> says; the handlers in hard irq, the stop in NMI.
#include <lib/errno.h>
#include <lib/text.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/kallsyms.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <core/trace.h>
#include <x86/exception.h>
#include <x86/lapic.h>
#include <mm/map.h>
#include <irq/desc.h>
#include <irq/ipi.h>

enum { IPI_STOP_US = 1000 * 1000, IPI_NOBODY = -1 };

uint32_t ipi_patience_ms = 10 * 1000;

static bool ipi_take(struct cpumask *mask, unsigned cpu)
{
    uint64_t bit = BIT64(cpu % 64);
    return (__atomic_fetch_and(&mask->bits[cpu / 64], ~bit, __ATOMIC_ACQ_REL) & bit) != 0;
}

// ---- function calls ----

struct ipi_call {
    void (*fn)(void *arg);  // C by the sender, while running is empty
    void *arg;              // likewise
    uint32_t generation;    // C: counts the calls, so that a sender knows its own
    struct cpumask offered; // A: have not begun it
    struct cpumask running; // A: have not finished it
};

static struct ipi_call ipi_calls[MAX_CPUS]; // by sender
static struct cpumask ipi_from[MAX_CPUS];   // A: by target, the senders to look at

static void ipi_run_calls(void)
{
    unsigned self = cpu_id();
    for (unsigned word = 0; word < MAX_CPUS / 64; word++) {
        uint64_t senders = __atomic_exchange_n(&ipi_from[self].bits[word], 0, __ATOMIC_ACQ_REL);
        for (; senders != 0; senders &= senders - 1) {
            struct ipi_call *call = &ipi_calls[word * 64 + (unsigned)__builtin_ctzll(senders)];
            if (ipi_take(&call->offered, self)) {
                call->fn(call->arg);
                cpumask_clear(&call->running, self);
            }
        }
    }
}

// Calls that were not begun are withdrawn, with a line each. True when some were begun and are
// still running.
static bool ipi_withdraw(struct ipi_call *call)
{
    for_each_cpu (cpu, &call->offered) {
        if (ipi_take(&call->offered, cpu)) {
            pr_err("ipi: CPU %u does not answer CPU %u's function call within %u ms, withdrawn",
                   cpu, cpu_id(), ipi_patience_ms);
            cpumask_clear(&call->running, cpu);
        }
    }
    return !cpumask_empty(&call->running);
}

// Until this call is over: its slot empty, or used for a later call by an interrupt on this CPU.
static void ipi_wait_call(struct ipi_call *call, uint32_t generation)
{
    uint64_t late_ns = clock_ns() + ipi_patience_ms * 1000000ull;
    while (READ_ONCE(call->generation) == generation && !cpumask_empty(&call->running)) {
        cpu_relax();
        if (clock_ns() > late_ns) {
            if (ipi_withdraw(call)) {
                char symbol[96];
                struct text t = TEXT_INIT(symbol);
                text_symbol(&t, (uintptr_t)call->fn);
                pr_err("ipi: CPU %u is still in %s after %u ms", cpumask_next(&call->running, 0),
                       symbol, ipi_patience_ms);
            }
            // Said once. What runs uses the caller's argument, so it must be waited for.
            late_ns = UINT64_MAX;
        }
    }
}

void smp_call_function_many(const struct cpumask *mask, void (*fn)(void *arg), void *arg, bool wait)
{
    preempt_disable();
    unsigned self = cpu_id();
    struct ipi_call *call = &ipi_calls[self];
    WARN_ON(wait && irqs_disabled() && cpumask_weight(&cpu_online_mask) > 1);

    unsigned long flags = local_irq_save();
    while (!cpumask_empty(&call->running)) { // a call that was not waited for is still on its way
        local_irq_restore(flags);
        ipi_wait_call(call, READ_ONCE(call->generation));
        flags = local_irq_save();
    }
    call->fn = fn;
    call->arg = arg;
    uint32_t generation = ++call->generation;
    struct cpumask targets;
    cpumask_and(&targets, mask, &cpu_online_mask);
    cpumask_clear(&targets, self);
    for_each_cpu (cpu, &targets) {
        cpumask_set(&call->running, cpu);
        cpumask_set(&call->offered, cpu);
        cpumask_set(&ipi_from[cpu], self);
        trace(TRACE_IPI, VECTOR_CALL_FUNCTION, cpu);
        lapic_ipi(cpus[cpu].apic_id, VECTOR_CALL_FUNCTION);
    }
    local_irq_restore(flags);
    if (wait) {
        ipi_wait_call(call, generation);
    }
    preempt_enable();
}

static void ipi_call_here(void (*fn)(void *arg), void *arg)
{
    unsigned long flags = local_irq_save();
    fn(arg);
    local_irq_restore(flags);
}

int smp_call_function_single(unsigned cpu, void (*fn)(void *arg), void *arg, bool wait)
{
    if (!cpumask_test(&cpu_online_mask, cpu)) {
        return -ENXIO;
    }
    preempt_disable();
    if (cpu == cpu_id()) {
        ipi_call_here(fn, arg);
    } else {
        struct cpumask mask = {0};
        cpumask_set(&mask, cpu);
        smp_call_function_many(&mask, fn, arg, wait);
    }
    preempt_enable();
    return 0;
}

void on_each_cpu(void (*fn)(void *arg), void *arg)
{
    lockdep_assert_irqs_enabled();
    preempt_disable();
    smp_call_function_many(&cpu_online_mask, fn, arg, true);
    ipi_call_here(fn, arg);
    preempt_enable();
}

// ---- reschedule ----

static void ipi_rescheduled(void)
{
    cpu_self()->want_resched = true;
}

void ipi_reschedule(unsigned cpu)
{
    unsigned long flags = local_irq_save();
    if (cpu == cpu_id()) {
        ipi_rescheduled();
    } else if (cpumask_test(&cpu_online_mask, cpu)) {
        trace(TRACE_IPI, VECTOR_RESCHEDULE, cpu);
        lapic_ipi(cpus[cpu].apic_id, VECTOR_RESCHEDULE);
    }
    local_irq_restore(flags);
}

// ---- shoot-down ----

static DEFINE_SPINLOCK(ipi_tlb_lock);
static struct {
    uintptr_t start, end;  // L by ipi_tlb_lock; read by those who are asked
    uint32_t number;       // A: of the last one; odd while start and end are written
    struct cpumask missed; // A: were given up; they drop everything next time
} ipi_tlb;
static uint32_t ipi_tlb_asked[MAX_CPUS];   // A: number of the last one that the CPU is to answer
static uint32_t ipi_tlb_dropped[MAX_CPUS]; // A: and of the last one that it has answered

static struct ipi_tlb_stat ipi_tlb_stats[MAX_CPUS];

// Counts one answer in *answers, if this CPU owes one. An answer names what it answers: one that
// comes too late, when the next shoot-down is under way, is not taken for an answer to that.
// Context: interrupts off, or the vector itself could come between the flush and the answer.
static void ipi_tlb_answer(uint64_t *answers)
{
    unsigned self = cpu_id();
    uint32_t asked = __atomic_load_n(&ipi_tlb_asked[self], __ATOMIC_ACQUIRE);
    if (asked == ipi_tlb_dropped[self]) {
        return; // given while it waited for something else
    }
    bool missed = ipi_take(&ipi_tlb.missed, self);
    if (!missed) {
        map_flush_local(READ_ONCE(ipi_tlb.start), READ_ONCE(ipi_tlb.end));
    }
    if (missed || __atomic_load_n(&ipi_tlb.number, __ATOMIC_ACQUIRE) != asked) {
        map_flush_local(0, UINTPTR_MAX); // there were others, or that range was another's already
    }
    WRITE_ONCE(*answers, *answers + 1); // before anybody can see that it was given
    __atomic_store_n(&ipi_tlb_dropped[self], asked, __ATOMIC_RELEASE);
}

static void ipi_tlb_serve(void)
{
    ipi_tlb_answer(&this_cpu(ipi_tlb_stats).by_interrupt);
}

static bool ipi_tlb_owes(unsigned cpu)
{
    return __atomic_load_n(&ipi_tlb_dropped[cpu], __ATOMIC_ACQUIRE) != ipi_tlb_asked[cpu];
}

// True when none of *targets owes an answer. Those who gave theirs are taken out.
static bool ipi_tlb_is_dropped(struct cpumask *targets)
{
    for_each_cpu (cpu, targets) {
        if (ipi_tlb_owes(cpu)) {
            return false;
        }
        cpumask_clear(targets, cpu);
    }
    return true;
}

static void ipi_tlb_wait(struct cpumask *targets)
{
    if (wait_until(ipi_tlb_is_dropped(targets), ipi_patience_ms * 1000)) {
        return;
    }
    for_each_cpu (cpu, targets) {
        if (ipi_tlb_owes(cpu)) {
            pr_err("ipi: CPU %u does not drop its translations within %u ms", cpu, ipi_patience_ms);
            cpumask_set(&ipi_tlb.missed, cpu);
        }
    }
}

// The number is odd meanwhile: who is late, and reads half of it, sees that.
static void ipi_tlb_write(uintptr_t start, uintptr_t end)
{
    __atomic_store_n(&ipi_tlb.number, ipi_tlb.number + 1, __ATOMIC_SEQ_CST);
    WRITE_ONCE(ipi_tlb.start, start);
    WRITE_ONCE(ipi_tlb.end, end);
    __atomic_store_n(&ipi_tlb.number, ipi_tlb.number + 1, __ATOMIC_SEQ_CST);
}

void ipi_tlb_shootdown(uintptr_t start, uintptr_t end)
{
    unsigned long flags = local_irq_save();
    while (!spin_trylock(&ipi_tlb_lock)) {
        ipi_tlb_answer(&this_cpu(ipi_tlb_stats).while_waiting); // its holder waits for us
        local_irq_restore(flags);
        cpu_relax();
        flags = local_irq_save();
    }
    struct cpumask targets = cpu_online_mask;
    cpumask_clear(&targets, cpu_id());
    ipi_tlb_write(start, end);
    struct ipi_tlb_stat *stat = &this_cpu(ipi_tlb_stats);
    for_each_cpu (cpu, &targets) {
        stat->asked += !ipi_tlb_owes(cpu); // it may owe the last answer yet: one is for both
        stat->sent++;
        __atomic_store_n(&ipi_tlb_asked[cpu], ipi_tlb.number, __ATOMIC_RELEASE);
        trace(TRACE_IPI, VECTOR_TLB_SHOOTDOWN, cpu);
        lapic_ipi(cpus[cpu].apic_id, VECTOR_TLB_SHOOTDOWN);
    }
    ipi_tlb_wait(&targets);
    spin_unlock(&ipi_tlb_lock);
    local_irq_restore(flags);
}

struct ipi_tlb_stat ipi_tlb_stat(unsigned cpu)
{
    const struct ipi_tlb_stat *stat = &ipi_tlb_stats[cpu];

    return (struct ipi_tlb_stat){.asked = READ_ONCE(stat->asked),
                                 .sent = READ_ONCE(stat->sent),
                                 .by_interrupt = READ_ONCE(stat->by_interrupt),
                                 .while_waiting = READ_ONCE(stat->while_waiting)};
}

static void ipi_tlb_show(struct text *t, unsigned long index)
{
    (void)index;
    text_puts(t, " CPU      ASKED       SENT BY_INTERRUPT WHILE_WAITING\n");
    for_each_online_cpu (cpu) {
        struct ipi_tlb_stat stat = ipi_tlb_stat(cpu);

        text_printf(t, "%4u %10llu %10llu %12llu %13llu\n", cpu, (unsigned long long)stat.asked,
                    (unsigned long long)stat.sent, (unsigned long long)stat.by_interrupt,
                    (unsigned long long)stat.while_waiting);
    }
}

PROC_FILE("shootdowns", ipi_tlb_show);

// ---- NMI ----

static void (*ipi_nmi_fn[MAX_CPUS])(const struct frame *frame); // A: asked of that CPU
static uint32_t ipi_nmi_done[MAX_CPUS];                         // A

// True for the NMI of a call.
static bool ipi_nmi_serve(const struct frame *frame)
{
    unsigned self = cpu_id();
    void (*fn)(const struct frame *) =
        __atomic_exchange_n(&ipi_nmi_fn[self], NULL, __ATOMIC_ACQUIRE);

    if (fn == NULL) {
        return false;
    }
    fn(frame);
    __atomic_fetch_add(&ipi_nmi_done[self], 1, __ATOMIC_RELEASE);
    return true;
}

bool ipi_nmi_call(unsigned cpu, void (*fn)(const struct frame *frame), uint32_t timeout_us)
{
    assert_not_nmi();
    uint32_t done = __atomic_load_n(&ipi_nmi_done[cpu], __ATOMIC_ACQUIRE);

    if (cpu == cpu_id() || !cpumask_test(&cpu_online_mask, cpu)) {
        return false;
    }
    __atomic_store_n(&ipi_nmi_fn[cpu], fn, __ATOMIC_RELEASE);
    trace(TRACE_IPI, EXC_NMI, cpu);
    lapic_nmi(cpus[cpu].apic_id);
    if (wait_until(__atomic_load_n(&ipi_nmi_done[cpu], __ATOMIC_ACQUIRE) != done, timeout_us)) {
        return true;
    }
    // Whoever takes the pointer away decides: it runs now, or never.
    if (__atomic_exchange_n(&ipi_nmi_fn[cpu], NULL, __ATOMIC_ACQ_REL) != NULL) {
        return false;
    }
    return wait_until(__atomic_load_n(&ipi_nmi_done[cpu], __ATOMIC_ACQUIRE) != done, timeout_us);
}

// ---- stop ----

static int ipi_stopper = IPI_NOBODY; // A: the CPU that tells the end
static struct cpumask ipi_stopped;   // A

// True for an NMI of ours; does not come back from one that stops this CPU.
static bool ipi_nmi(struct frame *frame)
{
    int stopper = __atomic_load_n(&ipi_stopper, __ATOMIC_ACQUIRE);
    if (stopper == IPI_NOBODY || stopper == (int)cpu_id()) {
        return ipi_nmi_serve(frame);
    }
    cpumask_set(&ipi_stopped, cpu_id());
    cpu_stop();
}

static bool ipi_all_stopped(void)
{
    for_each_online_cpu (cpu) {
        if (cpu != cpu_id() && !cpumask_test(&ipi_stopped, cpu)) {
            return false;
        }
    }
    return true;
}

void ipi_stop_others(void)
{
    int nobody = IPI_NOBODY, self = (int)cpu_id();
    if (!__atomic_compare_exchange_n(&ipi_stopper, &nobody, self, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE) &&
        nobody != self) { // two panics at once: the first one tells its story
        cpumask_set(&ipi_stopped, cpu_id());
        cpu_stop();
    }
    // One by one: what the firmware parked, or what never started, must not be woken by an NMI.
    for_each_online_cpu (cpu) {
        if (cpu != cpu_id()) {
            lapic_nmi(cpus[cpu].apic_id);
        }
    }
    if (!wait_until(ipi_all_stopped(), IPI_STOP_US)) {
        pr_err("ipi: not all CPUs stopped");
    }
}

// ---- set-up ----

static void ipi_lapic_error(void)
{
    __atomic_fetch_add(&irq_err_count, 1, __ATOMIC_RELAXED); // Linux counts these in the same row
    lapic_error_report();
}

void ipi_init(void)
{
    irq_set_system_vector(VECTOR_RESCHEDULE, IRQ_STAT_RES, ipi_rescheduled);
    irq_set_system_vector(VECTOR_CALL_FUNCTION, IRQ_STAT_CAL, ipi_run_calls);
    irq_set_system_vector(VECTOR_TLB_SHOOTDOWN, IRQ_STAT_TLB, ipi_tlb_serve);
    irq_set_system_vector(VECTOR_LAPIC_ERROR, IRQ_STAT_COUNT, ipi_lapic_error);
    exception_nmi = ipi_nmi;
}
