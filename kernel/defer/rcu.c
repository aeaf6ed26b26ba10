// RCU: grace periods, and the callbacks that wait for them.
//
// A grace period begins by noting, for every CPU, how many quiescent states it has passed so far
// (cpu.rcu_passes: thread switches, rounds of the idle loop, ticks that interrupted code with
// preemption on). It is over when each has passed one more, or was seen idle. Nobody is asked to do
// anything: the CPU that wants the grace period to end looks at the others' counters. So a CPU that
// sleeps without a tick is left asleep.
//
//   time ───>          begin                                          end
//   CPU 0  ──[ reader ]──┼──────────────switch───────────────────────────┼──
//   CPU 1  ───────[ reader that saw the old ]──────switch────────────────┼──
//   CPU 2  ──────────────┼─[ reader: sees the new ]──[ reader ]──switch──┼──
//   CPU 3  ──── idle ────┼──────────── idle, seen so ────────────────────┼──
//
// Callbacks wait on the CPU that queued them, oldest first, in one list with two marks:
//
//     head ──o──o──o────────o──o──o──o────────o──o──> tail
//            done: to call  waiting for `batch`  new: for the grace period after that
//
// A timer of that CPU looks every tick while there are any: it raises RCU_SOFTIRQ, which ends or
// begins grace periods, advances the marks and calls what is done, a bounded number at a time.
//
// Why this is right: the updater's change, then a full barrier (the lock in rcu_begin), then the
// look at a counter or an idle flag; the other CPU counts with a full barrier, or leaves idle with
// one, and then reads. So either the look sees the count or the end of idleness, or the reader sees
// the change.
//
// A grace period that does not end for rcu_stall_seconds is told in the log, with the CPUs that
// hold it up and what they do. That is the tick's to find: a reader that does not end may hold up
// the softirq too.
//
// Context: RCU_SOFTIRQ, the tick, and as <defer/rcu.h> says.
#include <lib/errno.h>
#include <lib/parse.h>
#include <contract/boot_option.h>
#include <contract/proc_file.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <core/log.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <irq/ipi.h>
#include <sched/completion.h>
#include <sched/thread.h>
#include <sched/wait.h>
#include <defer/rcu.h>
#include <defer/softirq.h>
#include <defer/timer.h>

enum { RCU_BATCH = 64, RCU_STALL_SECONDS = 21, RCU_STALL_MOST = 300 };

struct rcu_cpu {
    struct rcu_head *head;         // C: all callbacks, oldest first
    struct rcu_head **done_end;    // C: behind the last one to call: &head when there is none
    struct rcu_head **waiting_end; // C: behind the last one that waits for `batch`
    struct rcu_head **tail;        // C: behind the last one
    uint64_t batch;                // C: the grace period that those between the marks need
    uint64_t queued, called;       // C: callbacks, ever; read by rcu_barrier()
    struct timer_list timer;
    unsigned cpu; // I
} __aligned(64);

static struct rcu_cpu rcu_cpus[MAX_CPUS];

static DEFINE_SPINLOCK(rcu_lock);
static struct {
    uint64_t begun, ended;          // L: grace periods
    uint64_t wanted;                // L: the last one that somebody needs
    struct cpumask waiting;         // L: CPUs that have not passed a quiescent state
    uint16_t passes[MAX_CPUS];      // L: their counters at the beginning
    uint32_t begun_at;              // L: jiffies
    uint32_t told_at;               // L: jiffies, of the beginning or the last word on a stall
    uint32_t longest_ticks, stalls; // L
} rcu;

static uint32_t rcu_stall_seconds = RCU_STALL_SECONDS; // A
static bool rcu_watching;                              // A: a grace period waits for somebody
static unsigned rcu_barriers;                          // A: threads in rcu_barrier()
static DECLARE_WAIT_QUEUE_HEAD(rcu_called);

// ---- quiescent states ---------------------------------------------------------------------------

static bool rcu_has_passed(unsigned cpu)
{
    return __atomic_load_n(&cpus[cpu].rcu_idle, __ATOMIC_ACQUIRE) ||
           __atomic_load_n(&cpus[cpu].rcu_passes, __ATOMIC_ACQUIRE) != rcu.passes[cpu];
}

// ---- grace periods ------------------------------------------------------------------------------

// A CPU that comes up later cannot have seen what was taken away before. With rcu_lock held.
static void rcu_begin(void)
{
    rcu.begun++;
    rcu.begun_at = jiffies;
    rcu.told_at = jiffies;
    rcu.waiting = cpu_online_mask;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); // the changes before, the counters after
    for_each_cpu (cpu, &rcu.waiting) {
        rcu.passes[cpu] = __atomic_load_n(&cpus[cpu].rcu_passes, __ATOMIC_RELAXED);
    }
    WRITE_ONCE(rcu_watching, true);
}

static void rcu_end(void)
{
    rcu.ended = rcu.begun;
    rcu.longest_ticks = max(rcu.longest_ticks, jiffies - rcu.begun_at);
    WRITE_ONCE(rcu_watching, false);
}

// Has everybody passed since it began? With rcu_lock held.
static bool rcu_all_passed(void)
{
    for_each_cpu (cpu, &rcu.waiting) {
        if (rcu_has_passed(cpu)) {
            cpumask_clear(&rcu.waiting, cpu);
        }
    }
    return cpumask_empty(&rcu.waiting);
}

// Ends the grace period if everybody has passed, begins the next if somebody needs it. Once more,
// because the next may be over as soon as it begins: when all others are idle. With rcu_lock held.
static void rcu_drive(void)
{
    for (unsigned round = 0; round < 2; round++) {
        if (rcu.begun != rcu.ended && rcu_all_passed()) {
            rcu_end();
        }
        if (rcu.begun == rcu.ended && rcu.ended < rcu.wanted) {
            rcu_begin();
        }
    }
}

// ---- stalls -------------------------------------------------------------------------------------

static void rcu_stall_show(void *arg)
{
    (void)arg;
    pr_err("rcu: CPU %u is in %s, preempt_off %u:", cpu_id(), current->name,
           cpu_field(preempt_off));
    backtrace_print(NULL);
}

static void rcu_stall(const struct cpumask *late, uint64_t number, uint32_t ticks)
{
    for_each_cpu (cpu, late) {
        pr_err("rcu: INFO: CPU %u stalls grace period %llu for %u ticks: somebody reads there and "
               "does not come to an end",
               cpu, (unsigned long long)number, ticks);
        if (cpu == cpu_id()) {
            rcu_stall_show(NULL);
        } else {
            smp_call_function_single(cpu, rcu_stall_show, NULL, false);
        }
    }
}

static bool rcu_is_late(void)
{
    return jiffies - READ_ONCE(rcu.told_at) > READ_ONCE(rcu_stall_seconds) * HZ;
}

// Tells once in rcu_stall_seconds. Who has passed is none of those that hold it up, though nobody
// has come to end it yet. Interrupts off.
static void rcu_check_stall(void)
{
    spin_lock(&rcu_lock);
    bool stalled = rcu.begun != rcu.ended && rcu_is_late() && !rcu_all_passed();
    struct cpumask late = rcu.waiting;
    uint64_t number = rcu.begun;
    uint32_t ticks = jiffies - rcu.begun_at;
    if (stalled) {
        rcu.told_at = jiffies;
        rcu.stalls++;
    }
    spin_unlock(&rcu_lock);
    if (stalled) {
        rcu_stall(&late, number, ticks);
    }
}

// What the tick interrupted was no reader, if it could have been preempted: a program, the idle
// loop, a thread without locks.
void rcu_tick(void)
{
    lockdep_assert_irqs_disabled();
    const struct cpu *cpu = cpu_self();

    if (likely(!READ_ONCE(rcu_watching))) {
        return;
    }
    if (cpu->preempt_off == 0 && cpu->irq_depth == 1) {
        rcu_quiescent();
    }
    if (unlikely(rcu_is_late())) {
        rcu_check_stall();
    }
}

// ---- callbacks ----------------------------------------------------------------------------------

static void rcu_raise(void *arg)
{
    (void)arg;
    raise_softirq_irqoff(RCU_SOFTIRQ);
}

// A CPU whose wheel is another's (no memory) is asked to raise its own softirq.
static void rcu_timer(struct timer_list *timer)
{
    struct rcu_cpu *self = container_of(timer, struct rcu_cpu, timer);

    if (likely(self->cpu == cpu_id())) {
        raise_softirq(RCU_SOFTIRQ);
    } else {
        smp_call_function_single(self->cpu, rcu_raise, NULL, false);
    }
}

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
    assert_not_nmi();
    unsigned long flags = local_irq_save();
    struct rcu_cpu *self = &this_cpu(rcu_cpus);

    head->func = func;
    head->next = NULL;
    *self->tail = head;
    self->tail = &head->next;
    WRITE_ONCE(self->queued, self->queued + 1);
    if (!timer_pending(&self->timer)) {
        mod_timer(&self->timer, jiffies + 1);
    }
    local_irq_restore(flags);
}

// Moves the marks as far as grace periods have come, and asks for the next one if callbacks need
// it. Interrupts off.
static void rcu_advance(struct rcu_cpu *self)
{
    spin_lock(&rcu_lock);
    rcu_drive();
    if (self->waiting_end != self->done_end && rcu.ended >= self->batch) {
        self->done_end = self->waiting_end;
    }
    if (self->waiting_end == self->done_end && self->tail != self->waiting_end) {
        self->waiting_end = self->tail;
        self->batch = rcu.begun + 1; // the one that is under way began before some of these
        rcu.wanted = max(rcu.wanted, self->batch);
        rcu_drive();
        if (rcu.ended >= self->batch) {
            self->done_end = self->waiting_end;
        }
    }
    spin_unlock(&rcu_lock);
}

// Takes the oldest callback that is done; NULL when there is none. Interrupts off.
static struct rcu_head *rcu_take(struct rcu_cpu *self)
{
    struct rcu_head *head = self->head;

    if (self->done_end == &self->head) {
        return NULL;
    }
    self->head = head->next;
    if (self->done_end == &head->next) {
        self->done_end = &self->head;
    }
    if (self->waiting_end == &head->next) {
        self->waiting_end = &self->head;
    }
    if (self->tail == &head->next) {
        self->tail = &self->head;
    }
    return head;
}

// Calls what is done, not more than RCU_BATCH: others want the CPU too. Interrupts off on entry and
// exit, on while a callback runs.
static void rcu_call(struct rcu_cpu *self)
{
    struct rcu_head *head;

    for (unsigned i = 0; i < RCU_BATCH && (head = rcu_take(self)) != NULL; i++) {
        local_irq_enable();
        head->func(head);
        local_irq_disable();
        __atomic_store_n(&self->called, self->called + 1, __ATOMIC_RELEASE);
    }
    if (self->done_end != &self->head) {
        raise_softirq_irqoff(RCU_SOFTIRQ);
    } else if (self->head != NULL) {
        mod_timer(&self->timer, jiffies + 1);
    }
}

static void rcu_softirq(void)
{
    struct rcu_cpu *self = &this_cpu(rcu_cpus);

    local_irq_disable();
    rcu_advance(self);
    rcu_call(self);
    local_irq_enable();
    __atomic_thread_fence(
        __ATOMIC_SEQ_CST); // `called` before the look: rcu_barrier() does it crosswise
    if (unlikely(READ_ONCE(rcu_barriers) != 0)) {
        wake_up_all(&rcu_called);
    }
}

// ---- waiting ------------------------------------------------------------------------------------

struct rcu_waiter {
    struct rcu_head head;
    struct completion over;
};

static void rcu_wake_waiter(struct rcu_head *head)
{
    complete(&container_of(head, struct rcu_waiter, head)->over);
}

void synchronize_rcu(void)
{
    struct rcu_waiter waiter;

    might_sleep();
    init_completion(&waiter.over);
    call_rcu(&waiter.head, rcu_wake_waiter);
    wait_for_completion(&waiter.over);
}

void rcu_barrier(void)
{
    might_sleep();
    __atomic_fetch_add(&rcu_barriers, 1, __ATOMIC_SEQ_CST);
    for_each_online_cpu (cpu) {
        const struct rcu_cpu *other = &rcu_cpus[cpu];
        uint64_t queued = __atomic_load_n(&other->queued, __ATOMIC_SEQ_CST);

        wait_event(&rcu_called, __atomic_load_n(&other->called, __ATOMIC_ACQUIRE) >= queued);
    }
    __atomic_fetch_sub(&rcu_barriers, 1, __ATOMIC_SEQ_CST);
}

void rcu_init_subsystem(void)
{
    for (unsigned cpu = 0; cpu < MAX_CPUS; cpu++) {
        struct rcu_cpu *self = &rcu_cpus[cpu];

        self->cpu = cpu;
        self->done_end = self->waiting_end = self->tail = &self->head;
        timer_setup(&self->timer, rcu_timer, 0);
    }
    open_softirq(RCU_SOFTIRQ, rcu_softirq);
}

// ---- /proc/rcu, rcu_stall= ----------------------------------------------------------------------

static void rcu_show(struct text *t, unsigned long index)
{
    (void)index;
    spin_lock_irq(&rcu_lock);
    text_printf(t, "grace periods %llu begun, %llu ended, the longest %u ticks; %u stalls\n",
                (unsigned long long)rcu.begun, (unsigned long long)rcu.ended, rcu.longest_ticks,
                rcu.stalls);
    spin_unlock_irq(&rcu_lock);
    text_printf(t, "a stall is told after %u s (rcu_stall=)\n\n", READ_ONCE(rcu_stall_seconds));
    text_printf(t, "%4s %12s %12s %8s %12s %5s\n", "CPU", "QUEUED", "CALLED", "WAITING", "PASSES",
                "IDLE");
    for_each_online_cpu (cpu) {
        uint64_t called = READ_ONCE(rcu_cpus[cpu].called), queued = READ_ONCE(rcu_cpus[cpu].queued);

        text_printf(t, "%4u %12llu %12llu %8llu %12u %5s\n", cpu, (unsigned long long)queued,
                    (unsigned long long)called, (unsigned long long)(queued - called),
                    READ_ONCE(cpus[cpu].rcu_passes), READ_ONCE(cpus[cpu].rcu_idle) ? "yes" : "no");
    }
}

// `echo 2 > /proc/rcu`: a stall is told after so many seconds.
static int rcu_set_stall(const char *value)
{
    uint32_t seconds;
    int error = kstrtou32(value, 10, &seconds);

    if (error != 0 || seconds == 0 || seconds > RCU_STALL_MOST) {
        return -EINVAL;
    }
    WRITE_ONCE(rcu_stall_seconds, seconds);
    return 0;
}

static int rcu_write(const char *line, unsigned long index)
{
    (void)index;
    return rcu_set_stall(line);
}

PROC_FILE_RW("rcu", rcu_show, rcu_write);
BOOT_OPTION("rcu_stall", rcu_set_stall,
            "rcu_stall=21: seconds after which a reader that does not end is reported");
