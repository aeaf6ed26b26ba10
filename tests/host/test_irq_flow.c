// The interrupt core on a controller that writes down what it is told: who is called, in which
// order, and what is refused.
//
// links: kernel/irq/irq.c kernel/irq/request.c kernel/irq/line.c kernel/irq/flow.c kernel/irq/route.c kernel/irq/spurious.c kernel/lib/cpumask.c kernel/lib/parse.c kernel/lib/text.c tests/host/stubs/irq_machine.c tests/host/stubs/log.c tests/host/stubs/panic.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <lib/errno.h>
#include <core/clock.h>
#include <core/cpu.h>
#include <x86/acpi.h>
#include <x86/ioapic.h>
#include <x86/lapic.h>
#include <x86/segments.h>
#include <irq/desc.h>
#include <irq/route.h>

#include "stubs/irq_machine.h"
#include "stubs/stubs.h"

enum { EDGE = 4, LEVEL = 20, OTHER = 21 };

static struct acpi_info tables;

// Devices of the tests: dev_id is one of these.
struct device_fake {
    const char *name;
    irqreturn_t answer;
    unsigned calls;
    void (*inside)(struct device_fake *device); // done in the handler
};
static struct device_fake a, b, c;

static irqreturn_t handler(int irq, void *dev_id)
{
    struct device_fake *device = dev_id;
    (void)irq;
    device->calls++;
    fake_note("%s", device->name);
    if (device->inside != NULL) {
        device->inside(device);
    }
    return device->answer;
}

static int setup(void **state)
{
    (void)state;
    fake_reset();
    a = (struct device_fake){.name = "a", .answer = IRQ_HANDLED};
    b = (struct device_fake){.name = "b", .answer = IRQ_HANDLED};
    c = (struct device_fake){.name = "c", .answer = IRQ_HANDLED};
    memset(&tables, 0, sizeof(tables));
    route_init(&tables);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned irq = 0; irq < MAX_IRQS; irq++) {
        while (irq_descs[irq].action != NULL) {
            free_irq(irq, irq_descs[irq].action->dev_id);
        }
    }
    assert_int_equal(fake_allocations, 0);
    return 0;
}

static void take(unsigned irq, struct device_fake *device, unsigned long flags)
{
    assert_int_equal(request_irq(irq, handler, flags, device->name, device), 0);
}

static unsigned vector_of(unsigned irq)
{
    return irq_to_desc(irq)->data.vector;
}

#define expect_journal(text) assert_string_equal(fake_journal(), text)

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

// ---- routing ----

static void test_vectors_spread_and_run_out(void **state)
{
    (void)state;
    enum { TOTAL = VECTOR_LAST_DEVICE - VECTOR_FIRST_DEVICE }; // all but the system call's
    static uint8_t dealt[TOTAL];
    bool seen[256] = {false};
    unsigned classes = 0;
    for (unsigned i = 0; i < TOTAL; i++) {
        dealt[i] = route_vector_alloc(i);
        assert_in_range(dealt[i], VECTOR_FIRST_DEVICE, VECTOR_LAST_DEVICE);
        assert_int_not_equal(dealt[i], VECTOR_SYSCALL);
        assert_false(seen[dealt[i]]);
        seen[dealt[i]] = true;
        assert_int_equal(route_vector_irq(dealt[i]), i);
        classes |= i < 12 ? 1u << (dealt[i] >> 4) : 0;
    }
    assert_true(__builtin_popcount(classes) >=
                11); // the first dozen: a class each, as far as there are
    assert_int_equal(route_vector_alloc(1), 0);
    assert_int_equal(request_irq(EDGE, handler, 0, "x", &a), -ENOSPC);
    assert_null(irq_to_desc(EDGE)->action);
    assert_int_equal(fake_allocations, 0);
    assert_int_equal(route_alloc_message(&fake_message_chip, NULL, 0), -ENOSPC);
    route_vector_free(dealt[50]);
    assert_int_equal(route_vector_irq(dealt[50]), MAX_IRQS);
    assert_int_equal(route_vector_alloc(7), dealt[50]);
    for (unsigned i = 0; i < TOTAL; i++) {
        route_vector_free(dealt[i]);
    }
}

static void test_wires(void **state)
{
    (void)state;
    fake_reset();
    tables.override_count = 4;
    tables.overrides[0] = (struct acpi_override){.source = 0, .gsi = 2};
    tables.overrides[1] = (struct acpi_override){.source = 9, .gsi = 9, .level = true};
    tables.overrides[2] =
        (struct acpi_override){.source = 5, .gsi = 21, .level = true, .active_low = true};
    tables.overrides[3] = (struct acpi_override){.source = 7, .gsi = 400};
    tables.intx_count = 1;
    tables.intx[0] = (struct acpi_intx){.slot = 1, .gsi = 17, .level = true, .active_low = false};
    route_init(&tables);
    assert_int_equal(irq_count(), FAKE_WIRES);
    assert_int_equal(route_isa(0), 2);
    assert_int_equal(route_isa(2), -ENOENT); // the cascade
    assert_int_equal(route_isa(4), 4);
    assert_int_equal(route_isa(5), 21);
    assert_int_equal(route_isa(7), -ENOENT);
    assert_non_null(strstr(stub_log(), "ISA line 7 goes to GSI 400"));
    assert_int_equal(route_isa(16), -ENOENT);

    assert_ptr_equal(irq_to_desc(9)->flow, flow_level);
    assert_false(irq_to_desc(9)->data.active_low);
    assert_ptr_equal(irq_to_desc(4)->flow, flow_edge);
    assert_true(irq_to_desc(20)->data.active_low);  // PCI's way
    assert_false(irq_to_desc(17)->data.active_low); // the DSDT's word
    assert_int_equal(route_gsi_pci(11), 11);
    assert_ptr_equal(irq_to_desc(11)->flow, flow_level);
    assert_true(irq_to_desc(11)->data.active_low);
    assert_int_equal(route_gsi_pci(9), 9);
    assert_false(irq_to_desc(9)->data.active_low); // the override's word
    assert_int_equal(route_gsi_pci(17), 17);
    assert_false(irq_to_desc(17)->data.active_low);
    assert_int_equal(route_gsi_pci(FAKE_WIRES), -ENOENT);
    assert_int_equal(route_gsi_pci(UINT32_MAX), -ENOENT);
}

static void test_messages(void **state)
{
    (void)state;
    int first = route_alloc_message(&fake_message_chip, &a, 3);
    int second = route_alloc_message(&fake_message_chip, &b, 4);
    assert_int_equal(first, FAKE_WIRES);
    assert_int_equal(second, FAKE_WIRES + 1);
    struct irq_desc *desc = irq_to_desc((unsigned)first);
    assert_ptr_equal(desc->data.chip_data, &a);
    assert_int_equal(desc->data.hwirq, 3);
    assert_int_equal(route_vector_irq(desc->data.vector), first);
    assert_int_equal(route_gsi_pci((unsigned)first), -ENOENT); // not a wire
    uint8_t vector = desc->data.vector;
    assert_int_equal(request_irq((unsigned)first, handler, 0, "a", &a), 0);
    assert_int_equal(desc->data.vector, vector);
    fake_journal();
    route_free_message((unsigned)first); // still in use
    assert_int_equal(stub_warnings(), 1);
    assert_non_null(irq_to_desc((unsigned)first));
    free_irq((unsigned)first, &a);
    fake_journal();
    fake_waiting = 2;
    route_free_message((unsigned)first); // what is on its way still finds its descriptor
    expect_journal("call(0) irr(24) call(0) irr(24) call(0) irr(24)");
    assert_null(irq_to_desc((unsigned)first));
    assert_int_equal(route_vector_irq(vector), MAX_IRQS);
    assert_int_equal(route_alloc_message(&fake_message_chip, &a, 3), first);
    assert_int_not_equal(irq_to_desc((unsigned)first)->data.vector, vector); // rests for a while
    route_free_message((unsigned)first);
    route_free_message((unsigned)second);
    route_free_message(EDGE); // a wire stays
    assert_non_null(irq_to_desc(EDGE));
}

// ---- affinity ----

static struct cpumask mask_of(uint64_t bits)
{
    return (struct cpumask){.bits = {bits}};
}

// A CPU that read the vector table before the message was freed, and goes on only now.
static void test_late_cpu_finds_no_hole(void **state)
{
    (void)state;
    int irq = route_alloc_message(&fake_message_chip, NULL, 0);
    assert_int_equal(request_irq((unsigned)irq, handler, 0, "a", &a), 0);
    struct irq_desc *desc = irq_to_desc((unsigned)irq);
    free_irq((unsigned)irq, &a);
    route_free_message((unsigned)irq);
    fake_journal();
    desc->flow(desc);
    expect_journal("eoi(24)");
    assert_int_equal(route_alloc_message(&fake_message_chip, NULL, 0), irq);
    desc->flow(desc);
    expect_journal("eoi(24)");
    assert_int_equal(a.calls, 0);
    route_free_message((unsigned)irq);
}

static void test_irqs_go_to_the_idlest_cpu(void **state)
{
    (void)state;
    for (unsigned irq = 3; irq < 3 + 2 * FAKE_CPUS; irq++) {
        take(irq, &a, 0);
        assert_int_equal(irq_to_desc(irq)->data.cpu, (irq - 3) % FAKE_CPUS);
        assert_int_equal(irq_to_desc(irq)->data.apic_id, 10 + (irq - 3) % FAKE_CPUS);
    }
    assert_int_equal(free_irq(5, &a) != NULL, true);
    take(LEVEL, &a, 0);
    assert_int_equal(irq_to_desc(LEVEL)->data.cpu, 2); // the gap that irq 5 left
}

static void test_affinity(void **state)
{
    (void)state;
    take(LEVEL, &a, 0);
    fake_journal();
    struct cpumask mask = mask_of(0xc), none = mask_of(0), absent = mask_of(0xf0);
    assert_int_equal(irq_set_affinity(LEVEL, &none), -EINVAL);
    assert_int_equal(irq_set_affinity(LEVEL, &absent), -EINVAL);
    assert_int_equal(irq_set_affinity(300, &mask), -EINVAL);
    expect_journal("");
    assert_int_equal(irq_set_affinity(LEVEL, &mask), 0);
    expect_journal("move(20) to(12)");
    struct irq_desc *desc = irq_to_desc(LEVEL);
    assert_true(cpumask_equal(&desc->affinity, &mask));
    assert_int_equal(desc->effective_affinity.bits[0], 4);
    struct cpumask wider = mask_of(0x6);
    assert_int_equal(irq_set_affinity(LEVEL, &wider), 0);
    expect_journal(""); // CPU 2 is in it: no reason to move

    fake_affinity_error = -EIO;
    struct cpumask other = mask_of(0x1);
    assert_int_equal(irq_set_affinity(LEVEL, &other), -EIO);
    assert_int_equal(desc->data.cpu, 2); // as before
    assert_int_equal(desc->data.apic_id, 12);
    assert_true(cpumask_equal(&desc->affinity, &wider));

    int message = route_alloc_message(&fake_message_chip, NULL, 0);
    assert_int_equal(irq_set_affinity((unsigned)message, &mask), -EIO);
    route_free_message((unsigned)message);
}

static void test_affinity_before_start(void **state)
{
    (void)state;
    struct cpumask mask = mask_of(0x8);
    assert_int_equal(irq_set_affinity(LEVEL, &mask), 0);
    expect_journal("");
    take(LEVEL, &a, 0);
    assert_int_equal(irq_to_desc(LEVEL)->data.cpu, 3);
    // The CPU of the wish goes away before the next start: any CPU is better than none.
    free_irq(LEVEL, &a);
    cpumask_clear(&cpu_online_mask, 3);
    take(LEVEL, &a, 0);
    assert_int_equal(irq_to_desc(LEVEL)->data.cpu, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
        TEST(test_request_refusals),
        TEST(test_sharing),
        TEST(test_trigger_is_programmed),
        TEST(test_free_one_and_all),
        TEST(test_free_in_handler_is_refused),
        TEST(test_synchronize_in_handler_is_refused),
        TEST(test_unbalanced_enable),
        TEST(test_nobody_cared),
        TEST(test_enable_revives),
        TEST(test_spurious_limit),
        TEST(test_spurious_far_apart_is_forgiven),
        TEST(test_bogus_answer),
        TEST(test_system_vector),
        TEST(test_unexpected_vectors),
        TEST(test_vectors_spread_and_run_out),
        TEST(test_wires),
        TEST(test_messages),
        TEST(test_late_cpu_finds_no_hole),
        TEST(test_irqs_go_to_the_idlest_cpu),
        TEST(test_affinity),
        TEST(test_affinity_before_start),
    };
    return cmocka_run_group_tests_name("irq", tests, NULL, NULL);
}
