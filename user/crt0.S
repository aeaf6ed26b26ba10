// Where a program begins, and its two doors into the kernel.
//
// The stack, as the kernel made it: argc | argv[0] ... | 0 (kernel/user/process.c).

#include <user/syscall.h>
#include <x86/segments.h>

    .text
    .globl _start
_start:
    xorl %ebp, %ebp // the outermost frame
    movq (%rsp), %rdi
    leaq 8(%rsp), %rsi
    andq $-16, %rsp
    call main
    movl %eax, %edi
    movl $SYS_exit, %eax
    syscall
    ud2

// long syscall3(long number, long a, long b, long c): by SYSCALL, which takes rcx and r11 for
// itself. C's convention has the number where the first argument belongs.
    .globl syscall3
syscall3:
    movq %rdi, %rax
    movq %rsi, %rdi
    movq %rdx, %rsi
    movq %rcx, %rdx
    syscall
    ret

// The same through the gate.
    .globl gate3
gate3:
    movq %rdi, %rax
    movq %rsi, %rdi
    movq %rdx, %rsi
    movq %rcx, %rdx
    int $VECTOR_SYSCALL
    ret

    .section .note.GNU-stack, "", @progbits
