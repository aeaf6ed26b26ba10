// Traces of calls: out of an NMI, on its own stack, into what it interrupted, whichever %gs was
// loaded; from addresses that lead nowhere; and the names that addresses have.
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/panic.h>
#include <x86/exception.h>
#include <x86/lapic.h>
#include <x86/msr.h>
#include <x86/pte.h>

// ---- from an NMI's stack ------------------------------------------------------------------------

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

// ---- from nonsense ------------------------------------------------------------------------------

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
