// Programs in ring 3: what they may not do ends them and nothing else; their interrupts look
// different; their memory comes back.
#include <lib/errno.h>
#include <lib/string.h>
#include <contract/ktest.h>
#include <core/cpu.h>
#include <x86/cpuid.h>
#include <x86/exception.h>
#include <x86/msr.h>
#include <x86/segments.h>
#include <mm/map.h>
#include <mm/page.h>
#include <mm/slab.h>
#include <sched/thread.h>
#include <defer/timer.h>
#include <user/copy.h>
#include <user/process.h>
#include <user/space.h>

#include "eventually.h"
#include "every_cpu.h"

// A program's output, kept.
struct user_test_output {
    char text[256];
    size_t length;
};

static long user_test_read(void *arg __unused, void *to __unused, size_t size __unused)
{
    return 0;
}

static int user_test_write(void *arg, int fd __unused, const void *from, size_t size)
{
    struct user_test_output *output = arg;
    size_t count = min(size, sizeof(output->text) - 1 - output->length);

    memcpy(output->text + output->length, from, count);
    output->length += count;
    return 0;
}

// Runs `name argument` to its end: the signal, or -errno; *status as process_end gives it.
static int user_test_run(const char *name, const char *argument, int *status,
                         struct user_test_output *output)
{
    const struct process_io io = {.read = user_test_read, .write = user_test_write, .arg = output};
    char *const argv[] = {(char *)(uintptr_t)name, (char *)(uintptr_t)argument};
    const struct program *program = program_find(name);
    struct process *process;
    int err;

    *output = (struct user_test_output){0};
    if (program == NULL) {
        return -ENOENT;
    }
    err = process_start(program, argument != NULL ? 2 : 1, argv, &io, &process);
    return err != 0 ? err : process_end(process, status);
}

static const struct {
    const char *misdeed;
    int signal;
} user_test_misdeeds[] = {
    {"read-null", SIGSEGV},    {"write-null", SIGSEGV},
    {"jump-null", SIGSEGV},    {"read-kernel", SIGSEGV},
    {"write-kernel", SIGSEGV}, {"jump-kernel", SIGSEGV},
    {"read-wild", SIGSEGV},    {"read-direct-map", SIGSEGV},
    {"write-text", SIGSEGV},   {"run-data", SIGSEGV},
    {"run-stack", SIGSEGV},    {"stack", SIGSEGV},
    {"rsp-kernel", SIGSEGV},   {"cli", SIGSEGV},
    {"sti", SIGSEGV},          {"hlt", SIGSEGV},
    {"in", SIGSEGV},           {"out", SIGSEGV},
    {"wrmsr", SIGSEGV},        {"rdmsr", SIGSEGV},
    {"cr3", SIGSEGV},          {"lidt", SIGSEGV},
    {"swapgs", SIGSEGV},       {"iretq", SIGSEGV},
    {"gate", SIGSEGV},         {"timer", SIGSEGV},
    {"ud2", SIGILL},           {"x87", SIGILL},
    {"sse", SIGILL},           {"divide", SIGFPE},
    {"int3", SIGTRAP},         {"step", SIGTRAP},
};

KTEST(user, each_misdeed_ends_only_the_program)
{
    struct user_test_output output;
    int status = 0;

    for (size_t n = 0; n < ARRAY_SIZE(user_test_misdeeds); n++) {
        int signal = user_test_run("bad", user_test_misdeeds[n].misdeed, &status, &output);

        if (signal != user_test_misdeeds[n].signal || output.length != 0) {
            ktest_fail(ktest, __FILE__, __LINE__, "bad %s: signal %d, said '%s'",
                       user_test_misdeeds[n].misdeed, signal, output.text);
        }
    }
    // A wild stack pointer is #SS by the manual; QEMU's TCG raises #GP.
    int signal = user_test_run("bad", "rsp-wild", &status, &output);
    EXPECT(signal == SIGBUS || signal == SIGSEGV);
}

KTEST(user, both_ways_in_give_the_same)
{
    struct user_test_output output;
    int status = 0;

    EXPECT_EQ(user_test_run("hello", "you", &status, &output), 0);
    EXPECT_EQ(status, 42);
    EXPECT(strstr(output.text, "hello by SYSCALL, you\nhello by INT 0x80\nI am process ") ==
           output.text);
    EXPECT_EQ(user_test_run("bad", "pointers", &status, &output), 0);
    EXPECT_EQ(status, 0);
    EXPECT(strcmp(output.text, "refused, all of them\n") == 0);
    EXPECT_EQ(user_test_run("bad", "flags", &status, &output), 0);
    EXPECT_EQ(status, 0);
    EXPECT(strcmp(output.text, "flags are mine\n") == 0);
}

// ---- the frame of an interrupt ------------------------------------------------------------------

// What the timer's tick found when it interrupted the program, or NULL's worth of nothing.
static struct {
    struct process *process; // A: whom to wait for
    struct frame frame;
    uint64_t gs_base, swapped_base, cr3;
    uintptr_t inside; // an address on the stack that the interrupt runs on
    bool gs_is_kernels;
    bool seen; // A
} user_test_tick;

// In the softirq right behind the tick, still on top of what the tick interrupted: ring 3's frame
// is the first thing on the thread's kernel stack.
static void user_test_look(struct timer_list *timer)
{
    struct process *process = __atomic_load_n(&user_test_tick.process, __ATOMIC_ACQUIRE);
    struct thread *thread = current;

    if (process != NULL && thread == process_thread(process) &&
        frame_is_user(cpu_field(irq_frame))) {
        user_test_tick.frame = *((struct frame *)(thread->stack + KERNEL_STACK_SIZE) - 1);
        user_test_tick.gs_base = rdmsr(MSR_GS_BASE);
        user_test_tick.swapped_base = rdmsr(MSR_KERNEL_GS);
        user_test_tick.cr3 = read_cr3();
        user_test_tick.inside = (uintptr_t)__builtin_frame_address(0) - thread->stack;
        user_test_tick.gs_is_kernels = cpu_self() == &cpus[cpu_id()];
        __atomic_store_n(&user_test_tick.seen, true, __ATOMIC_RELEASE);
        return;
    }
    mod_timer(timer, jiffies + 1);
}

static void user_test_stay_on(struct thread *thread, unsigned cpu)
{
    struct cpumask only = {0};

    cpumask_set(&only, cpu);
    sched_setaffinity(thread, &only);
}

static void user_test_go_anywhere(void)
{
    struct cpumask all;

    memset(&all, 0xff, sizeof(all));
    sched_setaffinity(current, &all);
}

static struct timer_list user_test_timer;

KTEST(user, an_interrupt_of_user_code_has_a_frame_of_its_own)
{
    const struct process_io io = {.read = user_test_read, .write = user_test_write, .arg = NULL};
    char *const argv[] = {(char *)(uintptr_t) "bad", (char *)(uintptr_t) "spin"};
    struct process *process;
    int status;

    user_test_stay_on(current, 0);
    memset(&user_test_tick, 0, sizeof(user_test_tick));
    REQUIRE(process_start(program_find("bad"), 2, argv, &io, &process) == 0);
    user_test_stay_on(process_thread(process), 0);
    __atomic_store_n(&user_test_tick.process, process, __ATOMIC_RELEASE);
    timer_setup(&user_test_timer, user_test_look, 0);
    mod_timer(&user_test_timer, jiffies + 1);
    EXPECT(EVENTUALLY(__atomic_load_n(&user_test_tick.seen, __ATOMIC_ACQUIRE)));
    del_timer_sync(&user_test_timer);
    uint64_t own_gs = rdmsr(MSR_GS_BASE);
    process_kill(process);
    EXPECT_EQ(process_end(process, &status), SIGINT);
    user_test_go_anywhere();
    REQUIRE(user_test_tick.seen);

    // The segments and the stack are the program's, far from any of the kernel's.
    EXPECT_EQ(user_test_tick.frame.cs, USER_CS);
    EXPECT_EQ(user_test_tick.frame.ss, USER_DS);
    EXPECT(user_test_tick.frame.rip >= 0x400000 && user_test_tick.frame.rip < 0x500000);
    EXPECT(user_test_tick.frame.rsp < SPACE_END &&
           user_test_tick.frame.rsp > SPACE_END - 8 * PAGE_SIZE);
    EXPECT(user_test_tick.frame.rflags & CPU_FLAGS_IF);
    // The handler's stack is the thread's, from its top on: TSS.rsp0.
    EXPECT(user_test_tick.inside < KERNEL_STACK_SIZE - sizeof(struct frame));
    // %gs was swapped: the kernel's is in use, the user's, zero, is laid aside.
    EXPECT(user_test_tick.gs_is_kernels);
    EXPECT_EQ(user_test_tick.gs_base, own_gs);
    EXPECT_EQ(user_test_tick.swapped_base, 0);
    // The page tables are the program's, with the kernel in them.
    EXPECT(user_test_tick.cr3 != map_root());
}

// ---- many, at once ------------------------------------------------------------------------------

enum { USER_TEST_RUNS = 1000 };

static unsigned user_test_left; // A
static unsigned user_test_done; // A

static void user_test_many(struct every_cpu *self)
{
    struct user_test_output output;
    int status;

    while ((int)__atomic_sub_fetch(&user_test_left, 1, __ATOMIC_RELAXED) >= 0) {
        unsigned n = every_cpu_random(self) % ARRAY_SIZE(user_test_misdeeds);
        int signal = user_test_run("bad", user_test_misdeeds[n].misdeed, &status, &output);

        if (signal != user_test_misdeeds[n].signal) {
            ktest_fail(self->ktest, __FILE__, __LINE__, "bad %s: signal %d",
                       user_test_misdeeds[n].misdeed, signal);
            return;
        }
        __atomic_fetch_add(&user_test_done, 1, __ATOMIC_RELAXED);
    }
}

KTEST(user, a_thousand_misdeeds_on_all_cpus_leave_nothing)
{
    uint64_t pages = space_page_count();

    user_test_left = 64; // what threads and caches keep, they have after these
    user_test_done = 0;
    EXPECT(every_cpu_run(ktest, user_test_many, NULL));
    uint64_t free_before = page_free_count();
    user_test_left = USER_TEST_RUNS;
    EXPECT(every_cpu_run(ktest, user_test_many, NULL));
    EXPECT_EQ(user_test_done, 64 + USER_TEST_RUNS);
    EXPECT_EQ(space_page_count(), pages);
    // A page lost in each run would be a thousand; others allocate a little meanwhile.
    EXPECT(page_free_count() + 100 > free_before);
}

KTEST(user, memory_that_runs_out_is_an_error_and_nothing_more)
{
    char *const argv[] = {(char *)(uintptr_t) "hello"};
    char *many[40];
    const struct process_io io = {.read = user_test_read, .write = user_test_write, .arg = NULL};
    uint64_t pages = space_page_count();
    struct process *process;
    struct space space;
    struct program empty = {.name = "empty"};

    for (size_t n = 0; n < ARRAY_SIZE(many); n++) {
        many[n] = argv[0];
    }
    EXPECT_EQ(process_start(program_find("hello"), ARRAY_SIZE(many), many, &io, &process), -E2BIG);
    EXPECT_EQ(process_start(&empty, 1, argv, &io, &process), -ENOEXEC);
    REQUIRE(space_init(&space) == 0);
    EXPECT(space_map(&space, 0x400000, PTE_W) == NULL);           // never both
    EXPECT(space_map(&space, 0, PTE_NX) == NULL);                 // NULL is nobody's
    EXPECT(space_map(&space, SPACE_END, PTE_NX) == NULL);         // nor is the last page
    EXPECT(space_map(&space, PHYS_BASE, PTE_W | PTE_NX) == NULL); // nor the kernel's half
    EXPECT(space_map(&space, 0x400000, PTE_W | PTE_NX) != NULL);
    EXPECT(space_map(&space, 0x400000, PTE_W | PTE_NX) == NULL); // once only
    space_free(&space);
    EXPECT_EQ(space_page_count(), pages);
}

// Only the range between SPACE_BEGIN and SPACE_END is looked at; there, with no program's tables
// loaded, nothing is mapped.
KTEST(user, copies_are_checked)
{
    char byte = 0;

    EXPECT_EQ(copy_from_user(&byte, 0x400000, 1), -EFAULT);
    EXPECT_EQ(copy_to_user(0x400000, &byte, 1), -EFAULT);
    EXPECT_EQ(copy_from_user(&byte, (uintptr_t)&byte, 1), -EFAULT);
    EXPECT_EQ(copy_from_user(&byte, SPACE_END - 1, 2), -EFAULT);
    EXPECT_EQ(copy_from_user(&byte, SPACE_END, SIZE_MAX), -EFAULT);
    EXPECT_EQ(copy_from_user(&byte, SPACE_BEGIN, 0), 0);
    EXPECT_EQ(local_irq_flags() & 0x40000, 0); // AC is clear again
}
