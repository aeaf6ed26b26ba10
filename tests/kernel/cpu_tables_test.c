// What a CPU is told before it runs anything: its gates and segments, what it shall forbid, the
// word that guards stacks; and how it leaves one stack for another.
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/cpu.h>
#include <core/stack_protector.h>
#include <x86/cpuid.h>
#include <x86/msr.h>
#include <x86/pte.h>
#include <x86/segments.h>
#include <x86/switch.h>
#include <irq/ipi.h>

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

// ---- stacks -------------------------------------------------------------------------------------

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

extern uintptr_t __stack_chk_guard;

KTEST(stack_protector, guard_is_random_and_ends_strings)
{
    EXPECT_EQ(__stack_chk_guard & 0xff, 0);
    EXPECT(__stack_chk_guard != 0x5bd1e995a5f10c00); // the value before stack_protector_init
    EXPECT(__stack_chk_guard >> 8 != 0);
}
