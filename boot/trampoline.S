// The way up for every other CPU: from real mode, below 1 MiB, to 64-bit C.
//
// A start-up IPI names a page; the CPU begins there in real mode with cs = page << 8, ip = 0 (Intel
// SDM vol. 3, 9.4.4). The code is copied to whatever page is free, so until it reaches the upper
// half it may only use addresses relative to cs. It goes straight from real to long mode: paging
// and protection are switched on by one write to CR0, which saves the 32-bit step between them.
//
//   16 bit, in the copy      is the offer in the block still open? then the tables of boot/start.S
//                            (the first 4 GiB are mapped as they are), LME, PG + PE, far jump
//   64 bit, in the copy      reads the block; a jump to the upper half
//   64 bit, in the image     boot GDT and exception table (boot/fault.S), the kernel's page tables,
//                            its stack, ap_main
//
// A CPU that wakes late finds the offer taken or withdrawn and stops: it can never run on a stack
// that was meant for another. Contract: <x86/smp.h>. Context: any CPU but the first, interrupts
// off. Previous: smp_start_cpu in kernel/x86/smp.c. Next: ap_main in kernel/main.c.

#include <x86/pte.h>
#include <x86/segments.h>
#include <x86/smp.h>

// PG WP NE ET MP PE. Written whole: through INIT, CD and NW keep what they held before.
#define CR0_LONG_MODE 0x80010033
#define CR4_PAE       0x20
#define MSR_EFER      0xc0000080
#define EFER_LME      (1 << 8)
#define EFER_NXE      (1 << 11)
#define CPUID_EXTENDED 0x80000001
#define CPUID_EDX_NX  (1 << 20)

#define PHYS(symbol) ((symbol) - KERNEL_BASE)
#define LOCAL(label) ((label) - trampoline_start)

    .cfi_sections .debug_frame

    .section .rodata
    .balign 16
    .globl trampoline_start, trampoline_end, trampoline_block
trampoline_start:
    .code16
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    movzwl %ax, %ebp
    shll $4, %ebp // ebp: where the copy lies

    movl $SMP_OFFERED, %eax
    movl $SMP_TAKEN, %ecx
    lock cmpxchgl %ecx, LOCAL(trampoline_block) + SMP_BLOCK_STATE
    je 1f
0:  hlt
    jmp 0b
1:

    leal LOCAL(trampoline_gdt)(%ebp), %eax
    movl %eax, LOCAL(trampoline_gdt_pointer) + 2
    leal LOCAL(trampoline_64)(%ebp), %eax
    movl %eax, LOCAL(trampoline_far)

    movl $CPUID_EXTENDED, %eax
    cpuid
    movl $MSR_EFER, %ecx
    movl %edx, %esi
    rdmsr
    orl $EFER_LME, %eax
    testl $CPUID_EDX_NX, %esi
    jz 1f
    orl $EFER_NXE, %eax
1:  wrmsr

    movl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $PHYS(boot_pml4), %eax
    movl %eax, %cr3
    lgdtl LOCAL(trampoline_gdt_pointer)
    movl $CR0_LONG_MODE, %eax
    movl %eax, %cr0
    ljmpl *LOCAL(trampoline_far)

    .code64
trampoline_64:
    movq LOCAL(trampoline_block) + SMP_BLOCK_CR3(%rbp), %rbx
    movq LOCAL(trampoline_block) + SMP_BLOCK_STACK(%rbp), %r12
    movl LOCAL(trampoline_block) + SMP_BLOCK_CPU(%rbp), %edi
    movabsq $trampoline_high, %rax
    jmp *%rax

    .balign 8
trampoline_gdt: // flat 64-bit code, for the one far jump; null, KERNEL_CS
    .quad 0
    .quad 0x00af9b000000ffff
trampoline_gdt_pointer:
    .word 2 * 8 - 1
    .long 0 // set above
trampoline_far:
    .long 0 // set above
    .word KERNEL_CS
    .balign 8
trampoline_block: // written by kernel/x86/smp.c
    .skip SMP_BLOCK_SIZE
trampoline_end:

    .text
    .type trampoline_high, @function
trampoline_high:
    .cfi_startproc
    .cfi_undefined %rip // nobody called: backtraces end here
    lgdt boot_gdt_pointer_high(%rip)
    lidt boot_idt_pointer(%rip)
    movl $KERNEL_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq %rbx, %cr3
    movq %r12, %rsp
    xorl %ebp, %ebp // the chain of frames ends here
    call ap_main
    ud2
    .cfi_endproc
    .size trampoline_high, . - trampoline_high

    .section .note.GNU-stack, "", @progbits
