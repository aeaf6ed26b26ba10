// Two stacks change places: the lowest step of a thread switch. Contract and context:
// <x86/switch.h>.
//
// What the stack of a thread that does not run looks like from its saved_rsp on:
//
//   saved_rsp --> rbp, return address       (upwards)
//
// The other registers are the caller's: switch_stacks() in the header tells the compiler that they
// are lost here. A new thread finds the same picture, made by switch_prepare: its first "return"
// goes to switch_enter, with rbp zero, where the chain of frames ends, and above it the function
// and its argument.

    .cfi_sections .debug_frame
    .text

    .globl switch_stacks_asm
    .type switch_stacks_asm, @function
    .balign 16
switch_stacks_asm: // rdi: where to keep our rsp; rsi: the rsp to go on with
    .cfi_startproc
    pushq %rbp
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbp, 0
    movq %rsp, (%rdi)
    movq %rsi, %rsp // the other thread from here on; its stack has the same shape
    popq %rbp
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbp
    ret
    .cfi_endproc
    .size switch_stacks_asm, . - switch_stacks_asm

    .globl switch_prepare
    .type switch_prepare, @function
    .balign 16
switch_prepare: // rdi: stack top; rsi: first; rdx: its argument. Returns the rsp to load
    .cfi_startproc
    andq $-16, %rdi
    movq %rdx, -8(%rdi)
    movq %rsi, -16(%rdi)
    leaq switch_enter(%rip), %rax
    movq %rax, -24(%rdi)
    movq $0, -32(%rdi)    // rbp
    leaq -32(%rdi), %rax
    ret
    .cfi_endproc
    .size switch_prepare, . - switch_prepare

    .type switch_enter, @function
    .balign 16
switch_enter:
    .cfi_startproc
    .cfi_undefined %rip // nobody called: gdb's backtrace ends here
    popq %rax
    popq %rdi
    call *%rax // the stack is aligned again: its top
    ud2 // `first` must not return
    .cfi_endproc
    .size switch_enter, . - switch_enter

    .section .note.GNU-stack, "", @progbits
