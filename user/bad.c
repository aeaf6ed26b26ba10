// bad MISDEED: does what a program must not, and should not live to tell. `bad` alone lists them.
//
// Behind each name stands what it is to end with, which tests/console/test_user.py reads.
#include "user.h"

#define KERNEL_ADDRESS 0xffffffff80101000 // in the kernel's text
#define WILD_ADDRESS   0x8000000000000000 // not canonical

// An address that the compiler knows nothing of.
static volatile char *at(unsigned long address)
{
    __asm__ volatile("" : "+r"(address));
    return (volatile char *)address;
}

static void jump(unsigned long address)
{
    ((void (*)(void))(unsigned long)at(address))();
}

static void bad_read_null(void)
{
    (void)*at(0);
}

static void bad_write_null(void)
{
    *at(8) = 1;
}

static void bad_jump_null(void)
{
    jump(0);
}

static void bad_read_kernel(void)
{
    (void)*at(KERNEL_ADDRESS);
}

static void bad_write_kernel(void)
{
    *at(KERNEL_ADDRESS) = 1;
}

static void bad_jump_kernel(void)
{
    jump(KERNEL_ADDRESS);
}

static void bad_read_direct_map(void)
{
    (void)*at(0xffff800000001000);
}

static void bad_read_wild(void)
{
    (void)*at(WILD_ADDRESS);
}

static void bad_write_text(void)
{
    *at((unsigned long)bad_write_text) = 0x90;
}

static void bad_run_data(void)
{
    static unsigned char code[] = {0xc3}; // ret

    jump((unsigned long)code);
}

static void bad_run_stack(void)
{
    volatile unsigned char code[] = {0xc3};

    jump((unsigned long)code);
}

static __attribute__((noinline)) long recurse(long depth)
{
    volatile char room[512];

    room[depth % 512] = 1;
    return depth < 0 ? 0 : recurse(depth + 1) + room[0];
}

static void bad_stack(void)
{
    recurse(0);
}

static void bad_rsp_kernel(void) // the kernel must not step onto this stack either
{
    __asm__ volatile("movq %0, %%rsp\n\t"
                     "movl %1, %%eax\n\t"
                     "syscall\n\t"
                     "int $0x80\n\t"
                     "pushq %%rax" ::"r"(KERNEL_ADDRESS),
                     "i"(SYS_getpid)
                     : "rax", "rcx", "r11", "memory");
}

static void bad_rsp_wild(void)
{
    __asm__ volatile("movq %0, %%rsp\n\t"
                     "movl %1, %%eax\n\t"
                     "syscall\n\t"
                     "pushq %%rax" ::"r"(WILD_ADDRESS),
                     "i"(SYS_getpid)
                     : "rax", "rcx", "r11", "memory");
}

#define INSTRUCTION(name, text)                                             \
    static void bad_##name(void)                                            \
    {                                                                       \
        __asm__ volatile(text::"a"(1), "c"(0xc0000080), "d"(0) : "memory"); \
    }

INSTRUCTION(cli, "cli")
INSTRUCTION(sti, "sti")
INSTRUCTION(hlt, "hlt")
INSTRUCTION(in, "inb $0x60, %%al")
INSTRUCTION(out, "outb %%al, $0x64")
INSTRUCTION(wrmsr, "wrmsr")
INSTRUCTION(rdmsr, "rdmsr")
INSTRUCTION(cr3, "movq %%rax, %%cr3")
INSTRUCTION(lidt, "lidt (%%rsp)")
INSTRUCTION(swapgs, "swapgs")
INSTRUCTION(iretq, "pushq $0x10; pushq $0; pushq $2; pushq $8; pushq $0; iretq")
INSTRUCTION(gate, "int $14")
INSTRUCTION(timer, "int $0xec")
INSTRUCTION(ud2, "ud2")
INSTRUCTION(x87, "fld1")
INSTRUCTION(sse, "xorps %%xmm0, %%xmm0")
INSTRUCTION(divide, "xorl %%ecx, %%ecx; divl %%ecx")
INSTRUCTION(int3, "int3")
INSTRUCTION(step, "pushfq; orl $0x100, (%%rsp); popfq; nop; nop")

static const struct {
    const char *name, *end;
    void (*run)(void);
} misdeeds[] = {
    {"read-null", "SIGSEGV", bad_read_null},
    {"write-null", "SIGSEGV", bad_write_null},
    {"jump-null", "SIGSEGV", bad_jump_null},
    {"read-kernel", "SIGSEGV", bad_read_kernel},
    {"write-kernel", "SIGSEGV", bad_write_kernel},
    {"jump-kernel", "SIGSEGV", bad_jump_kernel},
    {"read-direct-map", "SIGSEGV", bad_read_direct_map},
    {"read-wild", "SIGSEGV", bad_read_wild},
    {"write-text", "SIGSEGV", bad_write_text},
    {"run-data", "SIGSEGV", bad_run_data},
    {"run-stack", "SIGSEGV", bad_run_stack},
    {"stack", "SIGSEGV", bad_stack},
    {"rsp-kernel", "SIGSEGV", bad_rsp_kernel},
    {"rsp-wild", "SIGBUS", bad_rsp_wild},
    {"cli", "SIGSEGV", bad_cli},
    {"sti", "SIGSEGV", bad_sti},
    {"hlt", "SIGSEGV", bad_hlt},
    {"in", "SIGSEGV", bad_in},
    {"out", "SIGSEGV", bad_out},
    {"wrmsr", "SIGSEGV", bad_wrmsr},
    {"rdmsr", "SIGSEGV", bad_rdmsr},
    {"cr3", "SIGSEGV", bad_cr3},
    {"lidt", "SIGSEGV", bad_lidt},
    {"swapgs", "SIGSEGV", bad_swapgs},
    {"iretq", "SIGSEGV", bad_iretq},
    {"gate", "SIGSEGV", bad_gate},
    {"timer", "SIGSEGV", bad_timer},
    {"ud2", "SIGILL", bad_ud2},
    {"x87", "SIGILL", bad_x87},
    {"sse", "SIGILL", bad_sse},
    {"divide", "SIGFPE", bad_divide},
    {"int3", "SIGTRAP", bad_int3},
    {"step", "SIGTRAP", bad_step},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// Pointers that are refused are no misdeed that kills: the call fails with -EFAULT.
static int bad_pointers(void)
{
    static const unsigned long wrong[] = {
        0,
        8,
        0x1000,
        KERNEL_ADDRESS,
        WILD_ADDRESS,
        0xffff800000001000,
        -1ul,
        0x7ffffffff000,
        0x7fffffffffff,
        0x500000,
    };
    static char good[16];
    enum { EFAULT = 14, ENOSYS = 38, EBADF = 9 };

    for (size_t n = 0; n < COUNT(wrong); n++) {
        if (syscall3(SYS_write, 1, (long)wrong[n], 16) != -EFAULT ||
            gate3(SYS_write, 1, (long)wrong[n], 16) != -EFAULT ||
            syscall3(SYS_nanosleep, (long)wrong[n], 0, 0) != -EFAULT) {
            print_number("not refused: pointer ", (long)n, "\n");
            return 1;
        }
    }
    // A range that begins well and ends beyond, or wraps.
    if (syscall3(SYS_write, 1, 0x7fffffffeff8, 0x4000) == 0x4000 ||
        syscall3(SYS_write, 1, -8, 16) != -EFAULT) {
        return 2;
    }
    if (syscall3(SYS_write, 7, (long)good, 1) != -EBADF || syscall3(-1, 0, 0, 0) != -ENOSYS ||
        gate3(1000000, 0, 0, 0) != -ENOSYS || syscall3(SYS_write, 1, 0, 0) != 0) {
        return 3;
    }
    return print("refused, all of them\n") == 0 ? 0 : 4;
}

// Flags that a program may set must not matter to the kernel, and must be the same afterwards.
static int bad_flags(void)
{
    enum { DF = 0x400, NT = 0x4000, AC = 0x40000 };
    unsigned long before = DF | NT | AC, after;
    static const char line[] = "flags are mine\n";

    __asm__ volatile("pushfq; orq %[flags], (%%rsp); popfq\n\t"
                     "syscall\n\t"
                     "movl %[getpid], %%eax\n\t"
                     "int $0x80\n\t"
                     "pushfq; popq %[after]\n\t"
                     "pushq $0x202; popfq"
                     : [after] "=&r"(after)
                     : [flags] "r"(before), [getpid] "i"(SYS_getpid), "a"(SYS_write), "D"(1),
                       "S"(line), "d"(sizeof(line) - 1)
                     : "rcx", "r11", "memory");
    return (after & before) == before ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        for (size_t n = 0; n < COUNT(misdeeds); n++) {
            print(misdeeds[n].name);
            print(" ");
            print(misdeeds[n].end);
            print("\n");
        }
        print("pointers 0\nflags 0\nspin SIGINT\n");
        return 0;
    }
    if (strcmp(argv[1], "pointers") == 0) {
        return bad_pointers();
    }
    if (strcmp(argv[1], "flags") == 0) {
        return bad_flags();
    }
    while (strcmp(argv[1], "spin") == 0) { // until somebody ends it: no system call in here
    }
    for (size_t n = 0; n < COUNT(misdeeds); n++) {
        if (strcmp(argv[1], misdeeds[n].name) == 0) {
            misdeeds[n].run();
            print("still alive\n");
            return 1;
        }
    }
    print("no such misdeed\n");
    return 2;
}
