// /proc/interrupts and /proc/irq to the letter: columns and blanks are what scripts written for
// Linux cut by.
//
// links: kernel/irq/irq.c kernel/irq/request.c kernel/irq/line.c kernel/irq/flow.c
// links: kernel/irq/route.c kernel/irq/spurious.c
// links: kernel/lib/cpumask.c kernel/lib/parse.c kernel/lib/text.c
// links: tests/host/stubs/irq_machine.c tests/host/stubs/log.c tests/host/stubs/panic.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// The file under test, whole: its functions are reached through records only.
#include "../../kernel/irq/proc.c"

#include <x86/acpi.h>

#include "stubs/irq_machine.h"
#include "stubs/stubs.h"

// The C library's are the same here.
long strscpy(char *to, const char *from, size_t size)
{
    snprintf(to, size, "%s", from);
    return (long)strlen(to);
}

static int device_1, device_2;
static char buffer[8192];

static irqreturn_t handler(int irq, void *dev_id)
{
    (void)irq;
    (void)dev_id;
    return IRQ_HANDLED;
}

static int setup(void **state)
{
    (void)state;
    static const struct acpi_info tables;
    fake_reset();
    cpu_count = 2;
    cpumask_clear(&cpu_online_mask, 2);
    cpumask_clear(&cpu_online_mask, 3);
    route_init(&tables);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_free_all();
    return 0;
}

static const char *shown(void (*show)(struct text *, unsigned long), unsigned long index)
{
    struct text t = TEXT_INIT(buffer);
    show(&t, index);
    assert_false(text_is_cut(&t));
    return buffer;
}

static void test_interrupts(void **state)
{
    (void)state;
    assert_int_equal(request_irq(4, handler, 0, "ttyS0", &device_1), 0);
    assert_int_equal(request_irq(20, handler, IRQF_SHARED, "eth0", &device_1), 0);
    assert_int_equal(request_irq(20, handler, IRQF_SHARED, "edu", &device_2), 0);
    int message = route_alloc_message(&fake_message_chip, NULL, 0);
    assert_int_equal(message, 24);
    assert_int_equal(request_irq(24, handler, 0, "ahci[0000:00:1f.2]", &device_1), 0);
    irq_descs[4].count[0] = 913;
    irq_descs[20].count[1] = 18233;
    irq_descs[24].count[0] = 5012;
    irq_descs[7].count[1] = 1; // counted, and freed since: the line stays
    irq_err_count = 3;
    assert_string_equal(
        shown(irq_proc_interrupts, 0),
        "           CPU0       CPU1       \n"
        "  4:        913          0  IO-APIC   4-edge      ttyS0\n"
        "  7:          0          1  IO-APIC   7-edge    \n"
        " 20:          0      18233  IO-APIC  20-fasteoi   eth0, edu\n"
        " 24:       5012          0 PCI-MSI-0000:00:1f.2   0-edge      ahci[0000:00:1f.2]\n"
        "NMI:         20         21   Non-maskable interrupts\n"
        "LOC:          0          0   Local timer interrupts\n"
        "SPU:          0          0   Spurious interrupts\n"
        "PMI:          0          0   Performance monitoring interrupts\n"
        "IWI:          0          0   IRQ work interrupts\n"
        "RTR:        100        101   APIC ICR read retries\n"
        "RES:          0          0   Rescheduling interrupts\n"
        "CAL:          0          0   Function call interrupts\n"
        "TLB:          0          0   TLB shootdowns\n"
        "TRM:          0          0   Thermal event interrupts\n"
        "THR:          0          0   Threshold APIC interrupts\n"
        "MCE:        180        181   Machine check exceptions\n"
        "MCP:          0          0   Machine check polls\n"
        "ERR:          3\n"
        "MIS:          0\n");
    free_irq(24, &device_1);
    route_free_message(24);
}

static void test_directories(void **state)
{
    (void)state;
    assert_int_equal(irq_proc_next(0), 0);
    assert_int_equal(irq_proc_next(FAKE_WIRES - 1), FAKE_WIRES - 1);
    assert_int_equal(irq_proc_next(FAKE_WIRES), -1);
    assert_int_equal(irq_proc_next(1ul << 40), -1);

    assert_null(irq_proc_names(20, 0));
    assert_int_equal(request_irq(20, handler, IRQF_SHARED, "eth0", &device_1), 0);
    assert_int_equal(request_irq(20, handler, IRQF_SHARED, "eth0", &device_2), 0); // same name
    assert_int_equal(request_irq(20, handler, IRQF_SHARED, "a/b", buffer), 0);     // not a name
    assert_int_equal(request_irq(20, handler, IRQF_SHARED, "edu", &cpu_count), 0);
    assert_string_equal(irq_proc_names(20, 0), "eth0");
    assert_string_equal(irq_proc_names(20, 1), "edu");
    assert_null(irq_proc_names(20, 2));
    assert_null(irq_proc_names(300, 0));
}

static void test_masks(void **state)
{
    (void)state;
    assert_string_equal(shown(irq_proc_default_affinity, 0), "3\n");
    assert_string_equal(shown(irq_proc_smp_affinity, 20), "3\n"); // the default, before it starts
    assert_string_equal(shown(irq_proc_effective_affinity, 20), "0\n");
    assert_int_equal(request_irq(20, handler, 0, "eth0", &device_1), 0);
    assert_string_equal(shown(irq_proc_effective_affinity, 20), "1\n");
    assert_int_equal(irq_proc_write_affinity("2", 20), 0);
    assert_string_equal(shown(irq_proc_smp_affinity, 20), "2\n");
    assert_string_equal(shown(irq_proc_smp_affinity_list, 20), "1\n");
    assert_string_equal(shown(irq_proc_effective_affinity, 20), "2\n");
    assert_string_equal(shown(irq_proc_effective_affinity_list, 20), "1\n");
    assert_int_equal(irq_proc_write_affinity_list("0-1", 20), 0);
    assert_string_equal(shown(irq_proc_smp_affinity_list, 20), "0-1\n");
    assert_string_equal(shown(irq_proc_affinity_hint, 20), "0\n");
    assert_string_equal(shown(irq_proc_node, 20), "-1\n");
}

static void test_mask_errors(void **state)
{
    (void)state;
    assert_int_equal(irq_proc_write_affinity("", 20), -EINVAL);
    assert_int_equal(irq_proc_write_affinity("xyz", 20), -EINVAL);
    assert_int_equal(irq_proc_write_affinity("0", 20), -EINVAL); // no CPU at all
    assert_int_equal(irq_proc_write_affinity("4", 20), -EOVERFLOW);
    assert_int_equal(irq_proc_write_affinity_list("1-0", 20), -EINVAL);
    assert_int_equal(irq_proc_write_affinity("1", 300), -EIO);
    int message = route_alloc_message(&fake_message_chip, NULL, 0); // a chip that cannot
    assert_int_equal(irq_proc_write_affinity("1", (unsigned long)message), -EIO);
    route_free_message((unsigned)message);

    assert_int_equal(irq_proc_write_default("2", 0), 0);
    assert_string_equal(shown(irq_proc_default_affinity, 0), "2\n");
    assert_int_equal(irq_proc_write_default("0", 0), -EINVAL);
    cpumask_clear(&cpu_online_mask, 1);
    assert_int_equal(irq_proc_write_default("2", 0), -EINVAL);
    assert_string_equal(shown(irq_proc_default_affinity, 0), "2\n");
}

static void test_spurious(void **state)
{
    (void)state;
    irq_descs[20].spurious_window = 100000;
    irq_descs[20].spurious_count = 2896 - 100000;
    irq_descs[20].unhandled = 3;
    irq_descs[20].last_unhandled_jiffies = 250;
    assert_string_equal(shown(irq_proc_spurious, 20),
                        "count 2896\nunhandled 3\nlast_unhandled 1000 ms\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_interrupts),  TEST(test_directories), TEST(test_masks),
        TEST(test_mask_errors), TEST(test_spurious),
    };
    return cmocka_run_group_tests_name("irq_proc", tests, NULL, NULL);
}
