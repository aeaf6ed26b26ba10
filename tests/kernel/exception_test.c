// Exceptions, seen from inside: caught, decoded, counted. Traces and the NMI: unwind_test.c; the
// tables behind it all: cpu_tables_test.c.
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <x86/cpuid.h>
#include <x86/exception.h>
#include <x86/segments.h>
#include <sched/sleep.h>
#include <sched/thread.h>

// ---- catching -----------------------------------------------------------------------------------

static void test_nothing(void *arg)
{
    *(unsigned *)arg += 1;
}

static __noinline void test_ud2(void *arg __unused)
{
    __asm__ volatile("ud2");
}

static void test_divide(void *arg __unused)
{
    __asm__ volatile("xorl %%ecx, %%ecx\n\t"
                     "xorl %%edx, %%edx\n\t"
                     "divl %%ecx" ::
                         : "rax", "rcx", "rdx", "cc");
}

static void test_int3(void *arg __unused)
{
    __asm__ volatile("int3");
}

static void test_write(void *arg)
{
    *(volatile uint8_t *)arg = 0;
}

static void test_read(void *arg)
{
    (void)*(volatile uint8_t *)arg;
}

static void test_execute(void *arg)
{
    ((void (*)(void))arg)();
}

KTEST(exception, no_fault_returns_minus_one)
{
    unsigned calls = 0;

    EXPECT_EQ(exception_catch(test_nothing, &calls, NULL), -1);
    EXPECT_EQ(calls, 1);
}

// A record says where and what; its first line names both.
KTEST(exception, record_tells_where)
{
    struct exception_record record;
    char report[1024];
    struct text t = TEXT_INIT(report);
    uintptr_t offset;

    REQUIRE(exception_catch(test_ud2, NULL, &record) == EXC_UD);
    const char *name = kallsyms_lookup(record.frame.rip, &offset);
    REQUIRE(name != NULL);
    EXPECT(strcmp(name, "test_ud2") == 0);
    EXPECT_EQ(record.frame.vector, EXC_UD);
    EXPECT_EQ(record.frame.error, 0);
    EXPECT_EQ(record.frame.cs, KERNEL_CS);
    exception_show(&t, &record);
    EXPECT(str_starts(report, "#UD invalid opcode, vector 6\n"));
    EXPECT(strstr(report, "test_ud2+0x") != NULL);
    EXPECT(!text_is_cut(&t));
}

KTEST(exception, traps_point_behind)
{
    struct exception_record record;

    REQUIRE(exception_catch(test_int3, NULL, &record) == EXC_BP);
    EXPECT_EQ(*(const uint8_t *)(record.frame.rip - 1), 0xcc); // INT3
    REQUIRE(exception_catch(test_divide, NULL, &record) == EXC_DE);
    EXPECT_EQ(*(const uint8_t *)record.frame.rip, 0xf7); // DIV
}

KTEST(exception, counts)
{
    preempt_disable();
    unsigned cpu = cpu_id();
    uint64_t before = exception_count(EXC_UD, cpu);
    for (unsigned n = 0; n < 10; n++) {
        EXPECT_EQ(exception_catch(test_ud2, NULL, NULL), EXC_UD);
    }
    EXPECT_EQ(exception_count(EXC_UD, cpu) - before, 10);
    preempt_enable();
    EXPECT_EQ(exception_count(EXC_COUNT, 0), 0);
    EXPECT_EQ(exception_count(0, MAX_CPUS), 0);
}

static void test_nested(void *arg)
{
    *(int *)arg = exception_catch(test_ud2, NULL, NULL);
    __asm__ volatile("int3");
}

KTEST(exception, catches_nest)
{
    int inner = 0;

    EXPECT_EQ(exception_catch(test_nested, &inner, NULL), EXC_BP);
    EXPECT_EQ(inner, EXC_UD);
}

static void test_disable_everything(void *arg __unused)
{
    local_irq_disable();
    preempt_disable();
    preempt_disable();
    __asm__ volatile("std\n\t"
                     "ud2");
}

KTEST(exception, context_is_restored)
{
    EXPECT_EQ(exception_catch(test_disable_everything, NULL, NULL), EXC_UD);
    EXPECT(!irqs_disabled());
    EXPECT(!in_atomic());
    EXPECT_EQ(local_irq_flags() & 0x400, 0); // DF
    preempt_disable();
    EXPECT_EQ(exception_catch(test_disable_everything, NULL, NULL), EXC_UD);
    EXPECT_EQ(cpu_field(preempt_off), 1);
    preempt_enable();
}

static void test_sleep_then_fault(void *arg)
{
    msleep(2);
    yield();
    test_divide(arg);
}

static void test_faulting_thread(void *arg)
{
    unsigned *good = arg;

    for (unsigned n = 0; n < 20; n++) {
        if (exception_catch(test_sleep_then_fault, NULL, NULL) == EXC_DE) {
            __atomic_fetch_add(good, 1, __ATOMIC_RELAXED);
        }
    }
}

// Each thread gets its own fault back, wherever it runs by then.
KTEST(exception, threads_do_not_mix)
{
    enum { THREADS = 8 };
    struct thread *threads[THREADS];
    unsigned good = 0, made = 0;

    for (; made < THREADS; made++) {
        threads[made] = kthread_run(test_faulting_thread, &good, "fault/%u", made);
        if (!threads[made]) {
            break;
        }
    }
    for (unsigned n = 0; n < made; n++) {
        thread_join(threads[n]);
    }
    EXPECT_EQ(made, THREADS);
    EXPECT_EQ(good, THREADS * 20);
}

// ---- decoding -----------------------------------------------------------------------------------

static const uint64_t test_constant = 1;
static uint8_t test_data[16] = {0xc3}; // RET, should it ever run

static uint64_t test_page_error(void (*fn)(void *), void *address, uint64_t *cr2)
{
    struct exception_record record;

    if (exception_catch(fn, address, &record) != EXC_PF) {
        return UINT64_MAX;
    }
    *cr2 = record.cr2;
    return record.frame.error;
}

KTEST(exception, page_fault_bits)
{
    enum { P = 1, W = 2, I = 16 };
    uint64_t cr2 = 0;

    EXPECT_EQ(test_page_error(test_read, (void *)0x123, &cr2), 0);
    EXPECT_EQ(cr2, 0x123);
    EXPECT_EQ(test_page_error(test_write, (void *)0x456, &cr2), W);
    EXPECT_EQ(cr2, 0x456);
    EXPECT_EQ(test_page_error(test_write, (void *)&test_constant, &cr2), P | W);
    EXPECT_EQ(cr2, (uintptr_t)&test_constant);
    EXPECT_EQ(test_page_error(test_write, (void *)(uintptr_t)test_ud2, &cr2), P | W);
    if (!cpu_has(FEATURE_NX)) {
        SKIP("this CPU has no NX bit");
    }
    EXPECT_EQ(test_page_error(test_execute, test_data, &cr2), P | I);
    EXPECT_EQ(cr2, (uintptr_t)test_data);
}

KTEST(exception, page_fault_in_words)
{
    struct exception_record record;
    char report[1024];
    struct text t = TEXT_INIT(report);

    REQUIRE(exception_catch(test_write, (void *)0x10, &record) == EXC_PF);
    exception_show(&t, &record);
    EXPECT(str_starts(report, "#PF page fault, vector 14, error code 0x2<W>: ring 0 wrote to "
                              "0x0000000000000010, where nothing is mapped\n"));
}

static void test_raise_gp(void *arg)
{
    exception_raise(EXC_GP, *(uint64_t *)arg);
}

static bool test_gp_says(uint64_t error, const char *text)
{
    struct exception_record record;
    char report[1024];
    struct text t = TEXT_INIT(report);

    if (exception_catch(test_raise_gp, &error, &record) != EXC_GP || record.frame.error != error) {
        return false;
    }
    exception_show(&t, &record);
    return strstr(report, text) != NULL;
}

KTEST(exception, selector_error_in_words)
{
    EXPECT(test_gp_says(0, "error code 0x0\n"));
    EXPECT(test_gp_says(0x82, ": gate of vector 16\n"));
    EXPECT(test_gp_says(0x18, ": selector 0x18 of the GDT\n"));
    EXPECT(test_gp_says(0x1c, ": selector 0x18 of the LDT\n"));
    EXPECT(test_gp_says(0x19, "while an external event was delivered\n"));
}

KTEST(exception, every_vector_has_a_name)
{
    for (unsigned vector = 0; vector < EXC_COUNT + 2; vector++) {
        EXPECT(exception_mnemonic(vector) != NULL && *exception_mnemonic(vector) != '\0');
        EXPECT(exception_name(vector) != NULL && *exception_name(vector) != '\0');
    }
}

// ---- faults that are allowed --------------------------------------------------------------------

KTEST(exception, copy_nofault)
{
    uint64_t value = 0;

    EXPECT_EQ(copy_from_kernel_nofault(&value, &test_constant, sizeof(value)), 0);
    EXPECT_EQ(value, 1);
    EXPECT_EQ(copy_from_kernel_nofault(&value, NULL, sizeof(value)), -14);
    EXPECT_EQ(copy_from_kernel_nofault(&value, (void *)0x8000000000000000, 1), -14);
    EXPECT_EQ(copy_from_kernel_nofault(&value, NULL, 0), 0);
}

// A breakpoint that nobody set is told of, and the code goes on.
KTEST(exception, stray_breakpoint_goes_on)
{
    preempt_disable();
    uint64_t before = exception_count(EXC_BP, cpu_id());
    __asm__ volatile("int3");
    EXPECT_EQ(exception_count(EXC_BP, cpu_id()) - before, 1);
    preempt_enable();
}
