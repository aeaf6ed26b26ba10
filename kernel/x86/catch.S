// Two ways to survive a fault in kernel code, where kernel/x86/exception.c sends the CPU; and one
// to make a fault.
//
//   exception_call   calls a function after noting where to go on. A fault inside "returns" the
//                    vector from it, as if the rest of the function did not exist.
//   copy_nofault     copies with one instruction, which has a record in the set exception_fixup:
//                    {the instruction, where to go on when it faults}.
//
//   exception_raise  enters a stub as the CPU would: for exceptions that ring 0 cannot provoke.
//
// Context: exception_call thread, the others any.

#include <lib/errno.h>
#include <x86/segments.h>

    .cfi_sections .debug_frame
    .text

// int exception_call(void (*fn)(void *arg), void *arg, uintptr_t *resume_rsp): -1, or the vector of
// a fault in fn.
    .globl exception_call, exception_resume
    .type exception_call, @function
    .balign 16
exception_call:
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp // a link for backtraces through here
    .cfi_def_cfa_register %rbp
    pushq %rbx
    .cfi_offset %rbx, -24
    pushq %r12
    .cfi_offset %r12, -32
    pushq %r13
    .cfi_offset %r13, -40
    pushq %r14
    .cfi_offset %r14, -48
    pushq %r15
    .cfi_offset %r15, -56
    pushfq
    movq %rsp, (%rdx)
    movq %rdi, %rax
    movq %rsi, %rdi
    call *%rax
    movl $-1, %eax
    jmp 1f
// Here with the vector in rax, rsp as noted, interrupts off, the rest as the fault left it.
exception_resume:
    .cfi_remember_state
    .cfi_def_cfa %rsp, 64
    leaq 48(%rsp), %rbp
    .cfi_restore_state
1:  popfq // interrupts, single step and direction as they were at the call
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
    .size exception_call, . - exception_call

// int copy_nofault(void *to, const void *from, size_t size): 0 or -EFAULT.
    .globl copy_nofault
    .type copy_nofault, @function
    .balign 16
copy_nofault:
    .cfi_startproc
    movq %rdx, %rcx
1:  rep movsb
    xorl %eax, %eax
    ret
2:  movl $-EFAULT, %eax
    ret
    .cfi_endproc
    .size copy_nofault, . - copy_nofault

// void exception_raise(unsigned vector, uint64_t error), for a vector that has an error code. The
// frame says that the instruction behind the call was about to run.
    .globl exception_raise
    .type exception_raise, @function
    .balign 16
exception_raise:
    .cfi_startproc
    popq %rdx
    .cfi_adjust_cfa_offset -8
    .cfi_register %rip, %rdx
    movq %rsp, %rax
    .cfi_def_cfa_register %rax
    pushfq
    popq %rcx
    cli // as an interrupt gate does
    andq $-16, %rsp // as the CPU does
    pushq $KERNEL_DS
    pushq %rax
    pushq %rcx
    pushq $KERNEL_CS
    pushq %rdx
    pushq %rsi
    shlq $4, %rdi
    addq $isr_stubs, %rdi
    jmp *%rdi
    .cfi_endproc
    .size exception_raise, . - exception_raise

    .section .set.exception_fixup.copy_nofault, "a", @progbits
    .balign 8
    .quad 1b, 2b

    .section .note.GNU-stack, "", @progbits
