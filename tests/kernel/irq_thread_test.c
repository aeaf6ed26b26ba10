// Threaded interrupts, on an interrupt of our own: a message that this CPU sends to itself, and a
// wire that is a variable. A chip records what the flow does to it.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/clock.h>
#include <core/log.h>
#include <x86/lapic.h>
#include <irq/desc.h>
#include <irq/route.h>
#include <sched/sleep.h>
#include <sched/thread.h>

#include "eventually.h"
#include "message_line.h"

enum { WIRE_ROUNDS = 50, MESSAGE_ROUNDS = 2000 };

static struct {
    int irq;
    uint32_t active;                  // A: the level: how much work the device has
    uint32_t hard, threads;           // A: calls
    uint32_t masked_in_thread, slept; // A
    uint32_t mask_count, unmask_count;
    int8_t policy;
    char thread_name[16];
} test;

static void test_unmask(struct irq_data *data)
{
    test.unmask_count++;
    if (data->level && __atomic_load_n(&test.active, __ATOMIC_ACQUIRE) != 0) {
        lapic_irq_retrigger(data); // the wire is still up: a real IO-APIC would send again
    }
}

static void test_mask(struct irq_data *data)
{
    (void)data;
    test.mask_count++;
}

static void test_nothing(struct irq_data *data)
{
    (void)data;
}

static const struct irq_chip test_wire = {.name = "test-wire",
                                          .irq_startup = test_nothing,
                                          .irq_shutdown = test_nothing,
                                          .irq_mask = test_mask,
                                          .irq_unmask = test_unmask,
                                          .irq_retrigger = lapic_irq_retrigger};
static const struct irq_chip test_message = {.oneshot_safe = true,
                                             .name = "test-msi",
                                             .irq_startup = test_nothing,
                                             .irq_shutdown = test_nothing,
                                             .irq_mask = test_nothing,
                                             .irq_unmask = test_nothing,
                                             .irq_retrigger = lapic_irq_retrigger};

static struct irq_desc *test_begin(const struct irq_chip *chip, bool level)
{
    memset(&test, 0, sizeof(test));
    test.irq = route_alloc_message(chip, NULL, 0);
    if (test.irq < 0) {
        return NULL;
    }
    struct irq_desc *desc = irq_to_desc((unsigned)test.irq);
    desc->data.level = level;
    desc->flow = level ? flow_level : flow_edge;
    return desc;
}

static void test_raise(struct irq_desc *desc)
{
    __atomic_fetch_add(&test.active, 1, __ATOMIC_ACQ_REL);
    lapic_irq_retrigger(&desc->data);
}

static irqreturn_t test_hard(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    __atomic_fetch_add(&test.hard, 1, __ATOMIC_RELAXED);
    return IRQ_WAKE_THREAD;
}

static irqreturn_t test_thread(int irq, void *dev_id)
{
    struct irq_desc *desc = irq_to_desc((unsigned)irq);

    (void)dev_id;
    __atomic_fetch_add(&test.masked_in_thread, desc->masked, __ATOMIC_RELAXED);
    __atomic_fetch_add(&test.slept, cpu_context() == CTX_THREAD, __ATOMIC_RELAXED);
    test.policy = (int8_t)current->policy;
    strscpy(test.thread_name, current->name, sizeof(test.thread_name));
    msleep(1);
    __atomic_fetch_add(&test.threads, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&test.active, 0, __ATOMIC_RELEASE); // quiets the device
    return IRQ_HANDLED;
}

static bool test_wait_threads(uint32_t count)
{
    return EVENTUALLY(__atomic_load_n(&test.threads, __ATOMIC_ACQUIRE) >= count);
}

KTEST(irq_thread, oneshot_wire_stays_masked_until_the_thread_is_done)
{
    MESSAGE_LINE_COUNTS();
    struct irq_desc *desc = test_begin(&test_wire, true);

    REQUIRE(desc != NULL);
    REQUIRE(request_threaded_irq((unsigned)test.irq, NULL, test_thread, IRQF_ONESHOT, "kt",
                                 &test) == 0);
    for (unsigned i = 1; i <= WIRE_ROUNDS; i++) {
        test_raise(desc);
        REQUIRE(test_wait_threads(i));
        synchronize_irq((unsigned)test.irq);
        EXPECT_EQ(desc->threads_active, 0);
        EXPECT(!desc->masked);
    }
    EXPECT_EQ(test.threads, WIRE_ROUNDS);
    EXPECT_EQ(test.masked_in_thread, WIRE_ROUNDS); // in each run the line was shut
    EXPECT_EQ(test.slept, WIRE_ROUNDS);            // and sleeping was allowed
    EXPECT_EQ(test.mask_count, WIRE_ROUNDS);
    EXPECT_EQ(test.unmask_count, WIRE_ROUNDS);
    EXPECT_EQ(test.policy, SCHED_FIFO);
    EXPECT_EQ(strncmp(test.thread_name, "irq/", 4), 0);
    EXPECT(strstr(test.thread_name, "-kt") != NULL);
    EXPECT(free_irq((unsigned)test.irq, &test) != NULL);
    route_free_message((unsigned)test.irq);
}

KTEST(irq_thread, message_that_comes_again_is_one_more_run)
{
    MESSAGE_LINE_COUNTS();
    struct irq_desc *desc = test_begin(&test_message, false);
    uint32_t before;

    REQUIRE(desc != NULL);
    REQUIRE(request_threaded_irq((unsigned)test.irq, test_hard, test_thread, 0, "kt", &test) == 0);
    for (unsigned i = 0; i < MESSAGE_ROUNDS; i++) {
        test_raise(desc);
    }
    EXPECT(test_wait_threads(1));
    synchronize_irq((unsigned)test.irq);
    EXPECT(test.hard >= 1 && test.hard <= MESSAGE_ROUNDS);
    EXPECT(test.threads >= 1 && test.threads <= test.hard);
    EXPECT_EQ(desc->threads_active, 0);
    before = test.threads;
    test_raise(desc); // it still works after the flood
    EXPECT(test_wait_threads(before + 1));
    EXPECT_EQ(test.masked_in_thread, 0); // a message needs no mask
    EXPECT(free_irq((unsigned)test.irq, &test) != NULL);
    route_free_message((unsigned)test.irq);
}

KTEST(irq_thread, refusals_as_in_linux)
{
    struct irq_desc *desc = test_begin(&test_wire, true);
    int other;

    REQUIRE(desc != NULL);
    unsigned irq = (unsigned)test.irq;
    EXPECT_EQ(request_threaded_irq(irq, NULL, NULL, 0, "kt", &test), -EINVAL);
    EXPECT_EQ(request_threaded_irq(irq, NULL, test_thread, IRQF_SHARED, "kt", &test), -EINVAL);
    EXPECT_EQ(request_threaded_irq(irq, test_hard, test_thread, IRQF_SHARED, "kt", NULL), -EINVAL);
    EXPECT_EQ(request_threaded_irq(irq, NULL, test_thread, IRQF_ONESHOT | IRQF_SHARED, "a", &test),
              0);
    // Sharers must agree on one-shot, and be told apart by dev_id.
    EXPECT_EQ(request_irq(irq, test_hard, IRQF_SHARED | IRQF_NO_THREAD, "b", &other), -EBUSY);
    EXPECT_EQ(request_threaded_irq(irq, NULL, test_thread, IRQF_ONESHOT | IRQF_SHARED, "b", &test),
              -EINVAL);
    EXPECT_EQ(request_threaded_irq(irq, NULL, test_thread, IRQF_ONESHOT | IRQF_SHARED, "b", &other),
              0);
    EXPECT(free_irq(irq, &other) != NULL);
    EXPECT(free_irq(irq, &test) != NULL);
    route_free_message(irq);

    // A message may do without.
    desc = test_begin(&test_message, false);
    REQUIRE(desc != NULL);
    EXPECT_EQ(request_threaded_irq((unsigned)test.irq, NULL, test_thread, 0, "kt", &test), 0);
    EXPECT(free_irq((unsigned)test.irq, &test) != NULL);
    route_free_message((unsigned)test.irq);
}

// A request, an interrupt and a free, again and again: no thread and no run is left behind.
KTEST(irq_thread, free_waits_for_the_thread)
{
    for (unsigned i = 0; i < 50; i++) {
        struct irq_desc *desc = test_begin(&test_message, false);

        REQUIRE(desc != NULL);
        REQUIRE(request_threaded_irq((unsigned)test.irq, NULL, test_thread, 0, "kt", &test) == 0);
        test_raise(desc);
        EXPECT(test_wait_threads(1));
        test_raise(desc);
        EXPECT(free_irq((unsigned)test.irq, &test) != NULL);
        uint32_t after = test.threads;
        msleep(5);
        EXPECT_EQ(test.threads, after); // nothing runs once free_irq has returned
        EXPECT_EQ(desc->threads_active, 0);
        route_free_message((unsigned)test.irq);
    }
}

// A thread function that ends its thread: the line is shut and said so, and nobody who waits for
// the handlers waits for ever.
static irqreturn_t test_dying_thread(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    thread_exit();
}

KTEST(irq_thread, a_thread_that_ends_shuts_its_line)
{
    struct irq_desc *desc = test_begin(&test_wire, true);

    REQUIRE(desc != NULL);
    REQUIRE(request_threaded_irq((unsigned)test.irq, NULL, test_dying_thread, IRQF_ONESHOT, "kt",
                                 &test) == 0);
    test_raise(desc);
    EXPECT(EVENTUALLY(READ_ONCE(desc->depth) != 0));
    EXPECT_EQ(desc->depth, 1);
    synchronize_irq((unsigned)test.irq);
    EXPECT_EQ(desc->threads_active, 0);
    EXPECT_EQ(test.unmask_count, 0);
    EXPECT(free_irq((unsigned)test.irq, &test) != NULL);
    route_free_message((unsigned)test.irq);
}
