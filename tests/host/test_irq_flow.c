// An interrupt's way to its handlers: who is called and when the controller is told, what is masked
// meanwhile and what comes again; lines for which nobody cares; vectors that are nobody's.
//
// links: kernel/irq/irq.c kernel/irq/request.c kernel/irq/line.c kernel/irq/flow.c
// links: kernel/irq/route.c kernel/irq/spurious.c
// links: kernel/lib/cpumask.c kernel/lib/parse.c kernel/lib/text.c
// links: tests/host/stubs/irq_machine.c tests/host/stubs/log.c tests/host/stubs/panic.c
#include <core/clock.h>
#include <x86/lapic.h>

#include "irq_case.h"

// ---- flows ----

static void test_level_order(void **state)
{
    (void)state;
    take(LEVEL, &a, IRQF_SHARED);
    take(LEVEL, &b, IRQF_SHARED);
    expect_journal("startup(20)");
    fake_interrupt(vector_of(LEVEL));
    expect_journal("a b eoi(20)"); // the EOI after all of them
    assert_int_equal(irq_to_desc(LEVEL)->in_progress, 0);
}

static void test_edge_order(void **state)
{
    (void)state;
    take(EDGE, &a, 0);
    fake_journal();
    fake_interrupt(vector_of(EDGE));
    expect_journal("eoi(4) a"); // the EOI before the handler
}

static void test_level_disabled(void **state)
{
    (void)state;
    take(LEVEL, &a, 0);
    fake_journal();
    disable_irq(LEVEL);
    expect_journal("mask(20)");
    fake_interrupt(vector_of(LEVEL)); // was on its way
    expect_journal("eoi(20)");
    disable_irq_nosync(LEVEL);
    enable_irq(LEVEL);
    expect_journal(""); // two disables, one enable
    enable_irq(LEVEL);
    expect_journal("unmask(20)"); // the level is still there: the controller delivers it again
    assert_int_equal(a.calls, 0);
}

static void test_edge_disabled_is_not_lost(void **state)
{
    (void)state;
    take(EDGE, &a, 0);
    fake_journal();
    disable_irq(EDGE);
    expect_journal(""); // lazily: most disables see no edge
    fake_interrupt(vector_of(EDGE));
    expect_journal("eoi(4) mask(4)");
    fake_interrupt(vector_of(EDGE));
    expect_journal("eoi(4)");
    enable_irq(EDGE);
    expect_journal("unmask(4) retrigger(4)"); // once, however many came
    fake_interrupt(vector_of(EDGE));
    expect_journal("eoi(4) a");
    disable_irq(EDGE);
    enable_irq(EDGE);
    expect_journal(""); // nothing came: nothing to do again
}

// A handler disables its own line, as NAPI drivers do.
static void disable_self(struct device_fake *device)
{
    device->inside = NULL;
    disable_irq_nosync(LEVEL);
}

static void test_disable_from_handler(void **state)
{
    (void)state;
    take(LEVEL, &a, 0);
    fake_journal();
    a.inside = disable_self;
    fake_interrupt(vector_of(LEVEL));
    expect_journal("a mask(20) eoi(20)");
}

static void again_on_cpu_1(struct device_fake *device)
{
    device->inside = NULL;
    assert_int_equal(irq_to_desc(EDGE)->in_progress, 1);
    fake_cpu(1);
    fake_interrupt(vector_of(EDGE));
    fake_cpu(0);
}

static void test_edge_during_handler_on_other_cpu(void **state)
{
    (void)state;
    take(EDGE, &a, 0);
    fake_journal();
    a.inside = again_on_cpu_1;
    fake_interrupt(vector_of(EDGE));
    // CPU 1 leaves a note and masks; CPU 0 unmasks before it calls again, so an edge in between is
    // seen.
    expect_journal("eoi(4) a eoi(4) mask(4) unmask(4) a");
    assert_int_equal(irq_to_desc(EDGE)->count[0], 1);
    assert_int_equal(irq_to_desc(EDGE)->count[1], 1);
    assert_false(irq_to_desc(EDGE)->pending);
}

static void again_for_ever(struct device_fake *device)
{
    (void)device;
    fake_cpu(1);
    fake_interrupt(vector_of(EDGE));
    fake_cpu(0);
}

static void test_edge_rounds_are_bounded(void **state)
{
    (void)state;
    take(EDGE, &a, 0);
    a.inside = again_for_ever;
    fake_interrupt(vector_of(EDGE));
    assert_int_equal(a.calls, 8);
    const char *journal = fake_journal();
    assert_string_equal(journal + strlen(journal) - strlen("unmask(4) retrigger(4)"),
                        "unmask(4) retrigger(4)"); // the rest comes by the front door
    assert_false(irq_to_desc(EDGE)->masked);
}

static void test_percpu(void **state)
{
    (void)state;
    take(EDGE, &a, 0);
    irq_to_desc(EDGE)->flow = flow_percpu;
    fake_journal();
    fake_interrupt(vector_of(EDGE));
    expect_journal("eoi(4) a");
}

static void test_counts(void **state)
{
    (void)state;
    take(EDGE, &a, 0);
    uint64_t before = irq_total(2);
    fake_cpu(2);
    for (unsigned i = 0; i < 5; i++) {
        fake_interrupt(vector_of(EDGE));
    }
    assert_int_equal(irq_to_desc(EDGE)->count[2], 5);
    assert_int_equal(irq_desc_total(irq_to_desc(EDGE)), 5);
    assert_int_equal(irq_to_desc(EDGE)->action->count, 5);
    assert_int_equal(irq_total(2) - before, 5);
    assert_int_equal(irq_stat_get(IRQ_STAT_NMI, 2),
                     22); // where exceptions are counted (stub: vector * 10 + CPU)
}

// ---- the spurious detector ----

static void deliver(unsigned irq, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        fake_interrupt(vector_of(irq));
    }
}

static void test_nobody_cared(void **state)
{
    (void)state;
    take(LEVEL, &a, IRQF_SHARED);
    a.answer = IRQ_NONE;
    deliver(LEVEL, 99999);
    struct irq_desc *desc = irq_to_desc(LEVEL);
    assert_int_equal(irq_noted(desc), 99999);
    assert_int_equal(desc->unhandled, 99999);
    assert_false(desc->masked);
    fake_journal();
    deliver(LEVEL, 1);
    expect_journal("a mask(20) eoi(20)");
    assert_true(desc->killed);
    assert_int_equal(irq_noted(desc), 0);
    const char *log = stub_log();
    const char *cared = strstr(
        log, "irq 20: nobody cared (try booting with the \"irqpoll\" option)\nhandlers:\n[<");
    assert_non_null(cared);
    assert_non_null(strstr(cared, ">] some_handler\nDisabling IRQ #20\n"));

    deliver(LEVEL, 3);
    assert_int_equal(a.calls, 100000); // none of those three
    fake_journal();
    take(LEVEL, &b, IRQF_SHARED); // perhaps the one that was missing
    expect_journal("unmask(20)");
    assert_false(desc->killed);
    deliver(LEVEL, 1);
    assert_int_equal(b.calls, 1);
}

static void test_enable_revives(void **state)
{
    (void)state;
    take(LEVEL, &a, 0);
    a.answer = IRQ_NONE;
    deliver(LEVEL, 100000);
    assert_true(irq_to_desc(LEVEL)->killed);
    fake_journal();
    enable_irq(LEVEL);
    expect_journal("unmask(20)");
    deliver(LEVEL, 100000); // and it is watched again
    assert_true(irq_to_desc(LEVEL)->killed);
}

// 99,900 of 100,000 are forgiven, 99,901 are not.
static void spurious_with(unsigned handled, bool killed)
{
    setup(NULL);
    take(LEVEL, &a, 0);
    deliver(LEVEL, handled);
    a.answer = IRQ_NONE;
    deliver(LEVEL, 100000 - handled);
    assert_int_equal(irq_to_desc(LEVEL)->killed, killed);
    assert_int_equal(irq_to_desc(LEVEL)->unhandled, 0);
    teardown(NULL);
}

static void test_spurious_limit(void **state)
{
    (void)state;
    spurious_with(100, false);
    spurious_with(99, true);
}

static void test_spurious_far_apart_is_forgiven(void **state)
{
    (void)state;
    take(LEVEL, &a, 0);
    a.answer = IRQ_NONE;
    for (unsigned i = 0; i < 100000; i++) {
        jiffies += HZ / 10 + 1;
        deliver(LEVEL, 1);
        assert_true(irq_to_desc(LEVEL)->unhandled <= 1);
    }
    assert_false(irq_to_desc(LEVEL)->killed);
}

static void test_bogus_answer(void **state)
{
    (void)state;
    take(EDGE, &a, 0);
    a.answer = (irqreturn_t)0x55;
    deliver(EDGE, 1);
    assert_non_null(strstr(stub_log(), "irq event 4: bogus return value 55"));
}

// ---- vectors without a descriptor ----

static void system_handler(void)
{
    fake_note("system");
}

static void test_system_vector(void **state)
{
    (void)state;
    uint32_t before = irq_stat_get(IRQ_STAT_LOC, 3);
    irq_set_system_vector(VECTOR_TIMER, IRQ_STAT_LOC, system_handler);
    fake_cpu(3);
    fake_interrupt(VECTOR_TIMER);
    expect_journal("EOI system");
    assert_int_equal(irq_stat_get(IRQ_STAT_LOC, 3), before + 1);
    irq_set_system_vector(VECTOR_LAPIC_ERROR, IRQ_STAT_COUNT, system_handler); // counted nowhere
    fake_interrupt(VECTOR_LAPIC_ERROR);
    expect_journal("EOI system");
    assert_int_equal(irq_err_count, 0);
}

static void test_unexpected_vectors(void **state)
{
    (void)state;
    fake_in_service[0x99] = true;
    fake_interrupt(0x99);
    expect_journal("EOI"); // or this and all lower classes stay blocked
    assert_int_equal(irq_err_count, 1);
    assert_non_null(strstr(stub_log(), "no handler for vector 0x99"));

    uint32_t before = irq_stat_get(IRQ_STAT_SPU, 0);
    fake_interrupt(VECTOR_SPURIOUS);
    expect_journal(""); // no EOI for that one
    assert_int_equal(irq_stat_get(IRQ_STAT_SPU, 0), before + 1);
    assert_int_equal(irq_err_count, 1);
    fake_in_service[VECTOR_SPURIOUS] = true; // a real message with that number
    fake_interrupt(VECTOR_SPURIOUS);
    expect_journal("EOI");
    assert_int_equal(irq_err_count, 2);

    fake_pic_real = false;
    fake_interrupt(0x27);
    expect_journal("pic(7)");
    assert_non_null(strstr(stub_log(), "spurious interrupt 7 from the 8259"));
    fake_pic_real = true;
    fake_interrupt(0x2f);
    expect_journal("pic(15)");
    assert_non_null(strstr(stub_log(), "stray interrupt 15 from the 8259"));
    fake_in_service[0x21] = true; // not the 8259's: it came through the local APIC
    fake_interrupt(0x21);
    expect_journal("EOI");
    assert_int_equal(irq_err_count, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_level_order),
        TEST(test_edge_order),
        TEST(test_level_disabled),
        TEST(test_edge_disabled_is_not_lost),
        TEST(test_disable_from_handler),
        TEST(test_edge_during_handler_on_other_cpu),
        TEST(test_edge_rounds_are_bounded),
        TEST(test_percpu),
        TEST(test_counts),
        TEST(test_nobody_cared),
        TEST(test_enable_revives),
        TEST(test_spurious_limit),
        TEST(test_spurious_far_apart_is_forgiven),
        TEST(test_bogus_answer),
        TEST(test_system_vector),
        TEST(test_unexpected_vectors),
    };
    return cmocka_run_group_tests_name("irq_flow", tests, NULL, NULL);
}
