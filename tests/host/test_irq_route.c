// Where interrupts go: vectors dealt out, wires and messages with a descriptor each, and the CPUs
// that they are sent to.
//
// links: kernel/irq/irq.c kernel/irq/request.c kernel/irq/line.c kernel/irq/flow.c
// links: kernel/irq/route.c kernel/irq/spurious.c
// links: kernel/lib/cpumask.c kernel/lib/parse.c kernel/lib/text.c
// links: tests/host/stubs/irq_machine.c tests/host/stubs/log.c tests/host/stubs/panic.c
#include <x86/lapic.h>
#include <x86/segments.h>

#include "irq_case.h"

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

// ---- affinity ----

static struct cpumask mask_of(uint64_t bits)
{
    return (struct cpumask){.bits = {bits}};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_vectors_spread_and_run_out),
        TEST(test_wires),
        TEST(test_messages),
        TEST(test_late_cpu_finds_no_hole),
        TEST(test_irqs_go_to_the_idlest_cpu),
        TEST(test_affinity),
        TEST(test_affinity_before_start),
    };
    return cmocka_run_group_tests_name("irq_route", tests, NULL, NULL);
}
