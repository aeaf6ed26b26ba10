// Where every interrupt and exception enters the kernel: stop 1 of 6. Next: kernel/interrupt.c.
//
// The CPU has looked up the IDT gate, has pushed what it must to come back, and is at the stub of
// its vector, isr_stubs + 16 * vector:
//
//   the stub     pushes a zero where this exception has no error code, so that every frame looks
//                the same, and the vector
//   isr_common   pushes the 15 general registers: struct frame (<x86/frame.h>) is complete; takes
//                the kernel's %gs base if ring 3 was interrupted; calls interrupt(frame)
//   isr_return   undoes it all; IRETQ goes to wherever the frame now says
//
//       high    ss
//               rsp             pushed by the CPU, in 64-bit mode always all five
//               rflags
//               cs
//               rip
//               error code      pushed by the CPU or by the stub
//               vector          pushed by the stub
//               rax
//               ...             pushed by isr_common
//     rdi -->   r15
//               rip             the link: makes the interrupted function the caller of isr_common
//     rbp -->   rbp             for whoever follows saved frame pointers (kernel/core/panic.c)
//
// NMI, #DF and #MC can strike between any two instructions, also where the kernel has the user's
// %gs still or already. Theirs is isr_paranoid: it does not ask which ring was interrupted but
// which base is loaded.
//
// gdb unwinds by the .cfi lines instead; they are right at every instruction, stubs included. Break
// at `*((char *)&isr_stubs + 16 * vector)`, step into interrupt(), break at isr_return, and step on
// from there: the way ends at the interrupted instruction.
//
// SYSCALL comes in at syscall_entry. It pushes nothing and changes no stack: so that is done here,
// into the same struct frame, as if by INT 0x80, but for the vector. The way out is the same IRETQ
// for all: docs/decisions/0006-syscall.md says why not SYSRET.
//
// The CPU aligns the stack to 16 bytes before it pushes, which makes rsp aligned at the calls.
// Intel SDM vol. 3, 6.14; vol. 2, SYSCALL. Context: interrupts off.

#include <x86/segments.h>

    .cfi_sections .debug_frame

// Offsets into struct frame, asserted in kernel/x86/exception.c.
#define FRAME_RIP 136
#define FRAME_CS  144

#define MSR_GS_BASE 0xc0000101

// Offsets into struct cpu, asserted in kernel/core/cpu.c.
#define CPU_KERNEL_RSP 24
#define CPU_USER_RSP   32

// The vectors for which the CPU pushes an error code: #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX.
// SDM vol. 3, table 6-1; AMD APM vol. 2, 8.2.
#define HAS_ERROR(vector)                                                                          \
    ((vector) == 8 || ((vector) >= 10 && (vector) <= 14) || (vector) == 17 || (vector) == 21 ||    \
     (vector) == 29 || (vector) == 30)
// The vectors with a stack of their own (kernel/x86/idt.c): #DF, NMI, #MC.
#define IS_PARANOID(vector) ((vector) == 2 || (vector) == 8 || (vector) == 18)

    .section .text.entry, "ax", @progbits

// The CFA of all that follows is the address behind the frame, where ss ends. What the CPU pushed
// lies at fixed offsets from it, so the interrupted rip and rsp are found from the first
// instruction of a stub on.
    .globl isr_stubs
    .type isr_stubs, @function
    .balign 16
isr_stubs:
    .cfi_startproc simple
    .cfi_signal_frame
    .cfi_offset %rip, -40
    .cfi_offset %rsp, -16
    .set vector, 0
    .rept 256
    .balign 16
    .if HAS_ERROR(vector)
    .cfi_def_cfa %rsp, 48
    .else
    .cfi_def_cfa %rsp, 40
    pushq $0
    .cfi_def_cfa_offset 48
    .endif
    pushq $vector
    .cfi_def_cfa_offset 56
    .if IS_PARANOID(vector)
    jmp isr_paranoid
    .else
    jmp isr_common
    .endif
    .set vector, vector + 1
    .endr
    .cfi_endproc
    .size isr_stubs, . - isr_stubs

    .macro PUSH register
    pushq \register
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset \register, 0
    .endm

    .macro POP register
    popq \register
    .cfi_adjust_cfa_offset -8
    .cfi_restore \register
    .endm

    // The rest of struct frame, then the link: saved rbp and rip of what was interrupted, as a
    // function prologue leaves them.
    .macro SAVE_REGISTERS
    PUSH %rax
    PUSH %rbx
    PUSH %rcx
    PUSH %rdx
    PUSH %rsi
    PUSH %rdi
    PUSH %rbp
    PUSH %r8
    PUSH %r9
    PUSH %r10
    PUSH %r11
    PUSH %r12
    PUSH %r13
    PUSH %r14
    PUSH %r15
    movq %rsp, %rdi
    pushq FRAME_RIP(%rdi)
    .cfi_adjust_cfa_offset 8
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    movq %rsp, %rbp
    .endm

    .macro RESTORE_REGISTERS
    addq $16, %rsp
    .cfi_adjust_cfa_offset -16
    POP %r15
    POP %r14
    POP %r13
    POP %r12
    POP %r11
    POP %r10
    POP %r9
    POP %r8
    POP %rbp
    POP %rdi
    POP %rsi
    POP %rdx
    POP %rcx
    POP %rbx
    POP %rax
    addq $16, %rsp // vector, error code
    .cfi_adjust_cfa_offset -16
    .endm

    // C expects DF clear, and a handler must not reach user memory because a user program, or an
    // interrupted copy, had RFLAGS.AC set. IRETQ brings the old flags back; SYSCALL has cleared
    // both. CLAC exists only with SMAP: these three bytes do nothing until cpu_protect() has put it
    // there. Their places are listed in entry_clac_places.
    .macro CLEAR_FLAGS
    cld
1:  nopl (%rax)
    .pushsection .rodata.clac, "a", @progbits
    .quad 1b
    .popsection
    .endm

    .pushsection .rodata.clac, "a", @progbits
    .balign 8
    .globl entry_clac_places
entry_clac_places:
    .popsection

    .macro FRAME_BEGIN
    .cfi_startproc simple
    .cfi_signal_frame
    .cfi_def_cfa %rsp, 56
    .cfi_offset %rip, -40
    .cfi_offset %rsp, -16
    .endm

    .globl isr_common, isr_return
    .type isr_common, @function
    .balign 16
isr_common:
    FRAME_BEGIN
    SAVE_REGISTERS
    CLEAR_FLAGS
    testb $3, FRAME_CS(%rdi)
    jz isr_call
    swapgs
isr_call:
    call interrupt
isr_return:
    testb $3, FRAME_CS + 16(%rsp) // again: the handler may have changed where we return to
    jz 1f
    swapgs
1:  RESTORE_REGISTERS
    iretq
    .cfi_endproc
    .size isr_common, . - isr_common

// The CPU has put rip into rcx and rflags into r11, has loaded cs and ss, and has cleared the flags
// that MSR_SFMASK names: interrupts, single step, direction, AC. rsp and %gs are still the user's.
// An NMI or a machine check in the first two instructions has a stack of its own, and finds the
// right %gs base (isr_paranoid); nothing else can come.
    .globl syscall_entry
    .type syscall_entry, @function
    .balign 16
syscall_entry:
    .cfi_startproc simple
    .cfi_signal_frame
    .cfi_def_cfa %rsp, 0
    .cfi_register %rip, %rcx
    swapgs
    movq %rsp, %gs:CPU_USER_RSP
    movq %gs:CPU_KERNEL_RSP, %rsp
    pushq $USER_DS
    .cfi_adjust_cfa_offset 8
    pushq %gs:CPU_USER_RSP
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rsp, -16
    pushq %r11
    .cfi_adjust_cfa_offset 8
    pushq $USER_CS
    .cfi_adjust_cfa_offset 8
    pushq %rcx
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rip, -40
    pushq $0
    .cfi_adjust_cfa_offset 8
    pushq $VECTOR_BY_SYSCALL
    .cfi_adjust_cfa_offset 8
    SAVE_REGISTERS
    jmp isr_call
    .cfi_endproc
    .size syscall_entry, . - syscall_entry

// void user_enter(uintptr_t rip, uintptr_t rsp): into ring 3, from where only exceptions,
// interrupts and system calls lead back, onto the thread's empty stack. Nothing of the kernel's is
// left in the registers. Does not return.
    .globl user_enter
    .type user_enter, @function
    .balign 16
user_enter:
    .cfi_startproc
    .cfi_undefined %rip
    cli
    pushq $USER_DS
    pushq %rsi
    pushq $0x202 // interrupts on
    pushq $USER_CS
    pushq %rdi
    xorl %eax, %eax
    xorl %ebx, %ebx
    xorl %ecx, %ecx
    xorl %edx, %edx
    xorl %esi, %esi
    xorl %edi, %edi
    xorl %ebp, %ebp
    xorl %r8d, %r8d
    xorl %r9d, %r9d
    xorl %r10d, %r10d
    xorl %r11d, %r11d
    xorl %r12d, %r12d
    xorl %r13d, %r13d
    xorl %r14d, %r14d
    xorl %r15d, %r15d
    swapgs
    iretq
    .cfi_endproc
    .size user_enter, . - user_enter

    .globl isr_paranoid
    .type isr_paranoid, @function
    .balign 16
isr_paranoid:
    FRAME_BEGIN
    SAVE_REGISTERS
    CLEAR_FLAGS
    movl $MSR_GS_BASE, %ecx
    rdmsr
    movl %edx, %ebx // bit 31: the base is in the kernel's half. interrupt() keeps rbx
    testl %ebx, %ebx
    js 1f
    swapgs
1:  call interrupt
    testl %ebx, %ebx
    js 1f
    swapgs
1:  RESTORE_REGISTERS
    iretq
    .cfi_endproc
    .size isr_paranoid, . - isr_paranoid

    .section .rodata.clac, "a", @progbits
    .quad 0 // the end of the list

    .section .note.GNU-stack, "", @progbits
