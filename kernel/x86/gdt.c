// Segments, task state and the spare stacks: one GDT and one TSS for each CPU.
//
// In 64-bit mode a segment is little more than a privilege level, so the GDT is short and the same
// everywhere but for its last entry, which points at the CPU's own TSS. The TSS holds no task: it
// is where the CPU looks up stacks.
//
//   GDT   null | kernel code | kernel data | user data | user code | TSS (two entries)
//   TSS   rsp0   the stack for entries from ring 3: the running thread's
//         ist1   #DF            stacks that are good even when the current one is not:
//         ist2   NMI            an exception that finds the stack full or its pointer wild
//         ist3   #MC            must not need that stack to say so
//
// Intel SDM vol. 3, 3.4.5 (descriptors), 7.7 (TSS), 6.14.5 (IST); vol. 2, SYSCALL and SYSRET
// (order). Context: each CPU for itself, interrupts off.
#include <core/cpu.h>
#include <x86/msr.h>
#include <x86/segments.h>

enum { GDT_ENTRIES = 7, EARLY_STACK_SIZE = 8192 };

// Descriptors of flat segments; "accessed" is set so that the CPU never writes to the table.
#define GDT_KERNEL_CODE 0x00af9b000000ffff
#define GDT_KERNEL_DATA 0x00cf93000000ffff
#define GDT_USER_DATA   0x00cff3000000ffff
#define GDT_USER_CODE   0x00affb000000ffff
#define GDT_TSS_FREE    0x0000890000000000 // present, 64-bit TSS, not busy; LTR makes it busy

// A table in memory that the CPU reads, not a device's registers: a struct is right here.
struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map; // offset of the I/O permission map: past the end, there is none
} __packed;
_Static_assert(sizeof(struct tss) == 104, "Intel SDM vol. 3, figure 8-11");

// The TSSs are aligned so that none crosses a page (SDM vol. 3, 8.2.1).
static struct {
    struct tss tss; // C: but the busy CPU itself reads it
} __aligned(128) gdt_tss[MAX_CPUS];
static uint64_t gdt_table[MAX_CPUS][GDT_ENTRIES]; // C

static uint8_t gdt_early_stacks[IST_COUNT][EARLY_STACK_SIZE] __aligned(16);

static void gdt_fill(unsigned cpu, const uintptr_t ist_tops[IST_COUNT])
{
    struct tss *tss = &gdt_tss[cpu].tss;
    uint64_t *gdt = gdt_table[cpu];
    uint64_t base = (uintptr_t)tss, limit = sizeof(*tss) - 1;

    for (unsigned n = 0; n < IST_COUNT; n++) {
        tss->ist[n] = ist_tops[n]; // slot n + 1
    }
    tss->io_map = sizeof(*tss);

    gdt[0] = 0;
    gdt[KERNEL_CS / 8] = GDT_KERNEL_CODE;
    gdt[KERNEL_DS / 8] = GDT_KERNEL_DATA;
    gdt[USER_DS / 8] = GDT_USER_DATA;
    gdt[USER_CS / 8] = GDT_USER_CODE;
    gdt[TSS_SEL / 8] = GDT_TSS_FREE | limit | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
    gdt[TSS_SEL / 8 + 1] = base >> 32;
}

// Loads the tables, and code and stack segments from them: the far return is how CS is loaded.
static void gdt_load(unsigned cpu)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __packed pointer = {sizeof(gdt_table[cpu]) - 1, (uintptr_t)gdt_table[cpu]};

    __asm__ volatile("lgdt %0\n\t"
                     "mov %1, %%ds\n\t"
                     "mov %1, %%es\n\t"
                     "mov %1, %%ss\n\t"
                     "pushq %2\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\tltr %w3"
                     :
                     : "m"(pointer), "r"(KERNEL_DS), "i"(KERNEL_CS), "r"(TSS_SEL)
                     : "rax", "memory");
}

void gdt_init_cpu(unsigned cpu, const uintptr_t ist_tops[IST_COUNT])
{
    cpu_set_up(cpu);
    gdt_fill(cpu, ist_tops);
    gdt_load(cpu);
    idt_load();

    // The selector in %gs has been null since boot and is never loaded again: that would clear the
    // base. While ring 0 runs, the base is ours and the swapped one is the user's: none yet.
    wrmsr(MSR_GS_BASE, (uintptr_t)&cpus[cpu]);
    wrmsr(MSR_KERNEL_GS, 0);
    // SYSCALL loads CS from bits 47:32 and SS 8 above; SYSRET CS 16 above bits 63:48, SS 8 above.
    wrmsr(MSR_STAR, (uint64_t)KERNEL_DS << 48 | (uint64_t)KERNEL_CS << 32);
}

void gdt_set_kernel_stack(uintptr_t top)
{
    unsigned cpu = cpu_id();

    gdt_tss[cpu].tss.rsp[0] = top;
    cpus[cpu].kernel_rsp = top;
}

void gdt_init_early(void)
{
    uintptr_t tops[IST_COUNT];

    for (unsigned n = 0; n < IST_COUNT; n++) {
        tops[n] = (uintptr_t)gdt_early_stacks[n] + EARLY_STACK_SIZE;
    }
    idt_init();
    gdt_init_cpu(0, tops);
}
