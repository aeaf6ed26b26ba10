// `fault`: raises the CPU's exceptions on purpose and shows what the kernel knows then.
//
// Each is provoked by an instruction that really faults, where ring 0 can do that at all. The
// command's thread runs it inside exception_catch, so the fault comes back as a value, is printed,
// and the prompt returns with status 128 + vector. The last ones are fatal, as nothing could be
// trusted after them: they show how the kernel ends (kernel/core/panic.c).
//
// Some need the machine bent first (a segment descriptor, a bit in CR0 or CR4): that happens with
// interrupts off, under a lock, and is undone after the fault.
//
// Intel SDM vol. 3, 6.15, says what raises what. Context: thread.
#include <contract/command.h>
#include <core/cpu.h>
#include <core/kallsyms.h>
#include <core/panic.h>
#include <core/spinlock.h>
#include <lib/string.h>
#include <x86/exception.h>
#include <x86/msr.h>
#include <x86/segments.h>

#define CR0_TS         BIT64(3)
#define CR4_OSFXSR     BIT64(9)
#define CR4_OSXMMEXCPT BIT64(10)

// ---- instructions that fault --------------------------------------------------------------------

static void fault_divide(void *arg __unused)
{
    __asm__ volatile("xorl %%ecx, %%ecx\n\t"
                     "xorl %%edx, %%edx\n\t"
                     "divl %%ecx" ::
                         : "rax", "rcx", "rdx", "cc");
}

static void fault_single_step(void *arg __unused) // RFLAGS.TF: a trap after the next instruction
{
    __asm__ volatile("pushfq\n\t"
                     "orl $0x100, (%%rsp)\n\t"
                     "popfq\n\t"
                     "nop" ::
                         : "memory", "cc");
}

static void fault_breakpoint(void *arg __unused)
{
    __asm__ volatile("int3");
}

static void fault_overflow(void *arg __unused) // INTO does not exist in 64-bit mode
{
    __asm__ volatile("int $4");
}

static void fault_bound(void *arg __unused) // nor does BOUND
{
    __asm__ volatile("int $5");
}

static void fault_opcode(void *arg __unused)
{
    __asm__ volatile("ud2");
}

static void fault_no_fpu(void *arg __unused) // CR0.TS: the registers belong to nobody
{
    __asm__ volatile("fnop");
}

static void
fault_tss(void *arg __unused) // 64-bit mode has no task switch that could find a bad one
{
    exception_raise(EXC_TS, TSS_SEL);
    barrier(); // no tail call: rip shall be here
}

static void fault_alignment(void *arg __unused) // the CPU checks alignment in ring 3 only
{
    exception_raise(EXC_AC, 0);
    barrier();
}

static void fault_protection(void *arg __unused) // an address that is not canonical
{
    (void)*(volatile uint8_t *)0x8000000000000000;
}

static void fault_page(void *arg __unused)
{
    uintptr_t address =
        0x10; // in a page that is never mapped: what a NULL pointer to a struct does
    __asm__ volatile("" : "+r"(address));
    *(volatile uint32_t *)address = 1;
}

static void
fault_x87(void *arg __unused) // 1 / 0 with that error unmasked; #MF comes with the next one
{
    uint16_t control = 0x37f & ~0x4;
    __asm__ volatile("clts\n\t"
                     "fninit\n\t"
                     "fldcw %0\n\t"
                     "fld1\n\t"
                     "fldz\n\t"
                     "fdivrp\n\t"
                     "fwait" ::"m"(control));
}

static void fault_simd(void *arg __unused) // the same with SSE
{
    uint32_t control = 0x1f80 & ~0x200;
    write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
    __asm__ volatile("clts\n\t"
                     "ldmxcsr %0\n\t"
                     "movl $1, %%eax\n\t"
                     "cvtsi2ss %%eax, %%xmm0\n\t"
                     "xorps %%xmm1, %%xmm1\n\t"
                     "divss %%xmm1, %%xmm0" ::"m"(control)
                     : "rax");
    __asm__ volatile("int $19"); // QEMU's TCG sets the flag but raises nothing
}

// ---- a descriptor that is not present -----------------------------------------------------------

struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __packed;

enum { ABSENT_SEL = 0x38 };
#define ABSENT_DATA 0x00cf13000000ffff // flat, writable data in ring 0, P = 0

static DEFINE_SPINLOCK(fault_lock);

// The CPU's own GDT, and the absent one behind it.
static uint64_t fault_gdt[ABSENT_SEL / 8 + 1]; // L
static struct table_pointer fault_old_gdt;     // L

static void fault_load_gdt(void)
{
    struct table_pointer pointer = {sizeof(fault_gdt) - 1, (uintptr_t)fault_gdt};

    __asm__ volatile("sgdt %0" : "=m"(fault_old_gdt));
    memcpy(fault_gdt, (const void *)fault_old_gdt.base, ABSENT_SEL);
    fault_gdt[ABSENT_SEL / 8] = ABSENT_DATA;
    __asm__ volatile("lgdt %0" ::"m"(pointer));
}

static void fault_segment(void *arg __unused)
{
    fault_load_gdt();
    __asm__ volatile("movl %0, %%es" ::"r"(ABSENT_SEL));
}

static void fault_stack_segment(void *arg __unused)
{
    fault_load_gdt();
    __asm__ volatile("movl %0, %%ss" ::"r"(ABSENT_SEL));
}

// ---- those that nothing survives ----------------------------------------------------------------

static void fault_double(void *arg __unused) // no stack to push the page fault's frame on
{
    __asm__ volatile("movq $0x1000, %%rsp\n\t"
                     "pushq $0" ::
                         : "memory");
}

static __noinline unsigned fault_recurse(unsigned depth)
{
    volatile unsigned here = depth; // volatile, or the compiler would make a loop of it

    if (here == UINT32_MAX) {
        return 0; // never: the stack ends long before
    }
    return fault_recurse(depth + 1) + here;
}

static void fault_stack_overflow(void *arg __unused)
{
    fault_recurse(0);
}

static __noinline void fault_smash(void *arg __unused) // the array's end, and what stands behind it
{
    char array[16];
    char *volatile p = array;

    memset(p, 'A', 2 * sizeof(array));
    __asm__ volatile("" ::"r"(p) : "memory");
}

static const char *fault_thread_name(void)
{
    fault_page(NULL);
    return NULL;
}

static void fault_in_panic(void *arg __unused)
{
    panic_thread_name = fault_thread_name;
    panic("now the report itself will fault");
}

// ---- the command --------------------------------------------------------------------------------

static const struct fault {
    const char *name;
    int vector;
    void (*raise)(void *arg);
    const char *how;
} faults[] = {
    {"de", EXC_DE, fault_divide, "divides by zero"},
    {"db", EXC_DB, fault_single_step, "single-steps one instruction"},
    {"bp", EXC_BP, fault_breakpoint, "INT3"},
    {"of", EXC_OF, fault_overflow, "INT 4: INTO is gone in 64-bit mode"},
    {"br", EXC_BR, fault_bound, "INT 5: BOUND is gone in 64-bit mode"},
    {"ud", EXC_UD, fault_opcode, "UD2"},
    {"nm", EXC_NM, fault_no_fpu, "an x87 instruction: CR0.TS is set"},
    {"ts", EXC_TS, fault_tss, "entered by hand: there are no task switches in 64-bit mode"},
    {"np", EXC_NP, fault_segment, "loads %es from a descriptor that is not present"},
    {"ss", EXC_SS, fault_stack_segment, "loads %ss from a descriptor that is not present"},
    {"gp", EXC_GP, fault_protection, "reads an address that is not canonical"},
    {"pf", EXC_PF, fault_page, "writes where nothing is mapped"},
    {"ac", EXC_AC, fault_alignment, "entered by hand: alignment is checked in ring 3 only"},
    {"mf", EXC_MF, fault_x87, "divides by zero in the x87, unmasked"},
    {"xm", EXC_XM, fault_simd,
     "divides by zero with SSE, unmasked; INT 19 where that does nothing"},
    {"df", EXC_DF, fault_double, "loses the stack: fatal"},
    {"stack", EXC_DF, fault_stack_overflow, "recurses without end: fatal"},
    {"smash", -1, fault_smash, "writes past an array on the stack: fatal"},
    {"panic", -1, fault_in_panic, "panics, and once more inside of the report: fatal"},
};

// What a fault left bent on this CPU becomes straight again.
static void fault_clean_up(int vector)
{
    switch (vector) {
    case EXC_NP:
    case EXC_SS:
        __asm__ volatile("lgdt %0" ::"m"(fault_old_gdt));
        break;
    case EXC_MF:
        __asm__ volatile("fninit");
        write_cr0(read_cr0() | CR0_TS);
        break;
    case EXC_XM:
        write_cr0(read_cr0() | CR0_TS);
        write_cr4(read_cr4() & ~(CR4_OSFXSR | CR4_OSXMMEXCPT));
        break;
    default:
        break;
    }
}

static const struct fault *fault_find(const char *name)
{
    for (size_t n = 0; n < ARRAY_SIZE(faults); n++) {
        if (strcmp(faults[n].name, name) == 0) {
            return &faults[n];
        }
    }
    return NULL;
}

static void fault_list(struct shell *sh)
{
    for (size_t n = 0; n < ARRAY_SIZE(faults); n++) {
        bool cpu = faults[n].vector >= 0; // the others are the kernel's own
        shell_printf(sh, "%-5s  %-3s %-25s  %s\n", faults[n].name,
                     cpu ? exception_mnemonic((unsigned)faults[n].vector) : "",
                     cpu ? exception_name((unsigned)faults[n].vector) : "", faults[n].how);
    }
}

static void fault_show_trace(struct shell *sh, const struct exception_record *record)
{
    shell_printf(sh, "backtrace:\n");
    for (unsigned i = 0; i < record->trace_count; i++) {
        char symbol[96];
        struct text t = TEXT_INIT(symbol);

        text_symbol(&t, record->trace[i]);
        shell_printf(sh, "    0x%016lx  %s\n", record->trace[i], symbol);
    }
}

static int cmd_fault(struct shell *sh, int argc, char **argv)
{
    struct exception_record record;
    char report[1024];
    struct text t = TEXT_INIT(report);

    if (argc == 1) {
        fault_list(sh);
        return 0;
    }
    if (argc > 2) {
        return shell_usage(sh, "one exception at a time");
    }
    const struct fault *fault = fault_find(argv[1]);
    if (!fault) {
        return shell_usage(sh, "%s: no such exception (fault alone lists them)", argv[1]);
    }

    unsigned long flags;
    spin_lock_irqsave(&fault_lock, flags);
    int vector = exception_catch(fault->raise, NULL, &record);
    fault_clean_up(fault->vector);
    spin_unlock_irqrestore(&fault_lock, flags);

    if (vector < 0) {
        return shell_error(sh, "%s: this CPU raised nothing", fault->name);
    }
    exception_show(&t, &record);
    shell_printf(sh, "%s", report);
    fault_show_trace(sh, &record);
    return 128 + vector;
}

COMMAND("fault", cmd_fault, "fault [NAME]",
        "raise a CPU exception on purpose\n"
        "Without a name: the list. The status is 128 + the exception's vector.\n"
        "The last ones are fatal: they show how the kernel ends.");
