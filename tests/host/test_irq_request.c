// Handlers that come and go: what is refused, who shares, what the controller is told with the
// first and with the last, and a line that is disabled and enabled.
//
// links: kernel/irq/irq.c kernel/irq/request.c kernel/irq/line.c kernel/irq/flow.c
// links: kernel/irq/route.c kernel/irq/spurious.c
// links: kernel/lib/cpumask.c kernel/lib/parse.c kernel/lib/text.c
// links: tests/host/stubs/irq_machine.c tests/host/stubs/log.c tests/host/stubs/panic.c
#include "irq_case.h"

// ---- request and free ----

static void test_request_refusals(void **state)
{
    (void)state;
    assert_int_equal(request_irq(MAX_IRQS, handler, 0, "x", &a), -EINVAL);
    assert_int_equal(request_irq(UINT32_MAX, handler, 0, "x", &a), -EINVAL);
    assert_int_equal(request_irq(100, handler, 0, "x", &a), -EINVAL); // no such wire
    assert_int_equal(request_irq(EDGE, NULL, 0, "x", &a), -EINVAL);
    assert_int_equal(request_irq(EDGE, handler, IRQF_SHARED, "x", NULL), -EINVAL);
    assert_int_equal(
        request_irq(EDGE, handler, IRQF_TRIGGER_RISING | IRQF_TRIGGER_FALLING, "x", &a), -EINVAL);
    assert_int_equal(request_irq(EDGE, handler, IRQF_TRIGGER_RISING | IRQF_TRIGGER_HIGH, "x", &a),
                     -EINVAL);
    fake_failing_after = 0;
    assert_int_equal(request_irq(EDGE, handler, 0, "x", &a), -ENOMEM);
    fake_failing_after = 100;
    expect_journal(""); // none of them touched the controller
    assert_int_equal(fake_allocations, 0);
    assert_null(irq_to_desc(EDGE)->action);
}

static void test_sharing(void **state)
{
    (void)state;
    take(LEVEL, &a, IRQF_SHARED | IRQF_TRIGGER_LOW);
    assert_int_equal(request_irq(LEVEL, handler, IRQF_TRIGGER_LOW, "b", &b), -EBUSY);
    assert_int_equal(request_irq(LEVEL, handler, IRQF_SHARED, "b", &b), -EBUSY); // other trigger
    assert_int_equal(
        request_irq(LEVEL, handler, IRQF_SHARED | IRQF_TRIGGER_LOW | IRQF_ONESHOT, "b", &b),
        -EBUSY);
    assert_non_null(
        strstr(stub_log(), "genirq: Flags mismatch irq 20. 00000008 (b) vs. 00000088 (a)"));
    take(LEVEL, &b, IRQF_SHARED | IRQF_TRIGGER_LOW);
    take(EDGE, &c, 0);
    assert_int_equal(request_irq(EDGE, handler, IRQF_SHARED, "b", &b), -EBUSY); // c does not share
}

static void test_trigger_is_programmed(void **state)
{
    (void)state;
    take(EDGE, &a, IRQF_TRIGGER_LOW);
    expect_journal("low(4) startup(4)");
    fake_interrupt(vector_of(EDGE));
    expect_journal("a eoi(4)"); // and the flow is a level's now
    take(LEVEL, &b, IRQF_TRIGGER_LOW);
    expect_journal("startup(20)"); // as the wire is already

    int message = route_alloc_message(&fake_message_chip, NULL, 0);
    assert_true(message >= FAKE_WIRES);
    assert_int_equal(request_irq((unsigned)message, handler, IRQF_TRIGGER_LOW, "c", &c), -EINVAL);
    assert_int_equal(request_irq((unsigned)message, handler, IRQF_TRIGGER_RISING, "c", &c), 0);
    free_irq((unsigned)message, &c);
    route_free_message((unsigned)message);
}

static void test_free_one_and_all(void **state)
{
    (void)state;
    take(LEVEL, &a, IRQF_SHARED);
    take(LEVEL, &b, IRQF_SHARED);
    take(LEVEL, &c, IRQF_SHARED);
    fake_journal();
    assert_string_equal(free_irq(LEVEL, &b), "b");
    expect_journal("");
    fake_interrupt(vector_of(LEVEL));
    expect_journal("a c eoi(20)");
    assert_string_equal(free_irq(LEVEL, &a), "a");
    assert_string_equal(free_irq(LEVEL, &c), "c");
    expect_journal("shutdown(20)"); // with the last
    fake_interrupt(vector_of(LEVEL));
    expect_journal("eoi(20)"); // one that was on its way

    assert_null(free_irq(LEVEL, &a));
    assert_non_null(strstr(stub_log(), "Trying to free already-free IRQ 20"));
    assert_null(free_irq(300, &a));
    assert_int_equal(stub_warnings(), 2);
    take(LEVEL, &a, 0); // and again from the beginning
    expect_journal("startup(20)");
}

static void free_self(struct device_fake *device)
{
    assert_null(free_irq(LEVEL, device));
}

static void test_free_in_handler_is_refused(void **state)
{
    (void)state;
    take(LEVEL, &a, 0);
    a.inside = free_self;
    fake_interrupt(vector_of(LEVEL));
    assert_int_equal(stub_warnings(), 1);
    a.inside = NULL;
    fake_interrupt(vector_of(LEVEL));
    assert_int_equal(a.calls, 2); // still there
}

static void sync_self(struct device_fake *device)
{
    (void)device;
    synchronize_irq(LEVEL); // would wait for itself
}

static void test_synchronize_in_handler_is_refused(void **state)
{
    (void)state;
    take(LEVEL, &a, 0);
    a.inside = sync_self;
    fake_interrupt(vector_of(LEVEL));
    assert_int_equal(stub_warnings(), 1);
}

static void test_unbalanced_enable(void **state)
{
    (void)state;
    take(LEVEL, &a, 0);
    fake_journal();
    enable_irq(LEVEL);
    assert_non_null(strstr(stub_log(), "Unbalanced enable for IRQ 20"));
    expect_journal("");
    enable_irq(OTHER); // never started
    expect_journal("");
    assert_int_equal(stub_warnings(), 2);
    disable_irq(200);
    enable_irq(200); // not there: nothing happens
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_request_refusals),           TEST(test_sharing),
        TEST(test_trigger_is_programmed),      TEST(test_free_one_and_all),
        TEST(test_free_in_handler_is_refused), TEST(test_synchronize_in_handler_is_refused),
        TEST(test_unbalanced_enable),
    };
    return cmocka_run_group_tests_name("irq_request", tests, NULL, NULL);
}
