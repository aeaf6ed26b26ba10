// From the loader's 32-bit handover to kernel_main in 64 bits, in the upper half, on a stack.
//
// GRUB and QEMU leave the boot CPU in the same state: protected mode, flat segments, no paging,
// interrupts off, ebx pointing at what they want to tell. The way up:
//
//   32 bit, at 1 MiB     the CPU must know long mode: else say so on COM1 and on the screen, stop;
//                        one set of page tables, 2 MiB a page, seven pages of memory in all:
//
//      boot_pml4 [  0] ---> boot_pdpt [0..3] ---> boot_pd   0 .. 4 GiB as they are
//                [256] --^                                  PHYS_BASE + 0 .. 4 GiB, the direct map
//                [511] ---> boot_pdpt_high [510] ---^       KERNEL_BASE + 0 .. 1 GiB, the image
//
//   64 bit, at 1 MiB     a jump
//   64 bit, upper half   a table of exceptions (boot/fault.S) before anything else can go wrong;
//                        boot/boot.c reads what the loader said; kernel_main
//
// Everything in these tables may be written and executed; kernel/mm/map.c replaces them. They stay
// where they are, for the CPUs that boot/trampoline.S brings up.
// Intel SDM vol. 3, 10.8.5 (the steps into IA-32e mode), 4.5 (the tables).
// Context: boot CPU, once. Next: boot/boot.c.

#include <x86/pte.h>
#include <x86/segments.h>

#define PVH_START_MAGIC 0x336ec578 // the first word of what PVH's ebx points at

#define CR0_PE   (1 << 0)
#define CR0_WP   (1 << 16)
#define CR0_PG   (1 << 31)
#define CR4_PAE  (1 << 5)
#define MSR_EFER 0xc0000080
#define EFER_LME (1 << 8)
#define EFER_NXE (1 << 11)
#define FLAGS_ID (1 << 21)

#define CPUID_HIGHEST 0x80000000
#define CPUID_EXTENDED 0x80000001
#define CPUID_EDX_NX  (1 << 20)
#define CPUID_EDX_LM  (1 << 29)

#define BOOT_STACK_SIZE 16384

// Where a symbol of the upper half lies in memory.
#define PHYS(symbol) ((symbol) - KERNEL_BASE)

    .cfi_sections .debug_frame

    .section .boot.text, "ax", @progbits
    .code32

    .globl start_pvh
    .type start_pvh, @function
start_pvh: // multiboot2 says who it is in eax, PVH does not
    movl $PVH_START_MAGIC, %eax

    .globl start_multiboot2
    .type start_multiboot2, @function
start_multiboot2:
    cli
    cld
    movl $PHYS(boot_stack_top), %esp
    movl %eax, %ebp // kept in ebp and ebx until the call of boot_info_read
    call check_long_mode

    // boot_pd: 2048 entries of 2 MiB each.
    movl $PHYS(boot_pd), %edi
    movl $(PTE_P | PTE_W | PTE_PS), %eax
    movl $2048, %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 1b

    movl $(PHYS(boot_pd) + PTE_P + PTE_W), %eax
    movl $PHYS(boot_pdpt), %edi
    movl $4, %ecx
1:  movl %eax, (%edi)
    addl $PAGE_SIZE, %eax
    addl $8, %edi
    loop 1b
    movl $(PHYS(boot_pd) + PTE_P + PTE_W), PHYS(boot_pdpt_high) + 510 * 8

    movl $(PHYS(boot_pdpt) + PTE_P + PTE_W), PHYS(boot_pml4)
    movl $(PHYS(boot_pdpt) + PTE_P + PTE_W), PHYS(boot_pml4) + 256 * 8
    movl $(PHYS(boot_pdpt_high) + PTE_P + PTE_W), PHYS(boot_pml4) + 511 * 8

    movl %cr4, %eax
    orl $CR4_PAE, %eax
    movl %eax, %cr4
    movl $PHYS(boot_pml4), %eax
    movl %eax, %cr3

    // No-execute bits may stand in page tables from here on, where the CPU has them (edx:
    // check_long_mode).
    movl %edx, %esi
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    testl $CPUID_EDX_NX, %esi
    jz 1f
    orl $EFER_NXE, %eax
1:  wrmsr

    // Write protection holds for the kernel too.
    movl %cr0, %eax
    orl $(CR0_PG | CR0_WP | CR0_PE), %eax
    movl %eax, %cr0

    lgdt PHYS(boot_gdt_pointer)
    ljmp $KERNEL_CS, $start64

// Returns with CPUID 80000001h's edx in edx; does not return when this CPU has no long mode.
// Changes eax, ecx, edx.
check_long_mode:
    pushfl // CPUID exists when the ID flag can be changed
    popl %eax
    movl %eax, %ecx
    xorl $FLAGS_ID, %eax
    pushl %eax
    popfl
    pushfl
    popl %eax
    xorl %ecx, %eax
    testl $FLAGS_ID, %eax
    jz no_long_mode

    pushl %ebx
    movl $CPUID_HIGHEST, %eax
    cpuid
    cmpl $CPUID_EXTENDED, %eax
    jb no_long_mode
    movl $CPUID_EXTENDED, %eax
    cpuid
    popl %ebx
    testl $CPUID_EDX_LM, %edx
    jz no_long_mode
    ret

#define COM1           0x3f8
#define COM1_STATUS    (COM1 + 5)
#define STATUS_EMPTY   0x20
#define EGA_TEXT       0xb8000
#define EGA_WHITE_ON_RED 0x4f

no_long_mode:
    movl $no_long_mode_text, %esi
    movl $EGA_TEXT, %edi
1:  lodsb
    testb %al, %al
    jz 4f
    movb %al, %bl
    cmpb $' ', %al // the line's end is for the serial line only
    jb 5f
    movb $EGA_WHITE_ON_RED, %ah
    stosw
5:  movl $100000, %ecx // a port without a UART never becomes ready: wait a bounded while
    movw $COM1_STATUS, %dx
2:  inb %dx, %al
    testb $STATUS_EMPTY, %al
    jnz 3f
    loop 2b
3:  movb %bl, %al
    movw $COM1, %dx
    outb %al, %dx
    jmp 1b
4:  hlt
    jmp 4b

no_long_mode_text:
    .asciz "tophalf: this CPU has no 64-bit mode (long mode); an x86-64 CPU is needed\r\n"

    .code64
start64:
    movabsq $start64_high, %rax
    jmp *%rax

    .text
    .type start64_high, @function
start64_high:
    .cfi_startproc
    .cfi_undefined %rip // nobody called: backtraces end here
    lgdt boot_gdt_pointer_high(%rip) // the same table, by the address that stays
    movl $KERNEL_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    leaq boot_stack_top(%rip), %rsp

    movl %ebp, %r12d
    xorl %ebp, %ebp // the chain of frames ends here
    call boot_fault_init

    movl %r12d, %edi
    movl %ebx, %esi
    call boot_info_read
    movq %rax, %rdi
    xorl %ebp, %ebp
    call kernel_main
    ud2
    .cfi_endproc
    .size start64_high, . - start64_high

// Flat segments with the selectors of <x86/segments.h>; each CPU gets a table of its own later
// (kernel/x86/gdt.c).
    .section .rodata
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff // KERNEL_CS: execute, read, 64 bit
    .quad 0x00cf93000000ffff // KERNEL_DS: read, write
boot_gdt_end:
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long PHYS(boot_gdt)
    .globl boot_gdt_pointer_high
boot_gdt_pointer_high:
    .word boot_gdt_end - boot_gdt - 1
    .quad boot_gdt

    .section .bss.page_aligned, "aw", @nobits
    .balign PAGE_SIZE
    .globl boot_pml4
boot_pml4:
    .skip PAGE_SIZE
boot_pdpt:
    .skip PAGE_SIZE
boot_pdpt_high:
    .skip PAGE_SIZE
boot_pd:
    .skip 4 * PAGE_SIZE

// The stack of kernel_main, later of the boot CPU's idle thread. Nothing is mapped at the guard
// once map.c has run.
    .globl boot_stack_guard, boot_stack_bottom, boot_stack_top
boot_stack_guard:
    .skip PAGE_SIZE
boot_stack_bottom:
    .skip BOOT_STACK_SIZE
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
