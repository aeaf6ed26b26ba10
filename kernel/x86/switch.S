// Two stacks change places: the lowest step of a thread switch. Contract and context:
// <x86/switch.h>.
//
// Only what the C calling convention asks a function to keep is saved, as the caller expects the
// rest to be lost:
//
//   saved_rsp --> r15 r14 r13 r12 rbx rbp, return address       (upwards)
//
// A new thread finds the same picture, made by switch_prepare: its first "return" goes to
// switch_enter, with the function in rbx, its argument in r12, and rbp zero, where the chain of
// frames ends.

    .cfi_sections .debug_frame
    .text

    .globl switch_stacks
    .type switch_stacks, @function
    .balign 16
switch_stacks: // rdi: where to keep our rsp; rsi: the rsp to go on with
    .cfi_startproc
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    pushq %r12
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r12, 0
    pushq %r13
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r13, 0
    pushq %r14
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r14, 0
    pushq %r15
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %r15, 0
    movq %rsp, (%rdi)
    movq %rsi, %rsp // the other thread from here on; its stack has the same shape
    popq %r15
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r15
    popq %r14
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r14
    popq %r13
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r13
    popq %r12
    .cfi_adjust_cfa_offset -8
    .cfi_restore %r12
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    popq %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    ret
    .cfi_endproc
    .size switch_stacks, . - switch_stacks

    .globl switch_prepare
    .type switch_prepare, @function
    .balign 16
switch_prepare: // rdi: stack top; rsi: first; rdx: its argument. Returns the rsp to load
    .cfi_startproc
    andq $-16, %rdi
    leaq switch_enter(%rip), %rax
    movq %rax, -8(%rdi)
    movq $0, -16(%rdi)    // rbp
    movq %rsi, -24(%rdi)  // rbx
    movq %rdx, -32(%rdi)  // r12
    movq $0, -40(%rdi)    // r13
    movq $0, -48(%rdi)    // r14
    movq $0, -56(%rdi)    // r15
    leaq -56(%rdi), %rax
    ret
    .cfi_endproc
    .size switch_prepare, . - switch_prepare

    .type switch_enter, @function
    .balign 16
switch_enter:
    .cfi_startproc
    .cfi_undefined %rip // nobody called: gdb's backtrace ends here
    movq %r12, %rdi
    call *%rbx
    ud2 // `first` must not return
    .cfi_endproc
    .size switch_enter, . - switch_enter

    .section .note.GNU-stack, "", @progbits
