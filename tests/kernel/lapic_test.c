// The local APIC: priorities, the way from IRR through ISR to EOI, the timer, NMI.
#include "every_cpu.h"
#include "message_line.h"

#include <core/log.h>
#include <lib/string.h>
#include <mm/slab.h>
#include <irq/ipi.h>
#include <sched/sleep.h>
#include <defer/hrtimer.h>
#include <x86/exception.h>

enum { LAPIC_TEST_LINES = 4 };

struct lapic_test_line {
    int irq;
    uint8_t vector;
    uint32_t calls;
    bool in_service; // as the handler saw it, after the flow's EOI
};
static struct lapic_test_line lapic_test_lines[LAPIC_TEST_LINES];
static uint8_t lapic_test_order[LAPIC_TEST_LINES];
static uint32_t lapic_test_count;

static irqreturn_t lapic_test_handler(int irq, void *dev_id)
{
    struct lapic_test_line *line = dev_id;
    (void)irq;
    if (lapic_test_count < LAPIC_TEST_LINES) {
        lapic_test_order[lapic_test_count] = line->vector;
    }
    lapic_test_count++;
    line->in_service = lapic_isr_test(line->vector);
    line->calls++;
    return IRQ_HANDLED;
}

static void lapic_test_close(void)
{
    for (unsigned i = 0; i < LAPIC_TEST_LINES; i++) {
        if (lapic_test_lines[i].irq > 0) {
            message_line_close(lapic_test_lines[i].irq, &lapic_test_lines[i]);
        }
    }
}

// A few lines; the router gives each a vector of another class.
static bool lapic_test_open(void)
{
    lapic_test_count = 0;
    memset(lapic_test_lines, 0, sizeof(lapic_test_lines));
    for (unsigned i = 0; i < LAPIC_TEST_LINES; i++) {
        struct lapic_test_line *line = &lapic_test_lines[i];
        line->irq = message_line_open(lapic_test_handler, line);
        if (line->irq < 0) {
            lapic_test_close();
            return false;
        }
        line->vector = message_line_vector(line->irq);
    }
    return true;
}

// Sent from low to high while interrupts are off: taken from high to low.
KTEST(lapic, higher_class_first)
{
    REQUIRE(lapic_test_open());
    unsigned long flags = local_irq_save();
    for (unsigned i = 0; i < LAPIC_TEST_LINES; i++) {
        lapic_ipi_self(lapic_test_lines[i].vector);
    }
    bool waiting = wait_until(lapic_irr_test(lapic_test_lines[0].vector) &&
                                  lapic_irr_test(lapic_test_lines[LAPIC_TEST_LINES - 1].vector),
                              MESSAGE_LINE_WAIT_US);
    uint32_t early = lapic_test_count;
    local_irq_restore(flags);
    EXPECT(waiting);
    EXPECT_EQ(early, 0);
    EXPECT(message_line_reached(&lapic_test_count, LAPIC_TEST_LINES));
    for (unsigned i = 1; i < LAPIC_TEST_LINES; i++) {
        EXPECT((lapic_test_order[i] >> 4) < (lapic_test_order[i - 1] >> 4));
    }
    for (unsigned i = 0; i < LAPIC_TEST_LINES; i++) {
        EXPECT(!lapic_test_lines[i].in_service); // an edge's EOI comes before its handler
        EXPECT_EQ(lapic_test_lines[i].calls, 1);
    }
    lapic_test_close();
}

KTEST(lapic, same_vector_twice_merges)
{
    REQUIRE(lapic_test_open());
    unsigned long flags = local_irq_save();
    lapic_ipi_self(lapic_test_lines[0].vector);
    lapic_ipi_self(lapic_test_lines[0].vector);
    lapic_ipi_self(lapic_test_lines[0].vector);
    local_irq_restore(flags);
    EXPECT(message_line_reached(&lapic_test_lines[0].calls, 1));
    msleep(10);
    EXPECT_EQ(lapic_test_lines[0].calls, 1); // one bit in the IRR, however often
    lapic_test_close();
}

// The task priority holds back classes up to its own, and lets higher ones through.
KTEST(lapic, task_priority_blocks_lower_classes)
{
    REQUIRE(lapic_test_open());
    const struct lapic_test_line *low = &lapic_test_lines[0], *high = &lapic_test_lines[0];
    for (unsigned i = 1; i < LAPIC_TEST_LINES; i++) {
        low = lapic_test_lines[i].vector < low->vector ? &lapic_test_lines[i] : low;
        high = lapic_test_lines[i].vector > high->vector ? &lapic_test_lines[i] : high;
    }
    preempt_disable();
    lapic_set_tpr(low->vector & 0xf0);
    lapic_ipi_self(low->vector);
    lapic_ipi_self(high->vector);
    bool high_came = message_line_reached(&high->calls, 1);
    bool low_waits = lapic_irr_test(low->vector) && READ_ONCE(low->calls) == 0;
    lapic_set_tpr(0);
    bool low_came = message_line_reached(&low->calls, 1);
    preempt_enable();
    EXPECT(high_came);
    EXPECT(low_waits);
    EXPECT(low_came);
    lapic_test_close();
}

// The idle loop's two instructions: STI holds interrupts off until after HLT has begun, so a
// wake-up in between is not slept through. One that was would end this test only by the tick, which
// 2,000 of would show.
KTEST(lapic, sti_hlt_loses_no_wakeup)
{
    REQUIRE(lapic_test_open());
    const struct lapic_test_line *line = &lapic_test_lines[0];
    uint32_t slept_through = 0;
    for (uint32_t i = 1; i <= 2000; i++) {
        preempt_disable();
        local_irq_disable();
        lapic_ipi_self(line->vector);
        cpu_sti_hlt();
        slept_through += READ_ONCE(line->calls) != i && !message_line_reached(&line->calls, i);
        preempt_enable();
    }
    EXPECT_EQ(slept_through, 0);
    EXPECT_EQ(line->calls, 2000);
    lapic_test_close();
}

static void lapic_test_ipi_kinds(void *arg)
{
    uint32_t *wrong = arg;
    if (lapic_id() != cpu_self()->apic_id) {
        __atomic_fetch_add(wrong, 1, __ATOMIC_RELAXED);
    }
}

// A handler of a level has its vector in service to its end, and if it sleeps, which it may not,
// much longer: who makes good what the timer has lost does not end it.
static struct lapic_test_level {
    int irq;
    unsigned ended;
    bool in_service;
    uint32_t calls;
} lapic_test_level;

static irqreturn_t lapic_test_level_handler(int irq, void *dev_id)
{
    struct lapic_test_level *level = dev_id;

    level->ended = lapic_end_in_service(VECTOR_TIMER, NULL, 0);
    level->in_service = lapic_isr_test(soft_line_vector(irq));
    level->calls++;
    return IRQ_HANDLED;
}

KTEST(lapic, the_timers_watchdog_ends_no_devices_interrupt)
{
    struct lapic_test_level *level = &lapic_test_level;

    *level = (struct lapic_test_level){.ended = 1};
    level->irq = message_line_open(lapic_test_level_handler, level);
    REQUIRE(level->irq >= 0);
    irq_to_desc((unsigned)level->irq)->flow = flow_level; // nothing has been sent yet
    message_line_send(level->irq, cpu_id());
    EXPECT(message_line_reached(&level->calls, 1));
    EXPECT_EQ(level->ended, 0);
    EXPECT(level->in_service);
    irq_to_desc((unsigned)level->irq)->flow = flow_edge;
    message_line_close(level->irq, level);
}

KTEST(lapic, identifiers)
{
    uint32_t wrong = 0;
    on_each_cpu(lapic_test_ipi_kinds, &wrong);
    EXPECT_EQ(wrong, 0);
    for_each_online_cpu (cpu) {
        for (unsigned other = 0; other < cpu; other++) {
            EXPECT(cpus[cpu].apic_id != cpus[other].apic_id);
        }
    }
}

KTEST(lapic, all_but_self)
{
    REQUIRE(lapic_test_open());
    const struct lapic_test_line *line = &lapic_test_lines[0];
    const struct irq_desc *desc = irq_to_desc((unsigned)line->irq);
    preempt_disable();
    unsigned self = cpu_id();
    lapic_ipi_all_but_self(line->vector);
    bool all = true;
    for_each_online_cpu (cpu) {
        all = all &&
              (cpu == self || wait_until(READ_ONCE(desc->count[cpu]) == 1, MESSAGE_LINE_WAIT_US));
    }
    preempt_enable();
    EXPECT(all);
    EXPECT_EQ(desc->count[self], 0);
    lapic_test_close();
}

// ---- NMI ----

static uint32_t lapic_test_nmis;
static bool (*lapic_test_nmi_before)(struct frame *frame);

static bool lapic_test_nmi(struct frame *frame)
{
    if (lapic_test_nmi_before != NULL && lapic_test_nmi_before(frame)) {
        return true;
    }
    __atomic_fetch_add(&lapic_test_nmis, 1, __ATOMIC_SEQ_CST);
    return true;
}

KTEST(lapic, nmi_reaches_each_cpu_with_interrupts_off)
{
    lapic_test_nmi_before = exception_nmi;
    lapic_test_nmis = 0;
    exception_nmi = lapic_test_nmi;
    uint32_t expected = 0;
    for_each_online_cpu (cpu) {
        uint64_t before = exception_count(EXC_NMI, cpu);
        unsigned long flags = local_irq_save();
        lapic_nmi(cpus[cpu].apic_id);
        bool came = message_line_reached(&lapic_test_nmis, ++expected);
        local_irq_restore(flags);
        EXPECT(came);
        EXPECT_EQ(exception_count(EXC_NMI, cpu), before + 1);
        EXPECT_EQ(irq_stat_get(IRQ_STAT_NMI, cpu), before + 1);
    }
    exception_nmi = lapic_test_nmi_before;
}

static void lapic_test_lint1(void *arg)
{
    char buffer[1200];
    struct text t = TEXT_INIT(buffer);
    lapic_show(&t);
    const char *line = strstr(buffer, "LINT1");
    const char *mode = line != NULL ? strstr(line, "NMI") : NULL;
    const char *masked = line != NULL ? strstr(line, "masked") : NULL;
    const char *end = line != NULL ? strchr(line, '\n') : NULL;
    bool right = mode != NULL && mode < end && (masked == NULL || masked > end);
    __atomic_fetch_add((uint32_t *)arg, right, __ATOMIC_RELAXED);
}

// The firmware sets this up on the boot CPU only; the others are ours to do.
KTEST(lapic, lint1_is_nmi_everywhere)
{
    uint32_t right = 0;
    on_each_cpu(lapic_test_lint1, &right);
    EXPECT_EQ(right, cpumask_weight(&cpu_online_mask));
}

// ---- the timer ----

KTEST(lapic, timer_rate_agrees_with_the_clock)
{
    // Emulators are scheduled away at will: of many windows one must fit. A wrong rate is wrong in
    // each.
    bool agrees = false;
    for (unsigned tries = 0; tries < 100 && !agrees; tries++) {
        unsigned long flags = local_irq_save();
        lapic_timer_count_start();
        uint64_t begin_ns = clock_ns();
        uint32_t begin = lapic_timer_count();
        udelay(2000);
        uint32_t ticks = lapic_timer_count() - begin;
        uint64_t ns = clock_ns() - begin_ns;
        hrtimer_reprogram();
        local_irq_restore(flags);
        uint64_t expected = ns * lapic_timer_hz() / 1000000000;
        agrees = ticks > expected - expected / 20 && ticks < expected + expected / 20;
    }
    EXPECT(agrees);
}

// Looked at with interrupts off: the request shows in the IRR, and the counter.
KTEST(lapic, one_shot_fires_once)
{
    unsigned long flags = local_irq_save();
    lapic_timer_oneshot(100000);
    bool fired = wait_until(lapic_irr_test(VECTOR_TIMER), MESSAGE_LINE_WAIT_US);
    uint32_t first = lapic_timer_left();
    udelay(1000);
    uint32_t later = lapic_timer_left();
    hrtimer_reprogram();
    local_irq_restore(flags);
    EXPECT(fired);
    EXPECT_EQ(first, 0);
    EXPECT_EQ(later, 0); // were it periodic it would have begun anew
}

static void lapic_test_until_ticks(struct every_cpu *self)
{
    struct ktest_run *ktest = self->ktest;
    uint32_t before = irq_stat_get(IRQ_STAT_LOC, self->cpu);

    EXPECT(wait_until(irq_stat_get(IRQ_STAT_LOC, self->cpu) > before + 2, MESSAGE_LINE_WAIT_US));
}

KTEST(lapic, every_busy_cpu_ticks)
{
    EXPECT(every_cpu_run(ktest, lapic_test_until_ticks, NULL));
}

KTEST(lapic, errors_are_clear)
{
    unsigned long flags = local_irq_save();
    uint32_t status = lapic_error_read();
    local_irq_restore(flags);
    EXPECT_EQ(status, 0);
}
