// Exceptions, seen from inside: caught, decoded, counted, unwound; and the CPU's tables and
// protections.
#include <contract/ktest.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/panic.h>
#include <core/stack_protector.h>
#include <irq/ipi.h>
#include <lib/string.h>
#include <sched/sleep.h>
#include <sched/thread.h>
#include <x86/cpuid.h>
#include <x86/exception.h>
#include <x86/lapic.h>
#include <x86/msr.h>
#include <x86/pte.h>
#include <x86/segments.h>
#include <x86/switch.h>

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

// ---- unwinding ----------------------------------------------------------------------------------

enum { TEST_DEPTH = 24 };
static struct {
    uintptr_t addresses[TEST_DEPTH];
    unsigned count;
    uintptr_t rip; // of what was interrupted
    bool wanted;   // A
    bool gs_is_kernels;
} test_nmi;
static bool (*test_old_nmi)(struct frame *frame);

// Collects on the NMI's own stack, as a panic there would.
static bool test_on_nmi(struct frame *frame)
{
    if (!READ_ONCE(test_nmi.wanted)) {
        return test_old_nmi && test_old_nmi(frame);
    }
    test_nmi.count =
        backtrace_collect(test_nmi.addresses, TEST_DEPTH, (uintptr_t)__builtin_frame_address(0), 0);
    test_nmi.rip = frame->rip;
    test_nmi.gs_is_kernels = cpu_self() == &cpus[cpu_id()];
    WRITE_ONCE(test_nmi.wanted, false);
    return true;
}

static void test_await_nmi(uint32_t apic_id)
{
    lapic_nmi(apic_id);
    for (unsigned n = 0; n < 1000000 && READ_ONCE(test_nmi.wanted); n++) {
        cpu_relax();
    }
}

// Where in the trace a function's return address stands, TEST_DEPTH when nowhere.
static unsigned test_trace_find(const char *function)
{
    for (unsigned n = 0; n < test_nmi.count; n++) {
        const char *name = kallsyms_lookup(test_nmi.addresses[n] - 1, NULL);
        if (name && strcmp(name, function) == 0) {
            return n;
        }
    }
    return TEST_DEPTH;
}

static __noinline void test_interrupted(void)
{
    memset(&test_nmi, 0, sizeof(test_nmi));
    test_nmi.wanted = true;
    test_old_nmi = exception_nmi;
    exception_nmi = test_on_nmi;
    test_await_nmi(cpus[cpu_id()].apic_id);
    exception_nmi = test_old_nmi;
}

// From a handler on a stack of its own, through the frame, into the function that was interrupted.
KTEST(exception, nmi_unwinds)
{
    preempt_disable();
    test_interrupted();
    preempt_enable();
    EXPECT(!test_nmi.wanted);
    EXPECT(test_nmi.gs_is_kernels);
    unsigned stub = test_trace_find("isr_paranoid");
    EXPECT(test_trace_find("exception") < stub);
    REQUIRE(stub + 1 < test_nmi.count);
    EXPECT_EQ(test_nmi.addresses[stub + 1], test_nmi.rip);
    EXPECT(test_trace_find("ktest_exception_nmi_unwinds") > stub + 1);
    EXPECT(test_trace_find("ktest_exception_nmi_unwinds") < test_nmi.count);
}

// An NMI that strikes while ring 3's %gs base is loaded finds the kernel's, and puts the other
// back.
KTEST(exception, nmi_with_user_gs)
{
    const uint64_t user_base = 0x7000;
    unsigned long flags = local_irq_save();
    uint64_t kernel_base = rdmsr(MSR_GS_BASE), swapped = rdmsr(MSR_KERNEL_GS);
    uint32_t apic_id = cpus[cpu_id()].apic_id;

    test_old_nmi = exception_nmi;
    exception_nmi = test_on_nmi;
    test_nmi.wanted = true;
    test_nmi.gs_is_kernels = false;

    wrmsr(MSR_KERNEL_GS, kernel_base);
    wrmsr(MSR_GS_BASE, user_base); // no cpu_id() from here
    test_await_nmi(apic_id);
    uint64_t base_after = rdmsr(MSR_GS_BASE), swapped_after = rdmsr(MSR_KERNEL_GS);
    wrmsr(MSR_GS_BASE, kernel_base);
    wrmsr(MSR_KERNEL_GS, swapped);

    exception_nmi = test_old_nmi;
    local_irq_restore(flags);
    EXPECT(!test_nmi.wanted);
    EXPECT(test_nmi.gs_is_kernels);
    EXPECT_EQ(base_after, user_base);
    EXPECT_EQ(swapped_after, kernel_base);
}

KTEST(exception, backtrace_stops_at_nonsense)
{
    uintptr_t addresses[4];
    uintptr_t loop[2] __aligned(16);

    EXPECT_EQ(backtrace_collect(addresses, 4, 0, 0), 0);
    EXPECT_EQ(backtrace_collect(addresses, 4, 0x1000, 0), 0);
    EXPECT_EQ(backtrace_collect(addresses, 4, 0x8000000000000000, 0), 0);
    EXPECT_EQ(backtrace_collect(addresses, 4, (uintptr_t)loop + 1, 0), 0);
    EXPECT_EQ(backtrace_collect(addresses, 4, UINT64_MAX - 7, 0), 0);
    EXPECT_EQ(backtrace_collect(addresses, 0, (uintptr_t)__builtin_frame_address(0), 1), 0);
    EXPECT_EQ(backtrace_collect(addresses, 4, 0, 0x1234), 1);
    EXPECT_EQ(addresses[0], 0x1234);
    loop[0] = (uintptr_t)loop; // a chain that bites its tail is bounded
    loop[1] = 0x42;
    EXPECT_EQ(backtrace_collect(addresses, 4, (uintptr_t)loop, 0), 4);
}

// ---- switching stacks ---------------------------------------------------------------------------

static struct {
    uintptr_t main_rsp, other_rsp;
    unsigned steps;
    void *arg;
} test_switch;
static uint8_t test_stack[4096] __aligned(16);

static void test_on_other_stack(void *arg)
{
    test_switch.arg = arg;
    test_switch.steps++;
    switch_stacks(&test_switch.other_rsp, test_switch.main_rsp);
    test_switch.steps++;
    switch_stacks(&test_switch.other_rsp, test_switch.main_rsp);
}

KTEST(exception, switch_stacks)
{
    int mark = 0;

    test_switch.steps = 0;
    unsigned long flags = local_irq_save();
    test_switch.other_rsp =
        switch_prepare((uintptr_t)test_stack + sizeof(test_stack), test_on_other_stack, &mark);
    switch_stacks(&test_switch.main_rsp, test_switch.other_rsp);
    unsigned after_first = test_switch.steps;
    switch_stacks(&test_switch.main_rsp, test_switch.other_rsp);
    local_irq_restore(flags);
    EXPECT_EQ(after_first, 1);
    EXPECT_EQ(test_switch.steps, 2);
    EXPECT(test_switch.arg == &mark);
}

// ---- the CPU's tables and protections -----------------------------------------------------------

struct test_pointer {
    uint16_t limit;
    uint64_t base;
} __packed;

extern const uint8_t isr_stubs[];

KTEST(exception, idt_gates)
{
    struct test_pointer idt;

    __asm__ volatile("sidt %0" : "=m"(idt));
    REQUIRE(idt.limit == 256 * 16 - 1);
    const uint64_t(*gates)[2] = (const void *)idt.base;
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t low = gates[vector][0];
        uint64_t offset = (low & 0xffff) | (low >> 32 & 0xffff0000) | gates[vector][1] << 32;
        unsigned ist = vector == 8 ? 1 : vector == 2 ? 2 : vector == 18 ? 3 : 0;
        bool open = vector == 3 || vector == 4 || vector == VECTOR_SYSCALL;
        EXPECT_EQ(offset, (uintptr_t)isr_stubs + 16 * vector);
        EXPECT_EQ(low >> 16 & 0xffff, KERNEL_CS);
        EXPECT_EQ(low >> 32 & 7, ist);
        EXPECT_EQ(low >> 40 & 0xff, open ? 0xee : 0x8e);
    }
}

// Each stub pushes its own vector: PUSH imm8 or imm32, behind PUSH 0 where there is no error code.
KTEST(exception, stubs_push_their_vector)
{
    for (unsigned vector = 0; vector < 256; vector++) {
        const uint8_t *code = isr_stubs + 16 * vector;
        bool has_error = vector < 32 && (0x60227d00u >> vector & 1);
        if (!has_error) {
            EXPECT_EQ(code[0], 0x6a);
            EXPECT_EQ(code[1], 0);
            code += 2;
        }
        EXPECT_EQ(code[0], vector < 128 ? 0x6a : 0x68);
        EXPECT_EQ(vector < 128 ? code[1] : get_le32(code + 1), vector);
    }
}

static bool test_tables_are_good(void)
{
    struct test_pointer gdt;
    uint16_t tr;

    __asm__ volatile("sgdt %0" : "=m"(gdt));
    __asm__ volatile("str %0" : "=r"(tr));
    const uint64_t *table = (const uint64_t *)gdt.base;
    return tr == TSS_SEL && (table[TSS_SEL / 8] >> 40 & 0xff) == 0x8b && // busy 64-bit TSS
           (table[USER_CS / 8] >> 45 & 3) == 3 && (table[USER_DS / 8] >> 45 & 3) == 3 &&
           cpu_self() == &cpus[cpu_id()];
}

static bool test_protections_are_on(void)
{
    uint64_t cr4 = read_cr4();

    return (read_cr0() >> 16 & 1) == 1 && // WP
           (cr4 >> 20 & 1) == cpu_has(FEATURE_SMEP) && (cr4 >> 21 & 1) == cpu_has(FEATURE_SMAP) &&
           (cr4 >> 11 & 1) == cpu_has(FEATURE_UMIP) && (cr4 >> 6 & 1) == cpu_has(FEATURE_MCE) &&
           (cr4 >> 16 & 1) == 0 && // FSGSBASE
           (rdmsr(MSR_EFER) >> 11 & 1) == cpu_has(FEATURE_NX) &&
           (!cpu_has(FEATURE_PAT) || rdmsr(MSR_PAT) == PAT_VALUE);
}

static uint32_t test_good_cpus;

static void test_check_cpu(void *arg __unused)
{
    if (test_tables_are_good() && test_protections_are_on()) {
        __atomic_fetch_add(&test_good_cpus, 1, __ATOMIC_RELAXED);
    }
}

KTEST(exception, every_cpu_is_protected)
{
    test_good_cpus = 0;
    on_each_cpu(test_check_cpu, NULL);
    EXPECT_EQ(test_good_cpus, cpumask_weight(&cpu_online_mask));
}

// ---- symbols ------------------------------------------------------------------------------------

KTEST(kallsyms, both_ways)
{
    uintptr_t address = kallsyms_address("test_interrupted"), offset = 99;

    EXPECT_EQ(address, (uintptr_t)test_interrupted);
    REQUIRE(address != 0);
    EXPECT(strcmp(kallsyms_lookup(address, &offset), "test_interrupted") == 0);
    EXPECT_EQ(offset, 0);
    EXPECT(strcmp(kallsyms_lookup(address + 3, &offset), "test_interrupted") == 0);
    EXPECT_EQ(offset, 3);
    EXPECT_EQ(kallsyms_address("no such symbol"), 0);
}

KTEST(kallsyms, outside_is_nobody)
{
    EXPECT(kallsyms_lookup(0, NULL) == NULL);
    EXPECT(kallsyms_lookup(PHYS_BASE, NULL) == NULL);
    EXPECT(kallsyms_lookup(UINT64_MAX, NULL) == NULL);
}

extern uintptr_t __stack_chk_guard;

KTEST(stack_protector, guard_is_random_and_ends_strings)
{
    EXPECT_EQ(__stack_chk_guard & 0xff, 0);
    EXPECT(__stack_chk_guard != 0x5bd1e995a5f10c00); // the value before stack_protector_init
    EXPECT(__stack_chk_guard >> 8 != 0);
}
