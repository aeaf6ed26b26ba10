// The interrupt core inside the machine: real vectors through real stubs, on all CPUs.
#include "eventually.h"
#include "every_cpu.h"
#include "message_line.h"

#include <core/log.h>
#include <core/panic.h>
#include <lib/errno.h>
#include <irq/devres.h>
#include <sched/sleep.h>

struct irq_test_device {
    uint32_t calls;      // A
    uint32_t wrong;      // A: calls in a wrong context
    uint32_t inside;     // A: handlers running now
    uint32_t max_inside; // A
    irqreturn_t answer;
    bool hold; // A: stay inside until this is off, bounded
    uint32_t spin_us;
};

static irqreturn_t irq_test_handler(int irq, void *dev_id)
{
    struct irq_test_device *device = dev_id;
    uint32_t inside = __atomic_add_fetch(&device->inside, 1, __ATOMIC_SEQ_CST);
    if (inside > device->max_inside) {
        device->max_inside = inside;
    }
    if (!in_hardirq() || !irqs_disabled() || in_task() || irq_to_desc((unsigned)irq) == NULL) {
        __atomic_fetch_add(&device->wrong, 1, __ATOMIC_RELAXED);
    }
    (void)wait_until(!READ_ONCE(device->hold), MESSAGE_LINE_WAIT_US);
    if (device->spin_us != 0) {
        udelay(device->spin_us);
    }
    __atomic_fetch_add(&device->calls, 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_sub(&device->inside, 1, __ATOMIC_SEQ_CST);
    return device->answer;
}

KTEST(irq, handler_runs_in_hard_irq_and_is_counted)
{
    MESSAGE_LINE_COUNTS();
    struct irq_test_device device = {.answer = IRQ_HANDLED};
    int irq = message_line_open(irq_test_handler, &device);
    REQUIRE(irq >= 0);
    const struct irq_desc *desc = irq_to_desc((unsigned)irq);
    for_each_online_cpu (cpu) {
        uint32_t before = device.calls;
        uint64_t total = irq_total(cpu);
        message_line_send(irq, cpu);
        EXPECT(message_line_reached(&device.calls, before + 1));
        EXPECT_EQ(desc->count[cpu], 1);
        EXPECT(irq_total(cpu) > total);
    }
    EXPECT_EQ(device.wrong, 0);
    EXPECT_EQ(device.calls, cpumask_weight(&cpu_online_mask));
    EXPECT_EQ(irq_desc_total(desc), device.calls);
    EXPECT_EQ(desc->in_progress, 0);
    message_line_close(irq, &device);
}

KTEST(irq, edge_while_disabled_is_delivered_once_by_enable)
{
    MESSAGE_LINE_COUNTS();
    struct irq_test_device device = {.answer = IRQ_HANDLED};
    int irq = message_line_open(irq_test_handler, &device);
    REQUIRE(irq >= 0);
    struct irq_desc *desc = irq_to_desc((unsigned)irq);
    unsigned cpu = desc->data.cpu;
    disable_irq((unsigned)irq);
    for (uint32_t sent = 1; sent <= 3; sent++) {
        message_line_send(irq, cpu);
        EXPECT(wait_until(READ_ONCE(desc->count[cpu]) == sent, MESSAGE_LINE_WAIT_US));
    }
    EXPECT_EQ(device.calls, 0);
    EXPECT(desc->pending);
    enable_irq((unsigned)irq);
    EXPECT(message_line_reached(&device.calls, 1));
    msleep(20);
    EXPECT_EQ(device.calls, 1);
    message_line_close(irq, &device);
}

// The handler spins on another CPU while free_irq is called: what free_irq returns to must be able
// to free what the handler uses.
KTEST(irq, free_waits_for_a_running_handler)
{
    struct irq_test_device device = {.answer = IRQ_HANDLED, .hold = true, .spin_us = 20000};
    if (cpumask_weight(&cpu_online_mask) < 2) {
        SKIP("one CPU: a handler and a thread cannot run at once");
    }
    int irq = message_line_open(irq_test_handler, &device);
    REQUIRE(irq >= 0);
    preempt_disable();
    unsigned other = cpumask_next(&cpu_online_mask, 0) != cpu_id()
                         ? cpumask_next(&cpu_online_mask, 0)
                         : cpumask_next(&cpu_online_mask, cpu_id() + 1);
    message_line_send(irq, other);
    bool started = message_line_reached(&device.inside, 1);
    WRITE_ONCE(device.hold, false); // seen inside: now the 20 ms begin
    preempt_enable();
    EXPECT(started);
    message_line_close(irq, &device);
    EXPECT_EQ(device.calls, 1);
    EXPECT_EQ(device.inside, 0);
}

static void irq_test_send_many(struct every_cpu *self)
{
    int irq = *(int *)self->arg;
    for (unsigned i = 0; i < 2000; i++) {
        message_line_send(irq, every_cpu_random(self) % cpu_count);
    }
}

// All CPUs send one edge to all CPUs: handlers of one irq never run at once, and an edge during a
// handler is not forgotten.
KTEST(irq, one_edge_on_all_cpus_is_served_by_one_at_a_time)
{
    MESSAGE_LINE_COUNTS();
    struct irq_test_device device = {.answer = IRQ_HANDLED};
    int irq = message_line_open(irq_test_handler, &device);
    REQUIRE(irq >= 0);
    EXPECT(every_cpu_run(ktest, irq_test_send_many, &irq));
    uint32_t before = device.calls;
    message_line_send(irq, 0);
    EXPECT(message_line_reached(&device.calls, before + 1));
    EXPECT(device.calls > 0);
    EXPECT_EQ(device.max_inside, 1);
    EXPECT_EQ(device.wrong, 0);
    const struct irq_desc *desc = irq_to_desc((unsigned)irq);
    EXPECT(wait_until(READ_ONCE(desc->in_progress) == 0, MESSAGE_LINE_WAIT_US));
    EXPECT(!desc->pending);
    message_line_close(irq, &device);
}

static uint32_t irq_test_churn_stop;

static void irq_test_churn_send(struct every_cpu *self)
{
    int irq = *(int *)self->arg;
    while (!READ_ONCE(irq_test_churn_stop) && self->cpu != 0) {
        message_line_send(irq, every_cpu_random(self) % cpu_count);
    }
    if (self->cpu == 0) { // this one takes the line away and back while the others send
        struct irq_test_device *device = kzalloc(sizeof(*device), GFP_KERNEL);
        for (unsigned i = 0; device != NULL && i < 200; i++) {
            device->answer = IRQ_HANDLED;
            if (request_irq((unsigned)irq, irq_test_handler, 0, "ktest", device) != 0) {
                ktest_fail(self->ktest, __FILE__, __LINE__, "request %u refused", i);
                break;
            }
            free_irq((unsigned)irq, device);
            kfree(device); // poisoned: a handler that still ran would show in slab_selfcheck
            device = kzalloc(sizeof(*device), GFP_KERNEL);
        }
        kfree(device);
        WRITE_ONCE(irq_test_churn_stop, 1);
    }
}

KTEST(irq, request_and_free_under_fire)
{
    int irq = route_alloc_message(&soft_line_chip, NULL, 0);
    REQUIRE(irq >= 0);
    irq_test_churn_stop = 0;
    uint32_t warnings = warn_count;
    EXPECT(every_cpu_run(ktest, irq_test_churn_send, &irq));
    msleep(20); // what is still on its way finds the descriptor
    EXPECT_EQ(slab_selfcheck(), 0);
    EXPECT_EQ(warn_count, warnings);
    EXPECT_EQ(irq_to_desc((unsigned)irq)->in_progress, 0);
    route_free_message((unsigned)irq);
}

// The calls that interrupts made: a shut line's handler is asked ten times a second besides. That
// is counted before it is called.
static uint32_t irq_test_by_interrupt(const struct irq_test_device *device,
                                      const struct irq_desc *desc)
{
    uint32_t polls, calls;

    do {
        polls = READ_ONCE(desc->polls);
        calls = READ_ONCE(device->calls);
    } while (polls != READ_ONCE(desc->polls));
    return calls - polls;
}

KTEST(irq, line_that_nobody_serves_is_shut)
{
    MESSAGE_LINE_COUNTS();
    struct irq_test_device device = {.answer = IRQ_NONE};
    int irq = message_line_open(irq_test_handler, &device);
    REQUIRE(irq >= 0);
    struct irq_desc *desc = irq_to_desc((unsigned)irq);
    uint32_t tick = jiffies;
    for (uint32_t i = 0; i < 300000 && !READ_ONCE(desc->killed); i++) {
        unsigned long flags = local_irq_save(); // one at a time: in the IRR two would merge
        lapic_ipi_self(message_line_vector(irq));
        local_irq_restore(flags);
    }
    if (jiffies - tick > HZ / 10 && !desc->killed) {
        ktest->skip = "too slow an emulator: unhandled interrupts were a tenth of a second apart";
    } else {
        EXPECT(desc->killed);
        EXPECT(desc->masked);
        EXPECT_EQ(irq_noted(desc), 0);
        unsigned long flags;
        spin_lock_irqsave(&desc->lock, flags); // nobody is asked just now
        uint32_t calls = irq_test_by_interrupt(&device, desc);
        spin_unlock_irqrestore(&desc->lock, flags);
        EXPECT(calls >= 100000);
        device.answer = IRQ_HANDLED;
        message_line_send(irq, desc->data.cpu);
        msleep(20);
        EXPECT(EVENTUALLY(irq_test_by_interrupt(&device, desc) == calls)); // deaf
        enable_irq((unsigned)irq);
        // The one that came is delivered now.
        EXPECT(EVENTUALLY(irq_test_by_interrupt(&device, desc) == calls + 1));
        EXPECT(!desc->killed);
    }
    message_line_close(irq, &device);
}

// Each vector that has no owner, once on each CPU: counted, ended, and the machine goes on.
KTEST(irq, unexpected_vectors_are_counted_and_ended)
{
    uint32_t expected = READ_ONCE(irq_err_count);
    for_each_online_cpu (cpu) {
        for (unsigned vector = 0x20; vector <= VECTOR_LAST_DEVICE; vector++) {
            if (route_vector_irq((uint8_t)vector) != MAX_IRQS) {
                continue;
            }
            expected++;
            lapic_ipi(cpus[cpu].apic_id, (uint8_t)vector);
            if (!wait_until(READ_ONCE(irq_err_count) == expected, MESSAGE_LINE_WAIT_US)) {
                ktest_fail(ktest, __FILE__, __LINE__, "vector 0x%x on CPU %u: ERR is %u, not %u",
                           vector, cpu, irq_err_count, expected);
                return;
            }
        }
    }
    struct irq_test_device device = {.answer = IRQ_HANDLED};
    int irq = message_line_open(irq_test_handler, &device);
    REQUIRE(irq >= 0);
    for_each_online_cpu (cpu) { // no class is left blocked by a missing EOI
        uint32_t before = device.calls;
        message_line_send(irq, cpu);
        EXPECT(message_line_reached(&device.calls, before + 1));
    }
    message_line_close(irq, &device);
}

// A second handler joins the line by its device, and goes with it, or before.
KTEST(irq, what_a_device_requested_goes_with_it)
{
    struct device dev = {.name = "nobody"}, other = {.name = "other"};
    struct irq_test_device own = {.answer = IRQ_HANDLED}, a = own, b = own;
    int irq = route_alloc_message(&soft_line_chip, NULL, 0);
    REQUIRE(irq >= 0);
    struct irq_desc *desc = irq_to_desc((unsigned)irq);
    EXPECT_EQ(devm_request_irq(&dev, MAX_IRQS, irq_test_handler, 0, "ktest", &a), -EINVAL);
    EXPECT_EQ(devm_request_irq(&dev, (unsigned)irq, irq_test_handler, IRQF_SHARED, "ktest", &a), 0);
    EXPECT_EQ(devm_request_irq(&dev, (unsigned)irq, irq_test_handler, IRQF_SHARED, "ktest", &b), 0);
    EXPECT_EQ(devm_release_irqs(&other), 0);
    message_line_send(irq, desc->data.cpu);
    EXPECT(message_line_reached(&a.calls, 1) && message_line_reached(&b.calls, 1));
    devm_free_irq(&dev, (unsigned)irq, &a);
    devm_free_irq(&dev, (unsigned)irq, &a); // a warning, and nothing else
    ktest->warnings_expected = 1;
    message_line_send(irq, desc->data.cpu);
    EXPECT(message_line_reached(&b.calls, 2));
    EXPECT_EQ(a.calls, 1);
    EXPECT_EQ(devm_release_irqs(&dev), 1);
    EXPECT(desc->action == NULL);
    EXPECT_EQ(devm_release_irqs(&dev), 0);
    route_free_message((unsigned)irq);
}

KTEST(irq, refusals)
{
    struct irq_test_device device = {.answer = IRQ_HANDLED};
    int irq = message_line_open(irq_test_handler, &device);
    REQUIRE(irq >= 0);
    EXPECT_EQ(request_irq(MAX_IRQS, irq_test_handler, 0, "ktest", &device), -EINVAL);
    EXPECT_EQ(request_irq((unsigned)irq, NULL, 0, "ktest", &device), -EINVAL);
    EXPECT_EQ(request_irq((unsigned)irq, irq_test_handler, IRQF_SHARED, "ktest", NULL), -EINVAL);
    EXPECT_EQ(request_irq((unsigned)irq, irq_test_handler, IRQF_SHARED, "ktest", &device), -EBUSY);
    struct cpumask nobody = {0};
    EXPECT_EQ(irq_set_affinity((unsigned)irq, &nobody), -EINVAL);
    message_line_close(irq, &device);
    EXPECT(irq_to_desc((unsigned)irq) == NULL);
}
