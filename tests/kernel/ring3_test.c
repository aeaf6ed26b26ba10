// The way into ring 3 and back, before there are programs: segments, the stack from the TSS,
// swapgs, and what ring 3 may not do.
//
// Each test runs a few instructions in ring 3 with page tables of its own, which share the kernel's
// half. They end in an exception; exception_user turns its frame into a return to the kernel.
//
//   test_ring3_enter:  swapgs, iretq --> instructions at USER_CODE --> exception
//                                                                          |
//   test_ring3_back  <-- iretq of isr_return <-- exception_user <----------+  on TSS.rsp0
//
// Interrupts and preemption are off meanwhile.
#include <lib/errno.h>
#include <contract/ktest.h>
#include <core/cpu.h>
#include <lib/string.h>
#include <mm/map.h>
#include <mm/page.h>
#include <x86/cpuid.h>
#include <x86/exception.h>
#include <x86/msr.h>
#include <x86/pte.h>
#include <x86/segments.h>
#include <sched/thread.h>

#define USER_CODE  0x400000ul
#define USER_STACK 0x402000ul // grows down, one page

#define RFLAGS_AC 0x40000ul

// ---- there and back -----------------------------------------------------------------------------

void test_ring3_enter(uintptr_t rip, uintptr_t rsp, uintptr_t *save);
extern const char test_ring3_back[];

__asm__("    .text\n"
        "test_ring3_enter:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdx)\n"
        "    pushq $0x1b\n" // USER_DS
        "    pushq %rsi\n"
        "    pushq $2\n"    // interrupts off
        "    pushq $0x23\n" // USER_CS
        "    pushq %rdi\n"
        "    swapgs\n"
        "    iretq\n"
        "test_ring3_back:\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n");
_Static_assert(USER_DS == 0x1b && USER_CS == 0x23, "test_ring3_enter");

static struct {
    uint64_t *tables[4]; // of this address space, the top one first
    uint8_t *code, *data;
    uintptr_t resume_rsp;
    bool (*others)(const struct exception_record *record, struct frame *frame);
    struct exception_record record;
    unsigned seen;
    bool gs_is_kernels, ac_is_clear, stack_is_rsp0;
} ring3;
static uint8_t ring3_stack[8192] __aligned(16);

static bool test_ring3_exception(const struct exception_record *record, struct frame *frame)
{
    if (current->process != NULL) { // a program on another CPU
        return ring3.others(record, frame);
    }
    ring3.record = *record;
    ring3.seen++;
    ring3.gs_is_kernels = cpu_self() == &cpus[cpu_id()];
    ring3.ac_is_clear = (local_irq_flags() & RFLAGS_AC) == 0;
    ring3.stack_is_rsp0 = (uintptr_t)(frame + 1) == (uintptr_t)ring3_stack + sizeof(ring3_stack);
    frame->rip = (uintptr_t)test_ring3_back;
    frame->rsp = ring3.resume_rsp;
    frame->cs = KERNEL_CS;
    frame->ss = KERNEL_DS;
    frame->rflags = 2;
    return true;
}

static bool test_ring3_make_space(void)
{
    void *pages[6];
    unsigned got = 0;

    while (got < ARRAY_SIZE(pages) && (pages[got] = alloc_page(GFP_ZERO)) != NULL) {
        got++;
    }
    if (got < ARRAY_SIZE(pages)) {
        while (got > 0) {
            free_page(pages[--got]);
        }
        return false;
    }
    for (unsigned n = 0; n < 4; n++) {
        ring3.tables[n] = pages[n];
    }
    ring3.code = pages[4];
    ring3.data = pages[5];
    memcpy(&ring3.tables[0][256], (uint64_t *)phys_to_virt(map_root()) + 256, 256 * 8);
    const uint64_t table_flags = PTE_P | PTE_W | PTE_U;
    ring3.tables[0][0] = virt_to_phys(ring3.tables[1]) | table_flags;
    ring3.tables[1][0] = virt_to_phys(ring3.tables[2]) | table_flags;
    ring3.tables[2][USER_CODE >> 21] = virt_to_phys(ring3.tables[3]) | table_flags;
    ring3.tables[3][0] = virt_to_phys(ring3.code) | PTE_P | PTE_U;
    ring3.tables[3][1] =
        virt_to_phys(ring3.data) | PTE_P | PTE_W | PTE_U | (cpu_has(FEATURE_NX) ? PTE_NX : 0);
    return true;
}

static void test_ring3_free_space(void)
{
    for (unsigned n = 0; n < 4; n++) {
        free_page(ring3.tables[n]);
    }
    free_page(ring3.code);
    free_page(ring3.data);
}

// Runs the instructions in ring 3 until they fault; then `here` in ring 0, in the same address
// space.
static bool test_ring3_run_then(const uint8_t *code, size_t size, void (*here)(void))
{
    if (!test_ring3_make_space()) {
        return false;
    }
    memcpy(ring3.code, code, size);
    ring3.seen = 0;
    ring3.others = exception_user;
    exception_user = test_ring3_exception;

    unsigned long flags = local_irq_save();
    uintptr_t old_stack = cpu_field(kernel_rsp);
    uint64_t old_cr3 = read_cr3();
    gdt_set_kernel_stack((uintptr_t)ring3_stack + sizeof(ring3_stack));
    write_cr3(virt_to_phys(ring3.tables[0]));
    test_ring3_enter(USER_CODE, USER_STACK, &ring3.resume_rsp);
    if (here) {
        here();
    }
    write_cr3(old_cr3);
    gdt_set_kernel_stack(old_stack);
    local_irq_restore(flags);

    exception_user = ring3.others;
    test_ring3_free_space();
    return true;
}

#define RUN(...)                                                          \
    ({                                                                    \
        static const uint8_t code[] = {__VA_ARGS__};                      \
        test_ring3_run_then(code, sizeof(code), NULL) && ring3.seen == 1; \
    })

// ---- the tests ----------------------------------------------------------------------------------

KTEST(ring3, breakpoint_comes_back)
{
    const uint64_t gs_before = rdmsr(MSR_GS_BASE), swapped_before = rdmsr(MSR_KERNEL_GS);

    REQUIRE(RUN(0xb8, 42, 0, 0, 0, 0xcc)); // mov $42, %eax; int3
    EXPECT_EQ(ring3.record.frame.vector, EXC_BP);
    EXPECT_EQ(ring3.record.frame.rax, 42);
    EXPECT_EQ(ring3.record.frame.rip, USER_CODE + 6);
    EXPECT_EQ(ring3.record.frame.cs, USER_CS);
    EXPECT_EQ(ring3.record.frame.ss, USER_DS);
    EXPECT_EQ(ring3.record.frame.rsp, USER_STACK);
    EXPECT(ring3.gs_is_kernels);
    EXPECT(ring3.stack_is_rsp0);
    EXPECT_EQ(rdmsr(MSR_GS_BASE), gs_before);
    EXPECT_EQ(rdmsr(MSR_KERNEL_GS), swapped_before);
}

// A program may set RFLAGS.AC, which would open user memory to the kernel under SMAP.
KTEST(ring3, ac_is_cleared_on_the_way_in)
{
    // pushfq; orl $0x40000, (%rsp); popfq; int3
    REQUIRE(RUN(0x9c, 0x81, 0x0c, 0x24, 0x00, 0x00, 0x04, 0x00, 0x9d, 0xcc));
    EXPECT_EQ(ring3.record.frame.vector, EXC_BP);
    EXPECT(ring3.record.frame.rflags & RFLAGS_AC);
    if (!cpu_has(FEATURE_SMAP)) {
        SKIP("this CPU has no SMAP: the flag means nothing to it");
    }
    EXPECT(ring3.ac_is_clear);
}

// The direction flag too: C expects it clear.
KTEST(ring3, direction_is_cleared_on_the_way_in)
{
    REQUIRE(RUN(0xfd, 0xcc)); // std; int3
    EXPECT(ring3.record.frame.rflags & 0x400);
    EXPECT_EQ(ring3.record.frame.vector, EXC_BP);
}

static bool test_ring3_is_gp(uint64_t error)
{
    return ring3.record.frame.vector == EXC_GP && ring3.record.frame.error == error &&
           ring3.record.frame.cs == USER_CS && ring3.gs_is_kernels;
}

KTEST(ring3, privileged_instructions_fault)
{
    EXPECT(RUN(0xf4) && test_ring3_is_gp(0));             // hlt
    EXPECT(RUN(0xfa) && test_ring3_is_gp(0));             // cli
    EXPECT(RUN(0xe4, 0x60) && test_ring3_is_gp(0));       // in $0x60, %al
    EXPECT(RUN(0x0f, 0x20, 0xd8) && test_ring3_is_gp(0)); // mov %cr3, %rax
    EXPECT(RUN(0x0f, 0x30) && test_ring3_is_gp(0));       // wrmsr
}

// The error code names the gate: vector * 8 + 2 by the manual (SDM vol. 3, 6.13); QEMU's TCG 7.2
// says vector * 16 + 2.
static bool test_ring3_is_gate(uint64_t vector)
{
    return test_ring3_is_gp(vector * 8 + 2) || test_ring3_is_gp(vector * 16 + 2);
}

// Of all gates only #BP, #OF and the system call open to INT n.
KTEST(ring3, gates_are_closed)
{
    EXPECT(RUN(0xcd, 0x7f) && test_ring3_is_gate(0x7f));
    EXPECT(RUN(0xcd, 0x81) && test_ring3_is_gate(0x81));
    EXPECT(RUN(0xcd, 0x0e) && test_ring3_is_gate(0x0e));
    EXPECT(RUN(0xcd, 0xec) && test_ring3_is_gate(0xec));
    EXPECT(RUN(0xcd, 0x04) && ring3.record.frame.vector == EXC_OF);
}

// Both ways into the kernel come back to the next instruction; a thread that is no process has no
// system calls.
KTEST(ring3, system_call_without_a_process)
{
    REQUIRE(RUN(0xb8, 39, 0, 0, 0, 0xcd, 0x80, 0xcc)); // mov $39, %eax; int $0x80; int3
    EXPECT_EQ(ring3.record.frame.vector, EXC_BP);
    EXPECT_EQ(ring3.record.frame.rax, -ENOSYS);
    EXPECT_EQ(ring3.record.frame.rip, USER_CODE + 8);
    REQUIRE(RUN(0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xcc)); // mov $39, %eax; syscall; int3
    EXPECT_EQ(ring3.record.frame.vector, EXC_BP);
    EXPECT_EQ(ring3.record.frame.rax, -ENOSYS);
    EXPECT_EQ(ring3.record.frame.rcx, USER_CODE + 7); // SYSCALL's own copies of rip
    EXPECT_EQ(ring3.record.frame.r11, 2);             // and rflags
    EXPECT_EQ(ring3.record.frame.rsp, USER_STACK);
    EXPECT_EQ(ring3.record.frame.cs, USER_CS);
    EXPECT_EQ(ring3.record.frame.ss, USER_DS);
}

// The user's %gs base is not the user's to choose.
KTEST(ring3, no_wrgsbase)
{
    EXPECT(RUN(0xf3, 0x48, 0x0f, 0xae, 0xd8) && ring3.record.frame.vector == EXC_UD);
}

KTEST(ring3, kernel_memory_is_closed)
{
    enum { P = 1, W = 2, U = 4, I = 16 };

    // mov 0xffffffff80101000, %eax
    EXPECT(RUN(0x8b, 0x04, 0x25, 0x00, 0x10, 0x10, 0x80));
    EXPECT_EQ(ring3.record.frame.vector, EXC_PF);
    EXPECT_EQ(ring3.record.frame.error, P | U);
    EXPECT_EQ(ring3.record.cr2, 0xffffffff80101000);
    // mov %eax, 0xffffffff80101000
    EXPECT(RUN(0x89, 0x04, 0x25, 0x00, 0x10, 0x10, 0x80));
    EXPECT_EQ(ring3.record.frame.error, P | W | U);
    // mov $0xffffffff80101000, %rax; jmp *%rax
    EXPECT(RUN(0x48, 0xc7, 0xc0, 0x00, 0x10, 0x10, 0x80, 0xff, 0xe0));
    EXPECT_EQ(ring3.record.frame.vector, EXC_PF);
    EXPECT_EQ(ring3.record.frame.error, P | U | (cpu_has(FEATURE_NX) ? I : 0));
}

KTEST(ring3, umip)
{
    if (!cpu_has(FEATURE_UMIP)) {
        SKIP("this CPU has no UMIP");
    }
    EXPECT(RUN(0x0f, 0x01, 0x44, 0x24, 0xf0) && test_ring3_is_gp(0)); // sgdt -16(%rsp)
    EXPECT(RUN(0x0f, 0x01, 0x4c, 0x24, 0xf0) && test_ring3_is_gp(0)); // sidt -16(%rsp)
    EXPECT(RUN(0x0f, 0x00, 0xc0) && test_ring3_is_gp(0));             // sldt %eax
    EXPECT(RUN(0x0f, 0x00, 0xc8) && test_ring3_is_gp(0));             // str %eax
    EXPECT(RUN(0x0f, 0x01, 0xe0) && test_ring3_is_gp(0));             // smsw %eax
}

// With CR4.UMIP clear ring 3 may read all five.
KTEST(ring3, umip_off)
{
    const uint64_t umip = BIT64(11);
    unsigned long flags = local_irq_save();
    uint64_t cr4 = read_cr4();
    write_cr4(cr4 & ~umip);
    bool ran = RUN(0x0f, 0x01, 0x44, 0x24, 0xf0, // sgdt -16(%rsp)
                   0x0f, 0x01, 0x4c, 0x24, 0xf0, // sidt -16(%rsp)
                   0x0f, 0x00, 0xc0,             // sldt %eax
                   0x0f, 0x00, 0xc8,             // str %eax
                   0x0f, 0x01, 0xe0,             // smsw %eax
                   0xcc);
    write_cr4(cr4);
    local_irq_restore(flags);
    EXPECT(ran);
    EXPECT_EQ(ring3.record.frame.vector, EXC_BP);
}

// clock=coarse: CR4.TSD makes RDTSC the kernel's own.
KTEST(ring3, time_stamp_counter_may_be_closed)
{
    const uint64_t tsd = BIT64(2);
    unsigned long flags = local_irq_save();
    uint64_t cr4 = read_cr4();
    write_cr4(cr4 | tsd);
    bool closed = RUN(0x0f, 0x31, 0xcc) && test_ring3_is_gp(0); // rdtsc; int3
    write_cr4(cr4 & ~tsd);
    bool open = RUN(0x0f, 0x31, 0xcc) && ring3.record.frame.vector == EXC_BP;
    write_cr4(cr4);
    local_irq_restore(flags);
    EXPECT(closed);
    EXPECT(open);
    EXPECT_EQ((cr4 & tsd) != 0, cpu_coarse_clock);
}

// ---- and the other way: what ring 0 may not do with ring 3's pages ------------------------------

static int test_smap_vector, test_smap_ac_vector, test_smep_vector;
static struct exception_record test_smap, test_smep;

static void test_read_user(void *arg __unused)
{
    (void)*(volatile uint8_t *)USER_CODE;
}

static void test_read_user_allowed(void *arg __unused)
{
    __asm__ volatile("stac" ::: "memory", "cc");
    (void)*(volatile uint8_t *)USER_CODE;
    __asm__ volatile("clac" ::: "memory", "cc");
}

static void test_run_user(void *arg __unused)
{
    ((void (*)(void))USER_CODE)();
}

static void test_touch_user(void)
{
    test_smap_vector = exception_catch(test_read_user, NULL, &test_smap);
    test_smap_ac_vector =
        cpu_has(FEATURE_SMAP) ? exception_catch(test_read_user_allowed, NULL, NULL) : -1;
    test_smep_vector = exception_catch(test_run_user, NULL, &test_smep);
}

KTEST(ring3, smap_and_smep)
{
    enum { P = 1, I = 16 };
    static const uint8_t code[] = {0xcc};

    REQUIRE(test_ring3_run_then(code, sizeof(code), test_touch_user));
    if (!cpu_has(FEATURE_SMAP) || !cpu_has(FEATURE_SMEP)) {
        EXPECT_EQ(test_smap_vector, cpu_has(FEATURE_SMAP) ? EXC_PF : -1);
        EXPECT_EQ(test_smep_vector, cpu_has(FEATURE_SMEP) ? EXC_PF : EXC_BP);
        SKIP("this CPU lacks SMAP or SMEP: ring 0 may use ring 3's pages");
    }
    EXPECT_EQ(test_smap_vector, EXC_PF);
    EXPECT_EQ(test_smap_ac_vector, -1); // RFLAGS.AC opens it, for as long as it is set
    EXPECT_EQ(test_smap.frame.error, P);
    EXPECT_EQ(test_smap.cr2, USER_CODE);
    EXPECT_EQ(test_smep_vector, EXC_PF);
    EXPECT_EQ(test_smep.frame.error, P | I);
}
