// All CPUs up, and their messages to each other: function calls, reschedules, shoot-downs.
#include "eventually.h"
#include "every_cpu.h"
#include "message_line.h"

#include <core/panic.h>
#include <lib/errno.h>
#include <mm/map.h>
#include <sched/sleep.h>
#include <x86/acpi.h>
#include <x86/smp.h>
#include <irq/ipi.h>

KTEST(smp, every_cpu_of_the_tables_is_online)
{
    unsigned wanted = acpi.cpu_count == 0 ? 1 : acpi.cpu_count;
    wanted = min(wanted, smp_max_cpus());
    EXPECT_EQ(cpu_count, wanted);
    EXPECT_EQ(cpumask_weight(&cpu_online_mask), wanted);
    for (unsigned cpu = 0; cpu < cpu_count; cpu++) {
        EXPECT_EQ(cpus[cpu].online, cpumask_test(&cpu_online_mask, cpu));
        EXPECT_EQ(cpus[cpu].id, cpu);
        EXPECT(cpus[cpu].self == &cpus[cpu]);
    }
}

struct smp_test_call {
    uint32_t calls[MAX_CPUS]; // C
    uint32_t total, wrong;    // A
};

static void smp_test_called(void *arg)
{
    struct smp_test_call *call = arg;
    call->calls[cpu_id()]++;
    if (!irqs_disabled()) {
        __atomic_fetch_add(&call->wrong, 1, __ATOMIC_RELAXED);
    }
    __atomic_fetch_add(&call->total, 1, __ATOMIC_SEQ_CST);
}

KTEST(smp, on_each_cpu_runs_once_everywhere)
{
    struct smp_test_call *call = kzalloc(sizeof(*call), GFP_KERNEL);
    REQUIRE(call != NULL);
    on_each_cpu(smp_test_called, call);
    EXPECT_EQ(call->total, cpumask_weight(&cpu_online_mask)); // all done when it returns
    EXPECT_EQ(call->wrong, 0);
    for_each_online_cpu (cpu) {
        EXPECT_EQ(call->calls[cpu], 1);
    }
    kfree(call);
}

// Each round waits for all CPUs, and a CPU of an emulator may wait long for its turn on the host:
// the more CPUs, the fewer rounds.
static unsigned smp_test_rounds(void)
{
    return 120 / cpumask_weight(&cpu_online_mask) + 1;
}

KTEST(smp, call_single)
{
    struct smp_test_call *call = kzalloc(sizeof(*call), GFP_KERNEL);
    REQUIRE(call != NULL);
    EXPECT_EQ(smp_call_function_single(MAX_CPUS - 1, smp_test_called, call, true), -ENXIO);
    EXPECT_EQ(smp_call_function_single(MAX_CPUS, smp_test_called, call, true), -ENXIO);
    EXPECT_EQ(call->total, 0);
    uint32_t expected = 0;
    for_each_online_cpu (cpu) {
        EXPECT_EQ(smp_call_function_single(cpu, smp_test_called, call, true), 0);
        EXPECT_EQ(call->calls[cpu], 1);
        EXPECT_EQ(call->total, ++expected);
    }
    // Without waiting: the next one waits for the slot, so the order and the count are still sure.
    for (unsigned i = 0; i < smp_test_rounds(); i++) {
        for_each_online_cpu (cpu) {
            EXPECT_EQ(smp_call_function_single(cpu, smp_test_called, call, false), 0);
            expected++;
        }
    }
    EXPECT(message_line_reached(&call->total, expected));
    EXPECT_EQ(call->total, expected);
    EXPECT_EQ(call->wrong, 0);
    kfree(call);
}

static void smp_test_cross_call(struct every_cpu *self)
{
    for (unsigned i = 0; i < smp_test_rounds(); i++) {
        if (every_cpu_random(self) % 4 == 0) {
            on_each_cpu(smp_test_called, self->arg);
        } else {
            smp_call_function_many(&cpu_online_mask, smp_test_called, self->arg, true);
        }
    }
}

// Everybody calls everybody, and waits: no two may wait for each other for ever, and no call is
// lost or run twice.
KTEST(smp, calls_cross)
{
    struct smp_test_call *call = kzalloc(sizeof(*call), GFP_KERNEL);
    REQUIRE(call != NULL);
    uint32_t warnings = warn_count;
    EXPECT(every_cpu_run(ktest, smp_test_cross_call, call));
    unsigned others = cpumask_weight(&cpu_online_mask) - 1;
    EXPECT(call->total >= others * (others + 1) * smp_test_rounds());
    EXPECT(call->total <= (others + 1) * (others + 1) * smp_test_rounds());
    EXPECT_EQ(call->wrong, 0);
    EXPECT_EQ(warn_count, warnings);
    kfree(call);
}

static void smp_test_shoot(struct every_cpu *self)
{
    for (unsigned i = 0; i < smp_test_rounds(); i++) {
        ipi_tlb_shootdown(VMAP_BASE, VMAP_BASE + PAGE_SIZE);
        if (every_cpu_random(self) % 2 == 0) {
            unsigned long flags = local_irq_save(); // may be asked for with interrupts off as well
            ipi_tlb_shootdown(VMAP_BASE, VMAP_BASE + PAGE_SIZE);
            local_irq_restore(flags);
        }
    }
}

static struct ipi_tlb_stat smp_test_tlb_sum(void)
{
    struct ipi_tlb_stat sum = {0};

    for_each_online_cpu (cpu) {
        struct ipi_tlb_stat stat = ipi_tlb_stat(cpu);

        sum.asked += stat.asked;
        sum.sent += stat.sent;
        sum.by_interrupt += stat.by_interrupt;
        sum.while_waiting += stat.while_waiting;
    }
    return sum;
}

static bool smp_test_tlb_adds_up(void)
{
    struct ipi_tlb_stat sum = smp_test_tlb_sum();

    return sum.asked == sum.by_interrupt + sum.while_waiting;
}

static uint64_t smp_test_stat_sum(enum irq_stat stat)
{
    uint64_t sum = 0;

    for_each_online_cpu (cpu) {
        sum += irq_stat_get(stat, cpu);
    }
    return sum;
}

// Each CPU asks all others, and each of them answers each time, once: in the interrupt, or while it
// waits to ask itself. Then the interrupt finds nothing, or two of them are one.
KTEST(smp, shoot_downs_cross)
{
    unsigned others = cpumask_weight(&cpu_online_mask) - 1;
    struct ipi_tlb_stat before = smp_test_tlb_sum();
    uint64_t calls_before = smp_test_stat_sum(IRQ_STAT_CAL);

    EXPECT(every_cpu_run(ktest, smp_test_shoot, NULL));
    uint64_t calls = smp_test_stat_sum(IRQ_STAT_CAL);
    EXPECT(EVENTUALLY(smp_test_tlb_adds_up())); // others' may be under way
    struct ipi_tlb_stat after = smp_test_tlb_sum();
    uint64_t interrupts = smp_test_stat_sum(IRQ_STAT_TLB);
    EXPECT(interrupts >= after.by_interrupt);
    EXPECT(interrupts <= smp_test_tlb_sum().sent);
    EXPECT(after.asked - before.asked >= (uint64_t)smp_test_rounds() * (others + 1) * others);
    // Counted apart. Somebody else may make a call meanwhile, but not one for each shoot-down.
    EXPECT(calls - calls_before < smp_test_rounds() * (others + 1));
}

KTEST(smp, reschedule_wakes_the_target)
{
    preempt_disable();
    unsigned self = cpu_id();
    bool all = true;
    for_each_online_cpu (cpu) {
        if (cpu != self) {
            uint32_t before = irq_stat_get(IRQ_STAT_RES, cpu);
            ipi_reschedule(cpu);
            all = all && wait_until(irq_stat_get(IRQ_STAT_RES, cpu) > before, MESSAGE_LINE_WAIT_US);
        }
    }
    uint32_t own = irq_stat_get(IRQ_STAT_RES, self);
    unsigned long flags = local_irq_save();
    ipi_reschedule(self);
    bool wanted = cpu_field(want_resched); // no message to oneself: the flag is enough
    local_irq_restore(flags);
    preempt_enable();
    EXPECT(all);
    EXPECT(wanted);
    EXPECT(irq_stat_get(IRQ_STAT_RES, self) >= own);
    ipi_reschedule(MAX_CPUS); // nobody there: nothing happens
}

// ---- CPUs that do not answer ----

// A CPU that holds its interrupts off until it is told to let go.
struct smp_test_deaf {
    bool holding, release; // A
    struct completion over;
};

static uint32_t smp_test_patience_ms;

static void smp_test_deaf_thread(void *arg)
{
    struct smp_test_deaf *deaf = arg;
    unsigned long flags = local_irq_save();
    WRITE_ONCE(deaf->holding, true);
    wait_until(READ_ONCE(deaf->release), 20 * 1000 * 1000);
    local_irq_restore(flags);
    complete(&deaf->over);
}

// Makes another CPU deaf, and ties this thread to the one where it is. The other's number, or
// MAX_CPUS.
static unsigned smp_test_deafen(struct smp_test_deaf *deaf, struct thread **thread)
{
    struct cpumask here = {0};
    *deaf = (struct smp_test_deaf){0};
    init_completion(&deaf->over);
    preempt_disable();
    unsigned self = cpu_id();
    preempt_enable();
    cpumask_set(&here, self);
    sched_setaffinity(cpu_current(), &here);
    unsigned other = cpumask_next(&cpu_online_mask, self == 0 ? 1 : 0);
    if (other != MAX_CPUS) {
        smp_test_patience_ms = ipi_patience_ms;
        ipi_patience_ms = 300;
        *thread = kthread_run_on(other, smp_test_deaf_thread, deaf, "deaf");
    }
    if (other == MAX_CPUS || *thread == NULL ||
        !wait_until(READ_ONCE(deaf->holding), MESSAGE_LINE_WAIT_US)) {
        return MAX_CPUS;
    }
    return other;
}

static void smp_test_undeafen(struct smp_test_deaf *deaf, struct thread *thread)
{
    WRITE_ONCE(deaf->release, true);
    wait_for_completion(&deaf->over);
    thread_join(thread);
    ipi_patience_ms = smp_test_patience_ms;
    sched_setaffinity(cpu_current(), &cpu_online_mask);
}

// A call that is not taken in time is withdrawn: the caller goes on, and the call never runs on
// what was its argument.
KTEST(smp, call_that_is_not_answered_is_withdrawn)
{
    struct smp_test_call *call = kzalloc(sizeof(*call), GFP_KERNEL);
    struct smp_test_deaf deaf;
    struct thread *thread;
    REQUIRE(call != NULL);
    unsigned other = smp_test_deafen(&deaf, &thread);
    if (other == MAX_CPUS) {
        kfree(call);
        SKIP("one CPU: nobody to be deaf");
    }
    smp_call_function_single(other, smp_test_called, call, true);
    uint32_t early = call->total;
    smp_test_undeafen(&deaf, thread);
    EXPECT_EQ(early, 0);
    msleep(20);
    EXPECT_EQ(call->total, 0);
    EXPECT_EQ(smp_call_function_single(other, smp_test_called, call, true), 0); // all is well again
    EXPECT_EQ(call->total, 1);
    kfree(call);
}

KTEST(smp, shoot_down_gives_up_on_a_deaf_cpu)
{
    struct smp_test_deaf deaf;
    struct thread *thread;
    unsigned other = smp_test_deafen(&deaf, &thread);
    if (other == MAX_CPUS) {
        SKIP("one CPU: nobody to be deaf");
    }
    uint32_t before = irq_stat_get(IRQ_STAT_TLB, other);
    ipi_tlb_shootdown(VMAP_BASE, VMAP_BASE + PAGE_SIZE);
    uint32_t early = irq_stat_get(IRQ_STAT_TLB, other);
    smp_test_undeafen(&deaf, thread);
    EXPECT_EQ(early, before);
    EXPECT(wait_until(irq_stat_get(IRQ_STAT_TLB, other) > before, MESSAGE_LINE_WAIT_US)); // late
    ipi_tlb_shootdown(VMAP_BASE, VMAP_BASE + PAGE_SIZE); // and the next one is answered
}

// One that the tables name and the board lacks.
KTEST(smp, absent_cpu_stays_out)
{
    unsigned absent = cpu_count;
    uint32_t apic_id = 0xf0;
    for_each_online_cpu (cpu) {
        if (cpus[cpu].apic_id == apic_id) {
            SKIP("a machine so full that no identifier is free");
        }
    }
    if (cpu_count == 1 || absent == MAX_CPUS) {
        SKIP("one CPU: the start-up code is not in place");
    }
    unsigned online = cpumask_weight(&cpu_online_mask);
    cpus[absent].apic_id = apic_id;
    EXPECT_EQ(smp_start_cpu(absent, 0x1000, 30 * 1000), -ETIMEDOUT);
    EXPECT_EQ(cpumask_weight(&cpu_online_mask), online);
    EXPECT(!cpus[absent].online);
}
